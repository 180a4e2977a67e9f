"""Intervals of shares, differences and means, against the literature and against chance."""

import itertools
import math

import numpy as np
import pytest

from helper.intervals import (
    clustered_interval,
    differences_over_seeds,
    few_runs_interval,
    mean_interval,
    paired_difference,
    pass_at_k,
    t_quantile,
    unpaired_difference,
    wilson_interval,
)


def pairs(both, only_before, only_after, neither):
    cells = [(1, 1)] * both + [(1, 0)] * only_before + [(0, 1)] * only_after + [(0, 0)] * neither
    return [bool(b) for b, _ in cells], [bool(a) for _, a in cells]


def test_wilson_interval():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(0, 5)[0] == 0.0 and wilson_interval(5, 5)[1] == 1.0 and wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        wilson_interval(6, 5)


def test_paired_difference_on_a_published_table():
    # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33:2850-2875: 1, 1, 7, 12 gives 0.026 to
    # 0.507
    before, after = pairs(1, 1, 7, 12)
    assert paired_difference(before, after) == pytest.approx((6 / 21, 0.026, 0.507), abs=5e-4)
    assert paired_difference(after, before) == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)


def test_the_difference_of_two_groups_on_published_tables():
    # Newcombe 1998, Statistics in Medicine 17:873-890, table II, method 10: 56/70 - 48/80, 9/10 - 3/10
    for (right, n), (other, m), expected in [((56, 70), (48, 80), (0.0524, 0.3339)), ((9, 10), (3, 10), (0.1705, 0.8090))]:
        first, second = [True] * right + [False] * (n - right), [1] * other + [0] * (m - other)
        assert unpaired_difference(first, second) == pytest.approx((right / n - other / m, *expected), abs=5e-5)
        low, high = unpaired_difference(second, first)[1:]
        assert (-high, -low) == pytest.approx(expected, abs=5e-5)
    with pytest.raises(ValueError, match="in the second group"):
        unpaired_difference([True], [])
    with pytest.raises(ValueError, match="in the first group is 0.5"):
        unpaired_difference([0.5], [True])


@pytest.mark.parametrize("cells", [(10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5), (1, 0, 0, 99), (1, 0, 0, 0)])
def test_nothing_changed(cells):
    difference, low, high = paired_difference(*pairs(*cells))
    assert difference == 0 and -1 <= low < 0 < high <= 1


def test_all_changed():
    assert paired_difference(*pairs(0, 0, 40, 0))[0] == 1.0
    assert paired_difference(*pairs(0, 0, 40, 0))[1] > 0.8 and paired_difference(*pairs(0, 0, 40, 0))[2] == 1.0


def test_paired_interval_covers_the_truth_and_uses_the_pairing():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        cells = rng.choice(4, size=60, p=[0.4, 0.05, 0.25, 0.3])
        before, after = (cells <= 1).tolist(), ((cells == 0) | (cells == 2)).tolist()
        _, low, high = paired_difference(before, after)
        covered += low <= 0.20 <= high
    assert 0.92 <= covered / 600 <= 0.99
    linked, crossed = paired_difference(*pairs(50, 0, 10, 40)), paired_difference(*pairs(30, 20, 30, 20))
    assert linked[0] == crossed[0] and linked[2] - linked[1] < 0.7 * (crossed[2] - crossed[1])


def test_paired_lists_must_match():
    for before, after in (([True], []), ([], [])):
        with pytest.raises(ValueError, match="one length"):
            paired_difference(before, after)


def test_the_clustered_interval_covers_the_truth_where_the_plain_one_does_not():
    rng = np.random.default_rng(0)
    covered = plain = 0
    for draw in range(300):
        chance = rng.beta(1, 1, size=60)  # a problem is easy or hard, and its four pairs share that
        values = [float(rng.random() < p) for p in chance for _ in range(4)]
        low, high = clustered_interval(values, [i for i in range(60) for _ in range(4)], draws=400, seed=draw)
        covered += low <= 0.5 <= high
        low, high = wilson_interval(int(sum(values)), len(values))
        plain += low <= 0.5 <= high
    assert covered / 300 >= 0.9 and plain < covered


def test_the_interval_of_few_runs_covers_the_truth():
    rng = np.random.default_rng(0)
    for runs in (2, 3, 12, 40):
        drawn = [few_runs_interval(rng.normal(size=runs)) for _ in range(1500)]
        assert sum(low <= 0 <= high for _, low, high in drawn) / 1500 == pytest.approx(0.95, abs=0.02)
    assert few_runs_interval([3.0]) == (3.0, -math.inf, math.inf)
    with pytest.raises(ValueError, match="finite"):
        few_runs_interval([])


