"""The data sets of the course: SFT, identity, preferences, maths and the evaluation suites.

The evaluation is drawn first; every training set then leaves its questions out, so the splits are disjoint by
construction. Public column names: `messages`; `conversations`; `chosen`/`rejected`; `question`/`answer`.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from factory import skills
from factory.another_hand import another_hand_suite
from factory.arithmetic import few_step_arithmetic
from factory.everyday import everyday_files
from factory.knowledge import Concept
from factory.problem_tables import SEEN_STORIES, UNSEEN_STORIES
from factory.problems import Problem, make_problem, problem_key
from factory.world_files import load_json
from helper.graders import words_of

OLD_NAME, NEW_NAME = "Sprout", "Deep Sprout"


@dataclass(frozen=True)
class Sizes:
    """How many rows of each kind; `word_problems` in the SFT set decides how much RL has left to do."""

    suite: int = 60  # rows of each skill in the suite `instructions`
    problems: int = 500
    unseen_problems: int = 300
    define: int = 3  # SFT rows a taught concept
    relation: int = 650  # SFT rows; so are the next ones
    fact: int = 100
    compare: int = 130
    lists: int = 200
    calculate: int = 230
    boxed_sums: int = 100
    spelling: int = 80  # of each kind
    sort: int = 220
    count: int = 160
    identity: int = 1  # copies of the identity rows
    refusals: int = 2  # copies of the refusal rows
    word_problems: int = 33
    most_steps: int = 2  # of these; longer ones are left to RL
    maths: int = 4000
    system: dict[str, int] = field(default_factory=lambda: {"name": 90, "thanks": 60, "nothing": 50})  # `factory.turns`
    follow_up: int = 120
    turns_test: int = 60  # tests of each kind


def key_of(question: str) -> str:
    """A question without case, punctuation and spacing, to compare questions across splits."""
    return " ".join(words_of(question)) + "|" + "".join(ch for ch in question if ch in "+-*/")


def draw(count: int, make: Callable[[], dict], taken: set[str], barred: re.Pattern | None = None) -> list[dict]:
    """`count` rows with questions not in `taken`, which grows, and without a word that is `barred`.

    Stops early when 200 draws in a row bring none.
    """
    rows, misses = [], 0
    while len(rows) < count and misses < 200:
        row = make()
        if key_of(row["question"]) in taken or (barred and mentions(barred, row["question"], row["answer"])):
            misses += 1
            continue
        taken.add(key_of(row["question"]))
        rows.append(row)
        misses = 0
    return rows


def names_of(concepts: Iterable[Concept]) -> re.Pattern:
    """What finds the names of these concepts in a text, as whole words, one or several of the thing."""
    names = sorted((re.escape(c.name) for c in concepts), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(names)})(?:e?s)?\b", re.IGNORECASE)


def mentions(names: re.Pattern, *texts: str) -> bool:
    """Whether one of the texts has one of the names."""
    return any(names.search(text) for text in texts)


# ---------------------------------------------------------------- evaluation


def split_words() -> tuple[list[str], list[str]]:
    """Words for SFT rows and, apart from them, words for the evaluation of rewriting."""
    words = sorted(load_json("words.json")["words"])
    random.Random("words").shuffle(words)
    return words[len(words) // 4 :], words[: len(words) // 4]


def evaluation_suites(concepts: tuple[Concept, ...], sizes: Sizes) -> dict[str, list[dict]]:
    """All suites: name -> rows with ids, each row with what its grader needs."""
    taught, held_out = [c for c in concepts if not c.held_out], [c for c in concepts if c.held_out]
    suites = {
        "instructions": instruction_suite(taught, concepts, sizes, random.Random("instructions")),
        "held_out_concepts": held_out_suite(held_out, random.Random("held out")),
        "cloze": [cloze_row(c) for c in held_out],
        "word_problems": problem_suite(SEEN_STORIES, sizes.problems, 40, random.Random("seen stories")),
        "unseen_story_types": problem_suite(UNSEEN_STORIES, sizes.unseen_problems, 40, random.Random("unseen stories")),
        "larger_numbers": problem_suite(SEEN_STORIES, sizes.unseen_problems, 99, random.Random("larger numbers")),
        "another_hand": another_hand_suite(sizes.unseen_problems, random.Random("another hand")),
        "identity": list(skills.identity_rows("test")),
        "requests": skills.refusal_rows("requests", concepts),
        "reference": reference_rows(concepts),
    }
    for name, rows in suites.items():
        for number, row in enumerate(rows):
            row["id"] = f"{name}-{number:04d}"
    return suites


def instruction_suite(taught: list[Concept], concepts: tuple[Concept, ...], sizes: Sizes, rng: random.Random) -> list[dict]:
    """Every skill but word problems, on taught concepts, half of the questions in unseen wordings."""
    words, taken, rows = split_words()[1], set(), []
    related = [(c, key) for c in taught for key in c.relations]

    def unseen() -> bool:
        return rng.random() < 0.5

    makers = {
        "define": lambda: skills.define_row(rng.choice(taught), rng, unseen()),
        "fact": lambda: skills.fact_question_row(rng.choice(taught), rng, unseen()),
        "relation": lambda: skills.relation_row(*rng.choice(related), rng, unseen()),
        "compare": lambda: skills.compare_row(*pair(taught, rng), rng, unseen()),
        "list": lambda: skills.list_row(*rng.choice(sorted(skills.categories().items())), rng, unseen()),
        "calculate": lambda: skills.calculate_row(rng, unseen()),
    }
    for kind in skills.REWRITE:
        makers[kind] = lambda kind=kind: skills.rewrite_row(kind, words, rng, unseen())
    for make in makers.values():
        rows += draw(sizes.suite, make, taken)
    others = skills.refusal_rows("test", concepts)
    identity = skills.identity_rows("test")
    return rows + rng.sample(others, min(len(others), sizes.suite)) + rng.sample(identity, min(len(identity), sizes.suite))


def pair(concepts: list[Concept], rng: random.Random) -> tuple[Concept, Concept]:
    """Two different concepts of one domain."""
    first = rng.choice(concepts)
    return first, rng.choice([c for c in concepts if c.domain == first.domain and c is not first])


def held_out_suite(held_out: list[Concept], rng: random.Random) -> list[dict]:
    """For each held-out concept its definition asked in a seen and in an unseen wording, a fact, and a relation."""
    rows = []
    for concept in held_out:
        mine = [skills.define_row(concept, rng, False), skills.define_row(concept, rng, True)]
        mine.append(skills.fact_question_row(concept, rng, rng.random() < 0.5))
        if concept.relations:
            mine.append(skills.relation_row(concept, rng.choice(sorted(concept.relations)), rng, rng.random() < 0.5))
        rows += [{**row, "group": "also met as plain FAQ" if concept.faq else "met in prose only"} for row in mine]
    return rows


def cloze_row(concept: Concept) -> dict:
    """A plain-text beginning that the base model completes: does it know the concept at all?"""
    question = concept.fill("{P} is")
    return {
        "skill": "cloze", "question": question, "grader": "fact", "subject": concept.name,
        "accept": [*concept.definitions, *concept.facts, *[concept.relation(k)[:-1] for k in concept.relations]],
        "group": "also met as plain FAQ" if concept.faq else "met in prose only",
    }  # fmt: skip


def problem_suite(stories: Iterable[str], count: int, largest: int, rng: random.Random) -> list[dict]:
    """Word problems, every story type in turn."""
    names, rows, seen = sorted(stories), [], set()
    while len(rows) < count:
        problem = make_problem(names[len(rows) % len(names)], rng, largest)
        beyond = largest <= 40 or any(n > 40 for n in numbers_of(problem.question))
        if problem_key(problem) not in seen and beyond:
            seen.add(problem_key(problem))
            rows.append({**skills.problem_row(problem), "key": problem_key(problem)})
    return rows


def numbers_of(text: str) -> list[int]:
    """The whole numbers of a text."""
    return [int(word) for word in words_of(text) if word.isdigit()]


def reference_rows(concepts: tuple[Concept, ...]) -> list[dict]:
    """The three questions of the reference course."""
    by_name = {c.name: c for c in concepts}
    llm, rng = by_name["LLM"], random.Random(0)
    first = skills.define_row(llm, rng, True) | {"question": "Give me an 1-sentence introduction of LLM."}
    second = skills.calculate_row(rng, False, ("1 + 1 - 1", 1)) | {"question": "Calculate 1+1-1"}
    third = skills.compare_row(by_name["thread"], by_name["process"], rng, True)
    return [first, second, third | {"question": "What's the difference between thread and process?"}]


def reserved_sums(suites: dict[str, list[dict]]) -> set[str]:
    """Sums of the evaluation, without spaces."""
    return {r["expression"].replace(" ", "") for rows in suites.values() for r in rows if "expression" in r}


def reserved_problems(suites: dict[str, list[dict]]) -> set[str]:
    """Keys of the evaluation's word problems."""
    return {r["key"] for rows in suites.values() for r in rows if "key" in r}


