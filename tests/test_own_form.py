"""Suites in the base model's own form: wordings of the text, prompts that a right answer completes, honest verdicts."""

import json
import random

import pandas as pd
import pytest

from factory import knowledge, plain_text
from helper import grade, load_course_dataset, load_suite, load_suites, project_folder
from helper.by_model import TABLES
from helper.own_form import (
    FAQ,
    SENTENCES,
    TASKS,
    box_last_word,
    few_shot_prompt,
    ledger,
    own_form,
    tidy,
    what_sft_did,
)

SUITES = ("instructions", "held_out_concepts", "word_problems", "requests")
ROWS = [row for name in SUITES for row in load_suite(name)]
ABSENT = {"refuse", "identity"}


def row_of(skill):
    return next(row for row in ROWS if row["skill"] == skill)


def test_the_wordings_are_those_of_the_text():
    for skill, forms in TASKS.items():
        assert set(forms) <= set(plain_text.TASKS["sum" if skill == "calculate" else skill])
    assert set(FAQ) <= set(knowledge.PLAIN_DEFINITION_QUESTIONS)
    starts = [form.split(" {d}")[0] for form in knowledge.DEFINITION_FORMS]
    assert set(SENTENCES["define"]) <= set(starts)
    assert {form + " {f}." for form in SENTENCES["fact"]} <= set(knowledge.FACT_FORMS)
    assert {form.replace("{s}", "{s}.") for form in SENTENCES["relation"]} <= set(knowledge.STATEMENT_FORMS)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("Sum: 40 + 7 = 47\n#### 47", "\\boxed{47}"),
        ("Answer: 47.", "\\boxed{47}"),
        ("Sum: 40 + 7 = 47\n\\boxed{47}", "\\boxed{47}"),
        ("", "\\boxed{}"),
    ],
)
def test_the_last_word_in_a_box(text, box):
    assert box_last_word(text) == box


def test_no_own_form_is_a_question_of_a_suite_and_absent_skills_have_none():
    asked = {row["question"] for row in ROWS}
    for row in ROWS:
        prompt = own_form(row)
        assert (prompt is None) == (row["skill"] in ABSENT)
        assert prompt is None or prompt.strip() not in asked


def right_text(row):
    """What a perfect base model would write after the prompt."""
    prompt, answer = own_form(row), row["answer"]
    if row["skill"] == "word_problem":
        return answer.replace("\\boxed{", "#### ").removesuffix("}")
    if row["skill"] in ("define", "relation"):
        subject = " ".join(prompt.split()[-3:])
        shared = max(n for n in range(1, len(subject) + 1) if subject[-n:].lower() in answer.lower())
        at = answer.lower().index(subject[-shared:].lower()) + shared
        return answer[at:]
    if row["skill"] == "fact":
        return answer[len(answer) - len(answer.split(row["subject"], 1)[-1]) :] if row["subject"] in answer else None
    return answer


@pytest.mark.parametrize("skill", [*TASKS, "define", "relation", "compare", "fact", "word_problem"])
def test_a_right_continuation_is_right_and_another_rows_is_wrong(skill):
    rows = [row for row in ROWS if row["skill"] == skill][:60]
    texts = [right_text(row) for row in rows]
    known = [(row, text) for row, text in zip(rows, texts) if text is not None]
    assert len(known) > len(rows) / 2
    assert all(grade(row, tidy(row, text)) for row, text in known)
    others = [text for _, text in known[1:]] + [known[0][1]]
    wrong = sum(grade(row, tidy(row, text)) for (row, _), text in zip(known, others))
    assert wrong <= (0.4 if skill in ("count", "first_letter", "list") else 0.1) * len(known)


def test_what_follows_the_answer_is_cut():
    row = row_of("reverse")
    assert tidy(row, row["answer"] + "\nTask: more") == row["answer"]
    row = row_of("define")
    text = " " + row["answer"].split(" is ", 1)[1] + " It is more than that."
    assert grade(row, tidy(row, text)) and not grade(row, tidy(row, " not that."))


def test_an_answer_in_no_known_form_is_an_error():
    with pytest.raises(ValueError, match="no form"):
        own_form(row_of("reverse") | {"answer": "egg"})


def test_few_shot_prompts_end_with_the_question_and_do_not_hold_it_twice():
    rows = [
        {"skill": r["skill"], "question": r["messages"][0]["content"], "answer": r["messages"][-1]["content"]}
        for r in load_course_dataset("sprout-sft")
    ]
    for skill in ("reverse", "define", "word_problem", "refuse", "relation", "list"):
        row = row_of(skill)
        prompt = few_shot_prompt(row, rows, random.Random(0))
        assert prompt.count(row["question"]) == 1 and "boxed" not in prompt and "\n" in prompt
        assert prompt.rstrip("\n").endswith(row["question"] if skill in TASKS else "Answer:")
    with pytest.raises(ValueError, match="No examples"):
        few_shot_prompt(row_of("reverse"), [], random.Random(0))


def test_every_skill_of_the_lessons_ledger_has_60_questions():
    suites = load_suites(TABLES["02_sft"]["suites"][0])
    more = load_suites({"requests": None})

    def evaluate(model, tokenizer, rows, longest):
        return pd.DataFrame(rows)[["id", "skill"]].assign(right=True)

    names = {"suites": suites, "more": more, "every": suites | more, "cloze": [{}], "LONGEST": 112, "SEED": 0, "pd": pd}
    names |= {"random": random, "evaluate": evaluate, "model": None, "tokenizer": None}
    lesson = json.loads((project_folder() / "notebooks" / "02_sft.ipynb").read_text(encoding="utf-8"))
    exec("".join(next(cell for cell in lesson["cells"] if cell["id"] == "02-before")["source"]), names)
    counts = ledger({"all": names["these"](names["before"])})["n"]
    assert len(counts) == 18 and counts.min() >= 60, counts
    asked = {row["id"] for row in names["asked"]}
    few = [row["id"] for row in suites["instructions"] if row["skill"] in ("refuse", "fine")]
    assert asked >= {*few, *(row["id"] for row in more["requests"])}


def table(skill, right, start=0):
    return pd.DataFrame(
        {"id": [f"x-{start + i}" for i in range(len(right))], "skill": skill, "question": "?", "right": right}
    )


def test_ledger_and_verdicts():
    own = pd.concat([table("a", [True] * 40, 0), table("b", [False] * 40, 40), table("c", [True, False] * 20, 80)])
    after = pd.concat(
        [
            table("a", [False] * 40, 0),
            table("b", [True] * 40, 40),
            table("c", [True, False] * 20, 80),
            table("d", [True], 120),
        ]
    )
    found = what_sft_did(own, after)["verdict"].to_dict()
    assert found == {"a": "paid for", "b": "brought out", "c": "moved into the chat", "d": "not in its text"}
    shown = ledger({"after": after, "own form": own})
    assert shown.loc["d", "own form"] == "not in its text" and shown.loc["a", "own form"].startswith("100% (")
    assert shown["n"].to_dict() == {"a": 40, "b": 40, "c": 40, "d": 1}
