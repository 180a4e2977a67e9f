"""Exercise checks of the lessons: `from helper.exercises import check_masked_loss`.

A check takes what the student wrote, and returns a Verdict, which is shown as a sentence or two: right, not started,
or wrong and which common mistake would give the same numbers. One module a lesson.
Left out on purpose: the solutions. They stand folded in the notebooks, and the tests take them from there.
"""

from helper.exercises.checking import Verdict
from helper.exercises.lesson_02 import (
    check_chat_template,
    check_filter,
    check_learning_rates,
    check_lora_weights,
    check_masked_loss,
    check_probability_of_loss,
    check_row_labels,
    short_run,
    spoiled_rows,
)

__all__ = [
    "Verdict",
    "check_chat_template",
    "check_filter",
    "check_learning_rates",
    "check_lora_weights",
    "check_masked_loss",
    "check_probability_of_loss",
    "check_row_labels",
    "short_run",
    "spoiled_rows",
]
