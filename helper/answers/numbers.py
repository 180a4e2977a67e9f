r"""Stage 2, numbers: the exact value of a cleaned answer, and its unit.

No floats, no `eval`: a number is a fraction of two integers. It must be computed: "6 * 12" is no number, since a reward
must not pay for a sum that was only written down. Written-out fractions pass ("144/2"), and so do powers of ten in
scientific notation ("1.5e-3", "3.2 \times 10^4", "10^4"), up to MAX_EXPONENT: "1e999999999" would take the machine's memory.
Left out on purpose: number words ("5 million"), other powers, commas as decimal signs ("0,5"), "1 \pm 2".
"""

import re
from decimal import Decimal
from fractions import Fraction
from numbers import Number
from typing import NamedTuple

from helper.answers.spellings import meanings
from helper.answers.units import CODE, CURRENCY, Unit, read_unit, with_currency
from helper.answers.writing import THIN, clean

MAX_ANSWER = 200  # characters; a longer "answer" is no answer, and is compared as text only
MAX_EXPONENT = 300  # of ten, and of a tenth; what is larger or smaller is no number here

_GROUPS = rf"(?:(?:,[0-9]{{3}})++|(?:{THIN}[0-9]{{3}})++)"  # 1,000,000
_INDIAN = r"[1-9][0-9]?(?:,[0-9]{2}(?![0-9]))++,[0-9]{3}"  # 10,00,000
_UNSIGNED = rf"(?:(?:{_INDIAN}|[1-9][0-9]{{0,2}}{_GROUPS}|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)"
_POWER = r"\s*+(?:\^|\*\*)\s*+(?:[-+]?[0-9]{1,3}(?![0-9])|\{\s*+[-+]?\s*+[0-9]{1,3}\s*+\})"  # the one of 10^{-3}
_TIMES = r"(?:\s*+(?:\\times|\\cdot|\*)\s*+|\s++[xX]\s++)"
_QUANTITY = re.compile(
    rf"""(?P<number>
        (?P<sign>[-+]?)\s*+(?P<currency>{CURRENCY}|Rs\.?(?=[\s0-9])|(?i:{CODE})(?=[\s0-9])|)\s*+(?P<inner_sign>[-+]?)\s*+
        (?: (?: (?P<whole>[0-9]++)(?:\s++(?=[0-9])|\s*+(?=\\)) )?
            (?: (?P<top>{_UNSIGNED})\s*+/\s*+(?P<bottom>-?{_UNSIGNED})
              | \\frac\{{\s*+(?P<latex_top>[-+]?\s*+{_UNSIGNED})\s*+\}}\{{\s*+(?P<latex_bottom>[-+]?\s*+{_UNSIGNED})\s*+\}} )
          | (?P<mantissa>[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?P<power>[eE][-+]?[0-9]{{1,3}}(?![0-9])|{_TIMES}10{_POWER})
          | (?P<of_ten>10{_POWER})
          | (?P<plain>{_UNSIGNED}) ) )
        (?P<unit>.*)""",
    re.VERBOSE | re.DOTALL,
)
_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?[eE][-+]?[0-9]{1,3}")
_QUARTER = meanings("quarter")


class Quantity(NamedTuple):
    """A number with or without a unit."""

    value: Fraction
    unit: Unit
    number: str  # as it was written, without the unit


def quantity(text: str) -> Quantity | None:
    """One number with or without a unit, and nothing else, in a cleaned text; None for anything else."""
    match = _QUANTITY.fullmatch(text)
    if not match or (match["sign"] and match["inner_sign"]):
        return None
    unit, value = read_unit(match["unit"]), _value(match)
    if unit is not None and match["currency"]:
        unit = with_currency(unit, match["currency"])
    if unit is None or value is None or _is_part(value, unit):
        return None
    negative = "-" in (match["sign"], match["inner_sign"])
    return Quantity(-value if negative else value, unit, match["number"].strip())


def _is_part(value: Fraction, unit: Unit) -> bool:
    """Whether "quarters" is a part of one: 3 quarters are three fourths; 9 are coins or parts of a year."""
    return bool(unit.top) and bool(unit.top[0].meanings & _QUARTER) and (value < 4 or value.denominator > 1)


def _value(match: re.Match) -> Fraction | None:
    if match["plain"]:
        return _fraction(match["plain"])
    if match["power"] or match["of_ten"]:
        return _scientific(match["mantissa"] or "1", match["power"] or match["of_ten"])
    top, bottom = _fraction(match["top"] or match["latex_top"]), _fraction(match["bottom"] or match["latex_bottom"])
    if not bottom:
        return None
    if not match["whole"]:
        return top / bottom
    proper = 0 < top < bottom and top.denominator == bottom.denominator == 1  # 1 1/2, not 1 3/2
    return Fraction(match["whole"]) + top / bottom if proper else None


def _scientific(mantissa: str, power: str) -> Fraction | None:
    r"""The value of a mantissa and what stands behind it, "e-3" or "\times 10^{-3}"; None beyond MAX_EXPONENT."""
    exponent = int(re.search(r"[-+]?[0-9]+$", re.sub(r"[\s{}]", "", power)).group())
    return _fraction(mantissa) * Fraction(10) ** exponent if abs(exponent) <= MAX_EXPONENT else None


def _fraction(text: str) -> Fraction:
    whole, _, decimals = re.sub(r"[,\s]", "", text).partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def as_number(text: str) -> Fraction | None:
    r"""The exact value of "-1,234.5", "3/4", "\frac{3}{4}", "1 1/2" or "1.5e3", with or without a unit; None for others.

    >>> as_number("2 3/4 cups"), as_number("1.5e-3"), as_number("5 million")
    (Fraction(11, 4), Fraction(3, 2000), None)
    """
    found = (quantity(text) or quantity(clean(text))) if len(text) <= MAX_ANSWER else None
    return found.value if found else None


def written(value) -> str:
    """An answer that was given as a number, in digits: 1e-05 as "0.00001"; a text as it is.

    Raises ValueError for what is none (None, nan, infinity), TypeError for what is no text and no number.
    """
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and type(value).__module__ != "numpy":  # a tensor of one number
        value = value.item()
    text = str(value)
    if value is None or text.casefold().strip("+-") in ("nan", "nat", "<na>", "inf", "infinity"):
        raise ValueError(f"an answer is missing: it is {text}")
    if not isinstance(value, Number) and getattr(value, "shape", None) != ():
        raise TypeError(f"an answer is a text or a number, and not a {type(value).__name__}: {text[:80]}")
    return format(Decimal(text), "f") if _EXPONENT.fullmatch(text) else text
