"""Tests of the word problems: exact arithmetic, known numbers only, tidy English, no working shortcut."""

import math
import random
import re
from collections import Counter

import pytest

from factory.arithmetic import few_step_arithmetic
from factory.problem_tables import FOLDER, PIECES, SEEN_STORIES, TABLE, UNSEEN_STORIES, Piece, read_stories, read_table
from factory.problems import STORIES, Problem, make_problem, problem_key

COUNT = 300
LINE = re.compile(r"((?:[A-Z]|\d)[A-Za-z0-9' ]*): (\d+) ([-+*/]) (\d+) = (\d+)")
IN_WORDS = {
    "half": 2,
    "twice": 2,
    "double": 2,
    "doubles": 2,
    "third": 3,
    "three": 3,
    "average": 3,
    "quarter": 4,
}
ROUND = set(range(20, 501, 10))  # round prices and lengths may pass `largest`


def problems_of(story: str, largest: int = 40, count: int = COUNT) -> list[Problem]:
    """Random problems of a story."""
    rng = random.Random(f"{story} {largest}")
    return [make_problem(story, rng, largest) for _ in range(count)]


def numbers_in(text: str) -> list[int]:
    """All numbers written in digits."""
    return [int(number) for number in re.findall(r"\d+", text)]


def result_of(a: int, sign: str, b: int) -> float:
    """The value of one operation."""
    return {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[sign]


def check_lines(problem: Problem, largest: int, cap: int) -> None:
    """Each line is right, uses known numbers and stays in range, and the last one is the answer."""
    words = re.findall(r"[a-z]+", problem.question.lower())
    known = set(numbers_in(problem.question)) | {IN_WORDS[word] for word in words if word in IN_WORDS}
    assert 2 <= len(problem.lines) <= 4
    for line in problem.lines:
        match = LINE.fullmatch(line)
        assert match, line
        label, sign = match[1], match[3]
        a, b, result = int(match[2]), int(match[4]), int(match[5])
        assert 1 <= len(label.split()) <= 4, line
        assert {a, b} <= known, (problem, line)
        assert result_of(a, sign, b) == result and 2 <= result <= cap, line
        if sign == "*":
            assert 2 <= min(a, b) <= 9 and max(a, b) <= 99, line
        if sign == "/":
            assert 2 <= b <= 9, line
        known.add(result)
    assert result == problem.answer
    assert problem.solution == "\n".join(problem.lines) + f"\n#### {problem.answer}"


def check_question(problem: Problem, largest: int) -> None:
    """The question is tidy English of the right length, with numbers in range."""
    text = problem.question
    assert text[0].isupper() or text[0].isdigit(), text
    assert text.endswith("?") and text.count("?") == 1, text
    assert not re.search(r"[{}]|  | [.,?]|\.\.|None", text), text
    assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in re.split(r"[.?] ", text)), text
    assert 15 <= len(text.split()) <= 55, text
    assert all(2 <= n <= largest or n in ROUND for n in numbers_in(text)), text
    assert not re.search(r"\b(\w+) \1\b", text), text


@pytest.mark.parametrize("story", STORIES)
def test_every_story_is_exact_and_tidy(story: str) -> None:
    for problem in problems_of(story):
        assert problem.story == story
        check_lines(problem, 40, min(400, TABLE[story].cap))
        check_question(problem, 40)


@pytest.mark.parametrize("story", STORIES)
def test_larger_numbers(story: str) -> None:
    for problem in problems_of(story, largest=99, count=50):
        check_lines(problem, 99, 999)
        check_question(problem, 99)


def test_larger_numbers_are_used() -> None:
    numbers = [n for story in STORIES for p in problems_of(story, 99, 50) for n in numbers_in(p.question)]
    assert sum(40 < n <= 99 and n not in ROUND for n in numbers) > 0.15 * len(numbers)


@pytest.mark.parametrize("story", STORIES)
def test_steps_and_answers_vary(story: str) -> None:
    problems = problems_of(story)
    assert {len(p.lines) for p in problems} == set(TABLE[story].steps)
    assert Counter(p.answer for p in problems).most_common(1)[0][1] <= 0.16 * COUNT
    assert len({problem_key(p) for p in problems}) > 0.97 * COUNT


def test_seen_and_unseen_are_apart() -> None:
    assert len(SEEN_STORIES) >= 36 and len(UNSEEN_STORIES) == 10
    assert not set(SEEN_STORIES) & set(UNSEEN_STORIES) and set(STORIES) == {*SEEN_STORIES, *UNSEEN_STORIES}
    seen = {TABLE[name].pattern for name in SEEN_STORIES}
    assert not seen & {TABLE[name].pattern for name in UNSEEN_STORIES}
    seen_pieces = set(re.findall(r"\w+", " ".join(seen)))
    unseen_pieces = set(re.findall(r"\w+", " ".join(TABLE[name].pattern for name in UNSEEN_STORIES)))
    assert len(unseen_pieces - seen_pieces) <= 3, unseen_pieces - seen_pieces  # the same stock of pieces


