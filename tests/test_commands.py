"""`python -m helper.validation` and `helper.converters`: reports, exit status, one-line errors, whole or nothing."""

import errno
import importlib.util
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_row_files import written

from helper import converters, row_files, validation
from helper.converters import (
    from_alpaca,
    from_kto,
    from_output_pairs,
    from_plain_pairs,
    from_ranked_outputs,
    from_scores,
    from_sharegpt,
    to_kto,
    to_prompt_completion,
)
from helper.row_files import read_rows

ROOT = Path(__file__).resolve().parent.parent


def said(*turns: str) -> list[dict]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 3, turns)]


GOOD = {
    "messages": {"messages": said("q", "a")},
    "completions": {"prompt": said("q"), "completion": said("q", "a")[1:]},
    "preferences": {"prompt": said("q"), "chosen": said("q", "a")[1:], "rejected": said("q", "b")[1:]},
    "problems": {"question": "q", "answer": "2 #### 2"},
    "rules": {"question": "q", "ground_truth": "at_most_words 5"},
}
RAW = {
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, from_alpaca),
    "sharegpt": ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, from_sharegpt),
    "plain-pairs": ({"instruction": "q", "chosen": "a", "rejected": "b"}, from_plain_pairs),
    "output-pairs": ({"instruction": "q", "output": ["a", "b"]}, from_output_pairs),
    "ranked": ({"instruction": "q", "output": ["a", "b", "c"]}, from_ranked_outputs),
    "scores": ({"instruction": "q", "output": ["a", "b", "c"], "scores": [3, 9, 5]}, from_scores),
}


@pytest.fixture
def command(capsys):
    """Runs a command: exit status, what it says, and its one-line problem."""

    def run(module, *arguments) -> tuple[int, str, str]:
        capsys.readouterr()
        status = module.main([str(argument) for argument in arguments])
        out, problem = capsys.readouterr()
        assert "Traceback" not in out + problem and problem.count("\n") == (status == 2)
        return status, out, problem

    return run


def numbered(row: dict, number: int) -> dict:
    """A row of its own, so that none is there twice."""
    return json.loads(json.dumps(row).replace('"q"', f'"q {number}"'))


def many(row: dict, number: int = 10) -> list[dict]:
    return [numbered(row, i) for i in range(number)]


# Validation


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_right_rows(name, kind, tmp_path, command):
    rows = [
        {column: json.dumps(cell) if kind == "csv" and isinstance(cell, list) else cell for column, cell in row.items()}
        for row in many(GOOD[name])
    ]
    path = written(tmp_path, kind, rows)
    for chosen in ("auto", name):
        status, out, _ = command(validation, path, "--format", chosen)
        assert status == 0 and out == f"{path}: 10 rows, checked as {name}; all of them are right.\n"


def test_the_command_says_what_the_function_says():
    assert set(validation.FORMATS) == set(GOOD)
    functions = {
        "messages": validation.validate_messages, "completions": validation.validate_completions,
        "preferences": validation.validate_preferences, "problems": validation.validate_problems,
        "rules": validation.validate_rules,
    }  # fmt: skip
    for name, row in GOOD.items():
        column = validation.FORMATS[name].columns[-1]
        for bad in ({**row, column: None}, {**row, column: ""}, {**row, column: [{"role": "bot", "content": 3}]}):
            faults = validation.FORMATS[name].faults(bad)
            with pytest.raises(ValueError) as caught:
                functions[name]([row, bad])
            assert faults and all(f"row 1: {text[:60]}" in str(caught.value) for _, text in faults)


def test_a_report_by_row(tmp_path, command):
    rows = many(GOOD["messages"], 12)
    rows[3] = {"messages": "text"}
    rows[4] = {"messages": said("q")}
    rows[9] = {"other": 1}
    path = written(tmp_path, "jsonl", rows)
    lines = path.read_text().splitlines()
    lines[6] = lines[6][:20]
    path.write_text("\n".join(lines))
    status, out, _ = command(validation, path)
    assert status == 1 and [line.split(":")[0] for line in out.splitlines()[:-1]] == [
        "line 4",
        "line 5",
        "line 7",
        "line 10",
    ]
    assert "no list of messages but a string" in out and "the assistant's answer must come last" in out
    assert "line 7: not JSON (" in out and 'line 10: the row has no column "messages"' in out
    assert out.endswith("12 rows, checked as messages; 4 are wrong: mend them or leave them out.\n")


