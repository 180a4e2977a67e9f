"""A lock on a file that one process at a time can hold: the operating system's own, which a dead process loses.

Left out on purpose: locks between machines (a shared folder may or may not know them), and waiting in a queue.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from helper.machine.terminal import say

AT_ONCE = 0.3  # seconds to wait all the same: for a holder that is just leaving, or has not yet written who it is
UNKNOWN_THERE = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # a file system without locks


class LockHeld(RuntimeError):
    """Another process or thread holds the lock; `holder` names it: "Process 123", or "Another process"."""

    def __init__(self, holder: str):
        super().__init__(f"{holder} holds this lock.")
        self.holder = holder


@contextmanager
def lock(path: str | Path, wait: float = AT_ONCE) -> Iterator[None]:
    """Hold the lock `path` while the block lasts; LockHeld when another holds it for more than `wait` seconds.

    The file is made, and removed at the end; one that a killed process left is taken over. Threads of one process exclude
    one another too. Where the file system knows no locks, a line says so and the block runs without.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():  # none of ours, and no lock follows it
        path.unlink(missing_ok=True)
    held = FileLock(path, thread_local=False, on_acquired=_sign)
    try:
        held.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise LockHeld(_holder(path)) from None
    except OSError as error:
        if error.errno not in UNKNOWN_THERE:
            raise
        say(f"{path.parent} is on a file system without locks: see to it yourself that nothing else writes there.")
    try:
        yield
    finally:
        if held.is_locked:
            with suppress(OSError):  # Windows removes it when it is released
                path.unlink()
            held.release()


def _sign(descriptor: int) -> None:
    """Write into the lock who holds it, behind a space: the first byte is what Windows locks, also against reading."""
    with suppress(OSError):  # a full disk, say: it is only shown
        os.ftruncate(descriptor, 0)
        os.write(descriptor, b" " + json.dumps({"pid": os.getpid()}).encode())


def _holder(path: Path) -> str:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(1)
            pid = int(json.loads(file.read())["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return "Another process"
    return f"Process {pid}" + (" (this one, in another thread)" if pid == os.getpid() else "")
