"""The exercises of our lessons, and what a student wrote for one: found by the ids of the cells.

A student's checks, solutions and imports of our own are never used; what the student added between our cells is.
Left out on purpose: our solutions. They are not in memory where a student's code runs.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import NamedTuple

from factory.grading.copies import Cells
from factory.lessons import NOTEBOOKS, find_lessons

ALONE = re.compile(r"\d\d-exercise-")  # exercises that need nothing but the imports; others need the lesson or one another


class Exercise(NamedTuple):
    """An exercise of ours: its name, and the sources of its cells."""

    lesson: str
    name: str
    imports: str
    stub: str
    check: str
    alone: bool

    @property
    def id(self) -> str:
        return f"{self.lesson}-exercise-{self.name}" if self.alone else f"{self.lesson}-{self.name}"


class Written(NamedTuple):
    """What a student wrote for an exercise: the cells to run, in their order, and a note on how they were found."""

    cells: list[str]
    note: str = ""


def our_exercises(folder: Path = NOTEBOOKS) -> dict[str, list[Exercise]]:
    """Lesson -> its exercises, in their order: each cell NN-...-stub that has a check."""
    return {path.name[:2]: list(_of_lesson(path)) for path in find_lessons(folder)}


def our_ids(folder: Path = NOTEBOOKS) -> set[str]:
    """The ids of all cells of ours."""
    return {cell["id"] for path in find_lessons(folder) for cell in json.loads(path.read_text("utf-8"))["cells"]}


def _of_lesson(path: Path):
    cells = {cell["id"]: "".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"]}
    for cell in cells:
        match = re.fullmatch(r"(\d\d)-(?:exercise-)?(.+)-stub", cell)
        start = cell.removesuffix("-stub")
        if match and f"{start}-check" in cells:
            alone = bool(ALONE.match(cell))
            imports = cells.get(f"{match[1]}-exercises-imports", "") if alone else ""
            yield Exercise(match[1], match[2], imports, cells[cell], cells[f"{start}-check"], alone)


def written(exercise: Exercise, cells: Cells, ours: set[str]) -> Written | None:
    """What stands in a student's notebook for an exercise; None where it is not there.

    The stub's cell by its id, with cells added right before and behind it. Where ids were lost (some editors make new
    ones), the last cell that defines the stub's names.
    """
    places = [place for place, (cell, _) in enumerate(cells) if cell == f"{exercise.id}-stub"]
    if places:
        first = last = places[-1]
        while first and cells[first - 1][0] not in ours:
            first -= 1
        while last + 1 < len(cells) and cells[last + 1][0] not in ours:
            last += 1
        return Written([source for _, source in cells[first : last + 1]])
    names = defined(exercise.stub)
    lost = [source for cell, source in cells if cell not in ours and names and names <= defined(source)]
    return Written(lost[-1:], "found by its name: the cell has another id") if lost else None


def added_imports(exercise: Exercise, cells: Cells) -> str:
    """The lines that a student added to the cell of imports, as far as they import something."""
    source = dict(cells).get(f"{exercise.lesson}-exercises-imports", "")
    try:
        lines = [ast.unparse(node) for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
        known = {ast.unparse(node) for node in ast.parse(exercise.imports).body}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return "\n".join(line for line in lines if line not in known)


def defined(source: str) -> set[str]:
    """The names that a cell gives to functions and values at its top; nothing for a cell that is no Python."""
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = {node.name for node in body if isinstance(node, ast.FunctionDef)}
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return names | {target.id for target in targets if isinstance(target, ast.Name)}
