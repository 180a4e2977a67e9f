"""Lesson 09: does RL forget less than SFT? Six ways to the same accuracy on word problems, `09_razor.json`.

After Shenfeld et al. 2025, arXiv 2509.04259. Each run ends at its first checkpoint that is right on TARGET of the validation
problems, and is judged on others. All arms have one learning rate but those named for their own.
Left out on purpose: a sweep of GRPO's learning rate (the paper draws the best of many as a frontier), other tasks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from pathlib import Path

import torch

from factory import ROOT
from factory.build import Build
from factory.plain_text import PlainText
from factory.pretrain import Recipe, batch_of_step, next_token_loss
from factory.recordings.expert_iteration import LOOP
from factory.recordings.lesson_03 import validation_rows
from factory.recordings.practice_rounds import (
    LONGEST,
    QUESTIONS,
    TRAINED,
    VALIDATION,
    Clock,
    record_untuned,
    sampled,
    shown,
    start,
    student,
    tests,
    verdicts,
    written_answers,
)
from helper import generate_responses, load_course_dataset, load_suite, reward_func
from helper.algorithms import grpo_update, keep_verified, loss_of_rows, sample_batch
from helper.algorithms.batches import draw
from helper.algorithms.movement import answer_kl, texts_batch, weights_moved
from helper.algorithms.runs import LARGEST_NORM
from helper.algorithms.train_preferences import endless_order
from helper.machine.device import bf16_is_fast, set_seed
from helper.recorded import share_right

TARGET = 0.60  # of the validation problems
RATE, BATCH, ROUND = 3e-4, 16, 12  # of SFT; steps between two samplings of "own right answers"
ARMS = {  # name -> (what is trained on, learning rate, first checkpoint, steps between two, most steps)
    "SFT": ("written", RATE, 2, 1, 24),
    "SFT, 10% replay": ("written and replay", RATE, 2, 1, 24),
    "SFT, a third of the rate": ("written", RATE / 3, 4, 1, 40),
    "SFT, a tenth of the rate": ("written", RATE / 10, 10, 2, 80),
    "SFT on own right answers": ("own", RATE, 8, 4, 60),
    "GRPO": ("practice", RATE, 8, 2, 36),
}
PROMPTS, OTHERS, CONCEPTS = 100, 90, 50  # whose answers the KL is read on; questions of other suites
TEXTS = 6  # batches of plain text, 16 × 256 tokens each
NUMBERS = ("problem", "sums", "drill", "exercise")  # kinds of text that practice for word problems would help with


# ---------------------------------------------------------------- training, a step at a time


def rows_of(kind: str, seed: int) -> Iterator[dict]:
    """Rows with prompt and completion for ever: written answers, and of ten rows one of lesson 02's SFT where it says so."""
    task = [shown(*row) for row in written_answers().items()]
    old = [{"prompt": row["messages"][:-1], "chosen": row["messages"][-1:]} for row in load_course_dataset("sprout-sft")]
    order, replay = endless_order(len(task), seed), endless_order(len(old), seed)
    for place in count():
        row = old[next(replay)] if "replay" in kind and place % 10 == 9 else task[next(order)]
        yield as_completion(row)


def as_completion(row: dict) -> dict:
    """A row to imitate in the form of `loss_of_rows`."""
    return {"prompt": row["prompt"], "completion": row["chosen"]}


def own_rows(model, seed: int) -> Iterator[dict]:
    """The model's own right answers for ever: each ROUND steps new ones are sampled, from the model as it is then."""
    kept: list[dict] = []
    for number in count():
        rng = random.Random(f"{seed}-{number}")
        asked = rng.sample(start()[2][:TRAINED], QUESTIONS)
        kept += keep_verified(asked, *sampled(model, asked, seed=100 * seed + number), seed=seed).kept
        for _ in range(ROUND * BATCH):
            yield rng.choice(kept)


