"""Processes that take one run's lock at the same moment: exactly one may hold it, and the others name it.

    python tests/tools/race_locks.py --rounds 100 --starters 8

Each round begins without a lock, with one that a killed process left, or with a file that says nothing. For Linux and
macOS: the children are forked. Not collected by pytest; `test_locks.py` runs a short one.
"""

import argparse
import collections
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from helper.trainers.interrupts import LOCK, run_lock

FORK = multiprocessing.get_context("fork")


def take(folder: Path, together, end, said) -> None:
    """What a child does: take the lock when all are ready, say how that went, and hold it until the end."""
    together.wait()
    try:
        with run_lock(folder):
            said.put((os.getpid(), "holds it"))
            end.wait()
    except RuntimeError as refused:
        said.put((os.getpid(), str(refused)))


def race(folder: Path, starters: int) -> dict[int, str]:
    """{process: what it said} of processes that took the lock of `folder` at one moment."""
    together, end, said = FORK.Barrier(starters), FORK.Event(), FORK.SimpleQueue()
    children = [FORK.Process(target=take, args=(folder, together, end, said)) for _ in range(starters)]
    for child in children:
        child.start()
    answers = dict(said.get() for _ in children)
    end.set()
    for child in children:
        child.join()
    return answers


def leave_stale_lock(folder: Path) -> None:
    """A process that is killed while it holds the lock."""
    together, end, said = FORK.Barrier(1), FORK.Event(), FORK.SimpleQueue()
    child = FORK.Process(target=take, args=(folder, together, end, said))
    child.start()
    said.get()
    child.kill()
    child.join()


def faults(answers: dict[int, str]) -> list[str]:
    """What is wrong with a round: not one holder, or others that do not name it."""
    holders = [process for process, words in answers.items() if words == "holds it"]
    if len(holders) != 1:
        return [f"{len(holders)} of {len(answers)} hold the lock"]
    name = f"Process {holders[0]} is training in"
    return [words for process, words in answers.items() if process != holders[0] and not words.startswith(name)]


def rounds(number: int, starters: int, work: Path) -> list[str]:
    """The faults of so many rounds."""
    found, kinds = [], collections.Counter()
    for i in range(number):
        folder = work / str(i)
        kind = ("no lock", "a stale lock", "an empty file")[i % 3]
        folder.mkdir()
        if kind == "a stale lock":
            leave_stale_lock(folder)
        elif kind == "an empty file":
            (folder / LOCK).touch()
        kinds[kind] += 1
        found += [f"round {i}, {kind} before: {fault}" for fault in faults(race(folder, starters))]
        found += [f"round {i}: {path.name} is left" for path in folder.iterdir()]
    print(", ".join(f"{count} rounds with {kind} before" for kind, count in kinds.items()))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--starters", type=int, default=8)
    args, started = parser.parse_args(), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="race_locks_") as work:
        found = rounds(args.rounds, args.starters, Path(work))
    print("\n".join(found) or f"{args.rounds} rounds of {args.starters} starters: one holder each, named by the others.")
    print(f"{time.perf_counter() - started:.0f} s")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
