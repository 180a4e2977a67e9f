"""How far a model has moved, in what it says and in its weights; and a β that adapts itself to a wanted distance.

Left out on purpose: distances between hidden states; a KL of whole answers without samples, which nobody can sum.
"""

import re
from collections.abc import Iterable

import torch

from helper.algorithms.batches import Batch, slices
from helper.algorithms.responses import pad_responses, response_logits
from helper.algorithms.runs import autocast
from helper.machine.sizes import PAD_TO


def texts_batch(tokenizer, conversations: list[list[dict]], answers: list[str], device=None) -> Batch:
    """Given answers to given prompts (messages) as a Batch, the end of the turn included; its rewards are 0.

    Raises ValueError for lists of two lengths.
    """
    if len(conversations) != len(answers):
        raise ValueError(f"{len(conversations)} prompts and {len(answers)} answers: there must be one for each.")
    prompts, responses = [], []
    for prompt, answer in zip(conversations, answers):
        said = [*prompt, {"role": "assistant", "content": answer}]
        options = {"enable_thinking": False, "return_dict": False}
        prompts.append(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **options))
        responses.append(tokenizer.apply_chat_template(said, **options)[len(prompts[-1]) :])
    ids, attention_mask, mask = pad_responses(prompts, responses, tokenizer.pad_token_id, device, PAD_TO)
    return Batch(ids, attention_mask, mask, torch.zeros(len(ids), device=device), list(answers), 0.0)


@torch.no_grad()
def answer_kl(first, second, batch: Batch, micro_batch: int = 16, bf16: bool = False) -> torch.Tensor:
    """KL(first || second) of each answer of the batch in nats, (B,): Σ_t KL of the two next-token distributions.

    At every token the whole vocabulary counts, not the sampled token alone. Where `first` has sampled the answers (at
    temperature 1), the mean over them is an unbiased estimate of the KL between the two distributions of whole answers, with
    less noise than log π_first - log π_second. For other texts it is a distance on these texts, and no more.
    Divide by `batch.mask.sum(1)` for nats a token.
    """
    found = []
    for part in map(batch.rows, slices(len(batch.ids), micro_batch)):
        logs = []
        for model in (first, second):
            with autocast(model, bf16):
                logs.append(response_logits(model, part.ids, part.attention_mask, part.length).log_softmax(-1))
        found.append((((logs[0].exp() * (logs[0] - logs[1])).sum(-1)) * part.mask).sum(1))
    return torch.cat(found)


@torch.no_grad()
def weights_moved(before, after) -> dict[str, float]:
    """How far the weights are from each other: part -> ||after - before|| / ||before||, 0 for none at all.

    Parts: "embedding", "layer 0" and so on, "end" (the last norm, and a head of its own), "all". The embedding is at the
    same time the last layer where a model ties the two.
    """
    squares: dict[str, list[float]] = {}
    for (name, old), (_, new) in zip(before.named_parameters(), after.named_parameters(), strict=True):
        for part in (_part(name), "all"):
            moved, size = squares.setdefault(part, [0.0, 0.0])
            squares[part] = [moved + (new - old).double().square().sum().item(), size + old.double().square().sum().item()]
    whole = squares.pop("all")
    return {part: (moved / max(size, 1e-300)) ** 0.5 for part, (moved, size) in [*squares.items(), ("all", whole)]}


def _part(name: str) -> str:
    """The part of the model to which a parameter belongs, by its name."""
    layer = re.search(r"\blayers\.(\d+)\.", name)
    return f"layer {layer[1]}" if layer else "embedding" if "embed" in name else "end"


# A β that adapts itself


def adapted_beta(beta: float, kl: float, target: float, gain: float = 0.1) -> float:
    """The next β: larger after more KL than wanted, smaller after less (Ziegler et al. 2019, arXiv 1909.08593, section 2.2).

    e = clip((KL - target) / target, -0.2, 0.2), and β becomes β (1 + gain · e): a proportional controller of log β. The
    clip keeps one odd batch from throwing it; `gain` is the paper's K_β = 0.1. `kl`, `target`: in the same unit, nats of an
    answer in the paper. Raises ValueError for a β or a target that is not above 0: a β of 0 would stay 0 for ever.
    """
    if not (beta > 0 and target > 0):
        raise ValueError(f"beta={beta} and target={target}: both must be above 0.")
    error = min(max((kl - target) / target, -0.2), 0.2)
    return beta * (1 + gain * error)


def tilted_policy(reference: torch.Tensor, rewards: torch.Tensor, beta: float) -> torch.Tensor:
    """The best policy for E[r] - β KL(π || π_ref): π_ref e^{r/β} / Z, (N,) twice -> (N,) (Rafailov et al. 2023, eq. 4)."""
    return (reference.log() + rewards / beta).softmax(-1)


def kl_frontier(shares: Iterable[float], betas: Iterable[float]) -> list[tuple[float, float, float]]:
    """(β, share right, KL in nats an answer) of the best policy for each β, the mean over questions.

    `shares`: how often the reference is right on each question; the reward is 1 and 0. No policy is right more often at the
    same mean KL. A question that is never answered rightly stays as it is; β = 0 stands for the limit.
    """
    p = torch.tensor(list(shares), dtype=torch.float64)
    found = []
    for beta in betas:
        best = torch.sigmoid(p.logit() + 1 / beta) if beta else (p > 0).double()
        kl = sum(torch.special.xlogy(b, b / a.clamp(min=1e-300)) for a, b in ((p, best), (1 - p, 1 - best)))
        found.append((beta, best.mean().item(), kl.mean().item()))
    return found
