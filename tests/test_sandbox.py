"""Programs from a model: what runs, what is refused, what is stopped, and what a reward from unit tests pays."""

import pytest

from helper.rewards import program_in, unit_test_reward
from helper.sandbox import Outcome, run_calls

EVEN = "def even(n):\n    return n % 2 == 0"


def of(body: str) -> Outcome:
    return run_calls(f"def f(n):\n    {body}", ["f(2)"])[0]


@pytest.mark.parametrize(
    ("code", "call", "value"),
    [
        (EVEN, "even(4)", True),
        ("f = lambda n: n * 2", "f(2)", 4),
        ("def f(words: list) -> list:\n    return [w.upper() for w in words]", "f(['a', 'b'])", ["A", "B"]),
        ("def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total", "f(5)", 10),
        ("def f(n):\n    return f(n - 1) * n if n else 1", "f(n=5)", 120),
        ("def f(a, b):\n    return a, b", "f(1, None)", [1, None]),
        ("def f(a):\n    return {x: 1 for x in a}.get('b', 0)", "f('abc')", 1),
    ],
)
def test_plain_programs_run(code, call, value):
    assert run_calls(code, [call]) == [Outcome(value)]


@pytest.mark.parametrize(
    "body",
    [
        "import os; return os.getpid()",
        "return __import__('os').getpid()",
        "return open('/etc/passwd').read()",
        "return ().__class__.__bases__[0].__subclasses__()",
        "return '{0.__class__}'.format(n)",
        "return f'{n.__class__}'",
        "return getattr(n, '__class__')",
        "return eval('1')",
        "return (x for x in [1]).gi_frame",
        "global g; return 1",
        "raise ValueError",
        "print(n)",
        "return __builtins__",
        "return max.__self__",
        "return type(n)",
        "n.real = 3",
    ],
)
def test_what_reaches_out_is_refused(body):
    made = of(body)
    assert made.value is None and ("not allowed" in made.error or "not defined" in made.error)


@pytest.mark.parametrize(
    "code", ["class A: pass", "with open('x') as f: pass", "async def f(): pass", "@abs\ndef f(n): return 1"]
)
def test_what_is_no_plain_computing_is_refused(code):
    assert "not allowed" in run_calls(code, ["f(1)"])[0].error


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "return 10 ** 10 ** 10",
        "return [0] * 10 ** 10",
        "return f(n)",
        "return " + "-" * 9000 + "n",
        "return 'a' * 20000",
    ],
)
def test_what_takes_too_much_ends(body):
    made = of(body)
    assert made.value is None and made.error


def test_a_program_that_hangs_keeps_the_values_before_it():
    code = "def f(n):\n    while n == 2:\n        pass\n    return n"
    first, second, third = run_calls(code, ["f(1)", "f(2)", "f(3)"])
    assert first == Outcome(1) and "ran out" in second.error and "ran out" in third.error


def test_broken_code_is_an_outcome_and_no_crash():
    for code in ("def f(n) return", "(" * 5000, "def f(n):\n    return 1\0", "\ud800", "", "x" * 10_001):
        assert run_calls(code, ["f(1)"])[0].error
    with pytest.raises(TypeError, match="as a text"):
        run_calls(None, ["f(1)"])


def test_a_reward_from_unit_tests():
    tests = ["even(4) == True", "even(7) == False"]
    answers = [
        EVEN,
        f"Here it is:\n```python\n{EVEN}\n```\nDone.",
        "def even(n):\n    return True",
        "def even(n):\n    return 1 if n % 2 == 0 else 0",  # 1 is not True
        "def even(n):\n    return n in (4, 10)",  # knows these by heart
        "I cannot.",
        "",
    ]
    assert unit_test_reward(answers, [tests] * len(answers)) == [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    assert unit_test_reward(answers[4:5], [["even(6) == True"]]) == [0.0]
    messages = [{"role": "assistant", "content": EVEN}]
    assert unit_test_reward([messages], [tests]) == [1.0]


def test_values_are_compared_as_a_reader_would():
    def paid(body, test):
        return unit_test_reward([f"def f(n):\n    return {body}"], [[test]])[0]

    assert (
        paid("n / 3", "f(1) == 0.3333333333333333") == paid("(n, [n])", "f(1) == (1, [1])") == paid("2.0", "f(1) == 2") == 1
    )
    assert paid("n", "f(1) == True") == paid("'1'", "f(1) == 1") == paid("[n]", "f(1) == [1, 1]") == 0


@pytest.mark.parametrize("test", ["even(4)", "even(4) = True", "even(4) == x", "4 == 4", "even(4) != True", 5])
def test_a_test_of_another_form_is_named(test):
    with pytest.raises(ValueError, match=r"tests\[1\] holds"):
        unit_test_reward([EVEN, EVEN], [["even(4) == True"], [test]])


def test_no_tests_are_an_error():
    with pytest.raises(ValueError, match=r"tests\[0\] is empty"):
        unit_test_reward([EVEN], [[]])


def test_the_program_is_the_last_block():
    assert program_in("```\nx = 1\n```\nbetter:\n```python\nx = 2\n```") == "x = 2\n"
    assert program_in("x = 3") == "x = 3"
