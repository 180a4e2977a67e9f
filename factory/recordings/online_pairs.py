"""Lesson 08: online against offline DPO, and SFT on the chosen answers, in three rounds; `08_dpo_online.json`.

All arms have the same questions in each round, equally many samples, steps and answers a step; what differs is whose
samples they are, and the loss. The reference is `sprout-instruct` in all rounds.
Left out on purpose: other β, a reference that is renewed, pairs that a reward model chooses.
"""

from __future__ import annotations

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
    start,
    student,
)
from helper.algorithms.train_preferences import read_reference
from helper.machine.device import bf16_is_fast

BETA = 0.1
STEPS, ANSWERS_PER_STEP = 10, 16  # of a round
ARMS = {  # the learning rates: the best of three for as many steps on such rows in `03_contrast.json`
    "online DPO": "offline DPO", "offline DPO": (3e-4,), "SFT on the chosen answers": (1e-3,),
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


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The model after the rounds, and what its row says."""
    model, clock, told = student(), Clock(), []
    loss, own = ("imitation", {}) if arm.startswith("SFT") else ("both", {"beta": BETA})
    for number in range(rounds):
        groups, paid, seconds = answers_of_round(model, arm, seed, number)
        rows = pairs_of(questions(seed)[number], groups, paid)
        with clock:
            reference = None if own == {} else read_reference(start()[0], start()[1], rows, bf16=bf16_is_fast())
            model, _ = trained(
                model, start()[1], rows, loss, own, steps=STEPS, learning_rate=rate, seed=seed, reference=reference,
                batch_size=ANSWERS_PER_STEP // (2 if own else 1),
            )  # fmt: skip
        clock.seconds += seconds
        told.append({"round": number + 1, "pairs": len(rows), "acceptance": acceptance(paid)})
    return model, {"samples": rounds * QUESTIONS * SAMPLES, "cpu_seconds": clock.read(), "rounds": told}


SETTINGS = {
    "rounds": ROUNDS, "questions": QUESTIONS, "answers_to_each": SAMPLES, "samples": ANSWERS, "longest": LONGEST,
    "steps": ROUNDS * STEPS, "answers_per_step": ANSWERS_PER_STEP, "beta": BETA, "loss": "0.5 sigmoid + SFT on the chosen",
}  # fmt: skip


def record_dpo_online(seeds: list[int], path: Path) -> None:
    """Online DPO, offline DPO and SFT on the chosen answers, at equally many samples."""
    record_arms("dpo_online", seeds, path, ARMS, SETTINGS, one_run)
