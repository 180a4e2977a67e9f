"""Explorer: DPO's loss, gradient weight and implicit rewards for one pair."""

import math

import numpy as np
from ipywidgets import FloatSlider, SelectionSlider

from helper.explorers.explorer import Explorer, look
from helper.figures.figure import BLUE, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page

BETAS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


def explore_dpo_loss(chosen: float = 0.0, rejected: float = 0.0, beta: float = 0.2) -> Explorer:
    """DPO's loss, gradient weight and implicit rewards for both log-ratios log π/π_ref (nats) and β (one of BETAS)."""
    ratio = {"min": -15.0, "max": 15.0, "step": 0.5}
    controls = {
        "chosen": FloatSlider(chosen, **ratio, **look("chosen log-ratio")),
        "rejected": FloatSlider(rejected, **ratio, **look("rejected log-ratio")),
        "beta": SelectionSlider(options=[(f"{b:g}", b) for b in BETAS], value=beta, **look("β")),
    }
    return Explorer(controls, dpo_view)


@drawing()
def dpo_view(chosen: float, rejected: float, beta: float) -> View:
    """Loss, gradient weight and implicit rewards of one pair, from both log-ratios in nats (Rafailov et al., eq. 7)."""
    margin = chosen - rejected
    loss, weight = float(np.logaddexp(0, -beta * margin)), 1 / (1 + math.exp(beta * margin))
    axis_of_m = np.linspace(-32, 32, 257)
    figure, (left, right) = make_panels(2, 7, 2.9)
    left.plot(axis_of_m, np.logaddexp(0, -beta * axis_of_m), color=BLUE, linewidth=2)
    left.axhline(math.log(2), color="black", linestyle=":", linewidth=1, label="ln 2: the start")
    top = max(4, 1.15 * loss)
    left.set(title=f"loss, β = {beta:g}", xlabel="margin m (nats)", ylim=(-0.04 * top, top))
    right.plot(axis_of_m, 1 / (1 + np.exp(beta * axis_of_m)), color=BLUE, linewidth=2)
    right.set(title="gradient weight σ(-β·m)", xlabel="margin m (nats)", ylim=(-0.04, 1.05))
    for axis, value in ((left, loss), (right, weight)):
        axis.plot(margin, value, "D", color=RED, markersize=9, label="this pair")
        axis.legend(frameon=False, loc="upper right")
    facts = {
        "margin m": f"{chosen:g} - ({rejected:g}) = {margin:g} nats",
        "loss -log σ(β·m)": f"{loss:.4f} (at the start: ln 2 = {math.log(2):.4f})",
        "gradient weight σ(-β·m)": f"{weight:.4f}",
        "push on each answer, β·σ(-β·m)": f"{beta * weight:.4f}",
        "implicit rewards": f"chosen {beta * chosen:+.3f}, rejected {beta * rejected:+.3f}",
    }
    words = "; ".join(f"{name} {text}" for name, text in facts.items())
    words = f"The DPO loss and its gradient weight against the margin, β = {beta:g}, with one pair marked: {words}."
    return View(words, page(image_html(figure, words), fact_list(facts)))
