"""Interruption: a training run that was stopped, killed or cut off goes on from its last whole checkpoint.

`**checkpoint_settings(every=50)` stands in the trainer's config, `resume_training(trainer)` in the place of
`trainer.train()`. Checkpoints are there to go on from, so a run that reached its end removes its own: the next one
starts anew. The library writes a checkpoint's files one by one, so a kill may leave half of them: a
checkpoint counts as whole when the list of its files (`whole.json`, written last) agrees with what lies there.
Left out on purpose: several processes or machines on one run, `load_best_model_at_end`, and whatever the
library keeps in no checkpoint (a reference model that moves, a reward function's own memory).
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
from pathlib import Path

from transformers import TrainerCallback, TrainerState

from helper.library import forget_accelerate, forget_unfinished_step, load_weights
from helper.machine.folders import disk_is_full, free_name, remove
from helper.machine.terminal import say
from helper.trainers.identity import differences, plain, run_description
from helper.trainers.interrupts import Interrupts, TrainingStopped, run_lock

WHOLE, UNFINISHED, STATE = "whole.json", "unfinished", "trainer_state.json"
KEEP = 2  # whole checkpoints: the last one, and one more should the disk spoil it


def checkpoint_settings(every: int) -> dict:
    """Settings for the trainer's config: a checkpoint each `every` steps, `SFTConfig(**checkpoint_settings(50), ...)`.

    Old ones are removed by `resume_training`, not by the library, which counts half-written ones too.
    """
    if every < 1:
        raise ValueError(f"A checkpoint every {every} steps is not possible: give a number from 1.")
    return {"save_strategy": "steps", "save_steps": every, "save_total_limit": None, "save_only_model": False}


def resume_training(trainer, resume: bool = True) -> None:
    """`trainer.train()`, going on from the last whole checkpoint in the run's folder, if one is there.

    One line says where it starts. At the end the run's checkpoints are removed. Ctrl-C (in Jupyter: ■) ends the step,
    saves and raises TrainingStopped; a second one stops at once. `resume=False` removes the folder's checkpoints and
    starts at step 0.
    Raises ValueError (the checkpoint is of another run: other first weights, rows or settings, each named; the config has
    no `checkpoint_settings`; the data has not one batch), RuntimeError (another process trains in this folder, or the
    model has been trained already and there is no checkpoint to go back to) and OSError (the disk is full; the last whole
    checkpoint stays).
    """
    folder = Path(trainer.args.output_dir)
    _check_settings(trainer.args)
    with run_lock(folder):
        checkpoint = last_whole_checkpoint(folder) if resume else None
        if checkpoint is None:
            _check_untrained(trainer)
        run = run_description(trainer, goes_on=checkpoint is not None)
        if checkpoint:
            _check_same(checkpoint, run)
            say(f"Going on from {checkpoint.name}, step {_step(checkpoint)} of {_state(checkpoint).max_steps}.")
        else:
            for old in [] if resume else _checkpoints(folder):
                _remove(old)
            say(f"No checkpoint yet in {folder}: starting at step 0.")
        if checkpoint and _step(checkpoint) >= _state(checkpoint).max_steps:
            _load_finished(trainer, checkpoint)
        else:
            _train(trainer, folder, checkpoint, run)
        _remove_all(folder)


def last_whole_checkpoint(folder: str | Path) -> Path | None:
    """The newest whole checkpoint in a run's folder, None when there is none; prints one line for each one skipped."""
    for checkpoint in reversed(_checkpoints(Path(folder))):
        fault = checkpoint_fault(checkpoint)
        if fault is None:
            return checkpoint
        say(f"{checkpoint.name} is skipped, it is not whole: {fault}.")
    return None


def checkpoint_fault(checkpoint: str | Path) -> str | None:
    """What keeps a checkpoint from being whole, in words, or None."""
    checkpoint = Path(checkpoint)
    try:
        files = _marks(checkpoint)["files"]
    except ValueError as fault:
        return str(fault)
    for name, (size, digest) in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size:,} bytes in place of {size:,}"
        if _digest(path) != digest:
            return f"the contents of {name} have changed"
    return None


