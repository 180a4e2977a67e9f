"""Maths word problems of two to four steps, put together from a shared stock of sentence pieces.

The tables of pieces and stories are data: `world/problems/`, read and explained by `problem_tables.py`. To add a story
or an event, add a row there. This module tells a story: it draws the numbers, writes the lines of the solution and the
sentences. Numbers that do not fit (a fraction, a negative, too large) are thrown away and drawn again.
Left out on purpose: fractions, decimals, unit conversion, and the number 1 (so that every noun is plural).
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from factory.problem_tables import BACKWARD, BOYS, GIFTS, GIRLS, PIECES, QUESTIONS, TABLE, Piece, Story

IRREGULAR = {"child": "children", "potato": "potatoes", "tomato": "tomatoes"}
SMALLEST, LARGEST_FACTOR, TRIES = 2, 9, 20_000


class Unfit(Exception):
    """The numbers drawn do not fit the story; draw again."""


@dataclass(frozen=True)
class Problem:
    """A word problem with its worked solution, one operation a line."""

    story: str
    question: str
    lines: tuple[str, ...]
    answer: int

    @property
    def solution(self) -> str:
        """The worked solution in the form of GSM8K's answer column."""
        return "\n".join(self.lines) + f"\n#### {self.answer}"


def plural(noun: str) -> str:
    """The plural of a noun: "box" -> "boxes", "daisy" -> "daisies"."""
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def upper_first(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


class Tale:
    """A problem in the making: the running number, the words in use, the sentences and the lines so far."""

    def __init__(self, story: Story, rng: random.Random, largest: int) -> None:
        self.story, self.rng, self.largest = story, rng, largest
        self.cap = min(story.cap, 400 if largest <= 40 else 999)
        self.now, self.start = 0, 0
        self.kept: list[int] = []  # what each person has, in the order of appearance
        self.early: list[tuple[str, dict]] = []
        self.told: list[tuple[str, dict]] = []
        self.lines: list[tuple[str, int, str, int, int]] = []  # label, a, operation, b, result
        self.fields: dict[str, object] = {}
        self.ask = "have"
        self.words = self.first_words()

    def first_words(self) -> dict[str, str]:
        """The words of this telling: people, things, containers."""
        rng, story = self.rng, self.story
        girl_first = rng.random() < 0.5
        own, other = (GIRLS, BOYS) if girl_first else (BOYS, GIRLS)
        (name, third), (friend, fourth) = rng.sample(own, 2), rng.sample(other, 2)
        self.people = [name, friend, third, fourth]
        words = {"verb": story.verb, "gift": rng.choice(GIFTS), "ride": story.ride}
        for key, noun in (
            ("thing", rng.choice(story.things)),
            ("box", story.box),
            ("pack", story.pack),
            ("kid", story.kid),
            ("other", rng.choice(story.others)),
        ):
            words |= self.noun(key, noun)
        return words | self.who(0)

    def noun(self, key: str, noun: str) -> dict[str, str]:
        """Singular and plural of a noun under their keys, e.g. box, boxes, Boxes."""
        keys = plural(key)
        return {key: noun, keys: plural(noun), upper_first(keys): upper_first(plural(noun))}

    def who(self, index: int) -> dict[str, str]:
        """Names and pronouns when the story is about person number `index`."""
        name, friend = self.people[index % 4], self.people[(index + 1) % 4]
        he, his, him = ("she", "her", "her") if name in GIRLS else ("he", "his", "him")
        pronouns = {"he": he, "his": his, "him": him, "He": upper_first(he), "His": upper_first(his)}
        return {"name": name, "friend": friend} | pronouns

    # Numbers.
    def count(self, least: int = SMALLEST) -> int:
        """Any count."""
        return self.rng.randint(least, self.largest)

    def factor(self) -> int:
        """A one-digit multiplier."""
        return self.rng.randint(SMALLEST, LARGEST_FACTOR)

    def part(self, total: int) -> int:
        """A count that leaves at least 2 of `total`."""
        if total < 2 * SMALLEST:
            raise Unfit
        return self.rng.randint(SMALLEST, min(self.largest, total - SMALLEST))

    def divisor(self, total: int) -> int:
        """A one-digit divisor of `total`."""
        fits = [d for d in range(SMALLEST, LARGEST_FACTOR + 1) if total % d == 0 and total // d >= SMALLEST]
        if not fits:
            raise Unfit
        return self.rng.choice(fits)

    def round_above(self, total: int) -> int:
        """A round number (a price, the pages of a book) above `total`: only these may pass `largest`."""
        top = min(self.cap, 200 if self.largest <= 40 else 500, total + 100)
        fits = [n for n in range(20, top + 1, 10) if n >= total + SMALLEST]
        if not fits:
            raise Unfit
        return self.rng.choice(fits)

    def work(self, label: str, a: int, sign: str, b: int) -> int:
        """Write one line of the solution and return its result."""
        if sign == "/" and a % b:
            raise Unfit
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1)}[sign]
        if not SMALLEST <= result <= self.cap:
            raise Unfit
        if sign == "*" and (min(a, b) > LARGEST_FACTOR or max(a, b) > 99):
            raise Unfit
        self.lines.append((label.format(**self.words, **self.fields), a, sign, b, result))
        return result

    def play(self, name: str) -> None:
        """Let one piece happen: do its arithmetic, tell it, and pass on what it changes."""
        part = PIECES[name]
        self.fields = {}
        self.now = operate(self, part)
        if part.early:
            self.early.append((self.rng.choice(part.early), self.words | self.fields))
        if part.words:
            self.told.append((self.rng.choice(part.words), self.words | self.fields))
        self.ask = part.ask or self.ask
        if part.focus:
            self.kept.append(self.now)
            self.words = self.words | self.who(len(self.kept) - 1)
        else:
            self.kept[-1:] = [self.now]
        if part.into:
            self.words = self.words | self.noun("thing", self.words.get(part.into, part.into))


