"""Words behind a number: which spellings name one unit, and which words are no unit because they change the number.

"km", "kms" and "kilometres" are one unit; "million", "mln" and "doz" are none. Any other word may be a unit ("apples").
Left out on purpose: words in other scripts than Latin and Greek (nobody here can tell whether they multiply), and units
that only few would know: add a spelling to the tables where one is missed.
"""

import re
from functools import lru_cache


def words(text: str) -> set[str]:
    """The words of a table."""
    return set(text.split())


# Measures and currencies.
_PREFIXES = {
    "p": "pico", "n": "nano", "μ": "micro", "m": "milli", "c": "centi", "d": "deci", "h": "hecto", "k": "kilo",
    "M": "mega", "G": "giga", "T": "tera",
}  # fmt: skip
_METRIC = {  # symbol -> its names, and the prefixes in use with it
    "m": ("meter metre", "pnμmcdhkM"), "g": ("gram gramme", "nμmcdhkM"), "s": ("second sec", "pnμmM"),
    "L": ("liter litre", "nμmcdhkM"), "A": ("ampere amp", "nμmkM"), "K": ("kelvin", "m"), "mol": ("mole", "nμmk"),
    "Hz": ("hertz", "mkMGT"), "N": ("newton", "μmkM"), "Pa": ("pascal", "mhkMG"), "J": ("joule", "nμmkMG"),
    "W": ("watt", "nμmkMGT"), "Wh": ("watthour", "mkMGT"), "V": ("volt", "nμmkM"), "C": ("coulomb", "pnμm"),
    "F": ("farad", "pnμm"), "Ω": ("ohm", "mkMG"), "T": ("tesla", "nμm"), "B": ("byte", "kMGT"), "cal": ("calorie", "k"),
    "eV": ("electronvolt", "mkMGT"), "bar": ("bar", "m"), "dB": ("decibel", ""), "rad": ("radian", "m"),
    "t": ("tonne ton", ""),
}  # fmt: skip
DOLLARS = {
    "US": "usd", "A": "aud", "AU": "aud", "C": "cad", "CA": "cad", "NZ": "nzd", "HK": "hkd", "NT": "twd", "S": "sgd",
    "R": "brl",
}  # fmt: skip
_OTHER_MEASURES = {  # name -> spellings; a spelling may have several names: a pound is a weight, and money
    "min": "minute min", "h": "hour hr h", "d": "day", "week": "week wk", "month": "month", "y": "year yr",
    "in": "inch in", "ft": "foot feet ft", "yd": "yard yd", "mi": "mile mi", "lb": "pound lb", "oz": "ounce oz",
    "gal": "gallon gal", "qt": "quart qt", "pt": "pint pt", "tsp": "teaspoon tsp", "tbsp": "tablespoon tbsp",
    "ha": "hectare ha", "%": "percent percentage pct %", "°": "degree deg °", "°C": "degree deg ° celsius centigrade",
    "°F": "degree deg ° fahrenheit", "usd": "$ dollar buck usd", **{code: f"$ dollar {code}" for code in DOLLARS.values()},
    "eur": "€ euro eur", "gbp": "£ pound gbp quid", "jpy": "¥ yen jpy", "cny": "¥ yuan rmb cny", "inr": "₹ rupee inr rs",
    "krw": "₩ won krw", "chf": "franc chf", "rub": "₽ ruble rouble rub", "c": "¢ cent penny", "p": "penny pence",
    "kg": "kilo", "sek": "kr", "nok": "kr", "dkk": "kr", "pln": "zł zloty",
}  # fmt: skip
CODES = words("usd eur gbp jpy cny rmb inr krw chf rub aud cad nzd hkd twd sgd mxn brl zar sek nok dkk pln try thb")
COMPOSITES = {"mph": ("mi", "h"), "kph": ("km", "h"), "kmh": ("km", "h"), "kmph": ("km", "h")}
LOOSE = ("%", "°", "$", "€", "£", "¥", "₹", "₩", "₽", *CODES)  # behind these any word is only a detail
_IRREGULAR = {
    "teeth": "tooth", "geese": "goose", "mice": "mouse", "men": "man", "women": "woman", "children": "child",
    "people": "person", "dice": "die", "oxen": "ox", "halves": "half", "vertices": "vertex", "matrices": "matrix",
    "radii": "radius", "axes": "axis",
}  # fmt: skip
_WITHOUT_SPACE = words("""
    am bar cl cm dl dm eur ft gal gb gbp gr hp hr hz in kb kg khz km kmh kph kw kwh lb lbs mb mg mi min ml mm mph ms oz pm
    pt qt rad rpm sec sq tb usd yd yr cu wk cc
""")  # units of small letters that are no product of variables also where no space stands before them
_SINGLE_LETTERS = words("g h l m s L J N V W Ω Å")  # behind a space only: "5 m" is a length, "5m" may be 5 times m

