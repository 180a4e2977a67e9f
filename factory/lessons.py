"""The lessons as files: which there are, and how a committed one looks.

A lesson is a notebook `notebooks/NN_name.ipynb`. No code lists the lessons: whoever needs them asks `find_lessons`.
"""

import os
import re
from pathlib import Path

import nbformat

from factory import ROOT

NOTEBOOKS = ROOT / "notebooks"
WIDGETS = "application/vnd.jupyter.widget-view+json"
TAGS = ("parameters", "slide", "solution")  # what the course does with a tag it does by its exact spelling


def find_lessons(folder: Path = NOTEBOOKS) -> list[Path]:
    """The lessons' notebooks in the order of their numbers."""
    return sorted(path for path in folder.glob("*.ipynb") if re.match(r"\d\d_", path.name))


def clean(notebook):
    """The notebook without widget state, timings or what tells machines apart; sources stay."""
    kept = {key: notebook.metadata[key] for key in ("execution", "title") if key in notebook.metadata}
    notebook.metadata.clear()
    notebook.metadata.update(kept)
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata["language_info"] = {
        "name": "python",
        "file_extension": ".py",
        "mimetype": "text/x-python",
    }
    for cell in notebook.cells:
        for key in ("execution", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            kept = [output for output in cell.outputs if not is_widget(output)]
            cell.outputs = [_clean_output(output) for output in merged(kept)]
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)
    return notebook


def merged(outputs: list) -> list:
    """Neighbouring pieces of one stream as one output: how a run was timed must not show in the file."""
    joined = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def is_widget(output) -> bool:
    """Whether an output is a live widget only: without its state (not kept) it would show nothing."""
    data = output.get("data", {})
    return WIDGETS in data and not set(data) & {"image/png", "text/html"}


def _clean_output(output):
    output.get("data", {}).pop(WIDGETS, None)
    output.pop("transient", None)
    home, root = str(Path.home()), str(ROOT)
    for holder, key in (
        (output, "text"),
        (output.get("data", {}), "text/plain"),
        (output.get("data", {}), "text/html"),
    ):
        if isinstance(holder.get(key), str):
            holder[key] = holder[key].replace(root, "~/course")
            if home not in ("/", "/root"):
                holder[key] = holder[key].replace(home, "~")
    return output


def write(path: Path, notebook) -> None:
    """Write a notebook whole or not at all."""
    unfinished = path.with_suffix(".ipynb.unfinished")
    unfinished.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def check(path: Path) -> list[str]:
    """What is wrong with a committed notebook: not executed in order, or not as `run` leaves it."""
    text = path.read_text(encoding="utf-8")
    notebook = nbformat.reads(text, as_version=4)
    wrong = []
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        wrong.append("not executed from top to bottom")
    if nbformat.writes(clean(nbformat.reads(text, as_version=4))).rstrip("\n") != text.rstrip("\n"):
        wrong.append("not as `make lessons` writes it")
    return wrong + unknown_tags(notebook)


def unknown_tags(notebook) -> list[str]:
    """What is tagged with something the course does not know: a cell tagged `solutions` would reach the students."""
    wrong = []
    for number, cell in enumerate(notebook.cells, 1):
        name = f"cell {cell.get('id', number)}"
        tags = cell.metadata.get("tags", [])
        listed = tags if isinstance(tags, list) else [tags]
        wrong += [f"{name}: the tag {tag!r} is not one of {', '.join(TAGS)}" for tag in listed if tag not in TAGS]
        keys = [key for key in cell.metadata if key != "tags" and key.lower().startswith("tag")]
        wrong += [f"{name}: {key!r} in the metadata is not 'tags'" for key in keys]
        if not isinstance(tags, list) and tags in TAGS:
            wrong.append(f"{name}: the tags {tags!r} are no list")
    return wrong
