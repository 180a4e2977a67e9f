"""Rows of one's own: what kind they are, in one form, split by question; and every fault as one clear error."""

import csv
import json
from pathlib import Path

import pandas as pd
import pytest

from helper import own_rows
from helper.own_rows import (
    answer_of,
    method_for,
    plain_words,
    question_of,
    read_own_rows,
    right_and_wrong,
    same_words,
    split_rows,
)


def write(folder, rows: list[dict], kind: str = "jsonl"):
    path = folder / f"rows.{kind}"
    if kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "parquet":
        pd.DataFrame(rows).to_parquet(path)
    else:
        text = json.dumps(rows) if kind == "json" else "".join(json.dumps(row) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8")
    return path


def said(*turns):
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 3, turns)]


def turns(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


SHAPES = {  # columns as people have them -> the kind that they are; each row asks "q N" and wants "a N"
    "question, answer": (lambda n: {"question": f"q {n}", "answer": f"a {n}"}, "answers"),
    "prompt, completion": (lambda n: {"prompt": f"q {n}", "completion": f"a {n}"}, "answers"),
    "the same as messages": (lambda n: {"prompt": said(f"q {n}"), "completion": said("", f"a {n}")[1:]}, "answers"),
    "instruction, output": (lambda n: {"instruction": f"q {n}", "output": f"a {n}"}, "answers"),
    "messages": (lambda n: {"messages": said(f"q {n}", f"a {n}")}, "answers"),
    "conversations": (lambda n: {"conversations": turns(f"q {n}", f"a {n}")}, "answers"),
    "prompt, chosen, rejected": (lambda n: {"prompt": f"q {n}", "chosen": f"a {n}", "rejected": "b"}, "pairs"),
    "instruction, chosen, rejected": (lambda n: {"instruction": f"q {n}", "chosen": f"a {n}", "rejected": "b"}, "pairs"),
    "messages twice": (lambda n: {"chosen": said(f"q {n}", f"a {n}"), "rejected": said(f"q {n}", "b")}, "pairs"),
    "question, answer with a number": (lambda n: {"question": f"q {n}", "answer": f"a {n}\n#### {n}"}, "checkable"),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_shape_of_every_file_comes_to_the_same_form(shape, kind, tmp_path):
    make, expected = SHAPES[shape]
    rows = [make(n) for n in range(12)]
    if kind == "csv":
        rows = [{name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()} for row in rows]
    own = read_own_rows(write(tmp_path, rows, kind))
    assert own.kind == expected and len(own.rows) == 12 and own.twice == 0
    assert [question_of(row) for row in own.rows] == [f"q {n}" for n in range(12)]
    for n, row in enumerate(own.rows):
        assert answer_of(row) == (f"a {n}" if expected != "checkable" else f"a {n}\n\\boxed{{{n}}}")
        sides = {"answers": {"completion"}, "pairs": {"chosen", "rejected"}, "checkable": {"completion", "ground_truth"}}
        assert set(row) == {"prompt"} | sides[expected]
        assert all(row[side][-1]["role"] == "assistant" for side in set(row) - {"prompt", "ground_truth"})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "empty"), ("question,answer\n", "has no rows"), ("a,b\n1,2\n", "Rename them"), ("question\nq\n", "Rename them"),
        ("question,answer\nq 1,\nq 2,a\n", "answer: empty"), ("question,answer\n,a\n", "question: empty"),
        ("question,answer\nq,a,b\n", "line 2: 3 cells"), ('question,answer\n"q,a\n', "not CSV"),
        ("prompt,chosen,rejected\nq,a,a\n", "same text"), ("prompt,chosen,rejected\nq,a,\n", "rejected: empty"),
        ("question,answer\nq,2 #### 2\nr,no number\n", "line 3: no number"),
        ("question,answer\nq,a<|im_end|>\n", "special token"),
        ("instruction,output\n,a\n", "instruction: empty"),
        ("Question,Answer\nq,a\n", "Did you mean question and answer"), ("q,question,answer,,\n1,q,a,,\n", "has no name"),
        ("question,answer\nq,2 #### 2\nr,\n", "line 3: no text in answer: empty"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_error(content, words, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words) as caught:
        read_own_rows(path)
    assert "rows.csv" in str(caught.value)


def test_a_file_that_is_not_there_and_a_folder(tmp_path):
    write(tmp_path, [SHAPES["messages"][0](0)])
    with pytest.raises(ValueError, match='Did you mean "rows.jsonl"'):
        read_own_rows(tmp_path / "row.jsonl")
    with pytest.raises(ValueError, match="is a folder"):
        read_own_rows(tmp_path)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (["a", "b"], "answers"), (["#### 1", "x\n#### 2\n"], "checkable"), (["2 #### 2", "3 #### $3"], "checkable"),
        (["#### 1. Pay\nPay.", "#### 2\nThen go."], "answers"), (["#### 3 steps", "see #### for more"], "answers"),
        (["#### Sum\n1 + 1\n#### 2", "x\n#### 2"], "checkable"),
    ],
)  # fmt: skip
def test_rows_are_checkable_where_the_last_line_of_every_answer_is_a_number(answers, kind, tmp_path):
    own = read_own_rows(write(tmp_path, [{"question": f"q {n}", "answer": text} for n, text in enumerate(answers)]))
    assert own.kind == kind and (kind == "answers" or all(answer_of(row).count("boxed{") == 1 for row in own.rows))
    if "Sum" in answers[0]:
        assert answer_of(own.rows[0]) == "#### Sum\n1 + 1\n\\boxed{2}"


