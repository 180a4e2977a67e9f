"""What the explorers of `helper.widgets_rl` show, for the lessons on GRPO and PPO; built as those of `helper.views`.

Every number is computed by the functions of `helper.algorithms`, every gradient by automatic differentiation.
Left out on purpose: sampling (means and deviations are exact, by enumeration), and anything that moves (widgets_rl.py).
"""

import math
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch

from helper.algorithms import average, clipped_surrogate, generalised_advantages, kl_estimate
from helper.plots import BLUE, FONT, GREEN, GREY, ORANGE, PALE, RED
from helper.views import View, _facts, _figure, _table, page, picture

LARGEST_RATIO = 2.0
TOKENS = ("A", "B", "C", "D")
REFERENCE = (0.4, 0.3, 0.2, 0.1)
DIRECTION = (-1.0, -0.5, 0.5, 1.0)  # of the logits: away from what the reference likes
MARKERS = {"k1": ("o", ORANGE), "k2": ("s", GREEN), "k3": ("^", RED)}
MOST_TOKENS = 16
LONGEST = 64  # tokens that an answer may have: Dr. GRPO divides by it
LOSS_TYPES = ("grpo", "dapo", "dr_grpo")


def _number(value: float, places: int = 3) -> str:
    """0.500, -0.500, and 0.000 for what is rounded to zero."""
    return f"{round(value, places) + 0.0:.{places}f}"


def _signed(value: float, places: int = 3) -> str:
    """The same, with a plus before what is above zero."""
    return ("+" if round(value, places) > 0 else "") + _number(value, places)


# The clipped surrogate.


def surrogate(ratios, advantage: float, epsilon: float, epsilon_high: float) -> tuple[np.ndarray, np.ndarray]:
    """The clipped surrogate at each ratio ρ = π_θ/π_old, and its gradient with respect to log π_θ.

    The gradient is ρ·A, or 0 where the surrogate is flat.
    """
    logps = torch.tensor(np.log(ratios) * (1 - 1e-12), dtype=torch.float64)  # the corner itself is not flat yet
    logps = logps.view(1, -1).requires_grad_()
    advantages = torch.tensor([advantage], dtype=torch.float64)
    values = clipped_surrogate(logps, torch.zeros_like(logps), advantages, epsilon, epsilon_high)
    (gradients,) = torch.autograd.grad(values.sum(), logps)
    return values.detach().numpy()[0], gradients.numpy()[0]


def _flat(advantage: float, epsilon: float, epsilon_high: float) -> tuple[float, float, str]:
    """From which to which ratio the surrogate is flat, and why, in words."""
    if advantage > 0:
        border = 1 + epsilon_high
        return border, LARGEST_RATIO, f"ρ above {border:g}: this good token has become likelier, and that is enough"
    if advantage < 0:
        border = 1 - epsilon
        return 0.0, border, f"ρ below {border:g}: this bad token has become less likely, and that is enough"
    return 0.0, LARGEST_RATIO, "everywhere: an advantage of 0 teaches nothing"


def _push(gradient: float) -> str:
    if not gradient:
        return "this token is not pushed"
    return f"this token is pushed {'up' if gradient > 0 else 'down'}"


