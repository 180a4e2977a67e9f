import json
import re
import time
from pathlib import Path

import pytest

from helper.answers import answers_match, as_number, extract_answer, extract_boxed, extract_gold, normalise

GSM8K = Path(__file__).resolve().parents[2] / "shared" / "gsm8k"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{5}", "5"),
        (r"first \boxed{5}, then \boxed{6}.", "6"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1{,}234}", "1{,}234"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed { 7 }", "7"),
        (r"\boxed{\boxed{8}}", "8"),
        (r"\boxed{9} and \boxed{10", "9"),
        (r"} } \boxed{3} {", "3"),
        (r"\boxed{}", ""),
        (r"\boxed{12", None),
        ("boxed{12}", None),
        (r"\boxed 12", None),
        ("", None),
    ],
)
def test_extract_boxed(text, expected):
    assert extract_boxed(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n#### 72", "72"),
        ("#### 1\n#### 1,000\nmore", "1,000"),
        ("<reasoning>3</reasoning><answer> 42 </answer>", "42"),
        ("<answer>1</answer> <answer>2</answer>", "2"),
        ("<answer>42", None),
        ("The answer is 12.", "12"),
        ("The answer is 12 apples.", "12"),
        ("So the final answer is: $1,250.50.", "$1,250.50"),
        ("The answer is -3/4.", "-3/4"),
        ("The answer is Paris. It is big.", "Paris"),
        (r"The answer is 3. \boxed{4}", "4"),
        ("It is 42.", None),
        ("", None),
    ],
)
def test_extract_answer(text, expected):
    assert extract_answer(text) == expected


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("72", "72"), ("1,000", "1000"), ("1{,}234", "1234"), ("$5", "5"), (r"\$5.00", "5"), ("5.", "5"),
        ("+5", "5"), ("−5", "-5"), ("- 5", "-5"), ("0.5", "1/2"), (r"\frac{1}{2}", "0.5"),
        (r"-\dfrac{3}{4}", "-0.75"),
        (r"\frac{-3}{4}", "-0.75"), ("50%", "50"), (r"50\%", "50"), (r"12\text{ apples}", "12"),
        (r"\text{Paris}", "paris"),
        (" Paris. ", "paris"), (r"1\,000", "1000"), ("007", "7"), (".5", "0.50"),
        ("1,234,567.80", "1234567.8"),
        (r"\left(1, 2\right)", "(1,2)"), ("$1/3$", "2/6"),
    ],
)  # fmt: skip
def test_equal_answers(predicted, expected):
    assert answers_match(predicted, expected) and answers_match(expected, predicted)


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ("72", "71"), (None, "5"), ("", "5"), (" ", "5"), ("$", "5"), (".", "."), ("1,00", "100"),
        ("1,0000", "10000"),
        ("1/3", "0.33"), ("1/0", "0"), ("0/0", "0"), ("1/2/3", "1/6"), ("5 apples", "5"), ("5 or 6", "5"),
        ("--5", "5"),
        ("1e3", "1000"), ("٣", "3"), ("3+4", "7"), ("__import__('os')", "0"), (r"\frac{1}{0}", "1"),
        ("12", "1 or 2"),
        ("5" * 300, "5" * 301), ("nan", "0"), ("-", "0"), (",", "0"),
    ],
)  # fmt: skip
def test_unequal_answers(predicted, expected):
    assert not answers_match(predicted, expected)


def test_numbers_are_exact():
    assert as_number(normalise("0.1")) * 3 == as_number("3/10")
    assert as_number("1e999999999") is None and as_number("") is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("x\n#### 72", "72"), ("#### 1,000", "1000"), ("####  -5 ", "-5"), ("#### 2.50", "2.50"),
        ("#### $1,250", "1250"),
        ("#### -1,000,000", "-1000000"), ("#### 1\n#### 2", "2"), ("#### 7.", "7"), ("#### .5", ".5"),
    ],
)  # fmt: skip
def test_extract_gold(answer, expected):
    assert extract_gold(answer) == expected


@pytest.mark.parametrize("answer", ["", "72", "#### ", "#### seven", "#### 1 or 2x"])
def test_no_gold_is_an_error(answer):
    with pytest.raises(ValueError, match="No number"):
        extract_gold(answer)


@pytest.mark.parametrize(
    "piece",
    [
        r"\boxed{",
        "{",
        "}",
        r"\boxed{1}",
        r"\boxed" + " " * 50,
        "The answer is ",
        "<answer>",
        "####",
        "\\",
        "\n",
        " ",
    ],
)
def test_long_texts_take_linear_time(piece):
    text = piece * (400_000 // len(piece))
    start = time.perf_counter()
    extract_boxed(text), extract_answer(text), answers_match(text, "5"), answers_match("1" * 150 + "/7", text)
    assert time.perf_counter() - start < 3


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not on this machine")
def test_all_golds_of_gsm8k():
    lines = [line for name in ("train", "test") for line in (GSM8K / f"{name}.jsonl").read_text().splitlines()]
    answers = [json.loads(line)["answer"] for line in lines]
    golds = [extract_gold(answer) for answer in answers]
    assert len(golds) == 8792 and all(as_number(gold) is not None for gold in golds)
    assert all(answers_match(extract_answer(a), gold) for a, gold in zip(answers, golds, strict=True))
    reference = [re.search(r"####\s*(-?\d+)", answer).group(1) for answer in answers]
    assert sum(not answers_match(ours, theirs) for ours, theirs in zip(reference, golds, strict=True)) == 93
