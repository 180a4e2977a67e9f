r"""Stage 1: where in a text the answer stands.

In this order: \boxed{} (or, where there is none, "\boxed 5" without braces, or \fbox{}), then "#### ", then <answer> tags,
then "The answer is". The last of a kind counts. What a model only thought (<think>...</think>, or what follows a <think>
that is never closed) is no answer. Every function takes time linear in its input; of a text longer than MAX_TEXT only the
end is read.
Left out on purpose: guessing ("the last number in the text"). An answer that is not marked is none.
"""

import re
from itertools import pairwise

from helper.answers.numbers import MAX_ANSWER, quantity, written
from helper.answers.spellings import meanings
from helper.answers.units import Unit, Word
from helper.answers.writing import clean

MAX_TEXT = 50_000  # characters; an answer stands at the end, so of a longer text the last so many are read
MAX_CLAUSE = 500  # so much is read behind "The answer is"
MAX_PHRASES = 20  # so many of the last "The answer is", and of the last boxes without braces, are looked at

# What is no answer.
_THOUGHT = re.compile(
    r"<\s?(?P<end>/)?\s?(?:seed:)?(?:think|thinking|thoughts?|reflection|scratchpad)\s?>|\[(?P<end_2>/)?(?-i:THINK)\]"
    r"|◁(?P<end_3>/)?think▷|<\|(?:begin|(?P<end_4>end))_of_thought\|>"
    r"|<\|channel\|>(?:analysis|commentary|(?P<end_5>final))(?:<\|message\|>)?",
    re.IGNORECASE,
)
_THINKING = ("think", "thought", "reflection", "scratchpad", "channel")  # one of these is in each of its marks
_REASONING = re.compile(r"<(/?)reasoning>", re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"<\|[^<>|\s]{1,30}\|>|</?s>|<(?:eos|bos|pad|(?:start|end)_of_turn)>")
_MISSING = frozenset(["", "none", "null", "nan", "nat", "<na>"])

# Where it stands.
_BOX = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_FRAME = re.compile(r"\\fbox\s*\{|\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(  # "\boxed 5", "\boxed5" and "\boxed\frac12", but no word of a sentence: "in \boxed form"
    r"\\boxed(?:\s++|(?=[0-9\\]))(?=[^\s{}$\\,;]|\\[a-zA-Z$%])(?![^\W\d_]{2,}+(?![\w$^({]))"
)
_BARE_INSIDE = re.compile(r"(?:[^\s{}$\\,;<]|<(?!\|)|,(?=[0-9]{3}(?![0-9]))|\\[a-zA-Z$%,!]+|\{(?:[^{}]|\{[^{}]*\})*+\})++")
_DOLLARS = re.compile(r"(?<!\\)\$\$?")
_SENTENCE = re.compile(r"\n|[.!?]\s|[^\W\d_]{3,}\s+[^\W\d_]{2,}")
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_PHRASE = re.compile(
    r"\banswer(?: (?:to|for)(?: [\w()]++){1,4}?)?[\s*_]*+"
    r"(?:(?:is|was|equals|(?:would|will|must|should) be|comes to)\b(?: (?:thus|therefore|hence|then|simply)\b)?"
    r"(?: equal to\b)?|(?=[:=])|(?<=\*\*\n)|(?<=\*\*\n\n))[\s*_:=]*+"
    r"|^[#*_ ]{0,9}(?:the )?(?:final )?answer[*_: ]{0,9}\n\s*+",  # a heading
    re.IGNORECASE | re.MULTILINE,
)
_CLAUSE_END = re.compile(
    r"\n|[.!?](?=\s|$)|;(?=\s*$|\s+[a-z]{2})|\*\*(?![\w(])|__(?!\w)|\\[\])]|\$\$|—"
    r"|\s\((?!(?:or|and|mod|sin|cos|tan|log|ln|exp|sqrt|[abcxyz]{2,3})\b)(?=[a-z]{2})"  # a remark in brackets
    r"|\s(?:because|since|which|so|as|when|where|for)\b|,\s++(?!(?:and|or|but|maybe|perhaps|possibly)\b)(?=[a-z])",
    re.IGNORECASE,
)
_FORMULA = re.compile(
    r"\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<![\\$])\$(?=[^\s$])([^$]*?[^\s$\\])\$(?![0-9$])", re.DOTALL
)
_TRAILING = re.compile(r"[.,*_]*(?:,\s+(?:and|or|but))?$")
_DIGIT = re.compile(r"[0-9½¼¾]")


