"""Measuring: graded suites, shares with confidence intervals, paired before/after comparison, scoreboards.

All intervals are 95%. Shares of right answers use Wilson's interval; differences on the same questions use
Newcombe's paired interval, which keeps the pairing. Values that are not right/wrong (pass@8) use the normal
approximation for a mean. Left out on purpose: judges (lesson 10), significance stars, corrections for many
comparisons.
"""

import json
import math
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helper.generation import generate_responses
from helper.graders import grade
from helper.models import output_folder


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927, JASA 22:209-212). (0, 1) when n is 0.

    >>> low, high = wilson_interval(8, 10)
    >>> f"{low:.3f} {high:.3f}"
    '0.490 0.943'
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share.")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else centre + half
    return low, high


def paired_difference(before: list[bool], after: list[bool]) -> tuple[float, float, float]:
    """After minus before on the same questions: (difference, low, high).

    Newcombe's square-and-add interval for paired shares (Newcombe 1998, Statistics in Medicine 17:2635-2650,
    method 10): Wilson's interval of each share, joined with their (continuity-corrected) correlation.
    """
    n = _same_length(before, after)
    both = sum(bool(x) and bool(y) for x, y in zip(before, after, strict=True))
    first, second = sum(map(bool, before)), sum(map(bool, after))
    p1, p2 = first / n, second / n
    (low1, high1), (low2, high2) = wilson_interval(first, n), wilson_interval(second, n)
    excess = both * (n - first - second + both) - (second - both) * (first - both)  # ad - bc of the 2 x 2 table
    if excess > 0:
        excess = max(excess - n / 2, 0)
    scale = math.sqrt(first * (n - first) * second * (n - second))
    correlation = excess / scale if scale else 0.0
    down = _joined(p2 - low2, high1 - p1, correlation)
    up = _joined(high2 - p2, p1 - low1, correlation)
    return p2 - p1, max(p2 - p1 - down, -1.0), min(p2 - p1 + up, 1.0)


def _joined(x: float, y: float, correlation: float) -> float:
    return math.sqrt(max(x**2 - 2 * correlation * x * y + y**2, 0.0))


def _same_length(before, after) -> int:
    if len(before) != len(after) or not len(before):
        raise ValueError(f"Paired lists must be of one length, and not empty: {len(before)} before, {len(after)} after.")
    return len(before)


def pass_at_k(correct: int, n: int, k: int) -> float:
    """The chance that at least one of k samples is right, from `correct` right among n >= k samples,
    unbiased.

    1 - C(n - correct, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    >>> pass_at_k(1, 4, 2)
    0.5
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k needs 0 <= correct <= n and 1 <= k <= n, not correct={correct}, n={n}, k={k}.")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


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


def scoreboard(metrics: dict[str, tuple[list, list]]) -> pd.DataFrame:
    """One row a metric from its values on the same questions before and after training.

    Columns: name, n, before, after, before_low, before_high, after_low, after_high, difference,
    difference_low, difference_high. Values are right/wrong (Wilson and Newcombe intervals) or numbers such
    as pass@8 a question (normal approximation for means, the difference's from the pairs).
    """
    return pd.DataFrame([_score(name, before, after) for name, (before, after) in metrics.items()])


def _score(name: str, before: list, after: list) -> dict:
    n = _same_length(before, after)
    if all(value in (0, 1) for value in [*before, *after]):
        first, second = wilson_interval(int(sum(before)), n), wilson_interval(int(sum(after)), n)
        difference = paired_difference(before, after)
    else:
        first, second = mean_interval(before), mean_interval(after)
        pairs = np.subtract(after, before, dtype=float)
        difference = (float(pairs.mean()), *mean_interval(pairs, bounds=(-math.inf, math.inf)))
    return {
        "name": name, "n": n, "before": float(np.mean(before)), "after": float(np.mean(after)),
        "before_low": first[0], "before_high": first[1], "after_low": second[0], "after_high": second[1],
        "difference": difference[0], "difference_low": difference[1], "difference_high": difference[2],
    }  # fmt: skip


def mean_interval(values: list[float], z: float = 1.96, bounds: tuple | None = None) -> tuple[float, float]:
    """The normal approximation's interval for a mean: mean ± z·s/√n; kept in [0, 1] when all values are."""
    data = np.asarray(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError("A metric's values must be finite numbers.")
    half = z * data.std(ddof=1) / math.sqrt(len(data)) if len(data) > 1 else math.inf
    if bounds is None:
        bounds = (0.0, 1.0) if data.min() >= 0 and data.max() <= 1 else (-math.inf, math.inf)
    return max(float(data.mean() - half), bounds[0]), min(float(data.mean() + half), bounds[1])


def save_scoreboard(
    lesson: str,
    seed: int,
    device: torch.device | str,
    train_seconds: float,
    scoreboard: pd.DataFrame,
    model=None,
    tokenizer=None,
) -> Path:
    """Write outputs/<lesson>.json and the model to outputs/<lesson>/model; the file's path.

    Each is written whole or not at all: an interrupted run leaves the earlier result as it was.
    """
    if model is not None:
        _save_model(output_folder(lesson) / "model", model, tokenizer)
    record = {
        "lesson": lesson, "seed": seed, "device": str(device),
        "train_seconds": round(float(train_seconds), 1), "peak_memory_mb": round(peak_memory_mb()),
        "metrics": scoreboard.to_dict("records"),
    }  # fmt: skip
    path = output_folder() / f"{lesson}.json"
    text = json.dumps(record, indent=2, allow_nan=False)
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(text + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def _save_model(folder: Path, model, tokenizer) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    if tokenizer is not None:
        tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def peak_memory_mb() -> float:
    """The most memory used so far, in MB: the GPU's when one is in use, else this process's (on Windows: 0)."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
