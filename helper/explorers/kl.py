"""Explorer: the KL estimates k1, k2, k3 of one token, in value and gradient, by enumeration.

Left out on purpose: sampling; means and deviations are exact.
"""

from typing import NamedTuple

import numpy as np
import torch
from ipywidgets import FloatSlider

from helper.algorithms.policy_gradient import kl_estimate
from helper.explorers.explorer import Explorer, decimal, look, signed
from helper.figures.figure import BLUE, GREEN, GREY, ORANGE, PALE, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page, text_table

TOKENS = ("A", "B", "C", "D")
REFERENCE = (0.4, 0.3, 0.2, 0.1)
DIRECTION = (-1.0, -0.5, 0.5, 1.0)  # of the logits: away from what the reference likes
MARKERS = {"k1": ("o", ORANGE), "k2": ("s", GREEN), "k3": ("^", RED)}


def explore_kl_estimators(moved: float = 1.0) -> Explorer:
    """The KL estimates k1, k2, k3 from one token, for a policy that moves away from its reference.

    Value: k1 and k3 are unbiased, k2 is not (Schulman 2020, "Approximating KL Divergence"). Gradient, as a loss takes
    it (through the log-probability alone): k2's is that of KL(π_θ || π_ref), k1's is 0 in the mean, and k3's is that
    of the other direction, KL(π_ref || π_θ) (Tang & Munos 2025, arXiv 2506.09477). Everything is enumerated.
    """
    return Explorer({"moved": FloatSlider(moved, min=-3.0, max=3.0, step=0.1, **look("policy moved by"))}, kl_view)


def kl_view(moved: float) -> View:
    """k1, k2, k3 of two distributions over four tokens: mean, std and gradient, beside the exact KL."""
    policy, estimates = kl_estimates(moved)
    exact = estimates.pop("exact")
    columns = ["estimate", "mean (nats)", "mean - KL", "std of one sample", "mean gradient"]
    rows = [
        [kind, decimal(mean), signed(mean - exact.mean), decimal(std), _against(gradient, exact.gradient)]
        for kind, (mean, std, gradient) in estimates.items()
    ]
    said = "; ".join("{}: mean {} ({} off), std {}, gradient {}".format(*row) for row in rows)
    shares = ", ".join(f"{token} {share:.2f}" for token, share in zip(TOKENS, policy))
    words = f"The policy samples {shares}. Exact KL to the reference {decimal(exact.mean)} nats. One sampled token: {said}."
    facts = fact_list({"exact KL(policy || reference)": f"{decimal(exact.mean)} nats"})
    figure = _kl_figure(policy, exact, estimates)
    return View(words, page(image_html(figure, words), facts, text_table(columns, rows)))


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


@drawing()
def _kl_figure(policy: np.ndarray, exact: Estimate, estimates: dict[str, Estimate]):
    figure, (left, middle, right) = make_panels(3, 7, 3.1)
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
