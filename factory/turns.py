"""Rows with a system turn that matters, and conversations whose second turn needs the first: `data/turns`.

They stand apart from `data/sft`, from which the shipped models were made: lesson 02 adds them to its rows. The concepts
are split, so that no concept of a test stands in a row here; the wordings of the tests stand in no row at all.
Left out on purpose: three turns and more, and system turns that contradict the user.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from factory import skills
from factory.datasets import Sizes, as_messages, evaluation_keys, key_of, mentions, names_of, write_jsonl
from factory.knowledge import PEOPLE, Concept
from factory.problems import BOYS, GIRLS

# What a system turn asks for: wordings of the rows, and wordings of the tests only.
SYSTEM = {
    "name": (
        ["The user is called {name}.", "The name of the user is {name}.", "Your user is {name}.", "You talk to {name}.",
         "{name} is the user.", "Answer, then greet {name}.", "Say good day to {name}.", "The one who asks is {name}."],
        ["You are talking to {name}.", "The user has the name {name}."],
    ),
    "thanks": (
        ["End with thanks.", "Answer, then thank the user.", "Close each answer with thanks.", "Thank the user at the end.",
         "Say thank you after the answer.", "Each answer ends with a thank you.", "First answer, then say thank you."],
        ["After the answer, thank the user.", "End each answer with a thank you."],
    ),
    "nothing": (
        ["You are a helpful assistant.", "Answer the question.", "Be a good assistant.", "You answer questions.",
         "Help the user.", "This is a chat with a user.", "Each answer is one sentence."],
        ["You are an assistant that helps the user.", "Answer each question of the user."],
    ),
}  # fmt: skip
ANSWERS = {"name": "{answer} Good day, {name}.", "thanks": "{answer} Thank you for asking.", "nothing": "{answer}"}
# The second turn, which says "it": wordings of the rows, and wordings of the tests only.
FOLLOW_UP = {
    "use": (["What is it used for?", "And what is it used for?", "What do people use it for?", "And its use?"],
            ["Tell me what it is used for.", "And what is it good for?"]),
    "made_of": (["What is it made of?", "And what is it made of?", "And its material?"], ["Tell me what it is made of."]),
    "part_of": (["What is it part of?", "And what is it a part of?"], ["Tell me what it is part of."]),
    "found_in": (["Where is it found?", "And where is it found?", "Where can I find it?"], ["Tell me where it is found."]),
    "stands_for": (["What does it stand for?", "And what does it stand for?", "And its full form?"],
                   ["Tell me what it stands for."]),
    "capital": (["What is its capital?", "And its capital?", "And what is its capital?"], ["Tell me its capital."]),
    "continent": (["On which continent is it?", "And its continent?", "And on which continent is it?"],
                  ["Tell me which continent it is in."]),
    "language": (["Which language is spoken there?", "And its language?", "And what is its main language?"],
                 ["Tell me its main language."]),
    "eats": (["What does it eat?", "And what does it eat?", "And its food?"], ["Tell me what it eats."]),
    "home": (["Where does it live?", "And where does it live?", "And its home?"], ["Tell me where it lives."]),
    "young": (["What is its young called?", "And its young?", "And what is its young called?"],
              ["Tell me what its young is called."]),
    "symbol": (["What is its symbol?", "And its symbol?", "And what is its symbol?"], ["Tell me its symbol."]),
}  # fmt: skip
TEST_SHARE = 0.4  # of the taught concepts: for the tests


def split_concepts(concepts: tuple[Concept, ...]) -> tuple[list[Concept], list[Concept]]:
    """Concepts of the rows, and those of the tests: some taught ones, and all that no SFT row names."""
    taught = [concept for concept in concepts if not concept.held_out]
    random.Random("turns: concepts").shuffle(taught)
    tested = round(TEST_SHARE * len(taught))
    return taught[tested:], taught[:tested] + [concept for concept in concepts if concept.held_out]


def related(concepts: list[Concept]) -> list[tuple[Concept, str]]:
    """What can be asked about them, also of an "it": (concept, relation)."""
    return [(c, key) for c in concepts if c.category not in PEOPLE for key in c.relations]


def split_names() -> tuple[list[str], list[str]]:
    """Names of users in the rows and, apart from them, in the tests."""
    names = sorted({*GIRLS, *BOYS})
    random.Random("turns: names").shuffle(names)
    return names[len(names) // 3 :], names[: len(names) // 3]


def system_row(concept: Concept, key: str, rule: str, rng: random.Random, tested: bool) -> dict:
    """A question with a system turn, and the answer that both ask for; a suite's row if `tested`."""
    row = skills.relation_row(concept, key, rng, skills.UNSEEN if tested else skills.TRAIN)
    name = rng.choice(split_names()[tested])
    row |= {"skill": f"system: {rule}", "system": rng.choice(SYSTEM[rule][tested]).format(name=name)}
    if rule == "nothing":
        return row
    answer = ANSWERS[rule].format(name=name, answer=row["answer"])
    return row | {"answer": answer, "grader": "exact", "accept": [answer]}


