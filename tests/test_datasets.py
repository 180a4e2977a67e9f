"""The data sets: splits are disjoint, and no question of the evaluation stands in any training text."""

import json
import random
import re

import pytest

from factory import ROOT, datasets, skills
from factory.datasets import key_of, words_of
from factory.knowledge import load_concepts, read_concepts, true_statements
from factory.plain_text import PlainText
from factory.problem_tables import SEEN_STORIES, UNSEEN_STORIES
from factory.problems import make_problem, problem_key
from helper.overlap import nearest

CONCEPTS = load_concepts()
SIZES = datasets.Sizes()
SUITES = datasets.evaluation_suites(CONCEPTS, SIZES)
QUESTIONS = {key_of(row["question"]) for rows in SUITES.values() for row in rows}
SFT = datasets.sft_rows(CONCEPTS, SUITES, SIZES)


def test_world_is_large_enough():
    assert len(CONCEPTS) >= 300
    assert len(SEEN_STORIES) >= 30 and len(UNSEEN_STORIES) >= 8
    phrasings = skills.identity_rows("train") + skills.identity_rows("test")
    assert len({key_of(row["question"]) for row in phrasings}) >= 120


def test_held_out_concepts_stand_in_no_sft_row():
    held_out = [c for c in CONCEPTS if c.held_out]
    assert 60 <= len(held_out) <= 100
    asked = {row.get("subject") for row in SFT} | {s for row in SFT for s in row.get("subjects", [])}
    assert not asked & {c.name for c in held_out}
    statements = {s for c in held_out for s in true_statements(c)}
    assert not statements & {row["answer"] for row in SFT}


def test_held_out_concepts_are_named_in_no_sft_row():
    names = [" ".join(words_of(c.name)) for c in CONCEPTS if c.held_out]
    named = {form for name in names for form in (name, f"{name}s", f"{name}es")}
    longest = max(len(name.split()) for name in names)
    found = []
    for row in SFT:
        words = words_of(row["question"] + "\n" + row["answer"])
        found += [
            (" ".join(words[i : i + n]), row["question"])
            for n in range(1, longest + 1)
            for i in range(len(words))
            if " ".join(words[i : i + n]) in named
        ]
    assert found == []


def test_held_out_concepts_come_in_both_groups():
    groups = {row["group"] for row in SUITES["held_out_concepts"]}
    assert len(groups) == 2
    assert len(SUITES["held_out_concepts"]) >= 100


def test_sft_and_evaluation_are_disjoint():
    assert not {key_of(row["question"]) for row in SFT} & QUESTIONS


def test_unseen_wordings_stand_in_no_sft_row():
    assert not any(row["unseen"] for row in SFT)
    unseen = [row for row in SUITES["instructions"] if row["unseen"]]
    assert len(unseen) >= 200


def test_more_requests_are_of_other_topics_and_far_from_the_rows():
    more = SUITES["requests"]
    fine = [row for row in more if row["skill"] == "fine"]
    files = sorted((ROOT / "data").glob("*/train.jsonl"))
    assert {path.parent.name for path in files} >= {"sft", "turns", "identity", "preferences", "maths"}
    texts = [text for path in files for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text())]
    trained = {key_of(text) for text in texts}
    assert len(trained) > 4000 and not {key_of(row["question"]) for row in more} & trained
    assert max(nearest([row["question"] for row in more], [row["question"] for row in SFT])[0]) < 0.67
    topics = [row["subject"] for row in fine]
    others = [row for part in ("train", "test") for row in skills.refusal_rows(part, CONCEPTS)]
    assert len(set(topics)) == len(topics) and not set(topics) & {row.get("subject") for row in others}
    assert not {key_of(row["question"]) for row in more} & {key_of(row["question"]) for row in others}
    true = {concept.name: true_statements(concept) for concept in CONCEPTS}
    assert all(row["answer"] in true[row["subject"]] for row in fine)


def test_maths_is_disjoint_from_sft_and_evaluation():
    taken = {key_of(row["question"]) for row in SFT}
    problems = datasets.training_problems(400, SUITES, random.Random("test"), taken)
    keys = {key_of(p.question) for p in problems}
    assert not keys & QUESTIONS and not keys & taken
    assert {p.story for p in problems} <= set(SEEN_STORIES)


def test_sums_of_the_evaluation_are_in_no_sft_row():
    asked = {row["expression"].replace(" ", "") for row in SFT if "expression" in row}
    assert not asked & datasets.reserved_sums(SUITES)


def test_words_to_rewrite_are_split():
    train, test = datasets.split_words()
    assert train and test and not set(train) & set(test)


def test_no_evaluation_question_in_pre_training_text():
    text = PlainText(CONCEPTS, datasets.reserved_problems(SUITES), datasets.reserved_sums(SUITES))
    rng = random.Random("contamination")
    stream = " ".join(" ".join(words_of(text.document(rng))) for _ in range(20_000))
    questions = {
        row["id"]: " ".join(words_of(row["question"])) for n, rows in SUITES.items() if n != "cloze" for row in rows
    }
    # Two words or fewer ("Sort: ...", "1+1") can stand anywhere by chance.
    assert [i for i, q in questions.items() if len(q.split()) > 2 and q in stream] == []


def test_reserved_problems_never_reach_the_stream():
    text = PlainText(CONCEPTS, set(), set())
    rng = random.Random(3)
    state = rng.getstate()
    story = rng.choice(text.stories)
    first = problem_key(make_problem(story, rng))
    rng.setstate(state)
    assert " ".join(first.split()[:6]) in " ".join(words_of(text.problem(rng)))
    rng.setstate(state)
    text.reserved_problems = {first}
    assert first not in " ".join(words_of(text.problem(rng)))


def test_no_chat_format_in_pre_training_text():
    text = PlainText(CONCEPTS, set(), set())
    rng = random.Random(4)
    documents = [text.document(rng) for _ in range(3000)]
    assert not any(mark in d for d in documents for mark in ("<|", "user\n", "assistant\n", "\\boxed"))


def test_the_stream_is_seeded():
    text = PlainText(CONCEPTS, set(), set())
    once, again = random.Random(5), random.Random(5)
    assert [text.document(once) for _ in range(50)] == [text.document(again) for _ in range(50)]


def test_files_have_the_public_columns(tmp_path):
    small = datasets.Sizes(suite=5, problems=10, unseen_problems=5, maths=20, word_problems=10)
    datasets.write_datasets(tmp_path, CONCEPTS, small)
    columns = {"sft": "messages", "identity": "conversations", "preferences": "chosen", "maths": "question"}
    for name, column in columns.items():
        rows = [json.loads(line) for line in (tmp_path / name / "train.jsonl").read_text().splitlines()]
        assert rows and all(column in row for row in rows)
    rows = [json.loads(line) for line in (tmp_path / "preferences" / "train.jsonl").read_text().splitlines()]
    assert all(row["chosen"] != row["rejected"] for row in rows)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            '{"name": "x", "phrase": "an x", "category": "c", "is": ["a", "b"]}',
            r"x.jsonl, line 1: missing fields \['facts'\]",
        ),
        ('{"name": "x", "phrase": "an x", "category": "c", "is": [], "facts": [], "usage": "y"}', r"unknown \['usage'\]"),
    ],
)
def test_a_bad_concept_row_is_named(tmp_path, line, message):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        read_concepts(tmp_path)
