"""Checks of lesson 06: the losses of a reward model, token rewards, GAE, the critic, an audit, over-optimisation.

Left out on purpose: training (`ppo_loop.py`). Scores, log-probabilities and values arrive as plain numbers; the audited
scores and the runs of exercise 8 are invented, with a shortcut and with the shape that is known from real ones.
"""

import math
import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import torch

from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_loss,
    as_number,
    as_table,
    as_vector,
    call,
    exercise,
    judge,
    judge_claims,
    needs_gradient,
    show,
)

# 1. The Bradley-Terry loss


def _log1pexp(x: float) -> float:
    """log(1 + exp(x)) = -log sigmoid(-x), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _pair_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> float:
    """The mean over pairs of -log σ(chosen - rejected), in plain Python."""
    losses = [_log1pexp(worse - better) for better, worse in zip(chosen.tolist(), rejected.tolist(), strict=True)]
    return sum(losses) / len(losses)


def _wrong_pair_loss(how: str) -> Callable:
    def loss(chosen, rejected):
        gap, log_sigmoid = chosen - rejected, torch.nn.functional.logsigmoid
        of_each = {
            "swapped": -log_sigmoid(-gap),
            "sign": log_sigmoid(gap),
            "no log": -torch.sigmoid(gap),
            "one minus": 1 - torch.sigmoid(gap),
            "twice": -log_sigmoid(torch.sigmoid(gap)),
            "squashed scores": -log_sigmoid(torch.sigmoid(chosen) - torch.sigmoid(rejected)),
            "no sigmoid": -gap,
            "each alone": -log_sigmoid(chosen) - log_sigmoid(-rejected),
            "ratio": -log_sigmoid(chosen / rejected),
            "square": (1 - gap) ** 2,
            "hinge": torch.relu(1 - gap),
        }.get(how, -log_sigmoid(gap))
        return float(of_each.sum() if how == "sum" else of_each.mean())

    return loss


PAIR_MISTAKES = {
    "swapped": "The sign of the gap is wrong: chosen minus rejected. Yours trains the model to prefer the worse answer.",
    "sign": "The sign of the loss is wrong: *minus* the log of the sigmoid.",
    "no log": "The logarithm is missing: minus the *log* of the sigmoid.",
    "one minus": "This is the chance of a wrong choice. The loss is minus the log of the chance of the right one.",
    "twice": "The sigmoid is applied twice: logsigmoid has it already. The loss could never fall below 0.31.",
    "squashed scores": "You put each score through a sigmoid before the difference. Scores are compared as they are.",
    "no sigmoid": "The sigmoid is missing: this loss would drive the gap up for ever.",
    "each alone": "You score each answer by itself, as a classifier of good and bad. Only the gap of a pair counts.",
    "ratio": "You divided the scores. The chance depends on their difference.",
    "square": "This is a squared error. RLHF's reward model learns from comparisons: -log sigmoid of the gap.",
    "hinge": "This is a hinge loss, which is content at a gap of 1. Take -log sigmoid.",
    "sum": "This is the sum over the pairs. Take the mean.",
}


@exercise
def check_pair_loss(function) -> str:
    """Is it the mean of -log σ(chosen - rejected) over the pairs, with its gradient, and safe for large gaps?"""
    draw = torch.Generator().manual_seed(6)
    cases = {
        "one pair": (torch.tensor([1.2]), torch.tensor([0.5])),
        "five pairs": (2 * torch.randn(5, generator=draw), 2 * torch.randn(5, generator=draw)),
        "every score 10 higher": (10 + torch.randn(4, generator=draw), 10 + torch.randn(4, generator=draw)),
    }
    mistakes = {message: _wrong_pair_loss(how) for how, message in PAIR_MISTAKES.items()}
    judge(function, cases, _pair_loss, mistakes, as_loss)
    far = {"gaps of -500 and 500": (torch.tensor([-250.0, 250.0]), torch.tensor([250.0, -250.0]))}
    try:
        judge(function, far, _pair_loss, {}, as_loss)
    except Wrong as wrong:
        raise Wrong(f"{wrong} sigmoid is 0 there, and its log infinite: use torch.nn.functional.logsigmoid.") from None
    chosen, rejected = cases["five pairs"]
    push = torch.sigmoid(rejected - chosen) / len(chosen)
    needs_gradient(function, "five pairs", (chosen, rejected), [-push, push])
    return "Only gaps count: a reward model that adds 10 to every score is the same model."


# 2. Rankings


def _ranking_loss(scores: torch.Tensor, how: str = "") -> float:
    """The mean over all pairs (better, worse) of -log σ(better - worse); the best comes first."""
    scores = scores.tolist()
    pairs = list(combinations(scores, 2))
    pairs = {
        "neighbours": list(zip(scores, scores[1:])),
        "best only": [(scores[0], other) for other in scores[1:]],
        "ends only": [(scores[0], scores[-1])],
        "worst first": [(worse, better) for better, worse in pairs],
        "both ways": [(a, b) for i, a in enumerate(scores) for j, b in enumerate(scores) if i != j],
        "all squares": [(a, b) for a in scores for b in scores],
        "with itself": [(a, b) for i, a in enumerate(scores) for b in scores[i:]],
    }.get(how, pairs)
    losses = [_log1pexp(worse - better) for better, worse in pairs]
    if how == "listwise":
        rests = [scores[i:] for i in range(len(scores))]
        losses = [math.log(sum(math.exp(s - rest[0]) for s in rest)) for rest in rests[:-1]]
    below = {"sum": 1, "by K": len(scores)}.get(how, len(losses))
    return (-1 if how == "sign" else 1) * sum(losses) / below


RANKING_MISTAKES = {
    "sum": "This is the sum over the pairs. Take the mean, or a prompt with nine answers counts 36 times.",
    "by K": "You divided by the number of answers. Divide by the number of pairs, K(K-1)/2.",
    "neighbours": "You compared neighbours only. All pairs count: the first with the third, too.",
    "best only": "You compared the best with the others only. All pairs count, also the second with the third.",
    "ends only": "You compared the first with the last only. All pairs count.",
    "worst first": "The sign of the gap is wrong: the best comes first, so it is the earlier minus the later.",
    "sign": "The sign of the loss is wrong: it is minus the log of the sigmoid.",
    "both ways": "Each pair is there twice, once the wrong way round. Only the earlier beats the later: i < j.",
    "all squares": "You compared every answer with every one, itself and its betters too. Only i < j counts.",
    "with itself": "Answers are compared with themselves (a gap of 0, a loss of ln 2). Only i < j counts.",
    "listwise": "This is the Plackett-Luce loss of the whole list. InstructGPT's takes the pairs one by one.",
}


@exercise
def check_ranking_loss(function) -> str:
    """Is it the mean of -log σ(better - worse) over all K(K - 1)/2 pairs of one ranking, the best first?"""
    draw = torch.Generator().manual_seed(7)
    cases = {
        "two answers": (torch.tensor([0.3, -0.4]),),
        "three answers": (torch.tensor([2.0, 0.5, -1.0]),),
        "four answers": (torch.randn(4, generator=draw),),
        "nine answers": (torch.randn(9, generator=draw),),
    }
    mistakes = {message: lambda scores, how=how: _ranking_loss(scores, how) for how, message in RANKING_MISTAKES.items()}
    judge(function, cases, _ranking_loss, mistakes, as_loss)
    scores = cases["four answers"][0]
    push = torch.zeros(4)
    for better, worse in combinations(range(4), 2):
        one = torch.sigmoid(scores[worse] - scores[better]) / 6
        push[better] -= one
        push[worse] += one
    needs_gradient(function, "four answers", (scores,), [push])
    return (
        "With two answers it is the loss of exercise 1; one forward pass per answer serves all its pairs. The mean, because "
        "nine answers give 36 pairs and four give 6: summed, a prompt with nine would weigh six times as much."
    )


# 3. Token rewards


def _token_rewards(score, logps, ref_logps, mask, beta: float, how: str = "") -> list[list[float]]:
    """-β (log π - log π_ref) on the real tokens, and the score on the last of them; row by row."""
    rows = []
    for s, new, ref, kept in zip(*(x.tolist() for x in (score, logps, ref_logps, mask)), strict=True):
        length, ratios = int(sum(kept)), [a - b for a, b in zip(new, ref, strict=True)]
        weight = {"sign": beta, "no beta": -1.0, "no KL": 0.0}.get(how, -beta)
        if how == "k3":
            ratios = [math.exp(-x) + x - 1 for x in ratios]
        row = [weight * x * (1.0 if how == "padding" else keep) for x, keep in zip(ratios, kept, strict=True)]
        place = {"last column": len(row) - 1, "first": 0, "behind": min(length, len(row) - 1)}.get(how, length - 1)
        if how == "replaced":
            row[place] = 0.0
        for t in range(length) if how in ("every", "spread") else [place]:
            row[t] += s / length if how == "spread" else 0.0 if how == "no score" else s
        rows.append([sum(row)] * len(row) if how == "summed" else row)
    return rows


TOKEN_REWARD_MISTAKES = {
    "sign": "The sign of the KL term is wrong: going away from the reference *costs* reward, -beta * (logps - ref_logps).",
    "last column": "The score stands in the last column: padding, in a shorter response. Put it on the last real token.",
    "behind": "The score stands one place behind the last real token.",
    "first": "The score stands on the first token. It is known when the response is over: put it on the last.",
    "every": "Every token gets the score. Only the last one does; GAE carries it back.",
    "spread": "You spread the score over the tokens. It stands on the last one; GAE carries it back.",
    "replaced": "On the last token the score has replaced the KL term. Both are there: add.",
    "no KL": "The KL term is missing.",
    "no score": "The score is missing.",
    "no beta": "beta is missing.",
    "padding": "The padding carries a KL term. Multiply by the mask.",
    "k3": "You used k3. PPO's reward takes the plain log-ratio of the sampled token, which may have either sign.",
    "summed": "Each token has the sum of its response. The rewards here are token by token.",
}


@exercise
def check_token_rewards(function) -> str:
    """Is it -β (log π - log π_ref) for each real token, plus the score on the last real token (Ziegler et al. 2019)?"""
    draw = torch.Generator().manual_seed(8)

    def batch(lengths: list[int], beta: float) -> tuple:
        shape = (len(lengths), max(lengths))
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).float()
        logps, ref = (-3 * torch.rand(shape, generator=draw) for _ in range(2))
        return torch.randn(shape[0], generator=draw), logps, ref, mask, beta

    cases = {
        "no padding, beta 0.1": batch([3, 3], 0.1),
        "lengths 5 and 2, beta 0.1": batch([5, 2], 0.1),
        "lengths 1, 4 and 3, beta 0.5": batch([1, 4, 3], 0.5),
        "lengths 2 and 4, beta 0": batch([2, 4], 0.0),
    }
    mistakes = {
        message: lambda *given, how=how: _token_rewards(*given, how) for how, message in TOKEN_REWARD_MISTAKES.items()
    }
    judge(function, cases, _token_rewards, mistakes, as_table)
    return "Summed over a response this is score - beta * KL estimate, what RLHF maximises; now each token carries its part."


# 4. Generalised advantage estimation


def _gae(rewards, values, mask, gamma: float, lam: float, how: str = "") -> list[list[float]]:
    """Advantages by their definition, a sum over the rest of the response: A_t = Σ_l (γλ)^l δ_{t+l}; 0 on the padding."""
    rows = []
    for r, v, kept in zip(rewards.tolist(), values.tolist(), mask.tolist(), strict=True):
        length, columns = int(sum(kept)), len(r)
        end = columns if how in ("leak", "leak, masked") else length

        def value(t, v=v, end=end, columns=columns):
            return v[t] if t < (columns if how == "value leak" else end) else 0.0

        step = {"no gamma": 1.0}.get(how, gamma)
        after = {"no next": 0.0, "same": 1.0}.get(how)
        deltas = [r[t] + step * (value(t + 1) if after is None else after * v[t]) - v[t] for t in range(end)]
        if how == "sign":
            deltas = [-delta for delta in deltas]
        if how == "no value":
            deltas = r[:end]
        decay = {"no lambda": gamma, "one step": 0.0, "only lambda": lam, "no decay": 1.0}.get(how, gamma * lam)
        row = [sum(decay ** (u - t) * deltas[u] for u in range(t, end)) for t in range(end)]
        if how == "forward":
            row = [sum(decay ** (t - u) * deltas[u] for u in range(t + 1)) for t in range(end)]
        if how == "returns":
            row = [a + b for a, b in zip(row, v)]
        row = (row + [0.0] * columns)[:columns]
        rows.append([a * keep for a, keep in zip(row, kept, strict=True)] if how == "leak, masked" else row)
    return rows


GAE_MISTAKES = {
    "value leak": "The value on the padding leaks in: behind the last real token V is 0, whatever the network says there.",
    "leak, masked": "The padding leaks in: errors behind the last real token flow back. Mask in the loop, not after it.",
    "leak": "The padding is treated as tokens: its advantages are 0, and nothing flows back from it.",
    "forward": "Your loop runs forwards, so it adds up the past. A_t holds the errors that come *after* t.",
    "one step": "This is the one-step error delta alone (lambda = 0): the part from A_{t+1} is missing.",
    "no lambda": "lambda is missing: A_t = delta_t + gamma * lambda * A_{t+1}.",
    "only lambda": "gamma is missing in front of A_{t+1}: A_t = delta_t + gamma * lambda * A_{t+1}.",
    "no decay": "gamma * lambda is missing in front of A_{t+1}.",
    "no gamma": "gamma is missing in delta: r_t + gamma * V_{t+1} - V_t.",
    "no next": "The next value is missing in delta: r_t + gamma * V_{t+1} - V_t.",
    "same": "delta uses V_t twice: the value behind the reward is that of the *next* token, V_{t+1}.",
    "no value": "The values are missing: these are discounted rewards, no advantages.",
    "returns": "These are the returns, A + V. The advantages were asked for.",
    "sign": "The sign of delta is wrong: what came, r_t + gamma * V_{t+1}, minus what was expected, V_t.",
}


@exercise
def check_gae(function) -> str:
    """Are they the advantages A_t = δ_t + γλ A_{t+1}, with nothing from the padding (arXiv 1506.02438, eqs. 11, 16)?"""
    draw = torch.Generator().manual_seed(9)

    def batch(lengths: list[int], gamma: float, lam: float) -> tuple:
        shape = (len(lengths), max(lengths))
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).float()
        rewards, values = torch.randn(shape, generator=draw), torch.randn(shape, generator=draw)
        return rewards * mask, values, mask, gamma, lam  # a network says something on the padding, too

    cases = {
        "no padding, lambda 0": batch([4, 4], 0.9, 0.0),
        "no padding, lambda 1": batch([4, 4], 1.0, 1.0),
        "no padding, gamma 0.9, lambda 0.8": batch([5, 5], 0.9, 0.8),
        "padding, gamma 1, lambda 0.95": batch([5, 2, 1], 1.0, 0.95),
        "padding, gamma 0.9, lambda 0.5": batch([3, 6], 0.9, 0.5),
    }
    mistakes = {message: lambda *given, how=how: _gae(*given, how) for how, message in GAE_MISTAKES.items()}
    judge(function, cases, _gae, mistakes, as_table)
    return "lambda = 0 trusts the critic for all but one step, lambda = 1 trusts what really came."


# 5. Claims about the critic and its companions

CLAIMS = [  # for each claim of the exercise whether it is true, and why
    (False, "the target is the return, A + V: all rewards from here to the end, not the one of this token"),
    (True, "nothing comes before the end, and nothing is discounted: the score is what is still to come, everywhere"),
    (False, "V_t is what is expected *before* token t is chosen; else it could not serve as a baseline for that choice"),
    (False, "that one is the old policy, inside the ratio; the reference is the model before RL, and stays"),
    (True, "policy, critic, reference, reward model; the first two are trained"),
    (False, "it is trained on comparisons: -log sigmoid of the gap of two scores"),
    (False, "the loss holds gaps between answers to one prompt only; any number may be added for each prompt"),
    (False, "a small beta makes distance cheap, so the policy moves further"),
]


@exercise
def check_critic_claims(claims: dict) -> str:
    """Is each claim marked True or False as it should be? Says why not."""
    judge_claims(claims, CLAIMS)
    return "Four models: two are trained, and each has one thing to say."


# 6. The value loss


def _value_loss(values, old_values, returns, mask, clip: float, how: str = "") -> float:
    """Half the mean over the real tokens of the larger of two squared errors: of V, and of V kept near the old one."""
    errors = []
    columns = (x.flatten().tolist() for x in (values, old_values, returns, mask))
    for new, old, target, kept in zip(*columns, strict=True):
        near = {
            "absolute": min(max(new, -clip), clip),
            "relative": min(max(new, old - clip * abs(old)), old + clip * abs(old)),
        }.get(how, old + min(max(new - old, -clip), clip))
        both = (new - target) ** 2, (near - target) ** 2
        if how == "not squared":
            both = abs(new - target), abs(near - target)
        error = {"min": min(both), "clipped only": both[1], "plain": both[0]}.get(how, max(both))
        errors.append(error * (1.0 if how == "padding" else kept))
    below = {"sum": 1.0, "padding": float(len(errors)), "all tokens": float(len(errors))}.get(how, float(mask.sum()))
    return sum(errors) / below * (1.0 if how == "no half" else 0.5)


VALUE_MISTAKES = {
    "min": "You took the smaller error, so the critic could gain by jumping. The larger one is the cautious one.",
    "clipped only": "Only the clipped error counts: a value that moved too far, and the wrong way, gets no gradient back.",
    "plain": "Nothing is clipped: the error of the value kept within `clip` of the *old* one is missing, or never wins.",
    "no half": "The one half is missing.",
    "padding": "The padding counts. Multiply by the mask, and divide by the number of real tokens.",
    "all tokens": "You divided by all places. Divide by the number of real tokens, mask.sum().",
    "sum": "This is the sum. Divide by the number of real tokens.",
    "absolute": "You clipped the value itself. Clip how far it moved: old + clamp(values - old, -clip, clip).",
    "relative": "You clipped by a share of the old value. Here `clip` is a distance: within old - clip and old + clip.",
    "not squared": "The errors are not squared.",
}


@exercise
def check_value_loss(function) -> str:
    """Is it half the mean of the larger squared error, of V and of V kept within `clip` of the old value?"""
    draw = torch.Generator().manual_seed(10)

    def batch(lengths: list[int], clip: float) -> tuple:
        shape = (len(lengths), max(lengths))
        mask = (torch.arange(shape[1]) < torch.tensor(lengths)[:, None]).float()
        old, returns = (torch.randn(shape, generator=draw) for _ in range(2))
        return old + 0.4 * torch.randn(shape, generator=draw), old, returns, mask, clip

    cases = {
        "no padding, clip 0.2": batch([4, 4], 0.2),
        "lengths 5 and 2, clip 0.2": batch([5, 2], 0.2),
        "lengths 1, 6 and 3, clip 0.5": batch([1, 6, 3], 0.5),
    }
    mistakes = {message: lambda *given, how=how: _value_loss(*given, how) for how, message in VALUE_MISTAKES.items()}
    judge(function, cases, _value_loss, mistakes, as_loss)
    values, old, returns, mask, clip = cases["lengths 5 and 2, clip 0.2"]
    kept = old + (values - old).clamp(-clip, clip)
    open_ = ((values - old).abs() <= clip) | ((values - returns).abs() > (kept - returns).abs())
    needs_gradient(function, "lengths 5 and 2, clip 0.2", (values, old, returns, mask, clip), [
        (values - returns) * open_ * mask / mask.sum()
    ])  # fmt: skip
    return "A value that went the wrong way is always called back; one that went the right way stops at `clip`."


# 7. An audit of a reward model

FEATURES = ["words", "digits", "thanks"]


def audited_pairs(seed: int = 0, shortcut: str = "words", pairs: int = 400) -> pd.DataFrame:
    """Made-up scores that a reward model gave to held-out pairs, and three features of both answers.

    Columns: chosen_score, rejected_score, and for each feature (words: the length, digits: how many, thanks: words of
    politeness) chosen_FEATURE and rejected_FEATURE. People chose by quality; the model scores half by a shortcut.
    """
    draw = np.random.default_rng(seed)
    table = pd.DataFrame({
        f"{side}_{feature}": draw.poisson(mean, pairs)
        for feature, mean in zip(FEATURES, (30, 3, 1), strict=True)
        for side in ("chosen", "rejected")
    })  # fmt: skip
    longer = draw.random(pairs) < 0.5
    table["chosen_words"] += 8 * longer  # people like the longer answer a little more often
    for side, quality in (("chosen", 0.8), ("rejected", 0.0)):
        feature = table[f"{side}_{shortcut}"]
        score = quality + 1.2 * (feature - feature.mean()) / feature.std() + 0.5 * draw.standard_normal(pairs)
        table[f"{side}_score"] = score.round(1)  # so that some pairs are tied
    return table


def _accuracy_by(pairs: pd.DataFrame, feature: str, how: str = "") -> list[float]:
    """The accuracy where the chosen answer has more of the feature, and where it has less; a tied score is no hit."""
    chosen, rejected = pairs[f"chosen_{feature}"], pairs[f"rejected_{feature}"]
    right = pairs["chosen_score"] > pairs["rejected_score"]
    if how == "ties":
        right = pairs["chosen_score"] >= pairs["rejected_score"]
    right = ~right if how == "errors" else right
    more, less = chosen > rejected, chosen < rejected
    if how == "equal with more":
        more = chosen >= rejected
    if how == "equal with less":
        less = chosen <= rejected
    if how == "swapped":
        more, less = less, more
    if how == "by score":
        higher = (pairs["chosen_score"] > pairs["rejected_score"]) == more
        return [float(higher[right].mean()), float(higher[~right].mean())]
    if how == "given right":
        return [float(more[right].mean()), float(less[right].mean())]
    if how == "all":
        return [float(right.mean())] * 2
    below = {"all pairs": (len(pairs),) * 2, "counts": (1, 1)}.get(how, (more.sum(), less.sum()))
    return [float((right & side).sum() / n) for side, n in zip((more, less), below, strict=True)]


AUDIT_MISTAKES = {
    "ties": "A pair with tied scores counts as right. The model must score the chosen answer *higher*.",
    "errors": "These are the shares of errors. The shares of right pairs were asked for.",
    "swapped": "The two are swapped: first the pairs in which the chosen answer has more of the feature.",
    "equal with more": "Pairs in which both have the same count are in the first group. They belong to neither.",
    "equal with less": "Pairs in which both have the same count are in the second group. They belong to neither.",
    "given right": "You looked among the right pairs for those with more. Look among those with more for the right ones.",
    "all": "This is the accuracy on all pairs, twice. Split them by the feature first.",
    "all pairs": "You divided by all pairs. Divide by the pairs of each group.",
    "counts": "These are counts. Divide by the pairs of each group.",
    "by score": "You grouped by whether the model was right, and counted the feature. Group by the feature.",
}


@exercise
def check_audit(function, shortcut: str | None = None) -> str:
    """Does `function(pairs, feature)` give the accuracy on both kinds of pairs, and is `shortcut` the model's?"""
    cases = {
        f"{feature}, pairs of seed {seed}": (audited_pairs(seed, by, pairs=150), feature)
        for seed, by, feature in (
            (1, "words", "words"),
            (2, "digits", "thanks"),
            (3, "thanks", "thanks"),
            (4, "digits", "words"),
        )
    }
    mistakes = {message: lambda *given, how=how: _accuracy_by(*given, how) for how, message in AUDIT_MISTAKES.items()}
    judge(function, cases, _accuracy_by, mistakes, as_vector)
    pairs = audited_pairs()
    overall = (pairs["chosen_score"] > pairs["rejected_score"]).mean()
    if shortcut is None or shortcut is ...:
        raise NotStarted(
            f"The function is right. On audited_pairs() the model is right in {overall:.0%} of all pairs; the name of its "
            "shortcut is not started."
        )
    if shortcut not in FEATURES:
        raise Wrong(f"{show(shortcut)} is none of {', '.join(FEATURES)}.")
    more, less = _accuracy_by(pairs, shortcut)
    said = f"{shortcut}: {more:.0%} right where the chosen answer has more, {less:.0%} where it has less."
    if shortcut != "words":
        raise Wrong(f"{said} That is about the {overall:.0%} of all pairs. Where do the two lie far apart?")
    return (
        f"{said} One accuracy for all pairs, {overall:.0%}, hides it. PPO would find it, by writing longer answers "
        "(Singhal et al. 2023, arXiv 2310.03716)."
    )