def test_of_many_bad_rows_each_kind_is_shown(tmp_path, command):
    rows = [{"messages": said("q")}] * 50 + many(GOOD["messages"], 3) + [{"messages": "text"}] * 50
    path = written(tmp_path, "json", rows)
    status, out, _ = command(validation, path, "--show", 2)
    assert status == 1 and [line.split(":")[0] for line in out.splitlines()[:3]] == ["row 0", "row 1", "row 53"]
    assert "and 97 more bad rows" in out and "(rows counted from 0)" in out and "98 rows stand there a second time" in out
    status, out, _ = command(validation, path, "--show", 100)
    assert len(out.splitlines()) == 102


def test_rows_that_stand_there_twice_are_noted_and_right(tmp_path, command):
    rows = many(GOOD["problems"], 4)
    status, out, _ = command(validation, written(tmp_path, "jsonl", [*rows, rows[1]]))
    assert status == 0 and "Note: 1 rows stand there a second time; the first is line 5, as line 2." in out


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([RAW["sharegpt"][0]], "convert the file first, with python -m helper.converters"),
        ([RAW["plain-pairs"][0]], "convert the file first"),
        ([{"text": "a"}], 'the columns are "text", which is no known format (messages: messages; completions'),
        ([{**GOOD["messages"], **GOOD["problems"]}], "this may be messages or problems. Say which, with --format."),
    ],
)
def test_a_format_that_cannot_be_told(rows, words, tmp_path, command):
    status, _, problem = command(validation, written(tmp_path, "jsonl", rows))
    assert status == 2 and words in problem and problem.startswith("python -m helper.validation: ")


def test_a_missing_column_is_every_rows_fault(tmp_path, command):
    status, out, _ = command(validation, written(tmp_path, "jsonl", many(GOOD["problems"])), "--format", "messages")
    assert status == 1 and out.count('the row has no column "messages"') == 10


@pytest.mark.parametrize("content", [b"", b"\xff\xfe{", b"no json\nnor here\n", b"\x1f\x8b"])
def test_what_is_no_file_of_rows(content, tmp_path, command):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    for module, more in ((validation, ()), (converters, (tmp_path / "out.jsonl",))):
        status, _, problem = command(module, path, *more)
        assert status == 2 and problem.startswith("python -m helper.")
    assert os.listdir(tmp_path) == ["rows.jsonl"]


# Converters


@pytest.mark.parametrize("name", RAW)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_format_as_its_function_makes_it(name, kind, tmp_path, command):
    row, function = RAW[name]
    rows = many(row)
    wanted = function(rows)
    if kind == "csv":
        rows = [{key: json.dumps(cell) if isinstance(cell, list) else cell for key, cell in row.items()} for row in rows]
    path = written(tmp_path, kind, rows)
    for ending in ("jsonl", "json", "parquet"):
        out = tmp_path / f"out.{ending}"
        status, words, _ = command(converters, path, out, "--from", name)
        assert status == 0 and f"10 rows, read as {name}" in words and f"{len(wanted)} rows." in words
        assert [row.values for row in read_rows(out)] == wanted
        assert command(validation, out)[0] == 0


@pytest.mark.parametrize("name", RAW)
def test_auto_tells_them_apart(name, tmp_path, command):
    status, words, _ = command(converters, written(tmp_path, "jsonl", many(RAW[name][0])), tmp_path / "out.jsonl")
    read_as = {"output-pairs": "ranked"}.get(name, name)  # two answers, ranked: the same pairs
    assert status == 0 and f"read as {read_as}" in words


def test_auto_does_not_guess(tmp_path, command):
    out = tmp_path / "out.jsonl"
    for rows, words in (
        ([RAW["alpaca"][0], RAW["ranked"][0]], "this may be ranked or alpaca. Say which, with --from."),
        ([{**RAW["alpaca"][0], **RAW["plain-pairs"][0]}], "may be plain-pairs or alpaca"),
        ([GOOD["messages"]], "as the course has them"),
        ([{"text": "a"}], "no format known here"),
    ):
        status, _, problem = command(converters, written(tmp_path, "jsonl", rows), out)
        assert status == 2 and words in problem and not out.exists()


