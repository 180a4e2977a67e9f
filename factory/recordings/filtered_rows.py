"""Lesson 08: filters on a dirty set of word problems, each left out once; `08_filters.json` and `08_filters_more.json`.

Written rows, and of each kind of dirt half as many: five kinds in the first record; in the second two others, rows in
another language and many rows of one kind. The filters know nothing of what was planted: they are the rules that one would
write for any such set. All arms train for equally many steps. A control has as many rows as all filters leave with that
seed, drawn blindly from the dirty set.
Left out on purpose: filters that need a model (perplexity, a judge), other shares of dirt.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from factory.recordings.lesson_03 import trained
from factory.recordings.practice_rounds import (
    LONGEST,
    Clock,
    record_arms,
    shown,
    start,
    student,
    tests,
    written_answers,
)
from factory.recordings.shared import write
from helper import evaluate, extract_boxed
from helper.algorithms import step_labels, steps_of
from helper.graders import words_of
from helper.recorded import as_digits

CLEAN, DIRTY, COPIES = 240, 120, 15  # rows of each kind of dirt; copies of one row, where they are copies
SFT = {"steps": 20, "batch_size": 16}
RATE = 1e-3  # the best for written answers in `03_contrast.json`
MOST_WORDS = 45  # of an answer
NEAR = 0.8  # the share of common words from which on two questions are near duplicates
STYLE = "Wow, what a great question!"
BANNED = ("wow", "great question", "as an ai", "i hope this helps")
OPENINGS = ("Please solve this:", "A problem:", "Here is one more:", "Work this out.", "Can you help me?")
ENDINGS = ("Thank you.", "Show the steps.", "")
ENGLISH = {"the", "a", "an", "of", "and", "to", "is", "are", "in", "how", "many", "has", "have", "does", "his"}
LEAST_ENGLISH = 0.15  # the share of these among a question's words
MOST_OF_AN_OPENING = 8  # rows whose questions have the same three words first
ABROAD = (  # names, things, a question, and the labels of its answer's two steps
    (("Ana", "Luis", "Marta", "Pablo"), ("lápices", "libros", "globos"), ("Compra", "Quedan"),
     "{name} compra {boxes} cajas con {each} {things} cada una. Luego regala {gone}. ¿Cuántos {things} le quedan?"),
    (("Tom", "Lena", "Jonas", "Clara"), ("Stifte", "Bücher", "Ballons"), ("Gekauft", "Übrig"),
     "{name} kauft {boxes} Kisten. In jeder liegen {each} {things}. Dann gehen {gone} verloren. "
     "Wie viele {things} bleiben übrig?"),
    (("Léa", "Hugo", "Chloé", "Louis"), ("crayons", "livres", "ballons"), ("Achetés", "Restent"),
     "{name} achète {boxes} boîtes de {each} {things}. Ensuite, {gone} sont donnés. Combien de {things} reste-t-il ?"),
    (("小明", "小红", "小华", "小丽"), ("支铅笔", "本书", "个气球"), ("买了", "剩下"),
     "{name}买了{boxes}盒，每盒有{each}{things}。后来送出{gone}{things}。还剩多少{things}？"),
)  # fmt: skip
FILLER = "Let us go slowly and read the question once more, so that nothing is left out."


def wrong(answer: str, rng: random.Random) -> str:
    """The answer with another result in its last step and its box."""
    *steps, last = steps_of(answer)
    result = extract_boxed(answer)
    other = str(int(result) + rng.randint(1, 9))
    return "\n".join([*steps, f"{last.rsplit('=', 1)[0]}= {other}", f"\\boxed{{{other}}}"])


def rambling(answer: str) -> str:
    """The answer with much before and between its steps that says nothing."""
    return "\n".join(f"{FILLER}\n{line}" if line in steps_of(answer) else line for line in answer.split("\n"))


def copied(row: dict, number: int) -> dict:
    """A near duplicate of a row: the same problem between other words, with the same answer."""
    question = " ".join(filter(None, (OPENINGS[number // 3], row["question"], ENDINGS[number % 3])))
    return row | {"question": question}


def dirty_rows(seed: int) -> list[dict]:
    """All rows in the order of their places in the set, each with the kind that it was planted as ("clean" for none)."""
    rng = random.Random(seed)
    whole = [{"question": question, "answer": answer} for question, answer in written_answers().items()]
    rng.shuffle(whole)
    clean, rest = whole[:CLEAN], iter(whole[CLEAN:])
    few = rng.sample(clean, 2 * DIRTY // COPIES)
    often, nearly = few[: len(few) // 2], few[len(few) // 2 :]
    others = [[next(rest) for _ in range(DIRTY)] for _ in range(3)]
    made = {
        "clean": clean,
        "exact duplicates": [row for row in often for _ in range(COPIES)],
        "near duplicates": [copied(row, number) for row in nearly for number in range(COPIES)],
        "length": [row | {"answer": rambling(row["answer"])} for row in others[0]],
        "wrong answers": [row | {"answer": wrong(row["answer"], rng)} for row in others[1]],
        "banned style": [row | {"answer": f"{STYLE}\n{row['answer']}"} for row in others[2]],
    }
    rows = [row | {"kind": kind} for kind, some in made.items() for row in some]
    rng.shuffle(rows)
    return rows


def foreign(rng: random.Random) -> dict:
    """A word problem in another language, with its right answer in that language."""
    names, things, labels, question = rng.choice(ABROAD)
    boxes, each = rng.randrange(2, 30), rng.randrange(2, 10)
    gone, bought = rng.randrange(2, boxes * each), boxes * each
    asked = question.format(name=rng.choice(names), things=rng.choice(things), boxes=boxes, each=each, gone=gone)
    steps = f"{labels[0]}: {boxes} * {each} = {bought}\n{labels[1]}: {bought} - {gone} = {bought - gone}"
    return {"question": asked, "answer": f"{steps}\n\\boxed{{{bought - gone}}}"}


def one_of_many(rng: random.Random) -> dict:
    """A row of the kind that a script writes by the thousand."""
    a, b = rng.randrange(1, 50), rng.randrange(1, 50)
    return {"question": f"What is the sum of {a} and {b}?", "answer": f"{a} + {b} = {a + b}\n\\boxed{{{a + b}}}"}


def more_dirty_rows(seed: int) -> list[dict]:
    """As `dirty_rows`, with the same clean rows and the two other kinds of dirt."""
    rng = random.Random(seed)
    whole = [{"question": question, "answer": answer} for question, answer in written_answers().items()]
    rng.shuffle(whole)
    planted = {"language": foreign, "diversity": one_of_many}
    made = {"clean": whole[:CLEAN]} | {kind: [make(rng) for _ in range(DIRTY)] for kind, make in planted.items()}
    rows = [row | {"kind": kind} for kind, some in made.items() for row in some]
    rng.shuffle(rows)
    return rows


# ---------------------------------------------------------------- the filters: rows -> the places of those to be removed


def exact_duplicates(rows: list[dict]) -> set[int]:
    """All but the first of the rows whose words are the same."""
    first: dict[tuple, int] = {}
    words = [tuple(words_of(f"{row['question']} {row['answer']}")) for row in rows]
    return {place for place, one in enumerate(words) if first.setdefault(one, place) != place}


def near_duplicates(rows: list[dict]) -> set[int]:
    """Rows whose question shares NEAR of its words (Jaccard) with that of an earlier row; the same words are not meant."""
    kept: list[frozenset] = []
    removed = set()
    for place, row in enumerate(rows):
        words = frozenset(words_of(row["question"]))
        near = [other for other in kept if NEAR <= len(words & other) / len(words | other) < 1]
        removed |= {place} if near else set()
        kept += [] if near else [words]
    return removed


def too_long(rows: list[dict]) -> set[int]:
    """Rows whose answer has more than MOST_WORDS words."""
    return {place for place, row in enumerate(rows) if len(row["answer"].split()) > MOST_WORDS}


def wrong_answers(rows: list[dict]) -> set[int]:
    """Rows with a step whose sum does not come out, or whose box is not the last step's result."""
    return {place for place, row in enumerate(rows) if not adds_up(row["question"], row["answer"])}


