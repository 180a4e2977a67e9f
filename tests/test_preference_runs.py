"""The recorded runs of lesson 03: tables, paired differences and verdicts by hand, and what is committed."""

import pandas as pd
import pytest

from helper.figures.preferences import plot_differences, plot_success_against_kl
from helper.intervals import few_runs_interval
from helper.preference_runs import KINDS, apart, arms_table, load_preference_runs, runs_table, verdict
from helper.recorded import is_verdicts

RECORD = {
    "before": {"suite": "0000"},
    "runs": [
        {"arm": "one", "seed": 0, "suite": "1110"},
        {"arm": "one", "seed": 1, "suite": "1100"},
        {"arm": "two", "seed": 0, "suite": "1000"},
        {"arm": "two", "seed": 1, "suite": "1000"},
    ],
}


def picked(arm):
    return lambda run: run["arm"] == arm


def test_a_run_becomes_its_shares():
    assert runs_table(RECORD)["suite"].tolist() == [0.75, 0.5, 0.25, 0.25]
    table = arms_table(RECORD, "arm", ["suite"])
    assert table["arm"].tolist() == ["one", "two"] and table["suite"].tolist() == [0.625, 0.25]
    assert table["suite, seeds"].tolist() == ["50% to 75%", "25% to 25%"]
    assert arms_table(RECORD, ["arm", "seed"], ["suite"])["seeds"].tolist() == [1, 1, 1, 1]


def test_arms_are_paired_by_question_and_seed():
    found = apart(RECORD, "suite", picked("one"), picked("two"))
    assert found["difference"] == pytest.approx(0.375) and found["seeds"] == [0.5, 0.25]
    assert found["low"] < 0.375 < found["high"]
    assert apart(RECORD, "suite", picked("one"))["difference"] == pytest.approx(0.625)  # against before
    with pytest.raises(ValueError, match="No seed in common"):
        apart(RECORD, "suite", picked("one"), picked("three"))


def test_a_difference_counts_only_beyond_the_chance_of_questions_and_of_seeds():
    sure = {"difference": 0.1, "low": 0.05, "high": 0.15, "seeds": [0.1, 0.12, 0.08], "seeds_low": 0.05, "seeds_high": 0.15}
    told = "+10.0 points (over questions +5.0 to +15.0; over seeds +5.0 to +15.0); by seed +10.0, +12.0, +8.0"
    assert verdict(sure, "A", "B") == f"A beats B: {told}"
    lost = {key: [-d for d in value] if key == "seeds" else -value for key, value in sure.items()}
    lost |= {"low": -0.15, "high": -0.05, "seeds_low": -0.15, "seeds_high": -0.05}
    assert " loses to B: " in verdict(lost, "A", "B")
    few = {"seeds_low": -0.02, "seeds_high": 0.22}
    for change in ({"low": -0.01}, few | {"seeds": [0.1, 0.2, -0.01]}, few | {"seeds": [0.1, 0.2, 0.0]}):
        assert "is not told apart from B: " in verdict(sure | change, "A", "B"), change
    assert verdict(sure | few, "A", "B").startswith("A is ahead of B with every seed, not settled over seeds: +10.0")
    few = {"seeds_low": -0.22, "seeds_high": 0.02}
    assert " is behind B with every seed, not settled over seeds: -10.0" in verdict(lost | few, "A", "B")
    alike = {"seeds": [0.1] * 3, "seeds_low": 0.1, "seeds_high": 0.1 + 1e-16}
    assert "A beats B: +10.0 points (over questions +5.0 to +15.0; the seeds all alike)" in verdict(sure | alike, "A", "B")
    one = {"seeds": [0.1], "seeds_low": -1.0, "seeds_high": 1.0}
    assert verdict(sure | one, "A", "B") == "A is ahead of B with the one seed: +10.0 points (over questions +5.0 to +15.0)"


def test_the_seeds_interval_is_that_of_few_runs():
    found = apart(RECORD, "suite", picked("one"), picked("two"))
    low, high = few_runs_interval([0.5, 0.25])[1:]
    assert low < -1 and high > 1 and (found["seeds_low"], found["seeds_high"]) == (-1, 1)  # no difference is larger


def test_success_is_drawn_against_kl():
    rows = [("both", 0.1, rate, name, kl) for rate, name, kl in ((1e-4, 0.2, 1.0), (1e-4, 0.4, 3.0), (1e-3, 0.9, 8.0))]
    runs = pd.DataFrame(rows, columns=["loss", "beta", "learning_rate", "name", "kl_name"])
    figure = plot_success_against_kl(runs, {"both": "with it"})
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == [2.0, 8.0] and line.get_ydata().tolist() == pytest.approx([0.3, 0.9])
    assert "with it, β = 0.1: at most 90%, at learning rate 0.001 and 8.0 nats" in figure.alt


def test_differences_are_drawn_in_points():
    found = apart(RECORD, "suite", picked("one"), picked("two"))
    figure = plot_differences({"one": found}, "points more")
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert dots[0].get_xdata().tolist() == [50.0, 25.0] and "one +37.5 (" in figure.alt


@pytest.mark.parametrize("kind", KINDS)
def test_the_record_is_whole(kind):
    """Three seeds of every arm, as many verdicts in each run as before."""
    record = load_preference_runs(kind)
    seeds = {}
    for run in record["runs"]:
        about = {key: value for key, value in run.items() if isinstance(value, str) and not is_verdicts(value)}
        cell = (*about.values(), run.get("beta"), run.get("learning_rate") if kind == "beta_map" else None)
        seeds.setdefault(cell, set()).add(run["seed"])
    assert all(len(found) >= 3 for found in seeds.values()), seeds
    assert len(seeds) == {"contrast": 8, "beta_map": 32, "variants": 8, "new_names": 6}[kind]
    before = record["before"]["Orvelin"] if kind == "new_names" else record["before"]
    for run in record["runs"]:
        for suite, verdicts in run.items():
            assert not is_verdicts(verdicts) or len(verdicts) == len(before[suite])


def test_another_name_is_an_error():
    with pytest.raises(ValueError, match="no record of lesson 03"):
        load_preference_runs("gamma")
