r"""Getting the answer out of a text, and deciding whether two answers are equal: three short stages.

1. `extraction`: where in a text the answer stands ("The answer is **\$1,000**." -> "\$1,000").
2. `writing`, then `numbers` (with `units` and `spellings`): one way of writing for each thing, one exact number with its
   unit where it is one ("\$1,000" -> 1000, dollars).
3. `equality` (with `names`, `lists` and `expressions`): the same text, letter, number, list, or by algebra the same
   expression (1000 dollars and "1000.0" -> equal).

Nothing is evaluated, and no floats: numbers are exact fractions. Rules stand in each file's docstring, with what is left
out on purpose.
"""

import json
from pathlib import Path

from helper.answers.equality import answers_match, normalise
from helper.answers.extraction import (
    MAX_TEXT,
    expected_answer,
    extract_answer,
    extract_boxed,
    extract_gold,
    without_thoughts,
)
from helper.answers.numbers import MAX_ANSWER, as_number

__all__ = [
    "MAX_ANSWER",
    "MAX_TEXT",
    "answers_match",
    "as_number",
    "expected_answer",
    "extract_answer",
    "extract_boxed",
    "extract_gold",
    "hard_answer_cases",
    "normalise",
    "without_thoughts",
]


def hard_answer_cases() -> list[dict]:
    """The table of answers that simple graders judge wrongly: one dict for each row of helper/answers/hard_answers.jsonl.

    `predicted`, `expected`: two answers, or with `from_text` true a whole text and an answer; `equal`: the right
    verdict; `kind`: the kind of mistake it invites; `why`: the reason; `wrong`: the simple graders that fail on it.
    """
    path = Path(__file__).with_name("hard_answers.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
