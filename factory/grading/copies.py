"""What was handed in: the code cells of the notebooks in a zip, a folder or a single file, and a line for what is no good.

Files are read as bytes, within limits, and never unpacked to disk; what they hold is read in a walled process.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from factory.grading.walls import Ended

LARGEST_ZIP, LARGEST_NOTEBOOK, ALL_NOTEBOOKS = 2**26, 2**24, 2**26  # bytes
MOST_FILES = 2000
LONGEST_CELL = 20_000  # characters
DIGEST = "submission.json"  # what `make submission` puts beside the notebooks
IGNORED = re.compile(r"(^|/)(\.ipynb_checkpoints|__MACOSX|outputs|\.git|\.venv)(/|$)|(^|/)\._")

Cells = list[tuple[str, str]]  # (id, source) of code cells, in their order


class Copy(NamedTuple):
    """A student's notebooks: lesson -> cells; and (state, words) of what is wrong with the copy."""

    lessons: dict[str, Cells]
    faults: list[tuple[str, str]]


def handed_in(folder: Path) -> list[Path]:
    """The copies in a folder, in the order of their names: zips, folders and notebooks; hidden files and grades aside."""
    return [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and path.suffix != ".csv"]


def read_copy(path: Path, walled: Callable[[Callable[[], bytes]], Ended]) -> Copy:
    """The notebooks of one copy. `walled` runs a function in a walled process. Raises nothing for what is in the copy."""
    try:
        files = None if path.suffix.lower() == ".zip" else _loose_files(path)
        data = _bytes(path, LARGEST_ZIP) if files is None else b""
    except (OSError, ValueError) as error:
        return Copy({}, [("error", f"cannot be read: {getattr(error, 'strerror', None) or error}")])
    ended = walled(lambda: json.dumps(_inside(files, data)).encode())
    if not ended.said:
        return Copy({}, [("error", "cannot be read within the limits of time and memory")])
    lessons, faults = json.loads(ended.said)
    return Copy(lessons, [tuple(fault) for fault in faults])


def _bytes(path: Path, most: int) -> bytes:
    """A file's contents; ValueError for a link, for what is no plain file, and for more than `most` bytes."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is a link, or no plain file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"{path.name} is larger than {most / 2**20:.0f} MB")
    return data


def _loose_files(path: Path) -> dict[str, bytes]:
    """Name -> contents of the notebooks of a folder, or of a single one. Links are not followed."""
    if not path.is_dir() or path.is_symlink():
        if path.suffix != ".ipynb":
            raise ValueError(f"{path.name} is no zip, folder or notebook")
        return {path.name: _bytes(path, LARGEST_NOTEBOOK)}
    found, total = {}, 0
    for file in sorted(path.rglob("*.ipynb"))[:MOST_FILES]:
        name = file.relative_to(path).as_posix()
        if not IGNORED.search(name):
            found[name] = _bytes(file, LARGEST_NOTEBOOK)
            total += len(found[name])
        if total > ALL_NOTEBOOKS:
            raise ValueError(f"more than {ALL_NOTEBOOKS / 2**20:.0f} MB of notebooks")
    return found


# What is inside is read in the walled process only.


def _inside(files: dict[str, bytes] | None, data: bytes) -> tuple[dict[str, Cells], list[tuple[str, str]]]:
    """The cells of loose files, or (None) of a zip's data, and the faults."""
    try:
        return cells_of(_zipped_files(data) if files is None else files)
    except ValueError as error:
        return {}, [("error", str(error))]


def _zipped_files(data: bytes) -> dict[str, bytes]:
    """The same of a zip, and its digest. ValueError for one that lies about its sizes, or names paths outside."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, RecursionError, EOFError) as error:
        raise ValueError("is no zip, or a broken one") from error
    if len(members) > MOST_FILES:
        raise ValueError(f"holds more than {MOST_FILES} files")
    outside = [m.filename for m in members if ".." in PurePosixPath(m.filename).parts or re.match(r"/|\w:", m.filename)]
    if outside:
        raise ValueError(f"names a path outside of itself: {outside[0]}")
    wanted = [m for m in members if m.filename.endswith(".ipynb") or PurePosixPath(m.filename).name == DIGEST]
    wanted = [m for m in wanted if not IGNORED.search(m.filename)]
    if sum(m.file_size for m in wanted) > ALL_NOTEBOOKS:
        raise ValueError(f"unpacks to more than {ALL_NOTEBOOKS / 2**20:.0f} MB of notebooks")
    return {m.filename: _member(archive, m) for m in wanted}


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    try:
        with archive.open(member) as file:
            data = file.read(LARGEST_NOTEBOOK + 1)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError, ValueError) as error:
        raise ValueError(f"{member.filename} cannot be unpacked (broken, or locked by a password)") from error
    if len(data) > LARGEST_NOTEBOOK:
        raise ValueError(f"{member.filename} is larger than {LARGEST_NOTEBOOK / 2**20:.0f} MB")
    return data


def cells_of(files: dict[str, bytes]) -> tuple[dict[str, Cells], list[tuple[str, str]]]:
    """(lesson -> cells, [(state, words)]) of files by their names."""
    lessons: dict[str, Cells] = {}
    faults = _changed(files)
    for name, data in files.items():
        if not name.endswith(".ipynb"):
            continue
        try:
            cells = _code_cells(data)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError):
            faults.append(("error", f"{name} is no notebook (no JSON of the right form)"))
            continue
        lesson = _lesson_of(name, cells)
        if lesson in lessons:
            faults.append(("error", f"{name} is a second notebook of lesson {lesson}; it was not looked at"))
        elif lesson:
            lessons[lesson] = cells
        else:
            faults.append(("error", f"{name} is no lesson of the course"))
    return lessons, faults or ([] if lessons else [("error", "holds no notebook")])


def _code_cells(data: bytes) -> Cells:
    cells = []
    for cell in json.loads(data.decode("utf-8-sig"))["cells"]:
        if cell["cell_type"] == "code":
            source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
            cells.append((str(cell.get("id", "")), source[:LONGEST_CELL].encode("utf-8", "replace").decode()))
    return cells


def _lesson_of(name: str, cells: Cells) -> str:
    """The number of a lesson, by most of its cells' ids, or else by the file's name; "" for none."""
    numbers = Counter(match[1] for cell, _ in cells if (match := re.match(r"(\d\d)-", cell)))
    named = re.search(r"(?:^|[^\d])(\d\d)_[^/]*$", name)
    return numbers.most_common(1)[0][0] if numbers else named[1] if named else ""


def _changed(files: dict[str, bytes]) -> list[tuple[str, str]]:
    """Whether the notebooks are those that `make submission` put into the zip, as far as it holds its digest."""
    digest = next((data for name, data in files.items() if PurePosixPath(name).name == DIGEST), None)
    if digest is None:
        return []
    try:
        listed = {str(file["name"]): str(file["sha256"]) for file in json.loads(digest)["notebooks"]}
    except (ValueError, KeyError, TypeError, RecursionError):
        return [("changed", f"{DIGEST} cannot be read")]
    there = {PurePosixPath(name).name: hashlib.sha256(data).hexdigest() for name, data in files.items() if ".ipynb" in name}
    names = sorted(name for name in listed.keys() | there.keys() if listed.get(name) != there.get(name))
    return [("changed", f"not as `make submission` wrote it: {', '.join(names)}"[:300])] if names else []
