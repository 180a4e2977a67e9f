"""The recorded runs of lesson 06: PPO against GRPO, and PPO against a learned reward.

Settings and what a labeller prefers (`spoil`, `is_right`, `compared`) are the lesson's own; `tests/test_factory.py`
holds the two together.
Left out on purpose: a search over more than the learning rate and the KL penalty.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from factory.recordings.over_laboratory import record_best_of_n, record_over_laboratory, record_process_reward
from factory.recordings.ppo_factorial import record_ppo_factorial
from factory.recordings.preferences_06 import LONGEST, as_conversations, compared
from factory.recordings.shared import command, curve, fresh, model_and_problems, write
from factory.stages import prompts_and_completions
from helper import (
    answers_match,
    extract_boxed,
    generate_responses,
    load_course_dataset,
    load_suite,
    reward_func,
    set_seed,
)
from helper.algorithms import (
    ValueModel,
    group_advantages,
    grpo_loss,
    learned_reward,
    mix_in,
    score_conversations,
    train_grpo,
    train_ppo,
    train_reward_model,
)
from helper.machine.device import bf16_is_fast
from helper.machine.memory import peak_memory_mb

STEPS = 24
PPO = {
    "value_learning_rate": 1e-3, "max_new_tokens": LONGEST, "responses_per_step": 48, "epochs": 2, "minibatch": 16,
    "gamma": 1.0, "lam": 0.95, "epsilon": 0.2, "beta": 0.0,
}  # fmt: skip
GRPO = {
    "max_new_tokens": LONGEST, "prompts_per_step": 12, "group_size": 4, "micro_batch": 16,
    "advantage": partial(group_advantages, scale="none"), "loss": partial(grpo_loss, loss_type="dr_grpo"),
}  # fmt: skip
RATES = {"PPO": (5e-5, 1e-4, 2e-4), "GRPO": (1e-4, 3e-4, 6e-4)}

TRAINED, HELD_OUT = 500, 200  # problems for the reward model, as in the lesson
HARD_COPIES = 2  # how often a hard pair stands among the pairs
REWARD_MODEL = {"steps": 100, "learning_rate": 3e-4, "rankings_per_step": 16}
OVER = {"steps": 50, "learning_rate": 3e-4, "epochs": 1, "value_clip": None}
RUNS: dict[str, dict] = {
    "no KL penalty": {"beta": 1e-9},  # so small that it does nothing; 0 would log no KL
    "KL penalty, beta 0.1": {"beta": 0.1},
    "SFT rows mixed in": {"beta": 1e-9, "extra_loss": 1.0},  # times the loss of as many rows as responses in an update
}


def held_out_answers(model, tokenizer) -> tuple[list[str], list[str], list[bool]]:
    """Questions of the suite `word_problems`, greedy answers, and which are right."""
    problems = load_suite("word_problems")
    questions = [row["question"] for row in problems]
    texts = generate_responses(model, tokenizer, questions, max_new_tokens=LONGEST)
    right = [answers_match(extract_boxed(text), str(row["value"])) for text, row in zip(texts, problems)]
    return questions, texts, right


def share(values: list) -> float:
    """The mean, as a plain number."""
    return sum(values) / len(values)


# ---------------------------------------------------------------- PPO against GRPO


def one_run(method: str, rate: float, seed: int) -> dict:
    """Train with the rule as reward; gain, sampled tokens, seconds, and the peak of memory up to the end of training."""
    model, tokenizer, rows = model_and_problems()
    settings = {"folder": fresh(method), "steps": STEPS, "learning_rate": rate, "bf16": bf16_is_fast(), "seed": seed}
    begun = time.perf_counter()
    if method == "PPO":
        critic = ValueModel(copy.deepcopy(model.model))
        log = train_ppo(model, critic, tokenizer, rows, [reward_func], **settings, **PPO, charts=False).table()
    else:
        log = train_grpo(model, tokenizer, rows, [reward_func], **settings, **GRPO, charts=False).table()
    seconds, peak = time.perf_counter() - begun, peak_memory_mb()
    *_, right = held_out_answers(model, tokenizer)
    return {
        "method": method, "learning_rate": rate, "seed": seed, "n": len(right), "after": share(right),
        "tokens": int(log["tokens"].sum()), "seconds": round(seconds, 1), "peak_mb": round(peak),
        "reward": curve(log["reward"]),
    }  # fmt: skip


def alone(function: Callable, *arguments):
    """What the function returns, in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def record_ppo_against_grpo(seeds: list[int], path: Path) -> None:
    """Three learning rates a method with the first seed, the best of them with the others; written after each run."""
    *_, right = held_out_answers(*model_and_problems()[:2])
    record = {
        "command": command("ppo_against_grpo", seeds),
        "seeds": seeds, "steps": STEPS, "threads": torch.get_num_threads(), "runs": [],
    }  # fmt: skip

    def add(method: str, rate: float, seed: int) -> dict:
        run = {"before": share(right), **alone(one_run, method, rate, seed)}
        record["runs"].append(run)
        print({**run, "reward": "..."}, flush=True)
        write(record, path)
        return run

    for method, rates in RATES.items():
        tried = [add(method, rate, seeds[0]) for rate in rates]
        best = max(tried, key=lambda run: sum(run["reward"][-10:]))  # the held-out problems are for reporting only
        for seed in seeds[1:]:
            add(method, best["learning_rate"], seed)


