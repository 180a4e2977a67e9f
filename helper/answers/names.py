r"""Stage 3, names: "x = 5" is 5, and so are "f(2) = 5", "AB = 5", "\text{Area} = 5", "5 = x" and "= 5".

A name holds no calculation: "2x = 10", "x^2 = 9" and "6 * 12 = 72" have none, and are no numbers. A letter before a
choice is told apart from its content too: "(B) 42".
Left out on purpose: several names in a row ("x = y = 5").
"""

import re

from helper.answers.spellings import PRODUCT, changes_number, words

_GREEK = "alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|tau|phi|omega|Delta|Theta|Omega|Phi|Pr"
_WORD_NAMES = r"[a-zA-Z]{2,}(?:'s)?(?:[ -](?:\\triangle\ )?[a-zA-Z]+){0,6}"
_NAME = rf"""
    (?: (?:m\s?)?\\(?:angle|triangle|overline|measuredangle)\s*\{{?[A-Z]{{1,3}}\}}?  # of geometry
      | \|?\ ?[A-Z]{{2,4}}\ ?\|? | \[[A-Z]{{3,4}}\]
      | \\frac\{{d[a-z]\}}\{{d[a-z]\}} | d[a-z]/d[a-z]                             # a derivative
      | \( [a-zA-Z] (?:,\s?[a-zA-Z]){{1,3}} \)                                     # (x, y)
      | (?: \\(?:{_GREEK})(?![a-zA-Z]) | \\Delta\ [a-z] | [a-zA-Z]                 # \theta, x
          | \\(?:mathbb|vec|hat|bar)\{{[a-zA-Z]\}}
          | {_WORD_NAMES} )                                                        # Area of the square
        (?: _(?:[0-9a-zA-Z]{{1,3}}|\{{[^{{}}]{{1,12}}\}}) )?                        # x_1
        (?: '{{1,3}} | \^\{{-1\}} | \^['*] )?                                      # f', f^-1
        (?: \s?\(-?[^()+*/-]{{1,24}}\) | \s?\[[^\[\]+*/-]{{1,24}}\] )?               # f(x), P(X = 2), E[X]
    )"""
_NAMED = re.compile(rf"(?P<name>{_NAME})\s*+(?:=|\\in(?![a-zA-Z]))\s*+(?=[^=\s])", re.VERBOSE)
_WHOLE_NAME = re.compile(_NAME, re.VERBOSE)
_FUNCTIONS = words("sin cos tan log ln exp sqrt max min lim gcd lcm det mod pi")
_NAMING = words("mean mode root power score half third")  # they change a number behind it, and may be its name before it
_EQUATION = re.compile(r"([^=<>]+?)\s*=\s*([^=<>]+)")

_KEYWORD = r"(?i:(?:the )?(?:correct |right |final )?(?:option|choice|answer|letter)(?: is)?:? )?"
_CORRECT = r"(?i: is (?:the )?(?:correct|right)(?: (?:option|choice|answer|one))?)?"
_LETTER = re.compile(rf"{_KEYWORD}[(\[]?([A-Ja-j])[)\].:]{{0,2}}{_CORRECT}")
_LABEL = re.compile(
    rf"{_KEYWORD}(?:\(([A-J])\):?|([A-J])(?:\)|\.(?=\s)|:(?=\s)))\s+(?=[\w$\\£€(\[{{]|-[0-9])(.+)", re.DOTALL
)
_NOT_ONE_CHOICE = re.compile(  # another letter, or what takes this one back
    r"\([A-J]\)|\b[A-J][).](?=\s|$)|\b(?:or|and)\s+[A-J]\b|^(?i:or|and|but|not|cup|cap|(?:is|was)\b)"
)


def split_name(text: str) -> tuple[str, str]:
    """The name and the value of a cleaned answer, "x" and "5" of "x = 5" or "5 = x"; "" and the text without a name."""
    text = text.removeprefix("=").lstrip() if text.startswith("=") and not text.startswith("==") else text
    named = _NAMED.match(text)
    if named and "=" not in text[named.end() :] and _is_name(named["name"]):
        return _squeezed(named["name"]), text[named.end() :]
    sides = _EQUATION.fullmatch(text)
    if sides and _WHOLE_NAME.fullmatch(sides.group(2)) and _is_name(sides.group(2)):
        return _squeezed(sides.group(2)), sides.group(1).strip()
    return "", text


def _squeezed(name: str) -> str:
    name = re.sub(r"[\s{}|]", "", name)
    return name.casefold() if len(name) > 3 and name.isalpha() else name  # "Area", but not "AB"


def _is_name(text: str) -> bool:
    """Whether words are a name: no function, no product of variables ("xy = 6"), nothing that denies or doubts."""
    parts = re.findall(r"(?<!\\)\b[a-zA-Z]{2,}", text.split("(")[0].split("_")[0])
    return not any(word in _FUNCTIONS or re.fullmatch(PRODUCT, word) or _denies(word) for word in parts)


def _denies(word: str) -> bool:
    return changes_number(word) and word.casefold() not in _NAMING


def choice(text: str) -> tuple[str, str] | None:
    """The letter of a choice and what stands behind it: "B" and "42" of "(B) 42", "B" and "" of "B"; None without one."""
    letter = _LETTER.fullmatch(text)
    if letter:
        return letter.group(1).upper(), ""
    label = _LABEL.fullmatch(text)
    if not label or _NOT_ONE_CHOICE.search(label.group(3)):
        return None
    return label.group(1) or label.group(2), label.group(3).strip()
