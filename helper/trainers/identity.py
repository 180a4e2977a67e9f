"""What a run is: the weights it starts from, the rows it is trained on and the settings that change what is learned.

A digest is the beginning of a SHA-256: any change of any number in it makes another one. 135 million weights take half a
second of a processor. Left out on purpose: what only the source tells (the text of a reward function: its name and its
arguments count), the versions of the libraries, the machine.
"""

import functools
import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset

from helper.validation import shorten

LENGTH = 16  # hex digits of a digest
LARGEST = 2000  # megabytes of a data set of which every row is read; of a larger one every second, third, ...
MOST = 100_000  # rows that are read one by one, the same
STREAMED = 100  # rows read of a stream, which may have no end
BATCH = 1000  # rows fed together; any number, but always the same one
# Settings that say what is written and shown, not what is learned (the beginnings of their names).
NOT_OF_THE_RUN = (
    "output_dir", "log", "save_", "eval", "per_device_eval", "hub_", "push_", "report_to", "run_name", "project",
    "trackio_", "disable_tqdm", "resume_", "do_", "debug", "include_", "num_completions_to_print",
)  # fmt: skip


def run_description(trainer, goes_on: bool = False) -> dict:
    """What makes two runs of a trainer the same one, as plain values. `goes_on`: there is a checkpoint (`first_weights`)."""
    data, weights, tokenizer = trainer.train_dataset, list(trainer.model.parameters()), trainer.processing_class
    description = {
        "trainer": type(trainer).__name__,
        "model": Path(trainer.model.config.name_or_path).name,
        "weights": sum(weight.numel() for weight in weights),
        "trained weights": sum(weight.numel() for weight in weights if weight.requires_grad),
        "first weights": first_weights(trainer.model, goes_on),
        "weights of the reference": _reference(trainer, goes_on),
        "adapters": _adapters(trainer.model),
        "tokenizer": tokenizer_digest(getattr(tokenizer, "tokenizer", tokenizer)),
        "rows of data": len(data) if hasattr(data, "__len__") else None,
        "contents of the data": data_digest(data),
        "reward functions": [function_identity(function) for function in getattr(trainer, "reward_funcs", [])],
    }
    settings = {k: v for k, v in trainer.args.to_dict().items() if not k.startswith(NOT_OF_THE_RUN)}
    return plain(description | settings)


def differences(there: dict, here: dict, within: str = "") -> list[str]:
    """What two descriptions differ in, as "learning_rate: 0.001 there, 0.002 here"."""
    found = []
    for key in dict.fromkeys([*here, *there]):
        one, other = (described.get(key, "not noted") for described in (there, here))
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, f"{within}{key}.")
        elif one != other:
            found.append(f"{within}{key}: {one} there, {other} here")
    return found


def first_weights(module: torch.nn.Module, goes_on: bool = False) -> str:
    """The digest of the weights that a run starts from.

    A module that has been trained (`trained_steps`) remembers it, for the run that goes on in the same process.
    """
    trained = getattr(module, "trained_steps", 0) and hasattr(module, "first_weights")
    if not (goes_on and trained):
        module.first_weights = weights_digest(module)
    return module.first_weights


def weights_digest(module: torch.nn.Module) -> str:
    """The digest of all weights, their names, shapes and types.

    Without the contents of LoRA's A while its B is 0: they are drawn anew at each start, and count for nothing yet.
    """
    sha, weights = hashlib.sha256(), dict(module.named_parameters())
    for name, weight in weights.items():
        sha.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        other = weights.get(name.replace("lora_A", "lora_B"))
        if weight.device.type != "meta" and (other is weight or other is None or other.any()):
            sha.update(_bytes(weight))
    return sha.hexdigest()[:LENGTH]


def data_digest(data) -> str:
    """The digest of a data set's rows, and in words which of them were read: all, unless it is huge or a stream."""
    if data is None:
        return "no data"
    if isinstance(data, IterableDataset):
        return f"{digest(itertools.islice(data, STREAMED))} (the first {STREAMED} rows of a stream)"
    if not hasattr(data, "__len__"):
        return "not read: a stream that may be readable only once"
    table = isinstance(data, Dataset)
    share = _megabytes(data) / LARGEST if table else len(data) / MOST
    every = max(math.ceil(share), 1)
    places = range(0, len(data), every)
    if not table:
        sha = digest(data[place] for place in places)
    else:
        sha = _table_digest(data if every == 1 else data.select(places))
    return f"{sha} (all rows)" if every == 1 else f"{sha} (one row in {every})"


