"""The unit at a number: read, and compared with another.

"5 km/h" and "5 kilometres per hour" have one unit. "12 red apples" and "12 apples" too: the second says less. But
"3 boxes of pencils" are no pencils, and neither are "3 pencil boxes".
Left out on purpose: converting. 60 minutes are not 1 hour here: the question asked for one of them.
"""

import re
from typing import NamedTuple

from helper.answers.spellings import CODES, COMPOSITES, DOLLARS, LOOSE, known_unit, may_be_unit, meanings, words

CURRENCY = rf"(?:{'|'.join(sorted(DOLLARS, key=len, reverse=True))})?\$|[€£¥₹₩₽₫₺₴₱฿₦₪₡₵₸₮₲¢]"
CODE = "|".join(sorted(CODES)).upper()
_TOKEN = re.compile(
    rf"(?P<space>\s*)(?:(?P<word>[^\W\d_]+)(?:\.(?!\w))?(?P<power>\s?\^\s?\{{?-?[1-3]\}}?|[23](?!\w))?"
    rf"|(?P<sign>[%‰°]|{CURRENCY})|(?P<join>/|-|\*|\\cdot))"
)
_PER = re.compile(r"\sper\s|(?:\s?/\s?|\san?\s)(?=(?:hour|hr|day|week|month|year|minute|second|person)s?\b)")
_OF = re.compile(r"^(.*?)\s+of\s+(?:(?:the|an?|these|those)\s+)?(?=[^\W\d_]{3})", re.DOTALL)
_IN_BRACKETS = re.compile(r"\s*\(([^()]*)\)")
_NEEDLESS = re.compile(
    r"\s+(?:in (?:total|all)|altogether|total|of (?:them|these|those))$|\bUS (?=dollar)|(?<=percent)age points?$"
)
_BEFORE = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_BEHIND = {"squared": 2, "cubed": 3}
_SCALES = {"c": "°C", "celsius": "°C", "centigrade": "°C", "f": "°F", "fahrenheit": "°F"}
_MOST_TOKENS = 12
_OTHER_THINGS = words("light man nautical fluid metric troy")  # ... mile: another mile
_FOLLOWING = words("""
    left remaining in on at for from with overall more each every apart away ago later old tall long wide high deep thick
    heavy only back together out off now so daily weekly sold bought made won lost eaten drunk given taken spent paid read
    run sent built grown found written broken cut
""")  # behind a noun these make no other thing of it, as "boxes" in "pencil boxes" does


class Word(NamedTuple):
    """A word of a unit: all that it may stand for, and its power."""

    meanings: frozenset[str]
    power: int = 1


class Unit(NamedTuple):
    """A unit: "5 boxes of pencils per day" has boxes as `top`, days below (`per`), and pencils as detail (`of`)."""

    top: tuple[Word, ...] = ()
    per: tuple[Word, ...] = ()
    of: tuple[Word, ...] = ()


def read_unit(text: str) -> Unit | None:
    """The unit that a text names, `Unit()` for an empty text; None when the text is no unit."""
    if not text or text.isspace():
        return Unit()
    inside = _IN_BRACKETS.fullmatch(text)  # "72 (apples)"
    text = " " + inside.group(1) if inside else text
    text = _PER.sub(" per ", _NEEDLESS.sub("", text.replace("per cent", "percent").rstrip()))
    of = _OF.match(text)
    head, _, below = (of.group(1) if of else text).partition(" per ")
    detail, _, more = text[of.end() :].partition(" per ") if of else ("", "", "")
    parts = [_read_words(part) for part in (head, " " + (below or more), " " + detail)]
    if None in parts:
        return None
    top, per, of_what = (tuple(word for word in part if word.power > 0) for part in parts)
    per += tuple(Word(word.meanings, -word.power) for word in parts[0] if word.power < 0)
    return Unit(top, per, of_what) if top or per else Unit(of_what)  # "18 of the apples" are apples


def with_currency(unit: Unit, currency: str) -> Unit | None:
    """The unit behind a number that has a currency before it; None where both do not fit ("$5 m" are millions)."""
    money = meanings(currency.rstrip("."))
    first = unit.top[0].meanings if unit.top else frozenset()
    if first & money:  # "$5 USD"
        return unit._replace(top=(Word(first & money), *unit.top[1:]))
    if any(known_unit(name) for name in first):
        return None
    return unit._replace(top=(Word(money), *unit.top))


