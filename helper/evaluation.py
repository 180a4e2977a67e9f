"""Measuring: a suite of questions answered and graded, its accuracy, and two such tables compared.

Left out on purpose: models as judges. Intervals: `helper.intervals`; what is saved: `helper.scoreboards`.
"""

import math
from collections.abc import Iterable

import pandas as pd

from helper.generation import generate_responses
from helper.graders import check_row, grade
from helper.intervals import wilson_interval
from helper.scoreboards import scoreboard
from helper.symbolic import saying_what_ran_out


def evaluate(model, tokenizer, rows: list[dict], max_new_tokens: int = 128, batch_size: int = 64) -> pd.DataFrame:
    """Answer and grade every row of a suite (greedy): a table of id, skill, question, answer, right.

    `rows` have id, skill, question, perhaps system (a text) and history (earlier turns, as messages), and the fields that
    `helper.graders.grade` reads. Raises TypeError or ValueError before anything is generated, naming the row.
    """
    rows, conversations = _checked(rows), []
    for row in rows:
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        conversations.append([*system, *(row.get("history") or []), {"role": "user", "content": row["question"]}])
    answers = generate_responses(
        model, tokenizer, full_message=conversations, max_new_tokens=max_new_tokens, batch_size=batch_size
    )
    with saying_what_ran_out():
        rights = [bool(grade(row, answer)) for row, answer in zip(rows, answers, strict=True)]
    asked = {key: [row[key] for row in rows] for key in ("id", "skill", "question")}
    return pd.DataFrame({**asked, "answer": answers, "right": pd.Series(rights, dtype=bool)})


def _checked(rows) -> list[dict]:
    """The rows as a list, each of which can be asked and graded."""
    if isinstance(rows, str | dict | pd.DataFrame) or not isinstance(rows, Iterable):
        hints = {str: ": load it first, load_suite(name)", dict: ": put a single row into a list"}
        hint = hints.get(type(rows), ', as rows.to_dict("records") makes them' if isinstance(rows, pd.DataFrame) else "")
        raise TypeError(f"The rows of a suite are a list of dicts, not a {type(rows).__name__}{hint}.")
    rows = list(rows)
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise TypeError(f"Row {number} is a {type(row).__name__}, not a dict with id, skill and question.")
        missing = [key for key in ("id", "skill", "question") if row.get(key) is None]
        if missing:
            raise ValueError(
                f"Row {number} has no {missing[0]}: a suite's rows have id, skill, question and what grades them."
            )
        check_row(row, f"Row {number} (id {row['id']!r:.40})")
    return rows


def accuracy_table(results: pd.DataFrame, by: str | None = "skill") -> pd.DataFrame:
    """The share of right answers for each value of `by`, and for all: n, right, low, high."""
    groups = {} if by is None else dict(list(results.groupby(by, sort=False)["right"]))
    if len(groups) != 1:
        groups["all"] = results["right"]
    table = {}
    for name, right in groups.items():
        low, high = wilson_interval(int(right.sum()), len(right))
        table[name] = {
            "n": len(right),
            "right": float(right.mean()) if len(right) else math.nan,
            "low": low,
            "high": high,
        }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(by or "group")


def compare(before: pd.DataFrame, after: pd.DataFrame, by: str | None = None) -> pd.DataFrame:
    """Two tables of `evaluate`, paired on id: a row for each value of `by`, the columns of `scoreboard`."""
    if before["id"].duplicated().any() or set(before["id"]) != set(after["id"]) or len(before) != len(after):
        raise ValueError("The two tables must hold the same questions, each id once.")
    paired = before.merge(after[["id", "right"]], on="id", suffixes=("_before", "_after"))
    groups = {} if by is None else dict(list(paired.groupby(by, sort=False)))
    if len(groups) != 1:
        groups["all"] = paired
    return scoreboard({k: (g["right_before"].tolist(), g["right_after"].tolist()) for k, g in groups.items()})
