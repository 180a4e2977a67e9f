"""The recording of real sizes: the data it trains on, the rows it keeps, the process that it stops."""

import json
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory import real_sizes
from factory.real_sizes import LENGTH, configs, data, four_bits, make_trainer, record, run_child
from helper.machine.folders import project_folder


def test_rows_are_as_long_as_said():
    tokenizer = AutoTokenizer.from_pretrained(project_folder() / "data" / "models" / "sprout-base")
    for row in data("sft"):
        ids = tokenizer(tokenizer.apply_chat_template(row["messages"], tokenize=False)).input_ids
        assert abs(len(ids) - LENGTH) <= 5
    pair = data("dpo")[0]
    assert pair["chosen"] != pair["rejected"] and set(data("grpo")[0]) == {"prompt"}


@pytest.mark.parametrize("method", ["sft", "dpo", "grpo", "sft-lora", "sft-qlora"])
def test_each_methods_trainer_takes_a_step(method, tmp_path):
    sprout = project_folder() / "data" / "models" / "sprout-base"
    config = configs()["llama-135M"]
    config.update({"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1})
    config.update({"intermediate_size": 32, "head_dim": 16, "vocab_size": 2000, "eos_token_id": 0, "bos_token_id": None})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tiny")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "tiny", **four_bits(method == "sft-qlora"))
    trainer = make_trainer(method, model, AutoTokenizer.from_pretrained(sprout), tmp_path / "runs")
    trainer.train()
    assert trainer.state.global_step == 1 and trainer.state.log_history[0]["grad_norm"] > 0


def test_rows_of_other_models_stay(tmp_path, monkeypatch):
    path, asked = tmp_path / "rows.json", []

    def child(words, limit_gb, seconds=0):
        asked.append(words)
        row = {"model": words[1], "method": words[-1], "predicted_mb": 90, "measured_mb": 80, "n": len(asked)}
        return f"some chatter\n{json.dumps(row)}\n", 100

    monkeypatch.setattr(real_sizes, "run_child", child)
    monkeypatch.setattr(real_sizes, "RUNS", tmp_path / "runs")
    record(["qwen3-0.6B", "llama-135M"], ["sft", "dpo"], 17, path)
    record(["llama-135M"], ["dpo"], 17, path)
    rows = json.loads(path.read_text())["rows"]
    found = [(row["model"], row["method"]) for row in rows]
    assert found == [(name, method) for name in ("llama-135M", "qwen3-0.6B") for method in ("sft", "dpo")]
    assert rows[0]["measured_mb"] == 100 and rows[0]["predicted_to_measured"] == 0.9
    assert rows[1]["n"] == len(asked) > rows[0]["n"] and rows[1]["command"].endswith("--methods dpo --limit-gb 17")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_process_that_takes_too_much_is_stopped():
    with pytest.raises(MemoryError, match="more than 0.001 GB and was stopped"):
        run_child(["--step", "llama-135M", "sft"], limit_gb=0.001)
