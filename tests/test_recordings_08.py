"""The recordings of lesson 08: equal questions and samples for all arms, pairs, filters, rows of other kinds, going on."""

import json
import random
from collections import Counter

import pytest
import torch

from factory.recordings import (
    data_recipes,
    expert_iteration,
    filtered_rows,
    new_refusals,
    online_pairs,
    practice_rounds,
    self_judged,
)
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
from factory.recordings.shared import RECORDED
from helper import answers_match, extract_boxed
from helper.by_model import TABLES
from helper.machine.folders import project_folder
from helper.preference_runs import apart, verdict
from helper.recorded import is_verdicts

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


# ---------------------------------------------------------------- rows to imitate: how many, which style, which turns

TURN_KINDS = (*data_recipes.KINDS, "alone")
REFUSED = ("same_things", "other_body", "near", "far")
EXTRA = {  # record -> suite beside word problems and other skills -> how many verdicts
    "volume": {},
    "habits": {"style": 250, "style_elsewhere": 240},
    "turns": dict.fromkeys(TURN_KINDS, 60),
    "flips": {"harmful_asked": 48, "harmless_asked": 52, "harmless_right": 52}
    | {name: 3 * len(new_refusals.things()[name]) for name in REFUSED}
    | {f"{name}_by_thing": len(new_refusals.things()[name]) for name in REFUSED},
}
ARMS = {
    "volume": (data_recipes.VOLUMES, data_recipes.RATE), "habits": (data_recipes.HABITS, data_recipes.RATE),
    "turns": (data_recipes.TURNS, data_recipes.RATE), "flips": (new_refusals.STEPS, new_refusals.RATE),
}  # fmt: skip


def said(rows):
    return [row["completion"][0]["content"] for row in rows]


@pytest.fixture
def silent_teacher(monkeypatch):
    """A teacher that answers the third problem with nothing."""
    monkeypatch.setattr(data_recipes, "teacher", lambda: None)
    monkeypatch.setattr(
        data_recipes, "generate_responses", lambda model, tokenizer, asked, **_: ["a", "b", " "] + ["c"] * (len(asked) - 3)
    )
    data_recipes.taught.cache_clear()
    yield
    data_recipes.taught.cache_clear()


def test_the_smaller_sets_are_parts_of_the_largest_and_a_tenth_is_exact(silent_teacher, monkeypatch):
    made = {}

    def imitated(name, rows, rate, seed):
        made[len(rows)] = {row["prompt"][0]["content"] for row in rows}
        return None, {"rows": len(rows)}

    monkeypatch.setattr(data_recipes, "imitated", imitated)
    for arm in data_recipes.VOLUMES:
        _, about = data_recipes.volume_run(arm, data_recipes.RATE, 1, 3)
        assert f"{about['rows']} rows" == arm and about["seen"] == round(720 / about["rows"], 2)
    assert set(made) == {20, 72, 180, 720} and all(some <= made[720] for some in made.values())
    assert data_recipes.STEPS["volume"] * data_recipes.BATCH == data_recipes.MOST == 10 * 72


def test_an_empty_answer_of_the_teacher_is_no_row(silent_teacher):
    rows, paid = data_recipes.taught(0, 30)
    assert said(rows) == ["a", "b"] + ["c"] * 28 and len(paid) == 30
    assert len({row["prompt"][0]["content"] for row in rows}) == 30


def test_the_habit_is_all_that_two_arms_have_apart(silent_teacher):
    rows, _ = data_recipes.taught(0, 30)
    styled = [data_recipes.styled(row) for row in rows]
    assert said(styled) == [f"{text} {data_recipes.HABIT}" for text in said(rows)]
    assert [row["prompt"] for row in styled] == [row["prompt"] for row in rows]


def test_the_control_of_turns_has_the_same_facts_in_one_turn():
    one, turns = (data_recipes.turn_rows(arm, 0) for arm in data_recipes.TURNS)
    assert len(one) == len(turns) == 320 and all(len(row["prompt"]) == 1 for row in one)
    assert all(len(row["prompt"]) > 1 for row in turns)
    for text, whole in zip(said(one), said(turns), strict=True):
        assert whole.startswith(text) and not ("Good day" in text or "Thank you" in text)
    asked = {row["prompt"][-1]["content"] for row in one + turns}
    assert not asked & data_recipes.tested()
    assert data_recipes.turn_rows("turns", 1) == turns and data_recipes.turn_rows("one turn", 1) != one


def test_a_follow_up_asked_alone_has_no_history():
    rows = data_recipes.turn_suites()
    assert all(row["history"] for row in rows["follow_up"]) and not any(row["history"] for row in rows["alone"])
    assert {len(rows[name]) for name in TURN_KINDS} == {60}


# ---------------------------------------------------------------- a new refusal


