"""Reads a student's cell before it runs: what no exercise needs, and what could reach the check or this machine.

The walls keep the machine; this keeps the check, which runs in the same process as what it checks. It is a sieve, not
a proof: who gets through it can forge a verdict, of their own exercise (docs/security.md).
Left out on purpose: cheating that is no attack, such as a copied answer.
"""

from __future__ import annotations

import ast
import re

MODULES = {
    "__future__", "abc", "bisect", "cmath", "collections", "copy", "dataclasses", "decimal", "difflib", "enum", "fractions",
    "functools", "heapq", "itertools", "json", "math", "numbers", "numpy", "operator", "pandas", "random", "re", "scipy",
    "statistics", "string", "textwrap", "torch", "typing", "unicodedata", "warnings",
}  # fmt: skip
NAMES = {
    "breakpoint", "compile", "delattr", "eval", "exec", "get_ipython", "getattr", "globals", "input", "locals", "open",
    "setattr", "vars",
}  # fmt: skip
ATTRIBUTES = {  # ways from a harmless module to the interpreter, to the check, to files and to other programs
    "attrgetter", "builtins", "checking", "cpp_extension", "ctypes", "ctypeslib", "exercises", "f_back",
    "f_globals", "f_locals", "fromfile", "gc", "gi_frame", "hub", "importlib", "inspect", "io", "load", "loadtxt", "memmap",
    "methodcaller", "open", "os", "pathlib", "pickle", "read_csv", "read_pickle", "save", "subprocess", "sys", "system",
    "tb_frame", "threading", "tofile",
}  # fmt: skip
DUNDERS = {"__init__", "__call__", "__len__", "__getitem__", "__iter__", "__next__", "__name__", "__doc__", "__repr__"}
CHECKERS = re.compile(r"helper\.exercises(\.|$)")


def prepared(source: str) -> str:
    """A cell without its magics (lines that begin with %), which change nothing that is checked."""
    return re.sub(r"^[ \t]*%.*", "pass", source, flags=re.MULTILINE)


def suspicious(source: str, known: str = "") -> str:
    """The first thing in a cell for which it is not run, in words; "" for none.

    `known`: a cell of ours with the imports that the exercise may use. Raises SyntaxError for what is no Python.
    """
    tree, ours = ast.parse(source), ast.parse(known)
    allowed = {(module, name) for node in ast.walk(ours) for module, name in _imported(node)}
    modules = {name for node in [*ast.walk(ours), *ast.walk(tree)] for name in _bound(node)}
    for node in ast.walk(tree):
        if why := _reason(node, allowed, modules):
            return f"line {getattr(node, 'lineno', 1)}: {why}"
    return ""


def _reason(node: ast.AST, allowed: set, modules: set[str]) -> str:
    for module, name in set(_imported(node)) - allowed:
        own = module.split(".")[0] == "helper" and not CHECKERS.match(module) and not CHECKERS.match(f"{module}.{name}")
        if not own and module.split(".")[0] not in MODULES:
            return f"imports {module}"
        if name in ATTRIBUTES or any(part in ATTRIBUTES for part in module.split(".")):
            return f"imports {name} of {module}"
    if isinstance(node, ast.Name) and (node.id in NAMES or _dunder(node.id)):
        return f"uses {node.id}"
    if isinstance(node, ast.Attribute) and (node.attr in ATTRIBUTES or _private(node)):
        return f"uses .{node.attr}"
    if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load) and _root(node) in modules:
        return f"changes {ast.unparse(node)}"
    return ""


def _imported(node: ast.AST) -> list[tuple[str, str]]:
    """(module, name) of what a line imports; the name is "" for a whole module."""
    if isinstance(node, ast.Import):
        return [(alias.name, "") for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
    return []


def _bound(node: ast.AST) -> list[str]:
    """The names that an import gives."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    return []


def _dunder(name: str) -> bool:
    return name.startswith("__") and name not in DUNDERS


def _private(node: ast.Attribute) -> bool:
    """Whether it is a private attribute of something that the student's own class is not: `random._os` leads outside."""
    own = _root(node) in ("self", "cls") and not node.attr.startswith("__")
    return node.attr.startswith("_") and node.attr not in {*DUNDERS, "_asdict", "_replace"} and not own


def _root(node: ast.AST) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
