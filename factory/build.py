"""Make everything under `data/` from nothing: `python -m factory.build` (or `make data`).

Steps, each skipped when its result stands already in the build folder: tokenizer, data sets and evaluation suites,
pre-training, SFT, DPO, GRPO, cards. `--quick` makes a toy-sized copy in about a minute (for the tests), `--only`
does some steps, `--fresh` throws the build folder away first.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from factory import ROOT, cards, datasets, stages, turns
from factory.knowledge import Concept, load_concepts
from factory.plain_text import PlainText
from factory.pretrain import Recipe, logged_seconds, pretrain
from factory.tokenizer import train_tokenizer
from helper.evaluation import evaluate
from helper.generation import complete_text
from helper.graders import CLAUSE_ENDS, grade

PROMPTS = 220  # questions about the name in DPO (lesson 03)
STEPS = ("data", "base", "instruct", "dpo", "grpo", "cards")
QUICK_SIZES = datasets.Sizes(
    suite=5, problems=30, unseen_problems=10, relation=20, fact=20, compare=20, lists=20, calculate=20, boxed_sums=10,
    spelling=10, sort=10, count=10, identity=1, refusals=1, word_problems=20, maths=100,
    system={"name": 5, "thanks": 5, "nothing": 5}, follow_up=10, turns_test=6,
)  # fmt: skip


class Build:
    """One build: where it goes, how large it is, and what it has made so far."""

    def __init__(self, folder: Path, quick: bool = False):
        self.folder, self.quick = folder, quick
        self.work = folder / "build"
        self.concepts: tuple[Concept, ...] = load_concepts(limit=12 if quick else None)
        self.sizes = QUICK_SIZES if quick else datasets.Sizes()
        self.recipe = (
            Recipe(steps=30, batch=4, length=128, hidden=64, layers=2, heads=2, feed_forward=128) if quick else Recipe()
        )
        self.vocabulary = 1024 if quick else 3072

    def model_folder(self, stage: str) -> Path:
        """Where a stage's model is kept."""
        return self.folder / "models" / f"sprout-{stage}"

    def load(self, stage: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A stage's model in float32, with its tokenizer."""
        path = self.model_folder(stage)
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
        return model, AutoTokenizer.from_pretrained(path)

    def save(self, stage: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seconds: float) -> None:
        """Write a model in bfloat16 with its tokenizer, and note how long it took."""
        path = self.model_folder(stage)
        model.generation_config.max_length = None
        model.to(torch.bfloat16).save_pretrained(path)
        tokenizer.save_pretrained(path)
        (self.work / f"{stage}.json").write_text(json.dumps({"seconds": round(seconds)}))

    def rows(self, name: str) -> list[dict]:
        """A data file that was written before, such as "sft/train"."""
        return [json.loads(line) for line in (self.folder / f"{name}.jsonl").read_text().splitlines()]

    def text(self) -> PlainText:
        """The pre-training stream, with the evaluation left out."""
        suites = {path.stem: self.rows(f"eval/{path.stem}") for path in (self.folder / "eval").glob("*.jsonl")}
        return PlainText(self.concepts, datasets.reserved_problems(suites), datasets.reserved_sums(suites))

    # ------------------------------------------------------------ steps

    def data(self) -> None:
        """Data sets and evaluation suites."""
        suites = datasets.write_datasets(self.folder, self.concepts, self.sizes)
        turns.write_turns(self.folder, self.concepts, suites, self.sizes)

    def base(self) -> None:
        """Tokenizer and pre-training."""
        text, rng = self.text(), random.Random("tokenizer")
        # Words in capitals and letter by letter must stay single letters, so these documents teach no merges.
        documents = (text.document(rng) for _ in range(2_000 if self.quick else 60_000))
        tokenizer = train_tokenizer((d for d in documents if not is_spelled(d)), self.vocabulary)
        probe = None if self.quick else lambda model: self.probe(model, tokenizer)
        folder = self.work / "pretraining"
        model = pretrain(folder, self.recipe, text, tokenizer, probe)
        self.save("base", model, tokenizer, logged_seconds(folder / "log.jsonl"))

    def probe(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict:
        """What the base model knows so far, from 0 to 1: plain-text completion of definitions and sums."""
        cloze, rng = self.rows("eval/cloze"), random.Random("probe")
        sums = rng.sample([r for r in self.rows("eval/instructions") if r["skill"] == "calculate"], 50)
        prompts = [r["question"] for r in cloze] + [f"We find {r['expression']} =" for r in sums]
        texts = complete_text(model.eval(), tokenizer, prompts, max_new_tokens=24, stop=CLAUSE_ENDS)
        known = [grade(r, r["question"] + t + ".") for r, t in zip(cloze, texts[: len(cloze)], strict=True)]
        right = [t.split()[:1] == [str(r["value"])] for r, t in zip(sums, texts[len(cloze) :], strict=True)]
        return {"cloze": round(sum(known) / len(known), 3), "sums": round(sum(right) / len(right), 3)}

    def instruct(self) -> None:
        """SFT."""
        model, tokenizer = self.load("base")
        changes = {"max_steps": 3} if self.quick else {}
        start = time.time()
        model = stages.train_sft(model, tokenizer, self.rows("sft/train"), self.work / "sft", **changes)
        self.save("instruct", model, tokenizer, time.time() - start)

    def dpo(self) -> None:
        """The change of name."""
        model, tokenizer = self.load("instruct")
        questions = [r["conversations"][0]["value"] for r in self.rows("identity/train")]
        questions = random.Random(0).sample(questions, min(PROMPTS, len(questions)))
        start = time.time()
        model = stages.train_dpo(model, tokenizer, questions, self.anchors(), self.work / "dpo", **self.quick_dpo())
        self.save("dpo", model, tokenizer, time.time() - start)

    def anchors(self, refusals: int = 80, others: int = 120) -> list[str]:
        """Questions whose answers should stay as they are (lesson 03's `ANCHORS`): refusals also say "I"."""
        rows = self.rows("sft/train")
        random.Random(0).shuffle(rows)
        skill_of = {row["messages"][0]["content"]: row["skill"] for row in rows}  # each question once
        near = [question for question, skill in skill_of.items() if skill == "refuse"]
        far = [question for question, skill in skill_of.items() if skill not in ("refuse", "identity")]
        return near[:refusals] + far[:others]

    def quick_dpo(self) -> dict:
        """Changes to the DPO settings in quick mode."""
        return {"max_steps": 2} if self.quick else {}

    def grpo(self) -> None:
        """Practice on word problems."""
        model, tokenizer = self.load("instruct")
        changes = {
            "max_steps": 2,
            "per_device_train_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "num_generations": 4,
            "max_completion_length": 16,
        }
        start = time.time()
        model = stages.train_grpo(
            model, tokenizer, self.rows("maths/train"), self.work / "grpo", **(changes if self.quick else {})
        )
        self.save("grpo", model, tokenizer, time.time() - start)

    def cards(self) -> None:
        """Data cards and model cards, with the scores of every stage."""
        scores = {stage: self.scores(stage) for stage in ("base", "instruct", "dpo", "grpo")}
        recipes = {
            "base": asdict(self.recipe) | {"vocabulary": self.vocabulary},
            "instruct": stages.SFT_SETTINGS, "dpo": stages.DPO_SETTINGS, "grpo": stages.GRPO_SETTINGS,
        }  # fmt: skip
        seconds = {stage: json.loads((self.work / f"{stage}.json").read_text())["seconds"] for stage in scores}
        cards.write_cards(self.folder, recipes, seconds, scores, self.concepts)

    def scores(self, stage: str) -> dict[str, tuple[int, int]]:
        """Suite -> (right, n) of a stage, greedy decoding."""
        model, tokenizer = self.load(stage)
        found, room = {}, stages.GRPO_SETTINGS["max_completion_length"]
        for path in sorted((self.folder / "eval").glob("*.jsonl")):
            if path.stem not in ("cloze", "reference"):
                table = evaluate(model, tokenizer, self.rows(f"eval/{path.stem}"), max_new_tokens=room)
                found[path.stem] = (int(table["right"].sum()), len(table))
        return found


def is_spelled(document: str) -> bool:
    """Whether a document spells words out."""
    return any(mark in document for mark in (" backwards is ", " in capital letters is ", " is spelled "))


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a toy-sized copy, in about a minute")
    parser.add_argument("--out", type=Path, help="folder to write to (default: data, or data/build/quick with --quick)")
    parser.add_argument("--only", nargs="+", choices=STEPS, help="do these steps, even if done before")
    parser.add_argument("--fresh", action="store_true", help="throw the build folder away first")
    options = parser.parse_args(arguments)
    folder = options.out or (ROOT / "data" / "build" / "quick" if options.quick else ROOT / "data")
    build = Build(folder, options.quick)
    if options.fresh and build.work.exists():
        shutil.rmtree(build.work)
    build.work.mkdir(parents=True, exist_ok=True)
    for step in STEPS:
        done = build.work / f"{step}.done"
        if (options.only is None and done.exists()) or (options.only and step not in options.only):
            print(f"{step}: {'stands already' if done.exists() else 'left out'}", flush=True)
            continue
        start = time.time()
        print(f"{step} ...", flush=True)
        getattr(build, step)()
        done.write_text("")
        print(f"{step}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
