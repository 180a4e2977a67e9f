import base64
import copy
import io
import math
import re
from contextlib import redirect_stdout
from itertools import pairwise
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient
from tiny import make_model
from tiny_trainers import tiny_trainer
from transformers import Trainer, TrainerCallback, TrainingArguments

from helper.algorithms import Run, ValueModel, train_ppo
from helper.figures.figure import image_html
from helper.figures.training import CHARTS, KL, charts_of, method, only_numbers, plot_progress
from helper.trainers import alarms
from helper.trainers.checkpoints import resume_training
from helper.trainers.live import LiveLog, alarm_levels, watch


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


def run_in_a_kernel(codes, folder) -> list:
    """The outputs that each cell leaves in a notebook."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in codes])
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return [cell.outputs for cell in notebook.cells]


FAKE_RUN = """
from types import SimpleNamespace as Some
from helper.trainers import live
live.DRAW_EVERY, live.DRAW_SHARE = 0, 10  # draw at every step
log = live.LiveLog(seconds_between=0, charts={charts})
log.on_train_begin(None, Some(global_step=0, log_history=[]), None)
for step in range(1, 13):
    log.on_log(None, Some(global_step=step), None, logs={{"loss": 1 / step, "reward": 0.5}})
    log.on_step_end(None, Some(global_step=step, max_steps=12), None)
