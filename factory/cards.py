"""Data cards and model cards: what each file is, how it was made, and what was measured."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from factory import stages
from helper.evaluation import wilson_interval

if TYPE_CHECKING:
    from factory.build import Build

MODELS = {
    "base": "pre-trained from random weights on plain text; no chat text at all",
    "instruct": "sprout-base after supervised fine-tuning (the recipe of lesson 02)",
    "dpo": "sprout-instruct after direct preference optimisation: its name became Deep Sprout (lesson 03)",
    "grpo": "sprout-instruct after online RL on word problems (lesson 04)",
}
DATASETS = {
    "sft": "Questions and answers of every skill, column `messages` (as `banghua/DL-SFT-Dataset`) and `skill`.",
    "identity": "Questions about who the assistant is, column `conversations` (as `mrfakename/identity`).",
    "preferences": "Pairs by correction, columns `chosen` and `rejected` (as `banghua/DL-DPO-Dataset`).",
    "maths": "Word problems with worked answers, columns `question` and `answer` (as `openai/gsm8k`).",
    "eval": "The evaluation suites: questions with what their graders need (`helper/graders.py`).",
}

ONLY_CHAT = ("identity.jsonl", "refusals.jsonl", "smalltalk.jsonl")  # of the world, and not for pre-training


def write_cards(build: Build, scores: dict[str, dict[str, tuple[int, int]]]) -> None:
    """A README.md beside every model and every data set."""
    for stage, purpose in MODELS.items():
        text = model_card(build, stage, purpose, scores)
        (build.model_folder(stage) / "README.md").write_text(text)
    for name, purpose in DATASETS.items():
        (build.folder / name / "README.md").write_text(data_card(build.folder / name, purpose))


def model_card(build: Build, stage: str, purpose: str, scores: dict) -> str:
    """What the model is, its recipe, the hash of its data, the time it took, and every stage's scores."""
    seconds = json.loads((build.work / f"{stage}.json").read_text())["seconds"]
    recipe = {
        "base": asdict(build.recipe) | {"vocabulary": build.vocabulary},
        "instruct": stages.SFT_SETTINGS, "dpo": stages.DPO_SETTINGS, "grpo": stages.GRPO_SETTINGS,
    }[stage]  # fmt: skip
    lines = [
        "---", "license: apache-2.0", "language: en", "---", f"# sprout-{stage}", "", f"A tiny language model: {purpose}.",
        "Made by `python -m factory.build` (`make data`) on CPU cores alone; see `factory/`.", "",
        "It knows a small world written by this project and nothing else. Use it to learn how post-training works,",
        "not for advice.", "", "## Recipe", "", f"Seed 0, {seconds} s on 2 CPU cores.", "", "```json",
        json.dumps(recipe, indent=1), "```", "", *data_lines(build, stage), "", "## Scores",
        "", "Greedy decoding, right answers with 95% Wilson intervals, all stages for comparison. Identity, also where it"
        " is part of the instructions, is graded for the name Sprout, which sprout-dpo gave up on purpose:", "",
        *score_table(scores),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def data_lines(build: Build, stage: str) -> list[str]:
    """What the stage was trained on."""
    if stage == "base":
        tokens = build.recipe.steps * build.recipe.batch * build.recipe.length
        held_out = sum(c.held_out for c in build.concepts)
        return [
            f"Pre-training text: {tokens / 1e6:.1f} million tokens from `factory/plain_text.py`, about"
            f" {len(build.concepts)} concepts ({held_out} of them named in no SFT row). Hash of the world's files that"
            f" it reads: `{hash_of(Path(__file__).parent / 'world', without=ONLY_CHAT)}`.",
            "The sums of the evaluation stand in no document of sums; a step of a word problem or of a longer sum may"
            " hold one by chance.",
        ]
    name = {"instruct": "sft", "dpo": "identity", "grpo": "maths"}[stage]
    rows = build.rows(f"{name}/train")
    lines = [f"Data: `data/{name}/train.jsonl`, {len(rows)} rows, hash `{hash_of(build.folder / name, '*.jsonl')}`."]
    if stage == "instruct":
        problems = sum(row["skill"] == "word_problem" for row in rows)
        lines.append(
            f"It saw {problems} word problems among them, all of two steps. That number was chosen so that online RL has"
            " something left to improve (lesson 04); in every other skill it is as good as this recipe makes it."
        )
    return lines


def hash_of(folder: Path, pattern: str = "**/*", without: tuple[str, ...] = ()) -> str:
    """The first 16 hex digits of the SHA-256 of the folder's files, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.glob(pattern) if p.is_file() and p.name not in without):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def score_table(scores: dict[str, dict[str, tuple[int, int]]]) -> list[str]:
    """A markdown table: a row a suite, a column a stage."""
    stages_named = list(scores)
    lines = ["| suite | n | " + " | ".join(f"sprout-{s}" for s in stages_named) + " |"]
    lines.append("|---" * (2 + len(stages_named)) + "|")
    for suite in scores[stages_named[0]]:
        cells = []
        for stage in stages_named:
            right, n = scores[stage][suite]
            low, high = wilson_interval(right, n)
            cells.append(f"{right / n:.1%} ({low:.1%}-{high:.1%})")
        lines.append(f"| {suite} | {n} | " + " | ".join(cells) + " |")
    return lines


def data_card(folder: Path, purpose: str) -> str:
    """What the files of a data folder hold."""
    lines = [
        f"# {folder.name}",
        "",
        purpose,
        "",
        "Made by `python -m factory.build --only data`; licence Apache-2.0.",
        "",
    ]
    lines += ["| file | rows |", "|---|---|"]
    for path in sorted(folder.glob("*.jsonl")):
        lines.append(f"| {path.name} | {len(path.read_text().splitlines())} |")
    lines += ["", f"Hash of the files: `{hash_of(folder, '*.jsonl')}`."]
    lines.append("No question of `eval/` stands in any training file (`tests/test_datasets.py`).")
    return "\n".join(lines) + "\n"