def adds_up(question: str, answer: str) -> bool:
    """Whether the sums of the answer come out, and its box holds the last result; lines without a sum are not judged."""
    sums = [line for line in steps_of(answer) if "=" in line]
    labels = step_labels(question, "\n".join(sums))
    return bool(sums) and all(labels) and sums[-1].rsplit("=", 1)[1].strip() == extract_boxed(answer)


def banned_style(rows: list[dict]) -> set[int]:
    """Rows whose answer has one of the BANNED phrases."""
    return {place for place, row in enumerate(rows) if any(phrase in row["answer"].lower() for phrase in BANNED)}


def other_language(rows: list[dict]) -> set[int]:
    """Rows whose question has too few of the little words of English."""
    words = [re.findall(r"\w+", row["question"].lower()) for row in rows]
    few = [sum(word in ENGLISH for word in said) < LEAST_ENGLISH * len(said) for said in words]
    return {place for place, found in enumerate(few) if found}


def too_many_of_a_kind(rows: list[dict]) -> set[int]:
    """Of the rows whose questions have the same three words first, those after MOST_OF_AN_OPENING."""
    seen: Counter = Counter()
    removed = set()
    for place, row in enumerate(rows):
        opening = tuple(row["question"].split()[:3])
        seen[opening] += 1
        removed |= {place} if seen[opening] > MOST_OF_AN_OPENING else set()
    return removed


FILTERS: dict[str, Callable] = {
    "exact duplicates": exact_duplicates, "near duplicates": near_duplicates, "length": too_long,
    "wrong answers": wrong_answers, "banned style": banned_style,
}  # fmt: skip
MORE: dict[str, Callable] = {"language": other_language, "diversity": too_many_of_a_kind}
BLIND = "as many rows, blindly"


