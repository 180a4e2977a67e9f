"""The explorers of lesson 08 are moved by their controls' values; what they show is computed here in another way."""

import re
from html import unescape
from itertools import permutations

import numpy as np
import pytest
from test_explorers_rl import move

from factory.lessons import WIDGETS
from helper.explorers.best_of import explore_best_of
from helper.explorers.near_copies import explore_near_copies
from helper.explorers.rejection import DRAWS, TARGETS, explore_rejection, kept_of

HOSTILE = '<img src=x onerror=alert(1)>"><script>alert(1)</script> $x$'
STORY = "Ana has nine red apples and gives two of them to Tom"
TEXTS = [STORY, STORY.replace("nine", "ten"), STORY, "How many cups are in the box of Leo", HOSTILE, "Short one"]
PLANTED = [False, True, True, False, False, False]
RIGHT = [[True, False, False, False], [False, False, True, True], [False] * 4]


@pytest.fixture
def explorers():
    best = explore_best_of(RIGHT, 10.0, (0.5, 8.0))
    return {"rejection": explore_rejection(), "near": explore_near_copies(TEXTS, PLANTED), "best": best}


def test_every_explorer_has_a_static_page_and_named_controls(explorers):
    for name, explorer in explorers.items():
        bundle = explorer._repr_mimebundle_()
        assert set(bundle) == {WIDGETS, "text/html", "text/plain"}, name
        assert explorer.view.value in bundle["text/html"] and "Run the cell in JupyterLab" in bundle["text/html"]
        assert all(control.description for control in explorer.controls.values()), name
        (tag,) = re.findall(r"<img alt[^>]*>", bundle["text/html"])
        assert unescape(re.search(r' alt="([^"]*)"', tag).group(1)) == bundle["text/plain"] == explorer.shown.words


def test_every_control_changes_what_is_shown(explorers):
    new = {
        "rejection": {"bound": 1.5, "target": "nearly fair"},
        "near": {"threshold": 0.5, "words": 1},
        "best": {"k": 2, "price": 500, "way": "stop"},
    }
    for name, changes in new.items():
        assert set(changes) == set(explorers[name].controls)
        for control, value in changes.items():
            before = explorers[name].view.value
            move(explorers[name], **{control: value})
            assert explorers[name].view.value != before, (name, control)


@pytest.mark.parametrize("target", TARGETS)
def test_the_share_kept_is_one_over_m_and_a_small_m_is_wrong_for_ever(target, explorers):
    p, explorer = np.array(TARGETS[target]), explorers["rejection"]
    least = 6 * p.max()
    for bound in (round(least, 1) + 0.1, 8.0):
        words, counts = move(explorer, target=target, bound=bound), kept_of(p, np.full(6, 1 / 6), bound)
        assert f"smallest M: {least:.2f}; kept of the draws: {counts.sum() / DRAWS:.1%}" in words
        assert abs(counts.sum() / DRAWS - 1 / bound) < 0.02 and np.abs(counts / counts.sum() - p).max() < 0.04
        assert "is it p?: yes" in words
    cut = np.minimum(p, 1 / 6)  # M = 1: no bar above q
    off = 0.5 * np.abs(cut / cut.sum() - p).sum()
    assert f"is it p?: no: {off:.1%} of the probability" in move(explorer, bound=1.0)


def test_what_the_threshold_drops(explorers):
    said = move(explorers["near"], threshold=0.6)  # one changed word in eleven: 6 of 12 shingles are shared
    assert "dropped: 1 of 6 rows; planted copies among them: 1 of 2; other rows lost: 0 of 4" in said
    assert "dropped: 2 of 6 rows; planted copies among them: 2 of 2" in move(explorers["near"], threshold=0.5)
    assert "just dropped" in explorers["near"].view.value and "just kept" in explorers["near"].view.value


def test_texts_of_others_are_escaped():
    explorer = explore_near_copies([HOSTILE, HOSTILE, "another row of words"], [False, True, False])
    html = explorer.view.value
    assert "<script>" not in html and "onerror=alert(1)>" not in unescape(re.sub(r"&lt;.*?&gt;", "", html))


@pytest.mark.parametrize(("texts", "planted"), [(["one"], [True]), (["a", "b"], [True])])
def test_lists_that_do_not_fit_are_an_error(texts, planted):
    with pytest.raises(ValueError, match="one for each"):
        explore_near_copies(texts, planted)


@pytest.mark.parametrize("way", ["all", "stop"])
@pytest.mark.parametrize("k", [1, 3, 4])
def test_what_the_best_of_k_costs_is_counted_over_all_orders(k, way, explorers):
    solved, drawn = [], []
    for answers in RIGHT:
        for order in permutations(answers):
            first = next((place for place, right in enumerate(order, 1) if right), 5)
            solved.append(first <= k)
            drawn.append(k if way == "all" else min(first, k))
    cost = (200 + 10 * np.mean(drawn)) / np.mean(solved)
    words = move(explorers["best"], k=k, price=200, way=way)
    assert f"questions with a right answer: {np.mean(solved):.1%}; greedy 50.0%" in words
    assert f"answers sampled per question: {np.mean(drawn):.2f}" in words
    assert f"tokens for one right answer: {cost:,.0f}; greedy 416" in words


def test_a_dear_expected_answer_is_worth_more_samples(explorers):
    cheap, dear = (move(explorers["best"], price=price) for price in (0, 5000))
    assert "cheapest K at this price: 1," in cheap and "cheapest K at this price: 4," in dear


@pytest.mark.parametrize("right", [[], [[]], [[True], [True, False]]])
def test_questions_with_unlike_numbers_of_answers_are_an_error(right):
    with pytest.raises(ValueError, match="as many answers"):
        explore_best_of(right, 10.0, (0.5, 8.0))


def test_where_nothing_is_right_no_price_is_finite():
    assert "tokens for one right answer: inf; greedy inf" in explore_best_of([[False, False]], 10.0, (0.0, 8.0)).shown.words
