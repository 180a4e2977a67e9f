"""What becomes a page, where it stands in the site, and where its links lead."""

from __future__ import annotations

import base64
import posixpath
import re
from pathlib import Path

from factory import ROOT
from factory.lessons import find_lessons
from factory.pages import RenderError

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/*.md")


def sources() -> list[str]:
    """Everything that becomes a page, relative to the project: lessons first, then documents."""
    documents = [path for name in DOCUMENTS for path in sorted(ROOT.glob(name))]
    return [path.relative_to(ROOT).as_posix() for path in find_lessons(ROOT / "notebooks") + documents]


def lesson_sources() -> list[str]:
    """Those of the lessons."""
    return [source for source in sources() if source.endswith(".ipynb")]


def html_name(source: str) -> str:
    return str(Path(source).with_suffix(".html").as_posix())


def slug(text: str) -> str:
    """A heading's id, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") or "section"


def linked(href: str, source: str, place: str) -> str | None:
    """Where a link of `source` leads from the page at `place`; None for a folder. Raises RenderError for a dead link."""
    if re.match(r"[a-z][a-z0-9+.-]*:", href, re.IGNORECASE):
        return href
    path, _, fragment = href.partition("#")
    if not path:
        return "#" + slug(fragment)
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if target.startswith("..") or not (ROOT / target).exists():
        raise RenderError(f"{source}: the link to {href} leads nowhere")
    if (ROOT / target).is_dir():
        return None
    page = html_name(target) if target in sources() else target
    start = posixpath.relpath(page, posixpath.dirname(place) or ".")
    return f"{start}#{slug(fragment)}" if fragment else start


def embedded(src: str, source: str) -> str:
    """The picture that `src` names in `source`, as a data address. Raises RenderError where there is none."""
    path = ROOT / posixpath.normpath(posixpath.join(posixpath.dirname(source), src))
    if path.suffix != ".png" or not path.is_file():
        raise RenderError(f"{source}: the picture {src} is not a .png file of the course")
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
