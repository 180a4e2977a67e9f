"""pass@k to 64 samples: the base model in its own form, SFT's model, and the model after RL (`04_pass_at_k.json`).

For each problem the record keeps how many of its samples are right and how often each wrong answer came, so that pass@k, a
majority vote and any reweighting of the answers can be computed from it.
Left out on purpose: the texts, and the intervals: `helper/practice_runs.py` computes them.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import once, resumed
from factory.recordings.reach import LONGEST
from factory.recordings.shared import command
from helper import extract_boxed, generate_responses, grade, load_model_and_tokenizer, load_suite
from helper.generation import complete_text
from helper.own_form import LONGEST as LONGEST_IN_TEXT
from helper.own_form import own_form, tidy

PROBLEMS, SAMPLES, TEMPERATURE = 100, 64, 1.0
SUITES = {"word_problems": PROBLEMS, "unseen_story_types": PROBLEMS}
MODELS = {"base, own form": "sprout-base", "SFT": "sprout-instruct", "RL": "sprout-grpo"}


def sampled(model, tokenizer, rows: list[dict], own: bool, seed: int) -> list[list[str]]:
    """SAMPLES answers to each row, in the chat form, or in the base model's own form with its ending put into a box."""
    if not own:
        asked = [row["question"] for row in rows]
        options = {"temperature": TEMPERATURE, "num_samples": SAMPLES, "seed": seed, "batch_size": 256}
        return generate_responses(model, tokenizer, asked, max_new_tokens=LONGEST, **options)
    prompts = [own_form(row) for row in rows for _ in range(SAMPLES)]
    options = {"stop": "\n\n", "temperature": TEMPERATURE, "seed": seed, "batch_size": 256}
    texts = iter(complete_text(model, tokenizer, prompts, LONGEST_IN_TEXT["word_problem"], **options))
    return [[tidy(row, next(texts)) for _ in range(SAMPLES)] for row in rows]


def counted(rows: list[dict], texts: list[list[str]]) -> dict:
    """For each problem how many samples are right, and how often each wrong answer came, the commonest first.

    Samples without an answer (no box, an empty one) are in neither.
    """
    correct, wrong = [], []
    for row, group in zip(rows, texts, strict=True):
        right = [bool(grade(row, text)) for text in group]
        others = Counter(extract_boxed(text) for text, good in zip(group, right) if not good and extract_boxed(text))
        correct.append(sum(right))
        wrong.append(sorted(others.values(), reverse=True))
    return {"correct": correct, "wrong": wrong}


def run(model: str, suite: str, seed: int) -> dict:
    """Sample one model on one suite."""
    rows = load_suite(suite)[: SUITES[suite]]
    return counted(rows, sampled(*load_model_and_tokenizer(MODELS[model]), rows, "own form" in model, seed))


def record_pass_at_k(seeds: list[int], path: Path) -> None:
    """64 samples of each of 100 problems, of practised and of unseen story types, from three models; one seed."""
    head = {
        "command": command("pass_at_k", seeds[:1]), "seeds": seeds[:1], "samples": SAMPLES, "temperature": TEMPERATURE,
        "n": SUITES,
    }  # fmt: skip
    record = resumed(path, head)
    record.pop("tuning", None)
    for suite in SUITES:
        for model in MODELS:
            once(record, path, "runs", {"model": model, "suite": suite}, partial(run, model, suite, seeds[0]))
