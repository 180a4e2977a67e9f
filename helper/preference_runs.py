"""The recorded runs of lesson 03: `data/recorded/03_*.json`, made by `python -m factory.record`; tables and verdicts.

A run keeps a verdict for each held-out question. Arms are compared question by question and seed by seed.
Left out on purpose: training (`factory/recordings/lesson_03.py`), and the runs on a real model (`helper.real_runs`).
"""

from collections.abc import Callable

import pandas as pd

from helper.intervals import few_runs_interval, mean_interval
from helper.recorded import is_verdicts, load_recorded, share_right

KINDS = ("contrast", "beta_map", "variants", "new_names")


def load_preference_runs(kind: str) -> dict:
    """One of the records KINDS. Raises ValueError for another name, FileNotFoundError where this copy has none."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r:.40} is no record of lesson 03: there is {', '.join(KINDS)}.")
    return load_recorded(f"03_{kind}", f"`python -m factory.record --only {kind}`")


def runs_table(record: dict) -> pd.DataFrame:
    """A row a run: what it was, and its shares of right answers in place of its verdicts."""
    return pd.DataFrame([{key: share_right(v) if is_verdicts(v) else v for key, v in run.items()} for run in record["runs"]])


def arms_table(record: dict, by: str | list[str], suites: list[str]) -> pd.DataFrame:
    """A row an arm (the runs alike in `by`), in the record's order: for each suite the mean of its seeds, and the lowest
    and highest.
    """
    rows = []
    for name, runs in runs_table(record).groupby(by, sort=False):
        row = dict(zip([by] if isinstance(by, str) else by, [name] if isinstance(by, str) else name))
        row |= {"seeds": len(runs)}
        for suite in suites:
            row |= {suite: runs[suite].mean(), f"{suite}, seeds": f"{runs[suite].min():.0%} to {runs[suite].max():.0%}"}
        rows.append(row)
    return pd.DataFrame(rows)


def apart(record: dict, suite: str, first: Callable[[dict], bool], second: Callable[[dict], bool] | None = None) -> dict:
    """How much better the runs that `first` picks are than those of `second` (None: the model before), paired.

    `difference`, `low`, `high`: the mean over questions of the difference, seeds averaged, and its 95% interval: what other
    questions would change. `seeds`: the difference of each seed; `seeds_low`, `seeds_high`: Student's t interval of these,
    from -1 to 1 for one: what other trainings would change; of no width where all seeds agree by chance. Each interval takes
    the other's source as given. Raises ValueError where the two have no seed in common.
    """
    verdicts = [{run["seed"]: list(map(int, run[suite])) for run in record["runs"] if pick(run)} for pick in
                (first, second or (lambda run: False))]  # fmt: skip
    if second is None:
        verdicts[1] = dict.fromkeys(verdicts[0], list(map(int, record["before"][suite])))
    seeds = sorted(set(verdicts[0]) & set(verdicts[1]))
    if not seeds:
        raise ValueError(f"No seed in common: {sorted(verdicts[0])} and {sorted(verdicts[1])}.")
    each = [[a - b for a, b in zip(verdicts[0][seed], verdicts[1][seed], strict=True)] for seed in seeds]
    means = [sum(column) / len(seeds) for column in zip(*each)]
    low, high = mean_interval(means, bounds=(-1.0, 1.0))
    by_seed = [sum(differences) / len(differences) for differences in each]
    _, seeds_low, seeds_high = few_runs_interval(by_seed)
    return {
        "difference": sum(means) / len(means), "low": low, "high": high, "seeds": by_seed,
        "seeds_low": max(seeds_low, -1.0), "seeds_high": min(seeds_high, 1.0),
    }  # fmt: skip


def verdict(found: dict, first: str, second: str, over: str = "questions") -> str:
    """What `apart` found, as a sentence; `over`: what its first interval is over.

    "beats" or "loses to": both intervals exclude 0, over the questions and over the seeds. "is ahead of" or "is behind": the
    one over the questions does, and all seeds point the same way, but so few seeds do not settle it. Without any difference
    it is "beats" or "loses to" in three to eight of 100 cases (simulated, three to five seeds).
    """
    up, seeds = found["difference"] > 0, found["seeds"]
    same_way = all(d > 0 for d in seeds) or all(d < 0 for d in seeds)
    other_questions, other_seeds = found["low"] > 0 or found["high"] < 0, found["seeds_low"] > 0 or found["seeds_high"] < 0
    if other_questions and other_seeds:
        said = f"{'beats' if up else 'loses to'} {second}"
    elif other_questions and same_way:
        often = "with every seed, not settled over seeds" if len(seeds) > 1 else "with the one seed"
        said = f"{'is ahead of' if up else 'is behind'} {second} {often}"
    else:
        said = f"is not told apart from {second}"
    told = [f"over {name} {100 * found[low]:+.1f} to {100 * found[high]:+.1f}" for name, low, high in
            ((over, "low", "high"), ("seeds", "seeds_low", "seeds_high"))][: min(len(seeds), 2)]  # fmt: skip
    if len(seeds) > 1 and found["seeds_high"] - found["seeds_low"] < 1e-9:
        told[1] = "the seeds all alike"
    each = f"; by seed {', '.join(f'{100 * d:+.1f}' for d in seeds)}" if len(seeds) > 1 else ""
    return f"{first} {said}: {100 * found['difference']:+.1f} points ({'; '.join(told)}){each}"
