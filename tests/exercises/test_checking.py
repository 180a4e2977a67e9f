"""What the checks of all lessons share, and that every lesson with exercises has its file beside this one."""

import math
from pathlib import Path

from exercise_tests import find_exercises

from helper import exercises
from helper.exercises.checking import close, show


def test_every_lesson_with_exercises_has_its_tests():
    tested = {path.stem[-2:] for path in Path(__file__).parent.glob("test_lesson_*.py")}
    checks = {path.stem[-2:] for path in Path(exercises.__file__).parent.glob("lesson_*.py")}
    assert tested == checks >= {name[:2] for name in find_exercises()}


def test_close_and_show():
    assert close(math.nan, math.nan) and not close(math.nan, 1.0) and not close([1.0], 1.0)
    assert close([1.0, [2.0]], [1.00001, [2.0]]) and not close([1.0], [1.0, 2.0]) and close("a", "a")
    assert show([1.0, math.inf]) == "[1.0000, inf]" and len(show("x" * 500)) == 160
