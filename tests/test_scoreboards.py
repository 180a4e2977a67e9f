"""Scoreboards: made, saved and shown."""

import copy
import errno
import json
import math
import os
import random

import numpy as np
import pytest
import torch
from kill_saves import kill_saves, left, save_pairs

from helper import scoreboards
from helper.intervals import paired_difference, wilson_interval
from helper.machine.locks import lock
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


@pytest.mark.parametrize("name", ["../x", "/elsewhere/x", "a/b", "a\\b", "C:x", "x/", "", ".", "..", "/"])
def test_a_name_that_leaves_outputs_is_refused_before_anything_is_written(name, model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "outputs"))
    with pytest.raises(ValueError, match="is no lesson's name"):
        save_scoreboard(name, 0, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3), np.array(3), np.array([3])])
def test_numbers_of_numpy_and_torch_are_saved(seed, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    board = scoreboard({"f": (np.array([0, 1]), np.array([True, True]))}).astype({"before": object})
    board.loc[0, "before"] = np.float32(0.5)
    saved = json.loads(save_scoreboard("02_sft", seed, torch.device("cpu"), np.float32(2), board).read_text())
    assert saved["seed"] == 3 and saved["train_seconds"] == 2.0 and saved["metrics"][0]["before"] == 0.5
    with pytest.raises(TypeError, match="is no plain number or text"):
        save_scoreboard("02_sft", object(), "cpu", 1.0, board)


def test_a_metric_of_one_value_is_saved_and_shown(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    board = scoreboard({"right": ([True], [False]), "share": ([0.5], [0.75]), "words": ([10.0], [12.0])})
    right, share, words = json.loads(save_scoreboard("02_sft", 0, "cpu", 1.0, board).read_text())["metrics"]
    assert right["difference"] == -1 and -1 <= right["difference_low"] < right["difference_high"] <= 1
    assert (share["after_low"], share["after_high"]) == (0, 1)
    assert (share["difference"], share["difference_low"], share["difference_high"]) == (0.25, -1, 1)
    bounds = [f"{name}_{end}" for name in ("before", "after", "difference") for end in ("low", "high")]
    assert words["difference"] == 2 and [words[bound] for bound in bounds] == [None] * 6
    assert scoreboard_table(board).loc["words", "change"] == "+2.0 (-inf to +inf)"
    board.loc[2, "after"] = math.inf  # a value is no bound
    with pytest.raises(ValueError):
        save_scoreboard("02_sft", 0, "cpu", 1.0, board)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_spoiled_model_is_not_saved_in_the_place_of_a_good_one(value, model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    board = scoreboard({"f": ([True], [True])})
    path = save_scoreboard("02_sft", 0, "cpu", 1.0, board, model, tokenizer)
    spoiled, files = copy.deepcopy(model), contents(tmp_path)
    spoiled.model.norm.weight.data[3] = value
    with pytest.raises(ValueError, match="1 of the model's weights hold nan or inf, such as model.norm.weight"):
        save_scoreboard("02_sft", 1, "cpu", 1.0, board, spoiled, tokenizer)
    assert contents(tmp_path) == files and json.loads(path.read_text())["seed"] == 0


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_error_in_the_scoreboard_leaves_model_and_file_as_they_were(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    board = scoreboard({"f": ([True], [True])})
    save_scoreboard("02_sft", 0, "cpu", 1.0, board, model, tokenizer)
    files = contents(tmp_path)

    def broken(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tokenizer), "save_pretrained", broken)
    with pytest.raises(KeyboardInterrupt):
        save_scoreboard("02_sft", 1, "cpu", 1.0, board, model, tokenizer)
    assert contents(tmp_path) == files and sorted(path.name for path in tmp_path.iterdir()) == ["02_sft", "02_sft.json"]


def test_what_a_killed_process_left_is_no_hindrance(tokenizer, model, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    (tmp_path / "02_sft" / "model.unfinished").mkdir(parents=True)
    (tmp_path / "02_sft" / "model").symlink_to("nowhere")
    (tmp_path / "02_sft.json.unfinished").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "02_sft.json.lock").write_text("")
    save_scoreboard("02_sft", 0, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert (tmp_path / "02_sft" / "model" / "model.safetensors").exists() and not (tmp_path / "elsewhere").exists()
    names = {path.name for path in tmp_path.rglob("*") if path.parent.name != "model"}
    assert names == {"02_sft", "02_sft.json", "model"}


def test_a_process_that_waits_too_long_for_another_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    monkeypatch.setattr(scoreboards, "LONGEST_SAVE", 0.01)
    with lock(tmp_path / "02_sft.json.lock"), pytest.raises(RuntimeError, match="has been saving 02_sft for 0.01 seconds"):
        save_scoreboard("02_sft", 0, "cpu", 1.0, scoreboard({"f": ([True], [True])}))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_kills_and_pairs_of_savers_leave_a_model_that_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    chance = random.Random(1)
    assert kill_saves(5, chance, tmp_path) == save_pairs(4, chance, tmp_path) == left(tmp_path) == []
