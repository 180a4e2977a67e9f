"""Properties of helper/answers.py on thousands of made-up inputs, the same ones at each run.

Left out on purpose: an example database on disk, random seeds, and algebra beyond polynomials in x.
"""

import re
import tempfile
from decimal import Decimal
from fractions import Fraction
from functools import cache

import pytest
from hypothesis import HealthCheck, assume, configuration, given, settings
from hypothesis import strategies as st
from test_answers import extract_gold_or_none, match_or_none, needs_math_verify

from helper.answers import answers_match, as_number, expressions, extract_answer, extract_boxed, normalise
from helper.answers.numbers import MAX_EXPONENT

configuration.set_hypothesis_home_dir(tempfile.gettempdir())  # its character tables; the examples are not kept
EXAMPLES = {
    "derandomize": True, "database": None, "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
}  # fmt: skip
UNITS = ("", "%", r"\%", " apples", " km/h", r"\text{ cm}", r"\,\mathrm{m}^2", r"^\circ", " dollars", "$", "€")
FRACTIONS = (r"\frac{{{}}}{{{}}}", r"\dfrac{{{}}}{{{}}}", r"\tfrac {{{}}} {{{}}}", "{}/{}", "{} / {}")
WRAPPERS = ("{}", " {} ", "{}.", "**{}**", r"\({}\)", r"\[ {} \]", r"\mathbf{{{}}}", r"\displaystyle {}", "`{}`")
PIECES = [
    *"0129-+*/^_=<>()[]{},.:!?%$#~xyA\\ \n−½π٣\u202f\u2009", r"\{", r"\}", r"\,", r"\!", r"\;", r"\$", r"\%", r"\(",
    r"\boxed{", r"\frac{", r"\dfrac", r"\sqrt{", r"\text{", r"\mathrm{cm}", r"\left(", r"\right)", r"\cdot", r"\pi",
    r"^\circ", "####", "<answer>", "</answer>", "The answer is ", "Answer: ", " or ", " apples", " million", "**",
]  # fmt: skip
WORDS = ["so", "we have", "3 apples", "and", "4 pears.", "1,000 / 2 = 500,", "of course.\n", "(a)", "add them;", "-7"]
MARKS = (
    r"so \boxed{{{}}}", "\n#### {}", "<answer>{}</answer>", "<answer>\n{}</answer>", "The answer is {}.", "Answer: {}",
)  # fmt: skip
JOINTS = (
    " or ", " and ", ", ", " to ", "-", " - ", " = ", " + ", "*", r" \times ", ":", "; ", " apples and ",
    r"\text{ or }",
)  # fmt: skip

rationals = st.one_of(
    st.integers(-2000, 2000).map(Fraction),
    st.integers(-(10**12), 10**12).map(Fraction),
    st.fractions(-100, 100, max_denominator=20),
    st.decimals(-5000, 5000, places=3).map(Fraction),
)
any_text = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
prose = st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join)
coefficients = st.lists(st.integers(-9, 9), min_size=2, max_size=4).filter(lambda numbers: any(numbers[1:]))


@pytest.fixture
def no_algebra(monkeypatch):
    """Texts made at random would keep the child process busy for minutes."""
    monkeypatch.setattr(expressions, "same_expressions", lambda left, right, ordered: False)


one_of = cache(st.sampled_from)  # made once: to make it anew for each of thousands of examples took half of the time
SEPARATORS = ("", ",", "{,}", r"\,", r",\!", "\u202f", "\u00a0", "\u2009")


def integer_text(draw, value):
    return f"{int(value):,}".replace(",", draw(one_of(SEPARATORS)))


def scaled_fraction(draw, value):
    times = draw(one_of(tuple(range(1, 13))))
    return draw(one_of(FRACTIONS)).format(value.numerator * times, value.denominator * times)


def short_fraction(draw, value):
    return rf"\frac{value.numerator}{value.denominator}"


def mixed_number(draw, value):
    times, rest = draw(one_of(tuple(range(1, 13)))), value.numerator % value.denominator
    return f"{int(value)} {rest * times}/{value.denominator * times}"