def follow_up_row(concept: Concept, key: str, rng: random.Random, tested: bool) -> dict:
    """A second turn that says "it", with the first turn as `history`; `alone`: the same asked in one question."""
    first = skills.define_row(concept, rng, skills.SEEN)
    history = [{"role": "user", "content": first["question"]}, {"role": "assistant", "content": first["answer"]}]
    row = skills.relation_row(concept, key, rng, skills.UNSEEN if tested else skills.TRAIN)
    changes = {"question": rng.choice(FOLLOW_UP[key][tested]), "alone": row["question"], "history": history}
    return row | {"skill": "follow-up", **changes}


def training_rows(concepts: tuple[Concept, ...], suites: dict[str, list[dict]], sizes: Sizes) -> list[dict]:
    """The rows to train on, each once: no held-out concept so much as named, no question of the evaluation in any turn."""
    rng, (mine, _) = random.Random("turns"), split_concepts(concepts)
    barred, evaluated = names_of(c for c in concepts if c.held_out), evaluation_keys(suites)
    pairs, rows, taken = related(mine), [], set()

    def add(count: int, make: Callable[[], dict]) -> None:
        wanted = len(rows) + count
        while len(rows) < wanted:
            row = make()
            said = [turn["content"] for turn in as_conversation(row)["messages"]]
            keys = {key_of(text) for text in said}
            if tuple(said) not in taken and not mentions(barred, *said) and not keys & evaluated:
                taken.add(tuple(said))
                rows.append(row)

    for rule, count in sizes.system.items():
        add(count, lambda rule=rule: system_row(*rng.choice(pairs), rule, rng, tested=False))
    add(sizes.follow_up, lambda: follow_up_row(*rng.choice(pairs), rng, tested=False))
    rng.shuffle(rows)
    return rows


def test_rows(concepts: tuple[Concept, ...], sizes: Sizes) -> list[dict]:
    """The tests: each question with each system turn and without one; and conversations of two turns."""
    rng, (_, tested) = random.Random("turns: test"), split_concepts(concepts)
    rows = []
    for concept, key in evenly(related(tested), sizes.turns_test, rng):
        question = None
        for rule in SYSTEM:
            row = system_row(concept, key, rule, rng, tested=True)
            question = question or row["question"]
            rows.append(row | {"question": question})
    rows += [follow_up_row(*pair, rng, tested=True) for pair in evenly(related(tested), sizes.turns_test, rng)]
    return [{**row, "id": f"turns-{number:04d}"} for number, row in enumerate(rows)]


def evenly(pairs: list[tuple[Concept, str]], count: int, rng: random.Random) -> list[tuple[Concept, str]]:
    """Half of them about taught concepts, half about those that no SFT row names; a concept once."""
    chosen = []
    for held_out in (False, True):
        by_name = {c.name: (c, key) for c, key in rng.sample(pairs, len(pairs)) if c.held_out == held_out}
        chosen += rng.sample(list(by_name.values()), min(count // 2, len(by_name)))
    return chosen


def as_conversation(row: dict) -> dict:
    """A row to train on in the public form: system turn, earlier turns, question, answer."""
    turns = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    asked = as_messages(row)
    return {**asked, "messages": [*turns, *row.get("history", []), *asked["messages"]]}


def write_turns(folder: Path, concepts: tuple[Concept, ...], suites: dict[str, list[dict]], sizes: Sizes) -> None:
    """Write `turns/train.jsonl` and `turns/test.jsonl`; `suites`: the evaluation, to be left out."""
    rows = training_rows(concepts, suites, sizes)
    write_jsonl(folder / "turns" / "train.jsonl", [as_conversation(row) for row in rows])
    write_jsonl(folder / "turns" / "test.jsonl", test_rows(concepts, sizes))
