"""What is handed in is graded with our checks, and nothing that is in it does harm.

The walls are tried one by one, each against code that has got through the reading of cells; then a class of copies is
graded by the command. Left out on purpose: a kernel without these walls, which the command refuses.
"""

import csv
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import handed_in
import pytest

from factory import ROOT, grade
from factory.grading import cells, copies, judging, suspicion
from factory.grading.walls import CALLS, reads_are_walled, walled, walls_missing
from factory.lessons import find_lessons

walls = pytest.mark.skipif(bool(walls_missing()), reason=f"no walls here: {walls_missing()}")
LESSON = find_lessons()[0]
HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


def tried(function, **limits):
    """What a walled process says of a function: its value, or its error's name."""

    def said():
        try:
            return repr(function()).encode()
        except BaseException as error:
            return type(error).__name__.encode()

    return walled(said, [ROOT / "helper"], **limits)


FORBIDDEN = {
    "a socket": lambda path: socket.socket(),
    "a pair of sockets": lambda path: socket.socketpair(),
    "writing": lambda path: open(path, "w"),
    "appending": lambda path: open(path, "a"),
    "taking away": lambda path: os.unlink(path),
    "renaming": lambda path: os.rename(path, f"{path}-2"),
    "another mode": lambda path: os.chmod(path, 0),
    "a folder": lambda path: os.mkdir(f"{path}-2"),
    "a link": lambda path: os.symlink("/", f"{path}-2"),
    "another program": lambda path: os.execv("/bin/true", ["true"]),
    "a process": lambda path: os.fork(),
    "a shell": lambda path: subprocess.run(["true"]),
    "a signal": lambda path: os.kill(os.getppid(), 9),
    "a signal to all": lambda path: os.kill(-1, 9),
    "a file of somebody's": lambda path: open(path).read(),
    "passwords": lambda path: open("/etc/passwd").read(),
    "our solutions": lambda path: open(LESSON).read(),
    "more limits": lambda path: __import__("resource").setrlimit(0, (99, 99)),
    "debugging": lambda path: 1 / (ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) + 1),
}
READS = ("a file of somebody's", "passwords", "our solutions")


@walls
@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_walled_process_may_not(what, tmp_path):
    if what in READS and not reads_are_walled():
        pytest.skip("this kernel has no Landlock")
    path = tmp_path / "file"
    path.write_text("kept")
    ended = tried(lambda: FORBIDDEN[what](path), seconds=5)
    assert ended.said in (b"PermissionError", b"ValueError", b"ZeroDivisionError"), ended
    assert [file.name for file in tmp_path.iterdir()] == ["file"] and path.read_text() == "kept"


@walls
def test_a_walled_process_may_compute_read_and_start_threads():
    def work():
        thread = threading.Thread(target=sum, args=([1, 2],))
        thread.start()
        thread.join()
        return len((ROOT / "helper" / "sandbox.py").read_text("utf-8")) > 100

    assert tried(work).said == b"True"


def endless():
    while True:
        pass


@walls
def test_limits_of_time_memory_and_what_comes_back():
    ended = tried(endless, seconds=1)
    assert ended.out_of_time and not ended.said
    assert tried(lambda: len([0] * 10**11)).said == b"MemoryError"
    assert tried(lambda: "x" * 10**7).said == b""
    assert tried(lambda: os._exit(0)).said == b"" and tried(lambda: sys.exit()).said == b"SystemExit"
    assert tried(lambda: ctypes.string_at(0)).signal == 11
    assert tried(lambda: os.write(3, b"=forged\n")).said != b"forged"


@pytest.mark.skipif(not HEADER.exists(), reason="no header of the kernel's calls here")
def test_the_numbers_of_the_calls_are_the_kernels():
    numbers = dict(line.split()[1:3] for line in HEADER.read_text().splitlines() if line.startswith("#define __NR_"))
    assert {name: str(number) for name, number in CALLS.items()} == {name: numbers[f"__NR_{name}"] for name in CALLS}
    dangerous = "socket connect execve kill ptrace unlink rename chmod prctl ioctl io_uring_setup process_vm_writev fork"
    assert not set(dangerous.split()) & set(CALLS)


# Which cells are taken, and which are not run


def exercise_of(number="03", name="beta"):
    return next(exercise for exercise in cells.our_exercises()[number] if exercise.name == name)


def test_what_a_student_wrote_is_found_by_ids_with_cells_added_around_it():
    exercise, ours = exercise_of(), {"03-exercise-beta-stub", "03-exercise-beta-check", "03-exercise-loss-stub"}
    added = [("a", "x = 1"), ("03-exercise-beta-stub", "mine"), ("b", "y = 2"), ("03-exercise-beta-check", "forged")]
    assert cells.written(exercise, added, ours).cells == ["x = 1", "mine", "y = 2"]
    lost = [("q", "def beta_for_weight(w, m): return 1"), ("r", "def other(): pass")]
    found = cells.written(exercise, lost, ours)
    assert found.cells == [lost[0][1]] and "another id" in found.note
    assert cells.written(exercise, [("r", "def other(): pass"), ("s", "not python(")], ours) is None


