"""The number of threads: chosen by a measurement, measured again when steps slow down, fixed by COURSE_THREADS.

The probe is replaced by a machine of which the test says which number of threads is fast; no test waits for a clock.
"""

import pytest
import torch

from helper.machine import threads
from helper.machine.threads import AGAIN, EARLY, SELDOM, Pace, choose_threads, probe_seconds
from helper.trainers.live import LiveLog


class Machine:
    """A machine with so many threads and a clock of its own; `seconds`: what a probe takes by number of threads."""

    def __init__(self, most: int, seconds: dict[int, float]):
        self.most, self.seconds, self.probed, self.now = most, seconds, [], 0.0

    def probe(self, number: int) -> float:
        self.probed.append(number)
        return self.seconds[number]

    def clock(self) -> float:
        return self.now


@pytest.fixture
def machine(monkeypatch):
    """Two threads, idle: two are nearly twice as fast as one."""
    one = Machine(2, {2: 0.6, 1: 1.0})
    monkeypatch.delenv("COURSE_THREADS", raising=False)
    monkeypatch.setattr(threads, "_machine", {"all": one.most})
    monkeypatch.setattr(threads, "probe_seconds", one.probe)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: setattr(one, "set", number))
    monkeypatch.setattr(torch, "get_num_threads", lambda: getattr(one, "set", one.most))
    return one


IDLE, BUSY, NEARLY = {2: 0.6, 1: 1.0}, {2: 20.0, 1: 1.0}, {2: 1.0, 1: 0.9}


@pytest.mark.parametrize(("seconds", "chosen"), [(IDLE, 2), (BUSY, 1), (NEARLY, 2)])
def test_the_fastest_number_is_taken_and_all_in_doubt(seconds, chosen, machine):
    machine.seconds = seconds
    assert choose_threads() == machine.set == chosen and machine.probed == [2, 1]


@pytest.mark.parametrize(("most", "tried"), [(1, []), (2, [2, 1]), (3, [3, 2, 1]), (8, [8, 7, 4, 1])])
def test_few_numbers_are_tried(most, tried, machine, monkeypatch):
    monkeypatch.setitem(threads._machine, "all", most)
    machine.seconds = {number: 1 / number for number in range(1, 9)}
    assert choose_threads() == most and machine.probed == tried


def test_one_of_eight_busy_cores_leaves_seven(machine, monkeypatch):
    monkeypatch.setitem(threads._machine, "all", 8)
    machine.seconds = {8: 5.0, 7: 0.3, 4: 0.5, 1: 2.0}
    assert choose_threads() == 7


def test_the_environment_decides(machine, monkeypatch):
    monkeypatch.setenv("COURSE_THREADS", "3")
    pace = Pace(machine.clock)
    pace.start()
    for _ in range(9):
        machine.now += 100.0
        pace.step()
    assert machine.set == 3 and machine.probed == [] and pace.words() == ""


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_number_is_said_so(wrong, machine, monkeypatch):
    monkeypatch.setenv("COURSE_THREADS", wrong)
    with pytest.raises(ValueError, match=r"COURSE_THREADS='.*': give a whole number from 1"):
        choose_threads()


def walk(pace: Pace, machine: Machine, steps: int, seconds: float) -> None:
    for _ in range(steps):
        machine.now += seconds
        pace.step()


def test_a_step_that_takes_much_longer_is_measured_again(machine):
    pace = Pace(machine.clock)
    pace.start()
    walk(pace, machine, 60, 0.1)  # past the early measurement
    before = len(machine.probed)
    machine.seconds = BUSY
    walk(pace, machine, 1, 3.0)
    assert machine.set == 2 and len(machine.probed) == before  # just measured, so one slow step waits
    walk(pace, machine, 1, 3.0)
    assert machine.set == 1 and pace.words() == "1 of 2 threads, another program is busy"


def test_even_steps_are_seldom_measured_again(machine):
    pace = Pace(machine.clock)
    pace.start()
    walk(pace, machine, 1200, 0.1)  # two minutes
    assert len(machine.probed) / 2 == 1 + 1 + int((120 - EARLY) / SELDOM)


def test_all_threads_come_back_when_the_machine_is_idle(machine):
    machine.seconds = BUSY
    pace = Pace(machine.clock)
    pace.start()
    walk(pace, machine, 1, 0.2)
    assert machine.set == 1
    machine.seconds = IDLE
    walk(pace, machine, int((EARLY + AGAIN) / 0.2) + 2, 0.2)
    assert machine.set == 2 and pace.words() == ""


def test_a_choice_that_is_fresh_is_kept(machine):
    Pace(machine.clock).start()
    machine.now = 20.0
    Pace(machine.clock).start(max_age=30.0)
    assert machine.probed == [2, 1]
    machine.now = 31.0
    Pace(machine.clock).start(max_age=30.0)
    assert machine.probed == [2, 1, 2, 1]


def test_the_progress_line_says_so(machine):
    machine.seconds = BUSY
    live = LiveLog(charts=False)
    live._pace.start()
    live._first_step = 0
    assert live.line(1, 2).endswith(" · 1 of 2 threads, another program is busy")


def test_a_probe_computes_with_the_threads_that_it_is_given(monkeypatch):
    given, before = [], torch.get_num_threads()
    real = torch.set_num_threads
    monkeypatch.setattr(torch, "set_num_threads", lambda number: given.append(number) or real(number))
    monkeypatch.setattr(threads, "PROBE", 0.001)
    assert probe_seconds(1) > 0 and given == [1]
    real(before)
