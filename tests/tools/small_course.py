"""A course of one lesson, made of given cells, and what in its pages would run or ask for something."""

import json
import re
from pathlib import Path

from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_notebook, new_output

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="


def shown(data, metadata=None):
    """A code cell with one output bundle."""
    return new_code_cell("x", outputs=[new_output("display_data", data=data, metadata=metadata or {})])


def put_lesson(root: Path, *cells, **metadata) -> None:
    """Write the cells, counted as if they had been executed, as lesson 01 of the course at `root`."""
    for number, cell in enumerate([cell for cell in cells if cell.cell_type == "code"], start=1):
        cell.execution_count = number
    (root / "notebooks").mkdir(exist_ok=True)
    notebook = new_notebook(metadata=metadata) | {"cells": list(cells)}  # nbformat would not take what is not valid
    (root / "notebooks" / "01_a.ipynb").write_text(json.dumps(notebook), encoding="utf-8")


def requests(soup: BeautifulSoup) -> list[str]:
    """What in a page would run, or be asked for when it is opened."""
    found = [
        str(tag)[:80] for tag in soup(["link", "iframe", "object", "embed", "form", "base", "video", "audio", "source"])
    ]
    found += [str(tag)[:80] for tag in soup("script") if tag.attrs]
    for tag in soup(True):
        found += [
            f"{tag.name} {name}" for name in tag.attrs if name.startswith("on") or name in ("srcset", "background", "ping")
        ]
        found += [f"{tag.name} src" for _ in [0] if "src" in tag.attrs and not tag["src"].startswith("data:image/")]
        found += [
            f"{tag.name} href"
            for _ in [0]
            if re.match(r"\s*(javascript|data|vbscript):", tag.get("href", ""), re.IGNORECASE)
        ]
        styles = tag.get("style", "") + (tag.get_text() if tag.name == "style" else "")
        asked = r"url\((?!data:font/woff2;base64,)|@import|expression\("
        found += [f"{tag.name}: {what}" for what in re.findall(asked, styles)]
    return found
