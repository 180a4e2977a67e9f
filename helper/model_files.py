"""What can be wrong with a model's files: looked at before they are read, and once more when they have been loaded.

Each fault is one error that says what it is and what to do.
Left out on purpose: repair, and what the model can do.
"""

import json
from contextlib import suppress
from pathlib import Path

import huggingface_hub
import torch
import transformers
from huggingface_hub.errors import EntryNotFoundError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_HEADER = 100_000_000  # bytes; of safetensors
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
PICKLES = ("*model*.bin", "*model*.pt", "*model*.pth", "consolidated*.pth", "*.ckpt")  # of weights, as others name them


class ModelFault(ValueError):
    """Files that make no model which could be used; the words say why, and what to do."""


def check_folder(folder: Path) -> None:
    """Raise for a folder that is no model, with what it is: an adapter, a training's checkpoints, other models, nothing.

    ModelFault too for a config.json and weights that are there and cannot be read.
    """
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        raise ModelFault(_is_adapter(str(folder), adapter))
    if (folder / "config.json").is_file():
        _check_config(folder / "config.json")
        for name in TOKENIZER_FILES:
            if (folder / name).is_file() and not _json_object(folder / name):
                raise ModelFault(
                    f"{folder / name} is no JSON object: it is cut off, or another file. Copy or download it again."
                )
        _check_weights(folder)
        return
    inside = [path.parent for name in ("config.json", "adapter_config.json") for path in folder.glob(f"*/{name}")]
    inside.sort(key=lambda path: (path.name.startswith("checkpoint-"), len(path.name), path.name))
    if not inside:
        is_empty = "" if any(folder.iterdir()) else "n empty"
        raise FileNotFoundError(
            f"{folder} is a{is_empty} folder, but holds no model: there is no config.json in it. Name a folder that "
            'model.save_pretrained(folder) has written, or a model of the course: "sprout-base".'
        )
    kind = "a training's checkpoints" if inside[-1].name.startswith("checkpoint-") else "folders with models"
    names = ", ".join(path.name for path in inside[-3:])
    raise FileNotFoundError(f"{folder} holds no model itself, but {kind} ({names}): name one of them, {inside[-1]}.")


def _check_config(path: Path) -> None:
    """Refuse a config.json from which the library could not tell what model it is."""
    config = _json_object(path)
    if not config:
        raise ModelFault(
            f"{path} is no JSON object with a model's settings: it is cut off, or another file under this name. Copy or "
            "download it again, or write it anew: model.save_pretrained(folder)."
        )
    _check_names_no_weights(str(path.parent), config)
    if "model_type" not in config and "auto_map" not in config:
        raise ModelFault(
            f'{path} has no "model_type", which says what kind of model it is. Take the config.json that belongs to the '
            "weights, or write it anew: model.save_pretrained(folder)."
        )
    if config.get("model_type") not in transformers.CONFIG_MAPPING:
        own = (
            "comes with code of its own, which is not run here (it could do anything)"
            if "auto_map" in config
            else (f"is unknown to the installed transformers {transformers.__version__}")
        )
        raise ModelFault(f"{path}: the kind of model {config.get('model_type', '')!r:.60} {own}. Take another model.")


def _check_weights(folder: Path) -> None:
    """Refuse weights that are pickles only, a shard that is not there, and files of weights that are cut off or none."""
    index = folder / INDEX
    named = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and index.is_file():
        shards = _json_object(index).get("weight_map")
        shards = shards.values() if isinstance(shards, dict) else []
        named = sorted({shard for shard in shards if _is_beside(shard)})  # `check_files` refuses the others
    for file in (folder / name for name in named):
        if not file.is_file():
            raise _without_weights(folder, file.name)
        wrong = _wrong_with(file)
        if wrong:
            raise ModelFault(f"{file}, a file of the model's weights, is {wrong}. Copy or download it again.")


def _without_weights(folder: Path, missing: str) -> Exception:
    """The error for a folder in which a file of weights is missing: its other shards, pickles, or nothing else is there."""
    pickles = sorted({path.name for kind in PICKLES for path in folder.glob(kind)})
    if missing != WEIGHTS:
        return ModelFault(f"{folder} lacks {missing}, a part of the weights that {INDEX} names. Copy or download it too.")
    if not pickles:
        return FileNotFoundError(
            f"{folder} has a config.json and no weights: {WEIGHTS} is not there. Copy the whole folder, or save the model "
            "into it: model.save_pretrained(folder)."
        )
    return ModelFault(
        f"{folder} holds its weights as pickles only ({', '.join(pickles[:3])}), which are not read: loading one can run a "
        f"program. Where you trust it, write {WEIGHTS} beside it: model = AutoModelForCausalLM.from_pretrained(folder); "
        "model.save_pretrained(folder)."
    )


def _wrong_with(file: Path) -> str:
    """What is wrong with a file of safetensors, in words, from its first bytes and its size; "" where nothing is."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(8)
        length = int.from_bytes(start, "little")
        header = opened.read(length) if 8 + length <= size and length <= LONGEST_HEADER else b""
    if not size:
        return "empty"
    if start == b"version ":
        return "only a pointer of Git LFS (run `git lfs pull`)"
    if not header.startswith(b"{"):
        return "cut off, or holds something else"
    return "cut off" if size < 8 + length + _last_byte(header) else ""


def _last_byte(header: bytes) -> int:
    """Where the last tensor ends behind the header."""
    with suppress(ValueError, RecursionError, KeyError, TypeError, IndexError):  # what is no header, the library says
        tensors = json.loads(header)
        return max(int(tensor["data_offsets"][1]) for name, tensor in tensors.items() if name != "__metadata__")
    return 0


def check_files(source: str, revision: str | None, offline: bool) -> None:
    """Refuse, before any weights are read, an adapter, and weights in other files than safetensors in the same folder.

    `source`: a folder, or a name on the Hub. An index of shards may name any file, and the library reads a pickle where
    the name does not end in .safetensors.
    """
    adapter = _file(source, "adapter_config.json", revision, offline)
    if adapter:
        raise ModelFault(_is_adapter(source, adapter))
    config = _file(source, "config.json", revision, offline)
    if config:
        _check_names_no_weights(source, _json_object(config))
    index = _file(source, INDEX, revision, offline)
    shards = _json_object(index).get("weight_map") if index else {}
    if not isinstance(shards, dict):
        raise ModelFault(f'{source}: {INDEX} holds no "weight_map" of names and files. Copy or download it again.')
    for shard in shards.values():
        if not _is_beside(shard):
            raise ModelFault(
                f"{source}: {INDEX} names {shard!r:.80}, and weights are read only from .safetensors files beside it. "
                "Another file may be a pickle, which can run a program: do not load this model."
            )


def _is_beside(shard) -> bool:
    """Whether an index names a file of safetensors in its own folder."""
    return isinstance(shard, str) and shard.endswith(".safetensors") and not any(mark in shard for mark in "/\\:\0")


def _check_names_no_weights(source: str, config: dict) -> None:
    if "transformers_weights" in config:
        raise ModelFault(f'{source}: its config.json names another file of weights ("transformers_weights"). Take that out.')


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
