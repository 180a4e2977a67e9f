"""DPO and its variants on the same pairs, from log-probabilities, in plain PyTorch: one short function a paper.

Each takes `Pairs` and gives the loss of a batch, a scalar. h is an answer's log-ratio log π(y | x) - log π_ref(y | x), and
|y| its number of tokens. `tests/test_preference_losses.py` holds each against the library, values and gradients.
Left out on purpose: label smoothing, weights of single rows, online variants (lesson 04 samples while it trains).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass
class Pairs:
    """What policy and reference say about B pairs: sums of log-probabilities in nats and numbers of tokens, each (B,).

    `drift`: for KTO only, the mean log-ratio of answers that belong to other prompts, a scalar, at least 0.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    ref_chosen: torch.Tensor
    ref_rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    drift: torch.Tensor | float = 0.0

    @property
    def ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        """h⁺ and h⁻: how much likelier each answer has become than it was under the reference, in nats."""
        return self.chosen - self.ref_chosen, self.rejected - self.ref_rejected

    @property
    def means(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean log-probability of a token of each answer."""
        return self.chosen / self.chosen_tokens, self.rejected / self.rejected_tokens


def imitation(pairs: Pairs) -> torch.Tensor:
    """SFT on the chosen answers: minus the mean log-probability of all their tokens (TRL's loss type `sft`)."""
    return -pairs.chosen.sum() / pairs.chosen_tokens.sum()


def sigmoid(pairs: Pairs, beta: float) -> torch.Tensor:
    """DPO: -log σ(β (h⁺ - h⁻)) (Rafailov et al. 2023, arXiv 2305.18290, eq. 7)."""
    gained, lost = pairs.ratios
    return -F.logsigmoid(beta * (gained - lost)).mean()


def sigmoid_and_imitation(pairs: Pairs, beta: float, contrast: float = 0.5) -> torch.Tensor:
    """`contrast` times DPO, plus SFT on the chosen answers (as Pang et al. 2024, arXiv 2404.19733, eq. 1)."""
    return contrast * sigmoid(pairs, beta) + imitation(pairs)


def ipo(pairs: Pairs, tau: float) -> torch.Tensor:
    """(h⁺ - h⁻ - 1/(2τ))² with h a token (Azar et al. 2023, arXiv 2310.12036, eq. 17).

    The division by |y| is the library's; the paper's authors confirmed it for their results.
    """
    gained, lost = pairs.ratios
    return ((gained / pairs.chosen_tokens - lost / pairs.rejected_tokens - 1 / (2 * tau)) ** 2).mean()


def kto(pairs: Pairs, beta: float) -> torch.Tensor:
    """1 - σ(β (h⁺ - z)) and 1 - σ(β (z - h⁻)), each answer alone (Ethayarajh et al. 2024, arXiv 2402.01306, eq. 8).

    z is `pairs.drift`, and both weights λ are 1. A row whose two answers are one and the same text counts as good only.
    """
    gained, lost = pairs.ratios
    differ = (pairs.ref_chosen != pairs.ref_rejected) | (pairs.chosen_tokens != pairs.rejected_tokens)
    good, bad = 1 - torch.sigmoid(beta * (gained - pairs.drift)), 1 - torch.sigmoid(beta * (pairs.drift - lost))
    return torch.cat([good, bad[differ]]).mean()


def simpo(pairs: Pairs, beta: float, gamma: float) -> torch.Tensor:
    """-log σ(β (mean log π(y⁺) - mean log π(y⁻)) - γ): no reference (Meng et al. 2024, arXiv 2405.14734, eq. 6)."""
    good, bad = pairs.means
    return -F.logsigmoid(beta * (good - bad) - gamma).mean()


def cpo(pairs: Pairs, beta: float) -> torch.Tensor:
    """-log σ(β (log π(y⁺) - log π(y⁻))) plus SFT on the chosen (Xu et al. 2024, arXiv 2401.08417, eq. 5)."""
    return -F.logsigmoid(beta * (pairs.chosen - pairs.rejected)).mean() + imitation(pairs)


def orpo(pairs: Pairs, weight: float) -> torch.Tensor:
    """SFT on the chosen, less λ log σ of the log-odds ratio (Hong et al. 2024, arXiv 2403.07691, eq. 6 and 7).

    odds = p / (1 - p), with p the geometric mean probability of a token; λ is `weight`.
    """
    odds = [mean - torch.log1p(-mean.exp().clamp(max=1 - 1e-6)) for mean in pairs.means]
    return imitation(pairs) - weight * F.logsigmoid(odds[0] - odds[1]).mean()
