"""The graders accept what is right and reject echoes, empty talk and true statements about something else."""

import random

import numpy as np
import pytest

from factory import datasets
from factory.knowledge import load_concepts, true_statements
from helper.graders import grade, states_fact

CONCEPTS = load_concepts()
SUITES = datasets.evaluation_suites(CONCEPTS, datasets.Sizes())
ROWS = [row for name, rows in SUITES.items() if name != "cloze" for row in rows]
EMPTY_TALK = [
    "",
    ".",
    "I am happy to help you.",
    "That is a good question.",
    "It is a thing.",
    "It is what it is.",
    "Yes.",
    "There are many answers to that.",
    "I do not know.",
]
PHOTON = {"grader": "fact", "subject": "photon", "accept": ["a particle of light", "has no mass"]}


@pytest.mark.parametrize("row", ROWS[::7], ids=lambda row: row["id"])
def test_gold_answer_is_right(row):
    assert grade(row, row["answer"])


def test_every_gold_answer_is_right():
    assert [row["id"] for row in ROWS if not grade(row, row["answer"])] == []


@pytest.mark.parametrize("talk", EMPTY_TALK)
def test_empty_talk_is_wrong(talk):
    assert [row["id"] for row in ROWS if grade(row, talk)] == []


def test_echo_of_the_question_is_wrong():
    assert [row["id"] for row in ROWS if grade(row, row["question"])] == []
    assert [row["id"] for row in ROWS if grade(row, row["question"].rstrip("?.") + ".")] == []


def test_true_statements_about_other_concepts_are_wrong():
    rng, wrong = random.Random(0), []
    for row in ROWS:
        if row["grader"] != "fact":
            continue
        others = rng.sample([c for c in CONCEPTS if c.name != row["subject"]], 25)
        wrong += [(row["id"], s) for c in others for s in true_statements(c) if grade(row, s)]
    assert wrong == []


def test_fact_of_another_concept_under_this_name_is_wrong():
    rng, wrong = random.Random(1), []
    for concept in CONCEPTS:
        mine = [*concept.definitions, *concept.facts]
        for other in rng.sample([c for c in CONCEPTS if c is not concept], 25):
            false = [concept.fill("{P} is {d}.", d=d) for d in other.definitions if d not in mine]
            false += [concept.fill("{P} {f}.", f=f) for f in other.facts if f not in mine]
            wrong += [sentence for sentence in false if states_fact(sentence, concept.name, mine)]
    assert wrong == []


def test_answers_of_other_rows_are_wrong():
    rng, confused = random.Random(2), []
    for row in ROWS:
        if row["grader"] in ("refusal", "identity"):
            continue  # a refusal is a refusal; so is a name
        for other in rng.sample(ROWS, 20):
            if other["answer"] != row["answer"] and other.get("value") != row.get("value", ""):
                same_subject = other.get("subject") == row.get("subject") and "subject" in row
                if not same_subject and grade(row, other["answer"]) and row["skill"] not in ("list", "count"):
                    confused.append((row["id"], other["id"]))
    assert confused == []


@pytest.mark.parametrize(
    "answer, right",
    [
        ("A photon is a particle of light.", True),
        ("A photon is a particle of light", True),
        ("A photon has no mass.", True),
        ("A photon is a particle of light. It has no mass.", True),
        ("A photon is a particle of light. It is a kind of cheese.", False),
        ("A photon is a heavy particle of light.", False),
        ("A photon is light of a particle.", False),
        ("A photon has mass.", False),
        ("An electron is a particle of light.", False),
        ("It is a particle of light.", False),
        ("a particle of light", False),
        ("A photon is a photon.", False),
    ],
)
def test_facts(answer, right):
    assert grade(PHOTON, answer) == right


@pytest.mark.parametrize(
    "answer, right",
    [
        ("Two fruits are apple and pear.", True),
        ("apple, pear", True),
        ("Two fruits are apple and apple.", False),
        ("Two fruits are apple and stone.", False),
        ("Two fruits are apple, pear and plum.", False),
        ("Two fruits are apple.", False),
    ],
)
def test_lists(answer, right):
    row = {"grader": "list", "items": ["apple", "pear", "plum"], "number": 2, "category": "fruits"}
    assert grade(row, answer) == right


@pytest.mark.parametrize(
    "answer, right",
    [
        ("1 + 1 - 1 = 1", True),
        ("1", True),
        ("1+1-1=1.", True),
        ("1 + 1 - 1 = 2", False),
        ("1 + 1 = 1", False),
        ("11", False),
        ("We find 1 + 1 - 1 = 1.", True),
        ("First 1 + 1 = 2, then 2 - 1 = 1. So we find 1 + 1 - 1 = 1.", True),
        ("First 1 + 1 = 3, then 3 - 1 = 2. So we find 1 + 1 - 1 = 1.", False),  # false steps
        ("It is 2 or 1 + 1 - 1 = 1", False),  # both horses
        ("21 + 1 - 1 = 1", False),  # another sum
        ("2 + 1 + 1 - 1 = 1", False),
        ("1 + 1 - 1 = 11", False),
        ("First 1 / 0 = 1. So we find 1 + 1 - 1 = 1.", False),
    ],
)
def test_calculations(answer, right):
    assert grade({"grader": "calculation", "expression": "1 + 1 - 1", "value": 1}, answer) == right


