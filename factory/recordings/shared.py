"""What the recordings share: where and how a record is written, the folder of a run, the model and problems to practise.

Left out on purpose: everything that only one lesson's recordings use.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from factory import ROOT
from helper import extract_gold, load_course_dataset, load_model_and_tokenizer

RECORDED = ROOT / "data" / "recorded"


def write(record: dict | list, path: Path) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def command(name: str, seeds: list[int]) -> str:
    """The command that makes a recording again, as its record tells it."""
    return f"python -m factory.record --only {name} --seeds {' '.join(map(str, seeds))}"


def fresh(name: str) -> Path:
    """An empty folder for a run."""
    folder = ROOT / "runs" / "record" / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def curve(rewards: Iterable) -> list[float]:
    """The reward of each step, rounded."""
    return [round(float(reward), 3) for reward in rewards]


def model_and_problems() -> tuple:
    """`sprout-instruct` in float32, its tokenizer, and the problems of `sprout-maths` with their expected answers."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    rows = [
        {"prompt": [{"role": "user", "content": row["question"]}], "ground_truth": extract_gold(row["answer"])}
        for row in load_course_dataset("sprout-maths")
    ]
    return model.float(), tokenizer, rows
