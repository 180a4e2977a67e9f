"""The recorded runs of lesson 10: recipes on one process and on two, GRPO on answers of an older model, and three trackers.

10_two_processes.json
    command, seeds
    runs       rows {"recipe", "program" ("" for the library's own), "processes", "loss", "grad_norm", "num_tokens",
               for GRPO "reward": a number for each step, "seconds"}
10_staleness.json: `factory/recordings/staleness.py`
    command, seeds, threads, settings, arms, before, runs, as in 08_expert_iteration.json; runs also "samples",
               "reward", "apart": a number for each step
10_tracking.json: `factory/recordings/tracking.py`

Left out on purpose: more than two processes; GPUs.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import once, resumed
from factory.recordings.shared import command
from factory.recordings.staleness import record_staleness
from factory.recordings.tracking import record_tracking
from helper.recipes import check_recipe, run_recipe

BY_ROW = "recipes/grpo_by_row.py"
PAIRS = (("sft", ""), ("dpo", ""), ("grpo", ""), ("grpo", BY_ROW))
COLUMNS = ("loss", "grad_norm", "num_tokens", "reward")


def numbers_of(recipe: str, program: str, processes: int) -> dict:
    """What a run logs, step by step; each of the processes takes its part of the recipe's batch."""
    path = f"recipes/{recipe}.yaml"
    rows = check_recipe(path)["per_device_train_batch_size"] // processes
    log = run_recipe(path, processes, program, per_device_train_batch_size=rows)
    return {name: log.column(name) for name in COLUMNS if name in log.log[0]}


def record_two_processes(seeds: list[int], path: Path) -> dict:
    """Each recipe on one process and on two: losses, gradient norms, tokens, rewards. The recipes have one seed."""
    record = resumed(path, {"command": command("two_processes", seeds[:1]), "seeds": seeds[:1]})
    for recipe, program in PAIRS:
        for processes in (1, 2):
            about = {"recipe": recipe, "program": program, "processes": processes}
            once(record, path, "runs", about, partial(numbers_of, *about.values()))
    return record


RECORDINGS: dict = {"two_processes": (record_two_processes, "10_two_processes.json")}
LONG = {  # recorded by name only: hours, and what takes packages that the course does not have
    "staleness": (record_staleness, "10_staleness.json"),
    "tracking": (record_tracking, "10_tracking.json"),
}