def mixed_fraction(draw, value):
    return rf"{int(value)}\frac{{{value.numerator % value.denominator}}}{{{value.denominator}}}"


def whole_number(draw, value):
    return integer_text(draw, value) + draw(one_of(("", "", ".0", ".000")))


def bare_decimal(draw, value):
    return "." + (f"{int(value * 10**6) % 10**6:06}".rstrip("0") or "0")


def scientific(draw, value):
    """Mantissa and power of ten, in any of the forms."""
    power = draw(st.integers(-8, 8))
    scaled = value / Fraction(10) ** power
    mantissa = f"{Decimal(scaled.numerator) / Decimal(scaled.denominator):f}"
    if draw(st.booleans()):
        return mantissa + draw(one_of(("e{}", "E{}", "e{:+}", "E{:+03}"))).format(power)
    form = draw(one_of((r"{} \times 10^{{{}}}", r"{}\cdot10^{{{}}}", "{} × 10^{}", "{}*10^{}", "{} x 10^{{ {} }}")))
    return form.format(mantissa, power)


def decimal(draw, value):
    return integer_text(draw, value) + bare_decimal(draw, value) + draw(one_of(("", "0", "00", "000")))


def unsigned_text(draw, value):
    """A rational >= 0 in one of its ways of writing."""
    ways = (scaled_fraction,)
    if value.numerator < 10 and value.denominator < 10:
        ways += (short_fraction,)
    if value.denominator > 1 and value > 1:
        ways += (mixed_number, mixed_fraction)
    if value.denominator == 1:
        ways += (whole_number,)
    if 10**6 % value.denominator == 0:
        ways += (decimal, bare_decimal, scientific) if value < 1 else (decimal, scientific)
    return draw(one_of(ways))(draw, value)


def rendering(draw, value, unit):
    """A rational in some style, with the unit or without."""
    text = unsigned_text(draw, abs(value))
    sign = draw(one_of(("-", "−", "- ") if value < 0 else ("", "", "+")))
    unit = draw(one_of(("", unit)))
    text = draw(one_of((sign + unit, unit + sign))) + text if unit in ("$", "€") else sign + text + unit
    if "$" not in text:
        text = draw(one_of(("{}", "${}$", "$${}$$"))).format(text)
    for _ in range(draw(one_of((0, 1, 2)))):
        text = draw(one_of(WRAPPERS)).format(text)
    return text


@st.composite
def one_value_twice(draw):
    value, unit = draw(rationals), draw(one_of(UNITS))
    return value, rendering(draw, value, unit), rendering(draw, value, unit)


@st.composite
def two_values(draw):
    """Two different rationals, many of them easily mistaken for one another, each with a unit or without."""
    value = draw(rationals)
    mistaken = [
        -value, value + 1, value + Fraction(1, 10**9), value**2, Fraction(int(value)), Fraction(round(value, 2)),
        Fraction(value.numerator), Fraction(value.denominator), Fraction(str(abs(value.numerator))[0]),
        *(value * scale for scale in (10, 100, 1000, Fraction(1, 10), Fraction(1, 100), Fraction(1, 1000))),
    ]  # fmt: skip
    other = draw(st.one_of(rationals, st.sampled_from(mistaken)))
    assume(value != other)
    return tuple(rendering(draw, number, draw(one_of(UNITS))) for number in (value, other))


@given(any_text, any_text)
@settings(max_examples=2700, **EXAMPLES)
def test_no_text_crashes_a_function(no_algebra, text, other):
    for function in (extract_boxed, extract_answer, extract_gold_or_none):
        found = function(text)
        assert found is None or isinstance(found, str)
    assert isinstance(normalise(text), str)
    assert as_number(text) is None or isinstance(as_number(text), Fraction)
    assert match_or_none(text, other) in ((True, False) if normalise(other) else (None,))


