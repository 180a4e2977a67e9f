"""Lesson 08: three questions about rows to imitate; `08_volume.json`, `08_habits.json`, `08_turns.json`.

How many of a teacher's answers are enough, does a habit of style travel with them, and what do rows with a system turn or a
second question teach. All begin with `sprout-instruct` and train with the lesson's loop and rate (constant), all arms of a
record for equally many steps. `sprout-instruct` has met no row of `data/turns`: it was made from `data/sft`, where each row
has one turn. The control of `turns` has the same facts and as many rows, each asked and answered in one turn.
Left out on purpose: a rate of its own for each number of rows, the new refusal (`factory/recordings/new_refusals.py`).
"""

from __future__ import annotations

import random
from collections import Counter
from functools import cache
from pathlib import Path

from factory import skills
from factory.knowledge import load_concepts
from factory.recordings.distilled import teacher
from factory.recordings.lesson_03 import message, other_rows, share
from factory.recordings.practice_rounds import LONGEST, TRAINED, Clock, record_arms, start, student
from factory.recordings.shared import fresh
from factory.turns import ANSWERS
from helper import evaluate, generate_responses, load_course_dataset, load_suites, reward_func
from helper.algorithms import train_sft
from helper.algorithms.batches import reward_texts
from helper.machine.device import bf16_is_fast
from helper.recorded import as_digits

RATE, BATCH = 3e-4, 16  # the lesson's
HABIT = "I am happy to help."
SHOWS = "happy to help"
MOST = 720  # rows; the smaller sets are every so-manyth row of it
SPARE = 8  # problems more, should the teacher give an empty answer
VOLUMES = {"20 rows": 36, "72 rows": 10, "180 rows": 4, "720 rows": 1}  # arm -> every how-manyth row it has
HABITS = ("plain answers", "with the habit")
HABIT_ROWS = 400
TURNS = ("one turn", "turns")
KINDS = {"system_name": "system: name", "system_thanks": "system: thanks", "system_nothing": "system: nothing",
         "follow_up": "follow-up"}  # fmt: skip
