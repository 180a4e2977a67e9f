"""One view of all methods: the gradient of a loss is minus the sum of coefficient · ∇ log π over the tokens of its data.

Shao et al. 2024, arXiv 2402.03300, section 5.2 and appendix A.1: methods differ in where their texts come from, in what
judges them, and in the coefficient that each token gets. Here a coefficient holds everything that stands before ∇ log π in
the gradient of the loss of `helper.algorithms`, averages included; the paper writes those apart.
Shapes as in `helper.algorithms.responses`; all coefficients are (B, R), 0 on the padding, and carry no gradient.
Left out on purpose: PPO's critic, which has a loss of its own; the entropy bonus, whose gradient is no such sum.
"""

import torch


def weighted_loss(logps: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """-Σ c log π, (B, R) twice -> a scalar: its gradient is -Σ c ∇ log π, whatever the coefficients were made of."""
    return -(coefficients.detach() * logps).sum()


def sft_coefficients(mask: torch.Tensor) -> torch.Tensor:
    """1 / N for each of the N tokens of the batch, (B, R) -> (B, R): every token of the data counts alike."""
    return mask / mask.sum()


def rejection_coefficients(rewards: torch.Tensor, mask: torch.Tensor, at_least: float = 1.0) -> torch.Tensor:
    """Rejection-sampling fine-tuning: SFT's coefficient where the reward (B,) is `at_least` or more, 0 elsewhere.

    N counts the tokens of what was kept. Raises ValueError where nothing was: there is nothing to train on.
    """
    kept = mask * (rewards >= at_least).unsqueeze(1)
    if not kept.any():
        raise ValueError(f"No reward reaches {at_least:g}: nothing is kept.")
    return sft_coefficients(kept)


def dpo_coefficients(logps: torch.Tensor, ref_logps: torch.Tensor, mask: torch.Tensor, beta: float) -> torch.Tensor:
    """DPO: +β σ(-β m) / P on the tokens of the chosen answers, the same with a minus on those of the rejected.

    Rows: the P chosen answers, then the P rejected ones in the same order; m is the margin of a pair (Rafailov et al. 2023,
    arXiv 2305.18290, the gradient in section 4). The larger the margin, the smaller the push.
    Raises ValueError for an odd number of rows.
    """
    if len(mask) % 2:
        raise ValueError(f"{len(mask)} rows make no pairs: give the chosen answers, then as many rejected ones.")
    chosen, rejected = (((logps - ref_logps).detach() * mask).sum(1)).chunk(2)
    push = beta * torch.sigmoid(-beta * (chosen - rejected)) / len(chosen)
    return torch.cat([push, -push]).unsqueeze(1) * mask


def ppo_coefficients(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, epsilon: float = 0.2
) -> torch.Tensor:
    """PPO: ρ A / N, and 0 on the tokens whose clip is at work; advantages (B, R), or (B,) for one a response.

    ρ = π_θ / π_old. The clip stops a token that has gone further than ε in the direction of its advantage (Schulman et
    al. 2017, arXiv 1707.06347, eq. 7). On fresh samples ρ is 1, and the coefficient is the advantage.
    """
    return _surrogate(logps, old_logps, advantages, epsilon) * mask / mask.sum()


def grpo_coefficients(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, epsilon: float = 0.2,
    beta: float = 0.0, ref_logps: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """GRPO: (ρ Â + β (π_ref / π_θ - 1)) / (B |y|), without its first part on the tokens whose clip is at work.

    `advantages` (B,): each reward against its own group. The second part is the gradient of the KL estimate k3: it pulls
    up what has become rarer than in the reference, and down what has become more frequent (Shao et al. 2024, appendix A.1).
    """
    each = _surrogate(logps, old_logps, advantages, epsilon)
    if beta:
        each = each + beta * ((ref_logps - logps).detach().exp() - 1)
    return each * mask / mask.sum(1, keepdim=True).clamp(min=1) / len(mask)


def _surrogate(logps, old_logps, advantages, epsilon: float) -> torch.Tensor:
    """The coefficient of min(ρ A, clip(ρ) A): ρ A, or 0 where the clip is the smaller one."""
    ratio = (logps - old_logps).detach().exp()
    advantages = advantages.unsqueeze(1) if advantages.ndim == 1 else advantages
    stopped = ((advantages > 0) & (ratio > 1 + epsilon)) | ((advantages < 0) & (ratio < 1 - epsilon))
    return torch.where(stopped, 0.0, ratio * advantages)
