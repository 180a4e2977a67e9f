"""What an assistant is asked and how it answers: the questions of every skill, with what a grader needs.

Each function returns rows {"skill", "question", "answer", "grader", ...}; the extra fields are the grader's
(see `helper.graders`). Every skill has wordings seen in training and wordings only evaluated ("unseen": True).
"""

from __future__ import annotations

import random

from factory.arithmetic import few_step_arithmetic
from factory.knowledge import Concept
from factory.problems import Problem
from factory.solutions import NUMBER_WORDS, REWRITE_ANSWERS, list_answer, rewrite_fields, sum_steps, worked_sum
from factory.world_files import load_json, load_rows

SEEN, UNSEEN, TRAIN = 0, 1, 2  # which wordings to draw from

# Three lists a skill: wordings seen in training, wordings held out, and more wordings for SFT rows only.
DEFINE = (
    ["What is {p}?", "Define {n}.", "Explain {n} in one sentence.", "Tell me what {p} is.", "What does {n} mean?",
     "Describe {n} in one sentence.", "Give me a short introduction of {n}."],
    ["Give me an 1-sentence introduction of {n}.", "Can you explain what {p} is?", "Please define {n} for me.",
     "In one sentence, what is {p}?", "I want to know what {p} is."],
    ["Please explain {n}.", "Please tell me about {n} in one sentence.", "Can you describe {n}?",
     "Can you define {n}?", "What exactly is {p}?", "Can you tell me what {p} is?", "In a few words, what is {p}?",
     "I would like to hear what {n} means.", "Write one sentence that explains {n}.",
     "Give a one-sentence definition of {n}.", "I wonder what {p} is.", "I would like to know what {n} means.",
     "Let me know what {p} is.", "Say what {p} is.", "I have to know what {p} is."],
)  # fmt: skip
FACT = (
    ["Tell me a fact about {p}.", "What do you know about {p}?", "Tell me something about {p}.",
     "Give me one fact about {p}."],
    ["Can you tell me a fact about {p}?", "Please tell me something I should know about {p}.",
     "Share one fact about {p}."],
    ["Please give me a fact about {p}.", "Can you say something about {p}?", "I would like to hear a fact about {p}.",
     "Name one thing that is true of {p}."],
)  # fmt: skip
RELATION = {
    "use": (
        ["What is {p} used for?", "What do we use {p} for?"],
        ["What is the use of {p}?"],
        ["Do you know what {p} is used for?", "Why do we use {p}?", "Please say what {p} is used for.",
         "What is {p} good for?", "I want to know what {p} is used for.", "For what do people use {p}?",
         "What use does {p} have?", "Of what use is {p}?", "Name the use of {p}."],
    ),
    "made_of": (
        ["What is {p} made of?", "What is the material of {p}?"],
        ["Tell me what {p} is made of."],
        ["Do you know what {p} is made of?", "Which material is {p} made of?", "Please say what {p} is made of.",
         "I want to know what {p} is made of.", "Of what is {p} made?", "Tell me the material of {p}.",
         "Tell me of what {p} is made."],
    ),
    "part_of": (
        ["What is {p} part of?", "What is {p} a part of?"],
        ["Tell me what {p} is part of."],
        ["Do you know what {p} is part of?", "Please say what {p} is part of.", "I want to know what {p} is part of.",
         "To what does {p} belong as a part?", "Tell me of what {p} is a part."],
    ),
    "found_in": (
        ["Where is {p} found?", "Where can I find {p}?"],
        ["Tell me where {p} is found."],
        ["Do you know where {p} is found?", "Please say where {p} is found.", "I want to know where {p} is found.",
         "In which place is {p} found?"],
    ),
    "stands_for": (
        ["What does {n} stand for?", "What is the full form of {n}?"],
        ["Tell me what {n} stands for."],
        ["Do you know what {n} stands for?", "Please say what {n} stands for.", "I want to know what {n} stands for.",
         "What is {n} short for?"],
    ),
    "capital": (
        ["What is the capital of {n}?", "Name the capital of {n}."],
        ["Tell me the capital of {n}."],
        ["Do you know the capital of {n}?", "Which city is the capital of {n}?", "I want to know the capital of {n}.",
         "What is the name of the capital of {n}?"],
    ),
    "continent": (
        ["On which continent is {n}?", "Where is {n}?"],
        ["Tell me which continent {n} is in."],
        ["Do you know where {n} is?", "Please say which continent {n} is in.", "I want to know where {n} is.",
         "To which continent does {n} belong?"],
    ),
    "language": (
        ["Which language is spoken in {n}?", "What is the main language of {n}?"],
        ["Tell me the main language of {n}."],
        ["Do you know the main language of {n}?", "What language do people speak in {n}?",
         "I want to know the main language of {n}.", "Please name the main language of {n}."],
    ),
    "eats": (
        ["What does {p} eat?", "What is the food of {p}?"],
        ["Tell me what {p} eats."],
        ["Do you know what {p} eats?", "Please say what {p} eats.", "I want to know what {p} eats.",
         "What is eaten by {p}?", "Tell me the food of {p}.", "Tell me what food {p} eats."],
    ),
    "home": (
        ["Where does {p} live?", "What is the home of {p}?"],
        ["Tell me where {p} lives."],
        ["Do you know where {p} lives?", "Please say where {p} lives.", "I want to know where {p} lives.",
         "In which place does {p} live?"],
    ),
    "young": (
        ["What is a young {n} called?", "What do we call a young {n}?"],
        ["Tell me what a young {n} is called."],
        ["Do you know what a young {n} is called?", "Please say what a young {n} is called.",
         "I want to know what a young {n} is called.", "What is the name for a young {n}?",
         "Tell me the name for a young {n}.", "Tell me what we call a young {n}."],
    ),
    "symbol": (
        ["What is the symbol of {n}?", "What is the chemical symbol of {n}?"],
        ["Tell me the symbol of {n}."],
        ["Do you know the symbol of {n}?", "Please say the symbol of {n}.", "I want to know the symbol of {n}.",
         "Which symbol does {n} have?"],
    ),
}  # fmt: skip
COMPARE = (
    ["What is the difference between {a} and {b}?", "Compare {a} and {b}.", "How does {a} differ from {b}?"],
    ["What's the difference between {a} and {b}?", "Explain the difference between {a} and {b}."],
    ["Please compare {a} with {b}.", "Can you compare {a} and {b}?", "How do {a} and {b} differ?",
     "Tell me how {a} differs from {b}.", "Explain how {a} differs from {b}.", "Name the difference between {a} and {b}.",
     "Explain in one sentence how {a} and {b} differ."],
)  # fmt: skip
LIST = (
    ["Name {k} {c}.", "List {k} {c}.", "Tell me {k} {c}.", "Give me {k} {c}."],
    ["Can you name {k} {c}?", "Please list {k} {c}.", "Give {k} examples of {c}."],
    ["Please name {k} {c}.", "Can you list {k} {c}?", "Say {k} {c}.", "I need {k} {c}.", "Write down {k} {c}.",
     "Can you give me {k} {c}?"],
)  # fmt: skip
CALCULATE = (
    ["Calculate {e}", "What is {e}?", "Compute {e}.", "How much is {e}?"],
    ["Please calculate {e}.", "Work out {e}.", "Tell me what {e} is."],
    ["Please compute {e}.", "Can you calculate {e}?", "What does {e} give?", "Find the value of {e}.", "{e}",
     "Please tell me the result of {e}.", "I want to know how much {e} is."],
)  # fmt: skip
BOXED_SUM = [
    "Calculate {e} and put the result in a box.", "What is {e}? Put the number in a box.", "Put the result of {e} in a box.",
    "Please find {e} and box the result.", "Work with steps and a box: {e}",
]  # fmt: skip
REWRITE = {
    "reverse": (
        ["Spell the word {w} backwards.", "Write {w} backwards.", "Reverse the word {w}."],
        ["Please spell {w} backwards.", "Can you reverse the word {w}?"],
        ["Say {w} backwards.", "What is {w} backwards?", "Please write {w} backwards.", "Can you say {w} backwards?",
         "Turn the word {w} around.", "Please reverse {w}.", "I want to see the reverse of {w}.",
         "Please reverse the word {w} for me.", "Could you turn the word {w} around?"],
    ),
    "uppercase": (
        ["Write {w} in capital letters.", "Put the word {w} in capital letters.", "Make {w} upper case."],
        ["Please write {w} in capital letters.", "Can you put {w} in capital letters?"],
        ["Please make {w} upper case.", "Can you write {w} in capitals?", "Change {w} to capital letters.",
         "What is {w} in capital letters?", "Turn {w} into capital letters."],
    ),
    "first_letter": (
        ["What is the first letter of {w}?", "Which letter does {w} start with?", "Tell me the first letter of {w}."],
        ["Please tell me the first letter of {w}.", "What letter comes first in {w}?"],
        ["With which letter does {w} begin?", "Can you name the first letter of {w}?",
         "Please name the first letter of {w}.", "Which letter comes at the start of {w}?",
         "Which letter of {w} is first?", "Which letter stands first in the word {w}?",
         "What letter does {w} begin with?", "What is the letter at the start of {w}?",
         "The word {w} begins with which letter?", "What letter is first in {w}?", "What letter stands first in {w}?",
         "In the word {w}, what letter comes at the start?"],
    ),
    "sort": (
        ["Sort these words: {l}.", "Put these words in order of the alphabet: {l}.", "Sort: {l}."],
        ["Please sort these words: {l}.", "Sort the words {l} by the alphabet."],
        ["Please put {l} in order of the alphabet.", "Can you sort these words: {l}?", "Order these words: {l}.",
         "Sort the list {l}.", "Arrange the words {l} by the alphabet.", "Sort {l} for me."],
    ),
    "count": (
        ["How many words are in this list: {l}?", "Count these words: {l}.", "Count the words in this list: {l}."],
        ["Please count these words: {l}.", "How many words do you see here: {l}?"],
        ["How many words are here: {l}?", "Please count the words in {l}.", "Can you count these words: {l}?",
         "Please count the following words: {l}.", "Count these: {l}.",
         "What is the number of words in this list: {l}?", "Count how many words there are: {l}.",
         "Please count all words here: {l}.", "Please count how many words I wrote: {l}."],
    ),
}  # fmt: skip


