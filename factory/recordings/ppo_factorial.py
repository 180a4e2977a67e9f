"""The recorded runs of lesson 06 that take PPO against GRPO apart: prompts × updates (with their rate) × baseline.

One loop for all arms: answers, rewards, advantages less a baseline, whitened, clipped token loss, the same optimizer.
Group mean with one answer a prompt is left out on purpose: an answer's advantage over itself is 0. One update a batch has
the learning rate that was best for GRPO in `06_ppo_against_grpo.json`, six have PPO's best. An update skips answers whose
advantage is 0 (groups without spread): their gradient is 0.
Left out on purpose: a search over learning rates for each arm, a KL penalty.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch

from factory.recordings.preferences_06 import LONGEST
from factory.recordings.shared import command, curve, model_and_problems, write
from helper import answers_match, extract_boxed, generate_responses, load_suite, reward_func, set_seed
from helper.algorithms import (
    Batch,
    ValueModel,
    generalised_advantages,
    group_advantages,
    response_log_probabilities,
    sample_batch,
    token_rewards,
    value_loss,
    whiten,
)
from helper.algorithms.batches import draw
from helper.algorithms.policy_gradient import clipped_surrogate
from helper.algorithms.runs import LARGEST_NORM
from helper.algorithms.train_ppo import critic_metrics, ppo_optimizer

N = 200  # held-out problems
ANSWERS = 48  # a step
DRAWS = {"48 x 1": (48, 1), "12 x 4": (12, 4)}  # prompts × answers to each
UPDATES = {  # updates a batch -> passes over it, answers in an update, learning rate
    1: {"epochs": 1, "minibatch": 48, "learning_rate": 3e-4},
    6: {"epochs": 2, "minibatch": 16, "learning_rate": 1e-4},
}
BASELINES = ("batch mean", "group mean", "critic 0.95", "critic 1")  # the number is λ
VALUE_RATE, VALUE_COEFFICIENT, EPSILON, PASS = 1e-3, 0.1, 0.2, 8  # PASS: answers in one forward pass
SHARED = ("48 x 1", 6, "critic 1, shared")  # one more arm: the critic is a layer on top of the policy's own
EQUAL_SAMPLES = 8  # steps after which all arms have sampled as much
STEPS = {  # (updates, baseline without λ) -> so many that all take about the same processor time
    (1, "batch mean"): 22, (1, "group mean"): 40, (1, "critic"): 14,
    (6, "batch mean"): 11, (6, "group mean"): 22, (6, "critic"): 8,
}  # fmt: skip


def arms() -> list[tuple[str, int, str]]:
    """(draw, updates, baseline) of all arms, without the two that have no signal, and one more."""
    every = [(draws, updates, baseline) for draws in DRAWS for updates in UPDATES for baseline in BASELINES]
    return [arm for arm in every if arm[::2] != ("48 x 1", "group mean")] + [SHARED]


def passes(batch: Batch, chosen: torch.Tensor) -> Iterator[tuple[torch.Tensor, Batch]]:
    """The chosen answers, `PASS` of about one length at a time, without columns that are padding to all of them."""
    width = batch.ids.shape[1] - batch.length
    if not len(chosen):
        return  # an update in which no group has spread
    for few in chosen[batch.attention_mask[chosen].sum(1).argsort()].split(PASS):
        part = batch.rows(few)
        start = int(part.attention_mask.any(0).int().argmax()) // 8 * 8
        end = -(-int(part.mask.sum(1).max()) // 8) * 8
        cut = {name: getattr(part, name)[:, start : width + end] for name in ("ids", "attention_mask")}
        columns = [column.name for column in fields(part) if getattr(part, column.name) is not None]
        of_tokens = {"mask", "advantages", "old_logps", "values", "returns"} & set(columns)
        yield few, replace(part, **cut, **{name: getattr(part, name)[:, :end] for name in of_tokens})


@torch.no_grad()
def each_token(batch: Batch, function) -> torch.Tensor:
    """What the function gives for the tokens of the answers, (B, R), 0 on the padding, without gradient."""
    found = torch.zeros_like(batch.mask)
    for few, part in passes(batch, torch.arange(len(batch.ids))):
        found[few, : part.length] = function(part.ids, part.attention_mask, part.length) * part.mask
    return found


def with_advantages(batch: Batch, critic, baseline: str, group_size: int) -> dict[str, float]:
    """Put advantages (B, R), and for a critic values and returns, into the batch; what the critic explains."""
    explained = {}
    if critic is None:
        rewards = batch.rewards
        kept = rewards - rewards.mean() if baseline == "batch mean" else group_advantages(rewards, group_size, scale="none")
        advantages = kept.unsqueeze(1) * batch.mask
    else:
        zero = torch.zeros_like(batch.mask)
        rewards = token_rewards(batch.rewards, zero, zero, batch.mask, 0.0)
        batch.values = each_token(batch, critic)
        advantages, batch.returns = generalised_advantages(
            rewards, batch.values, batch.mask, 1.0, float(baseline.split()[1].rstrip(","))
        )
        explained = critic_metrics(replace(batch, old_logps=zero, ref_logps=zero), rewards, 1.0)
    batch.advantages = whiten(advantages, batch.mask) * (advantages != 0)
    return explained


def update(model, critic, optimizer, part: Batch) -> None:
    """One step of the optimizer on a part of the batch, `PASS` answers at a time; means are over the whole part's tokens."""
    optimizer.zero_grad()
    tokens = part.mask.sum()
    for _, rows in passes(part, (part.advantages != 0).any(1).nonzero().flatten()):
        logps = response_log_probabilities(model, rows.ids, rows.attention_mask, rows.length)
        old_logps = logps.detach() if rows.old_logps is None else rows.old_logps  # one update: π_old is π_θ
        gain = clipped_surrogate(logps, old_logps, rows.advantages, EPSILON)
        (-(gain * rows.mask).sum() / tokens).backward()
    if critic is not None:
        for _, rows in passes(part, torch.arange(len(part.ids))):
            loss = value_loss(critic(rows.ids, rows.attention_mask, rows.length), rows.values, rows.returns, rows.mask)
            (VALUE_COEFFICIENT * loss * rows.mask.sum() / tokens).backward()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    torch.nn.utils.clip_grad_norm_(weights, LARGEST_NORM)  # one norm for policy and critic, as in `ppo_update`
    optimizer.step()


