"""What a student hands in: the lessons' notebooks in one zip, with a digest of each. `make submission NAME=ann-lee`.

It needs nothing but Python, and stands in the students' copy too. Left out: `outputs/`, models, data, and a notebook's
outputs where they would make it large. The digest shows whether a zip was changed; it does not prove who wrote it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LARGEST = 2**21  # bytes of a notebook that is handed in with its outputs
DIGEST = "submission.json"


class NothingToHandIn(Exception):
    """Why there is no zip, in a line."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="", help="yours, as your teacher knows you")
    parser.add_argument("--lessons", nargs="+", default=[], metavar="NN", help="such as 02 03; without it all")
    options = parser.parse_args()
    try:
        path, digest = write_submission(ROOT / "notebooks", options.name, ROOT, options.lessons)
    except NothingToHandIn as error:
        print(error, file=sys.stderr)
        return 1
    for file in digest["notebooks"]:
        left_out = "" if file["outputs"] else ", without its outputs (they are large)"
        print(f"{file['name']}: {file['bytes'] / 1000:.0f} kB, sha256 {file['sha256'][:16]}{left_out}")
    print(f"Hand in {path.name} (digest of the whole: {digest['sha256'][:16]})")
    return 0


def write_submission(folder: Path, name: str, place: Path, lessons: list[str] | None = None) -> tuple[Path, dict]:
    """Zip the lessons of `folder` into `place`; the zip's path and its digest. The same notebooks give the same zip.

    Raises NothingToHandIn without a name, without a lesson, and for a notebook that cannot be read.
    """
    known = re.sub(r"[^\w-]+", "-", name, flags=re.ASCII).strip("-_").lower()[:60]
    if not known:
        raise NothingToHandIn("Say whose it is, in plain letters: make submission NAME=ann-lee")
    paths = [path for path in sorted(folder.glob("*.ipynb")) if re.match(r"\d\d_", path.name)]
    paths = [path for path in paths if not lessons or path.name[:2] in lessons]
    if not paths:
        raise NothingToHandIn(f"No such lesson in {folder.name}/: {' '.join(lessons or []) or 'none at all'}")
    contents = {path.name: _contents(path) for path in paths}
    digest = _digest(known, contents)
    target = place / f"submission-{known}.zip"
    unfinished = target.with_suffix(".zip.unfinished")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, (data, _) in contents.items():
            archive.writestr(zipfile.ZipInfo(f"notebooks/{file}"), data, zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo(DIGEST), json.dumps(digest, indent=1) + "\n")
    unfinished.replace(target)
    return target, digest


def _contents(path: Path) -> tuple[bytes, bool]:
    """A notebook as it is handed in, and whether with its outputs."""
    data = path.read_bytes()
    try:
        notebook = json.loads(data)
        cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NothingToHandIn(f"{path.name} is no notebook any more (broken JSON): save it in JupyterLab first") from error
    if len(data) <= LARGEST:
        return data, True
    for cell in cells:
        cell["outputs"], cell["execution_count"] = [], None
    notebook.get("metadata", {}).pop("widgets", None)
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode(), False


def _digest(name: str, contents: dict[str, tuple[bytes, bool]]) -> dict:
    """What the zip holds: each notebook's size and SHA-256, and one over all of them."""
    files = [
        {"name": file, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "outputs": outputs}
        for file, (data, outputs) in contents.items()
    ]
    whole = hashlib.sha256("".join(file["sha256"] for file in files).encode()).hexdigest()
    return {"name": name, "sha256": whole, "notebooks": files}


if __name__ == "__main__":
    raise SystemExit(main())
