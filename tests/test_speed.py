"""The quicker ways give the same losses and gradients as the library's own."""

from types import SimpleNamespace

import pytest
from datasets import Dataset
from tiny import make_model, make_tokenizer
from transformers import TrainerControl
from trl import SFTConfig, SFTTrainer

from factory.reference_speed import compare_sides
from helper.trainers import speed
from helper.trainers.log_probs import quick_log_probs
from helper.trainers.speed import estimate_time, quick_sft_settings

PLAIN = {
    "use_cpu": True, "activation_checkpointing": False, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
    "disable_tqdm": True, "learning_rate": 1e-2,
}  # fmt: skip


def train(folder, settings: dict, quick: bool = False) -> tuple[list[float], list[float]]:
    """Losses and gradient norms of three optimiser steps of four rows each, of unlike lengths."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=3)
    rows = Dataset.from_list([{"input_ids": [5 + (i * j) % 90 for j in range(8 + 5 * i)]} for i in range(12)])
    keep = {"dataset_kwargs": {"skip_prepare_dataset": True}, "output_dir": str(folder)}
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, train_dataset=rows, args=SFTConfig(**PLAIN | keep | settings)
    )
    if quick:
        with quick_log_probs():
            trainer.train()
    else:
        trainer.train()
    log = [row for row in trainer.state.log_history if "loss" in row]
    return [row["loss"] for row in log], [float(row["grad_norm"]) for row in log]


def test_the_quick_settings_give_the_same_losses(tmp_path, monkeypatch):
    theirs = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "bf16": False, "num_train_epochs": 1}
    reference = train(tmp_path, theirs)
    assert len(reference[0]) == 3 and len(set(reference[0])) == 3
    monkeypatch.setattr(speed, "bf16_is_fast", lambda: False)
    ours = quick_sft_settings(rows_per_step=4) | {"num_train_epochs": 1}
    assert ours["per_device_train_batch_size"] == 4 and ours["gradient_accumulation_steps"] == 1 and not ours["bf16"]
    for found, expected in zip(train(tmp_path, ours, quick=True), reference):
        assert found == pytest.approx(expected, rel=1e-3)
    monkeypatch.setattr(speed, "bf16_is_fast", lambda: True)
    rough = train(tmp_path, quick_sft_settings(rows_per_step=4, most_rows=2) | {"num_train_epochs": 1}, quick=True)
    assert rough[0] == pytest.approx(reference[0], rel=0.02)


def test_rows_are_split_evenly_and_wrong_numbers_named():
    settings = quick_sft_settings(rows_per_step=12, most_rows=8)
    assert (settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]) == (6, 2)
    for words in ({"rows_per_step": 0}, {"most_rows": 2.0}, {"rows_per_step": True}):
        with pytest.raises(ValueError, match="whole number from 1"):
            quick_sft_settings(**words)


def test_sides_are_compared_only_over_the_same_work():
    theirs = {"tokens": 9, "loss": [2.0, 1.0], "seconds": 10.0, "step_seconds": [5.0, 5.0]}
    ours = {"tokens": 9, "loss": [2.0, 1.01], "seconds": 4.0, "step_seconds": [2.0, 2.0]}
    found = compare_sides(theirs, ours)
    assert found == {"time_share": 0.4, "median_step_share": 0.4, "largest_loss_difference": 0.01}
    with pytest.raises(ValueError, match="same tokens"):
        compare_sides(theirs, ours | {"tokens": 8})


class FakeTrainer:
    """Runs its callbacks as the library's trainer does, with steps of given seconds on a clock of its own."""

    def __init__(self, seconds):
        self.seconds, self.now, self.callbacks = seconds, 0.0, []
        self.state = SimpleNamespace(max_steps=len(seconds))

    def add_callback(self, callback):
        self.callbacks.append(callback)

    def remove_callback(self, callback):
        self.callbacks = [c for c in self.callbacks if c is not callback and type(c) is not callback]

    def train(self):
        control = TrainerControl()
        (ticks,) = self.callbacks
        self.taken = 0
        for seconds in self.seconds:
            ticks.on_step_begin(None, self.state, control)
            self.now += seconds
            ticks.on_step_end(None, self.state, control)
            self.taken += 1
            if control.should_training_stop:
                return


def test_time_is_estimated_from_the_median_of_the_later_steps():
    trainer = FakeTrainer([30.0, 10.0, 2.0, 2.2, 1.9, 2.1, 9.0, 2.0, 1.0, 2.3] + [5.0] * 90)
    guess = estimate_time(trainer, clock=lambda: trainer.now)
    assert trainer.taken == 10 and trainer.callbacks == []
    assert guess.step == pytest.approx(2.05) and guess.steps == 8
    assert guess.seconds == pytest.approx(205) and (guess.low, guess.high) == pytest.approx((190, 230))
    assert estimate_time(trainer, steps=10, clock=lambda: trainer.now).seconds == pytest.approx(20.5)
    with pytest.raises(ValueError, match="5 or more"):
        estimate_time(trainer, probe=4)
    with pytest.raises(ValueError, match="data set too small"):
        estimate_time(FakeTrainer([1.0] * 4))
