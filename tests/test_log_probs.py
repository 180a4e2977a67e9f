"""Log-probabilities of fewer positions, and quicker ones: the losses and gradients of the library's own."""

from contextlib import nullcontext

import pytest
import torch
from datasets import Dataset
from tiny import make_model
from trl import SFTConfig, SFTTrainer
from trl.kernels import chunked_logprob
from trl.trainer import utils
from trl.trainer import utils as trl_utils

from helper.trainers import log_probs
from helper.trainers.log_probs import LogProbs, quick_log_probs, skip_masked_positions


def test_skip_masked_positions_changes_no_loss_and_no_gradient(tokenizer, tmp_path, monkeypatch):
    rows = [
        {"prompt": "one two three four five six seven", "completion": " eight nine"},
        {"prompt": "what is", "completion": " the capital of a place?"},
    ]
    results, scored = [], []
    fused = trl_utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(trl_utils, "_use_triton", chunked_logprob._use_triton)  # whatever ran before this test
    monkeypatch.setattr(
        trl_utils._ChunkedLogProbFunction, "apply", lambda hidden, *rest: scored.append(len(hidden)) or fused(hidden, *rest)
    )
    for skip in (nullcontext, skip_masked_positions):
        model = make_model(tokenizer)
        args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False)
        trainer = SFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        batch = next(iter(trainer.get_train_dataloader()))
        with skip():
            loss = trainer.compute_loss(model, batch)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert scored[1] == int((batch["labels"][:, 1:] != -100).sum()) < scored[0]
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)


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
    monkeypatch.setattr(log_probs, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(log_probs, "KEPT_BYTES", kept_bytes)
    theirs = numbers(utils._ChunkedLogProbFunction.apply, temperature=temperature)
    with quick_log_probs():
        ours = numbers(utils._ChunkedLogProbFunction.apply, temperature=temperature)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def gradients(use, temperature, tile_bytes, kept_bytes, monkeypatch):
    """Of a loss that `use` makes of log-probabilities and entropies: by LogProbs, and by autograd on the formulas."""
    monkeypatch.setattr(log_probs, "TILE_BYTES", tile_bytes)
    monkeypatch.setattr(log_probs, "KEPT_BYTES", kept_bytes)
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(37, 16), torch.randn(101, 16), torch.randint(0, 101, (37,))
    found = []
    for ours in (True, False):  # the formulas in double precision
        dtype = torch.float32 if ours else torch.float64
        inputs = [tensor.to(dtype, copy=True).requires_grad_() for tensor in (hidden, weight)]
        if ours:
            chosen, entropy, _ = LogProbs.apply(*inputs, targets, temperature, True)
        else:
            logs = torch.log_softmax(inputs[0] @ inputs[1].T / temperature, -1)
            chosen, entropy = logs.gather(1, targets[:, None])[:, 0], -(logs.exp() * logs).sum(-1)
        loss = use(chosen, entropy)
        found.append([loss, *torch.autograd.grad(loss, inputs)])
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("tile_bytes", [2**25, 4 * 101 * 5])
@pytest.mark.parametrize("kept_bytes", [2**28, 4 * 101 * 12])
@pytest.mark.parametrize(
    "use",
    [
        lambda chosen, entropy: -(chosen * torch.arange(37)).sum() - 0.01 * entropy.sum(),  # an entropy bonus
        lambda chosen, entropy: (entropy * torch.arange(37)).sum(),  # of the entropy alone
        lambda chosen, entropy: (chosen * entropy).sum() + entropy[3] ** 2,
        lambda chosen, entropy: chosen.sum() + 0 * entropy.sum(),
        lambda chosen, entropy: (chosen * entropy.detach()).sum(),
    ],
)
def test_an_entropy_bonus_has_its_gradient(use, temperature, tile_bytes, kept_bytes, monkeypatch):
    ours, formulas = gradients(use, temperature, tile_bytes, kept_bytes, monkeypatch)
    for a, b in zip(ours, formulas, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4 * b.abs().max().item())
    assert ours[1].abs().sum() > 0


def test_an_entropy_bonus_trains_as_with_the_library():
    def slope(function):
        torch.manual_seed(0)
        hidden, weight = torch.randn(9, 8, requires_grad=True), torch.randn(31, 8, requires_grad=True)
        wanted = ("log_probs", "entropy", "is_top1")
        chosen, entropy, *_ = function(hidden, weight, None, torch.arange(9), 0.9, 32768, None, 1.0, wanted)
        (-chosen.mean() - 0.1 * entropy.mean()).backward()
        return hidden.grad, weight.grad

    theirs = slope(utils._ChunkedLogProbFunction.apply)
    with quick_log_probs():
        ours = slope(utils._ChunkedLogProbFunction.apply)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_where_no_entropy_was_asked_for_it_has_no_gradient():
    hidden, weight = torch.randn(5, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
    chosen, entropy, best = LogProbs.apply(hidden, weight, torch.arange(5), 1.0, False)
    assert chosen.requires_grad and not entropy.requires_grad and not best.requires_grad


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
