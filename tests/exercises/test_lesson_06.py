"""The exercises of lesson 06: what a student might hand in, and what the check says to it."""

import numpy as np
import torch
import torch.nn.functional as F
from exercise_tests import ExerciseTests, k3

from helper.algorithms import bradley_terry_loss, generalised_advantages, ranking_loss, token_rewards, value_loss
from helper.exercises import lesson_06 as lesson
from helper.exercises.checking import close


def bt(gap):
    return -F.logsigmoid(gap).mean()


def pairs_loss(scores, use=lambda i, j: i < j, reduce=torch.mean, sign=1):
    gaps = [scores[i] - scores[j] for i in range(len(scores)) for j in range(len(scores)) if use(i, j)]
    return reduce(-F.logsigmoid(sign * torch.stack(gaps)))


def spread_rewards(score, new, ref, mask, beta, place=None, kl=lambda new, ref: new - ref, keep=None, add=True):
    rewards = -beta * kl(new, ref) * (mask if keep is None else keep)
    rows, last = torch.arange(len(score)), mask.sum(1).long() - 1
    at = last if place is None else place(last, mask)
    rewards[rows, at] = score + (rewards[rows, at] if add else 0)
    return rewards


def backward(r, v, mask, gamma, lam, inside=True, after=None, decay=None, step=None, outside=False, forwards=False):
    """GAE, with switches for mistakes."""
    out, later, following = torch.zeros_like(r), torch.zeros(len(r)), torch.zeros(len(r))
    for t in range(r.shape[1]) if forwards else reversed(range(r.shape[1])):
        following = following if not forwards else v[:, t + 1] * mask[:, t + 1] if t + 1 < r.shape[1] else 0 * v[:, t]
        delta = r[:, t] + (gamma if step is None else step) * (following if after is None else after * v[:, t]) - v[:, t]
        later = (delta + (gamma * lam if decay is None else decay) * later) * (mask[:, t] if inside else 1)
        following = v[:, t] * (mask[:, t] if inside else 1)
        out[:, t] = later
    return out * mask if outside else out


def critic(v, old, target, mask, clip, near=lambda v, old, clip: old + (v - old).clamp(-clip, clip), take=torch.max,
           mean=lambda error, mask: (error * mask).sum() / mask.sum() / 2):  # fmt: skip
    return mean(take((v - target) ** 2, (near(v, old, clip) - target) ** 2), mask)


def shares(
    pairs, feature, right=lambda p: p.chosen_score > p.rejected_score, below=lambda side, p: side.sum(), equal=(0, 0)
):
    gap = pairs[f"chosen_{feature}"] - pairs[f"rejected_{feature}"]
    sides = (gap > 0) | (equal[0] * (gap == 0)).astype(bool), (gap < 0) | (equal[1] * (gap == 0)).astype(bool)
    return [(right(pairs) & side).sum() / below(side, pairs) for side in sides]


def parabola(proxy, kl, probe, budget):
    at = [int(i) for i in np.linspace(4, len(kl) - 1, budget)]
    d = np.sqrt(kl)
    curve = np.linalg.lstsq(np.stack([d, d * np.log(d)], 1)[at], np.array([probe(i) for i in at]), rcond=None)[0]
    return np.int64(np.argmax(curve[0] * d + curve[1] * d * np.log(d)))


