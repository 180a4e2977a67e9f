"""The recorded runs of lesson 05: GRPO of our own against the library's, and one thing changed a run.

Every run begins with the warm-up of the lesson: the model's own answers, right or wrong, put into tags. The settings are
the lesson's own; `tests/test_factory.py` holds the two together.
Left out on purpose: a search over settings. Each change stands alone, with one seed, against runs of several seeds.
"""

from __future__ import annotations

import copy
import time
from functools import cache, partial
from pathlib import Path

import torch
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from factory.recordings.shared import command, curve, fresh, model_and_problems, write
from factory.stages import prompts_and_completions, quiet_settings
from helper import (
    answers_match,
    extract_boxed,
    generate_responses,
    load_course_dataset,
    load_suite,
    set_seed,
    skip_masked_positions,
)
from helper.algorithms import group_advantages, grpo_loss, sample_groups_with_spread, train_grpo, train_sft
from helper.machine.device import bf16_is_fast
from helper.rewards import TAGS, tag_format_reward, tagged_answer, tagged_reward

REWARDS = [tagged_reward, tag_format_reward]
LONGEST = 110  # tokens an answer may have
WARM_UP = {"steps": 120, "learning_rate": 5e-4, "batch_size": 8}
WARM_UP_PROBLEMS = 900
KEPT_ROWS = 250  # of the SFT data, so that the warm-up does not cost the other skills
DR_GRPO = partial(grpo_loss, loss_type="dr_grpo")
GRPO = {
    "steps": 56, "learning_rate": 2e-4, "max_new_tokens": LONGEST, "prompts_per_step": 12, "group_size": 4,
    "temperature": 1.0, "advantage": partial(group_advantages, scale="none"), "loss": DR_GRPO,
}  # fmt: skip
SHORT = 30  # steps of a run with one thing changed


def batch_mean_advantages(rewards, group_size):
    """REINFORCE with the mean of the whole batch for a baseline, (B,) -> (B,)."""
    return rewards - rewards.mean()


CHANGES: dict[str, dict] = {  # name -> other arguments of `train_grpo`
    "as in the lesson": {},
    "divided by the group's std": {"advantage": group_advantages},
    "both divisions, as first published": {"advantage": group_advantages, "loss": partial(grpo_loss, loss_type="grpo")},
    "8 samples a prompt, 6 prompts": {"group_size": 8, "prompts_per_step": 6},
    "dynamic sampling, twice the samples": {
        "sample": partial(sample_groups_with_spread, groups=GRPO["prompts_per_step"]),
        "prompts_per_step": 2 * GRPO["prompts_per_step"],
    },
    "KL in the loss, beta 0.04": {"loss": partial(DR_GRPO, beta=0.04), "reference": True},
    "4 updates a batch, clip 0.2": {"inner_updates": 4},
    "4 updates a batch, no clip": {"inner_updates": 4, "loss": partial(DR_GRPO, epsilon=1e9, epsilon_high=1e9)},
    "REINFORCE, mean of the batch": {"advantage": batch_mean_advantages},
}


def into_tags(answer: str) -> str:
    r"""A boxed answer of Sprout, "lines\n\boxed{72}", in the four tags."""
    *lines, _ = answer.strip().split("\n")
    return "<reasoning>\n" + "\n".join(lines) + f"\n</reasoning>\n<answer>{extract_boxed(answer)}</answer>"


def warmed_up(seed: int) -> tuple:
    """`sprout-instruct` after the warm-up, its tokenizer, the rows for GRPO, and its score; made once a seed."""
    model, *rest = _warm_up(seed)
    return copy.deepcopy(model), *rest


