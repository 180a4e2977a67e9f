"""The course as pages that need no network, the slides of a lesson, and the copy that students get.

    python -m factory.render site         _site/: an index, a page for each lesson, the documents
    python -m factory.render slides 02    _site/slides/02_sft.html
    python -m factory.render student      _student/: the course without solutions, lessons not executed

Pages are made from the committed, executed notebooks by nbconvert with the templates beside this file. A page asks for
nothing outside itself: styles and pictures stand in it, formulas are MathML, and its content policy forbids the rest.
What a model or a library wrote as HTML is sanitised. Left out on purpose: search, live widgets (their picture is
shown), scripts (but for the slides' keys). Slides hold the text and the outputs; code is folded, except in
cells tagged `slide`, and left out where it has no output, as are solutions, themes, transitions and speaker notes.
"""

from __future__ import annotations

import argparse
import base64
import json
import posixpath
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from html import escape
from pathlib import Path

import bleach
import nbformat
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from bs4 import BeautifulSoup, Tag
from jinja2 import pass_context
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from factory.run_lessons import WIDGETS, check

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "templates"
SITE, STUDENT = ROOT / "_site", ROOT / "_student"
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")
STUDENT_FILES = ("helper", "data", "docs", "requirements.txt", "pyproject.toml", "LICENSE", ".gitignore")
NOT_FOR_STUDENTS = ("build", "__pycache__", ".ipynb_checkpoints", "*.egg-info", "*.unfinished", "instructors.md")
STUDENT_TARGETS = (".PHONY", "install", ".venv/installed", "lab")
MISSING_THERE = re.compile(
    r"make (test|check|lessons|data|record|render|student|slides)|pytest|factory|tests/|CONTRIBUTING|instructors"
)
HEADINGS = ["h1", "h2", "h3"]
NUMBER = re.compile(r"[-+]?\d|(True|False|None|nan|-?inf)?$", re.IGNORECASE)  # the cells that are set at the right
PICTURES = ("image/svg+xml", "image/png", "image/jpeg")
TAGS = bleach.ALLOWED_TAGS | {
    "br", "caption", "col", "colgroup", "dd", "del", "details", "div", "dl", "dt", "h3", "h4", "h5", "h6", "hr", "img",
    "ins", "kbd", "mark", "p", "pre", "s", "small", "span", "sub", "summary", "sup", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "u",
}  # fmt: skip
STYLES = ALLOWED_CSS_PROPERTIES | {"border", "border-bottom", "border-left", "border-radius", "border-right", "border-top"}
STYLES |= {"flex", "flex-wrap", "gap", "margin", "max-width", "min-width", "overflow-wrap", "overflow-x", "padding"}


class RenderError(Exception):
    """What cannot be built, and what to do about it, in a line."""


# What stands in a page ------------------------------------------------------------------------------------------------


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML; `display` is "inline" or "block". Raises RenderError."""
    try:
        formula = convert(latex.strip(), display=display)
    except Exception as error:  # the converter raises a dozen kinds
        raise RenderError(f"no MathML for the formula {latex.strip()!r}: {type(error).__name__} {error}") from error
    unknown = re.search(r">(\\[A-Za-z]+)", formula)
    if unknown:
        raise RenderError(f"no MathML for the formula {latex.strip()!r}: {unknown[1]} is not known")
    space = '<mspace width="0.17em"/>'  # which the converter leaves out after a function's name
    return re.sub(r"(<mi>(?:log|ln|exp)</mi>)(?!<mo[^>]*>&#x00028;)", rf"\1{space}", formula)


class Renderer(IPythonRenderer):
    """Markdown to HTML, with formulas as MathML."""

    def block_math(self, body: str) -> str:
        return f'<span class="formula" tabindex="0" role="group" aria-label="Formula">{mathml(body, "block")}</span>'

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def latex_environment(self, name: str, body: str) -> str:
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def block_html(self, html: str) -> str:
        """As it stands: nbconvert parses each piece, and so ends a <details> before the text that it should fold."""
        return f"{html}\n"

    def inline_html(self, html: str) -> str:
        return html


def markdown_html(source: str, folder: Path = ROOT) -> str:
    """Markdown as HTML; its pictures, relative to `folder`, are put into the page."""
    renderer = Renderer(escape=False, exclude_anchor_links=True, embed_images=True, path=str(folder))
    return MarkdownWithMath(renderer=renderer).render(source)


class Exporter(HTMLExporter):
    """nbconvert's exporter with the course's template."""

    @pass_context
    def markdown2html(self, context, source):
        return markdown_html(source, ROOT / "notebooks")


@cache
def exporter() -> Exporter:
    return Exporter(template_name="course", extra_template_basedirs=[str(TEMPLATES)])


def template(name: str, **values) -> str:
    """One of the templates beside this file, filled in."""
    loader = exporter().environment
    return loader.from_string((TEMPLATES / name).read_text("utf-8")).render(style=style(), **values)


@cache
def style() -> str:
    """The style sheet, with syntax colours for light and dark screens."""
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    return f"{colours}\n{(TEMPLATES / 'style.css').read_text('utf-8')}"


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
            soup = BeautifulSoup(markdown_html(cell.source), "html.parser")
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


# Pages and their links ------------------------------------------------------------------------------------------------


def sources() -> list[str]:
    """Everything that becomes a page, relative to the project: lessons first, then documents."""
    lessons = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb"))
    return lessons + [path.relative_to(ROOT).as_posix() for name in DOCUMENTS for path in sorted(ROOT.glob(name))]


def html_name(source: str) -> str:
    return str(Path(source).with_suffix(".html").as_posix())


def slug(text: str) -> str:
    """A heading's id, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") or "section"


