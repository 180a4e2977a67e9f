import errno
import itertools
import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from helper import evaluation
from helper.evaluation import accuracy_table, compare, evaluate
from helper.figures.answers import changed_words, show_side_by_side
from helper.generation import generate_responses
from helper.intervals import mean_interval, paired_difference, pass_at_k, wilson_interval
from helper.machine.memory import peak_memory_mb
from helper.scoreboards import save_scoreboard, scoreboard, scoreboard_table

COLUMNS = [
    "name", "n", "before", "after", "before_low", "before_high", "after_low", "after_high",
    "difference", "difference_low", "difference_high",
]  # fmt: skip


def pairs(both, only_before, only_after, neither):
    cells = [(1, 1)] * both + [(1, 0)] * only_before + [(0, 1)] * only_after + [(0, 0)] * neither
    return [bool(b) for b, _ in cells], [bool(a) for _, a in cells]


def test_wilson_interval():
    # Newcombe 1998, Statistics in Medicine 17:857-872, table I, method 3
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson_interval(0, 5)[0] == 0.0 and wilson_interval(5, 5)[1] == 1.0 and wilson_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        wilson_interval(6, 5)


def test_paired_difference_on_a_published_table():
    # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33:2850-2875: 1, 1, 7, 12 gives 0.026 to
    # 0.507
    before, after = pairs(1, 1, 7, 12)
    assert paired_difference(before, after) == pytest.approx((6 / 21, 0.026, 0.507), abs=5e-4)
    assert paired_difference(after, before) == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)


@pytest.mark.parametrize("cells", [(10, 0, 0, 0), (0, 0, 0, 10), (5, 0, 0, 5), (1, 0, 0, 99), (1, 0, 0, 0)])
def test_nothing_changed(cells):
    difference, low, high = paired_difference(*pairs(*cells))
    assert difference == 0 and -1 <= low < 0 < high <= 1


def test_all_changed():
    assert paired_difference(*pairs(0, 0, 40, 0))[0] == 1.0
    assert paired_difference(*pairs(0, 0, 40, 0))[1] > 0.8 and paired_difference(*pairs(0, 0, 40, 0))[2] == 1.0


def test_paired_interval_covers_the_truth_and_uses_the_pairing():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(600):
        cells = rng.choice(4, size=60, p=[0.4, 0.05, 0.25, 0.3])
        before, after = (cells <= 1).tolist(), ((cells == 0) | (cells == 2)).tolist()
        _, low, high = paired_difference(before, after)
        covered += low <= 0.20 <= high
    assert 0.92 <= covered / 600 <= 0.99
    linked, crossed = paired_difference(*pairs(50, 0, 10, 40)), paired_difference(*pairs(30, 20, 30, 20))
    assert linked[0] == crossed[0] and linked[2] - linked[1] < 0.7 * (crossed[2] - crossed[1])


def test_paired_lists_must_match():
    for before, after in (([True], []), ([], [])):
        with pytest.raises(ValueError, match="one length"):
            paired_difference(before, after)


@pytest.mark.parametrize(("n", "k"), [(4, 1), (4, 2), (5, 5), (6, 3)])
def test_pass_at_k_is_the_share_of_subsets(n, k):
    for correct in range(n + 1):
        right = [True] * correct + [False] * (n - correct)
        subsets = [any(subset) for subset in itertools.combinations(right, k)]
        assert pass_at_k(correct, n, k) == pytest.approx(sum(subsets) / len(subsets))
    with pytest.raises(ValueError):
        pass_at_k(1, 4, 5)


@pytest.fixture
def graders(monkeypatch):
    """A grader of one rule: the real ones have their own tests."""
    rule = lambda row, answer: row["wanted"] in answer or row["wanted"] == "anything"  # noqa: E731
    monkeypatch.setattr(evaluation, "grade", rule)


def test_evaluate_grades_every_row_in_order(model, tokenizer, graders):
    rows = [
        {
            "id": "a",
            "skill": "x",
            "question": "what is the capital of a place?",
            "wanted": "anything",
            "system": "one",
        },
        {"id": "b", "skill": "y", "question": "one", "wanted": "no such text"},
        {"id": "c", "skill": "x", "question": "two three", "wanted": "anything"},
    ]
    results = evaluate(model, tokenizer, rows, max_new_tokens=6)
    assert list(results.columns) == ["id", "skill", "question", "answer", "right"]
    assert results["id"].tolist() == ["a", "b", "c"] and results["right"].tolist() == [True, False, True]
    assert results["answer"][0] == generate_responses(model, tokenizer, rows[0]["question"], "one", 6)
    assert results["answer"][2] == generate_responses(model, tokenizer, "two three", None, 6)


def results(right, skills="x"):
    ids = range(len(right))
    return pd.DataFrame(
        {
            "id": ids,
            "skill": [skills[i % len(skills)] for i in ids],
            "question": "q",
            "answer": "a",
            "right": right,
        }
    )


def test_accuracy_table():
    table = accuracy_table(results([True, True, False, True], "xy"))
    assert list(table.index) == ["x", "y", "all"] and list(table.columns) == ["n", "right", "low", "high"]
    assert table["right"].tolist() == [0.5, 1.0, 0.75] and table["n"].tolist() == [2, 2, 4]
    assert (table.loc["all", "low"], table.loc["all", "high"]) == wilson_interval(3, 4)
    assert list(accuracy_table(results([True]), by=None).index) == ["all"]
    assert list(accuracy_table(results([True])).index) == ["x"]


