import importlib.util
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helper import symbolic
from helper.answers import (
    answers_match,
    as_number,
    expressions,
    extract_answer,
    extract_boxed,
    extract_gold,
    hard_answer_cases,
    normalise,
)
from helper.rewards import hackable_reward, reward_func

GSM8K = Path(__file__).resolve().parents[2] / "shared" / "gsm8k"
needs_math_verify = pytest.mark.skipif(
    importlib.util.find_spec("math_verify") is None, reason="math-verify is not installed"
)


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
        (r"\boxed 12", "12"),
        (r"So $x = \boxed 5$.", "5"),
        (r"\boxed5 and \boxed6", "6"),
        (r"\boxed{3}, so \boxed 4", "3"),
        (r"\boxed{4", None),
        (r"\boxed {4", None),
        (r"$\boxed \frac{1}{2}$", r"\frac{1}{2}"),
        (r"$\boxed\frac12$", r"\frac12"),
        (r"$\boxed (1, 2)$, a point", "(1, 2)"),
        (r"$$\boxed -3x + 1$$", "-3x + 1"),
        (r"\(\boxed 5\)", "5"),
        (r"\boxed 1,234 coins", "1,234"),
        (r"\boxed 5, 6", "5"),
        (r"\boxed 5\text{ red apples} in all", r"5\text{ red apples}"),
        (r"It costs $5, so \boxed 7 dollars. That is $7.", "7"),
        (r"\boxed \$5", r"\$5"),
        (r"\boxed 5<|im_end|>", "5"),
        (r"**\boxed 5**.", "5"),
        (r"I answer in \boxed form.", None),
        (r"\boxed 5, in \boxed form", "5"),
        (r"\boxed .", None),
        (r"So \fbox{3} it is", "3"),
        (r"\fbox{\frac{1}{2}} or \fbox{3}", "3"),
        (r"\boxed{3}, not \fbox{4}", "3"),
        (r"\fbox{3}, or \boxed{4", None),
        (r"\fbox{3", None),
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
        ("The answer is 18. I hope this answer is helpful.", "18"),
        ("The answer is 18. This answer is correct.", "18"),
        ("The answer is Rome. No, the answer is Paris.", "Paris"),
        ("#### Step 1\nx\n#### Conclusion\nThe answer is 18.", "18"),
        ("#### Answer: 18", "18"),
        ("#### 18\n####", "18"),
        ("#### Paris", "Paris"),
        ("The answer is 18.\n#### Paris", "Paris"),
        ("**Final Answer**\n18", "18"),
        ("**Final Answer**\n\n18 apples", "18"),
        ("The answer is thus 18.", "18"),
        ("The answer is 18 — as computed above.", "18"),
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
        ("72", "71"), (None, "5"), ("", "5"), (" ", "5"), ("$", "5"), (".", "5"), ("1,00", "100"),
        ("1,0000", "10000"),
        ("1/3", "0.33"), ("1/0", "0"), ("0/0", "0"), ("1/2/3", "1/6"), ("5 x", "5"), ("5 or 6", "5"),
        ("--5", "5"),
        ("1e3", "100"), ("٣", "4"), ("3+4", "7"), ("__import__('os')", "0"), (r"\frac{1}{0}", "1"),
        ("12", "1 or 2"),
        ("5" * 300, "5" * 301), ("nan", "0"), ("-", "0"), (",", "0"),
    ],
)  # fmt: skip
def test_unequal_answers(predicted, expected):
    assert not answers_match(predicted, expected)


