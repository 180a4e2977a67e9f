"""Lesson 05, one thing changed at a time: short runs of `train_grpo` with equally many samples, several seeds an arm.

In three tiers; in each, one seed of all its arms comes before the next, so that a record that was stopped is balanced.
The arms of a seed begin with the same warmed-up model and, where their batches are alike, the same prompts: they are paired.
Written after each run; a run that is in the record is not made again.
Left out on purpose: equal time (the processor's seconds are recorded), tuned learning rates an arm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from factory.recordings.lesson_03 import once, resumed
from factory.recordings.shared import command
from factory.recordings.tagged_runs import DR_GRPO, GRPO, LONGEST, own_run, plain, warmed_up
from helper.algorithms import (
    cispo_loss,
    group_advantages,
    grpo_loss,
    gspo_loss,
    kl_in_reward,
    leave_one_out_advantages,
    sample_batch,
    sample_groups_with_spread,
)
from helper.recorded import as_digits

SHORT = {"steps": 12, "prompts_per_step": 8, "group_size": 4, "micro_batch": 8}  # beside the lesson's settings
HELD_OUT = 300  # word problems
CACHE = 60  # tokens before the limit in which an answer is punished for its length; a usual answer has 55 to 60
SAME = "as in the lesson"


def batch_mean_advantages(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """REINFORCE with the mean of the whole batch for a baseline, (B,) -> (B,)."""
    return rewards - rewards.mean()


def no_baseline(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """REINFORCE without a baseline: the reward itself, (B,) -> (B,)."""
    return rewards


def overlong_penalty(lengths: torch.Tensor, longest: int, cache: int) -> torch.Tensor:
    """DAPO's soft punishment, lengths (B,) in tokens -> (B,) from 0 to -1 (Yu et al. 2025, arXiv 2503.14476, eq. 13)."""
    return ((longest - cache - lengths) / cache).clamp(-1.0, 0.0)


def sample_with_overlong_penalty(*arguments, **options):
    """`sample_batch`, each reward less the soft punishment of its length."""
    batch = sample_batch(*arguments, **options)
    return replace(batch, rewards=batch.rewards + overlong_penalty(batch.mask.sum(1), LONGEST, CACHE))


def penalised_sampling(reference, beta: float) -> Callable:
    """A `sample` for the loop: the KL penalty, k1 summed over the response, in the rewards."""

    def sample_with_kl(model, *arguments, **options):
        return kl_in_reward(sample_batch(model, *arguments, **options), model, reference, beta)

    return sample_with_kl


TWO, FOUR = {"inner_updates": 2}, {"inner_updates": 4}
TIERS: list[dict[str, dict]] = [  # name -> other arguments of `train_grpo`; "kl_reward" is the β of a penalty in the rewards
    {
        SAME: {},
        "divided by the group's std": {"advantage": group_advantages},
        "mean over each response": {"loss": partial(grpo_loss, loss_type="grpo")},
        "both divisions, as first published": {
            "advantage": group_advantages, "loss": partial(grpo_loss, loss_type="grpo"),
        },
        "RLOO": {"advantage": leave_one_out_advantages},
        "REINFORCE, no baseline": {"advantage": no_baseline},
        "G = 2, 16 prompts": {"group_size": 2, "prompts_per_step": 16},
        "G = 16, 2 prompts": {"group_size": 16, "prompts_per_step": 2},
    },
    {
        "REINFORCE, mean of the batch": {"advantage": batch_mean_advantages},
        "KL in the loss, beta 0.2": {"loss": partial(DR_GRPO, beta=0.2), "reference": True},
        "mu = 4": FOUR,
        "mu = 4, no clip": FOUR | {"loss": partial(DR_GRPO, epsilon=1e9, epsilon_high=1e9)},
    },
    {
        "KL in the loss, beta 0.04": {"loss": partial(DR_GRPO, beta=0.04), "reference": True},
        "KL in the reward, beta 0.04": {"kl_reward": 0.04},
        "mu = 2": TWO,
        "mu = 2, epsilon_high 0.28": TWO | {"loss": partial(DR_GRPO, epsilon_high=0.28)},
        "mu = 2, GSPO": TWO | {"loss": gspo_loss},
        "mu = 2, CISPO": TWO | {"loss": cispo_loss},
        "G = 8, 4 prompts": {"group_size": 8, "prompts_per_step": 4},
        "dynamic sampling, half the steps": {
            "sample": partial(sample_groups_with_spread, groups=8), "prompts_per_step": 16, "steps": 6,
        },
        "overlong penalty": {"sample": sample_with_overlong_penalty},
        "mean over all tokens (dapo)": {"loss": partial(grpo_loss, loss_type="dapo")},
    },
]  # fmt: skip
ARMS = {name: changes for tier in TIERS for name, changes in tier.items()}
SAMPLES = SHORT["steps"] * SHORT["prompts_per_step"] * SHORT["group_size"]


def one_arm(arm: str, seed: int) -> dict:
    """A row of the record: scores, verdicts as 0 and 1, costs, and two answers that were right before and are wrong now."""
    changes = SHORT | ARMS[arm]
    before = warmed_up(seed, HELD_OUT)
    beta = changes.pop("kl_reward", None)
    if beta is not None:
        changes["sample"] = penalised_sampling(before[0], beta)
    row, after = own_run(seed, HELD_OUT, **changes)
    lost = [i for i, (old, new) in enumerate(zip(before[-1]["right"], after["right"])) if old and not new]
    row["spoiled"] = [{"question": after["questions"][i], "answer": after["texts"][i][:400]} for i in lost[:2]]
    return row | {"lost": len(lost), "right": as_digits(after["right"]), "right_before": as_digits(before[-1]["right"])}


def record_grpo_ablations(seeds: list[int], path: Path) -> None:
    """Short runs with one thing changed each, equally many samples, all arms with each seed."""
    head = {
        "command": command("grpo_ablations", seeds), "settings": plain(GRPO | SHORT), "samples": SAMPLES,
        "seeds": seeds, "threads": torch.get_num_threads(),
    }  # fmt: skip
    record = resumed(path, head)
    for tier in TIERS:
        for seed in seeds:
            for arm in tier:
                once(record, path, "runs", {"arm": arm, "seed": seed}, partial(one_arm, arm, seed))
