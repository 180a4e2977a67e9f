"""A process for what a stranger wrote: limits, no network, no file to write, no other program, few files to read.

`walled(function)` runs a function in a forked process, so that what is imported already (torch takes seconds) need not
be imported again, and hands back the bytes that it gave. There are three walls. *Limits* (`resource`): processor time,
memory, no file may grow. *System calls* (seccomp): those on a list of harmless ones, no others: no socket, no file opened
for writing, no program or process started, no signal sent. *Files* (Landlock): only the folders named may be read.
Left out on purpose: systems that are not Linux on x86_64, where a container has to be the wall (docs/security.md).
"""

from __future__ import annotations

import ctypes
import os
import platform
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

LONGEST = 2**23  # bytes that come back
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | 0o20000000  # the last: O_TMPFILE
CALLS = {  # x86_64: what plain computing, reading files and memory need; everything else gets "not permitted"
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pread64": 17,
    "readv": 19, "writev": 20, "access": 21, "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "nanosleep": 35,
    "getpid": 39, "exit": 60, "uname": 63, "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrusage": 98,
    "sysinfo": 99, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "statfs": 137, "fstatfs": 138, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204,
    "getdents64": 217, "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "ppoll": 271, "set_robust_list": 273,
    "getcpu": 309, "getrandom": 318, "membarrier": 324, "statx": 332, "rseq": 334, "faccessat2": 439,
}  # fmt: skip
OPENS = {2: 1, 257: 2}  # open and openat -> which argument holds the flags
CLONE, CLONE_THREAD = 56, 1 << 16  # a thread may be started (reading weights does), a process may not
MISSING = (435, 437)  # clone3, openat2: "no such call", so that the C library falls back on what can be looked at
ARCHITECTURE = 0xC000003E  # x86_64
READ_FILE, READ_DIR, ALL_FILE_RIGHTS = 1 << 2, 1 << 3, (1 << 13) - 1  # of Landlock's first version


class Ended(NamedTuple):
    """How a walled process ended: what it `said`, whether it ran `out_of_time`, the `signal` that ended it (0: none)."""

    said: bytes
    out_of_time: bool
    signal: int


class NoWalls(Exception):
    """This machine cannot wall a process in."""


def walls_missing() -> str:
    """Why no process can be walled in here; "" where it can."""
    if not hasattr(os, "fork") or sys.platform != "linux" or platform.machine() != "x86_64":
        return f"the walls are made for Linux on x86_64, and this is {platform.system()} on {platform.machine()}"
    ended = walled(lambda: b"in", (), seconds=5)
    return "" if ended.said == b"in" else "this kernel lets no process be walled in (seccomp is missing)"


def reads_are_walled() -> bool:
    """Whether files other than those named stay closed (Landlock, Linux 5.13 and later)."""
    return sys.platform == "linux" and ctypes.CDLL(None).syscall(444, None, 0, 1) > 0


def walled(
    function: Callable[[], bytes], readable: Iterable[Path], seconds: int = 20, memory: int = 2**30, shut: bool = True
) -> Ended:
    """What `function` gives in a process of its own.

    `readable`: folders and files that it may read; `seconds` of processor time (and by the clock three times as many, and
    20); `memory`: bytes of address space more than this process has. `shut=False`: limits only.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        _be_the_child(function, writing, tuple(readable), seconds, memory, shut)
    os.close(writing)
    try:
        said, in_time = _read(reading, time.monotonic() + 3 * seconds + 20)
    finally:
        os.close(reading)
        for kill in (lambda: os.killpg(child, signal.SIGKILL), lambda: os.kill(child, signal.SIGKILL)):
            try:
                kill()
            except (ProcessLookupError, PermissionError):
                continue
        _, status = os.waitpid(child, 0)
    ended_by = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    complete = said.startswith(b"=") and said.endswith(b"\n")
    out_of_time = not in_time or (not complete and ended_by in (signal.SIGXCPU, signal.SIGKILL))
    return Ended(said[1:-1] if complete else b"", out_of_time, 0 if complete else ended_by)


def _read(pipe: int, deadline: float) -> tuple[bytes, bool]:
    """What comes out of a pipe until its end or LONGEST bytes, and whether that was before the deadline."""
    said = b""
    while len(said) <= LONGEST:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return said, False
        piece = os.read(pipe, 2**16)
        if not piece:
            return said, True
        said += piece
    return b"", True


def _be_the_child(function, pipe: int, readable: tuple, seconds: int, memory: int, shut: bool) -> None:
    """From here on: the child. It never returns."""
    code = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        os.dup2(pipe, 3)
        os.closerange(4, 4096)
        os.chdir("/")
        os.environ.clear()
        _limit(seconds, memory)
        if shut:
            _close_files(readable)
            _close_calls()
        said = b"=" + function() + b"\n"
        while said:
            said = said[os.write(3, said) :]
        code = 0
    except BaseException:  # also SystemExit and KeyboardInterrupt, which a student's code can raise
        pass
    finally:
        os._exit(code)


def _limit(seconds: int, memory: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    space = pages * resource.getpagesize() + memory
    for name, limit in (("RLIMIT_CPU", seconds), ("RLIMIT_AS", space), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        if hasattr(resource, name) and (pages or name != "RLIMIT_AS"):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def _close_files(readable: tuple) -> None:
    """Landlock: no file may be opened but to read what is under `readable`. Nothing where the kernel has no Landlock."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)  # no new privileges, which both walls ask for
    rights = struct.pack("Q", ALL_FILE_RIGHTS)
    rules = libc.syscall(444, rights, len(rights), 0)
    if rules < 0:
        return
    for path in readable:
        if path.exists():
            place = os.open(path, os.O_PATH)
            rule = struct.pack("=Qi", READ_FILE | (READ_DIR if path.is_dir() else 0), place)
            libc.syscall(445, rules, 1, rule, 0)
            os.close(place)
    if libc.syscall(446, rules, 0):
        raise NoWalls("landlock_restrict_self")
    os.close(rules)


class _Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction))]


def _close_calls() -> None:
    """seccomp: from here on only CALLS, and opening files to read them. It cannot be undone."""
    libc = ctypes.CDLL(None, use_errno=True)
    lines = _filter()
    program = _Program(len(lines), (_Instruction * len(lines))(*lines))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        raise NoWalls("seccomp")


def _filter() -> list[tuple[int, int, int, int]]:
    """The filter as instructions of BPF (Linux: Documentation/userspace-api/seccomp_filter.rst)."""
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06
    allow, not_permitted, no_such_call = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
    lines = [(load, 0, 0, 4), (equal, 1, 0, ARCHITECTURE), (give, 0, 0, 0x80000000), (load, 0, 0, 0)]
    for number in MISSING:
        lines += [(equal, 0, 1, number), (give, 0, 0, no_such_call)]
    for number, argument in OPENS.items():
        lines += [(equal, 0, 4, number), (load, 0, 0, 16 + 8 * argument), (any_bit, 1, 0, WRITES)]
        lines += [(give, 0, 0, allow), (give, 0, 0, not_permitted)]
    lines += [(equal, 0, 4, CLONE), (load, 0, 0, 16), (any_bit, 0, 1, CLONE_THREAD)]
    lines += [(give, 0, 0, allow), (give, 0, 0, not_permitted)]
    for number in CALLS.values():
        lines += [(equal, 0, 1, number), (give, 0, 0, allow)]
    return [*lines, (give, 0, 0, not_permitted)]
