"""Files of rows: every kind read alike, hostile files named in one line, written whole or not at all, little memory."""

import errno
import json
import os
import tempfile
import tracemalloc

import pyarrow as pa
import pytest
from pyarrow import parquet

from helper import row_files
from helper.row_files import Repeats, Row, read_rows, written_rows

ROWS = [
    {"instruction": "Add.", "input": "1 + 1", "output": "2"},
    {"instruction": 'Say "hi", or\nhello', "input": "", "output": "hi; ü, 数据\u2028"},
]


def written(folder, kind: str, rows=ROWS):
    """A file of rows of this kind."""
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif kind in ("csv", "tsv"):
        mark = {"csv": ",", "tsv": "\t"}[kind]
        cells = [list(rows[0]), *(row.values() for row in rows)]
        quoted = [['"{}"'.format(str(cell).replace('"', '""')) for cell in line] for line in cells]
        path.write_text("".join(mark.join(line) + "\n" for line in quoted), encoding="utf-8", newline="")
    elif kind == "json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def problem_of(path) -> str:
    with pytest.raises(ValueError) as caught:
        list(read_rows(path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_gives_the_same_rows(kind, tmp_path):
    rows = list(read_rows(written(tmp_path, kind)))
    assert [row.values for row in rows] == ROWS and not any(row.fault for row in rows)
    assert [row.where for row in rows] == {
        "jsonl": ["line 1", "line 2"], "csv": ["line 2", "line 3"], "tsv": ["line 2", "line 3"],
    }.get(kind, ["row 0", "row 1"])  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_a_mark_of_byte_order_is_skipped(kind, tmp_path):
    path = written(tmp_path, kind)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row.values for row in read_rows(path)] == ROWS


def test_the_name_does_not_decide_between_lines_and_a_list(tmp_path):
    for name, text in {"a.jsonl": '\n [{"a": 1},\n{"a": 2}] \n', "b.json": '{"a": 1}\n\n{"a": 2}'}.items():
        (tmp_path / name).write_text(text)
        assert [row.values for row in read_rows(tmp_path / name)] == [{"a": 1}, {"a": 2}]


def test_cells_that_hold_lists(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('messages;output;text;label\n"[{""role"": ""user""}]";[not a list];[1];False\n', encoding="utf-8")
    (row,) = read_rows(path)
    assert row.values == {"messages": [{"role": "user"}], "output": "[not a list]", "text": "[1]", "label": False}


def test_a_first_line_for_excel_is_skipped_and_an_index_without_a_name_is_read(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('sep=;\n;a,b\n0;"1\n2"\n3\n1;4\n', encoding="utf-8")
    rows = list(read_rows(path))
    assert [row.where for row in rows] == ["line 3", "line 5", "line 6"]
    assert rows[0].values == {"": "0", "a,b": "1\n2"} and rows[1].fault and rows[2].values["a,b"] == "4"


def test_a_row_that_cannot_be_read_does_not_end_the_others(tmp_path):
    lines = ['{"a": 1}'] * 10
    lines[6] = '{"a": 1'
    lines[8] = '{"a": "\xff"}'
    path = tmp_path / "rows.jsonl"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    rows = list(read_rows(path))
    assert len(rows) == 10 and [row.where for row in rows if row.fault] == ["line 7", "line 9"]
    assert "not JSON (Expecting ',' delimiter)" in rows[6].fault and "not UTF-8. Save the file" in rows[8].fault
    assert "cut off" not in rows[6].fault
    path.write_text("\n".join([*lines[:6], lines[6]]))
    assert "The file looks cut off there" in list(read_rows(path))[6].fault


def test_a_csv_row_of_another_length_is_named_by_its_first_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('a,b\n"1\n2",3\n\n4\n5,6\n7,8,9\n')
    rows = list(read_rows(path))
    assert [(row.where, row.fault and row.fault[:7]) for row in rows] == [
        ("line 2", None), ("line 5", "1 cells"), ("line 6", None), ("line 7", "3 cells"),
    ]  # fmt: skip


HOSTILE = {
    "empty.jsonl": (b"", "the file is empty"),
    "blank.json": (b" \n\n ", "the file is empty"),
    "utf16.jsonl": ('{"a": 1}'.encode("utf-16"), "UTF-16: save it as UTF-8"),
    "latin.csv": ("a,b\nü,1\n".encode("latin-1"), "latin.csv, line 2: not UTF-8. Save the file as UTF-8 text (Excel"),
    "latin.json": ('[{"a": "ü"}]'.encode("latin-1"), "not UTF-8"),
    "header.csv": (b"a,b\n", "has no rows"),
    "list.json": (b"[]", "has no rows"),
    "twice.csv": (b"a,a\n1,2\n", "a column stands twice"),
    "unnamed.csv": (b"a,b,,\n1,2,,\n", "a column has no name (a, b, , )"),
    "sep.csv": (b"sep=;\n", "has no rows"),
    "book.xlsx": (b"PK\x03\x04\x00", 'is an Excel workbook: save it as "CSV UTF-8"'),
    "table.txt": (b"question,answer\nq,a\n", 'If it is CSV, name it "table.csv"'),
    "quote.csv": (b'a,b\n1,2\n"3,4\n5,6\n', "line 3: not CSV"),
    "cut.json": (b'[{"a": 1}, {"a": 2}', "looks cut off behind row 1"),
    "cut2.json": (b'[{"a": 1}, {"a": ', "row 1 (counted from 0): not JSON"),
    "cut3.json": (b"[", "cut off"),
    "comma.json": (b'[{"a": 1} {"a": 2}]', "behind row 0 (counted from 0): no comma"),
    "behind.json": (b'[{"a": 1}] [{"a": 2}]', "more behind the end of its list"),
    "nan.json": (b'[{"a": 1}, {"a": NaN}]', "row 1 (counted from 0): NaN is no JSON value"),
    "double.json": (b'[{"a": 1, "a": 2}]', '"a" stands twice'),
    "deep.json": (b"[" + b'{"a":' * 100_000, "row 0 (counted from 0)"),
    "packed.jsonl": (b"\x1f\x8b\x08\x00", "gunzip"),
    "page.json": (b"<!DOCTYPE html><p>", "a web page"),
    "broken.parquet": (b"PAR1" + b"x" * 100 + b"PAR1", "not a parquet file that can be read"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line(name, tmp_path):
    content, words = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    assert words in problem_of(tmp_path / name)


def test_no_file(tmp_path):
    written(tmp_path, "jsonl")
    assert 'Did you mean "rows.jsonl"?' in problem_of(tmp_path / "row.jsonl")
    assert "is a folder" in problem_of(tmp_path)


def test_a_line_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "LARGEST_ROW", 1000)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": "' + "x" * 2000)
    assert "Line 2 is longer than" in problem_of(tmp_path / "a.jsonl")
    (tmp_path / "a.json").write_text('[{"a": 1}, {"a": "' + "x" * 600_000)
    assert "row 1 (counted from 0): larger than" in problem_of(tmp_path / "a.json")


def test_a_list_is_read_in_pieces_of_any_size(tmp_path, monkeypatch):
    rows = [{"text": '\\" [é数] 🙂 {},' * number, "number": -1.5e3, "none": None} for number in range(12)]
    path = tmp_path / "rows.json"
    for ascii in (True, False):
        path.write_text(" \n" + json.dumps(rows, ensure_ascii=ascii, indent=1) + "\n\n", encoding="utf-8")
        for size in (1, 2, 3, 7, 64, 1000):
            monkeypatch.setattr(row_files, "CHUNK", size)
            assert [row.values for row in read_rows(path)] == rows


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_a_file_is_not_in_memory(kind, tmp_path):
    rows = [{"instruction": f"{number} " + "x" * 1000, "output": "y" * 1000} for number in range(10_000)]
    path = written(tmp_path, kind, rows)
    del rows
    tracemalloc.start()
    assert sum(row.fault is None for row in read_rows(path)) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000  # of 20 MB of text


# Writing

MADE = [
    {"messages": [{"role": "user", "content": "ü\u2028"}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "system", "content": "s"}]},
]


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "JSONL"])
@pytest.mark.parametrize("number", [1, 2, 9001])
def test_what_is_written_is_read_again(ending, number, tmp_path):
    rows = (MADE * 4501)[:number]
    with written_rows(tmp_path / f"rows.{ending}") as write:
        for row in rows:
            write(row)
    assert [row.values for row in read_rows(tmp_path / f"rows.{ending}")] == rows
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_is_there_and_nothing_else(ending, error, tmp_path):
    path = tmp_path / f"rows.{ending}"
    path.write_text("old")
    with pytest.raises(type(error)), written_rows(path, overwrite=True) as write:
        write(MADE[0])
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == [path.name]


def test_another_process_may_write_the_same_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    with written_rows(path) as one, written_rows(path) as other:
        one(MADE[0])
        other(MADE[1])
    assert len(list(read_rows(path))) == 1 and os.listdir(tmp_path) == [path.name]


def test_where_nothing_can_be_written(tmp_path):
    there = tmp_path / "there.jsonl"
    there.write_text("old")
    for path, words in {
        tmp_path: "is a folder", tmp_path / "rows.csv": "CSV has no place", tmp_path / "rows": "must end in .jsonl",
        tmp_path / "no" / "rows.jsonl": "no folder", there: "there already",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=words), written_rows(path):
            pass
    assert there.read_text() == "old" and os.listdir(tmp_path) == ["there.jsonl"]


# Rows that stand there twice


def repeats_of(values: list) -> tuple:
    repeats = Repeats()
    for number, value in enumerate(values):
        repeats.add(Row("row", number, {"a": value, "b": [1]}))
    return repeats.found()


def test_rows_that_stand_there_before():
    assert repeats_of([]) == (0, None) == repeats_of([1, 2, 3])
    assert repeats_of([1, 2, 3, 2, 1, 2]) == (3, (3, 1))
    many = [str(number) for number in range(3000)]
    assert repeats_of(many) == (0, None)
    assert repeats_of([*many, "7", *many[::-1]]) == (3001, (3000, 7))


def test_many_rows_go_to_a_temporary_file(monkeypatch):
    monkeypatch.setattr(Repeats, "PILE", 8)
    values = [number * 7919 % 4000 for number in range(6000)]  # the first 4,000 are different, then they come again
    assert repeats_of(values) == (2000, (4000, 0))
    assert repeats_of([*range(3000), 2998, 5]) == (2, (3000, 2998))
    repeats = Repeats()
    for number in range(3000):
        repeats.add(Row("line", number + 1, {"a": number}))
    assert sum(map(len, repeats.piles)) <= 2 * 8 * Repeats.PARTS < 2 * 3000 and repeats.end > 20_000  # bytes in the file
    assert repeats.found() == (0, None) and repeats.file.closed


class FullDisk:
    """A temporary file that takes `room` bytes, and of the next piece a half or an error."""

    def __init__(self, room: int, error: bool):
        self.real, self.room, self.error = tempfile.TemporaryFile(buffering=0), room, error

    def write(self, data) -> int:
        left = self.room - self.real.tell()
        if left < len(data) * 8 and self.error:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.real.write(bytes(data)[: max(left, 0)])

    def __getattr__(self, name):
        return getattr(self.real, name)


@pytest.mark.parametrize("error", [True, False])
@pytest.mark.parametrize("room", [0, 1000])
def test_without_room_for_a_temporary_file_repeats_are_found_all_the_same(room, error, monkeypatch):
    monkeypatch.setattr(Repeats, "PILE", 8)
    disk = FullDisk(room, error)
    monkeypatch.setattr(row_files.tempfile, "TemporaryFile", lambda **_: disk)
    assert repeats_of([*range(3000), 2998, 5]) == (2, (3000, 2998))
    assert disk.closed


def test_the_order_of_columns_does_not_count():
    repeats = Repeats()
    for number, values in enumerate(({"a": 1, "b": "\ud800"}, {"b": "\ud800", "a": 1})):
        repeats.add(Row("line", number + 1, values))
    assert repeats.found() == (1, (2, 1))
