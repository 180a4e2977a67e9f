"""Checks of lesson 05: completion mask, clipped surrogate, KL estimate, normalisers, tagged rewards, dynamic sampling.

Left out on purpose: models and tokenizers. Log-probabilities, token ids and rewards arrive as plain numbers, and the
dynamic sampling has problems whose chance of being solved does not change.
"""

import functools
import math
import random
from collections.abc import Callable

import torch

from helper.answers import answers_match
from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_number,
    as_table,
    as_text,
    as_vector,
    call,
    close,
    exercise,
    judge,
    needs_gradient,
    show,
)
from helper.exercises.lesson_04 import _judge_samples
from helper.rewards import TAGS, tag_format_reward, tagged_answer, tagged_reward

# 1. The completion mask


def _mask(ids: torch.Tensor, end: int, longest: int, how: str = "", limit: bool = True) -> list[list[float]]:
    """1 up to the first end token, itself included, then 0; where there is none, 1 for the first `longest` tokens."""
    rows = []
    for row in ids.tolist():
        width, row = len(row), row[:longest] if limit else row
        ends = [t for t, token in enumerate(row) if token == end]
        missing = {"argmax": 0, "none": -1}.get(how, len(row) - 1)
        last = (ends[-1] if how == "last" else ends[0]) if ends else missing
        last += {"without": -1 if ends else 0, "more": 1}.get(how, 0)
        kept = [t <= last for t in range(len(row))]
        if how == "by id":
            kept = [token != end for token in row]
        if how in ("all", "inverted"):
            kept = [how == "all" or not keep for keep in kept]
        behind = [how == "all" or how == "inverted"] * (width - len(row))  # the batch is wider than a response may be
        rows.append([float(keep) for keep in [*kept, *behind]])
    return rows


MASK_MISTAKES = {
    "by id": "You masked by the token's id: what was sampled behind the end token stays in, and the end token is out.",
    "without": "The end token itself is masked: it was sampled, and without it stopping is neither rewarded nor punished.",
    "all": "Every token counts. What stands behind the first end token is no part of the response.",
    "last": "You went to the *last* end token. The response is over at the first.",
    "argmax": "A response that was cut off has no end token, and you kept only its first token (argmax of no True is 0).",
    "none": "A response that was cut off has no end token. All its tokens were sampled, and all count.",
    "more": "One token too many: nothing behind the end token counts.",
    "inverted": "0 and 1 are swapped: 1 is for the tokens that count.",
}
NO_LIMIT = (
    "A response that was cut off has `longest` tokens. Where the width of a batch is rounded up, padding stands behind them."
)


@exercise
def check_completion_mask(function) -> str:
    """Does `function(ids, end, longest)` give 1 for the tokens of each response, its end token included, and 0 behind it?"""
    cases = {
        "padded with the end token": (torch.tensor([[5, 6, 2, 2, 2], [5, 6, 7, 8, 2]]), 2, 8),
        "padded with another token": (torch.tensor([[5, 2, 0, 0], [5, 6, 7, 2]]), 2, 4),
        "one response is cut off": (torch.tensor([[5, 6, 7, 8], [6, 2, 0, 0]]), 2, 4),
        "sampled on behind the end": (torch.tensor([[4, 9, 3, 9, 3, 3], [9, 4, 4, 4, 4, 4]]), 9, 6),
        "cut off at 3, the batch rounded up to 5": (torch.tensor([[5, 6, 7, 0, 0], [6, 2, 0, 0, 0]]), 2, 3),
        "the same, padded with the end token": (torch.tensor([[5, 6, 7, 2, 2], [6, 2, 2, 2, 2]]), 2, 3),
    }
    mistakes = {message: lambda *given, how=how: _mask(*given, how) for how, message in MASK_MISTAKES.items()}
    mistakes[NO_LIMIT] = lambda *given: _mask(*given, limit=False)
    for how, message in MASK_MISTAKES.items():  # a mistake that forgets the limit as well
        mistakes[f"{message} And {NO_LIMIT[0].lower()}{NO_LIMIT[1:]}"] = lambda *given, how=how: _mask(*given, how, False)
    judge(function, cases, _mask, mistakes, as_table)
    return "The end token is part of the response: through it the model learns when to stop."


# 2. The clipped surrogate


