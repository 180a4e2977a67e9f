"""Lesson 08: online against offline DPO, and SFT on answers from one scored file, in three rounds; `08_dpo_online.json`.

All arms have the same questions in each round, equally many samples, steps and answers a step; what differs is whose
samples they are, and the loss. The reference is `sprout-instruct` in all rounds. *Reward-weighted SFT* imitates any answer
of the file, drawn with a probability in proportion to exp(reward / TEMPERATURE): reward-weighted regression (Peters and
Schaal 2007, "Reinforcement learning by reward-weighted regression for operational space control"), its weights as draws.
Left out on purpose: other β, a reference that is renewed, pairs that a reward model chooses.
"""

from __future__ import annotations

import math
import random
from functools import cache
from pathlib import Path

from factory.recordings.lesson_03 import trained
from factory.recordings.practice_rounds import (
    ANSWERS,
    LONGEST,
    QUESTIONS,
    ROUNDS,
    SAMPLES,
    Clock,
    acceptance,
    pairs_of,
    questions,
    record_arms,
    sampled,
    shown,
    start,
    student,
)
from helper.algorithms.train_preferences import read_reference
from helper.machine.device import bf16_is_fast

BETA = 0.1
TEMPERATURE = 0.5  # a right answer weighs e^2 = 7.4 times as much as a wrong one
STEPS, ANSWERS_PER_STEP = 10, 16  # of a round
ARMS = {  # the learning rates: the best of three for as many steps in `03_contrast.json`, on pairs and on right answers;
    # reward-weighted SFT, some of whose rows are wrong, has that of the right answers
    "online DPO": "offline DPO", "offline DPO": (3e-4,), "SFT on the chosen answers": (1e-3,),
    "reward-weighted SFT": "SFT on the chosen answers",
}  # fmt: skip


@cache
def first_samples(seed: int, number: int) -> tuple:
    """The first model's answers to the questions of a round, which are right, and the processor's seconds."""
    clock = Clock()
    with clock:
        groups, paid = sampled(start()[0], questions(seed)[number], seed=100 * seed + number)
    return groups, paid, clock.seconds


def answers_of_round(model, arm: str, seed: int, number: int) -> tuple:
    """The answers of a round: the current model's where pairs are made online, else the first model's."""
    if arm != "online DPO" or number == 0:
        return first_samples(seed, number)
    clock = Clock()
    with clock:
        groups, paid = sampled(model, questions(seed)[number], seed=100 * seed + number)
    return groups, paid, clock.seconds


def weighted_rows(asked: list[dict], groups: list[list[str]], paid: list[list[float]], seed: int) -> list[dict]:
    """Rows to imitate for a round's steps, drawn with replacement from all answers by their rewards."""
    rows, weights = [], []
    for row, group, scores in zip(asked, groups, paid, strict=True):
        rows += [shown(row["prompt"], text) for text in group]
        weights += [math.exp(score / TEMPERATURE) for score in scores]
    return random.Random(seed).choices(rows, weights, k=STEPS * ANSWERS_PER_STEP)


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The model after the rounds, and what its row says."""
    model, clock, told = student(), Clock(), []
    loss, own = ("both", {"beta": BETA}) if arm.endswith("DPO") else ("imitation", {})
    for number in range(rounds):
        groups, paid, seconds = answers_of_round(model, arm, seed, number)
        if arm == "reward-weighted SFT":
            rows = weighted_rows(questions(seed)[number], groups, paid, 100 * seed + number)
        else:
            rows = pairs_of(questions(seed)[number], groups, paid)
        with clock:
            reference = None if own == {} else read_reference(start()[0], start()[1], rows, bf16=bf16_is_fast())
            model, _ = trained(
                model, start()[1], rows, loss, own, steps=STEPS, learning_rate=rate, seed=seed, reference=reference,
                batch_size=ANSWERS_PER_STEP // (2 if own else 1),
            )  # fmt: skip
        clock.seconds += seconds
        told.append({"round": number + 1, "pairs": len(rows), "acceptance": acceptance(paid)})
    about = {"samples": rounds * QUESTIONS * SAMPLES, "bf16": bf16_is_fast(), "cpu_seconds": clock.read(), "rounds": told}
    return model, about


SETTINGS = {
    "rounds": ROUNDS, "questions": QUESTIONS, "answers_to_each": SAMPLES, "samples": ANSWERS, "longest": LONGEST,
    "steps": ROUNDS * STEPS, "answers_per_step": ANSWERS_PER_STEP, "beta": BETA, "loss": "0.5 sigmoid + SFT on the chosen",
}  # fmt: skip


def record_dpo_online(seeds: list[int], path: Path) -> None:
    """Online DPO, offline DPO, SFT on the chosen answers and reward-weighted SFT, at equally many samples."""
    record_arms("dpo_online", seeds, path, ARMS, SETTINGS, one_run)
