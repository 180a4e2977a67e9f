"""The exercises of lesson 01: what a student might hand in, and what the check says to it."""

import math

import numpy as np
import torch
from exercise_tests import ExerciseTests

from helper import load_suite, wilson_interval
from helper.exercises import lesson_01 as lesson


def wilson_n(fits, step=2):
    """The smallest n from 2 on whose interval around one half fits."""
    n = 2
    while not fits(*wilson_interval(n // 2, n)):
        n += step
    return n


def needed(points):
    return wilson_n(lambda low, high: 50 * (high - low) <= points)


def soft(logits, temperature):
    return torch.softmax(torch.tensor(logits) / temperature, -1)


def few(pairs, question, form="Q: {}\nA: {}\n", last="Q: {}\nA:"):
    return "".join(form.format(*pair) for pair in pairs) + last.format(question)


def counts(before, after):
    return sum(b and not a for a, b in zip(before, after)), sum(a and not b for a, b in zip(before, after))


def tail(m, n):
    return sum(math.comb(n, i) for i in range(m + 1)) / 2**n


def p_value(gained, lost, **how):
    p = how.get("sides", 2) * tail(min(gained, lost) - how.get("less", 0), how.get("n", gained + lost))
    return p if how.get("uncapped") else min(1.0, p)


PLANTED = {
    "check_questions_needed": [
        ("*whole* interval", lambda points: wilson_n(lambda low, high: 100 * (high - low) <= points)),
        ("textbook formula", lambda points: math.ceil((196 / points) ** 2 / 8) * 2),
        ("two questions fewer", lambda points: needed(points) + 2),
        ("*before* it fits", lambda points: needed(points) - 2),
        ("wanted", lambda points: 100),
        ("a str", lambda points: str(needed(points))),
    ],
    "check_choices": [
        ("Think again: d Hint: these facts", {"a": "DPO", "b": "SFT", "c": "RL", "d": "SFT", "e": "prompting"}),
        ("Think again: a Hint: someone can compare", {"a": "RL", "b": None, "c": None, "d": None, "e": None}),
        ("none of prompting", {"a": "DPO", "b": "PPO", "c": "RL", "d": "retrieval", "e": "prompting"}),
        ("removed or added", {"a": "DPO", "b": "SFT"}),
    ],
    "check_temperature": [
        ("multiplied by the temperature", lambda logits, t: soft(logits, 1 / t)),
        ("does nothing", lambda logits, t: soft(logits, 1.0)),
        ("divided the probabilities", lambda logits, t: soft(logits, 1.0) / t),
        ("powers", lambda logits, t: soft(logits, 1.0) ** (1 / t)),
        ("Take exp first", lambda logits, t: [x / sum(logits) for x in logits]),
        ("log-probabilities", lambda logits, t: soft(logits, t).log()),
        ("likeliest token", lambda logits, t: [float(x == max(logits)) for x in logits]),
        ("subtract the largest", lambda logits, t: [math.exp(x / t) / sum(math.exp(y / t) for y in logits) for x in logits]),
        ("subtract the largest", lambda logits, t: np.exp(np.array(logits) / t) / np.exp(np.array(logits) / t).sum()),
        ("1 numbers came back; 3 were wanted", lambda logits, t: soft(logits, t)[:1]),
    ],
    "check_few_shot_prompt": [
        ("does not end in 'A:'", lambda p, q: few(p, q, last="Q: {}")),
        ("space behind the last", lambda p, q: few(p, q) + " "),
        ("line end behind the last", lambda p, q: few(p, q) + "\n"),
        ("zero-shot", lambda p, q: few([], q)),
        ("first example", lambda p, q: few(p[:1], q)),
        ("last example", lambda p, q: few(p[-1:], q)),
        ("answers are missing", lambda p, q: few(p, q, form="Q: {}\n")),
        ("question itself is missing", lambda p, q: few(p, q, last="")),
        ("run into each other", lambda p, q: few(p, q, form="Q: {}\nA: {}")),
        ("question comes before", lambda p, q: few([], q) + few(p, q, last="")),
        ("wanted 'Q: What is a whale?", lambda p, q: few(p, q, form="Question: {}\nAnswer: {}\n")),
    ],
    "check_paired_test": [
        ("swapped", lambda b, a: (*counts(a, b), p_value(*counts(b, a)))),
        ("count both ends", lambda b, a: (*counts(b, a), p_value(*counts(b, a), sides=1))),
        ("for every question", lambda b, a: (*counts(b, a), p_value(*counts(b, a), n=len(b)))),
        ("count itself is left out", lambda b, a: (*counts(b, a), p_value(*counts(b, a), less=1))),
        ("above 1", lambda b, a: (*counts(b, a), p_value(*counts(b, a), uncapped=True))),
        ("totals", lambda b, a: (sum(a), sum(b), p_value(sum(a), sum(b)))),
        ("2 numbers came back; 3 were wanted", lambda b, a: counts(b, a)),
    ],
    "check_begin_sentence": [
        ("questions themselves", lambda question: question),
        ("something around the question", lambda question: f"Q: {question}\nA:"),
        ("it goes on", lambda question: "We find"),
        ("a text was wanted", lambda question: [question]),
        ("whole answer already", lambda question: next(
            (r["answer"] for r in load_suite("instructions") if r["question"] == question), question)),
    ],
}  # fmt: skip

RIGHT = {
    "check_questions_needed": [lambda points: float(needed(points)), lambda points: np.int64(needed(points))],
    "check_choices": [{"a": "dpo", "b": "sft", "c": "online RL", "d": "RAG", "e": "Prompting"}],
    "check_temperature": [
        soft,
        lambda logits, t: soft(logits, t).tolist(),
        lambda logits, t: soft(logits, t).double().numpy(),
    ],
    "check_few_shot_prompt": [few],
    "check_paired_test": [lambda b, a: np.array([*counts(b, a), p_value(*counts(b, a))])],
    "check_begin_sentence": [],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_choices",)
