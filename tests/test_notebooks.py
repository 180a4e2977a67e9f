"""The rules every lesson keeps: each a function that names the faults, itself tested on planted ones."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if re.match(r"\d\d_", path.name)]
NOISE = re.compile(r"\b\w*Warning\b|\bwarnings\.warn\b|^WARNING\b|Traceback \(most recent", re.MULTILINE)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [(n, output) for n, cell in enumerate(notebook.cells) for output in cell.get("outputs", [])]


def headings(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return [heading.casefold() for heading in re.findall(r"^#+\s+(.*)", text, re.MULTILINE)]


def missing_headings(notebook):
    return [word for word in ("goals", "recap") if not any(word in heading for heading in headings(notebook))]


def wrong_parameters(notebook):
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    return [] if len(tagged) == 1 else [f"{len(tagged)} cells are tagged parameters, not 1"]


def wrong_counts(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"execution counts {counts}"]


def widget_state(notebook):
    faults = ["state in the metadata"] if "widgets" in notebook.metadata else []
    widgets = [n for n, out in outputs(notebook) if any("widget" in mime for mime in out.get("data", {}))]
    return faults + [f"cell {n}: a widget" for n in widgets]


def noise(notebook):
    faults = []
    for n, output in outputs(notebook):
        text = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        if output.output_type == "error" or output.get("name") == "stderr":
            faults.append(f"cell {n}: {output.get('ename', 'stderr')} {output.get('evalue', text)[:80]}")
        elif NOISE.search(text):
            faults.append(f"cell {n}: {NOISE.search(text).group()}")
    return faults


def long_cells(notebook):
    lengths = [
        (n, len(cell.source.strip().splitlines())) for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"
    ]
    return [f"cell {n}: {lines} lines" for n, lines in lengths if lines > 20]


def no_timeout(notebook):
    timeout = notebook.metadata.get("execution", {}).get("timeout")
    return [] if isinstance(timeout, int) and timeout >= 300 else ["no execution.timeout of 300 or more in the metadata"]


def machine_paths(notebook):
    paths = re.compile(r"/(?:home|root|Users|tmp|work)/\w+")
    texts = [(n, out.get("text", "") + "".join(map(str, out.get("data", {}).values()))) for n, out in outputs(notebook)]
    return [f"cell {n}: {paths.search(text).group()}" for n, text in texts if paths.search(text)]


def sys_path(notebook):
    return [f"cell {n}" for n, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "sys.path" in cell.source]


RULES = [
    missing_headings, wrong_parameters, wrong_counts, widget_state, noise, long_cells, no_timeout,
    machine_paths, sys_path,
]  # fmt: skip


@pytest.mark.skipif(not LESSONS, reason="no notebooks yet")
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_lesson(path, rule):
    assert rule(nbformat.read(path, as_version=4)) == []


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_size_and_format(path):
    assert path.stat().st_size < 1_000_000
    nbformat.validate(nbformat.read(path, as_version=4))


def good_notebook():
    parameters = new_code_cell("SEED = 0", execution_count=1, metadata={"tags": ["parameters"]})
    shown = new_code_cell("print(1)", execution_count=2, outputs=[new_output("stream", name="stdout", text="1\n")])
    cells = [new_markdown_cell("# 02 SFT\n## Goals"), parameters, shown, new_markdown_cell("## Recap")]
    return new_notebook(cells=cells, metadata={"execution": {"timeout": 1800}})


def plant_output(**fields):
    return lambda notebook: notebook.cells[2].outputs.append(new_output(**fields))


def set_source(text):
    return lambda notebook: notebook.cells[2].update(source=text)


PLANTED = [
    (missing_headings, lambda notebook: notebook.cells.pop(3)),
    (missing_headings, lambda notebook: notebook.cells[0].update(source="Goals of the day")),
    (wrong_parameters, lambda notebook: notebook.cells[1].metadata.clear()),
    (wrong_parameters, lambda notebook: notebook.cells[2].metadata.update(tags=["parameters"])),
    (wrong_counts, lambda notebook: notebook.cells[2].update(execution_count=3)),
    (wrong_counts, lambda notebook: notebook.cells[1].update(execution_count=None)),
    (widget_state, lambda notebook: notebook.metadata.update(widgets={})),
    (
        widget_state,
        plant_output(output_type="display_data", data={"application/vnd.jupyter.widget-view+json": {}}),
    ),
    (noise, plant_output(output_type="error", ename="ValueError", evalue="x", traceback=[])),
    (noise, plant_output(output_type="stream", name="stderr", text="x")),
    (noise, plant_output(output_type="stream", name="stdout", text="a.py:3: FutureWarning: old")),
    (
        noise,
        plant_output(output_type="display_data", data={"text/plain": "Traceback (most recent call last)"}),
    ),
    (long_cells, set_source("a = 1\n" * 21)),
    (no_timeout, lambda notebook: notebook.metadata.clear()),
    (no_timeout, lambda notebook: notebook.metadata.update(execution={"timeout": 60})),
    (machine_paths, plant_output(output_type="stream", name="stdout", text="saved to /home/ann/course")),
    (sys_path, set_source("import sys; sys.path.append('..')")),
]


@pytest.mark.parametrize(("rule", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_planted_fault_is_found(rule, plant):
    notebook = good_notebook()
    assert all(check(notebook) == [] for check in RULES)
    plant(notebook)
    assert rule(notebook)
