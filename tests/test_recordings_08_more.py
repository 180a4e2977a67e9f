"""The records of lesson 08 and their controls: structure, what the new arms are made of, and how the records go on."""

import json
import random
from collections import Counter
from itertools import product

import pytest

from factory.recordings import expert_iteration, filtered_rows, online_pairs
from factory.recordings.practice_rounds import QUESTIONS, ROUNDS, SAMPLES, best_rate
from factory.recordings.shared import RECORDED
from helper.recorded import is_verdicts

MADE = {  # record -> the arms and settings of its code, seeds, the suites of a run
    "expert_iteration": (expert_iteration.ARMS, expert_iteration.SETTINGS, 3, ("word_problems", "other_skills")),
    "dpo_online": (online_pairs.ARMS, online_pairs.SETTINGS, 5, ("word_problems", "other_skills")),
    "filters": (
        dict.fromkeys(filtered_rows.ARMS, (filtered_rows.RATE,)), filtered_rows.SETTINGS, 3, ("word_problems", "style"),
    ),
    "filters_more": (
        dict.fromkeys(filtered_rows.MORE_ARMS, (filtered_rows.RATE,)), filtered_rows.MORE_SETTINGS, 3,
        ("word_problems", "foreign"),
    ),
}  # fmt: skip
FILTERED = {
    "filters": (filtered_rows.dirty_rows, filtered_rows.FILTERS),
    "filters_more": (filtered_rows.more_dirty_rows, filtered_rows.MORE),
}


def record_of(name: str) -> dict:
    """The record as it is committed."""
    return json.loads((RECORDED / f"08_{name}.json").read_text(encoding="utf-8"))


def runs_by(record: dict) -> dict[tuple[str, int], dict]:
    """(arm, seed) -> the run."""
    return {(run["arm"], run["seed"]): run for run in record["runs"]}


# ---------------------------------------------------------------- what the files hold


@pytest.mark.parametrize("name", MADE)
def test_a_record_is_of_its_code_with_each_arm_and_seed_once(name):
    arms, settings, seeds, _ = MADE[name]
    record = record_of(name)
    assert record["arms"] == json.loads(json.dumps(arms)) and record["settings"] == json.loads(json.dumps(settings))
    assert record["seeds"] == list(range(seeds)) and record["threads"] == 1
    assert f"--only {name} --seeds {' '.join(map(str, range(seeds)))}" in record["command"]
    assert sorted((run["arm"], run["seed"]) for run in record["runs"]) == sorted(product(arms, range(seeds)))


@pytest.mark.parametrize("name", MADE)
def test_each_arm_has_all_its_rates_tried_and_runs_at_the_best(name):
    record = record_of(name)
    many = {arm: rates for arm, rates in record["arms"].items() if not isinstance(rates, str) and len(rates) > 1}
    tried = [(row["arm"], row["learning_rate"]) for row in record["tuning"]]
    assert sorted(tried) == sorted((arm, rate) for arm, rates in many.items() for rate in rates)
    assert all(0 <= row["validation"] <= 1 for row in record["tuning"])
    assert {(run["arm"], run["learning_rate"]) for run in record["runs"]} == {
        (arm, best_rate(record, arm)) for arm in record["arms"]
    }


@pytest.mark.parametrize("name", MADE)
def test_verdicts_are_as_many_as_before(name):
    record, suites = record_of(name), MADE[name][3]
    assert {key for key, value in record["before"].items() if is_verdicts(value)} == set(suites)
    for run in record["runs"]:
        assert {key for key, value in run.items() if is_verdicts(value)} == set(suites)
        assert {key: len(run[key]) for key in suites} == {key: len(record["before"][key]) for key in suites}


def test_all_records_begin_with_the_same_model():
    assert len({record_of(name)["before"]["word_problems"] for name in MADE}) == 1


@pytest.mark.parametrize("name", ["expert_iteration", "dpo_online"])
def test_each_run_has_equally_many_samples_in_as_many_rounds(name):
    for run in record_of(name)["runs"]:
        rounds = run["stages" if name == "expert_iteration" else "rounds"]
        assert run["samples"] == ROUNDS * QUESTIONS * SAMPLES and [row["round"] for row in rounds] == [1, 2, 3]