def held_out(model, tokenizer) -> str:
    """Greedy answers to the first `N` problems of the suite: "1" where right, else "0", one letter a problem."""
    problems = load_suite("word_problems")[:N]
    texts = generate_responses(model, tokenizer, [row["question"] for row in problems], max_new_tokens=LONGEST)
    right = [answers_match(extract_boxed(text), str(row["value"])) for text, row in zip(texts, problems)]
    return "".join(str(int(each)) for each in right)


def one_run(draws: str, updates: int, baseline: str, seed: int, steps: int | None = None) -> dict:
    """Train one arm; held-out answers after `EQUAL_SAMPLES` steps and at the end, with the processor seconds until then."""
    model, tokenizer, rows = model_and_problems()
    prompts, group_size = DRAWS[draws]
    setting, critic = UPDATES[updates], None
    set_seed(seed)
    if baseline.startswith("critic"):
        critic = ValueModel(model.model if baseline.endswith("shared") else copy.deepcopy(model.model)).eval()
        optimizer = ppo_optimizer(model.eval(), critic, setting["learning_rate"], VALUE_RATE)
    else:
        optimizer = torch.optim.AdamW(model.eval().parameters(), lr=setting["learning_rate"], weight_decay=0.0)
    run = {
        "draw": draws,
        "updates": updates,
        "baseline": baseline,
        "seed": seed,
        "reward": [],
        "explained": [],
        "stages": [],
    }
    seconds = tokens = 0.0
    steps = steps or STEPS[updates, baseline if critic is None else "critic"]
    for step in range(1, steps + 1):
        begun = time.process_time()
        set_seed(seed * 100_000 + step)
        batch = sample_batch(model, tokenizer, draw(rows, prompts, seed, step), [reward_func], group_size, LONGEST)
        if updates > 1:
            batch.old_logps = each_token(batch, partial(response_log_probabilities, model))
        explained = with_advantages(batch, critic, baseline, group_size)
        for _ in range(setting["epochs"]):
            for chosen in torch.randperm(ANSWERS).split(setting["minibatch"]):
                update(model, critic, optimizer, batch.rows(chosen))
        seconds, tokens = seconds + time.process_time() - begun, tokens + batch.mask.sum().item()
        run["reward"].append(batch.rewards.mean().item())
        run["explained"] += [explained["explained_variance"]] if explained else []
        if step in (min(EQUAL_SAMPLES, steps), steps):
            stage = {"step": step, "seconds": round(seconds, 1), "tokens": int(tokens), "right": held_out(model, tokenizer)}
            run["stages"].append(stage)
    return run | {"reward": curve(run["reward"]), "explained": curve(run["explained"])}


def record_ppo_factorial(seeds: list[int], path: Path) -> None:
    """All arms with the first seed, then with the next; written after each run, and what is there is not run again."""
    settings = {
        "n": N, "answers": ANSWERS, "equal_samples": EQUAL_SAMPLES, "longest": LONGEST, "epsilon": EPSILON,
        "value_rate": VALUE_RATE, "value_coefficient": VALUE_COEFFICIENT,
        "updates": {str(updates): setting for updates, setting in UPDATES.items()},
        "steps": {f"{updates}, {baseline}": steps for (updates, baseline), steps in STEPS.items()},
    }  # fmt: skip
    record = {"command": command("ppo_factorial", seeds), "settings": settings, "threads": torch.get_num_threads()}
    record |= {"seconds": "of the processor, training only", "before": None, "runs": []}
    if path.exists():
        there = json.loads(path.read_text())
        record = there | {"command": record["command"]} if there["settings"] == settings else record
    record["before"] = record["before"] or held_out(*model_and_problems()[:2])
    done = {(run["draw"], run["updates"], run["baseline"], run["seed"]) for run in record["runs"]}
    for seed in seeds:
        for arm in arms():
            if (*arm, seed) in done:
                continue
            record["runs"].append(one_run(*arm, seed))
            stages = [
                (stage["step"], stage["seconds"], stage["right"].count("1") / N) for stage in record["runs"][-1]["stages"]
            ]
            print(seed, *arm, stages, flush=True)
            write(record, path)