def without_thoughts(text: str) -> str:
    """What a model says, without what it thinks; of a text that ends in a thought, what stands before it.

    A thought ends without a beginning where the chat template wrote the beginning: all before it is thought.
    """
    lower = text.lower()
    if not any(word in lower for word in _THINKING):
        return text
    said, start, thinking = [], 0, False
    for tag in _THOUGHT.finditer(text):
        if tag.lastgroup:  # it ends a thought
            said = said if thinking else []
            start, thinking = tag.end(), False
        elif not thinking:
            said.append(text[start : tag.start()])
            thinking = True
    return "".join(said if thinking else [*said, text[start:]])


def _without_reasoning(text: str) -> str:
    """Without <reasoning>...</reasoning>, the worked solution in the form of answers in tags."""
    if "</" not in text:
        return text
    parts, start, opened = [], 0, None
    for tag in _REASONING.finditer(text):
        if not tag.group(1):
            opened = tag.start() if opened is None else opened
        elif opened is not None:
            parts.append(text[start:opened])
            start, opened = tag.end(), None
    return "".join([*parts, text[start:]])


def _end_of(text: str) -> str:
    """The end of what was said; raises TypeError for what is no text."""
    if not isinstance(text, str):
        raise TypeError(f"text is a {type(text).__name__}, and not a str")
    return _without_reasoning(without_thoughts(text))[-MAX_TEXT:]


def extract_boxed(text: str) -> str | None:
    r"""The inside of the last complete \boxed{...}, nested braces kept; None without one.

    Where there is none, as Hendrycks et al. 2021 (arXiv 2103.03874) read their data set MATH: what stands behind a \boxed
    without braces, up to the end of its formula, and in a text without \boxed the inside of the last \fbox{...}.

    >>> extract_boxed(r"Half: \boxed{\frac{1}{2}}."), extract_boxed(r"So $x = \boxed 5$.")
    ('\\frac{1}{2}', '5')
    """
    text = _end_of(text)
    boxed = _in_braces(text, _BOX)
    if boxed is None:
        boxed = _bare_box(text) if r"\boxed" in text else _in_braces(text, _FRAME)
    return boxed


def _in_braces(text: str, box: re.Pattern) -> str | None:
    """The inside of the last complete box; `box` finds its beginning, and all braces."""
    open_braces, best = [], None  # a brace is the place where its inside starts, and whether it is a box
    for match in box.finditer(text):
        token = match.group()
        if token.endswith("{") and token != r"\{":
            open_braces.append((match.end(), token != "{"))
        elif token == "}" and open_braces:
            start, boxed = open_braces.pop()
            if boxed and (best is None or start > best[0]):
                best = (start, match.start())
    return text[best[0] : best[1]].strip() if best else None


def _bare_box(text: str) -> str | None:
    r"""What stands behind the last "\boxed" without braces: the rest of its formula between "$", elsewhere one word."""
    for box in list(_BARE_BOX.finditer(text))[: -MAX_PHRASES - 1 : -1]:
        rest = text[box.end() : box.end() + MAX_ANSWER]
        formula, *behind = _DOLLARS.split(rest, maxsplit=1)
        inside = _BARE_INSIDE.match(rest)
        if behind and not _SENTENCE.search(formula) and len(_DOLLARS.findall(text[: box.start()])) % 2:
            return formula.strip().rstrip(".,;")
        if inside and re.search(r"\w", inside.group()):
            return inside.group().rstrip(".*")
    return None


