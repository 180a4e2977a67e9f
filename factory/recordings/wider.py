"""What carries lesson 04's gain further: the kind of thing practised, not its amount; `04_wider.json`.

Two changes, each against a control with as many rows and steps:
    numbers to 60     GRPO with the lesson's settings and half of its steps; counts in the problems go up to 60, not 40
    two hands         SFT on worked problems, half of them of eleven types that another author wrote
Each is read where *neither* arm has practised: on numbers above 60, and on the other eleven types of that author. The
eleven are the even or the odd lines of `world/another_hand.jsonl`; each seed trains both, so that every row is read once.
Left out on purpose: answers (verdicts only, a 0 or 1 for each question), and the tuning of the SFT rate (both arms
have the lesson's GRPO rate).
"""

from __future__ import annotations

import itertools
import random
from functools import partial
from pathlib import Path

from factory import another_hand
from factory.problem_tables import SEEN_STORIES
from factory.problems import Problem, make_problem, problem_key
from factory.recordings.lesson_03 import once, resumed
from factory.recordings.reach import HALF, LOOP, PRACTICE_ROWS, RATE, SUITES, judged, suite
from factory.recordings.shared import command, fresh
from factory.skills import problem_row
from helper import load_model_and_tokenizer
from helper.algorithms import train_grpo, train_sft
from helper.machine.device import bf16_is_fast
from helper.rewards import reward_func

NUMBERS = {"numbers to 40": 40, "numbers to 60": 60}
FAR = SUITES[-1]
BATCH, SFT_STEPS = 16, 100
HALVES = {"even types": 0, "odd types": 1}


def new_problems(count: int, make, rng: random.Random) -> list[Problem]:
    """`count` different problems that no suite asks; `make(place, rng)` draws one."""
    taken = {row["key"] for name in SUITES for row in suite(name) if "key" in row}
    found: list[Problem] = []
    while len(found) < count:
        problem = make(len(found), rng)
        if problem_key(problem) not in taken:
            taken.add(problem_key(problem))
            found.append(problem)
    return found


def stories(count: int, largest: int = 40) -> list[Problem]:
    """Problems of the 52 practised story types in turn, with counts up to `largest`."""
    names = sorted(SEEN_STORIES)
    return new_problems(count, lambda i, rng: make_problem(names[i % len(names)], rng, largest), random.Random(largest))


def by_another(count: int, half: int) -> list[Problem]:
    """Problems of the even (0) or odd (1) types of another hand, in turn."""
    types = another_hand.read_types()[half::2]
    return new_problems(count, lambda i, rng: another_hand.make_problem(types[i % len(types)], rng), random.Random(half))


def in_half(half: int) -> list[int]:
    """The places, in the suite of another hand, of the even or odd types."""
    names = {kind["name"] for kind in another_hand.read_types()[half::2]}
    return [place for place, row in enumerate(suite(FAR)) if row["story"] in names]


def practised(arm: str, seed: int) -> dict:
    """GRPO on problems of this range of numbers; verdicts on every suite."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    rows = [
        {"prompt": [{"role": "user", "content": problem.question}], "ground_truth": str(problem.answer)}
        for problem in stories(PRACTICE_ROWS, NUMBERS[arm])
    ]
    train_grpo(
        model, tokenizer, rows, [reward_func], folder=fresh(f"wider-{NUMBERS[arm]}-{seed}"), seed=seed, charts=False,
        steps=HALF, learning_rate=RATE, bf16=bf16_is_fast(), **LOOP,
    )  # fmt: skip
    return judged(model, tokenizer, SUITES)


def shown(problems: list[Problem]) -> list[dict]:
    """Problems as rows to imitate: question and worked answer."""
    return [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in map(problem_row, problems)
    ]


def imitated(problems: list[Problem], name: str, seed: int, names: tuple[str, ...]) -> dict:
    """SFT on worked problems, then verdicts on the suites `names`."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    train_sft(
        model, tokenizer, shown(problems), folder=fresh(f"wider-{name}-{seed}"), seed=seed, charts=False,
        steps=SFT_STEPS, learning_rate=RATE, batch_size=BATCH, bf16=bf16_is_fast(),
    )  # fmt: skip
    return judged(model, tokenizer, names)


def one_hand(seed: int) -> dict:
    """The control: rows of the practised story types only."""
    return imitated(stories(PRACTICE_ROWS), "one_hand", seed, SUITES)


def two_hands(seed: int) -> dict:
    """Half of the rows by another author, in two trainings; each of his types is judged by the model that did not see it.

    The other suites are judged by the model that has seen the even types; `seen types`: what each half knows of its own.
    """
    unseen, seen, others = {}, [], {}
    for name, half in HALVES.items():
        rows = stories(PRACTICE_ROWS // 2) + by_another(PRACTICE_ROWS // 2, half)
        judgements = imitated(rows, name.replace(" ", "_"), seed, SUITES)
        far = judgements.pop(FAR)
        unseen |= {place: far[place] for place in in_half(1 - half)}
        seen += [far[place] for place in in_half(half)]
        others = others or judgements
    return {FAR: "".join(unseen[place] for place in sorted(unseen)), "seen types": "".join(seen), **others}


def record_wider(seeds: list[int], path: Path) -> None:
    """Larger numbers practised, and rows of another author: what each adds where neither arm has practised."""
    settings = {key: value for key, value in LOOP.items() if isinstance(value, int | float)}
    head = {"command": command("wider", seeds), "seeds": seeds, "learning_rate": RATE, **settings}
    head |= {"bf16": bf16_is_fast(), "sft_steps": SFT_STEPS, "sft_batch": BATCH, "rows": PRACTICE_ROWS, "steps": HALF}
    record = resumed(path, head | {"n": {name: len(suite(name)) for name in SUITES}})
    record.pop("tuning", None)
    if "before" not in record:
        record["before"] = judged(*load_model_and_tokenizer("sprout-instruct"), SUITES)
    for seed in seeds:
        once(record, path, "runs", {"arm": "one hand", "seed": seed}, partial(one_hand, seed))
        once(record, path, "runs", {"arm": "two hands", "seed": seed}, partial(two_hands, seed))
    for seed, arm in itertools.product(seeds, NUMBERS):
        once(record, path, "runs", {"arm": arm, "seed": seed}, partial(practised, arm, seed))