PLANTED = {
    "check_pair_loss": [
        ("prefer the worse", lambda c, r: bt(r - c)),
        ("sign of the loss", lambda c, r: -bt(c - r)),
        ("logarithm is missing", lambda c, r: -torch.sigmoid(c - r).mean()),
        ("chance of a wrong choice", lambda c, r: torch.sigmoid(r - c).mean()),
        ("applied twice", lambda c, r: bt(torch.sigmoid(c - r))),
        ("before the difference", lambda c, r: bt(torch.sigmoid(c) - torch.sigmoid(r))),
        ("sigmoid is missing", lambda c, r: (r - c).mean()),
        ("score each answer by itself", lambda c, r: bt(c) + bt(-r)),
        ("divided the scores", lambda c, r: bt(c / r)),
        ("squared error", lambda c, r: ((1 - c + r) ** 2).mean()),
        ("hinge", lambda c, r: torch.relu(1 - c + r).mean()),
        ("is the sum", lambda c, r: -F.logsigmoid(c - r).sum()),
        ("use torch.nn.functional.logsigmoid", lambda c, r: -torch.sigmoid(c - r).log().mean()),
        ("must stay a tensor", lambda c, r: bt(c - r).item()),
        ("gradient is not", lambda c, r: bt(c - r.detach())),
    ],
    "check_ranking_loss": [
        ("is the sum", lambda s: pairs_loss(s, reduce=torch.sum)),
        ("number of answers", lambda s: pairs_loss(s, reduce=torch.sum) / len(s)),
        ("neighbours only", lambda s: pairs_loss(s, lambda i, j: j == i + 1)),
        ("best with the others only", lambda s: pairs_loss(s, lambda i, j: i == 0 < j)),
        ("first with the last only", lambda s: bt(s[0] - s[-1])),
        ("earlier minus the later", lambda s: pairs_loss(s, sign=-1)),
        ("sign of the loss", lambda s: -pairs_loss(s)),
        ("Each pair is there twice", lambda s: pairs_loss(s, lambda i, j: i != j)),
        ("every answer with every one", lambda s: pairs_loss(s, lambda i, j: True)),
        ("compared with themselves", lambda s: pairs_loss(s, lambda i, j: i <= j)),
        ("Plackett-Luce", lambda s: torch.stack([s[i:].logsumexp(0) - s[i] for i in range(len(s) - 1)]).mean()),
        ("has no gradient", lambda s: pairs_loss(s).detach()),
    ],
    "check_token_rewards": [
        ("*costs* reward", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, -beta)),
        ("last column", lambda *a: spread_rewards(*a, place=lambda last, mask: mask.shape[1] - 1)),
        ("one place behind", lambda *a: spread_rewards(
            *a, place=lambda last, mask: (last + 1).clamp(max=mask.shape[1] - 1))),
        ("first token", lambda *a: spread_rewards(*a, place=lambda last, mask: 0)),
        ("Every token gets the score", lambda s, new, ref, mask, beta: (s[:, None] - beta * (new - ref)) * mask),
        ("spread the score", lambda s, new, ref, mask, beta: (
            (s / mask.sum(1))[:, None] - beta * (new - ref)) * mask),
        ("replaced", lambda *a: spread_rewards(*a, add=False)),
        ("KL term is missing", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, 0.0)),
        ("score is missing", lambda s, *a: spread_rewards(0 * s, *a)),
        ("beta is missing", lambda s, new, ref, mask, beta: spread_rewards(s, new, ref, mask, 1.0)),
        ("padding carries", lambda *a: spread_rewards(*a, keep=1)),
        ("used k3", lambda *a: spread_rewards(*a, kl=k3)),
        ("sum of its response", lambda *a: spread_rewards(*a).sum(1, keepdim=True).expand(a[1].shape)),
    ],
    "check_gae": [
        ("value on the padding leaks", lambda r, v, m, g, lam: backward(
            r + g * torch.cat([v[:, 1:] * (1 - m[:, 1:]) * m[:, :-1], 0 * v[:, :1]], 1), v, m, g, lam)),
        ("Mask in the loop", lambda *a: backward(*a, inside=False, outside=True)),
        ("treated as tokens", lambda *a: backward(*a, inside=False)),
        ("runs forwards", lambda *a: backward(*a, forwards=True)),
        ("one-step error", lambda *a: backward(*a, decay=0.0)),
        ("lambda is missing", lambda r, v, m, g, lam: backward(r, v, m, g, 1.0)),
        ("gamma is missing in front", lambda r, v, m, g, lam: backward(r, v, m, g, lam, decay=lam)),
        ("gamma * lambda is missing", lambda *a: backward(*a, decay=1.0)),
        ("gamma is missing in delta", lambda *a: backward(*a, step=1.0)),
        ("next value is missing", lambda *a: backward(*a, after=0.0)),
        ("V_t twice", lambda *a: backward(*a, after=1.0)),
        ("values are missing", lambda r, v, *a: backward(r, 0 * v, *a)),
        ("returns, A + V", lambda r, v, m, *a: backward(r, v, m, *a) + v * m),
        ("sign of delta", lambda *a: -backward(*a)),
    ],
    "check_critic_claims": [
        ("Think again: 0", dict(enumerate([True] * 8))),
        ("Think again: 1", dict(enumerate([False] * 8))),
        ("Think again: 7", dict(enumerate([False, True, False, False, True, False, False, True]))),
        ("neither True nor False", dict(enumerate([0] * 8))),
        ("removed or added", {"a": True}),
    ],
    "check_value_loss": [
        ("smaller error", lambda *a: critic(*a, take=torch.min)),
        ("Only the clipped error", lambda *a: critic(*a, take=lambda plain, kept: kept)),
        ("Nothing is clipped", lambda *a: critic(*a, take=lambda plain, kept: plain)),
        ("one half is missing", lambda *a: 2 * critic(*a)),
        ("The padding counts", lambda *a: critic(*a, mean=lambda error, mask: error.mean() / 2)),
        ("divided by all places", lambda *a: critic(*a, mean=lambda error, mask: (error * mask).mean() / 2)),
        ("This is the sum", lambda *a: critic(*a, mean=lambda error, mask: (error * mask).sum() / 2)),
        ("of the *old* one", lambda v, old, target, m, clip: critic(
            v, old, target, m, clip, near=lambda v, old, clip: target + (v - target).clamp(-clip, clip))),
        ("clipped the value itself", lambda *a: critic(*a, near=lambda v, old, clip: v.clamp(-clip, clip))),
        ("share of the old value", lambda *a: critic(*a, near=lambda v, old, clip: torch.min(
            torch.max(v, old - clip * old.abs()), old + clip * old.abs()))),
        ("not squared", lambda v, old, target, m, clip: (torch.max(
            (v - target).abs(), (old + (v - old).clamp(-clip, clip) - target).abs()) * m).sum() / m.sum() / 2),
        ("must stay a tensor", lambda *a: critic(*a).item()),
        ("has no gradient", lambda v, *a: critic(v.detach(), *a)),
    ],
    "check_audit": [
        ("tied scores", lambda *a: shares(*a, right=lambda p: p.chosen_score >= p.rejected_score)),
        ("shares of errors", lambda *a: shares(*a, right=lambda p: p.chosen_score <= p.rejected_score)),
        ("two are swapped", lambda *a: shares(*a)[::-1]),
        ("in the first group", lambda *a: shares(*a, equal=(1, 0))),
        ("in the second group", lambda *a: shares(*a, equal=(0, 1))),
        ("among the right pairs", lambda *a: shares(
            *a, below=lambda side, p: (p.chosen_score > p.rejected_score).sum())),
        ("on all pairs, twice", lambda p, feature: [(p.chosen_score > p.rejected_score).mean()] * 2),
        ("divided by all pairs", lambda *a: shares(*a, below=lambda side, p: len(p))),
        ("These are counts", lambda *a: shares(*a, below=lambda side, p: 1)),
        ("none of words", shares, "length"),
        ("Where do the two lie", shares, "digits"),
    ],
    "check_choose_step": [
        ("goes on rising", lambda proxy, kl, probe, budget: len(kl) - 1),
        ("goes on rising", lambda proxy, kl, probe, budget: int(np.argmax(proxy))),
        ("single probe is noisy", lambda proxy, kl, probe, budget: max(range(5, 60, 10), key=probe)),
        ("budget of 6 probes is spent", lambda proxy, kl, probe, budget: max(range(60), key=probe)),
        ("no checkpoint", lambda proxy, kl, probe, budget: kl[-1]),
        ("there is no checkpoint -1", lambda proxy, kl, probe, budget: probe(-1)),
    ],
}  # fmt: skip