def operate(tale: Tale, part: Piece) -> int:
    """Draw the numbers of a piece, write its lines, and return the new running number."""
    op, now, fields = part.op, tale.now, tale.fields
    if op in ("start", "aside"):
        fields["n"] = tale.count()
        tale.start = now if op == "aside" else fields["n"]
        return tale.start
    if op in SPECIAL:
        return SPECIAL[op](tale, part)
    if op.endswith(("n*m", "n*M", "N*m", "n*k")):
        side = product(tale, part, op[-3:])
        return tale.work(part.label, now, op[0], side) if op[0] in "+-" else side
    if op[0] == "&":  # a second quantity, found from the first, and both together
        return tale.work(part.label, now, "+", tale.work(part.side, now, op[1], operand(tale, op[1:], part)))
    if len(op) == 3:  # "-/3": take away a third
        return tale.work(part.label, now, "-", tale.work(part.side, now, op[1], int(op[2])))
    return tale.work(part.label, now, op[0], operand(tale, op, part))


def operand(tale: Tale, op: str, part: Piece) -> int:
    """The second number of an operation: drawn for "+", "-", "*", "/", fixed for "*2" ("twice")."""
    if len(op) == 2:
        return int(op[1])
    if op == "*" or part.small:
        tale.fields["n"] = tale.factor()
    else:
        draw = {"+": lambda _: tale.count(), "-": tale.part, "/": tale.divisor}[op]
        tale.fields["n"] = draw(tale.now)
    return tale.fields["n"]


def product(tale: Tale, part: Piece, op: str) -> int:
    """The line for n groups of m; see the list of operations for which of them may be large."""
    small, large = tale.factor(), tale.factor() if op == "n*k" else tale.count(part.least)
    many_groups = op == "N*m" or (op == "n*m" and tale.rng.random() < 0.4)
    n, m = (large, small) if many_groups else (small, large)
    tale.fields |= {"n": n, "m": m}
    return tale.work(part.side or part.label, n, "*", m)


def from_round(tale: Tale, part: Piece) -> int:
    """A round number less the running number: change, coins still needed, pages left."""
    tale.fields["n"] = tale.round_above(tale.now)
    return tale.work(part.label, tale.fields["n"], "-", tale.now)


def sum_of_counts(tale: Tale, part: Piece) -> int:
    """The sum of two (n+m) or three (n+m+k) counts."""
    keys = part.op.split("+")
    tale.fields |= {key: tale.count() for key in keys}
    total = tale.fields["n"]
    for key in keys[1:]:
        total = tale.work(part.label if key == keys[-1] else part.side, total, "+", tale.fields[key])
    return total


def together(tale: Tale, part: Piece) -> int:
    """What all people have together."""
    total = tale.kept[0]
    for index, value in enumerate(tale.kept[1:], 2):
        total = tale.work(part.label if index == len(tale.kept) else "First two", total, "+", value)
    return total