def test_added_imports_are_taken_and_nothing_else_of_that_cell():
    exercise = exercise_of()
    source = exercise.imports + "\nimport itertools\nfrom math import *\nprint('x')\ncheck_own_loss = None"
    assert cells.added_imports(exercise, [("03-exercises-imports", source)]) == "import itertools\nfrom math import *"
    assert cells.added_imports(exercise, [("03-exercises-imports", "import (")]) == ""


@pytest.mark.parametrize(
    "source",
    [
        "import os", "from os import path", "import torch.hub as h", "from helper import exercises", "import requests",
        "from helper.exercises.lesson_03 import _reference", "from helper.sandbox import sys", "__import__('os')",
        "eval('1')", "open('x')", "f.__globals__", "(1).__class__.__mro__", "torch.equal = None", "del torch.equal",
        "torch.nn.functional.relu = None", "import numpy as n\nn.isclose = None", "from operator import attrgetter",
        "getattr(torch, 'sys')", "torch.serialization.os", "numpy.fromfile('x')", "from . import x", "torch.x += 1",
        "import random\nrandom._os.system('x')", "sys._getframe(1)", "self.__class__",
    ],
)  # fmt: skip
def test_what_no_exercise_needs_is_not_run(source):
    assert suspicion.suspicious(source, exercise_of().imports)


def test_honest_cells_are_run():
    source = (
        "import itertools, numpy as np\nfrom helper import wilson_interval\n"
        "from helper.exercises.lesson_03 import train_toy\n"
        "class A:\n    def __init__(self):\n        self._x = 1\nx = A()\nx.x = 2\nlosses = {}\nlosses['a'] = torch.zeros(1)"
    )
    assert suspicion.suspicious(source, exercise_of().imports) == ""
    assert suspicion.prepared("%%time\nx = 1") == "pass\nx = 1"


@walls
def test_a_check_that_was_tampered_with_is_not_believed():
    """Past the reading of cells: the very comparison of the checks is replaced, as its own process would see it."""
    patches = {
        "close": "checking.close = lambda *a, **k: True",
        "judge": "lesson.judge = lambda *a, **k: None",
        "verdict": "checking.Verdict.__init__ = lambda v, *a: v.__dict__.update(right=True, message='Right.')",
    }
    imports = "from helper.exercises import checking, lesson_03 as lesson\n"
    grade.prepare(cells.our_exercises(), ["03"])
    for name, patch in patches.items():
        source = imports + patch + "\n" + handed_in.WRONG
        ended = walled(partial(judging._answer, exercise_of(), [source]), judging.readable())
        state, message = json.loads(ended.said)
        assert state == "error" and "not believed" in message, (name, ended)
    honest = walled(partial(judging._answer, exercise_of(), [handed_in.HONEST]), judging.readable())
    assert json.loads(honest.said)[0] == "passed"


def test_the_table_holds_words_only():
    assert grade.tidy(("=cmd()", " @x", "a\nb\x1b[31m", "x" * 999)) == ("'=cmd()", "' @x", "a b [31m", "x" * 300)


def test_a_notebook_is_known_by_its_cells_or_else_by_its_name():
    whole = {"cells": [{"cell_type": "code", "id": "03-x", "source": ["a", "b"]}]}
    for name, data in (("ann's work.ipynb", whole), ("sub/hw 03_dpo (1).ipynb", {"cells": []})):
        lessons, faults = copies.cells_of({name: json.dumps(data).encode()})
        assert list(lessons) == ["03"] and not faults
    assert copies.cells_of({"x.ipynb": b'{"cells": []}'})[1] == [("error", "x.ipynb is no lesson of the course")]
    two = {"03_a.ipynb": json.dumps(whole).encode(), "b.ipynb": json.dumps(whole).encode()}
    assert "second notebook of lesson 03" in copies.cells_of(two)[1][0][1]
    assert copies.cells_of({"notebooks/.ipynb_checkpoints/03_a-checkpoint.txt": b""})[1][0][1] == "holds no notebook"


# The command, on a class


def run_grade(folder, *options):
    """The rows of the table, and what is printed."""
    command = [sys.executable, "-m", "factory.grade", str(folder), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file)), result.stdout


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """All exercises of all lessons: solved, and untouched."""
    folder = tmp_path_factory.mktemp("solved")
    lessons = find_lessons()
    handed_in.hand_in(folder, "solved", {p.name: handed_in.notebook(p, handed_in.solutions(p)) for p in lessons})
    handed_in.hand_in(folder, "untouched", {path.name: handed_in.notebook(path) for path in lessons})
    return run_grade(folder)[0]


