"""Kills real training runs at random moments, and checks that each goes on to the end of an uninterrupted one.

    python tests/tools/kill_runs.py --kills 20 --seed 0

SFT, DPO and GRPO on a tiny random model, a checkpoint every second step; SIGINT (what Ctrl-C sends) and SIGKILL.
For Linux and macOS: the children are forked. Not collected by pytest; `test_checkpoints.py` runs a short one.
"""

import argparse
import gc
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tiny_trainers import KINDS, result, save_tiny_model, tiny_trainer

from helper.trainers.checkpoints import checkpoint_fault, last_whole_checkpoint, resume_training
from helper.trainers.interrupts import TrainingStopped

STEPS = 40
INTERRUPTED_OUTSIDE = 3  # a child's exit code when SIGINT met it before or after its training


def start_child(kind: str, model_folder: Path, folder: Path) -> tuple[int, int]:
    """Forks a process that trains, and returns its id and a pipe that it writes to when it begins."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    code = 1
    try:
        sys.stdout = open(folder.with_suffix(".log"), "a")
        trainer = tiny_trainer(kind, model_folder, folder, STEPS)
        os.write(writer, b"!")
        resume_training(trainer)
        unfinished = folder.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(result(trainer)))
        os.replace(unfinished, folder.with_suffix(".json"))
        code = 0
    except TrainingStopped as stopped:
        print(stopped)
        code = 0
    except KeyboardInterrupt:
        code = INTERRUPTED_OUTSIDE
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        sys.stdout.flush()
        os._exit(code)


def train_child(kind: str, model_folder: Path, folder: Path, kill_after: float | None, number: int) -> tuple[int, float]:
    """Trains in a child that gets signal `number` after `kill_after` seconds; its exit code and its seconds."""
    pid, reader = start_child(kind, model_folder, folder)
    os.read(reader, 1)
    os.close(reader)
    started = time.perf_counter()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(pid, number)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, time.perf_counter() - started


def faults_left(folder: Path) -> list[str]:
    faults = [f"{path.name}: {checkpoint_fault(path)}" for path in folder.glob("checkpoint-*")]
    faults = [fault for fault in faults if not fault.endswith(": None")]
    return faults + [path.name for pattern in ("removed-*", "run.lock") for path in folder.glob(pattern)]


def kill_runs(kind: str, kills: int, chance: random.Random, model_folder: Path, work: Path) -> list[str]:
    """Kills runs of one kind `kills` times, each run as often as it takes; the faults found."""
    code, seconds = train_child(kind, model_folder, work / f"{kind}-whole", None, 0)
    if code:
        return [f"{kind}: the uninterrupted run ended with exit code {code}"]
    expected = json.loads((work / f"{kind}-whole.json").read_text())
    faults, done, runs = [], 0, 0
    while done < kills:
        runs += 1
        folder = work / f"{kind}-{runs}"
        while not folder.with_suffix(".json").exists():
            last = done >= kills
            number = chance.choice((signal.SIGINT, signal.SIGKILL))
            after = None if last else chance.uniform(0, seconds)
            code, _ = train_child(kind, model_folder, folder, after, number)
            killed = not last and not folder.with_suffix(".json").exists()
            done += killed
            if killed:
                whole = last_whole_checkpoint(folder)
                print(f"{kind} {done}/{kills}: {number.name} after {after:.2f} s; {whole and whole.name}", flush=True)
            if code not in (0, INTERRUPTED_OUTSIDE, -signal.SIGKILL):
                return [*faults, f"{kind}-{runs}: exit code {code}"]
        if json.loads(folder.with_suffix(".json").read_text()) != expected:
            faults.append(f"{kind}-{runs}: its losses or weights are not those of the uninterrupted run")
        faults += [f"{kind}-{runs}: {fault}" for fault in faults_left(folder)]
    print(f"{kind}: {runs} runs, {done} kills; last loss {expected['losses'][-1]:.6f}", flush=True)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=21, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    gc.freeze()  # the children collect garbage: not among all that was imported
    work, chance = Path(tempfile.mkdtemp(prefix="kill_runs_")), random.Random(args.seed)
    model_folder = save_tiny_model(work / "model")
    faults = []
    for place, kind in enumerate(KINDS):
        kills = args.kills // 3 + (place < args.kills % 3)
        faults += kill_runs(kind, kills, chance, model_folder, work) if kills else []
    print("\n".join(faults) or f"{args.kills} kills: every run ended as the uninterrupted one, nothing spoiled is left.")
    if not faults:
        shutil.rmtree(work)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