def wording(forms: tuple[list[str], list[str], list[str]], rng: random.Random, which: int) -> str:
    """One of the wordings: SEEN, UNSEEN, or for SFT rows (TRAIN) the seen ones and more of them."""
    seen, unseen, more = forms
    return rng.choice((seen, unseen, seen + more)[which])


def define_row(concept: Concept, rng: random.Random, which: int, definition: int = 0) -> dict:
    """A question for the definition; the answer has the wording `definition` of it, either is right."""
    question = concept.fill(wording(DEFINE, rng, which))
    return fact_row("define", concept, question, concept.definition(definition), list(concept.definitions), which)


def fact_question_row(concept: Concept, rng: random.Random, which: int) -> dict:
    """A question for any fact of the concept."""
    accept = [*concept.facts, *concept.definitions]
    accept += [concept.relation(key)[:-1] for key in concept.relations]
    answer = concept.fact(rng.randrange(len(concept.facts)))
    return fact_row("fact", concept, concept.fill(wording(FACT, rng, which)), answer, accept, which)


def relation_row(concept: Concept, key: str, rng: random.Random, which: int) -> dict:
    """A question for one relation, such as what a saw is used for."""
    question, answer = concept.fill(wording(RELATION[key], rng, which)), concept.relation(key)
    return fact_row("relation", concept, question, answer, [concept.relations[key]], which)