def _surrogate(logps, old_logps, advantages, low: float, high: float, how: str = "") -> list[float]:
    values = []
    for new, old, a in zip(logps.tolist(), old_logps.tolist(), advantages.tolist(), strict=True):
        ratio = {"inverted": math.exp(old - new), "no exp": new - old}.get(how, math.exp(new - old))
        below, above = {
            "only low": (low, low),
            "only high": (high, high),
            "swapped": (high, low),
        }.get(how, (low, high))
        clipped = min(max(ratio, 1 - below), 1 + above)
        if how == "log clip":
            clipped = math.exp(min(max(new - old, -low), high))
        both = ratio * a, clipped * a
        if how == "product":
            both = ratio * a, min(max(ratio * a, 1 - low), 1 + high)
        value = {"max": max(both), "clip only": both[1], "no clip": both[0]}.get(how, min(both))
        if how == "by sign" and a < 0:
            value = max(both)
        values.append(-value if how == "sign" else value)
    return values


SURROGATE_MISTAKES = {
    "sign": "This is minus the surrogate, a loss. What is maximised was asked for: min(ratio * A, clip(ratio) * A).",
    "max": "You took the larger of the two. The smaller one is the cautious one, for either sign of A.",
    "by sign": "For a negative advantage you took the larger one. It is the minimum for either sign of A.",
    "clip only": "The minimum is missing. Without it a bad token that has become likelier (A < 0, ratio > 1 + high) "
    "gets no gradient, and stays likely.",
    "no clip": "Nothing is clipped.",
    "inverted": "The ratio is upside down: new over old, exp(logps - old_logps).",
    "no exp": "A difference of log-probabilities is the logarithm of the ratio: exp is missing.",
    "only low": "`high` is not used: the ratio may rise to 1 + high. (That it may be more is DAPO's clip-higher.)",
    "only high": "`low` is not used: the ratio may fall to 1 - low.",
    "swapped": "`low` and `high` are swapped: the range is from 1 - low to 1 + high.",
    "log clip": "You clipped the logarithm of the ratio. Clip the ratio, between 1 - low and 1 + high.",
    "product": "You clipped ratio * A. Clip the ratio, then multiply.",
}


@exercise
def check_surrogate(function) -> str:
    """Is it min(ρ A, clip(ρ, 1 - low, 1 + high) A) for each token, with its gradient?"""
    ratios = [0.5, 0.9, 1.0, 1.24, 1.6, 0.5, 0.9, 1.0, 1.24, 1.6]
    old = torch.tensor([-0.7, -2.3, -0.1, -4.0, -1.0, -0.9, -3.0, -0.2, -1.4, -2.0])
    a = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.5, -1.0, -0.5, -2.0, -1.0, -1.5])
    new = old + torch.tensor(ratios).log()
    cases = {
        "advantages above 0": (new[:5], old[:5], a[:5], 0.2, 0.2),
        "advantages below 0": (new[5:], old[5:], a[5:], 0.2, 0.2),
        "both, clip-higher": (new, old, a, 0.2, 0.28),
        "both, a narrow range": (new, old, a, 0.05, 0.3),
    }
    mistakes = {message: lambda *given, how=how: _surrogate(*given, how) for how, message in SURROGATE_MISTAKES.items()}
    judge(function, cases, _surrogate, mistakes, as_vector)
    ratio = torch.tensor(ratios)
    clipped = ((a > 0) & (ratio > 1.28)) | ((a < 0) & (ratio < 0.8))
    needs_gradient(function, "both, clip-higher", cases["both, clip-higher"], [ratio * a * ~clipped])
    return "The gradient is 0 only where a token already moved far in the direction that its advantage asks for."


# 3. The KL estimate k3


def _k3(logps, ref_logps, how: str = "") -> list[float]:
    values = []
    for new, ref in zip(logps.tolist(), ref_logps.tolist(), strict=True):
        d = new - ref if how == "inverted" else ref - new
        values.append({
            "k1": -d,
            "minus k1": d,
            "k2": d * d / 2,
            "no one": math.exp(d) - d,
            "plus": math.exp(d) + d - 1,
            "no log": math.exp(d) - 1,
            "sign": 1 + d - math.exp(d),
            "weighted": -math.exp(new) * d,
            "probabilities": math.exp(ref) / math.exp(new) - (math.exp(ref) - math.exp(new)) - 1,
        }.get(how, math.exp(d) - d - 1))  # fmt: skip
    return values


