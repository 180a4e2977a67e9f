"""Confidence intervals, all of 95%: shares, differences on the same questions, means, arms over seeds; and pass@k.

Shares of right answers use Wilson's interval; differences on the same questions use Newcombe's paired interval, which keeps
the pairing. Values that are not right/wrong (pass@8) use the normal approximation for a mean; values that share a problem a
bootstrap of whole problems; a few runs Student's t. Arms of an experiment that ran with the same seeds use the analysis of
variance of arms and seeds.
Left out on purpose: significance stars.
"""

import math
from statistics import NormalDist

import numpy as np


def wilson_interval(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927, JASA 22:209-212). (0, 1) when n is 0.

    >>> low, high = wilson_interval(8, 10)
    >>> f"{low:.3f} {high:.3f}"
    '0.490 0.943'
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share.")
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would leave 1e-17
    high = 1.0 if successes == n else centre + half
    return low, high


def paired_difference(before: list[bool], after: list[bool]) -> tuple[float, float, float]:
    """After minus before on the same questions: (difference, low, high).

    Newcombe's square-and-add interval for paired shares (Newcombe 1998, Statistics in Medicine 17:2635-2650,
    method 10): Wilson's interval of each share, joined with their (continuity-corrected) correlation.
    Raises ValueError for what is neither right nor wrong: only True, False, 1 and 0 are.
    """
    n = paired_length(before, after)
    for name, values in (("before", before), ("after", after)):
        _check_right_or_wrong(name, values)
    both = sum(bool(x) and bool(y) for x, y in zip(before, after, strict=True))
    first, second = sum(map(bool, before)), sum(map(bool, after))
    p1, p2 = first / n, second / n
    (low1, high1), (low2, high2) = wilson_interval(first, n), wilson_interval(second, n)
    excess = both * (n - first - second + both) - (second - both) * (first - both)  # ad - bc of the 2 x 2 table
    if excess > 0:
        excess = max(excess - n / 2, 0)
    scale = math.sqrt(first * (n - first) * second * (n - second))
    correlation = excess / scale if scale else 0.0
    down = _joined(p2 - low2, high1 - p1, correlation)
    up = _joined(high2 - p2, p1 - low1, correlation)
    return p2 - p1, max(p2 - p1 - down, -1.0), min(p2 - p1 + up, 1.0)


def unpaired_difference(first: list[bool], second: list[bool]) -> tuple[float, float, float]:
    """The share in the first group less that in the second, of different questions: (difference, low, high).

    Newcombe's square-and-add interval for two groups (Newcombe 1998, Statistics in Medicine 17:873-890, method 10).
    Raises ValueError for an empty group, and for what is neither right nor wrong.
    """
    shares = []
    for name, values in (("in the first group", first), ("in the second group", second)):
        _check_right_or_wrong(name, values)
        if len(values) == 0:
            raise ValueError(f"There is nothing {name}: give one value or more.")
        right = sum(map(bool, values))
        shares.append((right / len(values), *wilson_interval(right, len(values))))
    (p1, low1, high1), (p2, low2, high2) = shares
    return p1 - p2, p1 - p2 - _joined(p1 - low1, high2 - p2, 0.0), p1 - p2 + _joined(high1 - p1, p2 - low2, 0.0)


def _check_right_or_wrong(name: str, values) -> None:
    for place, value in enumerate(values):
        if isinstance(value, str) or not (np.isscalar(value) and value in (0, 1)):
            raise ValueError(
                f"Answer {place} {name} is {value!r:.40}, neither right nor wrong: give True or False. For other numbers "
                "take mean_interval of the differences."
            )


def mean_interval(values: list[float], z: float = 1.96, bounds: tuple | None = None) -> tuple[float, float]:
    """The normal approximation's interval for a mean: mean ± z·s/√n; kept in [0, 1] when all values are."""
    data = np.asarray(values, dtype=float)
    if not np.isfinite(data).all():
        raise ValueError("A metric's values must be finite numbers.")
    half = z * data.std(ddof=1) / math.sqrt(len(data)) if len(data) > 1 else math.inf
    if bounds is None:
        bounds = (0.0, 1.0) if data.min() >= 0 and data.max() <= 1 else (-math.inf, math.inf)
    return max(float(data.mean() - half), bounds[0]), min(float(data.mean() + half), bounds[1])


