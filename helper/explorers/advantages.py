"""Explorer: the rewards of a group and the advantages that GRPO makes of them."""

import math

import numpy as np
from ipywidgets import Text

from helper.explorers.explorer import Explorer, look, numbers_in
from helper.figures.figure import BLUE, GREY, ORANGE, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page

MOST_REWARDS = 16


def explore_group_advantages(rewards: list[float] = (1, 0, 2)) -> Explorer:
    """Edit the rewards of a group; see its advantages, with and without division by std.

    ValueError for `rewards` that are none.
    """
    text = ", ".join(f"{reward:g}" for reward in rewards)
    read_rewards(text)
    return Explorer({"text": Text(text, **look("rewards of a group"))}, advantages_view)


@drawing()
def advantages_view(text: str) -> View:
    """Rewards of a group, and its advantages without and with division by std (Shao et al. 2024, section 4.1.2)."""
    rewards = np.array(read_rewards(text))
    centred = rewards - rewards.mean() if len(set(rewards)) > 1 else np.zeros(len(rewards))  # no rounding errors
    spread = float(rewards.std(ddof=1))
    scaled = centred / (spread + 1e-4)
    first = f"reward (mean {rewards.mean():.2f})"
    panels = {first: rewards, "reward - mean": centred, "(reward - mean) / std": scaled}
    figure, axes = make_panels(3, 7, 2.7)
    for axis, (title, values) in zip(axes, panels.items()):
        numbers = np.arange(1, len(values) + 1)
        axis.bar(numbers, values, color=GREY if title == first else [BLUE if v >= 0 else ORANGE for v in values])
        axis.axhline(0, color="black", linewidth=1)
        axis.set(title=title, xlabel="response", xticks=numbers if len(values) <= 8 else numbers[::3])
        low, high = min(0, *values), max(0, *values)
        axis.set_ylim(low - 0.1 * (high - low or 5), high + 0.1 * (high - low or 5))
    axes[0].axhline(rewards.mean(), color="black", linestyle="--", linewidth=1)
    facts = {"mean and std": f"{rewards.mean():.3f} and {spread:.3f}"}
    facts |= {"advantages" if title == "reward - mean" else "divided by std": ", ".join(f"{v:+.2f}" for v in values)
              for title, values in list(panels.items())[1:]}  # fmt: skip
    if not centred.any():
        facts["no spread"] = "all rewards are the same, so every advantage is 0 and this group teaches nothing"
    words = f"Rewards {text}. " + "; ".join(f"{name}: {fact}" for name, fact in facts.items()) + "."
    return View(words, page(image_html(figure, words), fact_list(facts)))


def read_rewards(text: str) -> list[float]:
    """The rewards of a group in a text; ValueError says what is wrong with them."""
    rewards = numbers_in(text, "is not a number. Write the rewards as in: 1, 0, 0.5, 1")
    if not all(map(math.isfinite, rewards)):
        raise ValueError("nan and inf are no rewards: with one of them in a group, nothing right is learned from it.")
    if any(abs(reward) > 1e6 for reward in rewards):
        raise ValueError("A reward is too large: at most a million, please.")
    if not 2 <= len(rewards) <= MOST_REWARDS:
        raise ValueError(f"A group has 2 to {MOST_REWARDS} rewards here; these are {len(rewards)}.")
    return rewards
