"""The pages, the slides and the students' copy: read from the files that were built, without a browser."""

import ast
import posixpath
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from small_course import PIXEL, put_lesson, requests, shown
from test_readmes import differences

from factory import READMES, ROOT, render, run_lessons
from factory.lessons import WIDGETS, check, find_lessons, unknown_tags
from factory.pages import RenderError, places
from factory.pages.content import body
from factory.pages.folders import replaced
from factory.pages.markdown import markdown_html, mathml
from factory.pages.outputs import sanitised, text_before, view
from factory.pages.site import build_site
from factory.pages.slides import write_slides
from factory.pages.student import MISSING_THERE, build_student

LESSONS = [path.stem for path in find_lessons()]
HOSTILE = (
    "<img src=x onerror=alert(1)>", "<img src='https://example.org/a.png' alt='far'>", "<svg onload=alert(1)></svg>",
    "<a href='javascript:alert(1)'>a</a>", "<a href='data:text/html,<script>alert(1)</script>'>b</a>",
    "<iframe src='https://example.org'></iframe>", "<form action='/'></form>", "<style>@import 'https://example.org';</style>",
    "<p style='background-image: url(https://example.org)' onclick='alert(1)'>p</p>",
    "<p style='background: #fff url(https://example.org)'>p</p>",
)  # fmt: skip
TRICKS = ("<script>alert(1)</script>", "<style><img src=x onerror=alert(1)></style", "<math><mtext></form>")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once: place -> the page; with slides of one lesson, which a new build keeps."""
    folder = tmp_path_factory.mktemp("built") / "site"
    (folder / "slides").mkdir(parents=True)
    (folder / "slides" / "02_sft.html").write_text("old")
    (folder / "slides" / "99_gone.html").write_text("old")
    build_site(folder)
    return folder


@pytest.fixture(scope="module")
def pages(site):
    paths = sorted(site.rglob("*.html"))
    return {path.relative_to(site).as_posix(): BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Puts a project of one lesson, made of the given cells, in the place of the course; gives its content."""
    monkeypatch.setattr(places, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()

    def make(*cells):
        put_lesson(tmp_path, *cells)
        return body("notebooks/01_a.ipynb", "notebooks/01_a.html")

    return make


def test_everything_is_built(pages):
    assert {f"notebooks/{stem}.html" for stem in LESSONS} < set(pages) and len(LESSONS) >= 4
    documents = {"README.html", "README.zh-CN.html", "CONTRIBUTING.html", "docs/security.html", "docs/instructors.html"}
    assert documents | {"index.html"} < set(pages)


def test_slides_are_built_again_with_the_site_and_leave_with_their_lesson(pages):
    assert [place for place in pages if place.startswith("slides/")] == ["slides/02_sft.html"]
    assert len(pages["slides/02_sft.html"].select("section.slide")) > 20


def test_no_page_asks_for_anything(pages):
    assert {place: requests(soup) for place, soup in pages.items() if requests(soup)} == {}
    for place, soup in pages.items():
        policy = soup.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
        assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
        assert bool(soup("script")) == ("script-src" in policy) == place.startswith("slides/")


@pytest.mark.parametrize("html", [*HOSTILE, "<script src='a.js'></script>", "<link rel=x>"])
def test_a_planted_request_is_found(html):
    assert requests(BeautifulSoup(html, "html.parser"))


def test_every_picture_says_what_it_shows(pages):
    pictures = [(place, picture) for place, soup in pages.items() for picture in soup("img")]
    assert len(pictures) >= 20
    texts = [(place, picture.get("alt", "").strip()) for place, picture in pictures]
    assert [(place, text) for place, text in texts if len(text) < 20 or text.startswith(("No description", "<Figure"))] == []


def test_links_lead_somewhere(pages, site):
    dead = []
    for place, soup in pages.items():
        for link in soup("a", href=True):
            path, _, fragment = link["href"].partition("#")
            if re.match(r"(https?|mailto):", path):
                continue
            target = posixpath.normpath(posixpath.join(posixpath.dirname(place), unquote(path))) if path else place
            if not (site / target).is_file() or (fragment and not pages[target].find(id=unquote(fragment))):
                dead.append(f"{place}: {link['href']}")
    assert dead == []


def test_ids_are_unique(pages):
    for place, soup in pages.items():
        ids = [tag["id"] for tag in soup(id=True)]
        assert len(ids) == len(set(ids)), place


def test_pages_have_landmarks(pages):
    for place, soup in pages.items():
        assert soup.html["lang"] == "en" and soup.title.get_text(strip=True) and soup("nav"), place
        assert soup.main.get("lang") == ("zh-CN" if place == "README.zh-CN.html" else None), place
        assert len(soup("main")) == len(soup("h1")) == 1, place
        assert all(nav.get("aria-label") for nav in soup("nav")), place
        if not place.startswith("slides/"):
            skip = soup.body.find("a")
            assert skip["class"] == ["skip"] and soup.find(id=skip["href"][1:]) is soup.main, place


def test_lessons_are_chained_and_have_a_table_of_contents(pages):
    for number, stem in enumerate(LESSONS):
        soup = pages[f"notebooks/{stem}.html"]
        near = {link["rel"][0]: link["href"] for link in soup.header("a", rel=True)}
        wanted = {"prev": LESSONS[number - 1 : number], "next": LESSONS[number + 1 : number + 2]}
        assert near == {rel: f"{stems[0]}.html" for rel, stems in wanted.items() if stems}
        contents = [link.get_text() for link in soup.select("nav.contents a")]
        assert "Goals" in contents and "Recap" in contents and len(contents) > 8
        assert soup.header.a["href"] == "../index.html"


def test_the_index_says_what_each_lesson_is_for_and_how_long_it_takes(pages):
    soup = pages["index.html"]
    sections = soup.select("section.lesson")
    assert [section.a["href"] for section in sections] == [f"notebooks/{stem}.html" for stem in LESSONS]
    assert all(len(section("li")) >= 3 and "minutes" in section.select_one(".time").get_text() for section in sections)
    assert "make lab" in soup.get_text() and "Python 3.11" in soup.get_text()
    assert pages["index.html"].find("a", href="docs/security.html")


def test_solutions_are_folded(pages):
    found = 0
    for stem in LESSONS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
        soup = pages[f"notebooks/{stem}.html"]
        for cell in notebook.cells:
            if "solution" in cell.metadata.get("tags", []):
                details = soup.find(id=cell.id).details
                assert details.summary.get_text() == "Solution" and "open" not in details.attrs
                assert not details.find_next_sibling() and not details.find_previous_sibling()
                found += 1
    assert found >= 4


def test_formulas_are_mathml(pages):
    for stem in LESSONS:
        soup = pages[f"notebooks/{stem}.html"]
        written = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4).cells
        formulas = sum(cell.source.count("$") // 2 for cell in written if cell.cell_type == "markdown")
        assert len(soup("math")) >= min(formulas, 11)
        for tag in [*soup(["pre", "code", "math"]), *soup.select(".output")]:
            tag.clear()
        assert re.findall(r"\$[^$]{1,80}\$|\\frac|\\log|\\pi", soup.main.get_text()) == []


@pytest.mark.parametrize("latex", ["a_b_c", r"\left( a", r"\nosuchcommand x"])
def test_a_formula_that_cannot_be_converted_is_named(project, latex):
    with pytest.raises(RenderError) as caught:
        project(new_markdown_cell(f"# A ${latex}$"))
    assert str(caught.value).startswith(f"notebooks/01_a.ipynb: no MathML for the formula {latex!r}")


def test_formulas_keep_their_spaces():
    assert "<mfrac>" in mathml(r"\frac{1}{2}") and 'display="block"' in mathml("x", "block")
    assert "<mspace" in mathml(r"\log p") and "<mspace" not in mathml(r"\log(p)")


@pytest.mark.parametrize("hostile", [*HOSTILE, *TRICKS])
def test_outputs_run_nothing(project, hostile):
    """In HTML, printed, as a plain result, in a Markdown result, in an error, in a file of pictures."""
    error = new_output("error", ename="E", evalue=hostile, traceback=[hostile])
    stream = new_code_cell("x", outputs=[new_output("stream", text=hostile), error])
    kinds = ("text/html", "text/plain", "text/markdown", "application/javascript", "text/latex")
    bundles = [shown({kind: f"before {hostile} after", "text/plain": hostile}) for kind in kinds]
    pictures = [shown({"image/png": f'{PIXEL}" onerror="x'}), shown({"image/svg+xml": hostile})]
    titled = shown({"image/png": PIXEL}, {"image/png": {"alt": f'"{hostile}'}})
    soup = project(new_markdown_cell("# Title\n\nBefore it."), stream, *bundles, *pictures, titled)
    assert requests(soup) == [] and not soup(["script", "style", "svg", "math"])
    printed = [box.get_text() for box in soup.select("pre.box")]
    assert printed.count(hostile) == 6  # stream, error, and four bundles that have only their plain text to show


def test_tables_and_pictures_of_outputs_stay(project):
    table = "<table class='dataframe'><thead><tr><th>a</th></tr></thead><tr><td>1</td></tr></table>"
    table = f"<style scoped>.dataframe td {{color: red}}</style>{table}"
    marked = "<p style='color: red; position: fixed'><ins>new</ins> <del>old</del> <mark>both</mark></p>"
    picture = f"<img alt='A line that rises' src='data:image/png;base64,{PIXEL}'>"
    soup = project(
        new_markdown_cell("# T"), shown({"text/html": table}), shown({"text/html": marked}), shown({"text/html": picture})
    )
    assert soup.table["class"] == ["dataframe"] and soup.th["scope"] == "col" and "color: red}" not in soup.get_text()
    assert soup.table.parent["class"] == ["box"] and soup.table.parent["tabindex"] == "0"
    assert soup.ins and soup.mark and soup.find("del") and soup.ins.parent["style"] == "color: red"
    assert soup.img["alt"] == "A line that rises" and soup.img["src"].endswith(PIXEL)


def test_words_of_a_data_frame_start_at_the_left(project):
    frame = pd.DataFrame({"question": ["What?", "5"], "rewards/mean_length": [1.5, float("nan")], "right": [True, False],
                          "share": ["93% (85% to 97%)", "+4"]}, index=["a", "b"])  # fmt: skip
    soup = project(new_markdown_cell("# T"), shown({"text/html": frame.rename_axis("row")._repr_html_()}))
    assert [cell.get_text() for cell in soup.select(".words")] == ["question", "", "What?", "5"]
    head = soup.table.select("th")[2]
    assert head.get_text() == "rewards/mean_length" and len(head("wbr")) == 2


def test_a_hint_is_folded_in_every_lesson(pages):
    text = "<details><summary>Hint</summary>\n\nUse `zip`.\n\n- one\n</details>\n\nAfter <kbd>Tab</kbd> it."
    soup = BeautifulSoup(markdown_html(text), "html.parser")
    assert soup.details.code and soup.details.li and "After" not in soup.details.get_text() and soup.kbd.get_text() == "Tab"
    for stem in LESSONS:
        hints = [fold for fold in pages[f"notebooks/{stem}.html"]("details") if fold.summary.get_text() == "Hint"]
        assert hints and all(len(hint.get_text()) > 20 and "open" not in hint.attrs for hint in hints), stem


def test_a_view_keeps_its_ground_with_its_colour():
    html = "<div style='background:#ffffff;color:#1a1a1a;display:flex'><b style='background: red'>background: red;</b></div>"
    clean = BeautifulSoup(sanitised(html, "alt"), "html.parser")
    assert clean.div["style"] == "background-color: #ffffff; color: #1a1a1a; display: flex"
    assert clean.b["style"] == "background-color: red" and clean.b.get_text() == "background: red;"


def test_where_a_picture_gets_its_text():
    text = new_markdown_cell("# Title\n\n## Part\n\nFirst.\n\nThe *second* $x$ paragraph.")
    bare = {"image/png": PIXEL, "text/plain": "<Figure size 1x1>"}
    notebook = new_notebook(cells=[text, new_code_cell("x"), shown(bare)])
    before = text_before(notebook, 2)
    assert before.startswith("Figure under the heading “Part”. The second") and before.endswith("paragraph.")
    for metadata, html, wanted in (
        ({}, None, "alt"),
        ({"image/png": {"alt": "of the type"}}, None, "of the type"),
        ({"alt": "of all"}, None, "of all"),
        ({}, f"<img src='data:image/png;base64,{PIXEL}'>", "alt"),
        ({}, f"<img alt=' ' src='data:image/png;base64,{PIXEL}'>", "alt"),
        ({}, f"<img alt='own' src='data:image/png;base64,{PIXEL}'>", "own"),
        ({}, "<p>no picture</p>", "alt"),
    ):
        output = shown({**bare, **({"text/html": html} if html else {})}, metadata).outputs[0]
        assert BeautifulSoup(view(output, "alt")["text/html"], "html.parser").img["alt"] == wanted
    long = new_notebook(cells=[new_markdown_cell("word " * 200)])
    assert len(text_before(long, 1)) <= 250 and text_before(new_notebook(cells=[]), 0) == "Figure."


def test_a_widget_is_shown_by_its_picture():
    widget = {WIDGETS: {"model_id": "1"}, "text/plain": "HBox()"}
    with_picture = view(shown({**widget, "image/png": PIXEL}).outputs[0], "alt")
    assert PIXEL in with_picture["text/html"] and "HBox" not in str(with_picture)
    alone = view(shown(widget).outputs[0], "alt")
    assert "HBox" not in str(alone) and "JupyterLab" in alone["text/html"]


def test_links_between_pages(project, monkeypatch):
    (places.ROOT / "docs").mkdir()
    (places.ROOT / "docs" / "a.md").write_text(
        "# A\n## A part, one\n[n](../notebooks/01_a.ipynb) [f](../LICENSE) [d](../docs)"
    )
    (places.ROOT / "LICENSE").write_text("free")
    project(new_markdown_cell("# T\n[a](../docs/a.md#a-part-one) [p](#T)"))
    assert (
        places.linked("../docs/a.md#a-part-one", "notebooks/01_a.ipynb", "slides/01_a.html") == "../docs/a.html#a-part-one"
    )
    document = body("docs/a.md", "docs/a.html")
    assert [link["href"] for link in document("a")] == ["../notebooks/01_a.html", "../LICENSE"]
    assert document.h2["id"] == "a-part-one" and "d" in document.p.get_text()
    for dead in ("nothing.md", "../../outside.md", "../docs/b.md#a"):
        with pytest.raises(RenderError, match="notebooks/01_a.ipynb: the link to .* leads nowhere"):
            project(new_markdown_cell(f"# T\n[a]({dead})"))


def test_a_lesson_that_was_not_executed_is_refused(project):
    path = places.ROOT / "notebooks" / "01_a.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell("1")]), path)
    with pytest.raises(RenderError, match="01_a.ipynb is not executed from top to bottom: run `make lessons` first"):
        body("notebooks/01_a.ipynb", "notebooks/01_a.html")
    path.write_text("{")
    with pytest.raises(RenderError, match="01_a.ipynb cannot be read"):
        body("notebooks/01_a.ipynb", "notebooks/01_a.html")


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "old").write_text("x")
    with pytest.raises(RenderError, match="halfway"), replaced(folder) as new:
        (new / "new").write_text("x")
        raise RenderError("halfway")
    assert [path.name for path in tmp_path.rglob("*")] == ["site", "old"]
    with replaced(folder) as new:
        (new / "new").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["site", "new"]
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(RenderError, match="site cannot be written: Not a directory"),
        replaced(tmp_path / "file" / "site"),
    ):
        pass


