"""Training real shapes faster on a CPU: the same rows and the same loss in each step, in less time.

`quick_sft_settings` gives the trainer's settings, `quick_log_probs` a faster last layer for TRL's trainers. What was
measured, and against what: `factory/reference_speed.py` and `data/recorded/reference_speed.json`.
Left out on purpose: torch.compile (it starts for half a minute), packing (TRL needs FlashAttention for it, which is for
GPUs), and anything on a GPU, where TRL has kernels of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import torch

from helper.algorithms.responses import PAD_TO
from helper.models import bf16_is_fast

TILE_BYTES = 2**25  # of float32 logits at a time: few enough for the allocator to use the same memory again
KEPT_BYTES = 2**28  # of logits kept for the way back: 2,700 tokens of 49,152 words in bf16


def quick_sft_settings(rows_per_step: int = 8, most_rows: int = 8) -> dict:
    """Arguments for `SFTConfig` that make the same optimiser steps in less time on a CPU.

    bf16 where it is fast (weights, gradients and moments stay float32), as many of a step's rows together as
    `most_rows` allows (memory grows with it: see `training_cost`), nothing computed twice. TRL's loss is the mean over
    the step's tokens however the rows are split (`num_items_in_batch`), so it stays what it was.

    >>> SFTConfig(output_dir=..., use_cpu=True, learning_rate=8e-5, **quick_sft_settings())
    """
    for name, value in (("rows_per_step", rows_per_step), ("most_rows", most_rows)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r:.40}: give a whole number from 1.")
    together = next(size for size in range(min(rows_per_step, most_rows), 0, -1) if rows_per_step % size == 0)
    return {
        "per_device_train_batch_size": together,
        "gradient_accumulation_steps": rows_per_step // together,
        "bf16": bf16_is_fast(),
        "activation_checkpointing": False,
        "pad_to_multiple_of": PAD_TO,
    }


def keep_freed_memory() -> bool:
    """Let this process keep the memory of freed tensors for the next ones; whether it could be set.

    On Linux the C library gives every freed block above some MB back to the system, which must then fill it with zeros
    page by page when the next step wants it again: in a step of a 135M model with 8 rows that took a quarter of the time
    (man 3 mallopt: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD). What the process has taken it keeps to its end; the peak is as
    before, within a few percent. Elsewhere nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(-3, 2**30) and mallopt(-1, 2**31 - 1))


@contextlib.contextmanager
def quick_log_probs(wanted: bool = True) -> Iterator[None]:
    """Within it, TRL's trainers get their log-probabilities from `LogProbs`, on a CPU: same loss, less time and memory.

    TRL's own function for them works on tiles of 4,096 tokens × 32,768 words, with a dozen copies of each where there is
    no GPU, and multiplies in float32 on the way back. Nothing happens with a TRL that has no such function, or where it is
    not `wanted`.
    """
    from trl.trainer import utils

    own = getattr(utils, "_ChunkedLogProbFunction", None)
    if own is None or not wanted:
        yield
        return

    def apply(hidden, weight, bias, targets, temperature, chunk_size, softcap=None, scale=1.0, outputs=()):
        plain = bias is None and softcap is None and scale == 1.0 and temperature > 0
        if plain and hidden.device.type == "cpu" and set(outputs) <= {"log_probs", "entropy", "is_top1"}:
            log_probs, entropy, best = LogProbs.apply(hidden, weight, targets, temperature, "entropy" in outputs)
            return log_probs, entropy if "entropy" in outputs else None, None, None, best
        return own.apply(hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs)

    utils._ChunkedLogProbFunction = SimpleNamespace(apply=apply)
    try:
        yield
    finally:
        utils._ChunkedLogProbFunction = own


