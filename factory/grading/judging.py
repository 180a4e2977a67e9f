"""Runs what a student wrote for an exercise with our imports and our check, in a walled process; a verdict in words.

The check runs beside what it checks, since it needs its gradients. So the check's functions are taken before the cell
runs and put back behind it, and afterwards the same check is asked about an empty answer, and about nonsense of the same
kind as the student's answer: a check that praises these has been tampered with.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import NamedTuple

from factory import ROOT
from factory.grading.cells import Exercise, Written, defined
from factory.grading.suspicion import prepared, suspicious
from factory.grading.walls import Ended, walled
from factory.lessons import NOTEBOOKS

STATES = ("passed", "wrong", "not started", "error", "timed out", "missing", "not gradable alone", "changed")


def readable() -> list[Path]:
    """What a walled process may read: the checks' data, and Python with its libraries; never the notebooks."""
    system = map(Path, ("/usr/lib", "/lib", "/lib64", "/usr/share/zoneinfo", "/dev/null", "/dev/urandom"))
    python = [Path(place).resolve() for place in {sys.prefix, sys.base_prefix, *sys.path} if place]
    python = [place for place in python if not NOTEBOOKS.resolve().is_relative_to(place)]
    return [ROOT / "helper", ROOT / "data", *python, *system]


class Verdict(NamedTuple):
    """One of STATES, and words."""

    state: str
    message: str = ""


def judged(exercise: Exercise, work: Written | None, imports: str = "", seconds: int = 20, shut: bool = True) -> Verdict:
    """The verdict on what a student wrote. `imports`: what the student imports besides."""
    if work is None:
        return Verdict("missing", "no such cell in the notebook")
    if not exercise.alone:
        return Verdict("not gradable alone", "needs other cells, or a training: run it by hand, in a container")
    cells = [prepared(source) for source in work.cells]
    if [source.strip() for source in cells if source.strip()] == [exercise.stub.strip()]:
        return Verdict("not started", work.note)
    try:
        why = next(filter(None, (suspicious(source, exercise.imports) for source in [imports, *cells])), "")
    except SyntaxError as error:
        return Verdict("error", f"no Python: line {error.lineno}: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return Verdict("error", f"no Python: {error}")
    if why:
        return Verdict("error", f"not run, read it yourself: {why}")
    ended = walled(lambda: _answer(exercise, [imports, *cells]), readable(), seconds, shut=shut)
    verdict = _understood(ended, seconds)
    return verdict._replace(message=f"{verdict.message} ({work.note})") if work.note else verdict


def _understood(ended: Ended, seconds: int) -> Verdict:
    """The verdict that a walled process has given, or how it ended without one."""
    if ended.out_of_time:
        return Verdict("timed out", f"stopped after {seconds} s of processor time, or far too long by the clock")
    try:
        state, message = json.loads(ended.said)
        if state in STATES and isinstance(message, str):
            return Verdict(state, message)
    except (ValueError, TypeError, RecursionError):
        pass
    how = f"signal {ended.signal}" if ended.signal else "no verdict came back"
    return Verdict("error", f"the process ended early ({how})")


# From here on: what runs in the walled process.


def _answer(exercise: Exercise, cells: list[str]) -> bytes:
    """The verdict of our check on what the cells define, as JSON: [state, message]."""
    ours: dict = {}
    run(exercise.imports, ours)
    checks = {name: value for name, value in ours.items() if name.startswith("check_")}
    names = dict(ours)
    try:
        for source in cells:
            run(source, names)
    except BaseException as error:  # also SystemExit and KeyboardInterrupt
        return _said("error", f"the cell raised {type(error).__name__}: {error}")
    names |= checks
    verdict = run(exercise.check, names)
    if verdict.right is True and (why := _tampered(exercise, ours, names)):
        return _said("error", f"not believed, read it yourself: {why}")
    return _said({True: "passed", False: "wrong", None: "not started"}[verdict.right], verdict.message)


def _tampered(exercise: Exercise, ours: dict, names: dict) -> str:
    """What is wrong with the check after it has run: it must praise neither an empty answer nor nonsense."""
    empty = dict(ours)
    run(exercise.stub, empty)
    asked = sorted(name for name in defined(exercise.stub) if name in names)
    nonsense = {name: _nonsense(names[name]) for name in asked}
    for given, words in (({name: empty[name] for name in asked}, "an empty answer"), (nonsense, "nonsense")):
        if run(exercise.check, {**names, **given}).right is True:
            return f"after this cell the check praises {words}"
    return ""


def _nonsense(value: object) -> object:
    """A wrong answer of the same kind; of a function, one that gives wrong answers."""
    if callable(value):
        return lambda *given, **more: _nonsense(value(*given, **more))
    if isinstance(value, dict):
        return {key: _nonsense(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_nonsense(part) for part in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return type(value)(12345)
    if hasattr(value, "detach"):  # a tensor
        return value.detach() * 0 + 12345
    return "nonsense" if isinstance(value, str) else object()


def _said(state: str, message: str) -> bytes:
    return json.dumps([state, str(message)[:1000]]).encode()


def run(source: str, names: dict) -> object:
    """Run a cell; the value of its last line, where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    names.setdefault("__name__", "__main__")
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