K3_MISTAKES = {
    "inverted": "The ratio is upside down: it is reference over policy. Upside down, the mean over samples is no KL.",
    "k1": "This is k1, the plain log-ratio: unbiased as well, but it varies much more and may be negative.",
    "minus k1": "This is minus k1. k3 is exp(d) - d - 1 with d = ref_logps - logps.",
    "k2": "This is k2, half the square: never negative, but biased.",
    "no one": "The - 1 is missing: where the two agree, the estimate is 0.",
    "plus": "The sign of the log-ratio is wrong: exp(d) *minus* d, minus 1. Yours can be negative.",
    "no log": "The log-ratio is missing: exp(d) - d - 1. Without - d its mean is 0, however far the two are apart.",
    "sign": "The sign is wrong: k3 is 0 or more.",
    "weighted": "You weighted by the policy's probability. Sampling has done that: likely tokens come more often.",
    "probabilities": "You subtracted probabilities. The middle term is a difference of log-probabilities.",
}


@exercise
def check_kl_tokens(function) -> str:
    """Is it k3 = exp(d) - d - 1, d = ref_logps - logps, for each token, with its gradient?"""
    logps = torch.tensor([-0.5, -2.0, -0.1, -3.0, -1.2])
    ref = torch.tensor([-0.5, -1.1, -0.9, -3.3, -2.7])
    cases = {
        "policy and reference agree": (logps, logps),
        "five tokens": (logps, ref),
        "the other way round": (ref, logps),
    }
    mistakes = {message: lambda *given, how=how: _k3(*given, how) for how, message in K3_MISTAKES.items()}
    judge(function, cases, _k3, mistakes, as_vector)
    needs_gradient(function, "five tokens", (logps, ref), [1 - (ref - logps).exp()])
    return "It is 0 where the two agree, positive everywhere else, and its mean over samples is the KL."


# 4. The gradient of the KL, and of its estimate


def _kl_gradients(logits: torch.Tensor, ref_logps: torch.Tensor) -> list[list[float]]:
    """By hand, the gradients of KL(π || π_ref), π_j (log-ratio_j - KL), and of k3 with fixed samples, π_j - π_ref_j."""
    log_p = torch.log_softmax(logits.double(), -1)
    p, ratio = log_p.exp(), log_p - ref_logps.double()
    return [(p * (ratio - (p * ratio).sum())).tolist(), (p - ref_logps.double().exp()).tolist()]


def _by_autograd(logits: torch.Tensor, ref: torch.Tensor, how: str) -> list[float]:
    """The gradient, with respect to the logits, of one of several sums over the vocabulary."""
    leaf = logits.clone().requires_grad_()
    log_p = torch.log_softmax(leaf, -1)
    p, ratio = log_p.exp(), log_p - ref
    k3 = (-ratio).exp() + ratio - 1
    target = {
        "exact": p * ratio,
        "forward": ref.exp() * -ratio,
        "k1": p.detach() * ratio,
        "k3 by the reference": ref.exp() * k3,
        "k3 mean": k3 / len(k3),
        "k3 sum": k3,
        "k3 fixed": p.detach() * k3,
    }[how]
    return torch.autograd.grad(target.sum(), leaf)[0].tolist()


KL_GRADIENT_MISTAKES = {  # (how the first was made, how the second, a sign)
    ("exact", "exact", 1): "The second is the same as the first: you let the gradient through the weights as well. "
    "A sampled token carries none: detach the probabilities it was drawn with.",
    (
        "k1",
        "k3 fixed",
        1,
    ): "The first is 0: you detached the probabilities there, too. The exact KL is p * (log p - log ref) "
    "with a gradient through both.",
    ("forward", "k3 fixed", 1): "The first is the gradient of KL(reference || policy). Weigh by the policy's probabilities.",
    ("k3 fixed", "exact", 1): "The two are in the wrong order.",
    (
        "exact",
        "k3 by the reference",
        1,
    ): "In the second the weights are the reference's. Tokens are sampled from the policy.",
    ("exact", "k3 mean", 1): "In the second every token counts the same. Weigh each by the chance that it is sampled.",
    ("exact", "k3 sum", 1): "The second is a plain sum over the tokens. Weigh each by the chance that it is sampled.",
    ("exact", "k1", 1): "The second is the gradient of k1, which is 0 on average: nothing would hold the policy. Take k3.",
    ("exact", "k3 fixed", -1): "The signs of both are wrong.",
}


