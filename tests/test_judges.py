"""Judges with known faults, planted one by one: the table names each, and lets a good judge through."""

import pytest
import torch
from torch.nn.functional import log_softmax

from helper.algorithms.judges import answer_scores, asking_judge, judge_table, judge_words, likelihood_judge

N = 40
PROMPTS = [[{"role": "user", "content": f"q {n}"}] for n in range(N)]
RIGHT = [f"right {'x' * (n % 7)}" for n in range(N)]
WRONG = [f"wrong {'x' * (n % 5)}" for n in range(N)]


def of_pairs(score):
    """A judge from a score of two answers."""
    return lambda prompts, first, second: [score(a, b) for a, b in zip(first, second, strict=True)]


def by_right(a, b):
    return ("right" in a) - ("right" in b)


GOOD = of_pairs(lambda a, b: by_right(a, b) or len(b) - len(a))
FAULTS = {
    "the place": (of_pairs(lambda a, b: 1), "verdicts go by the place"),
    "the other place": (of_pairs(lambda a, b: -1), "verdicts go by the place"),
    "length": (of_pairs(lambda a, b: len(a) - len(b)), "a filler behind a right answer"),
    "the wrong one": (of_pairs(lambda a, b: by_right(b, a)), "right both times in 0%"),
    "nothing": (of_pairs(lambda a, b: 0), "right both times in 0%"),
    "padding": (of_pairs(lambda a, b: by_right(a, b) or len(a) - len(b)), "a filler behind a right answer"),
}


def row_of(judge):
    return judge_table({"it": judge}, PROMPTS, RIGHT, WRONG).iloc[0].to_dict()


def test_a_good_judge_passes():
    row = row_of(GOOD)
    assert row["n"] == N and row["right both times"] == 1 and row["swapped"] == row["first"] == row["padded"] == 0
    good, words = judge_words(row)
    assert good and words.startswith("it: passed the first test: right both times in 100% (91% to 100%) of 40 pairs")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_and_the_judge_not_used(fault):
    judge, words = FAULTS[fault]
    good, said = judge_words(row_of(judge))
    assert not good and words in said and said.startswith("it: not used")


def test_what_the_columns_count():
    place, length = row_of(FAULTS["the place"][0]), row_of(FAULTS["length"][0])
    assert place["first"] == place["swapped"] == 1 and place["n_longer"] == 0 and place["longer_high"] == 1
    assert length["longer"] == 1 and length["padded"] == 1 and length["n_longer"] < N and length["longer_low"] > 0.8
    half = row_of(of_pairs(lambda a, b: by_right(a, b) if len(a) % 2 else 1))
    assert 0.2 < half["right both times"] < 0.9 and half["right both times_low"] < half["right both times"]
    with pytest.raises(ValueError, match="no pair"):
        judge_table({"it": GOOD}, [], [], [])


def test_scores_are_log_probabilities_by_hand(model, tokenizer):
    scores = answer_scores(model, tokenizer, PROMPTS[:3], ["one", "two three", "four"], per_token=False, batch_size=2)
    means = answer_scores(model, tokenizer, PROMPTS[:3], ["one", "two three", "four"])
    for prompt, text, score, mean in zip(PROMPTS, ["one", "two three", "four"], scores, means):
        asked = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_dict=False)
        said = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": text}], return_dict=False)
        with torch.no_grad():
            logs = log_softmax(model(torch.tensor([said])).logits[0].float(), -1)
        by_hand = sum(logs[place - 1, said[place]].item() for place in range(len(asked), len(said)))
        assert score == pytest.approx(by_hand, abs=1e-3)
        assert mean == pytest.approx(by_hand / (len(said) - len(asked)), abs=1e-3)


def test_a_likelihood_judge_sees_no_place_and_an_asking_one_is_asked(model, tokenizer):
    for judge in (likelihood_judge(model, tokenizer), likelihood_judge(model, tokenizer, per_token=False)):
        one, other = judge(PROMPTS[:4], RIGHT[:4], WRONG[:4]), judge(PROMPTS[:4], WRONG[:4], RIGHT[:4])
        assert one == pytest.approx([-sure for sure in other], abs=1e-4) and any(one)
    asking = asking_judge(model, tokenizer, "{question} {first} {second}")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "q 0 right  wrong "}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model(tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids).logits[0, -1]
    one, two = (tokenizer(number, add_special_tokens=False).input_ids[0] for number in "12")
    assert asking(PROMPTS[:1], ["right "], ["wrong "]) == pytest.approx([(logits[one] - logits[two]).item()], abs=1e-4)
