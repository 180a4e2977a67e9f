r"""Stage 3, algebra: which cleaned answers may be handed to `helper.symbolic`, and as what.

Only short expressions in a small alphabet, with no number left to compute: "x + 1", "2\sqrt{3}", "x > 5". One root and
one power pass for numbers ("\sqrt{16}", "2^{10}", "10^{-3}").
Left out on purpose: towers of powers and everything that could run for hours.
"""

import re

from helper.answers.names import split_name
from helper.answers.numbers import quantity
from helper.answers.spellings import PRODUCT
from helper.symbolic import same_expressions

_COMMANDS = "frac|sqrt|cdot|times|pi|infty|cup|le|ge|sin|cos|tan|log|ln|exp|alpha|beta|gamma|theta|lambda|mu|phi"
_ALLOWED = re.compile(
    rf"(?:[0-9]+|[-+*/^_=<>()\[\]{{}},\s]|\\(?:{_COMMANDS})(?![a-zA-Z])"
    rf"|(?:sqrt|sin|cos|tan|log|ln|exp|pi|{PRODUCT}|[a-zA-Z])(?![a-zA-Z]))++"
)
_LETTER = re.compile(r"(?:\\[a-zA-Z]+|(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z]))|([a-zA-Z])")
_BARE_NAME = re.compile(r"(?<![a-zA-Z\\])(?:sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z])")
_DECIMAL = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]+)(?![0-9.])")
_MATHS_SIGN = re.compile(r"[0-9^\\+*/=<>-]")
_SUM_OF_NUMBERS = re.compile(
    r"(?<![\^0-9._/a-zA-Z])[0-9]+\s*(?:[-+]\s*[0-9]+(?!\s*[0-9^._a-zA-Z\\(])"
    r"|(?:\*|\\cdot|\\times)\s*[0-9]+(?!\s*[0-9^]))"
)
_SCIENTIFIC = re.compile(r"[0-9.][eE][-+]?[0-9]")  # algebra would take the "e" for Euler's number
_HUGE_POWER = re.compile(r"\^[\s{(+-]*(?:[0-9]{4}|[0-9]+\s*\^)")
_ROOT_OR_POWER = re.compile(
    r"-?\s*(?:\\?sqrt\s*(?:\[[0-9]+\])?\s*[{(]?[0-9.]+[)}]?|[0-9.]+\s*(?:\^|\*\*)\s*(?:-?[0-9]+|\{-?[0-9]+\}))"
)
_RELATION = re.compile(r"[<>=]|\\[lg]e(?![a-zA-Z])")


def same_by_algebra(left: list[str], right: list[str], ordered: bool = True) -> bool:
    """Whether the answers are equal by algebra, one by one or in any order; False where algebra may not be asked."""
    ours, theirs = (tuple(as_latex(text) for text in texts) for texts in (left, right))
    return len(ours) == len(theirs) and same_expressions(ours, theirs, ordered)


def may_be_asked(ours: str, theirs: str) -> bool:
    """Whether algebra may decide: two short expressions of one kind, and no number left to compute."""
    if not (_MATHS_SIGN.search(ours) or _MATHS_SIGN.search(theirs)):  # two words or letters
        return False
    if bool(_RELATION.search(ours)) != bool(_RELATION.search(theirs)):  # "x + 1 = 5" is not "5"
        return False
    if quantity(ours) and not _ROOT_OR_POWER.fullmatch(theirs):
        return False
    if quantity(theirs) and not _ROOT_OR_POWER.fullmatch(ours):
        return False
    if any(quantity(split_name(text)[1]) for text in (ours, theirs) if "=" in text):
        return False  # "x + 1 = 5" is not "x = 4"
    return as_latex(ours) is not None and as_latex(theirs) is not None


def two_cases(text: str) -> bool:
    """Whether a letter stands alone both as a capital and as a small one: two variables, one for algebra."""
    letters = set(_LETTER.findall(text)) - {""}
    return any(letter.swapcase() in letters for letter in letters)


def as_latex(text: str) -> str | None:
    """The text as LaTeX for algebra, decimals as exact fractions; None for prose and whatever is not safe."""
    number = quantity(text)
    if number:
        return rf"\frac{{{number.value.numerator}}}{{{number.value.denominator}}}"
    text = _DECIMAL.sub(_as_fraction, text).replace("**", "^")
    if not _ALLOWED.fullmatch(text) or not re.search(r"[a-zA-Z^]", text):
        return None
    if _SUM_OF_NUMBERS.search(text) or _HUGE_POWER.search(text) or _SCIENTIFIC.search(text):
        return None
    return _BARE_NAME.sub(r"\\\g<0> ", text)


def _as_fraction(decimal: re.Match) -> str:
    whole, digits = decimal.groups()
    return rf"{{\frac{{{whole}{digits}}}{{1{'0' * len(digits)}}}}}"
