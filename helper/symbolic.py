r"""Whether expressions are equal by algebra: "x + 1" and "1 + x", "\sqrt{12}" and "2\sqrt{3}".

The math-verify package does the algebra, and this file is the guard around it. Algebra can run for hours or take
all the memory, and math-verify's own time limit works in the main thread only. So the algebra runs in a child
process (this same file, as a script), started at the first question, with a limit on its memory, and killed when
it overruns its time. Where math-verify is not installed, no two expressions are equal.
Left out on purpose: reading an answer; `helper.answers` hands over whole, cleaned expressions only.
"""

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

SECONDS = 1.0  # for one comparison, by the clock
ORPHAN_SECONDS = 10  # after which a child ends by itself, should nobody be left to end it
START_SECONDS = 60.0  # for the child's start: about a second, more on a busy machine
MEMORY = 2**30  # bytes of address space; sympy at rest needs about 70 MB

_lock = threading.Lock()
_child: subprocess.Popen | None = None
_starts_left = 3  # failed starts in a row before giving up


def same_expressions(left: tuple[str, ...], right: tuple[str, ...], ordered: bool = True) -> bool:
    r"""Whether the LaTeX expressions are equal, one by one, or in any order with `ordered` False.

    Never raises and never hangs: what takes too long, cannot be read or kills the child is not equal. A reply is
    kept, so that the same question is not asked twice; that a question took too long is not, since the machine
    may only have been busy.
    """
    if len(left) != len(right) or importlib.util.find_spec("math_verify") is None:
        return False
    try:
        return _reply_to(json.dumps([left, right, ordered])) == "equal"
    except TimeoutError:
        return False


@functools.lru_cache(maxsize=4096)
def _reply_to(question: str) -> str:
    """The child's reply, "equal" or "different"; raises TimeoutError without one (the cache keeps no errors)."""
    global _child
    with _lock:
        for _ in range(2):  # again when the child had died before the question
            _child = _child or _start()
            start = time.monotonic()
            reply = _ask(_child, question, SECONDS) if _child else ""
            if reply or time.monotonic() - start > SECONDS / 2:
                break
    if not reply:
        raise TimeoutError
    return reply


def _start() -> subprocess.Popen | None:
    """A child that has shown that it works; None when it does not, for good after three failures."""
    global _starts_left
    if _starts_left == 0:
        return None
    command = [sys.executable, "-P", __file__]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with contextlib.suppress(OSError):
        child = subprocess.Popen(command, encoding="ascii", **pipes)
        if _ask(child, json.dumps([["x+1"], ["1+x"], True]), START_SECONDS) == "equal":
            _starts_left = 3
            return child
        _end(child)
    _starts_left -= 1
    if _starts_left == 0:
        warnings.warn("math-verify does not start: answers that need algebra now count as not equal.", stacklevel=3)
    return None


def _ask(child: subprocess.Popen, question: str, seconds: float) -> str:
    """The child's reply, "equal" or "different"; "", and no child any more, when it gives none in time."""
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


def _reply(line: str) -> str:
    try:
        return "equal" if _all_equal(*json.loads(line)) else "different"
    except Exception:  # whatever sympy or the memory limit raises
        return "different"


def main() -> None:
    """Answer one question a line until the input ends."""
    _limit_memory()
    replies, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not pass for a reply
    _reply(json.dumps([["x+1"], ["1+x"], True]))  # the slow imports
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(ORPHAN_SECONDS)
        print(_reply(line), file=replies, flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(0)


if __name__ == "__main__":
    main()
