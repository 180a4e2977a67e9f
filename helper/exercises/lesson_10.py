"""Checks of lesson 10: claims, batches over processes, a rank's loss, bytes by ZeRO stage, the sampler's correction, plans.

Left out on purpose: processes. What each of them would hold or compute arrives as plain numbers.
"""

import math
import random

import torch

from helper.exercises.checking import (
    NotStarted,
    Wrong,
    a_kind,
    as_loss,
    as_number,
    as_table,
    as_vector,
    call,
    exercise,
    judge,
    judge_claims,
    needs_gradient,
    show,
)

# 1. Claims

TRUTHS = [
    (False, "which settings tell the trainer how many rows a step has: the file, or the file and the number of processes?"),
    (True, "a token of a short answer must weigh as much as a token of a long one"),
    (False, "what does the program's parser do with what it does not know (section 3)?"),
    (False, "count what AdamW keeps of a weight"),
    (False, "each process takes part in the same step; which of weights, gradients and moments does plain DDP divide?"),
    (True, "what is divided has to be gathered before it can be used"),
    (False, "which forward pass is run again, and what does the backward pass need of it?"),
    (False, "how do weights come from the trainer to the sampler, and what runs meanwhile?"),
]


@exercise
def check_scaling_claims(claims: dict) -> str:
    """Are the claims about processes, sharding and sampling marked as they are?"""
    judge_claims(claims, TRUTHS)
    return "What is silent here is the number of rows, the weight of a token, and a key that nobody reads."


# 2. Batches


def _split(batch: int, processes: int, most: int, how: str = "") -> list[float]:
    """[rows at once on a process, accumulation] with rows × accumulation × processes = batch and the most rows at once."""
    share = batch if how == "whole" else batch // processes
    fitting = [rows for rows in range(1, share + 1) if share % rows == 0 and (rows <= most or how == "too many")]
    rows = {"smallest": min(fitting), "capped": min(most, share)}.get(how, max(fitting))
    steps = {"once": 1, "capped": math.ceil(share / rows)}.get(how, share // rows)
    return [steps, rows] if how == "swapped" else [rows, steps]


BATCH_MISTAKES = {
    "whole": "You forgot the processes: each of them takes `rows`, in every forward pass.",
    "too many": "More rows at once than fit on a device: `most` is the limit.",
    "smallest": "That many steps are not needed: take as many rows at once as fit.",
    "capped": "You rounded. rows × accumulation × processes has to be the batch exactly, or the recipe is another one.",
    "once": "Without accumulation the rows that do not fit are missing from the batch.",
    "swapped": "The two are swapped: first the rows at once, then the accumulation.",
}


@exercise
def check_split_batch(function) -> str:
    """Does `function(batch, processes, most)` give rows and accumulation that make up the same batch?"""
    cases = {
        "a batch of 32, 2 processes, at most 8": (32, 2, 8),
        "48, 4 processes, at most 5": (48, 4, 5),
        "all fits": (8, 2, 100),
        "30, one process, at most 8": (30, 1, 8),
        "one row at a time": (24, 8, 1),
        "a prime share": (14, 2, 4),
    }
    mistakes = {message: lambda *given, how=how: _split(*given, how) for how, message in BATCH_MISTAKES.items()}
    judge(function, cases, _split, mistakes, as_vector)
    return "Nothing in the library does this for you: with one more process the same file is another recipe."


# 3. The loss of a rank


def _rank_loss(losses: torch.Tensor, mask: torch.Tensor, tokens: int, processes: int, how: str = "") -> float:
    """What a process hands to `backward`, so that the mean over the processes is the mean over all tokens."""
    total = (losses if how == "padding" else losses * mask).sum().item()
    own, rows = mask.sum().item(), [(x * m).sum().item() / m.sum().item() for x, m in zip(losses, mask)]
    return {
        "own": total / own,
        "no processes": total / tokens,
        "divided": total / tokens / processes,
        "sum": total,
        "rows": sum(rows) / len(rows),
        "places": total / losses.numel(),
    }.get(how, total * processes / tokens)


RANK_MISTAKES = {
    "own": "You divided by this process's own tokens. A process with few tokens then gives each of them more weight.",
    "no processes": "DDP takes the mean over the processes, so it divides by their number once more: multiply by it.",
    "divided": "You divided by the number of processes. DDP does that; multiply, so that it cancels.",
    "sum": "This is the sum. Divide by the tokens of all processes.",
    "rows": "You took the mean of each row first. Then a token of a short row counts more.",
    "places": "You divided by all places, padding too.",
    "padding": "The padding counts. Only places where the mask is 1 do.",
}


@exercise
def check_rank_loss(function) -> str:
    """Is it the loss of a rank whose mean over the ranks is the mean over all tokens, with a gradient?"""
    draw = torch.Generator().manual_seed(10)
    losses, mask = 3 * torch.rand(2, 4, generator=draw), torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])
    cases = {
        "4 tokens here, 20 in all, on 2": (losses, mask, 20, 2),
        "all tokens are here": (losses, torch.ones(2, 4), 8, 1),
        "one of 8 processes": (losses[:1], mask[:1], 31, 8),
    }
    mistakes = {message: lambda *given, how=how: _rank_loss(*given, how) for how, message in RANK_MISTAKES.items()}
    judge(function, cases, _rank_loss, mistakes, as_loss)
    needs_gradient(function, "4 tokens here", (losses, mask, 20, 2), [mask * 2 / 20])
    return "That is `average_tokens_across_devices`, which the library has on by default."


