"""The capstone (`capstone/`): its example rows made from Sprout's world, and its notebook run from top to bottom.

    python -m factory.capstone           run capstone/capstone.ipynb and keep its outputs in it
    python -m factory.capstone --rows    write the example rows in capstone/rows/ anew

Left out on purpose: other settings (`factory.run_lessons.run` takes them; tests/test_capstone.py does so).
"""

import argparse
import csv
import json
import random
import sys
from pathlib import Path

from factory import ROOT
from factory.knowledge import load_concepts
from factory.problems import plural
from factory.run_lessons import LessonFailed, run
from factory.world_files import load_json

FOLDER = ROOT / "capstone"
NOTEBOOK = FOLDER / "capstone.ipynb"
NUMBER, PAIRS = 200, 120
QUESTIONS = ("What is {p}?", "Tell me about {p}.")
ORDERS = (
    "Hello, this is {name}. Please send me {order} on {day}.", "{name} here: I need {order} by {day}, thank you.",
    "Can I have {order} on {day}? My name is {name}.", "We want {order}. Please bring them on {day}. {name}",
    "On {day} please, {order} for {name}.", "I am {name} and I want to order {order} for {day}.",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
GROUPS = ("fruit", "baked", "toys", "school", "flowers", "vegetables", "gifts")


def answer_rows(seed: int = 0) -> list[dict]:
    """Orders as people write them, and the same as a form: one or two things, a name, a day."""
    draws, groups = random.Random(seed), load_json("problems/nouns.json")
    things = [noun for group in GROUPS for noun in groups[group]]
    rows = {}
    while len(rows) < NUMBER:
        name, day = draws.choice(groups["girls"] + groups["boys"]), draws.choice(DAYS)
        parts = [f"{draws.randint(2, 60)} {plural(noun)}" for noun in draws.sample(things, draws.randint(1, 2))]
        question = draws.choice(ORDERS).format(name=name, day=day, order=" and ".join(parts))
        rows[question] = f"Name: {name}; order: {', '.join(parts)}; day: {day}"
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


def pair_rows(seed: int = 0) -> list[dict]:
    """A definition with a fact behind it against the same definition alone: somebody likes to hear more."""
    draws = random.Random(seed)
    rows = []
    for concept in draws.sample(load_concepts(), PAIRS):
        said = concept.definition(draws.randrange(2))
        asked = concept.fill(draws.choice(QUESTIONS))
        rows.append({"prompt": asked, "chosen": f"{said} {concept.fact(draws.randrange(2))}", "rejected": said})
    return rows


def checkable_rows() -> list[dict]:
    """The first of the course's word problems."""
    lines = (ROOT / "data" / "maths" / "train.jsonl").read_text("utf-8").splitlines()[:NUMBER]
    return [{key: row[key] for key in ("question", "answer")} for row in map(json.loads, lines)]


FILES = {"answers.csv": answer_rows, "pairs.csv": pair_rows, "checkable.csv": checkable_rows}


def write_rows(folder: Path) -> None:
    """The example rows, as a spreadsheet would save them."""
    for name, make in FILES.items():
        rows = make()
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m factory.capstone", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", action="store_true", help="write the example rows anew, and run nothing")
    if parser.parse_args(arguments).rows:
        write_rows(FOLDER / "rows")
        return 0
    try:
        run(NOTEBOOK, folder=FOLDER)
    except LessonFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
