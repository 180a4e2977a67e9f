"""Rows with a system turn and conversations of two turns: apart from the tests, and right by the graders."""

import json
from pathlib import Path

import pytest

from factory import datasets, turns
from factory.datasets import key_of, mentions, names_of
from factory.knowledge import load_concepts
from helper import evaluate, grade, load_course_dataset
from helper.validation import validate_messages

CONCEPTS, SIZES = load_concepts(), datasets.Sizes()
SUITES = datasets.evaluation_suites(CONCEPTS, SIZES)
TRAIN, TEST = turns.training_rows(CONCEPTS, SUITES, SIZES), turns.test_rows(CONCEPTS, SIZES)
ROWS = [turns.as_conversation(row) for row in TRAIN]


def texts(row):
    return [turn["content"] for turn in row["messages"]]


def test_the_committed_files_are_these(tmp_path):
    turns.write_turns(tmp_path, CONCEPTS, SUITES, SIZES)
    for name in ("train", "test"):
        path = Path("turns") / f"{name}.jsonl"
        assert (tmp_path / path).read_text() == (Path(turns.__file__).parents[1] / "data" / path).read_text()


def test_rows_are_conversations_and_few():
    assert validate_messages(ROWS) == len(ROWS) == len({json.dumps(row) for row in ROWS})
    assert len(ROWS) < 0.1 * len(load_course_dataset("sprout-sft"))
    kinds = {row["skill"]: [turn["role"] for turn in row["messages"]] for row in ROWS}
    assert kinds["follow-up"] == ["user", "assistant"] * 2
    assert all(kinds[f"system: {rule}"] == ["system", "user", "assistant"] for rule in turns.SYSTEM)


def test_no_row_names_a_held_out_concept_or_a_question_of_the_evaluation():
    barred = names_of(c for c in CONCEPTS if c.held_out)
    questions = {key_of(row["question"]) for rows in SUITES.values() for row in rows}
    for row in ROWS:
        assert not mentions(barred, *texts(row)) and not {key_of(text) for text in texts(row)} & questions


def test_tests_share_no_concept_no_name_and_no_wording_with_the_rows():
    assert not set(turns.split_names()[0]) & set(turns.split_names()[1])
    assert not {row["subject"] for row in TRAIN} & {row["subject"] for row in TEST}
    said = {key_of(text) for row in ROWS for text in texts(row)}
    said |= {key_of(text) for row in load_course_dataset("sprout-sft") for text in texts(row)}
    for row in TEST:
        assert key_of(row["question"]) not in said and key_of(row.get("system", row["question"])) not in said


def test_enough_of_each_kind_and_half_of_the_follow_ups_about_held_out_concepts():
    counts = {}
    for row in TEST:
        counts.setdefault(row["skill"], []).append(row)
    assert min(map(len, counts.values())) >= 60 and len(counts) == 1 + len(turns.SYSTEM)
    held_out = {c.name for c in CONCEPTS if c.held_out}
    assert sum(row["subject"] in held_out for row in counts["follow-up"]) == len(counts["follow-up"]) / 2
    asked = [[row["question"] for row in counts[f"system: {rule}"]] for rule in turns.SYSTEM]
    assert asked[0] == asked[1] == asked[2]


@pytest.mark.parametrize("row", TEST[:3] + TEST[-3:], ids=lambda row: row["id"])
def test_the_right_answer_is_right_and_the_plain_one_is_not(row):
    """The system turn decides: what answers the bare question is wrong under it, unless it asks for nothing."""
    assert grade(row, row["answer"])
    same = ("question", "subject")
    plain = next(r["answer"] for r in TEST if r["grader"] == "fact" and all(r[key] == row[key] for key in same))
    assert grade(row, plain) == (row["grader"] == "fact")


def test_a_second_turn_does_not_name_its_subject():
    for row in [*TRAIN, *TEST]:
        if row["skill"] == "follow-up":
            assert row["subject"].lower() not in row["question"].lower()
            assert row["subject"].lower() in row["alone"].lower()


def test_evaluate_asks_the_whole_conversation(model, tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "helper.evaluation.generate_responses",
        lambda model, tokenizer, full_message, **options: asked.extend(full_message) or [""] * len(full_message),
    )
    evaluate(model, tokenizer, [TEST[0], TEST[-1]])
    assert [turn["role"] for turn in asked[0]] == ["system", "user"]
    assert asked[1] == [*TEST[-1]["history"], {"role": "user", "content": TEST[-1]["question"]}]
