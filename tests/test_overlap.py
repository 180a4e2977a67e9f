"""Overlap of wording between held-out and trained questions."""

import pytest

from helper.overlap import earlier_likeness, jaccard, near_copies, nearest, shingles


def test_the_nearest_question_is_found():
    trained = ["What is a dog?", "Sort these words: pear, fig.", "Name two colors."]
    overlap, found = nearest(["What is a cat?", "what is a DOG", "Sort these words: fig, pear.", "Hm"], trained)
    assert overlap == [0.6, 1.0, 1.0, 0.0]
    assert found[:3] == [trained[0], trained[0], trained[1]]


def test_nothing_trained_is_an_error():
    with pytest.raises(ValueError, match="No training questions"):
        nearest(["What is a cat?"], [])


def test_shingles_are_runs_of_words():
    assert shingles("Sort the red cards.") == {("sort", "the", "red"), ("the", "red", "cards")}
    assert shingles("Two words") == {("two", "words")} and shingles("a b a b", words=2) == {("a", "b"), ("b", "a")}


def test_likeness_is_that_of_the_sets_and_of_earlier_texts_only():
    texts = ["a b c d e", "a b c d x", "p q r", "a b c d e", ""]
    for words in (1, 2, 3):
        likeness = earlier_likeness(texts, words)
        for i, one in enumerate(texts):
            for j, other in enumerate(texts):
                wanted = jaccard(shingles(one, words), shingles(other, words)) if j < i else 0.0
                assert likeness[i, j] == pytest.approx(wanted)
    assert jaccard(set(), set()) == 1.0


def test_near_copies_go_and_drop_nothing_else():
    ten = "one two three four five six seven eight nine ten"
    chain = [ten, ten.replace("ten", "tax"), ten.replace("one", "won").replace("ten", "tax"), ten]
    likeness = earlier_likeness(chain)
    assert likeness[1, 0] == pytest.approx(7 / 9) and likeness[2, 0] == pytest.approx(6 / 10)
    assert near_copies(likeness, 0.7) == [-1, 0, -1, 0]  # the third is like the second, which is gone
    assert near_copies(likeness, 0.5) == [-1, 0, 0, 0] and near_copies(likeness, 1.0) == [-1, -1, -1, 0]
