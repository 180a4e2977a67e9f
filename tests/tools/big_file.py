"""Memory of the two commands on a large file of rows: `python tests/tools/big_file.py` (1 GB; `--mb 80` for a quick look).

Writes JSONL of short rows (about 100 bytes) and of long ones (about 1 kB), no two alike, runs `python -m helper.validation`
and `python -m helper.converters` on it as programs, and prints rows, seconds, the program's peak memory and exit status.
Ends with 1 where one of them fails or needs more than 300 MB. Needs a folder on a disk, not in memory, with room for
three times the file (`--folder`), and Linux or macOS. MB and GB are powers of ten.

Left out on purpose: CSV, JSON lists and parquet (`tests/test_row_files.py` reads them with little memory), and an import
of helper: a child's peak counts from what its parent held when it was started.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
MB = 10**6
LIMIT = 300  # MB
LENGTHS = {"short": 100, "long": 1000}  # bytes of a row, about
WORDS = "a drum is played with sticks and a flute with breath "


def _messages(question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _alpaca(question: str, answer: str) -> dict:
    return {"instruction": question, "input": "", "output": answer}


def _sharegpt(question: str, answer: str) -> dict:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]}


class Command(NamedTuple):
    """What is run: the module, its last arguments, and a row of the file it is run on."""

    module: str
    arguments: tuple[str, ...]
    row: Callable[[str, str], dict]


COMMANDS = {
    "validation": Command("helper.validation", ("--format", "auto"), _messages),
    "alpaca": Command("helper.converters", ("--from", "alpaca"), _alpaca),
    "sharegpt": Command("helper.converters", ("--from", "sharegpt"), _sharegpt),
}


def write_rows(path: Path, row: Callable[[str, str], dict], length: int, size: int) -> int:
    """A file of `size` bytes or a little more, in rows of about `length` bytes; how many rows."""
    filler = max(length - len(json.dumps(row("0000000", ""))), 8)
    text = (WORDS * (filler // len(WORDS) + 1))[: filler - 1] + "."
    before, after = json.dumps(row("NUMBER", text)).split("NUMBER")
    number = written = 0
    with path.open("w", encoding="ascii", newline="\n") as file:
        while written < size:
            written += file.write(f"{before}{number}{after}\n")
            number += 1
    return number


def run(arguments: list[str]) -> tuple[int, float, float]:
    """Runs a program: its exit status, seconds, and its peak memory in MB."""
    begun = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return child.returncode, time.perf_counter() - begun, usage.ru_maxrss * unit / MB


def measure(name: str, length: str, size: int, folder: Path) -> bool:
    """One command on one file, in a line; whether it succeeded in little enough memory."""
    source, target, command = folder / "rows.jsonl", folder / "out.jsonl", COMMANDS[name]
    rows = write_rows(source, command.row, LENGTHS[length], size)
    out = [str(target)] if command.module == "helper.converters" else []
    code, seconds, peak = run([command.module, str(source), *out, *command.arguments])
    target.unlink(missing_ok=True)
    held = "" if peak <= LIMIT else f", more than {LIMIT}"
    print(f"{name:<10}  {rows:>10,} {length:<5} rows  {seconds:>5.0f} s  {peak:>4.0f} MB{held}  exit {code}", flush=True)
    return code == 0 and peak <= LIMIT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000, help="size of each file, in MB (10**6 bytes)")
    parser.add_argument("--rows", nargs="+", choices=list(LENGTHS), default=list(LENGTHS))
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where the files are written, and removed (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as place:
        free = shutil.disk_usage(place).free
        if free < 3 * options.mb * MB:
            print(f"{place}: {free / MB:,.0f} MB are free, and {3 * options.mb:,} are needed. Name another --folder.")
            return 1
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / MB
        print(f"Files of {options.mb:,} MB in {place}; this program holds {own:.0f} MB, the least it can measure.")
        held = [measure(name, length, options.mb * MB, Path(place)) for length in options.rows for name in options.commands]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