def difference(tale: Tale, part: Piece) -> int:
    """How many more one of two people has."""
    small, big = sorted(tale.kept)
    bigger = tale.kept.index(big)
    tale.words = tale.words | {"bigger": tale.people[bigger], "smaller": tale.people[1 - bigger]}
    return tale.work(part.label, big, "-", small)


def later(tale: Tale, part: Piece) -> int:
    """An age in n years, or n years ago."""
    tale.fields["n"] = tale.factor()
    return tale.work(part.label, tale.now, "+" if part.op == "later" else "-", tale.fields["n"])


SPECIAL: dict[str, Callable[[Tale, Piece], int]] = {
    "from": from_round,
    "n+m": sum_of_counts,
    "n+m+k": sum_of_counts,
    "together": together,
    "difference": difference,
    "later": later,
    "ago": later,
}


def choose_pieces(pattern: str, rng: random.Random) -> list[str]:
    """One reading of a pattern: "has buys? gives|loses" -> ["has", "loses"]."""
    chosen = []
    for slot in pattern.split():
        if slot.endswith("?") and rng.random() < 0.5:
            continue
        chosen.append(rng.choice(slot.rstrip("?").split("|")))
    return chosen


INVERSE = {"+": "-", "-": "+", "*": "/", "/": "*"}


def turn_backward(tale: Tale, opening: str) -> None:
    """Tell the end instead of the start, and work from the end back to the start."""
    if tale.now > tale.largest:
        raise Unfit
    way = BACKWARD[opening]
    tale.ask = way.ask
    tale.told[0] = (tale.rng.choice(way.openings), tale.told[0][1])
    tale.told.append((tale.rng.choice(way.closings), tale.words | {"n": tale.now}))
    forward, tale.lines = tale.lines, []
    for label, a, sign, b, result in reversed(forward):
        tale.lines.append((label.replace("After", "Before"), result, INVERSE[sign], b, a))
    tale.now = tale.start


def render(sentences: list[tuple[str, dict]]) -> str:
    """Fill in the sentences; a person is called by name at first mention and by a pronoun afterwards."""
    text = ""
    for template, words in sentences:
        known = words["name"] in text
        if not known and not re.search(r"\{([Ww]ho|name)\}", template):
            template = re.sub(r"\{([Hh]e|him)\}", "{name}", template, count=1)
            if "{name}" not in template:
                template = re.sub(r"\{[Hh]is\}", "{name}'s", template, count=1)
        who = words["he"] if known else words["name"]
        sentence = template.format(**words, who=who, Who=upper_first(who))
        text += (" " + upper_first(sentence)) if sentence else ""
    return text.strip()


def finish(tale: Tale, name: str) -> Problem:
    """The finished problem: sentences in order, the question, the lines."""
    asks = QUESTIONS[tale.story.asks.get(tale.ask, tale.ask)].words
    intro = (tale.rng.choice(tale.story.intro), tale.words | tale.who(0))
    question = (tale.rng.choice(asks), tale.words | tale.fields)
    text = render([intro, *tale.early, *tale.told, question])
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if not 15 <= len(text.split()) <= 55 or max(numbers) > tale.cap:
        raise Unfit
    lines = tuple(f"{label}: {a} {sign} {b} = {result}" for label, a, sign, b, result in tale.lines)
    return Problem(name, text, lines, tale.now)


def make_problem(story: str, rng: random.Random, largest: int = 40) -> Problem:
    """A random problem of a story with counts from 2 to `largest`; ValueError when its pattern cannot fit."""
    row = TABLE[story]
    steps = rng.choice(row.steps)
    for _ in range(TRIES):
        tale = Tale(row, rng, largest)
        pieces = choose_pieces(row.pattern, rng)
        try:
            for name in pieces:
                tale.play(name)
            if len(tale.lines) != steps:
                continue
            if row.backward:
                turn_backward(tale, pieces[0])
            return finish(tale, story)
        except Unfit:
            continue
    raise ValueError(f"story {story!r} has no problem with {steps} steps: see its pattern")


STORIES: dict[str, Callable[..., Problem]] = {name: partial(make_problem, name) for name in TABLE}


def problem_key(problem: Problem) -> str:
    """The question in lower case without punctuation: equal for problems that differ in nothing else."""
    return " ".join(re.findall(r"[a-z0-9]+", problem.question.lower()))
