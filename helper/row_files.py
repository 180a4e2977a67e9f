"""Files of rows, read one row at a time and written whole or not at all: JSONL, a JSON list, CSV, parquet.

What the commands `python -m helper.validation` and `python -m helper.converters` stand on: a file of any size in little
memory. A row that cannot be read comes with its fault instead of its values, so that a report can name all of them.
Parquet is read through pyarrow and CSV through Python's csv, not through `datasets`: `datasets.load_dataset` first writes
the whole file into its cache as Arrow, gives rows without the number of their line, and ends at the first row that does
not fit, where a report needs every bad row by its line.
Left out on purpose: repair, compressed files, types in CSV (every cell is text, but for lists written as JSON).
"""

import argparse
import codecs
import csv
import json
import os
import sys
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from helper.data import DECODER, OTHER_KINDS, near_file, parse_line
from helper.machine.folders import disk_is_full, free_name, remove

LARGEST_ROW = 16 * 2**20  # bytes; a file without line ends would be read whole otherwise
CHUNK = 2**18  # characters of a JSON list read at a time
BATCH = 256  # rows of a parquet file read or written at a time
LISTS = ("messages", "prompt", "completion", "chosen", "rejected", "conversations", "output", "scores", "history", "tools")
WORKBOOKS = (".xlsx", ".xlsm", ".xls")
EXCEL = 'Excel: Save as, "CSV UTF-8"'
TRUTH = {"true": True, "false": False}
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
COLUMNS = {  # of what is written, in parquet
    **dict.fromkeys(("messages", "prompt", "completion", "chosen", "rejected"), MESSAGES),
    **dict.fromkeys(("instruction", "input", "output", "system"), pa.string()),
    "conversations": TURNS,
    "history": pa.list_(pa.list_(pa.string())),
    "label": pa.bool_(),
}


class Row(NamedTuple):
    """A row: where it stands (its `unit` is "line" or "row"), its values, and what is wrong where it could not be read."""

    unit: str
    number: int
    values: dict | None
    fault: str | None = None

    @property
    def where(self) -> str:
        return f"{self.unit} {self.number}"


def read_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a file, one at a time. The kind is seen from its first bytes, CSV from its name (.csv, .tsv).

    Lines are counted from 1 and name rows of JSONL and CSV; rows of a JSON list and of parquet are counted from 0.
    Raises ValueError, in one line, where the file is no file of rows, is empty, or cannot be read on from some place;
    OSError where it cannot be opened.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it.")
    if not path.exists():
        raise ValueError(f'There is no file "{path}".{near_file([path])}')
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith(b"PAR1"):
            rows = _parquet_rows(path)
        else:
            _check_text(start, path)
            file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
            rows = _text_rows(file, start, path)
        first = next(rows, None)
        if first is None:
            raise ValueError(f"{path} has no rows.")
        yield first
        yield from rows


def _check_text(start: bytes, path: Path) -> None:
    """Raise ValueError for a file that begins as another kind does, or that is empty."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8 text ({EXCEL}).")
    if path.suffix.lower() in WORKBOOKS:
        raise ValueError(f'{path} is an Excel workbook: save it as "CSV UTF-8".')
    for mark, kind in OTHER_KINDS.items():
        if start.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(mark.lower()):
            raise ValueError(f"{path} holds no rows but is {kind}.")
    if not start.strip():
        raise ValueError(f"{path} has no rows: the file is empty. Copy, download or write it again.")


def _text_rows(file, start: bytes, path: Path) -> Iterator[Row]:
    if path.suffix.lower() in (".csv", ".tsv"):
        return _csv_rows(file, path)
    if start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        return _list_rows(file, path)
    if path.suffix.lower() == ".txt" and not start.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"{"):
        raise ValueError(f'{path} holds no JSON. If it is CSV, name it "{path.stem}.csv".')
    return _jsonl_rows(file)


def _lines(file) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line; ValueError for one that does not end."""
    for number, line in enumerate(iter(lambda: file.readline(LARGEST_ROW), b""), start=1):
        if len(line) == LARGEST_ROW:
            raise ValueError(f"Line {number} is longer than {LARGEST_ROW >> 20} MB: is this a file of one row a line?")
        yield number, line


def _jsonl_rows(file) -> Iterator[Row]:
    size, read = os.fstat(file.fileno()).st_size, file.tell()
    for number, line in _lines(file):
        read += len(line)
        if line.strip():
            try:
                yield Row("line", number, parse_line(line, "here", last=read >= size))
            except ValueError as error:
                yield Row("line", number, None, str(error).removeprefix("here: "))


def _list_rows(file, path: Path) -> Iterator[Row]:
    """The objects of one JSON list, without more of its text in memory than one row and a chunk."""
    text, number = _Text(file, path), 0
    text.skip("[")
    while text.peek() != "]":
        comma = text.skip(",") if number else True
        if not text.peek():
            raise ValueError(f"{path}: the list does not end. The file looks cut off behind row {number - 1} (from 0).")
        if not comma:
            raise ValueError(f"{path}, behind row {number - 1} (counted from 0): no comma.")
        row = text.value(f"{path}, row {number} (counted from 0)")
        known = isinstance(row, dict)
        yield Row("row", number, row if known else None, None if known else "not a JSON object.")
        number += 1
    text.skip("]")
    if text.peek():
        raise ValueError(f"{path}: there is more behind the end of its list. Keep one list, or write one row a line.")


