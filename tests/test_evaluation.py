import numpy as np
import pandas as pd
import pytest
import torch
from test_scoreboards import COLUMNS
from tiny import make_model

from helper import evaluation
from helper.evaluation import accuracy_table, compare, evaluate
from helper.generation import generate_responses
from helper.intervals import paired_difference, wilson_interval


@pytest.fixture
def graders(monkeypatch):
    """A grader of one rule: the real ones have their own tests."""
    rule = lambda row, answer: row["wanted"] in answer or row["wanted"] == "anything"  # noqa: E731
    monkeypatch.setattr(evaluation, "grade", rule)


def test_evaluate_grades_every_row_in_order(model, tokenizer, graders):
    place = {"question": "what is the capital of a place?", "wanted": "anything", "system": "one"}
    rows = [
        {"id": "a", "skill": "x", "grader": "refusal", **place},
        {"id": "b", "skill": "y", "grader": "refusal", "question": "one", "wanted": "no such text"},
        {"id": "c", "skill": "x", "grader": "refusal", "question": "two three", "wanted": "anything"},
    ]
    results = evaluate(model, tokenizer, rows, max_new_tokens=6)
    assert list(results.columns) == ["id", "skill", "question", "answer", "right"]
    assert results["id"].tolist() == ["a", "b", "c"] and results["right"].tolist() == [True, False, True]
    assert results["answer"][0] == generate_responses(model, tokenizer, rows[0]["question"], "one", 6)
    assert results["answer"][2] == generate_responses(model, tokenizer, "two three", None, 6)


def results(right, skills="x"):
    ids = range(len(right))
    return pd.DataFrame(
        {
            "id": ids,
            "skill": [skills[i % len(skills)] for i in ids],
            "question": "q",
            "answer": "a",
            "right": right,
        }
    )


def test_accuracy_table():
    table = accuracy_table(results([True, True, False, True], "xy"))
    assert list(table.index) == ["x", "y", "all"] and list(table.columns) == ["n", "right", "low", "high"]
    assert table["right"].tolist() == [0.5, 1.0, 0.75] and table["n"].tolist() == [2, 2, 4]
    assert (table.loc["all", "low"], table.loc["all", "high"]) == wilson_interval(3, 4)
    assert list(accuracy_table(results([True]), by=None).index) == ["all"]
    assert list(accuracy_table(results([True])).index) == ["x"]


