"""Recorded runs that are too long for a lesson: `python -m factory.record` (or `make record`).

One so far: GRPO with the correct reward against GRPO with a random one, several seeds, the same settings and problems.
It is the control of lesson 04: a random reward must gain nothing. Writes `data/recorded/04_random_rewards.json`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

from factory import stages
from factory.build import ROOT
from helper import evaluate, load_course_dataset, load_model_and_tokenizer, load_suite, random_reward, reward_func

REWARDS: dict[str, Callable] = {"correct": reward_func, "random": random_reward}


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


def record_random_rewards(seeds: list[int], path: Path) -> None:
    """All runs, written after each one so that a stopped recording keeps what it has."""
    record = {"command": f"python -m factory.record --seeds {' '.join(map(str, seeds))}", "seeds": seeds, "rows": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for reward in REWARDS:
            record["rows"].append(one_run(reward, seed))
            print(record["rows"][-1], flush=True)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(record, indent=1) + "\n")
            os.replace(unfinished, path)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    record_random_rewards(parser.parse_args().seeds, ROOT / "data" / "recorded" / "04_random_rewards.json")


if __name__ == "__main__":
    main()
