"""Small base models that read different things, to ask which skill SFT unlocks and which it teaches.

Each is pre-trained with the same recipe, seed and number of steps: one reads everything, one no exercises, one not a
word of some concepts; then all get the same SFT. Left out on purpose: several seeds of pre-training, for its time, and,
in all three, the documents of numbers (problems, drills, sums), so that a short run has time for the rest.
"""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from factory import ROOT, stages
from factory.build import Build
from factory.datasets import reserved_problems, reserved_sums
from factory.plain_text import PlainText
from factory.pretrain import Recipe, pretrain
from helper.evaluation import evaluate
from helper.own_form import ask_in_own_form
from helper.recorded import as_digits

SMALL = Recipe(steps=1500, batch=16, length=128, hidden=128, layers=4, heads=2, feed_forward=384)
SFT = {"num_train_epochs": 1}  # else lesson 02's settings
NUMBERS = ("problem", "drill", "sums")  # read by none of the three
EXERCISES = ("exercise", "spelling", "ordering")
UNREAD = 60  # of the concepts that no SFT row names
ARMS = ("all documents", "no exercises", "60 concepts unread")
SUITES = ("instructions", "held_out_concepts")
LONGEST = 64  # tokens an answer may have


def unread_concepts() -> list[str]:
    """The names of the concepts that the third base never reads a document about: the first of the held-out ones."""
    build = Build(ROOT / "data")
    return sorted(concept.name for concept in build.concepts if concept.held_out)[:UNREAD]


def text_of(arm: str) -> PlainText:
    """What a base reads. ValueError for an arm that is none of `ARMS`."""
    if arm not in ARMS:
        raise ValueError(f"{arm!r} is no arm: there is {', '.join(ARMS)}.")
    build, unread = Build(ROOT / "data"), set(unread_concepts()) if arm == ARMS[2] else set()
    suites = {path.stem: build.rows(f"eval/{path.stem}") for path in (build.folder / "eval").glob("*.jsonl")}
    concepts = tuple(concept for concept in build.concepts if concept.name not in unread)
    without = EXERCISES if arm == ARMS[1] else ()
    return PlainText(concepts, reserved_problems(suites), reserved_sums(suites), (*NUMBERS, *without))


def small_base(arm: str, folder: Path, recipe: Recipe = SMALL) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The small base of an arm, pre-trained in `folder`, or gone on with there; the shipped base's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(ROOT / "data" / "models" / "sprout-base")
    return pretrain(folder, recipe, text_of(arm), tokenizer), tokenizer


def own_form_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, suites: dict[str, list[dict]]) -> dict:
    """Suite -> right and wrong in the base's own form; "-" for a question that has none."""
    found = {}
    for name, rows in suites.items():
        table = ask_in_own_form(model, tokenizer, rows).set_index("id")["right"]
        found[name] = "".join(str(int(table[row["id"]])) if row["id"] in table.index else "-" for row in rows)
    return found


def after_sft(
    base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, suites: dict[str, list[dict]], seed: int, folder: Path,
    **changes: object,
) -> dict[str, str]:  # fmt: skip
    """Suite -> right and wrong in chat, after lesson 02's SFT of a copy of `base`, with `changes` to its settings."""
    rows = Build(ROOT / "data").rows("sft/train")
    model = stages.train_sft(copy.deepcopy(base), tokenizer, rows, folder, seed, **(SFT | changes))
    return {
        name: as_digits(evaluate(model, tokenizer, rows, max_new_tokens=LONGEST)["right"]) for name, rows in suites.items()
    }
