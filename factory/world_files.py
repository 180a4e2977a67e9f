"""Reading Sprout's world: the files under `factory/world/`, which hold what the data sets and the text are made of."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

WORLD = Path(__file__).parent / "world"


@cache
def load_json(name: str) -> dict:
    """A JSON file of the world."""
    return json.loads((WORLD / name).read_text(encoding="utf-8"))


@cache
def load_lines(name: str) -> tuple[str, ...]:
    """The non-empty lines of a text file of the world."""
    lines = (WORLD / name).read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def numbered_rows(path: Path) -> list[tuple[str, dict]]:
    """The rows of a JSONL file, each with its place for a message, such as ("science.jsonl, line 3", {...})."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [(f"{path.name}, line {number}", json.loads(line)) for number, line in enumerate(lines, 1)]


def load_rows(name: str) -> list[dict]:
    """The rows of a JSONL file of the world."""
    return [row for _, row in numbered_rows(WORLD / name)]
