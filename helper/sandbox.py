"""Runs small Python functions that a model wrote, for a reward from unit tests: an allow-list, a process, limits.

Two walls. *The allow-list*: the code is read as a tree first, and only plain computing is let in: functions, loops,
numbers, texts, lists and a few of their methods. No import, no names with two underscores, no classes, no other
attributes: there is no word in it for a file, a network or the process. *The process*: each program runs in a Python of
its own (this file, as a script, with an empty environment and without the project's folders), with limits on processor
time and memory. The expected values never enter that process: a program cannot read them, and only values come back.
Left out on purpose: running what the allow-list refuses. Real code needs imports, and then a container without a network;
see docs/security.md.
"""

import ast
import contextlib
import json
import os
import subprocess
import sys
from typing import NamedTuple

SECONDS = 1  # of processor time for a program, its start included (about 0.05)
PATIENCE = 60.0  # seconds by the clock, many times SECONDS: a busy machine makes it wait
MEMORY = 2**28  # bytes of address space
LONGEST = 10_000  # characters of a program, and of the values that come back

METHODS = {
    "append", "count", "endswith", "extend", "get", "index", "insert", "isalpha", "isdigit", "islower", "isupper", "items",
    "join", "keys", "lower", "pop", "remove", "replace", "reverse", "sort", "split", "startswith", "strip", "title", "upper",
    "values",
}  # fmt: skip
BUILTINS = {
    "abs", "all", "any", "bool", "dict", "divmod", "enumerate", "filter", "float", "int", "len", "list", "map", "max", "min",
    "pow", "range", "reversed", "round", "set", "sorted", "str", "sum", "tuple", "zip",
}  # fmt: skip
NODES = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.For,
    ast.While, ast.If, ast.Expr, ast.Pass, ast.Break, ast.Continue, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp,
    ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice, ast.Starred,
    ast.List, ast.Tuple, ast.Dict, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.comprehension,
    ast.Lambda, ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


class Outcome(NamedTuple):
    """What a call gave: its `value` (numbers, texts, truth values, None and lists of them), or why there is none."""

    value: object = None
    error: str = ""


def run_calls(code: str, calls: list[str]) -> list[Outcome]:
    """The outcome of each call: `run_calls("def f(n): return 2 * n", ["f(3)"])` gives [Outcome(6)].

    Bad code raises nothing. All calls run in one process, one after the other, within SECONDS and MEMORY together; when
    these run out, the calls that have given nothing yet have the error "ran out of time or memory". TypeError when code or
    a call is no text.
    """
    if not isinstance(code, str) or isinstance(calls, str) or not all(isinstance(call, str) for call in calls):
        raise TypeError("run_calls takes a program as a text and a list of calls as texts.")
    command = [sys.executable, "-I", "-S", __file__]
    bare = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows starts none without it
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=bare)
    try:
        said, _ = child.communicate(json.dumps([code, calls]).encode(), timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
    finally:
        child.kill()
    lines = said.decode().splitlines()[: len(calls)]
    outcomes = [Outcome(*json.loads(line)) for line in lines if line.endswith("]")]
    return outcomes + [Outcome(error="ran out of time or memory")] * (len(calls) - len(outcomes))


# From here on: what runs in the child.


def _refusal(tree: ast.AST) -> str:
    """Why a program may not run; "" when it may."""
    for node in ast.walk(tree):
        kind, line = type(node).__name__, getattr(node, "lineno", 1)
        if not isinstance(node, NODES):
            return f"line {line}: {kind} is not allowed"
        names = [getattr(node, field, None) for field in ("id", "name", "arg", "attr")]
        if any(isinstance(name, str) and name.startswith("_") for name in names):
            return f"line {line}: names that begin with _ are not allowed"
        if isinstance(node, ast.Attribute) and (node.attr not in METHODS or not isinstance(node.ctx, ast.Load)):
            return f"line {line}: .{node.attr} is not allowed"
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            return f"line {line}: decorators are not allowed"
    return ""


def _plain(value: object) -> object:
    """A value that JSON can carry, tuples as lists; TypeError for another."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(part) for part in value]
    raise TypeError(f"a value of type {type(value).__name__} is no number, text or list")


def _limits() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows: only PATIENCE ends a program there
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file can be written; pipes can
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _values(code: str, calls: list[str]):
    """(value, error) of each call."""
    import builtins

    try:
        if len(code) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters")
        tree = ast.parse(code)
        if refused := _refusal(tree):
            raise ValueError(refused)
        names = {"__builtins__": {name: getattr(builtins, name) for name in BUILTINS}}
        exec(compile(tree, "program", "exec"), names)
    except Exception as error:
        yield from [(None, f"{type(error).__name__}: {error}"[:200])] * len(calls)
        return
    for call in calls:
        try:
            tree = ast.parse(call, mode="eval").body
            if refused := _refusal(tree):
                raise ValueError(refused)
            value = _plain(eval(compile(ast.Expression(tree), "call", "eval"), names))
            if len(json.dumps(value)) > LONGEST:
                raise ValueError(f"a value longer than {LONGEST} characters")
            yield value, ""
        except Exception as error:
            yield None, f"{type(error).__name__}: {error}"[:200]


def main() -> None:
    """Read [code, calls], write [value, error] a line for each call."""
    code, calls = json.loads(sys.stdin.buffer.read())
    _limits()
    for outcome in _values(code, calls):
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