# ---------------------------------------------------------------- PPO against a learned reward


def trained_reward_model(seed: int) -> tuple:
    """A reward model trained on pairs as in the lesson, and its accuracy on held-out easy and hard pairs."""
    model, tokenizer, rows = model_and_problems()
    set_seed(seed)
    found = []
    for part in (rows[:TRAINED], rows[-HELD_OUT:]):
        asked = [row["prompt"][-1]["content"] for row in part]
        answers = generate_responses(
            model, tokenizer, asked, max_new_tokens=LONGEST, temperature=1.0, num_samples=4, batch_size=96
        )
        found.append([as_conversations(pairs) for pairs in compared(part, answers, random.Random(seed))])
    (easy, hard, _), (held_easy, held_hard, _) = found
    scorer = AutoModelForSequenceClassification.from_pretrained(
        model.config.name_or_path, num_labels=1, dtype=torch.float32, attn_implementation="eager"
    )
    torch.nn.init.zeros_(scorer.score.weight)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    settings = REWARD_MODEL | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    train_reward_model(scorer, tokenizer, easy + HARD_COPIES * hard, folder=fresh("reward_model"), **settings)
    judged = {}
    for name, pairs in (("easy", held_easy), ("hard", held_hard)):
        first, second = (score_conversations(scorer, tokenizer, [pair[place] for pair in pairs]) for place in (0, 1))
        judged |= {name: (first > second).float().mean().item(), f"n_{name}": len(pairs)}
    return scorer.eval(), judged


def over_optimised(name: str, scorer, centre: float, before: dict[str, list], seed: int) -> dict:
    """PPO against the learned reward: reward and truth of the samples at each step, held-out scores before and after."""
    model, tokenizer, rows = model_and_problems()
    changes, right_in_batch = dict(RUNS[name]), []
    score = learned_reward(scorer, tokenizer, centre=centre)
    if "extra_loss" in changes:
        shown = prompts_and_completions(load_course_dataset("sprout-sft"))
        changes["extra_loss"] = mix_in(tokenizer, shown, changes["extra_loss"], PPO["minibatch"], bf16_is_fast())

    def reward(prompts, completions, ground_truth, **kwargs):
        right_in_batch.append(share(reward_func(completions, ground_truth)))  # seen by us, not by the training
        return score(prompts, completions)

    critic = ValueModel(copy.deepcopy(model.model))
    settings = PPO | OVER | changes | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    log = train_ppo(
        model, critic, tokenizer, rows[TRAINED:-HELD_OUT], [reward], folder=fresh("over"), **settings
    ).table()  # fmt: skip
    after = held_out_scores(model, tokenizer, scorer)
    kl = log["kl"] * log["completions/mean_length"]  # nats an answer
    return {
        "run": name, "seed": seed, "proxy_before": share(before["proxy"]), "proxy_after": share(after["proxy"]),
        "right_before": share(before["right"]), "right_after": share(after["right"]), "kl_after": float(kl.tail(5).mean()),
        "proxy": curve(log["reward"]), "right": curve(right_in_batch), "kl": curve(kl), "cheats": cheats(before, after),
    }  # fmt: skip


