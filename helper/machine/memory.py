"""Memory of this process and this machine: its peak, what is free, and when freed memory goes back to the system.

All sizes are bytes, or MB of 10^6 bytes where the name says so.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

import psutil
import torch


def peak_memory_mb(device: str | torch.device = "cpu") -> float:
    """The most memory used so far, in MB: by tensors on a CUDA `device`, else by this process (on Windows: 0)."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    try:
        import resource
    except ImportError:  # on Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def available_memory(device: str | torch.device = "cpu") -> int:
    """Bytes of `device` that this process has or can get: what is free now, and what it holds already (0: unknown).

    On CUDA that is the free memory and all that PyTorch has reserved, of which much may be empty.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    try:
        return psutil.virtual_memory().available + held_bytes(device)
    except OSError:
        return 0


def held_bytes(device: torch.device) -> int:
    """Bytes held now: on CUDA by PyTorch's tensors, on a CPU by this process (0: unknown, and on Apple's GPU)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return 0
    try:
        return psutil.Process().memory_info().rss
    except OSError:
        return 0


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


def give_back_memory() -> None:
    """Hand freed memory back to the system. Batches of ever new shapes leave holes that glibc would keep."""
    with suppress(OSError, AttributeError):  # not Linux, or another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
