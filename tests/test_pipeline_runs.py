"""The recorded runs of lesson 09: means of arms, differences seed by seed, and what is said of one seed or none."""

import pytest

from helper import pipeline_runs as runs

RECORD = {
    "runs": [
        {"arm": "SFT", "seed": 0, "kl": 2.0, "suite": "1100", "reached": True},
        {"arm": "SFT", "seed": 1, "kl": 3.0, "suite": "1111", "reached": False},
        {"arm": "GRPO", "seed": 1, "kl": 1.0, "suite": "0000", "reached": True},
        {"arm": "GRPO", "seed": 0, "kl": 0.5, "suite": "1000", "reached": True},
    ]
}


def test_means_of_arms():
    table = runs.of_arms(RECORD, ["kl", "suite", "reached"])
    assert table.loc["SFT"].tolist() == [2, 2.5, 0.75, 1] and table.loc["GRPO", "reached"] == 2
    assert list(table.index) == ["SFT", "GRPO"]


def test_differences_are_paired_by_seed():
    mean, low, high, seeds = runs.gap(RECORD, "kl", "SFT", "GRPO")
    assert (mean, seeds) == (1.75, 2) and low < mean < high
    with pytest.raises(ValueError, match="no seed in common"):
        runs.gap(RECORD, "kl", "SFT", "PPO")


def test_words():
    assert "within chance" in runs.gap_in_words(RECORD, "kl", "SFT", "GRPO")
    more = {"runs": [{"arm": arm, "seed": s, "kl": k + s / 100} for s in range(5) for arm, k in (("a", 2), ("b", 1))]}
    said = runs.gap_in_words(more, "kl", "a", "b")
    assert "+1.000 nats" in said and "beyond chance" in said
    one = {"runs": [run for run in RECORD["runs"] if run["seed"] == 0]}
    assert "one seed" in runs.gap_in_words(one, "kl", "SFT", "GRPO")


def test_all_arms_against_one():
    near = [{"arm": arm, "seed": s, "kl": k + s + d / 100, "suite": "11" if arm == "b" else "10"}
            for s in range(3) for arm, k, d in (("a", 2, s), ("b", 3, 0), ("c", 2, -s))]  # fmt: skip
    table = runs.against({"runs": [*near, {**near[0], "seed": 9, "kl": 99.0}]}, "a", ["kl", "suite"])
    assert list(table.index) == [("kl", "b"), ("kl", "c"), ("suite", "b"), ("suite", "c")]
    assert table.loc[("kl", "b"), "difference"] == pytest.approx(0.99) and table.loc[("suite", "b"), "difference"] == 50
    assert table["verdict"].tolist() == ["beyond chance", "no difference seen", "beyond chance", "no difference seen"]
    assert (table["all"] >= table["one"]).all()
    with pytest.raises(ValueError, match="two or more seeds"):
        runs.against({"runs": near[:3]}, "a", ["kl"])


def test_a_record_that_is_not_there_names_its_command(monkeypatch):
    def missing(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr("helper.recorded.load_recorded", missing)
    record = runs.load_pipeline_runs("razor")
    assert record["runs"] == [] and "--only razor" in record["command"]
    with pytest.raises(ValueError, match="razor, kl_prices, two_rounds"):
        runs.load_pipeline_runs("beta")
