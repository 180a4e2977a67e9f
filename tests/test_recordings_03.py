"""The recordings of lesson 03: what is made of sampled answers, resuming, and that the records are those of the code."""

import json

import pytest
import torch

from factory.recordings import lesson_03
from factory.recordings.shared import RECORDED
from helper.algorithms import preference_losses

SAMPLES = [
    {"question": "q", "written": "w", "texts": ["a", "b", "c"], "right": [True, False, True]},
    {"question": "r", "written": "v", "texts": ["d", "e", "d"], "right": [False, False, False]},
    {"question": "s", "written": "u", "texts": ["f", "g", "h"], "right": [True, True, True]},
]


def texts(what):
    rows = lesson_03.made_of(SAMPLES, what, seed=0)
    return [tuple(row[side][0]["content"] for side in ("prompt", "chosen", "rejected") if side in row) for row in rows]


def test_each_arm_takes_its_part_of_the_samples():
    assert texts("one right") == [("q", "a"), ("s", "f")]
    assert texts("all right") == [("q", "a"), ("q", "c"), ("s", "f"), ("s", "g"), ("s", "h")]
    assert texts("right against wrong") == [("q", "a", "b")]
    assert texts("written against wrong") == [("q", "w", "b"), ("r", "v", "d")]
    assert texts("written") == [("q", "w"), ("r", "v")]
    assert [asked for asked, _ in texts("random")] == ["q", "r", "s"]
    assert all(chosen != rejected for _, chosen, rejected in texts("random pairs"))
    assert {what for what, *_ in lesson_03.ARMS.values()} == {
        "one right", "all right", "right against wrong", "written against wrong", "written", "random", "random pairs",
    }  # fmt: skip


def test_the_controls_are_blind_to_what_is_right():
    blind = [{**sample, "right": [not good for good in sample["right"]]} for sample in SAMPLES]
    for what in ("random", "random pairs"):
        assert lesson_03.made_of(SAMPLES, what, seed=3) == lesson_03.made_of(blind, what, seed=3)


def test_a_recording_goes_on_where_it_was(tmp_path):
    path, made = tmp_path / "record.json", []

    def run():
        made.append(1)
        return {"name": "01"}

    head = {"steps": 2, "betas": (0.1, 0.5)}
    for _ in range(2):
        lesson_03.once(lesson_03.resumed(path, head), path, "runs", {"beta": 0.1, "seed": 0}, run)
    assert made == [1] and json.loads(path.read_text())["runs"][0]["name"] == "01"
    assert lesson_03.resumed(path, head | {"steps": 3})["runs"] == []


def test_an_anchor_has_no_push_in_the_contrast():
    """So the recordings may leave anchors out where the contrast is alone."""
    side = torch.tensor([-2.0, -3.0], requires_grad=True)
    reference, tokens = torch.tensor([-2.5, -2.0]), torch.tensor([4.0, 5.0])
    pairs = preference_losses.Pairs(side, side, reference, reference, tokens, tokens)
    preference_losses.sigmoid(pairs, 0.5).backward()
    assert side.grad.abs().max() == 0


@pytest.mark.parametrize("kind, arm", [("contrast", "arm"), ("variants", "method")])
def test_each_arm_runs_at_the_best_of_its_rates(kind, arm):
    record = json.loads((RECORDED / f"03_{kind}.json").read_text())
    arms = {row[arm] for row in record["tuning"]}
    assert arms == set(lesson_03.ARMS if kind == "contrast" else lesson_03.VARIANTS)
    for name in arms:
        tried = [row for row in record["tuning"] if row[arm] == name]
        assert len(tried) == 3

        def score(row):
            return row["validation"] if kind == "contrast" else sum(map(lesson_03.share, (row["name"], row["other_skills"])))

        best = max(tried, key=score)["learning_rate"]
        assert {run["learning_rate"] for run in record["runs"] if run[arm] == name} == {best}


def test_the_records_have_the_settings_of_the_code():
    contrast, beta_map, variants, names = (
        json.loads((RECORDED / f"03_{kind}.json").read_text()) for kind in ("contrast", "beta_map", "variants", "new_names")
    )
    assert lesson_03.CONTRAST.items() <= contrast.items() and contrast["questions"] == lesson_03.QUESTIONS
    assert (beta_map["steps"], variants["steps"]) == (lesson_03.SHORT, lesson_03.SHORT)
    assert len(beta_map["runs"]) == 2 * 4 * 4 * 3 and variants["methods"] == {
        name: settings for name, (_, settings) in lesson_03.VARIANTS.items()
    }
    assert names["names"] == list(lesson_03.NAMES)
