"""Checks of lesson 07: memory, the forward pass of LoRA, claims, adapters added up, 4 bits, the best rank, a budget.

Matrices are (out, in) as in PyTorch; A is (rank, in), B (out, rank).
Left out on purpose: training. What the matrices do can be checked on small ones, exactly.
"""

import math

import torch
from torch.overrides import TorchFunctionMode

from helper.exercises.checking import (
    Wrong,
    a_kind,
    as_number,
    as_table,
    as_vector,
    call,
    call_all,
    exercise,
    judge,
    judge_claims,
    show,
)


def _normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# 1. Memory


def _training_bytes(frozen: float, trained: float, bits: int = 32, how: str = "") -> float:
    stored = {"bits": bits, "always 32": 4.0, "frozen too": 16.0}.get(how, bits / 8)
    each = {"no value": 12.0, "one average": 12.0, "no averages": 8.0, "value only": 4.0, "in bits": 2 * bits}.get(how, 16.0)
    return frozen * stored + (0.0 if how == "no trained" else trained * each)


MEMORY_MISTAKES = {
    "bits": "The frozen weights are counted in bits. Eight bits make a byte.",
    "always 32": "You took 4 bytes for every frozen weight; it has `bits` bits, 8 of which make a byte.",
    "frozen too": "The frozen weights get 16 bytes, too. They have no gradient and no averages: that is the saving.",
    "no value": "12 bytes per trained number: value, gradient and Adam's *two* averages are four numbers of 4 bytes.",
    "no averages": "8 bytes per trained number: Adam's two averages are missing, 4 bytes each.",
    "value only": "4 bytes per trained number is its value alone. It has a gradient, and two averages of Adam's.",
    "in bits": "The trained numbers are in float32 whatever the frozen weights are in: 16 bytes for each.",
    "no trained": "What is trained is missing: value, gradient and two averages, 4 bytes each.",
}


@exercise
def check_training_bytes(function) -> str:
    """Does `function(frozen, trained, bits)` count the bytes of weights, gradients and Adam's averages?"""
    cases = {
        "nothing frozen, 1,000 trained": (0, 1_000, 32),
        "8 billion frozen in 16 bits, 40 million trained": (8e9, 40e6, 16),
        "8 billion frozen in 4 bits, 40 million trained": (8e9, 40e6, 4),
        "100 frozen in 8 bits, 7 trained": (100, 7, 8),
    }
    mistakes = {
        message: lambda frozen, trained, bits, how=how: _training_bytes(frozen, trained, bits, how)
        for how, message in MEMORY_MISTAKES.items()
    }
    judge(function, cases, _training_bytes, mistakes, as_number)
    sizes = [_training_bytes(*case) / 1e9 for case in ((0, 8e9), (8e9, 40e6, 16), (8e9, 40e6, 4))]
    return "8 billion weights: {:.0f} GB in full, {:.1f} GB with LoRA beside 16 bits, {:.1f} GB beside 4.".format(*sizes)


# 2. The forward pass


def _lora_forward(x, W, A, B, alpha, how: str = "") -> list[list[float]]:
    rank = len(A)
    scale = {"no scale": 1.0, "alpha": alpha, "root": alpha / math.sqrt(rank), "by in": alpha / A.shape[1]}.get(
        how, alpha / rank
    )
    change = scale * (x @ A.T @ B.T)
    base = {"no base": 0 * change, "scaled base": scale * (x @ W.T)}.get(how, x @ W.T)
    if how == "W not turned":
        base = x @ W if W.shape[0] == W.shape[1] else base
    return (base - change if how == "minus" else base + change).tolist()


FORWARD_MISTAKES = {
    "no scale": "The scale is missing: B A x times α / r.",
    "alpha": "You scale by α. It is α / r, with the rank r: the number of A's rows.",
    "root": "You scale by α / √r. That is rank-stabilised LoRA; plain LoRA divides by r.",
    "by in": "You divide α by the width of A's rows. The rank is the number of its rows.",
    "no base": "W x is missing: the adapter stands beside the frozen layer, and does not replace it.",
    "scaled base": "The scale stands before W x as well. It belongs to B A x alone.",
    "W not turned": "x @ W: with rows as inputs it is x @ W.T.",
    "minus": "The change is subtracted. It is added.",
}