MORE_EQUAL = [
    ("2:30 PM", "2:30 pm"),
    ("Buenos-Aires", "buenos-aires"),
    (r"12 \mathrm{~cm}", "12"),
    (r"12\mathrm{~cm}^{2}", "12"),
    (r"12 \text{~cm}", "12"),
    ("12 ~cm", "12"),
    ("4343_{6}", "4343_6"),
    ("$18/day", "18"),
    ("$12/hour", "12"),
    ("$12 an hour", "12"),
    ("$12 a day", "12"),
    ("18 US dollars", "18"),
    ("US$18", "18"),
    ("USD 70,000", "70000"),
    ("3/4 of the cake", "3/4"),
    ("18 of them", "18"),
    ("£18", "18 pounds"),
    ("¥18", "18 yen"),
    ("(-5)", "-5"),
    (r"\left(-\frac{3}{4}\right)", r"-\frac{3}{4}"),
    (r"\text{(C)}", "C"),
    ("(A)", "A"),
    ("{18}", "18"),
    (r"x \in [-2,7]", "[-2,7]"),
    (r"x \neq 3", r"x \ne 3"),
    (r"25\pi \text{ cm}^2", r"25\pi"),
    (r"2\sqrt{3}\text{ cm}", r"2\sqrt{3}"),
    (r"12\pi\text{ inches}", r"12\pi"),
    ("12 red apples", "12 apples"),
    ("Paris", "paris"),
    ("A", "a"),
    ("12 MPH", "12 mph"),
    ("5 Apples", "5 apples"),
    ("$12 per hour", "$12"),
    ("5 miles/hour", "5 miles per hour"),
    ("5 km/h", "5"),
]
MORE_UNEQUAL = [
    (r"\sqrt{16} m", "4 cm"),
    ("5 pound-feet", "5 feet"),
    ("5 foot-pounds", "5 pounds"),
    ("2:30 PM", "2:30 AM"),
    ("72 perhaps", "72"),
    ("72 minus", "72"),
    ("72 plus", "72"),
    ("5 twelfths", "5"),
    ("5 sixteenths", "5"),
    ("5 twentieths", "5"),
    ("5 billionths", "5"),
    ("5 quadrillion", "5"),
    ("5 lakh", "5"),
    ("5 crore", "5"),
    ("5 grand", "5"),
    ("5 score", "5"),
    ("5 gross", "5"),
    ("0.3 repeating", "0.3"),
    ("0.3 recurring", "0.3"),
    ("72 halved", "72"),
    ("72 doubled", "72"),
    ("72 tripled", "72"),
    ("72 reciprocal", "72"),
    ("72 approximately", "72"),
    ("72 approx.", "72"),
    ("72 roughly", "72"),
    ("72 at least", "72"),
    ("72 at most", "72"),
    ("72 minimum", "72"),
    ("72 maximum", "72"),
    ("72 invalid", "72"),
    ("72 cannot", "72"),
    ("72 unknown", "72"),
    ("72 except", "72"),
    ("R - r", "r - R"),
    (r"\pi(R^2 - r^2)", r"\pi(r^2 - R^2)"),
    (r"\frac{M}{m}", r"\frac{m}{M}"),
    ("(A, a)", "(a, A)"),
    ("A, a", "a, A"),
    ("X+x", "2x"),
    ("n^2", "N^2"),
    ("T_A", "T_a"),
    (r"2\Pi", r"2\pi"),
    (r"\Delta", r"\delta"),
    ("5 mW", "5 MW"),
    ("20 mm", "20 Mm"),
    ("5 km/h", "5 h"),
    ("5 m/s", "5 m"),
    ("5 miles per hour", "5 hours"),
    ("5 square meters", "5 meters"),
    ("5 cubic meters", "5 meters"),
    ("5 kilowatt hours", "5 hours"),
    ("5 dollars per hour", "5 hours"),
    ("5 hours per mile", "5 miles per hour"),
    (r"25\pi \text{ cm}", r"25\pi \text{ m}"),
    ("p", "~p"),
    ("18 of 20", "18"),
    ("3/4 of x", "3/4"),
    ("1/2 of 10", "1/2"),
    ("18/x", "18"),
    ("(1,000)", "1"),
    ("{1, 2}", "(1, 2)"),
    ("x^{2}y", "x^2"),
    (r"y \in [-2,7]", r"x \in [-2,7]"),
    (r"x \neq 3", "x = 3"),
    ("x", "y"),
    ("2x", "x"),
    ("X", "2x"),
]


@pytest.mark.parametrize(("predicted", "expected"), MORE_EQUAL)
def test_other_ways_of_writing_are_equal(predicted, expected):
    assert answers_match(predicted, expected) and answers_match(expected, predicted)


@pytest.mark.parametrize(("predicted", "expected"), MORE_UNEQUAL)
def test_another_variable_unit_or_number_is_unequal(predicted, expected):
    assert not answers_match(predicted, expected) and not answers_match(expected, predicted)


