"""The recorded runs of lesson 05: GRPO of our own against the library's, one thing changed, and a model that never stops.

The warm-up, the settings and the score stand in `tagged_runs.py` beside this file, the last two in `grpo_ablations.py` and
`never_stops.py`.
Left out on purpose: a search over settings.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from factory.recordings.grpo_ablations import record_grpo_ablations
from factory.recordings.never_stops import record_never_stops
from factory.recordings.shared import command, curve, fresh, write
from factory.recordings.tagged_runs import GRPO, LONGEST, REWARDS, own_run, plain, summary, verdicts, warmed_up
from factory.stages import quiet_settings
from helper import skip_masked_positions


def library_run(seed: int) -> dict:
    """The lesson's training with the library's trainer: as many samples, the same settings."""
    model, tokenizer, rows, before = warmed_up(seed)
    size = GRPO["prompts_per_step"] * GRPO["group_size"]
    args = GRPOConfig(
        learning_rate=GRPO["learning_rate"], max_steps=GRPO["steps"], per_device_train_batch_size=12,
        gradient_accumulation_steps=size // 12, num_generations=GRPO["group_size"], lr_scheduler_type="constant",
        max_completion_length=LONGEST, temperature=GRPO["temperature"], beta=0.0, loss_type="dr_grpo",
        scale_rewards="none", logging_steps=1, **quiet_settings(fresh("library"), seed),
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=REWARDS, args=args, processing_class=tokenizer, train_dataset=Dataset.from_list(rows)
    )
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    with skip_masked_positions():
        trainer.train()
    seconds, log = time.perf_counter() - start, [row for row in trainer.state.log_history if "reward" in row]
    tokens = sum(float(row["completions/mean_length"]) * size for row in log)
    model.eval()
    rewards = curve(row["reward"] for row in log)
    return summary(before, verdicts(model, tokenizer), seconds, round(tokens)) | {"reward": rewards}


def record_grpo_from_scratch(seeds: list[int], path: Path) -> None:
    """Our own loop's run and the library's for each seed."""
    record = {
        "command": command("grpo_from_scratch", seeds), "settings": plain(GRPO), "threads": torch.get_num_threads(),
        "runs": [],
    }  # fmt: skip
    for seed in seeds:
        for loop, run in (("ours", lambda seed: own_run(seed)[0]), ("library", library_run)):
            record["runs"].append({"loop": loop, "seed": seed, **run(seed)})
            print({**record["runs"][-1], "reward": "..."}, flush=True)
            write(record, path)


RECORDINGS = {
    "grpo_from_scratch": (record_grpo_from_scratch, "05_grpo_from_scratch.json"),
    "grpo_ablations": (record_grpo_ablations, "05_grpo_ablations.json"),
    "never_stops": (record_never_stops, "05_never_stops.json"),
}
SHOWN = {"right_in_tags": "GRPO: word problems, in tags"}