def extract_answer(text: str) -> str | None:
    r"""The final answer in a text: \boxed{}, then "#### ", then <answer> tags, then "The answer is"; None if none.

    The last of a kind counts, but words ("this answer is correct") do not replace an earlier number. Behind
    "The answer is" a unit is left away, and so is what follows the clause.

    >>> extract_answer("6 * 7 = 42, so the answer is **42 apples**.")
    '42'
    """
    text = _SPECIAL_TOKEN.sub("\n", _end_of(text))
    boxed = extract_boxed(text)
    return boxed if boxed is not None else _after_hashes(text) or _in_tags(text) or _after_phrase(text)


def marked_answer(text: str) -> str:
    r"""What a whole solution gives as its answer, in a box or behind "####"; a text without these as it is."""
    if r"\boxed" in text or r"\fbox" in text:
        boxed = extract_boxed(text)
        return text if boxed is None else boxed
    return (_after_hashes(text[-MAX_TEXT:]) or text) if "####" in text else text


def expected_answer(value) -> str:
    r"""The right answer that a row of a data set gives, as a text; of a whole solution, the answer marked in it.

    Raises ValueError, or TypeError for what is no text and no number, saying why nothing could be right for it.
    """
    text = written(value)
    if text.strip().casefold() in _MISSING:
        hint = rf" (is the word meant? Write \text{{{text.strip()}}})" if text.strip() else ""
        raise ValueError(f"the expected answer is missing: it is {text!r}{hint}")
    answer = extract_answer(text)
    if answer is None and len(text) > MAX_ANSWER:
        words = r"no answer is marked in it: give the answer alone, or mark it with \boxed{} or ####"
        raise ValueError(f"the expected answer has {len(text):,} characters, and {words}")
    answer = text if answer is None else answer
    if len(answer) <= MAX_ANSWER and not clean(answer):
        raise ValueError(f"the expected answer is missing: nothing is left of {text!r:.80}")
    return answer


def extract_gold(answer: str) -> str:
    """The number after "####" in GSM8K's `answer` column, without thousands commas or "$".

    Raises ValueError when there is none. The pattern seen in many courses, "####\\s*(-?\\d+)", reads
    "1,000" as 1.

    >>> extract_gold("He pays 4 * 250 = 1000 dollars.\\n#### 1,000")
    '1000'
    """
    answer = _end_of(answer)
    tail = _first_line(answer.rpartition("####")[2]) if "####" in answer else ""
    found = quantity(clean(tail)) if len(tail) <= MAX_ANSWER else None
    number = re.sub(r"[$,\s]", "", found.number) if found and found.unit in (Unit(), Unit((Word(meanings("$")),))) else ""
    if not re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)", number):
        raise ValueError(f'No number after "####" in: {answer[-80:]!r}')
    return number


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
    clauses = [_clause(text[phrase.end() : phrase.end() + MAX_CLAUSE]) for phrase in phrases]
    clause = next(filter(_DIGIT.search, clauses), next(filter(None, clauses), ""))
    found = quantity(clean(clause)) if len(clause) <= MAX_ANSWER else None
    return found.number if found else clause or None


def _clause(text: str) -> str:
    """The text up to the end of its first clause; formulas and brackets are never cut. A question ("42? No.") is none."""
    text = text.strip()
    whole = [*(match.span() for match in _FORMULA.finditer(text)), *_brackets(text)]
    ends = (match.start() for match in _CLAUSE_END.finditer(text))
    end = next((end for end in ends if not any(start <= end < stop for start, stop in whole)), None)
    if end is not None and text[end] == "?":
        return ""
    clause = _TRAILING.sub("", text[:end].strip())
    formula = _FORMULA.fullmatch(clause)
    return next(filter(None, formula.groups())).strip() if formula else clause


def _brackets(text: str) -> list[tuple[int, int]]:
    """The places of all brackets that are closed: "(2,12)" and "[2, 5)"."""
    opened, found = [], []
    for place, character in enumerate(text):
        if character in "([{":
            opened.append(place)
        elif character in ")]}" and opened:
            found.append((opened.pop(), place + 1))
    return found


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""
