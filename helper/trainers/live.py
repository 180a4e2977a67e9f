"""Progress of a training run: a line and charts that update themselves, and every logged number as a table.

The charts are drawn between two steps, while training waits, so they are drawn seldom: at most once in two
seconds, and only as long as drawing stays within 3% of the time that has passed. Dotted lines show where the
alarms of `helper.trainers.alarms` would sound, and what a coin or a constant would reach.
Left out on purpose: experiment trackers, and charts outside a notebook, where it stays one line.
"""

import gc
import math
import time
from collections.abc import Mapping
from contextlib import contextmanager
from html import escape

import pandas as pd
from IPython.display import display
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from helper.figures.figure import image_html, in_notebook
from helper.figures.training import charts_of, method, only_numbers, plot_progress
from helper.machine.terminal import on_terminal, say
from helper.machine.threads import Pace
from helper.trainers import alarms

SHOWN = {
    "loss": "loss", "reward": "reward", "rewards/accuracies": "accuracy", "rewards/margins": "reward margin",
    "accuracy": "accuracy",
}  # fmt: skip
DRAW_EVERY = 2.0  # seconds, at least
DRAW_SHARE = 0.03  # of the training time, at most
LARGEST = 1e30  # what is larger is left out of the charts: means of such numbers overflow


class LiveLog(TrainerCallback):
    """A trainer callback that collects the logs and shows a line (step, time, loss, reward) and, in a
    notebook, charts.

    Use `live = watch(trainer)`, or pass it in `callbacks=[...]` and remove the trainer's own progress
    callbacks. Whatever is logged, and wherever it is shown: this stops no training. What cannot be shown is said once.
    """

    def __init__(self, seconds_between: float = 0.5, charts: bool = True):
        self.seconds_between, self.charts = seconds_between, charts
        self.seconds = 0.0  # how long training took, so far
        self.seconds_drawing = 0.0  # how much of that went into the charts
        self._logs: dict[int, dict] = {}
        self._handle, self._pace = None, Pace()

    def table(self) -> pd.DataFrame:
        """All logs: a row a logged step (column `step`), a column a logged name."""
        return pd.DataFrame([{"step": step, **logs} for step, logs in sorted(self._logs.items())])

    def on_train_begin(self, args, state, control, **kwargs):
        self._pace.start()
        self._logs = {}
        for row in state.log_history:  # of the steps before an interruption
            self._collect(row.get("step", 0), row)
        self._start, self._shown_at, self._handle = time.perf_counter(), -1e9, None
        self._first_step, self._given_up = state.global_step, set()
        self._picture, self._alt, self._drawn_at, self.seconds_drawing, self._last_cost = "", "", 0.0, 0.0, 0.0

    def on_log(self, args, state, control, logs=None, **kwargs):
        self._collect(state.global_step, logs if isinstance(logs, Mapping) else {})

    def _collect(self, step: int, logs: dict) -> None:
        numbers = {str(key): value for key, value in logs.items() if key != "step" and not str(key).startswith("train_")}
        self._logs.setdefault(step, {}).update(numbers)

    def on_substep_end(self, args, state, control, **kwargs):
        self._pace.step()

    def on_step_end(self, args, state, control, **kwargs):
        self._pace.step()
        self.seconds = time.perf_counter() - self._start
        if self.seconds - self._shown_at >= self.seconds_between:
            self._shown_at = self.seconds
            self._update(args, state, draw=self._drawing_is_due())

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self._start
        self._update(args, state, draw=self._draws(), last=True)

    def _update(self, args, state, draw: bool, last: bool = False) -> None:
        if draw:
            with self._only_shown("charts"):
                self._draw(args, state.max_steps)
        if last:
            self.seconds = time.perf_counter() - self._start
        if "line" not in self._given_up:
            with self._only_shown("line"):
                self._show(self.line(state.global_step, state.max_steps), last)

    @contextmanager
    def _only_shown(self, what: str):
        """Whatever fails in the block, the training goes on: a line says so, and no more of it is shown in this run."""
        try:
            yield
        except Exception as error:
            self._given_up.add(what)
            say(f"The {what} can be shown no more ({type(error).__name__}: {error}). The training goes on.")

    def line(self, step: int, steps: int) -> str:
        """For example "step 40/120 · 0:31, 1:02 left · loss 0.812 · reward 0.44"."""
        done = step - self._first_step
        left = self.seconds / done * (steps - step) if done else 0
        parts = [
            f"step {step}/{steps}",
            _clock(self.seconds) + (f", {_clock(left)} left" if step < steps else ""),
        ]
        latest = {}
        for logged in sorted(self._logs):
            latest.update(self._logs[logged])
        for key in SHOWN:
            of = "eval_" if key.startswith("rewards/") and f"eval_{key}" in latest else ""  # DPO's, of evaluation pairs
            value = alarms.number(latest.get(of + key))
            parts += [] if value is None else [f"{'evaluation ' if of else ''}{SHOWN[key]} {_short(value)}"]
        return " · ".join(parts + [words for words in (self._pace.words(),) if words])

    def _draws(self) -> bool:
        return self.charts and "charts" not in self._given_up and in_notebook() and bool(self._logs)

    def _drawing_is_due(self) -> bool:
        """Whether there is something new and time for it: for this picture, and for the last one at the end."""
        after_it = self.seconds_drawing + 2 * self._last_cost
        due = self.seconds - self._drawn_at >= DRAW_EVERY and after_it <= DRAW_SHARE * self.seconds
        return due and self._draws()

    def _draw(self, args, steps: int) -> None:
        start = time.perf_counter()
        table = self.table()
        log = only_numbers(table.map(alarms.number))
        log = log.where(log.abs() <= LARGEST).assign(step=table["step"])
        charts = charts_of(log)
        if charts:
            figure = plot_progress(log, charts, alarm_levels(log, args), steps, alarms.RUNNING)
            self._picture, self._alt = image_html(figure, figure.alt), figure.alt
        self._last_cost = time.perf_counter() - start
        self.seconds_drawing += self._last_cost
        self._drawn_at = start - self._start

    def _show(self, line: str, last: bool = False) -> None:
        if not in_notebook():
            if last or on_terminal():
                say("\r" + line.ljust(100), end="\n" if last else "")
            return
        data = {"text/plain": line}
        if self._picture:
            data = {"text/html": f"<div>{escape(line)}</div>{self._picture}", "text/plain": f"{line}\n{self._alt}"}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def watch(trainer, charts: bool = True) -> LiveLog:
    """Put a LiveLog into a trainer, in place of what else would print; call it before `trainer.train()`.

    `charts=False` shows the line alone, also in a notebook: for short runs, one after another. Garbage is collected first:
    an earlier trainer refers to itself, and would keep its memory, with Adam's averages, for a while.
    """
    gc.collect()
    shown = [c for c in trainer.callback_handler.callbacks if isinstance(c, PrinterCallback | ProgressCallback | LiveLog)]
    shown += [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "NotebookProgressCallback"]
    for callback in shown:
        trainer.remove_callback(callback)
    live = LiveLog(charts=charts)
    trainer.add_callback(live)
    return live