def test_compare_pairs_on_id_whatever_the_order():
    before, after = results([True, False, False, False], "xy"), results([True, True, False, True], "xy")
    table = compare(before, after.sample(frac=1, random_state=1))
    assert list(table.columns) == COLUMNS
    assert table["before"].tolist() == [0.25] and table["difference"].tolist() == [0.5]
    expected = paired_difference(before["right"].tolist(), after["right"].tolist())
    assert table.loc[0, ["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(expected)
    assert compare(before, after, by="skill")["name"].tolist() == ["x", "y", "all"]
    with pytest.raises(ValueError, match="same questions"):
        compare(before, after.iloc[:3])


FACT = {
    "id": "f",
    "skill": "facts",
    "question": "What is a cat?",
    "grader": "fact",
    "subject": "cat",
    "accept": ["an animal"],
}
COMPARE = {
    "id": "c", "skill": "facts", "question": "What is the difference between a cat and a dog?", "grader": "compare",
    "subjects": ["cat", "dog"], "accept": [["a cat is small"], ["a dog is large"]],
}  # fmt: skip
BOXED = {"id": "b", "skill": "maths", "question": "1 + 1?", "grader": "boxed", "value": "2"}


def without(row, key):
    return {name: value for name, value in row.items() if name != key}


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (None, TypeError, "The rows of a suite are a list of dicts, not a NoneType"),
        (5, TypeError, "not a int"),
        ("reference", TypeError, r"not a str: load it first, load_suite\(name\)"),
        (FACT, TypeError, "not a dict: put a single row into a list"),
        (pd.DataFrame([FACT]), TypeError, r'not a DataFrame, as rows.to_dict\("records"\) makes them'),
        (["What is a cat?"], TypeError, "Row 0 is a str, not a dict with id, skill and question"),
        ([FACT, None], TypeError, "Row 1 is a NoneType"),
        ([FACT, without(FACT, "id")], ValueError, "Row 1 has no id: a suite's rows have id"),
        ([without(FACT, "skill")], ValueError, "Row 0 has no skill"),
        ([FACT, {**FACT, "question": None}], ValueError, "Row 1 has no question"),
        ([FACT, without(BOXED, "value")], ValueError, r"Row 1 \(id 'b'\): its grader 'boxed' reads .*'value'.*add it"),
        ([{**BOXED, "value": None}], ValueError, r"Row 0 \(id 'b'\): .*'value', and that is missing"),
        ([{**BOXED, "value": float("nan")}], ValueError, r"Row 0 \(id 'b'\), field 'value': an answer is missing"),
        ([{**BOXED, "value": np.ones((9, 9))}], ValueError, r"Row 0 \(id 'b'\), field 'value': .* not a ndarray"),
        ([{**FACT, "accept": "an animal"}], ValueError, r"Row 0 \(id 'f'\): .*'an animal', and a list of texts is wanted"),
        ([{**FACT, "accept": [["an animal"]]}], ValueError, "a list of texts is wanted"),
        ([{**FACT, "accept": np.ones((9, 9))}], ValueError, "a list of texts is wanted"),
        ([{**COMPARE, "accept": ["a cat is small", "a dog is large"]}], ValueError, "two lists of texts is wanted"),
        ([{**COMPARE, "accept": [["a cat is small"]]}], ValueError, "two lists of texts is wanted"),
        ([{**COMPARE, "subjects": ["cat", "dog", "fox"]}], ValueError, "a list of two texts is wanted"),
        ([without(FACT, "subject")], ValueError, "its grader 'fact' reads the field 'subject'"),
        ([without(FACT, "grader")], ValueError, r"Row 0 \(id 'f'\) has no known grader: None"),
        ([FACT, {**FACT, "grader": "fcat"}], ValueError, r"Row 1 \(id 'f'\) has no known grader: 'fcat'. Give it one of"),
        ([{**FACT, "grader": ["fact"]}], ValueError, "has no known grader"),
        ([FACT, {**FACT, "question": 3}], TypeError, "Question 1 is a int"),
    ],
)
def test_wrong_rows_are_named_before_anything_is_generated(rows, error, words, model, tokenizer, monkeypatch):
    monkeypatch.setattr(type(model), "forward", lambda *args, **kwargs: pytest.fail("it generated"))
    with pytest.raises(error, match=words) as caught:
        evaluate(model, tokenizer, rows)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None


def test_every_row_is_checked_before_the_first_is_asked(model, tokenizer, monkeypatch):
    called = []
    monkeypatch.setattr(evaluation, "check_row", lambda row, name: called.append(row["id"]))
    monkeypatch.setattr(evaluation, "generate_responses", lambda *args, **kwargs: called.append("asked") or ["", "", ""])
    evaluate(model, tokenizer, [FACT, COMPARE, BOXED])
    assert called == ["f", "c", "b", "asked"]


def test_any_iterable_of_rows_is_taken(model, tokenizer):
    rows = [FACT, BOXED]
    table = evaluate(model, tokenizer, rows, max_new_tokens=3)
    for same in (tuple(rows), (row for row in rows), iter(rows)):
        assert evaluate(model, tokenizer, same, max_new_tokens=3).equals(table)
    assert table["right"].dtype == bool and list(evaluate(model, tokenizer, [])) == list(table)


def test_a_model_whose_weights_are_nan_is_not_given_a_score(model, tokenizer):
    broken = make_model(tokenizer)
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    with pytest.raises(FloatingPointError, match="gives nan for a next token"):
        evaluate(broken, tokenizer, [FACT, BOXED], max_new_tokens=3)
