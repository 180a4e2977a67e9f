"""The exercises of lesson 05: what a student might hand in, and what the check says to it."""

import re

import numpy as np
import torch
from exercise_tests import ExerciseTests, k3, rewarder, texts_of

from helper import answers_match
from helper.algorithms import clipped_surrogate, kl_estimate
from helper.exercises import lesson_05 as lesson
from helper.exercises.checking import close
from helper.rewards import TAGS, tag_format_reward, tagged_answer, tagged_reward


def until_end(ids, end, longest, more=0, find=lambda row, end: row.index(end) if end in row else len(row)):
    """1 up to the end token and `more` places further, within the first `longest`."""
    rows = [(row[:longest], len(row)) for row in ids.tolist()]
    return [[float(t < len(row) and t <= find(row, end) + more) for t in range(width)] for row, width in rows]


def ignoring_the_limit(ids, end, longest):
    return until_end(ids, end, ids.shape[1])


def last_end(row, end):
    return len(row) - 1 - row[::-1].index(end) if end in row else len(row)


def argmax_end(row, end):
    return (torch.tensor(row) == end).int().argmax().item()


def clipped(new, old, a, low, high, take=torch.min):
    ratio = (new - old).exp()
    return take(ratio * a, ratio.clamp(1 - low, 1 + high) * a)


def kl_pair(first=lambda p, lp, ref: p * (lp - ref), second=lambda p, lp, ref: p.detach() * k3(lp, ref), sign=1):
    def gradients(logits, ref):
        x = logits.double().requires_grad_()
        lp = torch.log_softmax(x, -1)
        return [sign * torch.autograd.grad(f(lp.exp(), lp, ref).sum(), x, retain_graph=True)[0] for f in (first, second)]

    return gradients


def weights_of(grpo=1 / 80, dapo=1 / 50, dr_grpo=1 / 200, whole=40):
    return {name: {"a": w, "b": w * whole} for name, w in zip(("grpo", "dapo", "dr_grpo"), (grpo, dapo, dr_grpo))}


def tagged(right=lambda t, g: tagged_reward([t], [g])[0], form=lambda t: tag_format_reward([t])[0]):
    return rewarder(lambda t, g: right(t, g) + form(t))


def inner(text):
    """Between the answer tags, with its white space."""
    return text.rpartition("<answer>")[2].partition("</answer>")[0] if tagged_answer(text) is not None else ""


def first_answer(text):
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found[0] if found else ""


def slope(n, most, cache, start=None, over=None):
    start = most - cache if start is None else start
    return -min(max((n - start) / (over or most - start), 0.0), 1.0)


def sampler(keep=lesson.has_spread, key=lambda problem: 0, stop=True, change=lambda rewards: rewards):
    def fill(draw, problems, wanted, memory):
        batch = {}
        for problem in sorted(problems, key=key):
            if (not stop or len(batch) < wanted) and keep(rewards := draw(problem)) and len(batch) < wanted:
                batch[problem] = change(rewards)
        return batch

    return fill


def remembering(draw, problems, wanted, memory):
    """Skips what had no spread twice and draws what had some first."""
    batch = {}
    for problem in sorted(problems, key=lambda p: -memory.get(p, 0)):
        if len(batch) < wanted:
            rewards = draw(problem)
            spread = lesson.has_spread(rewards)
            memory[problem] = memory.get(problem, 0) + (1 if spread else -1)
            if spread:
                batch[problem] = rewards
    return batch


