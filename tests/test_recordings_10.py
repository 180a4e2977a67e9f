"""The recordings of lesson 10: whose weights the answers come from, which recipes run on how many processes, three trackers.

Left out on purpose: trackio and W&B, which the course does not install. What their programs print is made up here.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from factory.recordings import lesson_10, staleness, tracking
from helper.recipes import check_recipe
from helper.recorded import load_recorded


@pytest.fixture
def sampled(monkeypatch):
    """The weight with which each step's answers were written."""
    seen = []

    def sample_batch(model, *_):
        seen.append(model.weight.item())
        return SimpleNamespace(numbers={}, mask=torch.ones(1, 2), old_logps=None)

    monkeypatch.setattr(staleness, "student", lambda: torch.nn.Linear(1, 1, bias=False))
    monkeypatch.setattr(staleness, "sample_batch", sample_batch)
    monkeypatch.setattr(staleness, "log_probabilities", lambda model, *_: torch.full((1, 2), model.weight.item()))
    return seen


def steps(age, corrected, number=7):
    """Batches of so many steps, each of which adds 1 to the weight of the model."""
    model, sample, batches = torch.nn.Linear(1, 1, bias=False), staleness.sampling_from_old(age, corrected), []
    for step in range(number):
        model.weight.data.fill_(float(step))
        batches.append(sample(model, None, [], [], 4, 8))
    return batches


def test_the_answers_come_from_the_weights_of_some_steps_ago(sampled):
    assert all(batch.numbers["apart"] == 0 and batch.old_logps is None for batch in steps(0, False))
    assert sampled == [0, 1, 2, 3, 4, 5, 6]
    sampled.clear()
    batches = steps(4, False)
    assert sampled == [0, 0, 0, 0, 0, 1, 2]
    assert [batch.numbers["apart"] for batch in batches] == [0, -1, -2, -3, -4, -4, -4]  # old less new, here weights
    assert all(batch.old_logps is None for batch in batches)


def test_corrected_answers_bring_the_probabilities_that_wrote_them(sampled):
    assert [batch.old_logps[0, 0].item() for batch in steps(2, True, 4)] == [0, 0, 0, 1]


def test_each_recipe_is_run_once_on_one_and_on_two_processes(tmp_path, monkeypatch):
    ran, path = [], tmp_path / "pairs.json"

    def run_recipe(recipe, processes, program, per_device_train_batch_size):
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((recipe, processes, program, per_device_train_batch_size))
        log = [{"loss": 1.0, "grad_norm": 2.0, "num_tokens": 3.0}]
        return SimpleNamespace(log=log, column=lambda name: [row[name] for row in log])

    monkeypatch.setattr(lesson_10, "run_recipe", run_recipe)
    with pytest.raises(KeyboardInterrupt):
        lesson_10.record_two_processes([0, 1], path)
    first, ran[:] = list(ran), [None] * 4  # past the interruption
    record = lesson_10.record_two_processes([0, 1], path)
    assert first == [("recipes/sft.yaml", 1, "", 8), ("recipes/sft.yaml", 2, "", 4), ("recipes/dpo.yaml", 1, "", 8)]
    assert ran[4:] == [
        ("recipes/dpo.yaml", 2, "", 4), ("recipes/grpo.yaml", 1, "", 32), ("recipes/grpo.yaml", 2, "", 16),
        ("recipes/grpo.yaml", 1, lesson_10.BY_ROW, 32), ("recipes/grpo.yaml", 2, lesson_10.BY_ROW, 16),
    ]  # fmt: skip
    assert record == json.loads(path.read_text("utf-8")) and record["seeds"] == [0]
    assert record["runs"][0]["loss"] == [1.0] and "reward" not in record["runs"][0]


# ---------------------------------------------------------------- trackers


LOG = [{"step": 1, "loss": 2.5, "learning_rate": 0.1}, {"step": 2, "loss": 1.5, "learning_rate": 0.0}]


def test_tensorboard_s_files_are_read_back(tmp_path):
    with SummaryWriter(str(tmp_path)) as writer:
        for row in LOG:
            for name in ("loss", "learning_rate"):
                writer.add_scalar(f"train/{name}", row[name], row["step"])
        writer.add_text("args", "seed: 0")
    points, also = tracking.read_tensorboard(tmp_path)
    assert points["train/loss"] == [(1, 2.5), (2, 1.5)] and also == ["args/text_summary"]
    assert tracking.differs(points["train/loss"], LOG, "loss") == 0
    assert 0 < tracking.differs(points["train/learning_rate"], LOG, "learning_rate") < 1e-8  # 0.1 in float32


