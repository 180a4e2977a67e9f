"""Data sets by name, files with one JSON object a line, and a look at their rows.

A name is one of ours ("sprout-sft"), a .jsonl file, or a name on the Hugging Face Hub.
Left out on purpose: streaming, caching of processed data, and repair: a bad line is reported, never mended.
"""

import difflib
import json
import math
import os
from bisect import bisect_left
from codecs import BOM_UTF8
from collections.abc import Iterable
from pathlib import Path

import datasets
from datasets import Dataset
from pyarrow import ArrowException

from helper.answers import extract_gold
from helper.machine.folders import project_folder
from helper.machine.hub import hub_is_reachable, places_of

HUB_CONFIGS = {"openai/gsm8k": "main"}  # Hub data sets that want to be told which part of them
LINE_HINT = "Each row is one JSON object on one line."
LIST_HINT = "This looks like one JSON list: read it with json.load, or write it one row a line."
DEEPEST = 50  # lists and objects in one another; Arrow's tables end at 64
OTHER_KINDS = {  # how a file begins that is no JSON: what it is, and what to do
    b"version https://git-lfs": "only a pointer of Git LFS: run `git lfs pull`, or download the file itself",
    b"<!doctype html": 'a web page: download the file itself (on GitHub and the Hub: "raw" or "download")',
    b"<html": 'a web page: download the file itself (on GitHub and the Hub: "raw" or "download")',
    b"<?xml": "XML: perhaps the answer of a server that refused the download",
    b"\x1f\x8b": "compressed: unpack it with gunzip",
    b"PK\x03\x04": "a zip archive: unpack it",
    b"PAR1": "a Parquet file: datasets.Dataset.from_parquet(path) reads it",
    b"\x89PNG": "a picture",
}
HUGE_HINT = "a number with thousands of digits: write it as text, or leave it out"
CUT_HINT = "The file looks cut off there: copy, download or write it again."


def load_course_dataset(
    name: str | os.PathLike, split: str = "train", limit: int | None = None, seed: int = 0, revision: str | None = None
) -> Dataset:
    """A data set as a `datasets.Dataset`; with `limit`, that many rows drawn with `seed`.

    `name`: "sprout-sft" and its like (data/sft/<split>.jsonl), a .jsonl file, which has no splits, or a Hub name;
    `revision`: a Hub branch, tag or commit (default: main).
    Raises within seconds, with what to do: ValueError (a misspelt name, a broken row, another kind of file),
    FileNotFoundError (no such file), ConnectionError (a Hub name and no network).
    """
    if not isinstance(name, str | os.PathLike):
        raise TypeError(f"The name of a data set is a text or a path, not a {type(name).__name__}.")
    if not isinstance(split, str):
        raise TypeError(f'split={split!r:.40} is a {type(split).__name__}: give its name, such as "train" or "test".')
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise TypeError(
            f"limit={limit!r:.40} is a {type(limit).__name__}: give a whole number from 1, or None for all rows."
        )
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit} leaves no rows: give a number from 1, or None for all of them.")
    name = os.fspath(name)
    path = _local_file(name, split)
    shipped = name.startswith("sprout-")
    if path and not shipped and split not in ("train", path.stem):
        raise ValueError(f'"{name}" is a file and has no split "{split}": leave split out, or name the file of that split.')
    if path and revision is not None:
        kind = "comes with the course" if shipped else "is a file"
        raise ValueError(f'"{name}" {kind} and has no revisions: leave revision="{revision}" out.')
    dataset = _from_rows(read_jsonl(path), path) if path else _from_hub(name, split, revision)
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return dataset


def _from_rows(rows: list[dict], path: Path) -> Dataset:
    """Rows as a Dataset with the columns of all of them (`Dataset.from_list` takes the first row's only)."""
    columns = dict.fromkeys(column for row in rows for column in row)
    if not columns:
        raise ValueError(f"{path}: its rows have no columns, each is {{}}. Write it again.")
    try:
        return Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
    except (ArrowException, OverflowError, UnicodeError) as error:
        odd = _odd_value(rows, columns)
        raise ValueError(f"{path}: its rows do not fit into one table ({str(error).splitlines()[0]}). {odd}") from None


def _odd_value(rows: list[dict], columns: Iterable[str]) -> str:
    """The first column that is no column of a table, and its first value that does not go with those before it, in words."""
    for column in columns:
        values = [row.get(column) for row in rows]
        if _fits(values):
            continue
        number = bisect_left(range(len(values)), True, key=lambda last: not _fits(values[: last + 1]))
        words = f'In the column "{column:.40}" row {number} (counted from 0) holds {_shown(values[number])}'
        before = next(((place, value) for place, value in enumerate(values[:number]) if value is not None), None)
        if not _fits([values[number]]):
            return (
                f"{words}, which no table can hold (a number or a sign out of range): write it otherwise, or leave it out."
            )
        words += f", and row {before[0]} {_shown(before[1])}" if before else ""
        return words + ". A column has to be of one type in all rows: mend that row, or leave it out."
    return "A column has to be of one type in all rows: read_jsonl gives them as they are."


