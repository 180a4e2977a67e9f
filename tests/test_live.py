import io
from contextlib import redirect_stdout

import nbformat
import torch
from conftest import make_model
from nbclient import NotebookClient
from transformers import Trainer, TrainerCallback, TrainingArguments

from helper.live import LiveLog, watch


def make_trainer(tokenizer, folder, **options):
    rows = [{"input_ids": torch.tensor([5, 6, 7]), "labels": torch.tensor([5, 6, 7])}] * 8
    arguments = TrainingArguments(
        output_dir=str(folder), use_cpu=True, max_steps=4, logging_steps=1, per_device_train_batch_size=2,
        disable_tqdm=True, report_to="none", save_strategy="no", dataloader_pin_memory=False, **options,
    )  # fmt: skip
    return Trainer(model=make_model(tokenizer), args=arguments, train_dataset=rows)


def test_a_training_run_is_collected_and_nothing_else_is_printed(tokenizer, tmp_path):
    trainer = make_trainer(tokenizer, tmp_path)
    live = watch(trainer)
    with redirect_stdout(io.StringIO()) as printed:
        trainer.train()
    table = live.table()
    assert table["step"].tolist() == [1, 2, 3, 4]
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert table["loss"].astype(float).tolist() == [float(loss) for loss in losses] and len(losses) == 4
    assert not any(column.startswith("train_") for column in table)
    assert printed.getvalue().count("\n") == 1 and "step 4/4" in printed.getvalue() and "loss" in printed.getvalue()
    assert live.seconds > 0


def test_watch_twice_leaves_one_log(tokenizer, tmp_path):
    trainer = make_trainer(tokenizer, tmp_path)
    watch(trainer)
    live = watch(trainer)
    assert [c for c in trainer.callback_handler.callbacks if isinstance(c, LiveLog)] == [live]
    assert not any(type(c).__name__ in ("PrinterCallback", "ProgressCallback") for c in trainer.callback_handler.callbacks)
    assert isinstance(live, TrainerCallback)


def test_in_a_notebook_many_steps_are_one_output(tmp_path):
    code = """
import time
from types import SimpleNamespace as Some
from helper.live import LiveLog
live = LiveLog(seconds_between=0)
live.on_train_begin(None, Some(global_step=0, log_history=[]), None)
for step in range(1, 31):
    live.on_log(None, Some(global_step=step), None, logs={"loss": 1 / step, "reward": 0.5})
    live.on_step_end(None, Some(global_step=step, max_steps=30), None)
live.on_train_end(None, Some(global_step=30, max_steps=30), None)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    assert len(outputs) == 1 and outputs[0].output_type == "display_data"
    assert outputs[0].data["text/plain"].startswith("step 30/30 · 0:0")
    assert "loss 0.033 · reward 0.500" in outputs[0].data["text/plain"]
