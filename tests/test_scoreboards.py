"""Scoreboards: made, saved and shown."""

import errno
import json
import math

import numpy as np
import pytest

from helper.intervals import paired_difference, wilson_interval
from helper.scoreboards import save_scoreboard, scoreboard, scoreboard_table

COLUMNS = [
    "name", "n", "before", "after", "before_low", "before_high", "after_low", "after_high",
    "difference", "difference_low", "difference_high",
]  # fmt: skip


def test_scoreboard_takes_right_or_wrong_and_numbers():
    table = scoreboard(
        {
            "right": ([True, False] * 10, [True] * 20),
            "pass@8": ([0.5, 0.75, 0.25, 0.5], [0.5, 1.0, 0.75, 0.75]),
        }
    )
    assert list(table.columns) == COLUMNS and table["n"].tolist() == [20, 4]
    right, mean = table.to_dict("records")
    assert (right["before_low"], right["before_high"]) == wilson_interval(10, 20)
    assert mean["difference"] == pytest.approx(0.25)
    half = 1.96 * np.std([0, 0.25, 0.5, 0.25], ddof=1) / 2
    assert mean["difference_low"] == pytest.approx(0.25 - half) and mean["difference_high"] == pytest.approx(0.25 + half)
    assert 0 <= mean["before_low"] < 0.5 < mean["before_high"] <= 1
    with pytest.raises(ValueError, match="one length"):
        scoreboard({"x": ([True], [True, False])})


def test_saved_whole_or_not_at_all(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    table = scoreboard({"facts": ([False, False], [True, True])})
    path = save_scoreboard("02_sft", 0, "cpu", 61.234, table, model, tokenizer)
    record = json.loads(path.read_text())
    assert path == tmp_path / "02_sft.json"
    assert set(record) == {"lesson", "seed", "device", "train_seconds", "peak_memory_mb", "metrics"}
    assert record["train_seconds"] == 61.2 and list(record["metrics"][0]) == COLUMNS
    assert record["metrics"][0]["after"] == 1.0 and record["peak_memory_mb"] > 50
    saved = tmp_path / "02_sft" / "model"
    assert (saved / "model.safetensors").exists() and (saved / "tokenizer_config.json").exists()
    table.loc[0, "after"] = math.nan  # cannot be written: the earlier file must stay as it was
    with pytest.raises(ValueError):
        save_scoreboard("02_sft", 1, "cpu", 1.0, table)
    assert json.loads(path.read_text()) == record
    save_scoreboard("02_sft", 2, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert sorted(p.name for p in (tmp_path / "02_sft").iterdir()) == ["model"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["02_sft", "02_sft.json"]


def test_a_scoreboard_to_read_is_sorted_and_tells_intervals():
    metrics = {"facts": ([True] * 9 + [False], [True] * 9 + [False]), "word_problems": ([False] * 10, [True] * 10)}
    board = scoreboard({**metrics, "words": ([10.0, 20.0], [5.0, 25.0])})
    table = scoreboard_table(board)
    assert list(table.index) == ["word problems", "facts", "words"] and table["n"].tolist() == [10, 10, 2]
    assert table.loc["word problems", "before"] == "0.0% (0.0 to 27.8)"
    low, high = (100 * value for value in paired_difference(*metrics["word_problems"])[1:])
    assert table.loc["word problems", "change"] == f"+100.0 points ({low:+.1f} to {high:+.1f})"
    assert table.loc["words", "after"].startswith("15.0 (") and "points" not in table.loc["words", "change"]


def test_a_full_disk_is_named_and_leaves_the_earlier_result(tmp_path, monkeypatch, model, tokenizer):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    path = save_scoreboard("02_sft", 0, "cpu", 1.0, scoreboard({"f": ([False], [True])}), model, tokenizer)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors says it

    monkeypatch.setattr(type(model), "save_pretrained", full)
    with pytest.raises(OSError, match="The disk is full .* Make room") as raised:
        save_scoreboard("02_sft", 1, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert raised.value.errno == errno.ENOSPC and path.read_bytes() == before
    assert (tmp_path / "02_sft" / "model" / "model.safetensors").exists()
