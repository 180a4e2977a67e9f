"""Scoreboards: metrics before and after training with their intervals, as tables and as files."""

import errno
import json
import math
import os
import shutil
from contextlib import suppress
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import torch

from helper.intervals import mean_interval, paired_difference, paired_length, wilson_interval
from helper.machine.folders import disk_is_full, output_folder, remove, replaced_folder
from helper.machine.locks import LockHeld, lock
from helper.machine.memory import peak_memory_mb

LONGEST_SAVE = 600  # seconds that one process waits for another one to save


def scoreboard(metrics: dict[str, tuple[list, list]]) -> pd.DataFrame:
    """One row a metric from its values on the same questions before and after training.

    Columns: name, n, before, after, before_low, before_high, after_low, after_high, difference,
    difference_low, difference_high. Values are right/wrong (Wilson and Newcombe intervals) or numbers such
    as pass@8 a question (normal approximation for means, the difference's from the pairs).
    """
    return pd.DataFrame([_score(name, before, after) for name, (before, after) in metrics.items()])


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

    Each is written whole or not at all: an interrupted run leaves the earlier result as it was, and of two processes that
    save the same lesson one waits for the other. A bound at infinity, as of one value, becomes null. Raises ValueError
    when `lesson` is no plain name, a number is nan or a weight of the model is not finite, OSError when the disk is full.
    """
    if lesson in ("", "..") or lesson != PureWindowsPath(lesson).name:  # it knows all that separates names anywhere
        raise ValueError(f'"{lesson}" is no lesson\'s name: it must be one plain name, such as "02_sft".')
    record = {
        "lesson": lesson, "seed": seed, "device": str(device),
        "train_seconds": round(float(train_seconds), 1), "peak_memory_mb": round(peak_memory_mb(device)),
        "metrics": [_without_infinite(row) for row in scoreboard.to_dict("records")],
    }  # fmt: skip
    text = json.dumps(record, indent=2, allow_nan=False, default=_plain_number) + "\n"
    if model is not None:
        _check_weights(model)
    path = output_folder() / f"{lesson}.json"
    try:
        with lock(path.with_suffix(".json.lock"), wait=LONGEST_SAVE):
            _save(path, text, model, tokenizer)
    except LockHeld as held:
        raise RuntimeError(f"{held.holder} has been saving {lesson} for {LONGEST_SAVE} seconds. Try again later.") from None
    except Exception as error:  # the libraries wrap the system's
        if not disk_is_full(error):
            raise
        room = f"{shutil.disk_usage(path.parent).free / 1e6:,.0f} MB free"
        words = f"The disk is full ({room}): {path.parent} could not be written. Earlier results are as they were."
        raise OSError(errno.ENOSPC, f"{words} Make room, then run this cell again.") from None
    return path


def _save(path: Path, text: str, model, tokenizer) -> None:
    """The text and the model; what can fail comes before either takes the place of an older one."""
    unfinished = path.with_suffix(".json.unfinished")
    remove(unfinished)  # left by a process that was killed
    try:
        unfinished.write_text(text, encoding="utf-8")
        if model is not None:
            with replaced_folder(output_folder(path.stem) / "model") as new:
                model.save_pretrained(new)
                if tokenizer is not None:
                    tokenizer.save_pretrained(new)
        os.replace(unfinished, path)
    finally:
        remove(unfinished)


def _without_infinite(row: dict) -> dict:
    """A row of a scoreboard, with None for a bound at infinity, which JSON has no word for."""
    bounds = [key for key, value in row.items() if key.endswith(("_low", "_high")) and math.isinf(value)]
    return row | dict.fromkeys(bounds)


def _plain_number(value):
    """NumPy's and PyTorch's numbers as Python's, for JSON."""
    with suppress(AttributeError, ValueError, RuntimeError):
        return value.item()
    raise TypeError(f"{value!r} is no plain number or text: a scoreboard cannot hold it.")


def _check_weights(model) -> None:
    """Raise ValueError for weights that are nan or inf: greedy answers of such a model are empty, without a word."""
    spoiled = [name for name, weight in model.named_parameters() if not torch.isfinite(weight.float()).all()]
    if spoiled:
        raise ValueError(
            f"{len(spoiled)} of the model's weights hold nan or inf, such as {spoiled[0]}: it is not saved, and earlier "
            "results are as they were. Load the model again, and train it with a smaller learning_rate."
        )


def _score(name: str, before: list, after: list) -> dict:
    n = paired_length(before, after)
    if all(value in (0, 1) for value in [*before, *after]):
        first, second = wilson_interval(int(sum(before)), n), wilson_interval(int(sum(after)), n)
        difference = paired_difference(before, after)
    else:
        first, second = mean_interval(before), mean_interval(after)
        pairs = np.subtract(after, before, dtype=float)
        bounds = (-1.0, 1.0) if 0 <= min(*before, *after) <= max(*before, *after) <= 1 else (-math.inf, math.inf)
        difference = (float(pairs.mean()), *mean_interval(pairs, bounds=bounds))
    return {
        "name": name, "n": n, "before": float(np.mean(before)), "after": float(np.mean(after)),
        "before_low": first[0], "before_high": first[1], "after_low": second[0], "after_high": second[1],
        "difference": difference[0], "difference_low": difference[1], "difference_high": difference[2],
    }  # fmt: skip


def _with_interval(row: dict, key: str, signed: bool = False) -> str:
    """For example "35.6% (31.5 to 39.9)", or as a change "+43.6 points (38.1 to 48.7)"."""
    share = min(row["before_low"], row["after_low"]) >= 0 and max(row["before_high"], row["after_high"]) <= 1
    value, low, high = ((100 if share else 1) * row[name] for name in (key, f"{key}_low", f"{key}_high"))
    unit = (" points" if signed else "%") if share else ""
    form = "+.1f" if signed else ".1f"
    return f"{value:{form}}{unit} ({low:{form}} to {high:{form}})"
