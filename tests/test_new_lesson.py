"""A lesson arrives by adding files: a small lesson 99 in a copy of the course is run, checked, tested, rendered, recorded.

Nothing that stands in the copy is changed before that; the other lessons are there with their titles only.
Left out on purpose: training. What a lesson needs of it, the lessons' own runs show.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from factory import READMES, ROOT
from factory.lessons import find_lessons

COPIED = (
    "helper", "factory", "docs", "recipes", "capstone", "README.md", "README.zh-CN.md", "CONTRIBUTING.md", "LICENSE",
    "Makefile", "pyproject.toml", "setup.py", "requirements.txt", ".gitignore", "tests/conftest.py", "tests/tools",
    "tests/test_notebooks.py", "tests/exercises", "notebooks/conftest.py",
    "data/recorded/real_sizes.json", "data/recorded/reference_speed.json",
    "data/models/sprout-base/README.md",
)  # fmt: skip
SIGNS = {"sum": ("+", "Easy"), "difference": ("-", "Medium"), "product": ("*", "Hard"), "quotient": ("/", "Open")}
CHECK = '''

@exercise
def check_{name}(function) -> str:
    """Does `function(a, b)` give their {name}?"""
    judge(function, CASES, FUNCTIONS["{name}"], mistakes("{name}"), as_number)
    return "That is it."
'''
CHECKS = '''"""Checks of lesson 99."""

import operator

from helper.exercises.checking import as_number, exercise, judge

CASES = {"6 and 3": (6.0, 3.0), "7 and 5": (7.0, 5.0)}
FUNCTIONS = {"sum": operator.add, "difference": operator.sub, "product": operator.mul, "quotient": operator.truediv}


def mistakes(name):
    return {f"This is the {other}.": function for other, function in FUNCTIONS.items() if other != name}
'''  # fmt: skip
TESTS = '''"""The exercises of lesson 99."""

from exercise_tests import ExerciseTests

from helper.exercises import lesson_99 as lesson

PLANTED = {f"check_{name}": list(lesson.mistakes(name).items()) for name in lesson.FUNCTIONS}
RIGHT = {f"check_{name}": [function] for name, function in lesson.FUNCTIONS.items()}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
'''
RECORDING = '''"""The recorded runs of lesson 99."""

from factory.recordings.shared import command, write


def record_dummy(seeds, path):
    """Nothing but its seeds."""
    write({"command": command("dummy", seeds), "seeds": seeds}, path)


RECORDINGS = {"dummy": (record_dummy, "99_dummy.json")}
SHOWN = {"right": "Dummy: right answers"}
'''
EVERYTHING = """
import json, sys
from factory import lessons, record, render, results, run_lessons

path = lessons.NOTEBOOKS / "99_dummy.ipynb"
run_lessons.run(path)
assert lessons.check(path) == []
record.main(["--only", "dummy", "--seeds", "5", "6"])
for program, *words in ((results, "--seeds", "0"), (render, "site"), (render, "slides", "99"), (render, "student")):
    sys.argv = ["program", *words]
    assert program.main() == 0, words
