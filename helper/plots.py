"""Static figures for the lessons, one function each; every one returns a closed matplotlib Figure.

Put the call last in a cell and the figure shows once, as an image with alt text that says what it shows.
Dark text on an opaque white ground (readable in JupyterLab's dark theme too), the Okabe-Ito colours (told
apart by colour-blind readers) and never colour alone, text of 9 points and more, at most 9.5 inches wide.
Left out on purpose: interactive charts (widgets.py), style sheets, and any computing that is not drawing.
"""

import base64
import math
from html import escape
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY)
INK, PALE = "#333333", "#E3E3E3"
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++")
FONT = {
    "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.facecolor": "white", "hatch.linewidth": 0.6,
    "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "legend.fontsize": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#E5E5E5", "axes.axisbelow": True, "text.parse_math": False,
}  # fmt: skip


class Picture(Figure):
    """A figure that a notebook shows as one image with alt text (`alt`), for readers who cannot see it."""

    alt = ""

    def _ipython_display_(self) -> None:
        show_figure(self, self.alt)


def show_figure(figure: Figure, alt: str) -> None:
    """Show a figure once, with a text that says what it shows; outside a notebook only the text.

    As HTML, because alt text given as metadata of an image is lost when a notebook becomes a web page.
    """
    show(image_html(figure, alt), alt)
    plt.close(figure)


def show(html: str, text: str) -> None:
    """Show `html` in a notebook, and `text` where there is none. The caller has escaped the HTML."""
    if in_notebook():
        display({"text/html": html, "text/plain": text}, raw=True)
    else:
        print(text)


def in_notebook() -> bool:
    """Whether outputs go to a notebook: not plain Python, and not IPython in a terminal."""
    return getattr(get_ipython(), "kernel", None) is not None


def image_html(figure: Figure, alt: str) -> str:
    """The figure as an `<img>` of a PNG, 100 pixels an inch, with its alt text."""
    png = BytesIO()
    figure.savefig(png, format="png", dpi=100)
    width, height = (round(100 * inches) for inches in figure.get_size_inches())
    data = base64.b64encode(png.getvalue()).decode("ascii")
    size = f'width="{width}" height="{height}" style="max-width: 100%; height: auto"'
    return f'<img alt="{escape(alt)}" {size} src="data:image/png;base64,{data}">'


def _figure(rows: int, columns: int, width: float, height: float, layout: str | None = "constrained"):
    """A figure and its axes as a flat list."""
    with plt.rc_context(FONT):
        figure, axes = plt.subplots(rows, columns, figsize=(width, height), facecolor="white", squeeze=False,
                                    layout=layout, FigureClass=Picture)  # fmt: skip
    plt.close(figure)  # the cell shows the returned figure; without this it would show twice
    return figure, list(axes.flat)


