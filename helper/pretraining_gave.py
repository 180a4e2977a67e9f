"""The recorded experiment on what pre-training gave: three small bases that read different things, then the same SFT.

The record (`data/recorded/02_what_pretraining_gave.json`, made by `python -m factory.record --only pretraining_gave`)
holds right and wrong question by question, before SFT in the base's own form and after SFT in chat.
Left out on purpose: training. It takes the better part of an hour.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from helper.data import load_suite
from helper.intervals import mean_interval
from helper.recorded import load_recorded

WITH, NO_EXERCISES, UNREAD = "all documents", "no exercises", "60 concepts unread"
LEARNED = 0.25  # share of right answers from which a skill counts as learned
LEFT_OUT, IN_BOTH, IN_NONE = "left out", "in both", "in none"
NEVER_READ = ("refuse", "identity")  # no base read anything of the kind
IN_EXERCISES = ("list", "calculate", "reverse", "uppercase", "first_letter", "sort", "count")


def load_pretraining_gave(path: str | Path | None = None) -> dict:
    """The record. Raises FileNotFoundError where this copy of the course has none."""
    return load_recorded(path or "02_what_pretraining_gave", "`python -m factory.record --only pretraining_gave`")


def groups_of(record: dict) -> dict[str, tuple[str, str, list[int]]]:
    """Skill -> the arm that lacks its documents, the suite, and the places of its questions in it."""
    unread, groups = set(record["unread"]), {}
    for place, row in enumerate(load_suite("instructions")):
        groups.setdefault(row["skill"], (NO_EXERCISES, "instructions", []))[2].append(place)
    for place, row in enumerate(load_suite("held_out_concepts")):
        kind = "unread" if row["subject"] in unread else "read"
        groups.setdefault(f"{row['skill']}, concept {kind}", (UNREAD, "held_out_concepts", []))[2].append(place)
    return groups


def pretraining_gave(record: dict) -> pd.DataFrame:
    """A row a skill: after SFT with its documents and without, the difference with its 95% interval, and a verdict.

    Right answers are means over the seeds of SFT; the interval is over questions, paired, seeds averaged. Each base has
    one seed of pre-training, which no interval here covers. `own form`: the base with all documents, before SFT.
    `documents`: whether the second base lacks those of the skill ("left out"); "in both" are controls.
    """
    rows = {}
    for skill, (arm, suite, places) in groups_of(record).items():
        each = {name: _rights(record, name, suite, places) for name in (WITH, arm)}
        apart = each[arm].mean(0) - each[WITH].mean(0)
        low, high = mean_interval(apart.tolist(), bounds=(-1.0, 1.0))
        own = [text for text in (record["bases"][WITH]["own_form"][suite][i] for i in places) if text != "-"]
        there, gone = float(each[WITH].mean()), float(each[arm].mean())
        rows[skill] = {
            "n": len(places), "documents": documents_of(skill),
            "own form": own.count("1") / len(own) if own else float("nan"), "there": there, "gone": gone,
            "difference": float(apart.mean()), "low": low, "high": high,
            "verdict": verdict(documents_of(skill), there, gone, low, high),
        }  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("skill")


def documents_of(skill: str) -> str:
    """Whether the documents of a skill are left out of the second base's text, in both texts, or in none."""
    if skill in NEVER_READ:
        return IN_NONE
    return LEFT_OUT if skill in IN_EXERCISES or skill.endswith("unread") else IN_BOTH


def verdict(documents: str, there: float, gone: float, low: float, high: float) -> str:
    """What the same SFT did, from the shares with the documents and without, and the interval of the difference.

    "not learned": less than LEARNED in both. "unlocked": lost without the documents, beyond chance, to less than a
    quarter; "unlocked in part": to more than that. "taught": no such loss, or no base read anything of the kind.

    >>> verdict("left out", 0.9, 0.1, -0.9, -0.7), verdict("left out", 0.9, 0.88, -0.1, 0.05)
    ('unlocked', 'taught')
    """
    if max(there, gone) < LEARNED:
        return "not learned"
    if documents == IN_BOTH:
        return "control: moved" if low > 0 or high < 0 else "control: the same"
    if documents == IN_NONE or high >= 0:
        return "taught"
    return "unlocked" if gone < there / 4 else "unlocked in part"


def _rights(record: dict, arm: str, suite: str, places: list[int]) -> np.ndarray:
    """Right and wrong, shape (seeds, questions)."""
    runs = [run["right"][suite] for run in record["runs"] if run["arm"] == arm]
    if not runs:
        raise ValueError(f"The record has no run of {arm!r}.")
    return np.array([[int(right[i]) for i in places] for right in runs], dtype=float)
