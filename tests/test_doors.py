"""Doors into the course: the container, Binder, Colab, and the links to them; read as files, since no service is at hand."""

import json
import os
import re
import stat
import subprocess
import tomllib

import pytest

from factory import READMES, ROOT, badges
from factory.lessons import find_lessons
from factory.marks import LINK_MARKS

CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")
SECTION = README.split("## In a container or a browser")[1].split("\n## ")[0]


def python_of(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.search(r"(\d+)\.(\d+)$", text).groups()))


def test_container_and_binder_have_one_python_that_the_course_takes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    binder = (ROOT / ".binder" / "runtime.txt").read_text().strip()
    assert CONTAINER["image"].startswith("python:") and binder.startswith("python-")
    assert python_of(CONTAINER["image"]) == python_of(binder) >= python_of(project["requires-python"])
    assert f"Python {'.'.join(map(str, python_of(binder)))}:" in SECTION


def test_the_container_installs_as_the_readme_does():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    command, target = CONTAINER["postCreateCommand"].split()
    assert command == "make" and re.search(rf"^{target}:", makefile, re.MULTILINE) and f"`make {target}`" in SECTION
    folder, python = CONTAINER["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].split("/", 1)
    assert folder == "${containerWorkspaceFolder}" and python == re.search(r"^BIN := (\S+)", makefile, re.M)[1] + "/python"
    assert CONTAINER["forwardPorts"] == [8888] and list(CONTAINER["portsAttributes"]) == ["8888"]
    needs = CONTAINER["hostRequirements"]
    assert needs["cpus"] == 2 and f"two CPU cores and {needs['memory'].removesuffix('gb')} GB of memory" in README


def test_binder_takes_the_small_torch_first_and_stops_at_a_fault(tmp_path):
    """A stand-in for Python writes down what it is asked to run."""
    script = ROOT / ".binder" / "postBuild"
    listed = subprocess.run(["git", "ls-files", "-s", str(script)], cwd=ROOT, capture_output=True, text=True)
    executable = listed.stdout.startswith("100755") if listed.stdout else script.stat().st_mode & stat.S_IXUSR
    assert executable and {path.name for path in script.parent.iterdir()} == {"postBuild", "runtime.txt"}
    for fails, asked in ((0, 2), (1, 1)):
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\necho "$*" >> asked{fails}\nexit {fails}\n')
        python.chmod(0o755)
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
        done = subprocess.run(["bash", script], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)
        lines = (tmp_path / f"asked{fails}").read_text().splitlines()
        assert done.returncode == fails and len(lines) == asked and lines[0] == "-m factory.cpu_torch"
    assert (tmp_path / "asked0").read_text().splitlines()[1].endswith("-r requirements.txt")


def test_colabs_cell_takes_pinned_packages_and_not_those_of_its_own_kernel():
    cell = SECTION.split("```")[1].strip().splitlines()
    words = re.search(r'grep -E "(.*)" course/(requirements\.txt)', cell[1])
    lines = (ROOT / words[2]).read_text("utf-8").splitlines()
    taken = {line.split("==")[0] for line in lines if re.search(words[1], line)}
    assert taken == set(re.search(r"\((.*)\)", words[1])[1].split("|"))  # each is pinned
    assert {"trl", "transformers", "datasets", "peft", "accelerate"} <= taken
    assert not taken & {"torch", "numpy", "pandas", "ipykernel", "jupyterlab", "ipywidgets"}
    assert cell[2].endswith("--no-deps ./course") and cell[3] == "%cd course/notebooks"


@pytest.fixture
def course(tmp_path, monkeypatch):
    """Both READMEs without links, to be written into."""
    for name in READMES:
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    monkeypatch.setattr(badges, "ROOT", tmp_path)
    assert badges.main(["--none"]) == 0
    return tmp_path


def test_links_lead_to_every_lesson_and_go_again(course):
    before = {name: (course / name).read_text("utf-8") for name in READMES}
    assert badges.main(["--repository", "someone/a.course_1", "--branch", "topic/next"]) == 0
    for name in READMES:
        text = (course / name).read_text("utf-8")
        for path in find_lessons():
            address = f"https://colab.research.google.com/github/someone/a.course_1/blob/topic/next/notebooks/{path.name}"
            assert text.count(f"[{path.stem[:2]}]({address})") == 1
        assert "https://mybinder.org/v2/gh/someone/a.course_1/topic%2Fnext?urlpath=lab/tree/notebooks" in text
        assert "(https://codespaces.new/someone/a.course_1)" in text
    assert badges.main(["--none"]) == 0
    assert before == {name: (course / name).read_text("utf-8") for name in READMES}


@pytest.mark.parametrize(
    "words",
    [
        ["--repository", "no-slash"], ["--repository", "a/b/c"], ["--repository", "https://x.example/a/b"], [],
        ["--repository", "a/b)](c"], ["--repository", "a/b", "--branch", "x y"], ["--none", "--repository", "a/b"],
    ],
)  # fmt: skip
def test_what_is_no_repository_changes_nothing(words, course, capsys):
    before = [(course / name).read_text("utf-8") for name in READMES]
    with pytest.raises(SystemExit) as stopped:
        badges.main(words)
    assert stopped.value.code == 2 and [(course / name).read_text("utf-8") for name in READMES] == before


def test_the_links_that_stand_there_are_those_of_one_repository_and_of_all_lessons():
    """None, while the repository has no public address; after a new lesson `factory.badges` has to be run again."""
    stand = {(ROOT / name).read_text("utf-8").split(LINK_MARKS[0])[1].split(LINK_MARKS[1])[0] for name in READMES}
    assert len(stand) == 1
    found = re.search(r"colab.research.google.com/github/([^/]+/[^/]+)/blob/(.+?)/notebooks/", *stand)
    assert stand == {f"\n{badges.links(*found.groups())}\n" if found else "\n\n"}
