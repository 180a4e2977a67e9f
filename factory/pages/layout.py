"""The frame of a page: nbconvert's exporter with the course's templates, the style sheet, titles and contents."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from factory.pages.markdown import markdown_html

TEMPLATES = Path(__file__).resolve().parent / "templates"


class Exporter(HTMLExporter):
    """nbconvert's exporter with the course's template."""

    @pass_context
    def markdown2html(self, context, source):
        return markdown_html(source, Path(context["resources"]["metadata"]["path"]))


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
