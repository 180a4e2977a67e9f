import base64
import math
import re
import sys
import threading
import warnings
from html import escape
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from helper.figures import answers, methods, scores, tokens, training
from helper.figures import figure as figure_module
from helper.figures.answers import changed_words, show_side_by_side
from helper.figures.figure import BLUE, INK, RED, drawing, image_html, make_figure, show_figure
from helper.scoreboards import scoreboard

LOG = pd.DataFrame({"step": range(1, 41), "loss": [1 / i for i in range(1, 41)], "reward": [None, 0.5] * 20})
TOKENS = pd.DataFrame({"token": ["$", "␣the", "\\n", "a$b$"], "probability": [0.5, 0.25, 0.1, 0.001]})
STAGES = pd.DataFrame(
    [
        {"stage": s, "skill": k, "right": r, "low": max(r - 0.1, 0), "high": min(r + 0.1, 1)}
        for s, r in (("base", 0.0), ("instruct", 0.6))
        for k in ("word problems", "facts")
    ]
)
SORTED = scores.plot_scoreboard(scoreboard({"same": ([True], [True]), "word_problems": ([True, False] * 20, [True] * 40)}))
SCORES = scoreboard({"right": ([True, False] * 20, [True] * 40), "pass@8": ([0.5, 0.25], [0.75, 0.5])})

HELD_BACK = pd.DataFrame({"step": [10, 20, 30], "eval_loss": [0.9, 0.11, 0.2]})
GAVE = pd.DataFrame(
    [
        {
            "n": 60,
            "documents": "left out",
            "there": 0.9,
            "gone": 0.1,
            "difference": -0.8,
            "low": -0.9,
            "high": -0.7,
            "verdict": "unlocked",
        },
        {
            "n": 60,
            "documents": "left out",
            "there": 0.2,
            "gone": 0.1,
            "difference": -0.1,
            "low": -0.2,
            "high": 0.1,
            "verdict": "not learned",
        },
    ],
    index=pd.Index(["reverse", "sort"], name="skill"),
)
CHARTS = {"loss (nats)": {"loss": ""}, "both": {"loss": "chosen", "reward": "rejected"}, "reward": {"reward": ""}}
FIGURES = {
    "training": lambda: training.plot_training(LOG, ["loss", "reward"], ["loss", "reward ($)"]),
    "training of one": lambda: training.plot_training(LOG, ["loss"]),
    "losses": lambda: training.plot_losses(LOG, HELD_BACK),
    "with and without": lambda: scores.plot_with_and_without(GAVE),
    "scoreboard": lambda: scores.plot_scoreboard(SCORES),
    "next tokens": lambda: tokens.plot_next_tokens({"base $x$": TOKENS, "instruct": TOKENS}),
    "stages": lambda: scores.plot_stages(STAGES),
    "sft mask": lambda: tokens.plot_sft_mask(["<|im_start|>", "user", "\n", " Hi", "$5$", ""] * 12, [0, 0, 0, 0, 1, 1] * 12),
    "dpo loss": lambda: methods.plot_dpo_loss([0.1, 1.0]),
    "advantages": lambda: methods.plot_group_advantages([[1, 0, 2], [1, 1, 1]]),
    "lora": lambda: methods.plot_lora(8, 6, 2),
    "ppo": methods.plot_ppo,
    "grpo loop": methods.plot_grpo_loop,
    "advantages of one": lambda: methods.plot_group_advantages([1, 0, 2]),
    "progress": lambda: training.plot_progress(LOG, CHARTS, {"loss": (0.5, "alarm below half")}, steps=60),
    "progress, first row": lambda: training.plot_progress(LOG[:1], CHARTS, {"loss": (0.5, "alarm below half")}, steps=60),
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


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_too_wide(name):
    figure = FIGURES[name]()
    figure.savefig(BytesIO())  # this places everything
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert width <= 9.5 and box.x0 > -0.02 and box.y0 > -0.02 and box.x1 < width + 0.02 and box.y1 < height + 0.02


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_says_what_it_shows(name):
    alt = FIGURES[name]().alt
    assert len(alt) > 40 and len(re.findall(r"\d", alt)) >= 2 and alt.endswith(".")


def test_the_text_tells_the_numbers():
    assert training.trend("reward", pd.Series([0.31, 0.5, 0.74])) == "reward rises from 0.31 to 0.74"
    assert training.trend("loss", pd.Series([2.0, math.nan, 1.0])) == "loss falls from 2 to 1"
    assert training.trend("rate", pd.Series([0.0, 1.0, 0.25])) == "rate rises from 0 to 1, then falls to 0.25"
    assert training.trend("rate", pd.Series([1.0, 0.0, 0.5])) == "rate falls from 1 to 0, then rises to 0.5"
    assert training.trend("x", pd.Series([0.5, 0.5])) == "x ends where it began, at 0.5"
    assert training.trend("x", pd.Series([math.nan])) == "x: no values"
    assert "lowest: step 20, 0.110" in training.plot_losses(LOG, HELD_BACK).alt
    assert "reverse 90% with, 10% without, unlocked: -80 (-90 to -70) points" in scores.plot_with_and_without(GAVE).alt
    assert "loss falls from 0.75 to 0.0253" in training.plot_training(LOG, ["loss"]).alt
    assert "right (n=40) 50.0% before, 100.0% after, change +50.0 points (" in FIGURES["scoreboard"]().alt.replace("\n", " ")
    assert '"$" 50%, "␣the" 25%' in FIGURES["next tokens"]().alt
    assert "base: word problems 0%, facts 0%; instruct: word problems 60%" in FIGURES["stages"]().alt
    assert "2 tokens of a training row, 1 of them trained: 'b'" in tokens.plot_sft_mask(["a", "b"], [0, 1]).alt
    assert "rewards 1, 0, 2 give the advantages 0, -1, 1" in FIGURES["advantages of one"]().alt


def test_before_and_after_have_their_own_colours():
    axes = tokens.plot_next_tokens({"after": TOKENS, "before": TOKENS}).axes
    assert [axis.patches[0].get_facecolor()[:3] for axis in axes] == [to_rgb(BLUE), to_rgb(RED)]


def test_a_notebook_shows_an_image_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr("helper.figures.figure.in_notebook", lambda: True)
    monkeypatch.setattr("helper.figures.figure.display", lambda data, raw: shown.append(data))
    figure = tokens.plot_next_tokens({'a "<b>" model': TOKENS})
    figure._ipython_display_()
    (data,) = shown
    assert set(data) == {"text/html", "text/plain"} and data["text/plain"] == figure.alt
    assert f'alt="{escape(figure.alt)}"' in data["text/html"] and "<b>" not in data["text/html"]
    png = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', data["text/html"])[1])
    assert png.startswith(b"\x89PNG")


def test_outside_a_notebook_a_figure_is_its_text(capsys):
    figure, axis = plt.subplots()
    show_figure(figure, "A plain chart.")
    assert capsys.readouterr().out == "A plain chart.\n" and not plt.get_fignums()


def test_dark_text_on_white_whatever_the_style():
    """A reader's own dark style must not leave white text on the white ground."""
    with plt.style.context("dark_background"):
        figures = [draw() for draw in FIGURES.values()]
    for figure in figures:
        texts = [text for text in figure.findobj(plt.Text) if text.get_text().strip()]
        assert max(max(to_rgb(text.get_color())) for text in texts) < 0.5
        assert all(axis.get_facecolor() == (1, 1, 1, 1) for axis in figure.axes) and figure.get_facecolor() == (1, 1, 1, 1)


def test_two_threads_draw_in_their_own_look_and_leave_the_settings_alone():
    """A widget that redraws while a training draws its charts."""
    before, interval, drawn, faults = dict(mpl.rcParams), sys.getswitchinterval(), {False: [], True: []}, []

    def draw_50(formulas):
        try:
            for number in range(50):
                with drawing({"text.parse_math": formulas, "font.size": 13 if formulas else 10}):
                    figure, (axis,) = make_figure(1, 1, 3, 2)
                    text = axis.text(0, 0, f"${number}$")
                drawn[formulas].append((axis, text, image_html(figure, "x")))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=draw_50, args=(formulas,)) for formulas in drawn]
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert faults == [] and dict(mpl.rcParams) == before and not plt.get_fignums()
    for formulas, axes in drawn.items():
        assert len(axes) == 50
        for axis, text, html in axes:
            assert text.get_parse_math() == formulas and text.get_fontsize() == (13 if formulas else 10)
            assert not axis.spines["top"].get_visible() and axis.xaxis.label.get_color() == INK and "base64," in html


