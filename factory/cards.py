"""Data cards and model cards: what each file is, how it was made, and what was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from factory.knowledge import Concept
from factory.pretraining_text import card_lines, read_record
from factory.world_files import WORLD
from helper.intervals import wilson_interval

MODELS = {
    "base": "pre-trained from random weights on plain text, exercises with answers among it; no chat",
    "instruct": "sprout-base after supervised fine-tuning (the recipe of lesson 02)",
    "dpo": "sprout-instruct after direct preference optimisation: its name became Deep Sprout (lesson 03)",
    "grpo": "sprout-instruct after online RL on word problems (lesson 04)",
}
DATASETS = {
    "sft": "Questions and answers of every skill, column `messages` (as `banghua/DL-SFT-Dataset`) and `skill`.",
    "turns": "For lesson 02, beside `sft`: rows with a system turn, conversations of two turns, and tests of both.",
    "identity": "Questions about who the assistant is, column `conversations` (as `mrfakename/identity`).",
    "preferences": "Pairs by correction, columns `chosen` and `rejected` (as `banghua/DL-DPO-Dataset`).",
    "maths": "Word problems with worked answers, columns `question` and `answer` (as `openai/gsm8k`).",
    "rules": "For a real model: instructions with the rule that checks them, columns `question`, `ground_truth`, `topic`.",
    "tools": "For a real model: calls of tools and answers without one, column `messages`.",
    "sums": "For a real model: word problems of one step, columns `question` and `answer` (as `openai/gsm8k`).",
    "eval": "The evaluation suites: questions with what their graders need (`helper/graders.py`). `requests`, for lesson"
    " 02's ledger alone: more requests to decline, and harmless ones like them, in wordings far from the SFT rows'.",
}

# Of the world's files, what pre-training does not read.
NOT_IN_TEXT = (
    "identity.jsonl",
    "refusals.jsonl",
    "smalltalk.jsonl",
    "unseen_stories.jsonl",
    "everyday",
    "another_hand.jsonl",
)


def write_cards(
    folder: Path, recipes: dict[str, dict], seconds: dict[str, int], scores: dict[str, dict], concepts: tuple[Concept, ...]
) -> None:
    """A README.md beside every model and every data set under `folder`.

    By stage: `recipes`, the settings; `seconds` of training; `scores`, suite -> (right, n).
    """
    for stage, purpose in MODELS.items():
        data = text_lines(recipes[stage], concepts) if stage == "base" else row_lines(folder, stage)
        counted = folder / "recorded" / "pretraining_text.json"
        if stage == "base" and counted.exists():
            data += ["", *card_lines(read_record(counted))]
        text = model_card(stage, purpose, recipes[stage], seconds[stage], data, scores)
        (folder / "models" / f"sprout-{stage}" / "README.md").write_text(text)
    for name, purpose in DATASETS.items():
        (folder / name / "README.md").write_text(data_card(folder / name, purpose))


def model_card(stage: str, purpose: str, recipe: dict, seconds: int, data: list[str], scores: dict[str, dict]) -> str:
    """What the model is, its recipe, the hash of its data, the time it took, and every stage's scores."""
    lines = [
        "---", "license: apache-2.0", "language: en", "---", f"# sprout-{stage}", "", f"A tiny language model: {purpose}.",
        "Made by `python -m factory.build` (`make data`) on CPU cores alone; see `factory/`.", "",
        "It knows a small world written by this project and nothing else. Use it to learn how post-training works,",
        "not for advice.", "", "## Recipe", "", f"Seed 0, {seconds} s on 2 CPU cores.", "", "```json",
        json.dumps(recipe, indent=1), "```", "", *data, "", "## Scores",
        "", "Greedy decoding, right answers with 95% Wilson intervals, all stages for comparison. Identity, also where it"
        " is part of the instructions, is graded for the name Sprout, which sprout-dpo gave up on purpose:", "",
        *score_table(scores),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def text_lines(recipe: dict, concepts: tuple[Concept, ...]) -> list[str]:
    """What the base model was trained on."""
    tokens = recipe["steps"] * recipe["batch"] * recipe["length"]
    held_out = sum(c.held_out for c in concepts)
    return [
        f"Pre-training text: {tokens / 1e6:.1f} million tokens from `factory/plain_text.py`, about"
        f" {len(concepts)} concepts ({held_out} of them named in no SFT row). Hash of the world's files that"
        f" it reads, knowledge and word problems among them: `{hash_of(WORLD, without=NOT_IN_TEXT)}`.",
        "The sums of the evaluation stand in no document of sums; a step of a word problem or of a longer sum may"
        " hold one by chance.",
    ]


def row_lines(folder: Path, stage: str) -> list[str]:
    """What a later stage was trained on."""
    name = {"instruct": "sft", "dpo": "identity", "grpo": "maths"}[stage]
    rows = [json.loads(line) for line in (folder / name / "train.jsonl").read_text().splitlines()]
    lines = [f"Data: `data/{name}/train.jsonl`, {len(rows)} rows, hash `{hash_of(folder / name, '*.jsonl')}`."]
    if stage == "instruct":
        problems = sum(row["skill"] == "word_problem" for row in rows)
        lines.append(
            f"It saw {problems} word problems among them, all of two steps. That number was chosen so that online RL has"
            " something left to improve (lesson 04); in every other skill it is as good as this recipe makes it."
        )
    return lines


def hash_of(folder: Path, pattern: str = "**/*", without: tuple[str, ...] = ()) -> str:
    """The first 16 hex digits of the SHA-256 of the folder's files, by name and content, `without` some names."""
    digest, whole = hashlib.sha256(), set(without)
    for path in sorted(p for p in folder.glob(pattern) if p.is_file() and not whole & set(p.relative_to(folder).parts)):
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
