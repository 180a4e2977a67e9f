"""Lesson 03's run with two mixes of anchors: the answers that each run changes, about the name and to everything else.

Left out on purpose: word problems (their answers are long, and the lesson counts them in its own run), other settings.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import zip_longest
from pathlib import Path

from factory import stages
from factory.recordings.shared import command, fresh, write
from helper import generate_responses, load_course_dataset, load_model_and_tokenizer, load_suite
from helper.by_model import TABLES

SUITES = ("identity", "instructions", "held_out_concepts")
LONGEST = 96  # tokens an answer may have
MIXES = {  # name: how many refusals, how many other questions, these one of each skill in turn or as they come
    "lesson's mix": (*TABLES["03_dpo"]["anchors"][0][:2], False),
    "wider mix": (60, 240, True),
}


def asked_rows() -> list[dict]:
    """The rows of the three suites, one after another, those about the name once."""
    rows = [(suite, row) for suite in SUITES for row in load_suite(suite)]
    return [row for suite, row in rows if suite == "identity" or row["skill"] != "identity"]


def anchor_questions(rows: list[dict], refusals: int, others: int, in_turn: bool, seed: int = 0) -> list[str]:
    """Questions of SFT rows for anchors, each once: so many that are refused, and so many others, none about the name.

    `in_turn`: the others one of each skill in turn, so that the rare ones have as many as the frequent ones.
    """
    rows = random.Random(seed).sample(rows, len(rows))
    skill_of = {row["messages"][0]["content"]: row["skill"] for row in rows if row["skill"] != "identity"}
    of_skill: dict[str, list[str]] = {}
    for question, skill in skill_of.items():
        of_skill.setdefault(skill, []).append(question)
    refused = of_skill.pop("refuse", [])
    far = [question for question, skill in skill_of.items() if skill != "refuse"]
    if in_turn:
        far = [question for one_each in zip_longest(*of_skill.values()) for question in one_each if question]
    return refused[:refusals] + far[:others]


def anchor_skills(questions: list[str]) -> dict[str, int]:
    """How many of the anchors' questions belong to each skill."""
    skill_of = {row["messages"][0]["content"]: row["skill"] for row in load_course_dataset("sprout-sft")}
    return dict(Counter(skill_of[question] for question in questions).most_common())


def record_anchors(seeds: list[int], path: Path) -> None:
    """Two mixes of anchors in lesson 03's run, each seed: which answers change."""
    _, tokenizer = load_model_and_tokenizer("sprout-instruct")
    identity = [row["conversations"][0]["value"] for row in load_course_dataset("sprout-identity")]
    identity = random.Random(0).sample(list(dict.fromkeys(identity)), TABLES["03_dpo"]["prompts"][0])
    record = begun(path, seeds) or {"command": command("anchors", seeds), "suites": SUITES, "mixes": MIXES, "runs": []}
    if "before" not in record:
        record["before"] = answers_of("sprout-instruct", None, tokenizer)
    for seed in seeds:
        for mix, parts in MIXES.items():
            if any((run["mix"], run["seed"]) == (mix, seed) for run in record["runs"]):
                continue
            questions = anchor_questions(load_course_dataset("sprout-sft").to_list(), *parts)
            model, _ = load_model_and_tokenizer("sprout-instruct")
            model = stages.train_dpo(model.float(), tokenizer, identity, questions, fresh("anchors"), seed)
            after = answers_of("", model, tokenizer)
            changed = {str(place): text for place, text in enumerate(after) if text != record["before"][place]}
            record["runs"].append({"mix": mix, "seed": seed, "anchors": anchor_skills(questions), "changed": changed})
            print(mix, seed, len(changed), "answers changed", flush=True)
            write(record, path)


def answers_of(name: str, model, tokenizer) -> list[str]:
    """The greedy answers to all rows, of a model or of the shipped one of that name."""
    model = model or load_model_and_tokenizer(name)[0].float()
    return generate_responses(model, tokenizer, [row["question"] for row in asked_rows()], max_new_tokens=LONGEST)


def begun(path: Path, seeds: list[int]) -> dict | None:
    """A record of the same runs that was stopped, to go on from; None where there is none."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    same = found.get("command") == command("anchors", seeds) and found.get("mixes") == json.loads(json.dumps(MIXES))
    return found if same else None