@walls
def test_every_exercise_is_graded_alone_or_is_known_not_to_be(solved):
    wanted = [(exercise.lesson, exercise.name) for lesson in cells.our_exercises().values() for exercise in lesson]
    states = {(row["lesson"], row["exercise"]): row for row in solved if row["student"] == "solved"}
    assert list(states) == wanted and len(wanted) > 40
    alone = {(e.lesson, e.name) for lesson in cells.our_exercises().values() for e in lesson if e.alone}
    assert {key for key, row in states.items() if row["state"] == "passed"} == alone, states
    others = [row for key, row in states.items() if key not in alone]
    assert {row["state"] for row in others} == {"not gradable alone"}
    assert ("06", "build") in states and ("06", "build") not in alone


@walls
def test_an_untouched_copy_has_not_started(solved):
    assert {row["state"] for row in solved if row["student"] == "untouched"} == {"not started", "not gradable alone"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A class of which few are honest: rows, what is printed, the folder, where they would write, what they must get."""
    folder, outside = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("outside")
    lesson, attacks = handed_in.lesson_path("03"), handed_in.attacks(outside)
    for name, (source, _) in attacks.items():
        handed_in.hand_in(folder, name, {lesson.name: handed_in.notebook(lesson, {handed_in.FIRST: source})})
    words = handed_in.hostile_files(folder)
    checks = [f"{exercise.id}-check" for exercise in cells.our_exercises()["03"]]
    for name, options in {"no-checks": {"drop": checks}, "no-cell": {"drop": [f"{handed_in.FIRST}-stub"]}}.items():
        handed_in.hand_in(
            folder, name, {lesson.name: handed_in.notebook(lesson, {handed_in.FIRST: handed_in.HONEST}, **options)}
        )
    handed_in.hand_in(folder, "zzz-last", {lesson.name: handed_in.notebook(lesson, handed_in.solutions(lesson))})
    rows, printed = run_grade(folder, "--seconds", "2")
    return rows, printed, folder, outside, attacks, words


def of(rows, student):
    return [row for row in rows if row["student"] == student]


@walls
def test_each_attack_gets_its_state_and_the_others_go_on(hostile):
    rows, _, _, _, attacks, _ = hostile
    found = {name: of(rows, name)[0]["state"] for name in attacks}
    wanted = {name: state for name, (_, state) in attacks.items()}
    wanted["reads-solutions"] = wanted["reads-solutions"] if reads_are_walled() else found["reads-solutions"]
    assert found == wanted
    assert all("not permitted" in of(rows, f"writes-by-{way}")[0]["message"] for way in ("numpy", "pandas"))
    assert all({row["state"] for row in of(rows, name)[1:]} == {"not started"} for name in attacks)
    assert {row["state"] for row in of(rows, "zzz-last")} == {"passed"}


@walls
def test_a_copy_that_cannot_be_read_is_one_line(hostile):
    rows, _, _, _, _, words = hostile
    for name, said in words.items():
        lines = of(rows, name)
        assert len(lines) == (2 if name == "wrong-form" else 1), lines
        assert {row["state"] for row in lines} == {"error"} and said in lines[0]["message"], lines
        assert not lines[0]["lesson"] and not lines[0]["exercise"]


@walls
def test_deleted_checks_deleted_cells_and_a_changed_zip(hostile):
    rows = hostile[0]
    assert [row["state"] for row in of(rows, "no-checks")] == ["passed", *["not started"] * 4]
    assert [row["state"] for row in of(rows, "no-cell")] == ["missing", *["not started"] * 4]
    changed = of(rows, "changed")
    assert [row["state"] for row in changed] == ["changed", "passed", *["not started"] * 4]
    assert "03_dpo.ipynb" in changed[0]["message"]


@walls
def test_nothing_was_harmed(hostile):
    _, printed, folder, outside, _, _ = hostile
    assert list(outside.iterdir()) == [] and "no network, no writing, no other programs" in printed
    assert not list(folder.parent.rglob("climbed*")) and not Path("/tmp/climbed.ipynb").exists()
    made = {path.name for path in folder.iterdir()} - {path.name for path in copies.handed_in(folder)}
    assert made == {".made", "grades.csv"}
    assert len(printed.splitlines()) == 2 + len(copies.handed_in(folder))


def test_without_walls_nothing_is_graded(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sys, "argv", ["grade", str(tmp_path)])
    monkeypatch.setattr(grade.walls, "walls_missing", lambda: "there are none")
    assert grade.main() == 1 and "Not graded: there are none. Grade in a container" in capsys.readouterr().err
    for nothing in (str(tmp_path / "nothing"), ""):
        monkeypatch.setattr(sys, "argv", ["grade", nothing])
        assert grade.main() == 1 and "make grade FOLDER=" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["grade", str(tmp_path), "--lessons", "03", "98"])
    assert grade.main() == 1 and "no such lesson: 98" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_limits_hold_where_there_are_no_walls():
    assert walled(lambda: b"said", (), shut=False).said == b"said"
    assert walled(endless, (), seconds=1, shut=False).out_of_time