def _read_words(text: str) -> list[Word] | None:
    """The words of a part of a unit, those behind a "/" with a negative power; None when a word is no unit."""
    found, place, sign, power, open_end = [], 0, 1, 1, False
    for _ in range(_MOST_TOKENS):
        if not text[place:].strip():
            return None if open_end or power != 1 else found  # "5 km /", "5 square"
        token = _TOKEN.match(text, place)
        if not token or (token["join"] and not found):
            return None
        place = token.end()
        word, open_end = token["word"] or token["sign"] or "", bool(token["join"])
        if token["join"]:
            sign = -1 if token["join"] == "/" else sign
        elif word.casefold() in _BEFORE and not token["power"]:
            power = _BEFORE[word.casefold()]
        elif word.casefold() in _BEHIND and found and any(map(known_unit, found[-1].meanings)):
            found[-1] = found[-1]._replace(power=found[-1].power * _BEHIND[word.casefold()])
        elif _may_follow(token, found, more=bool(text[place:].strip())):
            written = re.sub(r"[^0-9-]", "", token["power"] or "") or "1"
            found, power = _joined(found, word, sign * power * int(written)), 1
        else:
            return None
    return None


def _may_follow(token: re.Match, found: list[Word], more: bool) -> bool:
    """Whether a sign or a word may stand behind the words found so far; `more`: whether others stand behind it."""
    word = token["word"]
    if not word or _is_scale(found, word):
        return True
    if (word.casefold() == "point" and more) or (token["power"] and not known_unit(word)):  # "5 point three"
        return False
    return may_be_unit(word, first=token.start() == 0 and not found, spaced=bool(token["space"]))


def _is_scale(found: list[Word], word: str) -> bool:
    """Whether a word behind "degrees" says on which scale."""
    return bool(found) and "°" in found[-1].meanings and word.casefold() in _SCALES


def _joined(found: list[Word], word: str, power: int) -> list[Word]:
    """The words with one more, which may make one with the last: degrees Celsius, kilowatt hours."""
    if _is_scale(found, word):
        return [*found[:-1], Word(frozenset({_SCALES[word.casefold()]}))]
    if word.casefold() in COMPOSITES:
        above, below = COMPOSITES[word.casefold()]
        return [*found, Word(frozenset({above})), Word(frozenset({below}), -1)]
    if word == "cc":
        return [*found, Word(frozenset({"cm"}), 3 * power)]
    watts = {name + "h" for name in (found[-1].meanings if found else ()) if name.endswith("W")}
    if watts and "h" in meanings(word) and power > 0:
        return [*found[:-1], Word(frozenset(watts))]
    return [*found, Word(meanings(word), power)]


def same_unit(ours: Unit, theirs: Unit) -> bool:
    """Whether one side has no unit, or both have the same, one perhaps with more words about it."""
    if not any(ours) or not any(theirs):
        return True
    if not _same_noun(ours.top, theirs.top):
        return False
    if ours.of and theirs.of and not _same_words(ours.of, theirs.of):
        return False
    if _same_words(ours.per, theirs.per):
        return True
    money = _is_loose(ours.top) and _is_loose(theirs.top)  # "$12 an hour" may be called "$12"
    return money and not (ours.per and theirs.per)


def _same_words(ours: tuple[Word, ...], theirs: tuple[Word, ...]) -> bool:
    return len(ours) == len(theirs) and all(a.power == b.power and a.meanings & b.meanings for a, b in zip(ours, theirs))


def _same_noun(ours: tuple[Word, ...], theirs: tuple[Word, ...]) -> bool:
    """Equal, or one has more words: before the noun ("red apples"), or such behind it that make no other thing of it."""
    fewer, more = sorted((ours, theirs), key=len)
    extra = len(more) - len(fewer)
    if not fewer or not extra:
        return not extra and _same_words(ours, theirs)
    if _same_words(fewer, more[extra:]):
        return not any(_makes_another(word) for word in more[:extra])
    if not _same_words(fewer, more[: len(fewer)]) or any(known_unit(name) for name in more[len(fewer)].meanings):
        return False  # "pound-feet" are no pounds
    return _is_loose(fewer) or _is_following(more[len(fewer)])


def _makes_another(word: Word) -> bool:
    """Whether a word before a unit makes another one of it: nautical miles, foot-pounds, kilowatt hours."""
    return bool(word.meanings & _OTHER_THINGS) or any(known_unit(name) for name in word.meanings)


def _is_loose(unit: tuple[Word, ...]) -> bool:
    """Whether it is money, percent or degrees, behind which any word is only a detail."""
    return bool(unit) and any(unit[0].meanings & meanings(sign) for sign in LOOSE)


def _is_following(word: Word) -> bool:
    return any(name in _FOLLOWING or name.endswith(("ed", "ing")) for name in word.meanings)