def test_the_blind_choices_have_as_many_rows():
    runs = runs_by(record_of("expert_iteration"))
    for seed in range(3):
        kept, blind = ([row["rows"] for row in runs[arm, seed]["stages"]] for arm in ("expert iteration", "random choice"))
        assert kept == blind
    for name in FILTERED:
        runs = runs_by(record_of(name))
        assert all(runs["all filters", s]["rows"] == runs[filtered_rows.BLIND, s]["rows"] for s in range(3))


@pytest.mark.parametrize("name", FILTERED)
def test_what_filters_remove_stands_there_for_each_seed(name):
    record, (make, filters) = record_of(name), FILTERED[name]
    runs = runs_by(record)
    for seed in range(3):
        rows = make(seed)
        found = {each: find(rows) for each, find in filters.items()}  # once for all arms: near duplicates take their time
        again = {each: lambda _, places=places: places for each, places in found.items()}
        assert record["removed_by_seed"][str(seed)] == {
            each: filtered_rows.counts([rows[place] for place in places]) for each, places in found.items()
        }
        for arm in record["arms"]:
            run, left = runs[arm, seed], filtered_rows.left_by(arm, rows, seed, again)
            assert run["kinds"] == filtered_rows.counts(left) and run["rows"] == len(left)


# ---------------------------------------------------------------- what the new arms are made of


@pytest.mark.parametrize("name", FILTERED)
def test_the_blind_rows_are_as_many_and_as_dirty_as_the_set(name):
    make, filters = FILTERED[name]
    rows = make(1)
    blind, again, other = (filtered_rows.left_by(filtered_rows.BLIND, rows, seed, filters) for seed in (1, 1, 2))
    assert blind == again != other and len(blind) == len(filtered_rows.left_by("all filters", rows, 1, filters))
    dirty = [sum(row["kind"] != "clean" for row in some) / len(some) for some in (blind, rows)]
    assert abs(dirty[0] - dirty[1]) < 0.12


def test_the_two_other_kinds_of_dirt_are_right_and_found():
    rows = filtered_rows.more_dirty_rows(0)
    clean, other = ({row["question"] for row in make(0) if row["kind"] == "clean"} for make, _ in FILTERED.values())
    assert clean == other
    assert Counter(row["kind"] for row in rows) == {"clean": filtered_rows.CLEAN} | dict.fromkeys(
        filtered_rows.MORE, filtered_rows.DIRTY
    )
    assert all(filtered_rows.adds_up(row["question"], row["answer"]) for row in rows)
    found = filtered_rows.removed_alone(0, filtered_rows.more_dirty_rows, filtered_rows.MORE)
    assert found["language"]["language"] == filtered_rows.DIRTY and "diversity" not in found["language"]
    assert found["diversity"] == {"diversity": filtered_rows.DIRTY - filtered_rows.MOST_OF_AN_OPENING}
    assert found["language"]["clean"] < 0.05 * filtered_rows.CLEAN


# ---------------------------------------------------------------- how the records go on


def test_what_filters_remove_is_written_without_training(tmp_path):
    record = {"runs": [{"seed": 1}, {"seed": 0}, {"seed": 1}]}
    filtered_rows.with_removed(record, tmp_path / "r.json", lambda seed: [{"kind": "k"}] * 3, {"f": lambda rows: {0, 2}})
    assert json.loads((tmp_path / "r.json").read_text())["removed_by_seed"] == {"0": {"f": {"k": 2}}, "1": {"f": {"k": 2}}}


def test_a_problem_in_another_language_opens_in_many_ways():
    made = [filtered_rows.foreign(random.Random(seed)) for seed in range(filtered_rows.DIRTY)]
    assert not filtered_rows.too_many_of_a_kind(made) and len(filtered_rows.other_language(made)) == len(made)
    assert all(any(sign in row["answer"].lower() for sign in filtered_rows.SIGNS["foreign"]) for row in made)
