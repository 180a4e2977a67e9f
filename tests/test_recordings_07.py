"""The recording of lesson 07: its rows and arms, how it chooses a learning rate, and that it goes on where it was."""

import json
import math

import pytest

from factory.recordings import lora_sweep
from factory.recordings.lora_sweep import ARMS, best_rate, prepared, problem_rows, rates, record_lora_sweep
from helper import answers_match, extract_boxed, load_suite
from helper.validation import validate_messages


def test_the_rows_end_in_a_box_with_the_result():
    rows = problem_rows("test")
    assert validate_messages(rows) == 500
    assert all(
        extract_boxed(row["messages"][-1]["content"]) and "####" not in row["messages"][-1]["content"] for row in rows
    )
    problem = load_suite("word_problems")[0]
    assert answers_match(extract_boxed(problem["answer"]), problem["value"])  # the suite's own form


@pytest.mark.parametrize("arm", ["full", "upper half", "attention, rank 2", "all-linear, rank 2"])
def test_what_an_arm_trains(arm):
    model, _ = prepared(arm, seed=0)
    trained = {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}
    if "rank" in arm:
        assert all("lora_" in name for name in trained)
        shapes = {"attention": [(256, 256)] * 2 + [(256, 128)] * 2}
        shapes["all-linear"] = shapes["attention"] + [(256, 768)] * 3
        assert sum(trained.values()) == 4 * sum(2 * sum(shape) for shape in shapes[arm.split(",")[0]])
    else:
        whole = sum(weight.numel() for weight in model.parameters())
        assert sum(trained.values()) == whole if arm == "full" else 0 < sum(trained.values()) < whole / 2 + 1e5
        assert arm == "full" or not any("embed" in name or "layers.0." in name for name in trained)


def test_the_best_rate_is_that_of_the_lowest_loss():
    runs = [
        {"arm": "full", "seed": 0, "learning_rate": rate, "loss": loss}
        for rate, loss in ((1, 0.5), (2, 0.3), (3, 0.4), (4, math.nan))
    ]
    assert best_rate([*runs, {"arm": "full", "seed": 1, "learning_rate": 9, "loss": 0.1}], "full", 0) == 2


def test_a_stopped_recording_goes_on(tmp_path, monkeypatch):
    made, path = [], tmp_path / "record.json"
    monkeypatch.setattr(lora_sweep, "scores", lambda *_: {"word_problems": "01"})

    def one_run(_, arm, rate, seed):
        if len(made) == 30:
            raise KeyboardInterrupt
        made.append((arm, rate, seed))
        return {"arm": arm, "learning_rate": rate, "seed": seed, "loss": abs(math.log(rate / 1e-3)), "right": {"a": "01"}}

    monkeypatch.setattr(lora_sweep, "alone", one_run)
    with pytest.raises(KeyboardInterrupt):
        record_lora_sweep([0, 1, 2], path)
    assert len(json.loads(path.read_text())["runs"]) == 30
    first, made[:] = list(made), []
    with pytest.raises(KeyboardInterrupt):
        record_lora_sweep([0, 1, 2], path)
    second, made[:] = list(made), []
    record_lora_sweep([0, 1, 2], path)
    runs = first + second + made
    number = sum(len(rates(arm)) for arm in ARMS)
    assert len(runs) == len(set(runs)) == number + 2 * len(ARMS) and {seed for *_, seed in runs[:number]} == {0}
    assert {rate for _, rate, seed in runs if seed} == {1e-3}
    assert [(run["arm"], run["learning_rate"], run["seed"]) for run in json.loads(path.read_text())["runs"]] == runs
