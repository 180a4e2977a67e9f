"""What docs/security.md promises: safe versions, model text that stays text, no pickles, nobody else's code."""

import ast
import json
import re
import sys
from functools import cache
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from datasets import Dataset

from helper import display_dataset, generation, test_model_with_questions
from helper.environment import SECURITY_FLOORS, installed_version, security_report
from helper.figures import rows

ROOT = Path(__file__).resolve().parent.parent
DATA_TYPES = {".jsonl", ".json", ".md", ".safetensors", ".jinja"}
PICKLE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
HTML_VIEWS = {  # tested below, in test_explorers, and in test_costs (numbers and the course's own words only)
    ("helper/figures/rows.py", "display_dataset"), ("helper/explorers/explorer.py", "__init__"),
    ("helper/figures/costs.py", "show_cost"),
}  # fmt: skip
RUNNERS = (  # they run others' code in a process of its own: tests/test_sandbox.py, tests/test_grading.py
    "helper/sandbox.py", "factory/grading/judging.py",
)  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "$\\LaTeX$ and \\(x\\)", "</td></table><b>bold</b>",
]  # fmt: skip
TAGS = ("<script", "<img", "<b>", "</table><b")


@cache
def project_code() -> list[tuple[str, int | None, str]]:
    """(file, cell counted from 1 or None, source) for all of helper/, factory/ and the notebooks' code cells."""
    code = []
    for folder in ("helper", "factory"):
        paths = sorted(ROOT.glob(f"{folder}/**/*.py"))
        code += [(str(path.relative_to(ROOT)), None, path.read_text("utf-8")) for path in paths]
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        code += [
            (path.name, number, re.sub(r"^[%!].*", "pass", cell.source, flags=re.MULTILINE))
            for number, cell in enumerate(cells, start=1)
            if cell.cell_type == "code"
        ]
    return code


def place(file: str, cell: int | None, line: int) -> str:
    return f"{file}, line {line}" if cell is None else f"{file}, cell {cell}, line {line}"


