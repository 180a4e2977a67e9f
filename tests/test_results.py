"""The READMEs' table of results: from scoreboards, between its marks."""

import json
from itertools import combinations

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from factory import record, results
from factory.lessons import find_lessons

LESSONS = [path.stem for path in find_lessons()]


def board(seed, after, lesson="02_sft"):
    metric = {"name": "held_out_concepts", "n": 295, "before": 0.0, "after": after, "difference": after}
    return {
        "lesson": lesson, "seed": seed, "train_seconds": 80 + seed, "lesson_seconds": 240, "peak_memory_mb": 900 + seed,
        "machine": "2 cores of a processor", "date": "2026-01-02", "metrics": [metric],
    }  # fmt: skip


def test_table_holds_medians_and_spread():
    text = results.table([board(0, 0.8), board(1, 0.9), board(2, 0.7)])
    assert "| 02_sft | held out concepts | 295 | 0, 1, 2 | 0.0% | 80.0% | +70.0 to +90.0 points |" in text
    assert "| 02_sft | 0, 1, 2 | 81 s | 4.0 minutes | 902 MB | 2 cores of a processor |" in text
    assert "; 2026-01-02." in text
    assert "| 4 | 0.0% | 80.0% | +80.0 points |" in results.table([board(4, 0.8)])


def test_a_lesson_without_training_has_its_time_only():
    text = results.table([board(0, 0.8), {**board(0, 0.8, "01_intro"), "train_seconds": 0.0}])
    assert text.count("| 01_intro |") == 1 and "| 01_intro | 0 | none | 4.0 minutes |" in text


def test_a_loss_is_no_row_of_shares():
    loss = {"name": "loss", "n": 40, "before": 5.2, "after": 1.9, "difference": -3.3}
    text = results.table([{**board(0, 0.8), "metrics": [*board(0, 0.8)["metrics"], loss]}])
    assert "held out concepts" in text and "loss" not in text


def executed(change, n=295):
    """A notebook whose scoreboard shows such a change of one metric."""
    cells = f"<th>held out concepts</th><td>{n}</td><td>{change} (+1.0 to +2.0)</td>"
    html = f"<table><tr><th>metric</th></tr><tr>{cells}</tr></table>"
    output = new_output("display_data", data={"text/html": html})
    return new_notebook(cells=[new_code_cell("save_scoreboard('02_sft', board)", outputs=[output])])


def test_the_range_of_a_gain_holds_the_committed_run(tmp_path):
    path, boards = tmp_path / "02_sft.ipynb", [board(0, 0.8), board(1, 0.9)]
    for change, n, gain in (
        ("+12.5 points", 295, "+12.5 to +90.0"), ("-3.0 points", 295, "-3.0 to +90.0"),
        ("+85.0 points", 295, "+80.0 to +90.0"), ("+1.25", 295, "+80.0 to +90.0"),
        ("+12.5 points", 100, "+80.0 to +90.0"),
    ):  # fmt: skip
        nbformat.write(executed(change, n), path)
        text = results.table(boards, {"02_sft": results.committed_gains(path)})
        assert f"| 85.0% | {gain} points |" in text
    boards[1]["metrics"][0]["n"], other = 290, executed("+12.5 points", 100)  # a number that each run has for itself
    nbformat.write(other, path)
    assert "+12.5 to +90.0 points" in results.table(boards, {"02_sft": results.committed_gains(path)})
    nbformat.write(new_notebook(cells=[new_code_cell("save_scoreboard('02_sft', board)")]), path)
    assert results.committed_gains(path) == {}


def test_the_readme_has_the_committed_runs():
    """Whoever executes the lessons anew writes the README anew, with `python -m factory.results`."""
    committed = {path.stem: results.committed_gains(path) for path in find_lessons()}
    text = results.table(json.loads(results.RECORD.read_text()), committed)
    for readme in results.READMES:
        assert f"{results.MARKS[0]}\n{text}\n" in (results.ROOT / readme).read_text("utf-8")
    assert sum(map(len, committed.values())) >= 20


