"""What each process holds when FSDP2 is asked for on CPUs: accelerate then copies the model to all, and says nothing.

    python -m torch.distributed.run --standalone --nproc-per-node 2 recipes/fsdp_on_cpu.py data/models/sprout-instruct

Left out on purpose: training steps; what is held is settled when the model is prepared.
"""

import sys

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from transformers import AutoModelForCausalLM
from transformers.utils import logging


def main(folder: str) -> None:
    logging.disable_progress_bar()
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model, _ = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
    held = sum(getattr(weight, "to_local", lambda weight=weight: weight)().numel() for weight in model.parameters())
    kind = accelerator.distributed_type.value
    print(f"process {accelerator.process_index}: {kind}, {type(model).__name__}, {held} weights", flush=True)
    accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])
