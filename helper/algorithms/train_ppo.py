"""PPO for language models as a loop to read: sample and score, values, token rewards, advantages, update, log.

Left out on purpose: several devices, schedules, weight decay, a KL coefficient that adapts itself. The library no longer
has PPO.
"""

import copy
import random
from collections.abc import Callable
from pathlib import Path

import torch

from helper.algorithms.batches import Batch, draw, log_probabilities, policy, sample_batch, slices
from helper.algorithms.ppo import ValueModel, generalised_advantages, ppo_policy_loss, token_rewards, value_loss, whiten
from helper.algorithms.responses import masked_mean
from helper.algorithms.runs import LARGEST_NORM, Run, autocast, checked_settings, digest, mean_of
from helper.algorithms.train_sft import check_shown, loss_of_rows
from helper.trainers.live import LiveLog


def train_ppo(
    model, value_model: ValueModel, tokenizer, rows: list[dict], reward_funcs: list[Callable], *, folder: str | Path,
    steps: int, learning_rate: float, value_learning_rate: float, max_new_tokens: int, responses_per_step: int = 48,
    temperature: float = 1.0, beta: float = 0.0, gamma: float = 1.0, lam: float = 0.95, epsilon: float = 0.2,
    value_clip: float | None = 0.2, value_coefficient: float = 0.1, extra_loss: Callable | None = None, epochs: int = 4,
    micro_batch: int = 12, bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """PPO (Schulman et al. 2017, arXiv 1707.06347) on `rows`; changes `model` and `value_model`, returns the log.

    `beta`: of the KL penalty in the rewards. `epochs`: passes over a batch, by `ppo_update`. `folder`, errors: see `Run`.
    """
    losses = {"epsilon": epsilon, "value_clip": value_clip, "value_coefficient": value_coefficient, "extra_loss": extra_loss}
    settings = checked_settings(
        rows, reward_funcs, learning_rate=learning_rate, value_learning_rate=value_learning_rate, temperature=temperature,
        max_new_tokens=max_new_tokens, responses_per_step=responses_per_step, beta=beta, gamma=gamma, lam=lam,
        epochs=epochs, micro_batch=micro_batch, bf16=bf16, seed=seed, **losses,
    )  # fmt: skip
    optimizer = ppo_optimizer(model.eval(), value_model.eval(), learning_rate, value_learning_rate)
    trained, how = (model, value_model, optimizer), (temperature, micro_batch, bf16)
    reference = copy.deepcopy(model) if beta else None
    parts = {"model": model, "value_model": value_model, "optimizer": optimizer} | ({"reference": reference} if beta else {})
    with Run(folder, parts, steps, settings, charts=charts) as run:
        for step in run:
            # Sample a response to each prompt, and score it. The model as it is now is π_old.
            drawn = draw(rows, responses_per_step, seed, step)
            batch = sample_batch(model, tokenizer, drawn, reward_funcs, 1, max_new_tokens, temperature)
            # Log-probabilities under π_old and the reference, and the critic's values.
            batch.old_logps = log_probabilities(model, batch, *how)
            batch.ref_logps = log_probabilities(reference, batch, *how) if beta else batch.old_logps
            batch.values = values_of(value_model, batch, micro_batch, bf16)
            # The reward of each token; from these and the values advantages, whitened, and returns.
            rewards = token_rewards(batch.rewards, batch.old_logps, batch.ref_logps, batch.mask, beta)
            advantages, batch.returns = generalised_advantages(rewards, batch.values, batch.mask, gamma, lam)
            batch.advantages = whiten(advantages, batch.mask)
            # Update: several times over the batch, each time in parts of a new order.
            order = [part for _ in range(epochs) for part in torch.randperm(len(drawn)).split(micro_batch)]
            updates = [ppo_update(*trained, batch.rows(part), temperature, bf16, **losses) for part in order]
            # Log.
            run.log(**mean_of(updates), **critic_numbers(batch, rewards, gamma), **batch.numbers)
    return run.live


def ppo_update(
    model, value_model: ValueModel, optimizer, part: Batch, temperature: float = 1.0, bf16: bool = False, *,
    epsilon: float = 0.2, value_clip: float | None = 0.2, value_coefficient: float = 0.1, extra_loss: Callable | None = None,
) -> dict[str, float]:  # fmt: skip
    """One step of `optimizer` on a part of a batch with advantages, values and returns; what is logged of it.

    The clipped policy loss, `value_coefficient` times the clipped value loss, and `extra_loss(model)` if there is one.
    The gradient of a sum is the sum of the gradients; term by term, memory holds one graph at a time. Logged: both losses,
    entropy (nats a token), `clipped` (the share of tokens whose ratio has left 1 ± ε), and the gradient's norm.
    """
    optimizer.zero_grad()
    logps, entropies = policy(model, part, temperature, bf16)
    policy_loss = ppo_policy_loss(logps, part.old_logps, part.advantages, part.mask, epsilon)
    policy_loss.backward()
    with autocast(model, bf16):
        values = value_model(part.ids, part.attention_mask, part.length)
    error = value_loss(values, part.values, part.returns, part.mask, value_clip)
    (value_coefficient * error).backward()
    if extra_loss is not None:
        extra_loss(model).backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(weights, LARGEST_NORM)
    optimizer.step()
    outside = ((logps.detach() - part.old_logps).exp() - 1).abs() > epsilon
    return {
        "loss": policy_loss.item(), "value_loss": error.item(), "entropy": masked_mean(entropies, part.mask).item(),
        "clipped": masked_mean(outside.float(), part.mask).item(), "grad_norm": norm.item(),
    }  # fmt: skip


def mix_in(tokenizer, rows: list[dict], coefficient: float, number: int, bf16: bool = False) -> Callable:
    """An `extra_loss`: `coefficient` times the SFT loss of `number` rows drawn anew for each update.

    PPO-ptx of Ouyang et al. 2022 (arXiv 2203.02155, eq. 2), there with pre-training text. ValueError as for `train_sft`.
    """
    check_shown(rows)

    def loss_of_mixed_in(model) -> torch.Tensor:
        return coefficient * loss_of_rows(model, tokenizer, random.sample(rows, min(number, len(rows))), bf16)

    loss_of_mixed_in.__name__ = f"SFT rows {digest(rows)} × {coefficient:g}, {number}"  # a run's settings hold it
    return loss_of_mixed_in


def ppo_optimizer(model, value_model: ValueModel, learning_rate: float, value_learning_rate: float) -> torch.optim.Optimizer:
    """AdamW with a learning rate for the policy and one for what the critic has beside it; layers may be shared."""
    own = {id(weight) for weight in model.parameters()}
    critic = [weight for weight in value_model.parameters() if id(weight) not in own]
    groups = [{"params": list(model.parameters()), "lr": learning_rate}, {"params": critic, "lr": value_learning_rate}]
    return torch.optim.AdamW(groups, weight_decay=0.0)


@torch.no_grad()
def values_of(value_model: ValueModel, batch: Batch, micro_batch: int = 12, bf16: bool = False) -> torch.Tensor:
    """The critic's value before each response token, (B, R), without gradient."""
    with autocast(value_model.backbone, bf16):
        parts = slices(len(batch.ids), micro_batch)
        return torch.cat([value_model(batch.ids[part], batch.attention_mask[part], batch.length) for part in parts])


def critic_numbers(batch: Batch, rewards: torch.Tensor, gamma: float) -> dict[str, float]:
    """What is logged of a batch as the critic saw it: the variance that its values explain, and the KL to the reference.

    Explained variance: of what really came (λ = 1), 1 all of it, 0 no more than a constant explains. KL: k1, nats a token.
    """
    _, returns = generalised_advantages(rewards, batch.values, batch.mask, gamma, lam=1.0)
    error = returns - batch.values
    spread = masked_mean((returns - masked_mean(returns, batch.mask)).square(), batch.mask)
    left = masked_mean((error - masked_mean(error, batch.mask)).square(), batch.mask)
    kl = masked_mean(batch.old_logps - batch.ref_logps, batch.mask)
    return {"explained_variance": (1 - left / spread.clamp(min=1e-8)).item(), "kl": kl.item()}
