"""The content of a page: a notebook or a document as HTML, with ids, links and tables as the site has them."""

from __future__ import annotations

import re
from html import escape

from bs4 import BeautifulSoup, Tag

from factory.lessons import check
from factory.pages import RenderError, places
from factory.pages.layout import exporter
from factory.pages.markdown import markdown_html
from factory.pages.notebooks import read_notebook
from factory.pages.outputs import prepared
from factory.pages.places import embedded, linked, slug

NUMBER = re.compile(r"[-+]?\d|(True|False|None|nan|-?inf)?$", re.IGNORECASE)  # the cells that are set at the right


def body(source: str, place: str) -> BeautifulSoup:
    """The content of a notebook or a document as it stands at `place` in the site. Raises RenderError."""
    try:
        if source.endswith(".md"):
            return finished(markdown_html((places.ROOT / source).read_text("utf-8")), source, place)
        notebook = read_notebook(source)
        if "not executed from top to bottom" in check(places.ROOT / source):
            raise RenderError(f"{source} is not executed from top to bottom: run `make lessons` first")
        return finished(exporter().from_notebook_node(prepared(notebook))[0], source, place)
    except RenderError as error:
        raise error if source in str(error) else RenderError(f"{source}: {error}") from error
    except RecursionError as error:
        raise RenderError(f"{source}: what it holds is nested too deep") from error
    except (OSError, ValueError) as error:
        raise RenderError(f"{source} cannot be read: {str(error).splitlines()[0]}") from error


def finished(html: str, source: str, place: str) -> BeautifulSoup:
    """HTML with ids on its headings, tables in boxes that scroll, and links that lead somewhere from `place`."""
    soup = BeautifulSoup(html, "html.parser")
    taken: dict[str, int] = {}
    for heading in soup(["h1", "h2", "h3", "h4"]):
        name = slug(heading.get_text())
        taken[name] = taken.get(name, -1) + 1
        heading["id"] = f"{name}-{taken[name]}" if taken[name] else name
    for table in soup("table"):
        table.wrap(soup.new_tag("div", attrs={"class": "box", "tabindex": "0", "role": "group", "aria-label": "Table"}))
        for cell in table.select("thead th"):
            cell["scope"] = "col"
        if "dataframe" in table.get("class", []):
            legible(table)
    for link in soup("a", href=True):
        target = linked(link["href"], source, place)
        if target is None:
            link.unwrap()
        else:
            link["href"] = target
    for picture in soup("img", src=re.compile(r"^(?!data:)")):
        picture["src"] = embedded(picture["src"], source)
    return soup


def legible(table: Tag) -> None:
    """Mark a data frame's columns of words, which start at the left, and let long column names break after / and _."""
    columns = list(zip(*(row("td") for row in table.select("tbody tr"))))
    for row in table.select("thead tr"):
        for head, column in zip(row("th")[-len(columns) :], columns):
            if not all(NUMBER.match(cell.get_text(strip=True)) for cell in column):
                for cell in (head, *column):
                    cell["class"] = "words"
    for head in table.select("thead th"):
        name = re.sub(r"([/_])(?=\w)", r"\1<wbr>", escape(head.get_text(strip=True)))
        head.clear()
        head.append(BeautifulSoup(name, "html.parser"))
