"""What was recorded for the lessons: `data/recorded/*.json`, each made by a command of `factory/`; verdicts as a text.

Left out on purpose: what a record means. That stands in the module of its lesson (`preference_runs`, `real_runs`, ...).
"""

import json
from collections.abc import Iterable
from pathlib import Path

from helper.machine.folders import project_folder


def load_recorded(name: str | Path, made_by: str | None = None) -> dict | list:
    """A record by its name ("03_anchors": `data/recorded/03_anchors.json`), or by the path of its file.

    `made_by`: the command that makes it; without one, `make record`. Raises FileNotFoundError, with that command, where
    this copy of the course has no such record.
    """
    path = Path(name) if Path(name).suffix == ".json" else project_folder() / "data" / "recorded" / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not in this copy of the course: {made_by or '`make record`'} makes it.")
    return json.loads(path.read_text(encoding="utf-8"))


def load_runs(lesson: str, kind: str, kinds: tuple[str, ...], made_by: str) -> dict:
    """The record `kind` of a lesson ("04"); where this copy has none, one without runs that names the command `made_by`.

    Raises ValueError for a name that is not among `kinds`.
    """
    if kind not in kinds:
        raise ValueError(f"{kind!r:.40} is no record of lesson {lesson}: there is {', '.join(kinds)}.")
    try:
        return load_recorded(f"{lesson}_{kind}")
    except FileNotFoundError:
        return {"command": made_by, "runs": []}


def as_digits(verdicts: Iterable) -> str:
    """Verdicts (true or false, 1 or 0) as a text with a digit for each question, as records keep them.

    >>> as_digits([True, False, True])
    '101'
    """
    return "".join(str(int(bool(right))) for right in verdicts)


def is_verdicts(value) -> bool:
    """Whether a value of a record is a text of verdicts, a 0 or 1 for each question."""
    return isinstance(value, str) and len(value) > 1 and set(value) <= {"0", "1"}


def share_right(verdicts: str) -> float:
    """The share of right answers."""
    return verdicts.count("1") / len(verdicts)
