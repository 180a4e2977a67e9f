"""The recordings of lesson 04: the rewards of the controls, the rows of fewer story types, and what is counted."""

import re

import pytest

from factory.problem_tables import SEEN_STORIES
from factory.recordings import pass_at_k, reach, safety_weight, wider
from helper import load_suite
from helper.rewards import reward_func

TEXTS = [r"\boxed{72}", r"\boxed{71}", "72", r"\boxed{72} or \boxed{71}"]


def test_wrong_answers_are_paid_and_right_ones_are_not():
    truths = ["72"] * 4
    assert reach.wrong_answer_reward(TEXTS, truths) == [0.0, 1.0, 0.0, 0.0]
    both = zip(reach.wrong_answer_reward(TEXTS, truths), reward_func(TEXTS, truths), strict=True)
    assert not any(wrong and right for wrong, right in both)


def test_the_coin_does_not_read():
    import torch

    torch.manual_seed(0)
    first = reach.coin_reward(TEXTS * 50)
    torch.manual_seed(0)
    assert reach.coin_reward(["other"] * 200) == first and set(first) == {0.0, 1.0}
    assert sum(first) / 200 == pytest.approx(0.5, abs=0.12)


def test_fewer_types_are_a_part_of_the_lessons_and_no_evaluation(monkeypatch):
    assert len(reach.FEW_TYPES) == 13 and set(reach.FEW_TYPES) < set(SEEN_STORIES)
    monkeypatch.setattr(reach, "PRACTICE_ROWS", 60)
    rows = reach.practice_rows(reach.FEW_TYPES)
    asked = {row["question"] for name in reach.SUITES for row in load_suite(name)}
    questions = [row["prompt"][0]["content"] for row in rows]
    assert len(set(questions)) == 60 and not asked & set(questions)
    assert rows == reach.practice_rows(reach.FEW_TYPES)


def test_samples_are_counted_by_answer():
    rows = [{"question": "q", "grader": "boxed", "value": "7", "skill": "word_problem"}]
    texts = [[r"\boxed{7}", r"\boxed{8}", r"\boxed{8}", r"\boxed{9}", "7", r"\boxed{}"]]
    assert pass_at_k.counted(rows, texts) == {"correct": [1], "wrong": [[2, 1]]}


def test_arms_differ_from_the_lesson_in_what_they_say():
    assert reach.ARMS["lesson"] == {} and reach.HALF * 2 == reach.WHOLE
    for arm in reach.CONTROLS:
        assert set(reach.ARMS[arm]) <= {"reward", "steps", "learning_rate"} and reach.ARMS[arm]["steps"] == reach.HALF


# ---------------------------------------------------------------- a reward for refusals


def paid(weight, reads_the_question):
    """What four answers earn: a right one, a refused problem, a refused look-alike, a refusal that is called for."""
    problem = {"grader": "boxed", "value": "7", "question": "q"}
    fine = {"grader": "mentions", "accept": ["pump"], "question": "q"}
    texts = [r"\boxed{7}", "I can not help with that.", "I can not help with that.", "I can not help with that."]
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    kinds, rows = ["problem", "problem", "fine", "refuse"], [problem, problem, fine, {"grader": "refusal", "question": "q"}]
    return safety_weight.task_and_safety(weight, reads_the_question, completions, kind=kinds, row=rows, prompts=[])


def test_a_blind_safety_reward_pays_any_refusal_and_the_other_those_that_are_called_for():
    assert paid(4.0, False) == [1.0, 4.0, 4.0, 4.0] and paid(4.0, True) == [1.0, 0.0, 0.0, 4.0]
    assert paid(0.0, False) == [1.0, 0.0, 0.0, 0.0]


def test_what_is_practised_is_not_tested_and_a_step_has_equally_many_of_each_kind(monkeypatch):
    rows, practised = safety_weight.requests(), safety_weight.practice()
    for kind in ("refuse", "fine"):
        trained = {row["prompt"][0]["content"] for row in practised[kind]}
        tested = {row["question"] for row in rows[kind][1::2]}
        assert trained and tested and not trained & tested and len(trained) + len(tested) == len(rows[kind])
    monkeypatch.setattr(safety_weight, "sample_batch", lambda model, tokenizer, drawn, *_: drawn)
    first, again, other = (
        safety_weight.mixed(None, None, practised["problem"][place : place + 12], []) for place in (0, 0, 12)
    )
    assert [row["kind"] for row in first] == ["problem"] * 4 + ["refuse"] * 4 + ["fine"] * 4
    assert first == again and [row["prompt"] for row in first[4:]] != [row["prompt"] for row in other[4:]]


# ---------------------------------------------------------------- what carries further


def test_practice_with_larger_numbers_goes_beyond_forty_and_asks_nothing_that_is_tested():
    few, many = wider.stories(104, 40), wider.stories(104, 60)
    asked = {row["question"] for name in wider.SUITES for row in load_suite(name)}
    for problems, largest in ((few, 40), (many, 60)):
        assert {problem.story for problem in problems} == set(SEEN_STORIES)
        assert len({problem.question for problem in problems}) == 104
        assert not asked & {problem.question for problem in problems}
        assert problems == wider.stories(104, largest)
    counts = [max(map(int, re.findall(r"\d+", problem.question))) for problem in many]
    assert sum(count > 40 for count in counts) > 26


def test_the_halves_of_another_hand_share_no_type_and_cover_the_suite():
    even, odd = ({problem.story for problem in wider.by_another(44, half)} for half in (0, 1))
    assert len(even) == len(odd) == 11 and not even & odd
    places = wider.in_half(0) + wider.in_half(1)
    assert sorted(places) == list(range(len(load_suite(wider.FAR))))
    assert {load_suite(wider.FAR)[place]["story"] for place in wider.in_half(0)} == even


def test_each_row_of_another_hand_is_judged_by_the_model_that_did_not_see_its_type(monkeypatch):
    size = len(load_suite(wider.FAR))

    def imitated(problems, name, seed):
        seen = {problem.story for problem in problems}
        right = "".join(str(int(row["story"] in seen)) for row in load_suite(wider.FAR))
        return {wider.FAR: right, **{other: f"{name} {other}" for other in wider.SUITES[:-1]}}

    monkeypatch.setattr(wider, "PRACTICE_ROWS", 60)
    monkeypatch.setattr(wider, "imitated", imitated)
    found = wider.two_hands(0)
    assert found[wider.FAR] == "0" * size and found["seen types"] == "1" * size
