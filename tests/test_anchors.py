"""Lesson 03's anchors: how their questions are drawn, and the record of two mixes of them."""

import json
from collections import Counter

from factory.recordings import anchors
from factory.recordings.shared import RECORDED, command
from helper import load_course_dataset


def row(question, skill):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}], "skill": skill}


MANY = {"a": 40, "b": 4, "refuse": 30, "identity": 9}
ROWS = [row(f"{skill} {n % 20}", skill) for skill, many in MANY.items() for n in range(many)]


def test_anchors_are_drawn_once_of_each_skill_in_turn_and_none_about_the_name():
    drawn = anchors.anchor_questions(ROWS, 5, 12, in_turn=True)
    assert len(drawn) == len(set(drawn)) == 17
    assert Counter(question.split()[0] for question in drawn) == {"refuse": 5, "a": 8, "b": 4}
    assert [question[0] for question in drawn[5:9]] in (["a", "b"] * 2, ["b", "a"] * 2)
    by_chance = Counter(q.split()[0] for q in anchors.anchor_questions(ROWS, 5, 12, in_turn=False))
    assert by_chance["a"] > 8 and by_chance["identity"] == 0


def test_the_recorded_mixes_are_of_the_shipped_rows():
    record = json.loads((RECORDED / "03_anchors.json").read_text(encoding="utf-8"))
    assert record["mixes"] == json.loads(json.dumps(anchors.MIXES)) and record["command"] == command("anchors", [0, 1, 2])
    runs = {(run["mix"], run["seed"]) for run in record["runs"]}
    assert runs == {(mix, seed) for mix in anchors.MIXES for seed in range(3)} and len(record["runs"]) == 6
    assert len(record["before"]) == len(anchors.asked_rows())
    rows = load_course_dataset("sprout-sft").to_list()
    for run in record["runs"]:
        assert run["anchors"] == anchors.anchor_skills(anchors.anchor_questions(rows, *anchors.MIXES[run["mix"]]))
        assert all(text != record["before"][int(place)] for place, text in run["changed"].items())


def test_a_stopped_recording_goes_on_only_where_it_is_the_same(tmp_path):
    path = tmp_path / "record.json"
    assert anchors.begun(path, [0]) is None
    path.write_text(json.dumps({"command": command("anchors", [0]), "mixes": anchors.MIXES, "runs": [1]}))
    assert anchors.begun(path, [0])["runs"] == [1] and anchors.begun(path, [0, 1]) is None
    path.write_text(json.dumps({"command": command("anchors", [0]), "mixes": {}, "runs": [1]}))
    assert anchors.begun(path, [0]) is None