# ---------------------------------------------------------------- training sets


def sft_rows(concepts: tuple[Concept, ...], suites: dict[str, list[dict]], sizes: Sizes) -> list[dict]:
    """The SFT set: no held-out concept so much as named, no held-out wording, no question of the evaluation."""
    rng = random.Random("sft")
    evaluated = evaluation_keys(suites)
    taken = set(evaluated)
    taught, held_out = [c for c in concepts if not c.held_out], names_of(c for c in concepts if c.held_out)
    words = [word for word in split_words()[0] if not held_out.search(word)]
    reserved, rows = reserved_sums(suites), []

    def add(count: int, make: Callable[[], dict]) -> None:
        rows.extend(draw(count, make, taken, held_out))

    for concept in taught:
        wording = 1 if held_out.search(concept.definition()) else 0
        add(sizes.define, lambda c=concept, w=wording: skills.define_row(c, rng, skills.TRAIN, w))
    related = [(c, key) for c in taught for key in c.relations]
    add(sizes.relation, lambda: skills.relation_row(*rng.choice(related), rng, skills.TRAIN))
    add(sizes.fact, lambda: skills.fact_question_row(rng.choice(taught), rng, skills.TRAIN))
    add(sizes.compare, lambda: skills.compare_row(*pair(taught, rng), rng, skills.TRAIN))
    lists = [(c, [i for i in items if not held_out.search(i)][:3]) for c, items in sorted(skills.categories().items())]
    rows += [skills.list_row(*rng.choice(lists), rng, skills.TRAIN) for _ in range(sizes.lists)]
    add(sizes.calculate, lambda: skills.calculate_row(rng, skills.TRAIN, free_sum(reserved, rng)))
    add(sizes.boxed_sums, lambda: skills.boxed_sum_row(free_sum(reserved, rng)[0], rng))
    for kind in skills.REWRITE:
        add(getattr(sizes, kind, sizes.spelling), lambda kind=kind: skills.rewrite_row(kind, words, rng, skills.TRAIN))
    problems = training_problems(sizes.word_problems, suites, rng, set(), sizes.most_steps, held_out)
    fixed = skills.identity_rows("train") * sizes.identity + skills.refusal_rows("train", concepts) * sizes.refusals
    fixed += skills.smalltalk_rows("train") + [skills.problem_row(problem) for problem in problems]
    rows += [row for row in fixed if not mentions(held_out, row["question"], row["answer"])]
    rows = [row for row in rows if key_of(row["question"]) not in evaluated]
    rng.shuffle(rows)
    return rows


