r"""Getting the answer out of a text, and deciding whether two answers are equal.

No `eval`, no floats: numbers are exact fractions. Every function takes time linear in its input (of a text longer
than MAX_TEXT only the end is read). Algebra, "x + 1" against "1 + x", is asked of `helper.symbolic`, and only
where both answers are short expressions; all else is decided here, in microseconds.
A number must be computed: "6 * 12" and "6 * 12 = 72" are not "72", since a reward must not pay for a sum that was
only written down. Written-out fractions, one root and one power pass for numbers ("144/2", "\sqrt{16}", "2^{10}").
Left out on purpose: converting units (60 minutes are not 1 hour), number words, scientific notation, matrices,
"1 \pm 2", commas as decimal signs.
"""

import json
import re
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

from helper.symbolic import same_expressions

MAX_TEXT = 50_000  # characters; an answer stands at the end, so of a longer text the last so many are read
MAX_CLAUSE = 500  # so much is read behind "The answer is"
MAX_PHRASES = 20  # so many of the last "The answer is" are looked at
MAX_ANSWER = 200  # characters; a longer "answer" is no answer, and is compared as text only


def _words(text: str) -> set[str]:
    return set(text.split())


# Where an answer stands in a text.
_BOX = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_PHRASE = re.compile(
    r"\banswer(?: (?:to|for)(?: [\w()]++){1,4}?)?[\s*_]*+"
    r"(?:(?:is|was|equals|(?:would|will|must|should) be|comes to)\b(?: (?:thus|therefore|hence|then|simply)\b)?"
    r"(?: equal to\b)?|(?=[:=])|(?<=\*\*\n)|(?<=\*\*\n\n))[\s*_:=]*+"
    r"(?:\\[\[(]|\$\$)?",
    re.IGNORECASE,
)
_CLAUSE_END = re.compile(
    r"[.!?;](?=\s|$)|\*\*(?![\w(])|\\[\])]|\$\$|\s\(|—|\s(?:because|since|which|so|as|when|where|for)\b"
    r"|,\s++(?!(?:and|or|but|maybe|perhaps|possibly)\b)(?=[a-z])",
    re.IGNORECASE,
)
_DIGIT = re.compile(r"[0-9½¼¾]")

# Cleaning.
_THIN = "\u2009"  # a space that may stand between thousands, where an ordinary one may not
_UNICODE = str.maketrans({
    "\u00a0": _THIN, "\u202f": _THIN, "−": "-", "–": "-", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "²": "^2",
    "³": "^3", "×": r"\times ", "·": r"\cdot ", "π": r"\pi ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∞": r"\infty ",
    "∪": r"\cup ",
})  # fmt: skip
_COMMAND = re.compile(r"\\(?:[a-zA-Z]+|.)", re.DOTALL)
_COMMANDS = {
    r"\!": "", r"\,": _THIN, r"\;": " ", r"\:": " ", r"\ ": " ", r"\quad": " ", r"\qquad": " ", r"\left": "",
    r"\right": "", r"\displaystyle": "", r"\(": "", r"\)": "", r"\[": "", r"\]": "", r"\%": "%", r"\$": "$",
    r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac", r"\leq": r"\le", r"\geq": r"\ge",
    r"\neq": r"\ne", r"\lt": "<", r"\gt": ">", r"\degree": "°",
}  # fmt: skip
_WRAPPER = re.compile(
    r"\\(?:text|(?:text|math)(?:bf|it|rm|sf|tt)|mbox|boldsymbol|operatorname)"
    r"\s*\{((?:[^{}]++|\{[^{}]*+\})*+)\}"  # one level of braces inside
)
_DEGREE = re.compile(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![a-zA-Z]))")
_FRACTION = re.compile(r"\\frac\s*(?:\{([^{}]*)\}|([0-9]))\s*(?:\{([^{}]*)\}|([0-9]))")
_INDEX = re.compile(r"([_^])\{([0-9a-zA-Z])\}(?![0-9a-zA-Z])")
_IN_BRACKETS = re.compile(r"\(([^(),]+)\)|\{([^{},]+)\}")
_NEEDLESS_SPACE = re.compile(r" (?=[^\w.,])|(?<=[^\w.,]) |(?<=,) (?![0-9]{3}(?![0-9]))|(?<=[0-9]) (?=[^\W\d_])")

