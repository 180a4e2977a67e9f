"""The exercises of lesson 09: what a student might hand in, and what the check says to it."""

import math

import numpy as np
import torch
from exercise_tests import ExerciseTests

from helper.algorithms.coefficients import dpo_coefficients, ppo_coefficients
from helper.algorithms.movement import adapted_beta, tilted_policy
from helper.exercises import lesson_09 as lesson
from helper.exercises.checking import close

CLAIMS = [False, True, False, False, True, False, False, True]


def nats(kls, first=None, second=None):
    total, tokens = sum(map(sum, kls)), sum(map(len, kls))
    return [total / tokens if first is None else first(kls), total / len(kls) if second is None else second(kls)]


def clip(ratio, advantage, epsilon, stops=lambda r, a, e: (a > 0 and r > 1 + e) or (a < 0 and r < 1 - e), stay=None):
    if stops(ratio, advantage, epsilon):
        return 0.0
    return ratio * advantage if stay is None else stay(ratio, advantage)


def sigma(z):
    return 1 / (1 + np.exp(-np.array(z)))


def push(chosen, rejected, beta, at=-1, front=None, signs=(1, -1), pairs=None):
    margins = np.array(chosen) - np.array(rejected)
    each = (beta if front is None else front) * sigma(at * beta * margins) / (len(margins) if pairs is None else pairs)
    return [*(signs[0] * each), *(signs[1] * each)]


def renewed(reference, rewards, beta, times, strength=None, start=None):
    power = times / beta if strength is None else strength(beta, times)
    weights = np.array(reference if start is None else start) * np.exp(power * np.array(rewards))
    return (weights / weights.sum()).tolist()


def held(beta, kl, target, gain=1.0, sign=1.0, most=0.2):
    return beta * (1 + gain * sign * min(max((kl - target) / target, -most), most))


PLANTED = {
    "check_nats": [
        ("swapped", lambda kls: nats(kls)[::-1]),
        ("mean of the answers' means", lambda kls: nats(kls, lambda k: np.mean([np.mean(one) for one in k]))),
        ("sums over everything", lambda kls: [sum(map(sum, kls))] * 2),
        ("nats a token too", lambda kls: [nats(kls)[0]] * 2),
        ("largest", lambda kls: [max(map(max, kls)), max(map(sum, kls))]),
        ("as long as the longest", lambda kls: nats(kls, lambda k: sum(map(sum, k)) / (len(k) * max(map(len, k))))),
    ],
    "check_clip": [
        ("*value*", lambda r, a, e: min(r * a, min(max(r, 1 - e), 1 + e) * a)),
        ("*wrong* way", lambda r, a, e: clip(r, a, e, lambda r, a, e: not 1 - e <= r <= 1 + e)),
        ("above the range only", lambda r, a, e: clip(r, a, e, lambda r, a, e: r > 1 + e)),
        ("without any clip", lambda r, a, e: r * a),
        ("ratio is missing", lambda r, a, e: clip(r, a, e, stay=lambda r, a: a)),
        ("sign of A is lost", lambda r, a, e: clip(r, a, e, stay=lambda r, a: r * abs(a))),
        ("whatever ε is", lambda r, a, e: clip(r, a, 0.2)),
        ("1/(1+ε)", lambda *given: clip(*given, lambda r, a, e: (a > 0 and r > 1 + e) or (a < 0 and r < 1 / (1 + e)))),
        ("its range end", lambda *given: clip(*given, lambda r, a, e: a > 0 and r > 1 + 3 * e or a < 0 and r < 1 - 2 * e)),
        ("against their advantage", lambda *given: clip(*given, lambda r, a, e: a < 0 and r > 1 + e or a > 0 and r < 1 - e)),
    ],
    "check_push": [
        ("grows with the margin", lambda *a: push(*a, at=1)),
        ("factor β in front", lambda *a: push(*a, front=1)),
        ("multiplied by β", lambda c, r, b: [s * b * x / len(c) for s in (1, -1) for x in sigma(np.array(r) - np.array(c))]),
        ("number of pairs", lambda *a: push(*a, pairs=1)),
        ("loss of the pairs", lambda c, r, b: [
            s * x / len(c) for s in (1, -1) for x in np.log1p(np.exp(-b * (np.array(c) - np.array(r))))]),
        ("Both answers are pushed up", lambda *a: push(*a, signs=(1, 1))),
        ("signs are swapped", lambda *a: push(*a, signs=(-1, 1))),
    ],
    "check_renewed": [
        ("one training", lambda *a: renewed(*a, strength=lambda b, k: 1 / b)),
        ("*smaller* β", lambda *a: renewed(*a, strength=lambda b, k: 1 / (b * max(k, 1)))),
        ("multiplied by β", lambda *a: renewed(*a, strength=lambda b, k: b * k)),
        ("too many", lambda *a: renewed(*a, strength=lambda b, k: (k + 1) / b)),
        ("*adds*", lambda *a: renewed(*a, strength=lambda b, k: 2 ** (k - 1) / b if k else 0)),
        ("reference is missing", lambda *a: renewed(*a, start=[1.0] * len(a[0]))),
        ("do not sum to 1", lambda p, r, b, k: [x * math.exp(k * y / b) for x, y in zip(p, r)]),
    ],
    "check_pipeline_claims": [
        ("Think again: 0", dict(enumerate([True] * 8))),
        ("Think again: 1", dict(enumerate([False] * 8))),
        ("neither True nor False", dict(enumerate([0] * 8))),
        ("removed or added", {"a": True}),
    ],
    "check_controller": [
        ("are held within", lambda beta, kl, target: beta),
        ("are held within", lambda beta, kl, target: adapted_beta(beta, kl, target)),
        ("are steady", lambda beta, kl, target: beta * 1.5 if kl > target else beta / 1.5),
        ("are steady", lambda beta, kl, target: held(beta, kl, target, gain=2.0)),
        ("β became", lambda *a: held(*a, sign=-1.0)),
        ("β became", lambda beta, kl, target: -1.0),
        ("β became", lambda beta, kl, target: beta * math.exp(10 * (kl - target))),
    ],
}  # fmt: skip

