"""pass@k of recorded samples by hand: bands, crossings, majority votes, reweighting; and what is committed."""

import numpy as np
import pandas as pd
import pytest

from helper import practice_runs as runs
from helper import recorded
from helper.explorers.pass_at_k import explore_reweighting
from helper.figures.pass_at_k import plot_pass_at_k

RECORD = {
    "samples": 64,
    "runs": [
        {"model": "SFT", "suite": "near", "correct": [0, 3, 32, 64], "wrong": [[40, 24], [30, 31], [16, 16], []]},
        {"model": "RL", "suite": "near", "correct": [0, 30, 64, 64], "wrong": [[64], [34], [], []]},
    ],
}


def test_pass_rates_are_those_of_all_choices():
    rates = runs.pass_rates([0, 1, 64], 64, (1, 2, 64))
    assert rates[0].tolist() == [0, 0, 0] and rates[2].tolist() == [1, 1, 1]
    assert rates[1].tolist() == pytest.approx([1 / 64, 2 / 64, 1])
    with pytest.raises(ValueError, match="pass_at_k needs"):
        runs.pass_rates([3], 2, (1,))


def test_the_band_holds_the_mean_and_is_that_of_the_problems():
    rates = np.repeat([[0.0], [1.0]], 50, axis=0)
    mean, low, high = (values[0] for values in runs.band(rates))
    assert mean == 0.5 and low == pytest.approx(0.4, abs=0.02) and high == pytest.approx(0.6, abs=0.02)
    assert [values[0] for values in runs.band(np.ones((9, 1)))] == [1, 1, 1]  # alike: another choice changes nothing


def test_a_lead_is_paired_by_problem():
    found = runs.lead(RECORD, "near", "RL", "SFT", (1,))
    assert found["difference"][1] == pytest.approx((27 + 32) / 64 / 4) and found["low"][1] >= 0
    with pytest.raises(ValueError, match="no samples"):
        runs.lead(RECORD, "far", "RL", "SFT")


CROSSINGS = [
    ((0.3, 0.1, -0.1), 4), ((0.2, -0.1, -0.2), 2), ((0.3, 0.1, 0.0), None), ((0.3, -0.1, 0.1), None),
    ((0.1, 0.2, 0.3), None), ((0.0, 0.1, -0.1), 4), ((0.1, -0.1, 0.0), None), ((0.1, 0.0, -0.1), 4), ((0.0, 0.0, 0.0), None),
]  # fmt: skip


@pytest.mark.parametrize("differences, k", CROSSINGS)
def test_the_crossing_is_where_a_lead_is_lost_for_good_whichever_way_round(differences, k):
    for sign in (1, -1):
        assert runs.crossing(pd.Series([sign * d for d in differences], index=[1, 2, 4])) == k


