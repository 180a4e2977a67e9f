"""Stopping a run: what an interrupt raises, and one process at a time in a run's folder."""

import json
import os
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

LOCK = "run.lock"


class TrainingStopped(KeyboardInterrupt):
    """Training was interrupted; the message says at which step, and how to go on.

    In Jupyter the message alone is shown, and the cells waiting behind this one are not run.
    """

    def _render_traceback_(self) -> list[str]:  # IPython asks for it in place of the traceback
        return [str(self)]


class Interrupts:
    """Turns the first interrupt into a wish to stop at the end of the step (`stopping`); the second stops at once."""

    def __init__(self):
        self.stopping = False

    @contextmanager
    def caught(self):
        """While it is open, the first interrupt sets `stopping` and the second one raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():  # only there can signals be caught
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, number, frame):
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        with suppress(RuntimeError):  # when it came within another print
            print("Stopping at the end of this step. Interrupt again to stop at once.", flush=True)


@contextmanager
def run_lock(folder: str | Path):
    """Holds a run's folder for this process; RuntimeError when another living process holds it.

    The lock of a process that has died is taken over: the file holds its id and when it started.
    """
    path = Path(folder) / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = _living_holder(path)
    if holder and holder != os.getpid():
        raise RuntimeError(
            f"Process {holder} is training in {folder}: another notebook, perhaps. Stop it (shut its kernel down), or "
            "give this run another output_dir."
        )
    path.unlink(missing_ok=True)
    try:
        with open(path, "x", encoding="utf-8") as file:  # "x": fails when another process was faster
            json.dump({"pid": os.getpid(), "started": psutil.Process().create_time()}, file)
    except FileExistsError:
        raise RuntimeError(
            f"Another process has just begun to train in {folder}. Give one of them another output_dir."
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _living_holder(path: Path) -> int | None:
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
        process = psutil.Process(lock["pid"])
        same = abs(process.create_time() - lock["started"]) < 2  # seconds; process ids are used again
        return lock["pid"] if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
