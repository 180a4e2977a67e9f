"""Rejection: as statistics, where a proposal's draws are kept by chance, and with answers, where a check keeps them.

`rejection_sample` draws from a density with draws from another one (von Neumann 1951). `best_of_k`, `expected_best` and
`expert_round` are what language models make of the word: sample, verify, keep (Llama 3's report, arXiv 2407.21783,
section 4.2; expert iteration: Anthony et al. 2017, arXiv 1705.08439; on maths Yuan et al. 2023, arXiv 2308.01825).
`tests/test_rejection.py` holds the formulas against simulation, enumeration and slow code.
Left out on purpose: the training on what is kept, which is SFT; pass@k alone, which is `helper.intervals.pass_at_k`.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from helper.algorithms.batches import reward_texts
from helper.generation import generate_responses

# Statistics


def smallest_bound(target: torch.Tensor, proposal: torch.Tensor) -> float:
    """The smallest M with p(x) <= M q(x) for all x: densities (N,) and (N,) -> max p / q.

    Neither has to sum to 1; both are divided by their sums. Raises ValueError where p > 0 and q = 0: q never gets there.
    """
    p, q = _as_density(target, "target"), _as_density(proposal, "proposal")
    if ((p > 0) & (q == 0)).any():
        raise ValueError("The proposal never draws a value that the target has: no M is large enough.")
    return (p[p > 0] / q[p > 0]).max().item()


def rejection_sample(
    target: torch.Tensor, proposal: torch.Tensor, draws: int, bound: float | None = None, seed: int = 0
) -> tuple[torch.Tensor, float]:
    """Draw `draws` values from q, keep each with the probability p / (M q): the kept ones, and which share that is.

    What is kept is distributed as p, and the share is 1 / M in the mean. Densities (N,) over the values 0 to N - 1;
    `bound`: M, the smallest one if it is not given.
    Raises ValueError for an M that is too small: what is kept would not be distributed as p.
    """
    least = smallest_bound(target, proposal)
    m = least if bound is None else bound
    if m < least * (1 - 1e-9):
        raise ValueError(f"M = {m:g} is too small: p(x) <= M q(x) needs {least:g} here. Values would come too seldom.")
    p, q = _as_density(target, "target"), _as_density(proposal, "proposal")
    generator = torch.Generator().manual_seed(seed)
    values = torch.multinomial(q, draws, replacement=True, generator=generator)
    chances = torch.rand(draws, dtype=torch.float64, generator=generator)
    kept = values[chances < p[values] / (m * q[values])]
    return kept, len(kept) / draws


def _as_density(values: torch.Tensor, name: str) -> torch.Tensor:
    values = torch.as_tensor(values, dtype=torch.float64)
    if values.ndim != 1 or not (values >= 0).all() or not 0 < values.sum() < math.inf:
        raise ValueError(f"The {name} is a density over the values 0 to N - 1: numbers (N,) from 0, not all of them 0.")
    return values / values.sum()


# The best of K


def best_of_k(groups: Sequence[Sequence[str]], scores: torch.Tensor | Sequence[Sequence[float]]) -> list[int]:
    """Which answer of each group has the highest score, the first of several: G groups of K texts, scores (G, K)."""
    _check_groups(groups, scores)
    return [max(range(len(group)), key=lambda place: float(paid[place])) for group, paid in zip(groups, scores)]


def any_of_k(groups: Sequence[Sequence[str]], seed: int = 0) -> list[int]:
    """One answer of each group, drawn blindly: the control of `best_of_k`, with equally many rows."""
    rng = random.Random(seed)
    return [rng.randrange(len(group)) for group in groups]


def expected_best(scores: Sequence[float], k: int, worth: Sequence[float] | None = None) -> float:
    """What the best of k answers is worth in the mean, from n >= k scored ones, unbiased.

    Σ_i s_i C(i - 1, k - 1) / C(n, k), s_1 <= ... <= s_n: the chance that the i-th is the best of k drawn without
    replacement. With scores 0 and 1 it is pass@k (Chen et al. 2021, arXiv 2107.03374, eq. 1). `worth`: what counts
    instead, where the score only chooses (a reward model's choice, counted right or wrong); equal scores share it.
    Raises ValueError for a k that is not from 1 to n, or lists of two lengths.

    >>> expected_best([0.0, 1.0, 5.0], k=2)
    3.6666666666666665
    """
    worth, n = scores if worth is None else worth, len(scores)
    if len(worth) != n or not 1 <= k <= n:
        raise ValueError(f"expected_best needs 1 <= k <= n and a worth for each score, not {k=}, {n=}, {len(worth)} worths.")
    total, below = 0.0, 0
    for _, same in groupby(sorted(zip(map(float, scores), map(float, worth))), key=lambda pair: pair[0]):
        values = [value for _, value in same]
        chance = (math.comb(below + len(values), k) - math.comb(below, k)) / math.comb(n, k)
        total, below = total + chance * sum(values) / len(values), below + len(values)
    return total


def _check_groups(groups, scores) -> None:
    if len(groups) != len(scores) or not all(len(one) == len(other) > 0 for one, other in zip(groups, scores)):
        raise ValueError("Give one score for each answer: groups and scores of equal lengths, and no group empty.")


# Expert iteration


@dataclass
class Round:
    """What a round of expert iteration keeps: rows to train on, the same number chosen blindly, and how many there were.

    `kept`, `blind`: rows with `prompt` and `completion`, both messages. `numbers`: prompts, prompts with a kept answer,
    answers sampled, right, right and different, kept.
    """

    kept: list[dict]
    blind: list[dict]
    numbers: dict[str, int]

    @property
    def acceptance(self) -> float:
        """The share of the sampled answers that were right."""
        return self.numbers["right"] / self.numbers["sampled"]


def expert_round(
    model, tokenizer, rows: list[dict], reward_funcs: list[Callable], *, samples: int, max_new_tokens: int,
    temperature: float = 1.0, at_least: float = 1.0, per_prompt: int | None = None, batch_size: int = 64, seed: int = 0,
) -> Round:  # fmt: skip
    """One round before its SFT: sample `samples` answers to each row's prompt, verify, keep.

    Rows, reward functions: as in `sample_batch`; the other arguments as in `keep_verified`. The random numbers of the
    sampling are torch's (`set_seed`).
    """
    groups = generate_responses(
        model, tokenizer, full_message=[row["prompt"] for row in rows], max_new_tokens=max_new_tokens,
        temperature=temperature, num_samples=samples, batch_size=batch_size,
    )  # fmt: skip
    groups = [[group] if isinstance(group, str) else list(group) for group in groups]
    each = [row for row, group in zip(rows, groups) for _ in group]
    paid = reward_texts(each, [text for group in groups for text in group], reward_funcs)
    return keep_verified(rows, groups, paid.view(len(groups), -1).tolist(), at_least, per_prompt, seed)


def keep_verified(
    rows: list[dict], groups: Sequence[Sequence[str]], scores: Sequence[Sequence[float]], at_least: float = 1.0,
    per_prompt: int | None = None, seed: int = 0,
) -> Round:  # fmt: skip
    """Of each row's answers those whose score is `at_least` or more, each text once, at most `per_prompt` of them.

    The blind control has as many rows, drawn from all sampled answers (each text of a prompt once there too) without a
    look at their scores. Texts that differ in blanks only are one text. Which ones are drawn depends on `seed` alone.
    Raises ValueError where rows, groups and scores do not fit together.
    """
    _check_groups(groups, scores)
    if len(rows) != len(groups):
        raise ValueError(f"{len(rows)} rows and {len(groups)} groups of answers: there must be one for each.")
    rng, kept, all_different, right, different, solved = random.Random(seed), [], [], 0, 0, 0
    for row, group, paid in zip(rows, groups, scores):
        good = [text for text, score in zip(group, paid) if score >= at_least]
        once = without_repeats(good)
        right, different, solved = right + len(good), different + len(once), solved + bool(good)
        drawn = once if per_prompt is None or len(once) <= per_prompt else rng.sample(once, per_prompt)
        kept += [_row(row, text) for text in drawn]
        all_different += [_row(row, text) for text in without_repeats(group)]
    numbers = {
        "prompts": len(rows), "prompts with a right answer": solved,
        "sampled": sum(map(len, groups)), "right": right, "right and different": different, "kept": len(kept),
    }  # fmt: skip
    return Round(kept, rng.sample(all_different, len(kept)), numbers)


def without_repeats(texts: Sequence[str]) -> list[str]:
    """Each text once, in the order of its first place; texts that differ in blanks only are one."""
    first: dict[str, str] = {}
    for text in texts:
        first.setdefault(" ".join(text.split()), text)
    return list(first.values())


def _row(row: dict, text: str) -> dict:
    return {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": text}]}