# 8. Open: stop before over-optimisation

BUDGET = 6  # probes of the true score in one run
CHECKPOINTS = 60
NOISE = 0.2  # standard deviation of a probe, in units of the best true score


def _true_scores(seed: int) -> tuple[list[float], list[float]]:
    """The KL in nats and the true score of each checkpoint: d (α - β log d), d = √KL (Gao et al. 2022, section 3.1).

    Scaled so that the top of the curve is 1, at a d that the run passes early, late or (rarely) never.
    """
    draw = random.Random(f"run {seed}")
    furthest, speed = draw.uniform(4.0, 9.0), draw.uniform(0.5, 1.0)
    top = furthest * draw.uniform(0.25, 1.1)
    distances = [furthest * ((step + 1) / CHECKPOINTS) ** speed for step in range(CHECKPOINTS)]
    return [d * d for d in distances], [d / top * (1 - math.log(d / top)) for d in distances]


def invented_run(seed: int = 0) -> tuple[list[float], list[float], Callable[[int], float]]:
    """An invented run with 60 checkpoints: the proxy reward and the KL (nats) of each, and `probe`.

    `probe(checkpoint)` measures the true score of a checkpoint (0 at the start, about 1 at the best one) with noise,
    as a small study with people would; a run has a budget of 6 probes. Raises RuntimeError for the seventh, ValueError
    for a checkpoint that does not exist.
    """
    kl, true = _true_scores(seed)
    draw, asked = random.Random(f"noise {seed}"), []
    proxy = [1.3 * math.sqrt(x) - 0.03 * x + draw.gauss(0, 0.05) for x in kl]

    def probe(checkpoint: int) -> float:
        if checkpoint not in range(CHECKPOINTS):
            raise ValueError(f"there is no checkpoint {show(checkpoint)}; they are 0 to {CHECKPOINTS - 1}")
        if len(asked) == BUDGET:
            raise RuntimeError(f"the budget of {BUDGET} probes is spent")
        asked.append(checkpoint)
        return true[checkpoint] + draw.gauss(0, NOISE)

    return proxy, kl, probe