# 4. Bytes by stage


def _zero_bytes(weights: float, gpus: int, stage: int, how: str = "") -> float:
    """Bytes on each GPU of weights, gradients and AdamW in mixed precision, with ZeRO `stage` 0 to 3."""
    optimiser = {"moments only": 8, "float32 only": 4}.get(how, 12)
    parts = {3: 4 if how == "float32 weights" else 2, 2: 2, 1: optimiser}
    if how == "all":
        return sum(parts.values()) * weights / (gpus if stage else 1)
    if how == "order":
        parts = {1: parts[3], 2: parts[2], 3: parts[1]}
    if how == "one more":
        stage += 1
    if how == "only that":
        return weights * sum(size / (gpus if needed == stage else 1) for needed, size in parts.items())
    return weights * sum(size / (gpus if stage >= needed else 1) for needed, size in parts.items())


ZERO_MISTAKES = {
    "moments only": "The optimiser has 12 bytes a weight: two moments and its own float32 copy of the weights.",
    "float32 only": "The optimiser has 12 bytes a weight: three float32 numbers.",
    "float32 weights": "The weights that compute are bf16: 2 bytes each. The float32 copy is counted with the optimiser.",
    "all": "You divided everything at each stage. Stage 1 divides the optimiser, 2 the gradients too, 3 the weights too.",
    "order": "The order is the other way round: the largest part, the optimiser, is divided first.",
    "one more": "You are one stage ahead: stage 0 divides nothing.",
    "only that": "Each stage divides what the stages before it do, and one part more.",
}


@exercise
def check_zero_bytes(function) -> str:
    """Does `function(weights, gpus, stage)` give the bytes on each GPU?"""
    cases = {f"7.5 billion weights, 64 GPUs, stage {stage}": (7.5e9, 64, stage) for stage in range(4)}
    cases |= {"a million weights, 2 GPUs, stage 2": (1e6, 2, 2), "one GPU, stage 3": (1e6, 1, 3)}
    mistakes = {message: lambda *given, how=how: _zero_bytes(*given, how) for how, message in ZERO_MISTAKES.items()}
    judge(function, cases, _zero_bytes, mistakes, as_number)
    return "The first four are 120, 31.4, 16.6 and 1.9 GB: figure 1 of arXiv 1910.02054."


