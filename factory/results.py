"""The results in both READMEs: the lessons over several seeds, measured, never typed by hand.

    python -m factory.results --seeds 0 1 2    run all lessons once a seed (long), keep the scoreboards
    python -m factory.results                  write tables and picture from the kept scoreboards

The scoreboards are kept in `data/recorded/lessons.json`, each written as soon as its run ends; a run that is there
already is not done again. The lessons are the notebooks; what the picture shows of one stands in
`factory/recordings/lesson_NN.py`. Medians over the seeds; the lowest and the highest gain are those of the seeds and of
the run that the committed notebook shows. The picture, of the seeds alone, is `docs/results.png`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import torch
from bs4 import BeautifulSoup
from nbclient import NotebookClient

from factory import READMES, ROOT
from factory.lessons import NOTEBOOKS, find_lessons
from factory.marks import MARKS, REAL_MARKS, SIZE_MARKS, put_into
from factory.record import lesson_modules
from factory.recordings.shared import RECORDED, write
from helper.figures.figure import BLUE, RED
from helper.real_runs import CALLS, load_real_runs, real_runs_table

RECORD = RECORDED / "lessons.json"
PICTURE = ROOT / "docs" / "results.png"
LOOKS = {  # of the picture's bars: before and after, in the colours of all figures
    "before": {"facecolor": RED, "hatch": "//", "edgecolor": "white"},
    "after, trained on a CPU": {"facecolor": BLUE, "edgecolor": "white"},
}
SIZES, SPEED = RECORDED / "real_sizes.json", RECORDED / "reference_speed.json"
REAL = {  # lesson, or one of its records: its task on a real model, the suite, and the skills of it that are the task
    "02": ("SFT, calls of tools", "tool_calls", CALLS),
    "03": ("DPO, a new name", "identity", None),
    "04": ("GRPO, rules", "rules", None),
    "07_sft": ("LoRA, calls of tools", "tool_calls", CALLS),
    "07": ("LoRA, a new name", "identity", None),
    "07_grpo": ("LoRA, rules", "rules", None),
}


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
    notebook = with_seed(nbformat.read(NOTEBOOKS / f"{lesson}.ipynb", as_version=4), seed)
    with tempfile.TemporaryDirectory() as outputs:
        environment = {**os.environ, "COURSE_OUTPUTS": outputs}
        client = NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(NOTEBOOKS)}})
        start = time.perf_counter()
        client.execute(env=environment)
        seconds = time.perf_counter() - start
        board = json.loads((Path(outputs) / f"{lesson}.json").read_text(encoding="utf-8"))
    return {**board, "lesson_seconds": round(seconds), "machine": machine(), "date": date.today().isoformat()}


def machine() -> str:
    """The processor, the cores that torch uses, and the versions that matter for the time."""
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)", info.read_text(), re.MULTILINE) if info.exists() else [platform.machine()]
    count = torch.get_num_threads()
    return f"{count} core{'s' * (count > 1)} of {names[0]}, torch {torch.__version__.split('+')[0]}"


def record(seeds: list[int], path: Path = RECORD) -> None:
    """Run what is not yet recorded."""
    boards = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for seed in seeds:
        for lesson in [path.stem for path in find_lessons()]:
            if any((board["lesson"], board["seed"]) == (lesson, seed) for board in boards):
                continue
            boards.append(run_lesson(lesson, seed))
            print(f"{lesson}, seed {seed}: {boards[-1]['lesson_seconds']} s", flush=True)
            write(boards, path)


def committed_gains(path: Path) -> dict[str, tuple[int, float]]:
    """Metric -> n and gain in points, from the last scoreboard that a notebook shows; {} if it is not executed."""
    found = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if re.search(r"(save_scoreboard|scoreboard_table)\(", cell.source):
            found = _gains_shown(cell) or found
    return found


def _gains_shown(cell: nbformat.NotebookNode) -> dict[str, tuple[int, float]]:
    """Metric -> n and gain in points, from the scoreboards among a cell's outputs."""
    found = {}
    for output in cell.get("outputs", []):
        for row in BeautifulSoup(output.get("data", {}).get("text/html", ""), "html.parser")("tr"):
            change = re.match(r"([+-][\d.]+) points", row("td")[-1].get_text()) if row("td") else None
            if change:
                found[row.th.get_text()] = int(row.td.get_text()), float(change[1])
    return found


