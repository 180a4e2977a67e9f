"""Lesson 08: what a stronger teacher's answers are worth to a student, and its distributions; `08_distillation.json`.

The student is `sprout-instruct`, the teacher `sprout-grpo`, which was made from it. GRPO's rows are those of
`08_expert_iteration.json`: the same questions, as many samples. Rates are chosen by whole runs: after a round of on-policy
distillation, five steps, they could hardly be told apart.
Left out on purpose: other divergences and temperatures, a teacher of another size.
"""

from __future__ import annotations

import json
from functools import cache
from itertools import chain
from pathlib import Path

import torch

from factory.recordings.expert_iteration import LOOP, SFT, STEPS
from factory.recordings.lesson_03 import once, trained
from factory.recordings.practice_rounds import (
    ANSWERS,
    LONGEST,
    QUESTIONS,
    ROUNDS,
    SAMPLES,
    Clock,
    acceptance,
    best_rate,
    questions,
    record_arms,
    sampled,
    shown,
    start,
    student,
    verdicts,
    written_answers,
)
from helper import load_model_and_tokenizer, reward_func, set_seed
from helper.algorithms import distillation_loss_of_batch, sample_batch
from helper.algorithms.batches import draw
from helper.algorithms.runs import LARGEST_NORM
from helper.machine.device import bf16_is_fast

RATES = (1e-4, 3e-4, 1e-3)
ARMS = {
    "SFT on the teacher's answers": RATES, "on-policy distillation": RATES, "SFT on written answers": RATES,
    "SFT on the teacher's right answers": RATES,
}  # fmt: skip
GRPO = "GRPO"


@cache
def teacher():
    """`sprout-grpo` in float32."""
    return load_model_and_tokenizer("sprout-grpo")[0].float()


@cache
def teachers_answers(seed: int, rounds: int) -> tuple:
    """The teacher's answers to the questions of the rounds, which are right, and the processor's seconds."""
    asked, clock, model = list(chain(*questions(seed)[:rounds])), Clock(), teacher()
    with clock:
        groups, paid = sampled(model, asked, seed)
    return asked, groups, paid, clock.read()


def rows_of(arm: str, seed: int, rounds: int) -> tuple[list[dict], dict, float]:
    """Rows to imitate, what the run's row says of them, and the seconds that they took."""
    if arm == "SFT on written answers":
        asked = [row["prompt"][0]["content"] for row in chain(*questions(seed)[:rounds])]
        return (
            [shown(question, written_answers()[question]) for question in asked],
            {"samples": {"written": len(asked)}},
            0.0,
        )
    asked, groups, paid, seconds = teachers_answers(seed, rounds)
    right_only = "right" in arm
    rows = [
        shown(row["prompt"], text)
        for row, group, scores in zip(asked, groups, paid)
        for text, score in zip(group, scores)
        if score or not right_only
    ]
    return rows, {"samples": {"teacher": rounds * QUESTIONS * SAMPLES}, "acceptance": acceptance(paid)}, seconds


def on_policy(rate: float, seed: int, rounds: int) -> tuple:
    """The student samples, and its distributions are drawn to the teacher's: reverse KL, a step for each batch."""
    model, rows, clock, wanted = student().eval(), list(chain(*questions(seed)[:rounds])), Clock(), teacher()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    losses = []
    with clock:
        for step in range(1, rounds * STEPS + 1):
            set_seed(seed * 100_000 + step)
            drawn = draw(rows, LOOP["prompts_per_step"], seed, step)
            batch = sample_batch(model, start()[1], drawn, [reward_func], SAMPLES, LONGEST)
            loss = distillation_loss_of_batch(model, wanted, batch, beta=1.0, bf16=bf16_is_fast())
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            losses.append(round(loss.item(), 4))
    about = {"samples": {"student": rounds * QUESTIONS * SAMPLES}, "reverse_kl": losses, "cpu_seconds": clock.read()}
    return model, about


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The trained student, and what its row says. SFT takes as many steps as expert iteration does."""
    if arm == "on-policy distillation":
        return on_policy(rate, seed, rounds)
    rows, about, seconds = rows_of(arm, seed, rounds)
    clock, size = Clock(), SFT["batch_size"]
    with clock:
        settings = {"steps": rounds * SFT["steps"], "batch_size": size, "learning_rate": rate, "seed": seed}
        model, _ = trained(student(), start()[1], rows, "imitation", {}, **settings)
    return model, about | {"rows": len(rows), "cpu_seconds": round(seconds + clock.seconds, 1)}


SETTINGS = {
    "rounds": ROUNDS, "questions": QUESTIONS, "answers_to_each": SAMPLES, "samples": ANSWERS, "longest": LONGEST,
    "sft": SFT | {"steps": ROUNDS * SFT["steps"]}, "steps_on_policy": ROUNDS * STEPS, "beta": 1.0,
}  # fmt: skip


def record_distillation(seeds: list[int], path: Path) -> None:
    """A teacher's answers, its distributions on the student's own answers, written answers, and GRPO."""
    record = record_arms(
        "distillation", seeds, path, ARMS, SETTINGS, one_run, tuned_for=ROUNDS, teacher=lambda: verdicts(teacher())
    )  # fmt: skip
    others = json.loads((path.parent / "08_expert_iteration.json").read_text(encoding="utf-8"))
    rate = best_rate(others, GRPO)
    for run in others["runs"]:
        if run["arm"] == GRPO and run["seed"] in seeds:
            about = {"arm": GRPO, "seed": run["seed"], "learning_rate": rate}
            same = {key: run[key] for key in ("word_problems", "other_skills", "cpu_seconds")}
            once(record, path, "runs", about, lambda same=same, run=run: {"samples": {"student": run["samples"]}, **same})
