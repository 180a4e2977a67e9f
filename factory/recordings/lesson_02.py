"""What is recorded for lesson 02: what pre-training read, what it gave, and short SFT runs with several learning rates.

Left out on purpose: seconds and memory, which say more about the machine's load than about the learning rate.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedModel
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

from factory import ROOT, small_bases, stages
from factory.build import Build
from factory.pretraining_text import count_text, read_record, read_tokenizer
from factory.recordings.shared import command, fresh, write
from helper import (
    evaluate,
    generate_responses,
    load_course_dataset,
    load_model_and_tokenizer,
    load_suite,
    set_seed,
    skip_masked_positions,
)

RATES = (5e-5, 2e-4, 1e-3, 3e-3, 6e-3, 2e-2)  # the lesson trains with the third; the ends are 1/20 and 20 times it
SHORT = {"max_steps": 60, "warmup_steps": 5, "logging_steps": 2}  # as short as the trials in the lesson
QUESTIONS = ("Give me an 1-sentence introduction of LLM.", "Calculate 1+1-1")
LONGEST = 56  # tokens an answer may have, as in those trials


def short_sft(rate: float, rows: list[dict], seed: int) -> tuple[PreTrainedModel, list[dict]]:
    """The recipe of lesson 02 from `sprout-base`, cut to a few steps and with another learning rate: model and log."""
    set_seed(seed)
    model, tokenizer = load_model_and_tokenizer("sprout-base")
    settings = stages.SFT_SETTINGS | stages.quiet_settings(fresh("learning_rates"), seed) | SHORT
    trainer = SFTTrainer(
        model=model, processing_class=tokenizer, args=SFTConfig(**settings | {"learning_rate": rate}),
        train_dataset=Dataset.from_list(stages.prompts_and_completions(rows)),
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    with skip_masked_positions():
        trainer.train()
    return model.eval(), [row for row in trainer.state.log_history if "loss" in row]


def record_learning_rates(seeds: list[int], path: Path) -> None:
    """Six learning rates with the first seed: loss (nats per token) by step, right answers of n, some answers."""
    _, tokenizer = load_model_and_tokenizer("sprout-base")
    rows, sample = load_course_dataset("sprout-sft").to_list(), load_suite("instructions")[::6]
    record = {
        "command": "python -m factory.record --only learning_rates", "model": "sprout-base", "seed": seeds[0],
        "settings": SHORT, "suite": "instructions, every sixth question", "n": len(sample),
        "questions": list(QUESTIONS), "runs": [],
    }  # fmt: skip
    for rate in RATES:
        model, log = short_sft(rate, rows, seeds[0])
        record["runs"].append({
            "learning_rate": rate,
            "steps": [row["step"] for row in log],
            "loss": [round(float(row["loss"]), 4) for row in log],
            "right": int(evaluate(model, tokenizer, sample, max_new_tokens=LONGEST)["right"].sum()),
            "answers": generate_responses(model, tokenizer, list(QUESTIONS), max_new_tokens=LONGEST),
        })  # fmt: skip
        print(record["runs"][-1], flush=True)
        write(record, path)


def record_pretraining_text(seeds: list[int], path: Path) -> None:
    """What `sprout-base` read, kind by kind; the base has one seed, so `seeds` changes nothing."""
    build = Build(ROOT / "data")
    tokenizer = read_tokenizer(build.model_folder("base"))
    record = {"command": "python -m factory.record --only pretraining_text"}
    write(record | count_text(build.text(), tokenizer, build.rows("sft/train"), asdict(build.recipe)), path)


def record_pretraining_gave(seeds: list[int], path: Path) -> None:
    """What the same SFT reaches from three small bases that read different things; goes on where it stopped."""
    suites = {name: load_suite(name) for name in small_bases.SUITES}
    record = {
        "command": command("pretraining_gave", seeds), "recipe": asdict(small_bases.SMALL),
        "sft": stages.SFT_SETTINGS | small_bases.SFT, "read_by_none": list(small_bases.NUMBERS),
        "exercises": list(small_bases.EXERCISES),
        "unread": small_bases.unread_concepts(), "bases": {}, "runs": [],
    }  # fmt: skip
    if path.exists():
        old = read_record(path)
        record |= {key: old[key] for key in ("bases", "runs")} if old["recipe"] == record["recipe"] else {}
    for seed in seeds:
        for arm in small_bases.ARMS:
            if [arm, seed] in [[run["arm"], run["seed"]] for run in record["runs"]]:
                continue
            work = ROOT / "runs" / "record" / "small_bases" / arm.replace(" ", "_")
            base, tokenizer = small_bases.small_base(arm, work)
            if arm not in record["bases"]:
                log = [json.loads(line) for line in (work / "log.jsonl").read_text().splitlines()]
                record["bases"][arm] = {
                    "loss": log[-1]["loss"],
                    "own_form": small_bases.own_form_of(base, tokenizer, suites),
                }
            after = small_bases.after_sft(base, tokenizer, suites, seed, fresh("small_sft"))
            record["runs"].append({"arm": arm, "seed": seed, "right": after})
            write(record, path)
            print(arm, seed, {name: text.count("1") / len(text) for name, text in after.items()}, flush=True)


RECORDINGS = {
    "pretraining_gave": (record_pretraining_gave, "02_what_pretraining_gave.json"),
    "learning_rates": (record_learning_rates, "learning_rates.json"),
    "pretraining_text": (record_pretraining_text, "pretraining_text.json"),
}
SHOWN = {
    "instructions": "SFT: new instructions",
    "held_out_concepts": "SFT: concepts in no training row",
    "cloze": "SFT: completes plain sentences",
}
