"""What HTML of others may hold: an author's, a model's, a library's. What is not named here does not reach a page.

Left out on purpose: ids, the classes of the site, forms, frames, media, SVG and MathML; pictures are files of the course
or stand in the page. The style sheet keeps what is let through inside of its place (`contain`).
"""

from __future__ import annotations

import re

import bleach
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES
from bleach.html5lib_shim import Filter
from pygments.token import STANDARD_TYPES

TAGS = bleach.ALLOWED_TAGS | {
    "br", "caption", "col", "colgroup", "dd", "del", "details", "div", "dl", "dt", "h3", "h4", "h5", "h6", "hr", "img",
    "ins", "kbd", "mark", "p", "pre", "s", "small", "span", "sub", "summary", "sup", "table", "tbody", "td", "tfoot",
    "th", "thead", "tr", "u",
}  # fmt: skip
STYLES = ALLOWED_CSS_PROPERTIES | {"border", "border-bottom", "border-left", "border-radius", "border-right", "border-top"}
STYLES |= {"flex", "flex-wrap", "gap", "margin", "max-width", "min-width", "overflow-wrap", "overflow-x", "padding"}
PICTURE = re.compile(r"data:image/(png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=\s]*")
OF_AUTHORS = {"h1", "h2", "center", "figcaption", "figure", "input"}  # input: the box of a task, which cannot be ticked


NUMBER = r"(?:\d{1,3}(?:\.\d+)?|\.\d+)(?:px|em|rem|ex|ch|pt|pc|cm|mm|in|%)?"  # not negative, nor huge
PART = rf"{NUMBER}|#[0-9a-f]{{3,8}}|(?:rgb|hsl)a?\([\d., %/]+\)|[a-z]+(?:-[a-z]+)*"  # of a style's value
VALUE = re.compile(f"(?:{PART})(?:(?: | ?, ?)(?:{PART}))*", re.IGNORECASE | re.ASCII)
CLASSES = {"dataframe", "highlight", *STANDARD_TYPES.values()}  # pandas' and Pygments'; the others are the site's own


class Styles:
    """The styles that HTML may have: known names with plain values, which ask for no file and lift nothing over the page."""

    def sanitize_css(self, style: str) -> str:
        kept = []
        for declaration in style.split(";"):
            name, _, value = declaration.partition(":")
            name, value = name.strip().lower(), " ".join(value.split())
            name = "background-color" if name == "background" else name
            if name in STYLES and VALUE.fullmatch(value):
                kept.append(f"{name}: {value}")
        return "; ".join(kept)


class Classes(Filter):
    """HTML without classes to which the site's style sheet or script would give a meaning."""

    def __iter__(self):
        for token in super().__iter__():
            names = token["data"].get((None, "class")) if token["type"] in ("StartTag", "EmptyTag") else None
            if names is not None:
                kept = " ".join(name for name in names.split() if name in CLASSES)
                token["data"] = {key: value for key, value in token["data"].items() if key != (None, "class")}
                token["data"] |= {(None, "class"): kept} if kept else {}
            yield token


def _safe_link(_tag: str, name: str, value: str) -> bool:
    return name == "href" and value.startswith(("#", "http://", "https://"))


def _safe_picture(_tag: str, name: str, value: str) -> bool:
    return name in ("alt", "title", "width", "height", "style") or (name == "src" and PICTURE.fullmatch(value) is not None)


def _authors_picture(tag: str, name: str, value: str) -> bool:
    """A picture in the page, or any other address: `places.embedded` finds the file, or says that there is none."""
    return _safe_picture(tag, name, value) or (name == "src" and not re.match(r"\s*data:", value, re.IGNORECASE))


def _task_box(_tag: str, name: str, value: str) -> bool:
    return name in ("checked", "disabled") or (name, value) == ("type", "checkbox")


ATTRIBUTES = ["class", "style", "title", "colspan", "rowspan", "scope"]
OUTPUTS = bleach.Cleaner(
    TAGS,
    {"*": ATTRIBUTES, "a": _safe_link, "img": _safe_picture},
    ["http", "https", "data"],
    filters=[Classes],
    css_sanitizer=Styles(),
)
AUTHORS = bleach.Cleaner(
    TAGS | OF_AUTHORS,
    {
        "*": [*ATTRIBUTES, "align"], "a": ["href"], "details": ["open"], "img": _authors_picture, "input": _task_box,
        "ol": ["start"],
    },
    ["http", "https", "mailto", "data", "attachment"],
    filters=[Classes],
    css_sanitizer=Styles(),
)  # fmt: skip


def safe_output(html: str) -> str:
    """HTML from an output: no scripts, handlers, forms or foreign addresses. pandas' own <style> goes with what it holds."""
    return OUTPUTS.clean(_without("style", html))


def safe_markdown(html: str) -> str:
    """HTML made from Markdown: as from an output, with an author's headings, relative links and pictures."""
    return AUTHORS.clean(_without("script|style", html))


def _without(tags: str, html: str) -> str:
    """HTML without these elements and what stands in them, which would else be shown as text."""
    return re.sub(rf"<({tags})\b.*?</\1\s*>", "", html, flags=re.DOTALL | re.IGNORECASE)