PLANTED = {
    "check_completion_mask": [
        ("by the token's id", lambda ids, end, longest: (ids != end).float()),
        ("end token itself is masked", lambda *a: until_end(*a, more=-1)),
        ("Every token counts", lambda ids, end, longest: torch.ones(ids.shape)),
        ("*last* end token", lambda *a: until_end(*a, find=last_end)),
        ("*last* end token", lambda ids, end, longest: until_end(ids, end, ids.shape[1], find=last_end)),
        ("argmax of no True", lambda *a: until_end(*a, find=argmax_end)),
        ("All its tokens were sampled", lambda *a: until_end(*a, find=lambda r, e: r.index(e) if e in r else -1)),
        ("One token too many", lambda *a: until_end(*a, more=1)),
        ("has `longest` tokens. Where the width", ignoring_the_limit),
        ("swapped", lambda *a: 1 - torch.tensor(until_end(*a))),
        ("shape (5, 2) came back", lambda *a: torch.tensor(until_end(*a)).T),
        ("raised ValueError", lambda ids, end, longest: [row.index(end) for row in ids.tolist()]),
    ],
    "check_surrogate": [
        ("minus the surrogate", lambda *a: -clipped(*a)),
        ("larger of the two", lambda *a: clipped(*a, take=torch.max)),
        ("For a negative advantage", lambda new, old, a, *c: torch.where(
            a > 0, clipped(new, old, a, *c), clipped(new, old, a, *c, take=torch.max))),
        ("minimum is missing", lambda *a: clipped(*a, take=lambda plain, kept: kept)),
        ("Nothing is clipped", lambda new, old, a, low, high: (new - old).exp() * a),
        ("upside down", lambda new, old, *a: clipped(old, new, *a)),
        ("exp is missing", lambda new, old, a, low, high: torch.min(
            (new - old) * a, (new - old).clamp(1 - low, 1 + high) * a)),
        ("`high` is not used", lambda new, old, a, low, high: clipped(new, old, a, low, low)),
        ("`low` is not used", lambda new, old, a, low, high: clipped(new, old, a, high, high)),
        ("are swapped", lambda new, old, a, low, high: clipped(new, old, a, high, low)),
        ("logarithm of the ratio", lambda new, old, a, low, high: torch.min(
            (new - old).exp() * a, (new - old).clamp(-low, high).exp() * a)),
        ("Clip the ratio, then multiply", lambda new, old, a, low, high: torch.min(
            (new - old).exp() * a, ((new - old).exp() * a).clamp(1 - low, 1 + high))),
        ("has no gradient", lambda new, *a: clipped(new.detach(), *a)),
        ("shape () came back", lambda *a: clipped(*a).mean()),
    ],
    "check_kl_tokens": [
        ("upside down", lambda new, ref: k3(ref, new)),
        ("This is k1", lambda new, ref: new - ref),
        ("minus k1", lambda new, ref: ref - new),
        ("half the square", lambda new, ref: (new - ref) ** 2 / 2),
        ("- 1 is missing", lambda new, ref: k3(new, ref) + 1),
        ("*minus* d", lambda new, ref: k3(new, ref) + 2 * (ref - new)),
        ("log-ratio is missing", lambda new, ref: (ref - new).exp() - 1),
        ("0 or more", lambda new, ref: -k3(new, ref)),
        ("Sampling has done that", lambda new, ref: new.exp() * (new - ref)),
        ("subtracted probabilities", lambda new, ref: (ref - new).exp() - (ref.exp() - new.exp()) - 1),
        ("has no gradient", lambda new, ref: k3(new, ref).detach()),
        ("its gradient is not", lambda new, ref: k3(new, ref).detach() + new - new.detach()),
    ],
    "check_kl_gradients": [
        ("gradient through the weights", kl_pair(second=lambda p, lp, ref: p * k3(lp, ref))),
        ("The first is 0", kl_pair(first=lambda p, lp, ref: p.detach() * (lp - ref))),
        ("KL(reference || policy). Weigh", kl_pair(first=lambda p, lp, ref: ref.exp() * (ref - lp))),
        ("wrong order", lambda *a: kl_pair()(*a)[::-1]),
        ("weights are the reference's", kl_pair(second=lambda p, lp, ref: ref.exp() * k3(lp, ref))),
        ("counts the same", kl_pair(second=lambda p, lp, ref: k3(lp, ref) / len(lp))),
        ("a plain sum", kl_pair(second=lambda p, lp, ref: k3(lp, ref))),
        ("gradient of k1", kl_pair(second=lambda p, lp, ref: p.detach() * (lp - ref))),
        ("signs of both", kl_pair(sign=-1)),
        ("1 rows came back; 2 were wanted", lambda *a: kl_pair()(*a)[:1]),
    ],
    "check_normalisers": [
        ("mean over the two responses", weights_of(grpo=1 / 40)),
        ("*short* response", weights_of(grpo=1 / 20)),
        ("only by that of tokens", weights_of(dapo=1 / 100)),
        ("longest *allowed*", weights_of(dr_grpo=1 / 50)),
        ("number of responses", weights_of(dr_grpo=1 / 100)),
        ("it has 40 tokens", weights_of(whole=10)),
        ("dapo, a token: not 0.5", weights_of(dapo=0.5)),
        ("removed or added", {"grpo": {"a": 1.0, "b": 2.0}}),
        ("a number was wanted", {**weights_of(), "grpo": {"a": "1/80", "b": None}}),
    ],
    "check_careless_cheat": [
        ("How often does it pay", "<reasoning>6 * 12 = 72</reasoning><answer>72</answer>"),
        ("How often does it pay", "<answer>" + " ".join(map(str, range(2000))) + "</answer>"),
        ("no tag in your text", "72 " * 100),
        ("a text was wanted", ["<answer>"] * 50),
    ],
    "check_structured_reward": [
        ("0.2 for each tag is missing", tagged(form=lambda t: 0.0)),
        ("Only the tags are paid", tagged(right=lambda t, g: 0.0)),
        ("each time it comes", tagged(form=lambda t: sum(t.count(tag) for tag in TAGS) / 5)),
        ("up to 0.8", tagged(form=lambda t: min(0.8, sum(t.count(tag) for tag in TAGS) / 5))),
        ("comes twenty times", tagged(form=lambda t: sum(tag in t for tag in TAGS) / 5)),
        ("All or nothing", tagged(form=lambda t: 0.8 * all(t.count(tag) == 1 for tag in TAGS))),
        ("all four 0.8", tagged(form=lambda t: 0.8 * sum(t.count(tag) == 1 for tag in TAGS))),
        ("equal, but not the same text", tagged(right=lambda t, g: 2.0 * answers_match(tagged_answer(t), g))),
        ("so it is 1.5", tagged(right=lambda t, g: 2.0 * (tagged_answer(t) == g))),
        ("2.0 and 1.5 added", tagged(
            right=lambda t, g: 2.0 * (tagged_answer(t) == g) + 1.5 * answers_match(tagged_answer(t), g))),
        ("anywhere in the text", tagged(right=lambda t, g: 2.0 if g in t else tagged_reward([t], [g])[0])),
        ("list of guesses", tagged(right=lambda t, g: 2.0 if g in inner(t) else tagged_reward([t], [g])[0])),
        ("The last one counts", tagged(right=lambda t, g: tagged_reward([first_answer(t)], [g])[0])),
        ("White space", tagged(right=lambda t, g: 2.0 if inner(t) == g else 1.5 * answers_match(tagged_answer(t), g))),
        ("each completion has its own", lambda completions, ground_truth, **kwargs: [
            tagged_reward([t], ground_truth[:1])[0] + tag_format_reward([t])[0] for t in texts_of(completions)]),
        ("`**kwargs` takes it in", lambda completions, ground_truth: [0.0] * len(completions)),
    ],
    "check_overlong_penalty": [
        ("a penalty is 0 or less", lambda *a: -slope(*a)),
        ("begins at a length of `cache`", lambda n, most, cache: slope(n, most, cache, start=cache)),
        ("You divided by `longest`", lambda n, most, cache: slope(n, most, cache, over=most) if n <= most else -1.0),
        ("The point is the slope", lambda n, most, cache: -float(n > most)),
        ("cost -1 at once", lambda n, most, cache: -float(n > most - cache)),
        ("runs backwards", lambda n, most, cache: -1.0 if n > most else -min(1, (most - n) / cache) * (n > most - cache)),
        ("goes on falling", lambda n, most, cache: min(0.0, (most - cache - n) / cache)),
        ("nothing is taken off", lambda n, most, cache: slope(n, most, cache) if n <= most else 0.0),
    ],
    "check_fill_batch": [
        ("The filter is right", sampler()),
        ("has no spread", sampler(keep=lambda rewards: True)),
        ("draw more than you need", sampler(stop=False)),
        ("is no group that was drawn", sampler(change=lambda rewards: [1.0, 0.0, 1.0, 0.0, 0.0])),
        ("8 were wanted", lambda draw, problems, wanted, memory: {}),
        ("a dict was wanted", lambda draw, problems, wanted, memory: [draw(p) for p in problems]),
        ("600 groups were drawn", lambda draw, problems, wanted, memory: [draw(0) for _ in iter(int, 1)]),
    ],
}  # fmt: skip