# What is no unit.
_BIG = words("""
    dozen hundred thousand million milliard billion billiard trillion quadrillion quintillion grand gross score lakh crore
    myriad
""")
_THINGS = words("bills mills quads")  # plurals that are not cut from "billions"
_CHANGES = _BIG | words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety half halved third fourth
    fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth
    eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth
    thousandth millionth billionth trillionth mil mio bio mia lac mille mila tausend
    and or nor to but not no isn is are was wrong false incorrect than plus minus over divided squared cubed factorial
    mod modulo remainder pi sin cos tan log exp sqrt root power inf infinity between from until through less fewer
    below under negative double doubled twice triple tripled maybe perhaps possibly probably if then equal give make
    repeating repeated recurring reciprocal inverse opposite approximately approx roughly about around nearly almost circa
    above least most minimum maximum invalid cannot unknown except unless none nothing null nan etc times thrice fold thru
    versus hex hexadecimal binary octal base radix decimal overline ln pico nano micro milli centi deci deca hecto mega giga
    tera peta exa
""")  # what changes the number, adds another one, or takes the answer back
_OTHER_WORDS = re.compile(  # zillions, milliards, millones, kEUR
    rf"[a-z]*illi?(?:on|ard|ao|ão|ón)(?:s|e|en|es)?|millones|milhões|[kmgt](?:{'|'.join(sorted(CODES))})"
)
_LETTERS = re.compile(r"[a-zA-Z\u00c0-\u024fμΩ]+")
PRODUCT = r"(?!by(?![a-zA-Z]))[abcxyz]{2,3}"  # of variables, without signs; any other word is prose


def _singulars(word: str) -> set[str]:
    """What a word in small letters may be the plural of, itself included: "berries" is one of berry, if it is one."""
    found = {word, _IRREGULAR.get(word, word)}
    for ending, other in (("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe")):
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            found.add(word.removesuffix(ending) + other)
    return found


def _all_spellings() -> dict[str, frozenset[str]]:
    """Spelling -> the names of the unit; symbols as they are written, words in small letters."""
    found: dict[str, set[str]] = {}
    spellings = {name: [name, *words.split()] for name, words in _OTHER_MEASURES.items()}
    for symbol, (words, prefixes) in _METRIC.items():
        for prefix in ("", *prefixes):
            long = [_PREFIXES.get(prefix, "") + word for word in words.split()]
            spellings.setdefault(prefix + symbol, [prefix + symbol]).extend(long)
    for name in ("L", "mL", "cL", "dL"):
        spellings[name].append(name.lower())
    for name, words in spellings.items():
        for word in words:
            found.setdefault(word, set()).add(name)
    return {word: frozenset(names) for word, names in found.items()}


_NAMES = _all_spellings()
# In wrong capitals too ("Kg", "MPH"), but "mW" is not "MW".
_ANY_CASE = {word[:1] + word[1:].casefold(): names for word, names in _NAMES.items()}


@lru_cache(maxsize=1024)
def known_unit(word: str) -> frozenset[str] | None:
    """The names of the measures or currencies that a word, a symbol or a sign may stand for; None for other words."""
    if word.endswith("$") and word != "$":
        return frozenset({DOLLARS.get(word[:-1].upper(), word)})
    if word in _NAMES:
        return _NAMES[word]
    if word == "MM":  # a million
        return None
    small = word.casefold()
    cases = (word[:1] + small[1:], small) if small[0] in "mt" else (small,)
    for single in (one for case in cases for one in (case, *_singulars(case))):
        if single in _NAMES or (single in _ANY_CASE and (len(single) > 2 or single.casefold() in _WITHOUT_SPACE)):
            return _NAMES.get(single) or _ANY_CASE[single]
    return None


@lru_cache(maxsize=1024)
def meanings(word: str) -> frozenset[str]:
    """All that a word may stand for, whatever its spelling; two words are the same where these meet."""
    return known_unit(word) or frozenset(_singulars(word.casefold()))


def may_be_unit(word: str, first: bool, spaced: bool) -> bool:
    """Whether a word of letters may be (part of) a unit: it changes no number, and is no product of variables."""
    if not _LETTERS.fullmatch(word):
        return False
    if len(word) == 1:
        return word in _SINGLE_LETTERS and (spaced or not first)
    if word.casefold() in _WITHOUT_SPACE or word in COMPOSITES:
        return word != "MM"
    if known_unit(word) and (spaced or not first or not word.islower()):
        return True
    if changes_number(word):
        return False
    return not first or (spaced and len(word) > 2 and not re.fullmatch(PRODUCT, word))


@lru_cache(maxsize=1024)
def changes_number(word: str) -> bool:
    """Whether a word multiplies, adds, denies or doubts the number before it; abbreviations too ("mln", "doz")."""
    word = word.casefold()
    short = word.removesuffix("s")
    if _singulars(word) & _CHANGES or _OTHER_WORDS.fullmatch(word):
        return True
    if len(short) >= 3 and word not in _THINGS and any(big.startswith(short) for big in _BIG):  # cut short
        return True
    return not set(short) & set("aeiou") and any(_has_in_order(big, short) for big in _BIG)


def _has_in_order(word: str, letters: str) -> bool:
    """Whether a word begins with the first of the letters and has the others behind it, as "million" has m, l, n."""
    rest = iter(word)
    return word[:1] == letters[:1] and all(letter in rest for letter in letters)
