"""The recorded runs on a real model: tables paired by question, and what is committed."""

import copy

import pytest

from factory.recordings.real_model import regraded
from helper import load_suite
from helper.figures.scores import plot_arms
from helper.real_runs import answers_of, arms_apart, load_real_runs, real_runs_table

N = len(load_suite("rules"))


def run(arm, seed, right):
    return {"arm": arm, "seed": seed, "seconds": 10, "rules": {"right": right, "answer": [f"{arm} {seed}"] * N}}


HALF = [1] * (N // 2) + [0] * (N - N // 2)
RECORD = {
    "before": {"rules": {"right": [0] * N, "answer": ["before"] * N}},
    "runs": [
        run("a", 0, [1] * N),
        run("a", 1, [0] * N),
        run("b", 0, [1] * (N // 2) + [0] * (N - N // 2)),
        run("c", 0, [0] * N),
    ],
}


def test_table_has_the_mean_and_the_ends_of_the_seeds():
    table = real_runs_table(RECORD, "rules").set_index("arm")
    assert table.loc["a", ["seeds", "n", "before", "after", "lowest", "highest"]].tolist() == [2, N, 0.0, 0.5, 0.0, 1.0]
    assert table.loc["a", ["difference", "difference_low", "difference_high"]].tolist() == [0.5, 0.5, 0.5]  # alike in all
    assert table.loc["b", "difference_low"] < 0.5 < table.loc["b", "difference_high"]
    assert table.loc["c", ["difference", "difference_low", "difference_high"]].tolist() == [0.0, 0.0, 0.0]


def test_one_skill():
    skill = load_suite("rules")[0]["skill"]
    table = real_runs_table(RECORD, "rules", [skill])
    assert table["n"].tolist() == [sum(row["skill"] == skill for row in load_suite("rules"))] * 3
    with pytest.raises(ValueError, match="no question of these skills"):
        real_runs_table(RECORD, "rules", ["singing"])


def test_arms_are_compared_by_the_seeds_that_both_have():
    apart, low, high = arms_apart(RECORD, "rules", "a", "b")  # seed 0 only: 1 against a half
    assert apart == 0.5 and low < 0.5 < high
    assert arms_apart(RECORD, "rules", "c", "c") == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="no seed in common"):
        arms_apart({**RECORD, "runs": [run("a", 0, [0] * N), run("b", 1, [0] * N)]}, "rules", "a", "b")


def test_answers_side_by_side():
    table = answers_of(RECORD, "rules", ["a", "b"], seed=0)
    assert list(table.columns) == ["skill", "question", "before", "a", "b"]
    assert table.loc[0, "before"] == "before" and table.loc[0, "a"] == "a 0"


def test_figure_says_its_numbers():
    figure = plot_arms({"rules": real_runs_table(RECORD, "rules")})
    assert "a 50%" in figure.alt and "before 0%" in figure.alt


def test_missing_record():
    with pytest.raises(FileNotFoundError, match="make record-real"):
        load_real_runs("99")


@pytest.mark.parametrize(
    ("lesson", "arms", "suites"),
    [
        ("02", {"as in the lesson", "with its own answers"}, ("tool_calls", "everyday")),
        (
            "03",
            {"as in the lesson", "SFT term only", "contrast only", "reference course"},
            ("identity", "everyday", "rules"),
        ),
        ("04", {"rule", "rule and topic", "shuffled rules", "constant"}, ("rules", "unseen_rules", "everyday")),
    ],
)
def test_committed_records_are_of_the_questions_that_are_committed(lesson, arms, suites):
    record = load_real_runs(lesson)
    assert arms <= {run["arm"] for run in record["runs"]}
    for suite in suites:
        n = len(load_suite(suite))
        for answered in (record["before"], *record["runs"]):
            assert len(answered[suite]["answer"]) == len(answered[suite]["right"]) == n
    for answered in (record["before"], *record["runs"]):
        assert regraded(copy.deepcopy(answered)) == answered  # today's graders say the same
