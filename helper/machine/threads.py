"""How many threads PyTorch computes with: chosen by a short measurement, and again when the machine changes.

Threads wait for one another at the end of every operation. Where another program keeps one of two cores busy, both wait for
the one that lost its core: a step of Sprout's SFT took 3 s there with two threads and 0.18 s with one (0.10 and 0.17 s on
an idle machine). With another number of threads sums are added in another order: results change by rounding, which a
training amplifies, so it ends a little elsewhere. COURSE_THREADS in the environment fixes the number.
Left out on purpose: binding threads to cores, and priorities: neither helped.
"""

import os
import statistics
import time
from collections import deque
from collections.abc import Callable

import torch

PROBE = 0.25  # seconds for which each number of threads is tried; for less, the system may favour us over the other program
CLEARLY = 0.8  # fewer threads are taken only where they need less than this share of the time of all
SLOW = 3.0  # times its usual length: a step that long asks for another measurement
EARLY = 5.0  # seconds after a start until it is measured once more; also the least between two measurements
AGAIN = 20.0  # seconds between measurements while fewer threads than all compute: the machine may have become idle
SELDOM = 60.0  # the same while all compute
_machine: dict[str, float] = {}  # "all": the number of threads PyTorch began with; "measured": when it was measured last


def choose_threads(clock: Callable[[], float] = time.perf_counter) -> int:
    """Set the number of threads that computes fastest now, and return it; COURSE_THREADS decides instead where it is set.

    Tried are all threads, one less, half of them and one, half a second on two cores. Raises ValueError for a
    COURSE_THREADS that is no whole number from 1.
    """
    threads = fixed_threads() or _fastest()
    torch.set_num_threads(threads)
    _machine["measured"] = clock()
    return threads


def fixed_threads() -> int | None:
    """The number in COURSE_THREADS, None where it is not set."""
    wanted = os.environ.get("COURSE_THREADS", "").strip()
    if not wanted:
        return None
    if not wanted.isdecimal() or int(wanted) < 1:
        raise ValueError(f"COURSE_THREADS={wanted[:20]!r}: give a whole number from 1, or leave it out.")
    return int(wanted)


def all_threads() -> int:
    """The number of threads that PyTorch had when it was first asked: its own choice, or OMP_NUM_THREADS."""
    return int(_machine.setdefault("all", torch.get_num_threads()))


def _fastest() -> int:
    """The number of threads with the shortest probe; all of them unless fewer are clearly faster."""
    most = all_threads()
    candidates = sorted({most, max(most - 1, 1), max(most // 2, 1), 1}, reverse=True)
    if len(candidates) == 1:
        return most
    seconds = {threads: probe_seconds(threads) for threads in candidates}
    best = min(candidates, key=seconds.get)
    return best if seconds[best] < CLEARLY * seconds[most] else most


def probe_seconds(threads: int) -> float:
    """Seconds per round with so many threads, the mean over PROBE; a round is the MLP of Sprout on a batch of SFT."""
    torch.set_num_threads(threads)
    states, up, down = torch.ones(1216, 256), torch.ones(256, 1024), torch.ones(1024, 256)
    start, rounds = time.perf_counter(), 0
    with torch.inference_mode():
        while time.perf_counter() - start < PROBE:
            states = torch.nn.functional.silu(states @ up) @ down * 1e-6 + 1  # the numbers stay finite
            rounds += 1
    return (time.perf_counter() - start) / rounds


class Pace:
    """Watches how long steps take; measures the threads again now and then, and when a step takes several times as long.

    `start()` before the first step, `step()` after each one. One Pace times steps of one kind: of a training, or tokens.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self._clock, self._last = clock, None
        self._recent: deque[float] = deque(maxlen=15)
        self._patience = EARLY

    def start(self, max_age: float = 0.0) -> None:
        """Choose the number of threads, unless that was done within the last `max_age` seconds."""
        if self._since_measured() >= max_age:
            choose_threads(self._clock)
        self._last = self._clock()

    def step(self) -> None:
        """Note that a step has ended; measures the threads again where that may help."""
        now = self._clock()
        seconds = now - self._last if self._last is not None else 0.0
        self._last = now
        usual = statistics.median(self._recent) if len(self._recent) >= 3 else None
        self._recent.append(seconds)
        if fixed_threads() or all_threads() == 1 or self._since_measured() < EARLY:
            return
        slow, before = usual is not None and seconds > SLOW * usual, torch.get_num_threads()
        if slow or self._since_measured() >= self._patience:
            if choose_threads(self._clock) != before:
                self._recent.clear()
            self._patience = SELDOM if torch.get_num_threads() == all_threads() else AGAIN
            self._last = self._clock()

    def words(self) -> str:
        """For the progress line: "1 of 2 threads, another program is busy", or "" while all compute."""
        threads, most = torch.get_num_threads(), all_threads()
        busy = threads < most and not fixed_threads()
        return f"{threads} of {most} threads, another program is busy" if busy else ""

    def _since_measured(self) -> float:
        return self._clock() - _machine.get("measured", -float("inf"))
