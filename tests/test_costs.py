"""Predicted costs against real models on no memory, against what autograd keeps, and against a measured peak."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

import helper.figures.costs as shown_costs
import helper.machine.memory as memory
from factory.real_sizes import configs
from helper.figures.costs import cost_page, cost_words, show_cost
from helper.machine.costs import time_of_steps, training_cost, what_fits
from helper.machine.folders import project_folder
from helper.machine.memory import available_memory
from helper.machine.sizes import (
    activation_bytes,
    cache_bytes,
    count_parameters,
    last_layer_bytes,
    lora_parameters,
    matrices,
)

KINDS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
GB = 10**9


def small(kind: str = "llama", layers: int = 3, **words):
    shape = {
        "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 176, "tie_word_embeddings": True, "attn_implementation": "eager",
    }  # fmt: skip
    return KINDS[kind](**shape | ({} if kind == "qwen2" else {"head_dim": 16}) | words)


def empty(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", list(configs()))
def test_parameters_are_those_of_the_real_model(name):
    config = configs()[name]
    model = empty(config)
    assert count_parameters(config) == sum(p.numel() for p in model.parameters())
    adapted = get_peft_model(model, LoraConfig(r=16, task_type="CAUSAL_LM"))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert lora_parameters(config, 16) == trained


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("llama", {"tie_word_embeddings": False}), ("llama", {"attention_bias": True}), ("llama", {"mlp_bias": True}),
        ("qwen3", {"attention_bias": True}), ("qwen2", {"tie_word_embeddings": False}),
    ],
)  # fmt: skip
def test_parameters_of_variants(kind, words):
    config = small(kind, **words)
    assert count_parameters(config) == sum(p.numel() for p in empty(config).parameters())


def test_the_published_sizes():
    """The names' own: 135M; 0.49B (https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct); 0.6B (Qwen3-0.6B's card)."""
    counts = [count_parameters(config) / 1e6 for config in configs().values()]
    assert [round(count) for count in counts] == [135, 494, 596]


def kept_by_autograd(config, rows, length, bf16=False, dtype=torch.float32, checkpointing=False) -> int:
    """Bytes of all tensors that the backbone's forward pass saves, each storage once, without the weights."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1:, -3:] = 0  # padding, as in most batches; a row alone has none
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), torch.autocast("cpu", enabled=bf16):
        model.base_model(torch.ones(rows, length, dtype=torch.long), attention_mask=mask, use_cache=False)
    return sum(size for size, _ in saved.values())


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("precision", ["float32", "autocast", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 2])
def test_activations_are_what_autograd_keeps(kind, attention, precision, rows):
    config = small(kind, attn_implementation=attention)
    bf16, dtype = precision == "autocast", "bfloat16" if precision == "bfloat16" else "float32"
    kept = kept_by_autograd(config, rows, 64, bf16, getattr(torch, dtype))
    # What the formula leaves out: token ids, and the cosines and sines of the positions.
    assert activation_bytes(config, rows, 64, dtype, bf16, attention) == pytest.approx(kept, rel=0.02)


def test_activations_of_a_checkpointed_model_are_its_layers_inputs():
    config = small(layers=12)
    kept = kept_by_autograd(config, 2, 64, checkpointing=True)
    whole, saved = activation_bytes(config, 2, 64, attention="eager"), activation_bytes(config, 2, 64, checkpointing=True)
    inputs, last_norm = 12 * 48 * 4 * 128, 4 * 97 * 128
    assert kept == pytest.approx(inputs + last_norm, rel=0.01)
    assert inputs < saved < whole / 3


