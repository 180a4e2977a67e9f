r"""Getting the answer out of a text, and deciding whether two answers are equal.

Exact arithmetic on fractions, no `eval`, no symbolic algebra, no time limit needed: every function takes time
linear in its input. Left out on purpose: algebra ("x + 1" against "1 + x"), units in plain words ("12 apples"
is not "12"), sets and intervals. The math-verify package does those, and must be run under a time limit.
"""

import re
from fractions import Fraction

MAX_ANSWER = 200  # characters; a longer "answer" is no answer, and is compared as text only

_BOX = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_PHRASE = re.compile(r"the (?:final )?answer is:?\s*", re.IGNORECASE)
_NUMBER_AT_START = re.compile(r"[-−+]?\$?(?:[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?|\.[0-9]+)(?:/[0-9]+)?")
_PLAIN = re.compile(r"([-+]?)(?:([0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(\.[0-9]*)?|(\.[0-9]+))")
_LATEX_FRACTION = re.compile(r"([-+]?)\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")


def extract_boxed(text: str) -> str | None:
    r"""The inside of the last complete \boxed{...}, nested braces kept; None without one.

    >>> extract_boxed(r"Half: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    open_braces, best = [], None  # a brace is the place where its inside starts, and whether it is a box
    for match in _BOX.finditer(text):
        token = match.group()
        if token.endswith("{") and token != r"\{":
            open_braces.append((match.end(), token != "{"))
        elif token == "}" and open_braces:
            start, boxed = open_braces.pop()
            if boxed and (best is None or start > best[0]):
                best = (start, match.start())
    return text[best[0] : best[1]].strip() if best else None


def extract_answer(text: str) -> str | None:
    r"""The final answer in a text: \boxed{}, then "#### ", then <answer> tags, then "The answer is"; None
    if none.

    The last of a kind counts.

    >>> extract_answer("6 * 7 = 42, so the answer is 42.")
    '42'
    """
    boxed = extract_boxed(text)
    if boxed is not None:
        return boxed
    if "####" in text:
        return _first_line(text.rpartition("####")[2])
    before, tag, after = text.rpartition("<answer>")
    if tag and "</answer>" in after:
        return after.partition("</answer>")[0].strip()
    phrases = list(_PHRASE.finditer(text))
    if not phrases:
        return None
    rest = _first_line(text[phrases[-1].end() :])
    number = _NUMBER_AT_START.match(rest)
    return number.group() if number else rest.split(". ")[0].rstrip(".") or None


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""


def extract_gold(answer: str) -> str:
    """The number after "####" in GSM8K's `answer` column, without thousands commas or "$".

    Raises ValueError when there is none. The pattern seen in many courses, "####\\s*(-?\\d+)", reads
    "1,000" as 1.

    >>> extract_gold("He pays 4 * 250 = 1000 dollars.\\n#### 1,000")
    '1000'
    """
    tail = _first_line(answer.rpartition("####")[2]) if "####" in answer else ""
    number = tail.replace("$", "").replace(",", "").replace(" ", "").rstrip(".")
    if not re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)", number):
        raise ValueError(f'No number after "####" in: {answer[-80:]!r}')
    return number


def answers_match(predicted: str | None, expected: str) -> bool:
    r"""Whether two answers are the same text, or the same number: "1,000" and "1000", "0.5", "1/2" and
    "\frac{1}{2}".

    >>> answers_match("$1,000.00", "1000"), answers_match("1/3", "0.33")
    (True, False)
    """
    if predicted is None or not predicted.strip():
        return False
    if max(len(predicted), len(expected)) > MAX_ANSWER:
        return predicted.strip() == expected.strip()
    ours, theirs = normalise(predicted), normalise(expected)
    if ours == theirs:
        return bool(ours)
    left, right = as_number(ours), as_number(theirs)
    return left is not None and left == right


def normalise(answer: str) -> str:
    r"""The answer without what carries no meaning: $, %, spaces, \text{units} after a number, a full stop."""
    text = answer.strip().replace("−", "-").replace("{,}", ",")
    text = re.sub(r"\\(?:left|right)(?![a-zA-Z])|\\[,!;: ]", "", text)
    text = text.replace(r"\$", "").replace("$", "").replace(r"\%", "%").strip()
    whole = re.fullmatch(r"\\text\s*\{([^{}]*)\}", text)
    text = whole.group(1) if whole else re.sub(r"(?<=[0-9}])\s*\\text\s*\{[^{}]*\}$", "", text)
    text = re.sub(r"\s+", "", text).rstrip(".").casefold()
    return text[:-1] if text.endswith("%") else text


def as_number(text: str) -> Fraction | None:
    r"""The exact value of a normalised "-1,234.5", "3/4" or "\frac{3}{4}"; None for anything else.

    No exponents: "1e999999999" would take the machine's memory.
    """
    latex = _LATEX_FRACTION.fullmatch(text)
    if latex:
        sign, parts = latex.group(1), latex.group(2, 3)
    elif text.count("/") == 1:
        sign, parts = "", tuple(text.split("/"))
    else:
        return _plain_number(text)
    top, bottom = (_plain_number(part) for part in parts)
    if top is None or not bottom:
        return None
    return -top / bottom if sign == "-" else top / bottom


def _plain_number(text: str) -> Fraction | None:
    if not _PLAIN.fullmatch(text):
        return None
    return Fraction(text.replace(",", "").rstrip("."))
