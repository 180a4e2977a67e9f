"""The recorded runs of lesson 04; and pass@k of 64 samples a problem: bands, majority votes, and what reweighting would do.

`04_pass_at_k.json` keeps for each problem how many samples are right and how often each wrong answer came. "Reweighting"
moves probability between answers that the model gives anyway; what never came stays at 0. The other records keep a verdict
for each question: `helper.preference_runs.apart` and its neighbours read them.
Left out on purpose: sampling and training (`factory/recordings/pass_at_k.py`, `reach.py`).
"""

import numpy as np
import pandas as pd

from helper.intervals import pass_at_k
from helper.recorded import load_runs

KINDS = ("pass_at_k", "distance", "controls", "rule_rewards", "safety_weight", "wider")
KS = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 2000  # of the bootstrap
AS_SHIPPED = ("sprout-grpo",)  # arms that a record only tests: they come trained


def load_practice_runs(kind: str) -> dict:
    """One of the records KINDS; where this copy of the course has none, one without runs that names the command.

    Raises ValueError for another name.
    """
    return load_runs("04", kind, KINDS, f"python -m factory.record --only {kind}")


def what_is_recorded(record: dict) -> str:
    """In words: the command, the number of seeds of each arm or model, and the seconds of a run; or that there are no runs.

    >>> what_is_recorded({"command": "make", "runs": [{"arm": "a", "seed": 0}, {"arm": "a", "seed": 1}]})
    'recorded with: make; seeds of each arm: a 2; not timed'
    """
    if not record["runs"]:
        return f"nothing is recorded in this copy of the course; `{record['command']}` makes it"
    if "model" in record["runs"][0]:
        counted = "one seed of each: " + ", ".join(f"{run['model']} on {run['suite']}" for run in record["runs"])
    else:
        arms = {}
        for run in record["runs"]:
            arms.setdefault(run["arm"], set()).add(run["seed"])
        counted = "seeds of each arm: " + ", ".join(f"{arm} {len(seeds)}" for arm, seeds in arms.items())
    return f"recorded with: {record['command']}; {counted}; {seconds_of_a_run(record['runs'])}"


def seconds_of_a_run(runs: list[dict]) -> str:
    """In words: the lowest and highest seconds of a run, its test included; "not timed" where no row has its own.

    Left out, because nothing was trained for them: rows of a second or less (copied from another record), a training's rows
    after fewer `steps` than its last, and AS_SHIPPED.

    >>> seconds_of_a_run([{"arm": "a", "seed": 0, "seconds": 31.6}, {"arm": "a", "seed": 1, "seconds": 0.0}])
    'seconds of a run: 32 to 32'
    """
    steps: dict[tuple, int] = {}  # of each training, its last
    of_training = [tuple(run.get(key) for key in ("arm", "model", "suite", "seed")) for run in runs]
    for key, run in zip(of_training, runs, strict=True):
        steps[key] = max(steps.get(key, 0), run.get("steps", 0))
    seconds = [
        run["seconds"] for key, run in zip(of_training, runs, strict=True)
        if run.get("seconds", 0) > 1 and run.get("steps", 0) == steps[key] and run.get("arm") not in AS_SHIPPED
    ]  # fmt: skip
    return f"seconds of a run: {min(seconds):.0f} to {max(seconds):.0f}" if seconds else "not timed"


def both_recorded(record: dict, first: str, second: str) -> list[str]:
    """The suites on which both models have samples, in the record's order."""
    there = {}
    for run in record["runs"]:
        there.setdefault(run["suite"], set()).add(run["model"])
    return [suite for suite, models in there.items() if {first, second} <= models]


def run_of(record: dict, model: str, suite: str) -> dict:
    """One model's counts on one suite: `correct` (P,) and `wrong`, a list of counts for each of the P problems.

    Raises ValueError for a model or suite that the record lacks.
    """
    for run in record["runs"]:
        if (run["model"], run["suite"]) == (model, suite):
            return run
    raise ValueError(f"the record has no samples of {model!r} on {suite!r}")


def pass_rates(correct: list[int], samples: int, ks=KS) -> np.ndarray:
    """pass@k of each problem without bias, (P,) -> (P, K) (Chen et al. 2021, arXiv 2107.03374, eq. 1).

    ValueError where k is above `samples`, or a count is.
    """
    return np.array([[pass_at_k(int(right), samples, k) for k in ks] for right in correct])


