"""Instructions that a rule checks: what keeps a rule, what does not, and rules that are none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helper import load_course_dataset, load_suite
from helper.rewards import rule_and_topic_reward, rule_reward
from helper.rules import RULES, check_rule, follows_rule, names_topic

KEPT = [
    ("A big cat that roars.", "at_most_words 5"),
    ("Lions.", "at_most_words 1"),
    ("<think>Five words, so I count them all.</think>Big cats.", "at_most_words 5"),
    ("Surely, lions roar.", "begins_with Surely"),
    ("  Surely not", "begins_with Surely"),
    ("What do lions eat?", "one_question"),
    ("Is 3.5 m long enough for a lion?", "one_question"),
    ("Lions roar. They live in prides.", "no_commas"),
    ('"Lions roar."', "in_quotes"),
    ("“Lions roar.”", "in_quotes"),
    ("<<The Lion>>", "title"),
]
BROKEN = [
    ("A very big cat that roars.", "at_most_words 5"),
    ("", "at_most_words 5"),
    ("...", "at_most_words 5"),
    ("<think>Lions", "at_most_words 5"),
    ("surely lions roar.", "begins_with Surely"),
    ("Surelyness.", "begins_with Surely"),
    ('"Surely" is the first word.', "begins_with Surely"),
    ("Lions roar.", "one_question"),
    ("What? Why?", "one_question"),
    ("Here is one. What do lions eat?", "one_question"),
    ("What do lions\neat?", "one_question"),
    ("", "no_commas"),
    ("Lions, tigers.", "no_commas"),
    ('He said "no" to it', "in_quotes"),
    ('"No" and "yes"', "in_quotes"),
    ('""', "in_quotes"),
    ("<<The Lion>> and more", "title"),
    ("<<>>", "title"),
]


@pytest.mark.parametrize(("answer", "rule"), KEPT)
def test_kept(answer, rule):
    assert follows_rule(answer, rule)


@pytest.mark.parametrize(("answer", "rule"), BROKEN)
def test_broken(answer, rule):
    assert not follows_rule(answer, rule)


@pytest.mark.parametrize(
    "rule", ["", "short", "at_most_words", "at_most_words five", "at_most_words 0", "begins_with", None, 5]
)
def test_what_is_no_rule_is_an_error(rule):
    with pytest.raises(ValueError, match="rule"):
        check_rule(rule)


def test_every_rule_is_tried_both_ways():
    for cases in (KEPT, BROKEN):
        assert {rule.split()[0] for _, rule in cases} == set(RULES)


@given(st.text(alphabet="ab, .?\n", max_size=40), st.integers(1, 9))
def test_a_text_with_fewer_words_keeps_the_limit_too(text, limit):
    if follows_rule(text, f"at_most_words {limit}"):
        assert follows_rule(text, f"at_most_words {limit + 1}")


def test_topic():
    assert names_topic("A lion!", "lions") and names_topic("Lions.", "lions") and names_topic("The moon", "the moon")
    assert names_topic("One wolf", "wolves") and names_topic("A firefighter", "firefighters")
    assert not names_topic("Stallions", "lions") and not names_topic("", "lions") and not names_topic("MAGLUSTESS", "lions")


def test_rewards_ask_for_one_rule_a_text():
    with pytest.raises(ValueError, match="2 completions, and 1 entries in ground_truth"):
        rule_reward(["a", "b"], ["no_commas"])
    with pytest.raises(ValueError, match="topic"):
        rule_and_topic_reward(["a", "b"], ["no_commas"] * 2, ["lions"])
    with pytest.raises(ValueError, match="no rule"):
        rule_reward(["a"], ["shout"])


def test_rows_that_come_with_the_course():
    trained = load_course_dataset("sprout-rules")
    for rule in trained["ground_truth"]:
        check_rule(rule)
    suites = load_suite("rules") + load_suite("unseen_rules")
    assert not {row["topic"] for row in suites} & set(trained["topic"])
    assert not {row["value"].split()[0] for row in load_suite("unseen_rules")} & {
        r.split()[0] for r in trained["ground_truth"]
    }