@pytest.mark.parametrize("before", [0.1, 0.8])
def test_the_picture_is_drawn_from_the_record(tmp_path, monkeypatch, before):
    """No number lies over another, equal ones neither."""
    metric = {"n": 9, "before": before, "after": 0.8, "difference": 0.8 - before}
    drawn = []
    monkeypatch.setattr(results.plt, "close", drawn.append)
    modules = record.lesson_modules()
    boards = [
        {**board(seed, 1, lesson), "metrics": [{**metric, "name": name} for name in getattr(module, "SHOWN", {})]}
        for seed in (0, 1) for lesson in LESSONS for module in [modules.get(lesson[:2])]
    ]  # fmt: skip
    results.picture(boards, tmp_path / "results.png")
    assert (tmp_path / "results.png").stat().st_size > 5_000
    monkeypatch.undo()
    places = [text.get_window_extent() for text in drawn[0].axes[0].texts]
    results.plt.close(drawn[0])
    assert len(places) >= 20 and not [pair for pair in combinations(places, 2) if pair[0].overlaps(pair[1])]


def test_the_picture_shows_what_the_lessons_files_say():
    boards = json.loads(results.RECORD.read_text())
    rows, modules = results.shown(boards), record.lesson_modules()
    assert rows["03_dpo", "identity"] == "03 DPO: gives its new name" and len(rows) >= 10
    said = {(number, name) for number, module in modules.items() for name in getattr(module, "SHOWN", {})}
    assert said == {(lesson[:2], name) for lesson, name in rows}  # each metric is one that the lesson's scoreboard has
    assert list(results.shown([board(0, 1)])) == [("02_sft", "held_out_concepts")]


def test_real_sizes_are_told_with_what_was_measured():
    rows = [
        {
            "model": "a-1B",
            "method": "dpo",
            "called": "DPO",
            "predicted_mb": 8400,
            "measured_mb": 8760,
            "step_seconds": 62.8,
            "threads": 2,
        }
    ]
    assert "| a-1B | DPO | 8.4 GB | 8.8 GB | 63 |" in results.real_sizes({"rows": rows}, {})
    side = {"seconds": 100.0}
    sft = {"rows": 9, "shape": "a-1B", "theirs": side, "ours": {"seconds": 42.0}, "time_share": 0.42}
    made = {"questions": 8, "new_tokens": 50, "times_faster": 6.04, "model": "a-1B", "threads": 2}
    text = results.real_sizes({"rows": rows}, {"sft": {**sft, "largest_loss_difference": 0.0123}, "generation": made})
    assert "took 100 s" in text and "42 s (0.42 of it)" in text and "within 1.2%." in text and "6.0 times as fast" in text


def test_table_goes_between_the_marks():
    first, last = results.MARKS
    text = f"A\n{first}\nold\n{last}\nB\n"
    assert results.put_into(text, "new") == f"A\n{first}\nnew\n{last}\nB\n"
    assert results.put_into(results.put_into(text, "x"), "new") == results.put_into(text, "new")
    with pytest.raises(ValueError, match="each of these lines once"):
        results.put_into("no marks", "new")


def test_seed_is_set_in_the_settings_cell():
    settings = new_code_cell("USE_GPU = False\nSEED = 0\n", metadata={"tags": ["parameters"]})
    other = new_code_cell("SEED = 0")
    done = results.with_seed(new_notebook(cells=[other, settings]), 7)
    assert [cell.source for cell in done.cells] == ["SEED = 0", "USE_GPU = False\nSEED = 7\n"]
    with pytest.raises(ValueError, match="no settings cell"):
        results.with_seed(new_notebook(cells=[other]), 7)


def test_runs_that_are_recorded_are_not_done_again(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(results, "run_lesson", lambda lesson, seed: asked.append((lesson, seed)) or board(seed, 1, lesson))
    path = tmp_path / "recorded" / "lessons.json"
    results.record([0], path)
    results.record([0, 1], path)
    assert asked == [(lesson, seed) for seed in (0, 1) for lesson in LESSONS]
    assert len(json.loads(path.read_text())) == 2 * len(LESSONS)


@pytest.mark.parametrize("readme", results.READMES)
def test_the_readmes_have_the_marks(readme):
    text = (results.ROOT / readme).read_text("utf-8")
    for marks in (results.MARKS, results.REAL_MARKS, results.SIZE_MARKS):
        assert results.put_into(text, "x", marks)
