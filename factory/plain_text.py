"""Sprout's pre-training text: an endless, seeded stream of plain documents, no chat format anywhere.

`document(rng)` draws a kind of text by its weight and writes one document of it. Evaluation problems and sums are
reserved: the stream never writes them. Left out on purpose: web text, so that everything the model knows is here.
Plain text is not text without questions: FAQs, exercises and worked problems have their answers beside them, written by
the functions that write the answers of SFT (`factory/pretraining_text.py` counts them).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from factory import knowledge
from factory.arithmetic import few_step_arithmetic, single_operation
from factory.knowledge import Concept
from factory.problem_tables import SEEN_STORIES
from factory.problems import make_problem, problem_key
from factory.solutions import NUMBER_WORDS, REWRITE_ANSWERS, list_answer, rewrite_fields, worked_sum
from factory.world_files import load_json, load_lines
from helper import own_form

KINDS = {  # document kind -> share of the documents
    "article": 24, "glossary": 4, "comparison": 8, "faq": 11, "problem": 24, "sums": 6, "drill": 12, "exercise": 16,
    "spelling": 6, "ordering": 3, "list": 4, "prose": 4,
}  # fmt: skip


class PlainText:
    """The writer of documents. `reserved_problems`, `reserved_sums`: keys kept for the evaluation.

    `without`: kinds that are never written; their share goes to the others. ValueError for a kind that is none.
    """

    def __init__(
        self, concepts: tuple[Concept, ...], reserved_problems: set[str], reserved_sums: set[str],
        without: tuple[str, ...] = (),
    ):  # fmt: skip
        if unknown := set(without) - set(KINDS):
            raise ValueError(f"No kinds of document: {sorted(unknown)}. There is {', '.join(KINDS)}.")
        self.kinds = {kind: share for kind, share in KINDS.items() if kind not in without}
        self.concepts = concepts
        self.with_faq = [c for c in concepts if c.faq]
        self.domains = {c.domain: [d for d in concepts if d.domain == c.domain] for c in concepts}
        self.categories = {c.category: [d for d in concepts if d.category == c.category] for c in concepts}
        self.reserved_problems, self.reserved_sums = reserved_problems, reserved_sums
        self.stories = sorted(SEEN_STORIES)

    def document(self, rng: random.Random) -> str:
        """One document of a kind drawn by weight."""
        return self.kind_and_document(rng)[1]

    def kind_and_document(self, rng: random.Random) -> tuple[str, str]:
        """A kind drawn by weight, and one document of it."""
        kind = rng.choices(list(self.kinds), weights=list(self.kinds.values()))[0]
        return kind, getattr(self, kind)(rng).strip()

    def read_in_step(
        self, step: int, seed: int, length: int, encode: Callable[[list[str]], list[list[int]]]
    ) -> Iterator[tuple[str, str, list[int]]]:
        """What a step of pre-training reads, `length` tokens in all: kind, document and token ids, one after another.

        `encode` makes token ids of documents. Each document takes one token more, its end; the last may be longer than
        what is read of it.
        """
        rng = random.Random(f"{seed}:{step}")
        while True:
            written = [self.kind_and_document(rng) for _ in range(32)]
            for (kind, document), ids in zip(written, encode([d for _, d in written]), strict=True):
                yield kind, document, ids
                length -= len(ids) + 1
                if length <= 0:
                    return

    def article(self, rng: random.Random) -> str:
        return knowledge.article(rng.choice(self.concepts), rng)

    def glossary(self, rng: random.Random) -> str:
        neighbours = self.domains[rng.choice(self.concepts).domain]
        return knowledge.glossary(rng.sample(neighbours, min(len(neighbours), rng.randint(3, 6))), rng)

    def comparison(self, rng: random.Random) -> str:
        first = rng.choice(self.concepts)
        groups = [self.domains[first.domain], self.categories[first.category], self.concepts]
        others = [c for c in rng.choices(groups, weights=[3, 4, 1])[0] if c is not first]
        return knowledge.comparison(first, rng.choice(others or [self.concepts[0]]), rng)

    def faq(self, rng: random.Random) -> str:
        return "".join(knowledge.plain_faq(rng.choice(self.with_faq), rng) for _ in range(rng.randint(1, 3)))

    def problem(self, rng: random.Random) -> str:
        """A worked word problem, as in a school book."""
        while True:
            problem = make_problem(rng.choice(self.stories), rng)
            if problem_key(problem) not in self.reserved_problems:
                break
        before, between = rng.choice(PROBLEM_HEADERS)
        ending = rng.choice(["\n#### {a}", "\n#### {a}", "\nSo the answer is {a}.", "\nAnswer: {a}"])
        return before + problem.question + between + "\n".join(problem.lines) + ending.format(a=problem.answer)

    def sums(self, rng: random.Random) -> str:
        """Bare sums with their results, none of them reserved."""
        lines = []
        while len(lines) < rng.randint(3, 8):
            expression, value = few_step_arithmetic(rng)
            if expression.replace(" ", "") not in self.reserved_sums:
                lines.append(rng.choice(SUM_FORMS).format(e=expression, v=value))
        return rng.choice(["\n", " "]).join(lines)

    def drill(self, rng: random.Random) -> str:
        """Single operations in families and in rows, as in an exercise book, none of them reserved."""
        small, a, b = rng.randint(2, 9), rng.randint(1, 99), rng.randint(1, rng.choice((20, 99, 300)))
        forms = rng.choice([
            [f"{a} + {b} = {a + b}", f"{b} + {a} = {a + b}", f"{a + b} - {a} = {b}", f"{a + b} - {b} = {a}"],
            [f"{a} * {small} = {a * small}", f"{small} * {a} = {a * small}", f"{a * small} / {small} = {a}"],
            [f"{i} + {b} = {i + b}" for i in range(a, a + 5)],
            [f"{a + b + i} - {b} = {a + i}" for i in range(5)],
            [f"{i} * {small} = {i * small}" for i in range(a, a + 5)],
            [single_operation(rng) for _ in range(6)],
            [single_operation(rng) for _ in range(6)],
        ])  # fmt: skip
        kept = [form for form in forms if form.split(" = ")[0].replace(" ", "") not in self.reserved_sums]
        return rng.choice([".\n", ". ", "\n"]).join(kept)

    def exercise(self, rng: random.Random) -> str:
        """Tasks with their solutions, as in an exercise book, in wordings that no evaluation and no SFT row uses."""
        tasks = []
        for kind in rng.choices(list(TASKS), weights=(5, 2, 2, 1, 2, 1, 2), k=rng.randint(1, 3)):
            task, answer = rng.choice(TASKS[kind]), None
            while answer is None:
                fields, answer = self.task(kind, rng)
            tasks.append(task.format(**fields) + rng.choice(["\n", " "]) + answer)
        return "\n".join(tasks)

    def task(self, kind: str, rng: random.Random) -> tuple[dict, str | None]:
        """What a task is about, and its solution; None for a reserved sum."""
        if kind == "sum":
            expression, value = few_step_arithmetic(rng)
            typed = rng.choice([expression, expression.replace(" ", "")])
            reserved = expression.replace(" ", "") in self.reserved_sums
            return {"e": typed}, None if reserved else worked_sum(expression, value)
        if kind == "list":
            category, items = rng.choice(sorted(load_json("lists.json").items()))
            chosen = rng.sample(items, rng.randint(2, 4))
            return {"k": NUMBER_WORDS[len(chosen)], "c": category}, list_answer(category, chosen)
        words = load_json("words.json")["words"]
        fields = rewrite_fields(kind, rng.choice(words), rng.sample(words, rng.randint(2, 5)))
        return fields, REWRITE_ANSWERS[kind].format(**fields)

    def spelling(self, rng: random.Random) -> str:
        """How words are spelled, forwards and backwards."""
        words = load_json("words.json")["words"]
        return " ".join(self.about_word(rng.choice(words), rng) for _ in range(rng.randint(1, 3)))

    def about_word(self, word: str, rng: random.Random) -> str:
        forms = [
            f"The word {word} is spelled {'-'.join(word)}.", f"{word} backwards is {'-'.join(reversed(word))}.",
            f"{word} in capital letters is {word.upper()}.", f"The first letter of {word} is {word[0]}.",
            f"The last letter of {word} is {word[-1]}.", f"The word {word} has {len(word)} letters.",
        ]  # fmt: skip
        return " ".join(rng.sample(forms, rng.randint(2, 4)))

    def ordering(self, rng: random.Random) -> str:
        """Lists of words sorted, turned round and counted."""
        words = rng.sample(load_json("words.json")["words"], rng.randint(2, 5))
        given = ", ".join(words)
        forms = [
            f"Here are some words: {given}. Sorted: {', '.join(sorted(words))}.",
            f"Take the words {given}. In reverse order: {', '.join(reversed(words))}.",
            f"A list: {given}. The list has {len(words)} words.",
            f"Words: {given}. The first word is {words[0]} and the last word is {words[-1]}.",
        ]
        return " ".join(rng.sample(forms, rng.randint(1, 3)))

    def list(self, rng: random.Random) -> str:
        """Members of a category."""
        category, items = rng.choice(sorted(load_json("lists.json").items()))
        items = rng.sample(items, min(len(items), rng.randint(2, 5)))
        joined = ", ".join(items[:-1]) + " and " + items[-1]
        forms = [
            "{n} {c} are {j}.",
            "Some {c} are {j}.",
            "Well known {c} are {j}.",
            "{C}: {l}.",
            "{j} are {c}.",
        ]
        number = ["Two", "Three", "Four", "Five"][len(items) - 2]
        text = rng.choice(forms)
        return text.format(n=number, c=category, C=knowledge.capital(category), j=joined, l=", ".join(items))

    def prose(self, rng: random.Random) -> str:
        """Sentences about people, names and assistants."""
        lines = load_lines("prose.txt")
        return " ".join(rng.sample(lines, rng.randint(1, 4)))


# Kind of task -> its wordings; `helper.own_form` asks the model in them. The order is that of the weights in `exercise`.
TASKS = {"sum": own_form.TASKS["calculate"]} | {kind: own_form.TASKS[kind] for kind in own_form.TASKS if kind != "calculate"}


PROBLEM_HEADERS = [
    ("Problem: ", "\nSolution:\n"), ("Exercise. ", "\n"), ("", "\n"), ("Question: ", "\nAnswer:\n"), ("", "\nWorked out:\n"),
]  # fmt: skip
SUM_FORMS = ["{e} = {v}", "{e} = {v}.", "{e} = {v}.", "We find {e} = {v}."]