def alarm_levels(log: pd.DataFrame, args) -> dict[str, tuple]:
    """{logged column: (level, words)}: where the alarms of `helper.trainers.alarms` sound, from their own constants.

    Two are no alarms: what a coin reaches in accuracy, and a constant in explained variance.
    A level is a number, or one for each row of the table where it moves with the data. `args` is the trainer's.
    """
    levels = {"frac_reward_zero_std": (1.0, "alarm: no group has spread")}
    levels["completions/clipped_ratio"] = (alarms.CUT_OFF, f"alarm above {alarms.CUT_OFF:.0%}")
    levels["rewards/margins"] = (alarms.ZERO_MARGIN, "alarm: stays at 0")
    levels |= {"accuracy": (0.5, "a coin"), "explained_variance": (0.0, "no better than a constant")}
    if method(log) == "SFT":
        levels["loss"] = (0.0, "would be an alarm: exactly 0")
    longest = getattr(args, "max_completion_length", None)
    if longest:
        levels["completions/mean_length"] = (float(longest), "the longest allowed")
    if "entropy" in log:
        first = float(log["entropy"].iloc[0])
        levels["entropy"] = (alarms.COLLAPSED * first, f"alarm below {alarms.COLLAPSED:.0%} of the first")
    if "reward" in log:
        best = log["reward"].rolling(alarms.RUNNING).mean().max()
        if best >= alarms.NOTEWORTHY_REWARD:
            levels["reward"] = (alarms.FALLEN * best, f"alarm below {alarms.FALLEN:.0%} of the best")
    if {"logps/chosen", "rewards/chosen"} <= set(log) and getattr(args, "beta", 0):
        levels["logps/chosen"] = (_unlearned_below(log, args.beta), "alarm: chosen below this line")
    return levels


def _unlearned_below(log: pd.DataFrame, beta: float) -> pd.Series:
    """The log-probability of the chosen answers under which they count as unlearned, a value a row.

    Implicit reward = β·(log-probability now - log-probability under the first model), which gives the latter.
    """
    first = log["logps/chosen"] - log["rewards/chosen"] / beta
    first = first.rolling(alarms.RUNNING, min_periods=1).mean()
    return first - (alarms.UNLEARNED_SHARE * first.abs()).clip(lower=alarms.UNLEARNED_NATS)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _short(value: float) -> str:
    """Three digits behind the point, and no more than twelve signs of a number that has run away."""
    return f"{value:.3f}" if abs(value) < 1e6 or not math.isfinite(value) else f"{value:.3e}"
