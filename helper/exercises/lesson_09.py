"""Checks of lesson 09: nats a token and an answer, coefficients of clip and DPO, a renewed reference, claims, a controller.

Left out on purpose: models. Log-probabilities, rewards and distances arrive as plain numbers, and the training that the
controller of exercise 6 steers is invented: its KL answers to β as a real one does, late and with noise.
"""

import math
import random

from helper.exercises.checking import (
    NotStarted,
    Wrong,
    as_number,
    as_vector,
    call,
    exercise,
    judge,
    judge_claims,
    show,
)

# 1. Nats a token, nats an answer


def _nats(kls: list[list[float]], how: str = "") -> list[float]:
    """[nats a token, nats an answer] from the KL of each token of each answer."""
    tokens, total = sum(map(len, kls)), sum(map(sum, kls))
    per_token, per_answer = total / tokens, total / len(kls)
    return {
        "swapped": [per_answer, per_token],
        "mean of means": [sum(sum(one) / len(one) for one in kls) / len(kls), per_answer],
        "sums": [total, total],
        "token twice": [per_token, per_token],
        "largest": [max(map(max, kls)), max(map(sum, kls))],
        "longest": [total / (len(kls) * max(map(len, kls))), per_answer],
    }.get(how, [per_token, per_answer])


NATS_MISTAKES = {
    "swapped": "The two are swapped: first a token, then an answer.",
    "mean of means": "Your first number is a mean of the answers' means. A token of a long answer must count like any "
    "other: all nats over all tokens.",
    "sums": "These are sums over everything. Divide by the number of tokens, and by the number of answers.",
    "token twice": "Your second number is nats a token too. For an answer add up its tokens; then take the answers' mean.",
    "largest": "You took the largest ones. Means were asked for.",
    "longest": "You divided as if all answers were as long as the longest one. Count the tokens that there are.",
}


@exercise
def check_nats(function) -> str:
    """Does `function(kls)` give nats a token and nats an answer?"""
    cases = {
        "two answers": ([[0.0, 0.1], [0.2, 0.3, 0.1, 0.1]],),
        "one answer": ([[0.05, 0.0, 0.4]],),
        "a short one that moved much": ([[2.0], [0.01] * 20, [0.02] * 5],),
    }
    mistakes = {message: lambda kls, how=how: _nats(kls, how) for how, message in NATS_MISTAKES.items()}
    judge(function, cases, _nats, mistakes, as_vector)
    return "So 0.05 nats a token are 2 nats for an answer of 40 tokens. Say which one you mean."


# 2. The coefficient under the clip


def _clipped(ratio: float, advantage: float, epsilon: float, how: str = "") -> float:
    """The coefficient of log π in min(ρ A, clip(ρ) A)."""
    bounded = min(max(ratio, 1 - epsilon), 1 + epsilon)
    outside = bounded != ratio
    stopped = (advantage > 0 and ratio > 1 + epsilon) or (advantage < 0 and ratio < 1 - epsilon)
    return {
        "value": min(ratio * advantage, bounded * advantage),
        "both sides": 0.0 if outside else ratio * advantage,
        "upper only": 0.0 if ratio > 1 + epsilon else ratio * advantage,
        "no clip": ratio * advantage,
        "no ratio": 0.0 if stopped else advantage,
        "wrong side": 0.0 if outside and not stopped else ratio * advantage,
        "absolute": 0.0 if stopped else ratio * abs(advantage),
        "always 0.2": _clipped(ratio, advantage, 0.2) if how == "always 0.2" else None,
        "quotient": 0.0 if (ratio > 1 + epsilon if advantage > 0 else ratio < 1 / (1 + epsilon)) else ratio * advantage,
    }.get(how, 0.0 if stopped else ratio * advantage)


CLIP_MISTAKES = {
    "value": "This is the *value* of the clipped objective. Its gradient is asked for: where the clipped side is "
    "the smaller one, it does not depend on the ratio, and the coefficient is 0.",
    "both sides": "You stop every token outside the range. One that went the *wrong* way must be able to come back: with "
    "A > 0 and a small ratio the coefficient is ρA.",
    "upper only": "You stop tokens above the range only, whatever the sign of A. With A < 0 those below it are stopped.",
    "no clip": "In all cases that are wrong this is ρA without any clip. Is there one, and where does its range end?",
    "no ratio": "The ratio is missing: ∇ρ = ρ ∇log π, so what is not stopped gets ρA.",
    "wrong side": "You stop the tokens that went against their advantage. Those that went too far *with* it are stopped.",
    "absolute": "The sign of A is lost: a bad answer is pushed down.",
    "quotient": "Your lower bound is 1/(1+ε). The clip's is 1−ε.",
    "always 0.2": "Your range is 0.8 to 1.2 whatever ε is.",
}