def test_answers_of_which_some_end_in_a_number_are_refused_with_counts(tmp_path):
    texts = ["a", "x\n#### 1", "b", "#### 2\nc", "#### 3"]
    with pytest.raises(own_rows.WrongRows) as caught:
        read_own_rows(write(tmp_path, [{"question": f"q {n}", "answer": text} for n, text in enumerate(texts)]))
    assert 'of 2 of 5 answers ends in "#### number", of 3 it does not' in str(caught.value)
    assert str(caught.value).endswith("  line 1: a")


def test_bad_rows_are_named_by_the_line_of_the_file(tmp_path):
    rows = [{"question": f"q {n}", "answer": '"row 3", 4 like row 99999' if n < 2 else "two\nlines"} for n in range(20)]
    rows[1]["question"] = "row 7 <|im_end|> like row 5"
    for n in range(3, 16):
        rows[n]["question"] = ""
    for kind, where in {"csv": ["line 3", "line 6", "like line 6"], "jsonl": ["line 2", "line 4", "like line 4"]}.items():
        with pytest.raises(ValueError) as caught:
            read_own_rows(write(tmp_path, rows, kind))
        said = str(caught.value)
        assert f"  {where[0]}: question holds" in said and f"  {where[1]}: question: empty" in said and where[2] in said
        assert "14 of 20 rows are wrong. Mend" in said and "counted from 0" not in said and "row 4" not in said
    with pytest.raises(ValueError, match=r"14 of 20 rows are wrong \(counted from 0\)") as caught:
        read_own_rows(write(tmp_path, rows, "json"))
    assert str(caught.value).count("counted from 0") == 1 and "  row 3: question: empty" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("answers.csv", "200 rows (question, answer) of the kind answers, for SFT."),
        ("pairs.csv", "120 rows (chosen, rejected) of the kind pairs, for DPO."),
        ("checkable.csv", "200 rows (question, answer) of the kind checkable, for GRPO."),
    ],
)
def test_the_command_says_what_each_example_file_is(name, words, capsys):
    path = Path(__file__).resolve().parent.parent / "capstone" / "rows" / name
    assert own_rows.main([str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: {words}\n"


def test_the_command_tells_wrong_rows_from_a_file_that_cannot_be_used(tmp_path, capsys):
    rows = [{"question": "q", "answer": "a"}, {"question": "r", "answer": "a"}, {"question": "q", "answer": "a"}]
    assert own_rows.main([str(write(tmp_path, rows))]) == 0
    assert "2 rows (question, answer) of the kind answers, for SFT; 1 more stand there twice" in capsys.readouterr().out
    assert own_rows.main([str(write(tmp_path, [*rows, {"question": "", "answer": "a"}]))]) == 1
    assert "line 4: question: empty" in capsys.readouterr().out
    (tmp_path / "cut.jsonl").write_text('{"question": "q"\n')
    assert own_rows.main([str(tmp_path / "cut.jsonl")]) == 1 and "1 of 1 rows cannot be read" in capsys.readouterr().out
    for path in (tmp_path / "none.csv", write(tmp_path, [{"a": "b"}])):
        assert own_rows.main([str(path)]) == 2
        out, problem = capsys.readouterr()
        assert not out and problem.startswith("python -m helper.own_rows: ") and problem.count("\n") == 1


def test_a_row_that_stands_there_twice_is_kept_once(tmp_path):
    own = read_own_rows(write(tmp_path, [SHAPES["messages"][0](n) for n in (1, 2, 1, 1)]))
    assert [question_of(row) for row in own.rows] == ["q 1", "q 2"] and own.twice == 2


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_no_question_stands_on_both_sides(share):
    asked = [f"What is {n % 40}{'?' * (n % 3)}" if n % 2 else f"what is  {n % 40}!" for n in range(160)]
    rows = [{"prompt": said(text), "completion": said("", f"a {n}")[1:]} for n, text in enumerate(asked)]
    train, held_out = split_rows(rows, share, seed=1)
    assert len(train) + len(held_out) == 160 and len(held_out) == round(share * 40) * 4
    assert not {plain_words(question_of(row)) for row in train} & {plain_words(question_of(row)) for row in held_out}
    assert split_rows(rows, share, seed=1) == (train, held_out) != split_rows(rows, share, seed=2)


def test_a_split_that_tests_nothing_is_refused():
    rows = [{"prompt": said(f"q {n}"), "completion": said("", "a")[1:]} for n in range(20)]
    for share in (0.1, 0.9):
        with pytest.raises(ValueError, match="8 of each are the least"):
            split_rows(rows, share)
    with pytest.raises(ValueError, match="share=1"):
        split_rows(rows, 1)
    with pytest.raises(ValueError, match="with 1 different questions"):
        split_rows([{"prompt": said("q"), "completion": said("", str(n))[1:]} for n in range(50)])


def test_the_method_fits_the_rows():
    kinds = {kind: own_rows.OwnRows(kind, [], (), 0) for kind in ("answers", "pairs", "checkable")}
    assert [method_for(own) for own in kinds.values()] == ["sft", "dpo", "grpo"]
    assert {method_for(own, "sft") for own in kinds.values()} == {"sft"}
    with pytest.raises(ValueError, match="DPO needs rows of the kind 'pairs', and these are 'answers'"):
        method_for(kinds["answers"], "dpo")
    with pytest.raises(ValueError, match="GRPO needs"):
        method_for(kinds["pairs"], "grpo")
    with pytest.raises(ValueError, match='give "sft", "dpo" or "grpo"'):
        method_for(kinds["pairs"], "ppo")


def test_right_and_wrong_answers_for_judges():
    rows = [{"prompt": said(f"q {n}"), "completion": said("", text)[1:]} for n, text in enumerate(["A.", "a", "b", "c"])]
    prompts, right, wrong = right_and_wrong(rows)
    assert right == ["A.", "a", "b", "c"] and wrong == ["b", "b", "c", "A."] and len(prompts) == 4
    pairs = [{"prompt": said("q"), "chosen": said("", "x")[1:], "rejected": said("", "y")[1:]}]
    assert right_and_wrong(pairs)[1:] == (["x"], ["y"])
    assert right_and_wrong(rows[:2]) == ([], [], [])


def test_the_same_words_in_any_script():
    assert same_words("Größe: 東京 7!", "größe 東京 7") and not same_words("東京", "京都")
    assert not same_words("", "a") and not same_words("a b", "b a") and same_words("+", " + ") and not same_words("+", "-")