@exercise
def check_lora_forward(function) -> str:
    """Does `function(x, W, A, B, alpha)` give W x + α / r · B A x for each row of x?"""
    cases = {}
    for seed, (rows, wide, tall, rank, alpha) in enumerate([(3, 4, 4, 2, 6.0), (2, 5, 3, 1, 2.0), (4, 6, 6, 3, 3.0)]):
        shapes = ((rows, wide), (tall, wide), (rank, wide), (tall, rank))
        parts = [_normal(*shape, seed=10 * seed + place) for place, shape in enumerate(shapes)]
        cases[f"x {rows} × {wide}, W {tall} × {wide}, rank {rank}, α = {alpha:g}"] = (*parts, alpha)
    mistakes = {
        message: lambda x, W, A, B, alpha, how=how: _lora_forward(x, W, A, B, alpha, how)
        for how, message in FORWARD_MISTAKES.items()
    }
    judge(function, cases, _lora_forward, mistakes, _as_plain_table)
    parts = [_normal(*shape, seed=40 + place) for place, shape in enumerate(((2, 9), (7, 9), (1, 9), (7, 1)))]
    with _Seen(parts[1]) as seen:
        call(function, "x 2 × 9, W 7 × 9, rank 1, α = 2", (*parts, 2.0))
    if seen.another:
        raise Wrong("The numbers are right, but a matrix of W's shape is built on the way: go from x to A, and then to B.")
    return "From the right, x @ A.T @ B.T: a product with r columns in the middle, and never a whole ΔW."


class _Seen(TorchFunctionMode):
    """Whether a call of torch gave a matrix of W's shape, or of W.T's, that is not W. NumPy's calls are not seen."""

    def __init__(self, W: torch.Tensor):
        super().__init__()
        self.W, self.another = W, False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.shape in (self.W.shape, self.W.T.shape):
            own = self.W if result.shape == self.W.shape else self.W.T
            self.another |= not torch.allclose(result.detach().float(), own)
        return result