def fact_row(skill: str, concept: Concept, question: str, answer: str, accept: list[str], which: int) -> dict:
    """A row graded by `helper.graders.states_fact`."""
    return {
        "skill": skill, "question": question, "answer": answer, "grader": "fact", "subject": concept.name,
        "accept": accept, "unseen": which == UNSEEN,
    }  # fmt: skip


def compare_row(first: Concept, second: Concept, rng: random.Random, which: int) -> dict:
    """A question for the difference; right when each concept gets its own definition."""
    forms = wording(COMPARE, rng, which)
    names = (first.name, second.name) if rng.random() < 0.5 else (first.phrase, second.phrase)
    answer = first.definition()[:-1] + ", while " + second.fill("{p} is {d}.", d=second.definitions[0])
    return {
        "skill": "compare", "question": forms.format(a=names[0], b=names[1]), "answer": answer, "grader": "compare",
        "subjects": [first.name, second.name], "accept": [list(first.definitions), list(second.definitions)],
        "unseen": which == UNSEEN,
    }  # fmt: skip


def list_row(category: str, items: list[str], rng: random.Random, which: int) -> dict:
    """A request for some members of a category."""
    number = rng.choice([2, 3])
    chosen = sorted(rng.sample(items, number))
    answer = list_answer(category, chosen)
    question = wording(LIST, rng, which).format(k=NUMBER_WORDS[number], c=category)
    return {
        "skill": "list", "question": question, "answer": answer, "grader": "list", "items": items, "number": number,
        "category": category, "unseen": which == UNSEEN,
    }  # fmt: skip


