"""GRPO as a loop to read: sample and reward, advantages, log-probabilities, update, log.

What varies between GRPO's descendants is passed in as a function: `sample` (dynamic sampling, a KL penalty in the rewards),
`advantage` (the division by std, leave-one-out), `loss` (clips, averages, a KL term).
Left out on purpose: several devices, schedules, weight decay, vLLM; the library has them.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch

from helper.algorithms.batches import Batch, draw, log_probabilities, policy, sample_batch
from helper.algorithms.policy_gradient import group_advantages, grpo_loss, kl_estimate
from helper.algorithms.responses import masked_mean
from helper.algorithms.runs import LARGEST_NORM, Run, checked_settings, mean_of
from helper.trainers.live import LiveLog


def train_grpo(
    model, tokenizer, rows: list[dict], reward_funcs: list[Callable], *, folder: str | Path, steps: int,
    learning_rate: float, max_new_tokens: int, prompts_per_step: int = 12, group_size: int = 4, temperature: float = 1.0,
    sample: Callable = sample_batch, advantage: Callable = group_advantages, loss: Callable = grpo_loss, reference=None,
    inner_updates: int = 1, micro_batch: int = 12, bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """GRPO (Shao et al. 2024, arXiv 2402.03300, algorithm 1) on `rows`; changes `model`, returns the log.

    `rows`: `prompt` (messages) and the rewards' columns. `sample`, `advantage`, `loss`: called as `sample_batch`,
    `group_advantages`, `grpo_loss`. `reference`: the frozen model of a KL term in the loss. `inner_updates` (μ): updates
    from one batch. `micro_batch`: responses in one forward pass. `folder`: for checkpoints; see `Run`, also for errors.
    """
    settings = checked_settings(
        rows, reward_funcs, sample=sample, advantage=advantage, loss=loss, reference=reference is not None, seed=seed,
        learning_rate=learning_rate, max_new_tokens=max_new_tokens, prompts_per_step=prompts_per_step, bf16=bf16,
        group_size=group_size, temperature=temperature, inner_updates=inner_updates, micro_batch=micro_batch,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    model.eval()  # no dropout
    parts = {"model": model, "optimizer": optimizer} | ({"reference": reference} if reference is not None else {})
    with Run(folder, parts, steps, settings, charts=charts) as run:
        for step in run:
            # Sample G responses to each prompt, and reward them. The model as it is now is π_old.
            drawn = draw(rows, prompts_per_step, seed, step)
            batch = sample(model, tokenizer, drawn, run.guarded(reward_funcs), group_size, max_new_tokens, temperature)
            # Advantages: each reward against its own group.
            batch.advantages = advantage(batch.rewards, group_size)
            # Log-probabilities under π_old, if π_θ will move away from it, and under the reference.
            if inner_updates > 1:
                batch.old_logps = log_probabilities(model, batch, temperature, micro_batch, bf16)
            if reference is not None:
                batch.ref_logps = log_probabilities(reference, batch, temperature, micro_batch, bf16)
            # Update μ times from this batch.
            options = {"temperature": temperature, "max_length": max_new_tokens, "micro_batch": micro_batch, "bf16": bf16}
            updates = [grpo_update(model, optimizer, batch, loss, **options) for _ in range(inner_updates)]
            # Log.
            run.log(**mean_of(updates), **batch.numbers)
    return run.live


def grpo_update(
    model, optimizer, batch: Batch, loss: Callable = grpo_loss, temperature: float = 1.0, max_length: int | None = None,
    micro_batch: int = 12, bf16: bool = False,
) -> dict[str, float]:  # fmt: skip
    """One step of `optimizer` on a batch with advantages, `micro_batch` responses at a time. Returns the numbers to log.

    How many at a time changes memory and time, not the result. Logged: loss, entropy (of the responses that go through
    the model) and with a reference the KL estimate k3, in nats per token; the gradient's norm. Without a reference,
    responses without an advantage are left out: `loss` must be 0 for them.
    """
    kept = worth_a_pass(batch, micro_batch)
    tokens = batch.mask[kept].sum().item()
    sums = dict.fromkeys(("loss", "entropy", "kl"), 0.0)
    optimizer.zero_grad()
    for part in map(batch.rows, kept.split(micro_batch)):
        logps, entropies = policy(model, part, temperature, bf16)
        old_logps = logps.detach() if part.old_logps is None else part.old_logps  # one update: π_old is π_θ, the ratio 1
        part_loss = loss(
            logps, old_logps, part.advantages, part.mask, ref_logps=part.ref_logps, max_length=max_length, whole=batch.mask
        )
        part_loss.backward()
        share = part.mask.sum().item() / tokens
        sums["loss"] += part_loss.item()
        sums["entropy"] += masked_mean(entropies, part.mask).item() * share
        if part.ref_logps is not None:
            sums["kl"] += masked_mean(kl_estimate(logps.detach(), part.ref_logps), part.mask).item() * share
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
    optimizer.step()
    return {**sums, "grad_norm": norm.item()}


def worth_a_pass(batch: Batch, micro_batch: int) -> torch.Tensor:
    """The indices of the responses worth a forward pass: without a reference those whose advantage is not 0, if any.

    Rounded up to whole micro-batches: each new shape of a tensor costs memory and time.
    """
    some = ~(batch.advantages.abs() <= 1e-6)  # nan counts too: it must stop the run, not pass by
    if batch.ref_logps is not None or not some.any():
        return torch.arange(len(some), device=some.device)
    parts = math.ceil(int(some.sum()) / micro_batch)
    return some.int().argsort(descending=True, stable=True)[: parts * micro_batch]  # those with an advantage first