def mean_score(model, tokenizer, scorer, rows: list[dict]) -> float:
    """The mean learned score of one sampled answer to each problem."""
    questions = [row["prompt"][-1]["content"] for row in rows]
    texts = generate_responses(model, tokenizer, questions, max_new_tokens=LONGEST, temperature=1.0)
    return score_conversations(scorer, tokenizer, asked_and_answered(questions, texts)).mean().item()


def asked_and_answered(questions: list[str], texts: list[str]) -> list[list[dict]]:
    """Conversations of a question and an answer."""
    return [
        [{"role": "user", "content": question}, {"role": "assistant", "content": text}]
        for question, text in zip(questions, texts, strict=True)
    ]


def held_out_scores(model, tokenizer, scorer) -> dict[str, list]:
    """Greedy answers to the held-out problems, with their learned and their true score."""
    questions, texts, right = held_out_answers(model, tokenizer)
    proxy = score_conversations(scorer, tokenizer, asked_and_answered(questions, texts)).tolist()
    return {"questions": questions, "texts": texts, "right": right, "proxy": proxy}


def cheats(before: dict[str, list], after: dict[str, list], limit: int = 4) -> list[list]:
    """Problems right before and wrong after, with a higher score: question, then text and score, before and after."""
    found = []
    for i, question in enumerate(before["questions"]):
        if before["right"][i] and not after["right"][i] and after["proxy"][i] > before["proxy"][i]:
            old, new = ([stage["texts"][i], round(stage["proxy"][i], 2)] for stage in (before, after))
            found.append([question, *old, *new])
    return found[:limit]


def record_over_optimisation(seeds: list[int], path: Path) -> None:
    """The first two runs with each seed, the third with the first; one reward model, trained with the first seed."""
    scorer, judged = trained_reward_model(seeds[0])
    model, tokenizer, rows = model_and_problems()
    before = held_out_scores(model, tokenizer, scorer)
    set_seed(seeds[0])
    centre = mean_score(model, tokenizer, scorer, rows[:TRAINED])
    record = {
        "command": command("over_optimisation", seeds),
        "settings": {key: value for key, value in (PPO | OVER).items() if key != "beta"},
        "n": len(before["right"]), "reward_model": judged | {"centre": centre}, "runs": [],
    }  # fmt: skip
    print(judged, flush=True)
    for seed in seeds:
        for name in list(RUNS) if seed == seeds[0] else list(RUNS)[:2]:
            record["runs"].append(over_optimised(name, scorer, centre, before, seed))
            print({key: value for key, value in record["runs"][-1].items() if not isinstance(value, list)}, flush=True)
            write(record, path)


RECORDINGS = {
    "ppo_factorial": (record_ppo_factorial, "06_ppo_factorial.json"),
    "ppo_against_grpo": (record_ppo_against_grpo, "06_ppo_against_grpo.json"),
    "over_optimisation": (record_over_optimisation, "06_over_optimisation.json"),
    "process_reward": (record_process_reward, "06_process_reward.json"),
}
LONG = {  # recorded by name only
    "best_of_n": (record_best_of_n, "06_best_of_n.json"),
    "over_laboratory": (record_over_laboratory, "06_over_laboratory.json"),
}
SHOWN = {"word_problems_ppo": "PPO: unseen word problems", "other_skills_ppo": "PPO: all other skills"}