@pytest.mark.parametrize("words", [["slides"], ["slides", "99"], ["slides", "0"]])
def test_an_unknown_lesson_is_one_line(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["render.py", *words])
    assert render.main() == 1
    assert re.fullmatch(r"no lesson is called '\d*'; there are 01_intro, .*\n", capsys.readouterr().err)


def test_slides_that_cannot_be_written(project, tmp_path):
    project(new_markdown_cell("# T"))
    (tmp_path / "slides").write_text("in the way")
    with pytest.raises(RenderError, match="01_a.html cannot be written"):
        write_slides("01_a", tmp_path)


def test_slides_are_split_at_headings_and_full_ones_go_on(project, tmp_path):
    long, printed = new_markdown_cell("## B\n" + "word " * 200), new_output("stream", text="printed")
    code = [new_code_cell("folded", outputs=[printed]), new_code_cell("not shown"), new_code_cell("open")]
    code[2].metadata["tags"] = ["slide"]
    solution = new_code_cell("secret", outputs=[printed], metadata={"tags": ["solution"]})
    project(new_markdown_cell("# T\n## A\nText."), code[0], new_markdown_cell("More."), long, *code[1:], solution)
    html = write_slides("01_a", tmp_path).read_text("utf-8")
    slides = BeautifulSoup(html, "html.parser").select("section.slide")
    assert [slide.find(["h1", "h2"]).get_text() for slide in slides] == ["T", "A", "B", "B"]
    assert slides[0].h2.get_text() == "A" and slides[0].pre and slides[0].details.summary.get_text() == "Code"
    assert "open" in slides[3].get_text() and not slides[3].details and "word" in slides[2].get_text()
    assert "not shown" not in html and "secret" not in html


