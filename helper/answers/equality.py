r"""Stage 3: are two answers equal?

What settles it soonest is asked first: the same text, the letter of a choice, the same number with the same unit, several
answers one by one; and only then, of short expressions, algebra (`helper.symbolic`).
Left out on purpose: rounding ("0.33" is not "1/3"), and answers in prose.
"""

import re

from helper.answers.expressions import may_be_asked, same_by_algebra, two_cases
from helper.answers.extraction import marked_answer
from helper.answers.lists import Several, several
from helper.answers.names import choice, split_name
from helper.answers.numbers import MAX_ANSWER, quantity, written
from helper.answers.units import Unit, read_unit, same_unit
from helper.answers.writing import clean, squeezed

MOST_LEVELS = 2  # lists in one another, as a set of intervals
MOST_TRIALS = 12  # answers without an order that are written differently on the two sides
_EXACT_WITH_UNIT = re.compile(r"(.*\\.*?(?:pi|[})0-9]))(\s*°.*|\s+[^\W\d_][^\\{}()]*)", re.DOTALL)  # "2\sqrt{3} cm"


def answers_match(predicted: str | float | None, expected: str | float) -> bool:
    r"""Whether two answers are the same text, the same number, or by algebra the same expression.

    "1,000" is "1000"; "0.5", "1/2" and "\frac{1}{2}" are one number. A unit may be missing ("12 apples" is "12"),
    but not be another one ("5 m" is not "5 cm"); "50%" is "50", not "0.5". Sets are equal in any order; lists,
    tuples and intervals in their own. Of a whole solution, what stands in its last box or behind "####" is compared.
    Raises ValueError where the expected answer is missing (None, nan, ""): that must not be paid, nor pass for "wrong".

    >>> answers_match("$1,000.00", "1000"), answers_match("1/3", "0.33"), answers_match("6 * 12", "72")
    (True, False, False)
    """
    theirs = marked_answer(written(expected))
    plain = theirs.strip() if len(theirs) > MAX_ANSWER else clean(theirs)
    if not plain:
        raise ValueError(f"the expected answer is missing: it is {expected!r:.80}")
    try:
        ours = marked_answer(written(predicted))
    except ValueError:  # no answer was given
        return False
    if max(len(ours), len(theirs)) > MAX_ANSWER:
        return ours.strip() == theirs.strip()
    ours = clean(ours)
    return bool(ours) and _same(ours, plain)


def normalise(answer: str) -> str:
    r"""The answer in one way of writing: a number as "3", "-5/2", without its unit; words in lower case; any
    other text without LaTeX wrappers and needless spaces.

    >>> normalise(r"\text{1,000.50 dollars}"), normalise(r"\left(1, X\right).")
    ('2001/2', '(1,X)')
    """
    answer = marked_answer(answer)
    if len(answer) > MAX_ANSWER:
        return answer.strip().casefold()
    text = clean(answer)
    number = quantity(text)
    return str(number.value) if number else squeezed(text)


def _same(ours: str, theirs: str) -> bool:
    verdict = settle(ours, theirs)
    return verdict if isinstance(verdict, bool) else same_by_algebra([verdict[0]], [verdict[1]])


def settle(ours: str, theirs: str, level: int = 0) -> bool | tuple[str, str]:
    """Whether two cleaned answers are equal, where that can be told without algebra; else the two expressions to ask.

    `level`: in how many lists they stand; sets of sets of sets would take for ever.
    """
    if squeezed(ours) == squeezed(theirs):
        return True
    labels = choice(ours), choice(theirs)
    if any(labels):
        verdict = _same_choice(ours, theirs, *labels)
        if verdict is not None:
            return verdict
    ours, theirs = _without_names(ours, theirs)
    numbers = quantity(ours), quantity(theirs)
    if all(numbers):
        return numbers[0].value == numbers[1].value and same_unit(numbers[0].unit, numbers[1].unit)
    (ours, unit), (theirs, other_unit) = _without_unit(ours), _without_unit(theirs)
    if not same_unit(unit, other_unit) or two_cases(ours + theirs):
        return False
    lists = several(ours), several(theirs)
    if any(lists):
        return all(lists) and level < MOST_LEVELS and _same_several(*lists, level + 1)
    return (ours, theirs) if may_be_asked(ours, theirs) else squeezed(ours) == squeezed(theirs)


