"""Static pages for what is no picture: facts and tables, escaped, on white ground with dark text in any theme.

Every text that a model, a data set or a student wrote is escaped; no mark is by colour alone.
Left out on purpose: anything that moves (`helper.explorers`).
"""

from html import escape
from typing import NamedTuple

PAGE = "background:#ffffff;color:#1a1a1a;padding:10px;font-size:14px;line-height:1.5;max-width:760px"
CELL = "background:#ffffff;color:#1a1a1a;border:1px solid #999999;padding:4px 8px;text-align:left;vertical-align:top"
TEXT = "white-space:pre-wrap;overflow-wrap:anywhere"  # line ends as written, and no text wider than its place


class View(NamedTuple):
    """What an explorer shows: in plain words (also the picture's alternative text), and as HTML."""

    words: str
    html: str


def in_words(message: str) -> View:
    """A view that only says something: bad input, an error, what is going on."""
    return View(message, page(f"<p>{escape(message)}</p>"))


def page(*parts: str) -> str:
    """The parts on white ground; MathJax is told to leave their dollar signs alone."""
    return f'<div class="tex2jax_ignore mathjax_ignore" style="{PAGE}">{"".join(parts)}</div>'


def fact_list(facts: dict[str, str]) -> str:
    items = "".join(f'<li style="{TEXT}"><b>{escape(name)}</b>: {escape(text)}</li>' for name, text in facts.items())
    return f'<ul style="margin:6px 0;padding-left:20px">{items}</ul>'


def text_table(columns: list[str], rows: list[list[str]]) -> str:
    head = "".join(f'<th scope="col" style="{CELL}">{escape(column)}</th>' for column in columns)
    lines = [
        f'<th scope="row" style="{CELL}">{escape(first)}</th>'
        + "".join(f'<td style="{CELL};{TEXT}">{escape(cell)}</td>' for cell in others)
        for first, *others in rows
    ]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table style="border-collapse:collapse"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
