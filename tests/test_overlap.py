"""Overlap of wording between held-out and trained questions."""

import pytest

from helper.overlap import nearest


def test_the_nearest_question_is_found():
    trained = ["What is a dog?", "Sort these words: pear, fig.", "Name two colors."]
    overlap, found = nearest(["What is a cat?", "what is a DOG", "Sort these words: fig, pear.", "Hm"], trained)
    assert overlap == [0.6, 1.0, 1.0, 0.0]
    assert found[:3] == [trained[0], trained[0], trained[1]]


def test_nothing_trained_is_an_error():
    with pytest.raises(ValueError, match="No training questions"):
        nearest(["What is a cat?"], [])
