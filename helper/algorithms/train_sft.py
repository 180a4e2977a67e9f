"""SFT as a loop to read, and the loss of rows that PPO can mix in.

A row has a `prompt` and a `completion`, both messages.
Left out on purpose: several devices, schedules, weight decay; the library has them.
"""

import random
from pathlib import Path

import torch

from helper.algorithms.batches import prompt_ids
from helper.algorithms.losses import sft_loss
from helper.algorithms.responses import pad_responses, response_log_probabilities
from helper.algorithms.runs import LARGEST_NORM, Run, autocast, checked_settings
from helper.machine.sizes import PAD_TO
from helper.trainers.live import LiveLog


def train_sft(
    model, tokenizer, rows: list[dict], *, folder: str | Path, steps: int, learning_rate: float, batch_size: int = 16,
    bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """SFT on `rows`, going through them in a new order each time; changes `model`, returns the log.

    `folder`: for checkpoints (see `Run`, also for the errors). Raises ValueError, with the row's number, for a row
    without `prompt` and `completion`.
    """
    check_shown(rows)
    settings = checked_settings(rows, learning_rate=learning_rate, batch_size=batch_size, bf16=bf16, seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            start = (step - 1) * batch_size
            drawn = [rows[_place(i, len(rows), seed)] for i in range(start, start + batch_size)]
            loss = loss_of_rows(model, tokenizer, drawn, bf16)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            run.log(loss=loss.item(), grad_norm=norm.item())
    return run.live


def loss_of_rows(model, tokenizer, rows: list[dict], bf16: bool = False) -> torch.Tensor:
    """The SFT loss of rows with a `prompt` and a `completion`, a scalar; ValueError where a template hides the cut."""
    prompts = [prompt_ids(tokenizer, row) for row in rows]
    wholes = [
        tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], enable_thinking=False, return_dict=False)
        for row in rows
    ]
    if any(whole[: len(prompt)] != prompt for prompt, whole in zip(prompts, wholes)):
        raise ValueError("This chat template writes a prompt otherwise when an answer follows it: no place to cut there.")
    answers = [whole[len(prompt) :] for prompt, whole in zip(prompts, wholes)]
    ids, attention_mask, mask = pad_responses(prompts, answers, tokenizer.pad_token_id, model.device, PAD_TO)
    with autocast(model, bf16):
        logps = response_log_probabilities(model, ids, attention_mask, mask.shape[1])
    return sft_loss(logps, mask)


def check_shown(rows: list[dict]) -> None:
    """Raise ValueError where SFT has no rows, or one without a prompt and a completion."""
    if not len(rows):
        raise ValueError("No rows to train on.")
    for number, row in enumerate(rows):
        missing = [name for name in ("prompt", "completion") if not row.get(name)]
        if missing:
            raise ValueError(f"Row {number} has no {missing[0]}: SFT needs `prompt` and `completion`, lists of messages.")


def _place(i: int, rows: int, seed: int) -> int:
    """The i-th row of an endless walk through all rows, in a new order each round."""
    order = list(range(rows))
    random.Random(f"{seed}-{i // rows}").shuffle(order)
    return order[i % rows]