print(results.shown(json.loads(results.RECORD.read_text()))["99_dummy", "right"])
"""  # a process of its own: whatever is imported is the copy's


def exercise_cells(place: int, name: str) -> list:
    """Text, stub, check and solution of an exercise."""
    sign, level = SIGNS[name]
    hint = "<details><summary>Hint</summary>\n\nOne line is enough.\n</details>"
    text = f"### {place}. The {name}\n\n*{level}. About 5 minutes.* Write `{name}(a, b)`.\n\n{hint}"
    solution = f"def {name}_solution(a, b):\n    return a {sign} b\n\n\ncheck_{name}({name}_solution)"
    cells = [
        new_markdown_cell(text, id=f"99-exercise-{name}"),
        new_code_cell(f"def {name}(a, b):\n    ...  # your code", id=f"99-exercise-{name}-stub"),
        new_code_cell(f"check_{name}({name})", id=f"99-exercise-{name}-check"),
        new_code_cell(solution, id=f"99-exercise-{name}-solution"),
    ]
    cells[-1].metadata.update(tags=["solution"], jupyter={"source_hidden": True})
    return cells


def lesson_99():
    """The notebook, not yet executed."""
    goals = "## Goals\n\n- to be found\n- to be run\n- to be shown\n\n**Time**: about 1 minute of machine time."
    settings = "USE_GPU = False\nMODEL_NAME = None\nDATASET_NAME = None\nSEED = 0"
    board = 'board = scoreboard({"right": ([0] * 10, [1, 0] * 5)})\n'
    saved = f'{board}save_scoreboard("99_dummy", SEED, "cpu", 1.0, board).name'
    checks = ", ".join(f"check_{name}" for name in SIGNS)
    cells = [
        new_markdown_cell(f"# 99 Dummy\n\n{goals}"),
        new_code_cell("import helper\nfrom helper import save_scoreboard, scoreboard"),
        new_code_cell(settings, metadata={"tags": ["parameters"]}),
        new_code_cell(f"print(helper.__file__)\n{saved}"),
        new_markdown_cell("## Exercises", id="99-exercises"),
        new_code_cell(f"from helper.exercises.lesson_99 import {checks}", id="99-exercises-imports"),
        *[cell for place, name in enumerate(SIGNS, 1) for cell in exercise_cells(place, name)],
        new_markdown_cell("## Recap\n\n- It was found."),
    ]
    return new_notebook(cells=cells, metadata={"execution": {"timeout": 300}})


def copy_course(folder: Path) -> None:
    """What the lesson needs of the course: the other lessons' titles, and a recorded run of each."""
    for name in COPIED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, folder / name)
    recorded = json.loads((ROOT / "data" / "recorded" / "lessons.json").read_text("utf-8"))
    boards = {board["lesson"]: board for board in recorded if board["seed"] == 0}
    for path in find_lessons():
        title = new_notebook(cells=nbformat.read(path, as_version=4).cells[:1])
        nbformat.write(title, folder / "notebooks" / path.name)
        boards.setdefault(path.stem, recorded[0] | {"lesson": path.stem, "seed": 0})
    (folder / "data" / "recorded" / "lessons.json").write_text(json.dumps(list(boards.values())))


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course with lesson 99, after all that is done with a lesson."""
    folder = tmp_path_factory.mktemp("copy") / "course"
    copy_course(folder)
    checks = CHECKS + "".join(CHECK.format(name=name) for name in SIGNS)
    new = {
        "notebooks/99_dummy.ipynb": nbformat.writes(lesson_99()), "helper/exercises/lesson_99.py": checks,
        "tests/exercises/test_lesson_99.py": TESTS, "factory/recordings/lesson_99.py": RECORDING,
    }  # fmt: skip
    for name, text in new.items():
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    run(folder, "-c", EVERYTHING)
    return folder


def run(folder: Path, *words: str) -> str:
    """What Python prints, run in the copy, where `helper` is the copy's own for the kernels too."""
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_OUTPUTS"}
    environment |= {"PYTHONPATH": str(folder), "MPLBACKEND": "agg", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_lesson_is_run(course):
    notebook = nbformat.read(course / "notebooks" / "99_dummy.ipynb", as_version=4)
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert shown[0].text == "~/course/helper/__init__.py\n"  # the copy's helper
    assert "'99_dummy.json'" in shown[1].data["text/plain"] and len(shown) == 2 + 2 * len(SIGNS)


def test_its_rules_and_exercises_are_tested(course):
    options = ("-n", "0", "-p", "no:cacheprovider", "-rA", "-k", "99 or every_lesson_with_exercises")
    tests = run(course, "-m", "pytest", *options, "tests/test_notebooks.py", "tests/exercises")
    passed = {line.split("::", 1)[1] for line in tests.splitlines() if line.startswith("PASSED tests/")}
    assert {"test_lesson[99_dummy-missing_headings]", "test_size_and_format[99_dummy]"} <= passed
    assert {f"TestExercises::test_stub_and_solution[99-exercise-{name}]" for name in SIGNS} <= passed
    assert "test_every_lesson_with_exercises_has_its_tests" in passed and len(passed) > 50


def test_it_has_its_page_and_slides_and_stands_in_the_index(course):
    index = BeautifulSoup((course / "_site" / "index.html").read_text("utf-8"), "html.parser")
    section = index.select("section.lesson")[-1]
    assert section.a["href"] == "notebooks/99_dummy.html" and "99 Dummy" in section.get_text()
    assert [goal.get_text() for goal in section("li")] == ["to be found", "to be run", "to be shown"]
    before = (course / "_site" / "notebooks" / f"{find_lessons()[-1].stem}.html").read_text("utf-8")
    assert 'href="99_dummy.html"' in before
    assert "to be found" in (course / "_site" / "slides" / "99_dummy.html").read_text("utf-8")


def test_students_get_it_without_solutions(course):
    notebook = nbformat.read(course / "_student" / "notebooks" / "99_dummy.ipynb", as_version=4)
    ids = [cell.id for cell in notebook.cells]
    assert "99-exercise-sum-stub" in ids and not any(name.endswith("-solution") for name in ids)
    assert (course / "_student" / "helper" / "exercises" / "lesson_99.py").exists()


def test_its_recording_is_found(course):
    record = json.loads((course / "data" / "recorded" / "99_dummy.json").read_text())
    assert record == {"command": "python -m factory.record --only dummy --seeds 5 6", "seeds": [5, 6]}


def test_its_scoreboard_stands_in_the_results(course):
    for name in READMES:
        readme = (course / name).read_text("utf-8")
        assert "| 99_dummy | right | 10 | 0 | 0.0% | 50.0% | +50.0 points |" in readme and "| 99_dummy | 0 | 1 s |" in readme
    boards = json.loads((course / "data" / "recorded" / "lessons.json").read_text())
    assert len(boards) == len(find_lessons()) + 1 and boards[-1]["lesson"] == "99_dummy"
    assert (course / "docs" / "results.png").stat().st_size > 5_000
