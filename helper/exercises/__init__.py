"""The exercises' checks, one file a lesson: `from helper.exercises.lesson_02 import check_masked_loss`.

A check takes what the student wrote, and returns a Verdict (`helper.exercises.checking`), which is shown as a sentence or
two: right, not started, or wrong and which common mistake would give the same numbers.
Left out on purpose: the solutions. They stand folded in the notebooks, and the tests take them from there.
"""
