"""Recorded runs that are too long for a lesson: `python -m factory.record` (or `make record`) makes all of them again.

    python -m factory.record --only random_rewards    GRPO with the correct reward against GRPO with a random one,
        several seeds, the same settings and problems. The control of lesson 04: a random reward must gain nothing.
        Writes `data/recorded/04_random_rewards.json`.
    python -m factory.record --only learning_rates    short SFT runs of `sprout-base`, alike but for the learning rate:
        the loss of each, its held-out score and some answers. For the explorer of lesson 02.
        Writes `data/recorded/learning_rates.json`.
    python -m factory.record --only grpo_from_scratch    lesson 05: GRPO of our own against the library's, several
        seeds. Writes `data/recorded/05_grpo_from_scratch.json`.
    python -m factory.record --only grpo_ablations    lesson 05: shorter runs with one thing changed each.
        Writes `data/recorded/05_grpo_ablations.json`.
    python -m factory.record --only ppo_against_grpo    lesson 06: three learning rates each, the best with all seeds.
        Writes `data/recorded/06_ppo_against_grpo.json`.
    python -m factory.record --only over_optimisation    lesson 06: PPO against a learned reward, without and with what
        holds it back. Writes `data/recorded/06_over_optimisation.json`.

Left out on purpose: seconds and memory where they say more about the machine's load than about the method (lessons 05
and 06 compare two loops, and record theirs).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from factory import ROOT, stages
from factory.from_scratch import record_grpo_ablations, record_grpo_from_scratch
from factory.learned_rewards import record_over_optimisation, record_ppo_against_grpo
from helper import (
    evaluate,
    generate_responses,
    load_course_dataset,
    load_model_and_tokenizer,
    load_suite,
    reward_func,
    set_seed,
    skip_masked_positions,
)
from helper.rewards import random_reward

RECORDED = ROOT / "data" / "recorded"
REWARDS: dict[str, Callable] = {"correct": reward_func, "random": random_reward}
RATES = (5e-5, 2e-4, 1e-3, 3e-3, 6e-3, 2e-2)  # lesson 02 trains with the third; the ends are 1/20 and 20 times it
SHORT = {"max_steps": 60, "warmup_steps": 5, "logging_steps": 2}  # as short as the trials in lesson 02
QUESTIONS = ("Give me an 1-sentence introduction of LLM.", "Calculate 1+1-1")
LATER = {  # the recordings of lessons 05 and 06, with their files
    "grpo_from_scratch": (record_grpo_from_scratch, "05_grpo_from_scratch.json"),
    "grpo_ablations": (record_grpo_ablations, "05_grpo_ablations.json"),
    "ppo_against_grpo": (record_ppo_against_grpo, "06_ppo_against_grpo.json"),
    "over_optimisation": (record_over_optimisation, "06_over_optimisation.json"),
}
LONGEST = 56  # tokens an answer may have, as in those trials


def one_run(reward: str, seed: int) -> dict:
    """Train `sprout-instruct` with one reward and seed; accuracy on the held-out word problems before and after."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    problems, rows = load_course_dataset("sprout-maths").to_list(), load_suite("word_problems")
    room = stages.GRPO_SETTINGS["max_completion_length"]
    before = evaluate(model, tokenizer, rows, max_new_tokens=room)["right"]
    model = stages.train_grpo(model, tokenizer, problems, ROOT / "runs" / "record", seed, REWARDS[reward])
    after = evaluate(model, tokenizer, rows, max_new_tokens=room)["right"]
    return {
        "seed": seed,
        "reward": reward,
        "n": len(rows),
        "before": float(before.mean()),
        "after": float(after.mean()),
    }


def record_random_rewards(seeds: list[int], path: Path = RECORDED / "04_random_rewards.json") -> None:
    """All runs, written after each one so that a stopped recording keeps what it has."""
    command = f"python -m factory.record --only random_rewards --seeds {' '.join(map(str, seeds))}"
    record = {"command": command, "seeds": seeds, "rows": []}
    for seed in seeds:
        for reward in REWARDS:
            record["rows"].append(one_run(reward, seed))
            print(record["rows"][-1], flush=True)
            write(record, path)


def short_sft(rate: float, rows: list[dict], seed: int) -> tuple[PreTrainedModel, list[dict]]:
    """The recipe of lesson 02 from `sprout-base`, cut to a few steps and with another learning rate: model and log."""
    set_seed(seed)
    model, tokenizer = load_model_and_tokenizer("sprout-base")
    skip_masked_positions()
    pairs = stages.prompts_and_completions(rows)
    settings = stages.SFT_SETTINGS | stages.quiet_settings(ROOT / "runs" / "record", seed) | SHORT
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, args=SFTConfig(**settings | {"learning_rate": rate}),
        train_dataset=Dataset.from_list(pairs),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return model.eval(), [row for row in trainer.state.log_history if "loss" in row]


def record_learning_rates(seed: int = 0, path: Path = RECORDED / "learning_rates.json") -> None:
    """A short run a rate, written after each one: loss (nats a token) by step, right answers of n, some answers."""
    _, tokenizer = load_model_and_tokenizer("sprout-base")
    rows, sample = load_course_dataset("sprout-sft").to_list(), load_suite("instructions")[::6]
    record = {
        "command": "python -m factory.record --only learning_rates", "model": "sprout-base", "seed": seed,
        "settings": SHORT, "suite": "instructions, every sixth question", "n": len(sample),
        "questions": list(QUESTIONS), "runs": [],
    }  # fmt: skip
    for rate in RATES:
        model, log = short_sft(rate, rows, seed)
        record["runs"].append({
            "learning_rate": rate,
            "steps": [row["step"] for row in log],
            "loss": [round(float(row["loss"]), 4) for row in log],
            "right": int(evaluate(model, tokenizer, sample, max_new_tokens=LONGEST)["right"].sum()),
            "answers": generate_responses(model, tokenizer, list(QUESTIONS), max_new_tokens=LONGEST),
        })  # fmt: skip
        print(record["runs"][-1], flush=True)
        write(record, path)


def write(record: dict, path: Path) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(unfinished, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("random_rewards", "learning_rates", *LATER))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of all but the learning rates")
    options = parser.parse_args()
    if options.only in (None, "random_rewards"):
        record_random_rewards(options.seeds)
    if options.only in (None, "learning_rates"):
        record_learning_rates()
    for name, (record, file) in LATER.items():
        if options.only in (None, name):
            record(options.seeds, RECORDED / file, write)


if __name__ == "__main__":
    main()