@mpl.rc_context(FONT)
def clip_view(advantage: float, epsilon: float, epsilon_high: float, ratio: float) -> View:
    """The surrogate min(ρA, clip(ρ)A) of one token and its gradient against ρ (Schulman et al. 2017, eq. 7, fig. 1)."""
    (value,), (gradient,) = surrogate([ratio], advantage, epsilon, epsilon_high)
    ratios = np.linspace(0.01, LARGEST_RATIO, 400)
    curves = surrogate(ratios, advantage, epsilon, epsilon_high)
    start, end, why = _flat(advantage, epsilon, epsilon_high)
    figure, axes = _figure(2, 7, 3.2)
    top = 2 * LARGEST_RATIO  # at the largest advantage: the axis stays, and the line turns
    names = ("surrogate", "gradient with respect to log π")
    for axis, title, curve, now in zip(axes, names, curves, (value, gradient)):
        axis.axvspan(start, end, facecolor=PALE, edgecolor=GREY, hatch="///", linewidth=0, label="gradient 0")
        axis.plot(ratios, ratios * advantage, "--", color=GREY, linewidth=1.5, label="not clipped: ρ·A")
        axis.plot(ratios, curve, color=BLUE, linewidth=2.5, label="clipped")
        axis.plot(ratio, now, "D", color=RED, markersize=9, label="this token")
        axis.axhline(0, color="black", linewidth=1)
        low, high = (-top, 0) if advantage < 0 else (0, top)
        axis.set(title=title, xlabel="ratio ρ = π / π_old", xlim=(0, LARGEST_RATIO), ylim=(low - 0.3, high + 0.3))
        axis.set_xticks(np.arange(0, LARGEST_RATIO + 0.1, 0.5))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    clipped = min(max(ratio, 1 - epsilon), 1 + epsilon_high)
    facts = {
        "not clipped, ρ·A": f"{ratio:g} · {advantage:g} = {_number(ratio * advantage)}",
        "clipped, clip(ρ)·A": f"{clipped:g} · {advantage:g} = {_number(clipped * advantage)}",
        "surrogate, the smaller": _number(value),
        "gradient with respect to log π": f"{_signed(gradient)}: {_push(gradient)}",
        "gradient 0 where": why,
    }
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"The clipped surrogate of one token against its ratio ρ, A = {advantage:g}, at ρ = {ratio:g}. {words}."
    return View(words, page(picture(figure, words), _facts(facts)))


# Estimates of the KL divergence.


class Estimate(NamedTuple):
    """Mean and standard deviation of an estimate from one sampled token, and its mean gradient per logit."""

    mean: float
    std: float
    gradient: np.ndarray


def kl_estimates(moved: float) -> tuple[np.ndarray, dict[str, Estimate]]:
    """The policy, and the exact KL(policy || reference) with its gradient beside k1, k2 and k3 ({name: Estimate}).

    By enumeration: each token counts with the probability with which the policy samples it. As in a loss, the
    gradient goes through the log-probability of the token, not through the sampling.
    """
    ref_logps = torch.tensor(REFERENCE, dtype=torch.float64).log()
    logits = (ref_logps + moved * torch.tensor(DIRECTION, dtype=torch.float64)).requires_grad_()
    logps = logits.log_softmax(-1)
    sampled = logps.exp().detach()
    exact = (logps.exp() * (logps - ref_logps)).sum()
    rows = {"exact": _estimate(exact, torch.zeros(()), logits)}
    for kind in MARKERS:
        values = kl_estimate(logps, ref_logps, kind)
        mean = (sampled * values).sum()
        std = (sampled * (values - mean).square()).sum().sqrt()
        rows[kind] = _estimate(mean, std, logits)
    return sampled.numpy(), rows


def _estimate(mean: torch.Tensor, std: torch.Tensor, logits: torch.Tensor) -> Estimate:
    gradient = torch.autograd.grad(mean, logits, retain_graph=True)[0]
    return Estimate(*(number.detach().numpy().round(12) + 0.0 for number in (mean, std, gradient)))  # no rounding errors


def _against(gradient: np.ndarray, true: np.ndarray) -> str:
    """How a gradient differs from the true one, in length and direction."""
    length, wanted = np.linalg.norm(gradient), np.linalg.norm(true)
    if not wanted:
        return "0, as the true one: the policy is the reference"
    if not length:
        return "0: only noise"
    if np.allclose(gradient, true, rtol=1e-6):
        return "the true one"
    cosine = gradient @ true / length / wanted
    return f"another one: {length / wanted:.2f} times as long, cosine {cosine:.3f}"


