"""Batches of prompts with responses, and what a model says about each response token.

Every tensor "per response token" in this package has the shape (B, R): B responses, R tokens of the longest one
(rounded up to a multiple of `PAD_TO` in training), aligned so that column 0 is the first token after the prompt.
`mask` (B, R) is 1.0 on the tokens of a response, its end token included, and 0.0 on the padding behind it.
Left out on purpose: packing, several turns, anything but one device.
"""

import math

import torch


def pad_responses(
    prompts: list[list[int]], responses: list[list[int]], pad_id: int, device=None, pad_to_multiple_of: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (B, P + R), their attention mask (B, P + R) and the response mask (B, R).

    Prompts are padded on the left and responses on the right, so that all responses begin in the same column.
    `pad_to_multiple_of`: P and R are rounded up to it.
    Raises ValueError when the two lists differ in length, or where a prompt or a response is empty.
    """
    if len(prompts) != len(responses) or not prompts:
        raise ValueError(f"{len(prompts)} prompts and {len(responses)} responses: there must be one for each, from 1.")
    for row, (prompt, response) in enumerate(zip(prompts, responses)):
        if not prompt or not response:
            raise ValueError(f"Row {row}: the {'response' if prompt else 'prompt'} has no token.")
    longest_prompt, longest = (
        math.ceil(max(map(len, rows)) / pad_to_multiple_of) * pad_to_multiple_of for rows in (prompts, responses)
    )
    ids = torch.full((len(prompts), longest_prompt + longest), pad_id, device=device)
    attention_mask = torch.zeros_like(ids)
    for row, (prompt, response) in enumerate(zip(prompts, responses)):
        start, end = longest_prompt - len(prompt), longest_prompt + len(response)
        ids[row, start:end] = torch.tensor(prompt + response, device=device)
        attention_mask[row, start:end] = 1
    return ids, attention_mask, attention_mask[:, longest_prompt:].float()


def token_log_probabilities(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """log π(token) for each token: logits (B, R, V) and the ids that came (B, R) give (B, R), in nats.

    log softmax of the chosen logit: logit - log Σ exp(logits), without a second tensor of the size of the logits.
    """
    chosen = logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    return chosen - logits.logsumexp(-1)


def token_entropies(logits: torch.Tensor) -> torch.Tensor:
    """The entropy of each next-token distribution, (B, R, V) -> (B, R), in nats."""
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def response_logits(model, ids: torch.Tensor, attention_mask: torch.Tensor, length: int) -> torch.Tensor:
    """The logits (B, R, V) from which each of the last `length` = R tokens was drawn, in float32.

    The logits at a position are about the token *after* it: those of the last R + 1 positions, without the last.
    """
    positions = (attention_mask.cumsum(-1) - 1).clamp(min=0)  # padding on the left must not move a word
    output = model(
        input_ids=ids, attention_mask=attention_mask, position_ids=positions, logits_to_keep=length + 1, use_cache=False
    )
    return output.logits[:, -length - 1 : -1].float()


def response_log_probabilities(
    model, ids: torch.Tensor, attention_mask: torch.Tensor, length: int, temperature: float = 1.0
) -> torch.Tensor:
    """log π(token | all before it) of the last `length` = R tokens, (B, P + R) -> (B, R), in nats.

    `temperature`: the one the tokens were sampled with; the policy is the distribution that is really sampled from.
    """
    logits = response_logits(model, ids, attention_mask, length) / temperature
    return token_log_probabilities(logits, ids[:, -length:])


def sequence_log_probabilities(logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """log π(response | prompt), the sum over its tokens: (B, R) and (B, R) give (B,), in nats."""
    return (logps * mask).sum(-1)


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens that count, (B, R) -> a scalar; 0 where none counts."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