class _Text:
    """The text of a file, of which only what is looked at is in memory."""

    def __init__(self, file, path: Path):
        self.file, self.path, self.decoder = file, path, codecs.getincrementaldecoder("utf-8")()
        self.text, self.place, self.ended = "", 0, False

    def more(self, size: int = CHUNK) -> None:
        """Forget what was read, and read on."""
        chunk = self.file.read(size)
        self.ended = not chunk
        try:
            new = self.decoder.decode(chunk, final=self.ended)
        except UnicodeDecodeError:
            raise ValueError(f"{self.path}: not UTF-8. Save the file as UTF-8 text.") from None
        self.text, self.place = self.text[self.place :] + new, 0

    def peek(self) -> str:
        """The next character that is no blank; nothing at the end."""
        while True:
            while self.place < len(self.text) and self.text[self.place] in " \t\r\n":
                self.place += 1
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self.more()

    def skip(self, mark: str) -> bool:
        found = self.peek() == mark
        self.place += found
        return found

    def value(self, where: str):
        """The next JSON value; ValueError says `where` it is broken."""
        while True:
            try:
                value, self.place = DECODER.raw_decode(self.text, self.place)
                return value
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos > len(self.text) - 16
                if self.ended or not unfinished:
                    raise ValueError(f"{where}: not JSON ({error.msg}).") from None
            except RecursionError:
                raise ValueError(f"{where}: lists or objects far too deep in one another.") from None
            except ValueError as error:  # of the decoder's own rules: nan, a key that stands twice
                raise ValueError(f"{where}: {error}.") from None
            if len(self.text) - self.place > LARGEST_ROW:
                raise ValueError(f"{where}: larger than {LARGEST_ROW >> 20} MB. Is a quotation mark missing?")
            self.more(max(CHUNK, len(self.text) - self.place))


def _csv_rows(file, path: Path) -> Iterator[Row]:
    csv.field_size_limit(LARGEST_ROW)
    lines = _csv_lines(file, path)
    first = next(lines)
    delimiter, number = max(",\t;", key=first.count), 1
    told = first.rstrip("\r\n")
    if told.lower().startswith("sep=") and len(told) == 5:  # a line for Excel
        first, delimiter, number = next(lines, ""), told[-1], 2
    try:
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True))]
        if names.count("") > 1:
            raise ValueError(f"{path}: a column has no name ({', '.join(names)[:80]}). Name each, or delete empty ones.")
        if len(set(names)) < len(names):
            raise ValueError(f"{path}: a column stands twice in the first line ({', '.join(names)[:80]}).")
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = number
        number += 1  # the line on which the next row begins: a cell may hold line ends
        for cells in reader:
            if len(cells) == len(names):
                yield Row("line", number, dict(zip(names, map(_cell, names, cells))))
            elif cells:
                yield Row("line", number, None, f"{len(cells)} cells, and the first line names {len(names)} columns.")
            number = header + reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {number}: not CSV ({error}). Is a quotation mark missing or too many?") from None


def _csv_lines(file, path: Path) -> Iterator[str]:
    for number, line in _lines(file):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{path}, line {number}: not UTF-8. Save the file as UTF-8 text ({EXCEL}).") from None


def _cell(name: str, text: str):
    """A cell of a column that may hold a list: the list, where it is one in JSON; other cells as they are."""
    if name in ("label", "kto_tag"):
        return TRUTH.get(text.strip().lower(), text)
    if name in LISTS and text.lstrip().startswith(("[", "{")):
        with suppress(ValueError, RecursionError):
            return DECODER.decode(text)
    return text


def _parquet_rows(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with parquet.ParquetFile(path, buffer_size=2**20, pre_buffer=False) as file:
            for batch in file.iter_batches(BATCH):
                for values in batch.to_pylist():
                    yield Row("row", number, values)
                    number += 1
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:150]
        raise ValueError(f"{path}: not a parquet file that can be read, from row {number} on ({reason}).") from None


# Writing