def test_an_output_of_a_line_or_two_gets_no_slide_of_its_own(project, tmp_path):
    def printing(text):
        return new_code_cell("x", outputs=[new_output("stream", text=text)])

    long, picture = "word " * 200, shown({"image/png": PIXEL})
    project(new_markdown_cell(f"# T\n## A\n{long}"), printing("one line"), printing(long), printing("two\nlines"), picture)
    slides = BeautifulSoup(write_slides("01_a", tmp_path).read_text("utf-8"), "html.parser").select("section.slide")
    assert [len(slide.select(".output")) for slide in slides] == [1, 2, 1] and slides[2].img
    assert "one line" in slides[0].get_text() and "lines" in slides[1].get_text()


def test_slides_turn_by_keys_and_print(pages):
    soup = pages["slides/02_sft.html"]
    script = soup.script.get_text()
    assert all(key in script for key in ("ArrowRight", "ArrowLeft", "PageDown", "PageUp", '" "', "Home", "End"))
    assert "@media print" in soup.style.get_text() and len(script.splitlines()) < 50


def test_slides_open_at_any_address_and_leave_keys_to_what_uses_them(pages):
    """Numbers before headings of that name, no error at a broken %; what was only clicked on keeps no key."""
    script = pages["slides/02_sft.html"].script.get_text()
    number, heading = script.index("/^\\d+$/.test(name)"), script.index("getElementById(name)")
    assert number < heading and "try { name = decodeURIComponent(name); } catch" in script
    keeps = script[script.index("function keeps") : script.index("addEventListener")]
    assert all(tag in keeps for tag in ("input", "select", "textarea", "button", "summary"))
    assert "scrollWidth > box.clientWidth" in keeps and ".box" not in keeps and "a, " not in keeps.replace("textarea, ", "")


