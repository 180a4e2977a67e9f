"""One short SFT with each of three trackers and no network: what each wrote, read back by its own means.

10_tracking.json
    command, seeds
    runs       rows {"tracker", "lines": what the recipe says for it (FOLDER: where it writes), "version", "values": numbers
               read back, "apart": {name: the largest difference from the trainer's log over the steps}, "own_steps": the
               tracker's numbers of the steps, "bytes" on the disk, "also": what it keeps besides, "attempts": {when: packets
               for another machine}, "seconds"}

Only on Linux, and with a package index once: trackio wants an older pillow than the course has, so trackio and W&B go into
an environment of their own, `runs/record/trackers`, in which the course's packages are seen too. Each run has a network
namespace of its own without any interface; attempts are the packets, of all its processes, for which there was no route.
Left out on purpose: the trackers' servers and web pages, W&B with a key.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path

import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from factory import ROOT
from factory.recordings.lesson_03 import once, resumed
from factory.recordings.shared import command, fresh
from helper.recipes import run_recipe

RECIPE = "recipes/sft.yaml"
PACKAGES = ("trackio==0.43.0", "wandb==0.31.0")
LINES = {
    "tensorboard": {"env": {"TENSORBOARD_LOGGING_DIR": "FOLDER"}},
    "trackio": {"project": "course", "run_name": "first", "env": {"TRACKIO_DIR": "FOLDER"}},
    "wandb": {"run_name": "first", "env": {"WANDB_MODE": "offline", "WANDB_PROJECT": "course", "WANDB_DIR": "FOLDER"}},
}
WHEN = ("training", "reading", "reading, variables set")  # in a recipe's `env:` they are set for the training alone
Points = dict[str, list[tuple[int, float]]]  # name -> (the tracker's step, value)


def record_tracking(seeds: list[int], path: Path) -> dict:
    """TensorBoard, trackio and W&B without a network: numbers read back, bytes, packets meant for other machines."""
    record = resumed(path, {"command": command("tracking", seeds[:1]), "seeds": seeds[:1]})
    python = python_with_trackers(ROOT / "runs" / "record" / "trackers")
    for tracker in LINES:
        about = {"tracker": tracker, "lines": {"report_to": tracker, **LINES[tracker]}}
        once(record, path, "runs", about, partial(tracked_apart, python, tracker))
    return record


def python_with_trackers(folder: Path) -> Path:
    """The Python of an environment that has the trackers, and all that this one has; made where it is not there yet."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "course.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
    return python


def tracked_apart(python: Path, tracker: str) -> dict:
    """`tracked`, by another Python and in a network namespace of its own."""
    folder = fresh(f"tracking/{tracker}")
    folder.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "TRACKIO_", "TENSORBOARD_"))}
    words = ["unshare", "--map-root-user", "--net", str(python), "-m", __name__, tracker, str(folder)]
    done = subprocess.run(words, cwd=ROOT, env=kept, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- in that environment


def tracked(tracker: str, folder: Path) -> dict:
    """Train with the tracker, which writes into `folder`, and read back what it wrote."""
    recipe = yaml.safe_load((ROOT / RECIPE).read_text("utf-8")) | {"report_to": tracker, **LINES[tracker]}
    path = folder.with_name(f"sft_{tracker}.yaml")
    text = yaml.safe_dump(recipe).replace("FOLDER", str(folder))
    path.write_text(text, "utf-8")
    run = run_recipe(path)
    packets = [0, packets_without_route()]
    points, also = READERS[tracker](folder)
    packets.append(packets_without_route())
    os.environ.update(yaml.safe_load(text)["env"])
    READERS[tracker](folder)
    packets.append(packets_without_route())
    a_packet_is_counted()
    log = [row for row in run.log if "loss" in row]
    return {
        "version": version(tracker),
        "values": sum(map(len, points.values())),
        "apart": {name: differs(points[f"train/{name}"], log, name) for name in sorted(log[0]) if name != "step"},
        "own_steps": [step for step, _ in points["train/loss"]],
        "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
        "also": also,
        "attempts": {when: after - before for when, before, after in zip(WHEN, packets, packets[1:])},
    }


def differs(points: list[tuple[int, float]], log: list[dict], name: str) -> float:
    """The largest difference of a number between what was read back, in order, and the trainer's log.

    A tracker may have one point more, of the end: the log is that of the last checkpoint, which is written before it.
    """
    if len(points) < len(log):
        raise ValueError(f"{name}: {len(points)} points were read back, and {len(log)} steps logged.")
    return max(abs(value - row[name]) for (_, value), row in zip(points, log))


def a_packet_is_counted() -> None:
    """Send a packet for another machine; raises RuntimeError where it is not counted."""
    before = packets_without_route()
    with suppress(OSError):
        socket.create_connection(("192.0.2.1", 80), timeout=1)  # an address for documentation (RFC 5737)
    if packets_without_route() == before:
        raise RuntimeError("A packet for another machine is not counted here: is this a network without interfaces?")


def packets_without_route() -> int:
    """How many packets of this network namespace, IPv4 and IPv6, had no route."""
    names, numbers = (line.split()[1:] for line in Path("/proc/net/snmp").read_text().splitlines()[:2])
    six = dict(line.split() for line in Path("/proc/net/snmp6").read_text().splitlines())
    return int(dict(zip(names, numbers))["OutNoRoutes"]) + int(six["Ip6OutNoRoutes"])


def read_tensorboard(folder: Path) -> tuple[Points, list[str]]:
    """By the library's reader of event files."""
    (file,) = folder.glob("events.out.tfevents.*")
    reader = EventAccumulator(str(file)).Reload()
    tags = reader.Tags()
    return {name: [(at.step, at.value) for at in reader.Scalars(name)] for name in tags["scalars"]}, sorted(tags["tensors"])


def read_trackio(folder: Path) -> tuple[Points, list[str]]:
    """By the library's own program, which reads its database."""
    os.environ["TRACKIO_DIR"] = str(folder)
    which = ["--project", LINES["trackio"]["project"], "--run", LINES["trackio"]["run_name"], "--json"]
    run = json.loads(said("trackio", "get", "run", *which))
    points = {}
    for name in run["metrics"]:
        rows = json.loads(said("trackio", "get", "metric", "--metric", name, *which))["values"]
        points[name] = [(row["step"], row["value"]) for row in rows]
    return points, sorted(name for name in ("config",) if run.get(name))


def read_wandb(folder: Path) -> tuple[Points, list[str]]:
    """By the library's own program, which prints the records of a .wandb file."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    records = [json.loads(line) for line in said("wandb", "leet", "inspect", "--json", str(file)).splitlines()]
    points: Points = {}
    for items in (record["history"]["item"] for record in records if record["type"] == "history"):
        for name in items:
            if name.startswith("train/"):
                points.setdefault(name, []).append((items["_step"], items[name]))
    return points, sorted({record["type"] for record in records} - {"history"})


def said(program: str, *words: str) -> str:
    """What a program prints that stands beside this Python."""
    words = (str(Path(sys.executable).with_name(program)), *words)
    return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout


READERS: dict[str, Callable[[Path], tuple[Points, list[str]]]] = {
    "tensorboard": read_tensorboard,
    "trackio": read_trackio,
    "wandb": read_wandb,
}


if __name__ == "__main__":
    print(json.dumps(tracked(sys.argv[1], Path(sys.argv[2]))))