# Numbers.
_UNSIGNED = rf"(?:(?:[1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})++|(?:{_THIN}[0-9]{{3}})++)|[0-9]++)(?:\.[0-9]++)?|\.[0-9]++)"
_QUANTITY = re.compile(
    rf"""(?P<number>
        (?P<sign>[-+]?)\s*+(?P<currency>(?:US)?\$|USD(?=[\s0-9])|[€£¥₹]|)\s*+(?P<inner_sign>[-+]?)\s*+
        (?: (?: (?P<whole>[0-9]++)(?:\s++(?=[0-9])|\s*+(?=\\)) )?
            (?: (?P<top>{_UNSIGNED})\s*+/\s*+(?P<bottom>-?{_UNSIGNED})
              | \\frac\{{\s*+(?P<latex_top>[-+]?\s*+{_UNSIGNED})\s*+\}}\{{\s*+(?P<latex_bottom>[-+]?\s*+{_UNSIGNED})\s*+\}} )
          | (?P<plain>{_UNSIGNED}) ) )
        (?P<unit>.*)""",
    re.VERBOSE | re.DOTALL,
)
_WORDS_ONLY = re.compile(  # perhaps behind a time of day
    r"(?:[0-9]{1,2}:[0-9]{2})?[^\W\d_](?:[^\W\d_]|[ .;:!?'\"]|(?<=[^\W\d_]{3})-(?=[^\W\d_]{3}))*+"
)
_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:,[0-9]{3})++(?![0-9]|,[0-9])")

# What may stand behind a number without changing it.
_UNIT_WORD = r"[^\W\d_]+(?:\s?\^\{?[1-3]\}?)?\.?"
_UNIT = re.compile(
    rf"(?P<space>\s*)(?P<sign>%|°\s?[CFK]?(?![^\W\d_])|[$€£¥₹])?\s*"
    rf"(?P<words>{_UNIT_WORD}(?:(?:\s?[/-]\s?|\s){_UNIT_WORD}){{0,4}})?"
)
_SIGN_AND_WORD = re.compile(rf"(\s?/\s?|)({_UNIT_WORD})")
_PLURAL = re.compile(r"(?:(?<=[xh])es|(?<=[^\W\d_]{2}[^\W\d_s])s)$")
_SHORT_UNITS = _words("""
    am bar cl cm dl dm eur ft gal gb gbp hp hr hz in kb kg khz km kmh kph kw kwh lb lbs mb mg mi min ml mm mph ms oz pm
    pt qt rad rpm sec sq tb usd yd yr
""")
_LETTER_UNITS = _words("g h l m s L")  # behind a space only: "5 m" is a length, "5m" may be 5 times m
_NOT_UNITS = _words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion
    quadrillion lakh crore grand score gross dozen half halve halved third quarter fourth fifth sixth seventh eighth
    ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
    thirtieth fortieth fiftieth sixtieth seventieth eightieth ninetieth hundredth thousandth millionth billionth
    trillionth mil
    and or nor to but not no isn is are was wrong false incorrect than plus minus over divided point squared cubed
    factorial mod modulo remainder pi sin cos tan log exp sqrt root power inf infinity between from until through
    less fewer below under negative double doubled twice triple tripled maybe perhaps possibly probably if then equal
    give make repeating recurring reciprocal approximately approx roughly least most minimum maximum invalid cannot
    unknown except