def table(boards: list[dict], committed: dict[str, dict] | None = None) -> str:
    """Two markdown tables, medians over the seeds: what was learned (a row a metric), and what it took.

    `committed`: lesson -> `committed_gains` of its notebook; the range of a gain holds that run too, unless its n is
    another one (where the seeds' n is the same), so that it was asked other questions.
    """
    lines = ["| Lesson | Metric | n | seeds | before | after | gain, lowest to highest |", "|---|---|---|---|---|---|---|"]
    for lesson, runs in by_lesson(boards).items():
        for place, metric in enumerate(runs[0]["metrics"] if runs[0]["train_seconds"] else []):
            rows = [run["metrics"][place] for run in runs]
            if metric["before"] > 1:  # a loss, and no share
                continue
            before, after = (statistics.median(row[stage] for row in rows) for stage in ("before", "after"))
            gains = [100 * row["difference"] for row in rows]
            name = metric["name"].replace("_", " ")
            n, gain = (committed or {}).get(lesson, {}).get(name, (None, None))
            varies = len({row["n"] for row in rows}) > 1  # as of answers that are boxed
            gains += [gain] if gain is not None and (varies or n == metric["n"]) else []
            gain = " to ".join(dict.fromkeys(f"{end:+.1f}" for end in (min(gains), max(gains))))
            lines.append(
                f"| {lesson} | {name} | {metric['n']} | {seeds_of(runs)} | {before:.1%} | {after:.1%} | {gain} points |"
            )
    return "\n".join([*lines, "", *times(boards), "", conditions(boards, bool(committed))])


def by_lesson(boards: list[dict]) -> dict[str, list[dict]]:
    """The runs of each lesson, in the order of the lessons."""
    return {name: [b for b in boards if b["lesson"] == name] for name in sorted({b["lesson"] for b in boards})}


def seeds_of(runs: list[dict]) -> str:
    """The seeds of some runs: "0, 1, 2"."""
    return ", ".join(map(str, sorted(run["seed"] for run in runs)))


def times(boards: list[dict]) -> list[str]:
    """The lines of a markdown table: seconds of training, minutes in all, memory, machine; a row a lesson."""
    lines = ["| Lesson | seeds | training | the whole lesson | memory, at most | on |", "|---|---|---|---|---|---|"]
    for lesson, runs in by_lesson(boards).items():
        train, whole = (statistics.median(run[key] for run in runs) for key in ("train_seconds", "lesson_seconds"))
        training = f"{train:.0f} s" if train else "none"
        memory = max(run["peak_memory_mb"] for run in runs)
        machines = " and ".join(sorted({run["machine"] for run in runs}))
        lines.append(f"| {lesson} | {seeds_of(runs)} | {training} | {whole / 60:.1f} minutes | {memory} MB | {machines} |")
    return lines


def conditions(boards: list[dict], committed: bool = False) -> str:
    """A sentence on seeds and dates."""
    dates = sorted({board["date"] for board in boards})
    several = ", ".join(dates[:-1]) + " and " if len(dates) > 1 else ""
    words = f"Medians over the seeds; {several}{dates[-1]}."
    return f"{words} Gains: these runs, and the one that the committed notebook shows." if committed else words


def real_sizes(sizes: dict, speed: dict) -> str:
    """A markdown table of one step on models of the true sizes, and a sentence on the speed of our way on a CPU."""
    lines = ["| Shape | A step of | memory, predicted | measured | seconds |", "|---|---|---|---|---|"]
    for row in sizes["rows"]:
        memory = f"{row['predicted_mb'] / 1000:.1f} GB | {row['measured_mb'] / 1000:.1f} GB"
        lines.append(f"| {row['model']} | {row['called']} | {memory} | {row['step_seconds']:.0f} |")
    threads = sorted({row["threads"] for row in sizes["rows"]})
    words = f"Threads of the processor used for the table: {' and '.join(map(str, threads))}."
    if "sft" in speed:
        sft = speed["sft"]
        words += (
            f" {sft['rows']} rows of SFT on {sft['shape']} in the reference course's settings took "
            f"{sft['theirs']['seconds']:.0f} s, with `quick_sft_settings`, `quick_log_probs` and `keep_freed_memory` "
            f"{sft['ours']['seconds']:.0f} s ({sft['time_share']:.2f} of it), with the loss of every step within "
            f"{100 * sft['largest_loss_difference']:.2g}%."
        )
    for key, processor in {"generation": "with", "generation_without_bf16": "without"}.items():
        if key in speed:
            made = speed[key]
            words += (
                f" On a processor {processor} AVX512-bf16, {made['questions']} questions × {made['new_tokens']} tokens "
                f"({made.get('shape') or made['model']}, threads: {made['threads']}) come {made['times_faster']:.1f} times "
                "as fast from `generate_responses` as one by one in float32."
            )
    return "\n".join([*lines, "", words])


