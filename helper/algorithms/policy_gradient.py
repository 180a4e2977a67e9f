"""The pieces of GRPO: advantages within a group, the clipped surrogate, three KL estimates, three ways to average.

Shapes as in `helper.algorithms.responses`. `logps` are log-probabilities of the sampled tokens under the policy that
is trained (π_θ), `old_logps` under the policy that sampled them (π_old), `ref_logps` under the anchor of the KL
penalty (π_ref). Only `logps` carries a gradient.
GSPO's and CISPO's losses may be given to `train_grpo` in the place of `grpo_loss`.
Left out on purpose: soft clipping, two-sided clips, entropy bonuses that adapt themselves.
"""

import torch

from helper.algorithms.responses import masked_mean, token_entropies

EPSILON = 1e-4  # against division by zero where all rewards of a group are equal; the library's value


def group_advantages(rewards: torch.Tensor, group_size: int, scale: str = "group") -> torch.Tensor:
    """The advantage of each response, rewards (B,) -> (B,); rows i·G ... i·G + G - 1 answer the same prompt.

    `scale`: "group", (r - mean) / (std + ε) of its own group (Shao et al. 2024, arXiv 2402.03300, section 4.1.2);
    "batch", with the standard deviation of all rewards; "none", r - mean (Dr. GRPO: Liu et al. 2025, arXiv 2503.20783).
    Standard deviations divide by n - 1. Raises ValueError when B is no multiple of `group_size`.
    """
    if rewards.numel() % group_size or group_size < 2:
        raise ValueError(f"{rewards.numel()} rewards do not make whole groups of {group_size} (a group has 2 or more).")
    grouped = rewards.view(-1, group_size)
    centred = grouped - grouped.mean(1, keepdim=True)
    if scale == "group":
        centred = centred / (grouped.std(1, keepdim=True) + EPSILON)
    elif scale == "batch":
        centred = centred / (rewards.std() + EPSILON)
    elif scale != "none":
        raise ValueError(f'scale={scale!r}: give "group", "batch" or "none".')
    return centred.flatten()


def leave_one_out_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """RLOO: the reward minus the mean of the *other* responses of its group, (B,) -> (B,).

    Ahmadian et al. 2024, arXiv 2402.14740, after Kool et al. 2019. It is G / (G - 1) times the unscaled group advantage.
    """
    return group_advantages(rewards, group_size, "none") * group_size / (group_size - 1)


def clipped_surrogate(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
) -> torch.Tensor:
    """What PPO and GRPO maximise, a value a token, (B, R) -> (B, R): min(ρ A, clip(ρ, 1 - ε, 1 + ε_high) A).

    ρ = π_θ / π_old (Schulman et al. 2017, arXiv 1707.06347, eq. 7). `advantages`: (B, R), or (B,) for one advantage
    a response. `epsilon_high` above `epsilon` lets unlikely tokens rise further (DAPO: Yu et al. 2025, arXiv
    2503.14476, section 3.1).
    """
    if advantages.ndim == 1:
        advantages = advantages.unsqueeze(1)
    ratio = torch.exp(logps - old_logps)
    high = epsilon if epsilon_high is None else epsilon_high
    return torch.min(ratio * advantages, ratio.clamp(1 - epsilon, 1 + high) * advantages)


def kl_estimate(logps: torch.Tensor, ref_logps: torch.Tensor, kind: str = "k3") -> torch.Tensor:
    """An estimate of KL(π_θ || π_ref) from one sampled token each, (B, R) -> (B, R), in nats.

    With d = log π_ref - log π_θ: k1 = -d, unbiased, may be negative; k2 = d²/2, biased, never negative;
    k3 = exp(d) - d - 1, unbiased and never negative (Schulman 2020, "Approximating KL Divergence"; GRPO's, Shao et al.
    2024, eq. 4). That a *value* is unbiased says nothing about its gradient: see lesson 05.
    """
    d = ref_logps - logps
    if kind == "k1":
        return -d
    if kind == "k2":
        return d.square() / 2
    if kind == "k3":
        return d.exp() - d - 1
    raise ValueError(f'kind={kind!r}: give "k1", "k2" or "k3".')


