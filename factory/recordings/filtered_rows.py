"""Lesson 08: five filters on a dirty training set of word problems, each left out once; `08_filters.json`.

Written rows, and as many of each of five kinds of dirt as half of them. The filters know nothing of what was planted: they
are the rules that one would write for any such set. All arms train for equally many steps.
Left out on purpose: filters that need a model (perplexity, a judge), other shares of dirt.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import trained
from factory.recordings.practice_rounds import (
    LONGEST,
    Clock,
    record_arms,
    shown,
    start,
    student,
    tests,
    written_answers,
)
from helper import evaluate, extract_boxed
from helper.algorithms import step_labels, steps_of
from helper.graders import words_of
from helper.recorded import as_digits

CLEAN, DIRTY, COPIES = 240, 120, 15  # rows of each kind of dirt; copies of one row, where they are copies
SFT = {"steps": 20, "batch_size": 16}
RATE = 1e-3  # the best for written answers in `03_contrast.json`
MOST_WORDS = 45  # of an answer
NEAR = 0.8  # the share of common words from which on two questions are near duplicates
STYLE = "Wow, what a great question!"
BANNED = ("wow", "great question", "as an ai", "i hope this helps")
OPENINGS = ("Please solve this:", "A problem:", "Here is one more:", "Work this out.", "Can you help me?")
ENDINGS = ("Thank you.", "Show the steps.", "")
FILLER = "Let us go slowly and read the question once more, so that nothing is left out."


def wrong(answer: str, rng: random.Random) -> str:
    """The answer with another result in its last step and its box."""
    *steps, last = steps_of(answer)
    result = extract_boxed(answer)
    other = str(int(result) + rng.randint(1, 9))
    return "\n".join([*steps, f"{last.rsplit('=', 1)[0]}= {other}", f"\\boxed{{{other}}}"])


def rambling(answer: str) -> str:
    """The answer with much before and between its steps that says nothing."""
    return "\n".join(f"{FILLER}\n{line}" if line in steps_of(answer) else line for line in answer.split("\n"))


def copied(row: dict, number: int) -> dict:
    """A near duplicate of a row: the same problem between other words, with the same answer."""
    question = " ".join(filter(None, (OPENINGS[number // 3], row["question"], ENDINGS[number % 3])))
    return row | {"question": question}


def dirty_rows(seed: int) -> list[dict]:
    """All rows in the order of their places in the set, each with the kind that it was planted as ("clean" for none)."""
    rng = random.Random(seed)
    whole = [{"question": question, "answer": answer} for question, answer in written_answers().items()]
    rng.shuffle(whole)
    clean, rest = whole[:CLEAN], iter(whole[CLEAN:])
    few = rng.sample(clean, 2 * DIRTY // COPIES)
    often, nearly = few[: len(few) // 2], few[len(few) // 2 :]
    others = [[next(rest) for _ in range(DIRTY)] for _ in range(3)]
    made = {
        "clean": clean,
        "exact duplicates": [row for row in often for _ in range(COPIES)],
        "near duplicates": [copied(row, number) for row in nearly for number in range(COPIES)],
        "length": [row | {"answer": rambling(row["answer"])} for row in others[0]],
        "wrong answers": [row | {"answer": wrong(row["answer"], rng)} for row in others[1]],
        "banned style": [row | {"answer": f"{STYLE}\n{row['answer']}"} for row in others[2]],
    }
    rows = [row | {"kind": kind} for kind, some in made.items() for row in some]
    rng.shuffle(rows)
    return rows


# ---------------------------------------------------------------- the filters: rows -> the places of those to be removed


def exact_duplicates(rows: list[dict]) -> set[int]:
    """All but the first of the rows whose words are the same."""
    first: dict[tuple, int] = {}
    words = [tuple(words_of(f"{row['question']} {row['answer']}")) for row in rows]
    return {place for place, one in enumerate(words) if first.setdefault(one, place) != place}


def near_duplicates(rows: list[dict]) -> set[int]:
    """Rows whose question shares NEAR of its words (Jaccard) with that of an earlier row; the same words are not meant."""
    kept: list[frozenset] = []
    removed = set()
    for place, row in enumerate(rows):
        words = frozenset(words_of(row["question"]))
        near = [other for other in kept if NEAR <= len(words & other) / len(words | other) < 1]
        removed |= {place} if near else set()
        kept += [] if near else [words]
    return removed


def too_long(rows: list[dict]) -> set[int]:
    """Rows whose answer has more than MOST_WORDS words."""
    return {place for place, row in enumerate(rows) if len(row["answer"].split()) > MOST_WORDS}


def wrong_answers(rows: list[dict]) -> set[int]:
    """Rows with a step whose sum does not come out, or whose box is not the last step's result."""
    return {place for place, row in enumerate(rows) if not adds_up(row["question"], row["answer"])}


