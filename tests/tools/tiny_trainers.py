"""The library's trainers of the tiny model of `tiny.py`: SFT, DPO and GRPO on a few rows, and what two equal runs share.

Left out on purpose: learning anything. Each run is some steps long, and silent.
"""

import hashlib
from pathlib import Path

from datasets import Dataset
from tiny import make_model, make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from helper.trainers.checkpoints import checkpoint_settings
from helper.trainers.live import watch

KINDS = ("sft", "dpo", "grpo")
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]


def length_reward(completions, **kwargs):
    return [float(len(completion[-1]["content"]) % 5) for completion in completions]


def save_tiny_model(folder: Path) -> Path:
    """The DPO trainer loads its reference from a path, so the model has to have one."""
    tokenizer = make_tokenizer()
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_trainer(kind: str, model_folder: Path, folder: Path, steps: int = 6, every: int = 2, rows=None, **changes):
    """A trainer of one of KINDS on a tiny model, on a CPU, silent; `changes` are settings of its config."""
    settings = dict(
        output_dir=str(folder), use_cpu=True, bf16=False, max_steps=steps, logging_steps=1, learning_rate=1e-3,
        per_device_train_batch_size=4, activation_checkpointing=False, report_to="none", disable_tqdm=True,
        dataloader_pin_memory=False, seed=0, **checkpoint_settings(every),
    )  # fmt: skip
    if kind == "grpo":
        settings |= {"num_generations": 4, "max_completion_length": 6}
    config = {"sft": SFTConfig, "dpo": DPOConfig, "grpo": GRPOConfig}[kind](**(settings | changes))
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    common = {"model": model, "args": config, "processing_class": AutoTokenizer.from_pretrained(model_folder)}
    common["train_dataset"] = Dataset.from_list(rows or tiny_rows(kind))
    if kind == "grpo":
        trainer = GRPOTrainer(reward_funcs=length_reward, **common)
    else:
        trainer = {"sft": SFTTrainer, "dpo": DPOTrainer}[kind](**common)
    watch(trainer)
    return trainer


def tiny_rows(kind: str) -> list[dict]:
    rows = []
    for word, before in zip(WORDS, WORDS[-1:] + WORDS, strict=False):
        right, wrong = ([{"role": "assistant", "content": text}] for text in (f"{before} {word}", f"no {word}"))
        answers = {"sft": {"completion": right}, "dpo": {"chosen": right, "rejected": wrong}, "grpo": {"truth": word}}
        rows.append({"prompt": [{"role": "user", "content": word}], **answers[kind]})
    return rows * 2


def result(trainer) -> dict:
    """What two equal runs have in common: every loss and every weight."""
    weights = hashlib.sha256()
    for name, values in sorted(trainer.model.state_dict().items()):
        weights.update(name.encode() + values.contiguous().numpy().tobytes())
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {"losses": losses, "weights": weights.hexdigest()}
