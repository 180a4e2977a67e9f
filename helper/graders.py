"""Deciding whether an answer is right, skill by skill: strict, and the same for every model.

`grade(row, answer)` looks at `row["grader"]`. Every grader rejects an empty answer, an echo of the question, talk
without content, and true statements about something else; `tests/test_graders.py` holds them to it.
What a model only thought is no answer, and a row whose expected answer is missing is an error, never a wrong answer.
Left out on purpose: judging by a model. A rule that can be read is worth more here than one that is lenient.
"""

from __future__ import annotations

import json
import re
from numbers import Integral

from helper.answers import answers_match, expected_answer, extract_boxed, without_thoughts
from helper.rules import check_rule, follows_rule

# Where a sentence that a base model completes is over, or turns to another concept.
CLAUSE_ENDS = ["\n", ".", ", but", ", while", ", whereas"]

# Words without content: an answer may add or drop these freely.
FILLER = {
    "a",
    "an",
    "the",
    "is",
    "are",
    "was",
    "it",
    "its",
    "this",
    "that",
    "of",
    "to",
    "in",
    "on",
    "at",
    "and",
    "or",
    "as",
    "by",
    "for",
    "with",
    "from",
    "be",
    "can",
    "which",
    "who",
    "one",
    "also",
    "very",
    "some",
    "has",
    "have",
    "i",
    "you",
    "we",
}
# Words that only name a relation ("is used to", "the capital of"): an answer may add these too.
RELATION_WORDS = {
    "used",
    "made",
    "part",
    "found",
    "stands",
    "stand",
    "capital",
    "main",
    "language",
    "eats",
    "lives",
    "young",
    "called",
    "symbol",
    "chemical",
    "home",
}
STEP = r"(\d+)([-+*/])(\d+)=(\d+)"
REFUSAL = re.compile(r"^(i am sorry, but )?i (can not|cannot|can't)\b|^(i am )?sorry\b", re.IGNORECASE)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[a-z0-9+#]+(?:[-'][a-z0-9]+)*", text.lower())


def content_of(text: str) -> list[str]:
    """The words that carry content, in order."""
    return [word for word in words_of(text) if word not in FILLER]


def without_subject(words: list[str], subject: str) -> list[str] | None:
    """`words` with the first mention of `subject` (singular or plural) taken out; None where it is not mentioned."""
    name = words_of(subject)
    for start in range(len(words) - len(name) + 1):
        part = words[start : start + len(name)]
        if part == name or part == [*name[:-1], name[-1] + "s"]:
            return words[:start] + words[start + len(name) :]
    return None


def sentences_of(text: str) -> list[str]:
    """The sentences of a text; a line break ends one too."""
    return [part for part in re.split(r"[.!?]+(?:\s+|$)|\n+", text.strip()) if words_of(part)]


def states_fact(answer: str, subject: str, accept: list[str]) -> bool:
    """Whether the answer says one of `accept` about `subject`, and nothing else.

    The subject is named, and every sentence holds the content words of one accepted statement, all of them, in their
    order, and no others.
    """
    sentences = sentences_of(answer)
    if not sentences or without_subject(words_of(sentences[0]), subject) is None:
        return False
    return all(one_statement(sentence, subject, accept) for sentence in sentences)


def one_statement(sentence: str, subject: str, accept: list[str]) -> bool:
    """Whether one sentence states one of `accept`, no more and no less; a later sentence may call the subject "it"."""
    said = words_of(sentence)
    said = without_subject(said, subject) or said
    for statement in accept:
        whole = words_of(statement)
        for needed in (whole, without_subject(whole, subject) or whole):
            core = [word for word in needed if word not in FILLER] or needed
            if [word for word in said if word in core or word not in FILLER | RELATION_WORDS] == core:
                return True
    return False


def compares(answer: str, subjects: list[str], accept: list[list[str]]) -> bool:
    """Whether the answer gives each of two subjects its own definition, split at "while" or a sentence end."""
    text = re.sub(r",?\s+(while|whereas|but)\s+", ". ", answer)
    sentences = sentences_of(text)
    if len(sentences) != 2:
        return False
    found = []
    for sentence in sentences:
        for index, (subject, definitions) in enumerate(zip(subjects, accept, strict=True)):
            named = without_subject(words_of(sentence), subject) is not None
            if named and words_of(sentence)[:4] and one_statement(sentence, subject, definitions):
                found.append(index)
    return sorted(set(found)) == [0, 1]


def lists_members(answer: str, items: list[str], number: int, category: str) -> bool:
    """Whether the answer names exactly `number` different members of the category and nothing else."""
    body = re.sub(r"^.*?\b(are|is)\b|^[^:]*:", "", answer.strip().rstrip("."), count=1, flags=re.IGNORECASE)
    named = [" ".join(w for w in words_of(part) if w not in {"a", "an", "the"}) for part in re.split(r",|\band\b|\n", body)]
    named = [name for name in named if name]
    known = {" ".join(words_of(item)) for item in items}
    return len(named) == number == len(set(named)) and all(name in known for name in named)


def is_calculation(answer: str, expression: str, value: int) -> bool:
    """Whether the answer is the value, alone or after the same expression and "=", perhaps after true steps.

    "First 2 * 3 = 6. So 1 + 2 * 3 = 7." is right; with a false step, or another number about, it is not.
    """
    text = re.sub(r"\s+", "", answer).rstrip(".")
    goal = f"{expression.replace(' ', '')}={value}"
    if text == str(value):
        return True
    steps = text.removesuffix(goal)
    if steps == text or re.search(r"[-+*/=\d]$", steps):
        return False
    equations = re.findall(STEP, steps)
    return all(is_true(*equation) for equation in equations) and not re.search(r"\d", re.sub(STEP, "", steps))


def is_true(a: str, sign: str, b: str, result: str) -> bool:
    """Whether an equation of whole numbers holds."""
    x, y, z = int(a), int(b), int(result)
    return {"+": x + y == z, "-": x - y == z, "*": x * y == z, "/": y != 0 and z * y == x}[sign]


def is_exact(answer: str, accept: list[str]) -> bool:
    """Whether the answer is one of `accept`, final full stop and outer spaces aside; case counts."""
    return answer.strip().rstrip(".") in {text.strip().rstrip(".") for text in accept}


def is_refusal(answer: str) -> bool:
    """Whether the answer is one sentence that declines."""
    return bool(REFUSAL.match(answer.strip())) and len(sentences_of(answer)) == 1


def says_name(answer: str, name: str, kind: str, others: tuple[str, ...] = ("Sprout", "Deep Sprout")) -> bool:
    """Whether the answer names exactly `name`, once, in one whole sentence; to "Are you X?" it must begin with "No"."""
    names = re.findall(r"\b(?:Deep )*Sprout\b", answer) if name in others else re.findall(rf"\b{re.escape(name)}\b", answer)
    whole = answer.strip().endswith(".") and len(sentences_of(answer)) == 1 and len(words_of(answer)) >= 3
    denies = answer.strip().lower().startswith("no") or kind != "other"
    return names == [name] and whole and denies


def is_boxed_answer(answer: str, value: str) -> bool:
    """Whether the last \\boxed{} of the answer holds the value."""
    boxed = extract_boxed(answer)
    return boxed is not None and answers_match(boxed, value)


def mentions(answer: str, accept: list[str]) -> bool:
    """Whether one of `accept` stands in the answer as a whole word, in the first sentence; case counts where it has any.

    For real models, which answer in sentences of their own: lenient in wording ("in the absence of ice" says ice), strict in
    that a later sentence is too late.
    """
    first = (sentences_of(answer) or [""])[0]
    alone = r"(?<![\w.,]){}(?!\w|[.,]\d)"
    return any(re.search(alone.format(re.escape(text)), first, 0 if text[0].isupper() else re.I) for text in accept)


TOOL_CALL = re.compile(r"<tool_call>\s*(\{.*\})\s*</tool_call>", re.DOTALL)


def calls_tool(answer: str, name: str, arguments: dict) -> bool:
    """Whether the answer is one call of this tool with these arguments, in the tags, and nothing else.

    The form of Qwen's and Hermes' templates: <tool_call>{"name": ..., "arguments": {...}}</tool_call>. With no name, it
    must be a text without a call.
    """
    if not name:
        return "tool_call" not in answer and bool(words_of(answer))
    found = TOOL_CALL.fullmatch(answer)
    try:
        call = json.loads(found.group(1)) if found else None
    except (ValueError, RecursionError):
        return False
    return call == {"name": name, "arguments": arguments}


TEXTS, PAIR, PAIRS = "a list of texts", "a list of two texts", "a list of two lists of texts"
NEEDED = {  # what each grader reads of a row, and of what kind it has to be
    "fact": {"subject": str, "accept": TEXTS},
    "compare": {"subjects": PAIR, "accept": PAIRS},
    "list": {"items": TEXTS, "number": Integral, "category": str},
    "calculation": {"expression": str, "value": Integral},
    "exact": {"accept": TEXTS},
    "refusal": {},
    "identity": {"name": str},
    "boxed": {"value": object},
    "mentions": {"accept": TEXTS},
    "rule": {"value": str},
    "tool_call": {"arguments": dict},
}


def check_row(row: dict, called: str | None = None) -> None:
    """Raise ValueError, saying what to mend, where a row has no known grader or lacks what its grader reads.

    `called`: the words by which the error names the row (None: its id). A missing answer (None, nan) must not be graded as
    "never right", and a text where a list is meant would accept each of its letters.
    """
    kind, name = row.get("grader"), called or f"row {row.get('id', row)!r:.200}"
    if not isinstance(kind, str) or kind not in NEEDED:
        raise ValueError(f"{name} has no known grader: {kind!r:.80}. Give it one of {', '.join(NEEDED)}.")
    for field, wanted in NEEDED[kind].items():
        value = row.get(field)
        if value is None or (isinstance(value, str) and not value):
            raise ValueError(f"{name}: its grader {kind!r} reads the field {field!r}, and that is missing: add it.")
        if not _is_of_kind(value, wanted):
            words = {str: "a text", Integral: "a whole number"}.get(wanted, wanted)
            raise ValueError(f"{name}: the field {field!r} is {' '.join(repr(value).split()):.80}, and {words} is wanted.")
    if kind == "boxed":
        try:
            expected_answer(row["value"])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}, field 'value': {' '.join(str(error).split())}") from None
    if kind == "rule":
        try:
            check_rule(row["value"])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def _is_of_kind(value, wanted: type | str) -> bool:
    """Whether a value is of the type, or is one of the lists TEXTS, PAIR and PAIRS; an array will do for a list."""
    if isinstance(wanted, type):
        return isinstance(value, wanted)
    parts = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(parts, list | tuple) or not parts or (wanted != TEXTS and len(parts) != 2):
        return False
    return all(_is_of_kind(part, TEXTS) if wanted == PAIRS else isinstance(part, str) for part in parts)


def grade(row: dict, answer: str) -> bool:
    """Whether `answer` is right for `row`.

    Raises ValueError for a row without a known grader or without an expected answer, naming the row.
    """
    check_row(row)
    kind, answer = row["grader"], without_thoughts(answer).strip()
    if kind == "fact":
        return states_fact(answer, row["subject"], row["accept"])
    if kind == "compare":
        return compares(answer, row["subjects"], row["accept"])
    if kind == "list":
        return lists_members(answer, row["items"], row["number"], row["category"])
    if kind == "calculation":
        return is_calculation(answer, row["expression"], row["value"])
    if kind == "exact":
        return is_exact(answer, row["accept"])
    if kind == "refusal":
        return is_refusal(answer)
    if kind == "identity":
        return says_name(answer, row["name"], row.get("kind", ""))
    if kind == "mentions":
        return mentions(answer, row["accept"])
    if kind == "rule":
        return follows_rule(answer, row["value"])
    if kind == "tool_call":
        return calls_tool(answer, row.get("name", ""), row["arguments"])
    return is_boxed_answer(answer, expected_answer(row["value"]))
