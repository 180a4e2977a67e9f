"""Exercise checks of the lessons: `from helper.exercises import check_masked_loss`.

A check takes what the student wrote, and returns a Verdict, which is shown as a sentence or two: right, not started,
or wrong and which common mistake would give the same numbers. One module a lesson.
Left out on purpose: the solutions. They stand folded in the notebooks, and the tests take them from there.
"""

from helper.exercises.checking import Verdict
from helper.exercises.lesson_01 import (
    ask_in_sentences,
    check_begin_sentence,
    check_choices,
    check_few_shot_prompt,
    check_paired_test,
    check_questions_needed,
    check_temperature,
    questions_to_study,
)
from helper.exercises.lesson_02 import (
    check_filter,
    check_learning_rates,
    check_lora_weights,
    check_masked_loss,
    check_probability_of_loss,
    check_row_labels,
    check_template,
    six_steps,
    spoiled_rows,
)
from helper.exercises.lesson_03 import (
    check_beta_for_weight,
    check_build_pairs,
    check_dpo_loss,
    check_dpop_loss,
    check_own_loss,
    train_toy,
)
from helper.exercises.lesson_04 import (
    check_cheat,
    check_claims,
    check_graded_reward,
    check_group_advantages,
    check_loss_at_start,
    check_mended_reward,
    check_pass_at_k,
    check_plan,
    check_steps_reward,
    informative,
)

__all__ = [
    "Verdict",
    "ask_in_sentences",
    "check_begin_sentence",
    "check_beta_for_weight",
    "check_build_pairs",
    "check_template",
    "check_cheat",
    "check_choices",
    "check_claims",
    "check_dpo_loss",
    "check_dpop_loss",
    "check_few_shot_prompt",
    "check_filter",
    "check_graded_reward",
    "check_group_advantages",
    "check_learning_rates",
    "check_lora_weights",
    "check_loss_at_start",
    "check_masked_loss",
    "check_mended_reward",
    "check_own_loss",
    "check_paired_test",
    "check_pass_at_k",
    "check_plan",
    "check_probability_of_loss",
    "check_questions_needed",
    "check_row_labels",
    "check_steps_reward",
    "check_temperature",
    "informative",
    "questions_to_study",
    "six_steps",
    "spoiled_rows",
    "train_toy",
]
