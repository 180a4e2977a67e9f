"""The house: arrows of imports run one way, no circle, rooms and functions of a size that can be read, names that are used.

Read from the source with `ast`, imports within functions too, so that none hides a circle.
"""

import ast
import json
import re
import statistics
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import helper

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("library", "machine", "figures", "", "trainers", "algorithms", "explorers", "exercises")  # "": the topic files
LONGEST, LONGEST_LOOP, MEDIAN = 45, 40, 10  # lines of a function, signature and docstring included
REFERENCE_COURSE = {  # its helpers' names keep their place, whatever the lessons use
    "display_dataset", "generate_responses", "load_model_and_tokenizer", "reward_func", "test_model_with_questions",
}  # fmt: skip
LOOPS = {"train_sft", "train_grpo", "train_ppo", "train_reward_model"}


def modules(folder: str) -> dict[str, ast.Module]:
    """Dotted name -> tree, of all files of a package."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in zip(names, paths)}


def imported(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the project that a file imports anywhere in it, as dotted names."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= parts & known
            found |= {node.module} if parts - known else set()
    return found & known


def arrows(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> the modules of the project that it imports. What a package's own __init__ re-exports is no arrow up."""
    return {name: imported(tree, set(trees)) - {name} for name, tree in trees.items()}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports; nothing where there is none."""
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def floor(name: str) -> int:
    """The floor of helper/ on which a module stands; the package itself stands above all."""
    parts = name.split(".")
    if len(parts) == 1:
        return len(FLOORS)
    return FLOORS.index(parts[1]) if parts[1] in FLOORS else FLOORS.index("")


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Arrows of helper/ that run to a higher floor."""
    return [f"{name} -> {other}" for name, others in graph.items() for other in others if floor(other) > floor(name)]


@pytest.mark.parametrize("folders", [["helper"], ["factory"], ["helper", "factory"]])
def test_no_circle(folders):
    trees = {name: tree for folder in folders for name, tree in modules(folder).items()}
    assert circle(arrows(trees)) == []


def test_arrows_of_helper_run_down():
    assert upward(arrows(modules("helper"))) == []


def test_nothing_imports_notebooks_or_factory_or_tests():
    known = set(modules("helper")) | set(modules("factory"))
    for name, tree in modules("helper").items():
        assert not {other for other in imported(tree, known | {"tests"}) if not other.startswith("helper")}, name


def test_planted_circles_and_arrows_are_found():
    trees = {"helper": "", "helper.machine.a": "def f():\n    from helper.b import c", "helper.b": "import helper.machine.a"}
    graph = arrows({name: ast.parse(source) for name, source in trees.items()})
    assert set(circle(graph)) == {"helper.machine.a", "helper.b"}
    assert upward(graph) == ["helper.machine.a -> helper.b"]
    graph = arrows(
        {
            "factory.x": ast.parse("from factory import y"),
            "factory.y": ast.parse("import factory.x"),
            "factory": ast.parse(""),
        }
    )
    assert circle(graph)


def lengths(trees: dict[str, ast.Module]) -> dict[str, int]:
    """module.function -> its lines, decorators, signature and docstring included."""
    found = {}
    for name, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[f"{name}.{node.name}, line {start}"] = node.end_lineno - start + 1
    return found


def test_functions_can_be_read():
    found = lengths(modules("helper"))
    assert {name: lines for name, lines in found.items() if lines > LONGEST} == {}
    assert statistics.median(found.values()) <= MEDIAN
    loops = {name: lines for name, lines in found.items() if name.split(",")[0].split(".")[-1] in LOOPS}
    assert len(loops) == len(LOOPS) and max(loops.values()) <= LONGEST_LOOP
    planted = ast.parse("@d\ndef long():\n" + "    1\n" * LONGEST)
    assert max(lengths({"x": planted}).values()) == LONGEST + 2


# Names


def cells(path: Path) -> list[ast.Module]:
    """The trees of a notebook's code cells."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [ast.parse("".join(cell["source"])) for cell in notebook["cells"] if cell["cell_type"] == "code"]


def lessons() -> dict[str, list[ast.Module]]:
    paths = [path for path in (ROOT / "notebooks").glob("*.ipynb") if re.match(r"\d\d_", path.name)]
    return {path.stem: cells(path) for path in sorted(paths)}


def ours(tree: ast.Module) -> list[str]:
    """The names of helper that a cell imports."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [alias.name for node in nodes if node.module.split(".")[0] == "helper" for alias in node.names]


def test_each_public_name_serves_two_lessons_or_more():
    assert len(helper.__all__) <= 40
    assert helper.__all__ == sorted(helper.__all__) and all(hasattr(helper, name) for name in helper.__all__)
    used = {
        name: {lesson for lesson, trees in lessons().items() for tree in trees if name in ours(tree)}
        for name in helper.__all__
    }
    few = {name for name, where in used.items() if len(where) < 2}
    assert few <= REFERENCE_COURSE <= set(helper.__all__)


@pytest.mark.parametrize("lesson", lessons())
def test_the_first_import_cell_is_short(lesson):
    first = next(names for tree in lessons()[lesson] if (names := ours(tree)))
    assert len(first) <= 15


def private_names(tree: ast.Module) -> set[str]:
    """The names with one underscore that a file asks objects for, as attributes or through getattr and its like."""
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in GETTERS]
    found |= {arg.value for call in calls for arg in call.args[1:2] if isinstance(arg, ast.Constant)}
    return {name for name in found if re.match("_[a-zA-Z]", str(name))}


def own_names(tree: ast.Module) -> set[str]:
    """The names that a file gives itself: functions, variables, fields, and attributes of `self`."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)]
    return found | {node.attr for node in stored if ast.unparse(node.value) == "self"}


GETTERS = {"getattr", "setattr", "hasattr", "delattr"}
PUBLIC = {"_asdict", "_replace", "_exit"}  # documented: of NamedTuples, where it keeps them apart from fields, and of os


def foreign_names() -> dict[str, set[str]]:
    """File -> the private names in it that no file of the project defines, so that they are a library's."""
    trees = modules("helper") | modules("factory")
    trees |= {f"{lesson}, {number}": tree for lesson, cells in lessons().items() for number, tree in enumerate(cells)}
    own = set().union(*map(own_names, trees.values())) | PUBLIC
    found = {file: private_names(tree) - own for file, tree in trees.items()}
    return {file: names for file, names in found.items() if names}


def test_private_names_of_the_libraries_stand_in_one_room():
    assert set(foreign_names()) <= {"helper.library"}
    assert private_names(ast.parse("a._b.c\ngetattr(d, '_e', None)\nself._f = g.__h__")) == {"_b", "_e", "_f"}
    assert own_names(ast.parse("self._f = 1\na._b = 2\ndef _g(): _h = 3")) == {"_f", "_g", "_h"}
