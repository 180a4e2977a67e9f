"""The recorded runs of lesson 09: ways to the same accuracy, GRPO under a KL penalty, and in two rounds; tables, verdicts.

A number of a run (a KL, a loss) is compared seed by seed; answers are compared by `helper.preference_runs.apart`.
Left out on purpose: training (`factory/recordings/razor.py`, `kl_prices.py`, `two_rounds.py`).
"""

import pandas as pd

from helper.intervals import differences_over_seeds, few_runs_interval
from helper.recorded import is_verdicts, load_runs, share_right

KINDS = ("razor", "kl_prices", "two_rounds")


def load_pipeline_runs(kind: str) -> dict:
    """One of the records KINDS; where this copy of the course has none, one without runs that names the command.

    Raises ValueError for another name.
    """
    more = " 3 4" if kind == "razor" else ""
    return load_runs("09", kind, KINDS, f"python -m factory.record --only {kind} --seeds 0 1 2{more}")


def of_arms(record: dict, columns: list[str]) -> pd.DataFrame:
    """A row an arm, in the record's order: seeds, and the mean of each column over them; verdicts as shares.

    A column of true and false becomes how many were true.
    """
    rows: dict[str, dict] = {}
    for arm, runs in pd.DataFrame(record["runs"]).groupby("arm", sort=False):
        rows[arm] = {"seeds": len(runs)}
        for column in columns:
            values = [share_right(value) if is_verdicts(value) else value for value in runs[column]]
            counted = all(isinstance(value, bool) for value in values)
            rows[arm][column] = sum(values) if counted else sum(values) / len(values)
    return pd.DataFrame.from_dict(rows, orient="index")


def gap(record: dict, column: str, first: str, second: str) -> tuple[float, float, float, int]:
    """`first` minus `second` in a number of their runs, paired by seed: mean, Student's t interval, number of seeds.

    Raises ValueError where the two have no seed in common.
    """
    by_arm = {arm: {run["seed"]: run[column] for run in record["runs"] if run["arm"] == arm} for arm in (first, second)}
    seeds = sorted(set(by_arm[first]) & set(by_arm[second]))
    if not seeds:
        raise ValueError(f"{first!r} and {second!r} have no seed in common.")
    return *few_runs_interval([by_arm[first][seed] - by_arm[second][seed] for seed in seeds]), len(seeds)


def gap_in_words(record: dict, column: str, first: str, second: str, unit: str = "nats") -> str:
    """What `gap` found, as a sentence; beyond chance where the interval leaves out 0."""
    mean, low, high, seeds = gap(record, column, first, second)
    if seeds == 1:
        return f"{column}, {first} minus {second}: {mean:+.3f} {unit}; one seed, which says nothing of the next"
    word = "beyond chance" if low > 0 or high < 0 else "within chance"
    return f"{column}, {first} minus {second}: {mean:+.3f} {unit} ({low:+.3f} to {high:+.3f}; {seeds} seeds), {word}"


def against(record: dict, control: str, columns: list[str]) -> pd.DataFrame:
    """A row for each column and arm: the arm minus `control` over the seeds that all arms have, with half widths of 95%.

    `one`: of one interval alone, `all`: of all arms' at once (`helper.intervals.differences_over_seeds`). `verdict`: beyond
    chance where the difference is above `all`, a hint where it is above `one`. Shares of verdicts are told in points.
    Raises ValueError for fewer than two arms or two seeds in common, or without the control.
    """
    arms = list(dict.fromkeys(run["arm"] for run in record["runs"]))
    found = {(run["arm"], run["seed"]): run for run in record["runs"]}
    seeds = [seed for seed in sorted({seed for _, seed in found}) if all((arm, seed) in found for arm in arms)]
    rows = []
    for column in columns:
        scores = {arm: [_number(found[arm, seed][column]) for seed in seeds] for arm in arms}
        differences, one, every = differences_over_seeds(scores, control)
        for arm, gained in differences.items():
            word = "beyond chance" if abs(gained) > every else "a hint" if abs(gained) > one else "no difference seen"
            rows.append({"of": column, "arm": arm, "difference": gained, "one": one, "all": every, "verdict": word})
    return pd.DataFrame(rows).set_index(["of", "arm"])


def _number(value) -> float:
    return 100 * share_right(value) if is_verdicts(value) else value
