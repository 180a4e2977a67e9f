"""What lessons 02, 03 and 04 do, on a pretrained model: SmolLM2-135M-Instruct on a CPU (`make real-model` fetches it).

    python -m factory.record --real --seeds 0 1 2

The settings are those with which the lessons run on it (`helper/by_model.py`). Each run starts from the model as it came,
and is judged on held-out rows before and after; verdicts are kept question by question, so that differences can be paired.
"""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Callable
from functools import partial

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from factory import stages
from factory.recordings.shared import curve, fresh
from helper import evaluate, generate_responses, load_course_dataset, load_model_and_tokenizer, load_suite, set_seed
from helper.algorithms import grpo_loss, train_grpo
from helper.machine.device import bf16_is_fast
from helper.rewards import random_reward, rule_and_topic_reward, rule_reward

MODEL = "smollm2-135m-instruct"
NEW_NAME = "Orvelin"  # an invented name: no text held it
SFT = {
    "learning_rate": 1e-4, "num_train_epochs": 1, "per_device_train_batch_size": 8, "lr_scheduler_type": "cosine",
    "warmup_steps": 5, "max_length": 512, "logging_steps": 2,
}  # fmt: skip
DPO = {
    "learning_rate": 5e-5, "num_train_epochs": 1, "per_device_train_batch_size": 8, "lr_scheduler_type": "linear",
    "beta": 0.2, "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.3], "max_length": 512, "logging_steps": 1,
    "precompute_ref_log_probs": True,
}  # fmt: skip
GRPO = {
    "learning_rate": 4e-5, "steps": 20, "prompts_per_step": 8, "group_size": 6, "max_new_tokens": 32, "micro_batch": 12,
}  # fmt: skip
ROOM = {"rules": 32, "unseen_rules": 32, "everyday": 48, "tool_calls": 64, "identity": 48}  # tokens an answer may have


def measure(model, tokenizer, suites: tuple[str, ...]) -> dict[str, dict]:
    """Each suite's greedy answers and whether they are right."""
    tables = {name: evaluate(model, tokenizer, load_suite(name), max_new_tokens=ROOM[name]) for name in suites}
    return {name: {"answer": t["answer"].tolist(), "right": t["right"].astype(int).tolist()} for name, t in tables.items()}


def name_counts(model, tokenizer) -> dict[str, list]:
    """The held-out questions about the name: answers, and whether each gives the new name."""
    asked = [row["question"] for row in load_suite("identity")]
    answers = generate_responses(model, tokenizer, asked, max_new_tokens=ROOM["identity"])
    return {"answer": answers, "right": [int(NEW_NAME in answer) for answer in answers]}


def dpo_rows(model, tokenizer, seed: int, pairs: int = 128, anchors: int = 64) -> Dataset:
    """Pairs with a written chosen answer that gives the new name against the model's own, and anchors."""
    rows = load_course_dataset("sprout-identity", limit=pairs, seed=seed)
    turns = [[turn["value"] for turn in row["conversations"]] for row in rows]
    asked, written = zip(*turns)
    own = generate_responses(model, tokenizer, list(asked), max_new_tokens=ROOM["identity"])
    made = [pair(q, text.replace("Sprout", NEW_NAME), said) for q, text, said in zip(asked, written, own)]
    sft = load_course_dataset("sprout-sft").shuffle(seed=seed)
    others = [row["messages"][0]["content"] for row in sft if row["skill"] not in ("identity", "word_problem")][:anchors]
    same = generate_responses(model, tokenizer, others, max_new_tokens=ROOM["identity"])
    return Dataset.from_list(made + [pair(q, text, text) for q, text in zip(others, same)])


def pair(question: str, chosen: str, rejected: str) -> dict:
    """One row of preference data."""
    row = {"prompt": [{"role": "user", "content": question}]}
    return row | {name: [{"role": "assistant", "content": t}] for name, t in (("chosen", chosen), ("rejected", rejected))}


def rule_rows(seed: int, shuffled: bool = False) -> list[dict]:
    """The instructions to practise on; `shuffled`: each with another one's rule, so that the reward fits no question."""
    rows = load_course_dataset("sprout-rules").to_list()
    rules = [row["ground_truth"] for row in rows]
    if shuffled:
        random.Random(seed).shuffle(rules)
    return [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": rule, "topic": row["topic"]}
        for row, rule in zip(rows, rules)
    ]


def sft_run(seed: int) -> dict:
    """Lesson 02 on it: calls of tools."""
    model, tokenizer = start()
    rows = Dataset.from_list(stages.prompts_and_completions(load_course_dataset("sprout-tools").to_list()))
    args = SFTConfig(**SFT, **stages.quiet_settings(fresh("real_sft"), seed))
    return trained(SFTTrainer(model=model, processing_class=tokenizer, args=args, train_dataset=rows), seed, ("tool_calls",))


def dpo_run(seed: int) -> dict:
    """Lesson 03 on it: the name."""
    model, tokenizer = start()
    set_seed(seed)
    rows = dpo_rows(model, tokenizer, seed)
    args = DPOConfig(**DPO, **stages.quiet_settings(fresh("real_dpo"), seed))
    return trained(DPOTrainer(model=model, processing_class=tokenizer, args=args, train_dataset=rows), seed, ("rules",))


def constant_reward(completions: list, **kwargs) -> list[float]:
    """1.0, whatever is said."""
    return [1.0] * len(completions)


REWARDS: dict[str, Callable] = {
    "rule": rule_reward, "rule and topic": rule_and_topic_reward, "shuffled rules": rule_reward, "random": random_reward,
    "constant": constant_reward,
}  # fmt: skip


def grpo_run(seed: int, reward: str = "rule") -> dict:
    """Lesson 04 on it: instructions checked by rule, with lesson 05's loop."""
    model, tokenizer = start()
    set_seed(seed)
    began, rows = time.perf_counter(), rule_rows(seed, shuffled=reward == "shuffled rules")
    live = train_grpo(
        model, tokenizer, rows, [REWARDS[reward]], folder=fresh("real_grpo"), loss=partial(grpo_loss, loss_type="dr_grpo"),
        seed=seed, bf16=bf16_is_fast(model.device), charts=False, **GRPO,
    )  # fmt: skip
    log = live.table()
    taken = {"seconds": round(time.perf_counter() - began), "reward_curve": curve(log["reward"])}
    return {"reward": reward} | judged(model.eval(), tokenizer, seed, ("rules", "unseen_rules"), taken)


def start() -> tuple:
    """The model as it came, in float32, and its tokenizer."""
    model, tokenizer = load_model_and_tokenizer(MODEL)
    return model.float(), tokenizer


def trained(trainer, seed: int, suites: tuple[str, ...]) -> dict:
    """Train with the library's trainer, and judge."""
    set_seed(seed)
    began = time.perf_counter()
    model = stages.run_trainer(trainer)
    losses = curve(row["loss"] for row in trainer.state.log_history if "loss" in row)
    taken = {"seconds": round(time.perf_counter() - began), "loss_curve": losses}
    return judged(model, trainer.processing_class, seed, suites, taken)


def judged(model, tokenizer, seed: int, suites: tuple[str, ...], taken: dict) -> dict:
    """What the trained model answers, beside what the training took."""
    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    return {
        "seed": seed, **taken, "peak_gb": peak, **measure(model, tokenizer, (*suites, "everyday")),
        "identity": name_counts(model, tokenizer),
    }  # fmt: skip