def _as_plain_table(value, wanted, case):
    """As `as_table`; a tensor may carry a gradient."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        value = value.detach()
    return as_table(value, wanted, case)


# 3. Claims

CLAIMS = [  # for each claim of the exercise whether it is true, and why
    (True, "B is 0, so B A is 0, whatever A is"),
    (False, "the gradient of A is Bᵀ times something, and B is 0 in the first step"),
    (False, "then both gradients are 0 for ever: each is a product with the other matrix"),
    (True, "the frozen weights are the model before training, and nothing has touched them"),
    (False, "4-bit levels are far apart, and each weight is rounded to one again after the merge"),
    (False, "the frozen weights are still there; gradients and Adam's averages are what is saved"),
]


@exercise
def check_claims(claims: dict) -> str:
    """Is each claim marked True or False as it should be? Says why not."""
    judge_claims(claims, CLAIMS)
    return "Two zeros would be one too many: A random and B = 0 starts from the model, and can leave it."


# 4. Adapters added up


def _combined(adapters, weights, how: str = "") -> list[list[float]]:
    total = 0.0
    for (A, B, scale), weight in zip(adapters, weights, strict=True):
        weight = {"no weights": 1.0, "square": weight**2, "normalised": weight / sum(weights)}.get(how, weight)
        total = total + weight * (1.0 if how == "no scale" else scale) * (B @ A)
    if how == "apart":
        first = sum(math.sqrt(weight * scale) * A for (A, _, scale), weight in zip(adapters, weights, strict=True))
        second = sum(math.sqrt(weight * scale) * B for (_, B, scale), weight in zip(adapters, weights, strict=True))
        total = second @ first
    if how == "apart, plain":
        first = sum(A for A, _, _ in adapters)
        total = sum(weight * scale * B for (_, B, scale), weight in zip(adapters, weights, strict=True)) @ first
    return (total / len(adapters) if how == "mean" else total).tolist()


COMBINED_MISTAKES = {
    "no weights": "The weights do nothing. Each change counts `weight` times.",
    "square": "The weight counts twice, once in A and once in B. Put it into one of them, or its root into both.",
    "normalised": "You divided the weights by their sum. A sum was asked for: weights of 1 and 1 add both in full.",
    "no scale": "The adapters' own scale (α / r) is missing.",
    "apart": "You added the A's and the B's, and multiplied then: every B now meets every A, also another adapter's.",
    "apart, plain": "You added the A's, and the weighted B's: in their product every B now meets every A, its own or not.",
    "mean": "You took the mean. A sum was asked for: weights of 1 and 1 add both in full.",
}


@exercise
def check_combined_change(function) -> str:
    """Does `function(adapters, weights)` give the sum of weight · scale · B A?"""
    adapters = [(_normal(2, 5, seed=i), _normal(4, 2, seed=50 + i), scale) for i, scale in enumerate((2.0, 0.5, 1.5))]
    cases = {
        "two adapters, weights 1 and 1": (adapters[:2], [1.0, 1.0]),
        "three adapters, weights 1, 0.5 and 2": (adapters, [1.0, 0.5, 2.0]),
        "two adapters, weights 0.25 and 1.5": (adapters[1:], [0.25, 1.5]),
    }
    mistakes = {
        message: lambda adapters, weights, how=how: _combined(adapters, weights, how)
        for how, message in COMBINED_MISTAKES.items()
    }
    judge(function, cases, _combined, mistakes, _as_plain_table)
    return "It has rank 2 for each adapter in it: peft keeps it as one adapter of the ranks' sum (combination_type='cat')."


# 5. Four bits


def _round_trip(weights, levels, block, how: str = "") -> list[float]:
    left = []
    size = len(weights) if how == "one scale" else block
    for start in range(0, len(weights), size):
        part = weights[start : start + size]
        scale = {"no abs": part.max(), "mean": part.abs().mean()}.get(how, part.abs().max())
        scaled = part / scale
        apart = (scaled[:, None] - levels[None]).abs()
        if how == "down":
            apart = torch.where(levels[None] <= scaled[:, None] + 1e-6, apart, apart + 9.0)
        nearest = levels[apart.argmin(1)]
        left += (nearest if how == "not back" else nearest * scale).tolist()
    return left


ROUND_MISTAKES = {
    "no abs": "The scale is the largest *absolute* value of the block: a block's farthest weight may be negative.",
    "one scale": "You took one scale for all weights. Each block has its own.",
    "mean": "You divided by the mean absolute value. By the largest one: then the levels reach from -1 to 1.",
    "down": "You took the next level below. The nearest one may lie above.",
    "not back": "These are the levels. Multiply by the block's scale again to get weights.",
}


@exercise
def check_round_trip(function) -> str:
    """Does `function(weights, levels, block)` give what is left of the weights in 4 bits?"""
    levels = torch.tensor([-1.0, -0.6, -0.3, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0])
    large = _normal(8, seed=3)
    large[2] = -4.0  # the farthest one is negative
    cases = {
        "8 weights, one block": (large, levels, 8),
        "12 weights, blocks of 4": (0.1 * _normal(12, seed=4), levels, 4),
        "32 weights, blocks of 16": (_normal(32, seed=5) * torch.arange(1, 33), levels, 16),
    }
    mistakes = {
        message: lambda weights, levels, block, how=how: _round_trip(weights, levels, block, how)
        for how, message in ROUND_MISTAKES.items()
    }
    judge(function, cases, _round_trip, mistakes, as_vector)
    return "Blocks are small because one large weight makes the steps of its whole block coarse."


# 6. The best rank


BEST = "the product misses W by {:.3f} (the root of the sum of squares); the best of this rank misses it by {:.3f}."


@exercise
def check_best_of_rank(function) -> str:
    """Does `function(W, rank)` return (B, A) whose product is the nearest of that rank?"""
    cases = {
        "6 × 4, rank 2": (_normal(6, 4, seed=6), 2),
        "5 × 7, rank 1": (_normal(5, 7, seed=7), 1),
        "8 × 8, rank 5": (_normal(8, 8, seed=8), 5),
    }
    for case, value in call_all(function, cases).items():
        W, rank = cases[case]
        B, A = _two_matrices(value, W, rank, case)
        best = torch.linalg.svdvals(W)[rank:].square().sum().sqrt()
        miss = (B @ A - W).norm()
        if not miss.isfinite() or miss > best + 1e-3:
            raise Wrong(f"{case}: {_why_far(B @ A, W, rank)}{BEST.format(miss, best)}")
    return "This is the bound for every LoRA of that rank: no training can come nearer to a given change."


def _two_matrices(value, W: torch.Tensor, rank: int, case: str) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise Wrong(f"{case}: {show(value)} came back, {a_kind(value)}; the pair (B, A) was wanted.")
    if not all(isinstance(part, torch.Tensor) for part in value):
        raise Wrong(f"{case}: B and A must be tensors; {a_kind(value[0])} and {a_kind(value[1])} came back.")
    B, A = value
    wanted = ((len(W), rank), (rank, W.shape[1]))
    if (tuple(B.shape), tuple(A.shape)) != wanted:
        swapped = " They stand the other way round." if (tuple(A.shape), tuple(B.shape)) == wanted else ""
        found = f"{tuple(B.shape)} and {tuple(A.shape)}"
        raise Wrong(f"{case}: shapes {found} came back; {wanted[0]} and {wanted[1]} were wanted.{swapped}")
    return B.detach().float(), A.detach().float()


def _why_far(product: torch.Tensor, W: torch.Tensor, rank: int) -> str:
    """Which of the usual mistakes gives this product, in words; "" for none of them."""
    U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    end, first = slice(len(S) - rank, None), slice(rank)
    usual = {
        "The singular values are missing: ": U[:, first] @ Vh[first],
        "The singular values count twice; put them into one of the two matrices, or their roots into both: ": (
            U[:, first] * S[first] ** 2 @ Vh[first]
        ),
        "You kept the smallest singular values; they come in falling order: ": U[:, end] * S[end] @ Vh[end],
    }
    if W.shape[0] == W.shape[1]:
        usual["The third matrix of torch.linalg.svd is transposed already: take its first rows: "] = (
            U[:, first] * S[first] @ Vh.T[first]
        )
    return next((words for words, other in usual.items() if torch.allclose(product, other, atol=1e-3)), "")


# 7. A budget


def _captured(spectra, ranks) -> float:
    return sum(value**2 for values, rank in zip(spectra, ranks, strict=True) for value in values[:rank])


def _greedy(spectra, shapes, budget) -> list[int]:
    """The most gain for each number stored, one singular value after another."""
    ranks, left = [0] * len(shapes), budget
    while True:
        gains = {
            i: values[ranks[i]] ** 2 / sum(shapes[i])
            for i, values in enumerate(spectra)
            if ranks[i] < len(values) and sum(shapes[i]) <= left
        }
        if not gains:
            return ranks
        best = max(gains, key=gains.get)
        ranks[best] += 1
        left -= sum(shapes[best])


def budget_cases() -> dict[str, tuple]:
    """What the check tries: singular values of each matrix, their shapes, and how many numbers may be stored."""
    falling = [[10 * 0.6**i for i in range(12)], [3 * 0.95**i for i in range(12)], [6 * 0.8**i for i in range(12)]]
    steep = [[20 / (1 + i) ** 2 for i in range(16)], [8 / (1 + i) for i in range(16)]]
    slow = [[30 * 0.9**i for i in range(12)], [12 * 0.95**i for i in range(12)], [12 * 0.95**i for i in range(12)]]
    return {
        "three matrices of one shape": (falling, [(64, 64)] * 3, 128 * 9),
        "a wide and a narrow one": (steep, [(256, 768), (64, 64)], 4000),
        "six, of three shapes": (falling + steep + falling[:1], [(32, 32), (64, 32), (64, 64)] * 2, 1500),
        "a large one that changes most, and two small ones": (slow, [(1024, 1024), (192, 192), (192, 192)], 9700),
    }


@exercise
def check_spend_ranks(function) -> str:
    """Do the ranks keep within the budget, and 98% of what the greedy choice captures?"""
    cases, shares = budget_cases(), []
    for case, value in call_all(function, cases).items():
        spectra, shapes, budget = cases[case]
        ranks = [
            _as_rank(rank, len(spectra[i]), f"{case}, matrix {i}") for i, rank in enumerate(as_vector(value, shapes, case))
        ]
        stored = sum(rank * sum(shape) for rank, shape in zip(ranks, shapes, strict=True))
        if stored > budget:
            raise Wrong(
                f"{case}: your ranks store {stored} numbers, the budget is {budget}. Rank r of (m, n) stores r (m + n)."
            )
        whole = sum(value**2 for values in spectra for value in values)
        found, best = (_captured(spectra, each) / whole for each in (ranks, _greedy(spectra, shapes, budget)))
        if found < 0.98 * best:
            why = _why_little(ranks, shapes, budget - stored)
            raise Wrong(f"{case}: {why}Ranks {ranks} keep {found:.1%} of the squared change; the careful choice {best:.1%}.")
        shares.append((found, _captured(spectra, _same_rank(spectra, shapes, budget)) / whole))
    ours, same = (sum(column) / len(column) for column in zip(*shares, strict=True))
    return f"On average you keep {ours:.1%} of the squared change, the same rank everywhere {same:.1%}."


def _same_rank(spectra, shapes, budget) -> list[int]:
    rank = budget // sum(map(sum, shapes))
    return [min(rank, len(values)) for values in spectra]


def _as_rank(rank: float, most: int, where: str) -> int:
    if not math.isfinite(rank) or rank != int(rank) or not 0 <= rank <= most:
        raise Wrong(f"{where}: a rank is a whole number from 0 to {most}, not {show(rank)}.")
    return int(rank)


def _why_little(ranks: list[int], shapes: list[tuple], left: int) -> str:
    if len(set(ranks)) == 1 and any(ranks):
        return "The same rank everywhere takes no notice of the singular values. "
    if left >= max(map(sum, shapes)):
        return f"{left} numbers are left over. "
    return "Which further singular value adds most *for each number stored*? "