def linked(href: str, source: str, place: str) -> str | None:
    """Where a link of `source` leads from the page at `place`; None for a folder. Raises RenderError for a dead link."""
    if re.match(r"[a-z][a-z0-9+.-]*:", href, re.IGNORECASE):
        return href
    path, _, fragment = href.partition("#")
    if not path:
        return "#" + slug(fragment)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target.startswith("..") or not (ROOT / target).exists():
        raise RenderError(f"{source}: the link to {href} leads nowhere")
    if (ROOT / target).is_dir():
        return None
    page = html_name(target) if target in sources() else target
    start = posixpath.relpath(page, posixpath.dirname(place) or ".")
    return f"{start}#{slug(fragment)}" if fragment else start


def finished(html: str, source: str, place: str) -> BeautifulSoup:
    """HTML with ids on its headings, tables in boxes that scroll, and links that lead somewhere from `place`."""
    soup = BeautifulSoup(html, "html.parser")
    taken: dict[str, int] = {}
    for heading in soup(["h1", "h2", "h3", "h4"]):
        name = slug(heading.get_text())
        taken[name] = taken.get(name, -1) + 1
        heading["id"] = f"{name}-{taken[name]}" if taken[name] else name
    for table in soup("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "box", "tabindex": "0", "role": "group", "aria-label": "Table"}))
        for cell in table.select("thead th"):
            cell["scope"] = "col"
        if "dataframe" in table.get("class", []):
            legible(table)
    for link in soup("a", href=True):
        target = linked(link["href"], source, place)
        if target is None:
            link.unwrap()
        else:
            link["href"] = target
    for picture in soup("img", src=re.compile(r"^(?!data:)")):
        picture["src"] = embedded(picture["src"], source)
    return soup


def legible(table: Tag) -> None:
    """Mark a data frame's columns of words, which start at the left, and let long column names break after / and _."""
    columns = list(zip(*(row("td") for row in table.select("tbody tr"))))
    for row in table.select("thead tr"):
        for head, column in zip(row("th")[-len(columns) :], columns):
            if not all(NUMBER.match(cell.get_text(strip=True)) for cell in column):
                for cell in (head, *column):
                    cell["class"] = "words"
    for head in table.select("thead th"):
        name = re.sub(r"([/_])(?=\w)", r"\1<wbr>", escape(head.get_text(strip=True)))
        head.clear()
        head.append(BeautifulSoup(name, "html.parser"))


def embedded(src: str, source: str) -> str:
    """The picture that `src` names in `source`, as a data address. Raises RenderError where there is none."""
    path = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(source), src))
    if path.suffix != ".png" or not path.is_file():
        raise RenderError(f"{source}: the picture {src} is not a .png file of the course")
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def body(source: str, place: str) -> BeautifulSoup:
    """The content of a notebook or a document as it stands at `place` in the site. Raises RenderError."""
    path = ROOT / source
    try:
        if path.suffix == ".md":
            return finished(markdown_html(path.read_text("utf-8"), path.parent), source, place)
        if "not executed from top to bottom" in check(path):
            raise RenderError(f"{source} is not executed from top to bottom: run `make lessons` first")
        notebook = prepared(nbformat.read(path, as_version=4))
        return finished(exporter().from_notebook_node(notebook)[0], source, place)
    except RenderError as error:
        raise error if source in str(error) else RenderError(f"{source}: {error}") from error
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        raise RenderError(f"{source} cannot be read: {error}") from error