def _fits(values: list) -> bool:
    try:
        Dataset.from_dict({"column": values})
    except (ArrowException, OverflowError, UnicodeError):
        return False
    return True


def _shown(value) -> str:
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:60] + '...'} ({type(value).__name__})"


def shipped_datasets() -> list[str]:
    """The names of the data sets that come with the course."""
    folders = sorted((project_folder() / "data").glob("*/*.jsonl"))
    return sorted({f"sprout-{path.parent.name}" for path in folders if path.parent.name != "eval"})


def _local_file(name: str, split: str) -> Path | None:
    """The .jsonl file that `name` stands for, None for a Hub name; raises when it can be neither."""
    paths = places_of(name, project_folder())
    if "://" in name:
        raise ValueError(f'"{name}" is an address: download the file and name it, or give a Hub name, "owner/name".')
    if name.lower().endswith((".jsonl", ".json")):
        for path in paths:
            if path.exists():
                return path  # perhaps a folder: read_jsonl says so
        near = near_file(paths)
        raise FileNotFoundError(f'There is no file "{name}" (looked from {Path.cwd()} and {project_folder()}).{near}')
    for path in paths:
        if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
            raise ValueError(f'{path} was written by save_to_disk: datasets.load_from_disk("{name}") reads it.')
    if any(path.is_file() for path in paths):
        raise ValueError(
            f'"{name}" is no .jsonl file. With pandas: table.to_json("rows.jsonl", orient="records", lines=True).'
        )
    if name.startswith((".", "/", "~")):
        folder = next((path for path in paths if path.is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f'There is no file "{name}" (looked from {Path.cwd()} and {project_folder()}).')
        return folder
    if "/" in name:
        return next((path for path in paths if any(path.glob("*.jsonl"))), None)  # a folder: read_jsonl says so
    splits = {}
    if name in shipped_datasets():
        splits = {file.stem: file for file in (project_folder() / "data" / name.removeprefix("sprout-")).glob("*.jsonl")}
    if split in splits:
        return splits[split]
    if splits:
        raise ValueError(f'{name} has no split "{split}": it has {", ".join(sorted(splits))}.')
    raise ValueError(f'There is no data set "{name}"{_did_you_mean(name, shipped_datasets())}')


def _did_you_mean(name: str, names: list[str]) -> str:
    known = {**{other.removeprefix("sprout-"): other for other in names}, **{other: other for other in names}}
    near = [known[match] for match in difflib.get_close_matches(name, known, n=1, cutoff=0.6)]
    if near:
        return f': did you mean "{near[0]}"?'
    return f": there is {', '.join(names)}." if names else f". Run `make data` in {project_folder()} to build them."


def _from_hub(name: str, split: str, revision: str | None = None) -> Dataset:
    offline, before = not hub_is_reachable(), datasets.config.HF_HUB_OFFLINE
    if offline and revision:  # offline, the library would take the latest download, whatever its revision
        raise ConnectionError(
            f"{name} at revision {revision} needs the Hugging Face Hub, which cannot be reached from here. Leave revision "
            f"out to use an earlier download, or use a data set of the course: {', '.join(shipped_datasets())}."
        )
    options = {"revision": revision} if revision else {}
    datasets.config.HF_HUB_OFFLINE = offline or before  # offline, the library looks at earlier downloads at once
    try:
        return datasets.load_dataset(name, HUB_CONFIGS.get(name), split=split, **options)
    except Exception as error:  # the library raises a dozen kinds
        if not offline:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(f'{name}, split "{split}", could not be loaded from the Hub: {reason}') from None
    finally:
        datasets.config.HF_HUB_OFFLINE = before
    raise ConnectionError(
        f"{name} is a data set on the Hugging Face Hub, which cannot be reached from here, and no earlier "
        "download of it is on this machine. Use one that came with the course: "
        f"{', '.join(shipped_datasets()) or 'run `make data`'}."
    )


def load_suite(name: str) -> list[dict]:
    """The questions in data/eval/<name>.jsonl, one dict a row: id, skill, question and what grades it."""
    if not isinstance(name, str):
        raise TypeError(f"The name of a suite is a text, not a {type(name).__name__}.")
    if any(mark in name for mark in "/\\\0") or name.startswith("."):
        raise ValueError(f'"{name}" is no name of a suite but a path: read_jsonl reads a file.')
    folder = project_folder() / "data" / "eval"
    if not (folder / f"{name}.jsonl").is_file():
        names = sorted(path.stem for path in folder.glob("*.jsonl"))
        raise ValueError(f'There is no evaluation suite "{name}"{_did_you_mean(name, names)}')
    return read_jsonl(folder / f"{name}.jsonl")


def load_suites(wanted: dict[str, int | tuple[str, ...] | None], seed: int = 0) -> dict[str, list[dict]]:
    """Several suites: name -> rows. `wanted`: name -> None (all rows), how many (evenly spread), or the skills to keep.

    "gsm8k" is the test set of `openai/gsm8k`, from the Hub, that many rows drawn with `seed`; "rewrites" two skills of the
    instructions in which a talkative model is right when the result is in its first sentence.
    """
    suites = {}
    for name, part in wanted.items():
        if name == "gsm8k":
            suites[name] = _gsm8k(part, seed)
            continue
        rows = _rewrites() if name == "rewrites" else load_suite(name)
        if isinstance(part, tuple):
            rows = [row for row in rows if row["skill"] in part]
        elif part is not None:
            rows = [rows[i * len(rows) // part] for i in range(part)] if part < len(rows) else rows
        suites[name] = rows
    return suites


def _gsm8k(limit: int | None, seed: int) -> list[dict]:
    rows = load_course_dataset("openai/gsm8k", "test", limit=limit, seed=seed)
    told = {"skill": "gsm8k", "grader": "boxed"}
    return [
        {"id": f"gsm8k-{i}", "question": row["question"], **told, "value": extract_gold(row["answer"])}
        for i, row in enumerate(rows)
    ]


def _rewrites() -> list[dict]:
    rows = [row for row in load_suite("instructions") if row["skill"] in ("uppercase", "sort")]
    return [{**row, "grader": "mentions"} for row in rows]


def read_jsonl(path: str | Path) -> list[dict]:
    """The rows of a file with one JSON object a line, in UTF-8; blank lines are skipped.

    Raises, with the line's number and what to do: ValueError (a line that is no object, a file cut off, no rows),
    FileNotFoundError, IsADirectoryError.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        names = ", ".join(sorted(file.name for file in path.glob("*.jsonl"))[:5])
        todo = f"name a file in it ({names})" if names else "it holds no .jsonl file"
        raise IsADirectoryError(f"{path} is a folder, not a file: {todo}.")
    if not path.is_file():
        raise FileNotFoundError(f'There is no file "{path}" (looked from {Path.cwd()}).{near_file([path])}')
    content = path.read_bytes().removeprefix(BOM_UTF8)
    for start, kind in OTHER_KINDS.items():
        if content[:100].lstrip().lower().startswith(start.lower()):
            raise ValueError(f"{path} holds no rows but is {kind}.")
    lines = content.split(b"\n")
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not rows:
        raise ValueError(f"{path} has no rows: the file is empty. Copy, download or write it again.")
    return [parse_line(line, f"{path}, line {number}", last=number == rows[-1][0]) for number, line in rows]


def parse_line(line: bytes, where: str, last: bool) -> dict:
    """The object on one line; ValueError says `where`, and of the last line whether the file looks cut off there."""
    start = line.lstrip()[:1]
    cut_off = last and start == b"{"
    try:
        row = DECODER.decode(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        todo = CUT_HINT if cut_off and error.reason == "unexpected end of data" else "Save the file as UTF-8 text."
        raise ValueError(f"{where}: not UTF-8. {todo}") from None
    except json.JSONDecodeError as error:
        todo = CUT_HINT if cut_off and error.msg != "Extra data" else LIST_HINT if start == b"[" else LINE_HINT
        raise ValueError(f"{where}: not JSON ({error.msg}). {todo}") from None
    except RecursionError:
        raise ValueError(f"{where}: lists or objects far too deep in one another. Write the row flatter.") from None
    except ValueError as error:
        todo = HUGE_HINT if "int string conversion" in str(error) else error
        raise ValueError(f"{where}: {todo}.") from None
    if not isinstance(row, dict):
        raise ValueError(f"{where}: not a JSON object. {LIST_HINT if isinstance(row, list) else LINE_HINT}")
    if line.count(b"[") + line.count(b"{") > DEEPEST and _depth(row) > DEEPEST:
        raise ValueError(f"{where}: lists or objects more than {DEEPEST} deep in one another. Write the row flatter.")
    return row


def _depth(value) -> int:
    """How deep lists and objects stand in one another."""
    depth, level = 0, [value]
    while level:
        holders = [item for item in level if isinstance(item, list | dict)]
        level = [inner for item in holders for inner in (item.values() if isinstance(item, dict) else item)]
        depth += bool(holders)
    return depth


def _refuse_constant(name: str):
    raise ValueError(f"{name} is no JSON value; write null or leave it out")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is larger than any number here; write it as text or leave it out")
    return number


def _object(pairs: list[tuple]) -> dict:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'"{twice:.40}" stands twice in one object, and only one of the two would be read')
    return row


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)


def near_file(paths: Iterable[Path]) -> str:
    """A hint at the file in a path's folder that may have been meant."""
    for path in paths:
        names = [file.name for file in path.parent.glob("*") if file.is_file()]
        for near in difflib.get_close_matches(path.name, names, n=1):
            return f' Did you mean "{near}"?'
    return ""
