"""Rejection sampling against its formulas, the best of k against enumeration, expert iteration; planted mistakes."""

import doctest
import inspect
import statistics
from itertools import combinations
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helper import set_seed
from helper.algorithms import rejection
from helper.algorithms.rejection import (
    any_of_k,
    best_of_k,
    expected_best,
    expert_round,
    keep_verified,
    rejection_sample,
    smallest_bound,
    without_repeats,
)
from helper.intervals import pass_at_k


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The module, with one piece of its source replaced."""
    text = inspect.getsource(rejection)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {"__name__": rejection.__name__}
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


# Statistics

TARGET, PROPOSAL = torch.tensor([0.5, 0.3, 0.2, 0.0]), torch.tensor([0.1, 0.4, 0.3, 0.2])


def check_sampling(functions) -> None:
    """What is kept is distributed as the target, and the share is 1 / M; 100,000 draws, 5 standard errors."""
    assert functions.smallest_bound(TARGET, PROPOSAL) == pytest.approx(5)
    for bound in (None, 8.0):
        m, n = bound or 5, 100_000
        kept, share = functions.rejection_sample(TARGET, PROPOSAL, n, bound)
        assert share == pytest.approx(1 / m, abs=5 * (1 / m * (1 - 1 / m) / n) ** 0.5) and len(kept) == share * n
        found = torch.bincount(kept, minlength=4) / len(kept)
        error = 5 * (TARGET * (1 - TARGET) / len(kept)).sqrt() + 1e-9
        assert ((found - TARGET).abs() <= error).all()


def test_what_is_kept_is_the_target_and_the_share_is_1_over_m():
    check_sampling(rejection)


SAMPLING_MISTAKES = [
    ("p[values] / (m * q[values])", "p[values] / m"),
    ("p[values] / (m * q[values])", "p[values] / q[values]"),
    ("p[values] / (m * q[values])", "p[values]"),
    ("p[values] / (m * q[values])", "q[values] / (m * p[values])"),
    ("torch.multinomial(q, draws", "torch.multinomial(p, draws"),
    ("(p[p > 0] / q[p > 0]).max()", "(p[p > 0] / q[p > 0]).mean()"),
    ("m = least if bound is None else bound", "m = least"),
    ("len(kept) / draws", "len(kept) / len(p)"),
]


@pytest.mark.parametrize("right, wrong", SAMPLING_MISTAKES)
def test_a_mistake_in_the_sampling_is_caught(right, wrong):
    with pytest.raises((AssertionError, ValueError)):
        check_sampling(changed(right, wrong))


def test_a_seventh_from_two_dice():
    """36 outcomes, 35 of them kept, five for each of seven numbers."""
    target, proposal = torch.tensor([1.0] * 35 + [0.0]), torch.ones(36)
    kept, share = rejection_sample(target, proposal, 70_000)
    assert smallest_bound(target, proposal) == pytest.approx(36 / 35) and share == pytest.approx(35 / 36, abs=0.005)
    assert (torch.bincount(kept % 7) / len(kept) - 1 / 7).abs().max() < 0.01


def test_the_same_seed_gives_the_same_draws():
    one, two, three = (rejection_sample(TARGET, PROPOSAL, 200, seed=seed)[0].tolist() for seed in (1, 1, 2))
    assert one == two != three


def test_what_is_no_density_or_no_bound():
    with pytest.raises(ValueError, match="M = 4.9 is too small.*needs 5"):
        rejection_sample(TARGET, PROPOSAL, 10, bound=4.9)
    with pytest.raises(ValueError, match="never draws a value"):
        smallest_bound(PROPOSAL, TARGET)
    for wrong in (torch.tensor([0.5, -0.1]), torch.zeros(2), torch.ones(2, 2), torch.tensor([float("nan"), 1.0])):
        with pytest.raises(ValueError, match="target is a density"):
            smallest_bound(wrong, torch.ones(2))


# The best of k


def test_the_best_of_each_group_and_one_at_random():
    groups = [["a", "b", "c"], ["d", "e", "f"]]
    assert best_of_k(groups, [[0.0, 2.0, 1.0], [1.0, 0.0, 1.0]]) == [1, 0]
    assert best_of_k(groups, torch.tensor([[0.0, 2.0, 1.0], [1.0, 0.0, 3.0]])) == [1, 2]
    drawn = [any_of_k([["x"] * 4] * 500, seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(80 < drawn[0].count(place) < 170 for place in range(4))


@pytest.mark.parametrize("scores", [[[1.0]], [[1.0, 2.0], [1.0]], [[1.0, 2.0, 3.0], [1.0, 2.0]]])
def test_groups_and_scores_that_do_not_fit(scores):
    with pytest.raises(ValueError, match="one score for each answer"):
        best_of_k([["a", "b"], ["c", "d"]], scores)


def enumerated(scores, k, worth) -> float:
    """The mean over all subsets of k, equal scores shared: what `expected_best` estimates."""
    means = []
    for chosen in combinations(range(len(scores)), k):
        best = max(scores[i] for i in chosen)
        means.append(statistics.mean(worth[i] for i in chosen if scores[i] == best))
    return statistics.mean(means)


CASES = [
    ([0.2, 0.9, 0.4, 0.7], None), ([1.0, 0.0, 0.0, 1.0, 0.0], None), ([3.0, 1.0, 2.0, 5.0], [0.0, 1.0, 1.0, 0.0]),
    ([2.0, 2.0, 1.0, 2.0, 1.0], [1.0, 0.0, 1.0, 0.0, 0.0]), ([-1.0], [7.0]),
]  # fmt: skip


def check_best(functions) -> None:
    for scores, worth in CASES:
        for k in range(1, len(scores) + 1):
            wanted = enumerated(scores, k, worth or scores)
            assert functions.expected_best(scores, k, worth) == pytest.approx(wanted, abs=1e-9)


def test_all_subsets_give_the_same():
    check_best(rejection)


BEST_MISTAKES = [
    ("math.comb(below + len(values), k) - math.comb(below, k)", "math.comb(below + len(values), k)"),
    ("/ math.comb(n, k)", "/ n**k"),
    ("sum(values) / len(values)", "max(values)"),
    ("sorted(zip(map(float, scores), map(float, worth)))", "zip(map(float, scores), map(float, worth))"),
    ("worth, n = scores if worth is None else worth, len(scores)", "worth, n = scores, len(scores)"),
    ("sorted(zip(map(float, scores), map(float, worth)))",
     "sorted(zip(map(float, scores), map(float, worth)), reverse=True)"),
]  # fmt: skip


@pytest.mark.parametrize("right, wrong", BEST_MISTAKES)
def test_a_mistake_in_the_estimate_is_caught(right, wrong):
    with pytest.raises(AssertionError):
        check_best(changed(right, wrong))


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_with_right_and_wrong_it_is_pass_at_k(rights, data):
    k = data.draw(st.integers(1, len(rights)))
    assert expected_best(rights, k) == pytest.approx(pass_at_k(sum(rights), len(rights), k))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=7), st.data())
@settings(max_examples=60, deadline=None)
def test_any_scores_and_worths(scores, data):
    worth = data.draw(st.lists(st.floats(-5, 5), min_size=len(scores), max_size=len(scores)))
    k = data.draw(st.integers(1, len(scores)))
    assert expected_best(scores, k, worth) == pytest.approx(enumerated(scores, k, worth), abs=1e-9)


@pytest.mark.parametrize("k", [0, 3, -1])
def test_a_k_that_there_is_not(k):
    with pytest.raises(ValueError, match="1 <= k <= n"):
        expected_best([1.0, 2.0], k)
    with pytest.raises(ValueError, match="a worth for each score"):
        expected_best([1.0, 2.0], 1, worth=[1.0])


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(rejection).attempted > 0 and doctest.testmod(rejection).failed == 0


# A round of expert iteration


def rows_of(*questions: str) -> list[dict]:
    return [{"prompt": [{"role": "user", "content": question}]} for question in questions]


ROWS = rows_of("1 + 1", "2 + 2", "3 + 3")
GROUPS = [["2", " 2 ", "3", "it is 2"], ["5", "5", "5", "6"], ["6", "6", "6\n", "6"]]
SCORES = [[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.1, 0.0], [1.0, 1.0, 1.0, 1.0]]


def check_round(functions) -> None:
    made = functions.keep_verified(ROWS, GROUPS, SCORES)
    said = [(row["prompt"][0]["content"], row["completion"]) for row in made.kept]
    assert said == [
        (question, [{"role": "assistant", "content": text}])
        for question, text in (("1 + 1", "2"), ("1 + 1", "it is 2"), ("3 + 3", "6"))
    ]
    assert made.numbers == {
        "prompts": 3, "prompts with a right answer": 2, "sampled": 12, "right": 7, "right and different": 3, "kept": 3,
    }  # fmt: skip
    assert made.acceptance == pytest.approx(7 / 12) and len(made.blind) == 3
    drawn = [functions.keep_verified(ROWS, GROUPS, SCORES, seed=seed).blind for seed in range(300)]
    texts = [(row["prompt"][0]["content"], row["completion"][0]["content"]) for rows in drawn for row in rows]
    different = [("1 + 1", "2"), ("1 + 1", "3"), ("1 + 1", "it is 2"), ("2 + 2", "5"), ("2 + 2", "6"), ("3 + 3", "6")]
    assert all(110 < texts.count(text) < 190 for text in different) and len(texts) == 900  # 150 each, in the mean
    one = functions.keep_verified(ROWS, GROUPS, SCORES, per_prompt=1)
    assert [row["prompt"][0]["content"] for row in one.kept] == ["1 + 1", "3 + 3"] and one.numbers["kept"] == 2
    lenient = functions.keep_verified(ROWS, GROUPS, SCORES, at_least=0.1)
    assert lenient.numbers["right"] == 8 and lenient.numbers["prompts with a right answer"] == 3


def test_a_round_keeps_the_right_answers_once():
    check_round(rejection)


ROUND_MISTAKES = [
    ("if score >= at_least", "if score > 0"),
    ("if score >= at_least", "if score < at_least"),
    ("once = without_repeats(good)", "once = list(good)"),
    ("_row(row, text) for text in without_repeats(group)", "_row(row, text) for text in without_repeats(good)"),
    ("_row(row, text) for text in without_repeats(group)", "_row(row, text) for text in group"),
    ("rng.sample(all_different, len(kept))", "all_different"),
    ("rng.sample(once, per_prompt)", "once"),
    ("solved + bool(good)", "solved + 1"),
    ('self.numbers["right"] / self.numbers["sampled"]', 'self.numbers["kept"] / self.numbers["sampled"]'),
    ("first.setdefault(\" \".join(text.split()), text)", "first.setdefault(text, text)"),
    ('"content": text}]}', '"content": text.upper()}]}'),
]  # fmt: skip


@pytest.mark.parametrize("right, wrong", ROUND_MISTAKES)
def test_a_mistake_in_the_round_is_caught(right, wrong):
    check_round(changed())
    with pytest.raises((AssertionError, ValueError)):
        check_round(changed(right, wrong))


def test_the_same_seed_keeps_the_same_rows():
    rounds = [keep_verified(ROWS, GROUPS, SCORES, per_prompt=1, seed=seed) for seed in (1, 1)]
    assert rounds[0] == rounds[1]
    drawn = [keep_verified(ROWS, GROUPS, SCORES, per_prompt=1, seed=seed).kept[0] for seed in range(20)]
    assert {row["completion"][0]["content"] for row in drawn} == {"2", "it is 2"}


def test_nothing_right_keeps_nothing():
    made = keep_verified(ROWS, GROUPS, [[0.0] * 4] * 3)
    assert made.kept == made.blind == [] and made.acceptance == 0


def test_rows_that_do_not_fit():
    with pytest.raises(ValueError, match="2 rows and 3 groups"):
        keep_verified(ROWS[:2], GROUPS, SCORES)
    with pytest.raises(ValueError, match="no group empty"):
        keep_verified(ROWS[:1], [[]], [[]])


def test_texts_once():
    assert without_repeats(["b", "a", "b ", "a  c", "a c", "B"]) == ["b", "a", "a  c", "B"]


@pytest.mark.parametrize("samples", [1, 5])
def test_a_round_samples_verifies_and_keeps(model, tokenizer, samples):
    asked = []

    def short(completions, topic, **kwargs):
        asked.extend(topic)
        return [float(len(completion[-1]["content"]) % 2) for completion in completions]

    rows = [{**row, "topic": str(number)} for number, row in enumerate(rows_of("one", "two", "three"))]
    options = {"samples": samples, "max_new_tokens": 6, "temperature": 1.0}
    made = []
    for _ in range(2):
        set_seed(3)
        made.append(expert_round(model, tokenizer, rows, [short], **options))
    assert made[0] == made[1] and made[0].numbers["sampled"] == 3 * samples
    assert asked == 2 * [str(number) for number in range(3) for _ in range(samples)]
    assert all(len(row["completion"][0]["content"]) % 2 for row in made[0].kept)
    assert 0 < made[0].acceptance < 1 or samples == 1
