"""What pre-training gave: the table and its verdicts, from a made-up record and from the recorded one."""

from dataclasses import asdict

import pytest

from factory import small_bases
from helper import load_suite
from helper.pretraining_gave import (
    NO_EXERCISES,
    UNREAD,
    WITH,
    groups_of,
    load_pretraining_gave,
    pretraining_gave,
    verdict,
)


def made_up(skills_gone, seeds=3):
    """A record in which everything is right, but `skills_gone` without exercises, and unread concepts unread."""
    suites = {name: load_suite(name) for name in ("instructions", "held_out_concepts")}
    unread = sorted({row["subject"] for row in suites["held_out_concepts"]})[:60]
    right = {name: "1" * len(rows) for name, rows in suites.items()}
    gone = {
        NO_EXERCISES: right | {"instructions": "".join("01"[r["skill"] not in skills_gone] for r in suites["instructions"])},
        UNREAD: right
        | {"held_out_concepts": "".join("01"[r["subject"] not in unread] for r in suites["held_out_concepts"])},
        WITH: right,
    }
    runs = [{"arm": arm, "seed": seed, "right": found} for seed in range(seeds) for arm, found in gone.items()]
    return {"unread": unread, "runs": runs, "bases": {WITH: {"own_form": right}}}


def test_what_needs_its_documents_is_unlocked():
    table = pretraining_gave(made_up({"reverse", "sort"}))
    unlocked = set(table.index[table["verdict"] == "unlocked"])
    assert unlocked == {"reverse", "sort", *(f"{skill}, concept unread" for skill in ("define", "fact", "relation"))}
    assert table.loc["uppercase", "verdict"] == table.loc["refuse", "verdict"] == "taught"
    assert table.loc["define, concept read", "verdict"] == table.loc["define", "verdict"] == "control: the same"
    assert table.loc["reverse", "difference"] == -1 and table.loc["reverse", "n"] == 60


def test_verdicts():
    assert verdict("left out", 0.9, 0.6, -0.5, -0.1) == "unlocked in part"
    assert verdict("left out", 0.2, 0.0, -0.3, -0.1) == "not learned"
    assert verdict("in none", 0.9, 0.6, -0.5, -0.1) == "taught"
    assert verdict("in both", 0.9, 0.6, -0.5, -0.1) == "control: moved"


def test_the_recorded_runs_are_whole_and_say_what_the_lesson_says():
    record = load_pretraining_gave()
    assert record["recipe"] == asdict(small_bases.SMALL) and record["unread"] == small_bases.unread_concepts()
    assert {(run["arm"], run["seed"]) for run in record["runs"]} == {(a, s) for a in small_bases.ARMS for s in (0, 1, 2)}
    assert (WITH, NO_EXERCISES, UNREAD) == small_bases.ARMS and set(record["bases"]) == set(small_bases.ARMS)
    table = pretraining_gave(record)
    verdicts = table.groupby("verdict").groups
    unread = [f"{skill}, concept unread" for skill in ("define", "fact", "relation")]
    assert set(verdicts["unlocked"]) == {"first_letter", *unread} and set(verdicts["taught"]) == {"refuse", "identity"}
    assert set(verdicts["unlocked in part"]) == {"list", "count"} and "control: moved" not in verdicts
    assert max(table.loc[unread, "gone"]) < 0.02 and table.loc["first_letter", "gone"] < 0.02


def test_a_record_without_an_arm_is_an_error():
    record = made_up(set())
    record["runs"] = [run for run in record["runs"] if run["arm"] == WITH]
    with pytest.raises(ValueError, match="no run of"):
        pretraining_gave(record)
    with pytest.raises(FileNotFoundError, match="pretraining_gave"):
        load_pretraining_gave("nothing.json")


def test_every_question_of_the_suites_is_in_one_group():
    groups = groups_of(made_up(set()))
    for suite in ("instructions", "held_out_concepts"):
        places = sorted(place for _, name, chosen in groups.values() if name == suite for place in chosen)
        assert places == list(range(len(load_suite(suite))))
