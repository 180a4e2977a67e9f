"""Checks of lesson 01: intervals, choosing a method, temperature, few-shot prompts, pairs, the base model's own language.

Left out on purpose: the lesson's models. The open challenge loads sprout-base itself, once.
"""

import math
from functools import cache

from helper.data import load_suite
from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_number,
    as_text,
    as_vector,
    call,
    call_all,
    exercise,
    judge,
    show,
)
from helper.generation import complete_text
from helper.graders import CLAUSE_ENDS, grade
from helper.intervals import wilson_interval
from helper.models import load_model_and_tokenizer

# 1. How many questions are enough?


def _half_width(n: int) -> float:
    """Half of Wilson's interval around one half, in percentage points."""
    low, high = wilson_interval(n // 2, n)
    return 50 * (high - low)


def _smallest(fits) -> int:
    return next(n for n in range(2, 100_000, 2) if fits(n))


@exercise
def check_questions_needed(function) -> str:
    """Is it the smallest even n whose 95% interval (Wilson's) around one half is at most +- `points` wide?"""
    cases = {f"±{points} points": (points,) for points in (20, 10, 5)}
    mistakes = {
        "This n makes the *whole* interval `points` wide. ± means that much to each side.": lambda points: _smallest(
            lambda n: 2 * _half_width(n) <= points
        ),
        "This is the n of the textbook formula 1.96 * sqrt(p * (1 - p) / n). Use `wilson_interval`.": lambda points: (
            _smallest(lambda n: 196 * math.sqrt(0.25 / n) <= points)
        ),
        "Each interval is narrow enough, but two questions fewer would do: look for the smallest n.": lambda points: (
            _smallest(lambda n: _half_width(n) <= points) + 2
        ),
        "The intervals are a little too wide: this is the last n *before* it fits.": lambda points: (
            _smallest(lambda n: _half_width(n) <= points) - 2
        ),
        "n should be even, so that one half of it is a whole number.": lambda points: next(
            n for n in range(1, 9999) if 98 / math.sqrt(n + 1.96**2) <= points
        ),
    }
    judge(function, cases, lambda points: _smallest(lambda n: _half_width(n) <= points), mistakes, as_number)
    return 'Half the width takes about four times as many questions. Remember that at the next "+2 points".'


# 2. Which method?

WHY = [  # for each case of the exercise the method, and what points to it
    ("dpo", "someone can compare two answers, but not write the best one"),
    ("sft", "a new behaviour, and good responses to imitate"),
    ("rl", "a rule can check it, and it is sometimes right"),
    ("retrieval", "these facts change every day"),
    ("prompting", "one simple instruction, for a short time"),
]


@exercise
def check_choices(choices: dict) -> str:
    """Is the method of each case the first thing to reach for? Says what should be thought over."""
    if not any(choices.values()):
        raise NotStarted("Not started.")
    if len(choices) != len(WHY):
        raise Wrong(f"There should be {len(WHY)} cases, and there are {len(choices)}: was one removed or added?")
    for (case, choice), (method, why) in zip(choices.items(), WHY, strict=True):
        said = str(choice).strip().lower().replace("online rl", "rl").replace("rag", "retrieval")
        if choice and said not in {method for method, _ in WHY}:
            raise Wrong(f"{show(choice)} is none of prompting, retrieval, SFT, DPO, RL.")
        if choice and said != method:
            raise Wrong(f"Think again: {case} Hint: {why}.")
    still = sum(not choice for choice in choices.values())
    if still:
        raise NotStarted(f"Right so far; {still} not started.")
    return "Each follows from the data one can get, and from how long it has to hold."


# 3. Temperature


def _at_temperature(logits: list[float], temperature: float) -> list[float]:
    highest = max(logits)
    weights = [math.exp((logit - highest) / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def _wrong_temperature(how: str):
    def probabilities(logits, temperature):
        p, highest = _at_temperature(logits, 1.0), max(logits)
        if how == "powers":
            return [x ** (1 / temperature) for x in p]
        if how == "after":
            return [x / temperature for x in p]
        if how == "no exp":
            return [logit / temperature / sum(logits) * temperature for logit in logits]
        if how == "greedy":
            return [float(logit == highest) for logit in logits]
        q = _at_temperature(logits, {"multiplied": 1 / temperature, "ignored": 1.0}.get(how, temperature))
        return [math.log(x) if x else -math.inf for x in q] if how == "log" else q

    return probabilities


@exercise
def check_temperature(function) -> str:
    """Are these the probabilities softmax(logits / temperature), also where the logits are large?"""
    cases = {
        "temperature 1": ([2.0, 1.0, 0.1], 1.0),
        "temperature 2": ([2.0, 1.0, 0.1, -1.0], 2.0),
        "temperature 0.5": ([0.5, 1.5, 1.0], 0.5),
    }
    mistakes = {
        "You multiplied by the temperature. Divide: a high temperature makes the distribution flatter.": "multiplied",
        "The temperature does nothing. Divide the logits by it, before the softmax.": "ignored",
        "You divided the probabilities by the temperature, so they do not sum to 1. Divide the logits.": "after",
        "These powers of the probabilities do not sum to 1 yet: divide by their sum.": "powers",
        "You divided the logits by their sum. Take exp first: a softmax.": "no exp",
        "These are log-probabilities. Take exp of them.": "log",
        "Only the likeliest token is left. That is what a temperature near 0 does.": "greedy",
    }
    mistakes = {message: _wrong_temperature(how) for message, how in mistakes.items()}
    judge(function, cases, _at_temperature, mistakes, as_vector)
    try:
        judge(function, {"logits near 1000": ([1000.0, 999.0, 0.0], 1.0)}, _at_temperature, {}, as_vector)
    except Wrong as wrong:
        raise Wrong(f"{wrong} exp(1000) is too large for the machine: subtract the largest logit first.") from None
    return "Lesson 04 samples at 1.2: bolder than the model is."


# 4. A few-shot prompt


def _few_shot(pairs: list[tuple[str, str]], question: str) -> str:
    return "".join(f"Q: {q}\nA: {a}\n" for q, a in pairs) + f"Q: {question}\nA:"


FEW_SHOT_MISTAKES = {
    "The prompt does not end in 'A:', so the model may ask the next question.": lambda p, q: _few_shot(p, q).removesuffix(
        "\nA:"
    ),
    "The prompt lacks 'A:' behind the question; it ends in a line end.": lambda p, q: _few_shot(p, q).removesuffix("A:"),
    "There is a space behind the last 'A:'. The space belongs to the model's first token: leave it out.": lambda p, q: (
        _few_shot(p, q) + " "
    ),
    "There is a line end behind the last 'A:'. The answer should follow on that line.": lambda p, q: _few_shot(p, q) + "\n",
    "The examples are missing: that is a zero-shot prompt.": lambda p, q: _few_shot([], q),
    "Only the first example is there: is a `return` inside the loop?": lambda p, q: _few_shot(p[:1], q),
    "Only the last example is there: is the text overwritten in the loop?": lambda p, q: _few_shot(p[-1:], q),
    "The examples' answers are missing: they show the model what to do.": lambda p, q: (
        "".join(f"Q: {x}\n" for x, _ in p) + f"Q: {q}\nA:"
    ),
    "The question comes before the examples. It must come last: the model continues the end.": lambda p, q: (
        f"Q: {q}\nA:" + _few_shot(p, "").removesuffix("Q: \nA:")
    ),
    "The question itself is missing behind the examples.": lambda p, q: _few_shot(p, "").removesuffix("Q: \nA:"),
    "The examples run into each other: each answer ends with a line end.": lambda p, q: (
        "".join(f"Q: {x}\nA: {a}" for x, a in p) + f"Q: {q}\nA:"
    ),
}


@exercise
def check_few_shot_prompt(function) -> str:
    """Does `function(pairs, question)` write "Q: ...", "A: ..." lines for the pairs, then the question and "A:"?"""
    pairs = [("What is a whale?", "A whale is a large sea animal."), ("Name two gases.", "Hydrogen and oxygen.")]
    cases = {
        "two examples": (pairs, "What is 2 + 3?"),
        "three examples": ([*pairs, ("What is 1 + 1?", "2")], "Name a month."),
    }
    judge(function, cases, _few_shot, FEW_SHOT_MISTAKES, as_text)
    return "A base model continues it in the form that it sees."


# 5. The same questions, before and after


def _sign_test(before: list, after: list) -> list[float]:
    gained = sum(bool(y) and not x for x, y in zip(before, after, strict=True))
    lost = sum(bool(x) and not y for x, y in zip(before, after, strict=True))
    return [gained, lost, min(1.0, 2 * _tail(min(gained, lost), gained + lost))]


def _tail(most: int, n: int) -> float:
    """The chance of at most so many heads in n tosses of a fair coin."""
    return sum(math.comb(n, heads) for heads in range(most + 1)) / 2**n


def _wrong_sign_test(how: str):
    def test(before, after):
        gained, lost, p = _sign_test(before, after)
        fewer, n = min(gained, lost), gained + lost
        return {
            "one-sided": [gained, lost, _tail(fewer, n)],
            "swapped": [lost, gained, p],
            "all questions": [gained, lost, min(1.0, 2 * _tail(fewer, len(before)))],
            "point": [gained, lost, min(1.0, 2 * math.comb(n, fewer) / 2**n)],
            "strict": [gained, lost, min(1.0, 2 * _tail(fewer - 1, n))],
            "above 1": [gained, lost, 2 * _tail(fewer, n)],
            "totals": [sum(after), sum(before), min(1.0, 2 * _tail(min(sum(before), sum(after)), sum(before) + sum(after)))],
            "1 - p": [gained, lost, 1 - p],
        }[how]

    return test


@exercise
def check_paired_test(function) -> str:
    """Does `function(before, after)` give (gained, lost, p) of the exact two-sided sign test on the changed questions?"""
    cases = {
        "8 gained, 1 lost": (
            [False] * 8 + [True] + [True] * 20 + [False] * 5,
            [True] * 8 + [False] + [True] * 20 + [False] * 5,
        ),
        "2 gained, 6 lost": ([True] * 6 + [False] * 12, [False] * 6 + [True] * 2 + [False] * 10),
        "3 gained, 3 lost": ([True] * 3 + [False] * 5, [False] * 3 + [True] * 3 + [False] * 2),
        "nothing changed": ([True, False, True], [True, False, True]),
    }
    mistakes = {
        "gained and lost are swapped: gained is wrong before and right after.": "swapped",
        "p is half of what it should be: a loss as large would have surprised you as well, so count both ends.": "one-sided",
        "You tossed a coin for every question. Those that did not change say nothing: n = gained + lost.": "all questions",
        "You took one number of heads alone. p sums up all that are as far from the middle, or further.": "point",
        "The count itself is left out of the sum: it runs from 0 up to and including the smaller number.": "strict",
        "p is above 1 where gained and lost are alike: take min(1, ...).": "above 1",
        "You compared the totals of right answers. Look question by question at what changed.": "totals",
        "This is 1 - p.": "1 - p",
    }
    judge(function, cases, _sign_test, {message: _wrong_sign_test(how) for message, how in mistakes.items()}, as_vector)
    return "Two models with the same total can differ on many questions; the pairs show it."


# 6. Open: the base model in its own language

ASKED = {"define": 14, "relation": 14, "calculate": 14}  # questions of each skill


@cache
def _base():
    return load_model_and_tokenizer("sprout-base")


def questions_to_study(first: int = 0) -> list[dict]:
    """Held-out questions of three skills: a list of {"question", "skill", ...}; others than those of the check."""
    rows = load_suite("instructions")
    by_skill = {skill: [row for row in rows if row["skill"] == skill] for skill in ASKED}
    return [row for skill, n in ASKED.items() for row in by_skill[skill][first::4][:n]]


def ask_in_sentences(function, rows: list[dict]) -> list[dict]:
    """Each row with "begun", what `function` makes of its question, "text", how sprout-base goes on, and "right"."""
    begun = [as_text(call(function, row["question"], (row["question"],)), None, row["question"]) for row in rows]
    texts = complete_text(*_base(), begun, max_new_tokens=24, stop=CLAUSE_ENDS)
    return [
        {**row, "begun": start, "text": text, "right": grade(row, f"{start}{text}.")}
        for row, start, text in zip(rows, begun, texts, strict=True)
    ]


@exercise
def check_begin_sentence(function) -> str:
    """Does sprout-base state the right thing for at least half of unseen questions, from the sentences begun for it?"""
    rows = questions_to_study(first=2)
    call_all(function, {row["question"]: (row["question"],) for row in rows})
    asked = ask_in_sentences(function, rows)
    given = [row for row in asked if grade(row, row["begun"].rstrip(" .") + ".")]
    if given:
        raise Wrong(f"{show(given[0]['begun'])} is the whole answer already. Only begin; the model is to say it.")
    right = sum(row["right"] for row in asked)
    counts = {skill: sum(row["right"] for row in asked if row["skill"] == skill) for skill in ASKED}
    said = (
        f"{right} of {len(asked)} right ({', '.join(f'{name} {count} of {ASKED[name]}' for name, count in counts.items())})."
    )
    if 2 * right >= len(asked):
        return f"{said} No weight was changed: it knew. What is left for SFT to do?"
    if sum(row["begun"].endswith((" ", "\n")) for row in asked) > len(asked) / 2:
        raise Wrong(f"{said} Your sentences end in a space or line end. Its tokens bring their space along: leave it out.")
    if sum(row["begun"].strip() == row["question"] for row in asked) > len(asked) / 2:
        raise Wrong(f"{said} These are the questions themselves. Begin the sentence that would answer them.")
    if sum(row["question"] in row["begun"] for row in asked) > len(asked) / 2:
        raise Wrong(f"{said} You put something around the question. Turn it: 'What is a whale?' into 'A whale is'.")
    worst = min(counts, key=lambda name: counts[name] / ASKED[name])
    example = next(row for row in asked if row["skill"] == worst and not row["right"])
    raise Wrong(
        f"{said} Asked {show(example['question'])}, begun {show(example['begun'])}, it goes on {show(example['text'])}."
    )
