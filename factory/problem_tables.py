"""What word problems are put together from, read from `world/problems/`: a row of a table a line.

    pieces.jsonl          one event each, told in several wordings, with what it does to the running number
    seen_stories.jsonl    a setting and a pattern of pieces each; `unseen_stories.jsonl` those kept out of training
    questions.jsonl       the questions that a piece may lead to, by the name in its `ask`
    backward.jsonl        how a story is told from its end, by its first piece
    nouns.json            groups of nouns and names; a story's `things` and `others` name groups, or nouns themselves

Wordings use {Who}/{who} for the person (name at first mention, then a pronoun), {He} {he} {his} {him},
{friend} (of the other sex, so that pronouns stay clear), {things}/{thing}, {box}/{boxes}, {pack}/{packs},
{kid}/{kids}, {others}, {gift} and the numbers {n}, {m}, {k}.
Operations of a piece on the running number:
  start    n is the start              n*m   n groups of m; a capital letter marks the number that may be
  + - * /  with n, drawn to fit              large, "n*m" leaves that open, in "n*k" both are small
  *2 /2    fixed by "twice", "half"    +n*m  a product, then added to the running number
  from     a round number less it      -/3   a third, then taken away
  aside    a number nobody needs       &+    a second quantity, then both together   (others: `problems.SPECIAL`)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from factory.world_files import WORLD, load_json, numbered_rows

FOLDER = WORLD / "problems"
Row = TypeVar("Row", "Piece", "Story", "Question", "Backward")


@dataclass(frozen=True)
class Piece:
    """One event: its operation, the label of its line, the question it leads to, and its wordings."""

    name: str
    op: str
    label: str = ""
    ask: str = ""  # a name of the table of questions; "" leaves the question of the piece before
    words: tuple[str, ...] = ()
    side: str = ""  # label of the first line when the piece takes two
    early: tuple[str, ...] = ()  # a sentence put at the start, away from where its number is used
    into: str = ""  # what is counted from here on
    small: bool = False  # the number is 2 to 9
    least: int = 2  # smallest value of the number that may be large
    focus: bool = False  # from here on the story is about the next person


@dataclass(frozen=True)
class Story:
    """A setting and a pattern of pieces such as "boxes gives? share|pack": `?` may be left out, `|` is a choice."""

    name: str
    pattern: str
    things: tuple[str, ...] = ("toys",)
    intro: tuple[str, ...] = ("",)
    steps: tuple[int, ...] = (2, 3, 4)  # drawn from; two, three and four are about equally common over all stories
    box: str = "box"
    pack: str = "bag"
    kid: str = "friend"
    verb: str = "makes"
    others: tuple[str, ...] = ("treasures",)
    ride: str = "bus"
    cap: int = 999  # the largest number
    backward: bool = False  # the end is told and the start is asked for
    asks: dict[str, str] = field(default_factory=dict)  # a piece's question -> the one to ask here


@dataclass(frozen=True)
class Question:
    """The wordings of a question."""

    name: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Backward:
    """A story told backward, by its first piece: how it opens, how it closes, and what it asks."""

    name: str
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    ask: str


def read_table(path: Path, kind: type[Row]) -> dict[str, Row]:
    """The rows of a table by their names. ValueError naming file and line for a wrong field or a name used twice."""
    table: dict[str, Row] = {}
    for place, fields in numbered_rows(path):
        try:
            row = kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()})
        except TypeError as error:  # a field missing or unknown
            raise ValueError(f"{place}: {str(error).split('() ')[-1]}") from error
        if row.name in table:
            raise ValueError(f"{place}: {row.name!r} stands in the table already")
        table[row.name] = row
    return table


def nouns(names: Iterable[str]) -> tuple[str, ...]:
    """Nouns, with those of a group in the place of the group's name."""
    groups = load_json("problems/nouns.json")
    return tuple(noun for name in names for noun in groups.get(name, [name]))


def read_stories(path: Path, pieces: dict[str, Piece]) -> dict[str, Story]:
    """A table of stories, its groups of nouns filled in. ValueError for a pattern with a piece that is not there."""
    stories = read_table(path, Story)
    for story in stories.values():
        unknown = sorted(set(re.findall(r"\w+", story.pattern)) - pieces.keys())
        if unknown:
            raise ValueError(f"{path.name}: the story {story.name!r} has no such pieces as {', '.join(unknown)}")
    return {name: replace(row, things=nouns(row.things), others=nouns(row.others)) for name, row in stories.items()}


PIECES = read_table(FOLDER / "pieces.jsonl", Piece)
QUESTIONS = read_table(FOLDER / "questions.jsonl", Question)
BACKWARD = read_table(FOLDER / "backward.jsonl", Backward)
SEEN = read_stories(FOLDER / "seen_stories.jsonl", PIECES)
UNSEEN = read_stories(FOLDER / "unseen_stories.jsonl", PIECES)
TABLE = {**SEEN, **UNSEEN}
SEEN_STORIES, UNSEEN_STORIES = tuple(SEEN), tuple(UNSEEN)
GIRLS, BOYS, GIFTS = (nouns([group]) for group in ("girls", "boys", "gifts"))  # a gift is bought on the side