class Checkpoints(TrainerCallback):
    """Marks whole checkpoints, removes old ones, and turns an interrupt into a stop at the end of a step."""

    def __init__(self, folder: Path, description: dict, interrupts: Interrupts, steps_between: int = 1):
        self.folder, self.description, self.interrupts = folder, description, interrupts
        self.steps_between = steps_between  # a resumed run is the same only from a multiple of these
        self._save_owed = False

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        """GRPO's sampler draws an order of the prompts each epoch: a new one has to pass over those already used."""
        sampler = getattr(train_dataloader.batch_sampler, "sampler", None)
        if type(sampler).__name__ == "RepeatSampler":
            for _ in range(int(state.epoch or 0)):
                next(iter(sampler))

    def on_step_end(self, args, state, control, **kwargs):
        self._save_owed |= control.should_save or self.interrupts.stopping
        last = state.global_step >= state.max_steps
        control.should_save = self._save_owed and (last or state.global_step % self.steps_between == 0)
        if control.should_save:
            self._save_owed = False
            control.should_training_stop |= self.interrupts.stopping
            _begin_checkpoint(self.folder / f"checkpoint-{state.global_step}")

    def on_log(self, args, state, control, **kwargs):
        """Leaves numbers and words in the log: an array that another callback logged could not be written."""
        state.log_history[-1:] = plain(state.log_history[-1:])

    def on_save(self, args, state, control, **kwargs):
        _mark_whole(self.folder / f"checkpoint-{state.global_step}", self.description)
        _remove_old(self.folder, state.global_step)


def _train(trainer, folder: Path, checkpoint: Path | None, run: dict) -> None:
    interrupts = Interrupts()
    marks = Checkpoints(folder, run, interrupts, _steps_between(trainer))
    forget_unfinished_step(trainer)
    if trainer.state.global_step == 0:
        forget_accelerate(trainer.model)
    trainer.add_callback(marks)
    try:
        with interrupts.caught():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except KeyboardInterrupt:
        raise TrainingStopped(_stopped_within_a_step(trainer, folder)) from None
    except Exception as error:
        if not disk_is_full(error):
            raise
        _remove(folder / f"checkpoint-{trainer.state.global_step}")
        raise OSError(errno.ENOSPC, _full_disk_words(trainer, folder)) from error
    finally:
        trainer.remove_callback(marks)
        trainer.model.trained_steps = trainer.state.global_step
    step, steps = trainer.state.global_step, trainer.state.max_steps
    if step == 0:
        raise ValueError("No step was made: the data set has too few rows for one batch (in GRPO: of all its prompts).")
    if interrupts.stopping and step < steps:
        trainer.model.eval()
        raise TrainingStopped(f"Stopped after step {step} of {steps} and saved. Run this cell again to go on from there.")


def _check_settings(args) -> None:
    wanted = checkpoint_settings(int(args.save_steps) or 1)
    if any(getattr(args, name) != value for name, value in wanted.items()):
        raise ValueError("No checkpoints to go on from would be written: add **checkpoint_settings(50) to the config.")


def _check_untrained(trainer) -> None:
    steps = max(trainer.state.global_step, getattr(trainer.model, "trained_steps", 0))
    if steps > 0:
        raise RuntimeError(
            f"This model has been trained for {steps} steps already, so step 0 would not be that of the model you "
            "loaded: run the cells that load the model and make the trainer again. (To train it further on purpose: "
            "trainer.train().)"
        )


def _check_same(checkpoint: Path, run: dict) -> None:
    """Raise ValueError, with all that differs, where the checkpoint is not of this run."""
    others = differences(_marks(checkpoint)["run"], run)
    if others:
        raise ValueError(
            f"{checkpoint} is of another run ({'; '.join(others)}). Set these as they were (for other weights: load the "
            "model that the run began with, and make the trainer again), give this run another output_dir, or remove the "
            "old checkpoints and start anew: resume_training(trainer, resume=False)."
        )


def _load_finished(trainer, checkpoint: Path) -> None:
    """Puts the result of a finished run into the trainer; the library itself would train one step too many."""
    load_weights(trainer, checkpoint)
    trainer.state = _state(checkpoint)
    _remove_old(checkpoint.parent, _step(checkpoint))
    handler = trainer.callback_handler
    handler.on_train_begin(trainer.args, trainer.state, trainer.control)  # for the progress line and its table
    handler.on_train_end(trainer.args, trainer.state, trainer.control)
    say("The run had reached its end when it was stopped: its model is loaded.")