@exercise
def check_kl_gradients(function) -> str:
    """Does `function(logits, ref_logps)` give the gradient of the KL, and the expected gradient of k3 from samples?"""
    draw = torch.Generator().manual_seed(5)
    cases = {
        f"{n} tokens": (torch.randn(n, generator=draw), torch.log_softmax(torch.randn(n, generator=draw), -1))
        for n in (3, 5, 8)
    }

    def mistake(logits, ref, first, second, sign):
        return [[sign * x for x in _by_autograd(logits, ref, how)] for how in (first, second)]

    mistakes = {
        message: lambda logits, ref, which=which: mistake(logits, ref, *which)
        for which, message in KL_GRADIENT_MISTAKES.items()
    }
    judge(function, cases, _kl_gradients, mistakes, as_table)
    return (
        "They differ: the value of k3 is unbiased, its gradient is not that of the KL. The second is p - p_ref, "
        "the gradient of KL(reference || policy): where both agree it is 0 as well."
    )


# 5. What one long wrong answer weighs

TOKEN_WEIGHTS = {  # two responses of 10 and 40 tokens, 100 at most: what a token of the longer one weighs
    "grpo": (1 / 80, "the mean over its 40 tokens, then over the 2 responses: 1 / (40 * 2)"),
    "dapo": (1 / 50, "the mean over all 50 tokens of the batch"),
    "dr_grpo": (1 / 200, "the sum divided by 2 responses times 100, the longest that is allowed"),
}
WEIGHT_MISTAKES = {
    "grpo": {
        1 / 40: "the mean over its tokens, yes; then comes the mean over the two responses",
        1 / 20: "that is a token of the *short* response",
        1 / 50: "all tokens alike: that is dapo",
    },
    "dapo": {
        1 / 100: "the division by the number of responses is not in dapo, only by that of tokens",
        1 / 80: "that is grpo; dapo does not ask which response a token belongs to",
        1 / 40: "the tokens of the short response count as well",
    },
    "dr_grpo": {
        1 / 100: "and by the number of responses",
        1 / 50: "divided is by the longest *allowed* length, not by what was written",
        1 / 80: "that is grpo; dr_grpo divides by no response's own length",
    },
}


@exercise
def check_normalisers(predictions: dict) -> str:
    """Are the six predicted weights right, for a token of the long response and for all of it?"""
    flat = [value for both in predictions.values() for value in both.values()]
    if all(value is None for value in flat):
        raise NotStarted("Not started.")
    if set(predictions) != set(TOKEN_WEIGHTS) or any(len(both) != 2 for both in predictions.values()):
        raise Wrong("There should be two numbers each for grpo, dapo and dr_grpo: was one removed or added?")
    for name, (token, why) in TOKEN_WEIGHTS.items():
        one, whole = predictions[name].values()
        one = None if one is None else as_number(one, None, f"{name}, a token")
        whole = None if whole is None else as_number(whole, None, f"{name}, all of it")
        if one is not None and not close(one, token, absolute=1e-6):
            known = [hint for value, hint in WEIGHT_MISTAKES[name].items() if close(one, value, absolute=1e-6)]
            raise Wrong(f"{name}, a token: not {one:g}. Hint: {(known or [why.split(':')[0]])[0]}.")
        if whole is not None and not close(whole, 40 * token):
            raise Wrong(f"{name}, all of it: not {whole:g}. Hint: it has 40 tokens, and each weighs the same.")
    still = sum(value is None for value in flat)
    if still:
        raise NotStarted(f"Right so far; {still} not started.")
    return (
        "Under grpo a wrong response weighs one half however long it is, so each token of a long one is punished less: "
        "rambling pays. Under dapo it drowns the short one; under dr_grpo a token weighs the same in any batch."
    )


# 6. A reward for tagged answers

