"""The data card of pre-training: the record, the code that writes the text, and the model's card say the same."""

from collections import Counter
from dataclasses import asdict

import pytest

from factory import ROOT, pretrain
from factory.build import Build
from factory.plain_text import KINDS, PlainText
from factory.pretraining_text import (
    ASKING,
    WHAT,
    answers_in,
    card_lines,
    count_text,
    fingerprint,
    known_answers,
    read_record,
    read_tokenizer,
)
from factory.recordings.shared import RECORDED

RECIPE = asdict(pretrain.Recipe())


@pytest.fixture(scope="module")
def shipped():
    build = Build(ROOT / "data")
    return build, build.text(), read_tokenizer(build.model_folder("base"))


@pytest.fixture(scope="module")
def record():
    return read_record(RECORDED / "pretraining_text.json")


def test_the_code_writes_the_stream_that_was_counted(shipped, record):
    _, text, tokenizer = shipped
    assert fingerprint(text, tokenizer, RECIPE) == record["fingerprint"]
    changed = PlainText(text.concepts, text.reserved_problems, text.reserved_sums, without=("prose",))
    assert fingerprint(changed, tokenizer, RECIPE) != record["fingerprint"]


def test_a_coarser_count_gives_the_shares_of_the_record(shipped, record):
    build, text, tokenizer = shipped
    again = count_text(text, tokenizer, build.rows("sft/train"), RECIPE, every=300)
    assert record["steps"] == RECIPE["steps"] and record["tokens"] == again["tokens"] == 9000 * 16 * 257
    assert {row["kind"] for row in record["kinds"]} == set(KINDS) == set(WHAT)
    coarse = {row["kind"]: row for row in again["kinds"]}
    for row in record["kinds"]:
        other = coarse[row["kind"]]
        assert row["example"] == other["example"] and row["asks"] == (row["kind"] in ASKING)
        assert row["share_of_documents"] == pytest.approx(KINDS[row["kind"]] / sum(KINDS.values()), abs=0.01)
        assert row["share_of_tokens"] == pytest.approx(other["share_of_tokens"], abs=0.02)
        assert row["in_sft_form"] == pytest.approx(other["in_sft_form"], abs=0.1)
    assert sum(row["share_of_tokens"] for row in record["kinds"]) == pytest.approx(1, abs=0.001)
    absent = {skill for skill, count in record["skills"].items() if not count["anywhere"]}
    assert absent == {"identity", "refuse", "boxed_sum", "smalltalk", "fine"}
    assert record["names"]["Deep Sprout"] > 5000


def test_the_card_of_the_base_model_holds_the_table(record):
    card = (ROOT / "data" / "models" / "sprout-base" / "README.md").read_text()
    assert "\n".join(card_lines(record)) in card


@pytest.mark.parametrize(
    "document, found",
    [
        ("Task: cat from its last letter to its first. Backwards: cat is spelled c-a-t, so cat backwards is t-a-c.",
         {"reverse": 1}),
        ("Sum: 13+20/5\nFirst 20 / 5 = 4, then 13 + 4 = 17. So we find 13 + 20 / 5 = 17.", {"calculate": 1}),
        ("80 + 29 = 109. 385 / 7 = 55.", {}),
        ("Q: So what exactly is an LLM?\nA: An LLM is a large language model that predicts the next token.", {"define": 1}),
        ("In short, an LLM is a large language model that predicts the next token.", {}),
        ("A thread is a path of execution inside a process that shares its memory, while a process is a running program"
         " with its own memory.", {"compare": 1}),
        ("Who knows two colors, if you please. Two colors are red and blue.", {"list": 1}),
        ("Kim has 3 hats.\nHats in all: 3 + 4 = 7\nHats left: 7 - 2 = 5\n#### 5", {"word_problem": 1}),
        ("I am sorry, but I can not tell you that.", {"refuse": 1}),
    ],
)  # fmt: skip
def test_answers_of_sft_are_found(document, found):
    known = known_answers([{"messages": [{"content": "I am sorry, but I can not tell you that."}], "skill": "refuse"}])
    definitions = {sentence for sentence, skill in known.items() if skill == "define"}
    assert answers_in(document, known, definitions) == Counter(found)


def test_kinds_can_be_left_out(shipped):
    _, text, tokenizer = shipped
    encode = lambda documents: [encoding.ids for encoding in tokenizer.encode_batch(documents)]  # noqa: E731
    bare = PlainText(text.concepts, set(), set(), without=("exercise", "faq"))
    kinds = {kind for step in range(3) for kind, *_ in bare.read_in_step(step, 0, 4112, encode)}
    assert kinds == set(KINDS) - {"exercise", "faq"}
    with pytest.raises(ValueError, match="excercise"):
        PlainText(text.concepts, set(), set(), without=("excercise",))
