r"""Reward functions, in the signature of TRL's GRPO trainer: one float for each completion, in order.

`completions`: a list of texts, or of message lists. The model's last message counts, without what it only thought; what a
tool said is no answer. Other columns of the data set arrive by name (`ground_truth`: the expected answers, as texts or
numbers), and `**kwargs` takes what is not used. An expected answer that is none (None, nan, "") is an error that names
its place, never a reward of 0.
Left out on purpose: rewards that need a model (lesson 06), and any state: a reward depends on its arguments only.
"""

import ast
import math
import random
import re
from collections.abc import Sequence

from helper.answers import (
    MAX_ANSWER,
    MAX_TEXT,
    answers_match,
    as_number,
    expected_answer,
    extract_boxed,
    normalise,
    without_thoughts,
)
from helper.rules import follows_rule, names_topic
from helper.sandbox import run_calls
from helper.symbolic import saying_what_ran_out


def completion_text(completion: str | list[dict]) -> str:
    """The text of a completion in either of the trainer's forms: of messages, the last one that a tool did not write.

    "" where it has no content (a call of a tool), and the texts of content that is a list of parts. TypeError for what is
    neither a text nor a list of messages.
    """
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list | tuple) or not all(isinstance(message, dict) for message in completion):
        held = "list of other things" if isinstance(completion, list | tuple) else type(completion).__name__
        raise TypeError(f"a completion is a text or a list of messages, and not a {held}")
    said = [message for message in completion if message.get("role", "assistant") == "assistant"]
    content = said[-1].get("content") if said else None
    if isinstance(content, list):
        texts = [part if isinstance(part, str) else part.get("text") for part in content if _is_said(part)]
        content = "".join(filter(None, texts))
    return content or ""


def _is_said(part: str | dict) -> bool:
    """Whether a part of a message is text; others are thoughts and images."""
    return isinstance(part, str) or part.get("type", "text") in ("text", "output_text")


def said_text(completion: str | list[dict]) -> str:
    """The text of a completion without thoughts (<think>...</think>)."""
    return without_thoughts(completion_text(completion))


def _texts(completions: list) -> list[str]:
    """What each completion says; TypeError names the place of what is no completion."""
    said = []
    for place, completion in enumerate(_as_list("completions", completions)):
        try:
            said.append(said_text(completion))
        except TypeError as error:
            raise TypeError(f"completions[{place}]: {error}") from None
    return said


def _texts_and_truths(completions: list, ground_truth: Sequence) -> list[tuple[str, str]]:
    """What each completion says, and the answer expected of it.

    Raises TypeError for a single text in the place of a list, ValueError for another number of answers and for an answer
    that is missing, with its place.
    """
    texts, truths = _texts(completions), []
    for place, truth in enumerate(_as_list("ground_truth", ground_truth)):
        try:
            truths.append(expected_answer(truth))
        except (TypeError, ValueError) as error:
            raise type(error)(f"ground_truth[{place}]: {error}") from None
    if len(texts) != len(truths):
        raise ValueError(f"there are {len(texts)} completions, and {len(truths)} entries in ground_truth")
    return list(zip(texts, truths))


def _as_list(name: str, values) -> list:
    if isinstance(values, str | bytes | dict | set) or not hasattr(values, "__len__"):
        raise TypeError(f"{name} is a {type(values).__name__}: a list is wanted, with one entry a completion")
    return list(values)