def title(soup: BeautifulSoup) -> str:
    heading = soup.find("h1")
    return heading.get_text(" ", strip=True) if heading else "Untitled"


def page(soup: BeautifulSoup, place: str, previous: dict | None = None, following: dict | None = None) -> str:
    """A whole page around its content; `previous` and `following` are the neighbours' titles and addresses."""
    contents = [
        {"id": heading["id"], "text": heading.get_text(" ", strip=True), "level": heading.name[1]}
        for heading in soup(["h2", "h3"])
    ]
    root = "../" * place.count("/")
    values = {"previous": previous, "next": following, "contents": contents, "root": root}
    return template("page.html.j2", title=title(soup), body=soup, **values)


def recorded_minutes(stem: str) -> float | None:
    """The median minutes of the recorded runs of a lesson, as the README's table has it."""
    path = ROOT / "data" / "recorded" / "lessons.json"
    runs = json.loads(path.read_text("utf-8")) if path.exists() else []
    seconds = [run["lesson_seconds"] for run in runs if run["lesson"] == stem]
    return statistics.median(seconds) / 60 if seconds else None


def index_page(contents: dict[str, BeautifulSoup]) -> str:
    """What the course is (the README down to its list of lessons), each lesson's time and goals, the documents."""
    introduction = (ROOT / "README.md").read_text("utf-8").split("\n## The lessons")[0]
    lessons, documents = [], []
    for source, soup in contents.items():
        entry = {"href": html_name(source), "title": title(soup)}
        if source.endswith(".ipynb"):
            goals, time = soup.find(id="goals"), soup.find("strong", string=re.compile("^Time"))
            entry["goals"] = goals.find_next("ul") if goals else ""
            entry["time"] = re.split(r";|\bNeeds:", time.parent.get_text())[0].strip() + "." if time else ""
            lessons.append(entry | {"minutes": recorded_minutes(Path(source).stem)})
        else:
            documents.append(entry | {"title": "README"} if source == "README.md" else entry)
    introduction = finished(markdown_html(introduction), "README.md", "index.html")
    html = template("index.html.j2", introduction=introduction, lessons=lessons, documents=documents)
    return page(BeautifulSoup(html, "html.parser"), "index.html")


# What is built --------------------------------------------------------------------------------------------------------


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends well; else the old one stays."""
    new = None
    try:
        new = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
        new.chmod(0o755)
        yield new
        old = new.with_name(f"{new.name}-old")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise RenderError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if new:
            shutil.rmtree(new, ignore_errors=True)


def build_site(folder: Path = SITE) -> int:
    """Build the whole site anew, with the slides it had; the number of pages. Raises RenderError."""
    slides = sorted(path.stem for path in (folder / "slides").glob("*.html"))
    contents = {source: body(source, html_name(source)) for source in sources()}
    lessons = [source for source in contents if source.endswith(".ipynb")]
    pages = {"index.html": index_page(contents)}
    for source, soup in contents.items():
        at = lessons.index(source) if source in lessons else None
        around = [None, None] if at is None else [lessons[at - 1] if at else None, (lessons[at + 1 :] or [None])[0]]
        near = [{"href": Path(html_name(name)).name, "title": title(contents[name])} if name else None for name in around]
        pages[html_name(source)] = page(soup, html_name(source), *near)
    with replaced(folder) as new:
        for place, html in pages.items():
            (new / place).parent.mkdir(parents=True, exist_ok=True)
            (new / place).write_text(html, encoding="utf-8")
            _copy_linked(html, place, new)
        for stem in slides:
            if f"notebooks/{stem}.ipynb" in lessons:
                write_slides(stem, new)
    return len(pages)


def _copy_linked(html: str, place: str, site: Path) -> None:
    """Copy the project's own files that a page links to and that are no pages."""
    for link in BeautifulSoup(html, "html.parser")("a", href=True):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link["href"].partition("#")[0]))
        if ":" not in link["href"] and (ROOT / target).is_file():
            (site / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / target, site / target)


def slide_parts(soup: BeautifulSoup) -> list[str]:
    """The slides of a lesson as HTML: a new one at each heading, at each text, and where an output finds no room."""
    slides: list[list[Tag]] = []
    heading = ""
    for cell in soup.select("section.cell"):
        again = BeautifulSoup(f"<h2>{escape(heading)}</h2>", "html.parser").h2
        if "text" in cell["class"]:
            for number, child in enumerate(cell.find_all(recursive=False)):
                if child.name in HEADINGS:
                    heading = child.get_text(" ", strip=True)
                    if not slides or any(part.name not in HEADINGS for part in slides[-1]):
                        slides.append([])
                elif number == 0:
                    slides.append([again] if heading else [])
                slides[-1].append(child)
        elif shown := _shown(cell):
            if not slides or _is_full(slides[-1]):
                slides.append([again])
            slides[-1] += shown
    return ["\n".join(map(str, slide)) for slide in slides]


