import warnings
from io import BytesIO

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helper import plots
from helper.evaluation import scoreboard

LOG = pd.DataFrame({"step": range(1, 41), "loss": [1 / i for i in range(1, 41)], "reward": [None, 0.5] * 20})
TOKENS = pd.DataFrame({"token": ["$", "␣the", "\\n", "a$b$"], "probability": [0.5, 0.25, 0.1, 0.001]})
STAGES = pd.DataFrame(
    [
        {"stage": s, "skill": k, "right": r, "low": max(r - 0.1, 0), "high": min(r + 0.1, 1)}
        for s, r in (("base", 0.0), ("instruct", 0.6))
        for k in ("word problems", "facts")
    ]
)
SCORES = scoreboard({"right": ([True, False] * 20, [True] * 40), "pass@8": ([0.5, 0.25], [0.75, 0.5])})

FIGURES = {
    "training": lambda: plots.plot_training(LOG, ["loss", "reward"], ["loss", "reward ($)"]),
    "training of one": lambda: plots.plot_training(LOG, ["loss"]),
    "scoreboard": lambda: plots.plot_scoreboard(SCORES),
    "next tokens": lambda: plots.plot_next_tokens({"base $x$": TOKENS, "instruct": TOKENS}),
    "stages": lambda: plots.plot_stages(STAGES),
    "sft mask": lambda: plots.plot_sft_mask(["<|im_start|>", "user", "\n", " Hi", "$5$", ""] * 12, [0, 0, 0, 0, 1, 1] * 12),
    "dpo loss": lambda: plots.plot_dpo_loss([0.1, 1.0]),
    "advantages": lambda: plots.plot_group_advantages([[1, 0, 2], [1, 1, 1]]),
    "lora": lambda: plots.plot_lora(8, 6, 2),
    "advantages of one": lambda: plots.plot_group_advantages([1, 0, 2]),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_cleanly_and_is_closed(name):
    figure = FIGURES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(BytesIO(), format="png")
    assert isinstance(figure, Figure) and figure.get_facecolor() == (1, 1, 1, 1) and not plt.get_fignums()
    sizes = [t.get_fontsize() for t in figure.findobj(plt.Text) if t.get_text().strip() and t.get_visible()]
    assert sizes and min(sizes) >= 9


def test_figures_show_the_numbers_they_are_given():
    axis = plots.plot_dpo_loss([1.0]).axes[0]
    margins, losses = axis.lines[0].get_data()
    assert losses[margins == 0] == pytest.approx(0.6931, abs=1e-4)
    bars = plots.plot_group_advantages([1, 0, 2]).axes[1].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0, -1, 1], abs=1e-3)
    flat = plots.plot_group_advantages([[1, 1, 1]]).axes[1]
    assert [bar.get_height() for bar in flat.patches] == [0, 0, 0] and "no signal" in flat.texts[0].get_text()
    shown = plots.plot_sft_mask(["a", "b"], [0, 1]).axes[0].texts
    assert [text.get_bbox_patch().get_facecolor() for text in shown][0] != shown[1].get_bbox_patch().get_facecolor()
    bars = plots.plot_stages(STAGES).axes[0].patches
    assert [bar.get_height() for bar in bars] == [0.0, 0.0, 0.6, 0.6]


def test_wrong_input_is_named():
    with pytest.raises(KeyError, match="rewards.*Logged: step, loss, reward"):
        plots.plot_training(LOG, ["rewards"])
    with pytest.raises(ValueError, match="1 tokens and 2 mask"):
        plots.plot_sft_mask(["a"], [1, 0])
