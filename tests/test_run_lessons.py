import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import run_hub_lessons
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from factory import ROOT, lessons, run_lessons

FAILING = {  # the second of three cells: what the message says of it
    "dead": ("import os\nos._exit(1)", r"cell 2 of 3 \(import os\): the kernel died\.\nMost often the memory"),
    "slow": ("import time\ntime.sleep(60)", r"cell 2 of 3 \(import time\): the cell was stopped at its time limit"),
    "full": ("raise MemoryError", r"cell 2 of 3 \(raise MemoryError\): the memory ran out\.\nClose other programs"),
    "wrong": ("1 / 0", r"cell 2 of 3 \(1 / 0\): ZeroDivisionError: division by zero"),
}


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
    assert lessons.check(path) == ["not executed from top to bottom", "not as `make lessons` writes it"]
    run_lessons.run(path)
    assert lessons.check(path) == []
    notebook = nbformat.read(path, as_version=4)
    assert [output.output_type for output in notebook.cells[1].outputs] == ["stream", "execute_result"]
    assert notebook.cells[1].outputs[0].text == "0\n1\n2\n" and notebook.cells[1].outputs[1].data["text/plain"] == "42"
    assert "widgets" not in notebook.metadata and notebook.metadata["execution"] == {"timeout": 600}
    assert "version" not in notebook.metadata["language_info"] and not list(path.parent.glob("*.unfinished"))
    path.write_text(path.read_text().replace('"execution_count": 2', '"execution_count": 5'))
    assert lessons.check(path)[0] == "not executed from top to bottom"


@pytest.mark.parametrize("kind", FAILING)
def test_a_failing_lesson_names_its_cell_and_is_left_as_it_was(lesson, kind):
    source, message = FAILING[kind]
    path = lesson("x = 1", source, "x", execution={"timeout": 1 if kind == "slow" else 600})
    before = path.read_bytes()
    with pytest.raises(run_lessons.LessonFailed, match=f"^99_test.ipynb, {message}") as caught:
        run_lessons.run(path)
    assert str(caught.value).count("\n") < 5 and path.read_bytes() == before


def test_the_command_reports_every_failing_lesson(lesson, capsys, monkeypatch):
    lesson("1 / 0")
    monkeypatch.setattr(sys, "argv", ["run_lessons.py"])
    assert run_lessons.main() == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "99_test.ipynb, cell 1 of 1 (1 / 0): ZeroDivisionError" in printed
    assert printed.endswith("The file was left as it was.\n\nfailed: 99_test.ipynb\n")


@pytest.mark.parametrize(
    "reason",
    [
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        "torch.OutOfMemoryError: HIP out of memory.",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried ...",
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8 TiB",
    ],
)
def test_the_ways_to_run_out_of_memory(reason):
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("\n  train()")])
    assert "cell 2 of 2 (train()): the memory ran out." in run_lessons.failure("a.ipynb", notebook, 1, reason)


@pytest.mark.parametrize("processes", ["0", "2"])
def test_nbmake_names_the_cell_too(tmp_path, processes):
    """All kinds in one run of `pytest --nbmake` with the notebooks' conftest.py, in one process and in two."""
    shutil.copy(lessons.NOTEBOOKS / "conftest.py", tmp_path)
    for kind, (source, _) in FAILING.items():
        cells = [new_markdown_cell("# Title"), new_code_cell(source), new_code_cell("1")]
        metadata = {"execution": {"timeout": 1 if kind == "slow" else 600}}
        nbformat.write(new_notebook(cells=cells, metadata=metadata), tmp_path / f"{kind}.ipynb")
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), tmp_path / "good.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)]
    command += ["-n", processes]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1 and "4 failed, 1 passed" in result.stdout, result.stdout + result.stderr
    assert "INTERNAL ERROR" not in result.stdout
    for kind, (_, message) in FAILING.items():
        assert re.search(rf"^{kind}\.ipynb, {message}", result.stdout, re.MULTILINE), result.stdout
        headline = message.split(r"\n")[0]
        assert re.search(rf"^FAILED {kind}\.ipynb::.* - {kind}\.ipynb, {headline}", result.stdout, re.MULTILINE)


