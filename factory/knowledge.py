"""The concepts of Sprout's world, and the ways plain text speaks of them.

A concept is a name with two wordings of its definition, two facts and a few relations ("is used to ...").
The files in `world/knowledge/` hold them; this module reads them, checks them, and turns them into articles,
glossaries, comparisons and plain-text FAQs. Chat-style questions are not here: see `skills.py`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from factory.world_files import WORLD, numbered_rows

HELD_OUT_SHARE = 0.2  # of the concepts: in pre-training, in no SFT row
FAQ_SHARE = 0.65  # of the concepts: met as plain-text question and answer too, as on the web

# relation -> the sentence that states it. {P}: the subject at the start of a sentence, {p}: inside one,
# {n}: the bare name, {v}: the value.
RELATIONS = {
    "use": "{P} is used to {v}",
    "made_of": "{P} is made of {v}",
    "part_of": "{P} is part of {v}",
    "found_in": "{P} is found in {v}",
    "stands_for": "{n} stands for {v}",
    "capital": "The capital of {n} is {v}",
    "continent": "{P} is in {v}",
    "language": "The main language of {n} is {v}",
    "eats": "{P} eats {v}",
    "home": "{P} lives in {v}",
    "young": "A young {n} is called a {v}",
    "symbol": "The symbol of {n} is {v}",
}
PEOPLE = {"jobs", "people"}  # categories that "it" does not fit

HEADERS = [
    "{N}\n", "# {N}\n", "Topic: {n}\n", "Entry: {n}\n", "About {p}. ", "Let us look at {p}. ",
    "Today we learn about {p}. ", "A short note on {p}. ", "The next page is about {p}. ", "Subject: {n}. ",
]  # fmt: skip
DEFINITION_FORMS = [
    "{P} is {d}.", "{P} is {d}.", "{P} is {d}.", "In short, {p} is {d}.", "In simple words, {p} is {d}.",
    "{P} can be described as {d}.", "As most people know, {p} is {d}.", "We can say that {p} is {d}.",
    "When we say {n}, we mean {d}.", "You may think of {p} as {d}.", "To put it simply, {p} is {d}.",
    "The books say that {p} is {d}.",
]  # fmt: skip
FACT_FORMS = [
    "{P} {f}.", "{P} {f}.", "{P} {f}.", "In fact, {p} {f}.", "It is known that {p} {f}.", "Also, {p} {f}.",
    "One fact about {p} is that it {f}.", "Remember that {p} {f}.", "As we learn in school, {p} {f}.",
    "What is more, {p} {f}.", "People often notice that {p} {f}.",
]  # fmt: skip
STATEMENT_FORMS = ["{S}.", "{S}.", "{S}.", "As we know, {s}.", "It is true that {s}.", "Note that {s}."]
PLAIN_DEFINITION_QUESTIONS = [  # the wordings of the FAQs; no evaluation uses them
    "Can you say what {p} is", "How would you describe {p}", "So what exactly is {p}",
    "Who knows what {p} is", "Could somebody tell us what {n} is about",
]  # fmt: skip
PLAIN_FACT_QUESTIONS = ["Is there something special about {p}", "What else is known about {p}"]
PLAIN_QA_FORMS = [
    "Q: {q}?\nA: {a}\n", "Question: {q}?\nAnswer: {a}\n", "FAQ: {q}?\n{a}\n", "Somebody asked: {q}? {a}\n",
]  # fmt: skip


def capital(text: str) -> str:
    """The text with its first letter in upper case, the rest unchanged."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Concept:
    """One thing of the world with its true statements."""

    name: str
    phrase: str
    category: str
    domain: str
    definitions: tuple[str, ...]
    facts: tuple[str, ...]
    relations: dict[str, str] = field(hash=False, compare=False)
    held_out: bool = False
    faq: bool = False

    def fill(self, form: str, **values: str) -> str:
        """`form` with this concept's name put in."""
        subject = {"n": self.name, "N": capital(self.name), "p": self.phrase, "P": capital(self.phrase)}
        return form.format(**subject, **values)

    def definition(self, wording: int = 0) -> str:
        """The sentence that defines the concept."""
        return self.fill("{P} is {d}.", d=self.definitions[wording])

    def fact(self, index: int) -> str:
        """The sentence that states fact number `index`."""
        return self.fill("{P} {f}.", f=self.facts[index])

    def relation(self, key: str) -> str:
        """The sentence that states relation `key`."""
        return capital(self.fill(RELATIONS[key], v=self.relations[key])) + "."


