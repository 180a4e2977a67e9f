"""The recorded runs on a real model: tables paired by question, and what is committed."""

import copy
import re

import pytest

from factory.recordings.real_model import WHOLE, regraded
from helper import load_suite
from helper.figures.scores import plot_arms
from helper.preference_runs import apart
from helper.real_runs import answers_of, arms_apart, load_real_runs, real_lesson, real_runs_table, verdicts_of

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


def test_verdicts_are_what_apart_compares():
    plain = verdicts_of(RECORD, {"rules": None})
    found = apart(plain, "rules", lambda run: run["arm"] == "a", lambda run: run["arm"] == "b")
    assert found["difference"] == arms_apart(RECORD, "rules", "a", "b")[0] and plain["before"]["rules"] == [0] * N
    skill = load_suite("rules")[0]["skill"]
    some = verdicts_of(RECORD, {"rules": [skill]})
    assert len(some["runs"][0]["rules"]) == sum(row["skill"] == skill for row in load_suite("rules"))


@pytest.mark.parametrize("lesson", WHOLE)
def test_lessons_as_wholes(lesson):
    table, took = real_lesson(lesson)
    assert len(table) >= 4 and re.match(r"\d+ minutes on one core, other work beside it, \d+\.\d GB", took)


@pytest.mark.parametrize("seeds_of", ["07_sft", "07_grpo", "07"])
def test_the_rates_that_were_taken_on_have_three_seeds(seeds_of):
    runs = load_real_runs(seeds_of)["runs"]
    assert max(sum(run["arm"] == other["arm"] for run in runs) for other in runs) == 3


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
        ("07_sft", {"rank 8, rate 0.001", "rank 8, rate 0.001, own answers"}, ("tool_calls", "everyday")),
        ("07", {"rank 8, rate 0.0005", "rank 8, rate 0.003"}, ("identity", "everyday", "rules")),
        ("07_grpo", {"rank 8, rate 0.0004", "rank 8, rate 0.001"}, ("rules", "unseen_rules", "everyday")),
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
