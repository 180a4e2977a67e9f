"""Explorer: what reward functions pay for a completion, and why."""

from collections.abc import Callable
from functools import partial

from ipywidgets import Text, Textarea

from helper.answers import answers_match, extract_boxed
from helper.explorers.explorer import LONGEST_TEXT, Explorer, check_text, look
from helper.figures.page import View, fact_list, page, text_table
from helper.rewards import hackable_reward
from helper.trainers.identity import name_of
from helper.trainers.reward_checks import as_numbers, is_number
from helper.validation import shorten


def reward_playground(
    reward_functions: list[Callable] | dict[str, Callable], expected: str = "72", completion: str = "\\boxed{72}"
) -> Explorer:
    """Type a completion; see what every reward function pays for it, and why. A function's error is shown in words."""
    functions = reward_functions
    if not isinstance(functions, dict):
        functions = {name_of(function): function for function in reward_functions}
    controls = {
        "completion": Textarea(completion, rows=3, **look("completion", at_once=True)),
        "expected": Text(str(expected), **look("expected answer", at_once=True)),
    }
    return Explorer(controls, lambda **state: rewards_view(functions, **state))


def rewards_view(functions: dict[str, Callable], completion: str, expected: str) -> View:
    """What each reward function pays for one completion, and what it saw in the text."""
    if len(completion) > LONGEST_TEXT:
        check_text(completion)
    rows = []
    for name, function in functions.items():
        paid, wrong = _pay(function, completion, expected)
        rows.append([name, paid, wrong or _reason(name, function, completion, expected)])
    words = "; ".join(f"{name} pays {paid}: {reason}" for name, paid, reason in rows)
    facts = fact_list({"completion": completion or "(nothing)", "expected": expected})
    return View(words, page(facts, text_table(["reward function", "pays", "why"], rows)))


def _pay(function: Callable, completion: str, expected: str) -> tuple[str, str]:
    """The reward as text, and what is wrong with it (mostly nothing)."""
    try:
        paid = as_numbers(function([[{"role": "assistant", "content": completion}]], ground_truth=[expected]))
    except Exception as error:  # a student's own function may raise anything; the page says it
        return "error", f"{type(error).__name__}: {error}"
    if not isinstance(paid, list | tuple) or len(paid) != 1:
        return "?", f"it must return a list with one number per completion; it returned {paid!r:.80}"
    if not is_number(paid[0]):
        return shorten(str(paid[0]), 80), "no usable reward: nothing right is learned from it"
    return f"{float(paid[0]):g}", ""


def _reason(name: str, function: Callable, text: str, expected: str) -> str:
    """What a rule of the course found in the text; of other rules, the first line of their docstring."""
    box, boxes = extract_boxed(text), text.count(r"\boxed")
    found = r"there is no complete \boxed{}"
    if box is not None:
        equal = "equal" if answers_match(box, expected) else "not equal"
        found = f'the last box holds "{box}", {equal} to "{expected}"'
    stands = "stands" if hackable_reward([text], [expected])[0] else "does not stand"
    filled = "with something in it" if box else "and no complete one is filled"
    reasons = {
        "reward_func": found,
        "graded_reward": found,
        "boxed_format_reward": rf"{boxes} × \boxed, {filled}",
        "hackable_reward": f"the number {expected} {stands} somewhere in the text",
        "random_reward": "a coin was tossed; nobody read the text",
    }
    own = function.func if isinstance(function, partial) else function
    about = (own.__doc__ or "(its docstring is empty)").strip().splitlines()[0]
    return reasons.get(name, about)
