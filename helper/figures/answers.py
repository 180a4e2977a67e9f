"""Answers before and after side by side, with the words that changed marked."""

import difflib
import re
from html import escape

from helper.figures.figure import show


def show_side_by_side(
    questions: list[str],
    before: list[str],
    after: list[str],
    right_before: list[bool] | None = None,
    right_after: list[bool] | None = None,
) -> None:
    """Show two answers to each question side by side, with the words that changed marked.

    Struck through: only before; underlined: only after. In a terminal [-so-] and {+so+}. `right_before` and
    `right_after` add a sign and a word to each answer. Raises ValueError when the lists differ in length.
    """
    columns = [list(column) for column in (questions, before, after)]
    for right in (right_before, right_after):
        columns.append([None] * len(columns[0]) if right is None else list(right))
    if len({len(column) for column in columns}) != 1:
        raise ValueError(f"Lists of one length are wanted, not {', '.join(str(len(column)) for column in columns)}.")
    rows, lines = [], []
    for number, (question, old, new, old_right, new_right) in enumerate(zip(*columns, strict=True), start=1):
        parts = changed_words(old or "(nothing)", new or "(nothing)")
        rows.append(
            f"<tr>{_cell(escape(question))}{_cell(_verdict(old_right) + _marked(parts[0], 'del'))}"
            f"{_cell(_verdict(new_right) + _marked(parts[1], 'ins'))}</tr>"
        )
        lines += [f"{number}. {question}", f"   before: {_verdict(old_right)}{_bracketed(parts[0], '[-', '-]')}",
                  f"   after:  {_verdict(new_right)}{_bracketed(parts[1], '{+', '+}')}"]  # fmt: skip
    head = "".join(
        f'<th scope="col" style="text-align: left; width: {width}">{name}</th>'  # a long question leaves room
        for name, width in (("question", "28%"), ("before", "36%"), ("after", "36%"))
    )
    caption = "Struck through: only before. Underlined: only after."
    show(
        f'<table class="tex2jax_ignore mathjax_ignore"><caption>{caption}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>",
        "\n".join(lines),
    )


def changed_words(before: str, after: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in parts (text, whether its words are in this one only), compared word by word.

    The parts joined are the text.

    >>> changed_words("I am Sprout.", "I am Deep Sprout.")[1]
    [('I am ', False), ('Deep', True), (' ', False), ('Sprout.', False)]
    """
    old, new = (re.findall(r"^\s+|\S+\s*", text) for text in (before, after))  # a word and the space after it
    matcher = difflib.SequenceMatcher(None, [word.strip() for word in old], [word.strip() for word in new], autojunk=False)
    parts = [], []
    for kind, *places in matcher.get_opcodes():
        for side, words in zip(parts, (old[places[0] : places[1]], new[places[2] : places[3]]), strict=True):
            text = "".join(words)
            end = len(text) if kind == "equal" else len(text.rstrip())
            side += [(text[:end], kind != "equal")] * (end > 0) + [(text[end:], False)] * (end < len(text))
    return parts


def _cell(html: str) -> str:
    return f'<td style="text-align: left; vertical-align: top; white-space: pre-wrap">{html}</td>'


def _verdict(right: bool | None) -> str:
    return "" if right is None else "✓ right: " if right else "✗ wrong: "


def _marked(parts: list[tuple[str, bool]], tag: str) -> str:
    """The parts as HTML, the changed ones in `tag`; underline or strike stand in the style, which themes may reset."""
    line = "line-through" if tag == "del" else "underline"
    tint = "rgba(213, 94, 0, 0.18)" if tag == "del" else "rgba(0, 114, 178, 0.22)"
    look = f'style="text-decoration: {line}; background-color: {tint}; color: inherit"'
    return "".join(f"<{tag} {look}>{escape(text)}</{tag}>" if changed else escape(text) for text, changed in parts)


def _bracketed(parts: list[tuple[str, bool]], opening: str, closing: str) -> str:
    return "".join(f"{opening}{text}{closing}" if changed else text for text, changed in parts)
