"""Markdown to safe HTML, with formulas as MathML.

Formulas are taken out before Markdown is read, as JupyterLab does it: no `_` or `|` in them means anything there. In code
they come back as they were written. Amounts of money are no formulas; there JupyterLab sees one in "$5 and $6".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from copy import copy
from typing import NamedTuple
from urllib.parse import unquote

from bs4 import BeautifulSoup, Tag
from mistune import BlockParser, InlineParser
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from factory.pages import RenderError
from factory.pages.formulas import mathml
from factory.pages.safe import PICTURE, safe_markdown

LINE = r"(?:(?!\n[ \t]*\n).)"  # a character, unless a paragraph ends there
PIECES = re.compile(
    rf"""
    ^[ \t>]*(?:(?:[-*+]|\d+[.)])[ \t]+)*(?P<fence>`{{3,}}|~{{3,}})[^\n`]*\n.*?(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)
    | (?<!`)(?P<ticks>`+)(?!`){LINE}+?(?<!`)(?P=ticks)(?!`)
    | \\\\\[(?P<bracket>{LINE}+?)\\\\\] | \\\\\((?P<parenthesis>{LINE}+?)\\\\\)
    | \\begin\{{(?P<name>[A-Za-z]+\*?)\}}(?:(?!\\begin\{{(?P=name)\}}){LINE}
        |\\begin\{{(?P=name)\}}{LINE}*?\\end\{{(?P=name)\}})*?\\end\{{(?P=name)\}}
    | \\[\\$`]
    | \$\$(?!\s*\$)(?P<dollars>{LINE}+?)\$\$
    | (?<!\$)\$(?![\$\s]*\$)
      (?P<dollar>(?:\\.|\{{[^{{}}$\n]*(?:\$[^{{}}$\n]*\$[^{{}}$\n]*)+\}}|(?!\n[ \t]*\n)[^\\$])+?)\$(?!\$)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


class Formula(NamedTuple):
    """A formula as it was written, without its delimiters, and "inline" or "block"."""

    written: str
    latex: str
    display: str


class Renderer(IPythonRenderer):
    """Markdown to HTML, with an author's HTML as it stands: nbconvert would end a <details> before what it should fold."""

    def block_html(self, html: str) -> str:
        return f"{html}\n"

    def inline_html(self, html: str) -> str:
        return html

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """With its address as it stands: `markdown_html` and `places.embedded` find the picture."""
        return super(IPythonRenderer, self).image(text, url, title)


def markdown_html(source: str, attachments: Mapping | None = None) -> str:
    """Markdown as HTML that runs nothing; `attachments` are the cell's pasted pictures. Raises RenderError."""
    mark = hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()  # which the source cannot hold
    text, formulas = without_formulas(source, mark)
    parsers = {"block": BlockParser(), "inline": InlineParser()}
    html = MarkdownWithMath(Renderer(escape=False, exclude_anchor_links=True), **parsers).render(text)
    soup = BeautifulSoup(safe_markdown(html), "html.parser")
    _put_back(soup, formulas, mark)
    for picture in soup("img", src=re.compile("^attachment:")):
        picture["src"] = _attached(unquote(picture["src"].removeprefix("attachment:")), attachments or {})
    for picture in soup("img", src=False):
        picture.replace_with(picture.get("alt", ""))
    for box in soup("input"):
        box["disabled"] = ""
    return str(soup)


def words(tag: Tag) -> str:
    """The text of a heading in one line; of its formulas too, with the spaces that they show and no others."""
    for space in (copied := copy(tag))(["mspace", "br"]):
        space.replace_with(" ")
    return " ".join(copied.get_text().split())


def without_formulas(source: str, mark: str = "") -> tuple[str, list[Formula]]:
    """Markdown with marks and numbers in the place of its formulas, and these."""
    pieces, formulas, start, place = [], [], 0, 0
    while found := PIECES.search(source, place):
        place = found.end()
        block = found["bracket"] or found["dollars"] or (found[0] if found["name"] else "")
        inline = found["parenthesis"] or found["dollar"] or ""
        if found["dollar"] and _is_money(inline, source[: found.start()], source[place:]):
            place = found.start() + 1
        elif block or inline:
            pieces.append(f"{source[start : found.start()]}\ue000{mark}-{len(formulas)}\ue001")
            formulas.append(Formula(found[0], block or inline, "block" if block else "inline"))
            start = place
    return "".join([*pieces, source[start:]]), formulas


def _is_money(body: str, before: str, behind: str) -> bool:
    """Whether the text between two dollars stands between two amounts, as in "$5 and $6", "5$ and 6$", "$ 5 and $ 6"."""
    if re.match(r"[+-]?\.?\d", body):
        return body[-1].isspace() or re.match(r"\.?\d", behind) is not None
    if re.match(r"\s\.?\d", body) and re.match(r"\s\.?\d", behind):
        return True
    return re.search(r"\d ?$", before[-2:]) is not None and re.match(r"[\s.,;:)]", body) is not None


def _put_back(soup: BeautifulSoup, formulas: list[Formula], mark: str) -> None:
    """Formulas where their marks stand; in code and in attributes as they were written."""
    held = re.compile(f"(?:\ue000|%EE%80%80){mark}-(\\d+)(?:\ue001|%EE%80%81)")  # an address has it encoded

    def written(found: re.Match) -> str:
        return formulas[int(found[1])].written

    for tag in soup(True):
        for name in {"alt", "href", "src", "title"} & set(tag.attrs):
            tag[name] = held.sub(written, tag[name])
    for text in soup.find_all(string=held):
        if text.find_parent(["code", "pre"]):
            text.replace_with(held.sub(written, text))
            continue
        for number, piece in enumerate(held.split(text)):
            text.insert_before(_shown(formulas[int(piece)]) if number % 2 else piece)
        text.extract()


def _shown(formula: Formula) -> BeautifulSoup:
    html = mathml(formula.latex, formula.display)
    if formula.display == "block":
        html = f'<span class="formula" tabindex="0" role="group" aria-label="Formula">{html}</span>'
    else:
        html = f'<span class="inline">{html}</span>'
    return BeautifulSoup(html, "html.parser")


def _attached(name: str, attachments: Mapping) -> str:
    """A pasted picture as a data address. Raises RenderError for a missing one, and for what is no picture."""
    for kind in ("image/png", "image/jpeg", "image/gif", "image/svg+xml"):
        content = attachments.get(name, {}).get(kind)
        address = f"data:{kind};base64,{''.join(content or '')}"
        if content and PICTURE.fullmatch(address):
            return address
    raise RenderError(f"the attachment {name!r} is no picture, or missing: paste it again")
