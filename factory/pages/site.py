"""The whole site: an index, a page for each lesson, the documents, and what they link to."""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import statistics
from pathlib import Path
from urllib.parse import quote, unquote

from bs4 import BeautifulSoup

from factory.pages import places
from factory.pages.content import body, finished
from factory.pages.folders import replaced
from factory.pages.layout import page, template, title
from factory.pages.markdown import markdown_html
from factory.pages.places import html_name, lesson_sources, sources
from factory.pages.slides import write_slides


def build_site(folder: Path) -> int:
    """Build the whole site anew, with the slides it had; the number of pages. Raises RenderError."""
    slides = sorted(path.stem for path in (folder / "slides").glob("*.html"))
    contents = {source: body(source, html_name(source)) for source in sources()}
    lessons = lesson_sources()
    pages = {"index.html": index_page(contents)}
    for source, soup in contents.items():
        at = lessons.index(source) if source in lessons else None
        around = [None, None] if at is None else [lessons[at - 1] if at else None, (lessons[at + 1 :] or [None])[0]]
        near = [
            {"href": quote(Path(html_name(name)).name), "title": title(contents[name])} if name else None for name in around
        ]
        pages[html_name(source)] = page(soup, html_name(source), *near)
    with replaced(folder) as new:
        for place, html in pages.items():
            (new / place).parent.mkdir(parents=True, exist_ok=True)
            (new / place).write_text(html, encoding="utf-8")
            _copy_linked(html, place, new)
        for stem in slides:
            if f"notebooks/{stem}.ipynb" in lessons:
                write_slides(stem, new)
    return len(pages)


def _copy_linked(html: str, place: str, site: Path) -> None:
    """Copy the project's own files that a page links to and that are no pages."""
    for path in set(re.findall(r'<a [^>]*?href="([^"#:]+)', html)):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path)))
        if places.copied(target):
            (site / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(places.ours(target), site / target)


def index_page(contents: dict[str, BeautifulSoup]) -> str:
    """What the course is (the README down to its list of lessons), each lesson's time and goals, the documents."""
    introduction = (places.ROOT / "README.md").read_text("utf-8").split("\n## The lessons")[0]
    lessons, documents = [], []
    for source, soup in contents.items():
        entry = {"href": quote(html_name(source)), "title": title(soup)}
        if source.endswith(".ipynb"):
            goals, time = soup.find(id="goals"), soup.find("strong", string=re.compile("^Time"))
            entry["goals"] = goals.find_next("ul") if goals else ""
            entry["time"] = re.split(r";|\bNeeds:", time.parent.get_text())[0].strip() + "." if time else ""
            lessons.append(entry | {"minutes": recorded_minutes(Path(source).stem)})
        else:
            documents.append(entry | {"title": "README"} if source == "README.md" else entry)
    introduction = finished(markdown_html(introduction), "README.md", "index.html")
    html = template("index.html.j2", introduction=introduction, lessons=lessons, documents=documents)
    return page(BeautifulSoup(html, "html.parser"), "index.html")


def recorded_minutes(stem: str) -> float | None:
    """The median minutes of the recorded runs of a lesson, as the README's table has it."""
    path = places.ROOT / "data" / "recorded" / "lessons.json"
    runs = json.loads(path.read_text("utf-8")) if path.exists() else []
    seconds = [run["lesson_seconds"] for run in runs if run["lesson"] == stem]
    return statistics.median(seconds) / 60 if seconds else None