def test_widgets_go_and_their_static_side_stays():
    view = {lessons.WIDGETS: {"model_id": "1"}, "text/plain": "HBox()"}
    both = {**view, "text/html": "<b>table</b>"}
    cell = new_code_cell("x", outputs=[new_output("display_data", data=data) for data in (view, both)])
    cleaned = lessons.clean(new_notebook(cells=[cell])).cells[0].outputs
    assert [set(output.data) for output in cleaned] == [{"text/plain", "text/html"}]


def test_scoreboards_are_printed(tmp_path, capsys):
    row = {"name": "facts", "n": 40, "before": 0.1, "after": 0.6, "difference": 0.5}
    row |= {"difference_low": 0.3, "difference_high": 0.7}
    record = {"lesson": "02_sft", "train_seconds": 61.2, "peak_memory_mb": 900, "metrics": [row]}
    (tmp_path / "02_sft.json").write_text(json.dumps(record))
    run_lessons.print_scoreboards(tmp_path)
    printed = capsys.readouterr().out
    assert "02_sft" in printed and "0.100 -> 0.600" in printed and "[+0.300, +0.700]" in printed


@pytest.fixture
def lesson_with_settings(lesson):
    """A lesson that prints its settings; its path."""
    path = lesson("1", "SEED = 0\nMODEL_NAME = None", "print(SEED, MODEL_NAME)")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, path)
    return path


def test_settings_from_outside_reach_the_lesson_and_leave_its_file(lesson_with_settings, tmp_path, monkeypatch):
    before, folder = lesson_with_settings.read_bytes(), tmp_path / "copies"
    command = ["run_lessons.py", "--set", "SEED=3", "--set", "MODEL_NAME=Qwen/Qwen3-0.6B-Base", "--to", str(folder)]
    monkeypatch.setattr(sys, "argv", command)
    assert run_lessons.main() == 0
    assert lesson_with_settings.read_bytes() == before and not list(tmp_path.glob("*.unfinished"))
    copy = nbformat.read(folder / "99_test.ipynb", as_version=4)
    assert copy.cells[-1].outputs[0].text == "3 Qwen/Qwen3-0.6B-Base\n"
    assert copy.cells[2].source.endswith("SEED = 3\nMODEL_NAME = 'Qwen/Qwen3-0.6B-Base'")
    nbformat.validate(copy)


def test_a_copy_of_a_failing_lesson_is_kept_as_far_as_it_came(lesson, tmp_path):
    path = lesson("print('here')", "1 / 0")
    with pytest.raises(run_lessons.LessonFailed, match="cell 2 of 2"):
        run_lessons.run(path, to=tmp_path / "copy.ipynb")
    cells = nbformat.read(tmp_path / "copy.ipynb", as_version=4).cells
    assert cells[0].outputs[0].text == "here\n" and cells[1].outputs[-1].ename == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "MODEL=x", "--to", "copies"], "99_test.ipynb has no setting MODEL, only SEED, MODEL_NAME: did you mean"),
        (["--set", "zzz=x", "--to", "copies"], "has no setting zzz, only SEED, MODEL_NAME: they are"),
        (["--set", "SEED", "--to", "copies"], "write NAME=VALUE"),
        (["--set", "SEED=", "--to", "copies"], "write NAME=VALUE"),
        (["--set", "SEED=true", "--to", "copies"], "write SEED=True"),
        (["--set", "SEED=[1]", "--to", "copies"], "a setting is a number"),
        (["--set", "SEED=1"], "--set needs --to FOLDER"),
        (["--to", "."], "is the folder of the lessons themselves"),
        (["77"], "no lesson begins with 77"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_run(
    arguments, words, lesson_with_settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run_lessons.py", *arguments])
    monkeypatch.setattr(run_lessons, "run", lambda *a: pytest.fail("a lesson was run"))
    with pytest.raises(SystemExit) as stopped:
        run_lessons.main()
    assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "copies").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [("A=1", 1), ("A=1e-3", 1e-3), ("A=None", None), ("A=False", False), ("A='1'", "1"), ("A=a=b", "a=b"), ("A=x y", "x y")],
)
def test_values_of_settings(text, value):
    assert run_lessons.parse_settings([text]) == {"A": value}


