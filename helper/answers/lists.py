r"""Stage 3, several answers in one: lists ("1, 2 and 3", "x = 1 or x = 2"), pairs, intervals and sets.

A list, a pair and an interval have an order, since it may have been asked for; a set in braces has none, and neither
have alternatives ("x = 1 or x = 2") and parts that all have a name ("x = 1, y = 2"). Brackets of another kind are
another answer. Left out on purpose: "1 \pm 2", matrices.
"""

import re
from itertools import pairwise
from typing import NamedTuple

from helper.answers.names import split_name

_DEPTHS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})++(?![0-9]|,[0-9])")
_CUT = re.compile(r"[,;]\s*(?:and|or|&)\s+|[,;]|\s(?:and|or|&)\s+")


class Several(NamedTuple):
    """Several answers: the brackets around them ("" for none), each with its name, and whether their order counts."""

    brackets: str
    names: list[str]
    values: list[str]
    ordered: bool


def several(text: str) -> Several | None:
    """The answers in a cleaned text that holds more than one; None for a single one."""
    text = text.replace(r"\{", "{").replace(r"\}", "}")
    if not text or not _CUT.search(text):
        return None
    if ", " in text or text[0] not in _DEPTHS:  # elsewhere "(3,100)" is a point
        text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    depths = _depths(text)
    bracketed = depths[0] == 1 and depths[-1] == 0 and 0 not in depths[:-1]
    cuts = [cut for cut in _CUT.finditer(text) if depths[cut.start()] == int(bracketed)]
    if not cuts:
        return None
    starts = [int(bracketed), *(cut.end() for cut in cuts)]
    ends = [*(cut.start() for cut in cuts), len(text) - int(bracketed)]
    parts = [split_name(text[start:end].strip()) for start, end in zip(starts, ends)]
    names, values = [name for name, _ in parts], [value for _, value in parts]
    alternatives = any("or" in cut.group() for cut in cuts) or any(a == b != "" for a, b in pairwise(sorted(names)))
    brackets = text[0] + text[-1] if bracketed else ""
    return Several(brackets, names, values, ordered=not (alternatives or all(names) or brackets == "{}"))


def _depths(text: str) -> list[int]:
    """How many brackets are open at each character."""
    depth, found = 0, []
    for character in text:
        depth += _DEPTHS.get(character, 0)
        found.append(depth)
    return found