RIGHT = {
    "check_completion_mask": [
        until_end,
        lambda ids, end, longest: (
            ((ids == end).cumsum(1) - (ids == end).int() == 0) & (torch.arange(ids.shape[1]) < longest)
        ),
        lambda *a: np.array(until_end(*a), dtype=int),
    ],
    "check_surrogate": [
        clipped,
        lambda *a: clipped(*(x.double() if isinstance(x, torch.Tensor) else x for x in a)),
        lambda new, old, a, low, high: torch.where(
            a > 0, (new - old).exp().clamp(max=1 + high) * a, (new - old).exp().clamp(min=1 - low) * a
        ),
    ],
    "check_kl_tokens": [k3, lambda new, ref: (ref.double() - new).expm1() + new - ref],
    "check_kl_gradients": [
        kl_pair(),
        lambda logits, ref: (kl_pair()(logits, ref)[0].numpy(), (logits.softmax(-1) - ref.exp()).tolist()),
        lambda logits, ref: torch.stack(kl_pair(second=lambda p, lp, ref: -ref.exp() * lp)(logits, ref)).float(),
    ],
    "check_normalisers": [weights_of()],
    "check_careless_cheat": ["<answer></answer>" * 30, "<answer>72</answer>" * 30],
    "check_structured_reward": [
        tagged(),
        rewarder(lambda t, g: torch.tensor(tagged_reward([t], [g])[0] + tag_format_reward([t])[0])),
    ],
    "check_overlong_penalty": [slope, lambda n, most, cache: np.clip((most - cache - n) / cache, -1, 0)],
    "check_fill_batch": [remembering],
}


class TestExercises(ExerciseTests):
    lesson, planted, right = lesson, PLANTED, RIGHT
    not_functions = ("check_normalisers", "check_careless_cheat")


def test_predictions_one_by_one():
    half = {**weights_of(), "dapo": {"a": None, "b": None}}
    verdict = lesson.check_normalisers(half)
    assert verdict.right is None and "2 not started" in verdict.message
    nothing = {name: {"a": None, "b": None} for name in half}
    assert lesson.check_normalisers(nothing).message == "Not started."


def test_the_references_agree_with_the_library():
    draw = torch.Generator().manual_seed(1)
    logps, ref, a = (torch.randn(3, 5, generator=draw) for _ in range(3))
    surrogate = clipped_surrogate(logps, ref, a, 0.2, 0.3)[0].tolist()
    assert close(lesson._surrogate(logps[0], ref[0], a[0], 0.2, 0.3), surrogate)
    assert close(lesson._k3(logps[0], ref[0]), kl_estimate(logps, ref)[0].tolist())
