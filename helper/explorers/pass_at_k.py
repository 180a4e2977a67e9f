"""Explorer: what reweighting alone would make of the samples before RL, beside what RL did."""

import numpy as np
import pandas as pd
from ipywidgets import SelectionSlider

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page
from helper.figures.pass_at_k import draw_curves
from helper.practice_runs import KS, load_practice_runs, pass_of, pass_table, run_of, sharpened, tilted

WAYS = {"sharpen: each answer's share to the power": "sharpen", "pay: odds of a right answer times": "pay"}
STRENGTHS = (1, 1.5, 2, 3, 5, 10, 20, 50, 100)


def explore_reweighting(record: dict | None = None, before: str = "SFT", after: str = "RL") -> Explorer:
    """Move the strength of a reweighting of the `before` samples. `record`: None takes the course's own."""
    record = record or load_practice_runs("pass_at_k")
    suites = list(dict.fromkeys(run["suite"] for run in record["runs"]))
    controls = {
        "suite": choice("problems", {suite.replace("_", " "): suite for suite in suites}),
        "way": choice("way", WAYS),
        "strength": SelectionSlider(options=[(f"{value:g}", value) for value in STRENGTHS], **look("strength")),
    }
    return Explorer(controls, lambda suite, way, strength: reweighting_view(record, before, after, suite, way, strength))


@drawing()
def reweighting_view(record: dict, before: str, after: str, suite: str, way: str, strength: float) -> View:
    """The curves before, after, and of the samples before, reweighted; and how near the last two come."""
    run = run_of(record, before, suite)
    chances = (
        sharpened(run["correct"], run["wrong"], strength)
        if way == "sharpen"
        else tilted(run["correct"], record["samples"], strength)
    )
    curve = pass_of(chances).mean(0)
    table = pass_table(record, suite)
    table = table[table["model"].isin([before, after])]
    name = f"{before}, reweighted"
    made = pd.DataFrame({"model": name, "k": KS, "mean": curve})
    figure, (axis,) = make_panels(1, 6, 3.2)
    said = draw_curves(axis, pd.concat([table, made], ignore_index=True))
    axis.legend(frameon=False, loc="lower right")
    goal = table[table["model"] == after]["mean"].to_numpy()
    facts = {
        "way": f"{next(words for words, value in WAYS.items() if value == way)} {strength:g}",
        "pass@1": f"{curve[0]:.1%} reweighted, {goal[0]:.1%} after RL",
        "pass@8": f"{curve[3]:.1%} reweighted, {goal[3]:.1%} after RL",
        "largest distance from the curve after RL": f"{100 * np.abs(curve - goal).max():.1f} points",
        "problems never solved before": f"{sum(right == 0 for right in run['correct'])} of {len(run['correct'])}",
    }
    words = f"pass@k. {said} " + "; ".join(f"{key}: {text}" for key, text in facts.items())
    return View(words, page(image_html(figure, words), fact_list(facts)))
