"""A model to generate with while another thread trains it: modules of its own, the same weights.

What generating sets (eval mode, the attention, a forward pass without a trainer's wrapper) is set on the copy, so the model
that trains sees nothing of it. It is made anew for each call (Sprout: 1 ms), so it never holds weights that were replaced.
Left out on purpose: a copy of the weights. While they are trained, an answer is that of weights which change under it.
"""

from contextlib import suppress
from copy import deepcopy
from types import MethodType

from torch import nn
from transformers import PretrainedConfig

from helper.library import attention_of


def sharing_copy(model: nn.Module, weights: dict[int, nn.Parameter] | None = None) -> nn.Module:
    """The model's modules once more, in eval mode, around the same parameters and buffers.

    `weights`: id of a parameter -> the one to have in its place. Configs are copied too: the attention is chosen in them.
    """
    parts = {id(module): object.__new__(type(module)) for module in model.modules()}
    configs: dict[int, PretrainedConfig] = {}
    for module in model.modules():
        own = {name: _own(value, parts, weights or {}, configs) for name, value in vars(module).copy().items()}
        if isinstance(own.get("forward"), MethodType):  # a trainer's autocast, around the model that trains
            del own["forward"]
        vars(parts[id(module)]).update(own)
    return parts[id(model)].eval()


def _own(value, parts: dict[int, nn.Module], weights: dict[int, nn.Parameter], configs: dict):
    """What the copy of a module has in the place of one of its attributes."""
    if isinstance(value, dict):  # of parameters, parts, hooks, …
        owned = value.copy()
        for name, inner in value.copy().items():
            owned[name] = _own(inner, parts, weights, configs)
        return owned
    if isinstance(value, nn.Module):
        return parts.get(id(value), value)
    if isinstance(value, nn.Parameter):
        return weights.get(id(value), value)
    if isinstance(value, PretrainedConfig):
        return deepcopy(value, configs)  # the parts share one, so the copies do
    if isinstance(value, MethodType) and id(value.__self__) in parts:
        return MethodType(value.__func__, parts[id(value.__self__)])
    return value


def use_fused_attention(model: nn.Module) -> None:
    """PyTorch's fused attention where the model has "eager" and knows the other: a fifth faster at generating."""
    if attention_of(model) == "eager":
        with suppress(ValueError, ImportError):  # families that have no other, such as GPT-OSS
            model.set_attn_implementation("sdpa")
