"""What two lessons or more import: `from helper import load_model_and_tokenizer, ...`.

Importing this package first switches Hugging Face telemetry and progress bars off and quiets
library chatter, so that a lesson's output is the lesson's own. Errors are never hidden.
Left out on purpose: what one lesson needs (it is imported from its file in the section that teaches it), TRL (each
lesson imports its trainer in full view), and anything that trains.
"""

from helper.machine import quiet  # noqa: F401, I001  (first: it sets the environment the libraries read at import)

import sys

if sys.argv[:1] != ["-m"]:  # else Python is about to run `python -m helper.validation` or its like: rows, and no model
    from helper.answers import answers_match, extract_boxed, extract_gold
    from helper.by_model import by_model
    from helper.data import load_course_dataset, load_suite, load_suites
    from helper.evaluation import accuracy_table, compare, evaluate
    from helper.explorers.chat import chat_side_by_side
    from helper.figures.answers import show_side_by_side
    from helper.figures.costs import show_cost
    from helper.figures.figure import show_figure
    from helper.figures.rows import display_dataset
    from helper.figures.scores import plot_scoreboard
    from helper.generation import complete_text, generate_responses, next_token_table, test_model_with_questions
    from helper.graders import grade
    from helper.intervals import wilson_interval
    from helper.machine.costs import training_cost
    from helper.machine.device import bf16_is_fast, set_seed
    from helper.machine.folders import output_folder, project_folder
    from helper.models import load_model_and_tokenizer
    from helper.rewards import reward_func
    from helper.scoreboards import save_scoreboard, scoreboard, scoreboard_table
    from helper.trainers.alarms import add_alarms
    from helper.trainers.checkpoints import checkpoint_settings, resume_training
    from helper.trainers.label_checks import check_trained_end
    from helper.trainers.live import watch
    from helper.trainers.log_probs import skip_masked_positions
    from helper.trainers.reward_checks import check_reward
    from helper.validation import validate_problems

__all__ = [
    "accuracy_table",
    "add_alarms",
    "answers_match",
    "bf16_is_fast",
    "by_model",
    "chat_side_by_side",
    "check_reward",
    "check_trained_end",
    "checkpoint_settings",
    "compare",
    "complete_text",
    "display_dataset",
    "evaluate",
    "extract_boxed",
    "extract_gold",
    "generate_responses",
    "grade",
    "load_course_dataset",
    "load_model_and_tokenizer",
    "load_suite",
    "load_suites",
    "next_token_table",
    "output_folder",
    "plot_scoreboard",
    "project_folder",
    "resume_training",
    "reward_func",
    "save_scoreboard",
    "scoreboard",
    "scoreboard_table",
    "set_seed",
    "show_cost",
    "show_figure",
    "show_side_by_side",
    "skip_masked_positions",
    "test_model_with_questions",
    "training_cost",
    "validate_problems",
    "watch",
    "wilson_interval",
]
