"""The recordings of lesson 08: equal questions and samples for all arms, pairs, the filters, and that they go on."""

import json
import random
from collections import Counter

import pytest
import torch

from factory.recordings import expert_iteration, filtered_rows, online_pairs, practice_rounds, self_judged
from factory.recordings.practice_rounds import (
    QUESTIONS,
    ROUNDS,
    SAMPLES,
    TRAINED,
    best_rate,
    pairs_of,
    questions,
    record_arms,
    start,
)
from helper import answers_match, extract_boxed

ROW = {"prompt": [{"role": "user", "content": "q"}], "ground_truth": "7"}


# ---------------------------------------------------------------- what all of them share


def test_a_seed_draws_different_questions_and_none_that_chooses_a_rate():
    drawn = [row["prompt"][0]["content"] for asked in questions(1) for row in asked]
    kept = {row["prompt"][0]["content"] for row in start()[2][TRAINED:]}
    assert len(set(drawn)) == ROUNDS * QUESTIONS and not kept & set(drawn)
    assert questions(1) == questions(1) != questions(2)


def test_a_pair_is_the_first_right_and_the_first_wrong_answer():
    groups = [["a", "b", "c", "d"], ["e", "f"], ["g", "h"]]
    rows = pairs_of([ROW] * 3, groups, [[0.0, 0.0, 1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("c", "a")]
    assert rows[0]["prompt"] == ROW["prompt"]


def test_each_arm_is_tuned_and_run_once_and_a_stopped_record_goes_on(tmp_path, monkeypatch):
    made, path = [], tmp_path / "record.json"
    monkeypatch.setattr(practice_rounds, "start", lambda: (None, None, None))
    monkeypatch.setattr(practice_rounds, "validation", lambda rate: -abs(rate - 2))

    def run(arm, rate, seed, rounds):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append((arm, rate, seed, rounds))
        return rate, {"samples": rounds}

    arms = {"a": (1, 2), "b": (3,), "c": "a"}
    arguments = ("some", [0, 1], path, arms, {"x": 1}, run, lambda model, about: {"suite": "01"})
    with pytest.raises(KeyboardInterrupt):
        record_arms(*arguments)
    first, made[:] = list(made), []
    record = record_arms(*arguments, extra=lambda: 5)
    assert first + made == [
        ("a", 1, 9, 1), ("a", 2, 9, 1), ("a", 2, 0, 3), ("b", 3, 0, 3), ("c", 2, 0, 3), ("a", 2, 1, 3), ("b", 3, 1, 3),
        ("c", 2, 1, 3),
    ]  # fmt: skip
    assert record["before"] == {"suite": "01"} and record["extra"] == 5 and best_rate(record, "b") == 3
    assert json.loads(path.read_text())["runs"] == record["runs"] and record["runs"][0]["samples"] == 3


# ---------------------------------------------------------------- rounds


def test_all_arms_have_equally_many_samples():
    steps = ROUNDS * expert_iteration.STEPS
    assert (
        steps * expert_iteration.LOOP["prompts_per_step"] * expert_iteration.LOOP["group_size"]
        == ROUNDS * QUESTIONS * SAMPLES
    )
    assert set(expert_iteration.REWARDS) < set(expert_iteration.ARMS)


def test_a_watched_round_closes_when_its_steps_are_done(monkeypatch):
    batch = type("Batch", (), {"texts": [r"\boxed{7}", r"\boxed{8}"]})
    monkeypatch.setattr(expert_iteration, "sample_batch", lambda *_: batch)
    monkeypatch.setattr(expert_iteration, "verdicts", lambda model, suites: {"word_problems": "1"})
    stages, model = expert_iteration.Stages(ROUNDS), torch.nn.Module()
    sample, close = expert_iteration.watched_sampling(stages)
    with stages.clock:
        for step in range(2 * expert_iteration.STEPS):
            model.trained_steps = step
            assert sample(model, None, [ROW], [], 2) is batch
        close(model)
        close(model)
    told = stages.summary()
    assert (
        told["word_problems"] == "1"
        and told["samples"] == 2 * QUESTIONS * SAMPLES
        and [row["acceptance"] for row in told["stages"]] == [0.5, 0.5]
    )


def test_the_blind_choice_takes_as_many_rows_as_were_kept(monkeypatch):
    monkeypatch.setattr(expert_iteration, "kept", {})
    groups, paid = [["a", "a", "b", "c"], ["d", "e"]], [[1.0, 1.0, 0.0, 1.0], [0.0, 0.0]]
    right = expert_iteration.checked([ROW] * 2, groups, paid, seed=3, number=0)
    assert [row["chosen"][0]["content"] for row in right] == ["a", "c"] and expert_iteration.kept == {3: [2]}
    chosen = [row["chosen"][0]["content"] for row in expert_iteration.blind([ROW] * 2, groups, 3, 0)]
    assert len(set(chosen)) == 2 and set(chosen) <= set("abcde")
    expert_iteration.checked([ROW], [["f"]], [[1.0]], seed=3, number=1)
    assert expert_iteration.kept == {3: [2, 1]}
    with pytest.raises(ValueError, match="record them together"):
        expert_iteration.rounds_of_sft("random choice", 1e-4, 3, 3)


def test_a_judge_picks_its_best_and_its_worst_and_is_counted_by_the_key():
    groups, paid = [["right", "wrong one", "wrong"], ["same", "same"]], [[1.0, 0.0, 0.0], [0.0, 0.0]]
    rows, about = self_judged.best_and_worst([ROW] * 2, groups, [[0.1, 0.9, 0.5], [1.0, 1.0]], paid)
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows] == [("wrong one", "right")]
    assert about == {"pairs": 1, "chosen_right": 0.0, "rejected_right": 1.0, "upside_down": 1.0, "words": [2.0, 1.0]}


def test_a_vote_counts_results_and_nothing_without_one():
    group = [r"\boxed{2}", r"\boxed{3}", r"so \boxed{2}", "2", r"\boxed{}"]
    assert self_judged.votes(group) == [2.0, 1.0, 2.0, 0.0, 0.0]
    assert self_judged.scores_of("own vote", None, [ROW], [group], [[0.0] * 5], 0) == [[2.0, 1.0, 2.0, 0.0, 0.0]]
    assert self_judged.scores_of("the answer key", None, [ROW], [group], [[0.0] * 5], 0) == [[0.0] * 5]
    coin = self_judged.scores_of("a coin", None, [ROW], [group], [[0.0] * 5], 0)
    assert coin == self_judged.scores_of("a coin", None, [ROW], [group], [[1.0] * 5], 0) and len(set(coin[0])) == 5


def test_reward_weighted_rows_are_any_answers_and_right_ones_more_often():
    rows = online_pairs.weighted_rows([ROW], [["right", "wrong"]], [[1.0, 0.0]], seed=1)
    drawn = Counter(row["chosen"][0]["content"] for row in rows)
    assert len(rows) == online_pairs.STEPS * online_pairs.ANSWERS_PER_STEP and set(drawn) == {"right", "wrong"}
    assert 4 < drawn["right"] / drawn["wrong"] < 14  # e^(1 / 0.5) = 7.4


def test_only_online_pairs_come_from_the_current_model(monkeypatch):
    asked = []
    monkeypatch.setattr(online_pairs, "sampled", lambda model, *_, **__: asked.append(model) or ([], []))
    online_pairs.first_samples.cache_clear()
    for arm in online_pairs.ARMS:
        for number in range(2):
            online_pairs.answers_of_round("current", arm, 0, number)
    online_pairs.first_samples.cache_clear()
    assert asked.count("current") == 1 and len(asked) == 3 and asked[1] == "current"


# ---------------------------------------------------------------- filters


@pytest.fixture(scope="module")
def rows():
    return filtered_rows.dirty_rows(0)


def test_what_was_planted_is_what_it_says(rows):
    assert Counter(row["kind"] for row in rows) == {"clean": filtered_rows.CLEAN} | dict.fromkeys(
        filtered_rows.FILTERS, filtered_rows.DIRTY
    )
    truth = {row["prompt"][0]["content"]: row["ground_truth"] for row in start()[2]}
    for row in rows:
        if row["question"] in truth:
            right = answers_match(extract_boxed(row["answer"]), truth[row["question"]])
            assert right == (row["kind"] != "wrong answers")
    assert rows == filtered_rows.dirty_rows(0) != filtered_rows.dirty_rows(1)


def test_each_filter_finds_what_it_is_for_and_little_else(rows):
    for name, found in filtered_rows.removed_alone(0).items():
        assert found[name] > 0.75 * filtered_rows.DIRTY, name
        assert sum(found.values()) - found[name] < 0.1 * filtered_rows.CLEAN, name


def test_duplicates_keep_their_first_row():
    one, other = ({"question": text, "answer": "x"} for text in ("A cat, a dog and a cow run far.", "Else."))
    near = one | {"question": "Please: A cat, a dog and a cow run far."}
    assert filtered_rows.exact_duplicates([one, other, one, near]) == {2}
    assert filtered_rows.near_duplicates([one, other, one, near]) == {3}


def test_a_wrong_sum_and_a_wrong_box_are_found():
    good = "All: 3 * 4 = 12\nLeft: 12 - 5 = 7\n\\boxed{7}"
    assert filtered_rows.adds_up("3 bags of 4, 5 gone", good)
    spoiled = filtered_rows.wrong(good, random.Random(0))
    for answer in (spoiled, good.replace("{7}", "{8}"), good.replace("= 12", "= 13"), "\\boxed{7}"):
        assert not filtered_rows.adds_up("3 bags of 4, 5 gone", answer)
    assert filtered_rows.adds_up("3 bags of 4, 5 gone", filtered_rows.rambling(good))


def test_an_arm_leaves_out_one_filter(rows):
    left = {arm: filtered_rows.counts(filtered_rows.left_by(arm, rows)) for arm in filtered_rows.ARMS}
    assert left["clean rows only"] == {"clean": filtered_rows.CLEAN} and sum(left["no filter"].values()) == len(rows)
    for name in filtered_rows.FILTERS:
        assert left[f"all but {name}"][name] == filtered_rows.DIRTY > left["all filters"].get(name, 0) * 2