def _stopped_within_a_step(trainer, folder: Path) -> str:
    """After KeyboardInterrupt, which may come between two weights: back to weights that belong together."""
    step, checkpoint = trainer.state.global_step, last_whole_checkpoint(folder)
    words = "There is no checkpoint yet, so load the model and make the trainer again to start anew."
    if checkpoint:
        load_weights(trainer, checkpoint)
        words = f"The model is back at step {_step(checkpoint)}. Run this cell again to go on from there."
    trainer.model.zero_grad()
    trainer.model.eval()
    return f"Interrupted after step {step} of {trainer.state.max_steps}. {words}"


def _steps_between(trainer) -> int:
    """GRPO samples for several steps at a time: how many optimiser steps there are from sampling to sampling."""
    parts = getattr(trainer.args, "steps_per_generation", None) or 1
    parts *= getattr(trainer.args, "num_iterations", 1)
    return parts // math.gcd(parts, trainer.args.gradient_accumulation_steps)


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoint folders of a run, in the order of their steps; files and links of such a name are none."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", path.name)]
    return sorted((path for path in found if path.is_dir() and not path.is_symlink()), key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _state(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / STATE))


def _is_ours(checkpoint: Path) -> bool:
    """Whether it was written, or begun, by `resume_training`: those of a plain `trainer.train()` are not touched."""
    return any(os.path.lexists(checkpoint / name) for name in (WHOLE, UNFINISHED))


def _begin_checkpoint(checkpoint: Path) -> None:
    if checkpoint.is_dir() and not checkpoint.is_symlink():
        _remove(checkpoint)
    elif os.path.lexists(checkpoint):  # somebody's own file: it must make room, but is not ours to remove
        stray = free_name(checkpoint.with_name(f"stray-{checkpoint.name}"))
        os.replace(checkpoint, stray)
        say(f"{checkpoint.name} in {checkpoint.parent} is no folder: it is called {stray.name} now.")
    checkpoint.mkdir(parents=True)
    (checkpoint / UNFINISHED).touch()


def _marks(checkpoint: Path) -> dict:
    """What `whole.json` says: the run's description and {file: (bytes, digest)}. ValueError, in words, if it does not."""
    try:
        marks = json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in marks["files"].items()}
        if STATE not in files:
            raise KeyError(STATE)
        return {"run": dict(marks["run"]), "files": files}
    except OSError:
        begun = (checkpoint / UNFINISHED).exists()
        raise ValueError("the run was stopped while it was written" if begun else f"it has no {WHOLE}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise ValueError(f"its {WHOLE} is not as it was written") from None


def _mark_whole(checkpoint: Path, description: dict) -> None:
    files = [path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != UNFINISHED]
    sizes = {path.relative_to(checkpoint).as_posix(): (path.stat().st_size, _digest(path)) for path in files}
    temporary = checkpoint / f"{WHOLE}.{UNFINISHED}"
    temporary.write_text(json.dumps({"run": description, "files": sizes}, indent=1), encoding="utf-8")
    os.replace(temporary, checkpoint / WHOLE)
    (checkpoint / UNFINISHED).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_old(folder: Path, step: int) -> None:
    """Leaves the last KEEP marked checkpoints up to `step`; those of a plain `trainer.train()` are not touched."""
    ours = [path for path in _checkpoints(folder) if _is_ours(path)]
    marked = [path for path in ours if (path / WHOLE).exists() and _step(path) <= step]
    for checkpoint in marked[:-KEEP] + [path for path in ours if path not in marked]:
        _remove(checkpoint)
    _remove_leftovers(folder)


def _remove_all(folder: Path) -> None:
    """Removes the marked checkpoints, the last one last: after a kill in between, it still says that the run is over."""
    for checkpoint in filter(_is_ours, _checkpoints(folder)):
        _remove(checkpoint)
    _remove_leftovers(folder)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob("removed-checkpoint-*"):
        remove(leftover)


def _remove(checkpoint: Path) -> None:
    """Moves it out of the way first, so that a kill leaves no checkpoint that lacks some of its files."""
    removed = free_name(checkpoint.with_name(f"removed-{checkpoint.name}"))
    os.replace(checkpoint, removed)
    remove(removed)


def _full_disk_words(trainer, folder: Path) -> str:
    kept = last_whole_checkpoint(folder)
    return (
        f"The disk is full: checkpoint {trainer.state.global_step} could not be written to {folder.resolve()} "
        f"({shutil.disk_usage(folder).free / 1e6:,.0f} MB free). Make room there, then call resume_training(trainer); "
        + (f"{kept.name} is whole, and it goes on from there." if kept else "there is no earlier checkpoint.")
    )