@given(any_text, any_text)
@settings(max_examples=2000, **EXAMPLES)
def test_equality_is_symmetric_and_reflexive(no_algebra, text, other):
    assume(normalise(text) and normalise(other))
    assert answers_match(text, other) == answers_match(other, text)
    assert answers_match(text, text) and answers_match(text, f" {text}\n")


@given(one_value_twice())
@settings(max_examples=2700, **EXAMPLES)
def test_one_number_in_two_styles_is_equal(case):
    value, text, other = case
    assert as_number(normalise(text)) == value
    assert answers_match(text, other)


@given(two_values())
@settings(max_examples=2700, **EXAMPLES)
def test_two_numbers_are_never_equal(texts):
    assert not answers_match(*texts)


# A reading of scientific notation by other means: Python's own decimals, where a text is one.
SCIENTIFIC = re.compile(r"\s*([-+]?\s*(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+))[eE]([-+]?[0-9]{1,3})\.?\s*")
NEAR_SCIENTIFIC = [*"0123456789.-+eE^x {}×", "1", "10", "10", "**", r"\times ", r"\cdot"]


@given(st.lists(st.sampled_from(NEAR_SCIENTIFIC), min_size=1, max_size=9).map("".join))
@settings(max_examples=2700, **EXAMPLES)
def test_what_looks_like_scientific_notation_is_read_only_where_it_is(text):
    value, scientific = as_number(text), SCIENTIFIC.fullmatch(text)
    if scientific:
        mantissa, power = scientific.group(1).replace(" ", ""), int(scientific.group(2))
        assert value == (Fraction(mantissa) * Fraction(10) ** power if abs(power) <= MAX_EXPONENT else None)
    elif "e" in text.casefold():
        assert value is None
    elif value is not None and not re.search(r"10\s*(?:\^|\*\*)", text):  # a plain number, as ever
        assert not set(text.strip(" *.")) & set("^x*×\\")


@given(st.integers(-(10**12), 10**12), st.sampled_from(["1e{}", "10^{{{}}}", "-2.5E{}", r"3 \times 10^{{{}}}"]))
@settings(max_examples=300, **EXAMPLES)
def test_a_power_of_ten_takes_no_memory(power, form):
    value = as_number(form.format(power))
    assert (value is None) == (abs(power) > MAX_EXPONENT)
    assert value is None or max(abs(value.numerator), value.denominator) < 10 ** (MAX_EXPONENT + 2)


@st.composite
def plain_numbers(draw):
    """A rational, and a text of it with its sign and no unit."""
    value = draw(rationals)
    return value, "-" * (value < 0) + unsigned_text(draw, abs(value))


@given(plain_numbers(), prose, prose, one_of(MARKS))
@settings(max_examples=2000, **EXAMPLES)
def test_an_answer_is_found_in_prose(number, before, after, mark):
    value, text = number
    found = extract_answer(f"{before} {mark.format(text)}\n{after}")
    assert as_number(normalise(found)) == value


@given(plain_numbers(), plain_numbers(), one_of(JOINTS))
@settings(max_examples=2000, **EXAMPLES)
def test_a_bet_or_a_sum_is_never_paid(no_algebra, first, second, joint):
    (value, text), (other, its_text) = first, second
    text = text.removeprefix("-") + joint + its_text.removeprefix("-")
    for expected in (value, other, value + other, value - other, value * other):
        assert not answers_match(text, str(expected))
        assert not answers_match(f"{text} = {expected}", str(expected))


@needs_math_verify
@given(coefficients, coefficients, st.randoms())
@settings(max_examples=100, **EXAMPLES)
def test_polynomials_are_equal_when_their_coefficients_are(first, second, random):
    ours, theirs = polynomial(first, random), polynomial(second, random)
    assert answers_match(ours, theirs) == ([*first, 0, 0][:4] == [*second, 0, 0][:4])
    assert answers_match(ours, polynomial(first, random))


def polynomial(numbers, random):
    terms = [f"{number:+} x^{{{power}}}" if power else f"{number:+}" for power, number in enumerate(numbers) if number]
    random.shuffle(terms)
    return " ".join(terms).lstrip("+")