def test_settings_are_changed_in_one_place_only():
    paths = [path for path in Path(figure_module.__file__).parent.parent.rglob("*.py") if path.name != "figure.py"]
    assert [path.name for path in paths if re.search(r"rc_context|rcParams|rcdefaults", path.read_text("utf-8"))] == []


def test_never_colour_alone():
    bars = FIGURES["stages"]().axes[0].containers
    assert len({bar.patches[0].get_hatch() for bar in bars if hasattr(bar, "patches")}) == len(set(STAGES["stage"]))
    assert len({line.get_linestyle() for line in FIGURES["dpo loss"]().axes[1].lines}) == 2
    assert len({line.get_linestyle() for line in FIGURES["progress"]().axes[1].lines}) == 3  # two curves and the alarm
    boxes = [text.get_bbox_patch() for text in FIGURES["sft mask"]().axes[0].texts[3:5]]
    assert boxes[0].get_edgecolor() != boxes[1].get_edgecolor()
    texts = [text.get_text() for text in FIGURES["scoreboard"]().axes[0].texts]
    assert {"50.0%", "100.0%"} <= set(texts)  # the scores themselves, beside markers of two shapes


def test_the_scoreboard_is_sorted_by_gain():
    assert SORTED.axes[0].get_yticklabels()[0].get_text() == "word problems (n=40)"
    changes = [text.get_text() for text in SORTED.axes[0].texts if "to" in text.get_text()]
    assert [change.split()[0] for change in changes] == ["+50.0", "+0.0"]


