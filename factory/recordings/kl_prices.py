"""Lesson 09: what a KL penalty costs and holds in GRPO, with a few fixed β and one that adapts itself, `09_kl_prices.json`.

The penalty stands in the reward, summed over an answer's tokens (Ziegler et al. 2019, arXiv 1909.08593, eq. 2).
Left out on purpose: the penalty in the loss (lesson 05 has both), a renewed reference (the lesson derives it).
"""

from __future__ import annotations

from pathlib import Path

from factory.recordings.practice_rounds import Clock, record_untuned, start, student, tests, verdicts
from factory.recordings.razor import RATE, distances, grpo_steps
from helper.algorithms import kl_in_reward, sample_batch
from helper.algorithms.movement import adapted_beta
from helper.machine.device import bf16_is_fast

STEPS = 18
ARMS = {"β = 0": 0.0, "β = 0.1": 0.1, "β = 0.3": 0.3, "β = 1": 1.0, "adaptive": 0.1}  # what β begins with
TARGET_KL, GAIN = 0.5, 2.0  # nats an answer; the paper's gain of 0.1 is for runs of thousands of batches


class Price:
    """`sample_batch` with the KL penalty in the rewards; it keeps each batch's KL, share right and β, and may adapt β."""

    def __init__(self, beta: float, adapts: bool):
        self.beta, self.adapts, self.log = beta, adapts, []

    def __call__(self, model, tokenizer, rows, rewards, *options):
        batch = sample_batch(model, tokenizer, rows, rewards, *options)
        right = batch.rewards.mean().item()
        priced = kl_in_reward(batch, model, start()[0], 1.0, bf16=bf16_is_fast())
        kls = batch.rewards - priced.rewards  # log π - log π_ref of each answer: an estimate of the KL, from samples
        self.log.append([round(number, 4) for number in (kls.mean().item(), right, self.beta)])
        batch.rewards = batch.rewards - self.beta * kls
        if self.adapts:
            self.beta = adapted_beta(self.beta, kls.mean().item(), TARGET_KL, GAIN)
        return batch


def one_run(arm: str, seed: int) -> dict:
    """STEPS steps of GRPO, judged; the log is [KL of an answer, share right, β] for each batch."""
    model, price, clock = student(), Price(ARMS[arm], arm == "adaptive"), Clock()
    steps = grpo_steps(model, RATE, seed, sample=price)
    with clock:
        for _ in range(STEPS):
            next(steps)
    model.eval()
    return {"log": price.log, "cpu_seconds": clock.read(), **verdicts(model, tests()), **distances(model)}


def record_kl_prices(seeds: list[int], path: Path) -> None:
    """GRPO with four fixed β and with an adaptive one: gain, KL, other skills."""
    settings = {"steps": STEPS, "rate": RATE, "target_kl": TARGET_KL, "gain": GAIN}
    record_untuned("kl_prices", seeds, path, ARMS, settings, lambda: verdicts(start()[0], tests()), one_run)
