"""What the tests themselves keep to: none asserts seconds of the clock on the wall, and two processes share them.

A busy machine would make such a test fail. Tests count calls and steps, or compare the processor time of two jobs of this
process. Left out on purpose: time-outs that only stop a hang, and clocks that a test reads and does not assert on.
"""

import ast
import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import pytest_cmdline_main

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CLOCKS = {"perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "time_ns", "timeit"}
DOTTED = {("time", "time"), ("datetime", "now"), ("datetime", "utcnow")}  # the last names alone say little
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def last_name(node):
    """The name of a variable, or of an attribute."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def reads_clock(node, late):
    """Whether an expression reads a clock, or one of the names in `late` that hold what a clock gave."""
    for part in ast.walk(node):
        dotted = isinstance(part, ast.Attribute) and (last_name(part.value), part.attr) in DOTTED
        if dotted or last_name(part) in CLOCKS or (isinstance(part, ast.Name) and part.id in late):
            return True
    return False


def targets(node):
    """Names that an assignment or a `for` binds."""
    places = getattr(node, "targets", None) or [node.target]
    return {name.id for place in places for name in ast.walk(place) if isinstance(name, ast.Name)}


def late_names(scope, late):
    """`late`, and the names in a function that hold what a clock gave, or functions that return it."""
    while True:
        before = set(late)
        for node in ast.walk(scope):
            if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.NamedExpr)):
                late |= targets(node) if node.value and reads_clock(node.value, late) else set()
            elif isinstance(node, FUNCTIONS[:2]):
                inside = late_names(node, set(late)) if node is not scope else late
                values = [part.value for part in ast.walk(node) if isinstance(part, (ast.Return, ast.Yield)) and part.value]
                late |= {node.name} if any(reads_clock(value, inside) for value in values) else set()
        if late == before:
            return late


def fails(node):
    """Whether it is an `if` that lets a test fail."""
    parts = [part for line in node.body for part in ast.walk(line)] if isinstance(node, ast.If) else []
    return any(isinstance(part, ast.Raise) or last_name(part) == "fail" for part in parts)


def clocked(source):
    """The lines of a module that fail when something takes too long by the clock on the wall."""
    tree = ast.parse(source)
    makers = {name for name in late_names(tree, set()) if any(getattr(n, "name", None) == name for n in ast.walk(tree))}
    lines = set()
    for scope in (node for node in ast.walk(tree) if isinstance(node, FUNCTIONS[:2])):
        late = late_names(scope, set(makers))
        for node in ast.walk(scope):
            if (isinstance(node, ast.Assert) or fails(node)) and reads_clock(node.test, late):
                lines.add(node.lineno)
    return sorted(lines)


TOO_LATE = [
    "start = time.perf_counter()\n    work()\n    assert time.perf_counter() - start < 2",
    "start = time.time()\n    work()\n    took = time.time() - start\n    assert took < 2",
    "took = [measure() for _ in range(3)]\n    assert min(took) < 2",
    "assert measure() / measure() > 4",
    "assert timed(work, clock=time.monotonic) < 5",
    "assert timeit.timeit(work, number=9) < 1",
    "start = datetime.now()\n    work()\n    if datetime.now() - start > limit:\n        pytest.fail('slow')",
]
IN_TIME = [
    "end = time.monotonic() + 60\n    while alive() and time.monotonic() < end:\n        pass\n    assert not alive()",
    "start = time.process_time()\n    work()\n    assert time.process_time() - start < 9 * unit",
    "assert subprocess.run(command, timeout=60).returncode == 0",
    "monkeypatch.setattr('helper.trainers.live.time.perf_counter', lambda: clock[0])\n    assert clock[0] < 2",
    "took = measure()\n    print(took)\n    assert work() == 3",
]
MEASURE = "def measure():\n    start = monotonic()\n    return monotonic() - start\n\n\n"


@pytest.mark.parametrize("body", TOO_LATE)
def test_a_planted_clock_is_found(body):
    assert len(clocked(f"{MEASURE}def test():\n    {body}\n")) == 1


@pytest.mark.parametrize("body", IN_TIME)
def test_what_is_no_clock_is_left_alone(body):
    assert clocked(f"{MEASURE}def test():\n    {body}\n") == []


def test_no_test_asserts_seconds():
    files = sorted(Path(__file__).parent.rglob("*.py"))
    found = {path.name: lines for path in files if (lines := clocked(path.read_text(encoding="utf-8")))}
    assert len(files) > 40 and found == {}


PLAIN = {"numprocesses": None, "dist": "no", "usepdb": False, "capture": "fd", "collectonly": False, "nbmake": False}


@pytest.mark.parametrize(
    ("arguments", "options", "cores", "processes"),
    [
        (["tests"], {}, 2, 2), (["tests/exercises"], {}, 8, 2), ([__file__, "tests"], {}, 2, 2), (["tests"], {}, 1, None),
        ([__file__], {}, 2, None), ([__file__ + "::test"], {}, 2, None), (["notebooks"], {"nbmake": True}, 2, None),
        (["tests"], {"numprocesses": 0}, 2, 0), (["tests"], {"numprocesses": 3}, 2, 3),
        (["tests"], {"usepdb": True}, 2, None), (["tests"], {"capture": "no"}, 2, None),
        (["tests"], {"collectonly": True}, 2, None),
    ],
)  # fmt: skip
def test_two_processes_where_they_help(arguments, options, cores, processes, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    chosen = SimpleNamespace(**PLAIN | options)
    config = SimpleNamespace(args=arguments, option=chosen, getoption=lambda name, default: getattr(chosen, name, default))
    pytest_cmdline_main(config)
    assert chosen.numprocesses == processes and (chosen.dist == "worksteal") == (processes == 2)


@pytest.mark.parametrize(
    ("arguments", "options", "cores", "gigabytes", "processes"),
    [
        (["notebooks/"], {}, 2, 8, 2), (["notebooks/"], {}, 16, 64, 4), (["notebooks/"], {}, 1, 64, None),
        (["notebooks/"], {}, 8, 5, None), (["notebooks/"], {}, 8, 10, 3), (["notebooks/"], {"numprocesses": 0}, 8, 64, 0),
        (["notebooks/"], {"nbmake": False}, 8, 64, None), (["notebooks/"], {"capture": "no"}, 8, 64, None),
        ([str(NOTEBOOKS / "01_intro.ipynb")], {}, 8, 64, None),
    ],
)  # fmt: skip
def test_lessons_side_by_side(arguments, options, cores, gigabytes, processes, monkeypatch):
    """As many as have a core and memory, with one thread each."""
    monkeypatch.setattr(os, "environ", {})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    spec = importlib.util.spec_from_file_location("of_notebooks", NOTEBOOKS / "conftest.py")
    of_notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(of_notebooks)
    monkeypatch.setattr(of_notebooks.psutil, "virtual_memory", lambda: SimpleNamespace(available=gigabytes * 1e9))
    chosen = SimpleNamespace(**PLAIN | {"nbmake": True} | options)
    config = SimpleNamespace(args=arguments, option=chosen, getoption=lambda name, default: getattr(chosen, name, default))
    of_notebooks.pytest_cmdline_main(config)
    assert chosen.numprocesses == processes
    one_thread = {"COURSE_THREADS": "1", "OMP_NUM_THREADS": "1"}
    assert os.environ == (one_thread if chosen.dist == "worksteal" else {})


def test_without_the_plugin_there_is_one_process():
    config = SimpleNamespace(args=["tests"], option=SimpleNamespace(usepdb=False, capture="fd", collectonly=False))
    config.getoption = lambda name, default: getattr(config.option, name, default)
    pytest_cmdline_main(config)
    assert not hasattr(config.option, "numprocesses")