TAGGED = [  # a completion, what it should get when the answer is 72, and why
    ("<reasoning>6 * 12 = 72</reasoning><answer>72</answer>", 2.8, "right, in the form that was asked for"),
    ("<reasoning>6 * 12 = 72</reasoning><answer>72.0</answer>", 2.3, "the number is right, its text differs: 1.5 + 0.8"),
    ("<reasoning>6 * 12 = 71</reasoning><answer>71</answer>", 0.8, "wrong, in the right form"),
    ("<answer>\n72\n</answer>", 2.4, "white space around the answer is taken off; two tags are there"),
    ("6 * 12 = 72", 0.0, "no tag, so no answer"),
    ("72 <answer>71</answer>", 0.4, "only what is between the answer tags counts"),
    ("<reasoning>6 * 12</reasoning><answer>72", 0.6, "the answer is not closed: three tags, and no answer"),
    ("<answer>71</answer> No: <answer>72</answer>", 2.0, "the last answer counts, and tags that come twice earn nothing"),
    ("<answer>72</answer> No: <answer>71</answer>", 0.0, "the last answer counts, and it is wrong"),
    ("<answer>70 71 72 73</answer>", 0.4, "a list of guesses is no answer"),
    ("<reasoning>" * 20, 0.0, "a tag that is repeated earns nothing"),
    ("<reasoning>72</reasoning>", 0.4, "two tags, and no answer"),
    ("", 0.0, "there is nothing"),
]


def _structured(texts: list[str], how: str = "") -> list[float]:
    """The structured reward for the answer 72, with one mistake in it."""
    rewards = []
    for text in texts:
        answer = tagged_answer(text)
        if how == "first" and answer is not None:
            answer = text.split("<answer>")[1].split("</answer>")[0].strip()
        raw = text.rpartition("<answer>")[2].partition("</answer>")[0] if answer is not None else None
        exact = {"anywhere": "72" in text, "inside": "72" in (answer or ""), "unstripped": raw == "72"}
        equal = answers_match(answer, "72")
        right = 2.0 if exact.get(how, answer == "72") else 1.5 if equal and how != "exact only" else 0.0
        right = {"equal is exact": 2.0 * equal, "added": 1.5 * equal + 2.0 * (answer == "72"), "no answer": 0.0}.get(
            how, right
        )
        once = sum(text.count(tag) == 1 for tag in TAGS)
        counted = sum(text.count(tag) for tag in TAGS)
        form = {
            "no form": 0.0,
            "counted": counted / 5,
            "counted, capped": min(0.8, counted / 5),
            "present": sum(tag in text for tag in TAGS) / 5,
            "all": 0.8 * (once == 4),
            "each 0.8": 0.8 * once,
        }.get(how, once / 5)
        rewards.append(right + form)
    return rewards


STRUCTURED_MISTAKES = {
    "no form": "0.2 for each tag is missing.",
    "no answer": "Only the tags are paid: 2.0 and 1.5 for the answer are missing.",
    "counted": "A tag is paid each time it comes: repeating tags earns more than being right. Pay it where it stands once.",
    "counted, capped": "A repeated tag earns 0.2 each time, up to 0.8. It should earn 0.2 where it stands exactly once.",
    "present": "A tag that comes twenty times is paid as if the form were right. Pay it only where it stands exactly once.",
    "all": "All or nothing: each tag that stands exactly once earns 0.2 by itself, so that there are steps to climb.",
    "each 0.8": "Each tag earns 0.2, all four 0.8.",
    "equal is exact": "72.0 for 72 gets 2.0: equal, but not the same text, is 1.5.",
    "exact only": "72.0 for 72 gets nothing: the number is right, so it is 1.5. Use answers_match.",
    "added": "An exact answer gets 2.0 and 1.5 added. It gets 2.0.",
    "anywhere": "You look for the answer anywhere in the text. Only what is between the answer tags counts.",
    "inside": "A list of guesses that holds the answer is paid. What is between the tags must *be* the answer.",
    "first": "You took the first answer. The last one counts.",
    "unstripped": "White space around the answer costs it the 2.0: take it off with .strip().",
}


