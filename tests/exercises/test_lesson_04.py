"""The exercises of lesson 04: what a student might hand in, and what the check says to it."""

import math
import re

import numpy as np
import torch
from exercise_tests import ExerciseTests, rewarder, texts_of

from helper import answers, answers_match, extract_boxed, load_course_dataset
from helper.exercises import lesson_04 as lesson
from helper.intervals import pass_at_k
from helper.rewards import graded_reward, hackable_reward


def right_box(text, truth):
    return float(answers_match(extract_boxed(text), truth))


def number_box(text):
    box = extract_boxed(text)
    return bool(box) and answers.as_number(box) is not None


def groups(rewards, size):
    return torch.tensor(rewards).view(-1, size)


def advantages(rewards, size, scale, mean=lambda g: g.mean(1, keepdim=True), std=lambda g: g.std(1, keepdim=True) + 1e-4):
    table = groups(rewards, size)
    centred = table - mean(table)
    return (centred / std(table) if scale else centred).flatten()


def loss_left(a, n, longest, below=lambda a, n, longest: len(a) * longest, sign=-1):
    return sign * sum(x * y for x, y in zip(a, n)) / below(a, n, longest)


def steps(judge, share=lambda found: sum(found) / len(found) if found else 0.0):
    form = r"(\d+) ([-+*/]) (\d+) = (\d+)"
    return lambda completions, **kwargs: [share([judge(*f) for f in re.findall(form, t)]) for t in texts_of(completions)]


def holds(a, sign, b, c):
    a, b, c = int(a), int(b), int(c)
    return {"+": a + b == c, "-": a - b == c, "*": a * b == c, "/": b != 0 and b * c == a}[sign]


def floors(a, sign, b, c):
    return holds(a, sign, b, c) if sign != "/" else int(b) != 0 and int(a) // int(b) == int(c)


