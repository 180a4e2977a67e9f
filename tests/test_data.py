import json
import re

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from helper import data
from helper.data import load_course_dataset, load_suite, read_jsonl
from helper.figures import rows as table_of_rows
from helper.figures.rows import display_dataset


def chat(*turns):
    roles = ["user", "assistant"] * 3
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


GOOD = {"messages": chat("Hi", "Hello")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository root with one data set and one suite in it, and no network."""
    for name, rows in {
        "data/sft/train.jsonl": [{"messages": chat(f"q {i}", f"a {i}\u2028b")} for i in range(20)],
        "data/sft/test.jsonl": [GOOD],
        "data/eval/facts.jsonl": [{"id": "f1", "skill": "facts", "question": "Q?"}],
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr(data, "project_folder", lambda: tmp_path)
    monkeypatch.setattr(data, "hub_is_reachable", lambda: False)
    return tmp_path


def test_shipped_names_and_files(project):
    dataset = load_course_dataset("sprout-sft")
    assert isinstance(dataset, Dataset) and len(dataset) == 20
    assert dataset[3]["messages"] == chat("q 3", "a 3\u2028b")
    assert len(load_course_dataset("sprout-sft", split="test")) == 1
    assert len(load_course_dataset(str(project / "data/sft/test.jsonl"))) == 1
    assert len(load_course_dataset("data/sft/test.jsonl")) == 1


def test_limit_draws_rows_with_the_seed(project):
    def questions(**options):
        return [row["messages"][0]["content"] for row in load_course_dataset("sprout-sft", **options)]

    assert len(set(questions(limit=5))) == 5 and questions(limit=5) == questions(limit=5)
    assert questions(limit=5) != questions(limit=5, seed=1) and questions(limit=5) != questions()[:5]
    assert questions(limit=99) == questions()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("sprout-stf", ValueError, 'did you mean "sprout-sft"'),
        ("sprout-nothing-like-it", ValueError, "sprout-sft"),
        ("sft", ValueError, 'did you mean "sprout-sft"'),
        ("missing.jsonl", FileNotFoundError, "no file"),
        ("banghua/DL-SFT-Dataset-none", ConnectionError, "sprout-sft"),
    ],
)
def test_a_wrong_name_is_one_clear_error(project, name, error, words, monkeypatch):
    load, offline = data.datasets.load_dataset, []

    def spied(*arguments, **options):
        offline.append(data.datasets.config.HF_HUB_OFFLINE)
        return load(*arguments, **options)

    monkeypatch.setattr(data.datasets, "load_dataset", spied)
    with pytest.raises(error, match=words) as caught:
        load_course_dataset(name)
    assert "\n" not in str(caught.value)
    assert all(offline)  # else the library would ask again and again, for a minute


def test_a_split_that_is_not_there(project):
    with pytest.raises(ValueError, match='no split "validation": it has test, train'):
        load_course_dataset("sprout-sft", split="validation")


def test_the_hub_is_asked_in_its_own_terms(project, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(data.datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or Dataset.from_list([GOOD]))
    load_course_dataset("openai/gsm8k", split="test")
    load_course_dataset("banghua/DL-SFT-Dataset")
    assert asked == [
        (("openai/gsm8k", "main"), {"split": "test"}),
        (("banghua/DL-SFT-Dataset", None), {"split": "train"}),
    ]


def test_suites(project):
    assert load_suite("facts") == [{"id": "f1", "skill": "facts", "question": "Q?"}]
    with pytest.raises(ValueError, match='did you mean "facts"'):
        load_suite("fact")


def read_error(path, error=ValueError):
    with pytest.raises(error) as caught:
        read_jsonl(path)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__context__ is None or caught.value.__suppress_context__  # no library's traceback
    return str(caught.value)


def test_rows_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n {"a": "\xc3\xa9\xe2\x80\xa8"} \n{"a": 2, "b": {"a": 1}}')
    assert read_jsonl(path) == read_jsonl(str(path)) == [{"a": 1}, {"a": "é\u2028"}, {"a": 2, "b": {"a": 1}}]


GOOD_LINE = b'{"a": [1]}\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"a": 1}\n\n{"a": \n{"a": 2}\n', ["line 3: not JSON", "one JSON object on one line"]),
        (GOOD_LINE * 2 + b'{"a": "some te', ["line 3: not JSON", "looks cut off", "download"]),
        (GOOD_LINE + b'{"a": [1, 2', ["line 2", "looks cut off"]),
        (GOOD_LINE + b'{"a": tru\n', ["line 2", "looks cut off"]),
        (GOOD_LINE + '{"a": "é'.encode()[:-1], ["line 2: not UTF-8", "looks cut off"]),
        (GOOD_LINE + b'{"a": 1} {"a": 2}', ["line 2: not JSON", "one JSON object on one line"]),
        (GOOD_LINE + b'{"a": "caf\xe9"}\n', ["line 2: not UTF-8", "Save the file as UTF-8"]),
        ('{"a": 1}'.encode("utf-16"), ["line 1: not UTF-8"]),
        (b"", ["has no rows", "empty"]),
        (b"\xef\xbb\xbf \r\n\n", ["has no rows", "empty"]),
        (b"[1]\n", ["line 1: not a JSON object", "json.load"]),
        (b'[\n  {"a": 1},\n  {"a": 2}\n]\n', ["line 1: not JSON", "JSON list", "json.load"]),
        (b'{\n  "a": 1\n}\n', ["line 1: not JSON", "on one line"]),
        (b'"text"\n', ["line 1: not a JSON object"]),
        (GOOD_LINE + b'{"a": NaN}\n', ["line 2: NaN", "null"]),
        (b'{"a": -Infinity}\n', ["line 1: -Infinity", "null"]),
        (GOOD_LINE + b'{"a": 1e999}\n', ["line 2: 1e999 is larger than any number"]),
        (b'{"a": [{"b": -2.5e+400}]}\n', ["line 1: -2.5e+400 is larger"]),
        (b'{"a": ' + b"9" * 400 + b".5}\n", ["line 1: 9999", "is larger than any number"]),
        (GOOD_LINE + b'{"a": 1, "a": 2}\n', ['line 2: "a" stands twice in one object', "only one of the two"]),
        (b'{"b": {"c": 1, "d": 2, "c": 1}}\n', ['line 1: "c" stands twice']),
        (b'{"m": [{"role": "user", "content": "x", "role": "user"}]}\n', ['line 1: "role" stands twice']),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", ["only a pointer of Git LFS: run `git lfs pull`"]),
        (b"\xef\xbb\xbfversion https://git-lfs.github.com/spec/v1\n", ["only a pointer of Git LFS"]),
        (b"<!DOCTYPE html><html></html>", ["a web page: download the file itself"]),
        (b"\n  <HTML lang='en'>\n", ["a web page"]),
        (b"<?xml version='1.0'?><Error/>", ["XML: perhaps the answer of a server that refused"]),
        (b"\x1f\x8b\x08\x00", ["compressed: unpack it with gunzip"]),
        (b"PK\x03\x04\x00", ["a zip archive"]),
        (b"PAR1\x15", ["a Parquet file: datasets.Dataset.from_parquet"]),
        (b'{"a": ' + b"9" * 5000 + b"}\n", ["line 1"]),
        (b"[" * 200_000, ["line 1"]),
        (GOOD_LINE + b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", ["line 2: lists or objects more than 50 deep"]),
    ],
)
def test_broken_files_are_one_clear_error(tmp_path, content, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    text = read_error(path)
    assert text.startswith(str(path)) and [word for word in words if word not in text] == []
    assert ("looks cut off" in text) == ("looks cut off" in words)


def test_broken_lines_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match="line 3: not JSON"):
        read_jsonl(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1: not a JSON object"):
        read_jsonl(path)


def test_wrong_paths_are_one_clear_error(project):
    folder = project / "data" / "sft"
    assert 'Did you mean "train.jsonl"?' in read_error(folder / "trian.jsonl", FileNotFoundError)
    assert "There is no file" in read_error(project / "nowhere" / "train.jsonl", FileNotFoundError)
    assert "name a file in it (test.jsonl, train.jsonl)" in read_error(folder, IsADirectoryError)
    assert "holds no .jsonl file" in read_error(project / "data", IsADirectoryError)
    with pytest.raises(FileNotFoundError, match='Did you mean "train.jsonl"'):
        load_course_dataset("data/sft/trian.jsonl")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        load_course_dataset("data/sft")


def test_a_column_that_the_first_row_lacks_is_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": 2, "b": "x"}\n')
    assert load_course_dataset(str(path)).to_list() == [{"a": 1, "b": None}, {"a": 2, "b": "x"}]


@pytest.mark.parametrize("other", ['"text"', "[1]", '{"b": 1}', "1" + "0" * 40, r'"\ud800"'])
def test_rows_that_fit_into_no_table_are_one_clear_error(tmp_path, other):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + f'{{"a": {other}}}\n')
    alone = len(other) > 30 or "ud800" in other  # no column could hold it
    words = r'In the column "a" row 1 \(counted from 0\) holds .*' + (
        "no table can hold" if alone else "one type in all rows"
    )
    with pytest.raises(ValueError, match=words) as caught:
        load_course_dataset(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and caught.value.__suppress_context__


CALL, SAID = [{"role": "user", "content": "q"}], [{"role": "user", "content": 5}]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1"] * 700 + [2] + ["3", 4] * 150, "row 700 (counted from 0) holds 2 (int), and row 0 '1' (str)"),
        ([None, None, 1, 2, "x", True], "row 4 (counted from 0) holds 'x' (str), and row 2 1 (int)"),
        ([1, 2, True], "row 2 (counted from 0) holds True (bool), and row 0 1 (int)"),
        ([CALL, CALL, SAID, CALL], "row 2 (counted from 0) holds [{'role': 'user', 'content': 5}] (list), and row 0 [{"),
        ([CALL, {"role": "user"}], "row 1 (counted from 0) holds {'role': 'user'} (dict), and row 0 ["),
        (["a", ["b" * 99]], f"row 1 (counted from 0) holds ['{'b' * 58}... (list), and row 0 'a' (str)"),
        ([2**70, 1], "row 0 (counted from 0) holds 1180591620717411303424 (int), which no table"),
    ],
)
def test_the_first_odd_row_of_a_column_is_named(tmp_path, values, words):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"good": 1, "n": value}) + "\n" for value in values))
    with pytest.raises(ValueError, match=re.escape(f'In the column "n" {words}')):
        load_course_dataset(path)


def test_rows_are_shown_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(table_of_rows, "display", lambda html: shown.append(html.data))
    rows = [{"messages": chat("<script>alert(1)</script>", "$5 & <b>6</b>\nnext")}] * 5
    display_dataset(Dataset.from_list(rows), rows=2)
    pairs = [{"chosen": chat("ask", "good"), "rejected": chat("ask", "bad")}]
    display_dataset(Dataset.from_list(pairs))
    assert "<script>" not in shown[0] and "&lt;script&gt;" in shown[0] and "<b>" not in shown[0]
    assert shown[0].count("alert(1)") == 2 and "user" in shown[0] and "assistant" in shown[0]
    assert all(word in shown[1] for word in ("prompt", "chosen", "rejected", "ask", "good", "bad"))


def test_a_table_of_rows_keeps_its_looks_where_style_sheets_are_dropped(monkeypatch):
    shown = []
    monkeypatch.setattr(table_of_rows, "display", lambda html: shown.append(html.data))
    display_dataset([{"question": "long " * 20, "answer": "6 * 7 = 42\n#### 42", "count": 3}])
    cells = re.findall(r'<t[dh][^>]* style="([^"]*)">', shown[0])
    assert "<style" not in shown[0] and len(cells) == 6 and all("text-align: left" in cell for cell in cells)
    assert [re.findall(r"; width: ([\d.]+)em", cell) for cell in cells[3:]] == [[], ["5.5"], ["0.6"]]


def test_names_of_columns_and_roles_are_shown_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(table_of_rows, "display", lambda html: shown.append(html.data))
    hostile = "<script>x</script>"
    rows = [{hostile: "a", "messages": [{"role": hostile + "b", "content": "c"}, {"role": "user"}]}]
    for dataset in (Dataset.from_list(rows), rows, tuple(rows), pd.DataFrame(rows)):
        display_dataset(dataset)
        assert "<script" not in shown[-1] and shown[-1].count("&lt;script&gt;") == 2
    assert "(no content)" in shown[1]
    display_dataset([])


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (DatasetDict(train=Dataset.from_list([{"a": 1}])), r'dictionary of splits \(train\): show one, dataset\["train"\]'),
        (Dataset.from_list([{"a": 1}]).to_iterable_dataset(), r"streamed: show some of its rows, list\(dataset.take\(3\)\)"),
        ("sprout-sft", r"A str is no data set.*load_course_dataset\(name\)"),
        (None, "A NoneType is no data set: give a Dataset"),
        (["text"], "Row 0 is a str, not a dict of columns"),
    ],
)
def test_what_is_no_data_set_is_not_shown(dataset, words):
    with pytest.raises(TypeError, match=words):
        display_dataset(dataset)


def test_no_rows_to_show():
    with pytest.raises(ValueError, match="rows=0: give the number of rows"):
        display_dataset([{"a": 1}], rows=0)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: load_course_dataset(None), TypeError, "a text or a path, not a NoneType"),
        (lambda: load_course_dataset("sprout-sft", limit="5"), TypeError, "limit='5' is a str"),
        (lambda: load_course_dataset("sprout-sft", limit=0), ValueError, "limit=0 leaves no rows"),
        (lambda: load_course_dataset("sprout-sft", revision="x"), ValueError, "comes with the course and has no revisions"),
        (lambda: load_course_dataset("data/sft/test.jsonl", revision="x"), ValueError, "is a file and has no revisions"),
        (lambda: load_course_dataset("./a"), FileNotFoundError, 'There is no file "./a"'),
        (lambda: load_course_dataset("../x"), FileNotFoundError, 'There is no file "../x"'),
        (lambda: load_course_dataset("~/no such folder/x"), FileNotFoundError, "There is no file"),
        (lambda: load_course_dataset("/"), IsADirectoryError, "is a folder, not a file"),
        (lambda: load_course_dataset("data/folder.jsonl"), IsADirectoryError, "is a folder, not a file"),
        (lambda: load_course_dataset("data/empty.jsonl"), ValueError, "its rows have no columns"),
        (lambda: load_suite(None), TypeError, "a text, not a NoneType"),
        (lambda: load_suite("../sft/train"), ValueError, "no name of a suite but a path"),
    ],
)
def test_wrong_arguments_are_one_clear_error(project, call, error, words):
    (project / "data" / "folder.jsonl").mkdir()
    (project / "data" / "empty.jsonl").write_text("{}\n{}\n")
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_path_is_a_name(project):
    assert len(load_course_dataset(project / "data" / "sft" / "test.jsonl")) == 1


def test_rows_nested_as_deep_as_allowed_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": ' + "[" * 49 + "]" * 49 + "}")
    assert len(load_course_dataset(path)) == 1


def test_numbers_of_every_size_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1e308, "b": 5e-400, "c": -0.0, "d": 12345678901234567890, "e": 1E+2}')
    assert read_jsonl(path) == [{"a": 1e308, "b": 0.0, "c": 0.0, "d": 12345678901234567890, "e": 100.0}]


# Splits, and other places of rows


@pytest.mark.parametrize("name", ["data/sft/train.jsonl", "rows.jsonl", "ROWS.JSONL", "Rows.Jsonl"])
def test_a_file_has_no_splits(project, name):
    if "/" not in name:
        (project / name).write_text('{"a": 1}\n')
    name = str(project / name)
    rows = len(load_course_dataset(name))
    assert rows == len(load_course_dataset(name, split="train"))
    for split in ("test", "validation", "train[:1]", ""):
        with pytest.raises(ValueError, match="is a file and has no split .*: leave split out, or name the file"):
            load_course_dataset(name, split=split)
    assert len(load_course_dataset(str(project / "data/sft/test.jsonl"), split="test")) == 1  # its own name


@pytest.mark.parametrize(
    "split", ["../eval/facts", "../sft/train", "/etc/passwd", "..", "", "train.jsonl", "Train", "*", "tr?in"]
)
def test_a_split_does_not_leave_its_folder(project, split):
    with pytest.raises(ValueError, match=r'sprout-sft has no split ".*": it has test, train\.'):
        load_course_dataset("sprout-sft", split=split)


@pytest.mark.parametrize("name", ["sprout-eval", "sprout-../sft", "sprout-sft/..", "sprout-", "sprout-models"])
def test_a_name_does_not_lead_elsewhere(project, name):
    with pytest.raises((ValueError, ConnectionError)):
        load_course_dataset(name, split="facts")


@pytest.mark.parametrize(
    ("name", "split", "error", "words"),
    [
        ("sprout-sft", None, TypeError, 'split=None is a NoneType: give its name, such as "train"'),
        ("sprout-sft", 3, TypeError, "split=3 is a int"),
        ("sprout-sft", ["train"], TypeError, "is a list"),
        (5, "train", TypeError, "a text or a path, not a int"),
        (b"sprout-sft", "train", TypeError, "a text or a path, not a bytes"),
        ("~nosuch/rows.jsonl", "train", FileNotFoundError, "There is no file"),
        ("~nosuch/x", "train", FileNotFoundError, "There is no file"),
        ("https://huggingface.co/datasets/openai/gsm8k", "train", ValueError, "is an address: download the file"),
        ("http://a/rows.jsonl", "train", ValueError, "is an address"),
    ],
)
def test_what_is_no_name_or_split_is_one_clear_error(project, name, split, error, words):
    with pytest.raises(error, match=words) as caught:
        load_course_dataset(name, split=split)
    assert "\n" not in str(caught.value)


def test_what_save_to_disk_wrote_is_named(project):
    rows = Dataset.from_list([{"a": 1}])
    rows.save_to_disk(project / "saved")
    DatasetDict(train=rows).save_to_disk(project / "both")
    for name in ("saved", "both", "./saved"):
        with pytest.raises(ValueError, match=r"was written by save_to_disk: datasets.load_from_disk\(\".*\"\) reads it"):
            load_course_dataset(str(project / name))
