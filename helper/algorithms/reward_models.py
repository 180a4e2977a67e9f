"""Reward models: scores of whole conversations, their training on rankings, and their use as a reward function.

The model is the library's sequence classifier with one output (`AutoModelForSequenceClassification`, `num_labels=1`):
a transformer with one linear layer on its last token.
Left out on purpose: process rewards (a score for each step), ensembles, centring.
"""

import random
from collections.abc import Callable
from pathlib import Path

import torch

from helper.algorithms.losses import ranking_loss
from helper.algorithms.runs import LARGEST_NORM, Run, autocast
from helper.live import LiveLog


def conversation_ids(tokenizer, conversations: list[list[dict]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of whole conversations, both (B, T), padded on the right."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    batch = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    return batch.input_ids, batch.attention_mask


def score_conversations(reward_model, tokenizer, conversations: list[list[dict]], batch_size: int = 64) -> torch.Tensor:
    """The score of each conversation, (B,), without gradient; higher is better, and only differences mean anything."""
    scores, training = [], reward_model.training
    reward_model.eval()
    with torch.inference_mode():
        for start in range(0, len(conversations), batch_size):
            ids, mask = conversation_ids(tokenizer, conversations[start : start + batch_size])
            output = reward_model(input_ids=ids.to(reward_model.device), attention_mask=mask.to(reward_model.device))
            scores.append(output.logits[:, 0].float())
    reward_model.train(training)
    return torch.cat(scores).cpu() if scores else torch.zeros(0)


def learned_reward(reward_model, tokenizer, largest: float | None = None) -> Callable:
    """A reward function (the trainers' signature) that pays a reward model's score, kept within ± `largest`."""

    def reward_model_score(prompts: list[list[dict]], completions: list[list[dict]], **kwargs) -> list[float]:
        conversations = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        scores = score_conversations(reward_model, tokenizer, conversations)
        return (scores if largest is None else scores.clamp(-largest, largest)).tolist()

    return reward_model_score


def train_reward_model(
    model,
    tokenizer,
    rankings: list[list[list[dict]]],
    *,
    folder: str | Path,
    steps: int,
    learning_rate: float,
    rankings_per_step: int = 32,
    bf16: bool = False,
    seed: int = 0,
    charts: bool = True,
) -> LiveLog:
    """Train a reward model on rankings, each a list of K conversations, the best first; returns the log.

    All rankings have the same K (2: pairs). The loss is `ranking_loss` (Ouyang et al. 2022, arXiv 2203.02155, eq. 1).
    Raises ValueError for rankings of different lengths; for the other errors see `Run`.
    """
    sizes = {len(ranking) for ranking in rankings}
    if len(sizes) != 1:
        raise ValueError(f"Rankings of {sorted(sizes)} answers: all must have the same number.")
    settings = {
        "method": "reward model", "learning_rate": learning_rate, "rankings_per_step": rankings_per_step,
        "bf16": bf16, "seed": seed, "rankings": len(rankings), "K": sizes.pop(),
    }  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            drawn = random.Random(f"{seed}-{step}").sample(rankings, rankings_per_step)
            ids, mask = conversation_ids(tokenizer, [answer for ranking in drawn for answer in ranking])
            with autocast(model, bf16):
                output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
            scores = output.logits[:, 0].float().view(rankings_per_step, -1)
            loss = ranking_loss(scores)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            margin = scores[:, :-1] - scores[:, 1:]  # of neighbours
            numbers = {"loss": loss.item(), "accuracy": (margin > 0).float().mean().item(), "margin": margin.mean().item()}
            run.log(**numbers, grad_norm=norm.item())
    return run.live