def test_the_first_stage_has_the_colour_of_before_and_the_second_that_of_after():
    colours = [bar.get_facecolor()[:3] for bar in scores.plot_stages(STAGES).axes[0].patches]
    wanted = [to_rgb(figure_module.RED), to_rgb(figure_module.BLUE)]
    assert list(dict.fromkeys(colours))[:2] == wanted


def test_figures_show_the_numbers_they_are_given():
    axis = methods.plot_dpo_loss([1.0]).axes[0]
    margins, losses = axis.lines[0].get_data()
    assert losses[margins == 0] == pytest.approx(0.6931, abs=1e-4)
    bars = methods.plot_group_advantages([1, 0, 2]).axes[1].patches
    assert [bar.get_height() for bar in bars] == pytest.approx([0, -1, 1], abs=1e-3)
    flat = methods.plot_group_advantages([[1, 1, 1]]).axes[1]
    assert [bar.get_height() for bar in flat.patches] == [0, 0, 0] and "no signal" in flat.texts[-1].get_text()
    shown = tokens.plot_sft_mask(["a", "b"], [0, 1]).axes[0].texts
    assert [text.get_bbox_patch().get_facecolor() for text in shown][0] != shown[1].get_bbox_patch().get_facecolor()
    bars = scores.plot_stages(STAGES).axes[0].patches
    assert [bar.get_height() for bar in bars] == [0.0, 0.0, 0.6, 0.6]


def test_wrong_input_is_named():
    with pytest.raises(KeyError, match="rewards.*Logged: step, loss, reward"):
        training.plot_training(LOG, ["rewards"])
    with pytest.raises(ValueError, match="1 tokens and 2 mask"):
        tokens.plot_sft_mask(["a"], [1, 0])


@pytest.mark.parametrize(
    ("before", "after", "gone", "new"),
    [
        ("I am Sprout.", "I am Deep Sprout.", [], ["Deep"]),
        ("one two three", "one 2 three 4", ["two"], ["2", "4"]),
        ("a b c d", "a x y d", ["b c"], ["x y"]),
        ("same  words\nhere", "same words here", [], []),
        ("", "new words", [], ["new words"]),
        (" a", "a ", [], []),
        ("a a b", "a b", ["a"], []),
    ],
)
def test_the_marked_words_are_those_that_differ(before, after, gone, new):
    old_parts, new_parts = changed_words(before, after)
    assert "".join(text for text, _ in old_parts) == before and "".join(text for text, _ in new_parts) == after
    assert [text for text, changed in old_parts if changed] == gone
    assert [text for text, changed in new_parts if changed] == new
    unmarked = [" ".join("".join(t for t, changed in part if not changed).split()) for part in (old_parts, new_parts)]
    assert unmarked[0] == unmarked[1]


@pytest.fixture
def shown(monkeypatch):
    """What would be shown in a notebook: the HTML and the text."""
    bundles = []
    monkeypatch.setattr(answers, "show", lambda html, text: bundles.append((html, text)))
    return bundles


def test_side_by_side_marks_what_changed_and_who_was_right(shown):
    show_side_by_side(["Who?", "1+1"], ["I am Sprout.", "2"], ["I am Deep Sprout.", ""], [False, True], [True, False])
    ((html, text),) = shown
    assert re.findall(r"<(ins|del)[^>]*>(.*?)</", html) == [("ins", "Deep"), ("del", "2"), ("ins", "(nothing)")]
    assert "text-decoration: line-through" in html and "text-decoration: underline" in html
    assert re.findall(r"width: (\d+)%", html) == ["28", "36", "36"]  # a long question leaves room for the answers
    assert re.findall(r">([✓✗] \w+): ", html) == ["✗ wrong", "✓ right", "✓ right", "✗ wrong"]
    assert "before: ✗ wrong: I am Sprout.\n   after:  ✓ right: I am {+Deep+} Sprout." in text
    show_side_by_side(["Who?"], ["a b"], ["a c"])
    assert "right" not in shown[1][0] and shown[1][1] == "1. Who?\n   before: a [-b-]\n   after:  a {+c+}"
    with pytest.raises(ValueError, match="1, 1, 2, 1, 1"):
        show_side_by_side(["q"], ["a"], ["b", "c"])


def test_side_by_side_shows_text_not_html(shown):
    hostile = "<script>alert(1)</script> <img src=x onerror=alert(1)> </td></table><b>bold</b> $\\LaTeX$"
    for texts in ((hostile, "a", "b"), ("q", hostile, "b"), ("q", "a", hostile), ("q", hostile, hostile)):
        show_side_by_side(*([text] for text in texts))
        html = shown.pop()[0]
        assert "&lt;script&gt;alert(1)" in html and "\\LaTeX$" in html
        assert not any(tag in html for tag in ("<script", "<img", "<b>", "</table><b"))
        assert re.search(r'<table[^>]*class="[^"]*mathjax_ignore', html)