log.on_train_end(None, Some(global_step=12, max_steps=12), None)
"""


FIGURE_CELLS = (
    "from helper import show_figure\nfrom helper.figures.methods import plot_lora\nplot_lora()",
    "import matplotlib.pyplot as plt\nfigure, axis = plt.subplots()\nshow_figure(figure, 'An empty chart.')",
)


def test_in_a_notebook_many_steps_are_one_output(tmp_path):
    runs = [FAKE_RUN.format(charts=charts) for charts in (True, False)]
    (output,), (short,), *figures = run_in_a_kernel([*runs, *FIGURE_CELLS], tmp_path)
    for outputs in figures:  # each once, as HTML alone
        assert [set(figure.data) for figure in outputs] == [{"text/plain", "text/html"}]
    assert set(short.data) == {"text/plain"} and "\n" not in short.data["text/plain"]  # a line alone
    assert output.output_type == "display_data" and set(output.data) == {"text/plain", "text/html"}
    assert output.data["text/plain"].startswith("step 12/12 · 0:0")
    assert "loss 0.083 · reward 0.500" in output.data["text/plain"]
    html = output.data["text/html"]
    alt = re.search(r'<img alt="([^"]+)"', html)[1]
    assert alt.startswith("Training, step 12 of 12: ") and "loss falls from 1 to 0.102" in alt
    assert html.count("<img") == 1 and "reward ends where it began, at 0.5" in alt
    assert base64.b64decode(re.search(r"base64,([^\"]+)", html)[1]).startswith(b"\x89PNG")


def test_the_charts_cost_at_most_their_share_of_the_time(monkeypatch):
    """A clock of its own: 600 steps of 0.1 s, a picture takes 0.2 s."""
    clock, live = [0.0], LiveLog()
    monkeypatch.setattr("helper.trainers.live.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("helper.trainers.live.in_notebook", lambda: True)
    handle = SimpleNamespace(update=lambda *args, **options: None)
    monkeypatch.setattr("helper.trainers.live.display", lambda *args, **options: handle)
    drawn = []

    def draw(*args):
        clock[0] += 0.2
        drawn.append(clock[0])
        return SimpleNamespace(alt="")

    monkeypatch.setattr("helper.trainers.live.plot_progress", draw)
    monkeypatch.setattr("helper.trainers.live.image_html", lambda *args: "<img>")
    live.on_train_begin(None, SimpleNamespace(global_step=0, log_history=[]), None)
    for step in range(1, 601):
        clock[0] += 0.1
        state = SimpleNamespace(global_step=step, max_steps=600)
        live.on_log(None, state, None, logs={"loss": 1.0})
        live.on_step_end(None, state, None)
    live.on_train_end(None, state, None)
    assert live.seconds_drawing == pytest.approx(0.2 * len(drawn)) and 5 <= len(drawn) <= 10
    assert live.seconds_drawing <= 0.03 * live.seconds
    assert all(later - earlier > 2 for earlier, later in pairwise(drawn[:-1]))


def grpo_log(**columns):
    base = {"step": range(1, 13), "loss": 0.0, "reward": 0.8, "entropy": 0.2, "frac_reward_zero_std": 0.25}
    return pd.DataFrame({**base, "completions/clipped_ratio": 0.0, "completions/mean_length": 40.0, **columns})


def dpo_log(**columns):
    base = {"step": range(1, 13), "loss": 0.7, "rewards/margins": 0.5, "rewards/chosen": 0.0, "rewards/rejected": -0.5}
    return pd.DataFrame({**base, "logps/chosen": -12.0, "logps/rejected": -14.0, "learning_rate": 1e-3, **columns})


ARGS = SimpleNamespace(max_completion_length=72, beta=0.2)


def sounds(alarm, log: pd.DataFrame) -> bool:
    return alarm(log.to_dict("records"), ARGS) is not None


def after_the_start(first: float, rest: float) -> list[float]:
    return [first] * 6 + [rest] * 6


@pytest.mark.parametrize("factor", [0.97, 1.03])  # just below and just above the line
def test_the_lines_stand_where_the_alarms_sound(factor):
    level = alarm_levels(grpo_log(), ARGS)
    log = grpo_log(**{"completions/clipped_ratio": factor * level["completions/clipped_ratio"][0]})
    assert sounds(alarms.completions_cut_off, log) == (factor > 1)
    log = grpo_log(entropy=after_the_start(0.2, factor * level["entropy"][0]))
    assert sounds(alarms.entropy_collapsed, log) == (factor < 1)
    log = grpo_log(reward=after_the_start(0.8, factor * level["reward"][0]))
    assert sounds(alarms.reward_fell, log) == (factor < 1)
    log = grpo_log(frac_reward_zero_std=min(1.0, factor * level["frac_reward_zero_std"][0]))
    assert sounds(alarms.no_spread, log) == (factor > 1)
    level = alarm_levels(dpo_log(), ARGS)
    log = dpo_log(**{"rewards/margins": factor * level["rewards/margins"][0]})
    assert sounds(alarms.pairs_alike, log) == (factor < 1)
    (unlearned,) = set(level["logps/chosen"][0])
    now = unlearned * (2 - factor)  # log-probabilities are negative
    log = dpo_log(**{"logps/chosen": now, "rewards/chosen": ARGS.beta * (now + 12)})
    assert sounds(alarms.chosen_unlearned, log) == (factor < 1)


def test_the_lines_are_drawn_from_the_guards_constants(monkeypatch):
    monkeypatch.setattr(alarms, "CUT_OFF", 0.375)
    monkeypatch.setattr(alarms, "COLLAPSED", 0.25)
    log = grpo_log()
    figure = plot_progress(log, charts_of(log), alarm_levels(log, ARGS), steps=20)
    drawn = {
        axis.get_title(): line.get_ydata()[0] for axis in figure.axes for line in axis.lines if line.get_gid() == "alarm"
    }
    assert drawn == {
        "reward": 0.4, "groups without spread": 1.0, "entropy (nats per token)": pytest.approx(0.05),
        "tokens per response": 72.0, "responses cut short": 0.375,
    }  # fmt: skip
    assert "alarm above 38% (line at 0.375)" in figure.alt


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [
        ({"mean_token_accuracy": 0.5}, "SFT"), ({"rewards/margins": 0.1}, "DPO"), ({"reward": 0.1}, "GRPO"), ({}, "SFT"),
        ({"reward": 0.1, "value_loss": 0.1}, "PPO"), ({"accuracy": 0.5, "margin": 0.1, "mean_reward": 0.1}, "REWARD"),
    ],
)  # fmt: skip
def test_the_method_is_found_from_what_is_logged(columns, wanted):
    assert method(pd.DataFrame([{"step": 1, "loss": 1.0, **columns}])) == wanted


def ppo_log(**columns):
    return grpo_log(**{"value_loss": 0.05, "explained_variance": 0.4, "kl": 0.01, **columns})


def reward_log():
    scores = {"min_reward": -1.0, "mean_reward": 0.0, "max_reward": 1.0, "num_tokens": 100.0}
    return pd.DataFrame({"step": range(1, 13), "loss": 0.6, "accuracy": 0.75, "margin": 0.3, **scores})


def drawn(log: pd.DataFrame):
    """The figure, and {title of a chart: its line}."""
    figure = plot_progress(log, charts_of(log), alarm_levels(log, ARGS), steps=20)
    axes = [axis for axis in figure.axes if axis.get_visible()]
    lines = {axis.get_title(): [line.get_ydata()[0] for line in axis.lines if line.get_gid() == "alarm"] for axis in axes}
    return figure, lines


def test_ppo_and_reward_models_have_charts_of_their_own():
    figure, lines = drawn(ppo_log())
    assert list(lines) == list(CHARTS["PPO"]) and lines["variance explained by the values"] == [0.0]
    assert "no better than a constant (line at 0)" in figure.alt
    assert "variance explained by the values ends where it began, at 0.4" in figure.alt and KL in figure.alt
    figure, lines = drawn(reward_log())
    assert lines == {"loss": [], "preference accuracy": [0.5], "margin, chosen - rejected": []}
    assert "a coin (line at 0.5)" in figure.alt and "margin, chosen - rejected ends where it began, at 0.3" in figure.alt


def test_a_kl_that_was_not_measured_has_no_chart():
    for log in (grpo_log, ppo_log):
        assert KL in charts_of(log(kl=0.01)) and KL in charts_of(log(kl=after_the_start(0.0, -0.01)))
        assert KL not in charts_of(log(kl=0.0)) and KL not in charts_of(log(kl=math.nan))
    assert KL not in charts_of(grpo_log())


def test_the_own_training_loops_log_what_is_charted(tokenizer, tmp_path, capsys):
    def rule(completions, **kwargs):
        return [float(len(completion[0]["content"])) for completion in completions]

    model, rows = make_model(tokenizer), [{"prompt": [{"role": "user", "content": "one two"}]}] * 2
    options = {"folder": tmp_path, "steps": 1, "learning_rate": 1e-3, "max_new_tokens": 3, "charts": False, "beta": 0.1}
    values = ValueModel(copy.deepcopy(model.model))
    live = train_ppo(model, values, tokenizer, rows, [rule], value_learning_rate=1e-3, responses_per_step=2, **options)
    columns = {column for chart in CHARTS["PPO"].values() for column in chart}
    assert method(live.table()) == "PPO" and columns <= set(live.table()) and "reward" in capsys.readouterr().out


def test_dpo_with_evaluation_pairs_shows_those_and_not_the_batches():
    log = dpo_log(**{"rewards/accuracies": 0.5})
    for column, value in (("rewards/accuracies", 1.0), ("rewards/margins", 3.0), ("logps/chosen", -1.0)):
        log[f"eval_{column}"] = [value if step % 4 == 0 else math.nan for step in log["step"]]
    charts = charts_of(log)
    shown = [column for columns in charts.values() for column in columns]
    assert shown == ["loss", "eval_rewards/accuracies", "eval_rewards/margins", "logps/chosen", "logps/rejected"]
    figure, _ = drawn(log)
    assert "preference accuracy, evaluation pairs ends where it began, at 1" in figure.alt
    lines = {axis.get_title(): axis.lines[0].get_xdata().tolist() for axis in figure.axes}
    assert lines["reward margin (β·m), evaluation pairs"] == [4, 8, 12]
    log["eval_logps/rejected"] = log["eval_logps/chosen"] - 7
    assert list(list(charts_of(log).values())[-1]) == ["eval_logps/chosen", "eval_logps/rejected"]
    live = LiveLog()
    live._first_step = 0
    live._logs = {1: {"loss": 0.5, "rewards/accuracies": 0.25}}
    assert "accuracy 0.250" in live.line(1, 2) and "evaluation" not in live.line(1, 2)
    live._logs[1]["eval_rewards/accuracies"] = 1.0
    assert "evaluation accuracy 1.000" in live.line(1, 2) and "0.250" not in live.line(1, 2)


def test_odd_numbers_do_not_stop_a_training():
    for odd in (math.nan, math.inf, None, "0.5"):
        log = grpo_log(reward=after_the_start(odd, 0.5), loss=odd, entropy=odd)
        log["step"] = [1, *range(3, 14)]
        log = only_numbers(log)
        figure = plot_progress(log, charts_of(log), alarm_levels(log, ARGS), steps=20)
        assert log.notna().any(axis=None) and image_html(figure, figure.alt)


ODD = [None, "text", math.nan, math.inf, -math.inf, 1e308, -1e308, 10**400, [1.0], {}, True, torch.ones(3), object()]


def show_all(live, logs):
    """A run in which each step logs one of `logs`."""
    live.on_train_begin(None, SimpleNamespace(global_step=0, log_history=[{"loss": 1.0}, {"step": 0, "loss": None}]), None)
    for step, row in enumerate(logs, start=1):
        state = SimpleNamespace(global_step=step, max_steps=len(logs))
        live.on_log(ARGS, state, None, logs=row)
        live.on_step_end(ARGS, state, None)
    live.on_train_end(ARGS, state, None)


@pytest.mark.parametrize("notebook", [True, False])
def test_whatever_is_logged_stops_no_training_and_the_rest_is_shown(notebook, monkeypatch, capsys):
    pictures = []
    monkeypatch.setattr("helper.trainers.live.in_notebook", lambda: notebook)
    monkeypatch.setattr("helper.trainers.live.DRAW_EVERY", 0)
    monkeypatch.setattr("helper.trainers.live.DRAW_SHARE", 1e9)
    handle = SimpleNamespace(update=lambda data, **options: pictures.append(data["text/plain"]))
    monkeypatch.setattr("helper.trainers.live.display", lambda *args, **options: handle)
    for base in (grpo_log(), dpo_log(), ppo_log()):
        fine = base.drop(columns="step").iloc[0].to_dict()
        odd_rows = [dict.fromkeys([*fine, "more", 7, "step"], odd) for odd in ODD]
        rows = [fine, *odd_rows, None, "text", 7, fine]
        live = LiveLog(seconds_between=1e9)  # at the first step and at the last one
        show_all(live, rows)
        shown = pictures[-1] if notebook else capsys.readouterr().out
        assert f"loss {fine['loss']:.3f}" in shown and len(live.table()) == len(rows) + 1
        assert not notebook or re.search(
            rf"Training, step {len(rows)} of {len(rows)}: .*loss rises from \S+ to 1, then", shown
        )
    assert "can be shown no more" not in capsys.readouterr().out


def test_a_number_that_has_run_away_is_short():
    live = LiveLog()
    live._first_step = 0
    for value, words in ((1e308, "1.000e+308"), (-1e7, "-1.000e+07"), (math.inf, "inf"), (math.nan, "nan"), (9.9, "9.900")):
        live._logs = {1: {"loss": value}}
        assert f"loss {words}" in live.line(1, 2)


@pytest.mark.parametrize("broken", ["plot_progress", "display"])
def test_what_cannot_be_drawn_or_shown_is_said_once_and_the_training_goes_on(broken, monkeypatch, capsys):
    def fail(*args, **options):
        raise RuntimeError("no colours left")

    shown = []
    monkeypatch.setattr("helper.trainers.live.in_notebook", lambda: True)
    monkeypatch.setattr("helper.trainers.live.display", lambda data, **options: shown.append(data))
    monkeypatch.setattr(f"helper.trainers.live.{broken}", fail)
    live = LiveLog(seconds_between=1e9)
    for _ in range(2):  # each run tries anew
        show_all(live, [{"loss": 1.0}] * 3)
    words = capsys.readouterr().out
    what = "line" if broken == "display" else "charts"
    assert words.count(f"The {what} can be shown no more (RuntimeError: no colours left). The training goes on.") == 2
    assert live.table()["loss"].tolist()[1:] == [1.0] * 3 and bool(shown) == (broken == "plot_progress")


class Terminal(io.TextIOWrapper):
    """A terminal that knows ASCII only, or none at all."""

    def __init__(self, encoding="ascii", closed=False):
        super().__init__(io.BytesIO(), encoding=encoding)
        if closed:
            self.close()

    def isatty(self):
        return True


def test_a_terminal_that_knows_ascii_only_or_is_closed_stops_nothing(tokenizer, tmp_path, monkeypatch):
    for number, terminal in enumerate((Terminal(), Terminal("cp1252"), Terminal(closed=True), None)):
        folder = tmp_path / f"début-{number}-日本"
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdout", terminal)
            with Run(folder, {"model": torch.nn.Linear(2, 1)}, 3, {}) as run:
                for _ in run:
                    run.log(loss=0.0, entropy=0.0, mean_token_accuracy=0.0)  # an alarm, too
            alarms.TrainingAlarms()._say("x", 1, "β is 日本")
        if terminal and not terminal.closed:
            terminal.flush()
            said = terminal.buffer.getvalue().decode(terminal.encoding)
            assert "No checkpoint yet in" in said and "Alarm at step 3" in said and "step 3/3 " in said and "? is ??" in said


@pytest.mark.parametrize("odd", [*ODD, np.float64(0.5), np.float32(math.inf), np.int64(3), np.arange(3)])
def test_a_run_of_our_own_logs_anything_and_goes_on_from_its_checkpoint(odd, tmp_path, capsys):
    for last in (2, 4):  # the first one breaks off
        torch.manual_seed(0)
        with Run(tmp_path, {"model": torch.nn.Linear(2, 1)}, 4, {}, save_every=1, charts=False) as run:
            for step in run:
                if step > last:
                    break
                run.log(loss=1.0, reward=odd, more=odd)
    assert run.live.table()["loss"].tolist() == [1.0] * 4 and "step 4/4" in capsys.readouterr().out


def test_what_a_callback_logs_can_be_saved_by_the_library(tiny, tmp_path):
    class Logs(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            trainer.log({"mine": ODD[state.global_step], "array": np.arange(3), "number": np.float32(0.5)})

    trainer = tiny_trainer("sft", tiny, tmp_path, steps=len(ODD) - 1)
    trainer.add_callback(Logs())
    alarms.add_alarms(trainer)
    resume_training(trainer)  # with checkpoints, which hold the log
    assert trainer.state.global_step == len(ODD) - 1


def test_the_charts_show_the_steps_before_an_interruption(monkeypatch):
    pictures = []
    monkeypatch.setattr("helper.trainers.live.in_notebook", lambda: True)
    monkeypatch.setattr("helper.trainers.live.display", lambda data, **options: pictures.append(data["text/plain"]))
    live, history = LiveLog(), [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 2.0}]
    live.on_train_begin(None, SimpleNamespace(global_step=2, log_history=history), None)
    state = SimpleNamespace(global_step=3, max_steps=3)
    live.on_log(None, state, None, logs={"loss": 1.0})
    live.on_train_end(None, state, None)
    assert live.table()["loss"].tolist() == [4.0, 2.0, 1.0] and "loss (nats per token) falls from 4 to 2.33" in pictures[0]


def test_in_a_terminal_it_stays_one_line(capsys):
    live = LiveLog(seconds_between=0)
    live.on_train_begin(None, SimpleNamespace(global_step=0, log_history=[]), None)
    for step in (1, 2):
        state = SimpleNamespace(global_step=step, max_steps=2)
        live.on_log(None, state, None, logs={"loss": 1.0})
        live.on_step_end(None, state, None)
    live.on_train_end(None, state, None)
    printed = capsys.readouterr().out
    assert printed.strip() == "step 2/2 · 0:00 · loss 1.000" and live.seconds_drawing == 0
