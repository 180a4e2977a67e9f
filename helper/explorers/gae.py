"""Explorer: advantages and returns of a response's tokens for γ and λ."""

import numpy as np
import torch
from ipywidgets import FloatSlider, Text

from helper.algorithms.ppo import generalised_advantages
from helper.explorers.explorer import Explorer, decimal, look, read_numbers
from helper.figures.figure import BLUE, GREEN, GREY, RED, drawing, image_html, make_panels
from helper.figures.page import View, page, text_table


def explore_gae(
    rewards: list[float] = (0, 0, 0, 0, 0, 0, 0, 1),
    values: list[float] = (0.5, 0.5, 0.6, 0.6, 0.2, 0.2, 0.7, 0.8),
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Explorer:
    """Edit the rewards and values of a response's tokens; see advantages and returns for γ and λ.

    Schulman et al. 2015, arXiv 1506.02438, eqs. 11, 16. ValueError for lists that do not make a response.
    """
    rewards, values = (", ".join(f"{number:g}" for number in numbers) for numbers in (rewards, values))
    read_response(rewards, values)
    controls = {
        "rewards": Text(rewards, **look("reward per token")),
        "values": Text(values, **look("value per token")),
        "gamma": FloatSlider(gamma, min=0.0, max=1.0, step=0.01, **look("γ")),
        "lam": FloatSlider(lam, min=0.0, max=1.0, step=0.05, **look("λ")),
    }
    return Explorer(controls, gae_view)


@drawing()
def gae_view(rewards: str, values: str, gamma: float, lam: float) -> View:
    """Advantages and returns of one response's tokens, beside the TD errors and Monte-Carlo (Schulman et al. 2015)."""
    rewards, values = read_response(rewards, values)
    advantages, returns = response_advantages(rewards, values, gamma, lam)
    errors, monte_carlo = (response_advantages(rewards, values, gamma, end)[0] for end in (0.0, 1.0))
    numbers = np.arange(1, len(rewards) + 1)
    figure, (left, right) = make_panels(2, 7, 3.1)
    left.bar(numbers, advantages, color=BLUE, label=f"λ = {lam:g}")
    left.plot(numbers, errors, "o", color="black", markerfacecolor="white", label="λ = 0: TD error")
    left.plot(numbers, monte_carlo, "D", color=RED, label="λ = 1: Monte-Carlo")
    right.bar(numbers, returns, color=GREY, label=f"return, λ = {lam:g}")
    right.plot(numbers, values, "s--", color=GREEN, label="value before the token")
    for axis, title in ((left, "advantage"), (right, "return: the value's target")):
        axis.axhline(0, color="black", linewidth=1)
        axis.set(title=title, xlabel="token", xticks=numbers if len(numbers) <= 8 else numbers[::3])
        axis.margins(y=0.12)
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.4)
    named = {"reward": rewards, "value": values, "TD error (λ = 0)": errors, f"advantage (λ = {lam:g})": advantages,
             "Monte-Carlo (λ = 1)": monte_carlo, "return": returns}  # fmt: skip
    rows = [[str(number), *map(decimal, row)] for number, *row in zip(numbers, *named.values())]
    said = "; ".join(f"{name}: {', '.join(map(decimal, row))}" for name, row in named.items())
    words = f"One response of {len(rewards)} tokens, γ = {gamma:g}, λ = {lam:g}. {said}."
    return View(words, page(image_html(figure, words), text_table(["token", *named], rows)))


def read_response(rewards: str, values: str) -> tuple[list[float], list[float]]:
    """Rewards and values of the tokens of one response; ValueError says what is wrong with them."""
    rewards, values = read_numbers(rewards, "rewards"), read_numbers(values, "values")
    if len(rewards) != len(values):
        raise ValueError(f"Rewards: {len(rewards)}, values: {len(values)}. Each token needs one of both.")
    return rewards, values


def response_advantages(rewards: list[float], values: list[float], gamma: float, lam: float) -> tuple[list, list]:
    """Advantage and return of each token of one response."""
    rewards, values = (torch.tensor([numbers], dtype=torch.float64) for numbers in (rewards, values))
    advantages, returns = generalised_advantages(rewards, values, torch.ones_like(rewards), gamma, lam)
    return advantages[0].tolist(), returns[0].tolist()