def test_compare_pairs_on_id_whatever_the_order():
    before, after = results([True, False, False, False], "xy"), results([True, True, False, True], "xy")
    table = compare(before, after.sample(frac=1, random_state=1))
    assert list(table.columns) == COLUMNS
    assert table["before"].tolist() == [0.25] and table["difference"].tolist() == [0.5]
    expected = paired_difference(before["right"].tolist(), after["right"].tolist())
    assert table.loc[0, ["difference", "difference_low", "difference_high"]].tolist() == pytest.approx(expected)
    assert compare(before, after, by="skill")["name"].tolist() == ["x", "y", "all"]
    with pytest.raises(ValueError, match="same questions"):
        compare(before, after.iloc[:3])


def test_scoreboard_takes_right_or_wrong_and_numbers():
    table = scoreboard(
        {
            "right": ([True, False] * 10, [True] * 20),
            "pass@8": ([0.5, 0.75, 0.25, 0.5], [0.5, 1.0, 0.75, 0.75]),
        }
    )
    assert list(table.columns) == COLUMNS and table["n"].tolist() == [20, 4]
    right, mean = table.to_dict("records")
    assert (right["before_low"], right["before_high"]) == wilson_interval(10, 20)
    assert mean["difference"] == pytest.approx(0.25)
    half = 1.96 * np.std([0, 0.25, 0.5, 0.25], ddof=1) / 2
    assert mean["difference_low"] == pytest.approx(0.25 - half) and mean["difference_high"] == pytest.approx(0.25 + half)
    assert 0 <= mean["before_low"] < 0.5 < mean["before_high"] <= 1
    with pytest.raises(ValueError, match="one length"):
        scoreboard({"x": ([True], [True, False])})


def test_mean_interval():
    assert mean_interval([0.9, 1.0, 1.0])[1] == 1.0 and mean_interval([10.0, 20.0])[1] > 20
    with pytest.raises(ValueError, match="finite"):
        mean_interval([math.nan, 1.0])


def test_saved_whole_or_not_at_all(model, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    table = scoreboard({"facts": ([False, False], [True, True])})
    path = save_scoreboard("02_sft", 0, "cpu", 61.234, table, model, tokenizer)
    record = json.loads(path.read_text())
    assert path == tmp_path / "02_sft.json"
    assert set(record) == {"lesson", "seed", "device", "train_seconds", "peak_memory_mb", "metrics"}
    assert record["train_seconds"] == 61.2 and list(record["metrics"][0]) == COLUMNS
    assert record["metrics"][0]["after"] == 1.0 and record["peak_memory_mb"] > 50
    saved = tmp_path / "02_sft" / "model"
    assert (saved / "model.safetensors").exists() and (saved / "tokenizer_config.json").exists()
    table.loc[0, "after"] = math.nan  # cannot be written: the earlier file must stay as it was
    with pytest.raises(ValueError):
        save_scoreboard("02_sft", 1, "cpu", 1.0, table)
    assert json.loads(path.read_text()) == record
    save_scoreboard("02_sft", 2, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert sorted(p.name for p in (tmp_path / "02_sft").iterdir()) == ["model"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["02_sft", "02_sft.json"]


def test_peak_memory_is_in_megabytes():
    assert 50 < peak_memory_mb() < 50_000


def test_the_peak_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 7e6)
    assert peak_memory_mb("cuda:0") == 7.0 and peak_memory_mb("cpu") > 50


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
    monkeypatch.setattr(evaluation, "show", lambda html, text: bundles.append((html, text)))
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


def test_a_scoreboard_to_read_is_sorted_and_tells_intervals():
    metrics = {"facts": ([True] * 9 + [False], [True] * 9 + [False]), "word_problems": ([False] * 10, [True] * 10)}
    board = scoreboard({**metrics, "words": ([10.0, 20.0], [5.0, 25.0])})
    table = scoreboard_table(board)
    assert list(table.index) == ["word problems", "facts", "words"] and table["n"].tolist() == [10, 10, 2]
    assert table.loc["word problems", "before"] == "0.0% (0.0 to 27.8)"
    low, high = (100 * value for value in paired_difference(*metrics["word_problems"])[1:])
    assert table.loc["word problems", "change"] == f"+100.0 points ({low:+.1f} to {high:+.1f})"
    assert table.loc["words", "after"].startswith("15.0 (") and "points" not in table.loc["words", "change"]


def test_a_full_disk_is_named_and_leaves_the_earlier_result(tmp_path, monkeypatch, model, tokenizer):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path))
    path = save_scoreboard("02_sft", 0, "cpu", 1.0, scoreboard({"f": ([False], [True])}), model, tokenizer)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors says it

    monkeypatch.setattr(type(model), "save_pretrained", full)
    with pytest.raises(OSError, match="The disk is full .* Make room") as raised:
        save_scoreboard("02_sft", 1, "cpu", 1.0, scoreboard({"f": ([True], [True])}), model, tokenizer)
    assert raised.value.errno == errno.ENOSPC and path.read_bytes() == before
    assert (tmp_path / "02_sft" / "model" / "model.safetensors").exists()
