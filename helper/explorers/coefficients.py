"""Explorer: the coefficient of every answer of one group under four methods, by how many are right and how far one moved.

Left out on purpose: SFT on written answers (its coefficient is the same for all), a critic, tokens: an answer is one here.
"""

import torch
from ipywidgets import FloatSlider, IntSlider

from helper.algorithms.coefficients import dpo_coefficients, grpo_coefficients, ppo_coefficients, rejection_coefficients
from helper.algorithms.policy_gradient import group_advantages
from helper.explorers.explorer import Explorer, look, signed
from helper.figures.figure import BLUE, INK, RED, drawing, image_html, make_panels
from helper.figures.page import View, page, text_table

ANSWERS = 8
METHODS = ("rejection", "DPO", "PPO", "GRPO")


def explore_coefficients(right: int = 3, moved: float = 0.0, beta: float = 0.1) -> Explorer:
    """Eight answers to one question, the first ones right: how hard does each method push each of them?

    `moved`: log π_θ - log π_old of the first answer, in nats; π_old is the reference too. DPO takes the first answer against
    the last one. PPO's critic expects half of the answers to be right.
    """
    controls = {
        "right": IntSlider(right, min=0, max=ANSWERS, **look("right answers")),
        "moved": FloatSlider(moved, min=-2.0, max=2.0, step=0.1, **look("answer 1 moved by")),
        "beta": FloatSlider(beta, min=0.0, max=1.0, step=0.05, **look("β")),
    }
    return Explorer(controls, coefficients_view)


def coefficients_of(right: int, moved: float, beta: float) -> dict[str, list[float] | str]:
    """Method -> the coefficient of each answer, times the number of answers; words where it has nothing to train on."""
    rewards = (torch.arange(ANSWERS) < right).double()
    mask, old = torch.ones(ANSWERS, 1, dtype=torch.float64), torch.full((ANSWERS, 1), -3.0, dtype=torch.float64)
    logps = old.clone()
    logps[0] += moved
    pair = [0, ANSWERS - 1]
    found = {
        "rejection": rejection_coefficients(rewards, mask) if right else "nothing is right, so nothing is kept",
        "DPO": torch.zeros_like(mask) if 0 < right < ANSWERS else "no pair of a right and a wrong answer",
        "PPO": ppo_coefficients(logps, old, rewards - 0.5, mask),
        "GRPO": grpo_coefficients(logps, old, group_advantages(rewards, ANSWERS), mask, beta=beta, ref_logps=old),
    }
    if 0 < right < ANSWERS:
        found["DPO"][pair] = dpo_coefficients(logps[pair], old[pair], mask[pair], beta) / ANSWERS
    return {name: each if isinstance(each, str) else (ANSWERS * each[:, 0]).tolist() for name, each in found.items()}


def shown(value: float) -> str:
    """A coefficient with its sign."""
    return signed(value, 2)


@drawing()
def coefficients_view(right: int, moved: float, beta: float) -> View:
    """A panel a method, a bar an answer."""
    found = coefficients_of(right, moved, beta)
    numbers = range(1, ANSWERS + 1)
    figure, axes = make_panels(len(METHODS), 9.5, 2.8)
    for axis, (name, each) in zip(axes, found.items(), strict=True):
        axis.set(title=name, xlabel="answer", xlim=(0.3, ANSWERS + 0.7))
        axis.set_xticks(numbers)
        axis.axhline(0, color=INK, linewidth=0.8)
        if isinstance(each, str):
            axis.set_yticks([])
            axis.text(0.5, 0.7, each.replace(", ", ",\n").replace(" of ", "\nof "), ha="center", transform=axis.transAxes)
            continue
        for number, value in zip(numbers, each):
            good = number <= right
            axis.bar(number, value, color=BLUE if good else RED, hatch="" if good else "///", edgecolor="white")
        reach = max(1e-6, *map(abs, each))
        axis.set_ylim(-1.25 * reach, 1.25 * reach)
    rows = [[name, *([each] if isinstance(each, str) else map(shown, each))] for name, each in found.items()]
    said = ". ".join(f"{name}: {', '.join(rest)}" for name, *rest in rows)
    words = f"Coefficients of eight answers, {right} of them right, answer 1 moved by {moved:g} nats, β = {beta:g}. {said}."
    padded = [row + [""] * (ANSWERS + 1 - len(row)) for row in rows]
    return View(words, page(image_html(figure, words), text_table(["method", *map(str, numbers)], padded)))
