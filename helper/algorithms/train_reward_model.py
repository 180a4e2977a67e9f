"""A reward model's training on rankings as a loop to read.

Left out on purpose: process rewards (`train_process_reward_model`), ensembles, centring; the library has the last.
"""

import random
from pathlib import Path

import torch

from helper.algorithms.losses import ranking_loss
from helper.algorithms.reward_models import check_model, scores_of
from helper.algorithms.runs import LARGEST_NORM, Run, autocast, digest
from helper.trainers.live import LiveLog


def train_reward_model(
    model, tokenizer, rankings: list[list[list[dict]]], *, folder: str | Path, steps: int, learning_rate: float,
    rankings_per_step: int = 32, bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """Train a reward model on rankings, each a list of K conversations, the best first; returns the log.

    All rankings have the same K (2: pairs). The loss is `ranking_loss` (Ouyang et al. 2022, arXiv 2203.02155, eq. 1).
    Each step draws its rankings anew. Dropout stays off. Logged are `loss`, `grad_norm`, and of neighbours in a
    ranking `margin` (the better one's score minus the other's, the mean) and `accuracy` (the share of margins over 0).
    Raises ValueError for rankings of different K or of K < 2, for fewer than a step draws, and as
    `score_conversations` does; for the other errors see `Run`.
    """
    check_model(model, tokenizer)
    settings = {
        "method": "reward model", "learning_rate": learning_rate, "rankings_per_step": rankings_per_step,
        "bf16": bf16, "seed": seed, "rankings": digest(rankings), "K": _size(rankings, rankings_per_step),
    }  # fmt: skip
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            # Draw rankings, and score their conversations.
            drawn = random.Random(f"{seed}-{step}").sample(rankings, rankings_per_step)
            with autocast(model, bf16):
                scores = scores_of(model, tokenizer, [conversation for ranking in drawn for conversation in ranking])
            scores = scores.view(rankings_per_step, -1)
            # Update.
            loss = ranking_loss(scores)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            # Log.
            margin = scores[:, :-1] - scores[:, 1:]
            right = (margin > 0).float().mean()
            run.log(loss=loss.item(), accuracy=right.item(), margin=margin.mean().item(), grad_norm=norm.item())
    return run.live


def _size(rankings: list, wanted: int) -> int:
    """K, or ValueError where a step cannot draw `wanted` rankings, or not of one size."""
    if not 1 <= wanted <= len(rankings):
        raise ValueError(f"A step draws {wanted} of {len(rankings)} rankings: it must be from 1 to all of them.")
    sizes = sorted({len(ranking) for ranking in rankings})
    if len(sizes) > 1 or sizes[0] < 2:
        raise ValueError(f"Rankings of {sizes} conversations: all must have the same number of them, from 2.")
    return sizes[0]
