"""The losses of SFT, DPO and reward models, from log-probabilities and scores, in plain PyTorch.

Left out on purpose: label smoothing, the variants of DPO (lesson 03 lists them), margins. `tests/test_algorithms.py`
holds each loss against the library's trainer, values and gradients.
"""

import torch
import torch.nn.functional as F

from helper.algorithms.responses import masked_mean


def sft_loss(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Supervised fine-tuning: minus the mean log-probability of the response tokens, (B, R) -> a scalar.

    -(1 / N) Σ_t log π(y_t | x, y_<t) over the N response tokens of the batch, as in TRL's SFTTrainer.
    """
    return -masked_mean(logps, mask)


def dpo_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, ref_chosen: torch.Tensor, ref_rejected: torch.Tensor, beta: float
) -> torch.Tensor:
    """Direct preference optimisation, four times (B,) -> a scalar (Rafailov et al. 2023, arXiv 2305.18290, eq. 7).

    -log σ(β [(log π(y⁺) - log π_ref(y⁺)) - (log π(y⁻) - log π_ref(y⁻))]), the mean over the pairs. All four are
    log-probabilities of whole responses.
    """
    margin = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -F.logsigmoid(beta * margin).mean()


def dpop_loss(
    chosen: torch.Tensor, rejected: torch.Tensor, ref_chosen: torch.Tensor, ref_rejected: torch.Tensor, beta: float,
    strength: float = 5.0,
) -> torch.Tensor:  # fmt: skip
    """DPO-positive, four times (B,) -> a scalar: DPO with a price on each chosen response that has become less likely.

    -log σ(β [margin - λ max(0, log π_ref(y⁺) - log π(y⁺))]), the mean over the pairs; λ is `strength`
    (Pal et al. 2024, arXiv 2402.13228). Where no chosen response has fallen it is `dpo_loss`.
    """
    fallen = (ref_chosen - chosen).clamp(min=0)
    return dpo_loss(chosen - strength * fallen, rejected, ref_chosen, ref_rejected, beta)


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """The loss of a reward model on pairs, scores (B,) and (B,) -> a scalar.

    -log σ(r⁺ - r⁻), the mean over the pairs: the Bradley-Terry model says that y⁺ is preferred with the probability
    σ(r⁺ - r⁻) (Ouyang et al. 2022, arXiv 2203.02155, eq. 1 with K = 2).
    """
    return -F.logsigmoid(chosen - rejected).mean()


def ranking_loss(scores: torch.Tensor) -> torch.Tensor:
    """The loss of a reward model on rankings of K answers, scores (B, K), the best first -> a scalar.

    The mean of -log σ(r_i - r_j) over all K(K - 1)/2 pairs in which i stands before j (Ouyang et al. 2022, eq. 1).
    Raises ValueError for K < 2.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"Scores of the shape {tuple(scores.shape)}: give (B, K), K answers from 2, the best first.")
    better, worse = torch.triu_indices(scores.shape[1], scores.shape[1], offset=1, device=scores.device)
    return -F.logsigmoid(scores[:, better] - scores[:, worse]).mean()
