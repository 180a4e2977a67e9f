"""The exercises of lesson 07: what a student might hand in, and what the check says to it."""

import math

import torch
from exercise_tests import ExerciseTests

from helper.exercises import lesson_07 as lesson
from helper.exercises.lesson_07 import budget_cases


def claims(*said):
    return dict(zip("abcdef", said))


def forward(x, W, A, B, alpha, scale=lambda alpha, A: alpha / len(A), base=lambda x, W: x @ W.T, sign=1):
    return base(x, W) + sign * scale(alpha, A) * (x @ A.T @ B.T)


def added(adapters, weights, of=lambda A, B, scale, weight: weight * scale * B @ A):
    return sum(of(*adapter, weight) for adapter, weight in zip(adapters, weights))


def apart(adapters, weights):
    first = sum(math.sqrt(w * s) * A for (A, _, s), w in zip(adapters, weights))
    return sum(math.sqrt(w * s) * B for (_, B, s), w in zip(adapters, weights)) @ first


def blocks(weights, levels, block, largest=lambda part: part.abs().amax(1, keepdim=True), back=True):
    part = weights.view(-1, block)
    scale = largest(part)
    nearest = levels[((part / scale)[..., None] - levels).abs().argmin(-1)]
    return (nearest * scale if back else nearest).flatten()


def rounded_down(weights, levels, block):
    part = weights.view(-1, block)
    scale = part.abs().amax(1, keepdim=True)
    codes = (torch.bucketize((part / scale).clamp(max=1 - 1e-7), levels, right=True) - 1).clamp(min=0)
    codes = torch.where(part == scale, len(levels) - 1, codes)
    return (levels[codes] * scale).flatten()


def best(W, rank, values=lambda S: S, chosen=slice, third=lambda V: V):
    U, S, V = torch.linalg.svd(W, full_matrices=False)
    kept = slice(rank) if chosen is slice else slice(len(S) - rank, None)
    return U[:, kept] * values(S)[kept], third(V)[kept]


def greedy(spectra, shapes, budget, price=sum, power=2):
    ranks = [0] * len(shapes)
    steps = sorted(
        ((-(value**power) / price(shapes[i]), i) for i, values in enumerate(spectra) for value in values),
        key=lambda step: step[0],
    )
    for _, i in steps:
        if sum(shapes[i]) <= budget:
            ranks[i] += 1
            budget -= sum(shapes[i])
    return ranks


