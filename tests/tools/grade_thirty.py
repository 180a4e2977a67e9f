"""Grades an invented class of thirty and says how long it took and what was harmed: `python tests/tools/grade_thirty.py`.

Twenty-two honest copies of two lessons (solved, half done, wrong, untouched, without ids) and eight hostile ones.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import handed_in  # noqa: E402

from factory import ROOT  # noqa: E402

HOSTILE = ("endless", "hungry", "socket", "shell", "writes-by-numpy", "own-check")  # in a cell; two more are zips


def make_class(folder: Path, outside: Path, lessons: list[str]) -> None:
    """Thirty copies in `folder`."""
    paths = [handed_in.lesson_path(number) for number in lessons]
    solved = {path: handed_in.solutions(path) for path in paths}
    for number in range(22):
        books = {}
        for path in paths:
            some = dict(list(solved[path].items())[number % 5 :]) if number < 18 else {}
            if number % 6 == 5:
                some[handed_in.FIRST] = handed_in.WRONG
            books[path.name] = handed_in.notebook(path, some)
            for cell in books[path.name]["cells"] if number == 17 else []:
                cell["id"] = f"new-{cell['id'][::-1]}"
        handed_in.hand_in(folder, f"student-{number:02}", books)
    attacks = handed_in.attacks(outside)
    for name in HOSTILE:
        books = {path.name: handed_in.notebook(path, {handed_in.FIRST: attacks[name][0]}) for path in paths}
        handed_in.hand_in(folder, f"hostile-{name}", books)
    handed_in.raw_zip(folder / "hostile-climbs.zip", {"../../climbed.ipynb": "{}"})
    handed_in.raw_zip(folder / "hostile-bomb.zip", {paths[0].name: " " * handed_in.BOMB})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lessons", nargs="+", default=["03", "05"])
    parser.add_argument("--seconds", default="20", help="of processor time for an exercise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, outside = Path(place, "class"), Path(place, "outside")
        folder.mkdir()
        outside.mkdir()
        make_class(folder, outside, options.lessons)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "factory.grade", folder, "--seconds", options.seconds], cwd=ROOT, check=True)
        took = time.perf_counter() - begun
        with (folder / "grades.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        students = {row["student"] for row in rows}
        print(f"{len(students)} copies, {len(rows)} lines, {took:.0f} s; {dict(Counter(row['state'] for row in rows))}")
        for row in rows:
            if row["student"].startswith("hostile") and row["state"] != "not started":
                print(f"  {row['student']}, {row['exercise'] or 'the copy'}: {row['state']}: {row['message'][:90]}")
        written = [path.name for path in outside.iterdir()] + [path.name for path in Path(place).rglob("climbed*")]
        print(f"Written outside: {written or 'nothing'}")


if __name__ == "__main__":
    main()