def test_the_bar_of_slides_covers_nothing(pages):
    """It stands below what scrolls, not over it; on paper nothing scrolls."""
    sheet = pages["slides/02_sft.html"].style.get_text()
    screen, paper = sheet.split("@media print")
    assert "overflow-y: auto" in re.search(r"\.slides main \{([^}]*)\}", screen)[1]
    assert "fixed" not in re.search(r"\.slides nav \{([^}]*)\}", screen)[1]
    assert re.search(r"\.slides main \{ display: block; height: auto; overflow: visible; \}", paper)


@pytest.mark.parametrize("stem", ["01_a#b", "01_a?b", "01_a%41", "01_a b&'c\"<i>", "01_a;b=c+ü"])
def test_any_name_of_a_file_can_be_linked_to(project, tmp_path, stem):
    project(new_markdown_cell("# A"))
    folder = places.ROOT / "notebooks"
    named = nbformat.from_dict(new_notebook(cells=[new_markdown_cell(f"# Named\n\n[itself]({quote(stem)}.ipynb)")]))
    for name in ("02_next", "00_before", stem):
        nbformat.write(named if name == stem else new_notebook(cells=[new_markdown_cell("# N")]), folder / f"{name}.ipynb")
    (folder / "01_a.ipynb").unlink()
    (places.ROOT / "README.md").write_text("# R")
    build_site(tmp_path / "site")
    write_slides(stem, tmp_path / "site")
    found = set()
    for path in (tmp_path / "site").rglob("*.html"):
        links = BeautifulSoup(path.read_text("utf-8"), "html.parser")("a", href=re.compile("01_a"))
        for link in links:
            target = path.parent / unquote(urlsplit(link["href"]).path)
            assert not urlsplit(link["href"]).query and not urlsplit(link["href"]).fragment and target.is_file()
            found.add(path.stem)
    assert found == {"index", "02_next", "00_before", stem}


