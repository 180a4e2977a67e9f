"""One view of all methods: each loss's own gradient equals that of its coefficients; planted mistakes do not."""

import pytest
import torch

from helper.algorithms import dpo_loss, group_advantages, grpo_loss, ppo_policy_loss, sequence_log_probabilities, sft_loss
from helper.algorithms.coefficients import (
    dpo_coefficients,
    grpo_coefficients,
    ppo_coefficients,
    rejection_coefficients,
    sft_coefficients,
    weighted_loss,
)

BETA, GROUP = 0.2, 4
METHODS = ("SFT", "rejection", "DPO", "PPO", "GRPO", "GRPO, no KL")


@pytest.fixture
def batch():
    """Eight responses with padding, log-probabilities of three policies in float64, rewards of two groups."""
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(8, 5, 7, generator=draw, dtype=torch.float64).requires_grad_()
    ids = torch.randint(7, (8, 5, 1), generator=draw)
    logps = logits.log_softmax(-1).gather(-1, ids)[..., 0]
    apart = [logps.detach() + 0.4 * torch.randn(8, 5, generator=draw, dtype=torch.float64) for _ in range(2)]
    mask = (torch.arange(5) < torch.tensor([5, 3, 4, 1, 2, 5, 4, 3]).unsqueeze(1)).double()
    rewards = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0], dtype=torch.float64)
    advantages = torch.randn(8, 5, generator=draw, dtype=torch.float64)
    return logits, logps, *apart, mask, rewards, advantages


def both(method, batch):
    """The loss of `helper.algorithms`, and the coefficients."""
    _, logps, old, ref, mask, rewards, advantages = batch
    group = group_advantages(rewards, GROUP)
    if method == "SFT":
        return sft_loss(logps, mask), sft_coefficients(mask)
    if method == "rejection":
        return sft_loss(logps[rewards == 1], mask[rewards == 1]), rejection_coefficients(rewards, mask)
    if method == "DPO":
        sums, ref_sums = (sequence_log_probabilities(each, mask).chunk(2) for each in (logps, ref))
        return dpo_loss(*sums, *ref_sums, BETA), dpo_coefficients(logps, ref, mask, BETA)
    if method == "PPO":
        return ppo_policy_loss(logps, old, advantages, mask), ppo_coefficients(logps, old, advantages, mask)
    beta = 0.0 if "no KL" in method else BETA
    loss = grpo_loss(logps, old, group, mask, beta=beta, ref_logps=ref)
    return loss, grpo_coefficients(logps, old, group, mask, beta=beta, ref_logps=ref)


def gradients(batch, loss, coefficients):
    ours = torch.autograd.grad(weighted_loss(batch[1], coefficients), batch[0], retain_graph=True)[0]
    return torch.autograd.grad(loss, batch[0], retain_graph=True)[0], ours


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_that_of_the_loss(method, batch):
    loss, coefficients = both(method, batch)
    theirs, ours = gradients(batch, loss, coefficients)
    assert theirs.abs().max() > 1e-3 and (theirs - ours).abs().max() < 1e-12
    assert not coefficients.requires_grad and (coefficients * (1 - batch[4])).abs().max() == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_mistake_is_seen(method, batch):
    loss, coefficients = both(method, batch)
    for wrong in (-coefficients, 2 * coefficients, coefficients.abs() + 1e-3 * batch[4], coefficients.roll(1, 0)):
        if not torch.equal(wrong, coefficients):
            theirs, ours = gradients(batch, loss, wrong)
            assert (theirs - ours).abs().max() > 1e-5


def test_some_tokens_are_stopped_by_the_clip_and_some_that_went_the_wrong_way_are_not(batch):
    _, logps, old, _, mask, _, advantages = batch
    ratio, found = (logps - old).detach().exp(), ppo_coefficients(logps, old, advantages, mask)
    outside = ((ratio - 1).abs() > 0.2) & (mask > 0)
    with_it = ((ratio - 1) * advantages > 0) & outside
    assert with_it.any() and (found[with_it] == 0).all()
    assert (outside & ~with_it).any() and (found[outside & ~with_it] != 0).all()


def test_dpo_only_compares_and_pushes_less_what_is_learned():
    logps, mask = torch.tensor([[0.0], [9.0], [0.0], [-9.0]]), torch.ones(4, 1)
    found = dpo_coefficients(logps, torch.zeros(4, 1), mask, 0.5)[:, 0]
    assert found.sum().abs() < 1e-7 and found[0] == pytest.approx(0.5 / 2 / 2) and found[1] < 1e-3 * found[0]


def test_where_nothing_is_kept_or_no_pair_is_made():
    with pytest.raises(ValueError, match="nothing is kept"):
        rejection_coefficients(torch.zeros(3), torch.ones(3, 2))
    with pytest.raises(ValueError, match="make no pairs"):
        dpo_coefficients(torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(3, 2), 0.1)
