"""Pre-training of Sprout: next-token prediction on the plain-text stream, resumable and seeded.

The batch of a step depends on seed and step number only, so a resumed run sees what an unbroken one would have seen.
Hidden matrices are trained with Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/), the rest with
AdamW; the learning rate warms up, stays, and falls linearly to zero.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from factory.plain_text import PlainText
from factory.tokenizer import END_OF_TEXT
from helper.machine.device import bf16_is_fast


@dataclass(frozen=True)
class Recipe:
    """What decides the base model. Lengths in tokens; learning rates are peaks."""

    steps: int = 9000
    batch: int = 16
    length: int = 256
    hidden: int = 256
    layers: int = 4
    heads: int = 4
    feed_forward: int = 768
    muon_lr: float = 4e-3
    adam_lr: float = 4e-3
    warmup: int = 100
    decay_from: float = 0.4  # share of the steps after which the learning rate falls
    seed: int = 0


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    """A Qwen3-architecture model with random weights."""
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=recipe.hidden, intermediate_size=recipe.feed_forward,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads // 2,
        head_dim=recipe.hidden // recipe.heads, max_position_embeddings=512, tie_word_embeddings=True,
        rope_theta=10_000.0, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(recipe.seed)
    model = Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")  # faster than the CPU's fused attention at this size
    return model


def batch_of_step(step: int, recipe: Recipe, text: PlainText, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """The tokens of a step, shape (batch, length + 1): documents one after another, each closed by end-of-text."""
    need, end, ids = recipe.batch * (recipe.length + 1), tokenizer.convert_tokens_to_ids(END_OF_TEXT), []

    def encode(documents: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(documents)]

    for *_, document in text.read_in_step(step, recipe.seed, need, encode):
        ids += [*document, end]
    return torch.tensor(ids[:need]).view(recipe.batch, recipe.length + 1)


def learning_rate_factor(step: int, recipe: Recipe) -> float:
    """Warm-up, plateau, linear fall to zero: the factor on the peak learning rate at `step`."""
    start = recipe.decay_from * recipe.steps
    fall = (recipe.steps - step) / (recipe.steps - start)
    return min(1.0, (step + 1) / recipe.warmup, fall)


def make_optimizers(model: Qwen3ForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def compiled(function: Callable, steps: int) -> Callable:
    """The function compiled by torch where a C++ compiler is at hand and the run is long enough to repay it."""
    return torch.compile(function) if steps > 200 and (shutil.which("g++") or shutil.which("clang++")) else function


@contextmanager
def deterministic() -> Iterator[None]:
    """Sums in a fixed order; else threads add up the embedding's gradient as they come, and no two runs are the same."""
    settings = torch.utils.deterministic
    fills, were_on = settings.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    settings.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(were_on)
        settings.fill_uninitialized_memory = fills


@deterministic()
def pretrain(
    folder: Path, recipe: Recipe, text: PlainText, tokenizer: PreTrainedTokenizerFast,
    probe: Callable[[Qwen3ForCausalLM], dict] | None = None, probe_every: int = 500, save_every: int = 250,
) -> Qwen3ForCausalLM:  # fmt: skip
    """Train from nothing, or go on from `folder/checkpoint.pt`; log to `folder/log.jsonl`; return the model.

    Raises ValueError when the checkpoint was made with another recipe.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, checkpoint, first = make_model(recipe, tokenizer), folder / "checkpoint.pt", 0
    optimizers = make_optimizers(model, recipe)
    if checkpoint.exists():
        first = load_checkpoint(checkpoint, recipe, model, optimizers)
    trim_log(folder / "log.jsonl", first)
    loss_of, start, losses = compiled(next_token_loss(model), recipe.steps), time.time(), []
    bar = tqdm(range(first, recipe.steps), initial=first, total=recipe.steps, desc="pre-training", mininterval=10)
    for step in bar:
        model.train()  # which the probe ended
        losses.append(update(model, loss_of(batch_of_step(step, recipe, text, tokenizer)), optimizers, recipe, step))
        done, last = step + 1, step + 1 == recipe.steps
        if done % 50 == 0 or last:
            mean, losses = round(sum(losses) / len(losses), 4), []
            row = {"step": done, "loss": mean, "seconds": round(time.time() - start)}
            if probe and (done % probe_every == 0 or last):
                row |= probe(model)
            append_row(folder / "log.jsonl", row)
            bar.set_postfix(loss=mean)
        if done % save_every == 0 or last:
            save_checkpoint(checkpoint, recipe, done, model, optimizers)
    return model.eval()


def next_token_loss(model: Qwen3ForCausalLM) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from tokens, shape (batch, length + 1), to the mean loss; in bf16 where this machine is fast in it."""
    bf16 = bf16_is_fast(torch.device("cpu"))

    def loss_of(ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())

    return loss_of


def update(model: Qwen3ForCausalLM, loss: torch.Tensor, optimizers: list, recipe: Recipe, step: int) -> float:
    """One step of both optimizers at the step's learning rates; the loss as a number."""
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer, peak in zip(optimizers, (recipe.muon_lr, recipe.adam_lr), strict=True):
        optimizer.param_groups[0]["lr"] = peak * learning_rate_factor(step, recipe)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def save_checkpoint(path: Path, recipe: Recipe, step: int, model: torch.nn.Module, optimizers: list) -> None:
    """Write the state whole or not at all."""
    state = {"recipe": asdict(recipe), "step": step, "model": model.state_dict()}
    state["optimizers"] = [o.state_dict() for o in optimizers]
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def load_checkpoint(path: Path, recipe: Recipe, model: torch.nn.Module, optimizers: list) -> int:
    """Put the saved state into model and optimizers; return the number of steps done."""
    state = torch.load(path, weights_only=True)
    if state["recipe"] != asdict(recipe):
        raise ValueError(f"{path} was made with another recipe; delete {path.parent} to start anew")
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"]


def append_row(path: Path, row: dict) -> None:
    """Add a line to a JSONL file."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def trim_log(path: Path, step: int) -> None:
    """Drop log rows after `step`: they belong to work done after the last checkpoint, which is done again."""
    if path.exists():
        rows = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(row + "\n" for row in rows))


def logged_seconds(path: Path) -> int:
    """The training time in a log, over all sittings: each one counts its seconds from nought."""
    total = before = 0
    for line in path.read_text().splitlines():
        seconds = json.loads(line)["seconds"]
        total, before = total + seconds - (before if seconds >= before else 0), seconds
    return total
