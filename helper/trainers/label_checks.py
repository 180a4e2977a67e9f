"""What a chat template and a trainer's labels teach, checked before training.

Left out on purpose: rows themselves (`helper.validation`), and repair: a mistake is named and the student mends it.
"""

import os
import re
from collections.abc import Mapping
from itertools import islice

import torch

from helper.models import end_of_turn_id
from helper.trainers.reward_checks import in_one_line, quoted
from helper.validation import dropped_messages, shorten

EMPTY_THOUGHT = re.compile(r"<think>\s*(</think>\s*)?$")  # some templates put it into the generation prompt only


def check_chat_template(tokenizer, own: bool = False) -> None:
    """Check that a chat template can be trained on: one ValueError that says what is wrong.

    It renders what both say, opens the assistant's turn with `add_generation_prompt` as the training text does, and
    closes it with an end token; its special tokens are one token each, and padding has a token. Pad = end token is an
    error for a tokenizer of our `own`, else a printed warning: some models on the Hub ship it, and it is harmless where
    padding is masked by position.
    """
    if not tokenizer.chat_template:
        raise ValueError("The tokenizer has no chat template: the trainer cannot turn messages into text.")
    question, answer = {"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}
    closed = _render(tokenizer, [question])
    opened = _render(tokenizer, [question], add_generation_prompt=True)
    trained = _render(tokenizer, [question, answer])
    if opened == closed and not _opens_by_itself(opened, trained):
        raise ValueError(
            "The chat template pays no heed to add_generation_prompt: without the opening of the assistant's turn, "
            "the model may go on with the user's."
        )
    for said in (question, answer):
        if said["content"] not in trained:
            raise ValueError(f"The chat template drops the {said['role']}'s message: write message['content'] into it.")
    if not trained.startswith((opened, EMPTY_THOUGHT.sub("", opened))):
        same = len(os.path.commonprefix([opened, trained]))
        raise ValueError(
            f"The chat template opens the assistant's turn with {quoted(opened[same:])} for generating, but with "
            f"{quoted(trained[same:])} for training: the model is asked in a form it never met. Make both the same."
        )
    _check_special_tokens(tokenizer, trained + opened)
    end = end_of_turn_id(tokenizer)
    if end is None:
        raise ValueError(
            "The chat template closes the assistant's turn with no special token: the model cannot learn to stop."
        )
    if tokenizer.pad_token_id is None:
        raise ValueError('The tokenizer has no pad token: give it one of its own, such as "<|pad|>".')
    if tokenizer.pad_token_id in (end, tokenizer.eos_token_id):
        words = f"pad token = end token ({tokenizer.pad_token}): whatever masks padding by its id masks the end too"
        if own:
            raise ValueError(f"{words}, and the model never learns to stop. Give padding a token of its own.")
        print(f"Warning: {words}. Let check_trained_end(trainer, tokenizer) show that it does not.")


def _opens_by_itself(opened: str, trained: str) -> bool:
    """Whether the end of the user's turn opens the assistant's, as [/INST] does: a mark, and then nothing but the answer."""
    mark = opened.rpartition("Hello?")[2].strip()
    return bool(mark) and trained.startswith(opened) and trained[len(opened) :].lstrip().startswith("Hello.")


def _render(tokenizer, messages: list[dict], **options) -> str:
    try:
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)
    except Exception as error:  # whatever stands in the template
        raise ValueError(f"The chat template fails on a question and an answer. {in_one_line(error)}") from None


