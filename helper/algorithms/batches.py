"""A batch of sampled responses: how it is drawn, sampled and rewarded, and what a model says about its tokens.

Rows and reward functions are those of TRL's trainers: a row has a `prompt` (messages) and the columns that the rewards
ask for. `sample_batch` is what the loops sample with; others that return a Batch may be given in its place.
Left out on purpose: several devices, vLLM; the library has them.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch

from helper.algorithms.policy_gradient import kl_estimate
from helper.algorithms.responses import (
    pad_responses,
    response_log_probabilities,
    response_logits,
    token_entropies,
    token_log_probabilities,
)
from helper.algorithms.runs import autocast
from helper.generation import generate_tokens, stop_token_ids
from helper.machine.sizes import PAD_TO
from helper.trainers.reward_checks import guard_reward


@dataclass
class Batch:
    """Sampled responses: B rows, shapes as in `helper.algorithms.responses`; what a loop adds stands last.

    `ids`, `attention_mask` (B, P + R), `mask` (B, R), `rewards` (B,), `numbers`: what is logged of the sampling.
    `advantages` (B,) or (B, R), `old_logps`, `ref_logps`, `values`, `returns` (B, R): None until they are known.
    """

    ids: torch.Tensor
    attention_mask: torch.Tensor
    mask: torch.Tensor
    rewards: torch.Tensor
    texts: list[str]
    cut_off: float  # the share of responses that reached the length limit without an end
    numbers: dict[str, float] = field(default_factory=dict)
    advantages: torch.Tensor | None = None
    old_logps: torch.Tensor | None = None
    ref_logps: torch.Tensor | None = None
    values: torch.Tensor | None = None
    returns: torch.Tensor | None = None

    @property
    def length(self) -> int:
        return self.mask.shape[1]

    def rows(self, chosen: slice | torch.Tensor) -> "Batch":
        """The batch with some of its responses only."""
        whole = {column.name: getattr(self, column.name) for column in fields(self)}
        return replace(self, **{name: value[chosen] for name, value in whole.items() if isinstance(value, torch.Tensor)})


def draw(rows: list[dict], number: int, seed: int, step: int) -> list[dict]:
    """`number` different rows for a step; ValueError where there are fewer."""
    if len(rows) < number:
        raise ValueError(f"{len(rows)} rows, and a step asks for {number} different prompts: give more, or ask for fewer.")
    return random.Random(f"{seed}-{step}").sample(rows, number)


def sample_batch(
    model, tokenizer, rows: list[dict], reward_funcs: list[Callable], group_size: int, max_new_tokens: int,
    temperature: float = 1.0, reward_weights: list[float] | None = None,
) -> Batch:  # fmt: skip
    """Sample `group_size` responses to the prompt of each row, and reward them; the responses of a row stand together.

    The reward of a response is the weighted sum of what the functions pay.
    """
    rows = [row for row in rows for _ in range(group_size)]
    prompts = [prompt_ids(tokenizer, row) for row in rows]
    responses = generate_tokens(
        model, tokenizer, prompts, max_new_tokens, batch_size=len(rows), temperature=temperature, keep_end=True
    )
    ends = set(stop_token_ids(model, tokenizer))
    texts = tokenizer.batch_decode(responses, skip_special_tokens=True)
    ids, attention_mask, mask = pad_responses(prompts, responses, tokenizer.pad_token_id, model.device, PAD_TO)
    rewards = reward_texts(rows, texts, reward_funcs, reward_weights).to(model.device)
    cut_off = sum(response[-1] not in ends for response in responses) / len(responses)
    numbers = _numbers(rewards, mask, cut_off, group_size)
    return Batch(ids, attention_mask, mask, rewards, texts, cut_off, numbers)


def _numbers(rewards: torch.Tensor, mask: torch.Tensor, cut_off: float, group_size: int) -> dict[str, float]:
    """What the library logs of a batch, under its names, and the number of sampled tokens."""
    numbers = {
        "reward": rewards.mean().item(),
        "completions/mean_length": mask.sum(1).mean().item(),
        "completions/clipped_ratio": cut_off,
        "tokens": mask.sum().item(),
    }
    if group_size > 1:
        numbers["frac_reward_zero_std"] = (rewards.view(-1, group_size).std(1) < 1e-6).float().mean().item()
    return numbers


def reward_texts(rows: list[dict], texts: list[str], reward_funcs: list[Callable], weights=None) -> torch.Tensor:
    """The weighted sum of what the reward functions pay for each text, (B,); what is no reward is an error, not summed up.

    Raises ValueError or TypeError, as `guard_reward` does around a reward function of the library's trainer.
    """
    completions = [[{"role": "assistant", "content": text}] for text in texts]
    columns = {key: [row[key] for row in rows] for key in rows[0]}
    prompts = columns.pop("prompt")
    paid = [guard_reward(function)(prompts=prompts, completions=completions, **columns) for function in reward_funcs]
    weights = weights or [1.0] * len(paid)
    if len(weights) != len(paid):
        raise ValueError(f"{len(weights)} reward_weights for {len(paid)} reward functions: give one for each.")
    return torch.tensor([sum(w * r for w, r in zip(weights, each)) for each in zip(*paid)], dtype=torch.float32)


# Other ways to sample, for a loop's `sample=`


def sample_groups_with_spread(
    model, tokenizer, rows: list[dict], reward_funcs: list[Callable], group_size: int, max_new_tokens: int,
    temperature: float = 1.0, reward_weights: list[float] | None = None, *, groups: int,
) -> Batch:  # fmt: skip
    """Dynamic sampling (DAPO: Yu et al. 2025, arXiv 2503.14476, section 3.2): of all groups the first `groups` with spread.

    Give it more rows than `groups`: `sample=partial(sample_groups_with_spread, groups=12), prompts_per_step=24`. What is
    logged is about all that was sampled. Where no group has spread, the first ones are taken.
    """
    options = (group_size, max_new_tokens, temperature, reward_weights)
    batch = sample_batch(model, tokenizer, rows, reward_funcs, *options)
    return groups_with_spread(batch, group_size, groups)


def groups_with_spread(batch: Batch, group_size: int, groups: int) -> Batch:
    """The first `groups` groups whose rewards differ; where there is none, the first groups."""
    differ = batch.rewards.view(-1, group_size).std(1) > 1e-6
    if not differ.any():
        differ = ~differ
    return batch.rows(differ.repeat_interleave(group_size).nonzero().flatten()[: groups * group_size])


def kl_in_reward(batch: Batch, model, reference, beta: float, temperature=1.0, micro_batch=12, bf16=False) -> Batch:
    """The batch with the KL penalty in its rewards: β · Σ_t (log π_old - log π_ref) of each response less (k1, summed).

    As in PPO for language models (Ziegler et al. 2019, arXiv 1909.08593, eq. 2); GRPO has it in the loss.
    """
    old, ref = (log_probabilities(one, batch, temperature, micro_batch, bf16) for one in (model, reference))
    return replace(batch, rewards=batch.rewards - beta * (kl_estimate(old, ref, "k1") * batch.mask).sum(1))


# What a model says about a batch


def policy(model, batch: Batch, temperature: float = 1.0, bf16: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities, with gradient, and entropies of the response tokens, each (B, R), in nats."""
    with autocast(model, bf16):
        logits = response_logits(model, batch.ids, batch.attention_mask, batch.length) / temperature
    with torch.no_grad():
        entropies = token_entropies(logits)
    return token_log_probabilities(logits, batch.ids[:, -batch.length :]), entropies


@torch.no_grad()
def log_probabilities(
    model, batch: Batch, temperature: float = 1.0, micro_batch: int = 12, bf16: bool = False
) -> torch.Tensor:
    """Log-probabilities of the response tokens, (B, R), in nats, without gradient, `micro_batch` responses at a time."""
    with autocast(model, bf16):
        return torch.cat([
            response_log_probabilities(model, batch.ids[part], batch.attention_mask[part], batch.length, temperature)
            for part in slices(len(batch.ids), micro_batch)
        ])  # fmt: skip


def slices(number: int, size: int) -> list[slice]:
    """`number` rows in parts of `size`, the last one smaller."""
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]


def prompt_ids(tokenizer, row: dict) -> list[int]:
    """The token ids of a row's prompt, with the opening of the assistant's turn."""
    return tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, enable_thinking=False, return_dict=False)
