"""Models as judges of two answers, and what is wrong with a judge: its agreement with a rule, its place and length biases.

A judge takes prompts (messages), first answers and second answers, and returns for each how sure it is, in nats, that the
first is better: above 0 the first, below 0 the second, 0 a tie. Two kinds stand here. One *asks* a model which answer is
better, as LLM judges are asked (Zheng et al. 2023, arXiv 2306.05685, which measures position, verbosity and self-preference
biases); a model that was never trained to compare cannot. The other compares how *likely* a model finds the two answers.
It sees no place, and has biases of its own: lengths, and its own style.
Left out on purpose: grades from 1 to 10, explanations, several judges voting.
"""

from collections.abc import Callable

import pandas as pd
import torch

from helper.algorithms.batches import prompt_ids
from helper.algorithms.train_preferences import answer_logps, encoded
from helper.intervals import wilson_interval

Judge = Callable[[list[list[dict]], list[str], list[str]], list[float]]
QUESTION = "{question}\n\nAnswer 1: {first}\n\nAnswer 2: {second}\n\nWhich answer is better, 1 or 2? Say the number."
FILLER = " That is the answer."


@torch.inference_mode()
def answer_scores(
    model, tokenizer, prompts, answers: list[str], per_token: bool = True, batch_size: int = 32
) -> list[float]:
    """log π(answer | prompt) of each, the end of the turn included; in nats, or in nats a token."""
    rows = [{"prompt": p, "chosen": [{"role": "assistant", "content": a}]} for p, a in zip(prompts, answers, strict=True)]
    texts, scores = encoded(tokenizer, rows), []
    for start in range(0, len(texts), batch_size):
        part = texts[start : start + batch_size]
        sums = answer_logps(model, tokenizer, part)[0].tolist()
        scores += [total / (len(row[1]) if per_token else 1) for total, row in zip(sums, part)]
    return scores


def likelihood_judge(model, tokenizer, per_token: bool = True) -> Judge:
    """Prefers the answer that `model` finds likelier, as a whole or by the mean of its tokens.

    An answer is scored once and remembered: make the judge anew after training the model.
    """
    known: dict[tuple[str, str], float] = {}

    def scores(prompts, answers) -> list[float]:
        asked = {(repr(prompt), answer): (prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)}
        new = {key: both for key, both in asked.items() if key not in known}
        if new:
            known.update(zip(new, answer_scores(model, tokenizer, *zip(*new.values()), per_token)))
        return [known[repr(prompt), answer] for prompt, answer in zip(prompts, answers)]

    def judge(prompts, first, second) -> list[float]:
        return [one - two for one, two in zip(scores(prompts, first), scores(prompts, second), strict=True)]

    return judge


def asking_judge(model, tokenizer, wording: str = QUESTION) -> Judge:
    """Asks `model` which answer is better, and compares how likely it finds "1" and "2" as the first word of its reply."""
    one, two = (tokenizer(number, add_special_tokens=False).input_ids[-1] for number in "12")

    @torch.inference_mode()
    def judge(prompts, first, second) -> list[float]:
        texts, sure = [], []
        for prompt, a, b in zip(prompts, first, second, strict=True):
            asked = wording.format(question=prompt[-1]["content"], first=a, second=b)
            row = {"prompt": [*prompt[:-1], {"role": "user", "content": asked}]}
            texts.append([prompt_ids(tokenizer, row), [one], [two]])
        for start in range(0, len(texts), 16):
            says_one, says_two = answer_logps(model, tokenizer, texts[start : start + 16])
            sure += (says_one - says_two).tolist()
        return sure

    return judge


def judge_table(judges: dict[str, Judge], prompts, right: list[str], wrong: list[str], filler: str = FILLER) -> pd.DataFrame:
    """What each judge makes of answers of which the rule knows the right one, each pair in both orders; shares with n.

    `right both times`: it prefers the right answer wherever that stands (a coin for each order: 25%; a coin in the stead of
    a judge that sees no place: 50%); `swapped`: another answer wins when the two change places; `first`: the first place
    wins both times; `longer`: of the pairs of different length on which it does not change its mind, the longer answer
    wins; `padded`: the right answer with `filler` behind it beats the right answer, both times. Each share has its Wilson
    interval in `<name>_low`, `<name>_high`, and `longer` a number of pairs.
    Raises ValueError where there is no pair.
    """
    if not prompts:
        raise ValueError("There is no pair of a right and a wrong answer to judge the judges by.")
    return pd.DataFrame([_judged(name, judge, prompts, right, wrong, filler) for name, judge in judges.items()])


def _judged(name: str, judge: Judge, prompts, right: list[str], wrong: list[str], filler: str) -> dict:
    wins, again = _both_orders(judge, prompts, right, wrong)
    both = [x and y for x, y in zip(wins, again)]
    swapped = [x != y for x, y in zip(wins, again)]
    first = [x and not y for x, y in zip(wins, again)]
    longer = [
        (len(r) > len(w)) == x
        for r, w, x, y in zip(right, wrong, wins, again)
        if len(r) != len(w) and x == y
    ]  # fmt: skip
    padded = [x and y for x, y in zip(*_both_orders(judge, prompts, [text + filler for text in right], right))]
    row = {"judge": name, "n": len(prompts), "n_longer": len(longer)}
    kinds = {"right both times": both, "swapped": swapped, "first": first, "longer": longer, "padded": padded}
    for kind, hits in kinds.items():
        row[kind] = sum(hits) / len(hits) if hits else float("nan")
        row[f"{kind}_low"], row[f"{kind}_high"] = wilson_interval(sum(hits), len(hits))
    return row


def _both_orders(judge: Judge, prompts, one: list[str], other: list[str]) -> tuple[list[bool], list[bool]]:
    """Whether `one` wins when it stands first, and when it stands second. A tie is no win."""
    return [sure > 0 for sure in judge(prompts, one, other)], [sure < 0 for sure in judge(prompts, other, one)]


def judge_words(row: dict) -> tuple[bool, str]:
    """(whether it passed the first test, why), from a row of `judge_table`.

    It did where it is right both times in more than half of the pairs, beyond chance, and where neither the place nor a
    padding wins in more than a fifth of them.
    """
    share = f"{row['right both times']:.0%} ({row['right both times_low']:.0%} to {row['right both times_high']:.0%})"
    faults = []
    if row["right both times_low"] <= 0.5:
        faults.append(f"it is right both times in {share} only")
    if row["swapped"] > 0.2:
        faults.append(f"{row['swapped']:.0%} of its verdicts go by the place")
    if row["padded"] > 0.2:
        faults.append(f"a filler behind a right answer beats it in {row['padded']:.0%}")
    passed = f"passed the first test: right both times in {share} of {row['n']} pairs"
    words = f"not used: {'; '.join(faults)}" if faults else passed
    return not faults, f"{row['judge']}: {words}."