def adds_up(question: str, answer: str) -> bool:
    """Whether the sums of the answer come out, and its box holds the last result; lines without a sum are not judged."""
    sums = [line for line in steps_of(answer) if "=" in line]
    labels = step_labels(question, "\n".join(sums))
    return bool(sums) and all(labels) and sums[-1].rsplit("=", 1)[1].strip() == extract_boxed(answer)


def banned_style(rows: list[dict]) -> set[int]:
    """Rows whose answer has one of the BANNED phrases."""
    return {place for place, row in enumerate(rows) if any(phrase in row["answer"].lower() for phrase in BANNED)}


FILTERS: dict[str, Callable] = {
    "exact duplicates": exact_duplicates, "near duplicates": near_duplicates, "length": too_long,
    "wrong answers": wrong_answers, "banned style": banned_style,
}  # fmt: skip
ARMS = ("clean rows only", "no filter", "all filters", *(f"all but {name}" for name in FILTERS))


def left_by(arm: str, rows: list[dict]) -> list[dict]:
    """The rows that an arm trains on."""
    if arm == "clean rows only":
        return [row for row in rows if row["kind"] == "clean"]
    used = {name for name in FILTERS if arm != "no filter" and arm != f"all but {name}"}
    removed = set().union(*(FILTERS[name](rows) for name in used))
    return [row for place, row in enumerate(rows) if place not in removed]


def counts(rows: list[dict]) -> dict[str, int]:
    """How many rows of each planted kind."""
    return dict(Counter(row["kind"] for row in rows))


def removed_alone(seed: int) -> dict[str, dict[str, int]]:
    """What each filter alone removes, by the planted kind."""
    rows = dirty_rows(seed)
    return {name: counts([rows[place] for place in sorted(find(rows))]) for name, find in FILTERS.items()}


def one_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """The model trained on what an arm leaves, and what its row says."""
    rows, clock = left_by(arm, dirty_rows(seed)), Clock()
    with clock:
        shown_rows = [shown(row["question"], row["answer"]) for row in rows]
        model, _ = trained(student(), start()[1], shown_rows, "imitation", {}, learning_rate=rate, seed=seed, **SFT)
    return model, {"rows": len(rows), "kinds": counts(rows), "cpu_seconds": clock.read()}


def judged(model, about: dict) -> dict:
    """Verdicts on the word problems; which answers have the planted style, and their mean number of words."""
    table = evaluate(model, start()[1], tests()["word_problems"], max_new_tokens=LONGEST, batch_size=256)
    return {
        "word_problems": as_digits(table["right"]),
        "style": as_digits(any(phrase in text.lower() for phrase in BANNED) for text in table["answer"]),
        "words": round(float(table["answer"].str.split().str.len().mean()), 1),
    }


SETTINGS = {
    "clean": CLEAN, "dirt_of_each_kind": DIRTY, "copies": COPIES, "sft": SFT, "most_words": MOST_WORDS, "near": NEAR,
    "banned": list(BANNED), "longest": LONGEST,
}  # fmt: skip


def record_filters(seeds: list[int], path: Path) -> None:
    """Five filters on a dirty set, each left out once; all of them, none, and the clean rows alone."""
    record_arms(
        "filters", seeds, path, dict.fromkeys(ARMS, (RATE,)), SETTINGS, one_run, judge=judged,
        rows=lambda: counts(dirty_rows(seeds[0])), removed=partial(removed_alone, seeds[0]),
    )  # fmt: skip
