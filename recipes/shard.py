"""What a process holds when a model is copied to all, and when it is sharded: counted on Sprout, on the CPU with gloo.

    python -m torch.distributed.run --standalone --nproc-per-node 2 recipes/shard.py data/models/sprout-instruct OUT.json

One step on the same texts in both ways: each process takes its part of the batch. The first process writes what each
holds of weights, gradients and AdamW's moments, the loss, and how far the gradients of the two ways differ (the weights
would show less: AdamW's first step is nearly the same for a gradient and for its double).
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM
from transformers.utils import logging

ROWS, LENGTH = 8, 64


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def held(model, optimizer) -> dict[str, int]:
    """Numbers (not bytes) that this process holds."""
    moments = [value for state in optimizer.state.values() for value in state.values() if value.dim()]
    lists = {"weights": list(model.parameters()), "gradients": [p.grad for p in model.parameters()], "moments": moments}
    return {name: sum(local(tensor).numel() for tensor in tensors) for name, tensors in lists.items()}


def step(folder: str, sharded: bool) -> tuple[dict, list[torch.Tensor]]:
    """One step of AdamW on random tokens; what is held, and the whole gradients."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if sharded:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for layer in model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(model, mesh=mesh)
    run = model if sharded else DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    tokens = torch.randint(0, model.config.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    mine = tokens.chunk(dist.get_world_size())[dist.get_rank()]
    loss = run(input_ids=mine, labels=mine, use_cache=False).loss
    loss.backward()
    optimizer.step()
    mean = loss.detach().clone()
    dist.all_reduce(mean)
    whole = [p.grad.full_tensor() if isinstance(p, DTensor) else p.grad for p in model.parameters()]
    return held(model, optimizer) | {"loss": mean.item() / dist.get_world_size()}, whole


def main(folder: str, path: str) -> None:
    logging.disable_progress_bar()
    dist.init_process_group("gloo")
    (copied, one), (sharded, other) = step(folder, False), step(folder, True)
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, {"copied": copied, "sharded": sharded})
    apart = max((a - b).abs().max().item() for a, b in zip(one, other, strict=True))
    norm = torch.cat([each.flatten() for each in one]).norm().item()
    if dist.get_rank() == 0:
        found = {"processes": everyone, "gradients apart": apart, "gradient norm": norm}
        Path(path).write_text(json.dumps(found), "utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
