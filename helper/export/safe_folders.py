"""A model in a folder of its own, as others load it: safetensors, tokenizer, chat template, card; and proof that it loads.

Left out on purpose: checkpoints (they hold pickles), and uploading.
"""

import os
from pathlib import Path

import torch

from helper.generation import generate_responses
from helper.machine.folders import free_name, remove, replaced_folder


def save_model(model, tokenizer, folder: str | Path) -> Path:
    """Write model and tokenizer into `folder`, which is replaced whole or not at all; the folder.

    Raises ValueError for weights that are nan or inf.
    """
    spoiled = [name for name, weight in model.state_dict().items() if not torch.isfinite(weight.float()).all()]
    if spoiled:
        raise ValueError(
            f"{spoiled[0]} holds nan or inf: the model is not saved. Train again, with a smaller learning rate."
        )
    with replaced_folder(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
    return Path(folder)


def save_card(folder: str | Path, card: str) -> Path:
    """Write a model's card (README.md) into its folder, whole or not at all; its path. ValueError where it has no model."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds no model, so no card is written there: save_model first.")
    unfinished = free_name(folder / "README.md.unfinished")
    try:
        unfinished.write_text(card, encoding="utf-8")
        os.replace(unfinished, folder / "README.md")
    finally:
        remove(unfinished)
    return folder / "README.md"


def answers_changed(model, tokenizer, other, other_tokenizer, questions: list[str], max_new_tokens: int = 64) -> list[int]:
    """The places of the questions to which the other model gives another greedy answer than the model."""
    mine = generate_responses(model, tokenizer, questions, max_new_tokens=max_new_tokens)
    theirs = generate_responses(other, other_tokenizer, questions, max_new_tokens=max_new_tokens)
    return [place for place, (one, two) in enumerate(zip(mine, theirs, strict=True)) if one != two]