def _same_choice(ours: str, theirs: str, left: tuple | None, right: tuple | None) -> bool | tuple[str, str] | None:
    """The verdict on two answers of which one has a letter before it; None where the letter is no label."""
    if left and right:
        if left[0] != right[0] or not left[1] or not right[1]:
            return left[0] == right[0]
        return settle(left[1], right[1])
    if (left or right)[1]:  # "(B) 42" and "42"
        return settle(left[1] if left else ours, right[1] if right else theirs)
    return None


def _without_names(ours: str, theirs: str) -> tuple[str, str]:
    """ "x = 5" and "5" as "5" and "5"; two different names stay."""
    (name, value), (other_name, other_value) = split_name(ours), split_name(theirs)
    if name and other_name and name == other_name:
        return value, other_value
    if other_name and not name and "=" not in value:
        return value, other_value
    if name and not other_name and "=" not in other_value:
        return value, other_value
    return (ours if name else value), (theirs if other_name else other_value)


def _without_unit(text: str) -> tuple[str, Unit]:
    r""" "2\pi cm" as "2\pi" and its unit; a number likewise."""
    number = quantity(text)
    if number and any(number.unit):
        return str(number.value), number.unit
    exact = _EXACT_WITH_UNIT.fullmatch(text)
    unit = read_unit(" " + exact.group(2)) if exact else None
    return (exact.group(1), unit) if unit else (text, Unit())


def _same_several(ours: Several, theirs: Several, level: int) -> bool:
    """Whether several answers are equal one by one, in their order where one of the two has one."""
    if ours.brackets != theirs.brackets:
        return False
    left, right = ([*zip(some.names, some.values)] for some in (ours, theirs))
    if ours.brackets == "{}":  # a set: repetitions do not count
        left, right = (list({_key(item): item for item in items}.values()) for items in (left, right))
    if len(left) != len(right):
        return False
    ordered = ours.ordered or theirs.ordered
    if not ordered and len({name for name, _ in left}) == len(left):  # x = 1, y = 2
        left, right, ordered = sorted(left), sorted(right), True
    if not ordered:
        return _same_in_any_order(left, right, level)
    verdicts = [_settle_item(*pair, level) for pair in zip(left, right)]
    open_pairs = [verdict for verdict in verdicts if not isinstance(verdict, bool)]
    return False not in verdicts and (not open_pairs or same_by_algebra(*map(list, zip(*open_pairs))))


def _same_in_any_order(left: list[tuple], right: list[tuple], level: int) -> bool:
    """The same for answers without an order: what is equal as it is written is paired first, the rest by trial."""
    right = list(right)
    places = {_key(item): item for item in right}
    for item in list(left):
        if _key(item) in places and places[_key(item)] in right:
            left.remove(item)
            right.remove(places[_key(item)])
    if len(left) > MOST_TRIALS:
        return False
    left = [item for item in left if not _taken(item, right, level)]
    verdicts = [_settle_item(item, other, level) for item in left for other in right]
    if any(isinstance(verdict, bool) for verdict in verdicts):
        return False
    return not left or same_by_algebra([value for _, value in left], [value for _, value in right], ordered=False)


def _key(item: tuple[str, str]) -> tuple[str, str]:
    """One text for each way of writing a bare number, spaces aside for all else."""
    name, value = item
    number = quantity(value)
    return name, str(number.value) if number and not any(number.unit) else squeezed(value)


def _taken(item: tuple, others: list[tuple], level: int) -> bool:
    """Whether an equal one is among the others; it is taken out."""
    place = next((place for place, other in enumerate(others) if _settle_item(item, other, level) is True), None)
    return place is not None and bool(others.pop(place))


def _settle_item(item: tuple, other: tuple, level: int) -> bool | tuple[str, str]:
    if item[0] and other[0] and item[0] != other[0]:
        return False
    return settle(item[1], other[1], level)