@exercise
def check_structured_reward(function) -> str:
    """Does it pay 2.0 for the exact answer in the tags, 1.5 for an equal number, and 0.2 for each tag that stands once?"""
    wrong = {message: lambda texts, how=how: _structured(texts, how) for how, message in STRUCTURED_MISTAKES.items()}
    _judge_samples(function, TAGGED, wrong, ground_truth=["72"] * len(TAGGED))
    samples = [
        ("<answer>3</answer>", 2.4, "each completion has its own answer"),
        ("<answer>3</answer>", 0.4, "each completion has its own answer"),
    ]
    _judge_samples(function, samples, {}, ground_truth=["3", "4"])
    return "2.8 at most. The form alone is worth 0.8, a first step; being right is worth more."


def careless_reward(text: str, truth: str) -> float:
    """A structured reward with two holes: 0.2 for every tag it finds, 2.0 for `truth` anywhere behind an <answer>."""
    tags = sum(text.count(tag) for tag in TAGS)
    return 0.2 * tags + 2.0 * (truth in text.partition("<answer>")[2])


@exercise
def check_careless_cheat(text) -> str:
    """Is the text paid at least 10 by careless_reward, whatever the answer is?"""
    if text is None or text is ...:
        raise NotStarted("Not started.")
    text = as_text(text, None, "your text")
    truths = ["3", "18", "72", "240", "1450"]
    paid = min(careless_reward(text, truth) for truth in truths)
    careful = min(tagged_reward([text], [truth])[0] for truth in truths) + tag_format_reward([text])[0]
    said = f"careless_reward pays at least {paid:.1f}, the careful one {careful:.1f}."
    if paid > 10 - 1e-6:
        return f"{said} One tag more always pays: a slope that a policy can follow."
    if not any(tag in text for tag in TAGS):
        raise Wrong(f"{said} There is no tag in your text, and tags are what is paid.")
    raise Wrong(f"{said} An honest right answer earns 2.8; 10 was asked for. How often does it pay for one tag?")


# 7. The soft overlong penalty


def _overlong(length: int, longest: int, cache: int, how: str = "") -> float:
    free = cache if how == "starts at cache" else longest - cache
    below = {"by longest": longest, "starts at cache": longest - cache}.get(how, cache)
    if length <= free:
        return 0.0
    if length > longest and how != "no floor":
        return 0.0 if how == "forgiven" else 1.0 if how == "sign" else -1.0
    penalty = {"hard": 0.0, "step": -1.0, "backwards": -(longest - length) / below}.get(how, (free - length) / below)
    return -penalty if how == "sign" else penalty


@exercise
def check_overlong_penalty(function) -> str:
    """Is it DAPO's soft overlong punishment (Yu et al. 2025, arXiv 2503.14476, eq. 13)?"""
    cases = {
        f"{length} tokens, {longest} at most, cache {cache}": (length, longest, cache)
        for longest, cache in ((100, 20), (64, 16), (20480, 4096))
        for length in (
            1,
            cache,
            longest - cache,
            longest - cache // 4,
            longest - 1,
            longest,
            longest + 1,
            longest + 2 * cache,
        )
    }
    mistakes = {
        "The sign is wrong: a penalty is 0 or less.": "sign",
        "Your penalty begins at a length of `cache`. It begins where only `cache` tokens are left: at longest - cache.": (
            "starts at cache"
        ),
        "You divided by `longest`. Within the last `cache` tokens it falls from 0 to -1: divide by `cache`.": "by longest",
        "Only a response beyond `longest` is punished. The point is the slope before it: 0 to -1 within `cache`.": "hard",
        "All of the last `cache` tokens cost -1 at once. It falls in a straight line.": "step",
        "It runs backwards: 0 where the last `cache` tokens begin, -1 at `longest`.": "backwards",
        "Beyond `longest` it goes on falling. It stays at -1.": "no floor",
        "Beyond `longest` nothing is taken off. There it is -1.": "forgiven",
    }
    wrong = {message: lambda *given, how=how: _overlong(*given, how) for message, how in mistakes.items()}
    judge(function, cases, _overlong, wrong, as_number)
    return "Being cut off no longer comes as a surprise: near the limit, each token more costs a little."


# 8. Open: dynamic sampling

GROUP = 4  # responses to a problem
WANTED = 8  # groups with spread that a step needs
STEPS = 25
LIMIT = 600  # groups in one step: beyond it something runs for ever