def digest(rows: Iterable) -> str:
    """The digest of some rows, or other values, in their order."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(json.dumps(row, default=_as_plain, skipkeys=True).encode() + b"\n")
    return sha.hexdigest()[:LENGTH]


def tokenizer_digest(tokenizer) -> str | None:
    """The digest of a tokenizer's words, special tokens and chat template; None without a vocabulary."""
    if not hasattr(tokenizer, "get_vocab"):
        return None
    words = sorted(tokenizer.get_vocab().items())
    return digest([words, tokenizer.special_tokens_map, getattr(tokenizer, "chat_template", None)])


def plain(value):
    """A value as JSON has it: functions by name, modules and arrays by digest, NumPy's numbers as Python's."""
    return json.loads(json.dumps(value, default=_as_plain, skipkeys=True))


def name_of(function: Callable) -> str:
    """A function's name, to be read; of a partial one that of its function, with the arguments it fixes, cut short."""
    if isinstance(function, functools.partial):
        fixed = [f"{name}={shorten(repr(value), 20)}" for name, value in function.keywords.items()]
        fixed = [*(shorten(repr(value), 20) for value in function.args), *fixed]
        return f"{name_of(function.func)}({', '.join(fixed)})"
    return getattr(function, "__name__", type(function).__name__)


def function_identity(function: Callable) -> str:
    """What tells a function from others: its name, the whole arguments that a partial one fixes, a module's weights."""
    if isinstance(function, functools.partial):
        named = sorted((name, plain(value)) for name, value in function.keywords.items())
        return f"{function_identity(function.func)}{tuple(map(plain, function.args))}{named}"
    if isinstance(function, torch.nn.Module):
        return f"{type(function).__name__} {weights_digest(function)}"
    return name_of(function)


def _as_plain(value):
    """What JSON does not know, in its words."""
    if callable(value):
        return function_identity(value)
    if isinstance(value, torch.Tensor):
        return value.item() if value.ndim == 0 else [str(value.dtype), list(value.shape), _short(_bytes(value))]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if getattr(value, "ndim", None) == 0:  # NumPy's numbers
        return value.item()
    if hasattr(value, "tobytes"):  # arrays, pictures
        kind = [str(getattr(value, name, "")) for name in ("dtype", "shape", "mode", "size")]
        return [*kind, _short(value.tobytes())]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", str(value))


def _reference(trainer, goes_on: bool) -> str | None:
    """The digest of the frozen model that DPO and others compare with; None without one, and for one that moves."""
    reference, args = getattr(trainer, "ref_model", None), trainer.args
    if getattr(args, "sync_ref_model", False):
        return None
    if reference is not None:
        return weights_digest(reference)
    if not getattr(args, "precompute_ref_log_probs", False) or hasattr(trainer.model, "peft_config"):
        return None
    # The reference was the model as it stood when the trainer was made, unless this trainer has trained it since.
    return first_weights(trainer.model, goes_on) if trainer.state.global_step else weights_digest(trainer.model)


def _adapters(model) -> dict | None:
    """The settings of a model's adapters (peft), without where their base came from."""
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    where = ("base_model_name_or_path", "revision", "inference_mode")
    return {
        name: {key: value for key, value in config.to_dict().items() if key not in where} for name, config in configs.items()
    }


def _megabytes(data: Dataset) -> float:
    return data.data.nbytes / 1e6 * len(data) / max(data.data.num_rows, 1)


def _table_digest(data: Dataset) -> str:
    """The digest of all rows of a table, column by column, however it lies in memory or in files."""
    kept = [name for name in data.column_names if not name.startswith("ref_")]  # DPO writes its reference's numbers there
    sha = hashlib.sha256()
    for table in data.with_format("arrow").iter(BATCH):
        for name in kept:
            sha.update(name.encode())
            _feed(sha, table[name].combine_chunks())
    return sha.hexdigest()[:LENGTH]


def _feed(sha, column: pa.Array) -> None:
    """Feed a column's values alone: what lies in memory between and behind them depends on how it came there."""
    sha.update(f"{column.type} {len(column)}".encode())
    if column.null_count:
        sha.update(column.is_valid().to_numpy(zero_copy_only=False))
        column = column.drop_null()
    if pa.types.is_struct(column.type):
        for field in column.flatten():
            _feed(sha, field)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        sha.update(column.value_lengths().to_numpy())
        _feed(sha, column.flatten())
    else:
        sha.update(pa.record_batch([column], names=[""]).serialize())


def _bytes(tensor: torch.Tensor):
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _short(data) -> str:
    return hashlib.sha256(data).hexdigest()[:LENGTH]
