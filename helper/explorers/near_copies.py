"""Explorer: the threshold of a near-duplicate filter, with what it drops and what it spares.

Left out on purpose: MinHash. A few hundred rows can be compared exactly; `helper.overlap` does it.
"""

import numpy as np
from ipywidgets import FloatSlider

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import BLUE, GREY, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page, text_table
from helper.overlap import earlier_likeness, near_copies

WIDTHS = {"1 word": 1, "3 words": 3, "5 words": 5}


def explore_near_copies(texts: list[str], planted: list[bool], threshold: float = 0.8) -> Explorer:
    """Move the threshold over `texts`; `planted`: which of them are known to be copies of earlier ones.

    Raises ValueError for lists of two lengths, or fewer than two texts.
    """
    if len(texts) != len(planted) or len(texts) < 2:
        raise ValueError(f"{len(texts)} texts and {len(planted)} marks: give one for each, and two texts or more.")
    tables = {words: earlier_likeness(texts, words) for words in WIDTHS.values()}
    controls = {
        "words": choice("shingle", WIDTHS),
        "threshold": FloatSlider(threshold, min=0.1, max=1.0, step=0.05, **look("threshold")),
    }
    controls["words"].value = 3
    return Explorer(
        controls, lambda words, threshold: near_copies_view(texts, np.array(planted), tables[words], words, threshold)
    )


@drawing()
def near_copies_view(texts: list[str], planted: np.ndarray, likeness: np.ndarray, words: int, threshold: float) -> View:
    """The nearest earlier text of each text, copies and others apart; what is dropped; the two at the border."""
    best, near = likeness.max(1), near_copies(likeness, threshold)
    dropped = np.array([place >= 0 for place in near])
    figure, (axis,) = make_panels(1, 7, 2.8)
    bins = np.linspace(0, 1, 21)
    axis.hist([best[~planted], best[planted]], bins, stacked=True, color=[BLUE, RED], label=["other rows", "planted copies"])
    axis.axvline(threshold, color=GREY, linestyle="--", linewidth=2, label="threshold")
    axis.set(xlabel="likeness to the most similar earlier row", ylabel="rows", xlim=(0, 1.01))
    axis.legend(frameon=False)
    facts = {
        "dropped": f"{dropped.sum()} of {len(texts)} rows",
        "planted copies among them": f"{(dropped & planted).sum()} of {planted.sum()}",
        "other rows lost": f"{(dropped & ~planted).sum()} of {(~planted).sum()}",
    }
    said = "; ".join(f"{name}: {text}" for name, text in facts.items())
    said = f"Near copies at a threshold of {threshold:g}, shingles of {words} words. {said}."
    border = _border(texts, likeness, near, threshold)
    return View(said, page(image_html(figure, said), fact_list(facts), text_table(["at the border", "row", "like"], border)))


def _border(texts: list[str], likeness: np.ndarray, near: list[int], threshold: float) -> list[list[str]]:
    """The least alike pair that is dropped, and the most alike row that is kept."""
    rows = []
    gone = [(likeness[i, j], i, j) for i, j in enumerate(near) if j >= 0]
    kept = [(likeness[i].max(), i, int(likeness[i].argmax())) for i, j in enumerate(near) if j < 0 and i]
    for name, pair in (("just dropped", min(gone, default=None)), ("just kept", max(kept, default=None))):
        if pair:
            rows.append([f"{name}, {pair[0]:.2f}", *(texts[place][:160] for place in pair[1:])])
    return rows
