"""Run every lesson from top to bottom and keep its outputs in it: `python -m factory.run_lessons`.

    python -m factory.run_lessons              all of them, one after another
    python -m factory.run_lessons 02 03        those whose file name begins so
    python -m factory.run_lessons --check      run nothing: is every notebook as this program would leave it?
    python -m factory.run_lessons 02 --set MODEL_NAME=Qwen/Qwen3-0.6B-Base --to FOLDER
                                               with other settings, the executed copy in FOLDER; notebooks/ stays

A lesson that fails stays as it was on disk. Left out on purpose: running several at once (two training runs
on two cores slow each other many times over), and changing any cell's source: a setting is a cell of its own.
"""

import argparse
import ast
import difflib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError

from factory import ROOT
from factory.lessons import NOTEBOOKS, check, clean, find_lessons, write

TIMEOUT = 3600  # seconds a cell, where the notebook's metadata does not say, or with settings from outside
CAUSES = (  # how the reason for a failure reads: what it means, and what to do
    (
        "Kernel died|^DeadKernelError",
        "the kernel died",
        "Most often the memory ran out: close other programs and kernels (`python -m helper.environment` shows what is\n"
        "free). If it dies again, run the lesson in JupyterLab up to this cell.",
    ),
    (
        "^CellTimeoutError|^A cell timed out",
        "the cell was stopped at its time limit",
        "Two trainings at once slow each other manyfold: stop the other one. The limit, in seconds a cell, is\n"
        "execution.timeout in the notebook's metadata; without it, the runner's.",
    ),
    (
        r"^[\w.]*(MemoryError|OutOfMemoryError)\b|out of memory|can't allocate memory",
        "the memory ran out",
        "Close other programs and kernels, or make the batch or the model smaller.",
    ),
)


class LessonFailed(Exception):
    """A lesson did not run to its end: in which cell, why, and what to do."""


def run(path: Path, settings: dict | None = None, to: Path | None = None, folder: Path | None = None) -> float:
    """Execute one notebook and write it back, cleaned; the seconds it took. Raises LessonFailed.

    `settings`: values for names of the settings cell; `to`: the file for the executed notebook, `path` then stays as it
    is, and a lesson that fails is written too, up to where it came; `folder`: where it runs (None: where the lessons are).
    """
    notebook = nbformat.read(path, as_version=4)
    if settings:
        set_from_outside(notebook, settings, path.name)
    # the notebook's limit is for the lesson as it comes: another model may take longer
    timeout = TIMEOUT if settings else notebook.metadata.get("execution", {}).get("timeout", TIMEOUT)
    at = 0

    def progress(cell, cell_index, **_):
        nonlocal at
        at = cell_index
        print(f"\r{path.name}: cell {cell_index + 1}/{len(notebook.cells)}", end="", flush=True)

    client = NotebookClient(
        notebook, timeout=timeout, kernel_name="python3", on_cell_start=progress, record_timing=False,
        resources={"metadata": {"path": str(folder or NOTEBOOKS)}}, store_widget_state=False,
    )  # fmt: skip
    start = time.perf_counter()
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, RuntimeError) as error:  # the last: a kernel that died, or never began
        if to:
            write(to, clean(notebook))
        raise LessonFailed(failure(path.name, notebook, at, f"{type(error).__name__}: {error}")) from error
    seconds = time.perf_counter() - start
    write(to or path, clean(notebook))
    print(f"\r{path.name}: {len(notebook.cells)} cells, {seconds:.0f} s".ljust(60), flush=True)
    return seconds


def set_from_outside(notebook, settings: dict, name: str) -> None:
    """Put a cell with these values behind the settings cell, as papermill does; ValueError for a name not set there."""
    tagged = [n for n, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"{name} has {len(tagged)} cells tagged `parameters`, and not one: there is nothing to set.")
    assigned = [node for node in ast.parse(notebook.cells[tagged[0]].source).body if isinstance(node, ast.Assign)]
    known = [target.id for node in assigned for target in node.targets if isinstance(target, ast.Name)]
    for unknown in [setting for setting in settings if setting not in known]:
        near = difflib.get_close_matches(unknown.upper(), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "they are the names of its settings cell."
        raise ValueError(f"{name} has no setting {unknown}, only {', '.join(known)}: {hint}")
    source = "\n".join(f"{setting} = {value!r}" for setting, value in settings.items())
    cell = nbformat.v4.new_code_cell(f"# set from outside\n{source}", id="injected-parameters")
    cell.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(tagged[0] + 1, cell)


def parse_settings(texts: list[str]) -> dict:
    """{"SEED": 1} from ["SEED=1"]; a value that is no Python constant is a text. ValueError for another form."""
    settings = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name.isidentifier() or not value:
            raise ValueError(f"--set {text}: write NAME=VALUE, without spaces, such as --set SEED=1.")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):  # a name such as Qwen/Qwen3-0.6B-Base
            settings[name] = value
        if value.lower() in ("true", "false", "none") and isinstance(settings[name], str):
            raise ValueError(f"--set {text}: write {name}={value.capitalize()}.")
        if not isinstance(settings[name], str | int | float | None):
            raise ValueError(f"--set {text}: a setting is a number, a text, True, False or None.")
    return settings


