"""The README's table of results: the lessons over several seeds, measured, never typed by hand.

    python -m factory.results --seeds 0 1 2    run lessons 02 to 04 once a seed (long), keep the scoreboards
    python -m factory.results                  write the table from the kept scoreboards

The scoreboards are kept in `data/recorded/lessons.json`, each written as soon as its run ends; a run that is there
already is not done again. Medians over the seeds, with the lowest and the highest value.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "data" / "recorded" / "lessons.json"
LESSONS = ("02_sft", "03_dpo", "04_online_rl")
MARKS = ("<!-- results: written by `python -m factory.results` -->", "<!-- end of results -->")


def with_seed(notebook: nbformat.NotebookNode, seed: int) -> nbformat.NotebookNode:
    """The notebook with `SEED = seed` in its settings cell; ValueError when there is no such line."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source, found = re.subn(r"^SEED = \d+", f"SEED = {seed}", cell.source, flags=re.MULTILINE)
            if found == 1:
                return notebook
    raise ValueError("The notebook has no settings cell with one line `SEED = <number>`.")


def run_lesson(lesson: str, seed: int) -> dict:
    """The scoreboard of one run, with the seconds of the whole lesson."""
    notebook = with_seed(nbformat.read(ROOT / "notebooks" / f"{lesson}.ipynb", as_version=4), seed)
    with tempfile.TemporaryDirectory() as outputs:
        environment = {**os.environ, "COURSE_OUTPUTS": outputs}
        client = NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(ROOT / "notebooks")}})
        start = time.perf_counter()
        client.execute(env=environment)
        seconds = time.perf_counter() - start
        board = json.loads((Path(outputs) / f"{lesson}.json").read_text(encoding="utf-8"))
    return {**board, "lesson_seconds": round(seconds)}


def record(seeds: list[int], path: Path = RECORD) -> None:
    """Run what is not yet recorded."""
    boards = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        for lesson in LESSONS:
            if any((board["lesson"], board["seed"]) == (lesson, seed) for board in boards):
                continue
            boards.append(run_lesson(lesson, seed))
            print(f"{lesson}, seed {seed}: {boards[-1]['lesson_seconds']} s", flush=True)
            unfinished = path.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(boards, indent=1) + "\n", encoding="utf-8")
            os.replace(unfinished, path)


def table(boards: list[dict]) -> str:
    """A markdown table: a row a metric of a lesson, medians over the seeds."""
    lines = ["| Lesson | Metric | n | before | after | gain, lowest to highest |", "|---|---|---|---|---|---|"]
    for lesson in sorted({board["lesson"] for board in boards}):
        runs = [board for board in boards if board["lesson"] == lesson]
        for place, metric in enumerate(runs[0]["metrics"]):
            rows = [run["metrics"][place] for run in runs]
            before, after = (statistics.median(row[stage] for row in rows) for stage in ("before", "after"))
            gains = [100 * row["difference"] for row in rows]
            name = metric["name"].replace("_", " ")
            gain = f"{min(gains):+.1f} to {max(gains):+.1f} points"
            lines.append(f"| {lesson} | {name} | {metric['n']} | {before:.1%} | {after:.1%} | {gain} |")
    return "\n".join(lines + ["", times(boards)])


def times(boards: list[dict]) -> str:
    """A sentence on seeds, training time and memory."""
    seeds = sorted({board["seed"] for board in boards})
    parts = []
    for lesson in sorted({board["lesson"] for board in boards}):
        runs = [board for board in boards if board["lesson"] == lesson]
        train, whole = (statistics.median(run[key] for run in runs) for key in ("train_seconds", "lesson_seconds"))
        memory = max(run["peak_memory_mb"] for run in runs)
        parts.append(f"{lesson} {train:.0f} s of training, {whole / 60:.1f} minutes in all, {memory} MB at most")
    return f"Medians over the seeds {', '.join(map(str, seeds))}, on two CPU cores: {'; '.join(parts)}."


def put_into(text: str, part: str) -> str:
    """`text` with `part` between the marks; ValueError when they are not there."""
    if any(text.count(mark) != 1 for mark in MARKS):
        raise ValueError(f"The text must hold each of these lines once: {' and '.join(MARKS)}")
    before, rest = text.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{part}\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="run the lessons with these seeds first")
    options = parser.parse_args()
    if options.seeds:
        record(options.seeds)
    if not RECORD.exists():
        print(f"There is no {RECORD.relative_to(ROOT)}: run `python -m factory.results --seeds 0 1 2`.", file=sys.stderr)
        return 1
    readme = ROOT / "README.md"
    boards = json.loads(RECORD.read_text(encoding="utf-8"))
    readme.write_text(put_into(readme.read_text(encoding="utf-8"), table(boards)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
