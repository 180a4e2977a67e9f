"""Reward models: scores of whole conversations, their training on rankings, and their use as a reward function.

The model is the library's sequence classifier with one output, a transformer with one linear layer on its last token:
`AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float32)`.
Left out on purpose: process rewards (a score for each step), ensembles, centring, conversations cut to a length.
"""

import random
from collections.abc import Callable
from pathlib import Path

import torch

from helper.algorithms.losses import ranking_loss
from helper.algorithms.runs import LARGEST_NORM, Run, autocast
from helper.machine.sizes import PAD_TO
from helper.trainers.live import LiveLog


def conversation_ids(tokenizer, conversations: list[list[dict]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of whole conversations, both (B, T), padded on the right."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    batch = tokenizer(
        texts, add_special_tokens=False, padding=True, padding_side="right", pad_to_multiple_of=PAD_TO, return_tensors="pt"
    )
    return batch.input_ids, batch.attention_mask


def score_conversations(reward_model, tokenizer, conversations: list[list[dict]], batch_size: int = 64) -> torch.Tensor:
    """The score of each conversation, (B,), without gradient; higher is better, and only differences mean anything.

    Raises ValueError for a model that has not one output, or another pad token than the tokenizer.
    """
    _check_model(reward_model, tokenizer)
    scores, training = [torch.zeros(0)], reward_model.training
    reward_model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(conversations), batch_size):
                scores.append(_scores(reward_model, tokenizer, conversations[start : start + batch_size]).cpu())
    finally:
        reward_model.train(training)
    return torch.cat(scores)


def learned_reward(reward_model, tokenizer, largest: float | None = None, centre: float = 0.0) -> Callable:
    """A reward function (the trainers' signature) that pays a reward model's score less `centre`, within ± `largest`.

    `centre`: the mean score of answers from before RL, say; the loss of a reward model leaves it free.
    Prompts and completions are message lists. For the errors see `score_conversations`.
    """

    def reward_model_score(prompts: list[list[dict]], completions: list[list[dict]], **kwargs) -> list[float]:
        conversations = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        scores = score_conversations(reward_model, tokenizer, conversations) - centre
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
    Each step draws its rankings anew. Dropout stays off. Logged are `loss`, `grad_norm`, and of neighbours in a
    ranking `margin` (the better one's score minus the other's, the mean) and `accuracy` (the share of margins over 0).
    Raises ValueError for rankings of different K or of K < 2, for fewer than a step draws, and as
    `score_conversations` does; for the other errors see `Run`.
    """
    _check_model(model, tokenizer)
    settings = {
        "method": "reward model", "learning_rate": learning_rate, "rankings_per_step": rankings_per_step,
        "bf16": bf16, "seed": seed, "rankings": len(rankings), "K": _size(rankings, rankings_per_step),
    }  # fmt: skip
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            drawn = random.Random(f"{seed}-{step}").sample(rankings, rankings_per_step)
            with autocast(model, bf16):
                scores = _scores(model, tokenizer, [conversation for ranking in drawn for conversation in ranking])
            scores = scores.view(rankings_per_step, -1)
            loss = ranking_loss(scores)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            margin = scores[:, :-1] - scores[:, 1:]
            right = (margin > 0).float().mean()
            run.log(loss=loss.item(), accuracy=right.item(), margin=margin.mean().item(), grad_norm=norm.item())
    return run.live


def _scores(model, tokenizer, conversations: list[list[dict]]) -> torch.Tensor:
    """The scores, (B,), in float32, with their gradient."""
    ids, mask = conversation_ids(tokenizer, conversations)
    output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    return output.logits[:, 0].float()


def _check_model(model, tokenizer) -> None:
    """Raise ValueError where scores would be wrong: the library finds a text's last token by the pad token's id."""
    if model.config.num_labels != 1:
        raise ValueError(f"The model has {model.config.num_labels} outputs, not one: load it with num_labels=1.")
    pad = model.config.get_text_config().pad_token_id
    if pad is None or pad != tokenizer.pad_token_id:
        raise ValueError(
            f"The model's pad token is {pad}, the tokenizer's {tokenizer.pad_token_id}: set "
            "model.config.pad_token_id = tokenizer.pad_token_id."
        )


def _size(rankings: list, wanted: int) -> int:
    """K, or ValueError where a step cannot draw `wanted` rankings, or not of one size."""
    if not 1 <= wanted <= len(rankings):
        raise ValueError(f"A step draws {wanted} of {len(rankings)} rankings: it must be from 1 to all of them.")
    sizes = sorted({len(ranking) for ranking in rankings})
    if len(sizes) > 1 or sizes[0] < 2:
        raise ValueError(f"Rankings of {sizes} conversations: all must have the same number of them, from 2.")
    return sizes[0]
