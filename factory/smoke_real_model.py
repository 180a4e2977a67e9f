"""Whether a real model still goes all the way through: `python -m factory.smoke_real_model`, two minutes on two cores.

SmolLM2-135M-Instruct (`make real-model`) is loaded by its name without a network, answers, is trained for five steps each
with SFT, DPO and GRPO, saved, loaded again, and must then answer the same. It checks that nothing breaks, not that it
learns: that takes more steps, and is recorded (`make record-real`).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from factory import stages
from factory.recordings.real_model import DPO, GRPO, SFT, dpo_rows, practice_rows
from helper import generate_responses, load_course_dataset
from helper.algorithms import train_grpo
from helper.machine.device import bf16_is_fast
from helper.models import REAL_MODEL, load_model_and_tokenizer

QUESTIONS = ["What is the capital of France?", "Who are you?", "What is 2 + 3?", "Describe lions in at most five words."]
STEPS = 5


def train_a_little(model, tokenizer, folder: Path) -> None:
    """Five steps of each method, one after the other, with the lessons' rates."""
    short = {"max_steps": STEPS, "per_device_train_batch_size": 4}
    tools = load_course_dataset("sprout-tools").to_list()
    stages.train_sft(model, tokenizer, tools, folder / "sft", learning_rate=SFT["learning_rate"], warmup_steps=0, **short)
    settings = {"learning_rate": DPO["learning_rate"], "beta": 0.2, **short}
    args = DPOConfig(**stages.quiet_settings(folder / "dpo", 0) | settings)
    stages.run(DPOTrainer, model, tokenizer, args, Dataset.from_list(dpo_rows(model, tokenizer, 0, 20).to_list()))
    live = train_grpo(
        model, tokenizer, practice_rows(0, shuffled=False), [short_reward], folder=folder / "grpo", steps=STEPS,
        group_size=4, prompts_per_step=2, learning_rate=GRPO["learning_rate"], max_new_tokens=24,
        bf16=bf16_is_fast(model.device), charts=False,
    )  # fmt: skip
    assert len(live.table()) == STEPS and model.eval()


def short_reward(completions: list, **kwargs) -> list[float]:
    """Pays short answers, so that there is spread in any group."""
    return [float(len(completion[-1]["content"]) < 60) for completion in completions]


def main() -> None:
    """Load, answer, train, save, load, answer; raises where one of them fails."""
    began = time.perf_counter()
    model, tokenizer = load_model_and_tokenizer("./models/HuggingFaceTB/SmolLM2-135M-Instruct")  # as in the reference course
    first = generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=24)
    assert "Paris" in first[0], f"it says {first[0]!r}"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train_a_little(model.float(), tokenizer, folder)
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        after = generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=24)
        again = generate_responses(*load_model_and_tokenizer(folder / "model"), QUESTIONS, max_new_tokens=24)
    assert after == again, f"saved and loaded, it answers otherwise:\n{after}\n{again}"
    assert after != first, "five steps each of SFT, DPO and GRPO changed nothing"
    print(
        f"{REAL_MODEL}: loaded, trained by SFT, DPO and GRPO, saved and loaded again in {time.perf_counter() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