@exercise
def check_clip(function) -> str:
    """Does `function(ratio, advantage, epsilon)` give the coefficient of a token in PPO and GRPO?"""
    cases = {
        f"ratio {ratio}, advantage {advantage}, ε {epsilon}": (ratio, advantage, epsilon)
        for epsilon in (0.1, 0.3)
        for ratio in (0.5, 0.72, 0.75, 0.88, 0.92, 1.0, 1.08, 1.12, 1.25, 1.35, 1.7)
        for advantage in (1.5, -0.5, 0.0)
    }
    mistakes = {message: lambda *given, how=how: _clipped(*given, how) for how, message in CLIP_MISTAKES.items()}
    judge(function, cases, _clipped, mistakes, as_number)
    return "The clip says nothing to a token that went the wrong way: that one is still pulled back."


# 3. DPO's coefficients


def _push(chosen: list[float], rejected: list[float], beta: float, how: str = "") -> list[float]:
    """The coefficients of the chosen and the rejected answers' tokens, from how much each answer has gained."""
    pairs = list(zip(chosen, rejected, strict=True))

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    margins = [good - bad for good, bad in pairs]
    pushes = [beta * sigma(-beta * margin) / len(pairs) for margin in margins]
    pushes = {
        "grows": [beta * sigma(beta * margin) / len(pairs) for margin in margins],
        "no beta": [sigma(-beta * margin) / len(pairs) for margin in margins],
        "margin": [beta * sigma(-margin) / len(pairs) for margin in margins],
        "sum": [beta * sigma(-beta * margin) for margin in margins],
        "loss": [math.log1p(math.exp(-beta * margin)) / len(pairs) for margin in margins],
    }.get(how, pushes)
    signed = [-push for push in pushes] if how != "both up" else pushes
    return [*signed, *pushes] if how == "upside down" else [*pushes, *signed]


PUSH_MISTAKES = {
    "grows": "Your push grows with the margin. A pair that is learned must stop pulling: σ(−βm).",
    "no beta": "The factor β in front is missing: the chain rule brings it out of σ(β m).",
    "margin": "Inside σ the margin is multiplied by β.",
    "sum": "You left out the division by the number of pairs: the loss is a mean.",
    "loss": "This is the loss of the pairs, not the coefficient of their gradient.",
    "both up": "Both answers are pushed up. The rejected one gets the same with a minus.",
    "upside down": "The signs are swapped: the chosen answers are pushed up.",
}


@exercise
def check_push(function) -> str:
    """Does `function(chosen, rejected, beta)` give DPO's coefficients: the chosen answers', then the rejected ones'?"""
    cases = {
        "the start": ([0.0, 0.0], [0.0, 0.0], 0.2),
        "one pair is learned": ([6.0, 0.5], [-9.0, 0.25], 0.5),
        "both have fallen": ([-3.0], [-13.0], 0.1),
        "the wrong way": ([-2.0, 1.0, 0.0], [2.0, 3.0, -1.0], 1.0),
    }
    mistakes = {message: lambda *given, how=how: _push(*given, how) for how, message in PUSH_MISTAKES.items()}
    judge(function, cases, _push, mistakes, as_vector)
    return "At the start each pair pushes with β/2, and the sum of all coefficients is 0: DPO only compares."


# 4. A renewed reference


def _renewed(reference: list[float], rewards: list[float], beta: float, times: int, how: str = "") -> list[float]:
    """The best policy after `times` trainings with β, each against the policy before it."""
    strength = {
        "once": 1 / beta,
        "weaker": 1 / (beta * max(times, 1)),
        "times beta": beta * times,
        "one more": (times + 1) / beta,
        "squares": 2 ** (times - 1) / beta if times else 0.0,
    }.get(how, times / beta)
    weights = [share * math.exp(strength * reward) for share, reward in zip(reference, rewards, strict=True)]
    if how == "no reference":
        weights = [math.exp(strength * reward) for reward in rewards]
    return weights if how == "unscaled" else [weight / sum(weights) for weight in weights]


RENEWED_MISTAKES = {
    "once": "This is one training. Each renewal multiplies by e^(r/β) once more.",
    "weaker": "Your β grows with the renewals. Each renewal lets the policy go further, as a *smaller* β would.",
    "times beta": "You multiplied by β. The best policy is proportional to e^(r/β): divide.",
    "one more": "That is one training too many: with `times` 0 the reference must come back.",
    "squares": "The strength doubles each time in your function. Each training *adds* r/β in the exponent.",
    "no reference": "The reference is missing: a text that it never writes must stay at 0.",
    "unscaled": "The numbers do not sum to 1: divide by their sum.",
}


