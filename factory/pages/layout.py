"""The frame of a page: nbconvert's exporter with the course's templates, the style sheet, titles and contents."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from bs4 import BeautifulSoup
from jinja2 import pass_context
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from factory.pages.markdown import markdown_html, words

TEMPLATES = Path(__file__).resolve().parent / "templates"
# What a page may do. `base-uri` and `form-action` do not follow from `default-src`; a script runs if its hash is named.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"


class Exporter(HTMLExporter):
    """nbconvert's exporter with the course's template."""

    @pass_context
    def markdown2html(self, context, source):
        return markdown_html(source, context.get("cell", {}).get("attachments"))


@cache
def exporter() -> Exporter:
    return Exporter(template_name="course", extra_template_basedirs=[str(TEMPLATES)])


def template(name: str, script: str = "", **values) -> str:
    """One of the templates beside this file, filled in; `script` is the only one that its page runs."""
    loader = exporter().environment
    values |= {"style": style(), "script": script, "policy": policy(script)}
    return loader.from_string((TEMPLATES / name).read_text("utf-8")).render(**values)


def policy(script: str) -> str:
    """The content policy of a page that runs this script and no other; "" for none at all."""
    if not script:
        return POLICY
    return f"{POLICY}; script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


@cache
def style() -> str:
    """The style sheet, with syntax colours for light and dark screens, and the font of brackets that grow."""
    light, dark = (HtmlFormatter(style=name).get_style_defs(".highlight") for name in ("default", "github-dark"))
    colours = f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}"
    font = base64.b64encode((TEMPLATES / "brackets.woff2").read_bytes()).decode()  # brackets.txt says where it is from
    brackets = f'@font-face {{ font-family: "Brackets"; src: url(data:font/woff2;base64,{font}); }}'
    return f"{brackets}\n{colours}\n{(TEMPLATES / 'style.css').read_text('utf-8')}"


def title(soup: BeautifulSoup) -> str:
    heading = soup.find("h1")
    return words(heading) if heading else "Untitled"


def page(soup: BeautifulSoup, place: str, previous: dict | None = None, following: dict | None = None) -> str:
    """A whole page around its content; `previous` and `following` are the neighbours' titles and addresses."""
    contents = [{"id": heading["id"], "text": words(heading), "level": heading.name[1]} for heading in soup(["h2", "h3"])]
    root = "../" * place.count("/")
    language = re.search(r"\.([a-z]{2}(-[A-Z]{2})?)\.html$", place)  # what is around the content is in English
    values = {"previous": previous, "next": following, "contents": contents, "root": root, "lang": language and language[1]}
    return template("page.html.j2", title=title(soup), body=soup, **values)
