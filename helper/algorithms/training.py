"""Training loops to read in one sitting: `train_sft`, `train_grpo` and `train_ppo`.

The last two go round the same way: draw prompts, sample responses, reward them, turn rewards into advantages, update.
Rows and reward functions are those of TRL's trainers: a row has a `prompt` (messages), for SFT a `completion`
(messages) and for RL the columns that the rewards ask for.
Left out on purpose: several devices, schedules, weight decay, vLLM; the library has them.
"""

import copy
import functools
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from helper.algorithms.losses import sft_loss
from helper.algorithms.policy_gradient import group_advantages, grpo_loss, kl_estimate
from helper.algorithms.ppo import (
    ValueModel,
    generalised_advantages,
    ppo_policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from helper.algorithms.responses import (
    masked_mean,
    pad_responses,
    response_log_probabilities,
    response_logits,
    token_entropies,
    token_log_probabilities,
)
from helper.algorithms.runs import LARGEST_NORM, Run, autocast
from helper.generation import generate_tokens, stop_token_ids
from helper.machine.sizes import PAD_TO
from helper.trainers.live import LiveLog


@dataclass
class Batch:
    """Sampled responses with their rewards: shapes as in `helper.algorithms.responses`, `rewards` (B,)."""

    ids: torch.Tensor
    attention_mask: torch.Tensor
    mask: torch.Tensor
    rewards: torch.Tensor
    texts: list[str]
    cut_off: float  # the share of responses that reached the length limit without an end

    @property
    def length(self) -> int:
        return self.mask.shape[1]

    def rows(self, chosen: slice | torch.Tensor) -> "Batch":
        """The batch with some of its responses only."""
        return Batch(
            self.ids[chosen], self.attention_mask[chosen], self.mask[chosen], self.rewards[chosen], self.texts, self.cut_off
        )


def sample_batch(
    model, tokenizer, rows: list[dict], reward_funcs: list[Callable], group_size: int, max_new_tokens: int,
    temperature: float = 1.0, reward_weights: list[float] | None = None,
) -> Batch:  # fmt: skip
    """Sample `group_size` responses to the prompt of each row, and reward them; the responses of a row stand together.

    The reward of a response is the weighted sum of what the functions pay.
    """
    rows = [row for row in rows for _ in range(group_size)]
    prompts = [_prompt_ids(tokenizer, row) for row in rows]
    responses = generate_tokens(
        model, tokenizer, prompts, max_new_tokens, batch_size=len(rows), temperature=temperature, keep_end=True
    )
    ends = set(stop_token_ids(model, tokenizer))
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    ids, attention_mask, mask = pad_responses(prompts, responses, tokenizer.pad_token_id, model.device, PAD_TO)
    rewards = reward_texts(rows, texts, reward_funcs, reward_weights).to(model.device)
    cut_off = sum(response[-1] not in ends for response in responses) / len(responses)
    return Batch(ids, attention_mask, mask, rewards, texts, cut_off)


def reward_texts(rows: list[dict], texts: list[str], reward_funcs: list[Callable], weights=None) -> torch.Tensor:
    """The weighted sum of what the reward functions pay for each text, (B,)."""
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    prompts = columns.pop("prompt")
    paid = [function(prompts=prompts, completions=completions, **columns) for function in reward_funcs]
    for function, rewards in zip(reward_funcs, paid):
        if len(rewards) != len(texts) or None in rewards:
            raise ValueError(f"{_name(function)} gave {len(rewards)} rewards for {len(texts)} texts, or None among them.")
    weights = weights or [1.0] * len(paid)
    if len(weights) != len(paid):
        raise ValueError(f"{len(weights)} reward_weights for {len(paid)} reward functions: give one for each.")
    return torch.tensor([sum(w * r for w, r in zip(weights, each)) for each in zip(*paid)], dtype=torch.float32)


def train_sft(
    model, tokenizer, rows: list[dict], *, folder: str | Path, steps: int, learning_rate: float, batch_size: int = 16,
    bf16: bool = False, seed: int = 0, charts: bool = True,
) -> LiveLog:  # fmt: skip
    """SFT on `rows`, going through them in a new order each time; changes `model`, returns the log.

    `folder`: for checkpoints (see `Run`, also for the errors). Raises ValueError, with the row's number, for a row
    without `prompt` and `completion`.
    """
    settings = _plain(locals())
    _check_positive(batch_size=batch_size)
    _check_shown(rows)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    with Run(folder, {"model": model, "optimizer": optimizer}, steps, settings, charts=charts) as run:
        for step in run:
            start = (step - 1) * batch_size
            drawn = [rows[_place(i, len(rows), seed)] for i in range(start, start + batch_size)]
            loss = _loss_of_rows(model, tokenizer, drawn, bf16)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
            optimizer.step()
            run.log(loss=loss.item(), grad_norm=norm.item())
    return run.live


def train_grpo(
    model,
    tokenizer,
    rows: list[dict],
    reward_funcs: list[Callable],
    *,
    folder: str | Path,
    steps: int,
    learning_rate: float,
    max_new_tokens: int,
    prompts_per_step: int = 12,
    group_size: int = 4,
    temperature: float = 1.0,
    reward_weights: list[float] | None = None,
    advantage: Callable = group_advantages,
    loss_type: str = "dr_grpo",
    epsilon: float = 0.2,
    epsilon_high: float | None = None,
    inner_updates: int = 1,
    beta: float = 0.0,
    kl_in_reward: bool = False,
    refresh_reference: int | None = None,
    oversample: int = 1,
    micro_batch: int = 12,
    bf16: bool = False,
    seed: int = 0,
    charts: bool = True,
) -> LiveLog:
    """GRPO (Shao et al. 2024, arXiv 2402.03300, algorithm 1) on `rows`; changes `model`, returns the log.

    `advantage`: (rewards (B,), group_size) -> (B,). `inner_updates` (μ): updates from one batch.
    `beta`: the weight of the KL penalty, with the model as it is now for a reference, replaced by the policy every
    `refresh_reference` steps; in the loss (k3), or with `kl_in_reward` taken from a response's reward (k1, summed).
    `oversample`: sample that many times the prompts, and train on groups with spread only, `prompts_per_step` at most
    (dynamic sampling: DAPO, arXiv 2503.14476, section 3.2).
    `micro_batch`: responses in one forward pass; it changes memory and time, not the result. Responses without an
    advantage have no gradient, so without a KL term they are left out of the update, but for those that fill up its last
    micro-batch; the logged `entropy` is that of the others. Dropout stays off.
    `folder`: for checkpoints (see `Run`, also for the errors). Raises ValueError for settings that cannot be.
    """
    settings = _plain(locals())
    _check_positive(
        temperature=temperature, prompts_per_step=prompts_per_step, inner_updates=inner_updates, oversample=oversample,
        micro_batch=micro_batch,
    )  # fmt: skip
    _check_enough(rows, prompts_per_step * oversample)
    if kl_in_reward and not beta:
        raise ValueError("kl_in_reward=True takes the KL penalty from the reward: give beta, its weight, above 0.")
    model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    reference = copy.deepcopy(model).eval() if beta else None
    parts = {"model": model, "optimizer": optimizer} | ({"reference": reference} if beta else {})
    with Run(folder, parts, steps, settings, charts=charts) as run:
        for step in run:
            # Sample, and reward. The model as it is now is π_old.
            drawn = random.Random(f"{seed}-{step}").sample(rows, prompts_per_step * oversample)
            sampled = sample_batch(
                model, tokenizer, drawn, reward_funcs, group_size, max_new_tokens, temperature, reward_weights
            )
            batch = sampled if oversample == 1 else _with_spread(sampled, group_size, prompts_per_step)
            needs_old = inner_updates > 1 or kl_in_reward
            old_logps = _log_probabilities(model, batch, temperature, micro_batch, bf16) if needs_old else None
            ref_logps = _log_probabilities(reference, batch, temperature, micro_batch, bf16) if beta else None
            rewards = batch.rewards
            if kl_in_reward:
                rewards = rewards - beta * (kl_estimate(old_logps, ref_logps, "k1") * batch.mask).sum(1)
            advantages = advantage(rewards, group_size)
            counted = _with_gradient(advantages, micro_batch, beta=0.0 if kl_in_reward else beta)
            tokens, sums = batch.mask[counted].sum().item(), dict.fromkeys(("loss", "entropy", "kl"), 0.0)
            for _ in range(inner_updates):  # μ updates from the same batch
                optimizer.zero_grad()
                for part in counted.split(micro_batch):
                    some, ref = batch.rows(part), ref_logps[part] if beta else None
                    logps, entropies = _policy(model, some, temperature, bf16)
                    old = logps.detach() if old_logps is None else old_logps[part]
                    loss = grpo_loss(
                        logps, old, advantages[part], some.mask, epsilon=epsilon, epsilon_high=epsilon_high,
                        beta=0.0 if kl_in_reward else beta, ref_logps=ref, loss_type=loss_type, max_length=max_new_tokens,
                    ) * _share(some, batch, loss_type)  # fmt: skip
                    loss.backward()
                    sums["loss"] += loss.item() / inner_updates
                    weight = some.mask.sum().item() / tokens / inner_updates
                    sums["entropy"] += masked_mean(entropies, some.mask).item() * weight
                    if beta:
                        sums["kl"] += masked_mean(kl_estimate(logps.detach(), ref), some.mask).item() * weight
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
                optimizer.step()
            if beta and refresh_reference and step % refresh_reference == 0:
                reference.load_state_dict(model.state_dict())
            run.log(**sums, grad_norm=norm.item(), **_rewards_log(sampled, group_size))
    return run.live


def train_ppo(
    model,
    value_model: ValueModel,
    tokenizer,
    rows: list[dict],
    reward_funcs: list[Callable],
    *,
    folder: str | Path,
    steps: int,
    learning_rate: float,
    value_learning_rate: float,
    max_new_tokens: int,
    responses_per_step: int = 48,
    temperature: float = 1.0,
    reward_weights: list[float] | None = None,
    beta: float = 0.0,
    gamma: float = 1.0,
    lam: float = 0.95,
    epsilon: float = 0.2,
    value_clip: float | None = 0.2,
    value_coefficient: float = 0.1,
    epochs: int = 4,
    sft_rows: list[dict] | None = None,
    sft_coefficient: float = 1.0,
    micro_batch: int = 12,
    bf16: bool = False,
    seed: int = 0,
    charts: bool = True,
) -> LiveLog:
    """PPO (Schulman et al. 2017, arXiv 1707.06347) on `rows`; changes `model` and `value_model`, returns the log.

    One response a prompt. `beta`: the weight of the KL penalty within the rewards, against the model as it is now.
    The batch is gone through `epochs` times, in parts of `micro_batch` responses, an update for each part. A
    `value_model` built on `model.model` shares its layers; `value_coefficient` weighs its loss then.
    `sft_rows`: rows for `train_sft`, of which each update takes `micro_batch` and adds `sft_coefficient` times their
    loss (PPO-ptx of Ouyang et al. 2022, arXiv 2203.02155, eq. 2, there with pre-training text).
    A response that reaches `max_new_tokens` gets its score there, as if it had ended. Dropout stays off.
    `folder`: for checkpoints (see `Run`, also for the errors). Raises ValueError for settings that cannot be.
    """
    settings = _plain(locals())
    _check_positive(
        temperature=temperature, responses_per_step=responses_per_step, epochs=epochs, micro_batch=micro_batch
    )  # fmt: skip
    _check_enough(rows, responses_per_step)
    if sft_rows:
        _check_shown(sft_rows)
    model.eval()
    value_model.eval()
    own = {id(weight) for weight in model.parameters()}
    critic = [weight for weight in value_model.parameters() if id(weight) not in own]
    groups = [{"params": list(model.parameters()), "lr": learning_rate}, {"params": critic, "lr": value_learning_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    reference = copy.deepcopy(model).eval() if beta else None
    parts = {"model": model, "value_model": value_model, "optimizer": optimizer} | ({"reference": reference} if beta else {})
    with Run(folder, parts, steps, settings, charts=charts) as run:
        for step in run:
            # Sample, and reward. The model as it is now is π_old, and its values are the baseline.
            drawn = random.Random(f"{seed}-{step}").sample(rows, responses_per_step)
            batch = sample_batch(model, tokenizer, drawn, reward_funcs, 1, max_new_tokens, temperature, reward_weights)
            old_logps = _log_probabilities(model, batch, temperature, micro_batch, bf16)
            ref_logps = _log_probabilities(reference, batch, temperature, micro_batch, bf16) if beta else old_logps
            old_values = _values(value_model, batch, micro_batch, bf16)
            rewards = token_rewards(batch.rewards, old_logps, ref_logps, batch.mask, beta)
            advantages, returns = generalised_advantages(rewards, old_values, batch.mask, gamma, lam)
            advantages = whiten(advantages, batch.mask)
            sums = dict.fromkeys(("loss", "value_loss", "entropy", "clipped"), 0.0)
            for part in [part for _ in range(epochs) for part in _shuffled_parts(len(rewards), micro_batch)]:
                some = batch.rows(part)
                optimizer.zero_grad()
                # The gradient of a sum is the sum of the gradients; term by term, memory holds one graph at a time.
                logps, entropies = _policy(model, some, temperature, bf16)
                policy_loss = ppo_policy_loss(logps, old_logps[part], advantages[part], some.mask, epsilon)
                policy_loss.backward()
                with autocast(model, bf16):
                    values = value_model(some.ids, some.attention_mask, some.length)
                error = value_loss(values, old_values[part], returns[part], some.mask, value_clip)
                (value_coefficient * error).backward()
                if sft_rows:
                    mixed_in = random.sample(sft_rows, min(micro_batch, len(sft_rows)))
                    (sft_coefficient * _loss_of_rows(model, tokenizer, mixed_in, bf16)).backward()
                norm = torch.nn.utils.clip_grad_norm_([w for group in groups for w in group["params"]], LARGEST_NORM)
                optimizer.step()
                outside = ((logps.detach() - old_logps[part]).exp() - 1).abs() > epsilon
                seen = (policy_loss, error, masked_mean(entropies, some.mask), masked_mean(outside.float(), some.mask))
                sums = {name: total + value.item() for (name, total), value in zip(sums.items(), seen)}
            updates = epochs * len(_parts(len(rewards), micro_batch))
            run.log(
                **{name: total / updates for name, total in sums.items()},
                grad_norm=norm.item(),
                explained_variance=_explained(old_values, rewards, batch.mask, gamma),
                kl=masked_mean(old_logps - ref_logps, batch.mask).item(),
                **_rewards_log(batch),
            )
    return run.live


def _loss_of_rows(model, tokenizer, rows: list[dict], bf16: bool) -> torch.Tensor:
    """The SFT loss of rows with a `prompt` and a `completion`, both messages."""
    prompts = [_prompt_ids(tokenizer, row) for row in rows]
    wholes = [
        tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], enable_thinking=False, return_dict=False)
        for row in rows
    ]
    if any(whole[: len(prompt)] != prompt for prompt, whole in zip(prompts, wholes)):
        raise ValueError("This chat template writes a prompt otherwise when an answer follows it: no place to cut there.")
    answers = [whole[len(prompt) :] for prompt, whole in zip(prompts, wholes)]
    ids, attention_mask, mask = pad_responses(prompts, answers, tokenizer.pad_token_id, model.device, PAD_TO)
    with autocast(model, bf16):
        logps = response_log_probabilities(model, ids, attention_mask, mask.shape[1])
    return sft_loss(logps, mask)


def _policy(model, batch: Batch, temperature: float, bf16: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, with gradient, and entropies of the response tokens, each (B, R)."""
    with autocast(model, bf16):
        logits = response_logits(model, batch.ids, batch.attention_mask, batch.length) / temperature
    with torch.no_grad():
        entropies = token_entropies(logits)
    return token_log_probabilities(logits, batch.ids[:, -batch.length :]), entropies


@torch.no_grad()
def _log_probabilities(model, batch: Batch, temperature: float, micro_batch: int, bf16: bool) -> torch.Tensor:
    with autocast(model, bf16):
        return torch.cat([
            response_log_probabilities(model, batch.ids[part], batch.attention_mask[part], batch.length, temperature)
            for part in _parts(len(batch.ids), micro_batch)
        ])  # fmt: skip


@torch.no_grad()
def _values(value_model: ValueModel, batch: Batch, micro_batch: int, bf16: bool) -> torch.Tensor:
    with autocast(value_model.backbone, bf16):
        parts = _parts(len(batch.ids), micro_batch)
        return torch.cat([value_model(batch.ids[part], batch.attention_mask[part], batch.length) for part in parts])


def _check_enough(rows: list[dict], wanted: int) -> None:
    if len(rows) < wanted:
        raise ValueError(f"{len(rows)} rows, and a step asks for {wanted} different prompts: give more, or ask for fewer.")


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name}={value}: give a number above 0.")


def _check_shown(rows: list[dict]) -> None:
    """Raise ValueError where SFT has no rows, or one without a prompt and a completion."""
    if not len(rows):
        raise ValueError("No rows to train on.")
    for number, row in enumerate(rows):
        missing = [name for name in ("prompt", "completion") if not row.get(name)]
        if missing:
            raise ValueError(f"Row {number} has no {missing[0]}: SFT needs `prompt` and `completion`, lists of messages.")


def _prompt_ids(tokenizer, row: dict) -> list[int]:
    return tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, enable_thinking=False, return_dict=False)


def _place(i: int, rows: int, seed: int) -> int:
    """The i-th row of an endless walk through all rows, in a new order each round."""
    order = list(range(rows))
    random.Random(f"{seed}-{i // rows}").shuffle(order)
    return order[i % rows]


def _parts(number: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def _with_gradient(advantages: torch.Tensor, micro_batch: int, beta: float) -> torch.Tensor:
    """The indices of the responses worth a forward pass: with no KL term those with an advantage, if there are any.

    Rounded up to whole micro-batches: each new shape of a tensor costs memory and time.
    """
    some = ~(advantages.abs() <= 1e-6)  # nan counts too: it must stop the run, not pass by
    if beta or not some.any():
        return torch.arange(len(advantages), device=advantages.device)
    parts = -(-int(some.sum()) // micro_batch)
    return some.int().argsort(descending=True, stable=True)[: parts * micro_batch]


def _with_spread(batch: Batch, group_size: int, groups: int) -> Batch:
    """The first `groups` groups whose rewards differ; where there is none, the first groups."""
    differ = batch.rewards.view(-1, group_size).std(1) > 1e-6
    if not differ.any():
        differ = ~differ
    return batch.rows(differ.repeat_interleave(group_size).nonzero().flatten()[: groups * group_size])


def _shuffled_parts(number: int, size: int) -> list[torch.Tensor]:
    return list(torch.randperm(number).split(size))


def _share(part: Batch, batch: Batch, loss_type: str) -> float:
    """What a part's own average counts for in the average over the batch."""
    if loss_type == "dapo":
        return (part.mask.sum() / batch.mask.sum()).item()
    return len(part.ids) / len(batch.ids)


def _rewards_log(batch: Batch, group_size: int = 0) -> dict[str, float]:
    """The numbers that the library logs, under its names."""
    numbers = {
        "reward": batch.rewards.mean().item(),
        "completions/mean_length": batch.mask.sum(1).mean().item(),
        "completions/clipped_ratio": batch.cut_off,
        "tokens": batch.mask.sum().item(),
    }
    if group_size:
        numbers["frac_reward_zero_std"] = (batch.rewards.view(-1, group_size).std(1) < 1e-6).float().mean().item()
    return numbers


def _explained(values: torch.Tensor, rewards: torch.Tensor, mask: torch.Tensor, gamma: float) -> float:
    """The share of the variance of what really came (λ = 1) that the values explain: 1 all, 0 no more than a constant."""
    _, returns = generalised_advantages(rewards, values, mask, gamma, lam=1.0)
    error = returns - values
    spread = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
    left = masked_mean((error - masked_mean(error, mask)).square(), mask)
    return (1 - left / spread.clamp(min=1e-8)).item()


def _plain(arguments: dict) -> dict:
    """Of a function's arguments those that say what a run is, as plain values: a function by its name, rows by a hash."""
    plain = {name: _digest(arguments.get(name) or []) for name in ("rows", "sft_rows")}
    plain["rewards"] = [_name(function) for function in arguments.get("reward_funcs", [])]
    for key, value in arguments.items():
        if callable(value) and not isinstance(value, torch.nn.Module):
            plain[key] = _name(value)
        elif key not in ("rows", "sft_rows", "reward_funcs") and isinstance(value, int | float | str | list | tuple | None):
            plain[key] = value
    return {key: plain[key] for key in plain if key not in ("folder", "charts", "tokenizer")}


def _digest(rows: list[dict]) -> str:
    return hashlib.sha256(json.dumps(list(rows), default=str).encode()).hexdigest()[:16]


def _name(function: Callable) -> str:
    if isinstance(function, functools.partial):
        return f"{_name(function.func)}{function.args}{sorted(function.keywords.items())}"
    return getattr(function, "__name__", "function")
