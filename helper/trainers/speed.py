"""Training real shapes faster on a CPU, and how long a run will take.

What was measured, and against what: `data/recorded/reference_speed.json`.
Left out on purpose: torch.compile (it starts for half a minute), packing (TRL needs FlashAttention for it, which is for
GPUs), and anything on a GPU, where TRL has kernels of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from transformers import PrinterCallback, TrainerCallback

from helper.machine.costs import Time, time_of_steps
from helper.machine.device import bf16_is_fast
from helper.machine.sizes import PAD_TO


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


def estimate_time(
    trainer, steps: int | None = None, probe: int = 10, clock: Callable[[], float] = time.perf_counter
) -> Time:
    """Train `probe` steps of a real trainer and estimate the time of `steps` (None: the whole run that it is set to).

    The first two steps are left out: they allocate, and set kernels up. The guess is the median of the others times
    `steps`; the interval goes from the second fastest to the second slowest of them, which for eight steps alike in
    distribution holds the true median in 93% of cases (order statistics: 1 - 2·9/2^8). The model is trained by it: give
    a trainer of its own, with a copy of the model. Raises ValueError for a probe below 5 steps.
    """
    if isinstance(probe, bool) or not isinstance(probe, int) or probe < 5:
        raise ValueError(f"probe={probe!r:.40}: two steps to warm up and three to measure are the least, so give 5 or more.")
    ends: list[float] = []

    class Ticks(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if not ends:
                ends.append(clock())

        def on_step_end(self, args, state, control, **kwargs):
            ends.append(clock())
            control.should_training_stop = control.should_training_stop or len(ends) > probe

    ticks = Ticks()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ticks)
    try:
        trainer.train()
    finally:
        trainer.remove_callback(ticks)
    return time_of_steps([after - before for before, after in zip(ends, ends[1:])], steps or trainer.state.max_steps)
