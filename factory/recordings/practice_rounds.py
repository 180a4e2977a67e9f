"""What the recordings of lessons 07 and 08 share: questions to practise in rounds, answers sampled to them, tests, a clock.

Of the problems of `sprout-maths` the first 3800 are trained on, and the last 200 choose learning rates; none is in a test.
Left out on purpose: what is learned from the answers; that is each recording's own.
"""

from __future__ import annotations

import copy
import random
import re
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

from factory.recordings.lesson_03 import TUNING_SEED, judged, message, once, other_rows, resumed, share, validation_rows
from factory.recordings.shared import command, model_and_problems, write
from helper import generate_responses, load_course_dataset, load_suite, reward_func
from helper.algorithms.batches import reward_texts
from helper.recorded import share_right

ROUNDS, QUESTIONS, SAMPLES = 3, 60, 4  # questions in a round, answers to each
ANSWERS = ROUNDS * QUESTIONS * SAMPLES
TRAINED, VALIDATION, WORD_PROBLEMS = 3800, 100, 200
LONGEST = 72  # tokens an answer may have


@cache
def start() -> tuple:
    """`sprout-instruct` as all runs begin with it (not to be changed: take a copy), its tokenizer, and the problems."""
    return model_and_problems()


def student():
    """A copy of the model to train."""
    return copy.deepcopy(start()[0])


