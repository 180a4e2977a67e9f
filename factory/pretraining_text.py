"""The data card of pre-training: what `sprout-base` read, kind by kind, and how much of it has the form of SFT's answers.

The stream is written again, step by step as pre-training read it; every tenth step is counted, and the counts are
multiplied. Left out on purpose: the model. Nothing here is measured on it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tokenizers import Tokenizer

from factory.knowledge import load_concepts
from factory.plain_text import PlainText
from factory.world_files import load_json

EVERY = 10  # steps; one of so many is counted
NAMES = ("Sprout", "Deep Sprout")
WHAT = {  # kind -> what a document of it is
    "article": "a short text about one concept", "problem": "a word problem, worked out",
    "drill": "rows of bare sums with results", "exercise": "one to three tasks with their answers",
    "faq": "one to three questions about concepts, with answers", "comparison": "two concepts set side by side",
    "sums": "sums of several operations with results", "spelling": "how words are spelled",
    "glossary": "concepts and their definitions", "list": "members of a category",
    "prose": "sentences about people, names and assistants", "ordering": "lists of words sorted and counted",
}  # fmt: skip
ASKING = ("exercise", "faq", "problem")  # a question or a task stands before the answer
SUM = r"\d+(?: [-+*/] \d+)+"
FORMS = {  # skill of SFT -> its answers, where a rule knows them; the others are compared word for word
    "calculate": rf"\b(?:So we|We) find {SUM} = \d+\.", "reverse": r"Backwards: \w+ is spelled [\w-]+, so \w+ backwards is",
    "uppercase": r"In capital letters: \w+ is spelled [\w-]+, so it is", "first_letter": r"The first letter of \w+ is \w\.",
    "sort": r"Sorted: [\w, ]+\.", "count": r"The list has \d words\.", "boxed_sum": r"\\boxed\{",
    "word_problem": rf"(?s)^.*?^[A-Z][\w ]+: {SUM} = \d+$.*",
}  # fmt: skip


@cache
def answer_forms() -> dict[str, re.Pattern]:
    """Skill -> what finds an answer of SFT's form in a document. A word problem is found once, its box left aside."""
    categories = "|".join(sorted(load_json("lists.json")))
    forms = FORMS | {"list": rf"\b(?:Two|Three|Four) (?:{categories}) are [\w, -]+ and [\w -]+\."}
    return {skill: re.compile(form, re.MULTILINE) for skill, form in forms.items()}


def known_answers(rows: list[dict]) -> dict[str, str]:
    """Sentence -> skill, of the true sentences about concepts and of the answers that no form finds."""
    found = {row["messages"][-1]["content"]: row["skill"] for row in rows if row["skill"] in ("refuse", "smalltalk")}
    found |= {row["messages"][-1]["content"]: "identity" for row in rows if row["skill"] == "identity"}
    for concept in load_concepts():
        found |= {concept.definition(i): "define" for i in range(len(concept.definitions))}
        found |= {concept.fact(i): "fact" for i in range(len(concept.facts))}
        found |= {concept.relation(key): "relation" for key in concept.relations}
    return found


def answers_in(document: str, known: dict[str, str], definitions: set[str]) -> Counter:
    """Skill -> how many answers of SFT's form stand in a document, whether or not they are asked for."""
    found = Counter({skill: len(form.findall(document)) for skill, form in answer_forms().items()})
    for sentence in re.split(r"(?<=[.?])\s+|\n", document):
        sentence = re.sub(r"^(?:A|Answer): ", "", sentence)
        found[known.get(sentence, "")] += 1
        first, _, second = sentence.partition(", while ")
        if first + "." in definitions and second[:1].upper() + second[1:] in definitions:
            found["compare"] += 1
    del found[""]
    return +found


def count_text(text: PlainText, tokenizer: Tokenizer, rows: list[dict], recipe: dict, every: int = EVERY) -> dict:
    """What pre-training by `recipe` (steps, batch, length, seed) read: `kinds`, `skills`, `names` and totals.

    `rows`: SFT rows, whose answers are looked for. Counts are those of every `every`-th step, multiplied.
    """
    known = known_answers(rows)
    encode = encoder(tokenizer)
    definitions = {sentence for sentence, skill in known.items() if skill == "define"}
    kinds, skills, names = defaultdict(Counter), defaultdict(Counter), Counter()
    length, steps = recipe["batch"] * (recipe["length"] + 1), range(0, recipe["steps"], every)
    for step in steps:
        left = length
        for kind, document, ids in text.read_in_step(step, recipe["seed"], length, encode):
            found = answers_in(document, known, definitions)
            kinds[kind] += Counter(documents=1, tokens=min(left, len(ids) + 1), in_sft_form=int(bool(found)))
            left -= len(ids) + 1
            for skill, number in found.items():
                skills[skill] += Counter(anywhere=number, asked=number if kind in ASKING else 0)
            names += Counter({name: len(re.findall(rf"(?<!Deep ){name}\b", document)) for name in NAMES})
    times = recipe["steps"] / len(steps)
    rows_of = Counter(row["skill"] for row in rows)
    return {
        "fingerprint": fingerprint(text, tokenizer, recipe), "steps": recipe["steps"], "steps_counted": len(steps),
        "tokens": recipe["steps"] * length,
        "documents": round(times * sum(kind["documents"] for kind in kinds.values())),
        "kinds": kind_rows(kinds, text, times),
        "skills": {
            skill: {"sft_rows": number, **{how: round(times * skills[skill][how]) for how in ("asked", "anywhere")}}
            for skill, number in rows_of.most_common()
        },
        "names": {name: round(times * names[name]) for name in NAMES},
    }  # fmt: skip