def read_concepts(folder: Path = WORLD / "knowledge") -> list[dict]:
    """The rows of all knowledge files, each with its domain.

    Raises ValueError naming file and line for a row that lacks a field, repeats a name or has an unknown field.
    """
    rows, seen = [], {}
    known = {"name", "phrase", "category", "is", "facts", *RELATIONS}
    for path in sorted(folder.glob("*.jsonl")):
        for place, row in numbered_rows(path):
            missing = {"name", "phrase", "category", "is", "facts"} - row.keys()
            if missing or row.keys() - known:
                raise ValueError(f"{place}: missing fields {sorted(missing)}, unknown {sorted(row.keys() - known)}")
            if row["name"].lower() in seen:
                raise ValueError(f"{place}: the concept {row['name']!r} stands already in {seen[row['name'].lower()]}")
            seen[row["name"].lower()] = place
            rows.append({**row, "domain": path.stem})
    return rows


@cache
def load_concepts(limit: int | None = None) -> tuple[Concept, ...]:
    """All concepts, held-out and FAQ shares drawn within each domain by a fixed seed.

    Concepts that the lessons name (LLM, thread, process) are never held out. `limit`: so many a domain (quick mode).
    """
    rng, concepts = random.Random("concepts"), []
    by_domain: dict[str, list[dict]] = {}
    for row in read_concepts():
        by_domain.setdefault(row["domain"], []).append(row)
    for rows in by_domain.values():
        rows = [
            *[r for r in rows if r["name"] in ALWAYS_TAUGHT],
            *[r for r in rows if r["name"] not in ALWAYS_TAUGHT],
        ]
        rows = rows[:limit]
        free = [r["name"] for r in rows if r["name"] not in ALWAYS_TAUGHT]
        held_out = set(rng.sample(free, round(HELD_OUT_SHARE * len(rows))))
        taught = [r["name"] for r in rows if r["name"] not in held_out]
        faq = {*rng.sample(taught, round(FAQ_SHARE * len(taught)))}
        faq |= {*rng.sample(sorted(held_out), round(FAQ_SHARE * len(held_out)))}
        concepts += [make_concept(row, row["name"] in held_out, row["name"] in faq) for row in rows]
    return tuple(concepts)


ALWAYS_TAUGHT = {"LLM", "thread", "process"}


def make_concept(row: dict, held_out: bool, faq: bool) -> Concept:
    """A `Concept` from a row of a knowledge file."""
    relations = {key: row[key] for key in RELATIONS if row.get(key)}
    return Concept(
        row["name"], row["phrase"], row["category"], row["domain"], tuple(row["is"]), tuple(row["facts"]),
        relations, held_out, faq,
    )  # fmt: skip


def true_statements(concept: Concept) -> list[str]:
    """Every sentence that is graded as a true statement about the concept."""
    sentences = [concept.definition(i) for i in range(len(concept.definitions))]
    sentences += [concept.fact(i) for i in range(len(concept.facts))]
    return sentences + [concept.relation(key) for key in concept.relations]


# ---------------------------------------------------------------- plain text


def article(concept: Concept, rng: random.Random) -> str:
    """A short text about one concept: a heading, its definition, and some of its facts in any order."""
    parts = [concept.fill(rng.choice(FACT_FORMS), f=fact) for fact in concept.facts]
    parts += [relation_sentence(concept, key, rng) for key in concept.relations]
    rng.shuffle(parts)
    definitions = [concept.fill(rng.choice(DEFINITION_FORMS), d=d) for d in concept.definitions]
    order = rng.choices([[0], [1], [0, 1], [1, 0]], weights=[5, 1, 2, 1])[0]
    parts = [
        definitions[order[0]],
        *parts[: rng.randint(1, len(parts))],
        *[definitions[i] for i in order[1:]],
    ]
    if rng.random() < 0.2:
        parts.append(concept.fill("{P} belongs to the {c}.", c=concept.category))
    if rng.random() < 0.3:
        rng.shuffle(parts)
    header = concept.fill(rng.choice(HEADERS)) if rng.random() < 0.7 else ""
    return header + join_sentences(concept, parts, rng)