# 5. Correcting the sampler


def _correction(
    trainer: torch.Tensor, sampler: torch.Tensor, mask: torch.Tensor, cap: float, how: str = ""
) -> list[list[float]]:
    """min(π_trainer / π_sampler, cap) of each token that counts, 0 elsewhere."""
    rows = []
    for new, old, keeps in zip(trainer.tolist(), sampler.tolist(), mask.tolist()):
        gaps = [b - a if how == "upside down" else a - b for a, b in zip(new, old)]
        if how == "sequence":
            gaps = [sum(gap * keep for gap, keep in zip(gaps, keeps))] * len(gaps)
        weights = [gap if how == "logarithm" else math.exp(gap) for gap in gaps]
        if how == "both sides":
            weights = [max(weight, 1 / cap) for weight in weights]
        if how == "dropped":
            weights = [weight if weight <= cap else 0.0 for weight in weights]
        elif how not in ("no cap", "logarithm"):
            weights = [min(weight, cap) for weight in weights]
        other = 1.0 if how == "padding" else 0.0
        rows.append([weight if keep else other for weight, keep in zip(weights, keeps)])
    return rows


CORRECTION_MISTAKES = {
    "upside down": "The ratio is upside down: the trainer's probability over the sampler's.",
    "no cap": "There is no cap: one token that the sampler found unlikely would outweigh all others.",
    "both sides": "You cut on both sides. Only ratios above the cap are cut.",
    "dropped": "Ratios above the cap became 0. That is masking; here they are cut to the cap.",
    "sequence": "This is the ratio of the whole answer. Take each token's own.",
    "logarithm": "These are logarithms. Take exp of the difference.",
    "padding": "Places that do not count should have 0.",
}


@exercise
def check_correction(function) -> str:
    """Does `function(trainer, sampler, mask, cap)` give truncated importance weights, as constants?"""
    trainer = torch.tensor([[-0.2, -1.5, -0.7], [-1.0, -0.3, -2.0]])
    sampler = torch.tensor([[-0.9, -0.4, -0.6], [-0.2, -1.9, -1.0]])
    mask = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    cases = {
        "one token": (torch.tensor([[-0.5]]), torch.tensor([[-1.0]]), torch.ones(1, 1), 2.0),
        "two answers": (trainer, sampler, mask, 1.5),
        "far apart": (4 * trainer, 4 * sampler, mask, 3.0),
        "the same": (trainer, trainer, mask, 2.0),
    }
    mistakes = {message: lambda *given, how=how: _correction(*given, how) for how, message in CORRECTION_MISTAKES.items()}
    judge(function, cases, _correction, mistakes, as_table)
    leaf = trainer.clone().requires_grad_()
    weights = call(lambda: function(1.0 * leaf, sampler, mask, 1.5), "two answers", ())
    if isinstance(weights, torch.Tensor) and weights.requires_grad:
        raise Wrong("two answers: the numbers are right, but they have a gradient. The weights are constants: detach them.")
    return "Truncated importance sampling, one of the ways in which the library corrects what vLLM sampled."


# 6. Plans

UTILISATION, ADAPTER = 0.4, 0.01
GPU_COUNTS = (1, 2, 4, 8, 16, 32, 64)
DEAREST = 1.25


def plan_cost(job: dict, trained: str, gpus: int) -> tuple[float, float]:
    """Bytes on each GPU and hours of a job, with ZeRO-3: the rules of exercise 6.

    `job`: "weights", "tokens", "activations" (bytes on each GPU), "memory" (bytes of a GPU), "flops" (a second), "hours".
    `trained`: "full" (16 bytes a weight, 6 operations a weight and token) or "lora" (2 bytes a weight and 16 of each of
    the adapter's, which has 1% as many; 4 operations).
    """
    each = 16 if trained == "full" else 2 + 16 * ADAPTER
    memory = each * job["weights"] / gpus + job["activations"]
    operations = (6 if trained == "full" else 4) * job["weights"] * job["tokens"]
    return memory, operations / (gpus * job["flops"] * UTILISATION) / 3600


