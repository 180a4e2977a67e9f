"""The capstone: its rows, its notebook's form, and the whole of it executed on Sprout."""

import csv
import json
import re
from pathlib import Path

import nbformat
import pytest
from test_notebooks import RULES, long_cells

from factory import ROOT, capstone, run_lessons
from factory.lessons import check
from helper.own_rows import METHODS, read_own_rows, split_rows

NOTEBOOK = nbformat.read(capstone.NOTEBOOK, as_version=4)


def test_the_example_rows_are_what_the_factory_makes(tmp_path):
    capstone.write_rows(tmp_path)
    for name in capstone.FILES:
        assert (tmp_path / name).read_bytes() == (capstone.FOLDER / "rows" / name).read_bytes(), name


@pytest.mark.parametrize(("name", "kind"), zip(capstone.FILES, METHODS))
def test_the_example_rows_are_read_as_their_kind(name, kind):
    own = read_own_rows(capstone.FOLDER / "rows" / name)
    assert own.kind == kind and own.twice == 0 and len(own.rows) == (120 if kind == "pairs" else 200)
    train, held_out = split_rows(own.rows, 0.3)
    assert len(held_out) >= 36 and len(train) >= 84


def test_each_order_says_what_its_form_says():
    with (capstone.FOLDER / "rows" / "answers.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["question"] for row in rows}) == 200
    for row in rows:
        name, order, day = re.fullmatch(r"Name: (\w+); order: (.+); day: (\w+)", row["answer"]).groups()
        assert all(part in row["question"] for part in (name, day, *order.split(", ")))
        assert len(re.findall(r"\d+", row["question"])) == len(order.split(", "))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_notebook_keeps_the_rules_of_the_lessons(rule):
    assert rule(NOTEBOOK) == []


def test_the_notebook_is_as_the_factory_writes_it():
    assert check(capstone.NOTEBOOK) == [] and capstone.NOTEBOOK.stat().st_size < 300_000
    ids = [cell.id for cell in NOTEBOOK.cells]
    assert all(name.startswith("capstone-") for name in ids) and len(set(ids)) == len(ids) and long_cells(NOTEBOOK) == []


def test_the_readme_names_files_and_columns_that_are_there():
    text = (capstone.FOLDER / "README.md").read_text("utf-8")
    for name in re.findall(r"`(rows/[\w.]+)`", text):
        assert (capstone.FOLDER / name).is_file()
    assert len(re.findall(r"`rows/", text)) == 3 and "capstone.ipynb" in text
    assert re.search(r"^capstone: install\n\t\$\(BIN\)/jupyter lab capstone", (ROOT / "Makefile").read_text(), re.MULTILINE)


def executed(folder: Path, monkeypatch, **settings) -> tuple[nbformat.NotebookNode, Path]:
    """The notebook run in capstone/, its copy and its results in `folder`."""
    monkeypatch.setenv("COURSE_OUTPUTS", str(folder / "outputs"))
    run_lessons.run(capstone.NOTEBOOK, settings, folder / "copy.ipynb", capstone.FOLDER)
    return nbformat.read(folder / "copy.ipynb", as_version=4), folder / "outputs" / "capstone"


def printed(notebook, name: str) -> str:
    (cell,) = [cell for cell in notebook.cells if cell.id == f"capstone-{name}"]
    return "".join(output.get("text", "") for output in cell.outputs)


def test_from_a_csv_to_a_chat(tmp_path, monkeypatch):
    """As it comes. Its own asserts hold that it learned, and that the chat says what the model says."""
    before = capstone.NOTEBOOK.read_bytes()
    notebook, out = executed(tmp_path, monkeypatch)
    assert capstone.NOTEBOOK.read_bytes() == before
    assert "140 rows to train on, 60 held out" in printed(notebook, "rows")
    assert {path.name for path in out.iterdir()} >= {"model", "capstone-float32.gguf", "capstone-q8_0.gguf"}
    found = printed(notebook, "export")
    assert "saved and loaded again: 0 of" in found and re.search(r"GGUF float32.*weights at most 0 off; 0 of", found)
    assert int(re.search(r"loaded again: 0 of (\d+)", found)[1]) >= 50
    card = (out / "model" / "README.md").read_text("utf-8")
    assert "| held-out rows | 60 | 0.0% (" in card
    for line in printed(notebook, "verdict").splitlines():
        assert line.split(" (n")[0].split(":")[0] in card
    names = {path.name for path in (out / "model").iterdir()}
    assert {"model.safetensors", "tokenizer.json", "config.json", "README.md"} <= names
    assert "not used" in printed(notebook, "judge") and json.loads((out / "model" / "config.json").read_text())


@pytest.mark.parametrize("rows", ["pairs.csv", "checkable.csv"])
def test_the_other_kinds_go_all_the_way(rows, tmp_path, monkeypatch):
    notebook, out = executed(tmp_path, monkeypatch, ROWS=f"rows/{rows}", STEPS=1)
    method = {"pairs.csv": "DPO", "checkable.csv": "GRPO"}[rows]
    assert method in printed(notebook, "rows") and "1 steps in" in printed(notebook, "train")
    assert f"after {method} on rows" in (out / "model" / "README.md").read_text("utf-8")


def test_rows_that_do_not_do_stop_it_early_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "few.csv").write_text("question,answer\n" + "".join(f"q {n},a\n" for n in range(12)))
    with pytest.raises(run_lessons.LessonFailed, match="8 of each are the least") as caught:
        executed(tmp_path, monkeypatch, ROWS=str(tmp_path / "few.csv"))
    assert "(from helper.own_rows import" in str(caught.value) and str(caught.value).count("\n") <= 1
    assert not list((tmp_path / "outputs").glob("capstone/*"))
