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
def quick_log_probs() -> Iterator[None]:
    """Within it, TRL's trainers get their log-probabilities from `LogProbs`, on a CPU: same loss, less time and memory.

    TRL's own function for them works on tiles of 4,096 tokens × 32,768 words, with a dozen copies of each where there is
    no GPU, and multiplies in float32 on the way back. Nothing happens with a TRL that has no such function.
    """
    from trl.trainer import utils

    own = getattr(utils, "_ChunkedLogProbFunction", None)
    if own is None:
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
    """log p(target) of each token, from hidden states and the vocabulary's matrix, without keeping the logits.

    hidden (N, H), weight (V, H), targets (N,) -> log-probabilities (N,) in nats, entropies (N,) in nats (logged, no
    gradient through them), whether the target is the likeliest word (N,).

    A tile of tokens at a time, each with the whole vocabulary; on the way back its logits are computed again. With
    z = hidden @ weight.T / temperature and p = softmax(z), d log p_target / d z_j = 1[j = target] - p_j. Matrices are
    multiplied in autocast's precision where autocast is on, as in every other layer; softmax and sums are float32.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets, temperature, with_entropy):
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else hidden.dtype
        matrix, states, count = weight.to(dtype), hidden.to(dtype), len(hidden)
        chosen, total = torch.empty(count), torch.empty(count)
        entropy, best = torch.zeros(count), torch.empty(count, dtype=torch.bool)
        for part in _tiles(count, len(weight)):
            z = torch.mm(states[part], matrix.t()).float()
            z = z.div_(temperature) if temperature != 1 else z
            chosen[part] = z.gather(1, targets[part, None])[:, 0]
            top, place = z.max(-1)
            best[part] = place == targets[part]
            if with_entropy:
                p = (z - top[:, None]).exp_()
                sums = p.sum(-1)
                total[part] = top + sums.log()
                entropy[part] = total[part] - p.mul_(z).sum(-1) / sums
            else:
                total[part] = top + z.sub_(top[:, None]).exp_().sum(-1).log()
        ctx.save_for_backward(hidden, weight, targets, total)
        ctx.dtype, ctx.temperature = dtype, temperature
        ctx.mark_non_differentiable(entropy, best)
        return chosen - total, entropy, best

    @staticmethod
    def backward(ctx, grad, *_):
        hidden, weight, targets, total = ctx.saved_tensors
        matrix, states = weight.to(ctx.dtype), hidden.to(ctx.dtype)
        to_hidden = torch.empty(hidden.shape, dtype=ctx.dtype)
        to_weight = torch.zeros_like(weight, dtype=torch.float32)
        scale = grad.float() / ctx.temperature
        for part in _tiles(len(hidden), len(weight)):
            z = torch.mm(states[part], matrix.t()).float()
            z = z.div_(ctx.temperature) if ctx.temperature != 1 else z
            slope = z.sub_(total[part, None]).exp_().mul_(-scale[part, None])
            slope.scatter_add_(1, targets[part, None], scale[part, None])
            slope = slope.to(ctx.dtype)
            torch.mm(slope, matrix, out=to_hidden[part])
            # Each tile's product is rounded to ctx.dtype and added in float32, as a step's small batches are.
            if ctx.dtype == torch.float32:
                to_weight.addmm_(slope.t(), states[part])
            else:
                to_weight += torch.mm(slope.t(), states[part])
        return to_hidden.to(hidden.dtype), to_weight.to(weight.dtype), None, None, None


def _tiles(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` tokens, each with at most TILE_BYTES of float32 logits, of like size."""
    most = max(1, TILE_BYTES // (4 * width))
    size = math.ceil(count / math.ceil(count / most)) if count else 1
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
