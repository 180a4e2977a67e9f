import json
import time

import pytest
from datasets import Dataset

from helper import data
from helper.data import (
    display_dataset,
    load_course_dataset,
    load_suite,
    read_jsonl,
    validate_messages,
    validate_preferences,
    validate_problems,
)


def chat(*turns, last="assistant"):
    roles = ["user", "assistant"] * 3
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


GOOD = {"messages": chat("Hi", "Hello")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository root with one data set and one suite in it, and no network."""
    for name, rows in {
        "data/sft/train.jsonl": [{"messages": chat(f"q {i}", f"a {i}\u2028b")} for i in range(20)],
        "data/sft/test.jsonl": [GOOD],
        "data/eval/facts.jsonl": [{"id": "f1", "skill": "facts", "question": "Q?"}],
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    monkeypatch.setattr(data, "project_folder", lambda: tmp_path)
    monkeypatch.setattr(data, "hub_is_reachable", lambda: False)
    return tmp_path


def test_shipped_names_and_files(project):
    dataset = load_course_dataset("sprout-sft")
    assert isinstance(dataset, Dataset) and len(dataset) == 20
    assert dataset[3]["messages"] == chat("q 3", "a 3\u2028b")
    assert len(load_course_dataset("sprout-sft", split="test")) == 1
    assert len(load_course_dataset(str(project / "data/sft/test.jsonl"))) == 1
    assert len(load_course_dataset("data/sft/test.jsonl")) == 1


def test_limit_draws_rows_with_the_seed(project):
    def questions(**options):
        return [row["messages"][0]["content"] for row in load_course_dataset("sprout-sft", **options)]

    assert len(set(questions(limit=5))) == 5 and questions(limit=5) == questions(limit=5)
    assert questions(limit=5) != questions(limit=5, seed=1) and questions(limit=5) != questions()[:5]
    assert questions(limit=99) == questions()


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("sprout-stf", ValueError, 'did you mean "sprout-sft"'),
        ("sprout-nothing-like-it", ValueError, "sprout-sft"),
        ("sft", ValueError, 'did you mean "sprout-sft"'),
        ("missing.jsonl", FileNotFoundError, "no file"),
        ("banghua/DL-SFT-Dataset-none", ConnectionError, "sprout-sft"),
    ],
)
def test_a_wrong_name_is_one_clear_error(project, name, error, words):
    start = time.perf_counter()
    with pytest.raises(error, match=words) as caught:
        load_course_dataset(name)
    assert "\n" not in str(caught.value) and time.perf_counter() - start < 10


def test_a_split_that_is_not_there(project):
    with pytest.raises(ValueError, match='no split "validation": it has test, train'):
        load_course_dataset("sprout-sft", split="validation")


def test_the_hub_is_asked_in_its_own_terms(project, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(data.datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or Dataset.from_list([GOOD]))
    load_course_dataset("openai/gsm8k", split="test")
    load_course_dataset("banghua/DL-SFT-Dataset")
    assert asked == [
        (("openai/gsm8k", "main"), {"split": "test"}),
        (("banghua/DL-SFT-Dataset", None), {"split": "train"}),
    ]


def test_suites(project):
    assert load_suite("facts") == [{"id": "f1", "skill": "facts", "question": "Q?"}]
    with pytest.raises(ValueError, match='did you mean "facts"'):
        load_suite("fact")


def test_broken_lines_are_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match="line 3: not JSON"):
        read_jsonl(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match="line 1: not a JSON object"):
        read_jsonl(path)


def test_rows_are_shown_escaped(monkeypatch):
    shown = []
    monkeypatch.setattr(data, "display", lambda html: shown.append(html.data))
    rows = [{"messages": chat("<script>alert(1)</script>", "$5 & <b>6</b>\nnext")}] * 5
    display_dataset(Dataset.from_list(rows), rows=2)
    pairs = [{"chosen": chat("ask", "good"), "rejected": chat("ask", "bad")}]
    display_dataset(Dataset.from_list(pairs))
    assert "<script>" not in shown[0] and "&lt;script&gt;" in shown[0] and "<b>" not in shown[0]
    assert shown[0].count("alert(1)") == 2 and "user" in shown[0] and "assistant" in shown[0]
    assert all(word in shown[1] for word in ("prompt", "chosen", "rejected", "ask", "good", "bad"))


BAD_MESSAGES = {
    "no list": {"messages": "text"},
    "nothing": {"messages": []},
    "another column": {"text": "x"},
    "a wrong role": {"messages": [{"role": "human", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "None": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]},
    "blank": {"messages": chat("a", "  ")},
    "no content": {"messages": [{"role": "user"}]},
    "ends with the user": {"messages": chat("a", "b", "c")},
    "starts with the assistant": {"messages": chat("a", "b")[1:]},
    "two users": {"messages": [chat("a")[0], *chat("a", "b")]},
    "late system": {"messages": [*chat("a", "b"), {"role": "system", "content": "s"}, *chat("a", "b")]},
}


@pytest.mark.parametrize("kind", BAD_MESSAGES)
def test_bad_conversations_are_found(kind):
    with pytest.raises(ValueError, match=r"1 of 3 rows are wrong.*\n  row 1: "):
        validate_messages([GOOD, BAD_MESSAGES[kind], GOOD])


def test_good_conversations_pass():
    system = {"role": "system", "content": "s"}
    assert validate_messages([GOOD, {"messages": [system, *chat("a", "b", "c", "d")]}]) == 2
    assert validate_messages(Dataset.from_list([GOOD])) == 1
    with pytest.raises(ValueError, match="no rows"):
        validate_messages([])


def test_many_bad_rows_are_cut_at_ten():
    with pytest.raises(ValueError, match="and 15 more") as caught:
        validate_messages([{"messages": []}] * 25)
    assert str(caught.value).count("  row ") == 10


def test_preferences():
    good = {"chosen": chat("a", "b"), "rejected": chat("a", "c")}
    split = {"prompt": chat("a"), "chosen": chat("a", "b")[1:], "rejected": chat("a", "c")[1:]}
    assert validate_preferences([good, split]) == 2
    for bad, words in (
        ({"chosen": chat("a", "b"), "rejected": chat("a", " b ")}, "same text"),
        ({"chosen": chat("a", "b"), "rejected": chat("x", "c")}, "different prompts"),
        ({"chosen": chat("a", "b")}, "rejected: no list"),
        ({"chosen": "b", "rejected": "c"}, "chosen: no list"),
    ):
        with pytest.raises(ValueError, match=f"row 1: .*{words}"):
            validate_preferences([good, bad])


def test_problems():
    good = {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
    assert validate_problems([good]) == 1
    for bad, words in (
        ({"question": "", "answer": "#### 2"}, "question"),
        ({"question": "q", "answer": None}, "answer"),
        ({"question": "q", "answer": "two"}, "No number"),
    ):
        with pytest.raises(ValueError, match=f"row 0: .*{words}"):
            validate_problems([bad, good])