def test_the_clustered_interval_of_one_value_a_cluster_and_its_errors():
    values = [1.0] * 30 + [0.0] * 70
    low, high = clustered_interval(values, range(100))
    assert (low, high) == pytest.approx(wilson_interval(30, 100), abs=0.02)
    assert clustered_interval([1.0, 1.0], ["a", "b"]) == (1.0, 1.0)
    for values, clusters in (([1.0], ["a", "b"]), ([], [])):
        with pytest.raises(ValueError, match="one for each"):
            clustered_interval(values, clusters)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (5, 5), (6, 3)])
def test_pass_at_k_is_the_share_of_subsets(n, k):
    for correct in range(n + 1):
        right = [True] * correct + [False] * (n - correct)
        subsets = [any(subset) for subset in itertools.combinations(right, k)]
        assert pass_at_k(correct, n, k) == pytest.approx(sum(subsets) / len(subsets))
    with pytest.raises(ValueError):
        pass_at_k(1, 4, 5)


def test_mean_interval():
    assert mean_interval([0.9, 1.0, 1.0])[1] == 1.0 and mean_interval([10.0, 20.0])[1] > 20
    with pytest.raises(ValueError, match="finite"):
        mean_interval([math.nan, 1.0])


@pytest.mark.parametrize("odd", [math.nan, 0.5, "False", "", None, 2, -1, [True], np.nan, np.array([1, 0]), 1 + 1j, b"1"])
def test_what_is_neither_right_nor_wrong_is_named(odd):
    for before, after, name in (([True, odd], [True, True], "before"), ([True, True], [False, odd], "after")):
        with pytest.raises(ValueError, match=f"Answer 1 {name} is .*, neither right nor wrong: give True or False"):
            paired_difference(before, after)


@pytest.mark.parametrize("right", [True, 1, 1.0, np.bool_(True), np.int64(1), np.float32(1)])
def test_right_may_be_written_in_several_ways(right):
    wrong = type(right)(0)
    expected = paired_difference([True, False, False], [True, True, False])
    assert paired_difference([right, wrong, wrong], [right, right, wrong]) == expected
    assert paired_difference(np.array([right, wrong, wrong]), np.array([right, right, wrong])) == expected


@pytest.mark.parametrize(
    "p, freedom, published, within",
    [
        (0.975, 1, 12.706, 1e-4), (0.975, 2, 4.303, 1e-4), (0.975, 3, 3.182, 2e-2), (0.975, 8, 2.306, 1e-3),
        (0.975, 20, 2.086, 1e-3), (0.975, 42, 2.018, 1e-3), (0.995, 20, 2.845, 1e-3),
    ],
)  # fmt: skip
def test_students_t_is_that_of_the_tables(p, freedom, published, within):
    assert t_quantile(p, freedom) == pytest.approx(published, rel=within)


def test_differences_over_seeds_by_hand():
    """Two seeds that differ by 10, three arms: what is left after arm and seed is their noise."""
    scores = {"control": [0.0, 10.0], "one": [5.0, 17.0], "two": [4.0, 13.0]}
    differences, half, all_at_once = differences_over_seeds(scores, "control")
    assert differences == {"one": 6.0, "two": 3.5}
    centred = np.array([[0, 10], [5, 17], [4, 13]]) - np.array([[5], [11], [8.5]])
    noise = centred - centred.mean(0)
    assert half == pytest.approx(t_quantile(0.975, 2) * math.sqrt(2 * (noise**2).sum() / 2 / 2))
    assert all_at_once > half


def test_the_interval_over_seeds_covers_what_is_true():
    """Also where the seeds differ far more than the noise does; and all of five arms at once with Bonferroni's width."""
    draw, covered, together = np.random.default_rng(0), 0, 0
    for _ in range(400):
        data = draw.normal(0, 5, (1, 3)) + np.arange(6)[:, None] + draw.normal(0, 1, (6, 3))
        differences, half, wide = differences_over_seeds({str(i): list(row) for i, row in enumerate(data)}, "0")
        errors = [abs(differences[str(i)] - i) for i in range(1, 6)]
        covered += sum(error < half for error in errors) / 5
        together += max(errors) < wide
    assert 0.93 < covered / 400 < 0.97 and 0.93 < together / 400 < 0.99


@pytest.mark.parametrize(
    "scores", [{}, {"a": [1, 2]}, {"a": [1], "b": [2]}, {"a": [1, 2], "b": [2]}, {"b": [1, 2], "c": [1, 2]}]
)
def test_differences_over_seeds_need_arms_and_seeds(scores):
    with pytest.raises(ValueError, match="a score for each of two or more seeds"):
        differences_over_seeds(scores, "a")