def evaluation_keys(suites: dict[str, list[dict]]) -> set[str]:
    """The keys of all evaluation questions."""
    return {key_of(r["question"]) for rows in suites.values() for r in rows}


def free_sum(reserved: set[str], rng: random.Random) -> tuple[str, int]:
    """A sum that is not in the evaluation, and its value."""
    while True:
        text, value = few_step_arithmetic(rng)
        if text.replace(" ", "") not in reserved:
            return text, value


def training_problems(
    count: int, suites: dict[str, list[dict]], rng: random.Random, taken: set[str], most_steps: int = 4,
    barred: re.Pattern | None = None,
) -> list[Problem]:  # fmt: skip
    """Word problems of seen story types, of `most_steps` steps at most, in no suite, not in `taken`, without `barred`."""
    names, problems, forbidden = itertools.cycle(sorted(SEEN_STORIES)), [], reserved_problems(suites) | taken
    while len(problems) < count:
        problem = make_problem(next(names), rng)
        named = barred and mentions(barred, problem.question, problem.solution)
        if not named and problem_key(problem) not in forbidden and len(problem.lines) <= most_steps:
            forbidden.add(problem_key(problem))
            problems.append(problem)
    return problems


def as_messages(row: dict) -> dict:
    """An SFT row in the public form."""
    return {
        "messages": [
            {"role": "user", "content": row["question"]},
            {"role": "assistant", "content": row["answer"]},
        ],
        "skill": row["skill"],
    }


