"""What a page shows of a cell's outputs: one view each, made safe, since a model or a library wrote it."""

from __future__ import annotations

import base64
from html import escape

from bs4 import BeautifulSoup
from nbformat import NotebookNode

from factory.lessons import WIDGETS
from factory.pages.markdown import markdown_html
from factory.pages.notebooks import PICTURES
from factory.pages.safe import safe_output

HEADINGS = ["h1", "h2", "h3"]


def sanitised(html: str, alt: str) -> str:
    """HTML from an output that runs nothing and asks for nothing; pictures have a text (else `alt`)."""
    soup = BeautifulSoup(safe_output(html), "html.parser")
    for picture in soup("img"):
        picture["alt"] = picture.get("alt", "").strip() or alt
        if not picture.get("src"):
            picture.replace_with(picture["alt"])
    return str(soup)


def text_before(notebook: NotebookNode, index: int) -> str:
    """The heading over cell `index` and the last paragraph before it, at most 250 characters: a picture's last resort."""
    heading, paragraph = "", ""
    for cell in reversed(notebook.cells[:index]):
        if cell.cell_type == "markdown":
            soup = BeautifulSoup(markdown_html(cell.source, cell.get("attachments")), "html.parser")
            heading, paragraph = (
                before or "".join([found.get_text(" ", strip=True) for found in soup(names)][-1:])
                for before, names in ((heading, HEADINGS), (paragraph, ["p", "li"]))
            )
        if heading and paragraph:
            break
    text = f"Figure under the heading “{heading}”. {paragraph}" if heading else f"Figure. {paragraph}"
    return text.strip() if len(text) <= 250 else text[:249].rsplit(" ", 1)[0] + "…"


def view(output: NotebookNode, alt: str) -> dict[str, str]:
    """What is shown of an output's bundle: {"text/html": safe HTML} or {"text/plain": text}.

    A picture in HTML (it brings its text) goes before a bare picture, that before a table, that before plain text; a
    widget is never shown itself. The picture's text is the display metadata's, else `alt`.
    """
    data = output.data
    kinds = [kind for kind in PICTURES if kind in data]
    if kinds and "<img" not in data.get("text/html", ""):
        metadata = output.get("metadata", {})
        alt = metadata.get(kinds[0], {}).get("alt") or metadata.get("alt") or alt
        content = data[kinds[0]].strip()
        if kinds[0] == "image/svg+xml":
            content = base64.b64encode(content.encode()).decode()
        html = f'<img src="data:{kinds[0]};base64,{content}" alt="{escape(alt)}">'
        return {"text/html": sanitised(html.replace("\n", ""), alt)}
    if "text/html" in data:
        return {"text/html": sanitised(data["text/html"], alt)}
    if WIDGETS in data:
        return {"text/html": "<p>Something to try out stands here: open the lesson in JupyterLab.</p>"}
    return {"text/plain": data.get("text/plain", "")}


def prepared(notebook: NotebookNode) -> NotebookNode:
    """The notebook with one safe view in each output, and its code in Python, whatever it says of itself."""
    notebook.metadata = NotebookNode(language_info=NotebookNode(name="python"))
    for index, cell in enumerate(notebook.cells):
        cell.metadata.pop("magics_language", None)
        bundles = [output for output in cell.get("outputs", []) if "data" in output]
        if bundles:
            alt = cell.metadata.get("alt") or text_before(notebook, index)
            for output in bundles:
                output.data = NotebookNode(view(output, alt))
    return notebook