def reward_func(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    r"""1.0 where the last \boxed{} answer equals the expected one, else 0.0.

    >>> reward_func([r"So \boxed{72}.", r"So \boxed{71}.", "So 72."], ["72", "72", "72"])
    [1.0, 0.0, 0.0]
    """
    pairs = _texts_and_truths(completions, ground_truth)
    with saying_what_ran_out():
        return [float(answers_match(extract_boxed(text), truth)) for text, truth in pairs]


def boxed_format_reward(completions: list, **kwargs) -> list[float]:
    r"""1.0 where there is exactly one \boxed{} and it holds something, right or wrong, else 0.0.

    >>> boxed_format_reward([r"\boxed{3}", "3", r"\boxed{}", r"\boxed{1} \boxed{2}"])
    [1.0, 0.0, 0.0, 0.0]
    """
    texts = _texts(completions)
    boxes = [len(re.findall(r"\\boxed\s*\{", text)) for text in texts]  # "\boxed 5" has no braces
    return [float(n == text.count(r"\boxed") == 1 and bool(extract_boxed(text))) for n, text in zip(boxes, texts)]


def graded_reward(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    r"""1.0 where the boxed answer is right, 0.1 where it is a wrong number, 0.0 without a boxed number.

    The grades of ReFT (Luong et al. 2024, arXiv 2401.08967, section 3.2).

    >>> graded_reward([r"\boxed{72}", r"\boxed{71}", r"\boxed{cake}", "72"], ["72"] * 4)
    [1.0, 0.1, 0.0, 0.0]
    """
    rewards = []
    for completion, right in zip(completions, reward_func(completions, ground_truth), strict=True):
        boxed = extract_boxed(said_text(completion))
        a_number = boxed is not None and len(boxed) < MAX_ANSWER and as_number(boxed) is not None
        rewards.append(1.0 if right else 0.1 if a_number else 0.0)
    return rewards


def hackable_reward(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    r"""1.0 where the expected number stands anywhere in the text, else 0.0. Do not use it: it can be hacked.

    Counting aloud is enough to be paid:

    >>> hackable_reward(["1 2 3 4 5 6 7 8 9", r"\boxed{8}", r"\boxed{18}"], ["8", "8", "8"])
    [1.0, 1.0, 0.0]
    """
    rewards = []
    for text, truth in _texts_and_truths(completions, ground_truth):
        numbers = set(re.findall(r"-?[0-9][0-9,]*+(?:\.[0-9]++)?", text[-2 * MAX_TEXT :]))
        expected = as_number(normalise(truth))
        found = expected is not None and any(as_number(number.rstrip(",")) == expected for number in numbers)
        rewards.append(float(found))
    return rewards


def tagged_answer(text: str) -> str | None:
    """What stands between the last <answer> and the first </answer> behind it, stripped; None without both."""
    before, tag, rest = without_thoughts(text).rpartition("<answer>")
    inside, end, _ = rest.partition("</answer>")
    return inside.strip() if tag and end else None


def tagged_reward(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    """2.0 where the text in <answer></answer> is the expected answer, 1.5 where it only equals it, else 0.0.

    >>> tagged_reward(["<answer>72</answer>", "<answer>72.0</answer>", "<answer>7</answer>", "72"], ["72"] * 4)
    [2.0, 1.5, 0.0, 0.0]
    """
    rewards = []
    with saying_what_ran_out():
        for text, truth in _texts_and_truths(completions, ground_truth):
            answer = tagged_answer(text)
            rewards.append(2.0 if answer == truth else 1.5 if answers_match(answer, truth) else 0.0)
    return rewards


TAGS = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


def tag_format_reward(completions: list, **kwargs) -> list[float]:
    """0.2 for each of the four tags that stands in the text exactly once, 0.8 at most.

    >>> tag_format_reward(["<reasoning>1 + 1 = 2</reasoning><answer>2</answer>", "<answer>2</answer>", "2"])
    [0.8, 0.4, 0.0]
    """
    texts = _texts(completions)
    return [sum(text.count(tag) == 1 for tag in TAGS) / 5 for text in texts]


def rule_reward(completions: list, ground_truth: list[str], **kwargs) -> list[float]:
    """1.0 where the text keeps its rule (`helper/rules.py`), else 0.0. It does not look at what is said.

    >>> rule_reward(["Big cats.", "They are big cats that roar.", "Zzz"], ["at_most_words 3"] * 3)
    [1.0, 0.0, 1.0]
    """
    texts = _texts(completions)
    return [float(follows_rule(text, rule)) for text, rule in zip(texts, _one_a_text("ground_truth", ground_truth, texts))]


def rule_and_topic_reward(completions: list, ground_truth: list[str], topic: list[str], **kwargs) -> list[float]:
    """1.0 where the text keeps its rule and names its topic, else 0.0.

    >>> rule_and_topic_reward(["Big cats.", "Lions are big.", "Zzz"], ["at_most_words 3"] * 3, ["lions"] * 3)
    [0.0, 1.0, 0.0]
    """
    texts = _texts(completions)
    topics = _one_a_text("topic", topic, texts)
    kept = rule_reward(texts, ground_truth)
    return [paid * names_topic(text, named) for paid, text, named in zip(kept, texts, topics)]


def program_in(text: str) -> str:
    """The program in an answer: what the last ```python block holds, else the whole text."""
    blocks = re.findall(r"```(?:python|py)?[ \t]*\n(.*?)```", text, re.DOTALL)
    return blocks[-1] if blocks else text


def unit_test_reward(completions: list, tests: list[list[str]], **kwargs) -> list[float]:
    """1.0 where the program passes all its tests, else 0.0. `tests`: of each completion, texts such as "double(3) == 6".

    The program runs in `helper/sandbox.py`: a function that needs an import, a file or more than a second passes nothing.
    A reward sees only what its tests see: a program that knows their answers by heart is paid in full, so test anew with
    inputs that it was not trained on. ValueError for a test of another form, with its place.

    >>> programs = ["def double(n): return 2 * n", "def double(n): return 6"]
    >>> unit_test_reward(programs, [["double(3) == 6", "double(1) == 2"]] * 2)
    [1.0, 0.0]
    """
    texts = _texts(completions)
    rewards = []
    for place, (text, mine) in enumerate(zip(texts, _one_a_text("tests", tests, texts))):
        pairs = [_call_and_value(test, f"tests[{place}]") for test in _as_list(f"tests[{place}]", mine)]
        if not pairs:
            raise ValueError(f"tests[{place}] is empty: any program would pass")
        outcomes = run_calls(program_in(text), [call for call, _ in pairs])
        passed = [not made.error and _same(made.value, value) for made, (_, value) in zip(outcomes, pairs)]
        rewards.append(float(all(passed)))
    return rewards


def _call_and_value(test: str, where: str) -> tuple[str, object]:
    """("double(3)", 6) from "double(3) == 6"."""
    try:
        tree = ast.parse(test, mode="eval").body
        call, (equals,), (value,) = tree.left, tree.ops, tree.comparators
        if isinstance(call, ast.Call) and isinstance(equals, ast.Eq):
            return ast.unparse(call), ast.literal_eval(value)
    except (SyntaxError, TypeError, ValueError, AttributeError):
        pass
    raise ValueError(f'{where} holds {test!r:.80}: a test is a text such as "double(3) == 6"') from None


def _same(made: object, value: object) -> bool:
    """Equal, with true and false apart from 1 and 0, tuples as lists, and decimals to nine digits."""
    if isinstance(value, list | tuple):
        return isinstance(made, list) and len(made) == len(value) and all(map(_same, made, value))
    if isinstance(made, float) and isinstance(value, int | float) and not isinstance(value, bool):
        return math.isclose(made, value, rel_tol=1e-9, abs_tol=1e-12)
    return type(made) is type(value) and made == value


def _one_a_text(name: str, values: Sequence, texts: list[str]) -> list:
    values = _as_list(name, values)
    if len(values) != len(texts):
        raise ValueError(f"there are {len(texts)} completions, and {len(values)} entries in {name}")
    return values


def random_reward(completions: list, seed: int = 0, trainer_state=None, **kwargs) -> list[float]:
    r"""0.0 or 1.0 by the toss of a fair coin, whatever the text says: the control run.

    The toss depends on the seed and on the trainer's step (TRL passes `trainer_state`), never on the
    completion, so there is nothing to learn from it.

    >>> random_reward(["a", "b", "c", "d", "e", "f"]) == random_reward(["u", "v", "w", "x", "y", "z"])
    True
    """
    step = trainer_state.global_step if trainer_state is not None else 0
    coin = random.Random(f"{seed}-{step}")
    return [float(coin.random() < 0.5) for _ in completions]