def differences_over_seeds(scores: dict[str, list[float]], control: str) -> tuple[dict[str, float], float, float]:
    """Each arm's mean less the control's, {arm: difference}; the half width of one such interval; and of all at once.

    `scores`: one number a seed for each arm, the seeds in the same order, any unit. Score = arm + seed + noise: the half
    width is t · √(2 s² / S), with s² the noise's mean square over all arms, of (A - 1)(S - 1) degrees of freedom (Fisher's
    blocks). With few seeds this is far narrower than an interval from one arm's own; the price is that all arms are taken to
    be equally noisy. The second width is Bonferroni's for A - 1 comparisons: all of them hold together in 95 of 100 cases.
    Raises ValueError without the control, for fewer than two arms or seeds, or for arms of different numbers of seeds.
    """
    table = list(scores.values())
    arms, seeds = len(table), len(table[0]) if table else 0
    if control not in scores or arms < 2 or seeds < 2 or any(len(row) != seeds for row in table):
        raise ValueError(f"Give {control!r} and another arm, each with a score for each of two or more seeds.")
    data = np.asarray(table, dtype=float)
    noise = data - data.mean(1, keepdims=True) - data.mean(0, keepdims=True) + data.mean()
    freedom = (arms - 1) * (seeds - 1)
    error = math.sqrt(2 * float((noise**2).sum()) / freedom / seeds)
    differences = {arm: float(np.mean(row) - np.mean(scores[control])) for arm, row in scores.items() if arm != control}
    return differences, t_quantile(0.975, freedom) * error, t_quantile(1 - 0.025 / (arms - 1), freedom) * error


def t_quantile(p: float, freedom: int) -> float:
    """Student's t below which a share p from one half on lies.

    Exact for one and two degrees of freedom, else by the Cornish-Fisher series (Abramowitz and Stegun 1964, 26.7.5), within
    2% for three at p = 0.975, and 0.1% from ten on.

    >>> round(t_quantile(0.975, 20), 3)
    2.086
    """
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def few_runs_interval(values: list[float]) -> tuple[float, float, float]:
    """The mean of a few runs (of seeds, say) or of their differences, and Student's t interval: (mean, low, high).

    For one value the interval is (-inf, inf): one run says nothing about the next.

    >>> mean, low, high = few_runs_interval([1.0, 2.0, 3.0])
    >>> f"{mean:.1f} {low:.2f} {high:.2f}"
    '2.0 -0.48 4.48'
    """
    data = np.asarray(values, dtype=float)
    if not len(data) or not np.isfinite(data).all():
        raise ValueError("Give one finite number a run, from one.")
    free = len(data) - 1
    half = t_quantile(0.975, free) * data.std(ddof=1) / math.sqrt(len(data)) if free else math.inf
    return float(data.mean()), float(data.mean() - half), float(data.mean() + half)


def clustered_interval(values: list[float], clusters: list, draws: int = 2000, seed: int = 0) -> tuple[float, float]:
    """A mean's interval where values of one cluster (several pairs of one problem) belong together: a cluster bootstrap.

    Whole clusters are drawn anew with replacement, `draws` times; the 2.5% and 97.5% points of the means (Cameron, Gelbach
    and Miller 2008, Review of Economics and Statistics 90:414-427). For a difference give each value's difference.
    Where all values are equal it is (mean, mean): too narrow; take `wilson_interval` of the number of clusters then.
    Raises ValueError for lists of two lengths, or empty ones.

    >>> clustered_interval([1.0, 1.0, 0.0, 0.0], ["a", "a", "b", "b"])
    (0.0, 1.0)
    """
    if len(values) != len(clusters) or not len(values):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters: there must be one for each, from 1.")
    _, places = np.unique(np.asarray([str(cluster) for cluster in clusters]), return_inverse=True)
    sums, sizes = np.bincount(places, weights=np.asarray(values, dtype=float)), np.bincount(places)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(draws, len(sums)))
    means = sums[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def pass_at_k(correct: int, n: int, k: int) -> float:
    """The chance that at least one of k samples is right, from `correct` right among n >= k samples,
    unbiased.

    1 - C(n - correct, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    >>> pass_at_k(1, 4, 2)
    0.5
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise ValueError(f"pass_at_k needs 0 <= correct <= n and 1 <= k <= n, not correct={correct}, n={n}, k={k}.")
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def _joined(x: float, y: float, correlation: float) -> float:
    return math.sqrt(max(x**2 - 2 * correlation * x * y + y**2, 0.0))


def paired_length(before, after) -> int:
    if len(before) != len(after) or not len(before):
        raise ValueError(f"Paired lists must be of one length, and not empty: {len(before)} before, {len(after)} after.")
    return len(before)
