import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from tiny_trainers import KINDS, result, save_tiny_model, tiny_rows, tiny_trainer
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTTrainer

from helper.trainers.checkpoints import (
    UNFINISHED,
    WHOLE,
    checkpoint_settings,
    last_whole_checkpoint,
    resume_training,
    run_description,
)
from helper.trainers.interrupts import LOCK, TrainingStopped, run_lock
from helper.trainers.live import LiveLog


class AtStep(TrainerCallback):
    """Calls a function at the end of one step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.what()


def interrupt():
    raise KeyboardInterrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def make(kind, tiny, folder, what=None, step=3, **changes):
    if kind == "grpo":
        changes = {"rows": tiny_rows(kind)[:3], **changes}  # an epoch of three steps
    trainer = tiny_trainer(kind, tiny, folder, **changes)
    if what:
        trainer.add_callback(AtStep(step, what))
    return trainer


def train(trainer, **kwargs):
    """Whether it reached its end."""
    try:
        resume_training(trainer, **kwargs)
        return True
    except TrainingStopped as stopped:
        print(stopped)
        return False


def names(folder):
    return sorted(path.name for path in Path(folder).glob("checkpoint-*"))


def left(folder):
    """What a run leaves in its folder, beside TRL's model card."""
    return [path.name for path in Path(folder).iterdir() if path.name != "README.md"]


