"""The slides of a lesson: `<site>/slides/NN_name.html`.

They hold the text and the outputs; code is folded, except in cells tagged `slide`, and left out where it has no output, as
are solutions. Left out on purpose: themes, transitions and speaker notes.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from factory.pages import RenderError
from factory.pages.content import body
from factory.pages.layout import TEMPLATES, template, title
from factory.pages.markdown import words
from factory.pages.outputs import HEADINGS
from factory.pages.places import lesson_sources


def write_slides(stem: str, site: Path) -> Path:
    """Build the slides of one lesson, as `<site>/slides/<stem>.html`. Raises RenderError."""
    soup = body(f"notebooks/{stem}.ipynb", f"slides/{stem}.html")
    script = (TEMPLATES / "slides.js").read_text("utf-8")
    html = template("slides.html.j2", script, title=title(soup), stem=stem, slides=slide_parts(soup))
    path = site / "slides" / f"{stem}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".html.unfinished")
        unfinished.write_text(html, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise RenderError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def slide_parts(soup: BeautifulSoup) -> list[str]:
    """The slides of a lesson as HTML: new at each heading and text, and where a long output finds no room."""
    slides: list[list[Tag]] = []
    heading = ""
    for cell in soup.select("section.cell"):
        again = BeautifulSoup(f"<h2>{escape(heading)}</h2>", "html.parser").h2
        if cell.find("details", class_="solution", recursive=False):
            continue
        if "text" in cell["class"]:
            for number, child in enumerate(cell.find_all(recursive=False)):
                if child.name in HEADINGS:
                    heading = words(child)
                    if not slides or any(part.name not in HEADINGS for part in slides[-1]):
                        slides.append([])
                elif number == 0:
                    slides.append([again] if heading else [])
                slides[-1].append(child)
        elif shown := _shown(cell):
            if not slides or (_is_full(slides[-1]) and not _is_small(shown[-1])):
                slides.append([again])
            slides[-1] += shown
    return ["\n".join(map(str, slide)) for slide in slides]


def _shown(cell: Tag) -> list[Tag]:
    """What a slide shows of a code cell: its outputs, and its code, folded unless the cell is tagged `slide`."""
    code, output, marked = cell.select_one(".input"), cell.select_one(".output"), "marked" in cell["class"]
    if not (output or marked):
        return []
    if not marked:
        code = BeautifulSoup(f"<details><summary>Code</summary>{code}</details>", "html.parser").details
    return [code, output] if output else [code]


def _is_full(slide: list[Tag]) -> bool:
    """Whether a slide holds an output already, or so much text that one would not fit beside it."""
    return any("output" in part.get("class", []) for part in slide) or sum(len(part.get_text()) for part in slide) > 500


def _is_small(output: Tag) -> bool:
    """Whether an output is a line or two, too little for a slide of its own."""
    text = output.get_text().strip()
    return len(text) <= 200 and text.count("\n") < 3 and not output(["img", "table", "math"]) and "output" in output["class"]


def lesson_stem(number: str) -> str:
    """The name of the lesson whose file begins with `number`. Raises RenderError for none or several."""
    stems = [Path(source).stem for source in lesson_sources()]
    found = [stem for stem in stems if number and stem.startswith(number)]
    if len(found) != 1:
        raise RenderError(f"no lesson is called {number!r}; there are {', '.join(stems)}")
    return found[0]