def as_conversation(row: dict) -> dict:
    """An identity row in the public form of `mrfakename/identity`."""
    turns = [{"from": "human", "value": row["question"]}, {"from": "gpt", "value": row["answer"]}]
    return {"conversations": turns}


def as_preference(row: dict) -> dict:
    """A pair by correction: the same answer with the new name (chosen) and with the old one (rejected)."""
    user = {"role": "user", "content": row["question"]}
    new = row["answer"].replace(OLD_NAME, NEW_NAME)
    return {
        "chosen": [user, {"role": "assistant", "content": new}],
        "rejected": [user, {"role": "assistant", "content": row["answer"]}],
    }


def write_jsonl(path: Path, rows: list[dict]) -> None:
    """Write rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


def write_datasets(folder: Path, concepts: tuple[Concept, ...], sizes: Sizes) -> dict[str, list[dict]]:
    """Write every data set under `folder`; return the evaluation suites of Sprout's world."""
    suites = evaluation_suites(concepts, sizes)
    for name, rows in suites.items():
        write_jsonl(folder / "eval" / f"{name}.jsonl", rows)
    sft = sft_rows(concepts, suites, sizes)
    write_jsonl(folder / "sft" / "train.jsonl", [as_messages(row) for row in sft])
    identity = skills.identity_rows("train")
    write_jsonl(folder / "identity" / "train.jsonl", [as_conversation(row) for row in identity])
    write_jsonl(folder / "identity" / "test.jsonl", [as_conversation(row) for row in suites["identity"]])
    write_jsonl(folder / "preferences" / "train.jsonl", [as_preference(row) for row in identity])
    taken = {key_of(row["question"]) for row in sft}
    problems = training_problems(sizes.maths, suites, random.Random("maths"), taken)
    write_jsonl(folder / "maths" / "train.jsonl", [{"question": p.question, "answer": p.solution} for p in problems])
    tests = [{"question": r["question"], "answer": gsm8k_answer(r)} for r in suites["word_problems"]]
    write_jsonl(folder / "maths" / "test.jsonl", tests)
    for path, rows in everyday_files(folder).items():
        write_jsonl(path, rows)
    return suites


def gsm8k_answer(row: dict) -> str:
    """The worked answer of a problem row with GSM8K's last line."""
    return row["answer"].rsplit("\n", 1)[0] + f"\n#### {row['value']}"