@mpl.rc_context(FONT)
def _kl_figure(policy: np.ndarray, exact: Estimate, estimates: dict[str, Estimate]):
    figure, (left, middle, right) = _figure(3, 7, 3.1)
    places = np.arange(len(TOKENS))
    left.bar(places - 0.2, REFERENCE, 0.38, color=PALE, edgecolor=GREY, hatch="///", label="reference")
    left.bar(places + 0.2, policy, 0.38, color=BLUE, label="policy")
    left.set(title="probability", xticks=places, xticklabels=TOKENS, xlabel="token", ylim=(0, 1.25))
    middle.axhline(exact.mean, color="black", linestyle=":", linewidth=1.6, label="exact KL")
    right.axhline(0, color="black", linewidth=1)
    right.bar(places, exact.gradient, 0.8, color=PALE, edgecolor=GREY, label="exact KL")
    for place, (kind, (marker, colour)) in enumerate(MARKERS.items()):
        mean, std, gradient = estimates[kind]
        middle.errorbar(place, mean, std, fmt=marker, color=colour, markersize=8, capsize=4)
        right.plot(places + 0.22 * (place - 1), gradient, marker, color=colour, label=kind)
    middle.set(title="mean ± std (nats)", xticks=range(3), xticklabels=list(MARKERS), xlim=(-0.5, 2.5))
    right.set(title="gradient per logit", xticks=places, xticklabels=TOKENS, xlabel="token")
    middle.margins(y=0.2)
    right.margins(y=0.35)  # room for the legend
    for axis in (left, middle, right):
        axis.legend(frameon=False, loc="upper left", ncols=2 if axis is right else 1, handlelength=1.4, columnspacing=1)
    return figure


def kl_view(moved: float) -> View:
    """k1, k2, k3 of two distributions over four tokens: mean, std and gradient, beside the exact KL."""
    policy, estimates = kl_estimates(moved)
    exact = estimates.pop("exact")
    columns = ["estimate", "mean (nats)", "mean - KL", "std of one sample", "mean gradient"]
    rows = [
        [kind, _number(mean), _signed(mean - exact.mean), _number(std), _against(gradient, exact.gradient)]
        for kind, (mean, std, gradient) in estimates.items()
    ]
    said = "; ".join("{}: mean {} ({} off), std {}, gradient {}".format(*row) for row in rows)
    shares = ", ".join(f"{token} {share:.2f}" for token, share in zip(TOKENS, policy))
    words = f"The policy samples {shares}. Exact KL to the reference {_number(exact.mean)} nats. One sampled token: {said}."
    facts = _facts({"exact KL(policy || reference)": f"{_number(exact.mean)} nats"})
    figure = _kl_figure(policy, exact, estimates)
    return View(words, page(picture(figure, words), facts, _table(columns, rows)))


# Generalised advantage estimation.


def read_numbers(text: str, name: str) -> list[float]:
    """The numbers in a text, separated by commas, semicolons or spaces; ValueError says what is wrong with them."""
    numbers = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            numbers.append(float(word))
        except ValueError:
            raise ValueError(f'"{word[:40]}" in the {name} is not a number. Write them as in: 0, 0, 0.5, 1') from None
    if not all(math.isfinite(number) and abs(number) <= 1e6 for number in numbers):
        raise ValueError(f"The {name} must be numbers of at most a million: no nan, no inf.")
    if not 1 <= len(numbers) <= MOST_TOKENS:
        raise ValueError(f"A response has 1 to {MOST_TOKENS} tokens here; these are {len(numbers)} {name}.")
    return numbers


def read_response(rewards: str, values: str) -> tuple[list[float], list[float]]:
    """Rewards and values of the tokens of one response; ValueError says what is wrong with them."""
    rewards, values = read_numbers(rewards, "rewards"), read_numbers(values, "values")
    if len(rewards) != len(values):
        raise ValueError(f"Rewards: {len(rewards)}, values: {len(values)}. Each token needs one of both.")
    return rewards, values


def response_advantages(rewards: list[float], values: list[float], gamma: float, lam: float) -> tuple[list, list]:
    """Advantage and return of each token of one response."""
    rewards, values = (torch.tensor([numbers], dtype=torch.float64) for numbers in (rewards, values))
    advantages, returns = generalised_advantages(rewards, values, torch.ones_like(rewards), gamma, lam)
    return advantages[0].tolist(), returns[0].tolist()


