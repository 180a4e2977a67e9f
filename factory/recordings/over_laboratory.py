"""The recorded runs of lesson 06 on learned rewards: best of n, PPO by β and by the reward model's data, cures, steps.

Gold is the rule (right or wrong), proxy the learned score; both are read on the same answers. Settings and what a
labeller prefers are those of `lesson_06`. Every record is written after each run, and what is there is not run again.
Left out on purpose: reward models of other sizes than Sprout's, people, other β with the least and the most data.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification

from factory.recordings.preferences_06 import LONGEST, as_conversations, compared, is_right
from factory.recordings.shared import command, curve, fresh, model_and_problems, write
from helper import answers_match, extract_boxed, generate_responses, load_suite, reward_func, set_seed
from helper.algorithms import (
    ValueModel,
    learned_process_reward,
    learned_reward,
    score_conversations,
    step_labels,
    steps_of,
    train_grpo,
    train_ppo,
    train_process_reward_model,
    train_reward_model,
)
from helper.algorithms.policy_gradient import group_advantages, grpo_loss
from helper.machine.device import bf16_is_fast
from helper.recorded import as_digits

SIZES = (40, 160, 640)  # problems that the reward model's pairs are made from
REWARD_MODEL = {"steps": 60, "learning_rate": 3e-4, "rankings_per_step": 8}
BEST_OF, PROBLEMS = 16, 100  # answers to each of so many held-out problems
BETAS = (0.0, 0.01, 0.03, 0.1, 0.3)
PPO = {
    "steps": 32, "learning_rate": 3e-4, "value_learning_rate": 1e-3, "max_new_tokens": LONGEST, "responses_per_step": 48,
    "epochs": 1, "minibatch": 16, "gamma": 1.0, "lam": 0.95, "epsilon": 0.2, "value_clip": None,
}  # fmt: skip
LENGTH_PRICE = 0.02  # taken off for each word of an answer, in the cure "length control"
CURES = ("ensemble minimum", "retrained on the cheater", "length control")
STEPS_REWARD = {"steps": 60, "learning_rate": 3e-4, "conversations_per_step": 16}
STEPS_PROBLEMS, HELD_OUT = 300, 200
GRPO = {"steps": 16, "learning_rate": 3e-4, "max_new_tokens": LONGEST, "prompts_per_step": 12, "group_size": 4}


def opened(path: Path, name: str, seeds: list[int], settings: dict) -> dict:
    """The record at `path` if it has these settings, else an empty one."""
    record = {"command": command(name, seeds), "settings": settings, "threads": torch.get_num_threads(), "runs": []}
    there = json.loads(path.read_text()) if path.exists() else {}
    return there | {"command": record["command"]} if there.get("settings") == settings else record


def asked_and_answered(questions: list[str], texts: list[str]) -> list[list[dict]]:
    """Conversations of a question and an answer."""
    pairs = zip(questions, texts, strict=True)
    return [[{"role": "user", "content": asked}, {"role": "assistant", "content": text}] for asked, text in pairs]


def new_scorer(model, tokenizer) -> torch.nn.Module:
    """The instruct model with one number on top, which begins at 0."""
    scorer = AutoModelForSequenceClassification.from_pretrained(
        model.config.name_or_path, num_labels=1, dtype=torch.float32, attn_implementation="eager"
    )
    torch.nn.init.zeros_(scorer.score.weight)
    scorer.config.pad_token_id = tokenizer.pad_token_id
    return scorer


@cache
def answers_to_rows(seed: int, number: int) -> list[list[str]]:
    """Four sampled answers to each of the first `number` problems."""
    model, tokenizer, rows = model_and_problems()
    set_seed(seed)
    asked = [row["prompt"][-1]["content"] for row in rows[:number]]
    return generate_responses(
        model, tokenizer, asked, max_new_tokens=LONGEST, temperature=1.0, num_samples=4, batch_size=96
    )  # fmt: skip


@cache
def reward_model(size: int, seed: int, more: tuple = ()) -> torch.nn.Module:
    """A reward model trained on the pairs of `size` problems; `more`: further pairs, as (question, better, worse)."""
    model, tokenizer, rows = model_and_problems()
    easy, hard, _ = map(as_conversations, compared(rows[:size], answers_to_rows(seed, size), random.Random(seed)))
    further = [asked_and_answered([asked, asked], [good, bad]) for asked, good, bad in more]
    scorer, settings = new_scorer(model, tokenizer), REWARD_MODEL | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    train_reward_model(scorer, tokenizer, easy + 2 * hard + 2 * further, folder=fresh(f"scorer_{size}"), **settings)
    return scorer.eval()


# Best of n


def record_best_of_n(seeds: list[int], path: Path) -> None:
    """Best of n by a reward model of each size of data: the same sampled answers, their gold and proxy; a run a seed."""
    settings = {"sizes": SIZES, "answers": BEST_OF, "problems": PROBLEMS, "reward_model": REWARD_MODEL, "longest": LONGEST}
    record = opened(path, "best_of_n", seeds, json.loads(json.dumps(settings)))
    done = {run["seed"] for run in record["runs"]}
    for seed in seeds:
        if seed in done:
            continue
        begun = time.process_time()
        model, tokenizer, _ = model_and_problems()
        problems = load_suite("word_problems")[:PROBLEMS]
        questions, sampling = [row["question"] for row in problems for _ in range(BEST_OF)], {"num_samples": BEST_OF}
        sampling |= {"max_new_tokens": LONGEST, "temperature": 1.0, "batch_size": 96}
        set_seed(1000 + seed)
        found = generate_responses(model, tokenizer, questions[::BEST_OF], **sampling)
        texts = [text for answers in found for text in answers]
        values = [str(row["value"]) for row in problems for _ in range(BEST_OF)]
        gold = [int(answers_match(extract_boxed(text), value)) for text, value in zip(texts, values)]
        run = {"seed": seed, "gold": "".join(map(str, gold)), "words": [len(text.split()) for text in texts], "proxy": {}}
        for size in SIZES:
            scores = score_conversations(reward_model(size, seed), tokenizer, asked_and_answered(questions, texts))
            run["proxy"][str(size)] = curve(scores)
        record["runs"].append(run | {"cpu_seconds": round(time.process_time() - begun)})
        print("best of n", seed, sum(gold) / len(gold), flush=True)
        write(record, path)


# PPO by β and by data, and cures


def arms() -> list[tuple[str, float, int]]:
    """(cure or "", β, problems of the reward model's data): every β with the middle size, every size and cure at β = 0."""
    least, middle, most = SIZES
    cured = [(cure, 0.0, middle) for cure in CURES]
    return [("", beta, middle) for beta in BETAS] + [("", 0.0, size) for size in (least, most)] + cured


def proxy_of(cure: str, size: int, seed: int, more: tuple = ()) -> Callable:
    """The learned reward of an arm, less nothing: (prompts, completions) -> scores."""
    _, tokenizer, _ = model_and_problems()
    first = learned_reward(reward_model(size, seed, more), tokenizer)
    if cure == "ensemble minimum":
        others = [first, *(learned_reward(reward_model(size, seed + 10 * i), tokenizer) for i in (1, 2))]
        return lambda prompts, completions: [min(each) for each in zip(*(one(prompts, completions) for one in others))]
    if cure == "length control":
        return lambda prompts, completions: [
            score - LENGTH_PRICE * len(completion[-1]["content"].split())
            for score, completion in zip(first(prompts, completions), completions)
        ]
    return first


def cheater_pairs(seed: int) -> tuple:
    """Pairs (question, a right sample of the start, a wrong answer of the policy of β = 0 and the middle size)."""
    *_, model, tokenizer = one_policy("", 0.0, SIZES[1], seed)
    _, _, rows = model_and_problems()
    rows, answers = rows[: SIZES[1]], answers_to_rows(seed, SIZES[1])
    texts = generate_responses(
        model, tokenizer, [row["prompt"][-1]["content"] for row in rows], max_new_tokens=LONGEST, temperature=1.0
    )  # fmt: skip
    found = []
    for row, four, text in zip(rows, answers, texts):
        good = [answer for answer in four if is_right(row, answer)]
        if good and text.strip() and not is_right(row, text):
            found.append((row["prompt"][-1]["content"], good[0], text))
    return tuple(found)


def one_policy(cure: str, beta: float, size: int, seed: int) -> tuple:
    """Train one arm: curves of proxy, gold, KL (nats an answer), words; then the model and its tokenizer."""
    model, tokenizer, rows = model_and_problems()
    more = cheater_pairs(seed) if cure == "retrained on the cheater" else ()
    score, curves = proxy_of(cure, size, seed, more), {"gold": [], "words": []}
    practised = rows[max(SIZES) :]
    drawn = random.Random(seed).sample(practised, 96)
    set_seed(seed)
    texts = generate_responses(
        model, tokenizer, [row["prompt"][-1]["content"] for row in drawn], max_new_tokens=LONGEST, temperature=1.0
    )  # fmt: skip
    said = [[{"role": "assistant", "content": text}] for text in texts]
    centre = sum(score([row["prompt"] for row in drawn], said)) / len(drawn)

    def reward(prompts, completions, ground_truth, **kwargs):
        paid = reward_func(completions, ground_truth)  # seen by us, not by the training
        curves["gold"].append(sum(paid) / len(paid))
        curves["words"].append(sum(len(each[-1]["content"].split()) for each in completions) / len(completions))
        return [each - centre for each in score(prompts, completions)]

    critic = ValueModel(copy.deepcopy(model.model))
    settings = PPO | {"beta": max(beta, 1e-9), "bf16": bf16_is_fast(), "seed": seed, "charts": False}  # 0 would log no KL
    log = train_ppo(model, critic, tokenizer, practised, [reward], folder=fresh("laboratory"), **settings).table()
    curves |= {"proxy": log["reward"], "kl": log["kl"] * log["completions/mean_length"]}
    return {name: curve(values) for name, values in curves.items()}, centre, model, tokenizer


def record_over_laboratory(seeds: list[int], path: Path) -> None:
    """PPO against a learned reward for each β and size of data, and with each cure: gold and proxy by KL; a run a seed."""
    settings = {"ppo": PPO, "betas": BETAS, "sizes": SIZES, "cures": CURES, "reward_model": REWARD_MODEL}
    record = opened(path, "over_laboratory", seeds, json.loads(json.dumps(settings)))
    done = {(run["cure"], run["beta"], run["size"], run["seed"]) for run in record["runs"]}
    problems = load_suite("word_problems")[:HELD_OUT]

    def answered(model, tokenizer) -> tuple[list[str], list[bool]]:
        texts = generate_responses(model, tokenizer, [row["question"] for row in problems], max_new_tokens=LONGEST)
        return texts, [answers_match(extract_boxed(text), str(row["value"])) for text, row in zip(texts, problems)]

    record["before"] = record.get("before") or {"right": as_digits(answered(*model_and_problems()[:2])[1])}
    for seed in seeds:
        for cure, beta, size in arms():
            if (cure, beta, size, seed) in done:
                continue
            begun = time.process_time()
            curves, centre, model, tokenizer = one_policy(cure, beta, size, seed)
            texts, right = answered(model, tokenizer)
            looked = random.Random(f"{cure} {beta} {size} {seed}").sample(range(len(texts)), 6)  # not picked by us
            shown = [[problems[i]["question"], texts[i], bool(right[i])] for i in looked]
            run = {"cure": cure, "beta": beta, "size": size, "seed": seed, "centre": round(centre, 3), **curves}
            run |= {"cpu_seconds": round(time.process_time() - begun)}
            record["runs"].append(run | {"right": as_digits(right), "shown": shown})
            print(cure, beta, size, seed, sum(right) / len(right), flush=True)
            write(record, path)


# A reward for each step against one for the outcome


@cache
def process_reward_model(seed: int) -> torch.nn.Module:
    """A process reward model, trained on two sampled answers to each of `STEPS_PROBLEMS` problems, steps checked by sums."""
    model, tokenizer, rows = model_and_problems()
    said = answers_to_rows(seed, STEPS_PROBLEMS)
    talks = [
        [*row["prompt"], {"role": "assistant", "content": text}]
        for row, four in zip(rows, said) for text in four[:2] if steps_of(text)
    ]  # fmt: skip
    labels = [step_labels(talk[0]["content"], talk[-1]["content"]) for talk in talks]
    scorer, settings = new_scorer(model, tokenizer), STEPS_REWARD | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    train_process_reward_model(scorer, tokenizer, talks, labels, folder=fresh("steps"), **settings)
    return scorer.eval()


def record_process_reward(seeds: list[int], path: Path) -> None:
    """GRPO paid for the outcome, for each step by the process reward model, or for both; equally many answers; seeds."""
    settings = {"grpo": GRPO, "process_reward_model": STEPS_REWARD, "problems": STEPS_PROBLEMS, "n": HELD_OUT}
    record = opened(path, "process_reward", seeds, json.loads(json.dumps(settings)))
    done = {(run["reward"], run["seed"]) for run in record["runs"]}
    problems = load_suite("word_problems")[:HELD_OUT]
    questions = [row["question"] for row in problems]

    def measured(model, tokenizer) -> dict[str, str | list[int]]:
        texts = generate_responses(model, tokenizer, questions, max_new_tokens=LONGEST)
        right = [answers_match(extract_boxed(text), str(row["value"])) for text, row in zip(texts, problems)]
        labels = [step_labels(asked, text) for asked, text in zip(questions, texts)]
        steps = {"steps": [len(each) for each in labels], "right_steps": [sum(each) for each in labels]}
        return {"right": as_digits(right), **steps}

    model, tokenizer, rows = model_and_problems()
    record["before"] = record.get("before") or measured(model, tokenizer)
    for seed in seeds:
        for name in ("outcome", "process", "both"):
            if (name, seed) in done:
                continue
            paid = [] if name == "process" else [reward_func]
            paid += [] if name == "outcome" else [learned_process_reward(process_reward_model(seed), tokenizer)]
            policy = copy.deepcopy(model)
            log = train_grpo(
                policy, tokenizer, rows[STEPS_PROBLEMS:], paid, folder=fresh("process"), **GRPO, micro_batch=16,
                advantage=no_division, loss=dr_grpo, bf16=bf16_is_fast(), seed=seed, charts=False,
            ).table()  # fmt: skip
            run = {"reward": name, "seed": seed, "curve": curve(log["reward"]), "tokens": int(log["tokens"].sum())}
            record["runs"].append(run | measured(policy, tokenizer))
            print(name, seed, record["runs"][-1]["right"].count("1") / HELD_OUT, flush=True)
            write(record, path)


def no_division(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """Each reward less its group's mean."""
    return group_advantages(rewards, group_size, scale="none")


def dr_grpo(*args, **kwargs) -> torch.Tensor:
    """GRPO's loss with a constant divisor."""
    return grpo_loss(*args, loss_type="dr_grpo", **kwargs)