def join_sentences(concept: Concept, sentences: list[str], rng: random.Random) -> str:
    """The sentences as a paragraph; now and then a repeated subject becomes "It"."""
    subject, out = capital(concept.phrase) + " ", sentences[:1]
    for sentence in sentences[1:]:
        if sentence.startswith(subject) and concept.category not in PEOPLE and rng.random() < 0.3:
            sentence = "It " + sentence[len(subject) :]
        out.append(sentence)
    return " ".join(out)


def relation_sentence(concept: Concept, key: str, rng: random.Random) -> str:
    """The relation in one of several plain forms."""
    statement = concept.relation(key)[:-1]
    lower = statement if statement.startswith(concept.name) else statement[:1].lower() + statement[1:]
    return rng.choice(STATEMENT_FORMS).format(S=statement, s=lower)


def glossary(concepts: list[Concept], rng: random.Random) -> str:
    """Several entries "name: definition", as at the end of a book."""
    style = rng.choice(["{N}: {d}.", "{n} - {d}.", "{P} is {d}.", "{n} means {d}."])
    lines = [c.fill(style, d=c.definitions[rng.random() < 0.25]) for c in concepts]
    return rng.choice(["Glossary\n", "Words of this chapter\n", "Key terms\n", ""]) + "\n".join(lines)


def comparison(first: Concept, second: Concept, rng: random.Random) -> str:
    """A text that sets two concepts side by side."""
    middle = rng.choice([", while ", ", but ", ", whereas "])
    text = first.definition()[:-1] + middle + second.definition()[0].lower() + second.definition()[1:]
    if not second.phrase[0].islower():
        text = first.definition()[:-1] + middle + second.definition()
    opening = rng.choice([
        "{a} and {b} are two different things. ", "Do not mix up {a} and {b}. ", "Compare {a} with {b}. ",
        "{a} is not the same as {b}. ", "",
    ])  # fmt: skip
    text = capital(opening.format(a=first.phrase, b=second.phrase)) + text
    if rng.random() < 0.5:
        text += " " + first.fact(rng.randrange(2))[:-1] + middle + second.fill("{p} {f}.", f=rng.choice(second.facts))
    return text


def plain_faq(concept: Concept, rng: random.Random) -> str:
    """A question and its answer as they stand on a web page, in wordings that no evaluation uses."""
    kind = rng.random()
    if kind < 0.5:
        question, answer = rng.choice(PLAIN_DEFINITION_QUESTIONS), concept.definition(int(rng.random() < 0.2))
    elif kind < 0.75 or not concept.relations:
        question, answer = rng.choice(PLAIN_FACT_QUESTIONS), concept.fact(rng.randrange(len(concept.facts)))
    else:
        key = rng.choice(list(concept.relations))
        question, answer = PLAIN_RELATION_QUESTIONS[key], concept.relation(key)
    return rng.choice(PLAIN_QA_FORMS).format(q=concept.fill(question), a=answer)


PLAIN_RELATION_QUESTIONS = {
    "use": "What do people do with {p}",
    "made_of": "Which material makes up {p}",
    "part_of": "To what larger thing does {p} belong",
    "found_in": "In which place do we meet {p}",
    "stands_for": "Which words are behind the letters {n}",
    "capital": "Which city is the seat of government of {n}",
    "continent": "Which part of the world does {n} lie in",
    "language": "How do most people in {n} speak",
    "eats": "Which food does {p} like",
    "home": "In which surroundings do we meet {p}",
    "young": "How do we call the child of {p}",
    "symbol": "How do chemists write {n}",
}
