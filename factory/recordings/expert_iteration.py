"""Lesson 08: expert iteration against a blind choice and GRPO, at equally many sampled answers; `08_expert_iteration.json`.

The same questions for all arms, in three rounds; verdicts and the processor's seconds after each. The blind choice takes in
each round as many rows as expert iteration kept with that seed, at a rate of its own.
Left out on purpose: more rounds, samples that are kept by a reward model.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import share, trained
from factory.recordings.practice_rounds import (
    ANSWERS,
    LONGEST,
    QUESTIONS,
    ROUNDS,
    SAMPLES,
    Clock,
    acceptance,
    questions,
    record_arms,
    sampled,
    shown,
    start,
    student,
    tests,
    verdicts,
)
from factory.recordings.shared import fresh
from helper import reward_func
from helper.algorithms import group_advantages, grpo_loss, keep_verified, sample_batch, train_grpo
from helper.machine.device import bf16_is_fast
from helper.rewards import graded_reward

SFT = {"steps": 12, "batch_size": 16}  # a round
LOOP = {
    "prompts_per_step": 12, "group_size": SAMPLES, "max_new_tokens": LONGEST, "micro_batch": 16,
    "advantage": partial(group_advantages, scale="none"), "loss": partial(grpo_loss, loss_type="dr_grpo"),
}  # fmt: skip
STEPS = QUESTIONS // LOOP["prompts_per_step"]  # of GRPO in a round
ARMS = {  # GRPO's rate: the best of 24 such steps in `06_ppo_against_grpo.json`; twice that looks as good for a round
    "expert iteration": (1e-4, 3e-4, 1e-3), "random choice": (1e-4, 3e-4, 1e-3),
    "GRPO": (3e-4,), "GRPO, ReFT's reward": "GRPO", "GRPO, a third of the rate": (1e-4,),
}  # fmt: skip
REWARDS = {"GRPO": reward_func, "GRPO, ReFT's reward": graded_reward, "GRPO, a third of the rate": reward_func}
kept: dict[int, list[int]] = {}  # seed -> how many rows expert iteration kept in each round, in its latest run


class Stages:
    """What a run keeps of each round: its clock, and how the model stands; rows are added to `rows`."""

    def __init__(self, rounds: int):
        self.rounds, self.clock, self.rows = rounds, Clock(), []

    def add(self, model, accepted: float, trained_on: int | None) -> None:
        """A round is over."""
        number = len(self.rows) + 1
        found = {"round": number, "samples": number * QUESTIONS * SAMPLES, "cpu_seconds": self.clock.read()}
        if self.rounds == ROUNDS:  # a run to choose a rate is not judged
            found |= verdicts(model, {"word_problems": tests()["word_problems"]})
        self.rows.append(found | {"acceptance": accepted, "rows": trained_on})

    def summary(self) -> dict:
        """What goes into the row of the run."""
        last = {key: self.rows[-1][key] for key in ("samples", "word_problems") if key in self.rows[-1]}
        return {**last, "cpu_seconds": self.clock.read(), "stages": self.rows}


def checked(asked: list[dict], groups: list[list[str]], paid: list[list[float]], seed: int, number: int) -> list[dict]:
    """The right answers of a round; their number is remembered."""
    rows = keep_verified(asked, groups, paid, seed=seed).kept
    kept.setdefault(seed, [])[number:] = [len(rows)]
    return [shown(row["prompt"], row["completion"][0]["content"]) for row in rows]


def blind(asked: list[dict], groups: list[list[str]], seed: int, number: int) -> list[dict]:
    """Answers of a round chosen without looking, each text once: as many as expert iteration kept."""
    texts = [(row["prompt"], text) for row, group in zip(asked, groups, strict=True) for text in dict.fromkeys(group)]
    return [shown(*text) for text in random.Random(seed).sample(texts, kept[seed][number])]


def rounds_of_sft(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """Sample, choose, train on what was chosen in this round and the rounds before."""
    model, stages, rows = student(), Stages(rounds), []
    if arm == "random choice" and len(kept.get(seed, [])) < rounds:
        raise ValueError(f"The blind choice follows expert iteration with seed {seed}: record them together, in a new file.")
    for number, asked in enumerate(questions(seed)[:rounds]):
        with stages.clock:
            groups, paid = sampled(model, asked, seed=100 * seed + number)
            if arm == "random choice":
                rows += blind(asked, groups, seed, number)
            else:
                rows += checked(asked, groups, paid, seed, number)
            model, _ = trained(model, start()[1], rows, "imitation", {}, learning_rate=rate, seed=seed, **SFT)
        stages.add(model, acceptance(paid), len(rows))
    return model, stages.summary()


def watched_sampling(stages: Stages):
    """`sample_batch`, which counts right answers and closes a round when its steps are done. The clock stands meanwhile."""
    right: list[float] = []

    def close(model) -> None:
        if right:
            stages.clock.__exit__()
            stages.add(model, round(share(right), 4), None)
            right.clear()
            stages.clock.__enter__()

    def sample(model, tokenizer, rows, rewards, group_size, *options):
        if getattr(model, "trained_steps", 0) % STEPS == 0:
            close(model)
        batch = sample_batch(model, tokenizer, rows, rewards, group_size, *options)
        right.extend(reward_func(batch.texts, [row["ground_truth"] for row in rows for _ in range(group_size)]))
        return batch

    return sample, close


def rounds_of_grpo(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """GRPO's loop on the same questions, as many samples; ReFT has its graded reward."""
    model, stages = student(), Stages(rounds)
    rows = [row for asked in questions(seed)[:rounds] for row in asked]
    sample, close = watched_sampling(stages)
    with stages.clock:
        train_grpo(
            model, start()[1], rows, [REWARDS[arm]], folder=fresh("rounds"), steps=rounds * STEPS, learning_rate=rate,
            sample=sample, seed=seed, bf16=bf16_is_fast(), charts=False, **LOOP,
        )  # fmt: skip
        close(model)
    return model, stages.summary()


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The trained model, and what its row says."""
    return (rounds_of_grpo if arm in REWARDS else rounds_of_sft)(arm, rate, seed, rounds)


SETTINGS = {
    "rounds": ROUNDS, "questions": QUESTIONS, "answers_to_each": SAMPLES, "samples": ANSWERS, "longest": LONGEST,
    "sft": SFT, "grpo_steps": ROUNDS * STEPS, "prompts_per_step": LOOP["prompts_per_step"],
}  # fmt: skip


def record_expert_iteration(seeds: list[int], path: Path) -> None:
    """Expert iteration, a blind choice, and GRPO with two rewards, at equally many sampled answers."""
    record_arms("expert_iteration", seeds, path, ARMS, SETTINGS, one_run)
