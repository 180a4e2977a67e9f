"""LoRA in plain PyTorch: a frozen matrix with a small trained one beside it (Hu et al. 2021, arXiv 2106.09685).

    y = W x + s · B A x,    A (r, in) random, B (out, r) = 0 at the start, s = α / r (eq. 3 and section 4.1)

`add_lora` puts such layers into a model in the place of its linear ones, `merge` adds s · B A to W, and `save_lora`
writes A and B alone: kilobytes. `tests/test_lora.py` holds forward passes, gradients and merged weights against peft.
Left out on purpose: dropout, biases, embeddings, several adapters at once (peft has them).
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from helper.machine.folders import remove

ALL_LINEAR = "all-linear"  # as in peft: every linear layer but the one that gives the logits


class LoraLinear(nn.Module):
    """A linear layer whose weight W (out, in) is frozen, with s · B A beside it; (..., in) -> (..., out).

    `A` (rank, in) begins as a linear layer's weight does, `B` (out, rank) as 0, so that nothing changes at first.
    `alpha`: s = alpha / rank, or alpha / sqrt(rank) with `rank_stabilised` (Kalajdzievski 2023, arXiv 2312.03732).
    A and B are in float32 whatever W is in; W may be 4-bit, as in QLoRA. Raises ValueError for a rank below 1.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, rank_stabilised: bool = False):
        super().__init__()
        if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
            raise ValueError(f"rank={rank!r}: give a whole number from 1.")
        self.base, self.rank, self.merged = base.requires_grad_(False), rank, False
        self.scaling = alpha / (math.sqrt(rank) if rank_stabilised else rank)
        self.A = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))
        self.B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        if self.merged or not self.scaling:
            return y
        return (y + self.scaling * (x.to(self.A.dtype) @ self.A.T @ self.B.T)).to(y.dtype)

    @torch.no_grad()
    def change(self) -> torch.Tensor:
        """ΔW = s · B A, (out, in), a matrix of rank r at most."""
        return self.scaling * self.B @ self.A

    def merge(self) -> None:
        """W becomes W + ΔW, rounded to the type of W; once. ValueError for a W that is no float, such as a 4-bit one."""
        if not self.base.weight.is_floating_point():
            raise ValueError(
                f"This layer's weight is stored as {self.base.weight.dtype} and cannot take the change of an adapter: merge "
                "into the weights in full precision."
            )
        if not self.merged:
            self.base.weight.data += self.change().to(self.base.weight.dtype)
        self.merged = True

    def unmerge(self) -> None:
        """W + ΔW becomes W again, up to rounding (in bfloat16 that is much: load the base model anew instead)."""
        if self.merged:
            self.base.weight.data -= self.change().to(self.base.weight.dtype)
        self.merged = False


# A whole model


def add_lora(
    model: nn.Module, rank: int, alpha: float, targets: str | Sequence[str] = ALL_LINEAR, rank_stabilised: bool = False
) -> list[str]:
    """Freeze `model` and put a LoraLinear in the place of each target; the names of these layers, in order.

    `targets`: last parts of names ("q_proj", "v_proj"), or "all-linear". Afterwards A and B are all that trains.
    Raises ValueError, before anything is changed, where a target is not there, or the model has LoRA layers already.
    """
    if lora_layers(model):
        raise ValueError("This model has LoRA layers already: take them out first (take_out), or load it anew.")
    found = target_layers(model, targets)
    made = {name: LoraLinear(layer, rank, alpha, rank_stabilised) for name, layer in found.items()}
    model.requires_grad_(False)
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return list(made)


