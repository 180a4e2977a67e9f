"""Lesson 09: RL in one long run, or in two rounds with rejection sampling and SFT between them, `09_two_rounds.json`.

After DeepSeek-R1 (arXiv 2501.12948, section 2.3): the model of the first round writes answers, a check keeps the right ones,
and they train the *start* again, mixed with rows of other skills; then RL once more. The arms in which the start itself
writes the rows need no first round: its model would be thrown away.
Left out on purpose: a reward model's choice among right answers, more than two rounds, rates of their own for the stages.
"""

from __future__ import annotations

import random
from functools import cache
from itertools import islice
from pathlib import Path

import torch

from factory.recordings.expert_iteration import LOOP
from factory.recordings.lesson_03 import other_rows
from factory.recordings.practice_rounds import (
    LONGEST,
    SAMPLES,
    TRAINED,
    Clock,
    acceptance,
    record_untuned,
    sampled,
    start,
    student,
    verdicts,
)
from factory.recordings.razor import BATCH, RATE, as_completion, distances, grpo_steps
from helper import load_course_dataset, load_suite
from helper.algorithms import keep_verified, loss_of_rows
from helper.algorithms.runs import LARGEST_NORM
from helper.machine.device import bf16_is_fast

HALF, MIDDLE = 10, 16  # steps of GRPO in a round; steps of SFT between the rounds
ARMS = {  # name -> (steps of GRPO, whether the start is trained on the answers of the model so far, steps of GRPO)
    "one long run": (2 * HALF + MIDDLE, False, 0),
    "two rounds": (HALF, True, HALF),
    "start's rows": (0, True, HALF),
    "start's rows, longer": (0, True, 2 * HALF),
}
STEP = LOOP["prompts_per_step"] * LOOP["group_size"]  # answers that a step of GRPO samples
ASKED = MIDDLE * STEP // SAMPLES  # problems for rejection sampling: as many answers as GRPO would sample in MIDDLE steps
ROWS, GENERAL = 88, 4  # accepted answers that are trained on; rows of other skills in a batch of BATCH
KEPT_APART = 3000  # GRPO practises on the problems before this one, rejection sampling on those from it on


@cache
def suites() -> dict[str, list[dict]]:
    """The tests."""
    return {"word_problems": load_suite("word_problems"), "other_skills": other_rows(0, 4)}


@cache
def general_rows() -> list[dict]:
    """Lesson 02's rows of all skills but word problems."""
    rows = [row["messages"] for row in load_course_dataset("sprout-sft") if row["skill"] != "word_problem"]
    return [{"prompt": turns[:-1], "chosen": turns[-1:]} for turns in rows]


def practise(model, seed: int, first: int, steps: int) -> None:
    """GRPO, the steps from `first` on."""
    for _ in islice(grpo_steps(model, RATE, seed, first=first, problems=KEPT_APART), steps):
        pass


def accepted(model, seed: int) -> tuple[list[dict], dict]:
    """ROWS right answers of the model to problems that no GRPO practises, each text once; and the numbers of it."""
    rng = random.Random(seed)
    asked = rng.sample(start()[2][KEPT_APART:TRAINED], ASKED)
    groups, paid = sampled(model, asked, seed=seed)
    found = keep_verified(asked, groups, paid, seed=seed)
    rows = rng.sample(found.kept, min(ROWS, len(found.kept)))
    problems = len({row["prompt"][-1]["content"] for row in rows})
    return rows, {"acceptance": acceptance(paid), "kept": len(found.kept), "rows": len(rows), "problems": problems}


def imitate(model, rows: list[dict], seed: int) -> None:
    """SFT on batches of accepted answers and GENERAL rows of other skills."""
    rng, optimizer = random.Random(seed), torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    for _ in range(MIDDLE):
        general = map(as_completion, rng.sample(general_rows(), GENERAL))
        drawn = [*rng.sample(rows, min(BATCH - GENERAL, len(rows))), *general]
        optimizer.zero_grad()
        loss_of_rows(model, start()[1], drawn, bf16_is_fast()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()


def one_run(arm: str, seed: int) -> dict:
    """An arm: what it took, word problems after each stage, and what is measured at the end."""
    before, again, after = ARMS[arm]
    model, clock, about, stages = student(), Clock(), {}, {}
    with clock:
        practise(model, seed, 1, before)
    if again:
        stages["writer"] = judged_on_problems(model)
        with clock:
            rows, about = accepted(model.eval(), seed)
            model = student()
            imitate(model, rows, seed)
        stages["SFT"] = judged_on_problems(model)
        with clock:
            practise(model, seed, HALF + 1, after)
    model.eval()
    spent = {
        "samples": STEP * (before + after) + again * ASKED * SAMPLES,
        "updates": before + after + again * MIDDLE,
        "cpu_seconds": clock.read(),
    }
    return {**spent, **about, "stages": stages, **verdicts(model, suites()), **distances(model)}


def judged_on_problems(model) -> str:
    """Verdicts on every second word problem."""
    return verdicts(model.eval(), {"": suites()["word_problems"][::2]})[""]


def record_two_rounds(seeds: list[int], path: Path) -> None:
    """One long run of GRPO, or two rounds with rejection sampling between, and two controls."""
    settings = {
        "rate": RATE, "answers_a_step": STEP, "sft_steps": MIDDLE, "asked": ASKED, "rows": ROWS, "batch": BATCH,
        "general": GENERAL, "longest": LONGEST,
    }  # fmt: skip
    record_untuned("two_rounds", seeds, path, ARMS, settings, lambda: verdicts(start()[0], suites()), one_run)
