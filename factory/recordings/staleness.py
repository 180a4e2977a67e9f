"""GRPO on answers of an older model: `10_staleness.json`. As an engine that samples while the trainer goes on would have it.

The answers of step t come from the weights as they stood k steps before (from the first ones, while there are fewer). The
loss takes them for its own, so that the ratio is 1; or, "corrected", divides by the probabilities under the weights that
wrote them, with PPO's clip.
Left out on purpose: engines. What differs here is the age of the weights, and nothing else.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from pathlib import Path

from factory.recordings.practice_rounds import LONGEST, TRAINED, Clock, record_arms, start, student
from factory.recordings.shared import curve, fresh
from helper import reward_func
from helper.algorithms import group_advantages, grpo_loss, sample_batch, train_grpo
from helper.algorithms.batches import log_probabilities
from helper.algorithms.responses import masked_mean
from helper.machine.device import bf16_is_fast

RATE = 3e-4  # the best of the older records with 48 answers a step; equal for all arms
LOOP = {"prompts_per_step": 6, "group_size": 4, "max_new_tokens": LONGEST, "micro_batch": 24}
STEPS = 32
AGES = {"fresh": (0, False), "4 steps old": (4, False), "16 steps old": (16, False), "16 steps old, corrected": (16, True)}


def sampling_from_old(age: int, corrected: bool, bf16: bool = False):
    """`sample_batch` from the weights of `age` steps ago; `apart` is logged: how far the newest are from those.

    In nats a token, the estimate k1 of KL(old || new).
    """
    kept, old = deque(maxlen=age + 1), student()

    def sample(model, tokenizer, rows, reward_funcs, group_size, max_new_tokens, temperature=1.0):
        kept.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})
        old.load_state_dict(kept[0])
        batch = sample_batch(old, tokenizer, rows, reward_funcs, group_size, max_new_tokens, temperature)
        batch.numbers["apart"] = 0.0
        if age:
            before, now = (log_probabilities(one, batch, temperature, LOOP["micro_batch"], bf16) for one in (old, model))
            batch.numbers["apart"] = masked_mean(before - now, batch.mask).item()
            batch.old_logps = before if corrected else None
        return batch

    return sample


def run(arm: str, rate: float, seed: int, _: int, steps: int = STEPS) -> tuple:
    """One run of GRPO; the model, and what its row says."""
    model, clock, bf16 = student(), Clock(), bf16_is_fast("cpu")
    with clock:
        log = train_grpo(
            model, start()[1], start()[2][:TRAINED], [reward_func], folder=fresh("10_staleness"), steps=steps,
            learning_rate=rate, sample=sampling_from_old(*AGES[arm], bf16), seed=seed, charts=False, bf16=bf16,
            advantage=partial(group_advantages, scale="none"), loss=partial(grpo_loss, loss_type="dr_grpo"), **LOOP,
        ).table()  # fmt: skip
    about = {"samples": steps * LOOP["prompts_per_step"] * LOOP["group_size"], "cpu_seconds": clock.read()}
    return model, about | {"reward": curve(log["reward"]), "apart": [round(each, 4) for each in log["apart"]]}


def record_staleness(seeds: list[int], path: Path) -> dict:
    """GRPO on answers of the newest weights and of older ones, three ages, one of them corrected too."""
    settings = {"steps": STEPS, "answers": LOOP["prompts_per_step"] * LOOP["group_size"], "learning_rate": RATE}
    return record_arms("staleness", seeds, path, dict.fromkeys(AGES, (RATE,)), settings, run)
