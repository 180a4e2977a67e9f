"""The exercises of lesson 10: what a student might hand in, and what the check says to it."""

import math

import numpy as np
import torch
from exercise_tests import ExerciseTests

from helper.exercises import lesson_10 as lesson
from helper.exercises.checking import close
from helper.machine.scale import SHARDING, states

CLAIMS = [true for true, _ in lesson.TRUTHS]


def split(batch, processes, most):
    share = batch // processes
    rows = min(most, share)
    while share % rows:
        rows -= 1
    return [rows, share // rows]


def rank(losses, mask, tokens, processes):
    return (losses * mask).sum() * processes / tokens


def by(gpus, divided):
    return gpus if divided else 1


def zero(weights, gpus, stage):
    return weights * (2 / by(gpus, stage > 2) + 2 / by(gpus, stage > 1) + 12 / by(gpus, stage > 0))


def weights_of(trainer, sampler, mask, cap):
    return ((trainer - sampler).exp().clamp(max=cap) * mask).detach()


def plan(job, order=("full", "lora"), counts=lesson.GPU_COUNTS, room=1.0, time=1.0):
    for trained in order:
        for gpus in counts:
            memory, hours = lesson.plan_cost(job, trained, gpus)
            if memory <= room * job["memory"] and hours <= time * job["hours"]:
                return trained, gpus
    return "lora", 64


PLANTED = {
    "check_scaling_claims": [
        ("Think again: 0", dict(enumerate([True] * 8))),
        ("Think again: 1", dict(enumerate([False] * 8))),
        ("Think again: 7", dict(enumerate([*CLAIMS[:7], True]))),
        ("neither True nor False", dict(enumerate([0] * 8))),
        ("removed or added", {"a": True}),
    ],
    "check_split_batch": [
        ("forgot the processes", lambda b, p, most: split(b, 1, most)),
        ("fit on a device", lambda b, p, most: split(b, p, 10**6)),
        ("as many rows at once as fit", lambda b, p, most: [1, b // p]),
        ("You rounded", lambda b, p, most: [min(most, b // p), math.ceil(b / p / min(most, b // p))]),
        ("Without accumulation", lambda b, p, most: [split(b, p, most)[0], 1]),
        ("swapped", lambda b, p, most: split(b, p, most)[::-1]),
        ("2 were wanted", lambda b, p, most: [b // p]),
    ],
    "check_rank_loss": [
        ("own tokens", lambda x, m, t, p: (x * m).sum() / m.sum()),
        ("once more", lambda x, m, t, p: (x * m).sum() / t),
        ("divided by the number of processes", lambda x, m, t, p: (x * m).sum() / t / p),
        ("This is the sum", lambda x, m, t, p: (x * m).sum()),
        ("mean of each row", lambda x, m, t, p: ((x * m).sum(1) / m.sum(1)).mean()),
        ("all places", lambda x, m, t, p: (x * m).mean()),
        ("padding counts", lambda x, m, t, p: x.sum() * p / t),
        ("has no gradient", lambda x, m, t, p: rank(x.detach(), m, t, p)),
        ("must stay a tensor", lambda *a: rank(*a).item()),
    ],
    "check_zero_bytes": [
        ("12 bytes a weight: two moments", lambda w, n, s: zero(w, n, s) - 4 * w / (n if s else 1)),
        ("three float32", lambda w, n, s: zero(w, n, s) - 8 * w / (n if s else 1)),
        ("are bf16", lambda w, n, s: zero(w, n, s) + 2 * w / (n if s > 2 else 1)),
        ("everything at each stage", lambda w, n, s: 16 * w / (n if s else 1)),
        ("other way round", lambda w, n, s: w * (2 / by(n, s > 0) + 2 / by(n, s > 1) + 12 / by(n, s > 2))),
        ("one stage ahead", lambda w, n, s: zero(w, n, s + 1)),
        ("and one part more", lambda w, n, s: w * (12 / by(n, s == 1) + 2 / by(n, s == 2) + 2 / by(n, s == 3))),
    ],
    "check_correction": [
        ("upside down", lambda t, s, m, c: weights_of(s, t, m, c)),
        ("no cap", lambda t, s, m, c: (t - s).exp() * m),
        ("both sides", lambda t, s, m, c: (t - s).exp().clamp(1 / c, c) * m),
        ("That is masking", lambda t, s, m, c: (t - s).exp() * ((t - s).exp() <= c) * m),
        ("whole answer", lambda t, s, m, c: (((t - s) * m).sum(1, keepdim=True).exp().clamp(max=c) * m)),
        ("logarithms", lambda t, s, m, c: (t - s) * m),
        ("should have 0", lambda t, s, m, c: weights_of(t, s, m, c) + (1 - m)),
        ("detach them", lambda t, s, m, c: (t - s).exp().clamp(max=c) * m),
    ],
    "check_plans": [
        ("GB of each GPU", lambda job: ("full", 1)),
        ("GB of each GPU", lambda job: plan(job, room=10)),
        ("are allowed", lambda job: plan(job, time=100) if lesson.plan_cost(job, *plan(job))[1] > 0 else 0),
        ("although all weights", lambda job: plan(job, order=("lora",))),
        ("times the fewest", lambda job: plan(job, counts=lesson.GPU_COUNTS[::-1])),
        ("neither", lambda job: ("qlora", 1)),
        ("not to be had", lambda job: ("lora", 3)),
        ("a pair such as", lambda job: "full"),
    ],
}  # fmt: skip

RIGHT = {
    "check_scaling_claims": [dict(enumerate(CLAIMS))],
    "check_split_batch": [split, lambda *a: np.array(split(*a)), lambda *a: torch.tensor(split(*a))],
    "check_rank_loss": [rank, lambda x, m, t, p: (x[m.bool()]).sum()[None] * p / t],
    "check_zero_bytes": [zero, lambda w, n, s: sum(states(w, w, "full", n, SHARDING[s], 2 * w).values())],
    "check_correction": [
        weights_of,
        lambda t, s, m, c: torch.where(m > 0, torch.clamp(torch.exp(t - s), max=c), 0.0).tolist(),
    ],
    "check_plans": [plan, lambda job: list(plan(job)), lambda job: (plan(job)[0], np.int64(plan(job)[1]))],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_scaling_claims",)


def test_claims_one_by_one():
    for claims in (dict(enumerate([None] * 8)), dict(enumerate([False] + [None] * 7))):
        assert lesson.check_scaling_claims(claims).right is None


def test_the_mean_over_the_ranks_is_the_mean_over_all_tokens():
    draw = torch.Generator().manual_seed(1)
    losses, mask = torch.rand(4, 6, generator=draw), (torch.rand(4, 6, generator=draw) > 0.4).float()
    tokens = int(mask.sum())
    ranks = [lesson._rank_loss(losses[part], mask[part], tokens, 2) for part in (slice(0, 2), slice(2, 4))]
    assert close(sum(ranks) / 2, ((losses * mask).sum() / tokens).item())


def test_every_job_can_be_done_and_some_need_lora():
    found = lesson.jobs(2010, 40)
    best = [lesson._best(job) for job in found]
    assert all(best) and {trained for trained, _ in best} == {"full", "lora"} and len({gpus for _, gpus in best}) > 3
    assert lesson.jobs(1) == lesson.jobs(1) != lesson.jobs(2)
