"""Log-probabilities for TRL's losses on a CPU: the same values in less time and memory.

What was measured, and against what: `data/recorded/reference_speed.json`.
Left out on purpose: anything on a GPU, where TRL has kernels of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext

import torch

from helper.library import LibraryChanged, chunked_log_probs, losses_without_masked_positions

TILE_BYTES = 2**25  # of float32 logits at a time: few enough for the allocator to use the same memory again
KEPT_BYTES = 2**28  # of logits kept for the way back: 2,700 tokens of 49,152 words in bf16


@contextmanager
def quick_log_probs(wanted: bool = True) -> Iterator[None]:
    """Within it, TRL's trainers get their log-probabilities from `LogProbs`, on a CPU: same loss, less time and memory.

    TRL's own function for them works on tiles of 4,096 tokens × 32,768 words, with a dozen copies of each where there is
    no GPU, and multiplies in float32 on the way back. Where the installed TRL has no such function, or it is not `wanted`,
    nothing changes; the first is said.
    """
    with _patched(chunked_log_probs(_ours_on_a_cpu) if wanted else nullcontext()):
        yield


def _ours_on_a_cpu(own: Callable) -> Callable:
    """A function with the arguments of TRL's `own`, which it still calls for what LogProbs cannot do."""

    def apply(hidden, weight, bias, targets, temperature, chunk_size, softcap=None, scale=1.0, outputs=()):
        plain = bias is None and softcap is None and scale == 1.0 and temperature > 0
        if plain and hidden.device.type == "cpu" and set(outputs) <= {"log_probs", "entropy", "is_top1"}:
            log_probs, entropy, best = LogProbs.apply(hidden, weight, targets, temperature, "entropy" in outputs)
            return log_probs, entropy if "entropy" in outputs else None, None, None, best
        return own(hidden, weight, bias, targets, temperature, chunk_size, softcap, scale, outputs)

    return apply


@contextmanager
def skip_masked_positions() -> Iterator[None]:
    """Within it, TRL's losses leave out, on a CPU as on a GPU, the positions that do not count.

    TRL multiplies the hidden states by the vocabulary's matrix to get log-probabilities. On a GPU it does so for the
    completion's tokens, elsewhere for the prompt's and the padding's too, and masks those afterwards
    (`add_fused_lm_head` in trl/trainer/utils.py). The loss is the same; a step of Sprout takes about 30% less time and
    less memory. Where the installed TRL does not ask, nothing changes, and that is said.

    >>> with skip_masked_positions():
    ...     trainer.train()
    """
    with _patched(losses_without_masked_positions()):
        yield


@contextmanager
def _patched(patch) -> Iterator[None]:
    """The patch while the block lasts; where the library has changed, its message is printed and the block runs plain."""
    with ExitStack() as stack:
        try:
            stack.enter_context(patch)
        except LibraryChanged as changed:
            print(changed, flush=True)
        yield


class LogProbs(torch.autograd.Function):
    """log p(target) of each token, from hidden states and the vocabulary's matrix.

    hidden (N, H), weight (V, H), targets (N,) -> log-probabilities (N,) in nats, entropies (N,) in nats, whether the
    target is the likeliest word (N,).

    With z = hidden @ weight.T / temperature, p = softmax(z) and H the entropy, d log p_target / d z_j = 1[j = target] - p_j
    and d H / d z_j = -p_j (log p_j + H); the second is computed only where the loss reads H. Matrices are multiplied in
    autocast's precision where autocast is on, as in every other layer; softmax and sums are float32, a tile of tokens at a
    time. For the way back the products z are kept as they are (in bf16 N x V x 2 bytes) up to KEPT_BYTES; beyond that they
    are computed again, a block of tokens at a time.
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
        ctx.save_for_backward(hidden, weight, targets, total, entropy)
        ctx.dtype, ctx.temperature, ctx.blocks = dtype, temperature, blocks
        ctx.products = products if len(blocks) == 1 and any(ctx.needs_input_grad) else None
        ctx.mark_non_differentiable(*((best,) if with_entropy else (entropy, best)))
        ctx.set_materialize_grads(False)  # None for what the loss does not read: mostly the entropy, which is only logged
        return chosen - total, entropy, best

    @staticmethod
    def backward(ctx, grad, grad_entropy, _):
        hidden, weight, targets, total, entropy = ctx.saved_tensors
        matrix, states = weight.to(ctx.dtype), hidden.to(ctx.dtype)
        to_hidden = torch.empty(hidden.shape, dtype=ctx.dtype)
        to_weight = None
        scale = (torch.zeros_like(total) if grad is None else grad.float()) / ctx.temperature
        bonus = None if grad_entropy is None else grad_entropy.float() / ctx.temperature
        kept, ctx.products = ctx.products, None  # written over below: a second way back computes them again
        for block in ctx.blocks:
            slopes = torch.mm(states[block], matrix.t()) if kept is None else kept
            for part in _parts(len(slopes), len(weight) * 4, TILE_BYTES):
                at = slice(block.start + part.start, block.start + part.stop)
                log_p = _scaled(slopes[part], ctx.temperature).sub_(total[at, None])
                factor = -scale[at, None]
                if bonus is not None:
                    factor = factor - bonus[at, None] * (log_p + entropy[at, None])
                slopes[part] = log_p.exp_().mul_(factor).scatter_add_(1, targets[at, None], scale[at, None])
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
