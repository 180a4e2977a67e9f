"""What the pages let pass: no script of an author's or an output's, and no file from outside. Left out: a browser."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import time
from html import escape

import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell
from small_course import PIXEL, put_lesson, requests, shown

from factory.pages import RenderError, places
from factory.pages.content import body
from factory.pages.layout import policy, style
from factory.pages.markdown import markdown_html
from factory.pages.safe import Styles, safe_markdown, safe_output
from factory.pages.site import build_site
from factory.pages.slides import write_slides
from factory.pages.student import OF_FACTORY, build_student

JS = "document.title='RAN'"
FAR = "https://example.org/x"
SVG = base64.b64encode(
    f'<svg xmlns="http://www.w3.org/2000/svg" onload="{JS}"><script>{JS}</script></svg>'.encode()
).decode()
HTML = base64.b64encode(f"<script>{JS}</script>".encode()).decode()
MARKDOWN = {
    "script": f"<script>{JS}</script> in a line <script>{JS}</script>\n\n<SCRIPT SRC={FAR}></SCRIPT>",
    "script in lines": f"<script\n>{JS}</script\n>",
    "script in script": f"<scr<script>ipt>{JS}</script>\n\n<script>{JS}",
    "handlers": f'<div onclick="{JS}" onload="{JS}">d</div> <details open ontoggle="{JS}"><summary>s</summary></details>',
    "handlers without spaces": f'<p/onclick="{JS}">p</p><img/alt=a/onerror="{JS}">',
    "a picture's handler": f'<img src="ok.png" alt=a onload="{JS}"> ![a](ok.png "t" onload="{JS}")',
    "focus": f'<input autofocus onfocus="{JS}"><textarea autofocus onfocus="{JS}"></textarea><body onload="{JS}">',
    "media": f"<video src={FAR} poster={FAR} onerror={JS}></video><audio src={FAR}></audio><picture><source srcset={FAR}>",
    "javascript links": f"[a](javascript:{JS}) <javascript:{JS}> [c][r]\n\n[r]: JaVaScRiPt:{JS}",
    "disguised links": f'<a href="java&#10;script:{JS}">a</a> <a href="&#1;javascript:{JS}">b</a> <a href=" vbscript:x">',
    "data documents": f'[a](data:text/html;base64,{HTML}) <a href="data:text/html;base64,{HTML}">b</a>',
    "base": f'<base href="{FAR}"><base target="_blank">',
    "meta": f'<meta http-equiv="refresh" content="0;url={FAR}"><link rel=prefetch href={FAR}>',
    "frames": f'<iframe srcdoc="<script>{JS}</script>"></iframe><object data="{FAR}"></object><embed src="{FAR}">',
    "forms": f'<form action="{FAR}"><button formaction="javascript:{JS}">b</button><input type=image src="{FAR}"></form>',
    "svg": f'<svg onload="{JS}"><script>{JS}</script><a xlink:href="javascript:{JS}"><text>t</text></a></svg>',
    "svg that moves": f'<svg><animate onbegin="{JS}" attributeName=x dur=1s><use href="data:image/svg+xml,x"/></svg>',
    "svg as a picture": f"![s](data:image/svg+xml;base64,{SVG}) ![s](data:text/html;base64,{HTML}) ![t](DATA:text/html,x)",
    "mutation": f'<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror={JS}&gt;">',
    "noscript": f'<noscript><p title="</noscript><img src=ok.png onload={JS}>"><template><script>{JS}</script></template>',
    "comments": f"<!--><script>{JS}</script>-->\n\n<![CDATA[<script>{JS}</script>]]>\n\n<?x?><script>{JS}</script>",
    "the page's end": f"</section></main></body></html><script>{JS}</script>\n\n<plaintext>",
    "styles": f'<style>@import url({FAR});</style><p style="background:url({FAR})">p</p><table background={FAR}>',
    "ping": f'<a ping="{FAR}" href="#t">a</a><map name=m><area href="javascript:{JS}"></map>',
    "a formula": rf"$\text{{<img src=ok.png onload={JS}>}}$ $\text{{</math><script>{JS}</script>}}$ $\verb|<script>|$",
    "a formula's commands": rf"$\href{{javascript:{JS}}}{{x}}$ $\style{{background:url({FAR})}}{{x}}$",
    "a formula's signs": rf"$\text{{&lt;script&gt;{JS}&lt;/script&gt;}}$ $\unicode{{x3c}}script\unicode{{x3e}}$",
    "formulas in attributes": f'<p style="color:$;background:url({FAR})$" title="$&quot; onload=&quot;{JS}$">p</p>',
    "marks of formulas": "\ue0000\ue001 $x$ \ue0007\ue001 <b title='\ue0000\ue001'>b</b>",
    "encoded marks": "&#xe000;99&#xe001; $x$ [a](http://a/%EE%80%8077%EE%80%81) %EE%80%807%EE%80%81 &#xe000;-0&#xe001;",
    "code": f"```\"><script>{JS}</script>\nx\n```\n\n```mermaid\n<script>{JS}</script>\n```\n\n`<script>{JS}</script>`",
    "tables and links": f'| a" onclick="{JS} |\n|:-:|\n| <b onclick={JS}> |\n\n<http://x/"onclick="{JS}>',
}  # fmt: skip


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course beside a secret, in git where there is git, with a picture, ignored files, and links that lead out."""
    root = tmp_path / "course"
    for name in ("notebooks", "docs", "outputs", "helper"):
        (root / name).mkdir(parents=True)
    monkeypatch.setattr(places, "ROOT", root)
    picture = base64.b64decode(PIXEL)
    for place in (tmp_path / "secret.png", root / "outputs" / "secret.png"):
        place.write_bytes(picture + b"secret")
    for place in (tmp_path / "secret.txt", root / "outputs" / "secret.txt", root / ".env"):
        place.write_text("secret")
    (root / "notebooks" / "ok.png").write_bytes(picture)
    (root / ".gitignore").write_text("# not for others\n.env\n/outputs/\n")
    (root / "LICENSE").write_text("free")
    (root / "README.md").write_text("# R\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True) if shutil.which("git") else (root / ".git").mkdir()
    (root / ".git" / "config").write_text("[core]\n\tbare = false\n# secret\n")
    (root / "docs" / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "docs" / "out.txt").symlink_to(tmp_path / "secret.txt")
    (root / "docs" / "far").symlink_to(tmp_path)
    (root / "docs" / "git.txt").symlink_to(root / ".git" / "config")
    (root / "docs" / "page.html").write_text(f"<script>{JS}</script>")
    (root / "docs" / "drawing.svg").write_text(f"<svg><script>{JS}</script></svg>")
    (root / "docs" / "PLAIN").write_text(f"<html><script>{JS}</script>")
    return root


def built(course, *cells, **metadata):
    """The site of a course with one lesson made of these cells, and the lesson's slides: place -> page."""
    put_lesson(course, *cells, **metadata)
    site = course.parent / "site"
    (site / "slides").mkdir(parents=True, exist_ok=True)
    (site / "slides" / "01_a.html").write_text("old")
    build_site(site)
    pages = {path.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("*.html")}
    assert {"index.html", "notebooks/01_a.html", "slides/01_a.html"} <= set(pages)
    return {place: BeautifulSoup(html, "html.parser") for place, html in pages.items()}


def assert_nothing_runs(pages):
    """Nothing that asks or runs; no script but the slides' own, which the policy knows by its hash."""
    for place, soup in pages.items():
        scripts = soup("script")
        assert len(scripts) == place.startswith("slides/"), place
        assert requests(soup) == [], place
        metas = soup("meta", attrs={"http-equiv": True})
        assert [meta["http-equiv"] for meta in metas] == ["Content-Security-Policy"]
        assert metas[0]["content"] == policy(scripts[0].get_text() if scripts else "")
        assert not soup.main(["style", "svg", "form", "textarea", "meta", "title", "template", "noscript"])
        assert all(box["type"] == "checkbox" and "disabled" in box.attrs for box in soup("input", type=True))


@pytest.mark.parametrize("trick", MARKDOWN)
def test_markdown_runs_nothing_on_pages_and_slides(course, trick):
    assert_nothing_runs(built(course, new_markdown_cell(f"# T\n\n{MARKDOWN[trick]}\n\nafter")))


@pytest.mark.parametrize("trick", MARKDOWN)
def test_outputs_run_nothing_on_slides_either(course, trick):
    kinds = ("text/html", "text/plain", "text/markdown", "text/latex", "application/javascript", "image/svg+xml")
    cells = [shown({kind: MARKDOWN[trick], "text/plain": MARKDOWN[trick]}) for kind in kinds]
    assert_nothing_runs(built(course, new_markdown_cell("# T"), *cells))


def test_nothing_else_of_a_notebook_runs(course):
    """Titles and times as the index shows them, raw cells, the language and the metadata, alternative texts, source."""
    script = f'"><script>{JS}</script>'
    text = "# T {0}\n\n## Goals {0}\n\n- {0}\n\n**Time** {0}".format(f"&lt;script&gt;{JS}&lt;/script&gt; {{{{ 7 * 7 }}}}")
    raw = new_raw_cell(script, metadata={"raw_mimetype": "text/html"})
    code = new_code_cell(f"%%html\n{script}", metadata={"magics_language": script})
    code.outputs = [new_output("stream", text=script), new_output("error", ename=script, evalue="", traceback=[script])]
    pictures = [shown({"image/png": f"{PIXEL}{script}"}), shown({"image/png": PIXEL}, {"image/png": {"alt": script}})]
    pictures[1].metadata["alt"] = script
    language = {"name": script, "pygments_lexer": script}
    pages = built(
        course, new_markdown_cell(text), raw, new_raw_cell(script), code, *pictures, language_info=language, title=script
    )
    assert_nothing_runs(pages)
    assert "{{ 7 * 7 }}" in pages["index.html"].get_text() and "49" not in pages["index.html"].main.get_text()
    assert pages["notebooks/01_a.html"].select_one("section.raw").get_text().strip() == script


@pytest.mark.parametrize("style", [
    f"background:url({FAR})", f"border:1px solid url({FAR})", f"font-family:url({FAR})", f"cursor:url({FAR}),auto",
    f"list-style:url({FAR})", f"background :/**/url({FAR})", f"text-decoration:URL({FAR})", f"color:red url( '{FAR}' )",
    f"color:image-set('{FAR}' 1x)", f"color:image({FAR})", "width:expression(1)", "width:calc(1px)", "color:var(--x)",
    r"b\61 ckground-color:red", r"color:r\65 d", r"back\67round:u\72l(x)", "color:/**/red", "color:'red'", 'color:"red"',
    "margin:-5px", "margin:1px -.5em", "text-indent:-999px", "height:20000px", "width:1000em", "padding:4000px",
    "width:100vw", "margin:1e9px", "position:fixed", "z-index:9", "transform:none", "--x:red", "color", "color:", ":red",
    "color:red!important", "color:red}", "color:{red", "color:r\u0131d",
])  # fmt: skip
def test_a_style_that_asks_or_lifts_or_hides_is_left_out(style):
    for clean in (safe_output, safe_markdown):
        soup = BeautifulSoup(clean(f"<p style='{escape(f'color: red; {style};width: 2%')}'>p</p>"), "html.parser")
        assert soup.p["style"] == "color: red; width: 2%"


@pytest.mark.parametrize("style", [
    "color: #1a1a1a", "width: 11.6em", "width: 36%", "margin: 6px 0", "line-height: 1.5", "flex: 1 1 220px",
    "padding: .5em 0", "border: 1px solid #999999", "background-color: rgba(213, 94, 0, 0.18)", "color: hsl(0 0% 0% / 5%)",
    "display: inline-block", "font-family: ui-monospace, monospace", "border-bottom-color: Red", "font-weight: 700",
])  # fmt: skip
def test_a_plain_style_stays(style):
    assert BeautifulSoup(safe_output(f"<p style='{style}'>p</p>"), "html.parser").p["style"] == style


def test_a_style_is_read_in_a_time_that_grows_with_its_length():
    times = []
    for length in (20_000, 200_000):
        start = time.process_time()
        for part in (" ", "0", "a-", "0 ", ", ", "#0", "rgb("):
            Styles().sanitize_css(f"color: red{part * length}!")
        times.append(time.process_time() - start)
    assert times[1] < 100 * max(times[0], 0.001)


def test_content_has_no_class_of_the_site():
    sheet = re.sub(r"@font-face[^}]*}|\.highlight \.\w+|/\*.*?\*/", "", style(), flags=re.DOTALL)
    selectors = " ".join(re.findall(r"([^{}]*)\{", sheet))
    names = set(re.findall(r"\.([a-z]\w*)", selectors)) - {"highlight", "dataframe"}
    assert {"skip", "contents", "slide", "box", "input", "output", "view", "formula", "solution"} <= names
    for clean in (safe_output, safe_markdown):
        soup = BeautifulSoup(clean("".join(f'<p class="{name}">p</p>' for name in names)), "html.parser")
        assert len(soup("p")) == len(names) and not soup(class_=True)
    kept = BeautifulSoup(safe_output("<table class='dataframe skip nb'><tr><td class=''>x</td></tr></table>"), "html.parser")
    assert kept.table["class"] == ["dataframe", "nb"] and "class" not in kept.td.attrs
    code = BeautifulSoup(markdown_html("```python\ndef f(): pass\n```"), "html.parser")
    assert code.select_one("div.highlight span.k").get_text() == "def"


def test_what_a_page_holds_is_kept_inside_of_its_place(course):
    """Paint containment: nothing is drawn, or clicked, outside of the box, and floats and margins end in it."""
    assert "main, .view { contain: paint;" in style()
    put_lesson(course, new_markdown_cell("# T"), shown({"text/html": "<p>p</p>"}))
    assert body("notebooks/01_a.ipynb", "notebooks/01_a.html").p.parent["class"] == ["view"]


def test_a_script_runs_by_its_hash_and_nothing_moves_the_base():
    digest = base64.b64encode(hashlib.sha256(b"run()").digest()).decode()
    assert policy("run()") == f"{policy('')}; script-src 'sha256-{digest}'"
    rules = dict(rule.strip().split(" ", 1) for rule in policy("run()").split(";"))
    assert rules["base-uri"] == rules["form-action"] == rules["default-src"] == "'none'"
    assert rules["img-src"] == rules["font-src"] == "data:" and "unsafe" not in rules["script-src"]


def test_slides_cannot_be_taken_over_by_names(course):
    text = (
        '# slides\n\n## content\n\n<div class="slide">x</div> <span role="status" id="slides">y</span> <a name="body">z</a>'
    )
    pages = built(course, new_markdown_cell(text), shown({"text/html": "</section></main><nav><b role=status>u</b></nav>"}))
    soup = pages["slides/01_a.html"]
    assert len(soup("main")) == len(soup("nav")) == len(soup.select("[role=status]")) == 1
    script = soup.script.get_text()
    assert all(name in script for name in ('"main > .slide"', '"nav [role=status]"', '"nav [data-step]"'))


@pytest.mark.parametrize("picture", [
    "../../secret.png", "../docs/out.png", "../docs/far/secret.png", "..%2f..%2fsecret.png", "../outputs/secret.png",
    "ok.png#/x", "/etc/hostname", "//example.org/a.png", "https://example.org/a.png", "../LICENSE", "../docs/drawing.svg",
    "../.git/config",
])  # fmt: skip
@pytest.mark.parametrize("form", ["![a]({})", '<img src="{}" alt="a">', "[![a]({})](#t)"])
def test_pictures_from_elsewhere_are_refused(course, picture, form):
    with pytest.raises(
        RenderError, match="notebooks/01_a.ipynb: the picture .* is not a .png, .jpg or .gif file of the course"
    ):
        built(course, new_markdown_cell(f"# T\n\n{form.format(picture)}"))
    assert "01_a.html" not in {path.name for path in (course.parent / "site").rglob("*.html") if path.read_text() != "old"}


@pytest.mark.parametrize("form", ["![a](file:///etc/hostname)", '<img src="file:///etc/hostname" alt="a">'])
def test_a_picture_of_the_machine_is_its_text(course, form):
    page = built(course, new_markdown_cell(f"# T\n\n{form}"))["notebooks/01_a.html"]
    assert not page("img") and page.main.get_text().split() == ["T", "a"]


@pytest.mark.parametrize("target", [
    "../.git/config", "../.GIT/config", "../%2egit/config", "../docs/../.git/config", "../docs/git.txt", "../.env",
    "../outputs/secret.txt", "../../secret.txt", "..%2f..%2fsecret.txt", "../docs/out.txt", "../docs/far/secret.txt",
    "/etc/hostname", "//example.org/x", "..\\\\..\\\\secret.txt", "../docs/page.html", "../docs/drawing.svg",
    "../docs/PLAIN", "../docs/nothing.txt",
])  # fmt: skip
@pytest.mark.parametrize("git", [True, False])
def test_links_to_what_is_not_for_others_are_refused(course, target, git):
    if not git:
        (course / ".git" / "HEAD").unlink(missing_ok=True)  # so that git cannot answer
    with pytest.raises(RenderError, match="notebooks/01_a.ipynb: the link to .* leads nowhere"):
        built(course, new_markdown_cell(f"# T\n\n[x]({target})"))
    assert not [path for path in (course.parent / "site").rglob("*") if path.is_file() and "secret" in path.read_text()]


def test_an_absolute_link_overwrites_nothing(course):
    for place in (course / "LICENSE", course.parent / "secret.txt"):
        before = place.read_text()
        with pytest.raises(RenderError, match="leads nowhere"):
            built(course, new_markdown_cell(f"# T\n\n[x]({place})"))
        assert place.read_text() == before
    assert places.linked(f"file://{course}/LICENSE", "README.md", "README.html") is None


def test_the_projects_own_files_are_copied(course):
    (course / "docs" / "two words.txt").write_text("kept")
    (course / "docs" / "again.txt").symlink_to(course / "docs" / "two words.txt")
    (course / "docs" / "folder").mkdir()
    links = (
        "[a](../LICENSE) [b](<../docs/two words.txt>) [c](../docs/again.txt) [d](ok.png) [e](../docs/folder) ![f](ok.png)"
    )
    soup = built(course, new_markdown_cell(f"# T\n\n{links}"))["notebooks/01_a.html"]
    hrefs = ["../LICENSE", "../docs/two%20words.txt", "../docs/again.txt", "ok.png"]
    assert [link["href"] for link in soup.main("a")] == hrefs and soup.img["src"].endswith(PIXEL)
    site = course.parent / "site"
    texts = [(site / "docs" / name).read_text() for name in ("two words.txt", "again.txt")]
    assert (
        texts == ["kept", "kept"] and (site / "LICENSE").read_text() == "free" and (site / "notebooks" / "ok.png").exists()
    )


@pytest.mark.parametrize(
    "link", ["javascript:x", "JavaScript:x", " javascript:x", "java\tscript:x", "data:text/html,x", "file:///x", "C:x"]
)
def test_a_link_of_another_kind_is_no_link(course, link):
    assert places.linked(link, "README.md", "README.html") is None
    assert places.linked("mailto:a@b.c", "README.md", "README.html") == "mailto:a@b.c"


def test_a_source_that_leads_outside_is_refused(course):
    put_lesson(course, new_markdown_cell("# T"))
    (course / "docs" / "config.md").symlink_to(course.parent / "secret.txt")
    with pytest.raises(RenderError, match="docs/config.md is no file of the course"):
        places.sources()


def test_what_git_ignores_without_git(course):
    shutil.rmtree(course / ".git")
    (course / ".gitignore").write_text("/models/\n*.key\ncache/\n!kept.key\n")
    for name, ignored in {
        "models/a.txt": True, "data/models/a.txt": False, "a.key": True, "docs/a.key": True, "docs/cache/a.txt": True,
        "docs/a.txt": False,
    }.items():  # fmt: skip
        (course / name).parent.mkdir(parents=True, exist_ok=True)
        (course / name).write_text("x")
        assert (places.ours(name) is None) == ignored, name


def test_students_get_nothing_from_outside(course):
    put_lesson(course, new_markdown_cell("# T"))
    for name in (
        "Makefile",
        "requirements.txt",
        "setup.py",
        "pyproject.toml",
        "README.zh-CN.md",
        *(f"factory/{name}" for name in OF_FACTORY),
    ):
        (course / name).parent.mkdir(exist_ok=True)
        (course / name).write_text("x = 1\n")
    (course / "recipes").mkdir()
    (course / "data").mkdir()
    (course / "data" / "rows.txt").symlink_to(course.parent / "secret.txt")
    (course / "data" / ".env").write_text("secret")
    (course / "data" / "kept.txt").write_text("kept")
    build_student(course.parent / "student")
    files = {path.relative_to(course.parent / "student").as_posix() for path in (course.parent / "student").rglob("*")}
    assert "data/kept.txt" in files and not files & {
        "data/rows.txt",
        "data/.env",
        "docs/out.txt",
        "docs/far",
        "docs/git.txt",
    }


@pytest.mark.parametrize(("form", "name"), [
    ("![image.png](attachment:image.png)", "image.png"), ("![a](<attachment:my image.png>)", "my image.png"),
    ("![a](attachment:my%20image.png)", "my image.png"), ('<img src="attachment:image.png" width="300">', "image.png"),
    ("| a |\n|---|\n| ![a](attachment:image.png) |", "image.png"), ("[![a](attachment:é.png)](#t)", "é.png"),
])  # fmt: skip
def test_pasted_pictures_are_shown(course, form, name):
    for kind in ("image/png", "image/jpeg", "image/gif", "image/svg+xml"):
        cell = new_markdown_cell(f"# T\n\nBefore it.\n\n{form}", attachments={name: {kind: PIXEL}})
        for soup in (pages := built(course, cell, shown({"image/png": PIXEL}))).values():
            assert [picture["src"] for picture in soup("img")][:1] in ([], [f"data:{kind};base64,{PIXEL}"])
        assert_nothing_runs(pages)
        assert len(pages["notebooks/01_a.html"]("img")) == len(pages["slides/01_a.html"]("img")) == 2


@pytest.mark.parametrize("attachments", [
    {}, {"b.png": {"image/png": PIXEL}}, {"a.png": {"text/html": HTML}}, {"a.png": {"image/png": f'{PIXEL}"><script>'}},
    {"a.png": {}},
])  # fmt: skip
def test_an_attachment_that_is_no_picture_is_named(course, attachments):
    with pytest.raises(RenderError, match="notebooks/01_a.ipynb: the attachment 'a.png' is no picture, or missing"):
        built(course, new_markdown_cell("# T\n\n![a](attachment:a.png)", attachments=attachments))


def test_a_notebook_that_is_none_is_named(course):
    put_lesson(course, new_markdown_cell("# T"), shown({"text/html": "x"}))
    path = course / "notebooks" / "01_a.ipynb"
    whole = path.read_text()
    for planted in (
        whole.replace('"text/html": "x"', '"text/html": [5]'),
        re.sub(r'"id": "\w+"', '"id": "<b>"', whole, count=1),
    ):
        assert planted != whole
        path.write_text(planted)
        with pytest.raises(RenderError, match="notebooks/01_a.ipynb"):
            body("notebooks/01_a.ipynb", "notebooks/01_a.html")


def deep(depth):
    return json.loads("[" * depth + "]" * depth)


HALF = json.loads('"\\ud800"')
PNG = {"image/png": PIXEL}
FAULTS = {  # a cell, and what is said of it
    "half a character printed": (new_code_cell("x", outputs=[new_output("stream", text=f"a{HALF}")]), "half a character"),
    "half a character in Markdown": (new_markdown_cell(f"a{HALF}"), "half a character"),
    "half a character in code": (new_code_cell(f"'{HALF}'"), "half a character"),
    "half a character in a key": (new_markdown_cell("a", metadata={HALF: 1}), "half a character"),
    "a cell's text that is none": (
        new_code_cell("x", metadata={"alt": {"a": "b"}}, outputs=shown(PNG).outputs),
        "say {'a': 'b'} where",
    ),
    "a cell's texts": (
        new_code_cell("x", metadata={"alt": ["a"]}, outputs=shown(PNG).outputs),
        "say ['a'] where a picture's text",
    ),
    "a picture's text that is none": (shown(PNG, {"alt": 17}), "say 17 where"),
    "a text for a picture": (shown(PNG, {"image/png": "a string"}), "say ['a string'] where"),
    "a picture's own text that is none": (shown(PNG, {"image/png": {"alt": None}}), "say None where"),
    "deep metadata": (new_markdown_cell("a", metadata={"a": deep(60)}), "nested too deep"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_shown_is_one_line_with_file_and_cell(course, fault):
    cell, said = FAULTS[fault]
    cell.id = "the-cell"
    for build in (lambda: built(course, new_markdown_cell("# T"), cell), lambda: build_student(course.parent / "student")):
        with pytest.raises(RenderError) as caught:
            build()
        line = str(caught.value)
        assert line.startswith("notebooks/01_a.ipynb: cell the-cell: ") and said in line and len(line.splitlines()) == 1
        line.encode()


@pytest.mark.parametrize("text", [
    "[]", "5", "null", '"x"', "{}", '{"cells": 3}', '{"nbformat": 4, "nbformat_minor": 5, "metadata": [], "cells": [[]]}',
    "", '{"nbformat": "x"}', '{"nbformat": 9, "metadata": {}, "cells": []}', "\x00", "[" * 100_000 + "]" * 100_000,
    '{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {"a": %s}}' % ("[" * 100_000 + "]" * 100_000),
    '{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {"a": %s}}' % ("[" * 300 + "]" * 300),
    '{"nbformat": 4, "nbformat_minor": 5, "cells": [], "metadata": {"a": "\\ud800"}}',
], ids=lambda text: ascii(text[:99]))  # fmt: skip
def test_a_file_that_is_no_notebook_is_one_line(course, text):
    (course / "notebooks" / "01_a.ipynb").write_text(text)
    for build in (build_site, build_student):
        with pytest.raises(RenderError) as caught:
            build(course.parent / "built")
        line = str(caught.value)
        assert line.startswith(("notebooks/01_a.ipynb cannot be read: ", "notebooks/01_a.ipynb: the notebook: "))
        assert len(line.splitlines()) == 1 and len(line) < 300


def test_private_characters_stay_and_are_no_formulas(course):
    text = "# T\n\n&#xe000;0&#xe001; and \ue0000\ue001 and $x$"
    page = built(course, new_markdown_cell(text))["notebooks/01_a.html"]
    assert len(page("math")) == 1 and page.p.get_text() == "\ue0000\ue001 and \ue0000\ue001 and x"


@pytest.mark.parametrize("picture", ["ht\ntp://h/a.png", "a\r.png", "a\u2028b.png", "\x1b[2Ja.png", "a\x85b"])
def test_a_message_is_one_line_whatever_it_names(course, picture):
    with pytest.raises(RenderError) as caught:
        built(course, new_markdown_cell(f'# T\n\n<img src="{picture}" alt="a">'))
    assert len(str(caught.value).splitlines()) == 1 and str(caught.value).isprintable()


def test_solutions_in_text_are_left_out_of_slides(course, tmp_path):
    solved = new_markdown_cell("The secret.", metadata={"tags": ["solution"]})
    put_lesson(course, new_markdown_cell("# T"), solved, new_raw_cell("secret", metadata={"tags": ["solution"]}))
    assert "secret" not in write_slides("01_a", tmp_path).read_text("utf-8")
    page = body("notebooks/01_a.ipynb", "notebooks/01_a.html")
    assert [fold.summary.get_text() for fold in page("details")] == ["Solution", "Solution"]
