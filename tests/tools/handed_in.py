"""Copies as students hand them in, made of our notebooks: solved, untouched, half done, broken, and hostile ones.

Left out on purpose: running them. `tests/test_grading.py` grades a few, `grade_thirty.py` a class.
"""

import io
import json
import zipfile
from pathlib import Path

from factory.grading.cells import defined, our_exercises
from factory.lessons import find_lessons
from factory.submission import write_submission

BOMB = 64 * 2**20  # bytes that a bomb unpacks to


def notebook(path, answers=None, drop=()):
    """A lesson's notebook as a student has it: no solutions, no outputs, `answers` ({exercise: source}) in the stubs."""
    whole = json.loads(path.read_text("utf-8"))
    kept = [cell for cell in whole["cells"] if "solution" not in cell["metadata"].get("tags", []) and cell["id"] not in drop]
    for cell in kept:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
            cell["source"] = (answers or {}).get(cell["id"].removesuffix("-stub"), cell["source"])
    return whole | {"cells": kept}


def solutions(lesson):
    """{exercise: its solution, under the names of the stub} of a lesson."""
    sources = {cell["id"]: "".join(cell["source"]) for cell in json.loads(lesson.read_text("utf-8"))["cells"]}
    found = {}
    for exercise in our_exercises()[lesson.name[:2]]:
        source = sources.get(f"{exercise.id}-solution", "")
        for name in defined(exercise.stub):
            source = source.replace(f"{name}_solution", name)
        found[exercise.id] = f"{exercise.stub}\n\n\n{source}"
    return found


def hand_in(folder, name, notebooks):
    """A student's zip in `folder`, made by `make submission`, of {file name: notebook or text}."""
    place = folder / ".made" / name
    place.mkdir(parents=True)
    for file, whole in notebooks.items():
        (place / file).write_text(whole if isinstance(whole, str) else json.dumps(whole), "utf-8")
    made, _ = write_submission(place, name, place)
    made.rename(folder / f"{name}.zip")


def raw_zip(path, files):
    """A zip of {name: text or bytes} that nobody has looked at."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)


def lesson_path(number):
    return next(path for path in find_lessons() if path.name.startswith(number))


# Lesson 03, with which the hostile copies are made: its first exercise is a function of two numbers.

FIRST = "03-exercise-beta"
HONEST = "def beta_for_weight(weight, margin):\n    return math.log(1 / weight - 1) / margin\n"
WRONG = "def beta_for_weight(weight, margin):\n    return math.log(1 / weight - 1)\n"


def body(line):
    """The exercise's function with this line in it, and a right answer behind it."""
    return f"def beta_for_weight(weight, margin):\n    {line}\n    return math.log(1 / weight - 1) / margin\n"


def attacks(outside: Path) -> dict[str, tuple[str, str]]:
    """{name: (what stands in the first exercise, the state it must get)}. They would write into `outside`."""
    check = "check_beta_for_weight"
    file = repr(str(outside / "written"))
    return {
        "endless": (body("while True: pass"), "timed out"),
        "hungry": (body("big = [0] * 10**11"), "wrong"),
        "hungry-when-read": ("big = 'a' * 10**11\n" + HONEST, "error"),
        "deep": (body("beta_for_weight(weight, margin)"), "wrong"),
        "loud": (body("print('x' * 10**6)"), "passed"),
        "socket": ("import socket\n" + HONEST, "error"),
        "shell": (body("import os; os.system('touch x')"), "error"),
        "bang": ("!touch x\n" + HONEST, "error"),
        "opens": (body(f"open({file}, 'w').write('x')"), "error"),
        "writes-by-numpy": ("import numpy\n" + body(f"numpy.savetxt({file}, [1.0])"), "wrong"),
        "writes-by-pandas": ("import pandas\n" + body(f"pandas.Series([1]).to_csv({file})"), "wrong"),
        "reads-solutions": ("import numpy\n" + body("numpy.genfromtxt('/etc/passwd', dtype=str)"), "wrong"),
        "exits": ("raise SystemExit\n", "error"),
        "exits-in-function": (body("raise SystemExit"), "error"),
        "own-check": (f"{check} = lambda *a: print('Right.')\n" + WRONG, "wrong"),
        "own-verdict": (f"def {check}(f):\n    return 'Right. It is.'\n\n\n{WRONG}", "wrong"),
        "patches-module": ("import helper\nhelper.exercises.checking.close = lambda *a: True\n" + WRONG, "error"),
        "patches-by-name": ("torch.equal = lambda *a: True\n" + WRONG, "error"),
        "asks-globals": (f"g = {check}.__globals__\n" + WRONG, "error"),
        "borrows-reference": ("from helper.exercises.lesson_03 import _beta\n" + WRONG, "error"),
        "patches-private": ("numpy = torch.testing._comparison.np\nnumpy.isclose = lambda *a: True\n" + WRONG, "error"),
        "patches-unseen": ("other = torch\nother.isclose = lambda *a: True\n" + WRONG, "wrong"),
        "no-python": ("def beta_for_weight(weight, margin:\n", "error"),
        "nul": ("x = '\0'\n" + HONEST, "error"),
    }


def hostile_files(folder: Path) -> dict[str, str]:
    """Copies that attack who reads them; {name: words of the line they must get}."""
    lesson = lesson_path("03")
    good = json.dumps(notebook(lesson))
    raw_zip(folder / "climbs.zip", {"../../climbed.ipynb": good, lesson.name: good})
    raw_zip(folder / "absolute.zip", {"/tmp/climbed.ipynb": good})
    raw_zip(folder / "bomb.zip", {lesson.name: " " * BOMB})
    raw_zip(folder / "bombs.zip", {f"0{n}_x.ipynb": " " * (BOMB // 4) for n in range(1, 7)})
    raw_zip(folder / "not-json.zip", {lesson.name: "{" + good})
    raw_zip(folder / "nested.zip", {lesson.name: "[" * 10**6})
    raw_zip(folder / "wrong-form.zip", {lesson.name: '{"cells": 7}', "04_x.ipynb": '{"cells": [{"cell_type": "code"}]}'})
    raw_zip(folder / "empty.zip", {"readme.txt": "I did it, honestly."})
    (folder / "broken.zip").write_bytes((folder / "climbs.zip").read_bytes()[:-30])
    (folder / "essay.pdf").write_bytes(b"%PDF")
    linked = folder / "linked"
    linked.mkdir()
    (linked / lesson.name).symlink_to("/etc/passwd")
    changed = io.BytesIO()
    hand_in(folder, "changed", {lesson.name: notebook(lesson)})
    with zipfile.ZipFile(folder / "changed.zip") as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            solved = json.dumps(notebook(lesson, {FIRST: HONEST})).encode()
            new.writestr(name, solved if name.endswith(".ipynb") else old.read(name))
    (folder / "changed.zip").write_bytes(changed.getvalue())
    return {
        "climbs": "a path outside", "absolute": "a path outside", "bomb": "larger than", "bombs": "unpacks to more",
        "not-json": "is no notebook", "nested": "is no notebook", "wrong-form": "is no notebook",
        "empty": "holds no notebook", "broken": "is no zip", "essay": "no zip, folder or notebook", "linked": "is a link",
    }  # fmt: skip
