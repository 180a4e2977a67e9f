import doctest
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helper import answers, evaluation, rewards
from helper.answers import equality, extraction, numbers
from helper.rewards import (
    boxed_format_reward,
    completion_text,
    graded_reward,
    hackable_reward,
    random_reward,
    reward_func,
    tag_format_reward,
    tagged_answer,
    tagged_reward,
)

RIGHT = [r"\boxed{72}", r"So it is $\boxed{72}$.", r"\boxed{1} no, \boxed{72.0}", r"\boxed{\frac{144}{2}}"]
WRONG = [
    "72",
    r"\boxed{71}",
    r"\boxed{}",
    r"\boxed{72",
    r"\boxed{72} wait, \boxed{7}",
    "",
    r"\boxed{72 or 73}",
]


@pytest.mark.parametrize("module", [rewards, answers, extraction, numbers, equality, evaluation])
def test_examples_in_docstrings(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("as_messages", [False, True])
def test_reward_func(as_messages):
    texts = RIGHT + WRONG
    completions = [[{"role": "assistant", "content": text}] for text in texts] if as_messages else texts
    got = reward_func(completions, ["72"] * len(texts), prompts=[None] * len(texts), completion_ids=[[1]] * len(texts))
    assert got == [1.0] * len(RIGHT) + [0.0] * len(WRONG)
    assert all(isinstance(value, float) for value in got)


def test_each_completion_meets_its_own_truth():
    assert reward_func([r"\boxed{1}", r"\boxed{2}"], ["2", "2"]) == [0.0, 1.0]
    assert reward_func([r"\boxed{1}"], [1]) == [1.0]  # numbers in the column will do
    with pytest.raises(ValueError):
        reward_func(["a", "b"], ["1"])


def test_other_rewards():
    assert boxed_format_reward([r"\boxed{wrong}", "72", r"\boxed{", r"\boxed{1}\boxed{2}"]) == [
        1.0,
        0.0,
        0.0,
        0.0,
    ]
    graded = [r"\boxed{72}", r"\boxed{1,000}", r"\boxed{?}", "72", r"\boxed{" + "1" * 500 + "}"]
    assert graded_reward(graded, ["72"] * 5) == [
        1.0, 0.1, 0.0, 0.0, 0.0]  # fmt: skip
    hacked = "0 1 2 3 4 5 6 7 8 9 10"
    texts = [hacked, hacked, "It is 72.", "1,000 dollars", "7 2"]
    assert hackable_reward(texts, ["8", "11", "72", "1000", "72"]) == [
        1.0, 0.0, 1.0, 1.0, 0.0]  # fmt: skip


def test_random_reward_is_a_fair_coin_that_ignores_the_text():
    def state(step):
        return SimpleNamespace(global_step=step)

    tosses = [value for step in range(100) for value in random_reward(["x"] * 20, trainer_state=state(step))]
    assert set(tosses) == {0.0, 1.0} and 0.45 < sum(tosses) / len(tosses) < 0.55
    assert random_reward(["a"] * 20, trainer_state=state(3)) == random_reward(["b"] * 20, trainer_state=state(3))
    assert random_reward(["a"] * 20, trainer_state=state(3)) != random_reward(["a"] * 20, trainer_state=state(4))
    assert random_reward(["a"] * 20, seed=0) != random_reward(["a"] * 20, seed=1)


def test_a_message_without_content_earns_nothing():
    completions = [[{"role": "assistant", "content": None}]]
    assert reward_func(completions, ["72"]) == hackable_reward(completions, ["72"]) == [0.0]


def test_hackable_reward_reads_a_megabyte_of_different_numbers_in_linear_time():
    def seconds(end):
        text = " ".join(map(str, range(100_000, end)))
        times = []
        for _ in range(3):
            start = time.process_time()
            assert hackable_reward([text], [str(end - 1)]) == [1.0] and hackable_reward([text], ["8"]) == [0.0]
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(260_000) < 24 * seconds(120_000)  # 8 times the numbers; in quadratic time it would be 64


GOOD = "<reasoning>\nEggs: 6 * 12 = 72\n</reasoning>\n<answer>72</answer>"


@pytest.mark.parametrize(
    ("text", "answer", "correct", "form"),
    [
        (GOOD, "72", 2.0, 0.8),
        (GOOD + " More text.", "72", 2.0, 0.8),
        (GOOD * 2, "72", 2.0, 0.0),
        ("<answer> 72 </answer>", "72", 2.0, 0.4),
        ("<answer>72.0</answer>", "72.0", 1.5, 0.4),
        ("<answer>7</answer><answer>72</answer>", "72", 2.0, 0.0),
        ("<answer>72</answer><answer>7</answer>", "7", 0.0, 0.0),
        ("<answer>72", None, 0.0, 0.2),
        ("72</answer>", None, 0.0, 0.2),
        ("</answer>72<answer>", None, 0.0, 0.4),
        ("<answer></answer>", "", 0.0, 0.4),
        ("<answer>72 or 73</answer>", "72 or 73", 0.0, 0.4),
        ("72", None, 0.0, 0.0),
        ("", None, 0.0, 0.0),
    ],
)
def test_answers_in_tags(text, answer, correct, form):
    assert tagged_answer(text) == answer
    completion = [{"role": "assistant", "content": text}]
    assert tagged_reward([text, completion], ground_truth=["72", "72"]) == [correct] * 2
    assert tag_format_reward([text, completion]) == [pytest.approx(form)] * 2


WITH_TRUTH = [reward_func, graded_reward, hackable_reward, tagged_reward]
THOUGHT = [
    r"<think>maybe \boxed{72} <answer>72</answer>? let me check",
    r"<think>\boxed{72} <answer>72</answer></think> The answer is 71.",
    r"\boxed{72} <answer>72</answer> hm, no</think> 71",
    r"<thinking>\boxed{72} <answer>72</answer></thinking>",
]


@pytest.mark.parametrize("reward", WITH_TRUTH)
@pytest.mark.parametrize("text", THOUGHT)
def test_thoughts_earn_nothing(reward, text):
    assert reward([text], ["72"]) == [0.0]
    assert boxed_format_reward([text]) == tag_format_reward([text]) == [0.0]
    assert reward([text + r" </think>\boxed{72} <answer>72</answer>"], ["72"])[0] >= 1.0


def test_what_a_tool_says_earns_nothing():
    asked = {"role": "assistant", "content": None, "tool_calls": [{"name": "calculator"}]}
    tool, said = {"role": "tool", "content": r"\boxed{72}"}, {"role": "assistant", "content": r"\boxed{72}"}
    assert reward_func([[asked, tool], [tool], []], ["72"] * 3) == [0.0] * 3
    assert reward_func([[asked, tool, said], [said, tool]], ["72"] * 2) == [1.0] * 2


def test_content_in_parts_is_read():
    parts = [{"type": "text", "text": r"So \boxed"}, {"type": "text", "text": "{72}"}, {"type": "thinking", "text": "1"}]
    assert reward_func([[{"role": "assistant", "content": parts}]], ["72"]) == [1.0]
    assert completion_text([{"role": "assistant"}]) == completion_text([{"role": "assistant", "content": []}]) == ""
    assert completion_text([{"content": "a"}, {"role": "user", "content": "b"}]) == "a"


@pytest.mark.parametrize("reward", WITH_TRUTH)
@pytest.mark.parametrize("truth", [None, float("nan"), "", "None", "nan", ["72"], "x " * 200, "$$", r"So \boxed{}."])
def test_an_expected_answer_that_is_none_is_named(reward, truth):
    with pytest.raises((ValueError, TypeError), match=r"ground_truth\[1\]: "):
        reward([r"\boxed{72}", r"\boxed{None} <answer>None</answer>"], ["72", truth])


@pytest.mark.parametrize("reward", [*WITH_TRUTH, boxed_format_reward, tag_format_reward])
@pytest.mark.parametrize(
    ("completion", "held"),
    [
        (None, "NoneType"), (5, "int"), (b"72", "bytes"), ({"role": "assistant", "content": "72"}, "dict"),
        (["72"], "list of other things"), ([None], "list of other things"),
    ],
)  # fmt: skip
def test_what_is_no_completion_is_named_with_its_place(reward, completion, held):
    words = "a completion is a text or a list of messages, and not a "
    with pytest.raises(TypeError, match=rf"^completions\[1\]: {words}{held}$"):
        reward([r"\boxed{72}", completion], ground_truth=["72", "72"])
    with pytest.raises(TypeError, match=f"^{words}{held}$"):
        completion_text(completion)


@pytest.mark.parametrize(
    ("text", "right", "form"),
    [
        (r"So $\boxed 72$.", 1.0, 0.0), (r"So \fbox{72}.", 1.0, 0.0), (r"\boxed {72}", 1.0, 1.0),
        (r"\boxed{7.2e1}", 1.0, 1.0),
        (r"\boxed{72} in \boxed form", 1.0, 0.0), (r"\fbox{72} \boxed{7", 0.0, 0.0), (r"\fbox{7} \boxed{72}", 1.0, 1.0),
    ],
)  # fmt: skip
def test_a_box_without_braces_may_be_right_and_has_not_the_form(text, right, form):
    assert reward_func([text], ["72"]) == graded_reward([text], ["72"]) == [right] and boxed_format_reward([text]) == [form]


@pytest.mark.parametrize("reward", WITH_TRUTH)
def test_a_text_is_no_list(reward):
    with pytest.raises(TypeError, match="ground_truth is a str: a list is wanted"):
        reward([r"\boxed{7}", r"\boxed{2}"], "72")
    with pytest.raises(TypeError, match="completions is a str: a list is wanted"):
        reward("72", ["7", "2"])
    with pytest.raises(ValueError, match="2 completions, and 1 entries"):
        reward(["7", "2"], ["7"])
    with pytest.raises(TypeError, match="completions is a str"):
        boxed_format_reward(r"\boxed{7}")


def test_golds_may_be_whole_solutions_and_numbers_of_any_kind():
    texts = [r"\boxed{72}"] * 6
    truths = ["6 * 12\n#### 72", r"So $\boxed{72}$.", "The answer is 72.", 72, 72.0, np.int64(72)]
    assert reward_func(texts, truths) == [1.0] * 6
    assert reward_func(texts, np.array([72, 71, 72, 72, 72, 72])) == [1.0, 0.0, 1.0, 1.0, 1.0, 1.0]
    assert reward_func(texts[:2], torch.tensor([72, 71])) == [1.0, 0.0]
