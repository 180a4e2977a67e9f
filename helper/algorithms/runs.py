"""What a training loop of our own needs around its steps: a log, live charts, alarms, checkpoints, interrupts.

A `Run` is one file in the run's folder, replaced whole, so there is never a half-written one under its name.
Each step begins with a seed of its own, so a run that goes on from a checkpoint draws what it would have drawn.
Left out on purpose: what the trainers' checkpoints have beyond that (`helper.trainers.checkpoints`): several of them, a
schedule, data order.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import TrainerControl, TrainerState

from helper.machine.device import set_seed
from helper.machine.folders import remove
from helper.machine.memory import give_back_memory
from helper.machine.terminal import say
from helper.trainers.alarms import TrainingAlarms
from helper.trainers.identity import differences, digest, first_weights, function_identity, plain
from helper.trainers.interrupts import Interrupts, TrainingStopped, run_lock
from helper.trainers.live import LiveLog
from helper.trainers.reward_checks import guard_reward

FILE = "run.pt"
ABOVE_0 = (
    "temperature", "batch_size", "prompts_per_step", "responses_per_step", "inner_updates", "epochs", "micro_batch",
    "minibatch",
)  # fmt: skip
LARGEST_NORM = 1.0  # of the gradient; a larger one is scaled down to it, as in the library


class Run:
    """The steps of a training loop: `with Run(...) as run: for step in run: ...; run.log(loss=..., reward=...)`.

    `parts`: {name: module or optimizer}, everything that training changes; "model" must be one of them, and what it is
    compared with is called "reference". `settings`: what makes two runs the same one, functions by their names; added are
    the weights that the modules begin with. A checkpoint of another run is refused with what differs, as is a file that is
    none (ValueError). After an interrupt the step is finished and saved, TrainingStopped is raised, and the same call goes
    on from there. A second interrupt stops at once (KeyboardInterrupt). A gradient of nan or inf stops the run
    (FloatingPointError). Raises RuntimeError when another process trains in `folder`, or when the model has been trained
    already and no checkpoint is there to go back to.
    """

    def __init__(self, folder: str | Path, parts: dict, steps: int, settings: dict, save_every: int = 20, charts=True):
        self.path, self.parts, self.steps, self.save_every = Path(folder) / FILE, parts, steps, save_every
        self.settings = plain({**settings, "steps": steps})
        self.state, self._guards = TrainerState(max_steps=steps, log_history=[]), []
        self.live, self.alarms, self._interrupts = LiveLog(charts=charts), TrainingAlarms(), Interrupts()
        self._args = SimpleNamespace(
            max_completion_length=settings.get("max_new_tokens"), beta=settings.get("beta", 0), fp16=False
        )

    def __enter__(self) -> "Run":
        self._open = ExitStack()
        self._open.enter_context(run_lock(self.path.parent))
        try:
            self._start()
            self._open.enter_context(self._interrupts.caught())
            for part in self.parts.values():
                if isinstance(part, torch.optim.Optimizer):
                    self._open.callback(part.register_step_pre_hook(self._before_update).remove)
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *error) -> None:
        self._open.close()
        self.parts["model"].eval()

    def __iter__(self) -> Iterator[int]:
        self._tell("on_train_begin")
        for step in range(self.state.global_step + 1, self.steps + 1):
            set_seed((self.settings.get("seed", 0) * 100_000 + step) % 2**32)
            yield step
            self._end_step(step, self._interrupts.stopping)
        self._tell("on_train_end")
        self.path.unlink(missing_ok=True)

    def log(self, **numbers: float) -> None:
        """Log numbers of the current step; `loss` among them."""
        self.state.log_history.append({"step": self.state.global_step + 1, **plain(numbers)})

    def guarded(self, reward_funcs: list[Callable]) -> list[Callable]:
        """The same reward functions; what is no reward stops the run, with the function's name and the step.

        They are made once a run, as each remembers how the random numbers stood.
        """
        self._guards = self._guards or [guard_reward(function, state=self.state) for function in reward_funcs]
        return self._guards

    def _tell(self, event: str, **kwargs) -> None:
        for callback in (self.live, self.alarms):
            getattr(callback, event)(self._args, self.state, TrainerControl(), **kwargs)

    def _before_update(self, *_) -> None:
        """Raise FloatingPointError for a gradient that is nan or inf, while the weights are still whole."""
        for part in self.parts.values():
            if isinstance(part, torch.nn.Module):
                self.alarms.on_pre_optimizer_step(self._args, self.state, TrainerControl(), model=part)
        self._note_trained(self.state.global_step + 1)  # from its first update on, not as it was loaded

    def _note_trained(self, steps: int) -> None:
        for name, part in self.parts.items():
            if isinstance(part, torch.nn.Module) and name != "reference":  # what is compared with is not trained
                part.trained_steps = steps

    def _end_step(self, step: int, stopping: bool) -> None:
        self.state.global_step = step
        self._note_trained(step)
        for row in self.state.log_history:
            if row["step"] == step:
                self._tell("on_log", logs={key: value for key, value in row.items() if key != "step"})
        self.live.on_step_end(self._args, self.state, TrainerControl())
        if step % 10 == 0:  # it takes a second or two
            give_back_memory()
        if step < self.steps and (stopping or step % self.save_every == 0):
            self._save()
        if stopping and step < self.steps:
            words = f"Stopped after step {step} of {self.steps} and saved. Run this cell again to go on from there."
            raise TrainingStopped(words)

    def _save(self) -> None:
        saved = {"step": self.state.global_step, "settings": self.settings, "log": self.state.log_history}
        saved["parts"] = {name: part.state_dict() for name, part in self.parts.items()}
        unfinished = self.path.with_suffix(".unfinished")
        remove(unfinished)  # left by a process that was killed
        try:
            torch.save(saved, unfinished)
            os.replace(unfinished, self.path)
        finally:
            remove(unfinished)

    def _start(self) -> None:
        """Load the run's checkpoint, if one is there; one line says where it starts."""
        goes_on = self.path.exists()
        if not goes_on and getattr(self.parts["model"], "trained_steps", 0):
            raise RuntimeError("This model has been trained already: load it anew (run the cells above again) first.")
        for name, part in self.parts.items():
            if isinstance(part, torch.nn.Module):
                self.settings[f"first weights of the {name}"] = first_weights(part, goes_on)
        if not goes_on:
            say(f"No checkpoint yet in {self.path.parent}: starting at step 0.")
            return
        saved = self._read()
        for name, part in self.parts.items():
            part.load_state_dict(saved["parts"][name])
        self.state.global_step, self.state.log_history = saved["step"], saved["log"]
        self._note_trained(saved["step"])
        say(f"Going on from step {saved['step']} of {self.steps}.")

    def _read(self) -> dict:
        """What the checkpoint holds; ValueError, with what differs, where it is of another run."""
        try:
            saved = torch.load(self.path, weights_only=True, map_location="cpu")
            there = dict(saved["settings"])
        except Exception as error:  # pickle, zip and torch each have their own
            reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
            raise ValueError(f"{self.path} is no checkpoint that can be read ({reason}). Delete it to start anew.") from None
        different = differences(there, self.settings)
        if different:
            names = ", ".join(line.split(": ")[0] for line in different)
            raise ValueError(
                f"The checkpoint {self.path} is of a run with other settings ({names}). Delete it to start anew, or set "
                f"them back: {'; '.join(different)}."
            )
        return saved


def autocast(model, bf16: bool):
    """bfloat16 for what may be in it, on the model's device, while the block lasts; nothing without `bf16`."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=bf16)


def checked_settings(rows: list[dict], reward_funcs: list[Callable] = (), **settings) -> dict:
    """What makes two runs the same one, as plain values: rows by a digest, functions by their names and arguments.

    Raises ValueError for one of ABOVE_0 that is not.
    """
    for name in ABOVE_0:
        if name in settings and not settings[name] > 0:
            raise ValueError(f"{name}={settings[name]}: give a number above 0.")
    return {"rows": digest(rows), "rewards": [function_identity(function) for function in reward_funcs], **plain(settings)}


def mean_of(updates: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each number over the updates of a step."""
    return {name: sum(update[name] for update in updates) / len(updates) for name in updates[0]}
