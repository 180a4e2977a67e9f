"""Kills processes that save a model with `save_scoreboard`: the old model or the new one must load, always.

    python tests/tools/kill_saves.py --kills 100 --pairs 50 --seed 0

The versions of a tiny model differ in their weights, their config and their tokenizer, so a mixture is seen. A pair are two
processes that save the same lesson at once; in half of the pairs one of them is killed. For Linux and macOS: the children
are forked. Not collected by pytest; `test_scoreboards.py` runs a short one.
"""

import argparse
import functools
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from tiny import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from helper.scoreboards import save_scoreboard, scoreboard

FORK = multiprocessing.get_context("fork")
LESSON, MOST = "02_sft", 1000  # versions that a child saves one after the other, unless it is killed


@functools.cache
def made():
    """A model and its tokenizer, made once, before the first child is forked."""
    tokenizer = make_tokenizer()
    return make_model(tokenizer), tokenizer


def save_version(version: int) -> None:
    """Save a model all of whose weights are `version`, with a config, a tokenizer and a seed that say so too."""
    model, tokenizer = made()
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(version)
    model.config.rope_theta_of_version = version
    tokenizer.chat_template = f"{{# {version} #}}"
    save_scoreboard(LESSON, version, "cpu", 1.0, scoreboard({"facts": ([False], [True])}), model, tokenizer)


def saved_version(outputs: Path) -> int:
    """The version that loads; ValueError for a mixture, and the library's errors for half a model."""
    folder = outputs / LESSON / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    found = {int(value) for weight in model.parameters() for value in weight.unique()}
    found |= {model.config.rope_theta_of_version, int(tokenizer.chat_template.split()[1])}
    if len(found) > 1:
        raise ValueError(f"a mixture of versions {sorted(found)}")
    json.loads((outputs / f"{LESSON}.json").read_text(encoding="utf-8"))
    return found.pop()


def save_many(first: int, said) -> None:
    for version in range(first, first + MOST):
        said.put(version)  # from now on it may be there
        save_version(version)


def fault(outputs: Path, before: int, begun: int) -> str | None:
    """What is wrong after a kill: `before` is the version that was whole, `begun` the last one that was begun."""
    try:
        version = saved_version(outputs)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if version in (before, *range(begun - 1, begun + 1)) else f"version {version} of {before} and {begun}"


def kill_saves(kills: int, chance: random.Random, outputs: Path) -> list[str]:
    """The faults after so many kills, each at a random moment of a row of saves."""
    save_version(0)
    found, version, ends = [], 0, Counter()
    for number in range(kills):
        said = FORK.SimpleQueue()
        child = FORK.Process(target=save_many, args=(version + 1, said))
        child.start()
        begun = said.get()
        time.sleep(chance.uniform(0, 0.3))
        child.kill()
        child.join()
        while not said.empty():
            begun = said.get()
        ends["with something begun" if len(list((outputs / LESSON).iterdir())) > 1 else "between two saves"] += 1
        wrong = fault(outputs, version, begun)
        found += [f"kill {number}: {wrong}"] if wrong else []
        version = begun if wrong else saved_version(outputs)
    print(f"{kills} kills, {version} versions: {dict(ends)}", flush=True)
    return found


def save_pairs(pairs: int, chance: random.Random, outputs: Path) -> list[str]:
    """The faults of so many pairs of processes that save at once."""
    found = []
    for number in range(pairs):
        first, second = (FORK.Process(target=save_version, args=(1000 * n + number,)) for n in (1, 2))
        first.start()
        second.start()
        killed = number % 2 == 1
        if killed:
            time.sleep(chance.uniform(0, 0.3))
            first.kill()
        first.join()
        second.join()
        codes = {second.exitcode} if killed else {first.exitcode, second.exitcode}
        try:
            version = saved_version(outputs)
            fine = version in (1000 + number, 2000 + number) and codes == {0}
            found += [] if fine else [f"pair {number}: version {version}, exit codes {codes}"]
        except Exception as error:
            found.append(f"pair {number}: {type(error).__name__}: {error}")
    return found


def left(outputs: Path) -> list[str]:
    """What lies there beside the model and the scoreboard after one more save."""
    save_version(7)
    wanted = {f"{LESSON}.json", LESSON, f"{LESSON}/model"}
    names = {path.relative_to(outputs).as_posix() for pattern in ("*", f"{LESSON}/*") for path in outputs.glob(pattern)}
    return [f"{name} is left" for name in sorted(names - wanted)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    args, started = parser.parse_args(), time.perf_counter()
    chance = random.Random(args.seed)
    torch.set_num_threads(1)  # a forked process has lost the others
    with tempfile.TemporaryDirectory(prefix="kill_saves_") as work:
        os.environ["COURSE_OUTPUTS"] = work
        found = kill_saves(args.kills, chance, Path(work)) + save_pairs(args.pairs, chance, Path(work)) + left(Path(work))
    print("\n".join(found) or f"{args.kills} kills, {args.pairs} pairs: the old model or the new one, each time, whole.")
    print(f"{time.perf_counter() - started:.0f} s")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
