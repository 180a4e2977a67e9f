"""Bare sums, drawn at random; `solutions.py` works them out."""

import random
import re

LARGEST_FACTOR = 9
EXPRESSIONS = (
    "a + b", "a - b", "a * b", "a / b", "a + b + c", "a + b - c", "a - b + c", "a - b - c", "a * b + c", "a * b - c",
    "a + b * c", "a - b * c", "a / b + c", "a + b / c", "a / b - c", "a - b / c",
)  # fmt: skip


def few_step_arithmetic(rng: random.Random) -> tuple[str, int]:
    """A bare expression of one or two operations and its value (0 to 400), such as ("3 + 12 * 4", 51)."""
    while True:
        form, top = rng.choice(EXPRESSIONS), rng.choice((9, 20, 99, 99))
        terms: list[list[str]] = [term.split() for term in re.split(r" [+-] ", form)]
        signs = re.findall(r" ([+-]) ", form)
        values, texts = zip(*(random_term(term, rng, top) for term in terms))
        total, expression, fits = values[0], texts[0], True
        for sign, value, text in zip(signs, values[1:], texts[1:]):
            total = total + value if sign == "+" else total - value
            expression, fits = f"{expression} {sign} {text}", fits and total >= 0
        if fits and total <= 400:
            return expression, total


def random_term(term: list[str], rng: random.Random, top: int) -> tuple[int, str]:
    """A number, a product or an exact quotient (`term` has one or three parts) and how it is written."""
    b = rng.randint(1, LARGEST_FACTOR)
    a = rng.randint(1, min(top, 400 // b))
    if len(term) == 1:
        return a, str(a)
    if term[1] == "/":
        return a, f"{a * b} / {b}"
    return a * b, f"{a} * {b}"


def single_operation(rng: random.Random) -> str:
    """One operation with its result, such as "47 + 6 = 53"."""
    a, b, small = rng.randint(1, 99), rng.randint(1, 99), rng.randint(2, 9)
    return rng.choice([
        f"{a} + {b} = {a + b}", f"{a + b} - {b} = {a}", f"{max(a, b)} - {min(a, b)} = {abs(a - b)}",
        f"{a} * {small} = {a * small}", f"{small} * {a} = {a * small}", f"{a * small} / {small} = {a}",
    ])  # fmt: skip
