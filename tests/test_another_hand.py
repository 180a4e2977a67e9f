"""Word problems in another hand: their lines are true, their numbers fit, their wordings are not the generator's."""

import json
import random
import re

import pytest

from factory import another_hand
from factory.problem_tables import PIECES, TABLE
from helper import load_suite

TYPES = another_hand.read_types()


def test_there_are_enough_types_and_wordings():
    assert len(TYPES) >= 16 and len({kind["name"] for kind in TYPES}) == len(TYPES)
    assert not {kind["name"] for kind in TYPES} & TABLE.keys()
    assert all(len(set(kind["words"])) >= 2 for kind in TYPES)


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind["name"])
def test_a_problem_is_worked_from_its_own_numbers(kind):
    rng = random.Random(kind["name"])
    for _ in range(20):
        problem = another_hand.make_problem(kind, rng)
        known = set(re.findall(r"\d+", problem.question)) | {"2"}  # "half", "two acts"
        for line in problem.lines:
            a, sign, b, result = re.search(r": (\d+) ([-+*/]) (\d+) = (\d+)$", line).groups()
            assert {a, b} <= known, line
            whole = int(b) and int(a) % int(b) == 0 and int(a) // int(b)
            results = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b), "/": whole}
            assert int(result) == results[sign]
            assert 2 <= int(result) <= another_hand.LARGEST
            known.add(result)
        assert problem.answer == int(result) and 2 <= len(problem.lines) <= 3
        assert "{" not in problem.question and problem.question.endswith((".", "?"))


def test_numbers_that_do_not_fit_are_refused():
    kind = {"steps": ["Part: a / b", "Rest: Part - c"]}
    assert another_hand.worked(kind, {"a": 12, "b": 4, "c": 1}) == ["Part: 12 / 4 = 3", "Rest: 3 - 1 = 2"]
    assert another_hand.worked(kind, {"a": 13, "b": 4, "c": 1}) is None
    assert another_hand.worked(kind, {"a": 12, "b": 4, "c": 3}) is None


@pytest.mark.parametrize("change", [{"steps": None}, {"words": ["no number"]}])
def test_a_bad_row_is_named(tmp_path, change):
    row = {**TYPES[0], **change}
    path = tmp_path / "hand.jsonl"
    path.write_text(json.dumps({key: value for key, value in row.items() if value is not None}))
    with pytest.raises(ValueError, match="hand.jsonl, line 1"):
        another_hand.read_types(path)


def test_no_wording_is_the_generators():
    pieces = {re.sub(r"\{\w+\}", "", words).lower() for piece in PIECES.values() for words in piece.words}
    for kind in TYPES:
        for words in kind["words"]:
            for sentence in re.split(r"(?<=[.?:]) ", words):
                assert re.sub(r"\{\w+\}", "", sentence).lower() not in pieces


def test_the_suite_is_the_one_that_is_made():
    made = another_hand.another_hand_suite(300, random.Random("another hand"))
    suite = load_suite("another_hand")
    assert [row["question"] for row in suite] == [row["question"] for row in made]
    assert len({row["story"] for row in suite}) == len(TYPES)