def test_bytes_by_hand():
    """SmolLM2's shape, written out: h 576, 9 heads of 64, 3 of keys, MLP 1536, 30 layers, 49,152 words."""
    config = configs()["llama-135M"]
    layer = 2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536 + 2 * 576
    parameters = 30 * layer + 49152 * 576 + 576
    cost = training_cost(config, "sft", 1, 200, accumulation=8, libraries=GB)
    assert cost.parameters == cost.trained == parameters == 134_515_008
    assert cost.parts["weights"] == cost.parts["gradients"] == 4 * parameters
    assert cost.parts["optimiser"] == 8 * parameters and cost.parts["reference model"] == 0
    assert cost.parts["activations"] == 200 * (30 * 4 * (6 * 576 + 2 + 2 * 576 + 2 * 192 + 4 * 1536 + 9) + 4 * 1153)
    tiles = 199 * 32768 * (4 + 29) + 3 * 4 * 199 * 576 + 4 * 49152 * 576
    assert cost.parts["last layer"] == tiles == last_layer_bytes(config, 1, 200)
    whole = 16 * parameters + GB + cost.parts["activations"] + tiles
    assert cost.moments["the backward pass begins"] == whole
    assert cost.peak == max(cost.moments.values()) >= whole


def test_each_setting_changes_what_it_should():
    config = configs()["qwen3-0.6B"]
    plain = training_cost(config, "dpo", 1, 200, libraries=GB)
    assert plain.parts["reference model"] == plain.parts["weights"]
    assert training_cost(config, "dpo", precompute_reference=True, libraries=GB).parts["reference model"] == 0
    assert training_cost(config, "grpo", libraries=GB).parts["reference model"] == 0
    assert training_cost(config, "grpo", beta=0.04, libraries=GB).parts["reference model"] == plain.parts["weights"]
    assert training_cost(config, "dpo", libraries=GB, lora_rank=16).parts["reference model"] == 0
    half = training_cost(config, "sft", dtype="bfloat16", libraries=GB)
    assert half.parts["weights"] == half.parts["gradients"] == 2 * half.parameters
    lora = training_cost(config, "sft", lora_rank=16, libraries=GB)
    assert lora.trained == lora_parameters(config, 16) and lora.parts["optimiser"] == 8 * lora.trained
    grpo = training_cost(config, "grpo", accumulation=8, length=200, libraries=GB)
    assert grpo.parts["key-value cache"] == cache_bytes(config, 8, 200) > 8 * 200 * 2 * 28 * 8 * 128 * 4
    assert grpo.moments["generation"] > 0 == plain.moments["generation"]
    one, many = (training_cost(config, "sft", steps=steps, libraries=GB) for steps in (1, 100))
    assert one.peak < many.peak


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"method": "ppo"}, "give one of sft, dpo, grpo"), ({"dtype": "float16"}, "float32"),
        ({"batch_size": 0}, "batch_size=0"), ({"length": 2.5}, "length=2.5"),
        ({"method": "grpo", "length": 50, "completion": 50}, "part of length"),
        ({"method": "grpo", "precompute_reference": True}, "cannot be precomputed"),
        ({"lora_rank": 4, "lora_targets": ("query",)}, "no matrix query"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(words, message):
    with pytest.raises(ValueError, match=message):
        training_cost(small(), **words)


def test_what_is_no_model_is_named():
    with pytest.raises(ValueError, match="give a model, or its config"):
        training_cost(SimpleNamespace())


def test_the_changes_come_in_order_and_each_has_its_own_prediction():
    cost = training_cost(configs()["qwen3-0.6B"], "dpo", 8, 1024, accumulation=1, libraries=GB)
    rows = what_fits(cost, 12 * GB)
    assert [row["change"].split()[0:3] for row in rows] == [
        ["as", "it", "is"], ["batch", "of", "1,"], ["and", "gradient", "checkpointing"],
        ["and", "reference", "log-probabilities"], ["and", "weights", "in"], ["and", "LoRA", "of"],
    ]  # fmt: skip
    peaks = [row["peak"] for row in rows]
    assert peaks[0] == cost.peak and peaks == sorted(peaks, reverse=True) and len(set(peaks)) == len(peaks)
    assert [row["fits"] for row in rows] == [peak <= 12 * GB for peak in peaks] and rows[-1]["fits"] and not rows[0]["fits"]
    last = training_cost(
        configs()["qwen3-0.6B"], "dpo", 1, 1024, accumulation=8, checkpointing=True, precompute_reference=True,
        dtype="bfloat16", lora_rank=16, libraries=GB,
    )  # fmt: skip
    assert peaks[-1] == last.peak
    with pytest.raises(ValueError, match="free memory in bytes"):
        what_fits(cost, -1)


def test_what_is_shown_says_the_numbers_and_holds_no_tag_of_others():
    cost = training_cost(configs()["llama-135M"], "dpo", 4, 400, libraries=GB)
    fits = what_fits(cost, 5 * GB)
    html, words = cost_page(cost, fits, time_of_steps([9, 9, 2, 2, 2], 100)), cost_words(cost, fits)
    assert f"Predicted peak {cost.peak / 1e9:.2f} GB, which does not fit here" in words and words in html.replace(
        "About", ""
    )
    assert "134.5M parameters" in words and "About 3 minutes" in html and 'role="img" aria-label="' in html
    assert all(part in html for part, size in cost.parts.items() if size) and "<script" not in html
    assert "nor does any change" in cost_words(cost, what_fits(cost, 1))


def test_a_cost_is_shown_as_a_page(monkeypatch):
    shown = []
    monkeypatch.setattr(shown_costs, "display", lambda html: shown.append(html.data))
    show_cost(training_cost(small(), libraries=GB), 2 * GB)
    assert "which fits here" in shown[0]


def unknown():
    raise OSError("no such file")


def test_what_this_process_holds_counts_as_available(monkeypatch):
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=4 * GB))
    monkeypatch.setattr(memory, "held_bytes", lambda device: 3 * GB)
    monkeypatch.setattr("helper.machine.costs.held_bytes", lambda device: 3 * GB)
    model = SimpleNamespace(config=small(), parameters=lambda: iter([torch.zeros(GB // 400)]))
    cost = training_cost(model)
    assert cost.settings["device"] == torch.device("cpu") and cost.parts["libraries"] == 3 * GB - 4 * (GB // 400)
    peak, free = cost.peak, available_memory("cpu")
    assert free == 7 * GB and what_fits(cost)[0]["fits"] == (peak <= free)
    assert not what_fits(training_cost(small(), libraries=7 * GB, device="cpu"))[0]["fits"]
    monkeypatch.setattr(memory.psutil, "virtual_memory", unknown)
    assert available_memory("cpu") == 0  # unknown, not 3 GB


def test_a_gpu_is_asked_only_for_a_run_on_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2 * GB)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GB)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10 * GB, 24 * GB))
    on_gpu, on_cpu = training_cost(small()), training_cost(small(), device="cpu")
    assert on_gpu.parts["libraries"] == 2 * GB != on_cpu.parts["libraries"] > 0
    assert available_memory("cuda") == 15 * GB != available_memory("cpu")
    assert on_gpu.settings["device"].type == "cuda" and on_cpu.settings["device"].type == "cpu"


CHILD = """
import json, sys, torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import SFTConfig, SFTTrainer
from factory.real_sizes import status_kb
from helper.machine.costs import training_cost
torch.set_num_threads(1)
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rows = Dataset.from_list([{"input_ids": torch.randint(9, 900, (256,)).tolist()} for _ in range(12)])
before = 1024 * status_kb("self", "VmRSS")
config = LlamaConfig(
    vocab_size=8000, hidden_size=512, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4,
    intermediate_size=2048, tie_word_embeddings=True, attn_implementation="sdpa",
)
cost = training_cost(config, "sft", 2, 256, accumulation=2, steps=2, libraries=before)
config.bos_token_id = config.eos_token_id = config.pad_token_id = None
model = LlamaForCausalLM(config)
trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=rows, args=SFTConfig(
    output_dir=sys.argv[2], use_cpu=True, bf16=False, activation_checkpointing=False, per_device_train_batch_size=2,
    gradient_accumulation_steps=2, max_steps=2, save_strategy="no", report_to="none", disable_tqdm=True,
    dataset_kwargs={"skip_prepare_dataset": True},
))
trainer.train()
print(json.dumps([cost.peak - before, 1024 * status_kb("self", "VmHWM") - before, sum(cost.parts.values())]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_the_predicted_peak_is_the_measured_one(tmp_path):
    """A model of 23M in a process of its own; what the libraries took before is left out of both numbers.

    The C library is told to give back at once what is freed: what it keeps otherwise, up to a quarter, is chance.
    """
    tokenizer = project_folder() / "data" / "models" / "sprout-base"
    command = [sys.executable, "-c", CHILD, str(tokenizer), str(tmp_path)]
    plain = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "131072"}
    done = subprocess.run(command, cwd=project_folder(), capture_output=True, text=True, env=plain)
    assert done.returncode == 0, done.stderr[-2000:]
    predicted, measured, _ = json.loads(done.stdout.splitlines()[-1])
    assert predicted == pytest.approx(measured, rel=0.1)


def test_four_bits_leave_all_but_the_matrices_as_it_is():
    config = small()
    words = {"lora_rank": 4, "libraries": GB, "device": "cpu"}
    plain, packed = training_cost(config, **words), training_cost(config, four_bit=True, **words)
    inside = config.num_hidden_layers * sum(a * b for a, b in matrices(config).values())
    largest = max(a * b for a, b in matrices(config).values())
    saved = plain.parts["weights"] - packed.parts["weights"]
    assert saved == pytest.approx((4 - 4.5 / 8) * inside - 4 * largest, abs=1)
    assert plain.parts | {"weights": 0} == packed.parts | {"weights": 0}
    with pytest.raises(ValueError, match="four_bit=True needs a lora_rank"):
        training_cost(config, four_bit=True, libraries=GB)
    with pytest.raises(ValueError, match="four_bit=True needs the model's config"):
        training_cost(empty(config), four_bit=True, **words)


# Mixtures of experts, and families whose weights the formula does not know

EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
MIXTURES = {
    "mixtral": {"num_local_experts": 8}, "qwen3_moe": EXPERTS,
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 64}, "olmoe": {"num_experts": 8, "num_experts_per_tok": 2},
    "gpt_oss": {"num_local_experts": 8}, "deepseek_v3": {"n_routed_experts": 8, "num_experts_per_tok": 2},
}  # fmt: skip


def other(kind, **words):
    shape = {name: value for name, value in small().to_dict().items() if name in SHARED}
    return AutoConfig.for_model(kind, **shape | {"pad_token_id": 0} | words)


SHARED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "tie_word_embeddings",
)  # fmt: skip


@pytest.mark.parametrize("kind", MIXTURES)
def test_a_mixtures_weights_are_counted_in_the_model_and_its_config_is_refused(kind):
    config = other(kind, **MIXTURES[kind])
    model = empty(config)
    cost = training_cost(model, libraries=GB, device="cpu")
    assert cost.parameters == cost.trained == sum(p.numel() for p in model.parameters())
    assert cost.parts["weights"] == 4 * cost.parameters and cost.parts["optimiser"] == 8 * cost.parameters
    assert [row["change"] for row in what_fits(cost, 10 * GB)][0] == "as it is"
    for call in (lambda: training_cost(config), lambda: count_parameters(config)):
        with pytest.raises(ValueError, match=r"Config is of a mixture of 8 experts, .*: give the model itself"):
            call()


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "qwen2_moe", "olmoe"])
def test_a_mixtures_activations_are_nearly_what_autograd_keeps(kind):
    config = other(kind, attn_implementation="eager", **MIXTURES[kind])
    kept = kept_by_autograd(config, 2, 64)
    assert activation_bytes(config, 2, 64, attention="eager") == pytest.approx(kept, rel=0.2)


def test_adapters_within_experts_are_refused():
    model = empty(other("mixtral", num_local_experts=8))
    adapted = get_peft_model(model, LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"]))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert training_cost(empty(model.config), lora_rank=4, libraries=GB, device="cpu").trained == trained
    for name in ("gate_proj", "down_proj"):
        with pytest.raises(ValueError, match=f"{name} is in each of the experts"):
            training_cost(model, lora_rank=4, lora_targets=("q_proj", name))


@pytest.mark.parametrize("kind", ["gemma2", "gpt_neox", "phi3", "mistral", "stablelm"])
def test_any_models_own_weights_are_counted(kind):
    model = empty(other(kind))
    assert training_cost(model, libraries=GB, device="cpu").parameters == sum(p.numel() for p in model.parameters())