def sft_steps(model, kind: str, rate: float, seed: int) -> Iterator[None]:
    """SFT for ever, one step at a time."""
    rows = own_rows(model, seed) if kind == "own" else rows_of(kind, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    while True:
        drawn = [next(rows) for _ in range(BATCH)]
        optimizer.zero_grad()
        loss_of_rows(model, start()[1], drawn, bf16_is_fast()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_NORM)
        optimizer.step()
        yield


def grpo_steps(
    model, rate: float, seed: int, sample: Callable = sample_batch, first: int = 1, problems: int = TRAINED
) -> Iterator[None]:
    """GRPO for ever, one step at a time, from step `first` on: its number and the seed draw among so many `problems`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for step in count(first):
        set_seed(100_000 * seed + step)
        rows = draw(start()[2][:problems], LOOP["prompts_per_step"], seed, step)
        batch = sample(model, start()[1], rows, [reward_func], LOOP["group_size"], LONGEST)
        batch.advantages = LOOP["advantage"](batch.rewards, LOOP["group_size"])
        grpo_update(model, optimizer, batch, LOOP["loss"], 1.0, LONGEST, LOOP["micro_batch"], bf16_is_fast())
        yield


@cache
def validation_problems() -> list[dict]:
    """The problems that choose the checkpoint."""
    return validation_rows()[-VALIDATION:]


def validation(model) -> float:
    """The share of right answers to them."""
    return share_right(verdicts(model, {"": validation_problems()})[""])


def trained_to_target(arm: str, seed: int) -> tuple:
    """The model at its first checkpoint that reaches TARGET on the validation problems, or after the most steps."""
    kind, rate, first, every, most = ARMS[arm]
    model, clock, curve = student(), Clock(), []
    steps = grpo_steps(model, rate, seed) if kind == "practice" else sft_steps(model, kind, rate, seed)
    for number in range(1, most + 1):
        with clock:
            next(steps)
        if number >= first and (number - first) % every == 0:
            curve.append([number, validation(model)])
            if curve[-1][1] >= TARGET:
                break
    about = {"steps": number, "reached": curve[-1][1] >= TARGET, "curve": curve, "cpu_seconds": clock.read()}
    return model.eval(), about


# ---------------------------------------------------------------- what is measured


@cache
def suites() -> dict[str, list[dict]]:
    """The tests: problems that choose nothing, other skills, concepts of no SFT row, the name."""
    concepts, names = load_suite("held_out_concepts"), load_suite("identity")
    spread = {"held_out_concepts": concepts[:: len(concepts) // CONCEPTS][:CONCEPTS], "identity": names[::2]}
    return tests() | spread


@cache
def asked(kind: str) -> list[list[dict]]:
    """Fixed prompts to read the KL on: of the task (training problems that no run trains on), or of other skills."""
    if kind == "task":
        return [row["prompt"] for row in start()[2][TRAINED:][:PROMPTS]]
    return [[{"role": "user", "content": row["question"]}] for row in tests()["other_skills"][:OTHERS]]


def said(model, kind: str) -> list[str]:
    """An answer to each of the fixed prompts, sampled at temperature 1 with a seed that is always the same."""
    return generate_responses(
        model, start()[1], full_message=asked(kind), max_new_tokens=LONGEST, temperature=1.0, batch_size=128, seed=0
    )


@cache
def said_before(kind: str):
    """The start's answers, as a batch."""
    return texts_batch(start()[1], asked(kind), said(start()[0], kind))


def distances(model) -> dict[str, float]:
    """KL in nats an answer and a token: on the task forward (start || model) and reverse, on other prompts forward."""
    after = texts_batch(start()[1], asked("task"), said(model, "task"))
    pairs = {
        "kl_forward": (start()[0], model, said_before("task")),
        "kl_reverse": (model, start()[0], after),
        "kl_others": (start()[0], model, said_before("others")),
    }
    found = {}
    for name, (first, second, batch) in pairs.items():
        kls = answer_kl(first, second, batch)
        found |= {name: round(kls.mean().item(), 4), f"{name}_token": round((kls.sum() / batch.mask.sum()).item(), 5)}
    return found


@cache
def plain_texts() -> list[torch.Tensor]:
    """Plain text of pre-training's kinds, without problems and sums, that pre-training has not read: batches of tokens."""
    build, recipe = Build(ROOT / "data"), Recipe(seed=909)
    text = PlainText(build.concepts, set(), set(), without=NUMBERS)
    return [batch_of_step(step, recipe, text, start()[1]) for step in range(TEXTS)]


@torch.no_grad()
def plain_loss(model) -> float:
    """The mean loss of a token of that text, in nats."""
    loss = next_token_loss(model)
    return round(sum(loss(ids).item() for ids in plain_texts()) / TEXTS, 4)


def measured(model) -> dict:
    """Everything that a row says of its model."""
    moved = {part: round(size, 6) for part, size in weights_moved(start()[0], model).items()}
    return verdicts(model, suites()) | distances(model) | {"plain_loss": plain_loss(model), "moved": moved}


def one_run(arm: str, seed: int) -> dict:
    """Train to the target, and measure."""
    model, about = trained_to_target(arm, seed)
    return about | measured(model)


def record_razor(seeds: list[int], path: Path) -> None:
    """SFT, SFT with replay, SFT on own answers and GRPO to equal accuracy: KL, other skills, plain-text loss."""
    settings = {"target": TARGET, "validation": VALIDATION, "batch": BATCH, "longest": LONGEST, "prompts": PROMPTS}
    arms = {name: dict(zip(("rows", "rate", "first", "every", "most"), arm)) for name, arm in ARMS.items()}
    record_untuned(
        "razor", seeds, path, arms, settings, lambda: measured(start()[0]) | {"validation": validation(start()[0])}, one_run
    )