def test_options_of_pairs(tmp_path, command):
    ranked, scores = ([RAW[name][0]] for name in ("ranked", "scores"))
    path, out = written(tmp_path, "jsonl", ranked), tmp_path / "out.jsonl"
    assert command(converters, path, out, "--all-pairs")[0] == 0
    assert [row.values for row in read_rows(out)] == from_ranked_outputs(ranked, all_pairs=True)
    path = written(tmp_path, "jsonl", scores)
    assert command(converters, path, out, "--margin", 3, "--overwrite")[0] == 0
    assert [row.values for row in read_rows(out)] == from_scores(scores, margin=3)
    status, _, problem = command(converters, path, tmp_path / "other.jsonl", "--margin", 0)
    assert status == 2 and "margin is a number above 0" in problem
    status, words, _ = command(converters, path, tmp_path / "other.jsonl", "--margin", 8)
    assert status == 1 and "none of them gives a row, so nothing was written" in words


def test_rows_without_a_pair_are_counted(tmp_path, command):
    rows = [RAW["ranked"][0], {"instruction": "x", "output": ["a", "a "]}]
    status, words, _ = command(converters, written(tmp_path, "jsonl", rows), tmp_path / "out.jsonl", "--from", "ranked")
    assert status == 0 and "1 give no pair; 1 pairs of the same text left out." in words and ": 2 rows." in words


@pytest.mark.parametrize("to", ["alpaca", "sharegpt"])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_there_and_back(to, ending, tmp_path, command):
    rows = [{"messages": [{"role": "system", "content": "s"}, *said("1", "2", "3", "4")]}, *many(GOOD["messages"], 3)]
    path, there, back = written(tmp_path, "jsonl", rows), tmp_path / f"there.{ending}", tmp_path / "back.json"
    assert command(converters, path, there, "--to", to)[0] == 0
    assert command(converters, there, back, "--from", to)[0] == 0
    assert [row.values for row in read_rows(back)] == rows


def test_wrong_rows_write_nothing_or_are_left_out(tmp_path, command):
    rows = many(RAW["alpaca"][0])
    rows[2] = {**rows[2], "output": ""}
    rows[5] = {"instruction": "q"}
    path, out = written(tmp_path, "jsonl", rows), tmp_path / "out.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:6], lines[6][:9], *lines[7:]]))
    status, words, _ = command(converters, path, out)
    assert status == 1 and [line.split(":")[0] for line in words.splitlines()[:3]] == ["line 3", "line 6", "line 7"]
    assert "3 are wrong, so nothing was written" in words and os.listdir(tmp_path) == ["rows.jsonl"]
    status, words, _ = command(converters, path, out, "--skip-bad")
    assert status == 0 and "3 wrong ones left out. Written to" in words and len(list(read_rows(out))) == 7


def test_the_file_that_is_read_is_never_written(tmp_path, command):
    path, link = written(tmp_path, "jsonl", many(RAW["alpaca"][0])), tmp_path / "link.jsonl"
    link.symlink_to(path)
    before = path.read_bytes()
    for out in (path, link, tmp_path / "." / "rows.jsonl"):
        status, _, problem = command(converters, path, out, "--overwrite")
        assert status == 2 and "is the file that is read" in problem and path.read_bytes() == before