@needs_math_verify
def test_a_lone_variable_is_equal_to_what_it_simplifies_from():
    assert answers_match("1.0x", "x") and answers_match("x", "2x/2")
    assert not answers_match("x", "2x") and not answers_match("x", "x + 1") and not answers_match("x", "x/y")


def test_a_number_may_be_expected():
    assert answers_match("5", 5) and answers_match(r"\frac{1}{2}", 0.5) and not answers_match("6", 5)


@pytest.mark.parametrize("function", [extract_boxed, extract_answer, extract_gold])
def test_what_is_no_text_is_named(function):
    with pytest.raises(TypeError, match="text is a NoneType, and not a str"):
        function(None)


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


LONG = [
    r"\boxed{", "{", "}", "{}", r"\boxed{1}", r"\boxed" + " " * 50, r"\frac{", r"\text{", "\\", "#", "####", "#### 1\n",
    "the answer is ", "The answer is 5. ", "answer to ", "answer" + " " * 30, "answer is **", "<answer>", "</answer>",
    "<answer></answer>", "1", "1,", "1,000,", "1/", ",", ".", "-", "$", "^", "9^", "(", "\n", " ", " \u2009", "½",
    "_", "*", "\t", "\u00a0", "a", "a_", "%", "|", "~", "1 ", " (", ", ", "{~", "_*", "is ", "answer", "**Answer**\n",
    r"\boxed 5 ", r"$\boxed 5$", r"\boxed -$$ ", r"\boxed a", r"\fbox{", r"\fbox{1}", "1e", "1e5", "10^", r"1\times",
    "10^{", "p.m. ",
]  # fmt: skip


def extract_gold_or_none(text):
    try:
        return extract_gold(text)
    except ValueError:
        return None


def match_or_none(predicted, expected):
    """The verdict; None where nothing is left of the expected answer."""
    try:
        return answers_match(predicted, expected)
    except ValueError:
        return None


@pytest.fixture(scope="module")
def one_reading():
    """The processor time in which plain Python looks at a megabyte, character by character."""
    text = "ab" * 500_000
    return min(processor_time(lambda: sum(1 for character in text if character == "a")) for _ in range(5))