RIGHT = {
    "check_pair_loss": [
        lambda c, r: bt(c - r),
        lambda c, r: F.softplus(r.double() - c).mean()[None],
        lambda c, r: F.binary_cross_entropy_with_logits(c - r, torch.ones_like(c)),
    ],
    "check_ranking_loss": [pairs_loss, lambda s: pairs_loss(s.double())],
    "check_token_rewards": [
        spread_rewards,
        lambda *a: spread_rewards(*(x.double() if torch.is_tensor(x) else x for x in a)).tolist(),
    ],
    "check_gae": [backward, lambda *a: backward(*(x.double() if torch.is_tensor(x) else x for x in a)).numpy()],
    "check_critic_claims": [dict(enumerate([False, True, False, False, True, False, False, False]))],
    "check_value_loss": [critic, lambda v, *a: critic(v.double(), *a)],
    "check_audit": [],
    "check_choose_step": [parabola],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_critic_claims",)


def test_the_audit_waits_for_the_name_of_the_shortcut():
    unnamed = lesson.check_audit(shares)
    assert unnamed.right is None and "shortcut is not started" in unnamed.message
    assert lesson.check_audit(shares, "words").right is True
    as_tensor = lesson.check_audit(lambda *a: torch.tensor(shares(*a), dtype=torch.float32), "words")
    assert as_tensor.right is True, as_tensor


def test_predictions_one_by_one():
    for claims in (dict(enumerate([None] * 8)), dict(enumerate([False] + [None] * 7))):
        assert lesson.check_critic_claims(claims).right is None


def test_the_references_agree_with_the_library():
    draw = torch.Generator().manual_seed(1)
    logps, ref, a, values = (torch.randn(3, 5, generator=draw) for _ in range(4))
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    assert close(lesson._pair_loss(a[0], a[1]), bradley_terry_loss(a[0], a[1]).item())
    assert close(lesson._ranking_loss(a[0]), ranking_loss(a[:1]).item())
    score, rewards = a[:, 0], a * mask
    wanted = token_rewards(score, logps, ref, mask, 0.1).tolist()
    assert close(lesson._token_rewards(score, logps, ref, mask, 0.1), wanted)
    wanted = generalised_advantages(rewards, values, mask, 0.9, 0.8)[0].tolist()
    assert close(lesson._gae(rewards, values, mask, 0.9, 0.8), wanted)
    assert close(lesson._value_loss(values, ref, a, mask, 0.2), value_loss(values, ref, a, mask, 0.2).item())