UNKNOWN_TAGS = [
    ["solutions"],
    ["Solution"],
    ["solution "],
    ["slide", "SOLUTION"],
    ["answer"],
    [5],
    "solution",
    "solutions",
    None,
]


@pytest.mark.parametrize("tags", UNKNOWN_TAGS)
def test_a_tag_of_another_spelling_is_refused(project, tags, monkeypatch, capsys):
    """A solution by another name must not reach the students: not by `make student`, `make check`, nor the pages."""
    for place in (places.ROOT / name for name in ("helper", "data", "docs")):
        place.mkdir()
    for cells in ([new_code_cell("secret", id="a-1")], [new_markdown_cell("secret", id="a-1")]):
        cells[0].metadata["tags"] = tags
        put_lesson(places.ROOT, new_markdown_cell("# T"), *cells)
        with pytest.raises(RenderError, match="notebooks/01_a.ipynb: cell a-1: the tag"):
            build_student(places.ROOT / "student")
        with pytest.raises(RenderError, match="notebooks/01_a.ipynb"):
            body("notebooks/01_a.ipynb", "notebooks/01_a.html")
        assert any("cell a-1: the tag" in wrong for wrong in check(places.ROOT / "notebooks" / "01_a.ipynb"))
    assert not (places.ROOT / "student").exists()
    monkeypatch.setattr(run_lessons, "NOTEBOOKS", places.ROOT / "notebooks")
    monkeypatch.setattr(sys, "argv", ["run_lessons", "--check"])
    assert run_lessons.main() == 1 and "cell a-1: the tag" in capsys.readouterr().out