def band(rates: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean over problems, and the 95% bootstrap interval over problems: (P, K) -> three of (K,).

    Problems are drawn with replacement DRAWS times (Efron 1979, Annals of Statistics 7:1-26): it says how much another
    choice of problems would change, and nothing about another training.
    """
    rates = np.asarray(rates, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(rates), size=(DRAWS, len(rates)))
    means = rates[drawn].mean(1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return rates.mean(0), low, high


def pass_table(record: dict, suite: str, ks=KS) -> pd.DataFrame:
    """A row a model and k: model, k, n, mean, low, high."""
    rows = []
    for run in record["runs"]:
        if run["suite"] == suite:
            rates = pass_rates(run["correct"], record["samples"], ks)
            for k, mean, low, high in zip(ks, *band(rates), strict=True):
                rows.append({"model": run["model"], "k": k, "n": len(rates), "mean": mean, "low": low, "high": high})
    return pd.DataFrame(rows)


def lead(record: dict, suite: str, first: str, second: str, ks=KS) -> pd.DataFrame:
    """`first` minus `second` at each k, paired by problem, with its 95% bootstrap interval: k, difference, low, high."""
    rates = [pass_rates(run_of(record, model, suite)["correct"], record["samples"], ks) for model in (first, second)]
    return pd.DataFrame(dict(zip(("difference", "low", "high"), band(rates[0] - rates[1]), strict=True)), index=ks)


def crossing(difference: pd.Series) -> int | None:
    """The smallest k from which the curve that began below stays above; None where it does not end above.

    `difference` is that of the two curves, either way round. Where they begin equal, the first that leads began above.

    >>> crossing(pd.Series([0.3, 0.1, -0.1, -0.2], index=[1, 2, 4, 8]))
    4
    >>> crossing(pd.Series([-0.3, -0.1, 0.1, 0.2], index=[1, 2, 4, 8]))
    4
    """
    signs = np.sign(difference.to_numpy())
    leads = signs[signs != 0]
    if not len(leads) or signs[-1] != -leads[0]:
        return None
    return int(difference.index[np.flatnonzero(signs != signs[-1])[-1] + 1])


def crossing_in_words(gap: pd.DataFrame, first: str, second: str) -> str:
    """Which model's curve passes the other's, by which k, and where the two are told apart after it; `gap` is of `lead`.

    >>> gap = pd.DataFrame({"difference": [-0.3, 0.1], "low": [-0.4, -0.1], "high": [-0.2, 0.3]}, index=[1, 2])
    >>> crossing_in_words(gap, "RL", "SFT")
    'the curves cross: RL passes SFT by k = 2, +10.0 points (-10.0 to +30.0), not told apart there or at any larger k'
    """
    crossed = crossing(gap["difference"])
    if crossed is None:
        both = (gap["difference"] > 0).any() and (gap["difference"] < 0).any()
        return "the curves cross, and neither passes the other for good" if both else "the curves do not cross"
    if gap["difference"].iloc[-1] < 0:  # the second ends above: read the gap from its side
        turned = pd.DataFrame({"difference": -gap["difference"], "low": -gap["high"], "high": -gap["low"]})
        return crossing_in_words(turned, second, first)
    after = gap.loc[crossed:]
    points = "{:+.1f} points ({:+.1f} to {:+.1f})".format(*(100 * after[["difference", "low", "high"]].iloc[0]))
    told = [str(k) for k in after.index[after["low"] > 0]]
    said = f"told apart at k = {', '.join(told)}" if told else "not told apart there or at any larger k"
    return f"the curves cross: {first} passes {second} by k = {crossed}, {points}, {said}"


def sharpened(correct: list[int], wrong: list[list[int]], power: float) -> np.ndarray:
    """The chance of the right answer once each answer's share is raised to `power` and made to sum to 1, (P,) -> (P,).

    With one wrong answer it is p^a / (p^a + (1 - p)^a). Samples without an answer are left out, which favours the
    sharpened model. 0 where nothing was answered. It knows no right and wrong: the commonest answer wins.
    """
    chances = []
    for right, others in zip(correct, wrong, strict=True):
        most = max([right, *others])
        shares = (np.array([right, *others], dtype=float) / max(most, 1)) ** power
        chances.append(shares[0] / shares.sum() if most else 0.0)
    return np.array(chances)


def majority(correct: list[int], wrong: list[list[int]]) -> np.ndarray:
    """Whether the commonest answer is right, (P,) -> (P,); a tie counts by its part. The limit of `sharpened`.

    Self-consistency (Wang et al. 2022, arXiv 2203.11171).
    """
    votes = []
    for right, others in zip(correct, wrong, strict=True):
        most = max([right, *others])
        votes.append((right == most) / [right, *others].count(most) if most else 0.0)
    return np.array(votes)


def tilted(correct: list[int], samples: int, factor: float) -> np.ndarray:
    """The chance of a right answer once the odds of being right are multiplied by `factor`, (P,) -> (P,).

    It is the policy that a reward of 1 for right answers and a KL penalty β lead to, with factor e^(1/β) (Rafailov et al.
    2023, arXiv 2305.18290, eq. 4): right answers are favoured, and none is new.
    """
    p = np.asarray(correct, dtype=float) / samples
    return p * factor / (p * factor + 1 - p)


def pass_of(chances: np.ndarray, ks=KS) -> np.ndarray:
    """pass@k of known chances, 1 - (1 - p)^k, (P,) -> (P, K)."""
    return 1 - (1 - np.asarray(chances)[:, None]) ** np.array(ks)
