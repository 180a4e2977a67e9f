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
    minibatch: int = 12, bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """PPO (Schulman et al. 2017, arXiv 1707.06347) on `rows`; changes `model` and `value_model`, returns the log.

    `beta`: coefficient of the KL penalty in the rewards. `epochs`: passes over each batch. `folder`, errors: see `Run`.
    """
    losses = {"epsilon": epsilon, "value_clip": value_clip, "value_coefficient": value_coefficient, "extra_loss": extra_loss}
    settings = checked_settings(
        rows, reward_funcs, learning_rate=learning_rate, value_learning_rate=value_learning_rate, temperature=temperature,
        max_new_tokens=max_new_tokens, responses_per_step=responses_per_step, beta=beta, gamma=gamma, lam=lam,
        epochs=epochs, minibatch=minibatch, bf16=bf16, seed=seed, **losses,
    )  # fmt: skip
    optimizer = ppo_optimizer(model.eval(), value_model.eval(), learning_rate, value_learning_rate)  # no dropout
    trained, forward = (model, value_model, optimizer), (temperature, minibatch, bf16)
    reference = copy.deepcopy(model) if beta else None
    parts = {"model": model, "value_model": value_model, "optimizer": optimizer} | ({"reference": reference} if beta else {})
    with Run(folder, parts, steps, settings, charts=charts) as run:
        for step in run:
            # Sample a response to each prompt, and score it. The model as it is now is π_old.
            drawn = draw(rows, responses_per_step, seed, step)
            batch = sample_batch(model, tokenizer, drawn, run.guarded(reward_funcs), 1, max_new_tokens, temperature)
            # Log-probabilities under π_old and the reference, and the critic's values.
            batch.old_logps = log_probabilities(model, batch, *forward)
            batch.ref_logps = log_probabilities(reference, batch, *forward) if beta else batch.old_logps
            batch.values = values_of(value_model, batch, minibatch, bf16)
            # The reward of each token; from these and the values advantages, whitened, and returns.
            rewards = token_rewards(batch.rewards, batch.old_logps, batch.ref_logps, batch.mask, beta)
            advantages, batch.returns = generalised_advantages(rewards, batch.values, batch.mask, gamma, lam)
            batch.advantages = whiten(advantages, batch.mask)
            # Update: an optimiser step per minibatch, reshuffled for each pass over the batch.
            order = [chosen for _ in range(epochs) for chosen in torch.randperm(len(drawn)).split(minibatch)]
            updates = [ppo_update(*trained, batch.rows(chosen), temperature, bf16, **losses) for chosen in order]
            # Log.
            run.log(**mean_of(updates), **critic_metrics(batch, rewards, gamma), **batch.numbers)
    return run.live


def ppo_update(
    model, value_model: ValueModel, optimizer, part: Batch, temperature: float = 1.0, bf16: bool = False, *,
    epsilon: float = 0.2, value_clip: float | None = 0.2, value_coefficient: float = 0.1, extra_loss: Callable | None = None,
) -> dict[str, float]:  # fmt: skip
    """One step of `optimizer` on a minibatch with advantages, values and returns. Returns the numbers to log.

    The clipped policy loss, `value_coefficient` times the clipped value loss, and `extra_loss(model)` if there is one.
    Three backward calls give the gradient of the sum, with one graph in memory at a time. Logged: both losses,
    entropy (nats per token), `clipped` (the share of tokens whose ratio has left 1 ± ε), and the gradient's norm.
    """
    optimizer.zero_grad()
    logps, entropies = policy(model, part, temperature, bf16)
    policy_loss = ppo_policy_loss(logps, part.old_logps, part.advantages, part.mask, epsilon)
    policy_loss.backward()
    with autocast(model, bf16):
        values = value_model(part.ids, part.attention_mask, part.length)
    critic_loss = value_loss(values, part.values, part.returns, part.mask, value_clip)
    (value_coefficient * critic_loss).backward()
    if extra_loss is not None:
        extra_loss(model).backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(weights, LARGEST_NORM)  # one norm for policy and critic
    optimizer.step()
    outside = ((logps.detach() - part.old_logps).exp() - 1).abs() > epsilon
    return {
        "loss": policy_loss.item(), "value_loss": critic_loss.item(), "entropy": masked_mean(entropies, part.mask).item(),
        "clipped": masked_mean(outside.float(), part.mask).item(), "grad_norm": norm.item(),
    }  # fmt: skip


def mix_in(tokenizer, rows: list[dict], coefficient: float, number: int, bf16: bool = False) -> Callable:
    """An `extra_loss`: `coefficient` times the SFT loss of `number` rows drawn anew for each update.

    PPO-ptx of Ouyang et al. 2022 (arXiv 2203.02155, eq. 2), there with pre-training text. ValueError as for `train_sft`.
    """
    check_shown(rows)

    def loss_of_mixed_in(model) -> torch.Tensor:
        return coefficient * loss_of_rows(model, tokenizer, random.sample(rows, min(number, len(rows))), bf16)

    loss_of_mixed_in.__name__ = f"SFT rows {digest(rows)} × {coefficient:g}, {number}"  # other rows make another run
    return loss_of_mixed_in


def ppo_optimizer(model, value_model: ValueModel, learning_rate: float, value_learning_rate: float) -> torch.optim.Optimizer:
    """AdamW with a learning rate for the policy, and one for the critic's own weights (shared layers are the policy's)."""
    own = {id(weight) for weight in model.parameters()}
    critic = [weight for weight in value_model.parameters() if id(weight) not in own]
    groups = [{"params": list(model.parameters()), "lr": learning_rate}, {"params": critic, "lr": value_learning_rate}]
    return torch.optim.AdamW(groups, weight_decay=0.0)


@torch.no_grad()
def values_of(value_model: ValueModel, batch: Batch, minibatch: int = 12, bf16: bool = False) -> torch.Tensor:
    """The critic's value before each response token, (B, R), without gradient."""
    with autocast(value_model.backbone, bf16):
        parts = slices(len(batch.ids), minibatch)
        return torch.cat([value_model(batch.ids[part], batch.attention_mask[part], batch.length) for part in parts])


def critic_metrics(batch: Batch, rewards: torch.Tensor, gamma: float) -> dict[str, float]:
    """Of a whole batch: how much of the returns' variance the critic's values explain, and the KL to the reference.

    Explained variance: the share of the Monte-Carlo returns' variance (λ = 1); 1 all of it, 0 as much as a constant does.
    KL: the estimate k1, nats per token; 0 without a penalty, when the policy stands for the reference.
    """
    _, returns = generalised_advantages(rewards, batch.values, batch.mask, gamma, lam=1.0)
    error = returns - batch.values
    spread = masked_mean((returns - masked_mean(returns, batch.mask)).square(), batch.mask)
    unexplained = masked_mean((error - masked_mean(error, batch.mask)).square(), batch.mask)
    kl = masked_mean(batch.old_logps - batch.ref_logps, batch.mask)
    return {"explained_variance": (1 - unexplained / spread.clamp(min=1e-8)).item(), "kl": kl.item()}
