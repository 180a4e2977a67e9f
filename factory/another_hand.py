"""Word problems in another hand: `world/another_hand.jsonl`, a type a line, each written whole and not put together.

Other settings, other wordings and other ways to ask than the stories of `problems.py` have; the arithmetic is theirs: whole
numbers, two or three steps, results from 2 to 400, one factor of one digit. They are an evaluation only.
    draw     the numbers, by name, each with its smallest and largest value
    steps    "label: x sign y", where x and y are numbers drawn, whole numbers, or labels of earlier steps
    words    the wordings, with the numbers as {a}, {b} ...
Numbers that do not fit (a fraction, a negative, too large) are thrown away and drawn again.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from factory.problems import LARGEST_FACTOR, SMALLEST, TRIES, Problem, problem_key
from factory.skills import problem_row
from factory.world_files import WORLD, numbered_rows

FILE = WORLD / "another_hand.jsonl"
LARGEST = 400


def read_types(path: Path = FILE) -> list[dict]:
    """The types, in the order of the file. ValueError names file and line for a field or a number that is missing."""
    types = []
    for place, row in numbered_rows(path):
        if set(row) != {"name", "draw", "steps", "words"}:
            raise ValueError(f"{place}: a type has name, draw, steps and words, and not {', '.join(row)}")
        missing = [name for name in row["draw"] if not all(f"{{{name}}}" in words for words in row["words"])]
        if missing:
            raise ValueError(f"{place}: a wording does not tell the number {missing[0]!r}")
        types.append(row)
    return types


def worked(kind: dict, numbers: dict[str, int]) -> list[str] | None:
    """The lines of the solution, such as "Paint: 3 * 12 = 36"; None where the numbers do not fit."""
    known, lines = dict(numbers), []
    for step in kind["steps"]:
        label, operation = step.split(": ")
        left, sign, right = re.fullmatch(r"(.+) ([-+*/]) (.+)", operation).groups()
        a, b = (int(name) if name.isdigit() else known[name] for name in (left, right))
        if sign == "/" and a % b or sign == "*" and (min(a, b) > LARGEST_FACTOR or max(a, b) > 99):
            return None
        known[label] = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if not SMALLEST <= known[label] <= LARGEST:
            return None
        lines.append(f"{label}: {a} {sign} {b} = {known[label]}")
    return lines


def make_problem(kind: dict, rng: random.Random) -> Problem:
    """A problem of a type with numbers drawn to fit; ValueError when none do."""
    for _ in range(TRIES):
        numbers = {name: rng.randint(least, most) for name, (least, most) in kind["draw"].items()}
        lines = worked(kind, numbers)
        if lines:
            question = rng.choice(kind["words"]).format(**numbers)
            return Problem(kind["name"], question, tuple(lines), int(lines[-1].split(" = ")[-1]))
    raise ValueError(f"the type {kind['name']!r} has no numbers that fit: see its draw and steps")


def another_hand_suite(count: int, rng: random.Random) -> list[dict]:
    """`count` different problems, the types in turn, as rows of a suite (without ids)."""
    types, rows, seen = read_types(), [], set()
    while len(rows) < count:
        problem = make_problem(types[len(rows) % len(types)], rng)
        if problem_key(problem) not in seen:
            seen.add(problem_key(problem))
            rows.append({**problem_row(problem), "key": problem_key(problem)})
    return rows
