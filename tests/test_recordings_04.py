"""The recordings of lesson 04: the rewards of the controls, the rows of fewer story types, and what is counted."""

import pytest

from factory.problem_tables import SEEN_STORIES
from factory.recordings import pass_at_k, reach
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
