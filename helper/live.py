"""Progress of a training run: one line that updates itself, and every logged number as a table.

Left out on purpose: experiment trackers (lesson 10), and charts that redraw while training runs; the table is
plotted after it (`plot_training`), which costs the run nothing.
"""

import sys
import time

import pandas as pd
from IPython import get_ipython
from IPython.display import display
from transformers import PrinterCallback, ProgressCallback, TrainerCallback

SHOWN = {"loss": "loss", "reward": "reward", "rewards/accuracies": "accuracy", "rewards/margins": "reward margin"}


class LiveLog(TrainerCallback):
    """A trainer callback that collects the logs and shows one line: step, time, loss, reward when there is
    one.

    Use `live = watch(trainer)`, or pass it in `callbacks=[...]` and remove the trainer's own progress
    callbacks.
    """

    def __init__(self, seconds_between: float = 0.5):
        self.seconds_between = seconds_between
        self.seconds = 0.0  # how long training took, so far
        self._logs: dict[int, dict] = {}
        self._handle = None

    def table(self) -> pd.DataFrame:
        """All logs: a row a logged step (column `step`), a column a logged name."""
        return pd.DataFrame([{"step": step, **logs} for step, logs in sorted(self._logs.items())])

    def on_train_begin(self, args, state, control, **kwargs):
        self._logs = {}
        for row in state.log_history:  # of the steps before an interruption
            self._collect(row["step"], {key: value for key, value in row.items() if key != "step"})
        self._start, self._shown_at, self._handle = time.perf_counter(), -1e9, None
        self._first_step = state.global_step

    def on_log(self, args, state, control, logs=None, **kwargs):
        self._collect(state.global_step, logs or {})

    def _collect(self, step: int, logs: dict) -> None:
        numbers = {key: value for key, value in logs.items() if not key.startswith("train_")}
        self._logs.setdefault(step, {}).update(numbers)

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self._start
        if self.seconds - self._shown_at >= self.seconds_between:
            self._shown_at = self.seconds
            self._show(self.line(state.global_step, state.max_steps))

    def on_train_end(self, args, state, control, **kwargs):
        self.seconds = time.perf_counter() - self._start
        self._show(self.line(state.global_step, state.max_steps), last=True)

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
        return " · ".join(parts + [f"{SHOWN[key]} {float(latest[key]):.3f}" for key in SHOWN if key in latest])

    def _show(self, line: str, last: bool = False) -> None:
        if get_ipython() is None:
            if last or sys.stdout.isatty():
                print("\r" + line.ljust(100), end="\n" if last else "", flush=True)
        elif self._handle is None:
            self._handle = display({"text/plain": line}, raw=True, display_id=True)
        else:
            self._handle.update({"text/plain": line}, raw=True)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def watch(trainer) -> LiveLog:
    """Put a LiveLog into a trainer, in place of what else would print; call it before `trainer.train()`."""
    shown = [c for c in trainer.callback_handler.callbacks if isinstance(c, PrinterCallback | ProgressCallback | LiveLog)]
    shown += [c for c in trainer.callback_handler.callbacks if type(c).__name__ == "NotebookProgressCallback"]
    for callback in shown:
        trainer.remove_callback(callback)
    live = LiveLog()
    trainer.add_callback(live)
    return live