def average(
    per_token: torch.Tensor, mask: torch.Tensor, loss_type: str, max_length: int | None = None,
    whole: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """One number from a value a token, (B, R) -> a scalar, in one of three ways.

    "grpo": the mean over its tokens for each response, then over the responses: a token of a long response counts less.
    "dapo": the mean over all tokens of the batch: a long response counts more (Yu et al. 2025, section 3.3, where the
    mean is over the tokens of one prompt's group, and then over the prompts; here, as in the library, over all at once).
    "dr_grpo": the sum divided by B · `max_length`, the same for every token, whatever the lengths (Liu et al. 2025).
    `whole`: the mask of the whole batch where these rows are a part of it: the averages of its parts add up to its own.
    """
    share = 1.0 if whole is None else len(mask) / len(whole)
    if loss_type == "grpo":
        return ((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean() * share
    if loss_type == "dapo":
        return masked_mean(per_token, mask) * (1.0 if whole is None else (mask.sum() / whole.sum()).item())
    if loss_type == "dr_grpo":
        if not max_length:
            raise ValueError('loss_type="dr_grpo" divides by max_length: give the longest response that is allowed.')
        return (per_token * mask).sum() / (len(per_token) * max_length) * share
    raise ValueError(f'loss_type={loss_type!r}: give "grpo", "dapo" or "dr_grpo".')


def grpo_loss(
    logps: torch.Tensor,
    old_logps: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    *,
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    beta: float = 0.0,
    ref_logps: torch.Tensor | None = None,
    loss_type: str = "grpo",
    max_length: int | None = None,
    whole: torch.Tensor | None = None,
) -> torch.Tensor:
    """GRPO's loss, a scalar: the clipped surrogate minus β times the KL estimate k3, averaged, with a minus before it.

    Shao et al. 2024, eq. 3 (with `loss_type` "grpo"). `advantages` (B,). `max_length`, `whole`: see `average`.
    The library multiplies the estimate by ρ, for the gradient of the KL itself; with `use_bias_correction_kl=False` it is
    this one.
    Raises ValueError for β without `ref_logps`.
    """
    objective = clipped_surrogate(logps, old_logps, advantages, epsilon, epsilon_high)
    if beta:
        if ref_logps is None:
            raise ValueError("beta above 0 needs ref_logps, the log-probabilities under the reference.")
        objective = objective - beta * kl_estimate(logps, ref_logps, "k3")
    return -average(objective, mask, loss_type, max_length, whole)


# Descendants that change the ratio, and a bonus


def gspo_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, *, epsilon: float = 3e-4,
    epsilon_high: float | None = 4e-4, whole: torch.Tensor | None = None, **unused,
) -> torch.Tensor:  # fmt: skip
    """GSPO's loss, a scalar: one ratio a response, clipped as a whole (Zheng et al. 2025, arXiv 2507.18071, eqs. 5 to 7).

    s = exp(mean over the response's tokens of log π_θ - log π_old), the geometric mean of the tokens' ratios; minus the
    mean over the responses of min(s A, clip(s) A). `advantages` (B,), the others (B, R). The ranges are the paper's: a mean
    moves far less than one token does. `whole`: see `average`. `unused`: what the loop gives to other losses.
    """
    log_ratio = ((logps - old_logps) * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    objective = clipped_surrogate(log_ratio, torch.zeros_like(log_ratio), advantages, epsilon, epsilon_high=epsilon_high)
    return -objective.mean() * (1.0 if whole is None else len(mask) / len(whole))


def cispo_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, *, largest: float = 5.0,
    whole: torch.Tensor | None = None, **unused,
) -> torch.Tensor:  # fmt: skip
    """CISPO's loss, a scalar: REINFORCE with a capped importance weight (MiniMax 2025, arXiv 2506.13585, eqs. 4 and 5).

    Minus the mean over all tokens of w A log π_θ, where w = min(ρ, `largest`) carries no gradient: it is the weight that is
    cut, so no token falls silent, however far its ratio has gone. `largest`: the paper's 1 + ε_high, the library's
    `epsilon_high`. Shapes, `whole`, `unused`: as in `gspo_loss`.
    """
    weight = (logps - old_logps).exp().clamp(max=largest).detach()
    return -average(weight * advantages.unsqueeze(1) * logps, mask, "dapo", whole=whole)


def entropy_bonus(logits: torch.Tensor, mask: torch.Tensor, coefficient: float) -> torch.Tensor:
    """What an entropy bonus adds to a loss, (B, R, V) and (B, R) -> a scalar: -c times the mean entropy of the tokens.

    In nats; its gradient makes the next-token distributions flatter (Mnih et al. 2016, arXiv 1602.01783, section 4). It
    needs the logits: the log-probability of the sampled token has the right mean, but on average no gradient.
    """
    return -coefficient * masked_mean(token_entropies(logits), mask)