def dangers(source: str) -> list[tuple[int, str]]:
    """(line, what) for everything in a source that could run what came with a file or a text."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [(node.lineno, f"{name} is imported") for name in names if name.split(".")[0] in PICKLE_MODULES]
        elif isinstance(node, ast.Call):
            name, options = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
            only_weights = ast.unparse(options.get("weights_only") or node.func) == "True"
            if name in ("eval", "exec", "builtins.eval", "builtins.exec") or name.endswith(".read_pickle"):
                found.append((node.lineno, f"{name}()"))
            if name == "torch.load" and not only_weights:
                found.append((node.lineno, "torch.load() without weights_only=True"))
            found += [(node.lineno, arg) for arg, value in options.items() if _allows(arg, value)]
        elif isinstance(node, ast.Dict):
            pairs = [(key.value, value) for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)]
            found += [(node.lineno, key) for key, value in pairs if _allows(key, value)]
    return found


def _allows(name, value: ast.expr) -> bool:
    """Whether an option may let foreign code in: any value but the plain False."""
    return name in ("trust_remote_code", "allow_pickle") and ast.unparse(value) != "False"


def html_views(source: str) -> list[tuple[int, str]]:
    """(line, function) for each place that makes HTML or the like by hand."""
    tree, found = ast.parse(source), []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        name = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
        if name in ("HTML", "Markdown", "Javascript", "Latex", "SVG", "to_html", "_repr_html_"):
            around = [f.name for f in functions if f.lineno <= node.lineno <= f.end_lineno]
            found.append((node.lineno, around[-1] if around else "a cell"))
    return found


def test_the_installed_packages_are_no_older_than_the_security_floors():
    assert installed_version("transformers") and installed_version("jupyter-server") and installed_version("jupyterlab")
    assert [row for row in security_report() if row[2]] == []
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    assert all(f"{package} | {floor}" in page for package, floor in SECURITY_FLOORS.items())


def test_nothing_runs_what_comes_with_a_file():
    code = project_code()
    assert {"helper/models.py", "factory/pretrain.py", "02_sft.ipynb"} <= {file for file, _, _ in code}
    found = [(file, place(file, cell, line), what) for file, cell, text in code for line, what in dangers(text)]
    for file in RUNNERS:
        assert [what for place, _, what in found if place == file] == ["exec()", "eval()"]
    assert [f"{where}: {what}" for file, where, what in found if file not in RUNNERS] == []


@pytest.mark.parametrize(
    "planted",
    [
        "x = 1\neval('x')", "exec(text)", "import pickle", "from pickle import loads", "import joblib as j",
        "torch.load(path)", "torch.load(path, weights_only=False)", "pd.read_pickle(path)", "np.load(p, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)", "load(name, trust_remote_code=answer)",
        "options = {'trust_remote_code': True}",
    ],
)  # fmt: skip
def test_a_planted_danger_is_found(planted):
    assert len(dangers(planted)) == 1


def test_the_harmless_is_not_taken_for_dangerous():
    assert dangers("model.eval()\ntorch.load(p, weights_only=True)\nload(n, trust_remote_code=False)") == []


def test_every_html_view_is_known_and_tested():
    found = [(file, cell, line, name) for file, cell, source in project_code() for line, name in html_views(source)]
    new = [place(file, cell, line) for file, cell, line, name in found if (file, name) not in HTML_VIEWS]
    assert new == [], "a new HTML view: escape the text, test it here, and add it to HTML_VIEWS"
    assert {(file, name) for file, _, _, name in found} == HTML_VIEWS
    assert html_views("def show(text):\n    display(HTML(text))") == [(2, "show")]
    assert html_views("table.style.to_html()") == [(1, "a cell")]


def assert_text(html: str) -> None:
    """Nothing hostile in the HTML is a tag, and MathJax is told to leave it alone."""
    assert "&lt;script&gt;alert(1)" in html and "\\LaTeX$" in html
    assert not any(tag in html for tag in TAGS)
    assert re.search(r'<table[^>]*class="[^"]*mathjax_ignore', html)


def test_a_data_set_is_shown_as_text(monkeypatch):
    shown = []
    monkeypatch.setattr(rows, "display", lambda html: shown.append(html.data))
    roles = ("system", "user", "assistant")
    for text in HOSTILE[1:]:
        messages = [{"role": role, "content": HOSTILE[0] + text + HOSTILE[2]} for role in roles]
        pair = {"chosen": messages[1:], "rejected": messages[1:]}
        for row in ({"messages": messages}, pair, {"question": HOSTILE[0] + text, "answer": HOSTILE[2]}):
            display_dataset(Dataset.from_list([row]))
            assert_text(shown.pop())


def test_the_column_names_of_a_data_set_are_shown_as_text(monkeypatch):
    shown = []
    monkeypatch.setattr(rows, "display", lambda html: shown.append(html.data))
    display_dataset(Dataset.from_list([{"".join(HOSTILE): "text"}]))
    assert_text(shown.pop())


def test_a_table_is_shown_as_text_by_pandas():
    text = "".join(HOSTILE)
    table = pd.DataFrame({text: [text, "a"]}, index=pd.Index([text, "b"], name=text))
    with pd.option_context("display.max_colwidth", None):
        assert_text(table._repr_html_())
        assert_text(pd.concat({text: table}, names=[text])._repr_html_())


def test_answers_are_printed_not_rendered(monkeypatch, capsys):
    monkeypatch.setattr(generation, "generate_responses", lambda *args, **options: list(HOSTILE))
    test_model_with_questions(None, None, ["question"] * len(HOSTILE), title="Model")
    printed = capsys.readouterr().out
    assert all(text in printed for text in HOSTILE)


def test_the_data_folder_holds_only_plain_files():
    folders = [folder for folder in (ROOT / "data").iterdir() if folder.name != "build"]
    files = [path for folder in folders for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert files and [str(path) for path in files if path.suffix not in DATA_TYPES or path.is_symlink()] == []


def test_the_models_name_no_code_of_their_own():
    configs = sorted((ROOT / "data" / "models").glob("*/*.json"))
    named = [str(path) for path in configs if {"auto_map", "custom_pipelines"} & set(json.loads(path.read_text("utf-8")))]
    assert named == []


def test_jupyter_stays_on_this_machine_and_asks_for_its_token():
    weakened = r"--ip|0\.0\.0\.0|[Tt]oken\s*=|[Pp]assword\s*=|allow_origin|disable_check_xsrf|allow_remote"
    for name in ("Makefile", ".ci/run"):
        assert not re.search(weakened, (ROOT / name).read_text("utf-8")), name
    assert not list(ROOT.glob("jupyter*config*"))
    assert re.search(weakened, "jupyter lab --ServerApp.token=''")


def first_import(sources: list[str]) -> str:
    """The first module that the cells of a notebook import, Python's own aside."""
    nodes = [node for source in sources for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in nodes]
    return next((module for module in modules if module not in sys.stdlib_module_names), "")


def test_lessons_turn_telemetry_off_before_the_libraries_read_the_setting():
    """huggingface_hub reads it when it is imported, so helper has to be the first import of each notebook."""
    notebooks = {}
    for file, cell, source in project_code():
        if cell is not None:
            notebooks.setdefault(file, []).append(source)
    assert {file: first_import(sources) for file, sources in notebooks.items()} == dict.fromkeys(notebooks, "helper")
    assert first_import(["x = 1", "import trl\nfrom helper.machine import quiet"]) == "trl"
    first = {name: (ROOT / "helper" / name / "__init__.py").read_text("utf-8") for name in ("", "machine")}
    imports = {name: re.findall(r"^(?:from|import) .*?(?=  #|$)", text, re.MULTILINE) for name, text in first.items()}
    assert imports[""][0] == "from helper.machine import quiet" and not imports["machine"]  # before the rest