class LogProbs(torch.autograd.Function):
    """log p(target) of each token, from hidden states and the vocabulary's matrix.

    hidden (N, H), weight (V, H), targets (N,) -> log-probabilities (N,) in nats, entropies (N,) in nats (logged, no
    gradient through them), whether the target is the likeliest word (N,).

    With z = hidden @ weight.T / temperature and p = softmax(z), d log p_target / d z_j = 1[j = target] - p_j. Matrices
    are multiplied in autocast's precision where autocast is on, as in every other layer; softmax and sums are float32, a
    tile of tokens at a time. For the way back the products z are kept as they are (in bf16 N x V x 2 bytes) up to
    KEPT_BYTES; beyond that they are computed again, a block of tokens at a time.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, with_entropy):
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        matrix, states, count = weight.to(dtype), hidden.to(dtype), len(hidden)
        chosen, total = torch.empty(count), torch.empty(count)
        entropy, best = torch.zeros(count), torch.empty(count, dtype=torch.bool)
        blocks = _parts(count, len(weight) * matrix.element_size(), KEPT_BYTES)
        for block in blocks:
            products = torch.mm(states[block], matrix.t())
            for part in _parts(len(products), len(weight) * 4, TILE_BYTES):
                at = slice(block.start + part.start, block.start + part.stop)
                z = _scaled(products[part], temperature)
                chosen[at] = z.gather(1, targets[at, None])[:, 0]
                top, place = z.max(-1)
                best[at] = place == targets[at]
                if with_entropy:
                    p = (z - top[:, None]).exp_()
                    sums = p.sum(-1)
                    total[at] = top + sums.log()
                    entropy[at] = total[at] - p.mul_(z).sum(-1) / sums
                else:
                    total[at] = top + z.sub_(top[:, None]).exp_().sum(-1).log()
        ctx.save_for_backward(hidden, weight, targets, total)
        ctx.dtype, ctx.temperature, ctx.blocks = dtype, temperature, blocks
        ctx.products = products if len(blocks) == 1 and any(ctx.needs_input_grad) else None
        ctx.mark_non_differentiable(entropy, best)
        return chosen - total, entropy, best

    @staticmethod
    def backward(ctx, grad, *_):
        hidden, weight, targets, total = ctx.saved_tensors
        matrix, states = weight.to(ctx.dtype), hidden.to(ctx.dtype)
        to_hidden = torch.empty(hidden.shape, dtype=ctx.dtype)
        to_weight = None
        scale = grad.float() / ctx.temperature
        kept, ctx.products = ctx.products, None  # written over below: a second way back computes them again
        for block in ctx.blocks:
            slopes = torch.mm(states[block], matrix.t()) if kept is None else kept
            for part in _parts(len(slopes), len(weight) * 4, TILE_BYTES):
                at = slice(block.start + part.start, block.start + part.stop)
                p = _scaled(slopes[part], ctx.temperature).sub_(total[at, None]).exp_()
                slopes[part] = p.mul_(-scale[at, None]).scatter_add_(1, targets[at, None], scale[at, None])
            torch.mm(slopes, matrix, out=to_hidden[block])
            if ctx.needs_input_grad[1]:
                # Each block's product is rounded to ctx.dtype and added in float32, as a step's small batches are.
                product = torch.mm(slopes.t(), states[block]).float()
                to_weight = product if to_weight is None else to_weight.add_(product)
        return to_hidden.to(hidden.dtype), to_weight if to_weight is None else to_weight.to(weight.dtype), None, None, None


def _scaled(products, temperature: float) -> torch.Tensor:
    """A float32 copy of the products, divided by the temperature."""
    z = products.to(torch.float32, copy=True)
    return z.div_(temperature) if temperature != 1 else z


def _parts(count: int, bytes_each: int, most_bytes: int) -> list[slice]:
    """Slices of `count` tokens, each of at most `most_bytes`, of like size."""
    most = max(1, most_bytes // bytes_each)
    size = math.ceil(count / math.ceil(count / most)) if count else 1
    return [slice(start, min(start + size, count)) for start in range(0, count, size)] or [slice(0, 0)]
