"""The recorded runs of lesson 04: GRPO with the correct reward against GRPO with a random one, which must gain nothing.

The same settings and problems, several seeds. Others of the lesson's recordings: `pass_at_k.py`, and `reach.py`.
Left out on purpose: seconds and memory, which say more about the machine's load than about the reward.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from factory import stages
from factory.recordings.pass_at_k import record_pass_at_k
from factory.recordings.reach import record_controls, record_distance
from factory.recordings.rule_rewards import record_rule_rewards
from factory.recordings.safety_weight import record_safety_weight
from factory.recordings.shared import command, fresh, write
from factory.recordings.wider import record_wider
from helper import evaluate, load_course_dataset, load_model_and_tokenizer, load_suite, reward_func
from helper.rewards import random_reward

REWARDS: dict[str, Callable] = {"correct": reward_func, "random": random_reward}


def one_run(reward: str, seed: int) -> dict:
    """Train `sprout-instruct` with one reward and seed; accuracy on the held-out word problems before and after."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    problems, rows = load_course_dataset("sprout-maths").to_list(), load_suite("word_problems")
    room = stages.GRPO_SETTINGS["max_completion_length"]
    before = evaluate(model, tokenizer, rows, max_new_tokens=room)["right"]
    model = stages.train_grpo(model, tokenizer, problems, fresh("random_rewards"), seed, REWARDS[reward])
    after = evaluate(model, tokenizer, rows, max_new_tokens=room)["right"]
    return {
        "seed": seed, "reward": reward, "n": len(rows), "before": float(before.mean()), "after": float(after.mean()),
    }  # fmt: skip


def record_random_rewards(seeds: list[int], path: Path) -> None:
    """A run with the correct and one with the random reward for each seed."""
    record = {"command": command("random_rewards", seeds), "seeds": seeds, "rows": []}
    for seed in seeds:
        for reward in REWARDS:
            record["rows"].append(one_run(reward, seed))
            print(record["rows"][-1], flush=True)
            write(record, path)


RECORDINGS = {
    "random_rewards": (record_random_rewards, "04_random_rewards.json"),
    "pass_at_k": (record_pass_at_k, "04_pass_at_k.json"),
    "distance": (record_distance, "04_distance.json"),
}
SHOWN = {"word_problems": "RL: unseen word problems", "other_skills": "RL: all other skills"}
LONG = {  # recorded by name only
    "controls": (record_controls, "04_controls.json"),
    "rule_rewards": (record_rule_rewards, "04_rule_rewards.json"),
    "safety_weight": (record_safety_weight, "04_safety_weight.json"),
    "wider": (record_wider, "04_wider.json"),
}
