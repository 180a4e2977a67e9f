"""The exercises of lesson 03: what a student might hand in, and what the check says to it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from exercise_tests import ExerciseTests

from helper.exercises import lesson_03 as lesson


def dpo(c, r, ref_c, ref_r, beta=0.2):
    return -F.logsigmoid(beta * ((c - ref_c) - (r - ref_r))).mean()


def as_row(question, chosen, rejected, role="assistant"):
    sides = {"chosen": [{"role": role, "content": chosen}], "rejected": [{"role": role, "content": rejected}]}
    return {"prompt": [{"role": "user", "content": question}], **sides}


def paired(q, a, f, keep=lambda chosen, rejected: chosen != rejected, make=as_row):
    return [make(x, f(y), y) for x, y in zip(q, a) if keep(f(y), y)]


def dpop(c, r, ref_c, ref_r, penalty, beta=0.2):
    return -F.logsigmoid(beta * ((c - ref_c) - (r - ref_r) - penalty(c, r, ref_c, ref_r)))


PLANTED = {
    "check_beta_for_weight": [
        ("sign is wrong", lambda w, m: math.log(w / (1 - w)) / m),
        ("Divide by the margin", lambda w, m: math.log(1 / w - 1)),
        ("multiplied by the margin", lambda w, m: math.log(1 / w - 1) * m),
        ("under the line", lambda w, m: m / math.log(1 / w - 1)),
        ("solved exp", lambda w, m: -math.log(w) / m),
        ("base 10", lambda w, m: np.log10(1 / w - 1) / m),
        ("logarithm is missing", lambda w, m: (1 / w - 1) / m),
    ],
    "check_dpo_loss": [
        ("beta is missing", lambda c, r, rc, rr, beta=0.2: dpo(c, r, rc, rr, 1.0)),
        ("swapped", lambda c, r, rc, rr, beta=0.2: dpo(r, c, rr, rc, beta)),
        ("swapped", lambda c, r, rc, rr, beta=0.2: dpo(rc, rr, c, r, beta)),
        ("sign of the loss", lambda *a: -dpo(*a)),
        ("reference is missing", lambda c, r, rc, rr, beta=0.2: dpo(c, r, 0 * rc, 0 * rr, beta)),
        ("compare probabilities", lambda c, r, rc, rr, beta=0.2: dpo(c.exp(), r.exp(), rc.exp(), rr.exp(), beta)),
        ("divided log-probabilities", lambda c, r, rc, rr, beta=0.2: -F.logsigmoid(beta * (c / rc - r / rr)).mean()),
        ("logarithm is missing", lambda c, r, rc, rr, beta=0.2: -torch.sigmoid(beta * (c - rc - r + rr)).mean()),
        ("sigmoid is missing", lambda c, r, rc, rr, beta=0.2: -beta * (c - rc - r + rr).mean()),
        ("in front of the loss", lambda c, r, rc, rr, beta=0.2: beta * dpo(c, r, rc, rr, 1.0)),
        ("hinge", lambda c, r, rc, rr, beta=0.2: torch.relu(1 - beta * (c - rc - r + rr)).mean()),
        ("added the two", lambda c, r, rc, rr, beta=0.2: dpo(c, -r, rc, -rr, beta)),
        ("is the sum", lambda c, *a: dpo(c, *a) * len(c)),
        ("use torch.nn.functional.logsigmoid", lambda c, r, rc, rr, beta=0.2: -torch.sigmoid(
            beta * (c - rc - r + rr)).log().mean()),
        ("must stay a tensor", lambda *a: dpo(*a).item()),
        ("no gradient", lambda c, r, *a: dpo(c.detach(), r.detach(), *a)),
        ("gradient is not", lambda c, r, *a: dpo(c, r.detach(), *a)),
        ("take the mean", lambda c, r, rc, rr, beta=0.2: -F.logsigmoid(beta * (c - rc - r + rr))),
    ],
    "check_build_pairs": [
        ("swapped", lambda q, a, f: paired(q, a, f, make=lambda x, c, r: as_row(x, r, c))),
        ("Unchanged answers are still there", lambda q, a, f: paired(q, a, f, keep=lambda c, r: True)),
        ("Only the unchanged", lambda q, a, f: paired(q, a, f, keep=lambda c, r: c == r)),
        ("is `correct` called", lambda q, a, f: [as_row(x, y, y) for x, y in zip(q, a)]),
        ("both the corrected", lambda q, a, f: [as_row(x, f(y), f(y)) for x, y in zip(q, a)]),
        ("do not belong together", lambda q, a, f: [
            as_row(x, f(y), y) for x, y in zip(q, [y for y in a if f(y) != y])]),
        ("instead of the answer", lambda q, a, f: [as_row(f(x), y, y) for x, y in zip(q, a)]),
        ("role in chosen", lambda q, a, f: paired(q, a, f, make=lambda *x: as_row(*x, role="user"))),
        ("list of messages was wanted", lambda q, a, f: paired(
            q, a, f, make=lambda x, c, r: {"prompt": x, "chosen": c, "rejected": r})),
        ("a row is a dict", lambda q, a, f: paired(q, a, f, make=lambda *x: x)),
    ],
    "check_dpop_loss": [
        ("plain DPO", lambda *a: dpop(*a, lambda c, r, rc, rr: 0)),
        ("has *risen*", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * (rc - c))),
        ("where the chosen answer has risen", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(c - rc))),
        ("falling is rewarded", lambda *a: dpop(*a, lambda c, r, rc, rr: -5 * torch.relu(rc - c))),
        ("`strength` is missing", lambda *a: dpop(*a, lambda c, r, rc, rr: torch.relu(rc - c))),
        ("fall of the rejected", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rr - r))),
        ("outside beta", lambda *a: dpop(*a, lambda c, r, rc, rr: 25 * torch.relu(rc - c))),
        ("sign of the loss", lambda *a: -dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rc - c))),
    ],
    "check_own_loss": [
        ("pushing down", dpo),
        ("imitation alone", lambda c, r, rc, rr: -c),
        ("Nothing moved", lambda c, r, rc, rr: 0 * c),
        ("rejected answer has risen", lambda c, r, rc, rr: dpo(r, c, rr, rc)),
        ("hardly rose", lambda *a: dpop(*a, lambda c, r, rc, rr: 5 * torch.relu(rc - c))),
        ("has no gradient", lambda c, r, rc, rr: dpo(c.detach(), r.detach(), rc, rr)),
        ("must stay a tensor", lambda *a: float(dpo(*a))),
        ("broke down", lambda c, r, rc, rr: ((c - r) ** 2 - 900).sqrt()),
    ],
}  # fmt: skip

RIGHT = {
    "check_beta_for_weight": [lambda w, m: torch.logit(torch.tensor(1 - w)) / m],
    "check_dpo_loss": [
        dpo,
        lambda c, r, rc, rr, beta, **more: F.softplus(-beta * (c.double() - rc - r + rr)).mean(),
        lambda c, r, rc, rr, beta=0.2: dpo(c, r, rc, rr, beta)[None],
    ],
    "check_build_pairs": [paired, lambda q, a, f: tuple({**pair, "id": 1} for pair in paired(q, a, f))],
    "check_dpop_loss": [lambda *a: float(dpop(*a, lambda c, r, rc, rr: 5 * (rc - c).clamp(min=0)))],
    "check_own_loss": [lambda c, r, rc, rr: dpo(c, r, rc, rr) - c],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