def failure(name: str, notebook, index: int, reason: str) -> str:
    """What stopped a notebook, in which cell (counted from 1), and what to do: at most five lines.

    `reason` is the runner's exception as text; an error that the cell itself raised goes before it.
    """
    cell = notebook.cells[index]
    raised = [output for output in cell.get("outputs", []) if output.output_type == "error"]
    if raised and raised[-1].ename != "KeyboardInterrupt":  # which is the runner's own, at the time limit
        reason = f"{raised[-1].ename}: {raised[-1].evalue}"
    first = next((line.strip() for line in cell.source.splitlines() if line.strip()), "")
    where = f"{name}, cell {index + 1} of {len(notebook.cells)} ({first[:60]})"
    for pattern, what, advice in CAUSES:
        if re.search(pattern, reason):
            return f"{where}: {what}.\n{advice}"
    return f"{where}: {reason.strip().splitlines()[0][:300]}"


def print_scoreboards(folder: Path) -> None:
    """The before and after of every lesson that saved one."""
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        print(f"\n{record['lesson']}  (training {record['train_seconds']:.0f} s, {record['peak_memory_mb']} MB)")
        for row in record["metrics"]:
            ends = [row["difference_low"], row["difference_high"]]  # None: a single value that is no share has no interval
            interval = "[" + ", ".join("?" if end is None else f"{end:+.3f}" for end in ends) + "]"
            scores = f"{row['before']:.3f} -> {row['after']:.3f}"
            print(f"  {row['name']:<32} n={row['n']:<4} {scores}   {row['difference']:+.3f} {interval}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lessons", nargs="*", help="beginnings of file names; all when none is given")
    parser.add_argument("--check", action="store_true", help="run nothing, say what is out of order")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting; needs --to")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write the executed copies there")
    options = parser.parse_args()
    paths = [p for p in find_lessons(NOTEBOOKS) if p.name.startswith(tuple(options.lessons) or "")]
    if options.check:
        wrong = {path.name: check(path) for path in paths}
        for name, faults in wrong.items():
            print(f"{name}: {'; '.join(faults) or 'ok'}")
        return int(any(wrong.values()))
    try:
        settings = checked_settings(options, paths)
    except ValueError as error:
        parser.error(str(error))
    failed = []
    for path in paths:
        try:
            run(path, settings, options.to and options.to / path.name)
        except LessonFailed as error:
            failed.append(path.name)
            traceback = f"{error.__cause__}\n" if isinstance(error.__cause__, CellExecutionError) else ""
            left = f"As far as it came: {options.to / path.name}" if options.to else "The file was left as it was."
            print(f"\n{traceback}{error}\n{left}", file=sys.stderr)
    print_scoreboards(Path(os.environ.get("COURSE_OUTPUTS") or ROOT / "outputs"))
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def checked_settings(options, paths: list[Path]) -> dict:
    """The settings of the command line, tried on every lesson; makes the folder. ValueError before anything is run."""
    settings = parse_settings(options.set)
    if settings and not options.to:
        raise ValueError("--set needs --to FOLDER: the lessons in notebooks/ are committed as they run by default.")
    if options.to and options.to.resolve() == NOTEBOOKS.resolve():
        raise ValueError(f"--to {options.to} is the folder of the lessons themselves: name another one.")
    if not paths:
        raise ValueError(f"no lesson begins with {' or '.join(options.lessons)}.")
    for path in paths if settings else []:
        set_from_outside(nbformat.read(path, as_version=4), settings, path.name)
    if options.to:
        options.to.mkdir(parents=True, exist_ok=True)
    return settings


if __name__ == "__main__":
    raise SystemExit(main())
