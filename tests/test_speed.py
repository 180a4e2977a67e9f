"""The quicker ways give the same losses and gradients as the library's own."""

import sys

import pytest
import torch
from datasets import Dataset
from tiny import make_model, make_tokenizer
from trl import SFTConfig, SFTTrainer
from trl.trainer import utils

from factory.reference_speed import compare_sides
from helper import speed
from helper.machine.memory import keep_freed_memory
from helper.trainers.log_probs import LogProbs, quick_log_probs
from helper.trainers.speed import quick_sft_settings

PLAIN = {
    "use_cpu": True, "activation_checkpointing": False, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
    "disable_tqdm": True, "learning_rate": 1e-2,
}  # fmt: skip


def numbers(function, outputs=("log_probs", "entropy", "is_top1"), temperature=1.0):
    """What a log-probability function gives, and the gradients of a weighted sum of it."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(37, 16, requires_grad=True), torch.randn(101, 16, requires_grad=True)
    targets, weights = torch.randint(0, 101, (37,)), torch.randn(37)
    log_probs, entropy, *_, best = function(hidden, weight, None, targets, temperature, 32768, None, 1.0, outputs)
    (log_probs * weights).sum().backward()
    return log_probs, entropy, best.float(), hidden.grad, weight.grad


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("tile_bytes", [2**25, 4 * 101 * 5])  # all tokens at once; five at a time
@pytest.mark.parametrize("kept_bytes", [2**28, 4 * 101 * 12])  # kept for the way back; computed again, twelve at a time
def test_log_probabilities_and_gradients_are_trls(temperature, tile_bytes, kept_bytes, monkeypatch):
    monkeypatch.setattr(speed, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(speed, "KEPT_BYTES", kept_bytes)
    theirs = numbers(utils._ChunkedLogProbFunction.apply, temperature=temperature)
    with quick_log_probs():
        ours = numbers(utils._ChunkedLogProbFunction.apply, temperature=temperature)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_way_back_can_be_gone_twice_and_a_frozen_matrix_gets_no_gradient():
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    loss = LogProbs.apply(hidden, weight, torch.randint(0, 7, (5,)), 1.0, False)[0].sum()
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, (hidden, weight)), strict=True):
        torch.testing.assert_close(a, b)
    frozen = weight.detach()
    LogProbs.apply(hidden, frozen, torch.randint(0, 7, (5,)), 1.0, False)[0].sum().backward()
    assert hidden.grad.abs().sum() > 0 and frozen.grad is None


def test_a_wrong_gradient_would_be_noticed():
    """The formula by numbers: double precision and finite differences."""
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    targets = torch.randint(0, 7, (5,))
    LogProbs.apply(hidden, weight, targets, 0.5, True)[0].sum().backward()
    plain = torch.log_softmax(hidden.detach().double() @ weight.detach().double().T / 0.5, -1)
    step = torch.zeros(5, 4, dtype=torch.double)
    step[2, 1] = 1e-6
    moved = torch.log_softmax((hidden.detach().double() + step) @ weight.detach().double().T / 0.5, -1)
    slope = (moved - plain)[torch.arange(5), targets].sum() / 1e-6
    assert hidden.grad[2, 1].item() == pytest.approx(slope.item(), rel=1e-3)


def test_trls_own_function_is_put_back_and_used_where_ours_does_not_do():
    own = utils._ChunkedLogProbFunction
    with pytest.raises(RuntimeError), quick_log_probs():
        assert utils._ChunkedLogProbFunction is not own
        wanted = ("log_probs", "entropy", "is_top1", "log_sum_sq_probs")
        hidden, weight, targets = torch.randn(3, 4), torch.randn(9, 4), torch.tensor([1, 2, 3])
        found = utils._ChunkedLogProbFunction.apply(hidden, weight, None, targets, 1.0, 32768, None, 1.0, wanted)
        assert found[2] is not None  # log_sum_sq_probs, which only TRL's gives
        raise RuntimeError
    assert utils._ChunkedLogProbFunction is own


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


def test_freed_memory_is_kept_only_where_the_system_has_the_call(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_freed_memory() is False


def test_sides_are_compared_only_over_the_same_work():
    theirs = {"tokens": 9, "loss": [2.0, 1.0], "seconds": 10.0, "step_seconds": [5.0, 5.0]}
    ours = {"tokens": 9, "loss": [2.0, 1.01], "seconds": 4.0, "step_seconds": [2.0, 2.0]}
    found = compare_sides(theirs, ours)
    assert found == {"time_share": 0.4, "median_step_share": 0.4, "largest_loss_difference": 0.01}
    with pytest.raises(ValueError, match="same tokens"):
        compare_sides(theirs, ours | {"tokens": 8})
