"""Explorer: recorded SFT runs that differ in the learning rate only."""

from pathlib import Path

import numpy as np
from ipywidgets import SelectionSlider
from matplotlib.ticker import LogLocator

from helper.explorers.explorer import Explorer, look
from helper.figures.figure import BLUE, GREY, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page
from helper.intervals import wilson_interval
from helper.recorded import load_recorded


def explore_learning_rates(path: str | Path | None = None) -> Explorer:
    """Move through recorded SFT runs that differ in the learning rate only: loss, held-out score, answers.

    `path`: a record of `python -m factory.record`; None takes the course's own. FileNotFoundError says how to make it.
    """
    record = load_recorded(path or "learning_rates")
    rates = [run["learning_rate"] for run in record["runs"]]
    slider = SelectionSlider(options=[(f"{rate:g}", rate) for rate in rates], **look("learning rate"))
    return Explorer({"rate": slider}, lambda rate: rates_view(record, rate))


@drawing()
def rates_view(record: dict, rate: float) -> View:
    """One of the recorded short runs among the others: its loss, its held-out score, its answers."""
    runs, n = record["runs"], record["n"]
    run = next(run for run in runs if run["learning_rate"] == rate)
    figure, (left, right) = make_panels(2, 7, 3)
    for other in runs:
        left.plot(other["steps"], other["loss"], color="#CCCCCC", linewidth=1)
    left.plot(run["steps"], run["loss"], color=BLUE, linewidth=2.5, label=f"learning rate {rate:g}")
    left.set(title="training loss (nats per token)", xlabel="step", yscale="log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.minorticks_off()
    left.legend(frameon=False)
    shares = [other["right"] / n for other in runs]
    ends = np.array([wilson_interval(other["right"], n) for other in runs]).T
    rates = [other["learning_rate"] for other in runs]
    right.errorbar(rates, shares, np.abs(ends - shares), fmt="o-", color=GREY, capsize=3, label="all runs")
    right.plot(rate, run["right"] / n, "D", color=BLUE, markersize=9, label="this run", zorder=3)
    right.set(title="right on held-out questions", xlabel="learning rate", xscale="log", ylim=(0, 0.75))
    right.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45, ha="right")
    right.minorticks_off()
    right.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    right.legend(frameon=False, loc="upper left")
    low, high = wilson_interval(run["right"], n)
    facts = {
        "learning rate": f"{rate:g}, {run['steps'][-1]} steps",
        "training loss": f"{run['loss'][0]:.2f} in the first steps, {run['loss'][-1]:.2f} in the last",
        "right on held-out questions": f"{run['right']} of {n}, {run['right'] / n:.0%} (95%: {low:.0%} to {high:.0%})",
    }
    facts |= {f'asked "{asked}"': answer or "(nothing)" for asked, answer in zip(record["questions"], run["answers"])}
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"Recorded runs alike but for the learning rate, with one marked: {words}"
    return View(words, page(image_html(figure, words), fact_list(facts)))