def uninterrupted(kind, tiny, folder, **changes):
    trainer = make(kind, tiny, folder, **changes)
    trainer.train()
    return result(trainer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [3, 5])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(kind, step, tiny, tmp_path, capsys):
    expected = uninterrupted(kind, tiny, tmp_path / "whole")
    folder = tmp_path / "run"
    stopped = make(kind, tiny, folder, interrupt, step)
    capsys.readouterr()
    assert train(stopped) is False
    printed = capsys.readouterr().out
    assert f"No checkpoint yet in {folder}: starting at step 0" in printed
    assert f"Interrupted after step {step} of 6. The model is back at step {step - 1}" in printed
    assert not stopped.model.training and all(p.grad is None for p in stopped.model.parameters())
    saved = AutoModelForCausalLM.from_pretrained(folder / f"checkpoint-{step - 1}")
    for ours, theirs in zip(stopped.model.parameters(), saved.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    torch.rand(7)  # other random numbers, as in another process
    resumed = make(kind, tiny, folder)
    assert train(resumed) is True
    assert f"Going on from checkpoint-{step - 1}, step {step - 1} of 6." in capsys.readouterr().out
    assert result(resumed) == expected and len(expected["losses"]) == 6
    assert left(folder) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_trainer_goes_on_too(kind, tiny, tmp_path):
    expected = uninterrupted(kind, tiny, tmp_path / "whole")
    trainer = make(kind, tiny, tmp_path / "run", interrupt)
    train(trainer)
    trainer.remove_callback(AtStep)
    assert train(trainer) and result(trainer) == expected
    live = next(c for c in trainer.callback_handler.callbacks if isinstance(c, LiveLog))
    assert live.table()["step"].tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16_a_new_trainer_of_the_same_model_goes_on_too(kind, tiny, tmp_path):
    expected = uninterrupted(kind, tiny, tmp_path / "whole", bf16=True)
    stopped = make(kind, tiny, tmp_path / "run", interrupt, bf16=True)
    assert not train(stopped)
    again = type(stopped)(**same_arguments(stopped))  # the lesson's cell, run again
    assert train(again) and result(again) == expected


def same_arguments(trainer):
    rewards = {"reward_funcs": trainer.reward_funcs} if hasattr(trainer, "reward_funcs") else {}
    kind = next(kind for kind in KINDS if kind in type(trainer).__name__.lower())
    rows = Dataset.from_list(tiny_rows(kind)[:3] if kind == "grpo" else tiny_rows(kind))
    return {"model": trainer.model, "args": trainer.args, "train_dataset": rows, **rewards} | {
        "processing_class": trainer.processing_class
    }


def test_ctrl_c_ends_the_step_and_saves(tiny, tmp_path, capsys):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    before = signal.getsignal(signal.SIGINT)
    trainer = make("sft", tiny, tmp_path / "run", press_ctrl_c)
    assert train(trainer) is False
    assert signal.getsignal(signal.SIGINT) is before and not trainer.model.training
    assert "Stopped after step 3 of 6 and saved." in capsys.readouterr().out
    assert names(tmp_path / "run") == ["checkpoint-2", "checkpoint-3"]
    resumed = make("sft", tiny, tmp_path / "run")
    assert train(resumed) and result(resumed) == expected


def test_a_second_ctrl_c_stops_at_once(tiny, tmp_path, capsys):
    def press_twice():
        press_ctrl_c()
        press_ctrl_c()

    assert train(make("sft", tiny, tmp_path, press_twice)) is False
    assert "Interrupted after step 3 of 6. The model is back at step 2" in capsys.readouterr().out


def test_grpo_stops_where_its_samples_are_used_up(tiny, tmp_path):
    changes = {"num_iterations": 2, "gradient_accumulation_steps": 2, "steps_per_generation": 4, "max_steps": 9}
    changes["rows"] = tiny_rows("grpo")
    expected = uninterrupted("grpo", tiny, tmp_path / "whole", **changes)
    trainer = make("grpo", tiny, tmp_path / "run", press_ctrl_c, every=3, **changes)
    assert not train(trainer)
    assert names(tmp_path / "run") == ["checkpoint-4"]  # samples for 4 optimiser steps, wanted at 3
    resumed = make("grpo", tiny, tmp_path / "run", every=3, **changes)
    assert train(resumed) and result(resumed) == expected


def test_a_stream_goes_on_too_and_looking_into_it_takes_nothing_from_it(tiny, tmp_path):
    rows = tiny_rows("sft") * 3
    folders = {"whole": None, "run": interrupt, "resumed": None, "another": None}
    trainers = {name: make("sft", tiny, tmp_path / "run", what, rows=rows) for name, what in folders.items()}
    for trainer in trainers.values():
        trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    trainers["whole"].args.output_dir = str(tmp_path / "whole")
    trainers["whole"].train()
    assert not train(trainers["run"])
    trainers["another"].train_dataset = trainers["another"].train_dataset.skip(1)
    with pytest.raises(ValueError, match=r"contents of the data: .* \(the first 100 rows of a stream\) there"):
        resume_training(trainers["another"])
    assert train(trainers["resumed"]) and result(trainers["resumed"]) == result(trainers["whole"])


def test_a_reference_measured_at_the_start_is_that_of_the_model_as_it_was_loaded(tiny, tmp_path):
    settings = {"precompute_ref_log_probs": True}
    expected = uninterrupted("dpo", tiny, tmp_path / "whole", **settings)
    stopped = make("dpo", tiny, tmp_path / "run", interrupt, **settings)
    assert not train(stopped)
    with pytest.raises(ValueError, match=r"is of another run \(weights of the reference: "):  # measured on a trained model
        resume_training(type(stopped)(**same_arguments(stopped)))
    fresh = make("dpo", tiny, tmp_path / "run", **settings)
    again = shutil.copytree(tmp_path / "run", tmp_path / "again")
    assert train(fresh) and result(fresh) == expected
    stopped.args.output_dir = str(again)
    stopped.remove_callback(AtStep)
    assert train(stopped) and result(stopped) == expected


def make_lora(tiny, folder):
    plain = make("sft", tiny, folder, max_steps=4)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    torch.manual_seed(0)
    model, rows = AutoModelForCausalLM.from_pretrained(tiny), tiny_rows("sft")
    return SFTTrainer(
        model=model, args=plain.args, train_dataset=plain.train_dataset.from_list(rows), peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip


def test_lora_goes_on_too(tiny, tmp_path):
    whole = make_lora(tiny, tmp_path / "whole")
    whole.train()
    stopped = make_lora(tiny, tmp_path / "run")
    stopped.add_callback(AtStep(3, interrupt))
    assert not train(stopped)
    resumed = make_lora(tiny, tmp_path / "run")
    assert train(resumed) and result(resumed) == result(whole)


@pytest.mark.parametrize("kind", ["sft", "lora"])
def test_a_run_stopped_after_its_last_step_is_loaded_with_its_log(kind, tiny, tmp_path, capsys, monkeypatch):
    make_one = {"sft": lambda folder: make("sft", tiny, folder), "lora": lambda folder: make_lora(tiny, folder)}[kind]
    whole = make_one(tmp_path / "whole")
    whole.train()
    with monkeypatch.context() as patched:
        patched.setattr("helper.trainers.checkpoints._remove_all", interrupt)
        with pytest.raises(TypeError):  # it is called with a folder
            resume_training(make_one(tmp_path / "run"))
    again = make_one(tmp_path / "run")
    again.add_callback(AtStep(7, interrupt))
    assert train(again) and result(again) == result(whole)
    assert "had reached its end" in capsys.readouterr().out and left(tmp_path / "run") == []
    if kind == "sft":
        live = next(c for c in again.callback_handler.callbacks if isinstance(c, LiveLog))
        assert live.table()["loss"].tolist() == result(whole)["losses"]


def test_the_next_run_starts_anew_and_a_trained_model_is_refused(tiny, tmp_path, capsys):
    first = make("sft", tiny, tmp_path)
    assert train(first) and left(tmp_path) == []
    second = make("sft", tiny, tmp_path)
    assert train(second) and capsys.readouterr().out.count("starting at step 0") == 2
    assert result(first) == result(second)
    third = make("sft", tiny, tmp_path)
    third.model.trained_steps = first.model.trained_steps  # as when a trainer is made again for the same model
    with pytest.raises(RuntimeError, match="trained for 6 steps already"):
        resume_training(third)


def spoil_missing(checkpoint):
    (checkpoint / "optimizer.pt").unlink()
    return "optimizer.pt is missing"


def spoil_short(checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    return "model.safetensors has 1,000 bytes in place of"


def spoil_changed(checkpoint):
    path = checkpoint / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return "the contents of optimizer.pt have changed"


def spoil_unfinished(checkpoint):
    (checkpoint / WHOLE).unlink()
    (checkpoint / UNFINISHED).touch()
    return "stopped while it was written"


@pytest.mark.parametrize("spoil", [spoil_missing, spoil_short, spoil_changed, spoil_unfinished])
def test_a_spoiled_checkpoint_is_skipped_and_named(spoil, tiny, tmp_path, capsys):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    train(make("sft", tiny, tmp_path / "run", interrupt, step=5))
    fault = spoil(tmp_path / "run" / "checkpoint-4")
    resumed = make("sft", tiny, tmp_path / "run")
    capsys.readouterr()
    assert train(resumed)
    lines = [line for line in capsys.readouterr().out.splitlines() if "skipped" in line]
    assert len(lines) == 1 and lines[0].startswith("checkpoint-4 is skipped") and fault in lines[0]
    assert result(resumed) == expected and left(tmp_path / "run") == []


MALFORMED = [
    b"", b"{", b"[]", b"null", b"7", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"files": []}', b'{"files": {}, "run": {}}',
    b'{"files": {"trainer_state.json": 3}, "run": {}}', b'{"files": {"trainer_state.json": [3]}, "run": {}}',
    b'{"files": {"trainer_state.json": ["x", "y"]}, "run": {}}', b'{"files": {"trainer_state.json": [3, "y"]}}',
    b'{"files": {"trainer_state.json": [1e999, "y"]}, "run": {}}', b'{"files": {"trainer_state.json": [3, "y"]}, "run": 5}',
    b'{"files": {"trainer_state.json": [3, "y"]}, "run": {}}', b'{"files": {"../../x": [3, "y"]}, "run": {}}',
]  # fmt: skip


@pytest.mark.parametrize("text", MALFORMED)
def test_a_malformed_list_of_files_is_skipped_and_named(text, tmp_path, capsys):
    for name in ("checkpoint-2", "checkpoint-4"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-2" / WHOLE).mkdir()
    (tmp_path / "checkpoint-4" / WHOLE).write_bytes(text)
    (tmp_path / "checkpoint-4" / "trainer_state.json").write_text("{ }")
    assert last_whole_checkpoint(tmp_path) is None
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" is skipped, it is not whole: ")[0] for line in lines] == ["checkpoint-4", "checkpoint-2"]


def test_after_a_malformed_list_of_files_the_one_before_is_taken(tiny, tmp_path, capsys):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    train(make("sft", tiny, tmp_path / "run", interrupt, step=5))
    (tmp_path / "run" / "checkpoint-4" / WHOLE).write_text('{"files": [], "run": null}')
    resumed = make("sft", tiny, tmp_path / "run")
    assert train(resumed) and result(resumed) == expected and left(tmp_path / "run") == []
    assert f"its {WHOLE} is not as it was written" in capsys.readouterr().out


def test_stray_files_and_links_of_a_checkpoints_name_stop_no_training(tiny, tmp_path, capsys):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    run, kept = tmp_path / "run", tmp_path / "kept"
    for folder in (run, kept, run / "checkpoint-9"):
        folder.mkdir()
    (kept / "mine").write_text("theirs")
    (run / "checkpoint-2").write_text("mine")
    (run / "checkpoint-4").symlink_to("nowhere")
    (run / "checkpoint-6").symlink_to(kept)
    (run / "checkpoint-7").write_text("mine too")
    (run / "checkpoint-nine").mkdir()
    (run / "removed-checkpoint-2").write_text("in the way")
    trainer = make("sft", tiny, run)
    assert train(trainer) and result(trainer) == expected
    words = capsys.readouterr().out
    for step in (2, 4, 6):
        assert f"checkpoint-{step} in {run} is no folder: it is called stray-checkpoint-{step} now." in words
    assert (run / "stray-checkpoint-2").read_text() == "mine" and (kept / "mine").read_text() == "theirs"
    assert sorted(path for path in left(run) if not path.startswith("stray-")) == [
        "checkpoint-7", "checkpoint-9", "checkpoint-nine",
    ]  # fmt: skip


def test_what_cannot_be_removed_stops_no_training(tiny, tmp_path, monkeypatch):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    with monkeypatch.context() as patched:  # files that another program holds open
        patched.setattr("shutil.rmtree", lambda *args, **options: None)
        trainer = make("sft", tiny, tmp_path / "run")
        assert train(trainer) and result(trainer) == expected and names(tmp_path / "run") == []
        resumed = make("sft", tiny, tmp_path / "run")
        assert train(resumed) and result(resumed) == expected
    assert last_whole_checkpoint(tmp_path / "run") is None


def test_checkpoints_of_a_plain_run_are_named_and_left_alone(tiny, tmp_path, capsys):
    make("sft", tiny, tmp_path, max_steps=2).train()
    assert last_whole_checkpoint(tmp_path) is None
    assert f"checkpoint-2 is skipped, it is not whole: it has no {WHOLE}" in capsys.readouterr().out
    assert train(make("sft", tiny, tmp_path, every=3))
    assert names(tmp_path) == ["checkpoint-2"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"learning_rate": 2e-3}, "learning_rate: 0.001 there, 0.002 here"),
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"rows": tiny_rows("sft")[:-1]}, "rows of data: 14 there, 13 here"),
        ({"rows": tiny_rows("sft")[1:] + tiny_rows("sft")[:1]}, "contents of the data: "),
        ({"max_steps": 8}, "max_steps: 6 there, 8 here"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changes, words, tiny, tmp_path):
    train(make("sft", tiny, tmp_path, interrupt))
    other = tiny_trainer("sft", tiny, tmp_path, **changes)
    with pytest.raises(ValueError, match="is of another run") as error:
        resume_training(other)
    assert words in str(error.value) and str(error.value).count(" there, ") <= 2  # without the last row, another is the last
    assert not (tmp_path / LOCK).exists() and names(tmp_path) == ["checkpoint-2"]
    assert train(other, resume=False) and names(tmp_path) == []