def test_what_trackio_s_program_prints_is_read(tmp_path, monkeypatch):
    def said(program, get, what, *words):
        assert (program, get) == ("trackio", "get") and words[-5:] == ("--project", "course", "--run", "first", "--json")
        if what == "run":
            return json.dumps({"metrics": ["train/loss"], "config": {"seed": 0}})
        return json.dumps({"values": [{"step": n, "value": row[words[1][6:]]} for n, row in enumerate(LOG)]})

    monkeypatch.setattr(tracking, "said", said)
    monkeypatch.setenv("TRACKIO_DIR", "elsewhere")
    assert tracking.read_trackio(tmp_path) == ({"train/loss": [(0, 2.5), (1, 1.5)]}, ["config"])


def test_what_wandb_s_program_prints_is_read(tmp_path, monkeypatch):
    file = tmp_path / "wandb" / "offline-run-1-x" / "run-x.wandb"
    file.parent.mkdir(parents=True)
    file.touch()
    records = [{"type": "run"}, {"type": "summary"}]
    records += [
        {"type": "history", "history": {"item": {"_step": n, "train/loss": row["loss"]}}} for n, row in enumerate(LOG)
    ]
    monkeypatch.setattr(tracking, "said", lambda *words: "\n".join(map(json.dumps, records)) * (words[-1] == str(file)))
    assert tracking.read_wandb(tmp_path) == ({"train/loss": [(0, 2.5), (1, 1.5)]}, ["run", "summary"])


def test_points_that_are_missing_or_different_are_not_passed_over():
    points = [(0, 2.5), (1, 1.75), (1, 9.0)]  # the last is that of the end, which the log does not have
    assert tracking.differs(points, LOG, "loss") == 0.25
    with pytest.raises(ValueError, match="loss: 1 points were read back, and 2 steps logged"):
        tracking.differs(points[:1], LOG, "loss")


@pytest.mark.parametrize("tracker", tracking.LINES)
def test_a_tracker_s_lines_make_a_good_recipe(tracker, tmp_path):
    """Whether the tracker is installed or not: that is asked when the training begins."""
    recipe = yaml.safe_load((tracking.ROOT / tracking.RECIPE).read_text("utf-8")) | {
        "report_to": tracker,
        **tracking.LINES[tracker],
    }
    for report_to in (tracker, [tracker, "tensorboard"]):
        recipe["report_to"] = report_to
        (tmp_path / "sft.yaml").write_text(yaml.safe_dump(recipe))
        assert check_recipe(tmp_path / "sft.yaml") == recipe


def test_each_tracker_is_recorded_once(tmp_path, monkeypatch):
    ran, path = [], tmp_path / "trackers.json"
    monkeypatch.setattr(tracking, "python_with_trackers", lambda folder: "python")
    monkeypatch.setattr(tracking, "tracked_apart", lambda python, tracker: ran.append(tracker) or {"attempts": 0})
    first, second = (tracking.record_tracking([0, 1], path) for _ in range(2))
    assert ran == ["tensorboard", "trackio", "wandb"] and first == second == json.loads(path.read_text("utf-8"))
    assert first["runs"][2]["lines"]["report_to"] == "wandb" and first["seeds"] == [0]


def test_each_run_has_a_network_of_its_own_and_no_settings_of_ours(tmp_path, monkeypatch):
    def run(words, cwd, env, stdout, text, check):
        assert words[:3] == ["unshare", "--map-root-user", "--net"] and words[4:7] == ["-m", tracking.__name__, "wandb"]
        assert "WANDB_API_KEY" not in env and Path(words[-1]).is_dir()
        return SimpleNamespace(stdout='a word\n{"attempts": 0}\n')

    monkeypatch.setenv("WANDB_API_KEY", "mine")
    monkeypatch.setattr(tracking, "fresh", lambda name: tmp_path / name)
    monkeypatch.setattr(tracking.subprocess, "run", run)
    assert tracking.tracked_apart(Path("python"), "wandb") == {"attempts": 0}


def test_the_record_says_what_the_lesson_says():
    record = load_recorded("10_tracking")
    runs = {run["tracker"]: run for run in record["runs"]}
    assert set(runs) == set(tracking.LINES)
    for tracker, run in runs.items():
        assert run["lines"] == {"report_to": tracker, **tracking.LINES[tracker]}
        assert run["apart"]["loss"] == 0 and max(run["apart"].values()) < 1e-6
        assert run["attempts"]["training"] == 0 == run["attempts"]["reading, variables set"]
        assert (run["attempts"]["reading"] > 0) == (tracker == "wandb")
        assert run["own_steps"][0] == (1 if tracker == "tensorboard" else 0)
    assert {"output_raw", "environment"} <= set(runs["wandb"]["also"])
