"""Distillation on tokens: the student's next-token distributions drawn to a teacher's, in plain PyTorch.

P is the teacher's distribution of the next token and Q the student's, over one vocabulary of V tokens; logits (B, R, V)
are those from which the R response tokens are drawn (`response_logits`), and `mask` (B, R) says which count. With
the student's own samples as responses it is on-policy distillation (Agarwal et al. 2023, arXiv 2306.13649).
`tests/test_distillation.py` holds loss and gradients against both of the library's trainers.
Left out on purpose: vocabularies that differ, teachers that give only their likeliest tokens, chunks of logits.
"""

import torch

from helper.algorithms.batches import Batch
from helper.algorithms.responses import masked_mean, response_logits
from helper.algorithms.runs import autocast


def forward_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(P ‖ Q) = Σ_v P (log P - log Q), logits (B, R, V) twice -> (B, R), in nats.

    High where the student has no mass and the teacher has some: the student learns to cover all that the teacher says.
    """
    return kl(teacher.log_softmax(-1), student.log_softmax(-1))


def reverse_kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """KL(Q ‖ P) = Σ_v Q (log Q - log P), logits (B, R, V) twice -> (B, R), in nats.

    High where the student has mass and the teacher has none: the student learns to keep to what the teacher would say.
    """
    return kl(student.log_softmax(-1), teacher.log_softmax(-1))


def generalised_jsd(student: torch.Tensor, teacher: torch.Tensor, beta: float) -> torch.Tensor:
    """β KL(P ‖ M) + (1 - β) KL(Q ‖ M), M = β P + (1 - β) Q: logits (B, R, V) twice -> (B, R), in nats (GKD, eq. 1).

    At β = 0 and 1, where this would be 0, it is KL(P ‖ Q) and KL(Q ‖ P): what it tends to after division by β or 1 - β.
    So with the library, whose loss jumps there: at β = 0.01 it is about a hundredth of that at 0.
    Raises ValueError for a β outside 0 to 1.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta={beta}: give a number from 0 (forward KL) to 1 (reverse KL).")
    if beta in (0, 1):
        return reverse_kl(student, teacher) if beta else forward_kl(student, teacher)
    p, q = teacher.log_softmax(-1), student.log_softmax(-1)
    weight = torch.tensor(beta, dtype=q.dtype, device=q.device)
    mixed = torch.logaddexp(p + weight.log(), q + torch.log1p(-weight))
    return beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)


def kl(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """KL(first ‖ second) from log-probabilities (..., V) -> (...), in nats."""
    return (first.exp() * (first - second)).sum(-1)


def distillation_loss(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor, beta: float = 1.0, temperature: float = 1.0
) -> torch.Tensor:
    """The generalised JSD, the mean over the response tokens of the batch: logits (B, R, V) twice, mask (B, R) -> a scalar.

    `mask`: 1 where a token counts (`labels != -100`, shifted as the logits are). `temperature` divides both logits, as in
    the library; without the factor of its square. 0 where no token counts. Raises ValueError for shapes that do not fit:
    the vocabularies must be one.
    """
    if student.shape != teacher.shape or student.shape[:-1] != mask.shape:
        raise ValueError(
            f"Logits of the shapes {tuple(student.shape)} and {tuple(teacher.shape)} with a mask {tuple(mask.shape)}: give "
            "(B, R, V) twice, of one vocabulary, and (B, R)."
        )
    return masked_mean(generalised_jsd(student / temperature, teacher / temperature, beta), mask.to(student.dtype))


def distillation_loss_of_batch(
    model, teacher, batch: Batch, beta: float = 1.0, temperature: float = 1.0, bf16: bool = False
) -> torch.Tensor:
    """The distillation loss of sampled responses, a scalar; the teacher gets no gradient.

    With a batch of `sample_batch(model, ...)` it is on-policy distillation, with the teacher's own texts GKD off-policy.
    """
    read = (batch.ids, batch.attention_mask, batch.length)
    with autocast(model, bf16):
        student = response_logits(model, *read)
        with torch.no_grad():
            wanted = response_logits(teacher, *read)
    return distillation_loss(student, wanted, batch.mask, beta, temperature)
