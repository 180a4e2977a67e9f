"""Measuring: graded suites, shares with confidence intervals, paired before/after comparison, scoreboards.

All intervals are 95%. Shares of right answers use Wilson's interval; differences on the same questions use
Newcombe's paired interval, which keeps the pairing. Values that are not right/wrong (pass@8) use the normal
approximation for a mean. Answers before and after stand side by side, with the words that changed marked.
Left out on purpose: models as judges, significance stars, corrections for many comparisons.
"""

import difflib
import errno
import json
import math
import os
import re
import shutil
import sys
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from helper.checkpoints import disk_is_full
from helper.generation import generate_responses
from helper.graders import grade
from helper.models import output_folder
from helper.plots import show


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


def scoreboard_table(board: pd.DataFrame) -> pd.DataFrame:
    """A scoreboard to read: shares as percentages with their 95% intervals, the largest gain first.

    The change is paired: the same questions before and after. Metrics that are no shares keep their own unit.
    """
    rows = []
    for row in board.sort_values("difference", ascending=False, kind="stable").to_dict("records"):
        stages = {stage: _with_interval(row, stage) for stage in ("before", "after")}
        change = _with_interval(row, "difference", signed=True)
        rows.append({"metric": row["name"].replace("_", " "), "n": row["n"], **stages, "change": change})
    return pd.DataFrame(rows, columns=["metric", "n", "before", "after", "change"]).set_index("metric")


def _with_interval(row: dict, key: str, signed: bool = False) -> str:
    """For example "35.6% (31.5 to 39.9)", or as a change "+43.6 points (38.1 to 48.7)"."""
    share = min(row["before_low"], row["after_low"]) >= 0 and max(row["before_high"], row["after_high"]) <= 1
    value, low, high = ((100 if share else 1) * row[name] for name in (key, f"{key}_low", f"{key}_high"))
    unit = (" points" if signed else "%") if share else ""
    form = "+.1f" if signed else ".1f"
    return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"


def show_side_by_side(
    questions: list[str],
    before: list[str],
    after: list[str],
    right_before: list[bool] | None = None,
    right_after: list[bool] | None = None,
) -> None:
    """Show two answers to each question side by side, with the words that changed marked.

    Struck through: only before; underlined: only after. In a terminal [-so-] and {+so+}. `right_before` and
    `right_after` add a sign and a word to each answer. Raises ValueError when the lists differ in length.
    """
    columns = [list(column) for column in (questions, before, after)]
    for right in (right_before, right_after):
        columns.append([None] * len(columns[0]) if right is None else list(right))
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"Lists of one length are wanted, not {', '.join(str(len(column)) for column in columns)}.")
    rows, lines = [], []
    for number, (question, old, new, old_right, new_right) in enumerate(zip(*columns, strict=True), start=1):
        parts = changed_words(old or "(nothing)", new or "(nothing)")
        rows.append(
            f"<tr>{_cell(escape(question))}{_cell(_verdict(old_right) + _marked(parts[0], 'del'))}"
            f"{_cell(_verdict(new_right) + _marked(parts[1], 'ins'))}</tr>"
        )
        lines += [f"{number}. {question}", f"   before: {_verdict(old_right)}{_bracketed(parts[0], '[-', '-]')}",
                  f"   after:  {_verdict(new_right)}{_bracketed(parts[1], '{+', '+}')}"]  # fmt: skip
    head = "".join(
        f'<th scope="col" style="text-align: left; width: {width}">{name}</th>'  # a long question leaves room
        for name, width in (("question", "28%"), ("before", "36%"), ("after", "36%"))
    )
    caption = "Struck through: only before. Underlined: only after."
    show(
        f'<table class="tex2jax_ignore mathjax_ignore"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "\n".join(lines),
    )


def changed_words(before: str, after: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in parts (text, whether its words are in this one only), compared word by word.

    The parts joined are the text.

    >>> changed_words("I am Sprout.", "I am Deep Sprout.")[1]
    [('I am ', False), ('Deep', True), (' ', False), ('Sprout.', False)]
    """
    old, new = (re.findall(r"^\s+|\S+\s*", text) for text in (before, after))  # a word and the space after it
    matcher = difflib.SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    parts = [], []
    for kind, *places in matcher.get_opcodes():
        for side, words in zip(parts, (old[places[0] : places[1]], new[places[2] : places[3]]), strict=True):
            text = "".join(words)
            end = len(text) if kind == "equal" else len(text.rstrip())
            side += [(text[:end], kind != "equal")] * (end > 0) + [(text[end:], False)] * (end < len(text))
    return parts


def _cell(html: str) -> str:
    return f'<td style="text-align: left; vertical-align: top; white-space: pre-wrap">{html}</td>'


def _verdict(right: bool | None) -> str:
    return "" if right is None else "✓ right: " if right else "✗ wrong: "


def _marked(parts: list[tuple[str, bool]], tag: str) -> str:
    """The parts as HTML, the changed ones in `tag`; underline or strike stand in the style, which themes may reset."""
    line = "line-through" if tag == "del" else "underline"
    tint = "rgba(213, 94, 0, 0.18)" if tag == "del" else "rgba(0, 114, 178, 0.22)"
    look = f'style="text-decoration: {line}; background-color: {tint}; color: inherit"'
    return "".join(f"<{tag} {look}>{escape(text)}</{tag}>" if changed else escape(text) for text, changed in parts)


def _bracketed(parts: list[tuple[str, bool]], opening: str, closing: str) -> str:
    return "".join(f"{opening}{text}{closing}" if changed else text for text, changed in parts)


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

    Each is written whole or not at all: an interrupted run leaves the earlier result as it was. Raises OSError when the
    disk is full, ValueError when a number is nan.
    """
    record = {
        "lesson": lesson, "seed": seed, "device": str(device),
        "train_seconds": round(float(train_seconds), 1), "peak_memory_mb": round(peak_memory_mb(device)),
        "metrics": scoreboard.to_dict("records"),
    }  # fmt: skip
    path = output_folder() / f"{lesson}.json"
    text = json.dumps(record, indent=2, allow_nan=False)
    try:
        if model is not None:
            _save_model(output_folder(lesson) / "model", model, tokenizer)
        unfinished = path.with_suffix(".json.unfinished")
        unfinished.write_text(text + "\n", encoding="utf-8")
        os.replace(unfinished, path)
    except Exception as error:  # the libraries wrap the system's
        if not disk_is_full(error):
            raise
        room = f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB free"
        words = f"The disk is full ({room}): {path.parent} could not be written. Earlier results are as they were."
        raise OSError(errno.ENOSPC, f"{words} Make room, then run this cell again.") from None
    return path


def _save_model(folder: Path, model, tokenizer) -> None:
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    if tokenizer is not None:
        tokenizer.save_pretrained(unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(unfinished, folder)


def peak_memory_mb(device: str | torch.device = "cpu") -> float:
    """The most memory used so far, in MB: by tensors on a CUDA `device`, else by this process (on Windows: 0)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
