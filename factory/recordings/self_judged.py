"""Lesson 08: preference pairs that the model itself picks, three rounds of online DPO; `08_self_judged.json`.

As online DPO, but with eight answers to a question, and one of four judges says which is chosen (its best) and which is
rejected (its worst): the answer key, the model's own vote, the model's own likelihood (nats a token), or a coin. The model
of the round is the judge, so it changes as it learns (Yuan et al. 2024, arXiv 2401.10020; their judge is asked for a grade,
which a model this small cannot give; the vote is that of Zuo et al. 2025, arXiv 2504.16084).
Left out on purpose: a judge that is asked, a judge that does not change, more rounds.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from factory.recordings.lesson_03 import share, trained
from factory.recordings.online_pairs import ANSWERS_PER_STEP, BETA, SETTINGS, STEPS
from factory.recordings.practice_rounds import (
    QUESTIONS,
    ROUNDS,
    Clock,
    acceptance,
    message,
    questions,
    record_arms,
    sampled,
    shown,
    start,
    student,
)
from helper import extract_boxed
from helper.algorithms.judges import answer_scores
from helper.algorithms.train_preferences import read_reference
from helper.machine.device import bf16_is_fast

ANSWERS = 8  # to each question: a vote of four says little
ARMS = {
    "the answer key": (1e-4, 3e-4, 1e-3), "own vote": (1e-4, 3e-4, 1e-3), "own likelihood": (1e-4, 3e-4, 1e-3),
    "a coin": "the answer key",
}  # fmt: skip


def votes(group: list[str]) -> list[float]:
    r"""How many answers of the group have the same result in a box; 0 for one without.

    >>> votes([r"\boxed{2}", r"\boxed{3}", r"so \boxed{2}", "2"])
    [2.0, 1.0, 2.0, 0.0]
    """
    results = [extract_boxed(text) for text in group]
    count = Counter(result for result in results if result)
    return [float(count[result]) if result else 0.0 for result in results]


def scores_of(arm: str, model, asked: list[dict], groups: list[list[str]], paid: list[list[float]], seed: int) -> list:
    """What the arm's judge gives each answer, a list for each question."""
    if arm == "the answer key":
        return paid
    if arm == "own vote":
        return [votes(group) for group in groups]
    if arm == "a coin":
        rng = random.Random(seed)
        return [[rng.random() for _ in group] for group in groups]
    prompts = [row["prompt"] for row, group in zip(asked, groups, strict=True) for _ in group]
    scores = answer_scores(model, start()[1], prompts, [text for group in groups for text in group])
    return [scores[i : i + ANSWERS] for i in range(0, len(scores), ANSWERS)]


def best_and_worst(asked: list[dict], groups: list[list[str]], scores: list, paid: list[list[float]]) -> tuple[list, dict]:
    """A row of preferences for each question whose answers the judge tells apart, and what it picked, by the answer key."""
    rows, right, words = [], [], []
    for row, group, judged, truth in zip(asked, groups, scores, paid, strict=True):
        if max(judged) > min(judged):
            best, worst = judged.index(max(judged)), judged.index(min(judged))
            rows.append(shown(row["prompt"], group[best]) | {"rejected": message("assistant", group[worst])})
            right.append((truth[best], truth[worst]))
            words.append([len(group[place].split()) for place in (best, worst)])
    return rows, {
        "pairs": len(rows), "chosen_right": round(share([best for best, _ in right]), 4),
        "rejected_right": round(share([worst for _, worst in right]), 4),
        "upside_down": round(share([best < worst for best, worst in right]), 4),
        "words": [round(share(side), 1) for side in zip(*words)],
    }  # fmt: skip


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The model after the rounds, and what its row says."""
    model, clock, told = student(), Clock(), []
    for number, asked in enumerate(questions(seed)[:rounds]):
        with clock:
            groups, paid = sampled(model, asked, seed=100 * seed + number, answers=ANSWERS)
            scores = scores_of(arm, model, asked, groups, paid, seed=100 * seed + number)
            rows, picked = best_and_worst(asked, groups, scores, paid)
            reference = read_reference(start()[0], start()[1], rows, bf16=bf16_is_fast())
            model, _ = trained(
                model, start()[1], rows, "both", {"beta": BETA}, steps=STEPS, learning_rate=rate, seed=seed,
                reference=reference, batch_size=ANSWERS_PER_STEP // 2,
            )  # fmt: skip
        told.append({"round": number + 1, "acceptance": acceptance(paid), **picked})
    return model, {"cpu_seconds": clock.read(), "rounds": told}


def record_self_judged(seeds: list[int], path: Path) -> None:
    """Online DPO on pairs that the answer key, the model's own vote, its own likelihood or a coin picks."""
    settings = SETTINGS | {"answers_to_each": ANSWERS, "samples": ROUNDS * QUESTIONS * ANSWERS}
    record_arms("self_judged", seeds, path, ARMS, settings, one_run)
