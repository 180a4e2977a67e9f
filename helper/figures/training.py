"""Charts of a training: while it runs and afterwards, and which charts the log of a method gets."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from helper.figures.figure import BLUE, COLOURS, LINES, ORANGE, RED, drawing, make_figure


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
    with drawing():
        figure, axes = make_figure(down, across, max(3.1 * across, 3.6), 2.6 * down)
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


def plot_losses(log_table: pd.DataFrame, held_back: pd.DataFrame) -> Figure:
    """Training loss and the loss on rows held back, on a logarithmic axis; the lowest of the latter is marked.

    `log_table`: `live.table()` (step, loss); `held_back`: step and eval_loss.
    """
    best = held_back.loc[held_back["eval_loss"].idxmin()]
    with drawing():
        figure, (axis,) = make_figure(1, 1, 6.5, 3.2)
        values = log_table[["step", "loss"]].dropna()
        smooth = values["loss"].rolling(max(1, len(values) // 12), min_periods=1, center=True).mean()
        axis.plot(values["step"], values["loss"], color=BLUE, alpha=0.35, linewidth=1)
        axis.plot(values["step"], smooth, color=BLUE, linewidth=2, label="rows trained on")
        axis.plot(
            held_back["step"], held_back["eval_loss"], color=ORANGE, marker="D", linestyle="--", label="rows held back"
        )
        words = f"lowest: step {best['step']:.0f}, {best['eval_loss']:.3f}"
        axis.annotate(words, (best["step"], best["eval_loss"]), (0, 14), textcoords="offset points", ha="right", fontsize=9)
        axis.set(yscale="log", xlabel="step", ylabel="loss, nats per token")
        axis.legend(frameon=False)
    curves = f"{trend('rows trained on', smooth)}; {trend('rows held back', held_back['eval_loss'])}"
    figure.alt = f"Losses on a logarithmic axis: {curves}; {words}."
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
    with drawing():
        figure, axes = make_figure(down, across, 9.5, height, layout=None)
        figure.subplots_adjust(left=0.065, right=0.985, top=1 - 0.32 / height, bottom=0.5 / height, wspace=0.28, hspace=0.46)
        for axis, (title, columns) in zip(axes, charts.items(), strict=False):
            said += _draw_progress(axis, log_table, title, columns, alarms, window)
            axis.set(title=title, xlim=(0, steps))
        for axis in axes[len(charts) :]:
            axis.set_visible(False)
        for axis, columns in list(zip(axes, charts.values(), strict=False))[max(len(charts) - across, 0) :]:
            noisy = any(column != "learning_rate" and not column.startswith("eval_") for column in columns)
            axis.set_xlabel(f"step (thick: mean of the last {window})" if noisy and window > 1 else "step")
    figure.alt = f"Training, step {log_table['step'].max()} of {steps}: {'; '.join(said)}."
    return figure


def _draw_progress(axis, log_table: pd.DataFrame, title: str, columns: dict, alarms: dict, window: int) -> list[str]:
    """One chart of `plot_progress`; what it shows, in words."""
    said, steps = [], log_table["step"]
    # Most of a loss's fall is early: on a linear axis the rest would be a flat line. GRPO's has both signs.
    logged = log_table[list(columns)].stack()
    logarithmic = title.startswith("loss") and len(logged) > 0 and bool((logged > 0).all())
    axis.set_yscale("log" if logarithmic else "linear")
    for (column, label), colour, line in zip(columns.items(), (BLUE, RED), LINES, strict=False):
        numbers = log_table[column]
        window = 1 if column == "learning_rate" else window  # a schedule has no noise
        if column.startswith("eval_"):  # now and then, on the same rows each time: no noise of batches
            numbers, window = numbers.dropna(), 1
            steps = log_table["step"][numbers.index]
        smooth = numbers.rolling(window, min_periods=1).mean()
        axis.plot(steps, numbers, line, color=colour, alpha=0.3, linewidth=1)
        axis.plot(steps, smooth, line, color=colour, linewidth=2)
        said.append(trend(label or title, smooth))
        if column in alarms and np.isfinite(alarms[column][0]).all():
            said.append(_draw_alarm(axis, steps, smooth, *alarms[column]))
    axis.margins(y=0.18)  # room for the words above a line
    if logarithmic:
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.minorticks_off()
    else:
        axis.locator_params(nbins=5)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    return said


def _draw_alarm(axis, steps: pd.Series, smooth: pd.Series, level: float | pd.Series, words: str) -> str:
    """A dotted line at the level, its words on the side where the curve is not; the same in words."""
    levels = pd.Series(level, index=steps.index, dtype=float)
    if axis.get_yscale() == "log" and levels.min() <= 0:  # no such place on this axis: the words alone, at its foot
        axis.annotate(words, (0.98, 0.03), xycoords="axes fraction", ha="right", va="bottom", fontsize=9)
        return words
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


KL = "KL to the reference (nats per token)"
CHARTS = {  # method: {title: {logged column: its name where there are two}}
    "SFT": {
        "loss (nats per token)": {"loss": ""},
        "share of tokens predicted right": {"mean_token_accuracy": ""},
        "learning rate": {"learning_rate": ""},
    },
    "DPO": {
        "loss": {"loss": ""},
        "preference accuracy": {"rewards/accuracies": ""},
        "reward margin (β·m)": {"rewards/margins": ""},
        "log-probability: chosen (solid), rejected (dashed)": {"logps/chosen": "chosen", "logps/rejected": "rejected"},
    },
    "GRPO": {
        "reward": {"reward": ""},
        "groups without spread": {"frac_reward_zero_std": ""},
        "entropy (nats per token)": {"entropy": ""},
        "tokens per response": {"completions/mean_length": ""},
        "responses cut short": {"completions/clipped_ratio": ""},
        "loss": {"loss": ""},
        KL: {"kl": ""},
    },
    "PPO": {
        "reward": {"reward": ""},
        KL: {"kl": ""},
        "value loss": {"value_loss": ""},
        "variance explained by the values": {"explained_variance": ""},
        "entropy (nats per token)": {"entropy": ""},
        "responses cut short": {"completions/clipped_ratio": ""},
    },
    "REWARD": {
        "loss": {"loss": ""},
        "preference accuracy": {"accuracy": ""},
        "margin, chosen - rejected": {"margin": ""},
    },
}


def charts_of(log: pd.DataFrame) -> dict[str, dict]:
    """The charts of CHARTS, without what was not logged; a KL that is always 0 was not measured either.

    Where DPO has evaluation pairs, its rewards and log-probabilities are those of these: a training batch may hold rows
    whose two answers are the same, and its averages are of both.
    """
    logged = log.drop(columns="kl") if "kl" in log and not log["kl"].fillna(0).any() else log
    charts = {
        title: {column: label for column, label in columns.items() if column in logged}
        for title, columns in CHARTS[method(log)].items()
    }
    charts = dict(_of_evaluation_pairs(log, title, columns) for title, columns in charts.items())
    return {title: columns for title, columns in charts.items() if columns}


def _of_evaluation_pairs(log: pd.DataFrame, title: str, columns: dict[str, str]) -> tuple[str, dict[str, str]]:
    """The chart from what the trainer logged of its evaluation pairs, where it did; else the chart as it is."""
    evaluated = {f"eval_{column}": label for column, label in columns.items()}
    if method(log) == "DPO" and "loss" not in columns and evaluated and set(evaluated) <= set(log):
        of_both = len(evaluated) > 1  # a long title already
        return title.replace("log-probability", "log p") + (", eval. pairs" if of_both else ", evaluation pairs"), evaluated
    return title, columns


def method(log: pd.DataFrame) -> str:
    """The method that logs these columns: "SFT", "DPO", "GRPO", "PPO" or "REWARD" (a reward model)."""
    signs = {"rewards/margins": "DPO", "value_loss": "PPO", "reward": "GRPO", "margin": "REWARD"}
    return next((name for column, name in signs.items() if column in log), "SFT")


def only_numbers(log: pd.DataFrame) -> pd.DataFrame:
    """The table with nan for what is no finite number: a chart must not stop a training."""
    return log.apply(pd.to_numeric, errors="coerce").replace([math.inf, -math.inf], math.nan)
