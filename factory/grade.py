"""Grades what a class has handed in, with our checks, into a table: `make grade FOLDER=handed_in`.

FOLDER holds a zip (of `make submission`, or any other with notebooks in it), a folder or a notebook for each student; its
name stands in the table. The table is FOLDER/grades.csv: student, lesson, exercise, state, message.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gc
import importlib
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from factory.grading import cells, copies, judging, walls

COLUMNS = ("student", "lesson", "exercise", "state", "message")
Row = tuple[str, str, str, str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="with a zip, a folder or a notebook for each student")
    parser.add_argument("--lessons", nargs="+", metavar="NN", help="such as 02 03; without it all that anybody handed in")
    parser.add_argument("--seconds", type=int, default=20, help="of processor time for an exercise")
    parser.add_argument("--no-walls", action="store_true", help="limits only: for use inside a container without a network")
    options = parser.parse_args()
    folder = Path(options.folder)
    if not options.folder or not folder.is_dir():
        return _refused(f"Say which folder holds the copies: make grade FOLDER=handed_in ({folder} is none)")
    if unknown := set(options.lessons or []) - set(cells.our_exercises()):
        return _refused(f"no such lesson: {', '.join(sorted(unknown))}")
    missing = "" if options.no_walls else walls.walls_missing()
    if missing:
        return _refused(f"Not graded: {missing}. Grade in a container without a network, with --no-walls: docs/security.md")
    if not hasattr(os, "fork"):
        return _refused("Not graded: this system cannot fork (Windows). Grade in a container or under WSL.")
    print(f"Walls: {_walls(not options.no_walls)}. What they do not keep out: docs/security.md")
    rows = list(graded(folder, options.lessons, options.seconds, not options.no_walls))
    write(rows, folder / "grades.csv")
    print(f"{folder / 'grades.csv'}: {len(rows)} lines")
    return 0


def _refused(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


def _walls(shut: bool) -> str:
    if not shut:
        return "limits of time and memory only"
    reads = "reads only the course and Python" if walls.reads_are_walled() else "READS EVERY FILE that you can read"
    return f"no network, no writing, no other programs; {reads}"


def graded(folder: Path, lessons: list[str] | None, seconds: int, shut: bool) -> Iterator[Row]:
    """The rows of a class, copy by copy; a line is printed for each."""
    exercises, ours = cells.our_exercises(), cells.our_ids()
    read = functools.partial(
        copies.read_copy, walled=functools.partial(walls.walled, readable=judging.readable(), shut=shut)
    )
    paths = copies.handed_in(folder)
    asked = lessons or sorted({lesson for path in paths for lesson in read(path).lessons if lesson in exercises})
    prepare(exercises, asked)
    for path in paths:
        copy, found = read(path), Counter()
        for state, message in copy.faults:
            found[state] += 1
            yield tidy((path.stem, "", "", state, message))
        for exercise in (exercise for lesson in asked for exercise in exercises.get(lesson, [])):
            if not copy.lessons and copy.faults:
                break  # one line for a copy that cannot be read
            verdict = _verdict(exercise, copy.lessons.get(exercise.lesson, []), ours, seconds, shut)
            found[verdict.state] += 1
            yield tidy((path.stem, exercise.lesson, exercise.name, verdict.state, verdict.message))
        counts = ", ".join(f"{found[state]} {state}" for state in judging.STATES if found[state])
        print(f"{tidy((path.stem,))[0]}: {counts}", flush=True)


def _verdict(exercise: cells.Exercise, handed: copies.Cells, ours: set[str], seconds: int, shut: bool) -> judging.Verdict:
    work = cells.written(exercise, handed, ours)
    return judging.judged(exercise, work, cells.added_imports(exercise, handed), seconds, shut)


def prepare(exercises: dict[str, list[cells.Exercise]], lessons: list[str]) -> None:
    """Import once what the checks of these lessons need; the walled processes begin from here."""
    os.environ.update(OMP_NUM_THREADS="1", COURSE_THREADS="1", HF_HUB_OFFLINE="1")
    for lesson in lessons:
        for exercise in exercises.get(lesson, [])[:1]:
            judging.run(exercise.imports, {})
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


def tidy(row: tuple) -> tuple:
    """Words as one line of printable signs, 300 at most, which no spreadsheet takes for a formula."""
    texts = ["".join(sign if sign.isprintable() else " " for sign in str(text))[:300] for text in row]
    return tuple(f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) else text for text in texts)


def write(rows: list[Row], path: Path) -> None:
    """Write the table whole or not at all."""
    unfinished = path.with_suffix(".csv.unfinished")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    os.replace(unfinished, path)


if __name__ == "__main__":
    raise SystemExit(main())