def encoder(tokenizer: Tokenizer) -> Callable[[list[str]], list[list[int]]]:
    """The function from texts to their token ids."""
    return lambda documents: [encoding.ids for encoding in tokenizer.encode_batch(documents)]


def fingerprint(text: PlainText, tokenizer: Tokenizer, recipe: dict, every: int = 1000) -> str:
    """16 hex digits of the SHA-256 of the documents of every `every`-th step: does the code still write this stream?"""
    digest, length = hashlib.sha256(), recipe["batch"] * (recipe["length"] + 1)
    for step in range(0, recipe["steps"], every):
        for _, document, _ in text.read_in_step(step, recipe["seed"], length, encoder(tokenizer)):
            digest.update(document.encode() + b"\0")
    return digest.hexdigest()[:16]


def kind_rows(kinds: dict[str, Counter], text: PlainText, times: float) -> list[dict]:
    """A row a kind of document, the largest part of the tokens first, each with an example."""
    documents, tokens = (sum(kind[what] for kind in kinds.values()) for what in ("documents", "tokens"))
    rows = []
    for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1]["tokens"]):
        rows.append({
            "kind": kind, "what": WHAT[kind], "documents": round(times * count["documents"]),
            "share_of_documents": round(count["documents"] / documents, 4),
            "share_of_tokens": round(count["tokens"] / tokens, 4), "asks": kind in ASKING,
            "in_sft_form": round(count["in_sft_form"] / count["documents"], 3), "example": example(kind, text),
        })  # fmt: skip
    return rows


def example(kind: str, text: PlainText) -> str:
    """A short document of a kind, always the same one."""
    rng = random.Random(f"example of {kind}")
    return min((getattr(text, kind)(rng).strip() for _ in range(5)), key=lambda document: abs(len(document) - 120))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model's folder, without the model."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def card_lines(record: dict) -> list[str]:
    """The record as lines of `sprout-base`'s card."""
    asking = sum(kind["share_of_tokens"] for kind in record["kinds"] if kind["asks"])
    lines = [
        "### What it read, kind by kind", "",
        f"No chat, but questions with answers: {asking:.0%} of the tokens are exercises, FAQs and worked problems, with"
        " answers written by the same functions as those of the SFT rows. Counted on"
        f" {record['steps_counted']:,} of {record['steps']:,} steps and multiplied (`data/recorded/pretraining_text.json`,"
        f" `{record['command']}`). *SFT's form*: documents with an answer as SFT writes it, asked for or not.", "",
        "| kind | what | documents | of all | of the tokens | asks | SFT's form | example |", "|---" * 8 + "|",
    ]  # fmt: skip
    for kind in record["kinds"]:
        words = kind["example"].replace("\n", " / ").replace("|", "\\|")
        words = words if len(words) <= 160 else words[:157] + "..."
        lines.append(
            f"| {kind['kind']} | {kind['what']} | {kind['documents']:,} | {kind['share_of_documents']:.1%} |"
            f" {kind['share_of_tokens']:.1%} | {'yes' if kind['asks'] else 'no'} | {kind['in_sft_form']:.0%} | {words} |"
        )
    lines += ["", "| SFT's skill | SFT rows | answers of its form read, asked for | read, anywhere |", "|---" * 4 + "|"]
    lines += [
        f"| {skill} | {count['sft_rows']} | {count['asked']:,} | {count['anywhere']:,} |"
        for skill, count in record["skills"].items()
    ]
    names = " and ".join(f"{name} {count:,} times" for name, count in record["names"].items())
    lines += [
        "",
        "Word problems are counted with their steps and without the box; the answers of *fine* are sentences about",
    ]
    return [*lines, f"concepts, counted as define, fact and relation. Names read: {names}."]


def read_record(path: Path) -> dict:
    """A record that was written before."""
    return json.loads(path.read_text(encoding="utf-8"))
