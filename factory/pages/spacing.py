"""How the signs of a formula stand to one another: what LaTeX does, and a browser does only if it is told.

LaTeX sees whether a minus is a sign or stands between two things, which bar opens and which closes, and that a function's
name keeps its distance. Left out on purpose: spaces inside of scripts, which LaTeX makes smaller.
"""

from __future__ import annotations

import unicodedata
from xml.etree.ElementTree import Element

from latex2mathml.commands import FUNCTIONS

SCRIPTS = ("msub", "msup", "msubsup", "munder", "mover", "munderover")
ORDINARY = set("∞∅")  # signs that stand like letters
LETTERLIKE = set("∀∁∂∃∄∇⊤⊥∠!′")  # those of them that browsers know to stand so
SIGNS = set("+−±∓")
BARS = set("|‖")
OPENING, CLOSING = set("([{⟨⌊⌈"), set(")]}⟩⌋⌉")
THIN = "0.17em"


def operators(element: Element) -> None:
    """Signs as operators, which the converter takes for letters (±, ‖, :), and ∞ as a letter."""
    text = element.text or ""
    if element.tag == "mi" and len(text) == 1 and text not in ORDINARY:
        if unicodedata.category(text) in ("Sm", "Ps", "Pe") or text in "‖:;,":
            element.tag = "mo"
    elif element.tag == "mo" and text in ORDINARY:
        element.tag = "mi"


def spaced(row: Element) -> None:
    """Give the signs and names of a row the places they have in LaTeX."""
    for bar, form in _pairs(row):
        bar.set("form", form)
    beside_table = any(child.tag == "mtable" for child in row)
    before = None
    for child in row:
        sign = core(child)
        if sign.tag == "mo" and sign.text in OPENING | CLOSING | BARS and not (beside_table or "minsize" in sign.attrib):
            sign.attrib.setdefault("stretchy", "false")  # only \\left and \\right let brackets grow
        if sign.tag == "mo" and sign.text in SIGNS and len(row) > 1 and before in (None, "open", "between", "name"):
            sign.attrib.setdefault("form", "prefix")
        if _kind(child) == "name" and sign.tag == "mo":
            sign.attrib = {"lspace": "0", "rspace": "0"} | sign.attrib
        before = before if _kind(child) == "space" else _kind(child)
    _names_apart(row)


def core(element: Element) -> Element:
    """What the scripts of an element stand at, out of rows that hold nothing else."""
    while (element.tag in SCRIPTS and len(element)) or (element.tag == "mrow" and len(element) == 1):
        element = element[0]
    return element


def _pairs(row: Element) -> list[tuple[Element, str]]:
    """The bars that stand around something, with their forms: an even number of them in the same brackets."""
    whole, open_ones = [], [[]]
    for sign in map(core, row):
        if sign.tag == "mo" and sign.text in OPENING:
            open_ones.append([])
        elif sign.tag == "mo" and sign.text in CLOSING and len(open_ones) > 1:
            whole.append(open_ones.pop())
        elif sign.tag == "mo" and sign.text in BARS and "form" not in sign.attrib:
            open_ones[-1].append(sign)
    alike = [[bar for bar in bars if bar.text == text] for bars in whole + open_ones for text in BARS]
    even = [bars for bars in alike if len(bars) % 2 == 0]
    return [(bar, ("prefix", "postfix")[place % 2]) for bars in even for place, bar in enumerate(bars)]


def _kind(element: Element) -> str:
    """What an element is to its neighbours: a name, a thing, a sign, between two things, opening, closing, a space."""
    sign = core(element)
    text = sign.text or ""
    if sign.tag == "mspace" or (sign.tag == "mtext" and not text.strip()):
        return "space"
    if sign.tag == "mi" and f"\\{text}" in FUNCTIONS:
        return "name"
    if sign.tag != "mo" or text in LETTERLIKE:
        return "thing"
    if text in CLOSING or sign.get("form") == "postfix":
        return "close"
    if text in OPENING:
        return "open"
    if sign.get("form") == "prefix":
        return "sign" if text in SIGNS else "open"
    return "name" if len(text) > 1 and text[0].isalpha() and text != "mod" else "between"


def _names_apart(row: Element) -> None:
    """A thin space on both sides of a function's name, unless a bracket, a space or what stands between two is there."""
    for place in range(len(row) - 1, -1, -1):
        if _kind(row[place]) != "name":
            continue
        behind = [_kind(child) for child in row[place + 1 : place + 2] if _kind(child) != "open" or core(child).text in BARS]
        if behind and behind[0] in ("thing", "sign", "name", "open"):
            row.insert(place + 1, Element("mspace", width=THIN))
        if place and _kind(row[place - 1]) in ("thing", "close", "sign"):
            row.insert(place, Element("mspace", width=THIN))