def _solve_rates(seed: int) -> list[float]:
    """For each of 60 problems the chance that one sample solves it: many near 0 or near 1, a third between."""
    draw = random.Random(seed)
    kinds = [draw.choice([(0.0, 0.03), (0.97, 1.0), (0.1, 0.9)]) for _ in range(60)]
    return [draw.uniform(*kind) for kind in kinds]


def has_spread(rewards: list[float]) -> bool:
    return min(rewards) != max(rewards)


def run_dynamic_sampling(fill_batch: Callable, seed: int = 0) -> dict[str, float]:
    """Call `fill_batch(draw, problems, wanted, memory)` for 25 steps; returns what the steps cost.

    60 problems, shuffled anew for each step. `draw(problem)` samples a group: 4 rewards of 0.0 or 1.0. `memory` is a
    dict that is empty at first and then stays yours. The batch is {problem: rewards}, `wanted` = 8 groups with spread.
    Returns the samples per step (4 for each call of `draw`) and the number of different problems in the batches.
    Raises Wrong, in words, for a batch that cannot be used.
    """
    rates, chance, memory, used, groups = _solve_rates(seed), random.Random(f"samples {seed}"), {}, set(), 0
    for step in range(STEPS):
        problems = random.Random(f"{seed}-{step}").sample(range(len(rates)), len(rates))
        drawn = []

        def draw(problem, drawn=drawn):
            if len(drawn) >= LIMIT:
                raise RuntimeError(f"{LIMIT} groups were drawn in one step")
            rewards = [float(chance.random() < rates[problem]) for _ in range(GROUP)]
            drawn.append((problem, tuple(rewards)))
            return rewards

        batch = fill_batch(draw, problems, WANTED, memory)
        if batch is None or batch is ...:
            raise NotStarted
        _judge_batch(batch, drawn)
        groups += len(drawn)
        used |= set(batch)
    return {"samples per step": groups * GROUP / STEPS, "different problems": len(used)}


def _judge_batch(batch, drawn: list[tuple]) -> None:
    if not isinstance(batch, dict):
        raise Wrong(f"The batch: a dict was wanted, {{problem: rewards}}; {show(batch)} came back.")
    for problem, rewards in batch.items():
        if not isinstance(rewards, (list, tuple)) or (problem, tuple(rewards)) not in drawn:
            raise Wrong(f"The batch: {show(rewards, 0)} is no group that was drawn for the problem {show(problem)}.")
        if not has_spread(rewards):
            raise Wrong(f"The batch: the group {show(rewards, 0)} has no spread: its advantages are all 0.")
    if len(batch) != WANTED:
        raise Wrong(f"The batch: {len(batch)} groups; {WANTED} were wanted, so that all steps are alike.")


def _fill(order: Callable) -> Callable:
    """Dynamic sampling that goes through the problems in the order of a key, and learns nothing."""

    def fill_batch(draw, problems, wanted, memory):
        batch = {}
        for problem in sorted(problems, key=order):
            if len(batch) < wanted and has_spread(rewards := draw(problem)):
                batch[problem] = rewards
        return batch

    return fill_batch


@exercise
def check_fill_batch(function) -> str:
    """Does it fill each batch with groups that have spread, for at most two thirds of what the plain filter samples?"""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    shares, told = [], ""
    for seed in (11, 12, 13):
        rates = _solve_rates(seed)
        yours = run_dynamic_sampling(lambda *given: call(functools.partial(function, *given), "a step", ()), seed)
        plain = run_dynamic_sampling(_fill(lambda problem: 0), seed)["samples per step"]
        known = run_dynamic_sampling(_fill(lambda problem, rates=rates: abs(rates[problem] - 0.5)), seed)["samples per step"]
        shares.append(yours["samples per step"] / plain)
        told = (
            f"Samples per step: yours {yours['samples per step']:.0f}, the plain filter {plain:.0f}, with known chances "
            f"{known:.0f}. Your batches hold {yours['different problems']} of 60 problems."
        )
    if max(shares) > 1.15:
        raise Wrong(f"{told} You draw more than you need: stop when the batch is full, and draw each problem once per step.")
    if sum(shares) / len(shares) > 0.67:
        raise Wrong(
            f"{told} The filter is right. Now spend less: remember in `memory` how often each problem was solved, and try "
            "those first that are solved now and then."
        )
    return f"{told} A policy that practises these only: what would happen to the others, and to `memory` as it learns?"