def test_tags_under_another_key_are_refused_and_known_ones_pass():
    cells = [new_code_cell("x", metadata={key: ["solution"]}) for key in ("Tags", "tag", "TAGS")]
    assert len(unknown_tags(new_notebook(cells=cells))) == 3
    known = [new_code_cell("x", metadata={"tags": [tag], "jupyter": {}}) for tag in ("parameters", "slide", "solution")]
    assert unknown_tags(new_notebook(cells=[*known, new_markdown_cell("y")])) == []


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "student"
    assert build_student(folder) == len(LESSONS)
    return folder


def test_students_get_no_solutions_and_no_outputs(student):
    text = ""
    for stem in LESSONS:
        notebook = nbformat.read(student / "notebooks" / f"{stem}.ipynb", as_version=4)
        nbformat.validate(notebook)
        whole = nbformat.read(ROOT / "notebooks" / f"{stem}.ipynb", as_version=4)
        solved = [cell for cell in whole.cells if "solution" in cell.metadata.get("tags", [])]
        assert [cell.id for cell in notebook.cells] == [cell.id for cell in whole.cells if cell not in solved]
        assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
        text = "\n".join(cell.source for cell in notebook.cells)
        assert not any(cell.source in text for cell in solved)


def test_students_get_the_capstone_not_executed_with_its_rows(student):
    notebook = nbformat.read(student / "capstone" / "capstone.ipynb", as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert {path.name for path in (student / "capstone" / "rows").iterdir()} == {"answers.csv", "pairs.csv", "checkable.csv"}
    text = (student / "capstone" / "README.md").read_text("utf-8") + "".join(cell.source for cell in notebook.cells)
    assert not MISSING_THERE.search(text)


def test_students_get_what_the_lessons_need_and_nothing_else(student):
    top = {
        "LICENSE",
        "Makefile",
        *READMES,
        "capstone",
        "data",
        "docs",
        "helper",
        "notebooks",
        "pyproject.toml",
        "requirements.txt",
    }
    assert {path.name for path in student.iterdir()} == top | {"factory", "recipes", "setup.py", ".gitignore"}
    assert {path.name for path in (student / "factory").iterdir()} == {
        "__init__.py", "cpu_torch.py", "real_model.py", "real_model_requirements.txt", "submission.py",
    }  # fmt: skip
    files = [path.relative_to(student).as_posix() for path in student.rglob("*") if path.is_file()]
    assert not [name for name in files if re.search(r"__pycache__|/build/|instructors|conftest|test_|\.unfinished", name)]
    assert {f"data/models/sprout-{stage}/model.safetensors" for stage in ("base", "instruct", "dpo", "grpo")} <= set(files)
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "helper").rglob("*.py")}
    assert shipped <= set(files)
    imported = [
        line for name in shipped for line in (student / name).read_text("utf-8").splitlines() if "import factory" in line
    ]
    assert imported == []