@pytest.mark.parametrize("piece", LONG)
def test_a_megabyte_takes_a_fraction_of_a_second(piece, one_reading):
    text = piece * (1_000_000 // len(piece))
    end = piece * (49_000 // len(piece)) + "x"  # all of it is read
    texts = [text, "The answer is " + text, "#### " + text, text + " <answer>" + text + "</answer>"]
    texts += [start + end for start in ("The answer is 5", "the answer to ", "#### 5", r"\boxed{", "**Answer**")]
    texts += [piece * (190 // len(piece)) + end for end in ("", "x", "5", "}")]  # short enough for an answer
    functions = [
        extract_boxed, extract_answer, extract_gold_or_none, normalise, as_number,
        lambda text: answers_match(text, "5"), lambda text: match_or_none("1" * 150 + "/7", text),
        lambda text: hackable_reward([text], ["5"]),
    ]  # fmt: skip
    for function in functions:
        for text in texts:
            assert any(processor_time(function, text) < 9 * one_reading for _ in range(3))  # 2 in a quiet run


def processor_time(function, *arguments):
    """Seconds of this process, whatever else the machine does."""
    start = time.process_time()
    function(*arguments)
    return time.process_time() - start


@pytest.mark.skipif(not GSM8K.exists(), reason="GSM8K is not on this machine")
def test_all_golds_of_gsm8k():
    lines = [line for name in ("train", "test") for line in (GSM8K / f"{name}.jsonl").read_text().splitlines()]
    answers = [json.loads(line)["answer"] for line in lines]
    golds = [extract_gold(answer) for answer in answers]
    assert len(golds) == 8792 and all(as_number(gold) is not None for gold in golds)
    assert all(answers_match(extract_answer(a), gold) for a, gold in zip(answers, golds, strict=True))
    # The number by other means: what stands behind the last "#" is a number with commas and nothing else.
    values = [float(answer.split("#")[-1].replace(",", "")) for answer in answers]
    assert values == [float(gold) for gold in golds]
    reference = [re.search(r"####\s*(-?\d+)", answer).group(1) for answer in answers]
    wrong = [(ours, value) for ours, value in zip(reference, values, strict=True) if float(ours) != value]
    assert len(wrong) == 93
    assert not any(answers_match(ours, str(value)) for ours, value in wrong)


# The hard cases, and the simple graders that fail on them.


def numbers_in(text):
    return [float(number) for number in re.findall(r"-?[0-9]+(?:\.[0-9]+)?", text.replace(",", ""))]


def last_number(text, expected):
    return bool(numbers_in(text)) and numbers_in(text)[-1:] == numbers_in(expected)[-1:]


def any_number(text, expected):
    return any(number in numbers_in(expected) for number in numbers_in(text))


def as_floats(text, expected):
    try:
        return float(text) == float(expected)
    except ValueError:
        return False


def as_texts(text, expected):
    return text.strip() == expected.strip()


def after_hashes(text, expected):
    """The pattern of many courses."""
    found = re.search(r"####\s*(-?\d+)", text)
    return found is not None and found.group(1) == expected


def by_math_verify(text, expected, limit):
    from math_verify import parse, verify

    gold = parse(rf"\boxed{{{expected}}}", parsing_timeout=limit)
    return verify(gold, parse(text, parsing_timeout=limit), timeout_seconds=limit)


def simple_graders(case):
    """Name -> verdict, for the graders that apply to the case."""
    text, expected = case["predicted"], case["expected"]
    verdicts = {"last number": last_number(text, expected), "any number": any_number(text, expected)}
    if case["from_text"]:
        verdicts["####"] = after_hashes(text, expected)
    else:
        verdicts |= {"float": as_floats(text, expected), "text": as_texts(text, expected)}
    return verdicts


def wrong_graders(case, verdicts):
    return [name for name, verdict in verdicts.items() if verdict != case["equal"]]


def our_verdict(case):
    answer = extract_answer(case["predicted"]) if case["from_text"] else case["predicted"]
    return answers_match(answer, case["expected"])


def test_the_table_of_hard_cases_is_whole():
    cases = hard_answer_cases()
    assert len(cases) >= 180
    assert len({(case["predicted"], case["expected"], case["from_text"]) for case in cases}) == len(cases)
    for case in cases:
        assert list(case) == ["kind", "predicted", "expected", "from_text", "equal", "why", "wrong"]
        assert case["why"] and case["expected"] and isinstance(case["equal"], bool)


@needs_math_verify
def test_every_hard_case_is_judged_right():
    assert [case for case in hard_answer_cases() if our_verdict(case) != case["equal"]] == []


def test_simple_graders_fail_where_the_table_says():
    for case in hard_answer_cases():
        recorded = [name for name in case["wrong"] if name != "math-verify"]
        assert wrong_graders(case, simple_graders(case)) == recorded, case
    wrong = [name for case in hard_answer_cases() for name in case["wrong"]]
    for name in ("last number", "any number", "float", "text", "####", "math-verify"):
        assert wrong.count(name) >= 10


@needs_math_verify
def test_math_verify_fails_where_the_table_says():
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    for case in hard_answer_cases():
        text = case["predicted"] if case["from_text"] else rf"\boxed{{{case['predicted']}}}"
        limit = 1 if case["kind"] == "huge power" else 30  # seconds; only those powers never end
        verdict = by_math_verify(text, case["expected"], limit)
        assert (verdict != case["equal"]) == ("math-verify" in case["wrong"]), case


# Algebra, and the child process that does it.


@pytest.fixture
def forgotten():
    """No remembered answers: what is asked reaches a child, whichever there is."""
    symbolic._reply_to.cache_clear()


@pytest.fixture
def fresh_child():
    """No child and no remembered answers before and after."""
    stop_child()
    yield
    stop_child()


def stop_child():
    symbolic._reply_to.cache_clear()
    symbolic._end_at_exit()


def test_algebra_is_asked_only_where_it_is_needed(monkeypatch):
    def fail(*arguments):
        raise AssertionError(arguments)

    monkeypatch.setattr(expressions, "same_expressions", fail)
    for predicted, expected in [
        ("72", "71"), ("1,000", "1000"), ("12 apples", "13"), ("Paris", "London"), ("6 * 12", "72"), ("x", "5"),
        ("x + 1 = 5", "4"), ("A", "B"), ("the answer", "x + 1"), (r"\frac{1}{2}", "0.5"), ("(1, 2)", "(2, 1)"),
        ("9^{9^{9^9}}", "x"), ("x^{12345}", "x^{12346}"), ("x" * 201, "x^2"), ("(6 * 12)^1", "x"), (r"\input{a}", "x"),
    ]:  # fmt: skip
        answers_match(predicted, expected)


def calls_in(function, *arguments):
    """How many functions are called, Python's own among them."""
    calls = []
    sys.setprofile(lambda frame, event, argument: calls.append(event) if event in ("call", "c_call") else None)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return len(calls)


def test_a_comparison_without_algebra_is_fast():
    for predicted, expected in [("72", "71"), ("$1,000.50", "1000.5"), ("12 apples", "12"), (r"\frac{1}{2}", "0.5")]:
        answers_match(predicted, expected)
        assert calls_in(answers_match, predicted, expected) < 250  # 80 to 130, some 20 microseconds


def test_without_math_verify_algebra_is_not_equal(monkeypatch, fresh_child):
    monkeypatch.setattr(symbolic.importlib.util, "find_spec", lambda name: None)
    assert not answers_match("x + 1", "1 + x") and symbolic._child is None
    assert answers_match("(1, 2)", "(1.0, 4/2)") and answers_match(r"\{1, 2\}", r"\{2, 1\}")


@needs_math_verify
def test_algebra_works_from_any_thread(fresh_child):
    verdicts = {}

    def judge(number):
        verdicts[number] = answers_match(f"x + {number}", f"{number} + x"), answers_match(f"x + {number}", "x - 1")

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == dict.fromkeys(range(8), (True, False))


@needs_math_verify
@pytest.mark.parametrize("power", ["9^{9^{9^9}}", "10^{100000000}", "2^{2^{40}}"])
def test_an_endless_comparison_is_ended_and_the_child_stays(power, forgotten, monkeypatch):
    assert symbolic.same_expressions(("x+1",), ("1+x",))
    child, before = symbolic._child, symbolic.ran_out()
    monkeypatch.setattr(symbolic, "SECONDS", 0.3)
    assert not symbolic.same_expressions((power,), ("1",)) and symbolic.ran_out() == before + 1
    assert not symbolic.same_expressions((power,), ("1",)) and symbolic.ran_out() == before + 2  # known, and counted again
    monkeypatch.undo()
    assert symbolic.same_expressions(("x+2",), ("2+x",)) and not symbolic.same_expressions(("x+2",), ("2-x",))
    assert symbolic._child is child and symbolic.ran_out() == before + 2


@needs_math_verify
def test_what_ran_out_is_said(forgotten, monkeypatch, capsys):
    with symbolic.saying_what_ran_out():
        assert symbolic.same_expressions(("x+1",), ("1+x",))
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(symbolic, "SECONDS", 0.3)
    with symbolic.saying_what_ran_out():
        for number in (1, 2):
            assert not symbolic.same_expressions(("9^{9^{9^9}}",), (str(number),))
    assert capsys.readouterr().out.startswith("Note: 2 comparisons of answers needed over 0.3 s of algebra")
    monkeypatch.setattr(symbolic, "_reply_to", lambda question: "ran out")
    assert reward_func([r"\boxed{x + 1}"], ["1 + x"]) == [0.0]
    assert "Note: 1 comparison " in capsys.readouterr().out


@needs_math_verify
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no such signal on this system")
def test_a_busy_machine_changes_no_verdict(forgotten, monkeypatch):
    assert answers_match("x + 1", "1 + x")
    monkeypatch.setattr(symbolic, "SECONDS", 0.5)
    child, before = symbolic._child, symbolic.ran_out()
    os.kill(child.pid, signal.SIGSTOP)  # it gets no processor at all for longer than its limit
    timer = threading.Timer(1.0, os.kill, (child.pid, signal.SIGCONT))
    timer.start()
    assert answers_match("x + 2", "2 + x") and symbolic._child is child and symbolic.ran_out() == before
    timer.join()


@needs_math_verify
def test_a_child_that_died_is_replaced(forgotten):
    assert answers_match("x + 1", "1 + x")
    symbolic._child.kill()
    assert answers_match("x + 2", "2 + x")


@needs_math_verify
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no such signal on this system")
def test_a_child_that_hangs_is_replaced_and_asked_again(forgotten, monkeypatch):
    assert answers_match("x + 1", "1 + x")
    hung = symbolic._child
    os.kill(hung.pid, signal.SIGSTOP)
    ask = symbolic._ask
    monkeypatch.setattr(symbolic, "_ask", lambda child, *rest: ask(child, rest[0], 0.5 if child is hung else rest[1]))
    assert answers_match("x + 2", "2 + x") and hung.poll() is not None
    assert answers_match("x + 3", "3 + x")


@needs_math_verify
def test_the_lack_of_a_reply_is_not_kept(monkeypatch, fresh_child):
    monkeypatch.setattr(symbolic, "_starts_left", 3)
    with monkeypatch.context() as busy:
        busy.setattr(symbolic, "_ask", lambda child, question, limit: "")
        assert not answers_match("x + 1", "1 + x")
    assert answers_match("x + 1", "1 + x")


NO_FORK = "import os, runpy, sys; del os.fork; runpy.run_path(sys.argv[1], run_name='__main__')"


@needs_math_verify
def test_where_processes_cannot_fork_the_child_ends_itself():
    questions = [[["x+1"], ["1+x"], True, 9], [["x"], ["y"], True, 9], [[r"x^{9999999}"], ["(x+1)^{9999999}"], True, 0.3]]
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    command = [sys.executable, "-P", "-c", NO_FORK, symbolic.__file__]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=300)
    assert done.stdout.split("\n") == ["equal", "different", "ran out", ""]


class Interrupted:
    """A pipe that is interrupted (Ctrl-C) before the reply is read."""

    def readline(self):
        raise KeyboardInterrupt

    def close(self):
        pass


@needs_math_verify
def test_an_interrupted_question_leaves_no_reply_to_the_next(forgotten):
    assert answers_match("x + 1", "1 + x")
    symbolic._child.stdout = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        answers_match("x + 1", "x + 2")
    assert answers_match("x + 3", "3 + x") and not answers_match("x + 3", "4 + x")


@needs_math_verify
def test_a_child_that_does_not_start_is_given_up(monkeypatch, fresh_child):
    monkeypatch.setattr(symbolic, "_starts_left", 3)
    monkeypatch.setattr(symbolic.sys, "executable", "/no/such/python")
    with pytest.warns(UserWarning, match="does not start"):
        assert not any(answers_match(f"x + {number}", f"{number} + x") for number in range(9))
    assert symbolic._starts_left == 0


SCRIPT = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("symbolic", sys.argv[1])
symbolic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(symbolic)
assert symbolic.same_expressions(("x+1",), ("1+x",))
print(symbolic._child.pid, flush=True)
"""


def run_script(more):
    return subprocess.Popen([sys.executable, "-c", SCRIPT + more, symbolic.__file__], stdout=subprocess.PIPE, text=True)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().split()[2] != "Z"


@needs_math_verify
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("more", ["", "raise SystemExit(3)", "import signal; os.kill(os.getpid(), signal.SIGKILL)"])
def test_no_process_is_left_behind(more):
    with run_script(more) as script:
        pid = int(script.stdout.readline())
    deadline = time.monotonic() + 60
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


@needs_math_verify
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_a_child_of_its_own():
    more = """
parents_child = symbolic._child.pid
fork = os.fork()
for number in range(40):
    assert symbolic.same_expressions((f"x+{number}",), (f"{number}+x",))
    assert not symbolic.same_expressions((f"x+{number}",), (f"{number}-x",))
if fork == 0:
    assert symbolic._child.pid != parents_child
    symbolic._end_at_exit()
    os._exit(0)
assert os.waitpid(fork, 0)[1] == 0
print("done")
"""
    with run_script(more) as script:
        assert script.stdout.read().endswith("done\n")


def test_the_guard_of_the_child_has_limits():
    assert symbolic._reply(["no question"]) == "different"
    assert symbolic.same_expressions((), ("x",)) is False
