"""Curves of pass@k over k, with bands."""

import pandas as pd
from matplotlib.figure import Figure

from helper.figures.figure import BLUE, GREEN, GREY, RED, drawing, make_panels

LOOKS = ((GREY, "--", "s"), (RED, "-", "o"), (BLUE, "-", "D"), (GREEN, ":", "^"))


def plot_pass_at_k(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel for each table of `helper.practice_runs.pass_table`: name -> model, k, mean, low, high."""
    said = []
    with drawing():
        figure, axes = make_panels(len(tables), 4.6 * len(tables), 3.4)
        for axis, (name, table) in zip(axes, tables.items(), strict=True):
            said.append(f"{name}: {draw_curves(axis, table)}")
            axis.set_title(name.replace("_", " "))
        axes[0].set_ylabel("pass@k, with 95% band")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.alt = f"pass@k by model. {' '.join(said)}"
    return figure


def draw_curves(axis, table: pd.DataFrame) -> str:
    """A line and a band for each model; returns what they show, in words."""
    said = []
    for (model, part), (colour, line, mark) in zip(table.groupby("model", sort=False), LOOKS):
        axis.plot(part["k"], part["mean"], line, marker=mark, color=colour, label=model, markersize=4)
        if "low" in part and part["low"].notna().all():
            axis.fill_between(part["k"], part["low"], part["high"], color=colour, alpha=0.15, linewidth=0)
        ends = part.iloc[[0, -1]]
        said.append(f"{model} {ends['mean'].iloc[0]:.0%} at k = {ends['k'].iloc[0]}, {ends['mean'].iloc[1]:.0%} at "
                    f"k = {ends['k'].iloc[1]}")  # fmt: skip
    axis.set(xscale="log", xlabel="k, samples per problem", ylim=(-0.02, 1.04))
    axis.set_xticks(sorted(table["k"].unique()), [f"{k:g}" for k in sorted(table["k"].unique())])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return "; ".join(said) + "."