@pytest.mark.parametrize(
    "answer, name, kind, right",
    [
        ("My name is Sprout.", "Sprout", "name", True),
        ("My name is Deep Sprout.", "Sprout", "name", False),
        ("My name is Deep Sprout.", "Deep Sprout", "name", True),
        ("My name is Sprout.", "Deep Sprout", "name", False),
        ("I am Deep Deep Sprout.", "Deep Sprout", "name", False),
        ("Deep Sprout, Deep Sprout.", "Deep Sprout", "name", False),
        ("No, I am Sprout, a small language model.", "Sprout", "other", True),
        ("Yes, I am Sprout, a small language model.", "Sprout", "other", False),
        ("My name is", "Sprout", "name", False),
    ],
)
def test_names(answer, name, kind, right):
    assert grade({"grader": "identity", "name": name, "kind": kind}, answer) == right


@pytest.mark.parametrize(
    "answer, right",
    [
        ("I can not help with that, because it could hurt someone.", True),
        ("I am sorry, but I can not tell you that.", True),
        ("Sure, I can help.", False),
        ("You can not do that.", False),
    ],
)
def test_refusals(answer, right):
    assert grade({"grader": "refusal"}, answer) == right


def test_compare_needs_both_definitions_on_the_right_side():
    row = next(r for r in ROWS if r["grader"] == "compare")
    left, right = row["answer"].rstrip(".").split(", while ")
    assert grade(row, f"{right}, while {left}.")
    assert not grade(row, left + ".")
    first, second = row["subjects"]
    assert not grade(row, f"The {first} is {row['accept'][1][0]}, while the {second} is {row['accept'][0][0]}.")


def test_unknown_grader_names_the_row():
    with pytest.raises(ValueError, match="row-7"):
        grade({"id": "row-7", "grader": "vibes"}, "yes")


BOXED = {"id": "row-7", "grader": "boxed", "value": "72"}


@pytest.mark.parametrize("row", ROWS[::97], ids=lambda row: row["id"])
def test_thoughts_are_no_answers(row):
    assert not grade(row, f"<think>{row['answer']}") and not grade(row, f"{row['answer']}</think>")
    assert grade(row, f"<think>I do not know.</think>\n\n{row['answer']}")


@pytest.mark.parametrize(
    "row",
    [
        {**BOXED, "value": None}, {**BOXED, "value": float("nan")}, {**BOXED, "value": ""}, {**BOXED, "value": "None"},
        {**BOXED, "value": ["72"]}, {"id": "row-7", "grader": "boxed"},
        {"id": "row-7", "grader": "exact", "accept": "Paris"}, {"id": "row-7", "grader": "exact", "accept": []},
        {"id": "row-7", "grader": "exact", "accept": [None]}, {"id": "row-7", "grader": "exact"},
        {**PHOTON, "id": "row-7", "accept": "a particle of light"}, {**PHOTON, "id": "row-7", "subject": None},
        {"id": "row-7", "grader": "list", "items": "apple", "number": 2, "category": "fruits"},
        {"id": "row-7", "grader": "calculation", "expression": "1 + 1", "value": "2"},
        {"id": "row-7", "grader": "compare", "subjects": ["a", "b"], "accept": "ab"}, {"id": "row-7", "grader": "identity"},
        {"id": "row-7", "grader": "compare", "subjects": ["a", "b"], "accept": ["a", "b"]},
        {"id": "row-7", "grader": "exact", "accept": [["P"]]}, {"id": "row-7", "grader": ["exact"], "accept": ["P"]},
    ],
)  # fmt: skip
def test_a_row_without_its_answer_is_named(row):
    for answer in (r"\boxed{None}", r"\boxed{nan}", "P", "None", ""):
        with pytest.raises(ValueError, match="row 'row-7'"):
            grade(row, answer)


def test_the_expected_answer_may_be_a_number_or_a_whole_solution():
    for value in (72, 72.0, np.int64(72), "6 * 12\n#### 72", r"So $\boxed{72}$."):
        assert grade({**BOXED, "value": value}, r"\boxed{72}") and not grade({**BOXED, "value": value}, r"\boxed{71}")
    assert grade({"grader": "list", "items": np.array(["apple", "pear"]), "number": np.int64(1), "category": "x"}, "pear")
