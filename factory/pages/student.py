"""The copy of the course that students get: without solutions, lessons not executed, without what makes the course.

Of `factory/` it has what `make lab`, `make real-model` and `make submission` need.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from factory import READMES
from factory.pages import places
from factory.pages.folders import replaced
from factory.pages.notebooks import read_notebook
from factory.pages.places import lesson_sources

OF_FACTORY = ("__init__.py", "cpu_torch.py", "real_model.py", "real_model_requirements.txt", "submission.py")
STUDENT_FILES = (
    "helper", "data", "docs", "recipes", *(f"factory/{name}" for name in OF_FACTORY), "requirements.txt", "pyproject.toml",
    "setup.py", "LICENSE", ".gitignore",
)  # fmt: skip
NOT_FOR_STUDENTS = ("build", "__pycache__", ".ipynb_checkpoints", "*.egg-info", "*.unfinished", "instructors.md")
STUDENT_TARGETS = (".PHONY", "install", ".venv/installed", "lab", "capstone", "real-model", "submission")
MISSING_THERE = re.compile(
    r"make (test|check|lessons|data|record|render|student|slides|grade)|pytest|tests/|CONTRIBUTING|instructors"
    r"|factory(?![./](?:real_model|cpu_torch|submission)\b)|教师指南|devcontainer|[Bb]inder\b"
)
WHOLE_SECTIONS = ("In a container or a browser", "在容器或浏览器中")  # of the READMEs: a copy has no address on GitHub


def build_student(folder: Path) -> int:
    """Build the students' copy anew; the number of lessons in it. Raises RenderError.

    So it does for a tag that is not known: its cell may be a solution.
    """
    capstone = [path.relative_to(places.ROOT).as_posix() for path in sorted(places.ROOT.glob("capstone/*.ipynb"))]
    notebooks = {source: read_notebook(source) for source in lesson_sources() + list(filter(places.ours, capstone))}
    with replaced(folder) as new:
        for name in (*STUDENT_FILES, *(["capstone"] if capstone else [])):
            if (places.ROOT / name).is_dir():
                shutil.copytree(places.ROOT / name, new / name, ignore=_left_out)
            else:
                (new / name).parent.mkdir(exist_ok=True)
                shutil.copyfile(places.ROOT / name, new / name)
        (new / "notebooks").mkdir()
        for source, notebook in notebooks.items():
            text = nbformat.writes(without_answers(notebook)).rstrip("\n")
            (new / source).write_text(f"{text}\n", encoding="utf-8")
        for name, shortened in {"Makefile": student_makefile, **dict.fromkeys(READMES, student_readme)}.items():
            (new / name).write_text(shortened((places.ROOT / name).read_text("utf-8")), encoding="utf-8")
    return len(lesson_sources())


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What of a folder is not for students, or not the project's: a link that leads outside, what git ignores."""
    place = Path(folder).relative_to(places.ROOT)
    foreign = {name for name in names if places.ours((place / name).as_posix()) is None}
    return shutil.ignore_patterns(*NOT_FOR_STUDENTS)(folder, names) | foreign


def without_answers(notebook: NotebookNode) -> NotebookNode:
    """The notebook without the cells tagged `solution`, not executed."""
    notebook.cells = [cell for cell in notebook.cells if "solution" not in cell.metadata.get("tags", [])]
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def student_makefile(text: str) -> str:
    """The Makefile with the targets that work without tests/ and most of factory/."""
    blocks = re.split(r"\n{2,}", text.strip())
    targets = [re.match(r"([\w./-]+):(?!=)", block) for block in blocks]
    kept = [block for block, target in zip(blocks, targets) if not target or target[1] in STUDENT_TARGETS]
    absent = re.compile(r"# *make (?!lab|capstone|real-model|submission)|#   ")
    lines = [line for line in "\n\n".join(kept).splitlines() if not absent.match(line)]
    phony = re.sub(
        r"^\.PHONY:.*", ".PHONY: lab capstone real-model submission install", "\n".join(lines), flags=re.MULTILINE
    )
    return phony.strip() + "\n"


def student_readme(text: str) -> str:
    """The README without what speaks of things that students do not get: such lines of code, paragraphs and sections."""
    kept = []
    for title in WHOLE_SECTIONS:
        text = re.sub(rf"^## {title}\n.*?(?=^## )", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.split(r"\n{2,}", text):
        if re.search(r"^(```|    |\|)", block, re.MULTILINE):
            block = "\n".join(_lines_there(block.splitlines()))
        if not MISSING_THERE.search(block):
            kept.append(block)
    return "\n\n".join(kept)


def _lines_there(lines: list[str]) -> list[str]:
    """The lines that do not speak of what is missing; what is indented under such a line goes with it."""
    kept, gone = [], None  # gone: how far the last line that went is indented
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if gone is None or indent <= gone:
            gone = indent if MISSING_THERE.search(line) else None
        if gone is None:
            kept.append(line)
    return kept
