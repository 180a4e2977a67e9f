"""Lesson 04: a safety reward of several weights beside the right answer, blind to the question or not.

`04_safety_weight.json`.

A step's prompts are word problems, requests to decline, and harmless questions that look like those: every second row of the
suite `requests`, the others are the test. (SFT's own rows of the two kinds are answered so surely that no sample differs.)
The task pays 1 for a right answer to a problem or a harmless question. The safety reward pays each refusal, as a classifier
does that reads answers only; mended, it pays only where the request is one to decline.
Left out on purpose: a rate for each arm, a learned classifier, and answers (verdicts only, and three drawn blindly).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from factory.recordings.lesson_03 import once, resumed
from factory.recordings.reach import LONGEST, LOOP, RATE, SUITES, suite
from factory.recordings.rule_rewards import STEPS, N, practised
from factory.recordings.shared import command, model_and_problems
from helper import evaluate, grade, load_suite
from helper.algorithms.batches import sample_batch
from helper.graders import is_refusal
from helper.recorded import as_digits

WEIGHTS = (0.25, 1.0, 4.0)
KINDS = ("problem", "refuse", "fine")  # equally many prompts of each in a step


def requests() -> dict[str, list[dict]]:
    """The suite by kind."""
    rows = load_suite("requests")
    return {kind: [row for row in rows if row["skill"] == kind] for kind in KINDS[1:]}


@cache
def practice() -> dict[str, list[dict]]:
    """Prompts to practise of each kind, none of them in this record's tests; `row` is what the answer is graded by."""
    _, _, problems = model_and_problems()
    rows = {"problem": [{"grader": "boxed", "value": row["ground_truth"], "question": row["prompt"][0]["content"]}
                        for row in problems]}  # fmt: skip
    rows |= {kind: requests()[kind][::2] for kind in KINDS[1:]}
    return {
        kind: [{"prompt": [{"role": "user", "content": row["question"]}], "kind": kind, "row": row} for row in rows[kind]]
        for kind in KINDS
    }


def mixed(model, tokenizer, rows: list[dict], *options):
    """`sample_batch` on as many prompts of each kind, drawn with the seed that `rows`, the problems of the step, make."""
    rng = random.Random(repr([row["prompt"] for row in rows]))
    part = len(rows) // len(KINDS)
    others = [row for kind in KINDS[1:] for row in rng.sample(practice()[kind], part)]
    return sample_batch(model, tokenizer, rows[:part] + others, *options)


def task_and_safety(weight: float, reads_the_question: bool, completions: list, kind: list, row: list, **_) -> list[float]:
    """1 for a right answer to what is to be answered, and `weight` for a refusal: any, or those that are called for."""
    paid = []
    for completion, what, graded in zip(completions, kind, row, strict=True):
        text = completion[-1]["content"]
        safe = is_refusal(text) and (what == "refuse" or not reads_the_question)
        paid.append(float(what != "refuse" and grade(graded, text)) + weight * safe)
    return paid


ARMS: dict[str, Callable] = {
    "right answers only": partial(task_and_safety, 0.0, False),
    **{f"+ {weight:g} × refusal": partial(task_and_safety, weight, False) for weight in WEIGHTS},
    **{f"+ {weight:g} × refusal where called for": partial(task_and_safety, weight, True) for weight in WEIGHTS[1:]},
}


def judged(model, tokenizer, seed: int) -> dict:
    """Greedy verdicts on held-out problems and on requests of both kinds, and which of these it declines."""
    found, shown = {}, []
    rows = {"word_problems": suite(SUITES[0])[:N]} | {kind: asked[1::2] for kind, asked in requests().items()}
    for name, asked in rows.items():
        table = evaluate(model, tokenizer, asked, max_new_tokens=LONGEST, batch_size=256)
        found[name] = as_digits(table["right"])
        found[f"{name}_declined"] = as_digits(table["answer"].map(is_refusal))
        place = random.Random(seed).randrange(len(asked))
        shown.append([asked[place]["question"], table["answer"].iloc[place]])
    return found | {"shown": shown}


def one_run(arm: str, seed: int) -> dict:
    """Train with an arm's reward; what it was paid, and what is right."""
    model, tokenizer, _ = model_and_problems()
    paid = practised(model, tokenizer, practice()["problem"], ARMS[arm], seed, sample=mixed)
    return paid | judged(model, tokenizer, seed)


def record_safety_weight(seeds: list[int], path: Path) -> None:
    """GRPO with a reward for refusals beside the right answer: three weights, and two that read the question."""
    settings = {"steps": STEPS, "learning_rate": RATE, "answers": LOOP["prompts_per_step"] * LOOP["group_size"]}
    head = {"command": command("safety_weight", seeds), "seeds": seeds, **settings}
    record = resumed(path, head | {"practised": {kind: len(rows) for kind, rows in practice().items()}})
    if "before" not in record:
        record["before"] = judged(*model_and_problems()[:2], 0)
    for seed in seeds:
        for arm in ARMS:
            once(record, path, "runs", {"arm": arm, "seed": seed}, partial(one_run, arm, seed))
