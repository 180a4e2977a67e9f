"""What a training run will cost, before it is started: memory by part, what fits on this machine, and the time.

The arithmetic is in `helper.machine.sizes`; `helper.figures.costs` shows the result.
Left out on purpose: several GPUs, offloading, 4-bit weights without LoRA (they cannot be trained).
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import torch

from helper.library import attention_of
from helper.machine.memory import available_memory, held_bytes
from helper.machine.sizes import (
    BYTES,
    LORA_TARGETS,
    activation_bytes,
    cache_bytes,
    count_parameters,
    four_bit_bytes,
    last_layer_bytes,
    lora_parameters,
)

METHODS = ("sft", "dpo", "grpo")


class Cost(NamedTuple):
    """`settings`: what `training_cost` was given. `parts`: name -> bytes. `moments`: what is there together -> bytes.
    `peak`: the largest of these. `trained`, `parameters`: counts."""

    settings: dict
    parts: dict[str, int]
    moments: dict[str, int]
    peak: int
    trained: int
    parameters: int


class Time(NamedTuple):
    """Seconds for a whole run: a guess and an interval around it; `step`: the median step; `steps`: how many were timed."""

    seconds: float
    low: float
    high: float
    step: float
    steps: int


def training_cost(
    model, method: str = "sft", batch_size: int = 1, length: int = 200, *, accumulation: int = 8,
    completion: int | None = None, steps: int = 100, dtype: str = "float32", bf16: bool = False, beta: float | None = None,
    precompute_reference: bool = False, checkpointing: bool = False, attention: str | None = None, lora_rank: int = 0,
    lora_targets: tuple[str, ...] = LORA_TARGETS, four_bit: bool = False, libraries: int | None = None,
    device: str | torch.device | None = None,
) -> Cost:  # fmt: skip
    """Predict the most memory that a run of TRL's trainer with AdamW takes, and when (`_parts` and `_moments` say how).

    `model`: a model, whose own weights are counted, or its config (then nothing is loaded; not of a mixture of experts).
    `batch_size`: per device, as the trainer has it; a row of DPO is a pair, two texts. `length`: tokens of the longest text,
    prompt and answer together. `completion`: for GRPO, how many of them are generated (None: half). `dtype`: the weights';
    `bf16`: autocast over float32 weights. `beta`: above 0 a reference model is kept (None: TRL's defaults, 0.1 for DPO and 0
    for GRPO), unless `precompute_reference` (DPO) or LoRA does without one. `steps` 1: the moments come after the
    activations are gone. `four_bit` (QLoRA; needs a config): the layers' matrices in NF4. `libraries`: bytes taken by all
    else, Python and its packages (None: what is taken now, without the model's weights: on a CPU by this process, on a GPU
    by PyTorch's other tensors there). `device`: where it will run (None: where the model is; for a config, the GPU where
    PyTorch sees one). Raises ValueError for settings that do not go together.
    """
    settings = {
        "model": model, "method": method, "batch_size": batch_size, "length": length, "accumulation": accumulation,
        "completion": completion, "steps": steps, "dtype": dtype, "bf16": bf16, "beta": beta,
        "precompute_reference": precompute_reference, "checkpointing": checkpointing, "attention": attention,
        "lora_rank": lora_rank, "lora_targets": lora_targets, "four_bit": four_bit, "libraries": libraries,
        "device": _device(model, device),
    }  # fmt: skip
    config = _config(model)
    _check(settings, config)
    parameters = _own_parameters(model) or count_parameters(config)
    trained = lora_parameters(config, lora_rank, lora_targets) if lora_rank else parameters
    parts = _parts(settings, config, parameters, trained)
    moments = _moments(settings, config, parts)
    return Cost(settings, parts, moments, max(moments.values()), trained, parameters)


def _parts(settings: dict, config, parameters: int, trained: int) -> dict[str, int]:
    """Name -> bytes. With P parameters of which T are trained, and s bytes a weight:

    weights s·P, or in 4 bits `four_bit_bytes` with one matrix unpacked; gradients s·T; AdamW's two moments 2·s·T (arXiv
    1711.05101: as many numbers as weights, each; of the weights' own type in PyTorch, float32 for float32); reference
    s·P; activations, cache and last layer: see `activation_bytes`, `cache_bytes`, `last_layer_bytes`.
    """
    method, rank, length, dtype, bf16 = (settings[name] for name in ("method", "lora_rank", "length", "dtype", "bf16"))
    size, of_trained = BYTES[dtype], 4 if rank else BYTES[dtype]
    beta = {"dpo": 0.1}.get(method, 0.0) if settings["beta"] is None else settings["beta"]
    kept = method != "sft" and beta > 0 and not settings["precompute_reference"] and not rank
    rows = settings["batch_size"] * (2 if method == "dpo" else 1)
    together = settings["batch_size"] * settings["accumulation"]  # the rows GRPO generates at once: those of a whole step
    attention, libraries = settings["attention"] or attention_of(config), settings["libraries"]
    frozen, unpacked = four_bit_bytes(config, dtype) if settings["four_bit"] else (size * parameters, 0)
    return {
        "weights": frozen + unpacked + (4 * trained if rank else 0),
        "gradients": of_trained * trained,
        "optimiser": 2 * of_trained * trained,
        "reference model": size * parameters if kept else 0,
        "activations": activation_bytes(config, rows, length, dtype, bf16, attention, settings["checkpointing"]),
        "last layer": last_layer_bytes(config, rows, length, "bfloat16" if bf16 else dtype, not rank),
        "key-value cache": cache_bytes(config, together, length, dtype) if method == "grpo" else 0,
        # logits, probabilities and a draw's copy
        "sampling": 3 * 4 * together * config.vocab_size if _generated(settings) else 0,
        "libraries": _libraries(settings["model"], settings["device"]) if libraries is None else libraries,
    }


def _generated(settings: dict) -> int:
    """How many tokens of a text GRPO generates; 0 for the other methods."""
    return (settings["completion"] or settings["length"] // 2) if settings["method"] == "grpo" else 0


def _moments(settings: dict, config, parts: dict[str, int]) -> dict[str, int]:
    """The moments of a step at which the most may be there, and the bytes that are there then.

    When the backward pass begins, when it has ended (tied weights get two gradients, which are added), in the optimiser's
    step, and while GRPO generates.
    """
    several, full, matrix = settings["accumulation"] > 1, not settings["lora_rank"], config.vocab_size * config.hidden_size
    always = parts["weights"] + parts["reference model"] + parts["libraries"]
    held = always + (parts["optimiser"] if settings["steps"] > 1 else 0)
    gradients, second = parts["gradients"], 3 * 4 * matrix if config.tie_word_embeddings and full else 0
    tied = gradients - BYTES[settings["dtype"]] * matrix + second if second else gradients
    generating = held + parts["key-value cache"] + parts["sampling"]
    return {
        "the backward pass begins": held + parts["activations"] + parts["last layer"] + (gradients if several else 0),
        "the gradients are whole": held + max(tied, gradients + (second if several else 0)),
        "the optimiser's step": always + gradients + parts["optimiser"],
        "generation": generating if _generated(settings) else 0,
    }


def what_fits(cost: Cost, available: int | None = None) -> list[dict]:
    """Whether the run fits into `available` bytes, and what changes would make of it.

    A row each, in the order in which to try them: {"change", "peak", "fits", "price"}. First the run as it is. Each
    change is added to those before it, and predicted anew; one that saves nothing is left out. `available` None: all that
    this process can get on the cost's device (`available_memory`), with what it already holds, since the peak counts
    that too.
    """
    if available is None:
        available = available_memory(cost.settings["device"])
    elif isinstance(available, bool) or not available > 0:
        raise ValueError(f"available={available}: give the free memory in bytes.")
    settings, rows = dict(cost.settings), [_fit("as it is", cost.peak, available, "")]
    batch = settings["batch_size"]
    changes = [
        (f"batch of 1, accumulation × {batch}", "about the same time, the same loss", batch > 1,
         {"batch_size": 1, "accumulation": settings["accumulation"] * batch}),
        ("gradient checkpointing", "a second forward pass: about a third more time", not settings["checkpointing"],
         {"checkpointing": True}),
        ("reference log-probabilities computed once", "a pass over the data before training",
         bool(cost.parts["reference model"]) and settings["method"] == "dpo", {"precompute_reference": True}),
        ("weights in bf16", "small updates are rounded away: take a larger learning rate or LoRA, and compare",
         settings["dtype"] == "float32", {"dtype": "bfloat16", "bf16": False}),
        ("LoRA of rank 16", "fewer weights are trained, with a learning rate about ten times as large",
         not settings["lora_rank"], {"lora_rank": 16}),
    ]  # fmt: skip
    settings["libraries"] = cost.parts["libraries"]
    for change, price, possible, new in changes:
        if not possible:
            continue
        better = training_cost(**settings | new)
        if better.peak < rows[-1]["peak"]:
            settings |= new
            rows.append(_fit(("" if len(rows) == 1 else "and ") + change, better.peak, available, price))
    return rows


def _fit(change: str, peak: int, available: int, price: str) -> dict:
    return {"change": change, "peak": peak, "fits": peak <= available, "price": price}


def time_of_steps(seconds: list[float], steps: int) -> Time:
    """The estimate for `steps` from the seconds of single ones, in order; the first two are left out."""
    measured = sorted(seconds[2:])
    if len(measured) < 3:
        raise ValueError(f"{len(seconds)} steps were timed, and 5 are the least: is the data set too small for a probe?")
    inner = measured[1:-1] if len(measured) >= 5 else measured
    step = statistics.median(measured)
    return Time(step * steps, inner[0] * steps, inner[-1] * steps, step, len(measured))


def _config(model):
    config = getattr(model, "config", model)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _check(settings: dict, config) -> None:
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        if not hasattr(config, name):
            raise ValueError(f"{type(config).__name__} has no {name}: give a model, or its config (model.config).")
    if settings["method"] not in METHODS:
        raise ValueError(f"method={settings['method']!r}: give one of {', '.join(METHODS)}.")
    if settings["dtype"] not in BYTES:
        raise ValueError(f'dtype={settings["dtype"]!r}: give "float32" or "bfloat16".')
    for name in ("batch_size", "length", "accumulation", "steps"):
        if isinstance(settings[name], bool) or not isinstance(settings[name], int) or settings[name] < 1:
            raise ValueError(f"{name}={settings[name]!r:.40}: give a whole number from 1.")
    if settings["completion"] is not None and not 0 < settings["completion"] < settings["length"]:
        raise ValueError(f"completion={settings['completion']}: it is a part of length={settings['length']} tokens.")
    if settings["four_bit"] and not settings["lora_rank"]:
        raise ValueError("four_bit=True needs a lora_rank: 4-bit weights are not trained, adapters beside them are.")
    if settings["four_bit"] and hasattr(settings["model"], "parameters"):
        raise ValueError("four_bit=True needs the model's config: a loaded model's weights may be packed or not.")
    if settings["precompute_reference"] and settings["method"] == "grpo":
        raise ValueError("GRPO writes new answers in each step: their reference log-probabilities cannot be precomputed.")


def _own_parameters(model) -> int:
    """The parameters of a model, each once; 0 for a config."""
    return sum(weight.numel() for weight in model.parameters()) if hasattr(model, "parameters") else 0


def _device(model, device=None) -> torch.device:
    if device is None and hasattr(model, "parameters"):
        device = next(model.parameters()).device
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _libraries(model, device: torch.device) -> int:
    """Bytes held on `device` now, without the weights of the model given."""
    loaded = model.parameters() if hasattr(model, "parameters") else ()
    return max(0, held_bytes(device) - sum(p.numel() * p.element_size() for p in loaded if p.device.type == device.type))
