"""Explorers for the lessons on GRPO and PPO, built as those of `helper.widgets`: one public function each.

Left out on purpose: what is drawn and computed (views_rl.py), and anything that trains or needs a model.
"""

from ipywidgets import FloatSlider, IntSlider, Text

from helper.views_rl import LONGEST, clip_view, gae_view, kl_view, normalisers_view, read_response
from helper.widgets import Explorer, _look


def explore_clip(advantage: float = 1.0, epsilon: float = 0.2, epsilon_high: float = 0.2, ratio: float = 1.0) -> Explorer:
    """The surrogate min(ρA, clip(ρ, 1 - ε, 1 + ε_high)A) of one token, its gradient, and where that is zero.

    Schulman et al. 2017, arXiv 1707.06347, eq. 7; an ε_high of its own is DAPO's (Yu et al. 2025, arXiv 2503.14476).
    """
    border = {"min": 0.05, "max": 0.5, "step": 0.01}
    controls = {
        "advantage": FloatSlider(advantage, min=-2.0, max=2.0, step=0.1, **_look("advantage A")),
        "epsilon": FloatSlider(epsilon, **border, **_look("ε")),
        "epsilon_high": FloatSlider(epsilon_high, **border, **_look("ε_high")),
        "ratio": FloatSlider(ratio, min=0.02, max=2.0, step=0.02, **_look("ratio ρ")),
    }
    return Explorer(controls, clip_view)


def explore_kl_estimators(moved: float = 1.0) -> Explorer:
    """The KL estimates k1, k2, k3 from one token, for a policy that moves away from its reference.

    Value: k1 and k3 are unbiased, k2 is not (Schulman 2020, "Approximating KL Divergence"). Gradient, as a loss takes
    it (through the log-probability alone): k2's is that of KL(π_θ || π_ref), k1's is 0 in the mean, and k3's is that
    of the other direction, KL(π_ref || π_θ) (Tang & Munos 2025, arXiv 2506.09477). Everything is enumerated.
    """
    return Explorer({"moved": FloatSlider(moved, min=-3.0, max=3.0, step=0.1, **_look("policy moved by"))}, kl_view)


def explore_gae(
    rewards: list[float] = (0, 0, 0, 0, 0, 0, 0, 1),
    values: list[float] = (0.5, 0.5, 0.6, 0.6, 0.2, 0.2, 0.7, 0.8),
    gamma: float = 1.0,
    lam: float = 0.95,
) -> Explorer:
    """Edit the rewards and values of a response's tokens; see advantages and returns for γ and λ.

    Schulman et al. 2015, arXiv 1506.02438, eqs. 11, 16. ValueError for lists that do not make a response.
    """
    rewards, values = (", ".join(f"{number:g}" for number in numbers) for numbers in (rewards, values))
    read_response(rewards, values)
    controls = {
        "rewards": Text(rewards, **_look("reward per token")),
        "values": Text(values, **_look("value per token")),
        "gamma": FloatSlider(gamma, min=0.0, max=1.0, step=0.01, **_look("γ")),
        "lam": FloatSlider(lam, min=0.0, max=1.0, step=0.05, **_look("λ")),
    }
    return Explorer(controls, gae_view)


def explore_normalisers(right: int = 8, wrong: int = 32) -> Explorer:
    """What a token of a right and of a wrong answer counts for, by their lengths, under "grpo", "dapo" and "dr_grpo"."""
    tokens = {"min": 1, "max": LONGEST}
    controls = {
        "right": IntSlider(right, **tokens, **_look("right: tokens")),
        "wrong": IntSlider(wrong, **tokens, **_look("wrong: tokens")),
    }
    return Explorer(controls, normalisers_view)