def real_runs(records: dict[str, dict]) -> str:
    """A markdown table of the recorded runs on a real model: a row an arm, its task and the everyday questions."""
    lines = ["| Lesson | Arm | Seeds | Task, before | after | Everyday questions, before | after | Seconds |"]
    lines.append("|---" * 8 + "|")
    for lesson, record in records.items():
        task, suite, skills = REAL[lesson]
        other = {row["arm"]: row for row in real_runs_table(record, "everyday").to_dict("records")}
        for row in real_runs_table(record, suite, skills).to_dict("records"):
            named = f"{lesson[:2]}: {task} (n {row['n']}; {other[row['arm']]['n']})"
            cells = [f"{found['before']:.0%} | {with_ends(found)}" for found in (row, other[row["arm"]])]
            lines.append(f"| {named} | {row['arm']} | {row['seeds']} | {' | '.join(cells)} | {row['seconds']} |")
    return "\n".join(lines)


def with_ends(row: dict) -> str:
    """The mean of the seeds, with the lowest and the highest where there are several."""
    return f"{row['after']:.0%}" + (f" ({row['lowest']:.0%} to {row['highest']:.0%})" if row["seeds"] > 1 else "")


def shown(boards: list[dict]) -> dict[tuple[str, str], str]:
    """(lesson, metric) -> the words of its row in the picture, for what is recorded."""
    modules, found = lesson_modules(), {}
    for lesson, runs in by_lesson(boards).items():
        words = getattr(modules.get(lesson[:2]), "SHOWN", {})
        recorded = {metric["name"] for run in runs for metric in run["metrics"]}
        found |= {(lesson, name): f"{lesson[:2]} {text}" for name, text in words.items() if name in recorded}
    return found


def picture(boards: list[dict], path: Path = PICTURE) -> None:
    """Before and after of what the lessons are about: medians, and lines over the seeds' lowest to highest."""
    texts = shown(boards)
    figure, axis = plt.subplots(figsize=(8, 1 + 0.4 * len(texts)), layout="constrained", facecolor="white")
    for place, (lesson, name) in enumerate(reversed(texts)):
        rows = [m for b in boards if b["lesson"] == lesson for m in b["metrics"] if m["name"] == name]
        for stage, look, height in zip(("before", "after"), LOOKS.values(), (0.2, -0.2)):
            values = [100 * row[stage] for row in rows]
            middle = statistics.median(values)
            axis.barh(place + height, middle, 0.36, **look)
            axis.plot([min(values), max(values)], [place + height] * 2, color="black", linewidth=1.5)
            axis.text(max(values) + 1, place + height, f"{middle:.0f}%", va="center", fontsize=9)
    axis.set_yticks(range(len(texts)), reversed(texts.values()))
    handles = [plt.Rectangle((0, 0), 1, 1, **look) for look in LOOKS.values()]
    figure.legend(handles, LOOKS, loc="outside upper center", ncols=2, frameon=False)
    axis.set(xlim=(0, 107), xlabel="right answers on held-out questions (%)")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


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
    boards = json.loads(RECORD.read_text(encoding="utf-8"))
    committed = {path.stem: committed_gains(path) for path in find_lessons()}
    speed = json.loads(SPEED.read_text(encoding="utf-8")) if SPEED.exists() else {}
    made = {lesson: load_real_runs(lesson) for lesson in REAL if (RECORDED / f"{lesson}_real_model.json").exists()}
    parts = {
        MARKS: table(boards, committed), REAL_MARKS: real_runs(made),
        SIZE_MARKS: real_sizes(json.loads(SIZES.read_text(encoding="utf-8")), speed),
    }  # fmt: skip
    for readme in READMES:
        text = (ROOT / readme).read_text(encoding="utf-8")
        for marks, part in parts.items():
            text = put_into(text, part, marks)
        (ROOT / readme).write_text(text, encoding="utf-8")
    picture(boards)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