PLANTED = {
    "check_training_bytes": [
        ("counted in bits", lambda f, t, bits: f * bits + 16 * t),
        ("You took 4 bytes for every frozen", lambda f, t, bits: 4 * f + 16 * t),
        ("frozen weights get 16 bytes", lambda f, t, bits: 16 * f + 16 * t),
        ("*two* averages", lambda f, t, bits: f * bits / 8 + 12 * t),
        ("averages are missing", lambda f, t, bits: f * bits / 8 + 8 * t),
        ("its value alone", lambda f, t, bits: f * bits / 8 + 4 * t),
        ("in float32 whatever", lambda f, t, bits: f * bits / 8 + 2 * bits * t),
        ("What is trained is missing", lambda f, t, bits: f * bits / 8),
        ("a number was wanted", lambda f, t, bits: f"{f + t} bytes"),
    ],
    "check_lora_forward": [
        ("scale is missing", lambda *a: forward(*a, scale=lambda alpha, A: 1.0)),
        ("You scale by α.", lambda *a: forward(*a, scale=lambda alpha, A: alpha)),
        ("rank-stabilised", lambda *a: forward(*a, scale=lambda alpha, A: alpha / math.sqrt(len(A)))),
        ("width of A's rows", lambda *a: forward(*a, scale=lambda alpha, A: alpha / A.shape[1])),
        ("W x is missing", lambda *a: forward(*a, base=lambda x, W: 0.0)),
        ("before W x as well", lambda x, W, A, B, alpha: alpha / len(A) * (x @ (W + B @ A).T)),
        ("it is x @ W.T", lambda *a: forward(*a, base=lambda x, W: x @ W if len(W) == W.shape[1] else x @ W.T)),
        ("subtracted", lambda *a: forward(*a, sign=-1)),
        ("RuntimeError", lambda x, W, A, B, alpha: x @ W.T + x @ (A @ B)),
        ("of W's shape is built", lambda x, W, A, B, alpha: (x @ (W + alpha / A.shape[0] * B @ A).T).requires_grad_()),
        ("of W's shape is built", lambda x, W, A, B, alpha: x @ W.T + alpha / len(A) * x @ (A.T @ B.T)),
        ("of W's shape is built", lambda x, W, A, B, alpha: torch.nn.functional.linear(x, W + alpha / len(A) * B @ A)),
    ],
    "check_claims": [
        ("Think again: 'b'", claims(True, True, False, True, False, False)),
        ("Think again: 'a'", claims(False, False, False, True, False, False)),
        ("neither True nor False", claims("yes", False, False, True, False, False)),
        ("removed or added", {"a": True}),
    ],
    "check_combined_change": [
        ("weights do nothing", lambda a, w: added(a, w, lambda A, B, scale, weight: scale * B @ A)),
        ("counts twice", lambda a, w: added(a, w, lambda A, B, scale, weight: weight**2 * scale * B @ A)),
        ("by their sum", lambda a, w: added(a, [x / sum(w) for x in w])),
        ("own scale", lambda a, w: added(a, w, lambda A, B, scale, weight: weight * B @ A)),
        ("every B now meets every A", apart),
        ("every B now meets every A", lambda a, w: sum(x * s * B for (_, B, s), x in zip(a, w)) @ sum(A for A, _, _ in a)),
        ("took the mean", lambda a, w: added(a, w) / len(a)),
        ("was wanted", lambda a, w: added(a, w).T),
    ],
    "check_round_trip": [
        ("largest *absolute* value", lambda *a: blocks(*a, largest=lambda part: part.amax(1, keepdim=True))),
        ("one scale for all", lambda weights, levels, block: blocks(weights, levels, len(weights))),
        ("mean absolute value", lambda *a: blocks(*a, largest=lambda part: part.abs().mean(1, keepdim=True))),
        ("next level below", rounded_down),
        ("These are the levels", lambda *a: blocks(*a, back=False)),
        ("came back", lambda weights, levels, block: blocks(weights, levels, block).view(-1, block)),
    ],
    "check_best_of_rank": [
        ("singular values are missing", lambda W, r: best(W, r, values=torch.ones_like)),
        ("count twice", lambda W, r: best(W, r, values=torch.square)),
        ("kept the smallest", lambda W, r: best(W, r, chosen=None)),
        ("other way round", lambda W, r: best(W, r)[::-1]),
        ("the pair (B, A) was wanted", lambda W, r: best(W, r)[0] @ best(W, r)[1]),
        ("the best of this rank", lambda W, r: (W[:, :r], torch.eye(W.shape[1])[:r])),
        ("must be tensors", lambda W, r: [part.tolist() for part in best(W, r)]),
    ],
    "check_spend_ranks": [
        ("the budget is", lambda spectra, shapes, budget: [len(values) for values in spectra]),
        ("same rank everywhere", lambda spectra, shapes, budget: [budget // sum(map(sum, shapes))] * len(shapes)),
        ("are left over", lambda spectra, shapes, budget: greedy(spectra, shapes, budget // 2)),
        ("for each number stored", lambda spectra, shapes, budget: [
            min(budget // sum(shapes[0]), 9), *[0] * (len(shapes) - 1)]),
        ("the careful choice", lambda *a: greedy(*a, price=lambda shape: 1)),
        ("the careful choice", lambda *a: greedy(*a, price=math.prod)),
        ("the careful choice", lambda *a: greedy(*a, power=1)),
        ("a rank is a whole number", lambda spectra, shapes, budget: [0.5] * len(shapes)),
        ("3 were wanted", lambda spectra, shapes, budget: [1]),
    ],
}  # fmt: skip

RIGHT = {
    "check_training_bytes": [lambda f, t, bits: torch.tensor(f * bits / 8 + 16 * t)],
    "check_lora_forward": [
        forward,
        lambda x, W, A, B, alpha: (x @ W.T.clone() + alpha / A.shape[0] * (x @ A.T @ B.T)).requires_grad_(),
        lambda x, W, A, B, alpha: torch.addmm(x @ W.T, x @ A.T, B.T, alpha=alpha / len(A)).numpy(),
    ],
    "check_claims": [claims(True, False, False, True, False, False)],
    "check_combined_change": [
        added,
        lambda a, w: torch.cat([x * s * B for (_, B, s), x in zip(a, w)], 1) @ torch.cat([A for A, _, _ in a]),
    ],
    "check_round_trip": [blocks, lambda *a: blocks(*a).tolist()],
    "check_best_of_rank": [best, lambda W, r: list(best(W, r))],
    "check_spend_ranks": [greedy, lambda *a: torch.tensor(greedy(*a))],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_claims",)


def test_a_finer_choice_than_the_greedy_one_is_hardly_better():
    """The bound of 98% must be within reach: every allocation of one case, against the greedy one."""
    spectra, shapes, budget = next(iter(budget_cases().values()))
    most = budget // sum(shapes[0])
    every = [(i, j, most - i - j) for i in range(most + 1) for j in range(most + 1 - i) if most - i - j <= 12]
    ranks = lesson._greedy(spectra, shapes, budget)
    assert lesson._captured(spectra, ranks) >= max(lesson._captured(spectra, each) for each in every) - 1e-9