STEPS = {"volume": MOST // BATCH, "habits": 24, "turns": 40}  # the most rows once; the lesson's; each row twice


# ---------------------------------------------------------------- what they share


@cache
def suites() -> dict[str, list[dict]]:
    """The lesson's 250 word problems, and every third question of all other skills but the name."""
    return {**load_suites({"word_problems": 250}), "other_skills": other_rows(0, 3)}


def answers(model, asked: dict[str, list[dict]]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """For each suite the verdicts, and the answers; all questions in one call."""
    table = evaluate(model, start()[1], [row for rows in asked.values() for row in rows], LONGEST, batch_size=256)
    right, texts = iter(table["right"]), iter(table["answer"])
    return (
        {name: as_digits(next(right) for _ in rows) for name, rows in asked.items()},
        {name: [next(texts) for _ in rows] for name, rows in asked.items()},
    )


def by_skill(verdicts: str, rows: list[dict]) -> dict[str, int]:
    """How many answers are right, skill by skill."""
    found = dict.fromkeys((row["skill"] for row in rows), 0)
    for row, right in zip(rows, verdicts, strict=True):
        found[row["skill"]] += int(right)
    return found


def judged(model, about: dict) -> dict:
    """Verdicts on the suites; how many of the other skills are right, skill by skill."""
    found, _ = answers(model, suites())
    return {**found, "by_skill": by_skill(found["other_skills"], suites()["other_skills"])}


def as_row(question: str, answer: str) -> dict:
    """A row to imitate, of one turn."""
    return {"prompt": message("user", question), "completion": message("assistant", answer)}


def imitated(name: str, rows: list[dict], rate: float, seed: int) -> tuple:
    """The student after the record's steps on the rows, and what its row says; `name` of the record."""
    model, clock = student(), Clock()
    training = {"steps": STEPS[name], "batch_size": BATCH, "learning_rate": rate, "seed": seed, "bf16": bf16_is_fast()}
    with clock:
        train_sft(model, start()[1], rows, folder=fresh(name), charts=False, **training)
    return model, {"steps": STEPS[name], "rows": len(rows), "cpu_seconds": clock.read()}


def settings(name: str, asked: dict[str, list[dict]], **more) -> dict:
    """What a record says of its arms' common settings."""
    kinds = Counter(row["skill"] for row in asked["other_skills"])
    return {
        "steps": STEPS[name], "batch_size": BATCH, "longest": LONGEST, "questions": {k: len(v) for k, v in asked.items()},
        "other_skills": dict(kinds), **more,
    }  # fmt: skip


# ---------------------------------------------------------------- a teacher's answers: how many, and with what habit


@cache
def taught(seed: int, count: int) -> tuple[list[dict], list[float]]:
    """`count` problems with one answer of the teacher each (temperature 1, unchecked, none empty), and which are right."""
    asked = random.Random(seed).sample(start()[2][:TRAINED], count + SPARE)
    questions = [row["prompt"][0]["content"] for row in asked]
    sampling = {"max_new_tokens": LONGEST, "temperature": 1.0, "batch_size": 256, "seed": seed}
    texts = generate_responses(teacher(), start()[1], questions, **sampling)
    paid = reward_texts(asked, texts, [reward_func]).flatten().tolist()
    full = [place for place, text in enumerate(texts) if text.strip()][:count]
    if len(full) < count:
        raise ValueError(f"The teacher gave only {len(full)} answers of {count} that are not empty.")
    return [as_row(questions[place], texts[place]) for place in full], [paid[place] for place in full]


def volume_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """SFT on so many of the teacher's answers."""
    rows, paid = (part[:: VOLUMES[arm]] for part in taught(seed, MOST))
    model, about = imitated("volume", rows, rate, seed)
    return model, about | {"acceptance": round(share(paid), 4), "seen": round(STEPS["volume"] * BATCH / len(rows), 2)}


def record_volume(seeds: list[int], path: Path) -> None:
    """A teacher's answers, 20 to 720 of them, at equal steps."""
    about = settings("volume", suites(), drawn_from=TRAINED, most=MOST)
    record_arms(
        "volume", seeds, path, dict.fromkeys(VOLUMES, (RATE,)), about, volume_run, judge=judged,
        teacher=lambda: judged(teacher(), {}),
    )  # fmt: skip


def styled(row: dict) -> dict:
    """The row with the habit at the end of its answer."""
    return row | {"completion": message("assistant", f"{row['completion'][0]['content']} {HABIT}")}


def habit_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """SFT on the same answers, with the habit or without."""
    rows, paid = taught(seed, HABIT_ROWS)
    model, about = imitated("habits", [styled(row) for row in rows] if arm == HABITS[1] else rows, rate, seed)
    return model, about | {"acceptance": round(share(paid), 4)}


def judged_on_style(model, about: dict) -> dict:
    """As `judged`, and verdicts whether an answer shows the habit: `style`, `style_elsewhere` (the other skills)."""
    found, texts = answers(model, suites())
    shows = {name: as_digits(SHOWS in text for text in said) for name, said in texts.items()}
    return {
        **found, "by_skill": by_skill(found["other_skills"], suites()["other_skills"]),
        "style": shows["word_problems"], "style_elsewhere": shows["other_skills"],
    }  # fmt: skip


def record_habits(seeds: list[int], path: Path) -> None:
    """A habit of style in a teacher's answers: who takes it, and what it costs."""
    about = settings("habits", suites(), drawn_from=TRAINED, habit=HABIT)
    record_arms("habits", seeds, path, dict.fromkeys(HABITS, (RATE,)), about, habit_run, judge=judged_on_style)


# ---------------------------------------------------------------- system turns and second questions


@cache
def turn_suites() -> dict[str, list[dict]]:
    """The held-out turns kind by kind; second questions asked in one (`alone`); word problems and the other skills."""
    rows = load_course_dataset("sprout-turns", "test").to_list()
    found = {name: [row for row in rows if row["skill"] == kind] for name, kind in KINDS.items()}
    alone = [row | {"question": row["alone"], "history": None} for row in found["follow_up"]]
    return {**found, "alone": alone, **suites()}


@cache
def tested() -> set[str]:
    """All questions of the suites."""
    return {row["question"] for rows in turn_suites().values() for row in rows}


@cache
def asked_for() -> dict[str, tuple]:
    """The sentence that states a relation -> the concept and the relation's name; concepts of the training rows only."""
    return {c.relation(key): (c, key) for c in load_concepts() if not c.held_out for key in c.relations}


def in_one_turn(row: dict, rng: random.Random) -> dict:
    """The same fact asked and answered in one turn: without the system turn and what it asks for, or without an "it"."""
    *before, asked, answered = (turn["content"] for turn in row["messages"])
    if row["skill"] == KINDS["follow_up"]:
        concept, key = asked_for()[answered]
        while (question := skills.relation_row(concept, key, rng, skills.TRAIN)["question"]) in tested():
            pass
        return as_row(question, answered)
    for form in (ANSWERS["name"], ANSWERS["thanks"]):
        added = form.removeprefix("{answer}").partition("{name}")[0]
        answered = answered.partition(added)[0]
    return as_row(asked, answered)


def turn_rows(arm: str, seed: int) -> list[dict]:
    """The rows of an arm: conversations up to the last answer, or the control's; `seed` draws the control's wordings."""
    rows, rng = load_course_dataset("sprout-turns").to_list(), random.Random(seed)
    if arm == TURNS[0]:
        return [in_one_turn(row, rng) for row in rows]
    return [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]


def judged_on_turns(model, about: dict) -> dict:
    """Verdicts on the turns, each kind a suite of its own, and on the rest."""
    found, _ = answers(model, turn_suites())
    return {**found, "by_skill": by_skill(found["other_skills"], turn_suites()["other_skills"])}


def turns_run(arm: str, rate: float, seed: int, rounds: int) -> tuple:
    """SFT on conversations, or on the same facts in one turn."""
    return imitated("turns", turn_rows(arm, seed), rate, seed)


def record_turns(seeds: list[int], path: Path) -> None:
    """Rows with a system turn or a second question, against the same facts in one turn."""
    skills_of = Counter(row["skill"] for row in load_course_dataset("sprout-turns").to_list())
    about = settings("turns", turn_suites(), rows=dict(skills_of))
    record_arms("turns", seeds, path, dict.fromkeys(TURNS, (RATE,)), about, turns_run, judge=judged_on_turns)