def test_another_model_is_refused(tiny, tmp_path):
    train(make("sft", tiny, tmp_path / "run", interrupt))
    with pytest.raises(ValueError, match="model: .* there, other here"):
        resume_training(make("sft", save_tiny_model(tmp_path / "other"), tmp_path / "run"))


def test_what_is_only_shown_or_stored_makes_no_other_run(tiny, tmp_path):
    one = run_description(tiny_trainer("grpo", tiny, tmp_path / "a"))
    two = run_description(tiny_trainer("grpo", tiny, tmp_path / "b", every=3, logging_steps=5))
    assert one == two and one["reward functions"] == ["length_reward"] and one["learning_rate"] == 1e-3


def test_without_a_checkpoint_a_trained_model_is_not_taken_for_a_fresh_one(tiny, tmp_path, capsys):
    trainer = make("sft", tiny, tmp_path, interrupt, step=1)
    assert not train(trainer)
    assert "There is no checkpoint yet, so load the model" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="trained for 1 steps already"):
        resume_training(trainer)


def test_starting_anew_with_a_trained_model_is_refused_before_anything_is_removed(tiny, tmp_path):
    trainer = make("sft", tiny, tmp_path, interrupt)
    train(trainer)
    with pytest.raises(RuntimeError, match="trained for 3 steps"):
        resume_training(trainer, resume=False)
    assert names(tmp_path) == ["checkpoint-2"]


