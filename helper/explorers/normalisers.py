"""Explorer: what a token of a short and of a long answer counts for under three averages."""

import numpy as np
import torch
from ipywidgets import IntSlider

from helper.algorithms.policy_gradient import average
from helper.explorers.explorer import Explorer, look
from helper.figures.figure import BLUE, ORANGE, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page, text_table

LONGEST = 64  # tokens that an answer may have: Dr. GRPO divides by it
LOSS_TYPES = ("grpo", "dapo", "dr_grpo")


def explore_normalisers(right: int = 8, wrong: int = 32) -> Explorer:
    """What a token of a right and of a wrong answer counts for, by their lengths, under "grpo", "dapo" and "dr_grpo"."""
    tokens = {"min": 1, "max": LONGEST}
    controls = {
        "right": IntSlider(right, **tokens, **look("right: tokens")),
        "wrong": IntSlider(wrong, **tokens, **look("wrong: tokens")),
    }
    return Explorer(controls, normalisers_view)


@drawing()
def normalisers_view(right: int, wrong: int) -> View:
    """What a token, and a whole answer, counts for under the three averages, in a group of a right and a wrong answer."""
    weights, places = token_weights(right, wrong), np.arange(len(LOSS_TYPES))
    of_token = np.array(list(weights.values())).T
    figure, axes = make_panels(2, 7, 3)
    for axis, title, shown in zip(axes, ("one token", "the whole answer"), (of_token, of_token * [[right], [wrong]])):
        axis.bar(places - 0.2, shown[0], 0.38, color=BLUE, label=f"right answer, {right} tokens")
        axis.bar(places + 0.2, shown[1], 0.38, color=ORANGE, hatch="///", edgecolor="white",
                 label=f"wrong answer, {wrong} tokens")  # fmt: skip
        axis.set(title=f"weight of {title}", xticks=places, xticklabels=LOSS_TYPES)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    columns = ["loss_type", "right, per token", "wrong, per token", "right, whole answer", "wrong, whole answer"]
    rows = [[name, f"{r:.4f}", f"{w:.4f}", f"{r * right:.3f}", f"{w * wrong:.3f}"] for name, (r, w) in weights.items()]
    said = "; ".join("{}: per token {} and {}, the whole answer {} and {}".format(*row) for row in rows)
    words = f"Weights in a right answer of {right} tokens and a wrong one of {wrong}: {said}."
    longest = fact_list({"longest answer allowed (only dr_grpo asks for it)": f"{LONGEST} tokens"})
    return View(words, page(image_html(figure, words), text_table(columns, rows), longest))


def token_weights(right: int, wrong: int) -> dict[str, tuple[float, float]]:
    """The weight of one token of a right and of a wrong answer with so many tokens, {loss_type: (right, wrong)}."""
    mask = (torch.arange(LONGEST) < torch.tensor([[right], [wrong]])).double()
    weights = {}
    for loss_type in LOSS_TYPES:
        per_token = torch.zeros_like(mask, requires_grad=True)
        average(per_token, mask, loss_type, max_length=LONGEST).backward()
        weights[loss_type] = tuple(per_token.grad[:, 0].tolist())
    return weights