def check_trained_end(trainer_or_batch, tokenizer, rows: int = 16) -> float:
    """The share of rows (of a trainer's first `rows`, or of a batch) in which the model is taught to end its turn.

    For SFT and DPO trainers and for batches with `labels` or `completion_mask`. Raises ValueError when no label is the
    end-of-turn token, when padding is trained on, or when the chat template drops a part of an answer. A share below 1:
    rows cut off at `max_length`. Rows cut off before their answer are not seen: the trainer has dropped them.
    """
    if hasattr(trainer_or_batch, "train_dataset"):
        first = _first_rows(trainer_or_batch, rows)
        _check_answers_are_whole(first, tokenizer)
        batch = trainer_or_batch.data_collator(first)
    else:
        batch = trainer_or_batch
    end, labels = end_of_turn_id(tokenizer), _labels(batch)
    if end is None:
        raise ValueError("The tokenizer has no token that ends a turn: see check_chat_template(tokenizer).")
    trained, mask = labels != -100, batch.get("attention_mask")
    padding = torch.zeros_like(trained) if mask is None else _table(mask, "attention_mask") == 0
    if (trained & padding).any():
        row = int((trained & padding).any(1).nonzero()[0])
        raise ValueError(f"Row {row} is trained on its padding: label it -100.")
    if not trained.any():
        raise ValueError("No token is trained: every label is -100. Did max_length cut the answers off?")
    taught = (labels == end).any(1)
    if not taught.any():
        raise ValueError(
            f"{tokenizer.convert_ids_to_tokens(end)}, which ends a turn, is in no row's labels: the model never learns "
            "to stop. Either padding is masked by id where pad = end token, or max_length cuts every row off, or the "
            "template lacks it."
        )
    return taught.float().mean().item()


def _labels(batch) -> torch.Tensor:
    """A batch's labels, (rows, tokens); made from ids and mask where a trainer has only these."""
    if not isinstance(batch, Mapping):
        raise TypeError(f"A trainer or a batch is wanted, not a {type(batch).__name__}.")
    if batch.get("labels") is not None:
        return _table(batch["labels"], "labels")
    if batch.get("input_ids") is None or batch.get("completion_mask") is None:
        raise ValueError(
            f"The batch has {shorten(', '.join(map(str, batch)), 100) or 'nothing'}: it needs `labels`, or `input_ids` and "
            "`completion_mask`. A trainer's data_collator makes it from rows."
        )
    ids, mask = _table(batch["input_ids"], "input_ids"), _table(batch["completion_mask"], "completion_mask")
    return ids.masked_fill(mask == 0, -100)


def _table(values, name: str) -> torch.Tensor:
    """Lists, an array or a tensor as a tensor of two dimensions."""
    try:
        table = torch.as_tensor(values)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` is no table of numbers: its rows must be of one length, as the collator makes them."
        ) from None
    return table[None] if table.dim() == 1 else table


def _check_special_tokens(tokenizer, text: str) -> None:
    marks = set(re.findall(r"<\|[^<>|]+\|>", text)) | {token for token in tokenizer.all_special_tokens if token in text}
    for mark in sorted(marks):
        ids = tokenizer(mark, add_special_tokens=False).input_ids
        if len(ids) != 1 or ids[0] == tokenizer.unk_token_id:
            raise ValueError(f"{mark}, in the chat template, is not one token of the vocabulary but {len(ids)}.")


def _first_rows(trainer, rows: int) -> list[dict]:
    """As the trainer will see them, but without its data loader, which would move the random numbers on."""
    data = trainer.train_dataset
    if hasattr(trainer, "reward_funcs") or data is None:
        kind = "writes its answers while it trains" if hasattr(trainer, "reward_funcs") else "has no train_dataset"
        raise ValueError(
            f"A {type(trainer).__name__} {kind}, so there are no labels to look at. Whether answers end is in its log: "
            "completions/clipped_ratio."
        )
    first = [data[i] for i in range(min(rows, len(data)))] if hasattr(data, "__len__") else list(islice(data, rows))
    if not first:
        raise ValueError("The trainer has dropped every row: the answers lie beyond max_length. Raise it.")
    return first


def _check_answers_are_whole(rows: list[dict], tokenizer) -> None:
    """Raise where the template leaves out a part of an answer, of rows that still have their messages."""
    answers = ("messages", "completion", "chosen", "rejected")
    for number, row in enumerate(rows):
        for messages in (row[column] for column in answers if _is_conversation(row.get(column))):
            said = [*(row["prompt"] if _is_conversation(row.get("prompt")) else []), *messages]
            if len(said) - 1 in dropped_messages(said, _render(tokenizer, said)):
                raise ValueError(
                    f"Row {number}: the chat template drops a part of the answer ({quoted(said[-1]['content'])}), perhaps "
                    "its thoughts (<think>…</think>), so that is not trained. Take a template that keeps it, or take it out "
                    "of the rows."
                )


def _is_conversation(messages) -> bool:
    """Whether a column holds messages whose contents are texts."""
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(isinstance(said, Mapping) and isinstance(said.get("content"), str) for said in messages)
    )
