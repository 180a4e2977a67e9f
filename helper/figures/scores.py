"""Scores as pictures: before and after with intervals, and the stages of a model side by side."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from helper.figures.figure import BLUE, GREEN, GREY, HATCHES, INK, ORANGE, PURPLE, RED, SKY, drawing, make_figure

STAGES = (RED, BLUE, GREEN, PURPLE, ORANGE, SKY, GREY)  # of stages in order: the first is "before", the second "after"


def plot_scoreboard(scoreboard: pd.DataFrame) -> Figure:
    """A dumbbell a metric, the largest gain first: before and after training with 95% intervals, from
    `helper.scoreboard`; at the right the paired change with its interval.
    """
    board = scoreboard.sort_values("difference", ascending=False, kind="stable").reset_index(drop=True)
    said = []
    with drawing():
        figure, (axis,) = make_figure(1, 1, 9, 1.2 + 0.62 * len(board))
        places = np.arange(len(board))[::-1]
        shares = _percent_axis(axis.xaxis, axis.set_xlim, board)
        axis.hlines(places, board["before"], board["after"], color=GREY, linewidth=1)
        for stage, colour, marker, shift, side in (("before", RED, "o", 0.13, 3), ("after", BLUE, "D", -0.13, -3)):
            middle = board[stage]
            error = [middle - board[f"{stage}_low"], board[f"{stage}_high"] - middle]
            axis.errorbar(middle, places + shift, xerr=np.clip(error, 0, None), fmt=marker,
                          color=colour, label=stage, capsize=3, markersize=6)  # fmt: skip
            for value, place in zip(middle, places + shift, strict=True):
                axis.annotate(_score(value, shares), (value, place), (0, 1.6 * side), textcoords="offset points",
                              ha="center", va="bottom" if side > 0 else "top", fontsize=9)  # fmt: skip
        for place, row in zip(places, board.to_dict("records"), strict=True):
            change = _change(row, shares)
            axis.annotate(change, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
            name = row["name"].replace("_", " ")
            scores = f"{_score(row['before'], shares)} before, {_score(row['after'], shares)} after"
            said.append(f"{name} (n={row['n']}) {scores}, change {change.replace(chr(10), ' ')}")
        labels = [f"{name} (n={n})".replace("_", " ") for name, n in zip(board["name"], board["n"], strict=True)]
        axis.set_yticks(places, labels)
        axis.set_ylim(-0.7, len(board) - 0.3)
        axis.set_xlabel("score with its 95% interval; right: the paired change with its 95% interval")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    figure.alt = f"Scores before and after training: {'; '.join(said)}."
    return figure


def _score(value: float, share: bool) -> str:
    return f"{value:.1%}" if share else f"{value:.3g}"


def _change(row: dict, share: bool) -> str:
    """The paired difference in two lines: "+43.6 points\\n(38.1 to 48.7)"."""
    values = [(100 if share else 1) * row[f"difference{end}"] for end in ("", "_low", "_high")]
    difference, low, high = (f"{value:+.1f}" if share else f"{value:+.3g}" for value in values)
    return f"{difference}{' points' if share else ''}\n({low} to {high})"


def _percent_axis(axis, set_limits, scores: pd.DataFrame) -> bool:
    """From 0 to 100% when all scores are shares; other metrics keep their own scale. Whether they are."""
    numbers = scores.drop(columns="n", errors="ignore").select_dtypes("number")
    numbers = numbers[[column for column in numbers if not column.startswith("difference")]]
    shares = numbers.min().min() >= 0 and numbers.max().max() <= 1
    if shares:
        set_limits(-0.03, 1.03)
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return shares


def plot_stages(scores: pd.DataFrame) -> Figure:
    """Bars grouped by skill, one bar a stage, with 95% intervals: columns stage, skill, right, low, high."""
    stages, skills = list(dict.fromkeys(scores["stage"])), list(dict.fromkeys(scores["skill"]))
    width, said = 0.8 / len(stages), []
    with drawing():
        figure, (axis,) = make_figure(1, 1, min(max(6.0, 1.3 * len(skills) + 1), 9.5), 3.6)
        for number, (stage, colour, hatch) in enumerate(zip(stages, STAGES * 9, HATCHES * 9, strict=False)):
            rows = scores[scores["stage"] == stage].set_index("skill").reindex(skills)
            places = np.arange(len(skills)) + (number - (len(stages) - 1) / 2) * width
            error = np.clip([rows["right"] - rows["low"], rows["high"] - rows["right"]], 0, None)
            axis.bar(places, rows["right"], width * 0.92, color=colour, label=stage, hatch=hatch, edgecolor="white")
            axis.errorbar(places, rows["right"], yerr=error, fmt="none", ecolor=INK, capsize=2, linewidth=1)
            said.append(f"{stage}: {', '.join(f'{skill} {right:.0%}' for skill, right in rows['right'].dropna().items())}")
        axis.set_xticks(range(len(skills)), [skill.replace(" ", "\n") for skill in skills])
        axis.set(ylim=(0, 1.05), ylabel="right, with 95% interval")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axis.grid(axis="x", visible=False)
        figure.legend(loc="outside upper center", ncols=len(stages), frameon=False)
    figure.alt = f"Share of right answers by stage. {'; '.join(said)}."
    return figure


def plot_with_and_without(table: pd.DataFrame) -> Figure:
    """A row a skill: right answers after the same SFT, from a base that read its documents and from one that did not.

    `table`: `helper.pretraining_gave.pretraining_gave`; at the right its verdict and the difference with its interval.
    """
    said, rows = [], table.reset_index().to_dict("records")
    with drawing():
        figure, (axis,) = make_figure(1, 1, 9, 1.2 + 0.36 * len(rows))
        places = np.arange(len(rows))[::-1]
        axis.hlines(places, table["gone"], table["there"], color=GREY, linewidth=1)
        for name, label, colour, marker in (("there", "read everything", GREEN, "s"), ("gone", "read less", PURPLE, "v")):
            axis.plot(table[name], places, color=colour, marker=marker, linestyle="", markersize=7, label=label)
        for place, row in zip(places, rows, strict=True):
            change = f"{100 * row['difference']:+.0f} ({100 * row['low']:+.0f} to {100 * row['high']:+.0f})"
            words = f"{row['verdict']}: {change} points"
            axis.annotate(words, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
            said.append(f"{row['skill']} {row['there']:.0%} with, {row['gone']:.0%} without, {words}")
        axis.set_yticks(places, [f"{row['skill']} (n={row['n']})" for row in rows])
        axis.set(xlim=(-0.03, 1.03), ylim=(-0.7, len(rows) - 0.3), xlabel="right answers in chat after SFT")
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        figure.legend(loc="outside upper right", ncols=2, frameon=False)
    figure.alt = f"Right answers after SFT: {'; '.join(said)}."
    return figure


def plot_arms(tables: dict[str, pd.DataFrame]) -> Figure:
    """A panel a suite: accuracy before (a line) and after each arm: a bar to the mean of its seeds, a whisker over them.

    `tables`: suite -> `helper.real_runs.real_runs_table`.
    """
    said = []
    with drawing():
        rows = max(len(table) for table in tables.values())
        figure, axes = make_figure(1, len(tables), 3.4 * len(tables) + 1.6, 1.3 + 0.42 * rows)
        for axis, (suite, table) in zip(axes, tables.items(), strict=True):
            places = np.arange(len(table))[::-1]
            axis.barh(places, table["after"], height=0.6, color=BLUE, label="after: mean of the seeds")
            ends = np.array([table["after"] - table["lowest"], table["highest"] - table["after"]]).clip(0)
            looks = {"fmt": "none", "color": INK, "capsize": 3, "label": "lowest to highest seed"}
            axis.errorbar(table["after"], places, xerr=ends, **looks)
            axis.axvline(table["before"].iloc[0], color=RED, linestyle="--", label="before")
            for row, place in zip(table.to_dict("records"), places, strict=True):
                axis.annotate(f"{row['after']:.0%}", (row["highest"], place), (5, 0), textcoords="offset points",
                              va="center", fontsize=9)  # fmt: skip
            axis.set_yticks(places, table["arm"] if axis is axes[0] else [""] * len(table))
            axis.set(xlim=(0, 1.12), title=f"{suite.replace('_', ' ')} (n={table['n'].iloc[0]})")
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
            arms = ", ".join(f"{row['arm']} {row['after']:.0%}" for row in table.to_dict("records"))
            said.append(f"{suite.replace('_', ' ')}: before {table['before'].iloc[0]:.0%}; after {arms}")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    figure.alt = f"Share of right answers of a real model. {'. '.join(said)}."
    return figure