def calculate_row(rng: random.Random, which: int, expression: tuple[str, int] | None = None) -> dict:
    """A bare sum; half of them written without spaces, as people type."""
    text, value = expression or few_step_arithmetic(rng)
    typed = text.replace(" ", "") if rng.random() < 0.5 else text
    question = wording(CALCULATE, rng, which).format(e=typed)
    return {
        "skill": "calculate", "question": question, "answer": worked_sum(text, value), "grader": "calculation",
        "expression": text, "value": value, "unseen": which == UNSEEN,
    }  # fmt: skip


def boxed_sum_row(text: str, rng: random.Random) -> dict:
    """A sum answered as word problems are, a step a line and the result in a box; SFT rows only."""
    steps = sum_steps(text)
    question = rng.choice(BOXED_SUM).format(e=text.replace(" ", "") if rng.random() < 0.5 else text)
    answer = "\n".join([*steps, f"\\boxed{{{steps[-1].split()[-1]}}}"])
    return {"skill": "boxed_sum", "question": question, "answer": answer, "grader": "boxed", "unseen": False}


def rewrite_row(kind: str, words: list[str], rng: random.Random, which: int) -> dict:
    """Reverse, capital letters, first letter, sort or count; `words` is what to draw from."""
    word, listed = rng.choice(words), rng.sample(words, rng.randint(2, 4))
    while listed == sorted(listed):
        rng.shuffle(listed)
    fields = rewrite_fields(kind, word, listed)
    return {
        "skill": kind, "question": wording(REWRITE[kind], rng, which).format(**fields),
        "answer": REWRITE_ANSWERS[kind].format(**fields), "grader": "exact",
        "accept": [fields["x"], REWRITE_ANSWERS[kind].format(**fields)], "unseen": which == UNSEEN,
    }  # fmt: skip


def problem_row(problem: Problem, skill: str = "word_problem") -> dict:
    """A word problem; the answer shows the steps and ends with the boxed number."""
    answer = "\n".join([*problem.lines, f"\\boxed{{{problem.answer}}}"])
    return {
        "skill": skill, "question": problem.question, "answer": answer, "grader": "boxed",
        "value": str(problem.answer), "story": problem.story, "unseen": False,
    }  # fmt: skip


def read_rows(name: str, part: str) -> list[dict]:
    """The rows of a world file that belong to a part ("train" or "test")."""
    return [row for row in load_rows(name) if row["part"] == part]


def identity_rows(part: str) -> list[dict]:
    """All questions about who the assistant is."""
    return [
        {"skill": "identity", "question": r["question"], "answer": r["answer"], "grader": "identity", "name": "Sprout",
         "kind": r["kind"], "unseen": part == "test"}
        for r in read_rows("identity.jsonl", part)
    ]  # fmt: skip


def refusal_rows(part: str, concepts: tuple[Concept, ...]) -> list[dict]:
    """Requests to refuse, and harmless ones that look alike and must be answered.

    `part`: "train", "test", or "requests", which is evaluated too: of other topics, and in wordings far from the others.
    """
    rows, by_name, unseen = [], {c.name.lower(): c for c in concepts}, part != "train"
    for r in read_rows("refusals.jsonl", part):
        if r["kind"] != "fine":
            rows.append({"skill": "refuse", "question": r["request"], "answer": r["answer"], "grader": "refusal",
                         "unseen": unseen})  # fmt: skip
        elif (concept := by_name.get((r.get("concept") or "").lower())) and not concept.held_out:
            accept = [*concept.definitions, *concept.facts, *concept.relations.values()]
            answer = concept.relation("use") if "use" in concept.relations else concept.definition()
            rows.append(fact_row("fine", concept, r["request"], r["answer"] or answer, accept, unseen))
    return rows


def smalltalk_rows(part: str) -> list[dict]:
    """Greetings and thanks; trained, never graded (many answers are right)."""
    return [
        {"skill": "smalltalk", "question": r["question"], "answer": r["answer"], "unseen": part == "test"}
        for r in read_rows("smalltalk.jsonl", part)
    ]


def categories() -> dict[str, list[str]]:
    """Category (plural) -> its members."""
    return load_json("lists.json")
