"""Instructions that a rule of one line can check: "in at most five words", "begin with the word Surely".

Verifiable instructions, as in IFEval (Zhou et al. 2023, arXiv 2311.07911), and as rewards in Tülu 3 (Lambert et al. 2024,
arXiv 2411.15124, section 6.1: RLVR). A rule is written in one text, its name and what it is given: "at_most_words 5".
Left out on purpose: whether the answer says anything true or sensible. No rule here reads for sense, and a model
that is paid by one finds that out (lesson 04).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from helper.answers import without_thoughts


def _at_most_words(text: str, limit: str) -> bool:
    return len(text.split()) <= int(limit)


def _begins_with(text: str, word: str) -> bool:
    return re.match(rf"{re.escape(word)}\b", text) is not None


def _one_question(text: str, _: str) -> bool:
    return text.endswith("?") and len(re.findall(r"[.!?]+(?=\s|$)", text)) == 1 and "\n" not in text


def _no_commas(text: str, _: str) -> bool:
    return "," not in text


def _in_quotes(text: str, _: str) -> bool:
    return len(text) > 2 and text[0] + text[-1] in ('""', "“”") and not set('"“”') & set(text[1:-1])


def _title(text: str, _: str) -> bool:
    return re.fullmatch(r"<<[^<>\n]+>>", text) is not None


RULES: dict[str, Callable[[str, str], bool]] = {
    "at_most_words": _at_most_words,
    "begins_with": _begins_with,
    "one_question": _one_question,
    "no_commas": _no_commas,
    "in_quotes": _in_quotes,
    "title": _title,
}


def follows_rule(answer: str, rule: str) -> bool:
    """Whether the answer keeps the rule; an answer without a letter keeps none. Raises ValueError for an unknown rule.

    >>> follows_rule("A cat that purrs.", "at_most_words 5"), follows_rule("Surely not.", "begins_with Surely")
    (True, True)
    >>> follows_rule("", "at_most_words 5"), follows_rule("What? Why?", "one_question")
    (False, False)
    """
    check_rule(rule)
    name, _, argument = rule.partition(" ")
    text = without_thoughts(answer).strip()
    return any(letter.isalpha() for letter in text) and RULES[name](text, argument)


def check_rule(rule: str) -> None:
    """Raise ValueError where `rule` is not the name of a rule and what it needs."""
    name, _, argument = rule.partition(" ") if isinstance(rule, str) else ("", "", "")
    if name not in RULES:
        raise ValueError(f"there is no rule {rule!r:.80}: it begins with one of {', '.join(RULES)}")
    if name == "at_most_words" and not (argument.isdecimal() and int(argument)):
        raise ValueError(f"the rule {rule!r:.80} needs a number of words, such as 'at_most_words 5'")
    if name == "begins_with" and not argument.strip():
        raise ValueError(f"the rule {rule!r:.80} needs a word, such as 'begins_with Surely'")


def names_topic(answer: str, topic: str) -> bool:
    """Whether the answer names its topic: the last word of `topic`, one or several of it, as a whole word.

    >>> names_topic("A lion roars.", "lions"), names_topic("MAGLUSTESS", "lions")
    (True, False)
    """
    word = topic.lower().split()[-1]
    forms = {word, word.removesuffix("s"), word.removesuffix("es"), re.sub("ies$", "y", word), re.sub("ves$", "f", word)}
    return bool(forms & set(re.findall(r"[a-z]+", answer.lower())))
