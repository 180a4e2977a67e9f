"""Measuring: a suite of questions answered and graded, its accuracy, and two such tables compared.

Left out on purpose: models as judges. Intervals: `helper.intervals`; what is saved: `helper.scoreboards`.
"""

import math

import pandas as pd

from helper.generation import generate_responses
from helper.graders import grade
from helper.intervals import wilson_interval
from helper.scoreboards import scoreboard


def evaluate(model, tokenizer, rows: list[dict], max_new_tokens: int = 128, batch_size: int = 64) -> pd.DataFrame:
    """Answer and grade every row of a suite (greedy): a table of id, skill, question, answer, right.

    `rows` have id, skill, question, perhaps system, and the fields that `helper.graders.grade` reads.
    """
    conversations = []
    for row in rows:
        system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
        conversations.append([*system, {"role": "user", "content": row["question"]}])
    answers = generate_responses(
        model, tokenizer, full_message=conversations, max_new_tokens=max_new_tokens, batch_size=batch_size
    )
    table = [
        {
            **{key: row[key] for key in ("id", "skill", "question")},
            "answer": answer,
            "right": bool(grade(row, answer)),
        }
        for row, answer in zip(rows, answers, strict=True)
    ]
    return pd.DataFrame(table, columns=["id", "skill", "question", "answer", "right"])


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
