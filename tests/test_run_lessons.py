import json

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook, new_output

from factory import run_lessons


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A function that writes a notebook of these cells and returns its path."""
    monkeypatch.setattr(run_lessons, "NOTEBOOKS", tmp_path)

    def make(*sources, **metadata):
        path = tmp_path / "99_test.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(s) for s in sources], metadata=metadata), path)
        return path

    return make


def test_a_lesson_is_run_cleaned_and_then_passes_the_check(lesson):
    path = lesson("x = 6 * 7", "for i in range(3): print(i, flush=True)\nx", execution={"timeout": 600}, widgets={})
    assert run_lessons.check(path) == ["not executed from top to bottom", "not as `make lessons` writes it"]
    run_lessons.run(path)
    assert run_lessons.check(path) == []
    notebook = nbformat.read(path, as_version=4)
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "execute_result"]
    assert notebook.cells[1].outputs[0].text == "0\n1\n2\n" and notebook.cells[1].outputs[1].data["text/plain"] == "42"
    assert "widgets" not in notebook.metadata and notebook.metadata["execution"] == {"timeout": 600}
    assert "version" not in notebook.metadata["language_info"] and not list(path.parent.glob("*.unfinished"))
    path.write_text(path.read_text().replace('"execution_count": 2', '"execution_count": 5'))
    assert run_lessons.check(path)[0] == "not executed from top to bottom"


def test_a_failing_lesson_is_left_as_it_was(lesson):
    path = lesson("1 / 0")
    before = path.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run_lessons.run(path)
    assert path.read_bytes() == before


def test_widgets_go_and_their_static_side_stays():
    view = {run_lessons.WIDGETS: {"model_id": "1"}, "text/plain": "HBox()"}
    both = {**view, "text/html": "<b>table</b>"}
    cell = new_code_cell("x", outputs=[new_output("display_data", data=data) for data in (view, both)])
    cleaned = run_lessons.clean(new_notebook(cells=[cell])).cells[0].outputs
    assert [set(output.data) for output in cleaned] == [{"text/plain", "text/html"}]


def test_scoreboards_are_printed(tmp_path, capsys):
    row = {"name": "facts", "n": 40, "before": 0.1, "after": 0.6, "difference": 0.5}
    row |= {"difference_low": 0.3, "difference_high": 0.7}
    record = {"lesson": "02_sft", "train_seconds": 61.2, "peak_memory_mb": 900, "metrics": [row]}
    (tmp_path / "02_sft.json").write_text(json.dumps(record))
    run_lessons.print_scoreboards(tmp_path)
    printed = capsys.readouterr().out
    assert "02_sft" in printed and "0.100 -> 0.600" in printed and "[+0.300, +0.700]" in printed
