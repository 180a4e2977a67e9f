"""A process reward model's training on steps that are right or wrong as a loop to read.

Left out on purpose: ensembles, soft labels, weights for the rarer label.
"""

import random
from pathlib import Path

import torch

from helper.algorithms.process_rewards import process_reward_loss, step_scores, steps_of
from helper.algorithms.reward_models import check_model
from helper.algorithms.runs import LARGEST_NORM, Run, autocast, digest
from helper.trainers.live import LiveLog


def train_process_reward_model(
    model, tokenizer, conversations: list[list[dict]], labels: list[list[bool]], *, folder: str | Path, steps: int,
    learning_rate: float, conversations_per_step: int = 16, bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """Train a process reward model on conversations whose steps are labelled, right or wrong; returns the log.

    `labels`: one for each of `steps_of` the last message, which must have one at least. The loss is
    `process_reward_loss` (Lightman et al. 2023, arXiv 2305.20050). Logged: `loss`, `grad_norm`, `accuracy` (the share of
    the batch's steps on the right side of 0). Raises ValueError for labels that do not fit, for fewer conversations than
    a step draws, and as `check_model`; for the other errors see `Run`.
    """
    check_model(model, tokenizer)
    if [len(each) for each in labels] != [len(steps_of(messages[-1]["content"])) for messages in conversations]:
        raise ValueError("The labels do not fit: give one for each step of each conversation.")
    if not all(labels) or not 1 <= conversations_per_step <= len(labels):
        raise ValueError(f"{len(labels)} conversations, each with a step, and {conversations_per_step} drawn of them?")
    settings = {
        "method": "process reward model", "learning_rate": learning_rate, "conversations_per_step": conversations_per_step,
        "bf16": bf16, "seed": seed, "conversations": digest(conversations), "labels": digest(labels),
    }  # fmt: skip
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            # Draw conversations, and score their steps.
            drawn = random.Random(f"{seed}-{step}").sample(range(len(labels)), conversations_per_step)
            with autocast(model, bf16):
                scores, _ = step_scores(model, tokenizer, [conversations[i] for i in drawn])
            right = torch.tensor([label for i in drawn for label in labels[i]], device=scores.device)
            # Update.
            loss = process_reward_loss(scores, right)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            # Log.
            accuracy = ((scores > 0) == right).float().mean()
            run.log(loss=loss.item(), accuracy=accuracy.item(), grad_norm=norm.item())
    return run.live