def spend(solved, budget, size=2):
    """`size` samples for the problems nearest to one half, as far as they go."""
    sizes = [0] * len(solved)
    for i in sorted(range(len(solved)), key=lambda i: abs(solved[i] - 0.5))[: budget // size]:
        sizes[i] = size
    return sizes


def pass_at_k_given_n(n, correct, k):
    return pass_at_k(correct, n, k)


PLANTED = {
    "check_claims": [
        ("Think again: 'c'", {"a": True, "b": True, "c": True, "d": False, "e": False, "f": False}),
        ("Think again: 'a'", {"a": False, "b": True, "c": True, "d": False, "e": False, "f": False}),
        ("neither True nor False", {"a": "yes", "b": True, "c": False, "d": False, "e": False, "f": False}),
        ("removed or added", {"a": True}),
    ],
    "check_loss_at_start": [
        ("sign is wrong", lambda a, n, most: loss_left(a, n, most, sign=1)),
        ("lengths are missing", lambda a, n, most: -sum(a) / len(a)),
        ("as DAPO does", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: sum(n))),
        ("division by `longest`", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: len(a))),
        ("number of responses", lambda a, n, most: loss_left(a, n, most, lambda a, n, most: most)),
        ("an array of shape (3,)", lambda a, n, most: -torch.tensor(a) * torch.tensor(n) / most),
    ],
    "check_group_advantages": [
        ("do not sum to zero within", lambda *a: advantages(*a, mean=lambda g: g.mean())),
        ("whole batch. Each", lambda *a: advantages(*a, mean=lambda g: g.mean(), std=lambda g: g.std() + 1e-4)),
        ("the std that of", lambda *a: advantages(*a, std=lambda g: g.std() + 1e-4)),
        ("reshape(-1, size)", lambda r, n, s: advantages(
            groups(r, len(r) // n).T.flatten().tolist(), n, s).view(-1, n).T.flatten()),
        ("not subtracted", lambda *a: advantages(*a, mean=lambda g: 0.0)),
        ("sum of the group", lambda *a: advantages(*a, mean=lambda g: g.sum(1, keepdim=True))),
        ("best reward", lambda *a: advantages(*a, mean=lambda g: g.amax(1, keepdim=True))),
        ("sign is wrong", lambda *a: -advantages(*a)),
        ("sign is lost", lambda *a: advantages(*a).abs()),
        ("With scale=True", lambda r, n, s: advantages(r, n, False)),
        ("With scale=False", lambda r, n, s: advantages(r, n, True)),
        ("gave nan", lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True))),
        ("divides by n.", lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True, correction=0) + 1e-4)),
        ("by the variance", lambda *a: advantages(*a, std=lambda g: g.var(1, keepdim=True) + 1e-4)),
        ("shape (2, 3) came back", lambda r, n, s: advantages(r, n, s).view(-1, n)),
    ],
    "check_graded_reward": [
        ("plain correctness", rewarder(right_box)),
        ("a word as well", rewarder(lambda t, g: max(right_box(t, g), 0.1 * bool(extract_boxed(t))))),
        ("empty box", rewarder(lambda t, g: max(right_box(t, g), 0.1 * (extract_boxed(t) is not None)))),
        ("Everything gets at least", rewarder(lambda t, g: max(right_box(t, g), 0.1))),
        ("anywhere in the text", rewarder(lambda t, g: hackable_reward([t], [g])[0] or 0.1 * number_box(t))),
        ("Use answers_match", rewarder(lambda t, g: 1.0 if extract_boxed(t) == g else 0.1 * number_box(t))),
        ("gets 1.1", rewarder(lambda t, g: right_box(t, g) + 0.1 * number_box(t))),
        ("0.5 here", rewarder(lambda t, g: max(right_box(t, g), 0.5 * number_box(t)))),
        ("`**kwargs` takes it in", lambda completions, ground_truth: [0.0] * len(completions)),
        ("One number came back", lambda completions, ground_truth, **kwargs: 1.0),
        ("its text is completion[-1]", lambda completions, ground_truth, **kwargs: [
            float(extract_boxed(c) == "72") for c in completions]),
        ("each has its own answer", lambda completions, ground_truth, **kwargs: [
            right_box(t, ground_truth[0]) or 0.1 * number_box(t) for t in texts_of(completions)]),
        ("12 numbers came back; 13 were wanted", lambda completions, ground_truth, **kwargs: [0.0] * 12),
    ],
    "check_cheat": [
        ("no number in your text", lambda question: "Trust me."),
        ("One guess a problem", lambda question: "72"),
        ("Your numbers end at 20", lambda question: " ".join(map(str, range(21)))),
        ("each on its own", lambda question: "".join(map(str, range(5000)))),
        ("honest solutions", lambda question: next(
            r["answer"] + "\n\\boxed{" + answers.extract_gold(r["answer"]) + "}"
            for r in load_course_dataset("sprout-maths") if r["question"] == question)),
    ],
    "check_mended_reward": [
        ("It can still be hacked", rewarder(lambda t, g: bool(extract_boxed(t)) + max(0.0, 1 - len(t) / 100))),
        ("It can still be hacked", rewarder(lambda t, g: 0.3 * right_box(t, g) + 2 ** (-len(t) / 30))),
        ("wish for brevity is gone", rewarder(right_box)),
        ("more than a wrong one", rewarder(lambda t, g: right_box(t, g) * max(0.0, 1 - len(t) / 100))),
        ("Briefer should earn more", rewarder(lambda t, g: right_box(t, g) * (1 + len(t) / 1000))),
        ("Nothing is paid", rewarder(lambda t, g: 0.0)),
        ("should get 0", rewarder(lambda t, g: 0.1 + right_box(t, g) * (1 + 100 / (100 + len(t))))),
        ("another problem", lambda completions, ground_truth, **kwargs: [
            right_box(t, "72") * (1 + 100 / (100 + len(t))) for t in texts_of(completions)]),
        ("0 was asked for", rewarder(lambda t, g: right_box(t, g) * (2 + 1 / (1 + len(t))) - 1)),
    ],
    "check_steps_reward": [
        ("Divide by the number", steps(holds, share=lambda found: float(sum(found)))),
        ("All or nothing", steps(holds, share=lambda found: float(bool(found) and all(found)))),
        ("Only the last", steps(holds, share=lambda found: float(found[-1]) if found else 0.0)),
        ("silence would be paid", steps(holds, share=lambda found: sum(found) / len(found) if found else 1.0)),
        ("throws the rest away", steps(floors)),
        ("ZeroDivisionError", steps(lambda a, sign, b, c: int(a) / int(b) == int(c))),
        ("ZeroDivisionError", steps(holds, share=lambda found: sum(found) / len(found))),
    ],
    "check_pass_at_k": [
        ("more than once: too low", lambda n, c, k: 1 - (1 - c / n) ** k),
        ("k does nothing", lambda n, c, k: c / n),
        ("counts twice", lambda n, c, k: min(1.0, k * c / n)),
        ("*none* of the k", lambda n, c, k: math.comb(n - c, k) / math.comb(n, k)),
        ("any sample was right", lambda n, c, k: 1.0 if c else 0.0),
        ("*all* k are right", lambda n, c, k: math.comb(c, k) / math.comb(n, k)),
        ("(correct/n)^k", lambda n, c, k: (c / n) ** k),
        ("n=8, correct=8, k=8: wanted 1.0000, got", lambda n, c, k: 0.5 if c == k else pass_at_k(c, n, k)),
    ],
    "check_plan": [
        ("are left over", lambda solved, budget: spend(solved, budget // 2)),
        ("A group of one", lambda solved, budget: [1] * len(solved)),
        ("takes", lambda solved, budget: [budget] * len(solved)),
        ("whole numbers", lambda solved, budget: [budget / len(solved)] * len(solved)),
        ("always or never solved", lambda solved, budget: [budget // len(solved)] * len(solved)),
        ("next sample add most", lambda solved, budget: spend(solved, budget, size=4)),
        ("numbers were wanted", lambda solved, budget: budget),
    ],
}  # fmt: skip

RIGHT = {
    "check_claims": [{"a": True, "b": True, "c": False, "d": False, "e": False, "f": False}],
    "check_loss_at_start": [lambda a, n, most: -(torch.tensor(a) * torch.tensor(n)).sum() / len(a) / most],
    "check_group_advantages": [
        advantages,
        lambda *a: advantages(*a).double().numpy(),
        lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True) + 1e-8).tolist(),
        lambda *a: advantages(*a, std=lambda g: g.std(1, keepdim=True).clamp(min=1e-6)).tolist(),
    ],
    "check_graded_reward": [graded_reward, rewarder(lambda t, g: torch.tensor(right_box(t, g) or 0.1 * number_box(t)))],
    "check_cheat": [lambda question: ", ".join(map(str, range(10_000)))],
    "check_mended_reward": [
        rewarder(lambda t, g: right_box(t, g) / (1 + len(t))),
        rewarder(lambda t, g: bool(right_box(t, g)) * (1 + max(0.0, 1 - len(t) / 200))),
    ],
    "check_steps_reward": [steps(holds)],
    "check_pass_at_k": [
        lambda n, c, k: 1.0 if n - c < k else 1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)),
        pass_at_k_given_n,
    ],
    "check_plan": [],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_claims",)
