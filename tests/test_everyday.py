"""Rows and questions for a real model: committed as made, splits disjoint, graders that know right from wrong."""

import json

import pytest

from factory import ROOT
from factory.datasets import key_of
from factory.everyday import as_call, everyday_files, everyday_suites, rule_rows, sum_rows, tool_rows, topics
from helper import extract_gold, grade, load_course_dataset, load_suite, load_suites

SUITES = everyday_suites()


def test_committed_files_are_what_is_made():
    for path, rows in everyday_files(ROOT / "data").items():
        assert [json.loads(line) for line in path.read_text().splitlines()] == rows, path.name


def test_no_question_of_a_suite_stands_in_a_training_file():
    asked = {key_of(row["question"]) for rows in SUITES.values() for row in rows}
    trained = [row["question"] for name in ("rules", "sums", "maths") for row in load_course_dataset(f"sprout-{name}")]
    trained += [row["messages"][0]["content"] for name in ("tools", "sft") for row in load_course_dataset(f"sprout-{name}")]
    assert not asked & {key_of(question) for question in trained}


def test_topics_values_and_wordings_of_the_test_are_new():
    assert not set(topics("train")) & set(topics("test"))
    values = [{str(v) for row in tool_rows(part) for v in row["arguments"].values()} for part in ("train", "test")]
    assert not values[0] & values[1]
    assert len(SUITES["rules"]) == 200 and len(SUITES["everyday"]) >= 200 and len(rule_rows("train")) >= 400


def test_right_answers_are_right_and_others_are_not():
    for row in tool_rows("test"):
        asked = {"grader": "tool_call", **row}
        assert grade(asked, as_call(row)) and not grade(asked, row["question"])
        assert not grade(asked, as_call({**row, "name": "search"})) and not grade(asked, as_call(row) + " Done.")
    for row, other in zip(SUITES["everyday"], SUITES["everyday"][1:]):
        told = f"The answer is {row['accept'][0]}."
        assert grade(row, told) and not grade(row, row["question"]), row
        assert grade(other, told) == (row["accept"][0] in other["accept"]), (row, other)
    for row in sum_rows("train", 50):
        assert extract_gold(f"{row['answer']}\n#### {row['value']}") == row["value"]
        a, sign, b, _, value = row["answer"].split()
        assert {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign] == int(value)


@pytest.mark.parametrize(
    ("row", "answer", "right"),
    [
        ({"grader": "mentions", "accept": ["Au"]}, "The symbol is Au.", True),
        ({"grader": "mentions", "accept": ["Au"]}, "Auburn au.", False),
        ({"grader": "mentions", "accept": ["Paris"]}, "It is Lyon. Or Paris.", False),
        ({"grader": "mentions", "accept": ["cold"]}, "Cold!", True),
        ({"grader": "mentions", "accept": ["cold"]}, "", False),
        ({"grader": "rule", "value": "at_most_words 2"}, "Two words", True),
        ({"grader": "rule", "value": "at_most_words 2"}, "", False),
        ({"grader": "tool_call", "name": "", "arguments": {}}, "Hello!", True),
        ({"grader": "tool_call", "name": "", "arguments": {}}, "", False),
        ({"grader": "tool_call", "name": "", "arguments": {}}, "<tool_call>{}</tool_call>", False),
        ({"grader": "tool_call", "name": "f", "arguments": {"a": "1"}}, '<tool_call>{"name": "f"}</tool_call>', False),
        ({"grader": "tool_call", "name": "f", "arguments": {}}, "<tool_call>{" + '"a":' * 2000 + "</tool_call>", False),
    ],
)
def test_graders(row, answer, right):
    assert grade(row, answer) is right


@pytest.mark.parametrize("row", [{"grader": "rule", "value": "shout"}, {"grader": "mentions", "accept": "Paris"},
                                 {"grader": "tool_call", "name": "f", "arguments": "x"}])  # fmt: skip
def test_broken_rows_are_errors(row):
    with pytest.raises(ValueError, match="row"):
        grade({"id": "x-1", **row}, "Paris")


def test_several_suites():
    wanted = load_suites({"word_problems": 200, "everyday": None, "instructions": ("sort", "define"), "rewrites": None})
    assert [len(rows) for rows in wanted.values()] == [200, len(load_suite("everyday")), 120, 120]
    assert {row["skill"] for row in wanted["instructions"]} == {"sort", "define"}
    assert len({row["id"] for row in wanted["word_problems"]}) == 200
    assert all(row["grader"] == "mentions" for row in wanted["rewrites"])
    assert len(load_suites({"everyday": 9999})["everyday"]) == len(load_suite("everyday"))
