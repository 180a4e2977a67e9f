"""What a page shows of a cell's outputs: one view each, sanitised, since a model or a library wrote it."""

from __future__ import annotations

import base64
import re
from html import escape

import bleach
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from bs4 import BeautifulSoup
from nbformat import NotebookNode

from factory.lessons import NOTEBOOKS, WIDGETS
from factory.pages.markdown import markdown_html

HEADINGS = ["h1", "h2", "h3"]
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
TAGS = bleach.ALLOWED_TAGS | {
    "br", "caption", "col", "colgroup", "dd", "del", "details", "div", "dl", "dt", "h3", "h4", "h5", "h6", "hr", "img",
    "ins", "kbd", "mark", "p", "pre", "s", "small", "span", "sub", "summary", "sup", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "u",
}  # fmt: skip
STYLES = ALLOWED_CSS_PROPERTIES | {"border", "border-bottom", "border-left", "border-radius", "border-right", "border-top"}
STYLES |= {"flex", "flex-wrap", "gap", "margin", "max-width", "min-width", "overflow-wrap", "overflow-x", "padding"}


class Styles(CSSSanitizer):
    """The styles that an output may have: nothing that floats over the page or asks for a file."""

    def sanitize_css(self, style: str) -> str:
        colours = re.sub(r"\bbackground\s*:\s*(#?\w+)\s*(?=;|$)", r"background-color: \1", style)
        return super().sanitize_css(colours)


def sanitised(html: str, alt: str) -> str:
    """HTML from an output: no scripts, handlers, forms or foreign addresses; pictures have a text (else `alt`)."""
    html = re.sub(r"<style\b.*?</style\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)  # pandas' own; bleach would show it
    allowed = {"*": ["class", "style", "title", "colspan", "rowspan", "scope"], "a": _safe_link, "img": _safe_picture}
    clean = bleach.clean(
        html, TAGS, allowed, protocols=["http", "https", "mailto", "data"],
        css_sanitizer=Styles(allowed_css_properties=STYLES),
    )  # fmt: skip
    soup = BeautifulSoup(clean, "html.parser")
    for picture in soup("img"):
        picture["alt"] = picture.get("alt", "").strip() or alt
        if not picture.get("src"):
            picture.replace_with(picture["alt"])
    return str(soup)


def _safe_link(_tag: str, name: str, value: str) -> bool:
    return name == "href" and value.startswith(("#", "http://", "https://"))


def _safe_picture(_tag: str, name: str, value: str) -> bool:
    return name in ("alt", "width", "height", "style") or (
        name == "src" and re.match(r"data:image/(png|jpeg|gif|svg\+xml);base64,", value) is not None
    )


def text_before(notebook: NotebookNode, index: int) -> str:
    """The heading over cell `index` and the last paragraph before it, at most 250 characters: a picture's last resort."""
    heading, paragraph = "", ""
    for cell in notebook.cells[:index]:
        if cell.cell_type == "markdown":
            soup = BeautifulSoup(markdown_html(cell.source, NOTEBOOKS), "html.parser")
            heading = ([heading] + [found.get_text(" ", strip=True) for found in soup(HEADINGS)])[-1]
            paragraph = ([paragraph] + [found.get_text(" ", strip=True) for found in soup(["p", "li"])])[-1]
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
    """The notebook with one safe view in each output."""
    for index, cell in enumerate(notebook.cells):
        bundles = [output for output in cell.get("outputs", []) if "data" in output]
        if bundles:
            alt = cell.metadata.get("alt") or text_before(notebook, index)
            for output in bundles:
                output.data = NotebookNode(view(output, alt))
    return notebook
