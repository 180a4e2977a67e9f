"""What becomes a page, where it stands in the site, where its links lead, and which files may come into it.

Only files of the project do: symlinks are followed first, and what git ignores, `.git` itself and what a browser would run
stay outside.
"""

from __future__ import annotations

import base64
import posixpath
import re
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from urllib.parse import quote, unquote

from factory import READMES, ROOT
from factory.lessons import find_lessons
from factory.pages import RenderError

DOCUMENTS = (*READMES, "CONTRIBUTING.md", "docs/*.md")
PICTURES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".gif": "gif"}
COPIED = {".py", ".md", ".txt", ".toml", ".json", ".jsonl", ".csv", ".yml", ".yaml", ".ipynb", *PICTURES}
COPIED_NAMES = {"LICENSE", "Makefile", ".gitignore"}  # the others without an ending could be HTML, and be shown as such


def sources() -> list[str]:
    """Everything that becomes a page, relative to the project: lessons first, then documents. Raises RenderError."""
    documents = [path for name in DOCUMENTS for path in sorted(ROOT.glob(name))]
    found = [path.relative_to(ROOT).as_posix() for path in find_lessons(ROOT / "notebooks") + documents]
    for source in found:
        if ours(source) is None:
            raise RenderError(f"{source} is no file of the course: it leads outside, or git ignores it")
    return found


def lesson_sources() -> list[str]:
    """Those of the lessons."""
    return [source for source in sources() if source.endswith(".ipynb")]


def ours(target: str) -> Path | None:
    """The project's file or folder at a path relative to it, symlinks followed; None for what is not the project's."""
    root = ROOT.resolve()
    path = (root / target).resolve()
    if target.startswith("/") or not path.is_relative_to(root) or not path.exists():
        return None
    inside = path.relative_to(root)
    if ".git" in inside.as_posix().lower().split("/") or (path != root and _ignored(root, inside.as_posix())):
        return None
    return path


@cache
def _ignored(root: Path, name: str) -> bool:
    """Whether git ignores a file; without git, or outside of a repository, whether a line of `.gitignore` names it."""
    if (root / ".git").exists():
        try:
            asked = subprocess.run(["git", "check-ignore", "-q", "--", name], cwd=root, capture_output=True)
            if asked.returncode in (0, 1):
                return asked.returncode == 0
        except OSError:
            pass
    listed = root / ".gitignore"
    lines = listed.read_text("utf-8").splitlines() if listed.is_file() else []
    return any(_names(line.strip(), name.split("/")) for line in lines if not line.startswith(("#", "!")))


def _names(line: str, parts: list[str]) -> bool:
    """Whether a line of `.gitignore` names a file or a folder above it; with a slash before its end, from the root only."""
    above = ["/".join(parts[: number + 1]) for number in range(len(parts))]
    return any(fnmatch(part, line.strip("/")) for part in (above if "/" in line.rstrip("/") else parts))


def html_name(source: str) -> str:
    return str(Path(source).with_suffix(".html").as_posix())


def slug(text: str) -> str:
    """A heading's id, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") or "section"


def linked(href: str, source: str, place: str) -> str | None:
    """Where a link of `source` leads from the page at `place`; None for a folder, and for what is no http or mailto.

    Raises RenderError for a link to nothing, to what is not the project's, and to a kind of file that is not copied.
    """
    href = re.sub(r"[\t\r\n]", "", href).strip()  # as browsers read it
    scheme = re.match(r"([a-z][a-z0-9+.-]*):", href, re.IGNORECASE)
    if scheme:
        return href if scheme[1].lower() in ("http", "https", "mailto") else None
    path, _, fragment = href.partition("#")
    if not path:
        return "#" + slug(fragment)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(path)))
    found = ours(target)
    if found is None:
        raise RenderError(f"{source}: the link to {href} leads nowhere")
    if found.is_dir():
        return None
    page = html_name(target) if target in sources() else target
    if page == target and not copied(target):
        raise RenderError(f"{source}: the link to {href} leads nowhere: such files are not copied into the site")
    start = quote(posixpath.relpath(page, posixpath.dirname(place) or "."))
    return f"{start}#{slug(fragment)}" if fragment else start


def copied(target: str) -> bool:
    """Whether a file at this place may stand in the site: it is the project's, and text or a picture, nothing that runs."""
    found = ours(target)
    return found is not None and found.is_file() and all(_harmless(Path(name)) for name in (target, found.name))


def _harmless(path: Path) -> bool:
    return path.suffix.lower() in COPIED or path.name in COPIED_NAMES


def embedded(src: str, source: str) -> str:
    """The picture that `src` names in `source`, as a data address. Raises RenderError where there is none."""
    path = ours(posixpath.normpath(posixpath.join(posixpath.dirname(source), unquote(src))))
    if path is None or not path.is_file() or path.suffix.lower() not in PICTURES:
        raise RenderError(f"{source}: the picture {src} is not a .png, .jpg or .gif file of the course")
    return f"data:image/{PICTURES[path.suffix.lower()]};base64,{base64.b64encode(path.read_bytes()).decode()}"
