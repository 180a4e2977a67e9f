"""What the lessons import: `from helper import load_model_and_tokenizer, ...`.

Importing this package first switches Hugging Face telemetry and progress bars off and quiets
library chatter, so that a lesson's output is the lesson's own. Errors are never hidden.
Left out on purpose: TRL (each lesson imports its trainer in full view), and anything that trains.
"""

from helper import quiet  # noqa: F401, I001  (first: it sets the environment the libraries read at import)

from helper.answers import answers_match, extract_answer, extract_boxed, extract_gold, hard_answer_cases
from helper.checkpoints import TrainingStopped, checkpoint_settings, resume_training
from helper.converters import (
    from_alpaca,
    from_output_pairs,
    from_plain_pairs,
    from_ranked_outputs,
    from_scores,
    from_sharegpt,
    to_alpaca,
    to_sharegpt,
)
from helper.data import display_dataset, load_course_dataset, load_suite, read_jsonl
from helper.evaluation import (
    accuracy_table,
    compare,
    evaluate,
    mean_interval,
    paired_difference,
    pass_at_k,
    peak_memory_mb,
    save_scoreboard,
    scoreboard,
    scoreboard_table,
    show_side_by_side,
    wilson_interval,
)
from helper.generation import (
    complete_text,
    generate_responses,
    next_token_table,
    plain_forward,
    test_model_with_questions,
)
from helper.graders import CLAUSE_ENDS, grade
from helper.guards import add_alarms, check_chat_template, check_reward, check_trained_end, guard_reward
from helper.live import LiveLog, watch
from helper.models import (
    bf16_is_fast,
    choose_device,
    end_of_turn_id,
    load_model_and_tokenizer,
    output_folder,
    project_folder,
    set_seed,
    skip_masked_positions,
)
from helper.plots import (
    plot_dpo_loss,
    plot_group_advantages,
    plot_lora,
    plot_next_tokens,
    plot_scoreboard,
    plot_sft_mask,
    plot_stages,
    plot_training,
    show_figure,
)
from helper.rewards import (
    boxed_format_reward,
    graded_reward,
    hackable_reward,
    random_reward,
    reward_func,
)
from helper.validation import validate_completions, validate_messages, validate_preferences, validate_problems
from helper.widgets import (
    chat_side_by_side,
    explore_dpo_loss,
    explore_group_advantages,
    explore_learning_rates,
    explore_next_token,
    explore_tokens,
    reward_playground,
)
from helper.widgets_rl import explore_clip, explore_gae, explore_kl_estimators, explore_normalisers

__all__ = [
    "CLAUSE_ENDS",
    "LiveLog",
    "TrainingStopped",
    "accuracy_table",
    "add_alarms",
    "answers_match",
    "bf16_is_fast",
    "boxed_format_reward",
    "chat_side_by_side",
    "check_chat_template",
    "check_reward",
    "check_trained_end",
    "checkpoint_settings",
    "choose_device",
    "compare",
    "complete_text",
    "display_dataset",
    "end_of_turn_id",
    "evaluate",
    "explore_clip",
    "explore_dpo_loss",
    "explore_gae",
    "explore_group_advantages",
    "explore_kl_estimators",
    "explore_learning_rates",
    "explore_next_token",
    "explore_normalisers",
    "explore_tokens",
    "extract_answer",
    "extract_boxed",
    "extract_gold",
    "from_alpaca",
    "from_output_pairs",
    "from_plain_pairs",
    "from_ranked_outputs",
    "from_scores",
    "from_sharegpt",
    "generate_responses",
    "grade",
    "graded_reward",
    "guard_reward",
    "hackable_reward",
    "hard_answer_cases",
    "load_course_dataset",
    "load_model_and_tokenizer",
    "load_suite",
    "mean_interval",
    "next_token_table",
    "output_folder",
    "paired_difference",
    "pass_at_k",
    "peak_memory_mb",
    "plain_forward",
    "plot_dpo_loss",
    "plot_group_advantages",
    "plot_lora",
    "plot_next_tokens",
    "plot_scoreboard",
    "plot_sft_mask",
    "plot_stages",
    "plot_training",
    "project_folder",
    "random_reward",
    "read_jsonl",
    "resume_training",
    "reward_func",
    "reward_playground",
    "save_scoreboard",
    "scoreboard",
    "scoreboard_table",
    "set_seed",
    "show_figure",
    "show_side_by_side",
    "skip_masked_positions",
    "test_model_with_questions",
    "to_alpaca",
    "to_sharegpt",
    "validate_completions",
    "validate_messages",
    "validate_preferences",
    "validate_problems",
    "watch",
    "wilson_interval",
]