def _kept_score(choose: Callable, seed: int) -> float:
    """The true score of the chosen checkpoint, as a share of the best one's."""
    true, case = _true_scores(seed)[1], f"run {seed}"
    chosen = choose(*invented_run(seed), BUDGET)
    if chosen is None or chosen is ...:
        raise NotStarted
    chosen = as_number(chosen, None, case)
    if chosen not in range(CHECKPOINTS):
        raise Wrong(f"{case}: {show(chosen, 1)} is no checkpoint; they are 0 to {CHECKPOINTS - 1}.")
    return true[int(chosen)] / max(true)


@exercise
def check_choose_step(function) -> str:
    """Do the checkpoints it chooses have 96% of the best true score, on average over 40 runs?"""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    seeds = range(101, 141)
    kept = [_kept_score(lambda *given, seed=seed: call(function, f"run {seed}", given), seed) for seed in seeds]
    proxy = [_kept_score(lambda proxy, *_: max(range(len(proxy)), key=proxy.__getitem__), seed) for seed in seeds]
    mean, naive = sum(kept) / len(kept), sum(proxy) / len(proxy)
    said = (
        f"You keep {mean:.1%} of the best true score (the worst run {min(kept):.0%}); the highest proxy keeps {naive:.1%}."
    )
    if mean < naive + 0.01:
        raise Wrong(f"{said} The proxy goes on rising while the truth falls. Spend the probes.")
    if mean < 0.96:
        raise Wrong(f"{said} 96% was asked for. A single probe is noisy; what do you know about the shape of the curve?")
    return f"{said} A KL budget is such a stopping rule, set in advance."
