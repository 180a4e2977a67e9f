"""NF4 of one matrix by hand: 4 bits a weight, as in QLoRA (Dettmers et al. 2023, arXiv 2305.14314, section 3).

A weight is divided by the largest absolute value of its block of 64 and rounded to the nearest of 16 levels. The levels
are quantiles of a normal distribution, as trained weights nearly are one. `tests/test_nf4.py` holds bytes and values
against bitsandbytes where it is installed, and against a slow loop everywhere.
Left out on purpose: the second quantisation of the blocks' largest values (0.37 bits a weight less), layers that compute
with 4-bit weights (bitsandbytes has them).
"""

from dataclasses import dataclass

import torch

BLOCK = 64  # weights that share one scale
NF4_LEVELS = torch.tensor([  # the paper's appendix E
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
])  # fmt: skip
EVEN_LEVELS = torch.linspace(-1, 1, 16)  # what NF4 is compared with: the same bits, evenly spread


@dataclass
class Quantised:
    """A matrix in 4 bits: `packed` (⌈N/2⌉,) uint8, two weights a byte; `largest` (blocks,), in float32; its `shape`."""

    packed: torch.Tensor
    largest: torch.Tensor
    shape: torch.Size
    levels: torch.Tensor
    block: int

    @property
    def bytes(self) -> int:
        return self.packed.numel() + 4 * self.largest.numel()


def quantise(weight: torch.Tensor, levels: torch.Tensor = NF4_LEVELS, block: int = BLOCK) -> Quantised:
    """Each weight as the number of the level nearest to weight / largest of its block; any shape, N weights.

    `levels`: 16 values from -1 to 1, rising. Raises ValueError for others, for an empty matrix, and for nan and inf.
    """
    if len(levels) != 16 or not (levels.diff() > 0).all():
        raise ValueError("Give 16 levels, from the lowest to the highest: 4 bits tell so many apart.")
    if not weight.numel() or not weight.isfinite().all():
        raise ValueError("A matrix to be quantised has weights, and all of them are finite numbers.")
    blocks = in_blocks(weight.detach().float(), block)
    largest = blocks.abs().amax(1)
    scaled = blocks / largest.clamp(min=torch.finfo(torch.float32).tiny)[:, None]  # a block of zeros stays one
    halfway = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(scaled, halfway.to(weight.device)).flatten()[: weight.numel()]
    return Quantised(packed(codes.to(torch.uint8)), largest, weight.shape, levels, block)


def dequantise(quantised: Quantised) -> torch.Tensor:
    """The weights that are left, in float32: level × the largest of the block, in the matrix's shape."""
    number = quantised.shape.numel()
    levels = quantised.levels.to(quantised.packed.device)
    values = in_blocks(levels[unpacked(quantised.packed, number).long()], quantised.block)
    return (values * quantised.largest[:, None]).flatten()[:number].view(quantised.shape)


def relative_error(weight: torch.Tensor, levels: torch.Tensor = NF4_LEVELS, block: int = BLOCK) -> float:
    """What 4 bits lose: the root of the mean squared error, as a share of the root of the mean squared weight."""
    left = dequantise(quantise(weight, levels, block))
    return ((left - weight).norm() / weight.norm()).item()


def normal_levels() -> torch.Tensor:
    """The 16 levels from their definition: quantiles of N(0, 1), 8 above 0 and 7 below, and 0, divided by the largest.

    Both sides go as far as 1 - (1/32 + 1/30) / 2, so that no level is at infinity (section 3, and the authors' code).
    """
    furthest = 1 - (1 / 32 + 1 / 30) / 2
    above, below = (
        torch.special.ndtri(torch.linspace(furthest, 0.5, number, dtype=torch.float64))[:-1] for number in (9, 8)
    )
    levels = torch.cat([-below, torch.zeros(1), above]).sort().values
    return (levels / levels.max()).float()


def in_blocks(values: torch.Tensor, block: int) -> torch.Tensor:
    """Values of any shape, row after row, as (blocks, block); the last block is filled up with zeros."""
    flat = values.flatten()
    return torch.nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)


def packed(codes: torch.Tensor) -> torch.Tensor:
    """Numbers below 16, (N,) -> two in a byte, (⌈N/2⌉,): the first in the upper four bits."""
    pairs = torch.nn.functional.pad(codes, (0, len(codes) % 2)).view(-1, 2)
    return pairs[:, 0] << 4 | pairs[:, 1]


def unpacked(packed: torch.Tensor, number: int) -> torch.Tensor:
    """The `number` values that `packed` holds."""
    return torch.stack([packed >> 4, packed & 15], 1).flatten()[:number]
