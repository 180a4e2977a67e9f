"""What can be wrong with a model's files: looked at before they are read, and once more when they have been loaded.

Each fault is one error that says what it is and what to do.
Left out on purpose: repair, and what the model can do.
"""

import json
from pathlib import Path

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError

INDEX = "model.safetensors.index.json"


class ModelFault(ValueError):
    """Files that make no model which could be used; the words say why, and what to do."""


def check_folder(folder: Path) -> None:
    """Raise for a folder that is no model, with what it is: an adapter, a training's checkpoints, other models, nothing."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise ModelFault(_is_adapter(str(folder), adapter))
    if (folder / "config.json").is_file():
        return
    inside = [path.parent for name in ("config.json", "adapter_config.json") for path in folder.glob(f"*/{name}")]
    inside.sort(key=lambda path: (path.name.startswith("checkpoint-"), len(path.name), path.name))
    if not inside:
        raise FileNotFoundError(f"{folder} is a folder, but holds no model: there is no config.json in it.")
    kind = "a training's checkpoints" if inside[-1].name.startswith("checkpoint-") else "folders with models"
    names = ", ".join(path.name for path in inside[-3:])
    raise FileNotFoundError(f"{folder} holds no model itself, but {kind} ({names}): name one of them, {inside[-1]}.")


def check_files(source: str, revision: str | None, offline: bool) -> None:
    """Refuse, before any weights are read, an adapter, and weights in other files than safetensors in the same folder.

    `source`: a folder, or a name on the Hub. An index of shards may name any file, and the library reads a pickle where
    the name does not end in .safetensors.
    """
    adapter = _file(source, "adapter_config.json", revision, offline)
    if adapter:
        raise ModelFault(_is_adapter(source, adapter))
    config = _file(source, "config.json", revision, offline)
    if config and "transformers_weights" in _json_object(config):
        raise ModelFault(f'{source}: its config.json names another file of weights ("transformers_weights"). Take that out.')
    index = _file(source, INDEX, revision, offline)
    shards = _json_object(index).get("weight_map") if index else {}
    if not isinstance(shards, dict):
        raise ModelFault(f'{source}: {INDEX} holds no "weight_map" of names and files. Copy or download it again.')
    for shard in shards.values():
        if not isinstance(shard, str) or not shard.endswith(".safetensors") or any(mark in shard for mark in "/\\:\0"):
            raise ModelFault(
                f"{source}: {INDEX} names {shard!r:.80}, and weights are read only from .safetensors files beside it. "
                "Another file may be a pickle, which can run a program: do not load this model."
            )


def check_loaded(name: str, model, tokenizer, loading: dict) -> None:
    """Refuse weights that are missing, of another shape or nan, and a tokenizer that does not go with the model."""
    if loading["mismatched_keys"]:
        weight, found, wanted = sorted(loading["mismatched_keys"])[0]
        raise ModelFault(
            f"{name}: {len(loading['mismatched_keys'])} of its weights have another shape than its config.json says, "
            f"such as {weight}: {tuple(found)} in the file, {tuple(wanted)} in the model. Copy both again."
        )
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ModelFault(
            f"{name}: its files lack {len(missing)} of the model's weights, such as {missing[0]}. Copy it again."
        )
    if not tokenizer("a b c").input_ids:
        raise ModelFault(f"{name}: there is no tokenizer with it. Save both: tokenizer.save_pretrained(folder).")
    rows, largest = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values())
    if largest >= rows:
        raise ModelFault(
            f"{name}: its tokenizer has {largest + 1:,} tokens, and the model knows {rows:,}. Take the tokenizer that "
            "belongs to it, or save the model after model.resize_token_embeddings(len(tokenizer))."
        )
    damaged = next((key for key, weight in model.state_dict().items() if not _is_finite(weight)), None)
    if damaged:
        raise ModelFault(
            f"{name}: {damaged} holds nan or inf: the model is damaged, perhaps by a training that went wrong. Take an "
            "earlier checkpoint of it."
        )


def unused_weights(loading: dict) -> str:
    """Words for weights in the files for which the model has no place: a config.json of fewer layers, for one."""
    unused = sorted(loading["unexpected_keys"])
    return f"; {len(unused)} weights in its files are not used, such as {unused[0]}" if unused else ""


def _is_finite(weight: torch.Tensor) -> bool:
    return not weight.is_floating_point() or weight.element_size() < 2 or bool(weight.isfinite().all())


def _is_adapter(source: str, adapter: Path) -> str:
    base = _json_object(adapter).get("base_model_name_or_path") or "its base model"
    return (
        f"{source} holds an adapter (LoRA) and no whole model. Load {base!s:.80} first, then the adapter: "
        "model = PeftModel.from_pretrained(model, folder); model.merge_and_unload() gives a whole model to save."
    )


def _file(source: str, name: str, revision: str | None, offline: bool) -> Path | None:
    """A file of a folder or of a repository on the Hub; None where it is not there."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    try:
        return Path(huggingface_hub.hf_hub_download(source, name, revision=revision, local_files_only=offline))
    except EntryNotFoundError:
        return None


def _json_object(path: Path) -> dict:
    """The object in a JSON file; an empty one where there is none: the library says what is wrong with it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
