"""Explorer: best of K with a perfect check, and what a right answer costs by K, by the expected answer's price, and when
one stops.

Left out on purpose: judges that are wrong at times; answers that differ in length (each costs the mean).
"""

import numpy as np
from ipywidgets import IntSlider, SelectionSlider

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import BLUE, GREY, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page
from helper.intervals import pass_at_k

WAYS = {"sample all K": "all", "stop at the first right one": "stop"}
PRICES = (0, 50, 100, 200, 500, 1000, 2000, 5000)


def explore_best_of(right: list[list[bool]], tokens: float, greedy: tuple[float, float], k: int = 4) -> Explorer:
    """Move K, and what an expected answer costs. `right`: for each question which of its sampled answers are right.

    `tokens`: the mean of an answer. `greedy`: the share right and the mean tokens of one greedy answer.
    Raises ValueError for no question, or questions with unlike numbers of answers.
    """
    sizes = {len(answers) for answers in right}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError("Give as many answers for each question, and one or more.")
    (most,) = sizes
    solved = np.array([[pass_at_k(sum(answers), most, n) for n in range(1, most + 1)] for answers in right]).mean(0)
    controls = {
        "k": IntSlider(min(k, most), min=1, max=most, **look("K")),
        "price": SelectionSlider(options=[(f"{price:,}", price) for price in PRICES], **look("expected answer")),
        "way": choice("way", WAYS),
    }
    return Explorer(controls, lambda k, price, way: best_of_view(solved, tokens, greedy, k, price, way))


@drawing()
def best_of_view(solved: np.ndarray, tokens: float, greedy: tuple[float, float], k: int, price: int, way: str) -> View:
    """The tokens that one right answer costs, for each K; `solved`: pass@1, pass@2, …"""
    ks = np.arange(1, len(solved) + 1)
    drawn = ks if way == "all" else np.cumsum(1 - np.array([0, *solved[:-1]]))  # the next one where none was right so far
    with np.errstate(divide="ignore"):
        costs = (price + tokens * drawn) / solved
        plain = np.float64(price + greedy[1]) / greedy[0]
    figure, (axis,) = make_panels(1, 6.5, 3)
    axis.plot(ks, costs, "o-", color=BLUE, markersize=4, label="best of K")
    axis.plot([k], [costs[k - 1]], "o", color=BLUE, markersize=10)
    axis.axhline(plain, color=GREY, linestyle="--", linewidth=2, label="one greedy answer, checked")
    axis.set(xlabel="K", ylabel="tokens for one right answer", ylim=(0, None), xlim=(0.5, len(ks) + 0.5))
    axis.legend(frameon=False)
    facts = {
        "questions with a right answer": f"{solved[k - 1]:.1%}; greedy {greedy[0]:.1%}",
        "answers sampled per question": f"{drawn[k - 1]:.2f}",
        "tokens for one right answer": f"{costs[k - 1]:,.0f}; greedy {plain:,.0f}",
        "cheapest K at this price": f"{ks[costs.argmin()]}, with {costs.min():,.0f} tokens",
    }
    said = "; ".join(f"{name}: {text}" for name, text in facts.items())
    how = next(words for words, value in WAYS.items() if value == way)
    said = f"Best of {k} with a perfect check, an expected answer worth {price:,} tokens, {how}. {said}."
    return View(said, page(image_html(figure, said), fact_list(facts)))
