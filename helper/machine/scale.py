"""A run on many GPUs before it is started: what each of them holds, floating-point operations, hours and money.

Weights, gradients and AdamW's state in mixed precision as in ZeRO (Rajbhandari et al. 2019, arXiv 1910.02054, section 3.1):
2 + 2 + 12 bytes a weight. Activations, the last layer and caches as in `helper.machine.sizes`. What is known of GPUs is
the makers' (dense bf16 operations a second, bytes of memory a second); the share of it that a run reaches is yours to say.
Left out on purpose: tensor parallelism of the trainer (the sampler's is counted), pipeline and context parallelism,
offloading, the time of communication.
"""

from __future__ import annotations

from typing import NamedTuple

from helper.machine.sizes import (
    activation_bytes,
    cache_bytes,
    count_parameters,
    four_bit_bytes,
    last_layer_bytes,
    lora_parameters,
)

METHODS = ("sft", "dpo", "grpo")
TRAINED = ("full", "lora", "qlora")
SHARDING = ("copied", "zero1", "zero2", "zero3")  # FSDP2 shards as ZeRO-3
ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
DOUBLE_BITS = 4 + 8 / 64 + 32 / (64 * 256)  # a weight: NF4 with double quantisation (Dettmers et al. 2023, arXiv 2305.14314)
OVERHEAD = 1_500_000_000  # the libraries' own on a GPU, and what the allocator does not hand out: a guess
WAITING = 64  # answers that a GPU generates side by side; each step of generation reads all weights once


class Gpu(NamedTuple):
    """Bytes of memory, dense bf16 operations a second, bytes read from its memory a second (the makers' data sheets)."""

    memory: float
    flops: float
    bandwidth: float


GPUS = {
    "RTX 4090, 24 GB": Gpu(24e9, 165e12, 1.01e12),
    "A100, 80 GB": Gpu(80e9, 312e12, 2.04e12),
    "H100, 80 GB": Gpu(80e9, 989e12, 3.35e12),
}


class Plan(NamedTuple):
    """`parts`: what each GPU holds, name -> bytes. `flops`: of the whole run. `hours`: of the clock. `trained`: weights."""

    parts: dict[str, float]
    flops: float
    hours: float
    trained: int
    parameters: int

    @property
    def memory(self) -> float:
        """Bytes on each GPU; the parts of a step are counted as if all were there at once."""
        return sum(self.parts.values())


def plan_run(
    config, method: str = "sft", trained: str = "full", gpus: int = 1, sharding: str = "zero3", *,
    gpu: Gpu = GPUS["A100, 80 GB"], tokens: float = 1e8, rows: int = 1, length: int = 2048, checkpointing: bool = True,
    rank: int = 16, beta: float | None = None, utilisation: float = 0.4, tensor_parallel: int = 1,
) -> Plan:  # fmt: skip
    """Memory of each GPU, operations and hours of a run of `tokens` tokens.

    `rows`: texts at once on each GPU (for DPO pairs). `tokens`: of all training texts; of GRPO, all that is sampled. `beta`
    above 0 keeps a reference (None: DPO does, GRPO does not); LoRA switches its adapter off instead. `utilisation`: share
    of the GPU's operations that training reaches. `tensor_parallel`: GPUs that share one copy of GRPO's sampler, as vLLM's
    `tensor_parallel_size` (1: each GPU has a whole copy). Raises ValueError for settings that do not go together.
    """
    _check(method, trained, gpus, sharding, utilisation, tensor_parallel)
    keeps = (method == "dpo" if beta is None else beta > 0) and method != "sft"
    total = count_parameters(config)
    learned = total if trained == "full" else lora_parameters(config, rank, ALL_LINEAR)
    shares = states(total, learned, trained, gpus, sharding, weight_bytes(config, trained))
    if keeps and trained == "full":
        shares["reference model"] = 2 * total / (gpus if sharding == "zero3" else 1)
    texts = rows * (2 if method == "dpo" else 1)
    shares["activations"] = activation_bytes(config, texts, length, "bfloat16", False, "sdpa", checkpointing)
    shares["last layer"] = last_layer_bytes(config, texts, length, "bfloat16", trained == "full")
    if method == "grpo":
        shares["sampler's weights"] = 2 * total / tensor_parallel
        shares["key-value cache"] = cache_bytes(config, WAITING, length, "bfloat16")
    shares["libraries"] = OVERHEAD
    flops = operations(total, tokens, method, trained, checkpointing, keeps)
    sampling = 2 * total * tokens if method == "grpo" else 0
    seconds = (flops - sampling) / (gpu.flops * utilisation)
    read = sampling / (WAITING * tensor_parallel)  # bytes: a step of a copy reads its weights for all that wait at its GPUs
    seconds += max(sampling / (gpu.flops * utilisation), read / gpu.bandwidth)
    return Plan({name: size for name, size in shares.items() if size}, flops, seconds / gpus / 3600, learned, total)


def states(total: int, learned: int, trained: str, gpus: int, sharding: str, weights: float) -> dict[str, float]:
    """What each GPU holds of weights, gradients and AdamW's state, in bytes.

    Sharded are, with N GPUs: the optimiser (zero1), the gradients too (zero2), the weights too (zero3); arXiv 1910.02054,
    section 5. Full: 2 bytes of weights and 2 of gradients in bf16, 12 of float32 (a copy of the weights and two moments).
    """
    level = SHARDING.index(sharding)
    of_optimiser, of_gradients, of_weights = (gpus if level >= needed else 1 for needed in (1, 2, 3))
    adapter = 0 if trained == "full" else 2 * learned
    return {
        "weights": (weights + adapter) / of_weights,
        "gradients": 2 * learned / of_gradients,
        "optimiser": 12 * learned / of_optimiser,
    }


def weight_bytes(config, trained: str) -> int:
    """The bytes of the weights in bf16; for QLoRA the layers' matrices in 4 bits and their constants."""
    if trained != "qlora":
        return 2 * count_parameters(config)
    return four_bit_bytes(config, "bfloat16", DOUBLE_BITS)[0]


def operations(total: float, tokens: float, method: str, trained: str, checkpointing: bool, reference: bool) -> float:
    """Floating-point operations of a run: C = 6ND and its relatives (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).

    For each weight and token 2 forward, 2 backward for the activations and 2 for the weights' own gradients, which a frozen
    weight does not need. Checkpointing: 2 again. A reference: 2. Sampling: 2.
    """
    each = 6 if trained == "full" else 4
    each += 2 * checkpointing + 2 * reference + (2 if method == "grpo" else 0)
    return each * total * tokens


def _check(method: str, trained: str, gpus: int, sharding: str, utilisation: float, tensor_parallel: int) -> None:
    for name, value, known in (("method", method, METHODS), ("trained", trained, TRAINED), ("sharding", sharding, SHARDING)):
        if value not in known:
            raise ValueError(f"{name}={value!r:.40}: give one of {', '.join(known)}.")
    if isinstance(gpus, bool) or not isinstance(gpus, int) or gpus < 1:
        raise ValueError(f"gpus={gpus!r:.40}: give a whole number from 1.")
    if tensor_parallel not in range(1, gpus + 1) or gpus % tensor_parallel:
        raise ValueError(f"tensor_parallel={tensor_parallel!r:.40}: give a divisor of the {gpus} GPUs.")
    if not 0 < utilisation <= 1:
        raise ValueError(f"utilisation={utilisation!r:.40}: give a share, above 0 and at most 1.")
