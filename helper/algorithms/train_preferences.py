"""One loop for DPO and its variants: pairs in, any loss of `helper.algorithms.preference_losses`.

A row has `prompt`, `chosen` and `rejected`, all messages; rows without `rejected` are for imitation alone.
Left out on purpose: checkpoints and charts (its runs take seconds; the library's trainer has both), several devices.
"""

import random
from collections.abc import Callable, Iterator

import torch

from helper.algorithms.batches import prompt_ids
from helper.algorithms.preference_losses import Pairs
from helper.algorithms.responses import pad_responses, response_log_probabilities, sequence_log_probabilities
from helper.algorithms.runs import LARGEST_NORM, autocast
from helper.machine.device import set_seed

PAD_TO = 8  # so that few shapes occur, and the allocator can use its memory again


def train_preferences(
    model, tokenizer, rows: list[dict], loss: Callable[[Pairs], torch.Tensor], *, steps: int, learning_rate: float,
    batch_size: int = 16, bf16: bool = False, seed: int = 0, with_drift: bool = False,
    reference: torch.Tensor | None = None,
) -> list[dict]:  # fmt: skip
    """Train `model` on `rows` with `loss`; returns the log, a dict of numbers for each step.

    The learning rate falls to 0 along a line. `with_drift`: also read each prompt with another row's answer, for `kto`.
    `reference`: from `read_reference`, for several runs on the same rows; None: the model as it comes is read before the
    first step, or not at all where nothing is rejected. Raises ValueError where there are no rows.
    """
    if not rows:
        raise ValueError("No rows to train on.")
    set_seed(seed)
    texts = encoded(tokenizer, rows, with_drift)
    if reference is None:
        nothing = torch.zeros(1, len(rows), device=model.device)
        reference = read_reference(model, tokenizer, rows, with_drift, bf16) if "rejected" in rows[0] else nothing
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    model.train()
    log, order = [], endless_order(len(rows), seed)
    for _ in range(steps):
        drawn = [next(order) for _ in range(batch_size)]
        pairs = read_pairs(model, tokenizer, [texts[i] for i in drawn], reference[:, drawn], bf16)
        value = loss(pairs)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        schedule.step()
        log.append({"loss": value.item()} | {name: h.mean().item() for name, h in zip(("chosen", "rejected"), pairs.ratios)})
    model.eval()
    return log


def encoded(tokenizer, rows: list[dict], with_drift: bool = False) -> list[list[list[int]]]:
    """Token ids of each row: its prompt, its chosen answer, its rejected one, and the next row's chosen one if wanted."""
    found = []
    for row in rows:
        prompt = prompt_ids(tokenizer, row)
        sides = [row[side] for side in ("chosen", "rejected") if side in row]
        wholes = [tokenizer.apply_chat_template([*row["prompt"], *side], return_dict=False) for side in sides]
        found.append([prompt, *(whole[len(prompt) :] for whole in wholes)])
    if with_drift:
        found = [[*one, other[1]] for one, other in zip(found, found[1:] + found[:1])]
    return found


@torch.no_grad()
def read_reference(model, tokenizer, rows: list[dict], with_drift: bool = False, bf16: bool = False) -> torch.Tensor:
    """What the reference says about all answers: log-probabilities, (answers a row, rows), in nats."""
    texts = encoded(tokenizer, rows, with_drift)
    parts = [texts[start : start + 64] for start in range(0, len(texts), 64)]
    return torch.cat([answer_logps(model, tokenizer, part, bf16) for part in parts], 1)


def read_pairs(model, tokenizer, texts: list[list[list[int]]], reference: torch.Tensor, bf16: bool = False) -> Pairs:
    """What the model says about the rows of `encoded`, with gradient, beside the reference's (answers a row, B)."""
    logps = answer_logps(model, tokenizer, [row[:3] for row in texts], bf16)
    tokens = torch.tensor([[len(answer) for answer in row[1:3]] for row in texts], device=logps.device).T
    drift = 0.0
    if len(reference) == 3:
        with torch.no_grad():
            (others,) = answer_logps(model, tokenizer, [[row[0], row[3]] for row in texts], bf16)
        drift = (others - reference[2]).mean().clamp(min=0)
    return Pairs(logps[0], logps[-1], reference[0], reference[len(logps) - 1], tokens[0], tokens[-1], drift)


def answer_logps(model, tokenizer, texts: list[list[list[int]]], bf16: bool = False) -> torch.Tensor:
    """log π(answer | prompt) of each row's answers, (answers a row, B), in nats; the end of the turn counts."""
    answers = len(texts[0]) - 1
    asked = [(tuple(row[0]), tuple(row[place])) for place in range(1, answers + 1) for row in texts]
    different = {both: place for place, both in enumerate(dict.fromkeys(asked))}  # an anchor's two sides are read once
    prompts, sides = zip(*different)
    ids, attention_mask, mask = pad_responses(prompts, sides, tokenizer.pad_token_id, model.device, PAD_TO)
    with autocast(model, bf16):
        logps = response_log_probabilities(model, ids, attention_mask, mask.shape[1])
    return sequence_log_probabilities(logps, mask)[[different[both] for both in asked]].view(answers, -1)


def endless_order(number: int, seed: int) -> Iterator[int]:
    """The places of `number` rows for ever, in a new order each round."""
    rng, order = random.Random(seed), list(range(number))
    while True:
        rng.shuffle(order)
        yield from order
