"""Which device, which precision, which seed.

Left out on purpose: several GPUs: of those a machine has, one is used, since TRL's trainers refuse more in one process.
"""

import os
import time
from functools import cache

import torch
import transformers


def choose_device(use_gpu: bool = False) -> torch.device:
    """The CPU, or when asked for the GPU: CUDA, else Apple's (MPS); RuntimeError when there is none."""
    if not use_gpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    raise RuntimeError(
        "USE_GPU = True, but PyTorch sees no CUDA GPU and no Apple GPU. Set USE_GPU = False in the settings cell, "
        "or install a CUDA build of torch (`python -m helper.environment` says what is there)."
    )


@cache
def bf16_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 training pays on `device`: pass it to the trainer as `bf16=`.

    On a CPU it is measured (0.2 s): with AVX512-bf16 or AMX it is about twice as fast, without it is slower.
    On Apple's GPU (MPS) it is left off. COURSE_BF16=0 or 1 in the environment decides instead.
    """
    if os.environ.get("COURSE_BF16") in ("0", "1"):
        return os.environ["COURSE_BF16"] == "1"
    if torch.device(device).type == "mps":
        return False
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bf16_speedup() > 1.2


@cache
def bf16_speedup() -> float:
    """How many times faster than float32 this CPU multiplies (2048, 256) by (256, 1024) in bfloat16."""
    operands = [(torch.ones(2048, 256, dtype=d), torch.ones(256, 1024, dtype=d)) for d in (torch.float32, torch.bfloat16)]
    times, begun = ([], []), time.perf_counter()
    with torch.inference_mode():
        # In turns: whatever else the machine does slows both. The first round also sets the kernels up.
        while len(times[0]) < 3 or (len(times[0]) < 20 and time.perf_counter() - begun < 0.2):
            for (a, b), measured in zip(operands, times):
                start = time.perf_counter()
                a @ b
                measured.append(time.perf_counter() - start)
    return min(times[0][1:]) / min(times[1][1:])


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators. Same machine, same seed: same result."""
    transformers.set_seed(seed)
