"""Reward models: scores of whole conversations, two losses beside Bradley-Terry's, and their use as a reward function.

The model is the library's sequence classifier with one output, a transformer with one linear layer on its last token:
`AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float32)`.
Left out on purpose: a score for each step (`process_rewards`), ensembles, centring, conversations cut to a length.
"""

from collections.abc import Callable

import torch

from helper.machine.sizes import PAD_TO


def plackett_luce_loss(scores: torch.Tensor) -> torch.Tensor:
    """The Plackett-Luce loss of rankings of K answers, scores (B, K), the best first -> a scalar, in nats a ranking.

    -Σ_i (r_i - log Σ_{j≥i} exp r_j), the mean over the rankings: the best is chosen among all, then the next among the
    rest (Plackett 1975, Applied Statistics 24:193-202; Luce 1959; for K = 2 it is `bradley_terry_loss`). `ranking_loss`
    counts the pairs of a ranking as if they were independent; this one is the likelihood of the order.
    Raises ValueError for K < 2.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"Scores of the shape {tuple(scores.shape)}: give (B, K), K answers from 2, the best first.")
    among = scores.flip(1).logcumsumexp(1).flip(1)  # log Σ_{j≥i} exp r_j
    return (among - scores).sum(1).mean()


def squared_error_loss(scores: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """The loss of a reward model on grades (1 to 10, say): the mean of (r - grade)², scores (B,) and (B,) -> a scalar.

    Regression on ratings, in squared points of the grade (as in HelpSteer2: Wang et al. 2024, arXiv 2406.08673). Unlike the
    losses of comparisons it fixes the zero and the unit, and takes over each grader's own. Raises ValueError for two shapes.
    """
    if scores.shape != grades.shape:
        raise ValueError(f"Scores {tuple(scores.shape)} and grades {tuple(grades.shape)}: give one grade for each score.")
    return (scores - grades).square().mean()


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
    check_model(reward_model, tokenizer)
    scores, training = [torch.zeros(0)], reward_model.training
    reward_model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(conversations), batch_size):
                scores.append(scores_of(reward_model, tokenizer, conversations[start : start + batch_size]).cpu())
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


def scores_of(model, tokenizer, conversations: list[list[dict]]) -> torch.Tensor:
    """The scores, (B,), in float32, with their gradient."""
    ids, mask = conversation_ids(tokenizer, conversations)
    output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    return output.logits[:, 0].float()


def check_model(model, tokenizer) -> None:
    """Raise ValueError where scores would be wrong: the library finds a text's last token by the pad token's id."""
    if model.config.num_labels != 1:
        raise ValueError(f"The model has {model.config.num_labels} outputs, not one: load it with num_labels=1.")
    pad = model.config.get_text_config().pad_token_id
    if pad is None or pad != tokenizer.pad_token_id:
        raise ValueError(
            f"The model's pad token is {pad}, the tokenizer's {tokenizer.pad_token_id}: set "
            "model.config.pad_token_id = tokenizer.pad_token_id."
        )
