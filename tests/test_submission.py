"""`make submission`: what is in the zip, that it needs nothing but Python, and what it says when there is nothing."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile

import handed_in
import pytest

from factory import ROOT, submission
from factory.grading.copies import cells_of
from factory.lessons import find_lessons


@pytest.fixture
def course(tmp_path):
    """A student's copy as far as handing in needs it, with what must stay at home."""
    for place in ("factory", "notebooks/.ipynb_checkpoints", "outputs/03_dpo/model"):
        (tmp_path / place).mkdir(parents=True)
    shutil.copyfile(ROOT / "factory" / "submission.py", tmp_path / "factory" / "submission.py")
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    lesson = handed_in.lesson_path("03")
    text = json.dumps(handed_in.notebook(lesson, {handed_in.FIRST: handed_in.HONEST}))
    for place in (f"notebooks/{lesson.name}", f"notebooks/.ipynb_checkpoints/{lesson.name}", "notebooks/scratch.ipynb"):
        (tmp_path / place).write_text(text, "utf-8")
    (tmp_path / "outputs" / "03_dpo" / "model" / "model.safetensors").write_bytes(b"x" * 1000)
    return tmp_path


def hand_in(course, *options):
    """Run it as a student does, in a bare Python without the course's libraries."""
    command = [sys.executable, "-I", "-S", "factory/submission.py", *options]
    return subprocess.run(command, cwd=course, capture_output=True, text=True)


def test_the_zip_holds_the_lessons_and_their_digest(course):
    result = hand_in(course, "Ann Lee")
    assert result.returncode == 0 and "Hand in submission-ann-lee.zip" in result.stdout, result.stderr
    with zipfile.ZipFile(course / "submission-ann-lee.zip") as archive:
        assert archive.namelist() == ["notebooks/03_dpo.ipynb", "submission.json"]
        data, digest = archive.read("notebooks/03_dpo.ipynb"), json.loads(archive.read("submission.json"))
    (file,) = digest["notebooks"]
    assert digest["name"] == "ann-lee" and file["name"] == "03_dpo.ipynb" and file["bytes"] == len(data)
    assert file["sha256"] == hashlib.sha256(data).hexdigest() and file["sha256"][:16] in result.stdout
    lessons, faults = cells_of({"03_dpo.ipynb": data, "submission.json": json.dumps(digest).encode()})
    assert not faults and (f"{handed_in.FIRST}-stub", handed_in.HONEST) in [tuple(cell) for cell in lessons["03"]]


def test_the_same_notebooks_give_the_same_zip(course):
    first, _ = submission.write_submission(course / "notebooks", "ann", course)
    before = first.read_bytes()
    assert submission.write_submission(course / "notebooks", "ann", course)[0].read_bytes() == before
    path = course / "notebooks" / "03_dpo.ipynb"
    path.write_text(path.read_text("utf-8").replace("1 / weight", "2 / weight"), "utf-8")
    assert submission.write_submission(course / "notebooks", "ann", course)[0].read_bytes() != before


def test_a_large_notebook_goes_without_its_outputs(course):
    path = course / "notebooks" / "03_dpo.ipynb"
    whole = json.loads(path.read_text("utf-8"))
    code = next(cell for cell in whole["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * submission.LARGEST}]
    path.write_text(json.dumps(whole), "utf-8")
    made, digest = submission.write_submission(course / "notebooks", "ann", course)
    assert digest["notebooks"][0]["outputs"] is False and made.stat().st_size < submission.LARGEST / 10
    assert "without its outputs" in hand_in(course, "ann").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "make submission NAME=ann-lee"),
        (["../.."], "make submission NAME=ann-lee"),
        (["ann", "--lessons", "09"], "No such lesson"),
    ],
)
def test_nothing_to_hand_in_is_one_line(course, options, said):
    result = hand_in(course, *options)
    assert result.returncode == 1 and said in result.stderr and len(result.stderr.splitlines()) == 1
    assert not list(course.rglob("*.zip*"))


def test_a_broken_notebook_is_named_before_it_is_handed_in(course):
    (course / "notebooks" / "03_dpo.ipynb").write_text("{", "utf-8")
    result = hand_in(course, "ann")
    assert result.returncode == 1 and "03_dpo.ipynb is no notebook any more" in result.stderr
    assert not list(course.rglob("*.zip*"))


def test_make_hands_in_and_a_quote_in_the_name_does_no_harm(course):
    name = "ann'\"; touch harmed; '"
    made = subprocess.run(
        ["make", "submission", f"NAME={name}", f"PYTHON={sys.executable}"], cwd=course, capture_output=True
    )
    assert made.returncode == 0, made.stderr
    assert (course / "submission-ann-touch-harmed.zip").exists() and not (course / "harmed").exists()


def test_all_lessons_of_the_course_make_a_small_zip(tmp_path):
    made, digest = submission.write_submission(ROOT / "notebooks", "all", tmp_path)
    assert [file["name"] for file in digest["notebooks"]] == [path.name for path in find_lessons()]
    assert made.stat().st_size < 10_000_000