def arms_of(filters: dict[str, Callable]) -> tuple[str, ...]:
    """The arms of a record with these filters."""
    return ("clean rows only", "no filter", "all filters", *(f"all but {name}" for name in filters), BLIND)


ARMS, MORE_ARMS = arms_of(FILTERS), arms_of(MORE)


def left_by(arm: str, rows: list[dict], seed: int = 0, filters: dict[str, Callable] = FILTERS) -> list[dict]:
    """The rows that an arm trains on; `seed` draws those of the blind arm."""
    if arm == "clean rows only":
        return [row for row in rows if row["kind"] == "clean"]
    if arm == BLIND:
        number = len(left_by("all filters", rows, seed, filters))
        return [rows[place] for place in sorted(random.Random(seed).sample(range(len(rows)), number))]
    used = {name for name in filters if arm != "no filter" and arm != f"all but {name}"}
    removed = set().union(*(filters[name](rows) for name in used))
    return [row for place, row in enumerate(rows) if place not in removed]


def counts(rows: list[dict]) -> dict[str, int]:
    """How many rows of each planted kind."""
    return dict(Counter(row["kind"] for row in rows))


def removed_alone(seed: int, make: Callable = dirty_rows, filters: dict[str, Callable] = FILTERS) -> dict:
    """What each filter alone removes, by the planted kind."""
    rows = make(seed)
    return {name: counts([rows[place] for place in sorted(find(rows))]) for name, find in filters.items()}


def one_run(
    arm: str, rate: float, seed: int, rounds: int, make: Callable = dirty_rows, filters: dict[str, Callable] = FILTERS
) -> tuple:  # fmt: skip
    """The model trained on what an arm leaves, and what its row says."""
    rows, clock = left_by(arm, make(seed), seed, filters), Clock()
    with clock:
        shown_rows = [shown(row["question"], row["answer"]) for row in rows]
        model, _ = trained(student(), start()[1], shown_rows, "imitation", {}, learning_rate=rate, seed=seed, **SFT)
    return model, {"rows": len(rows), "kinds": counts(rows), "cpu_seconds": clock.read()}


SIGNS = {  # what a record's dirt leaves in an answer that shows it
    "style": BANNED, "foreign": [label.lower() for _, _, labels, _ in ABROAD for label in labels],
}  # fmt: skip


def judged(model, about: dict, sign: str = "style") -> dict:
    """Verdicts on the word problems; which answers have a sign of the dirt, and their mean number of words."""
    table = evaluate(model, start()[1], tests()["word_problems"], max_new_tokens=LONGEST, batch_size=256)
    return {
        "word_problems": as_digits(table["right"]),
        sign: as_digits(any(phrase in text.lower() for phrase in SIGNS[sign]) for text in table["answer"]),
        "words": round(float(table["answer"].str.split().str.len().mean()), 1),
    }


SETTINGS = {
    "clean": CLEAN, "dirt_of_each_kind": DIRTY, "copies": COPIES, "sft": SFT, "most_words": MOST_WORDS, "near": NEAR,
    "banned": list(BANNED), "longest": LONGEST,
}  # fmt: skip


MORE_SETTINGS = {key: SETTINGS[key] for key in ("clean", "dirt_of_each_kind", "sft", "longest")} | {
    "least_english": LEAST_ENGLISH, "most_of_an_opening": MOST_OF_AN_OPENING,
}  # fmt: skip


def with_removed(record: dict, path: Path, make: Callable, filters: dict[str, Callable]) -> None:
    """Write beside the runs what each filter alone removes with each of their seeds; nothing is trained."""
    seeds = sorted({run["seed"] for run in record["runs"]})
    record["removed_by_seed"] = {str(seed): removed_alone(seed, make, filters) for seed in seeds}
    write(record, path)


def record_filters(seeds: list[int], path: Path) -> None:
    """Five filters on a dirty set, each left out once; all of them, none, the clean rows alone, and a blind choice."""
    record = record_arms(
        "filters", seeds, path, dict.fromkeys(ARMS, (RATE,)), SETTINGS, one_run, judge=judged,
        rows=lambda: counts(dirty_rows(seeds[0])), removed=partial(removed_alone, seeds[0]),
    )  # fmt: skip
    with_removed(record, path, dirty_rows, FILTERS)


def record_filters_more(seeds: list[int], path: Path) -> None:
    """Filters for language and for diversity, each left out once; both, none, the clean rows alone, and a blind choice."""
    record = record_arms(
        "filters_more", seeds, path, dict.fromkeys(MORE_ARMS, (RATE,)), MORE_SETTINGS,
        partial(one_run, make=more_dirty_rows, filters=MORE), judge=partial(judged, sign="foreign"),
        rows=lambda: counts(more_dirty_rows(seeds[0])),
    )  # fmt: skip
    with_removed(record, path, more_dirty_rows, MORE)