""")  # what changes the number, adds another one, or takes the answer back
_UNIT_NAMES = {
    "dollar": "$", "usd": "$", "us$": "$", "euro": "€", "eur": "€", "gbp": "£", "pound": "£", "yen": "¥",
    "rupee": "₹", "percent": "%", "degree": "°",
}  # fmt: skip
_CURRENCIES = frozenset("$€£¥₹")
_OTHER_UNIT = _words(
    "square cubic sq cu kilowatt megawatt watt amp ampere newton £ foot feet light man nautical"
)  # ... mile
_MEGA_OR_MILLI = _words("mm mg mw ms ml mv ma mj mn mpa")
_RATE = re.compile(r"(?:\s?/\s?|\sper\s|\san?\s)(?=(?:hour|hr|day|week|month|year|minute|second|person)s?\b)")
_OF = re.compile(r"\s+of\s+(?:(?:the|an?)\s+)?(?=[^\W\d_]{3})")

# Expressions that may be handed over to algebra.
_VARIABLES = r"(?!by(?![a-zA-Z]))[abcxyz]{2,3}"  # a product without signs; any other word is prose
_ALGEBRA = re.compile(
    r"(?:[0-9]+|[-+*/^_=<>()\[\]{},\s]"
    r"|\\(?:frac|sqrt|cdot|times|pi|infty|cup|le|ge|sin|cos|tan|log|ln|exp|alpha|beta|gamma|theta|lambda|mu|phi)"
    r"(?![a-zA-Z])"
    rf"|(?:sqrt|sin|cos|tan|log|ln|exp|pi|{_VARIABLES}|[a-zA-Z])(?![a-zA-Z]))++"
)
_SINGLE_LETTER = re.compile(r"(?:\\[a-zA-Z]+|(?:sqrt|sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z]))|([a-zA-Z])")
_BARE_NAME = re.compile(r"(?<![a-zA-Z\\])(?:sin|cos|tan|log|ln|exp|pi)(?![a-zA-Z])")
_DECIMAL = re.compile(r"(?<![0-9.])([0-9]*)\.([0-9]+)(?![0-9.])")
_MATHS_SIGN = re.compile(r"[0-9^\\+*/=<>-]")
_SUM_OF_NUMBERS = re.compile(
    r"(?<![\^0-9._/a-zA-Z])[0-9]+\s*(?:[-+]\s*[0-9]+(?!\s*[0-9^._a-zA-Z\\(])"
    r"|(?:\*|\\cdot|\\times)\s*[0-9]+(?!\s*[0-9^]))"
)
_HUGE_POWER = re.compile(r"\^[\s{(+-]*(?:[0-9]{4}|[0-9]+\s*\^)")
_ROOT_OR_POWER = re.compile(
    r"-?\s*(?:\\?sqrt\s*(?:\[[0-9]+\])?\s*[{(]?[0-9.]+[)}]?|[0-9.]+\s*(?:\^|\*\*)\s*(?:[0-9]+|\{[0-9]+\}))"
)
_RELATION = re.compile(r"[<>=]|\\[lg]e(?![a-zA-Z])")
_ASSIGNMENT = re.compile(r"([a-zA-Z])\s*+(?:=|\\in(?![a-zA-Z]))\s*+(?=[^=\s])")
_EXACT_WITH_UNIT = re.compile(
    r"(.*(?:\\pi|\}))\s+((?:square |cubic )?(?:[ckm]?m|in|ft|(?:centi|kilo)?meter|inche?|feet|foot|yard|mile|unit)s?"
    r"(?:\^[23])?)"
)
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


class _Quantity(NamedTuple):
    value: Fraction
    unit: frozenset[str]  # the words of the unit; empty without one
    number: str  # as it was written, without the unit


def extract_boxed(text: str) -> str | None:
    r"""The inside of the last complete \boxed{...}, nested braces kept; None without one.

    >>> extract_boxed(r"Half: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    text = _end_of(text)
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

    The last of a kind counts, but words ("this answer is correct") do not replace an earlier number. Behind
    "The answer is" a unit is left away, and so is what follows the clause.

    >>> extract_answer("6 * 7 = 42, so the answer is **42 apples**.")
    '42'
    """
    text = _end_of(text)
    boxed = extract_boxed(text)
    if boxed is not None:
        return boxed
    return _after_hashes(text) or _in_tags(text) or _after_phrase(text)


def _end_of(text: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}, and not a str")
    return text[-MAX_TEXT:]


def _after_hashes(text: str) -> str | None:
    """The line behind the last "####" that has one; of a heading without a digit, the answer named below it."""
    tail = next((part for part in reversed(text.split("####")[1:]) if part.strip()), "")
    line = _first_line(tail)
    if _DIGIT.search(line):
        return (_after_phrase(line) if len(line) <= MAX_CLAUSE else None) or line
    return _after_phrase(tail) or line or None


def _in_tags(text: str) -> str | None:
    """The inside of the last <answer>...</answer> that holds no other tag."""
    for closing, opening in pairwise(reversed(list(_TAG.finditer(text)))):
        if closing.group(1) and not opening.group(1):
            return text[opening.end() : closing.start()].strip()
    return None


def _after_phrase(text: str) -> str | None:
    """The last clause behind "The answer is" that holds a digit; without one, the last clause."""
    phrases = list(_PHRASE.finditer(text))[: -MAX_PHRASES - 1 : -1]
    clauses = [
        clause for clause in (_clause(text[phrase.end() : phrase.end() + MAX_CLAUSE]) for phrase in phrases) if clause
    ]
    clause = next(filter(_DIGIT.search, clauses), clauses[0] if clauses else "")
    quantity = _quantity(_clean(clause)) if len(clause) <= MAX_ANSWER else None
    return quantity.number if quantity else clause or None


def _clause(text: str) -> str:
    """The first line up to the end of its first clause."""
    line = _first_line(text)
    end = _CLAUSE_END.search(line)
    clause = line[: end.start() if end else None].strip().rstrip(".,*")
    if clause.count("$") == 2 and clause[0] == clause[-1] == "$":
        clause = clause[1:-1]
    return clause


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
    answer = _end_of(answer)
    tail = _first_line(answer.rpartition("####")[2]) if "####" in answer else ""
    quantity = _quantity(tail.rstrip(".")) if len(tail) <= MAX_ANSWER else None
    number = re.sub(r"[$,\s]", "", quantity.number) if quantity and quantity.unit <= {"$"} else ""
    if not re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)", number):
        raise ValueError(f'No number after "####" in: {answer[-80:]!r}')
    return number


def answers_match(predicted: str | float | None, expected: str | float) -> bool:
    r"""Whether two answers are the same text, the same number, or by algebra the same expression.

    "1,000" is "1000"; "0.5", "1/2" and "\frac{1}{2}" are one number. A unit may be missing ("12 apples" is "12"),
    but not be another one ("5 m" is not "5 cm"); "50%" is "50", not "0.5". Sets are equal in any order; lists,
    tuples and intervals in their own.

    >>> answers_match("$1,000.00", "1000"), answers_match("1/3", "0.33"), answers_match("6 * 12", "72")
    (True, False, False)
    """
    if predicted is None:
        return False
    predicted, expected = str(predicted), str(expected)
    if not predicted.strip():
        return False
    if max(len(predicted), len(expected)) > MAX_ANSWER:
        return predicted.strip() == expected.strip()
    ours, theirs = _clean(predicted), _clean(expected)
    if not ours or not theirs:
        return False
    if _squeezed(ours) == _squeezed(theirs):
        return True
    ours, theirs = _without_names(ours, theirs)
    left, right = _quantity(ours), _quantity(theirs)
    if left and right:
        return left.value == right.value and _same_units(left.unit, right.unit)
    ours, theirs = _without_unit(ours, theirs)
    if _two_cases(ours + theirs):
        return False
    collections = _collection(ours), _collection(theirs)
    if any(collections):
        return all(collections) and _same_collections(*collections)
    return _same_by_algebra([ours], [theirs])


def normalise(answer: str) -> str:
    r"""The answer in one way of writing: a number as "3", "-5/2", without its unit; words in lower case; any
    other text without LaTeX wrappers and needless spaces.

    >>> normalise(r"\text{1,000.50 dollars}"), normalise(r"\left(1, X\right).")
    ('2001/2', '(1,X)')
    """
    if len(answer) > MAX_ANSWER:
        return answer.strip().casefold()
    text = _clean(answer)
    quantity = _quantity(text)
    return str(quantity.value) if quantity else _squeezed(text)


def as_number(text: str) -> Fraction | None:
    r"""The exact value of "-1,234.5", "3/4", "\frac{3}{4}" or "1 1/2", with or without a unit; None for anything
    else.

    No exponents: "1e999999999" would take the machine's memory.
    """
    quantity = _quantity(text) if len(text) <= MAX_ANSWER else None
    return quantity.value if quantity else None


def hard_answer_cases() -> list[dict]:
    """The table of answers that simple graders judge wrongly: one dict for each row of helper/hard_answers.jsonl.

    `predicted`, `expected`: two answers, or with `from_text` true a whole text and an answer; `equal`: the right
    verdict; `kind`: the kind of mistake it invites; `why`: the reason; `wrong`: the simple graders that fail on it.
    """
    path = Path(__file__).with_name("hard_answers.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _clean(answer: str) -> str:
    """The answer with one sign for each thing, and without Markdown, LaTeX wrappers, outer spaces and full stop."""
    text = answer.strip()
    text = text if text.isascii() else text.translate(_UNICODE)
    if "$" in text and len(re.findall(r"(?<!\\)\$", text)) % 2 == 0:  # delimiters, not dollars
        text = re.sub(r"(?<!\\)\$", "", text)
    if "\\" in text or "{,}" in text:
        text = _COMMAND.sub(lambda match: _COMMANDS.get(match.group(), match.group()), text).replace("{,}", ",")
        for _ in range(3):  # wrappers in wrappers
            text = _WRAPPER.sub(r" \1", text)
        text = _FRACTION.sub(r"\\frac{\1\2}{\3\4}", _DEGREE.sub("°", text))
    text = re.sub(r"(?<=[0-9}])[ \t]{0,9}~[ \t]*+(?=[a-zA-Z])|[ \t\r\n\f\v]++|(?<=[0-9}])~", " ", text)
    text = _INDEX.sub(r"\1\2", text).lstrip(" *`\"'").rstrip(" *`\"'.").strip()
    inside = _IN_BRACKETS.fullmatch(text)
    return (inside.group(1) or inside.group(2)).strip() if inside else text


def _squeezed(text: str) -> str:
    text = _NEEDLESS_SPACE.sub("", text)
    return text.casefold() if _WORDS_ONLY.fullmatch(text) else text  # "R" and "r" may be two variables


def _without_unit(ours: str, theirs: str) -> tuple[str, str]:
    """ "2\\pi cm" and "2\\pi" without the unit, which may be missing, but not be another one."""
    left, right = _EXACT_WITH_UNIT.fullmatch(ours), _EXACT_WITH_UNIT.fullmatch(theirs)
    if left and right and left.group(2) != right.group(2):
        return ours, theirs
    if any(quantity and quantity.unit for quantity in (_quantity(ours), _quantity(theirs))):
        return ours, theirs
    return (left.group(1) if left else ours), (right.group(1) if right else theirs)


def _two_cases(text: str) -> bool:
    """Whether a letter stands alone both as a capital and as a small one: two variables, one for algebra."""
    letters = set(_SINGLE_LETTER.findall(text)) - {""}
    return any(letter.swapcase() in letters for letter in letters)


def _without_names(ours: str, theirs: str) -> tuple[str, str]:
    """ "x = 5" and "5" as "5" and "5"; two different names stay."""
    left, right = _ASSIGNMENT.match(ours), _ASSIGNMENT.match(theirs)
    if left and right and left.group(1) == right.group(1):
        return ours[left.end() :], theirs[right.end() :]
    if left and "=" not in theirs:
        return ours[left.end() :], theirs
    if right and "=" not in ours:
        return ours, theirs[right.end() :]
    return ours, theirs


def _quantity(text: str) -> _Quantity | None:
    """One number with or without a unit, and nothing else; None for anything else."""
    match = _QUANTITY.fullmatch(text)
    if not match or (match["sign"] and match["inner_sign"]):
        return None
    unit = _unit(match["unit"])
    value = _value(match)
    if unit is None or value is None:
        return None
    negative = "-" in (match["sign"], match["inner_sign"])
    currency = match["currency"].casefold()
    unit = unit | {_UNIT_NAMES.get(currency, currency)} if currency else unit
    return _Quantity(-value if negative else value, unit, match["number"].strip())


def _value(match: re.Match) -> Fraction | None:
    if match["plain"]:
        return _fraction(match["plain"])
    top, bottom = _fraction(match["top"] or match["latex_top"]), _fraction(match["bottom"] or match["latex_bottom"])
    if not bottom:
        return None
    if not match["whole"]:
        return top / bottom
    proper = 0 < top < bottom and top.denominator == bottom.denominator == 1  # 1 1/2, not 1 3/2
    return Fraction(match["whole"]) + top / bottom if proper else None


def _fraction(text: str) -> Fraction:
    whole, _, decimals = re.sub(r"[,\s]", "", text).partition(".")
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def _unit(text: str) -> frozenset[str] | None:
    """The words of a unit, plural "s" left away; None when the text is no unit."""
    if not text:
        return frozenset()
    text = _RATE.sub(" per ", _OF.sub(" ", text.replace("per cent", "percent").rstrip(), count=1))
    text = re.sub(r"\bUS (?=dollar)", "", text)
    match = _UNIT.fullmatch(text)
    if not match:
        return None
    names = set()
    if match["sign"]:
        names.add(match["sign"].replace(" ", "").casefold())
    spaced, per = bool(match["space"]), ""
    for place, (sign, word) in enumerate(_SIGN_AND_WORD.findall(match["words"] or "")):
        word = re.sub(r"[\s{}.]", "", word)
        letters, _, power = word.partition("^")
        name = _PLURAL.sub("", letters.casefold())
        if {name, letters.casefold()} & _NOT_UNITS:
            return None
        if not _is_unit(letters, first=place == 0 and not match["sign"], spaced=spaced):
            return None
        per = "/" if sign.strip() == "/" or name == "per" else per
        name = letters[0] + name[1:] if name in _MEGA_OR_MILLI else name
        if name != "per":
            names.add(per + _UNIT_NAMES.get(name, name) + power)
    return frozenset(names)


def _same_units(ours: frozenset[str], theirs: frozenset[str]) -> bool:
    """Whether one side has no unit, or says only more about the other's: "red apples" and "apples"."""
    fewer, more = sorted((ours, theirs), key=len)
    if not fewer <= more:
        return False
    if not fewer:
        return True
    rates_count = not fewer <= _CURRENCIES  # "$12 an hour" may be called "$12"
    return not any(word in _OTHER_UNIT or (word[0] == "/" and rates_count) for word in more - fewer)


def _is_unit(word: str, first: bool, spaced: bool) -> bool:
    """Whether a word of letters may be (part of) a unit, and cannot be a product of variables."""
    if len(word) == 1:
        return word in _LETTER_UNITS and (spaced or not first)
    if not first or word.casefold() in _SHORT_UNITS:
        return True
    return spaced and len(word) > 2 and not re.fullmatch(_VARIABLES, word)


def _collection(text: str) -> tuple[str, list[str]] | None:
    """The brackets ("" for a bare list) and the parts between the outer commas; None without such commas."""
    if "," not in text:
        return None
    text = text.replace(r"\{", "{").replace(r"\}", "}")
    if ", " in text or text[0] not in _BRACKETS:  # elsewhere "(3,100)" is a point
        text = _THOUSANDS.sub(lambda match: match.group().replace(",", ""), text)
    depth, depths = 0, []
    for character in text:
        depth += _BRACKETS.get(character, 0)
        depths.append(depth)
    bracketed = depths[0] == 1 and depths[-1] == 0 and 0 not in depths[:-1]
    cuts = [place for place, sign in enumerate(text) if sign == "," and depths[place] == int(bracketed)]
    if not cuts:
        return None
    ends = [0 if bracketed else -1, *cuts, len(text) - int(bracketed)]
    parts = [text[start + 1 : end].strip() for start, end in pairwise(ends)]
    return (text[0] + text[-1] if bracketed else ""), parts


def _same_collections(ours: tuple[str, list[str]], theirs: tuple[str, list[str]]) -> bool:
    (brackets, left), (other_brackets, right) = ours, theirs
    if brackets != other_brackets:
        return False
    if brackets == "{}":
        known, wanted = {normalise(part) for part in left}, {normalise(part) for part in right}
        left = [part for part in left if normalise(part) not in wanted]
        right = [part for part in right if normalise(part) not in known]
        return _same_by_algebra(left, right, ordered=False)
    if len(left) != len(right):
        return False
    pairs = [pair for pair in zip(left, right, strict=True) if normalise(pair[0]) != normalise(pair[1])]
    return _same_by_algebra([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def _same_by_algebra(left: list[str], right: list[str], ordered: bool = True) -> bool:
    if len(left) != len(right):
        return False
    if not left:
        return True
    pairs = zip(left, right, strict=True) if ordered else product(left, right)
    if not all(_comparable(ours, theirs) for ours, theirs in pairs):
        return False
    ours, theirs = (tuple(_expression(text) for text in texts) for texts in (left, right))
    return same_expressions(ours, theirs, ordered)


def _comparable(ours: str, theirs: str) -> bool:
    """Whether algebra may decide: two short expressions of one kind, and no number left to compute."""
    if not (_MATHS_SIGN.search(ours) or _MATHS_SIGN.search(theirs)):  # two words or letters
        return False
    if bool(_RELATION.search(ours)) != bool(_RELATION.search(theirs)):  # "x + 1 = 5" is not "5"
        return False
    if _quantity(ours) and not _ROOT_OR_POWER.fullmatch(theirs):
        return False
    if _quantity(theirs) and not _ROOT_OR_POWER.fullmatch(ours):
        return False
    if any(_quantity(_ASSIGNMENT.sub("", text, count=1)) for text in (ours, theirs) if "=" in text):
        return False  # "x + 1 = 5" is not "x = 4"
    return _expression(ours) is not None and _expression(theirs) is not None


def _expression(text: str) -> str | None:
    """The text as LaTeX for algebra, decimals as exact fractions; None for prose and whatever is not safe."""
    quantity = _quantity(text)
    if quantity:
        return rf"\frac{{{quantity.value.numerator}}}{{{quantity.value.denominator}}}"
    text = _DECIMAL.sub(_as_latex_fraction, text).replace("**", "^")
    if not _ALGEBRA.fullmatch(text) or not re.search(r"[a-zA-Z^]", text):
        return None
    if _SUM_OF_NUMBERS.search(text) or _HUGE_POWER.search(text):
        return None
    return _BARE_NAME.sub(r"\\\g<0> ", text)


def _as_latex_fraction(decimal: re.Match) -> str:
    whole, digits = decimal.groups()
    return rf"{{\frac{{{whole}{digits}}}{{1{'0' * len(digits)}}}}}"
