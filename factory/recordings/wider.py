"""Two changes of what is learned from, and how far each carries: `04_wider.json`.

Three arms of SFT on `sprout-instruct`, with as many rows and steps; each change is set against the control:
    control           problems of the 52 practised story types, counts up to 40
    numbers to 60     the same types, counts up to 60
    two hands         half of the rows are of eleven types that another author wrote
The first is read on questions with a number from 61 to 99, which hardly any practised question of either arm has (prices and
pages may be as large in any problem); in the working such numbers are common in both: `practised_61_to_99` has both shares.
The second is read on the other eleven types of that author. The eleven are the even or the odd lines of
`world/another_hand.jsonl`; each seed trains both, so that every row is read once.
Left out on purpose: answers (verdicts only, a 0 or 1 for each question), an arm with the generator's half of the rows alone,
and the tuning of the rate (all arms have that of the lesson's GRPO).
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from factory import another_hand
from factory.problem_tables import SEEN_STORIES
from factory.problems import Problem, make_problem, problem_key
from factory.recordings.lesson_03 import once, resumed
from factory.recordings.reach import PRACTICE_ROWS, RATE, SUITES, judged, suite
from factory.recordings.shared import command, fresh
from factory.skills import problem_row
from helper import load_model_and_tokenizer
from helper.algorithms import train_sft
from helper.machine.device import bf16_is_fast

NUMBERS = {"control": 40, "numbers to 60": 60}
BEYOND = range(61, 100)
FAR = SUITES[-1]
BATCH, STEPS = 16, 100
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


def shares_beyond(problems: list[Problem]) -> dict[str, float]:
    """The share of problems with a number of BEYOND in the question, and in the working."""

    def share(texts: Iterable[str]) -> float:
        found = [any(int(number) in BEYOND for number in re.findall(r"\d+", text)) for text in texts]
        return round(sum(found) / len(found), 4)

    return {
        "question": share(problem.question for problem in problems),
        "working": share(" ".join(problem.lines) for problem in problems),
    }


def shown(problems: list[Problem]) -> list[dict]:
    """Problems as rows to imitate: question and worked answer."""
    return [
        {
            "prompt": [{"role": "user", "content": row["question"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in map(problem_row, problems)
    ]


def imitated(problems: list[Problem], name: str, seed: int) -> dict:
    """SFT on worked problems, then verdicts on every suite."""
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    train_sft(
        model, tokenizer, shown(problems), folder=fresh(f"wider-{name}-{seed}"), seed=seed, charts=False,
        steps=STEPS, learning_rate=RATE, batch_size=BATCH, bf16=bf16_is_fast(),
    )  # fmt: skip
    return judged(model, tokenizer, SUITES)


def of_range(arm: str, seed: int) -> dict:
    """SFT on problems of the practised story types with counts in the arm's range."""
    return imitated(stories(PRACTICE_ROWS, NUMBERS[arm]), arm.replace(" ", "_"), seed)


def two_hands(seed: int) -> dict:
    """Half of the rows by another author, in two trainings; each of his types is judged by the model that did not see it.

    The other suites are judged by the model that has seen the even types; `seen types`: what each half knows of its own.
    """
    unseen, seen, others = {}, [], {}
    for name, half in HALVES.items():
        rows = stories(PRACTICE_ROWS // 2) + by_another(PRACTICE_ROWS // 2, half)
        judgements = imitated(rows, name.replace(" ", "_"), seed)
        far = judgements.pop(FAR)
        unseen |= {place: far[place] for place in in_half(1 - half)}
        seen += [far[place] for place in in_half(half)]
        others = others or judgements
    return {FAR: "".join(unseen[place] for place in sorted(unseen)), "seen types": "".join(seen), **others}


def record_wider(seeds: list[int], path: Path) -> None:
    """Larger numbers, and rows of another author: what each adds where neither arm has practised."""
    head = {"command": command("wider", seeds), "seeds": seeds, "learning_rate": RATE, "bf16": bf16_is_fast()}
    head |= {"steps": STEPS, "batch_size": BATCH, "rows": PRACTICE_ROWS, "n": {name: len(suite(name)) for name in SUITES}}
    record = resumed(path, head)
    record.pop("tuning", None)
    if "before" not in record:
        shares = {arm: shares_beyond(stories(PRACTICE_ROWS, largest)) for arm, largest in NUMBERS.items()}
        record |= {"practised_61_to_99": shares, "before": judged(*load_model_and_tokenizer("sprout-instruct"), SUITES)}
    for seed in seeds:
        for arm in NUMBERS:
            once(record, path, "runs", {"arm": arm, "seed": seed}, partial(of_range, arm, seed))
        once(record, path, "runs", {"arm": "two hands", "seed": seed}, partial(two_hands, seed))
