"""LaTeX formulas as MathML, shown as JupyterLab shows them.

latex2mathml converts; this file translates what it does not know, and gives browsers what they know: MathML Core has no
`mathvariant` but "normal", no lines in tables; `spacing` sets the spaces.
Left out on purpose: numbers of equations and references to them, as in JupyterLab; links, classes and styles (`\\href` …).
"""

from __future__ import annotations

import re
import unicodedata
from html import unescape
from xml.etree.ElementTree import Element, tostring

from latex2mathml.converter import convert_to_element

from factory.pages import RenderError
from factory.pages.spacing import operators, spaced

ALIGNED = ("align", "align*", "aligned", "alignat", "alignat*", "alignedat", "flalign", "flalign*", "split")
CENTRED = ("gather", "gather*", "gathered", "multline", "multline*")
ONE_LINE = ("equation", "equation*", "displaymath", "math")
KNOWN = ("array", "cases", "matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "Vmatrix", "smallmatrix", "matrix*")
BRACKETS = {"p": "()", "b": "[]", "B": (r"\{", r"\}"), "v": "||", "V": (r"\|", r"\|")}
ENVIRONMENTS = {  # what stands at the beginning and the end, for latex2mathml
    **{name: (rf"\begin{{{name}}}", rf"\end{{{name}}}") for name in KNOWN},
    **dict.fromkeys(ALIGNED, (r"\begin{align*}", r"\end{align*}")),
    **dict.fromkeys(CENTRED, (r"\begin{displaylines}", r"\end{displaylines}")),
    **dict.fromkeys(ONE_LINE, ("{", "}")),
    **dict.fromkeys(("eqnarray", "eqnarray*"), (r"\begin{array}{rcl}", r"\end{array}")),
    **{f"{name}matrix*": (rf"\left{a}\begin{{matrix*}}", rf"\end{{matrix*}}\right{b}") for name, (a, b) in BRACKETS.items()},
    "dcases": (r"\begin{cases}", r"\end{cases}"),
    "rcases": (r"\left.\begin{array}{ll}", r"\end{array}\right\}"),
}
PLACED = re.compile(r"\\(begin|end)\s*\{([A-Za-z]+\*?)\}(?:(?<=d\}|t\}|y\})\[[tbc]\])?(?:(?<=at\}|t\*\})\s*\{\d+\})?")
REWRITTEN = (  # patterns and what stands for them: LaTeX in LaTeX that the converter knows
    (r"\\(nonumber|notag)(?![A-Za-z])|\\label\s*\{[^}]*\}", ""),
    (r"\\tag\s*\{([^}]*)\}", r"\\qquad\\text{(\1)}"),
    (r"\\tag\*\s*\{([^}]*)\}", r"\\qquad\\text{\1}"),
    (r"\\\\\*?\s*\[-?[\d.]+\s*[a-z]{2}\]", r"\\\\"),  # a line's end with a distance
    (r"\\text(?:rm|normal)?\s*\{([^{}]*\$[^{}]*)\}", r"\\hbox{\1}"),  # the only one that reads formulas in its text
    (r"\\text\w*\s*\{[^{}]*\}", lambda text: re.sub(r"\\([&%$#_])", r"\1", text[0])),
    (r"\\\\|\\&", lambda found: r"\text{&}" if found[0] == r"\&" else found[0]),
    (r"\\operatorname\*?\s*\{[^}]*\}", lambda name: re.sub(r"\\[,;: ]", "\u2009", name[0])),
)
SAFE = re.compile(r"[\w#%.,+ -]*")
ATTRIBUTES = {
    "accent", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence", "form", "height",
    "largeop", "linethickness", "lspace", "mathbackground", "mathcolor", "mathsize", "mathvariant", "maxsize", "minsize",
    "movablelimits", "notation", "rowlines", "rowspacing", "rspace", "scriptlevel", "separator", "stretchy", "voffset",
    "width",
}  # fmt: skip
WIDTHS = {
    "thinmathspace": "0.167em", "thickmathspace": "0.278em", "negativethinmathspace": "-0.167em",
    "negativemediummathspace": "-0.222em", "negativethickmathspace": "-0.278em",
}  # fmt: skip
VARIANTS = {"bold-italic": "BOLD ITALIC", "sans-serif-italic": "SANS-SERIF ITALIC"}
LIMITS = set("∑∏∐⋃⋂⨁⨂⨄⋁⋀") | {"lim", "max", "min", "sup", "inf"}
UNDER = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
LINES = {"mover": "‾", "munder": "_"}
ROWS = ("math", "mrow", "mstyle", "mtd", "mphantom", "mpadded", "msqrt")


def mathml(latex: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML; `display` is "inline" or "block". Raises RenderError."""
    latex = latex.strip()
    try:
        tree = convert_to_element(_translated(latex), display=display)
        for change in (_stripped, _laid_out, _set_apart):
            for element in list(tree.iter()):
                change(element)
    except Exception as error:  # the converter raises a dozen kinds
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise RenderError(f"no MathML for the formula {latex!r}: {reason}") from error
    tree.set("xmlns", "http://www.w3.org/1998/Math/MathML")
    return tostring(tree, encoding="unicode")


def _translated(latex: str) -> str:
    """The formula in words that latex2mathml knows. ValueError for an unknown environment."""

    def environment(found: re.Match) -> str:
        if found[2] not in ENVIRONMENTS:
            raise ValueError(f"\\begin{{{found[2]}}} is not known")
        return ENVIRONMENTS[found[2]][found[1] == "end"]

    for pattern, replacement in REWRITTEN:
        latex = re.sub(pattern, replacement, latex)
    return PLACED.sub(environment, latex)


def _stripped(element: Element) -> None:
    """Text in place of the converter's entities, and no attribute with which an author could do more than set a formula."""
    element.text = unescape(element.text or "")
    unknown = re.match(r"\\[A-Za-z]+", element.text)
    if unknown or (element.tag == "mi" and element.text == "&"):
        raise ValueError(f"{unknown[0]} is not known" if unknown else "an & outside of a table")
    element.attrib = {name: value for name, value in element.attrib.items() if name in ATTRIBUTES and SAFE.fullmatch(value)}


def _laid_out(element: Element) -> None:
    """What MathML says in ways that browsers have given up, or the converter leaves out, in ways that they know."""
    variant = element.get("mathvariant", "normal")
    if element.tag in ("mi", "mn") and variant != "normal":
        del element.attrib["mathvariant"]
        element.text = "".join(_letter(letter, variant) for letter in element.text)
    operators(element)
    if element.tag in UNDER and "minsize" in element[0].attrib:  # Chromium would set this bracket lower than its partner
        row = Element("mrow")
        row.append(element[0])
        element[0] = row
    if element.tag in ("mi", "mo") and len(element):  # \\mathrel and its like: a token holds text only
        element.tag = "mrow"
    if element.tag == "mspace":
        element.set("width", WIDTHS.get(element.get("width"), element.get("width", "0")))
    if element.tag in UNDER and (element[0].text in LIMITS or element[0].get("movablelimits")):
        element.tag = UNDER[element.tag]
        element[0].set("movablelimits", "true")
    if element.tag in LINES and element[1].text == "―":  # which does not grow as long as what it stands at
        element[1].text, element[1].attrib = LINES[element.tag], {"stretchy": "true"}
    if element.tag == "mtable":
        _ruled(element)
    if element.tag == "mtd":
        _styled_whole(element)


def _styled_whole(cell: Element) -> None:
    """A cell whose \\displaystyle holds all that follows, not nothing."""
    for place, child in enumerate(cell):
        if child.tag == "mstyle" and not len(child):
            child.extend(cell[place + 1 :])
            del cell[place + 1 :]


def _letter(letter: str, variant: str) -> str:
    """A letter or digit in bold, script and so on, as Unicode has it; the letter itself where there is none."""
    style = VARIANTS.get(variant, variant.upper())
    name = re.sub("^(LATIN|GREEK) | LETTER", "", unicodedata.name(letter, ""))
    for words in (f"MATHEMATICAL {style} {name}", f"{style} {name}", f"{style} {name}".replace("FRAKTUR", "BLACK-LETTER")):
        try:
            return unicodedata.lookup(words)
        except KeyError:
            continue
    return letter


def _ruled(table: Element) -> None:
    """Lines between columns and rows, which browsers draw only as borders of cells."""
    columns, rows = (table.attrib.pop(f"{name}lines", "").split() for name in ("column", "row"))
    for number, row in enumerate(table):
        for place, cell in enumerate(row):
            right = columns[place] if place < min(len(columns), len(row) - 1) else "none"
            below = rows[number] if number < min(len(rows), len(table) - 1) else "none"
            lines = [f"border-{side}: thin {line}" for side, line in (("right", right), ("bottom", below)) if line != "none"]
            if lines:
                cell.set("style", "; ".join(lines))


def _set_apart(element: Element) -> None:
    """The spaces in a row, once all that stands in it is what it will be."""
    if element.tag in ROWS:
        spaced(element)
        _grown(element)


def _grown(row: Element) -> None:
    """Bars around a matrix that are as high as it is; browsers know that of the other brackets."""
    for place, child in enumerate(row):
        if child.tag == "mtable":
            for beside in (*row[max(place - 1, 0) : place], *row[place + 1 : place + 2]):
                if beside.tag == "mo" and beside.text in ("|", "‖"):
                    beside.set("stretchy", "true")
