"""The recorded runs on a real model, beside Sprout's: `data/recorded/0?_real_model.json`, made by `make record-real`.

A record holds the answers of SmolLM2-135M-Instruct to held-out questions as it came ("before"), and after each run: an arm
(what was done) and a seed. Verdicts are kept question by question.
Left out on purpose: training (`factory/recordings/real_model.py`), and anything that a lesson measures live.
"""

from collections.abc import Iterable

import pandas as pd

from helper.data import load_suite
from helper.intervals import mean_interval
from helper.recorded import load_recorded
from helper.scoreboards import scoreboard_table

CALLS = ("get_weather", "set_timer", "translate", "play_music")  # the skills of the suite `tool_calls` that need a call


def load_real_runs(lesson: str) -> dict:
    """The record of a lesson: "02", "03", "04", "07" (a name by an adapter), "07_sft" or "07_grpo" (its other adapters).

    Raises FileNotFoundError where this copy of the course has none.
    """
    return load_recorded(f"{lesson}_real_model", "`make real-model`, then `make record-real`,")


def real_lesson(name: str) -> tuple[pd.DataFrame, str]:
    """A lesson ("08_data") as a whole on the real model: its scoreboard to read, and what it took, in words.

    Raises FileNotFoundError where this copy of the course has no record, KeyError for a lesson that is not in it.
    """
    record = load_recorded("real_lessons", "`make real-model`, then `make record-real`,")
    found = record["lessons"][name]
    minutes, peak = found["seconds"] / 60, found["peak_memory_mb"] / 1000
    took = f"{minutes:.0f} minutes on one core, other work beside it, {peak:.1f} GB at the most"
    return scoreboard_table(pd.DataFrame(found["metrics"])), f"{took}; recorded with: {record['command']}"


def real_runs_table(record: dict, suite: str, skills: Iterable[str] | None = None) -> pd.DataFrame:
    """A row an arm: accuracy before and after on a suite (or some skills of it), and the difference with its 95% interval.

    `after` is the mean of the arm's seeds, `lowest` and `highest` are the seeds'. The interval is that of the mean over
    questions of (share of seeds that are right after) - (right before): paired by question, and questions are the unit,
    so seeds do not make it narrower than the questions allow. It says nothing about another run: for that look at the seeds.
    """
    chosen = _places(suite, skills)
    before = [record["before"][suite]["right"][i] for i in chosen]
    rows = []
    for arm, runs in _by_arm(record).items():
        after = [[run[suite]["right"][i] for i in chosen] for run in runs]
        means = [sum(right) / len(chosen) for right in after]
        difference = [sum(each) / len(after) - b for *each, b in zip(*after, before)]
        low, high = mean_interval(difference, bounds=(-1.0, 1.0))
        row = {"arm": arm, "seeds": len(runs), "n": len(chosen), "before": sum(before) / len(chosen)}
        row |= {"after": sum(means) / len(means), "lowest": min(means), "highest": max(means)}
        row |= {"difference": row["after"] - row["before"], "difference_low": low, "difference_high": high}
        rows.append(row | {"seconds": round(sum(run["seconds"] for run in runs) / len(runs))})
    return pd.DataFrame(rows)


def arms_apart(
    record: dict, suite: str, first: str, second: str, skills: Iterable[str] | None = None
) -> tuple[float, float, float]:
    """How much better `first` is than `second` after training, and the 95% interval; paired by question, seeds averaged.

    Only seeds that both have are compared. Raises ValueError where there is none.
    """
    chosen, arms = _places(suite, skills), _by_arm(record)
    runs = [{run["seed"]: run[suite]["right"] for run in arms[arm]} for arm in (first, second)]
    seeds = sorted(set(runs[0]) & set(runs[1]))
    if not seeds:
        raise ValueError(f"{first!r} and {second!r} have no seed in common")
    apart = [sum(runs[0][seed][i] - runs[1][seed][i] for seed in seeds) / len(seeds) for i in chosen]
    return sum(apart) / len(apart), *mean_interval(apart, bounds=(-1.0, 1.0))


def verdicts_of(record: dict, suites: dict[str, Iterable[str] | None]) -> dict:
    """A record of real runs in the form that `helper.preference_runs.apart` compares; `suites`: name -> skills (None: all).

    {"before": {suite: right}, "runs": [{"arm", "seed", suite: right}]}, `right` a list of 0 and 1 by question.
    """
    places = {suite: _places(suite, skills) for suite, skills in suites.items()}

    def right(answered: dict) -> dict:
        return {suite: [answered[suite]["right"][i] for i in chosen] for suite, chosen in places.items()}

    runs = [{"arm": run["arm"], "seed": run["seed"], **right(run)} for run in record["runs"]]
    return {"before": right(record["before"]), "runs": runs}


def answers_of(record: dict, suite: str, arms: list[str], seed: int = 0) -> pd.DataFrame:
    """The questions of a suite with the answer before, and after each of `arms` with one seed."""
    rows = load_suite(suite)
    table = pd.DataFrame({"skill": [row["skill"] for row in rows], "question": [row["question"] for row in rows]})
    table["before"] = record["before"][suite]["answer"]
    for run in record["runs"]:
        if run["seed"] == seed and run["arm"] in arms:
            table[run["arm"]] = run[suite]["answer"]
    return table


def _places(suite: str, skills: Iterable[str] | None) -> list[int]:
    wanted = None if skills is None else set(skills)
    places = [i for i, row in enumerate(load_suite(suite)) if wanted is None or row["skill"] in wanted]
    if not places:
        raise ValueError(f"the suite {suite!r} has no question of these skills: {sorted(wanted)}")
    return places


def _by_arm(record: dict) -> dict[str, list[dict]]:
    arms = {}
    for run in record["runs"]:
        arms.setdefault(run["arm"], []).append(run)
    return arms