def test_the_students_documents_speak_of_what_is_there(student):
    for path in [*(student / name for name in READMES), *sorted((student / "docs").glob("*.md"))]:
        for link in re.findall(r"\]\(([^)#]+)", path.read_text("utf-8")):
            assert link.startswith("http") or (path.parent / link).exists(), f"{path.name}: {link}"
    readme, chinese, makefile = ((student / name).read_text("utf-8") for name in (*READMES, "Makefile"))
    for text in (readme, chinese):
        assert not MISSING_THERE.search(text) and "make lab" in text and "factory.cpu_torch" in text
        assert text.count("```") % 2 == 0 and not re.search("Colab|Codespaces:|factory.badges", text)
        assert "make submission" in text
    assert "## The lessons" in readme and "## 课程" in chinese and differences(readme, chinese) == []
    targets = {".PHONY", "install", ".venv/installed", "lab", "capstone", "real-model", "submission"}
    assert set(re.findall(r"^([\w./-]+):(?!=)", makefile, re.MULTILINE)) == targets
    assert re.findall(r"factory\S*", makefile) == ["factory.cpu_torch", "factory.real_model", "factory/submission.py"]
    assert ".PHONY: lab capstone real-model submission install" in makefile and "# make submission NAME=" in makefile
    assert "grade" not in makefile
    assert "`make real-model`" in readme and "# make real-model" in makefile and "`MODEL_NAME` works without a GPU" in readme
    tree = readme.split("## What is inside")[1].split("```")[1]
    assert "  trainers/" in tree and not re.search(r"recordings/|pages/|world/|run by hand", tree)


def test_make_and_the_imports_of_the_lessons_work_in_the_copy(student):
    plan = subprocess.run(["make", "-n", "lab"], cwd=student, capture_output=True, text=True)
    assert plan.returncode == 0 and "jupyter lab notebooks" in plan.stdout, plan.stderr
    plan = subprocess.run(["make", "-n", "real-model"], cwd=student, capture_output=True, text=True)
    assert plan.returncode == 0 and "python -m factory.real_model" in plan.stdout, plan.stderr
    made = subprocess.run(["make", "submission", "NAME=ann", f"PYTHON={sys.executable}"], cwd=student, capture_output=True)
    assert made.returncode == 0, made.stderr
    with zipfile.ZipFile(student / "submission-ann.zip") as archive:
        assert archive.namelist() == [*(f"notebooks/{stem}.ipynb" for stem in LESSONS), "submission.json"]
    sources = [cell.source for stem in LESSONS for cell in _code(student, stem)]
    imports = [
        ast.unparse(node)
        for source in sources
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    real = "from factory import cpu_torch, real_model"
    real += "\nprint(real_model.real_model_folder().parent, len(real_model.pinned()))"
    shown = ["import helper", "print(helper.__file__)", "print(len(helper.load_suite('reference')))"]
    program = "\n".join([*dict.fromkeys(imports), real, *shown])
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(student), "PATH": "/usr/bin:/bin", "HOME": str(student.parent), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=student / "notebooks", env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(student / "models"), "64", str(student / "helper" / "__init__.py"), "3"]


def _code(folder: Path, stem: str) -> list:
    cells = nbformat.read(folder / "notebooks" / f"{stem}.ipynb", as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


@pytest.mark.parametrize("stem", LESSONS)
def test_the_settings_can_be_set_from_outside(stem):
    """Values put into a cell after the one tagged `parameters`, as papermill does, reach all that follows."""
    cells = _code(ROOT, stem)
    tagged = [number for number, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    settings = ast.parse(cells[tagged[0]].source).body
    assert all(isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) for node in settings)
    names = {node.targets[0].id for node in settings}
    data = set() if stem[:2] in ("01", "10") else {"DATASET_NAME"}  # 01 shows all data sets, 10 has recipes with their own
    assert names == {"USE_GPU", "MODEL_NAME", "SEED"} | data
    for number, cell in enumerate(cells):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Name) and node.id in names and number != tagged[0]:
                assert isinstance(node.ctx, ast.Load) and number > tagged[0], f"{node.id} in cell {cell.id}"
