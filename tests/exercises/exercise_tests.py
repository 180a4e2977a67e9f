"""What every lesson's exercises have to pass; `test_lesson_NN.py` beside this file says what is handed in.

Stubs, checks and solutions are the very cells of the notebooks. EXERCISE_CELLS names a JSON file of cells to take instead.
Left out on purpose: a list of lessons. A lesson is tested when it has its own file here, and `test_checking.py` finds
those without one.
"""

import ast
import json
import math
import os
import re
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from helper.exercises.checking import Verdict

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
PART = re.compile(r"(\d\d-exercise-[a-z-]+?)(?:-(stub|check|solution))?")
GARBAGE = [
    math.nan, math.inf, -1, 10**30, "x", "", [], {}, (1, 2), [None], [[1.0]], object(), True, 1j, {"a": 1}, [{}],
    torch.zeros(0), torch.zeros(2, 2), torch.tensor(1), torch.tensor(True), np.array(["a"]), np.zeros(3), range(3),
]  # fmt: skip
NOTHING = [None, ..., lambda *a, **k: None, lambda *a, **k: ...]


def cells_of(path):
    """The cells of a notebook, or of a JSON list of cells."""
    cells = json.loads(Path(path).read_text(encoding="utf-8"))
    cells = cells["cells"] if isinstance(cells, dict) else cells
    return {cell["id"]: (cell, "".join(cell["source"])) for cell in cells}


def find_exercises(number=""):
    """{exercise: {"text", "imports", "stub", "check", "solution": source}, and "cell": the solution's cell} of a lesson."""
    given = os.environ.get("EXERCISE_CELLS")
    found = defaultdict(dict)
    for path in [given] if given else sorted(NOTEBOOKS.glob(f"{number}*.ipynb")):
        cells = cells_of(path)
        for name, (cell, source) in cells.items():
            imports = f"{name[:2]}-exercises-imports"
            match = PART.fullmatch(name)
            if match and imports in cells and name.startswith(number):
                found[match[1]][match[2] or "text"] = source
                found[match[1]]["imports"] = cells[imports][1]
                if match[2] == "solution":
                    found[match[1]]["cell"] = cell
    return dict(found)


def value_of(source, names):
    """Run a cell in a namespace; the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


class ExerciseTests:
    """Tests of one lesson: a class Test... derives from it and says the four below.

    A test is made of each exercise, check, or planted mistake, by the name of its argument.
    """

    lesson: ModuleType  # helper.exercises.lesson_NN
    planted: dict[str, list[tuple]]  # {check: [(words of its message, what a student might give to it), ...]}
    right: dict[str, list]  # {check: other right ways}
    not_functions: tuple[str, ...] = ()  # the checks that take an answer, and no function

    @classmethod
    def number(cls) -> str:
        return cls.lesson.__name__[-2:]

    @classmethod
    def pytest_generate_tests(cls, metafunc):
        functions = [check for check in cls.planted if check not in cls.not_functions]
        mistakes = [(check, words, given) for check, planted in cls.planted.items() for words, *given in planted]
        wanted = set(metafunc.fixturenames)
        if "mistake" in wanted:
            metafunc.parametrize("mistake", mistakes, ids=[f"{check}: {words}" for check, words, _ in mistakes])
        if "parts" in wanted:
            exercises = find_exercises(cls.number())
            metafunc.parametrize("parts", exercises.values(), ids=list(exercises))
        if "check" in wanted:
            metafunc.parametrize("check", list(cls.planted))
        if "check_of_a_function" in wanted:
            metafunc.parametrize("check_of_a_function", functions)
        if "stub" in wanted:
            metafunc.parametrize("stub", NOTHING)

    def test_stub_and_solution(self, parts, capsys):
        names = {}
        value_of(parts["imports"], names)
        value_of(parts["stub"], names)
        untouched = value_of(parts["check"], names)
        assert isinstance(untouched, Verdict) and untouched.right is None
        assert "not started" in repr(untouched).lower()
        solved = value_of(parts["solution"], names)
        assert isinstance(solved, Verdict) and solved.right is True, repr(solved)

    def test_form(self, parts):
        assert re.search(r"^### \d+\. ", parts["text"], re.MULTILINE)
        assert re.search(r"\*(Easy|Medium|Hard|Open)\. About \d+ minutes", parts["text"])
        assert "<details><summary>Hint</summary>" in parts["text"] and "</details>" in parts["text"]
        assert parts["cell"]["metadata"]["jupyter"] == {"source_hidden": True}
        assert "solution" in parts["cell"].get("tags", parts["cell"]["metadata"].get("tags", []))

    def test_the_lesson_has_enough(self):
        texts = [parts["text"] for parts in find_exercises(self.number()).values()]
        levels = [re.search(r"\*(Easy|Medium|Hard|Open)\.", text)[1] for text in texts]
        assert len(levels) >= 4 and "Easy" in levels and levels.count("Open") == 1
        numbers = sorted(int(re.search(r"^### (\d+)\. ", text, re.MULTILINE)[1]) for text in texts)
        assert numbers == list(range(1, len(texts) + 1))

    def test_every_check_has_planted_mistakes(self):
        checks = {name for name in vars(self.lesson) if name.startswith("check_")}
        assert checks == set(self.planted) == set(self.right)
        assert all(len(planted) >= 3 for planted in self.planted.values())

    def test_a_planted_mistake_is_named(self, mistake):
        check, words, given = mistake
        verdict = getattr(self.lesson, check)(*given)
        assert verdict.right is False and words in verdict.message, verdict
        assert "Traceback" not in verdict.message and verdict.message.count("\n") <= 1 and len(verdict.message) < 600

    def test_other_right_ways_pass(self, check):
        for function in self.right[check]:
            verdict = getattr(self.lesson, check)(function)
            assert verdict.right is True, verdict

    def test_nothing_written_is_neither_right_nor_wrong(self, check_of_a_function, stub):
        verdict = getattr(self.lesson, check_of_a_function)(stub)
        assert verdict.right is None and "Not started" in repr(verdict)

    def test_any_value_at_all_gets_a_clear_word(self, check_of_a_function):
        for value in GARBAGE:
            verdict = getattr(self.lesson, check_of_a_function)(lambda *a, value=value, **k: value)
            assert verdict.right is False, (value, verdict)
            assert "cannot be checked" not in verdict.message and len(verdict.message) < 700, (value, verdict)


# Ways of writing that the files of several lessons use.


def texts_of(completions):
    return [completion[-1]["content"] for completion in completions]


def rewarder(pay):
    return lambda completions, ground_truth, **kwargs: [pay(t, g) for t, g in zip(texts_of(completions), ground_truth)]


def k3(new, ref):
    return (ref - new).exp() - (ref - new) - 1