def _shown(cell: Tag) -> list[Tag]:
    """What a slide shows of a code cell: its outputs, and its code, folded unless the cell is tagged `slide`."""
    code, output, marked = cell.select_one(".input"), cell.select_one(".output"), "marked" in cell["class"]
    if cell.select_one(".solution") or not (output or marked):
        return []
    if not marked:
        code = BeautifulSoup(f"<details><summary>Code</summary>{code}</details>", "html.parser").details
    return [code, output] if output else [code]


def _is_full(slide: list[Tag]) -> bool:
    """Whether a slide holds an output already, or so much text that one would not fit beside it."""
    return any("output" in part.get("class", []) for part in slide) or sum(len(part.get_text()) for part in slide) > 500


def write_slides(stem: str, site: Path = SITE) -> Path:
    """Build the slides of one lesson, as `<site>/slides/<stem>.html`. Raises RenderError."""
    soup = body(f"notebooks/{stem}.ipynb", f"slides/{stem}.html")
    html = template("slides.html.j2", title=title(soup), stem=stem, slides=slide_parts(soup))
    path = site / "slides" / f"{stem}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".html.unfinished")
        unfinished.write_text(html, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise RenderError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def lesson_stem(number: str) -> str:
    """The name of the lesson whose file begins with `number`. Raises RenderError for none or several."""
    stems = [Path(source).stem for source in sources() if source.endswith(".ipynb")]
    found = [stem for stem in stems if number and stem.startswith(number)]
    if len(found) != 1:
        raise RenderError(f"no lesson is called {number!r}; there are {', '.join(stems)}")
    return found[0]


# The students' copy ---------------------------------------------------------------------------------------------------


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """The notebook without the cells tagged `solution`, not executed."""
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def student_makefile(text: str) -> str:
    """The Makefile with the targets that work without tests/ and factory/."""
    blocks = re.split(r"\n{2,}", text.strip())
    targets = [re.match(r"([\w./-]+):(?!=)", block) for block in blocks]
    kept = [block for block, target in zip(blocks, targets) if not target or target[1] in STUDENT_TARGETS]
    lines = [line for line in "\n\n".join(kept).splitlines() if not re.match(r"# *make (?!lab)|#   ", line)]
    phony = re.sub(r"^\.PHONY:.*", ".PHONY: lab install", "\n".join(lines), flags=re.MULTILINE)
    return phony.strip() + "\n"


def student_readme(text: str) -> str:
    """The README without what speaks of things that students do not get: such lines of code, else such paragraphs."""
    kept = []
    for block in re.split(r"\n{2,}", text):
        if re.search(r"^(```|    |\|)", block, re.MULTILINE):
            block = "\n".join(line for line in block.splitlines() if not MISSING_THERE.search(line))
        if not MISSING_THERE.search(block):
            kept.append(block)
    return "\n\n".join(kept)


def build_student(folder: Path = STUDENT) -> int:
    """Build the students' copy anew; the number of lessons in it. Raises RenderError."""
    lessons = [source for source in sources() if source.endswith(".ipynb")]
    with replaced(folder) as new:
        for name in STUDENT_FILES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, new / name, ignore=shutil.ignore_patterns(*NOT_FOR_STUDENTS))
            else:
                shutil.copyfile(ROOT / name, new / name)
        (new / "notebooks").mkdir()
        for source in lessons:
            notebook = without_answers(nbformat.read(ROOT / source, as_version=4))
            (new / source).write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
        for name, shortened in {"Makefile": student_makefile, "README.md": student_readme}.items():
            (new / name).write_text(shortened((ROOT / name).read_text("utf-8")), encoding="utf-8")
    return len(lessons)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("site", "slides", "student"))
    parser.add_argument("lesson", nargs="?", default="", help="for slides: the lesson's number, such as 02")
    options = parser.parse_args()
    try:
        if options.what == "slides":
            print(f"slides: {write_slides(lesson_stem(options.lesson)).relative_to(ROOT)}")
        elif options.what == "site":
            print(f"{build_site()} pages: open {SITE.name}/index.html")
        else:
            print(f"{build_student()} lessons without solutions: {STUDENT.name}/")
    except RenderError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