def test_where_it_cannot_be_written(tmp_path, command):
    path = written(tmp_path, "jsonl", many(RAW["alpaca"][0]))
    (tmp_path / "there.jsonl").write_text("old")
    for out, words in {
        tmp_path: "is a folder", tmp_path / "no" / "out.jsonl": "no folder", tmp_path / "out.csv": "CSV has no place",
        tmp_path / "there.jsonl": "add --overwrite",
    }.items():  # fmt: skip
        status, _, problem = command(converters, path, out)
        assert status == 2 and words in problem
    assert (tmp_path / "there.jsonl").read_text() == "old" and len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_full_disk_is_one_line_and_leaves_nothing(ending, tmp_path, command, monkeypatch):
    path, out = written(tmp_path, "jsonl", many(RAW["alpaca"][0])), tmp_path / f"out.{ending}"
    own = row_files.WRITERS[f".{ending}"]

    @contextmanager
    def full(target):
        with own(target) as write:
            yield write
            raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setitem(row_files.WRITERS, f".{ending}", full)
    status, _, problem = command(converters, path, out)
    assert status == 2 and problem.endswith("the disk is full; nothing was written.\n")
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_stopped_by_hand(tmp_path, command, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(converters, "_write_row", stop)
    status, _, problem = command(converters, written(tmp_path, "jsonl", [RAW["alpaca"][0]]), tmp_path / "out.jsonl")
    assert status == 2 and "stopped; nothing was written" in problem and os.listdir(tmp_path) == ["rows.jsonl"]


# Answers with a label


def labelled(numbers: int) -> list[dict]:
    """Three answers to each prompt, one of them good, the rows of a prompt far from one another."""
    rows = [{**GOOD["completions"], "label": label} for label in (True, False, False)]
    return [numbered(json.loads(json.dumps(row).replace('"a"', f'"{answer}"')), number)
            for row, answer in zip(rows, "abc") for number in range(numbers)]  # fmt: skip


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_labelled_answers_as_pairs(kind, tmp_path, command):
    rows = labelled(10)
    wanted = from_kto(rows)
    cells = [{key: json.dumps(cell) for key, cell in row.items()} for row in rows]
    path, out = written(tmp_path, kind, cells if kind == "csv" else rows), tmp_path / "out.jsonl"
    for source in ("kto", "auto"):
        status, words, _ = command(converters, path, out, "--from", source, "--overwrite")
        assert status == 0 and words == f"{path}: 30 rows, read as kto. Written to {out}: 20 rows.\n"
        assert [row.values for row in read_rows(out)] == wanted and len(wanted) == 20
    assert command(validation, out)[0] == 0


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_pairs_as_labelled_answers_and_back(ending, tmp_path, command):
    rows = many(GOOD["preferences"])
    path, there, back = written(tmp_path, "jsonl", rows), tmp_path / f"there.{ending}", tmp_path / "back.json"
    status, words, _ = command(converters, path, there, "--to", "kto")
    assert status == 0 and "10 rows, read as preferences" in words and "20 rows." in words
    assert [row.values for row in read_rows(there)] == to_kto(rows)
    assert command(converters, there, back)[0] == 0
    assert [row.values for row in read_rows(back)] == rows


def test_labelled_answers_without_a_partner_are_counted(tmp_path, command):
    rows, out = labelled(3), tmp_path / "out.jsonl"
    rows[4]["label"], rows[7]["label"] = True, True  # three good answers to the second prompt
    status, words, _ = command(converters, written(tmp_path, "jsonl", rows), out)
    assert status == 0 and "9 rows, read as kto; 3 give no pair. Written to" in words and words.endswith(": 4 rows.\n")
    same = [{**row, "completion": said("q", "a")[1:]} for row in labelled(2)]
    status, words, _ = command(converters, written(tmp_path, "jsonl", same), out, "--overwrite")
    assert status == 1 and "none of them gives a row, so nothing was written" in words
    path = written(tmp_path, "jsonl", [{**row, "label": "yes"} if number == 1 else row for number, row in enumerate(rows)])
    status, words, _ = command(converters, path, tmp_path / "other.jsonl", "--from", "kto")
    assert status == 1 and 'line 2: label is "yes", not true or false' in words and not (tmp_path / "other.jsonl").exists()
    status, words, _ = command(converters, path, tmp_path / "other.jsonl", "--from", "kto", "--skip-bad")
    assert status == 0 and "4 give no pair" not in words and "1 wrong ones left out; 2 give no pair" in words


def test_more_labelled_answers_than_are_kept_is_one_line(tmp_path, command, monkeypatch):
    monkeypatch.setattr(converters, "LARGEST_GROUPS", 2**20)
    rows = [{**row, "completion": "x" * 1000} for row in labelled(400)]
    status, _, problem = command(converters, written(tmp_path, "jsonl", rows), tmp_path / "out.jsonl")
    assert status == 2 and ": line " in problem and "more than 1 MB. Divide the file" in problem
    assert os.listdir(tmp_path) == ["rows.jsonl"]


def test_labels_that_are_no_verdict_are_not_taken_for_one(tmp_path, command):
    rows = [{**row, "label": 3} for row in labelled(2)]
    status, _, problem = command(converters, written(tmp_path, "jsonl", rows), tmp_path / "out.jsonl")
    assert status == 2 and "as the course has them" in problem


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_conversations_as_prompts_and_completions(ending, tmp_path, command):
    rows = [{"messages": said("1", "2", "3", "4")}, *many(GOOD["messages"], 3)]
    out = tmp_path / f"out.{ending}"
    assert command(converters, written(tmp_path, "jsonl", rows), out, "--to", "prompt-completion")[0] == 0
    assert [row.values for row in read_rows(out)] == to_prompt_completion(rows)
    assert "4 rows, checked as completions; all of them are right" in command(validation, out)[1]


# As programs


def program(*arguments, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, **options)


def test_as_programs_on_the_courses_own_files(tmp_path):
    done = program("helper.converters", "data/identity/train.jsonl", tmp_path / "out.jsonl", "--from", "sharegpt")
    assert (done.returncode, done.stderr) == (0, "") and "629 rows, read as sharegpt" in done.stdout
    done = program("helper.validation", tmp_path / "out.jsonl", "--format", "auto")
    assert (done.returncode, done.stderr) == (0, "") and "629 rows, checked as messages" in done.stdout
    done = program("helper.validation", tmp_path / "missing.jsonl")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and not done.stdout


GSM8K = ROOT.parent / "shared" / "gsm8k"
UNKNOWN = "I do not know."
SHAPES = {  # of public demo files: a question and two answers
    "alpaca": lambda q, a, b: {"instruction": q, "input": "", "output": a},
    "sharegpt": lambda q, a, b: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
    "plain-pairs": lambda q, a, b: {"instruction": q, "chosen": a, "rejected": b},
    "output-pairs": lambda q, a, b: {"instruction": q, "output": [a, b]},
    "ranked": lambda q, a, b: {"instruction": q, "output": [a, UNKNOWN, b]},
    "scores": lambda q, a, b: {"instruction": q, "output": [b, a], "scores": [2, 9]},
}


@pytest.mark.parametrize(
    ("name", "ending"), [*((name, "jsonl") for name in SHAPES), ("alpaca", "csv"), ("alpaca", "parquet")]
)
def test_all_rows_of_a_whole_file_keep_their_texts(name, ending, tmp_path, command):
    """GSM8K's 7,473 questions with the worked answer, and the last line of it as the worse one, in each shape.

    Where it is not on this machine: the course's own 4,000 problems, which have its columns.
    """
    file = GSM8K / "train.jsonl" if GSM8K.exists() else ROOT / "data" / "maths" / "train.jsonl"
    real = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    texts = [(row["question"], row["answer"], row["answer"].splitlines()[-1]) for row in real]
    source = written(tmp_path, ending, [SHAPES[name](*three) for three in texts])
    target = tmp_path / "out.jsonl"
    assert command(converters, source, target, "--from", name)[0] == 0
    status, out, _ = command(validation, target)
    if name == "ranked":  # of three answers: the first over each of the others
        texts = [pair for q, a, b in texts for pair in ((q, a, UNKNOWN), (q, a, b))]
    assert status == 0 and f"{len(texts)} rows" in out.replace(",", "") and len(texts) >= 3000
    made = [row.values for row in read_rows(target)]
    columns = ("messages",) if "messages" in made[0] else ("prompt", "chosen", "rejected")
    said_there = [tuple(turn["content"] for column in columns for turn in row[column]) for row in made]
    assert said_there == [three[: len(said_there[0])] for three in texts]


def test_a_terminal_without_the_letters(tmp_path):
    rows = [{"messages": [{"role": "用户", "content": "ü"}]}]
    path = written(tmp_path, "jsonl", rows).rename(tmp_path / "ü.jsonl")
    done = program("helper.validation", path, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 1 and "\\u7528" in done.stdout and not done.stderr


@pytest.mark.parametrize("name", ["validation", "converters", "own_rows"])
def test_help_has_an_example_that_runs_and_a_wrong_option_is_2(name, tmp_path):
    done = program(f"helper.{name}", "--help")
    assert done.returncode == 0
    example = done.stdout.split("example:\n")[1].split()
    assert example[:2] == ["python", "-m"]
    assert program(*(tmp_path / "out.jsonl" if word == "identity.jsonl" else word for word in example[2:])).returncode == 0
    done = program(f"helper.{name}", "a", "b", "c", "--no-such-option")
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_traceback(tmp_path):
    path = written(tmp_path, "jsonl", [{"messages": "text " * 20}] * 20_000)
    line = f'"{sys.executable}" -m helper.validation {path} --show 20000 | head -1'
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("line 1: ") and done.stderr == ""


def test_the_commands_need_no_model():
    """What keeps them small: a quarter of the memory that the lessons' imports take."""
    code = (
        "import runpy, sys; sys.argv = ['-m']; import helper; sys.argv = ['helper.converters', '--help']\n"
        "try:\n    runpy.run_module('helper.converters', run_name='__main__')\n"
        "except SystemExit:\n    assert not {'torch', 'trl'} & set(sys.modules), 'a model was loaded'\n"
        "print('small')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.endswith("small\n"), done.stderr


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="this system does not tell a program's memory")
def test_a_large_file_takes_little_memory():
    """Short rows, of which the most is kept for their bytes; the tool ends with 1 above 300 MB."""
    tool = [sys.executable, "tests/tools/big_file.py", "--mb", "60", "--rows", "short", "--commands", "validation"]
    done = subprocess.run(tool, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and " MB  exit 0" in done.stdout, done.stdout + done.stderr