def test_a_lesson_without_a_settings_cell_is_refused(lesson):
    with pytest.raises(ValueError, match="0 cells tagged `parameters`"):
        run_lessons.run(lesson("x = 1"), {"SEED": 1})


def test_hub_lessons_are_found_with_what_they_take_from_the_hub(tmp_path):
    smollm, qwen = "HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"
    names = {path.name[:2]: run_hub_lessons.hub_names(path) for path in lessons.find_lessons()}
    assert not any(run_hub_lessons.wrong_names(lesson, *found) for lesson, found in names.items())
    known = {
        "01": ("banghua/Qwen2.5-0.5B-GRPO", None), "02": ("Qwen/Qwen3-0.6B-Base", "banghua/DL-SFT-Dataset"),
        "03": (qwen, "mrfakename/identity"), "04": (smollm, "openai/gsm8k"), "05": (qwen, "openai/gsm8k"),
        "06": (smollm, "openai/gsm8k"),
    }  # fmt: skip
    assert known.items() <= names.items()
    source = 'model_name = MODEL_NAME or ("owner/new" if USE_GPU else "sprout-base")'
    nbformat.write(new_notebook(cells=[new_markdown_cell("A"), new_code_cell(source)]), tmp_path / "99_test.ipynb")
    found = run_hub_lessons.hub_names(tmp_path / "99_test.ipynb")
    assert found == ("owner/new", None) and "owner/new has no stand-in" in run_hub_lessons.wrong_names("99", *found)
    assert "names no model" in run_hub_lessons.wrong_names("99", None, None)


@pytest.mark.parametrize(("lesson", "said"), [("98", "there is no lesson 98, only 99"), ("99", "owner/new has no stand-in")])
def test_a_lesson_that_cannot_be_run_on_the_hub_is_named(lesson, said, tmp_path, monkeypatch, capsys):
    source = 'model_name = MODEL_NAME or ("owner/new" if USE_GPU else "sprout-base")'
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), tmp_path / "99_test.ipynb")
    monkeypatch.setattr(sys, "argv", ["run_hub_lessons.py", lesson, "--notebooks", str(tmp_path)])
    with pytest.raises(SystemExit):
        run_hub_lessons.main()
    assert said in capsys.readouterr().err


def test_hub_lessons_tell_a_missing_gain_from_a_failure(tmp_path):
    error = {"output_type": "error", "evalue": "no gain", "traceback": []}
    cells = [
        new_code_cell("a", id="first"),
        new_markdown_cell("## 9. The end\n\n### Did it learn?\n\nAsserts."),
        new_code_cell("b", id="judged"),
        new_markdown_cell("## Exercises"),
        new_code_cell("c", id="behind"),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / "99_test.ipynb")
    (tmp_path / "copy").mkdir()
    copy = nbformat.read(run_hub_lessons.prepare(tmp_path / "99_test.ipynb", tmp_path / "copy"), as_version=4)
    assert [cell.id for cell in copy.cells if "raises-exception" in cell.metadata.get("tags", [])] == ["judged"]
    for place, name, failed in ((2, "AssertionError", 0), (2, "NameError", 1), (0, "AssertionError", 1), (4, "KeyError", 1)):
        copy.cells[place].outputs = [new_output(ename=name, **error)]
        steps, faults = run_hub_lessons.outcome(copy)
        assert len(faults) == failed and all(name in fault for fault in faults) and steps == "not reached"
        copy.cells[place].outputs = []
    copy.cells[-1].outputs = [new_output("stream", text="{'live': 12}\n")]
    assert run_hub_lessons.outcome(copy) == ("{'live': 12}", [])
