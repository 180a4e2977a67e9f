"""Explorer: the clipped surrogate of one token, its gradient, and where that is zero.

Values and gradients are those of `helper.algorithms`, by automatic differentiation.
"""

import numpy as np
import torch
from ipywidgets import FloatSlider

from helper.algorithms.policy_gradient import clipped_surrogate
from helper.explorers.explorer import Explorer, decimal, look, signed
from helper.figures.figure import BLUE, GREY, PALE, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page

LARGEST_RATIO = 2.0


def explore_clip(advantage: float = 1.0, epsilon: float = 0.2, epsilon_high: float = 0.2, ratio: float = 1.0) -> Explorer:
    """The surrogate min(ρA, clip(ρ, 1 - ε, 1 + ε_high)A) of one token, its gradient, and where that is zero.

    Schulman et al. 2017, arXiv 1707.06347, eq. 7; an ε_high of its own is DAPO's (Yu et al. 2025, arXiv 2503.14476).
    """
    border = {"min": 0.05, "max": 0.5, "step": 0.01}
    controls = {
        "advantage": FloatSlider(advantage, min=-2.0, max=2.0, step=0.1, **look("advantage A")),
        "epsilon": FloatSlider(epsilon, **border, **look("ε")),
        "epsilon_high": FloatSlider(epsilon_high, **border, **look("ε_high")),
        "ratio": FloatSlider(ratio, min=0.02, max=2.0, step=0.02, **look("ratio ρ")),
    }
    return Explorer(controls, clip_view)


@drawing()
def clip_view(advantage: float, epsilon: float, epsilon_high: float, ratio: float) -> View:
    """The surrogate min(ρA, clip(ρ)A) of one token and its gradient against ρ (Schulman et al. 2017, eq. 7, fig. 1)."""
    (value,), (gradient,) = surrogate([ratio], advantage, epsilon, epsilon_high)
    ratios = np.linspace(0.01, LARGEST_RATIO, 400)
    curves = surrogate(ratios, advantage, epsilon, epsilon_high)
    start, end, why = _flat(advantage, epsilon, epsilon_high)
    figure, axes = make_panels(2, 7, 3.2)
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
        "not clipped, ρ·A": f"{ratio:g} · {advantage:g} = {decimal(ratio * advantage)}",
        "clipped, clip(ρ)·A": f"{clipped:g} · {advantage:g} = {decimal(clipped * advantage)}",
        "surrogate, the smaller": decimal(value),
        "gradient with respect to log π": f"{signed(gradient)}: {_push(gradient)}",
        "gradient 0 where": why,
    }
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"The clipped surrogate of one token against its ratio ρ, A = {advantage:g}, at ρ = {ratio:g}. {words}."
    return View(words, page(image_html(figure, words), fact_list(facts)))


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