def test_settings_without_checkpoints_are_refused(tiny, tmp_path):
    for changes in ({"save_strategy": "no"}, {"save_total_limit": 1}, {"save_only_model": True}):
        with pytest.raises(ValueError, match="checkpoint_settings"):
            resume_training(make("sft", tiny, tmp_path, **changes))
    with pytest.raises(ValueError, match="every 0 steps"):
        checkpoint_settings(0)


def test_a_second_process_on_the_same_run_is_refused(tmp_path):
    with held_by_another(tmp_path) as holder:
        with pytest.raises(RuntimeError, match=f"Process {holder} is training in"), run_lock(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()


@contextmanager
def held_by_another(folder):
    """Another process holds the folder's lock; its id. At the end it is killed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with run_lock(folder):
                os.write(writer, b"!")
                signal.pause()
        finally:
            os._exit(1)
    os.read(reader, 1)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_stale_lock_is_taken_over(tmp_path):
    with held_by_another(tmp_path) as holder:
        pass
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == holder  # killed, it left its lock
    for text in (None, json.dumps({"pid": os.getppid(), "started": 0.0}), "", "[]", "\0"):
        if text is not None:
            (tmp_path / LOCK).write_text(text)
        with run_lock(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        assert not (tmp_path / LOCK).exists()
    (tmp_path / LOCK).symlink_to(tmp_path / "nowhere")
    with run_lock(tmp_path):
        pass


def test_two_threads_of_one_process_exclude_one_another(tmp_path):
    with run_lock(tmp_path), ThreadPoolExecutor(1) as thread:
        tried = thread.submit(run_lock(tmp_path).__enter__)
        with pytest.raises(RuntimeError, match="this one, in another thread.* is training in"):
            tried.result()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"),  # torch.save
    ],
)
def test_a_full_disk_is_named_and_costs_no_whole_checkpoint(error, tiny, tmp_path, monkeypatch):
    expected = uninterrupted("sft", tiny, tmp_path / "whole")
    save = torch.save

    def full(what, path, *args, **kwargs):
        if "checkpoint-4" in str(path):
            raise error
        save(what, path, *args, **kwargs)

    trainer = make("sft", tiny, tmp_path / "run")
    with monkeypatch.context() as patched, pytest.raises(OSError, match="The disk is full") as raised:
        patched.setattr(torch, "save", full)
        resume_training(trainer)
    assert raised.value.errno == errno.ENOSPC and str(tmp_path / "run") in str(raised.value)
    assert "checkpoint-2 is whole" in str(raised.value)
    assert names(tmp_path / "run") == ["checkpoint-2"] and not (tmp_path / "run" / LOCK).exists()
    assert train(trainer) and result(trainer) == expected


def test_too_few_rows_for_one_batch_are_named(tiny, tmp_path):
    trainer = make("grpo", tiny, tmp_path, steps_per_generation=4, gradient_accumulation_steps=4)
    with pytest.raises(ValueError, match="No step was made"):  # the library ends without a word
        resume_training(trainer)


def test_other_errors_are_passed_on(tiny, tmp_path):
    def fail():
        raise RuntimeError("something else")

    trainer = make("sft", tiny, tmp_path, fail)
    with pytest.raises(RuntimeError, match="something else"):
        resume_training(trainer)
    assert not (tmp_path / LOCK).exists() and names(tmp_path) == ["checkpoint-2"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the children are forked")
def test_real_kills(tmp_path):
    script = Path(__file__).parent / "tools" / "kill_runs.py"
    command = [sys.executable, str(script), "--kills", "3", "--seed", "5"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=script.parents[2],
        env={**os.environ, "PYTHONPATH": str(script.parents[2]), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills: every run ended as the uninterrupted one" in done.stdout