def gap_of(*rows: tuple[float, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["difference", "low", "high"], index=[1, 2, 4][: len(rows)])


def test_a_crossing_in_words_names_who_passes_and_where_it_is_told_apart():
    gap = gap_of((-0.2, -0.3, -0.1), (0.1, -0.1, 0.3), (0.2, 0.1, 0.3))
    passes = "passes {} by k = 2, +10.0 points (-10.0 to +30.0), told apart at k = 4"
    assert runs.crossing_in_words(gap, "RL", "SFT") == "the curves cross: RL " + passes.format("SFT")
    turned = gap_of((0.2, 0.1, 0.3), (-0.1, -0.3, 0.1), (-0.2, -0.3, -0.1))
    assert runs.crossing_in_words(turned, "RL", "SFT") == "the curves cross: SFT " + passes.format("RL")
    open_gap = gap_of((-0.2, -0.3, -0.1), (0.1, -0.1, 0.3))
    assert runs.crossing_in_words(open_gap, "RL", "SFT").endswith("not told apart there or at any larger k")
    assert runs.crossing_in_words(gap_of((0.2, 0.1, 0.3)), "RL", "SFT") == "the curves do not cross"
    back = gap_of((0.2, 0.1, 0.3), (-0.1, -0.2, 0.1), (0.2, 0.1, 0.3))
    assert runs.crossing_in_words(back, "RL", "SFT") == "the curves cross, and neither passes the other for good"


def test_sharpening_makes_the_commonest_answer_win():
    correct, wrong = [20, 20, 0, 0], [[10, 10], [30], [5], []]
    assert runs.sharpened(correct, wrong, 1).tolist() == pytest.approx([0.5, 0.4, 0, 0])
    assert runs.sharpened(correct, wrong, 2)[1] == pytest.approx(0.4**2 / (0.4**2 + 0.6**2))
    assert runs.sharpened(correct, wrong, 500).tolist() == pytest.approx([1, 0, 0, 0], abs=1e-6)
    assert runs.majority(correct, wrong).tolist() == [1, 0, 0, 0]
    assert runs.majority([7], [[7, 1]]).tolist() == [0.5]


def test_a_reward_multiplies_the_odds_and_makes_nothing_new():
    tilted = runs.tilted([0, 1, 10, 20], 20, 19)
    assert tilted.tolist() == pytest.approx([0, 0.5, 0.95, 1])
    assert runs.pass_of(np.array([0.05, 0.5]), (8,)).ravel().tolist() == pytest.approx([0.337, 0.996], abs=1e-3)


def test_the_figure_and_the_explorer_say_what_they_show():
    table = runs.pass_table(RECORD, "near")
    assert table.groupby("model")["n"].first().tolist() == [4, 4]
    figure = plot_pass_at_k({"near": table})
    assert "near: SFT" in figure.alt and "k = 64" in figure.alt
    explorer = explore_reweighting(RECORD)
    first = explorer.shown.words
    explorer.controls["strength"].value = 5
    assert explorer.shown.words != first and "never solved before: 1 of 4" in explorer.shown.words
    sharper = explorer.shown.words
    explorer.controls["way"].value = "pay"
    assert explorer.shown.words != sharper


@pytest.mark.parametrize("kind", runs.KINDS)
def test_the_records_name_their_command(kind, tmp_path, monkeypatch):
    record = runs.load_practice_runs(kind)
    assert record["command"].startswith(f"python -m factory.record --only {kind}")
    monkeypatch.setattr(recorded, "project_folder", lambda: tmp_path)
    nothing = runs.load_practice_runs(kind)
    assert nothing["runs"] == [] and f"--only {kind}" in runs.what_is_recorded(nothing)


def test_what_is_recorded_is_counted():
    arms = [{"arm": "a", "seed": 0, "steps": 32}, {"arm": "a", "seed": 0, "steps": 64}, {"arm": "b", "seed": 1}]
    assert runs.what_is_recorded({"command": "c", "runs": arms}).endswith("seeds of each arm: a 1, b 1; not timed")
    assert "SFT on near, RL on near" in runs.what_is_recorded({"command": "c", **RECORD})
    assert runs.both_recorded(RECORD, "SFT", "RL") == ["near"] and runs.both_recorded(RECORD, "SFT", "base") == []


def test_the_seconds_are_those_of_trainings():
    rows = [
        {"arm": "sprout-grpo", "seed": 0, "steps": 64, "seconds": 5.0},  # comes with the course
        {"arm": "a", "seed": 0, "steps": 64, "seconds": 300.4},
        {"arm": "a", "seed": 0, "steps": 32, "seconds": 20.0},  # on the way of the row before: tested only
        {"arm": "b", "seed": 0, "steps": 32, "seconds": 79.6},
        {"arm": "b", "seed": 1, "steps": 32, "seconds": 0.0},  # copied
    ]
    assert runs.seconds_of_a_run(rows) == "seconds of a run: 80 to 300"
    assert runs.seconds_of_a_run(rows[:1]) == runs.seconds_of_a_run(rows[4:]) == "not timed"
    timed = {"command": "c", **RECORD, "runs": [{**run, "seconds": 60 + i} for i, run in enumerate(RECORD["runs"])]}
    assert runs.what_is_recorded(timed).endswith("RL on near; seconds of a run: 60 to 61")


def test_an_unknown_record_is_refused():
    with pytest.raises(ValueError, match="no record of lesson 04"):
        runs.load_practice_runs("beta_map")
