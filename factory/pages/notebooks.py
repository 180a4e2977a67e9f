"""A lesson's notebook as a file: read and valid, or refused in one line that names the cell."""

from __future__ import annotations

import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

from factory.lessons import unknown_tags
from factory.pages import RenderError, places

DEEPEST = 50  # lists and dicts in one another; what copies and writes notebooks goes one call deeper for each
SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which no file can hold
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")


def read_notebook(source: str) -> NotebookNode:
    """The notebook at a path relative to the project, with tags and texts that mean something. Raises RenderError."""
    try:
        notebook = nbformat.read(places.ROOT / source, as_version=4)
        parts = [(f"cell {cell.get('id', number)}", cell) for number, cell in enumerate(notebook.cells, 1)]
        parts.append(("the notebook", {"metadata": notebook.metadata}))
        wrong = [f"{name}: {fault}" for name, part in parts for fault in _faults(part)][:1] or unknown_tags(notebook)
        if not wrong:
            nbformat.validate(notebook)
    except Exception as error:  # nbformat raises a dozen kinds for what is no notebook
        raise RenderError(f"{source} cannot be read: {_reason(error)}") from error
    if wrong:
        raise RenderError(f"{source}: {'; '.join(wrong)}")
    return notebook


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    said = isinstance(error, OSError | ValueError | nbformat.reader.NotJSONError | nbformat.ValidationError)
    return str(error).splitlines()[0] if said and str(error) else "it is no notebook"


def _faults(part: NotebookNode) -> list[str]:
    """What of a cell, or of the metadata, could not be shown or written."""
    if max(depth for _, depth in _values(part)) > DEEPEST:
        return ["it is nested too deep"]
    if any(isinstance(value, str) and SURROGATE.search(value) for value, _ in _values(part)):
        return ["it holds half a character (a surrogate), which no file can hold: take it out"]
    wrong = [text for text in _texts(part) if not isinstance(text, str)]
    return [f"its metadata say {text!r:.60} where a picture's text belongs" for text in wrong]


def _values(whole: object) -> Iterator[tuple[object, int]]:
    """A value and all that it holds, keys too, each with how deep it lies."""
    waiting = [(whole, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        inside = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
        waiting += [(piece, depth + 1) for piece in inside]


def _texts(cell: NotebookNode) -> Iterator[object]:
    """What stands where a cell's pictures have their texts, in its metadata and its outputs'."""
    for holder in (cell, *cell.get("outputs", [])):
        metadata = holder.get("metadata", {})
        yield metadata.get("alt", "")
        for kind in PICTURES:
            of_kind = metadata.get(kind, {})
            yield of_kind.get("alt", "") if isinstance(of_kind, dict) else [of_kind]