def _fits(job: dict, trained: str, gpus: int) -> bool:
    memory, hours = plan_cost(job, trained, gpus)
    return memory <= job["memory"] and hours <= job["hours"]


def _best(job: dict) -> tuple[str, int] | None:
    """Full where it can be done, with the fewest GPUs; None where nothing can be done."""
    return next(((trained, gpus) for trained in ("full", "lora") for gpus in GPU_COUNTS if _fits(job, trained, gpus)), None)


def jobs(seed: int, number: int = 20) -> list[dict]:
    """Invented jobs, each of which can be done."""
    draw, found = random.Random(f"jobs {seed}"), []
    while len(found) < number:
        memory, flops = draw.choice(((24e9, 165e12), (80e9, 312e12), (80e9, 989e12)))
        job = {
            "weights": draw.choice((0.5e9, 1.5e9, 7e9, 8e9, 14e9, 32e9, 70e9)), "tokens": 10 ** draw.uniform(6, 9.5),
            "activations": draw.choice((1e9, 3e9, 8e9, 16e9)), "memory": memory, "flops": flops,
            "hours": draw.choice((2.0, 12.0, 72.0)),
        }  # fmt: skip
        if _best(job):
            found.append(job)
    return found


@exercise
def check_plans(function) -> str:
    """Can the plans of `function(job)` be done, with all weights where that is possible, on few GPUs?"""
    if function is None or function is ...:
        raise NotStarted
    if not callable(function):
        raise Wrong(f"Give the function itself to the check (its name, without brackets), not {show(function)}.")
    done, dearer = 0, []
    for number, job in enumerate(jobs(2010, 40)):
        case = f"job {number}, {show(job)}"
        plan = call(function, case, (job,))
        if plan is None or plan is ...:
            raise NotStarted
        trained, gpus = _plan(plan, case)
        (best, fewest), (memory, hours) = _best(job), plan_cost(job, trained, gpus)
        if memory > job["memory"]:
            raise Wrong(
                f"{case}: {trained} on {gpus} needs {memory / 1e9:.1f} GB of each GPU, which has {job['memory'] / 1e9:g}."
            )
        if hours > job["hours"]:
            raise Wrong(f"{case}: {trained} on {gpus} takes {hours:.1f} hours; {job['hours']:g} are allowed.")
        done += trained == best
        dearer.append(gpus / fewest if trained == best else 1.0)
    if done < len(dearer):
        raise Wrong(
            f"{len(dearer) - done} of {len(dearer)} jobs got LoRA, although all weights can be trained on 64 GPUs or fewer."
        )
    mean = sum(dearer) / len(dearer)
    if mean > DEAREST:
        raise Wrong(f"All can be done, with {mean:.2f} times the fewest GPUs on average; {DEAREST} are allowed.")
    return f"All {done} jobs can be done, with {mean:.2f} times the fewest GPUs."


def _plan(plan, case: str) -> tuple[str, int]:
    """The two values of a plan; Wrong for what is none."""
    if not isinstance(plan, (list, tuple)) or len(plan) != 2:
        raise Wrong(f'{case}: {show(plan)} came back, {a_kind(plan)}; a pair such as ("lora", 4) was wanted.')
    trained, gpus = plan
    if not isinstance(trained, str) or trained not in ("full", "lora"):
        raise Wrong(f'{case}: {show(trained)} is neither "full" nor "lora".')
    if as_number(gpus, None, case) not in GPU_COUNTS:
        raise Wrong(f"{case}: {show(gpus)} GPUs are not to be had; they come in {', '.join(map(str, GPU_COUNTS))}.")
    return trained, int(gpus)
