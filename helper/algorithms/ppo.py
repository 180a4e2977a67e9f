"""The pieces of PPO for language models: rewards token by token, GAE, value model, policy and value losses.

Shapes as in `helper.algorithms.responses`; the policy's part is `clipped_surrogate` with an advantage a token. The
state at token t is the prompt with all response tokens before t, the action is token t, the value V_t is the return
expected at that state. The library no longer has PPO.
Left out on purpose: a KL coefficient that adapts itself, early stopping of the epochs.
"""

import torch
from torch import nn

from helper.algorithms.policy_gradient import clipped_surrogate
from helper.algorithms.responses import masked_mean


def token_rewards(
    scores: torch.Tensor, logps: torch.Tensor, ref_logps: torch.Tensor, mask: torch.Tensor, beta: float
) -> torch.Tensor:
    """The reward of each token, scores (B,) of the responses and three times (B, R) -> (B, R).

    -β (log π_old - log π_ref) of the sampled token, and on the last token of a response its score as well
    (Ziegler et al. 2019, arXiv 1909.08593, eq. 2, spread over the tokens). Nothing here carries a gradient.
    """
    rewards = -beta * (logps - ref_logps).detach() * mask
    last = mask.sum(1).long() - 1
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def generalised_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float = 1.0, lam: float = 0.95
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantage estimation: advantages and returns, each (B, R), from rewards and values (B, R).

    δ_t = r_t + γ V_{t+1} - V_t and A_t = δ_t + γλ A_{t+1}, with V = 0 behind the last token; return = A_t + V_t
    (Schulman et al. 2015, arXiv 1506.02438, eqs. 11, 16). λ = 0 is the one-step (TD) error, λ = 1 Monte-Carlo.
    A response that reached the length limit is treated as one that ended there: no value is put behind its last token.
    """
    advantages = torch.zeros_like(rewards)
    after = next_value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        after = (delta + gamma * lam * after) * mask[:, t]  # 0 on the padding, so that nothing comes from behind
        next_value = values[:, t] * mask[:, t]
        advantages[:, t] = after
    return advantages, (advantages + values) * mask


def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean 0 and standard deviation 1 over the tokens that count, (B, R) -> (B, R); 0 on the padding."""
    centred = values - masked_mean(values, mask)
    return centred / (masked_mean(centred.square(), mask) + 1e-8).sqrt() * mask


def ppo_policy_loss(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, epsilon: float = 0.2
) -> torch.Tensor:
    """Minus the clipped surrogate, the mean over the tokens, (B, R) -> a scalar (Schulman et al. 2017, eq. 7)."""
    return -masked_mean(clipped_surrogate(logps, old_logps, advantages, epsilon), mask)


def value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor, clip: float | None = 0.2
) -> torch.Tensor:
    """Half the squared error of the values against the *returns*, the mean over the tokens, (B, R) -> a scalar.

    With `clip` the larger of two errors counts: of V, and of V kept within ± clip of what it was when the batch was
    sampled, so that no update can gain by moving further (the practice of PPO's code, not in its paper).
    """
    error = (values - returns).square()
    if clip is not None:
        kept = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.max(error, (kept - returns).square())
    return masked_mean(error, mask) / 2


class ValueModel(nn.Module):
    """A transformer without its vocabulary, and one linear layer on top that gives a number at each position.

    `backbone`: for example `model.model` of a causal LM (then policy and value share their layers) or of a copy of it.
    The layer begins at zero, so that the first values are 0.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.config.hidden_size, 1, device=next(backbone.parameters()).device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, ids: torch.Tensor, attention_mask: torch.Tensor, length: int) -> torch.Tensor:
        """The value before each of the last `length` = R tokens, (B, P + R) -> (B, R).

        In autocast they are bfloat16, like the product of every other linear layer there: steps of 2^-8 between ½ and 1.
        """
        positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        hidden = self.backbone(
            input_ids=ids, attention_mask=attention_mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        return self.head(hidden[:, -length - 1 : -1].float()).squeeze(-1)
