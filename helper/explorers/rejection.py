"""Explorer: rejection sampling, what is kept and what it costs, by the bound M.

Left out on purpose: language models. An answer's density is a product over its tokens, and no useful M is known.
"""

import numpy as np
from ipywidgets import FloatSlider

from helper.explorers.explorer import Explorer, choice, decimal, look
from helper.figures.figure import BLUE, GREY, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page

PROPOSAL = np.full(6, 1 / 6)
TARGETS = {
    "a loaded die": (0.05, 0.10, 0.10, 0.15, 0.20, 0.40),
    "nearly fair": (0.15, 0.15, 0.15, 0.17, 0.18, 0.20),
    "hardly ever but six": (0.01, 0.01, 0.01, 0.01, 0.01, 0.95),
}
DRAWS = 6000


def explore_rejection(bound: float = 2.4) -> Explorer:
    """A die with a wanted distribution p, drawn with a fair die q: move M."""
    controls = {
        "target": choice("wanted", {name: name for name in TARGETS}),
        "bound": FloatSlider(bound, min=1.0, max=8.0, step=0.1, **look("M")),
    }
    return Explorer(controls, rejection_view)


def kept_of(target: np.ndarray, proposal: np.ndarray, bound: float, seed: int = 0) -> np.ndarray:
    """How often each value was kept among DRAWS draws, counts (N,): each with the probability min(1, p / (M q))."""
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(target), size=DRAWS, p=proposal)
    kept = drawn[rng.random(DRAWS) < target[drawn] / (bound * proposal[drawn])]
    return np.bincount(kept, minlength=len(target))


@drawing()
def rejection_view(target: str, bound: float) -> View:
    """Left p(x) under M q(x); right what is kept of some thousand draws, beside p."""
    p, faces = np.array(TARGETS[target]), np.arange(1, 7)
    least, counts = (p / PROPOSAL).max(), kept_of(np.array(TARGETS[target]), PROPOSAL, bound)
    shares, fits = counts / max(counts.sum(), 1), bound >= least - 1e-9
    figure, axes = make_panels(2, 7.5, 3.1)
    axes[0].bar(faces, p, color=BLUE, label="wanted, p(x)")
    axes[0].step(np.arange(0.5, 7), [*(bound * PROPOSAL), bound / 6], where="post", color=GREY, label="M q(x)", linewidth=2)
    axes[0].set(title="the bound", xlabel="face", ylim=(0, max(p.max(), bound / 6) * 1.35))
    axes[1].bar(faces - 0.2, p, 0.4, color=BLUE, label="wanted")
    axes[1].bar(faces + 0.2, shares, 0.4, color=RED, hatch="///", edgecolor="white", label="kept")
    axes[1].set(title="what is kept", xlabel="face", ylim=(0, max(p.max(), shares.max()) * 1.35))
    for axis in axes:
        axis.legend(frameon=False, loc="upper left", ncols=2)
    exact = np.minimum(p, bound * PROPOSAL)
    off = 0.5 * np.abs(exact / exact.sum() - p).sum()
    facts = {
        "smallest M": decimal(least, 2),
        "kept of the draws": f"{counts.sum() / DRAWS:.1%}; the formula 1/M says {1 / bound:.1%}",
        "draws for one kept": decimal(DRAWS / max(counts.sum(), 1), 2),
        "is it p?": "yes, up to chance" if fits else f"no: {off:.1%} of the probability is in the wrong place, for ever",
    }
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"Rejection sampling of {target} with a fair die at M = {bound:g}. {words}."
    return View(words, page(image_html(figure, words), fact_list(facts)))