@exercise
def check_renewed(function) -> str:
    """Does `function(reference, rewards, beta, times)` give the best policy after so many trainings, each from the last?"""
    cases = {
        "three answers, twice": ([0.7, 0.2, 0.1], [0.0, 1.0, 0.5], 0.5, 2),
        "no training": ([0.7, 0.2, 0.1], [0.0, 1.0, 0.5], 0.5, 0),
        "one": ([0.25, 0.25, 0.5], [1.0, 0.0, 0.0], 1.0, 1),
        "a text that is never written, four times": ([0.5, 0.5, 0.0], [0.0, 0.2, 3.0], 2.0, 4),
    }
    mistakes = {message: lambda *given, how=how: _renewed(*given, how) for how, message in RENEWED_MISTAKES.items()}
    judge(function, cases, _renewed, mistakes, as_vector)
    return "k trainings with β, each from the last one's result, are one training with β/k: the leash gets longer each time."


# 5. Claims

PIPELINE_CLAIMS = [
    (False, "what is the coefficient of a wrong answer in rejection sampling, and what in GRPO"),
    (True, "with ρ = 1 and no KL term, what is left of both formulas"),
    (False, "what do its two coefficients of a pair add up to"),
    (False, "how many tokens has an answer"),
    (True, "what does the best policy maximise, and what would be a contradiction"),
    (False, "the anchor moves along with the policy"),
    (False, "a score that was looked at to choose is too good on the questions on which it was chosen"),
    (True, "where in the weights' formula would an answer that is never sampled come in"),
]


@exercise
def check_pipeline_claims(claims: dict) -> str:
    """Is each claim about the pipeline rightly marked?"""
    judge_claims(claims, PIPELINE_CLAIMS)
    return "Ask of any recipe: whose texts, which coefficient, how far from the start."


# 6. Open: a controller of your own

RUNS, STEPS, SETTLED = 20, 120, 60  # of the invented trainings; the last SETTLED steps count
NEAR, STEADY = 0.25, 0.2  # of the target: how far the mean KL may be off it, and how far the KL may swing about it
LARGEST = 1e4  # a β above it, or below 1/LARGEST, is lost


class InventedTraining:
    """A training whose KL answers to β: each step moves it towards what this β allows, late and with noise.

    `need`: how strongly the reward pulls (the KL at which β = 1 holds it); `speed`: the part of the way in a step.
    """

    def __init__(self, seed: int):
        self.draw = random.Random(f"training {seed}")
        self.need, self.speed = math.exp(self.draw.uniform(-1.5, 1.5)), self.draw.uniform(0.05, 0.2)
        self.kl = 0.0

    def step(self, beta: float) -> float:
        """The KL that the batch of the next step shows."""
        self.kl += self.speed * (self.need / beta - self.kl) if beta > 0 else 0.2
        self.kl = min(self.kl, 1e6)
        return self.kl * math.exp(self.draw.gauss(0.0, 0.15))


def _off(function, seed: int) -> tuple[float, float]:
    """How far the KL of the settled steps is off the target, as shares of it: its mean, and the root mean square."""
    training, beta, seen = InventedTraining(seed), 0.2, []
    target = 0.5 + seed % 4
    for _ in range(STEPS):
        kl = training.step(beta)
        seen.append(training.kl)
        beta = call(function, f"training {seed}", (beta, kl, target))
        if beta is None or beta is ...:
            raise NotStarted
        beta = as_number(beta, None, f"training {seed}")
        if not 1 / LARGEST < beta < LARGEST:
            raise Wrong(f"training {seed}: β became {show(beta)} after a KL of {show(kl)} with the target {show(target)}.")
    settled = seen[-SETTLED:]
    mean = abs(sum(settled) / len(settled) - target) / target
    return mean, math.sqrt(sum((kl - target) ** 2 for kl in settled) / len(settled)) / target


@exercise
def check_controller(function) -> str:
    """Does `function(beta, kl, target)` hold 18 of 20 invented trainings within a quarter of the target, and steadily?"""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    off, swings = zip(*(_off(function, seed) for seed in range(RUNS)))
    needed = f"At least {0.9 * RUNS:.0f} are needed."
    held, worst = sum(each <= NEAR for each in off), max(range(RUNS), key=off.__getitem__)
    said = f"{held} of {RUNS} trainings are held within {NEAR:.0%} of their target"
    if held < 0.9 * RUNS:
        raise Wrong(f"{said}; the worst is training {worst}, {off[worst]:.0%} off. {needed}")
    steady, worst = sum(each <= STEADY for each in swings), max(range(RUNS), key=swings.__getitem__)
    if steady < 0.9 * RUNS:
        raise Wrong(
            f"{said} in their mean, but only {steady} are steady: about the target the KL of training {worst} swings by "
            f"{swings[worst]:.0%} of it (root mean square). {needed}"
        )
    slow = f"The paper's gain of 0.1 is far too slow for {STEPS} steps: it was made for very long runs."
    return f"{said}, and {steady} swing by at most {STEADY:.0%} of it. {slow}"