def shortcuts(problem: Problem) -> set[str]:
    """The naive rules that happen to give the right answer."""
    numbers = numbers_in(problem.question)
    rules = {"sum": sum(numbers), "product": math.prod(numbers)}
    if len(numbers) > 1:
        a, b = numbers[-2:]
        rules |= {
            "last two": problem.answer
            if any(
                result_of(*pair) == problem.answer
                for pair in ((a, "+", b), (a, "-", b), (b, "-", a), (a, "*", b), (a, "/", b))
            )
            else None
        }
    return {name for name, value in rules.items() if value == problem.answer}


def test_no_shortcut_works_and_steps_are_balanced() -> None:
    problems = [p for story in SEEN_STORIES for p in problems_of(story, count=100)]
    hits = Counter(name for p in problems for name in shortcuts(p))
    assert all(count < 0.12 * len(problems) for count in hits.values()), hits
    steps = Counter(len(p.lines) for p in problems)
    assert all(0.27 < steps[n] / len(problems) < 0.40 for n in (2, 3, 4)), steps
    assert Counter(p.answer for p in problems).most_common(1)[0][1] <= 0.04 * len(problems)


@pytest.mark.parametrize("story", STORIES)
def test_no_shortcut_solves_a_story(story: str) -> None:
    hits = Counter(name for p in problems_of(story) for name in shortcuts(p))
    assert all(count < 0.35 * COUNT for count in hits.values()), hits


def has_unneeded_number(problem: Problem) -> bool:
    """Whether a number of the question stands in no line."""
    return bool(set(numbers_in(problem.question)) - {n for line in problem.lines for n in numbers_in(line)})


def test_some_stories_hold_an_unneeded_number() -> None:
    for stories, least in ((SEEN_STORIES, 4), (UNSEEN_STORIES, 2)):
        often = [name for name in stories if sum(map(has_unneeded_number, problems_of(name, count=40))) > 20]
        assert least <= len(often) < len(stories) / 2, often


def test_some_numbers_stand_in_another_order() -> None:
    def out_of_order(problem: Problem) -> bool:
        first_use = [n for line in problem.lines for n in numbers_in(line.split(": ")[1])]
        places = [first_use.index(n) for n in numbers_in(problem.question) if n in first_use]
        return places != sorted(places)

    for stories in (SEEN_STORIES, UNSEEN_STORIES):
        problems = [p for story in stories for p in problems_of(story, count=40)]
        assert 0.2 < sum(map(out_of_order, problems)) / len(problems) < 0.8


def test_the_same_seed_gives_the_same_problems() -> None:
    for story, make in STORIES.items():
        assert make(random.Random(7)) == make_problem(story, random.Random(7))


def test_problem_key_ignores_case_and_punctuation() -> None:
    one, other = (Problem("s", text, (), 2) for text in ("Has Mia 2 pens?", "has  mia 2 pens"))
    assert problem_key(one) == problem_key(other) == "has mia 2 pens"


def value_by_precedence(expression: str) -> float:
    """The value of an expression, products and quotients first."""
    tokens = expression.split()
    while len(tokens) > 1:
        at = next((i for i, token in enumerate(tokens) if token in "*/"), 1)
        tokens[at - 1 : at + 2] = [str(int(result_of(int(tokens[at - 1]), tokens[at], int(tokens[at + 1]))))]
    return int(tokens[0])


def test_few_step_arithmetic() -> None:
    rng = random.Random(0)
    samples = [few_step_arithmetic(rng) for _ in range(5000)]
    for expression, value in samples:
        assert re.fullmatch(r"\d+ [-+*/] \d+( [-+*/] \d+)?", expression)
        assert value_by_precedence(expression) == value and 0 <= value <= 400, expression
        for a, b in re.findall(r"(\d+) / (\d+)", expression):
            assert int(a) % int(b) == 0 and int(b) <= 9
        for _, b in re.findall(r"(\d+) \* (\d+)", expression):
            assert int(b) <= 9
        assert min(numbers_in(expression)) >= 1
    assert Counter(value for _, value in samples).most_common(1)[0][1] < 0.04 * len(samples)
    assert len(set(samples)) > 3000


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"name": "x", "pattern": "has", "thing": ["pen"]}', r"x.jsonl, line 2: .*unexpected keyword argument 'thing'"),
        ('{"name": "x"}', r"x.jsonl, line 2: .*missing 1 required positional argument: 'pattern'"),
        ('{"name": "bus", "pattern": "has"}', "x.jsonl, line 2: 'bus' stands in the table already"),
        ('{"name": "x", "pattern": "has bys?|loses"}', "x.jsonl: the story 'x' has no such pieces as bys"),
    ],
)
def test_a_bad_row_of_the_tables_is_named(tmp_path, row, words) -> None:
    (tmp_path / "x.jsonl").write_text('{"name": "bus", "pattern": "has buys?"}\n' + row + "\n")
    with pytest.raises(ValueError, match=words):
        read_stories(tmp_path / "x.jsonl", PIECES)


def test_the_tables_are_read_whole() -> None:
    rows = (FOLDER / "pieces.jsonl").read_text().splitlines()
    assert read_table(FOLDER / "pieces.jsonl", Piece) == PIECES and len(PIECES) == len(rows) > 100
    used = set(re.findall(r"\w+", " ".join(story.pattern for story in TABLE.values())))
    assert used == PIECES.keys() and TABLE["who_has_more"].things[:2] == ("pencil", "pen")