@contextmanager
def written_rows(path: str | Path, overwrite: bool = False) -> Iterator[Callable[[dict], None]]:
    """A function that writes a row to `path` (.jsonl, .json: one list, .parquet); after an error nothing is there.

    The rows go to a file beside it, which takes its name when the block ends without an error. Raises ValueError
    for another ending, a folder, a folder that is not there, and, without `overwrite`, a file that is there.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the file to be written.")
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f'"{path.name}" must end in {", ".join(WRITERS)}: the rows hold lists, for which CSV has no place.')
    if not path.parent.is_dir():
        raise ValueError(f"There is no folder {path.parent} to write into: make it first.")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} is there already: name another file, or add --overwrite.")
    unfinished = free_name(path.with_name(f"{path.name}.unfinished"))
    try:
        with WRITERS[path.suffix.lower()](unfinished) as write:
            yield write
        os.replace(unfinished, path)
    finally:
        remove(unfinished)


@contextmanager
def _jsonl_writer(path: Path) -> Iterator[Callable[[dict], None]]:
    with path.open("x", encoding="utf-8", newline="\n") as file:
        yield lambda row: file.write(json.dumps(row, ensure_ascii=False) + "\n")


@contextmanager
def _json_writer(path: Path) -> Iterator[Callable[[dict], None]]:
    before = iter(["[\n"])
    with path.open("x", encoding="utf-8", newline="\n") as file:
        yield lambda row: file.write(next(before, ",\n") + json.dumps(row, ensure_ascii=False))
        file.write(next(before, "") + "\n]\n")


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Callable[[dict], None]]:
    rows, writer = [], None

    def flush() -> None:
        nonlocal writer
        schema = pa.schema([(name, COLUMNS[name]) for name in rows[0]])
        writer = writer or parquet.ParquetWriter(path, schema)
        writer.write_table(pa.Table.from_pylist(rows, schema))
        rows.clear()

    def write(row: dict) -> None:
        rows.append(row)
        if len(rows) == 16 * BATCH:
            flush()

    try:
        yield write
        if rows:
            flush()
    finally:
        if writer:
            writer.close()


WRITERS = {".jsonl": _jsonl_writer, ".json": _json_writer, ".parquet": _parquet_writer}


# What the commands share

SORTED = json.JSONEncoder(sort_keys=True, default=str)


class Repeats:
    """Counts the rows that stand in a file twice or more, in little memory for any number of rows.

    Of each row 16 bytes are kept, a mark (a hash of 8 bytes) and its number, in PARTS by the mark: equal rows are in the
    same part, and one part at a time is looked at. What is more than PILE rows of a part goes to a temporary file; where
    there is no room for one, it stays in memory.
    """

    PARTS, PILE = 64, 2**14  # 16 MB in all

    def __init__(self):
        self.piles = [array("Q") for _ in range(self.PARTS)]
        self.places: list[list[tuple[int, int]]] = [[] for _ in range(self.PARTS)]  # in the file: (where, how many numbers)
        self.file, self.end, self.full = None, 0, False

    def add(self, row: Row) -> None:
        text = SORTED.encode(row.values).encode("utf-8", "surrogatepass")
        mark = int.from_bytes(blake2b(text, digest_size=8).digest(), "little")
        part = mark % self.PARTS
        self.piles[part].extend((mark, row.number))
        if len(self.piles[part]) >= 2 * self.PILE and not self.full:
            self._put_away(part)

    def _put_away(self, part: int) -> None:
        pile = self.piles[part]
        try:
            self.file = self.file or tempfile.TemporaryFile(buffering=0)
            self.file.seek(self.end)
            self.full = self.file.write(pile) < len(pile) * pile.itemsize
        except OSError:  # a full disk, no folder for temporary files
            self.full = True
        if self.full:
            return
        self.places[part].append((self.end, len(pile)))
        self.end += len(pile) * pile.itemsize
        self.piles[part] = array("Q")

    def _of_part(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Marks and numbers of a part's rows, in the order of the file."""
        rows = array("Q")
        for place, count in self.places[part]:
            self.file.seek(place)
            rows.fromfile(self.file, count)
        rows.extend(self.piles[part])
        both = np.frombuffer(rows, np.uint64).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    def found(self) -> tuple[int, tuple[int, int] | None]:
        """How many rows stand there before already, and of the first of these the numbers: (it, the one before).

        To be asked once, at the end: it closes the temporary file.
        """
        count, first = 0, None
        for part in range(self.PARTS):
            marks, numbers = self._of_part(part)
            order = np.argsort(marks, kind="stable")
            again = np.flatnonzero(marks[order[1:]] == marks[order[:-1]])
            count += len(again)
            if len(again):
                later = order[again + 1].min()
                pair = (int(numbers[later]), int(numbers[np.flatnonzero(marks == marks[later])[0]]))
                first = min(first or pair, pair)
        if self.file:
            self.file.close()
        return count, first


def run_command(command: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, arguments=None) -> int:
    """Run a command and give its exit status; what goes wrong is one line on stderr and 2, as for wrong arguments."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # a terminal that has no ü shows \\xfc
    try:
        return command(parser.parse_args(arguments))
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    except KeyboardInterrupt:
        problem = "stopped; nothing was written."
    except (MemoryError, RecursionError):
        problem = "a row is too large or too deep for the memory; nothing was written."
    except (ValueError, OSError) as error:
        full = disk_is_full(error)
        words = "the disk is full; nothing was written." if full else _words_of(error)
        problem = " ".join(words.split())
    print(f"{parser.prog}: {problem}", file=sys.stderr)
    return 2


def _words_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or ''}: {error.strerror}".removeprefix(": ")
    return str(error)