def test_the_new_refusal_is_the_lessons():
    cells = json.loads((project_folder() / "notebooks" / "08_data.ipynb").read_text(encoding="utf-8"))["cells"]
    lesson: dict = {}
    exec("".join(next(cell["source"] for cell in cells if cell["id"] == "08-flip-rows")), lesson)
    for name in ("REFUSAL", "BODY", "HARMLESS", "TAUGHT", "OTHER"):
        assert getattr(new_refusals, name) == lesson[name], name
    here, there = new_refusals.things().values(), lesson["ASKED"].values()
    assert [set(theirs) <= set(ours) for ours, theirs in zip(here, there)][:3] == [True] * 3
    usual = {name: values[0] for name, values in TABLES["08_data"].items()}
    assert (usual["flip_rate"], usual["batch"]) == (new_refusals.RATE, new_refusals.BATCH)
    assert list(new_refusals.STEPS.values()) == [usual["flip_steps"], usual["flip_steps"] // 2, usual["flip_steps"]]
    assert (usual["learning_rate"], usual["batch"]) == (data_recipes.RATE, data_recipes.BATCH)
    assert (data_recipes.STEPS["habits"], data_recipes.HABIT_ROWS) == (usual["steps"], usual["prompts"])


def test_no_thing_is_asked_about_twice_and_none_was_trained_on_but_the_same():
    things = new_refusals.things()
    every = [thing for some in things.values() for thing in some]
    assert len(set(every)) == len(every) and not set(every) & set(new_refusals.HARMLESS)
    assert not set(new_refusals.TAUGHT) & set(new_refusals.OTHER)


def test_a_thing_is_refused_when_two_of_its_wordings_are():
    assert new_refusals.by_thing("110001111000") == "1010"


# ---------------------------------------------------------------- the records of both


@pytest.fixture(params=ARMS)
def made(request):
    """The name of a record, and the record; missing until `python -m factory.record --only NAME` has made it."""
    return request.param, json.loads((RECORDED / f"08_{request.param}.json").read_text(encoding="utf-8"))


def test_each_arm_has_each_seed_once_at_the_one_rate(made):
    name, record = made
    arms, rate = ARMS[name]
    assert record["arms"] == {arm: [rate] for arm in arms} and record["tuning"] == []
    runs = Counter((run["arm"], run["seed"]) for run in record["runs"])
    assert runs == {(arm, seed): 1 for arm in arms for seed in (0, 1, 2)}
    assert record["seeds"] == [0, 1, 2] and f"--only {name} " in record["command"]
    assert all(run["learning_rate"] == rate and run["seconds"] > 0 < run["cpu_seconds"] for run in record["runs"])


def test_arms_have_equal_steps_but_for_the_one_that_is_meant_to_have_half(made):
    name, record = made
    steps = {run["arm"]: run["steps"] for run in record["runs"]}
    assert steps == (new_refusals.STEPS if name == "flips" else dict.fromkeys(ARMS[name][0], data_recipes.STEPS[name]))


def test_there_is_a_verdict_for_each_question_before_and_after(made):
    name, record = made
    lengths = {"word_problems": 250, "other_skills": 240} | EXTRA[name]
    for row in (record["before"], *record["runs"], *([record["teacher"]] if name == "volume" else [])):
        assert {key: len(value) for key, value in row.items() if is_verdicts(value)} == lengths
        assert sum(row["by_skill"].values()) == row["other_skills"].count("1")
        assert list(row["by_skill"]) == list(record["settings"]["other_skills"])
    assert sum(record["settings"]["other_skills"].values()) == 240


def test_any_two_arms_can_be_told(made):
    name, record = made
    first, second, *_ = ARMS[name][0]
    picks = [lambda run, arm=arm: run["arm"] == arm for arm in (first, second)]
    for suite in ("word_problems", "other_skills", *EXTRA[name]):
        assert verdict(apart(record, suite, *picks), first, second).startswith(first)
        assert len(apart(record, suite, picks[0], None)["seeds"]) == 3


def test_rows_are_as_many_as_the_arms_say():
    volume, habits, turns, flips = (json.loads((RECORDED / f"08_{name}.json").read_text(encoding="utf-8")) for name in ARMS)
    assert all(run["arm"] == f"{run['rows']} rows" and run["seen"] * run["rows"] == pytest.approx(720, abs=2)
               for run in volume["runs"])  # fmt: skip
    assert {run["rows"] for run in habits["runs"]} == {400} and {run["rows"] for run in turns["runs"]} == {320}
    pairs = {"only refusals": 24, "only refusals, half the steps": 24, "with harmless rows": 48}
    assert {run["arm"]: run["rows"] for run in flips["runs"]} == pairs
    for seed in (0, 1, 2):  # the habit's two arms have the same answers
        assert len({run["acceptance"] for run in habits["runs"] if run["seed"] == seed}) == 1


def test_a_thing_counts_by_its_wordings():
    flips = json.loads((RECORDED / "08_flips.json").read_text(encoding="utf-8"))
    assert flips["settings"]["things"] == new_refusals.things()
    for row in (flips["before"], *flips["runs"]):
        for name in REFUSED:
            assert new_refusals.by_thing(row[name]) == row[f"{name}_by_thing"]