def plot_training(log_table: pd.DataFrame, columns: list[str], titles: list[str] | None = None) -> Figure:
    """One small chart a logged column against the step: every value in pale, a running mean in full colour.

    `log_table` is `live.table()`. Raises KeyError, naming what was logged, for a column that was not.
    """
    missing = [column for column in columns if column not in log_table]
    if missing:
        raise KeyError(f"Not in the log: {', '.join(missing)}. Logged: {', '.join(map(str, log_table.columns))}")
    across = min(len(columns), 3)
    down = math.ceil(len(columns) / across)
    said = []
    with plt.rc_context(FONT):
        figure, axes = _figure(down, across, max(3.1 * across, 3.6), 2.6 * down)
        for axis, column, title, colour in zip(axes, columns, titles or columns, COLOURS * 9, strict=False):
            values = log_table[["step", column]].dropna()
            axis.plot(values["step"], values[column], color=colour, alpha=0.35, linewidth=1)
            window = 1 if column == "learning_rate" else max(1, len(values) // 12)  # a schedule has no noise
            smooth = values[column].rolling(window, min_periods=1, center=True).mean()
            axis.plot(values["step"], smooth, color=colour, linewidth=2)
            axis.set(title=title, xlabel="step")
            said.append(trend(title, smooth))
        for axis in axes[len(columns) :]:
            axis.set_visible(False)
    figure.alt = f"Curves over {log_table['step'].max()} training steps: {'; '.join(said)}."
    return figure


def trend(name: str, values: pd.Series) -> str:
    """What a curve does, in words: "reward rises from 0.31 to 0.74"; a turn in between is told when it is large."""
    values = values[np.isfinite(values)]
    if values.empty:
        return f"{name}: no values"
    first, last, low, high = values.iloc[0], values.iloc[-1], values.min(), values.max()
    for word, turn, back in (("rises", high, "falls"), ("falls", low, "rises")):
        if min(abs(turn - first), abs(turn - last)) > 0.25 * (high - low):
            return f"{name} {word} from {first:.3g} to {turn:.3g}, then {back} to {last:.3g}"
    if f"{first:.3g}" == f"{last:.3g}":
        return f"{name} ends where it began, at {last:.3g}"
    return f"{name} {'rises' if last > first else 'falls'} from {first:.3g} to {last:.3g}"


def plot_progress(log_table: pd.DataFrame, charts: dict[str, dict], alarms: dict[str, tuple], steps: int, window: int = 5):
    """The charts of a training that runs: every value in pale, the mean of the last `window` in full colour.

    `charts`: {title: {logged column: its name in the text, where it is not the title}}. `alarms`: {logged column:
    (level, words)}, a dotted line each; a level is a number, or a series as long as the table. The step axis reaches
    to `steps`, so that what is left shows as empty. The layout is fixed, not fitted: training waits for it.
    Returns the Figure.
    """
    across = 2 if len(charts) in (2, 4) else min(len(charts), 3)
    down, said = math.ceil(len(charts) / across), []
    height = 2.3 * down
    with plt.rc_context(FONT):
        figure, axes = _figure(down, across, 9.5, height, layout=None)
        figure.subplots_adjust(left=0.065, right=0.985, top=1 - 0.32 / height, bottom=0.5 / height, wspace=0.28, hspace=0.46)
        for axis, (title, columns) in zip(axes, charts.items(), strict=False):
            said += _draw_progress(axis, log_table, title, columns, alarms, window)
            axis.set(title=title, xlim=(0, steps))
        for axis in axes[len(charts) :]:
            axis.set_visible(False)
        for axis in axes[max(len(charts) - across, 0) : len(charts)]:
            axis.set_xlabel("step")
    figure.alt = f"Training, step {log_table['step'].max()} of {steps}: {'; '.join(said)}."
    return figure


def _draw_progress(axis, log_table: pd.DataFrame, title: str, columns: dict, alarms: dict, window: int) -> list[str]:
    """One chart of `plot_progress`; what it shows, in words."""
    said, steps = [], log_table["step"]
    for (column, label), colour, line in zip(columns.items(), (BLUE, RED), LINES, strict=False):
        numbers = log_table[column]
        window = 1 if column == "learning_rate" else window  # a schedule has no noise
        smooth = numbers.rolling(window, min_periods=1).mean()
        axis.plot(steps, numbers, line, color=colour, alpha=0.3, linewidth=1)
        axis.plot(steps, smooth, line, color=colour, linewidth=2)
        said.append(trend(label or title, smooth))
        if column in alarms and np.isfinite(alarms[column][0]).all():
            said.append(_draw_alarm(axis, steps, smooth, *alarms[column]))
    axis.margins(y=0.18)  # room for the words above a line
    axis.locator_params(nbins=5)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    return said


def _draw_alarm(axis, steps: pd.Series, smooth: pd.Series, level: float | pd.Series, words: str) -> str:
    """A dotted line at the level, its words on the side where the curve is not; the same in words."""
    levels = pd.Series(level, index=steps.index, dtype=float)
    look = {"linestyle": ":", "color": "black", "linewidth": 1.6, "gid": "alarm"}
    moves = isinstance(level, pd.Series)
    if moves:
        axis.plot(steps, levels, **look)
    else:
        axis.axhline(level, **look)
    below = smooth.mean() > levels.mean()
    place = (0.02 if moves else 0.98, levels.min() if below else levels.max())
    axis.annotate(
        words, place, (0, -3 if below else 2), xycoords=("axes fraction", "data"), textcoords="offset points",
        ha="left" if moves else "right", va="top" if below else "bottom", fontsize=9,
    )  # fmt: skip
    return f"{words} (line at {levels.iloc[-1]:.3g})"


def plot_scoreboard(scoreboard: pd.DataFrame) -> Figure:
    """A dumbbell a metric, the largest gain first: before and after training with 95% intervals, from
    `helper.scoreboard`; at the right the paired change with its interval.
    """
    board = scoreboard.sort_values("difference", ascending=False, kind="stable").reset_index(drop=True)
    said = []
    with plt.rc_context(FONT):
        figure, (axis,) = _figure(1, 1, 9, 1.2 + 0.62 * len(board))
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
        axis.set_xlabel("score, with 95% interval; at the right the paired change, with its own")
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


def plot_next_tokens(tables: dict[str, pd.DataFrame]) -> Figure:
    """Bars of the likeliest next tokens, side by side: {title: `next_token_table(...)`}."""
    longest, said = max(len(table) for table in tables.values()), []
    with plt.rc_context(FONT):
        figure, axes = _figure(1, len(tables), min(4.5 * len(tables), 9.5), 0.9 + 0.3 * longest)
        for axis, (title, table), colour in zip(axes, tables.items(), COLOURS * 9, strict=False):
            places = np.arange(len(table))[::-1]
            axis.barh(places, table["probability"], color=colour)
            axis.set_yticks(places, list(table["token"]), family="monospace")
            shown = [f"{value:.0%}" if value >= 0.01 else "<1%" for value in table["probability"]]
            for place, value, text in zip(places, table["probability"], shown, strict=True):
                axis.text(value + 0.015, place, text, va="center", fontsize=9)
            axis.set(title=title, xlabel="probability", xlim=(0, 1.14), xticks=[0, 0.5, 1])
            axis.grid(axis="y", visible=False)
            first = [f'"{token}" {text}' for token, text in zip(table["token"], shown, strict=True)][:3]
            said.append(f"{title}: {', '.join(first)}")
    figure.alt = f"The likeliest next tokens. {'; '.join(said)}."
    return figure


def plot_stages(scores: pd.DataFrame) -> Figure:
    """Bars grouped by skill, one bar a stage, with 95% intervals: columns stage, skill, right, low, high."""
    stages, skills = list(dict.fromkeys(scores["stage"])), list(dict.fromkeys(scores["skill"]))
    width, said = 0.8 / len(stages), []
    with plt.rc_context(FONT):
        figure, (axis,) = _figure(1, 1, min(max(6.0, 1.3 * len(skills) + 1), 9.5), 3.6)
        for number, (stage, colour, hatch) in enumerate(zip(stages, COLOURS * 9, HATCHES * 9, strict=False)):
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


def plot_sft_mask(tokens: list[str], mask: list[int]) -> Figure:
    """The tokens of a training row as a strip: `mask` 1 is trained (in the loss; blue, framed), 0 is only read."""
    if len(tokens) != len(mask):
        raise ValueError(f"{len(tokens)} tokens and {len(mask)} mask values.")
    shown = [token.replace(" ", "␣").replace("\n", "\\n") or "∅" for token in tokens]
    places, across, line = [], 0.0, 0
    for token in shown:
        if across and across + len(token) + 1 > 102:
            across, line = 0.0, line + 1
        places.append((across, line))
        across += len(token) + 1.6
    with plt.rc_context(FONT):
        figure, (axis,) = _figure(1, 1, 9, 0.55 + 0.36 * (line + 1))
        for token, trained, (x, y) in zip(shown, mask, places, strict=True):
            look = {"facecolor": SKY, "edgecolor": "black"} if trained else {"facecolor": PALE, "edgecolor": "white"}
            box = {**look, "linewidth": 1, "boxstyle": "square,pad=0.25"}
            axis.text(x, -y, token, family="monospace", fontsize=9.5, bbox=box, va="center", color="black")
        axis.set(xlim=(-1, 106), ylim=(-line - 0.6, 0.6))
        axis.axis("off")
        patches = [
            Patch(facecolor=SKY, edgecolor="black", label="trained: in the loss"),
            Patch(facecolor=PALE, label="read only: masked"),
        ]
        figure.legend(handles=patches, loc="outside upper left", ncols=2, frameon=False)
    trained = "".join(token for token, used in zip(tokens, mask, strict=True) if used)
    figure.alt = f"{len(tokens)} tokens of a training row, {sum(map(bool, mask))} of them trained: {trained!r}."
    return figure


def plot_lora(rows: int = 8, columns: int = 8, rank: int = 2) -> Figure:
    """W + B·A as a picture: the frozen matrix, and the two thin ones that are trained.

    W is (rows, columns), B (rows, rank), A (rank, columns) (Hu et al. 2021, arXiv 2106.09685, eq. 3).
    """
    with plt.rc_context(FONT):
        figure, (axis,) = _figure(1, 1, 7, 2.8)
        place = 0.0
        parts = (
            ("W", rows, columns, PALE, "+"), ("B", rows, rank, SKY, "·"), ("A", rank, columns, SKY, ""),
        )  # fmt: skip
        for name, height, width, colour, sign in parts:
            axis.add_patch(Rectangle((place, -height / 2), width, height, facecolor=colour, edgecolor=INK,
                                     linewidth=1 if colour == PALE else 2.5))  # fmt: skip
            axis.text(place + width / 2, 0, name, ha="center", va="center", fontsize=12)
            count = f"{height} x {width} = {height * width}"
            axis.text(place + width / 2, -rows / 2 - 0.4, count, ha="center", va="top", fontsize=9)
            axis.text(place + width + 1.2, 0, sign, ha="center", va="center", fontsize=14)
            place += width + 2.4
        axis.set(xlim=(-1, place), ylim=(-rows / 2 - 1.8, rows / 2 + 0.4), aspect="equal")
        axis.axis("off")
        frozen = Patch(facecolor=PALE, edgecolor=INK, label="frozen: W")
        trained = Patch(facecolor=SKY, edgecolor=INK, linewidth=2.5, label="trained: B and A")
        figure.legend(handles=[frozen, trained], loc="outside upper left", ncols=2, frameon=False)
    figure.alt = (
        f"A frozen {rows} x {columns} matrix W of {rows * columns} weights, plus B ({rows} x {rank}) times A "
        f"({rank} x {columns}), the two that are trained, of {rank * (rows + columns)} weights together."
    )
    return figure


def plot_ppo() -> Figure:
    """The four models of PPO with a learned reward, and what flows between them in one step."""
    boxes = {  # name: centre, text, trained
        "policy": ((1.1, 2), "policy $π_θ$", True), "reference": ((4.6, 3.3), "reference $π_{ref}$", False),
        "reward": ((4.6, 2), "reward model $r$", False), "critic": ((4.6, 0.7), "critic $V$", True),
        "tokens": ((7.8, 2.65), "reward of\neach token", None), "gae": ((10.3, 1.7), "GAE", None),
    }  # fmt: skip
    arrows = (
        ("policy", "reference", "answer"), ("policy", "reward", "answer"), ("policy", "critic", "answer"),
        ("reference", "tokens", "KL term"), ("reward", "tokens", "score"),
        ("tokens", "gae", ""), ("critic", "gae", "values"),
    )  # fmt: skip
    with plt.rc_context({**FONT, "text.parse_math": True}):
        figure, (axis,) = _figure(1, 1, 9.5, 3.6)
        for start, end, text in arrows:
            (x, y), (u, v) = boxes[start][0], boxes[end][0]
            axis.annotate("", (u - 0.95, v), (x + 0.95, y), arrowprops={"arrowstyle": "->", "color": INK})
            axis.text((x + u) / 2, (y + v) / 2 + 0.1, text, ha="center", fontsize=9, backgroundcolor="white")
        for (x, y), text, trained in boxes.values():
            colour, width = {True: (SKY, 2.5), False: (PALE, 1), None: ("white", 1)}[trained]
            axis.add_patch(Rectangle((x - 0.95, y - 0.36), 1.9, 0.72, facecolor=colour, edgecolor=INK, linewidth=width))
            axis.text(x, y, text, ha="center", va="center")
        for model, height, what in (
            ("policy", -0.55, "advantages: clipped loss"),
            ("critic", -0.1, "returns: squared error"),
        ):
            x, y = boxes[model][0]
            axis.plot([10.3, 10.3, x], [1.34, height, height], color=BLUE, linestyle="--", linewidth=1.2)
            axis.annotate("", (x, y - 0.36), (x, height), arrowprops={"arrowstyle": "->", "color": BLUE, "linestyle": "--"})
            axis.text(7.6, height + 0.07, what, ha="center", fontsize=9)
        axis.set(xlim=(0, 11.4), ylim=(-0.75, 3.8))
        axis.axis("off")
        trained = Patch(facecolor=SKY, edgecolor=INK, linewidth=2.5, label="trained")
        figure.legend(handles=[trained, Patch(facecolor=PALE, edgecolor=INK, label="frozen")], loc="outside upper left",
                      ncols=2, frameon=False)  # fmt: skip
    figure.alt = (
        "4 models, 2 of them trained. The policy's answer goes to the frozen reference, which gives a KL term for each "
        "token, to the frozen reward model, which gives a score at the end, and to the critic, which gives a value before "
        "each token. The first two make the reward of each token; with the values GAE makes advantages, which train the "
        "policy, and returns, which train the critic."
    )
    return figure


def plot_dpo_loss(betas: list[float] = (0.05, 0.1, 0.5, 1.0)) -> Figure:
    """DPO's loss -log σ(β·m), and its gradient's weight without the factor β, σ(-β·m), against the margin m.

    m is the log-ratio of the chosen answer minus that of the rejected one, in nats (Rafailov et al. 2023,
    eq. 7).
    """
    margin = np.linspace(-20, 60, 401)
    with plt.rc_context(FONT):
        figure, (loss, weight) = _figure(1, 2, 9, 3.2)
        for beta, colour, line in zip(betas, COLOURS * 9, LINES * 9, strict=False):
            loss.plot(
                margin,
                np.logaddexp(0, -beta * margin),
                line,
                color=colour,
                label=f"β = {beta:g}",
                linewidth=2,
            )
            weight.plot(margin, 1 / (1 + np.exp(beta * margin)), line, color=colour, linewidth=2)
        loss.plot(0, math.log(2), "o", color="black")
        loss.annotate("start: ln 2", (0, math.log(2)), (2, 2.2), arrowprops={"arrowstyle": "-"})
        loss.set(title="loss", xlabel="margin m (nats)", ylim=(0, 5))
        weight.set(title="push on each answer, divided by β", xlabel="margin m (nats)", ylim=(0, 1))
        figure.legend(loc="outside upper center", ncols=len(betas), frameon=False, handlelength=3)
    at_20 = ", ".join(f"{np.logaddexp(0, -20 * beta):.2g} for β = {beta:g}" for beta in betas)
    figure.alt = (
        "DPO's loss and its push on the answers against the margin m. Every loss is ln 2 = 0.69 at m = 0 and falls "
        f"as m grows, the faster the larger β: at m = 20 it is {at_20}. The push falls from 1 to 0 about m = 0."
    )
    return figure


def plot_group_advantages(rewards: list[float] | list[list[float]]) -> Figure:
    """Rewards of one or several groups, and the advantages (r - mean) / (std + 1e-4) that GRPO makes of them.

    std is the sample's (n - 1), as in the library (Shao et al. 2024, arXiv 2402.03300, section 4.1.2).
    """
    groups = [list(map(float, group)) for group in (rewards if isinstance(rewards[0], list | tuple) else [rewards])]
    said = []
    with plt.rc_context(FONT):
        figure, axes = _figure(len(groups), 2, 9, 0.4 + 2.2 * len(groups))
        for row, group in enumerate(groups):
            values, numbers = np.array(group), np.arange(1, len(group) + 1)
            spread = values.std(ddof=1) if len(group) > 1 else 0.0
            advantages = (values - values.mean()) / (spread + 1e-4)
            left, right = axes[2 * row], axes[2 * row + 1]
            left.bar(numbers, values, color=GREY)
            left.axhline(values.mean(), color="black", linestyle="--", linewidth=1, label=f"mean {values.mean():.2f}")
            left.legend(frameon=False)
            right.bar(numbers, advantages, color=[BLUE if a >= 0 else RED for a in advantages])
            for number, advantage in zip(numbers, advantages, strict=True):
                side, place = (2, "bottom") if advantage >= 0 else (-2, "top")
                right.annotate(f"{advantage:+.1f}" if advantage else "0", (number, advantage), (0, side), ha="center",
                               textcoords="offset points", va=place, fontsize=9)  # fmt: skip
            right.axhline(0, color="black", linewidth=1)
            right.set_ylim(-max(1, *abs(advantages)) * 1.35, max(1, *abs(advantages)) * 1.35)
            if spread == 0:
                right.text(0.5, 0.75, "all alike: no signal", ha="center", transform=right.transAxes)
            left.set(title="reward", xticks=numbers, xlabel="response", ylim=(min(0, *values), max(1, *values) * 1.25))
            right.set(title="advantage", xticks=numbers, xlabel="response")
            listed = (", ".join(f"{x:.2g}" for x in numbers_of) for numbers_of in (values, advantages))
            said.append("rewards {} give the advantages {}".format(*listed) + (", no signal" if spread == 0 else ""))
    figure.alt = f"Groups of responses: {'; '.join(said)}."
    return figure
