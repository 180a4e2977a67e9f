import pandas as pd
import pytest
from test_scoreboards import COLUMNS

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
    rows = [
        {
            "id": "a",
            "skill": "x",
            "question": "what is the capital of a place?",
            "wanted": "anything",
            "system": "one",
        },
        {"id": "b", "skill": "y", "question": "one", "wanted": "no such text"},
        {"id": "c", "skill": "x", "question": "two three", "wanted": "anything"},
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