@mpl.rc_context(FONT)
def gae_view(rewards: str, values: str, gamma: float, lam: float) -> View:
    """Advantages and returns of one response's tokens, beside the TD errors and Monte-Carlo (Schulman et al. 2015)."""
    rewards, values = read_response(rewards, values)
    advantages, returns = response_advantages(rewards, values, gamma, lam)
    errors, monte_carlo = (response_advantages(rewards, values, gamma, end)[0] for end in (0.0, 1.0))
    numbers = np.arange(1, len(rewards) + 1)
    figure, (left, right) = _figure(2, 7, 3.1)
    left.bar(numbers, advantages, color=BLUE, label=f"λ = {lam:g}")
    left.plot(numbers, errors, "o", color="black", markerfacecolor="white", label="λ = 0: TD error")
    left.plot(numbers, monte_carlo, "D", color=RED, label="λ = 1: Monte-Carlo")
    right.bar(numbers, returns, color=GREY, label=f"return, λ = {lam:g}")
    right.plot(numbers, values, "s--", color=GREEN, label="value before the token")
    for axis, title in ((left, "advantage"), (right, "return: the value's target")):
        axis.axhline(0, color="black", linewidth=1)
        axis.set(title=title, xlabel="token", xticks=numbers if len(numbers) <= 8 else numbers[::3])
        axis.margins(y=0.12)
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, handlelength=1.4)
    named = {"reward": rewards, "value": values, "TD error (λ = 0)": errors, f"advantage (λ = {lam:g})": advantages,
             "Monte-Carlo (λ = 1)": monte_carlo, "return": returns}  # fmt: skip
    rows = [[str(number), *map(_number, row)] for number, *row in zip(numbers, *named.values())]
    said = "; ".join(f"{name}: {', '.join(map(_number, row))}" for name, row in named.items())
    words = f"One response of {len(rewards)} tokens, γ = {gamma:g}, λ = {lam:g}. {said}."
    return View(words, page(picture(figure, words), _table(["token", *named], rows)))


# Three ways to average.


def token_weights(right: int, wrong: int) -> dict[str, tuple[float, float]]:
    """The weight of one token of a right and of a wrong answer with so many tokens, {loss_type: (right, wrong)}."""
    mask = (torch.arange(LONGEST) < torch.tensor([[right], [wrong]])).double()
    weights = {}
    for loss_type in LOSS_TYPES:
        per_token = torch.zeros_like(mask, requires_grad=True)
        average(per_token, mask, loss_type, max_length=LONGEST).backward()
        weights[loss_type] = tuple(per_token.grad[:, 0].tolist())
    return weights


@mpl.rc_context(FONT)
def normalisers_view(right: int, wrong: int) -> View:
    """What a token, and a whole answer, counts for under the three averages, in a group of a right and a wrong answer."""
    weights, places = token_weights(right, wrong), np.arange(len(LOSS_TYPES))
    of_token = np.array(list(weights.values())).T
    figure, axes = _figure(2, 7, 3)
    for axis, title, shown in zip(axes, ("one token", "the whole answer"), (of_token, of_token * [[right], [wrong]])):
        axis.bar(places - 0.2, shown[0], 0.38, color=BLUE, label=f"right answer, {right} tokens")
        axis.bar(places + 0.2, shown[1], 0.38, color=ORANGE, hatch="///", edgecolor="white",
                 label=f"wrong answer, {wrong} tokens")  # fmt: skip
        axis.set(title=f"weight of {title}", xticks=places, xticklabels=LOSS_TYPES)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    columns = ["loss_type", "right, a token", "wrong, a token", "right, whole answer", "wrong, whole answer"]
    rows = [[name, f"{r:.4f}", f"{w:.4f}", f"{r * right:.3f}", f"{w * wrong:.3f}"] for name, (r, w) in weights.items()]
    said = "; ".join("{}: a token {} and {}, the whole answer {} and {}".format(*row) for row in rows)
    words = f"Weights in a right answer of {right} tokens and a wrong one of {wrong}: {said}."
    longest = _facts({"longest answer allowed (only dr_grpo asks for it)": f"{LONGEST} tokens"})
    return View(words, page(picture(figure, words), _table(columns, rows), longest))
