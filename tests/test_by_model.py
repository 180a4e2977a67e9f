"""The table of what differs by model: one value a column, the same names for all, and every name read by its lesson."""

import json
import re
from types import SimpleNamespace

import pytest

from helper import by_model, load_suites, project_folder
from helper.by_model import TABLES
from helper.data import shipped_datasets

NOTEBOOKS = project_folder() / "notebooks"


def code_of(lesson):
    cells = json.loads((NOTEBOOKS / f"{lesson}.ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def model_of(size):
    return SimpleNamespace(num_parameters=lambda: size)


@pytest.mark.parametrize("lesson", TABLES)
def test_every_entry_has_three_values_and_is_read(lesson):
    read = set(re.findall(r"\bthis\.(\w+)", code_of(lesson)))
    assert read == set(TABLES[lesson])
    assert all(len(values) == 3 for values in TABLES[lesson].values())


@pytest.mark.parametrize(("size", "use_gpu", "column"), [(4e6, False, 0), (4e6, True, 0), (1e8, False, 1), (1e8, True, 2)])
def test_column(size, use_gpu, column):
    this = by_model("02_sft", model_of(size), use_gpu)
    assert this.dataset == TABLES["02_sft"]["dataset"][column]


def test_unknown_lesson():
    with pytest.raises(ValueError, match="02_sft"):
        by_model("2", model_of(1), False)


def test_a_real_model_on_a_cpu_needs_nothing_from_outside():
    for table in TABLES.values():
        assert table["dataset"][1] in shipped_datasets()
        assert all(load_suites(table["suites"][1]).values())


def test_switches_by_model_are_gone_from_the_notebooks():
    words = re.compile(r"\b(OURS|FEW)\b")
    found = {path.name: len(words.findall(code_of(path.stem))) for path in NOTEBOOKS.glob("*.ipynb")}
    assert sum(found.values()) == 0, found