@cache
def tests() -> dict[str, list[dict]]:
    """The suites on which runs are reported."""
    problems = load_suite("word_problems")
    return {"word_problems": problems[:: len(problems) // WORD_PROBLEMS][:WORD_PROBLEMS], "other_skills": other_rows(0, 8)}


def verdicts(model, suites: dict[str, list[dict]] | None = None) -> dict[str, str]:
    """Verdicts on the tests, or on other suites."""
    return judged(model, start()[1], suites or tests(), LONGEST)


def left_verdicts(model, about: dict) -> dict[str, str]:
    """Verdicts on the tests that a row does not hold yet."""
    return verdicts(model, {name: rows for name, rows in tests().items() if name not in about})


def validation(model) -> float:
    """The share of right answers to the questions that choose a learning rate."""
    return share_right(verdicts(model, {"": validation_rows()[-VALIDATION:]})[""])


def questions(seed: int) -> list[list[dict]]:
    """The problems to practise, drawn with `seed`: ROUNDS lists of QUESTIONS, each one once."""
    drawn = random.Random(seed).sample(start()[2][:TRAINED], ROUNDS * QUESTIONS)
    return [drawn[i : i + QUESTIONS] for i in range(0, len(drawn), QUESTIONS)]


@cache
def written_answers() -> dict[str, str]:
    """Question -> its written answer, the result in a box, for the problems that are trained on."""
    rows = load_course_dataset("sprout-maths").to_list()[:TRAINED]
    return {row["question"]: re.sub(r"#### (.*)", r"\\boxed{\1}", row["answer"]) for row in rows}


def sampled(model, asked: list[dict], seed: int, answers: int = SAMPLES) -> tuple[list[list[str]], list[list[float]]]:
    """`answers` to each problem, and 1.0 for each right one, else 0.0."""
    groups = generate_responses(
        model, start()[1], full_message=[row["prompt"] for row in asked], max_new_tokens=LONGEST, temperature=1.0,
        num_samples=answers, batch_size=len(asked) * answers, seed=seed,
    )  # fmt: skip
    each = [row for row in asked for _ in range(answers)]
    paid = reward_texts(each, [text for group in groups for text in group], [reward_func])
    return groups, paid.view(len(asked), -1).tolist()


def shown(question: str | list[dict], answer: str) -> dict:
    """A row to imitate."""
    prompt = message("user", question) if isinstance(question, str) else question
    return {"prompt": prompt, "chosen": message("assistant", answer)}


def pairs_of(asked: list[dict], groups: list[list[str]], paid: list[list[float]]) -> list[dict]:
    """A row of preferences for each problem with right and wrong answers: the first of each."""
    rows = []
    for row, group, scores in zip(asked, groups, paid, strict=True):
        if len(set(scores)) > 1:
            chosen, rejected = (group[scores.index(score)] for score in (1.0, 0.0))
            rows.append(shown(row["prompt"], chosen) | {"rejected": message("assistant", rejected)})
    return rows


def acceptance(paid: list[list[float]]) -> float:
    """The share of right answers among those sampled."""
    return round(share([score for scores in paid for score in scores]), 4)


class Clock:
    """The processor's seconds within its `with` blocks; with one thread nothing that others run counts."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self) -> Clock:
        self._begun = time.process_time()
        return self

    def __exit__(self, *_) -> None:
        self.seconds += time.process_time() - self._begun

    def read(self) -> float:
        """The seconds so far, rounded."""
        return round(self.seconds, 1)


def record_arms(
    name: str, seeds: list[int], path: Path, arms: dict[str, tuple[float, ...] | str], settings: dict, run: Callable,
    judge: Callable = left_verdicts, tuned_for: int = 1, **more: Callable,
) -> dict:  # fmt: skip
    """Tune each arm for `tuned_for` rounds with a seed of its own, then run it with each seed at the best rate; the record.

    An arm with one rate is not tuned, nor one that has another arm's name for its rates. `run(arm, rate, seed, rounds)`
    gives the trained model, and what its row says beside the verdicts of `judge(model, that)`. `more`: other things to write
    beside the settings, made once.
    """
    head = {
        "settings": settings,
        "arms": {arm: rates if isinstance(rates, str) else list(rates) for arm, rates in arms.items()},
    }
    record = resumed(path, head)
    record |= {"command": command(name, seeds), "seeds": seeds}
    record["threads"] = torch.get_num_threads()
    for key, make in {"before": lambda: judge(start()[0], {}), **more}.items():
        record[key] = record.get(key) or make()
    for arm, rates in arms.items():
        for rate in () if isinstance(rates, str) or len(rates) == 1 else rates:
            once(record, path, "tuning", {"arm": arm, "learning_rate": rate}, partial(tried, run, arm, rate, tuned_for))
    for seed in seeds:
        for arm in arms:
            about = {"arm": arm, "seed": seed, "learning_rate": best_rate(record, arm)}
            once(record, path, "runs", about, partial(finished, run, judge, arm, about["learning_rate"], seed))
    return record


def record_untuned(
    name: str, seeds: list[int], path: Path, arms: dict, settings: dict, before: Callable[[], dict],
    run: Callable[[str, int], dict],
) -> None:  # fmt: skip
    """Run each arm with each seed, `run(arm, seed)` -> its row; `before()`, of the start, is made once."""
    record = resumed(path, {"what": name, "settings": settings, "arms": arms})
    record |= {"command": command(name, seeds), "threads": torch.get_num_threads()}
    record["before"] = record.get("before") or before()
    write(record, path)
    for seed in seeds:
        for arm in arms:
            once(record, path, "runs", {"arm": arm, "seed": seed}, partial(run, arm, seed))


def tried(run: Callable, arm: str, rate: float, rounds: int) -> dict:
    """A row of tuning: a run of so many rounds, judged on the questions that choose a learning rate."""
    model, _ = run(arm, rate, TUNING_SEED, rounds)
    return {"validation": validation(model)}


def finished(run: Callable, judge: Callable, arm: str, rate: float, seed: int) -> dict:
    """A row of runs: the whole run, judged on the tests."""
    model, about = run(arm, rate, seed, ROUNDS)
    return about | judge(model, about)


def best_rate(record: dict, arm: str) -> float:
    """The learning rate with the highest share of right answers in the arm's tuning; the only one, or another arm's."""
    rates = record["arms"][arm]
    if isinstance(rates, str):
        return best_rate(record, rates)
    if len(rates) == 1:
        return rates[0]
    rows = [row for row in record["tuning"] if row["arm"] == arm]
    return max(rows, key=lambda row: row["validation"])["learning_rate"]
