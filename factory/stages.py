"""The later stages of Sprout: SFT, DPO and GRPO with the recipes of lessons 02, 03 and 04.

Each function reads what the stage before wrote and returns the trained model. The settings are the lessons' own;
`tests/test_factory.py` holds the two together.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.trainer_callback import PrinterCallback
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from helper import generate_responses, set_seed, skip_masked_positions
from helper.machine.device import bf16_is_fast
from helper.rewards import reward_func

OLD_NAME, NEW_NAME = "Sprout", "Deep Sprout"


def quiet_settings(folder: Path, seed: int) -> dict:
    """Settings every stage shares."""
    return {
        "output_dir": str(folder), "seed": seed, "use_cpu": True, "bf16": bf16_is_fast(torch.device("cpu")),
        "activation_checkpointing": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True,
    }  # fmt: skip


def prompts_and_completions(rows: list[dict]) -> list[dict]:
    """Rows with `messages` as rows with `prompt` and `completion`: the last message is what is learned."""
    return [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]


def train_sft(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[dict], folder: Path, seed: int = 0,
    **changes: object,
) -> PreTrainedModel:  # fmt: skip
    """Lesson 02: the loss on the answers only; `rows` have the column `messages`."""
    set_seed(seed)
    pairs = prompts_and_completions(rows)
    settings = SFT_SETTINGS | quiet_settings(folder, seed) | changes
    return run(SFTTrainer, model, tokenizer, SFTConfig(**settings), Dataset.from_list(pairs))


def correction_pairs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[str], old: str, new: str
) -> list[dict]:
    """Preference pairs from the model's own answers: `old` replaced by `new`; unchanged answers are dropped."""
    pairs = []
    for question, answer in zip(questions, generate_responses(model, tokenizer, questions), strict=True):
        if old in answer:
            user = [{"role": "user", "content": question}]
            pairs.append({
                "prompt": user,
                "chosen": [{"role": "assistant", "content": answer.replace(old, new)}],
                "rejected": [{"role": "assistant", "content": answer}],
            })  # fmt: skip
    return pairs


def anchor_rows(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[str], longest: int = 128
) -> list[dict]:
    """The model's own answers to other questions, chosen and rejected alike: only the SFT term acts on them."""
    rows, answers = [], generate_responses(model, tokenizer, questions, max_new_tokens=longest)
    for question, answer in zip(questions, answers, strict=True):
        own = [{"role": "assistant", "content": answer}]
        rows.append({"prompt": [{"role": "user", "content": question}], "chosen": own, "rejected": own})
    return rows


def train_dpo(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[str], other_questions: list[str],
    folder: Path, seed: int = 0, **changes: object,
) -> PreTrainedModel:  # fmt: skip
    """Lesson 03: the name changed by pairs made of the model's own answers; anchors keep the rest in place."""
    set_seed(seed)
    pairs = correction_pairs(model, tokenizer, questions, OLD_NAME, NEW_NAME)
    pairs += anchor_rows(model, tokenizer, other_questions)
    settings = DPO_SETTINGS | quiet_settings(folder, seed) | changes
    return run(DPOTrainer, model, tokenizer, DPOConfig(**settings), Dataset.from_list(pairs))


def train_grpo(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: list[dict], folder: Path, seed: int = 0,
    reward: Callable = reward_func, **changes: object,
) -> PreTrainedModel:  # fmt: skip
    """Lesson 04: practice with a verifiable reward; `problems` have `question` and `answer` ("#### 72")."""
    set_seed(seed)
    rows = [
        {
            "prompt": [{"role": "user", "content": p["question"]}],
            "ground_truth": p["answer"].split("#### ")[-1],
        }
        for p in problems
    ]
    settings = GRPO_SETTINGS | quiet_settings(folder, seed) | changes
    return run(
        GRPOTrainer,
        model,
        tokenizer,
        GRPOConfig(**settings),
        Dataset.from_list(rows),
        reward_funcs=reward,
    )


def run(trainer_class, model, tokenizer, args, dataset, **options) -> PreTrainedModel:
    """Make the trainer, train, and return the model ready for use."""
    return run_trainer(trainer_class(model=model, processing_class=tokenizer, args=args, train_dataset=dataset, **options))


def run_trainer(trainer) -> PreTrainedModel:
    """Train without a line a step, and return the model ready for use."""
    trainer.remove_callback(PrinterCallback)
    with skip_masked_positions():
        trainer.train()
    return trainer.model.eval()


SFT_SETTINGS = {
    "learning_rate": 1e-3, "num_train_epochs": 1.9, "per_device_train_batch_size": 16,
    "lr_scheduler_type": "cosine", "adam_beta2": 0.95, "warmup_steps": 20, "max_length": 256, "logging_steps": 10,
}  # fmt: skip
DPO_SETTINGS = {
    "learning_rate": 3.5e-4, "num_train_epochs": 2, "per_device_train_batch_size": 16, "beta": 0.2,
    "loss_type": ["sigmoid", "sft"], "loss_weights": [0.5, 1.0], "max_length": 256, "logging_steps": 5,
}  # fmt: skip
GRPO_SETTINGS = {
    "learning_rate": 3e-4, "max_steps": 64, "per_device_train_batch_size": 12, "gradient_accumulation_steps": 4,
    "num_generations": 4, "max_completion_length": 72, "temperature": 1.2, "beta": 0.0, "loss_type": "dr_grpo",
    "scale_rewards": "group", "lr_scheduler_type": "constant", "logging_steps": 5,
}  # fmt: skip
