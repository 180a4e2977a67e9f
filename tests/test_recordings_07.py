"""The recording of lesson 07: what its arms train, how a learning rate is chosen, and that it goes on where it was."""

import json

import pytest

from factory.recordings import lesson_07
from factory.recordings.lesson_07 import ARMS, RATES, prepared, record_lora, tuned
from factory.recordings.practice_rounds import TRAINED, start, written_answers
from helper import answers_match, extract_boxed, load_suite
from helper.algorithms.lora import trained_parameters
from helper.recorded import is_verdicts, load_recorded


def test_written_answers_end_in_a_box_with_the_result_and_are_no_test():
    answers, problems = written_answers(), start()[2]
    assert len(answers) == TRAINED and not set(answers) & {row["question"] for row in load_suite("word_problems")}
    for row in problems[:TRAINED:100]:
        answer = answers[row["prompt"][0]["content"]]
        assert "####" not in answer and answers_match(extract_boxed(answer), row["ground_truth"])


@pytest.mark.parametrize("arm", ["full", "upper half", "attention, rank 2", "all-linear, rank 2"])
def test_what_an_arm_trains(arm):
    found = trained_parameters(prepared(arm, seed=0))
    if "rank" in arm:
        shapes = {"attention": [(256, 256)] * 2 + [(256, 128)] * 2}
        shapes["all-linear"] = shapes["attention"] + [(256, 768)] * 3
        assert sum(found.values()) == 4 * sum(2 * sum(shape) for shape in shapes[arm.split(",")[0]])
    else:
        whole = sum(weight.numel() for weight in start()[0].parameters())
        assert sum(found.values()) == whole if arm == "full" else 0 < sum(found.values()) < whole / 2 + 1e5
        assert arm == "full" or not any("embed" in name or "layers.0." in name for name in found)


def test_the_best_rate_is_of_the_lowest_loss_or_of_the_most_right_answers():
    rows = [
        {"method": method, "arm": "full", "learning_rate": rate, "validation": value}
        for method in ("SFT", "DPO")
        for rate, value in ((1, 0.5), (2, 0.3), (3, 0.7), (4, None))
    ]
    record = {"tuning": [*rows, {"method": "SFT", "arm": "upper half", "learning_rate": 9, "validation": 0.1}]}
    assert [row["learning_rate"] for row in tuned(record, "SFT", "full")] == [2, 1, 3, 4]
    assert [row["learning_rate"] for row in tuned(record, "DPO", "full")] == [3, 1, 2, 4]


def test_a_best_rate_at_an_end_asks_for_the_next_one(tmp_path, monkeypatch):
    for best, asked in ((3, RATES[2:6]), (4, RATES[3:6]), (7, RATES[3:7])):

        def one_run(method, arm, rate, seed, best=best):
            return {"validation": abs(RATES.index(rate) - best)}

        monkeypatch.setattr(lesson_07, "one_run", one_run)
        record = {"tuning": []}
        lesson_07.tune(record, tmp_path / "record.json", "SFT", "full", 0)
        assert sorted(row["learning_rate"] for row in record["tuning"]) == list(asked)


def test_a_stopped_recording_goes_on(tmp_path, monkeypatch):
    made, path = [], tmp_path / "record.json"
    monkeypatch.setattr(lesson_07, "verdicts", lambda *_: {"word_problems": "01"})
    monkeypatch.setattr(lesson_07, "alone", lambda function, arm: {"peak_mb": 1})

    def one_run(method, arm, rate, seed):
        if len(made) == 16:
            raise KeyboardInterrupt
        made.append((method, arm, rate, seed))
        middle = ARMS[method][arm][1]
        return {"validation": float(rate != middle) if method == "SFT" else float(rate == middle)}

    monkeypatch.setattr(lesson_07, "one_run", one_run)
    number, runs = sum(map(len, ARMS.values())), []
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            record_lora([0, 1, 2], path)
        runs, made[:] = runs + made, []
    record_lora([0, 1, 2], path)
    runs += made
    record = json.loads(path.read_text())
    assert len(runs) == len(set(runs)) == 5 * number and len(record["runs"]) == 2 * number
    assert {(run["method"], run["arm"]) for run in record["runs"]} == {(m, arm) for m, some in ARMS.items() for arm in some}
    assert all(run["learning_rate"] == ARMS[run["method"]][run["arm"]][1] for run in record["runs"])


# ---------------------------------------------------------------- the record itself


@pytest.fixture(scope="module")
def recorded():
    return load_recorded("07_lora")


def arms_of(record):
    """(method, arm) -> its runs."""
    arms = {}
    for run in record["runs"]:
        arms.setdefault((run["method"], run["arm"]), []).append(run)
    return arms


def test_each_arm_of_the_record_has_the_best_rate_of_its_tuning(recorded):
    arms = arms_of(recorded)
    assert set(arms) == {(row["method"], row["arm"]) for row in recorded["tuning"]}
    for (method, arm), runs in arms.items():
        tried = {
            row["learning_rate"]: row["validation"]
            for row in recorded["tuning"]
            if (row["method"], row["arm"]) == (method, arm)
        }
        known = {rate: value for rate, value in tried.items() if value is not None}
        best = (min if method == "SFT" else max)(known, key=known.get)
        assert {run["learning_rate"] for run in runs} == {best}, (method, arm)
        assert min(tried) < best and (best < max(tried) or best == RATES[-1]), f"{method}, {arm}: the best is at an end"


def test_each_arm_of_the_record_has_the_same_four_seeds_and_none_of_them_tuned(recorded):
    seeds = {arm: [run["seed"] for run in runs] for arm, runs in arms_of(recorded).items()}
    assert set(map(tuple, seeds.values())) == {(1, 2, 3, 4)}
    assert {row["seed"] for row in recorded["tuning"]} == {0}


def test_each_run_of_the_record_has_a_verdict_for_each_question(recorded):
    before = recorded["before"]
    assert set(before) == {"word_problems", "other_skills", "held_out_concepts"} and all(map(is_verdicts, before.values()))
    for run in recorded["runs"] + recorded["tuning"]:
        assert all(is_verdicts(run[suite]) and len(run[suite]) == len(before[suite]) for suite in before), run["arm"]
