"""Stopping a run: what an interrupt raises, and one process at a time in a run's folder."""

import signal
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

from helper.machine.locks import LockHeld, lock
from helper.machine.terminal import say

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
        say("Stopping at the end of this step. Interrupt again to stop at once.")


@contextmanager
def run_lock(folder: str | Path):
    """Holds a run's folder for this process; RuntimeError, naming the holder, when another process or thread holds it.

    The lock is the system's, so that of a process that has died is free.
    """
    with ExitStack() as opened:
        try:
            opened.enter_context(lock(Path(folder) / LOCK))
        except LockHeld as held:
            raise RuntimeError(
                f"{held.holder} is training in {folder}: another notebook, perhaps. Stop it (shut its kernel down), or "
                "give this run another output_dir."
            ) from None
        yield
