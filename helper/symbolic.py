r"""Whether expressions are equal by algebra: "x + 1" and "1 + x", "\sqrt{12}" and "2\sqrt{3}".

The math-verify package does the algebra, and this file is the guard around it. Algebra can run for hours or take
all the memory, and math-verify's own time limit works in the main thread only. So the algebra runs in a child
process (this same file, as a script), started at the first question. The child answers each question in a fork of its own,
with a limit on its memory and on its *processor time*: a busy machine makes it wait longer, and the verdict stays. What runs
out ends with its fork; the child stays for the next question. `ran_out` counts such questions. Where math-verify is not
installed, no two expressions are equal.
Left out on purpose: reading an answer; `helper.answers` hands over whole, cleaned expressions only.
"""

import atexit
import contextlib
import functools
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator

SECONDS = 3.0  # of processor time, for one comparison; what people write takes 0.01 to 0.5, equations up to 1.5
PATIENCE = 120.0  # seconds by the clock, after which a child that says nothing must be stuck: it is asked again
START_SECONDS = 300.0  # by the clock, for the child's start: about a second, more on a busy machine
MEMORY = 2**30  # bytes of address space; sympy at rest needs about 70 MB

_lock = threading.Lock()
_child: subprocess.Popen | None = None
_starts_left = 3  # failed starts in a row before giving up
_ran_out = 0


def same_expressions(left: tuple[str, ...], right: tuple[str, ...], ordered: bool = True) -> bool:
    r"""Whether the LaTeX expressions are equal, one by one, or in any order with `ordered` False.

    Never raises and never hangs: what takes too much time or memory, or cannot be read, is not equal. A reply is kept, so
    that the same question is not asked twice.
    """
    global _ran_out
    if len(left) != len(right) or importlib.util.find_spec("math_verify") is None:
        return False
    try:
        reply = _reply_to(json.dumps([left, right, ordered, SECONDS]))
    except TimeoutError:
        reply = "ran out" if _starts_left else "different"
    if reply == "ran out":
        with _lock:
            _ran_out += 1
    return reply == "equal"


def ran_out() -> int:
    """How many comparisons of this process were given up for lack of time or memory, and passed for "not equal"."""
    return _ran_out


@contextlib.contextmanager
def saying_what_ran_out() -> Iterator[None]:
    """Print at the end how many comparisons in the block were given up; nothing where none was."""
    before = ran_out()
    yield
    late = ran_out() - before
    if late:
        what = "1 comparison" if late == 1 else f"{late} comparisons"
        print(f"Note: {what} of answers needed over {SECONDS:g} s of algebra, or too much memory: counted as not equal.")


@functools.lru_cache(maxsize=4096)
def _reply_to(question: str) -> str:
    """The child's reply: "equal", "different" or "ran out"; raises TimeoutError without one (the cache keeps no errors)."""
    global _child
    with _lock:
        for _ in range(2):  # again when the child had died before the question, or in its sleep
            _child = _child or _start()
            reply = _ask(_child, question, PATIENCE) if _child else ""
            if reply:
                return reply
    raise TimeoutError


def _start() -> subprocess.Popen | None:
    """A child that has shown that it works; None when it does not, for good after three failures."""
    global _starts_left
    if _starts_left == 0:
        return None
    command = [sys.executable, "-P", __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # the same order of terms each time: the same work
    with contextlib.suppress(OSError):
        child = subprocess.Popen(command, encoding="ascii", env=environment, **pipes)
        if _ask(child, json.dumps([["x+1"], ["1+x"], True, SECONDS]), START_SECONDS) == "equal":
            _starts_left = 3
            return child
        _end(child)
    _starts_left -= 1
    if _starts_left == 0:
        warnings.warn("math-verify does not start: answers that need algebra now count as not equal.", stacklevel=3)
    return None


def _ask(child: subprocess.Popen, question: str, seconds: float) -> str:
    """The child's reply; "", and no child any more, when it has died or says nothing."""
    reply = ""
    alarm = threading.Timer(seconds, child.kill)
    alarm.daemon = True
    alarm.start()
    try:
        child.stdin.write(question + "\n")
        child.stdin.flush()
        reply = child.stdout.readline().strip()
    except (OSError, ValueError):  # the pipe broke
        pass
    finally:  # also after Ctrl-C, when the reply is still on its way and would answer the next question
        alarm.cancel()
        if not reply:
            _end(child)
    return reply


def _end(child: subprocess.Popen) -> None:
    global _child
    if child is _child:
        _child = None
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            pipe.close()


@atexit.register
def _end_at_exit() -> None:
    if _child is not None:
        _end(_child)


def _forget_after_fork() -> None:
    """A forked process starts a child of its own: two processes on one pipe would read each other's replies."""
    global _child, _lock
    _child, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


# From here on: what runs in the child.

WARM_UP = ([["x+1"], ["1+x"], True], [["x+77"], ["77-x"], True], [["(x+1)^2"], ["x^2+2x+1"], True])


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _equal(left: str, right: str) -> bool:
    from math_verify import LatexExtractionConfig, parse, verify

    if (left.isalpha() or right.isalpha()) and not any(sign in left + right for sign in "=<>,"):
        left, right = f"({left})-({right})", "0"  # a lone symbol is equal to itself only, as written
    config = [LatexExtractionConfig(boxed_match_priority=-1)]
    # Inside $...$ the whole text is read or nothing; without it, any number in the text would do.
    trees = [parse(f"${text}$", config, "no_fallback", parsing_timeout=None) for text in (left, right)]
    if not all(trees):
        return False
    check = functools.partial(verify, numeric_precision=50, timeout_seconds=None)
    return check(*trees) and check(*reversed(trees))  # verify(a, b) may differ from verify(b, a)


def _all_equal(left: list[str], right: list[str], ordered: bool) -> bool:
    if ordered:
        return all(_equal(ours, theirs) for ours, theirs in zip(left, right, strict=True))
    remaining = list(right)
    for ours in left:
        match = next((theirs for theirs in remaining if _equal(ours, theirs)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True


def _reply(question: list) -> str:
    try:
        return "equal" if _all_equal(*question) else "different"
    except MemoryError:
        return "ran out"
    except Exception:  # whatever sympy raises
        return "different"


def _reply_in_fork(question: list, seconds: float) -> str:
    """The reply of a fork, which a timer ends after `seconds` of its own processor time, whatever it is doing then."""
    reading, writing = os.pipe()
    fork = os.fork()
    if fork == 0:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        os.write(writing, _reply(question).encode())
        os.kill(os.getpid(), signal.SIGTERM)  # at once, without the interpreter's tidying up
    os.close(writing)
    reply = os.read(reading, 99).decode()
    os.close(reading)
    os.waitpid(fork, 0)
    return reply or "ran out"


def _reply_in_time(question: list, seconds: float) -> str:
    """The same where processes cannot fork (Windows): the child itself ends, and another one has to be started."""
    start, done = time.process_time(), threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if time.process_time() - start > seconds:
                print("ran out", file=sys.__stdout__, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    reply = _reply(question)
    done.set()
    return reply


def main() -> None:
    """Answer one question a line until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _limit_memory()
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not pass for a reply
    answer = _reply_in_fork if hasattr(os, "fork") else _reply_in_time
    for question in WARM_UP:  # the slow imports, and what sympy prepares at first use: each fork would do it again
        _reply(question)
    gc.freeze()  # a fork need not look through what was there before it
    for line in sys.stdin:
        *question, seconds = json.loads(line)
        print(answer(question, seconds), file=replies, flush=True)


if __name__ == "__main__":
    main()