RIGHT = {
    "check_nats": [nats, lambda kls: torch.tensor(nats(kls)), lambda kls: tuple(nats(kls))],
    "check_clip": [clip, lambda r, a, e: coefficient(r, a, e)],
    "check_push": [push, lambda c, r, b: np.array(push(c, r, b))],
    "check_renewed": [renewed, lambda *a: step_by_step(*a)],
    "check_pipeline_claims": [dict(enumerate(CLAIMS))],
    "check_controller": [
        held,
        lambda beta, kl, target: torch.tensor(held(beta, kl, target, gain=0.7)),
        lambda beta, kl, target: beta * min(max(kl / target, 0.8), 1.25) ** 0.5,
    ],
}


def coefficient(ratio, advantage, epsilon):
    """The same from automatic differentiation's formula in the course's own function."""
    logps, mask = torch.tensor([[math.log(ratio)]]), torch.ones(1, 1)
    return ppo_coefficients(logps, torch.zeros(1, 1), torch.tensor([advantage]), mask, epsilon)


def step_by_step(reference, rewards, beta, times):
    policy = torch.tensor(reference, dtype=torch.float64)
    for _ in range(times):
        policy = tilted_policy(policy, torch.tensor(rewards, dtype=torch.float64), beta)
    return policy


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_pipeline_claims",)


def test_claims_one_by_one():
    for claims in (dict(enumerate([None] * 8)), dict(enumerate([False] + [None] * 7))):
        assert lesson.check_pipeline_claims(claims).right is None


def test_the_references_agree_with_the_course():
    for ratio in (0.3, 0.8, 1.0, 1.19, 2.5):
        for advantage in (1.0, -2.0, 0.0):
            for epsilon in (0.1, 0.2):
                assert close(lesson._clipped(ratio, advantage, epsilon), coefficient(ratio, advantage, epsilon).item())
    chosen, rejected, beta = [1.0, -2.0], [0.5, 1.5], 0.3
    logps = torch.tensor([*chosen, *rejected]).unsqueeze(1)
    ours = dpo_coefficients(logps, torch.zeros(4, 1), torch.ones(4, 1), beta)[:, 0]
    assert close(lesson._push(chosen, rejected, beta), ours.tolist())


def test_the_invented_training_needs_a_controller():
    fixed = [lesson._off(lambda beta, kl, target: beta, seed) for seed in range(lesson.RUNS)]
    assert sum(off <= lesson.NEAR for off, _ in fixed) < 0.5 * lesson.RUNS