def target_layers(model: nn.Module, targets: str | Sequence[str] = ALL_LINEAR) -> dict[str, nn.Linear]:
    """Name -> layer of the linear layers that `targets` means; ValueError, with what is there, for one that is not."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    linear = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear) and part is not head}
    if targets == ALL_LINEAR:
        wanted = {name.rpartition(".")[2] for name in linear}
    else:
        wanted = {targets} if isinstance(targets, str) else set(targets)
    there = dict.fromkeys(name.rpartition(".")[2] for name in linear)
    missing = sorted(wanted - set(there))
    if missing or not wanted:
        raise ValueError(f"No linear layer is called {', '.join(missing) or 'nothing'}: there is {', '.join(there)}.")
    return {name: part for name, part in linear.items() if name.rpartition(".")[2] in wanted}


def lora_layers(model: nn.Module) -> dict[str, LoraLinear]:
    """Name -> layer of the LoRA layers in a model."""
    return {name: part for name, part in model.named_modules() if isinstance(part, LoraLinear)}


def merge(model: nn.Module) -> None:
    """Merge every LoRA layer (or, after an error, none): the same answers, without the time of a second product."""
    layers = lora_layers(model)
    if not layers:
        raise ValueError("This model has no LoRA layers to merge.")
    for layer in sorted(layers.values(), key=lambda layer: layer.base.weight.is_floating_point()):  # refusals first
        layer.merge()


def unmerge(model: nn.Module) -> None:
    """Take the changes out of the weights again, up to rounding."""
    for layer in lora_layers(model).values():
        layer.unmerge()


def take_out(model: nn.Module) -> None:
    """Put the linear layers back, as they are now (merged or not): the model has the parts that it had before."""
    for name, layer in lora_layers(model).items():
        model.set_submodule(name, layer.base)


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The model as it was before the adapter, while the block lasts: the reference model of DPO and GRPO, for free.

    Raises ValueError for a merged model, whose weights are not those any more.
    """
    layers = lora_layers(model).values()
    if any(layer.merged for layer in layers):
        raise ValueError("The adapter is merged into the weights: unmerge it first.")
    before = [layer.scaling for layer in layers]
    try:
        for layer in layers:
            layer.scaling = 0.0
        yield
    finally:
        for layer, scaling in zip(layers, before):
            layer.scaling = scaling


def trained_parameters(model: nn.Module) -> dict[str, int]:
    """Name -> number of values of what training would change."""
    return {name: weight.numel() for name, weight in model.named_parameters() if weight.requires_grad}


# Its file


def save_lora(model: nn.Module, path: str | Path) -> int:
    """Write A and B of all layers, with their scaling, as safetensors; the size of the file in bytes.

    Raises ValueError for a model without LoRA layers, or with merged ones: loaded again it would be changed twice.
    """
    layers = lora_layers(model)
    if not layers or any(layer.merged for layer in layers.values()):
        raise ValueError("The adapter is merged: unmerge it first." if layers else "This model has no LoRA layers to save.")
    tensors = {f"{name}.{part}": getattr(layer, part).detach() for name, layer in layers.items() for part in "AB"}
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.unfinished")
    try:
        save_file(tensors, unfinished, metadata={name: repr(layer.scaling) for name, layer in layers.items()})
        unfinished.replace(path)
    finally:
        remove(unfinished)
    return path.stat().st_size


def load_lora(model: nn.Module, path: str | Path) -> list[str]:
    """Put the adapter of a file into a model, in the place of one that is there; the names of its layers.

    Raises ValueError, with the model as it was, where the file is none or does not fit the model.
    """
    try:
        with safe_open(path, "pt") as file:
            scalings, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no adapter that can be read ({str(error).splitlines()[0]}).") from None
    parts, merged = dict(model.named_modules()), any(layer.merged for layer in lora_layers(model).values())
    if merged or not scalings or len(tensors) != 2 * len(scalings):
        reason = "The model has a merged adapter: unmerge it first." if merged else f"{path} was not written by save_lora."
        raise ValueError(reason)
    bases = {name: part.base if isinstance(part := parts.get(name), LoraLinear) else part for name in scalings}
    for name, base in bases.items():
        _check_fits(base, tensors.get(f"{name}.A"), tensors.get(f"{name}.B"), f"{path}, {name}")
    take_out(model)
    model.requires_grad_(False)
    for name, base in bases.items():
        layer = LoraLinear(base, len(tensors[f"{name}.A"]), alpha=1.0)
        layer.A.data.copy_(tensors[f"{name}.A"]), layer.B.data.copy_(tensors[f"{name}.B"])
        layer.scaling = float(scalings[name])
        model.set_submodule(name, layer)
    return list(lora_layers(model))


def _check_fits(base, a: torch.Tensor | None, b: torch.Tensor | None, where: str) -> None:
    """Raise ValueError where A and B are not those of this layer."""
    if not isinstance(base, nn.Linear) or a is None or b is None:
        raise ValueError(f"{where}: the model has no such linear layer, or the file holds a part of it only.")
    if a.shape != (len(a), base.in_features) or b.shape != (base.out_features, len(a)):
        raise ValueError(
            f"{where}: A {tuple(a.shape)} and B {tuple(b.shape)} do not fit a layer of {base.out_features} × "
            f"{base.in_features}: the adapter is another model's."
        )