@cache
def _warm_up(seed: int) -> tuple:
    model, tokenizer, rows = model_and_problems()
    set_seed(seed)
    questions = [row["prompt"][0]["content"] for row in rows[:WARM_UP_PROBLEMS]]
    own = generate_responses(model, tokenizer, questions, max_new_tokens=72, temperature=1.0)
    tagged = [
        {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": into_tags(answer)}]}
        for row, answer in zip(rows, own)
        if "\n" in answer and extract_boxed(answer)
    ]
    some = load_course_dataset("sprout-sft", limit=KEPT_ROWS, seed=seed)
    others = prompts_and_completions([row for row in some if "\\boxed" not in row["messages"][-1]["content"]])
    folder = fresh("warm_up")
    train_sft(model, tokenizer, tagged + others, folder=folder, **WARM_UP, bf16=bf16_is_fast(), seed=seed, charts=False)
    model.trained_steps = 0
    return model, tokenizer, rows, score(model, tokenizer)


def score(model, tokenizer, limit: int = 500) -> dict:
    """Held-out word problems: n, the share right, and the share with all four tags once."""
    problems = load_suite("word_problems")[:limit]
    texts = generate_responses(model, tokenizer, [row["question"] for row in problems], max_new_tokens=LONGEST)
    right = [answers_match(tagged_answer(text), str(row["value"])) for text, row in zip(texts, problems)]
    tagged = [all(text.count(tag) == 1 for tag in TAGS) for text in texts]
    n = len(problems)
    return {"n": n, "right": sum(right) / n, "format": sum(tagged) / n}


def own_run(seed: int, reference: bool = False, **changes) -> dict:
    """Train with `train_grpo`, with a frozen copy for a `reference` if asked; scores, seconds, sampled tokens, rewards."""
    model, tokenizer, rows, before = warmed_up(seed)
    settings = GRPO | changes | {"bf16": bf16_is_fast(), "seed": seed, "charts": False}
    frozen, start = copy.deepcopy(model) if reference else None, time.perf_counter()
    live = train_grpo(model, tokenizer, rows, REWARDS, folder=fresh("own"), reference=frozen, **settings)
    log, seconds = live.table(), time.perf_counter() - start
    run = summary(before, score(model, tokenizer), seconds, int(log["tokens"].sum()))
    return run | {"reward": curve(log["reward"])}


def library_run(seed: int) -> dict:
    """The same with the library's trainer: as many samples, the same settings."""
    model, tokenizer, rows, before = warmed_up(seed)
    size = GRPO["prompts_per_step"] * GRPO["group_size"]
    args = GRPOConfig(
        learning_rate=GRPO["learning_rate"], max_steps=GRPO["steps"], per_device_train_batch_size=12,
        gradient_accumulation_steps=size // 12, num_generations=GRPO["group_size"], lr_scheduler_type="constant",
        max_completion_length=LONGEST, temperature=GRPO["temperature"], beta=0.0, loss_type="dr_grpo",
        scale_rewards="none", logging_steps=1, **quiet_settings(fresh("library"), seed),
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=model, reward_funcs=REWARDS, args=args, processing_class=tokenizer, train_dataset=Dataset.from_list(rows)
    )
    trainer.remove_callback(PrinterCallback)
    start = time.perf_counter()
    with skip_masked_positions():
        trainer.train()
    seconds, log = time.perf_counter() - start, [row for row in trainer.state.log_history if "reward" in row]
    tokens = sum(float(row["completions/mean_length"]) * size for row in log)
    model.eval()
    rewards = curve(row["reward"] for row in log)
    return summary(before, score(model, tokenizer), seconds, round(tokens)) | {"reward": rewards}


def summary(before: dict, after: dict, seconds: float, tokens: int) -> dict:
    """One row of the record."""
    return {
        "n": before["n"], "before": before["right"], "after": after["right"], "format_before": before["format"],
        "format_after": after["format"], "seconds": round(seconds, 1), "tokens": tokens,
    }  # fmt: skip


def record_grpo_from_scratch(seeds: list[int], path: Path) -> None:
    """Our own loop's run and the library's for each seed."""
    record = {
        "command": command("grpo_from_scratch", seeds), "settings": plain(GRPO), "threads": torch.get_num_threads(),
        "runs": [],
    }  # fmt: skip
    for seed in seeds:
        for loop, run in (("ours", own_run), ("library", library_run)):
            record["runs"].append({"loop": loop, "seed": seed, **run(seed)})
            print({**record["runs"][-1], "reward": "..."}, flush=True)
            write(record, path)


def record_grpo_ablations(seeds: list[int], path: Path) -> None:
    """Short runs with one thing changed each, with the first seed; the unchanged one with each seed."""
    settings = plain(GRPO | {"steps": SHORT})
    record = {"command": command("grpo_ablations", seeds), "settings": settings, "changes": []}
    for name in CHANGES:
        more = seeds if name == "as in the lesson" else seeds[:1]
        for seed in more:
            record["changes"].append({"change": name, "seed": seed, **own_run(seed, steps=SHORT, **CHANGES[name])})
            print({**record["changes"][-1], "reward": "..."}, flush=True)
            write(record, path)


def plain(settings: dict) -> dict:
    """The settings for a JSON file: the loss by its arguments, the advantage in words."""
    simple = {key: value for key, value in settings.items() if isinstance(value, int | float | str)}
    return simple | settings["loss"].keywords | {"advantage": "group_advantages, scale none"}


RECORDINGS = {
    "grpo_from_scratch": (record_grpo_from_scratch, "05_grpo_from_scratch.json"),
    "grpo_ablations": (record_grpo_ablations, "05_grpo_ablations.json"),
}
SHOWN = {"right_in_tags": "GRPO: word problems, in tags"}
