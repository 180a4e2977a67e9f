"""Lesson 03's recorded runs as pictures: success against the distance from the reference, and arms with their seeds."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helper.figures.figure import BLUE, COLOURS, GREY, INK, LINES, drawing, make_figure

MARKERS = ("o", "s", "D", "^")


def plot_success_against_kl(runs: pd.DataFrame, panels: dict[str, str]) -> Figure:
    """Success against KL from the reference, a line a β along the learning rates, means of seeds; a panel a loss.

    `runs`: columns loss, beta, learning_rate, name (a share) and kl_name (nats per answer); `panels`: loss -> title.
    """
    said = []
    with drawing():
        figure, axes = make_figure(1, len(panels), 9.5, 3.4)
        for axis, (loss, title) in zip(axes, panels.items(), strict=True):
            chosen = runs[runs["loss"] == loss]
            betas = sorted(chosen["beta"].unique())
            for beta, colour, line, marker in zip(betas, COLOURS, LINES, MARKERS, strict=False):
                means = chosen[chosen["beta"] == beta].groupby("learning_rate")[["kl_name", "name"]].mean()
                looks = {"color": colour, "marker": marker, "label": f"β = {beta:g}"}
                axis.plot(means["kl_name"], means["name"], line, **looks)
                best = means["name"].idxmax()
                said.append(
                    f"{title}, β = {beta:g}: at most {means['name'][best]:.0%}, at learning rate {best:g} and "
                    f"{means['kl_name'][best]:.1f} nats"
                )
            axis.set(title=title, xlabel="KL from the reference (nats per answer)", xscale="log", ylim=(-0.04, 1.04))
            axis.set_xlim(0.7 * runs["kl_name"].min(), 1.4 * runs["kl_name"].max())
            axis.minorticks_off()
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes[0].set_ylabel("held-out questions\nwith the new name")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, handlelength=3)
    figure.alt = (
        f"The share of new names against KL, each line from the smallest learning rate to the largest. {'; '.join(said)}."
    )
    return figure


def plot_differences(differences: dict[str, dict], title: str, over: str = "questions") -> Figure:
    """A row an arm: its difference with the 95% interval over questions (or `over` others), and a dot a seed, in points.

    `differences`: name -> `helper.preference_runs.apart`.
    """
    with drawing():
        figure, (axis,) = make_figure(1, 1, 9, 1.1 + 0.42 * len(differences))
        places = np.arange(len(differences))[::-1]
        values = 100 * np.array([[found[key] for key in ("difference", "low", "high")] for found in differences.values()])
        error = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        axis.errorbar(
            values[:, 0], places, xerr=error, fmt="D", color=BLUE, capsize=4, label=f"mean, with 95% interval over {over}"
        )
        for place, found in zip(places, differences.values(), strict=True):
            seeds = 100 * np.array(found["seeds"])
            axis.plot(seeds, np.full(len(seeds), place - 0.22), "o", color=GREY, markersize=4, label="a seed")
        axis.axvline(0, color=INK, linewidth=1)
        axis.set_yticks(places, list(differences))
        axis.set(xlabel=title, ylim=(-0.7, len(differences) - 0.4))
        handles, labels = axis.get_legend_handles_labels()
        unique = dict(zip(labels, handles))
        figure.legend(unique.values(), unique.keys(), loc="outside upper right", ncols=2, frameon=False)
    rows = zip(differences, values, strict=True)
    said = "; ".join(f"{name} {value:+.1f} ({low:+.1f} to {high:+.1f})" for name, (value, low, high) in rows)
    figure.alt = f"{title}: {said}."
    return figure
