import inspect
import itertools
import json
import os
import shutil
import socket
import threading
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny import make_model, make_tokenizer
from trl import SFTConfig, SFTTrainer
from trl.kernels import chunked_logprob
from trl.trainer import utils as trl_utils

from helper import models
from helper.machine import device
from helper.machine.device import bf16_is_fast, bf16_speedup, choose_device, set_seed
from helper.machine.folders import output_folder, project_folder
from helper.machine.hub import hub_is_reachable
from helper.models import (
    CHATML_TEMPLATE,
    PLAIN_TEMPLATE,
    SHIPPED_MODELS,
    end_of_turn_id,
    load_model_and_tokenizer,
    prepare_tokenizer,
    resolve_model_name,
)
from helper.trainers.log_probs import skip_masked_positions

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
]
shipped = [name for name in SHIPPED_MODELS if (project_folder() / "data" / "models" / name).exists()]


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setattr(models, "hub_is_reachable", lambda: False)


def test_a_folder_is_loaded_ready_to_use(tiny_folder, capsys):
    model, tokenizer = load_model_and_tokenizer(str(tiny_folder))
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "parameters, cpu, float32" in line
    assert not model.training and model.dtype == torch.float32 and model.name_or_path == str(tiny_folder)
    assert tokenizer.pad_token_id == model.config.pad_token_id == model.generation_config.pad_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(torch.tensor([[5, 6]]), do_sample=False, max_new_tokens=2)


def test_sampling_settings_of_a_hub_model_are_dropped(tiny_folder):
    (tiny_folder / "generation_config.json").write_text(
        '{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.9, '
        '"repetition_penalty": 1.1, "eos_token_id": [0, 7]}'
    )
    settings = load_model_and_tokenizer(str(tiny_folder))[0].generation_config
    assert not settings.do_sample and settings.top_p in (None, 1.0) and settings.repetition_penalty in (None, 1.0)
    assert 7 in settings.eos_token_id and 3 in settings.eos_token_id  # its own end, and the template's <|im_end|>


def test_shipped_names_point_into_data(tmp_path, monkeypatch, tiny_folder):
    monkeypatch.setattr(models, "project_folder", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="make data"):
        resolve_model_name("sprout-base")
    shutil.copytree(tiny_folder, tmp_path / "data/models/sprout-base")
    assert resolve_model_name("sprout-base") == (str(tmp_path / "data/models/sprout-base"), True)
    assert resolve_model_name("data/models/sprout-base")[1]  # a path from the repository's root, from anywhere


@pytest.mark.skipif(not (project_folder() / "data" / "models").exists(), reason="the models are not built yet")
@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_shipped_models_load(name):
    model, tokenizer = load_model_and_tokenizer(name)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id and model.num_parameters() < 6e6
    folder = project_folder() / "data" / "models" / name
    assert (folder / "model.safetensors").stat().st_size <= 10e6 and not list(folder.glob("*.bin"))


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("sprout-instuct", ValueError, 'did you mean "sprout-instruct"'),
        ("sprot-base", ValueError, 'did you mean "sprout-base"'),
        ("./models/sprout-bse", ValueError, 'did you mean "sprout-base"'),
        ("sprout-enormous-and-new", ValueError, "the course ships"),
        ("./somewhere/else", FileNotFoundError, "no folder"),
        ("/nowhere/model", FileNotFoundError, "no folder"),
        ("runs/02/model", FileNotFoundError, "no folder"),
        ("", FileNotFoundError, "no model|no folder|holds no model"),
        ("Qwen/Qwen3-0.6B-Base", ConnectionError, "sprout-base"),
        ("gpt2-that-is-not-cached", ConnectionError, "sprout-base"),
        ("./models/Qwen/Qwen3-0.6B-none", ConnectionError, "^Qwen/Qwen3-0.6B-none is"),
    ],
)
def test_a_wrong_name_is_one_clear_error(name, error, words, no_network):
    with pytest.raises(error, match=words) as caught:
        resolve_model_name(name)
    assert caught.value.__cause__ is None and "\n" not in str(caught.value)


def test_a_folder_without_a_model_and_one_with_pickles(tmp_path, tiny_folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="config.json"):
        load_model_and_tokenizer(str(tmp_path / "empty"))
    torch.save({}, tiny_folder / "pytorch_model.bin")
    (tiny_folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="could not be loaded"):
        load_model_and_tokenizer(str(tiny_folder))


def test_an_earlier_download_loads_without_network(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr(models.huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(tmp_path))
    assert resolve_model_name("Qwen/Qwen3-0.6B-Base") == ("Qwen/Qwen3-0.6B-Base", True)


def test_a_name_goes_to_the_hub_when_it_answers(monkeypatch):
    monkeypatch.setattr(models, "hub_is_reachable", lambda: True)
    assert resolve_model_name("./models/Qwen/Qwen3-0.6B-Base") == ("Qwen/Qwen3-0.6B-Base", False)
    assert resolve_model_name("Qwen/Qwen3-0.6B-Base") == ("Qwen/Qwen3-0.6B-Base", False)


def note_waits(monkeypatch):
    """A list that gets the seconds for which any thread is waited for."""
    waited, join = [], threading.Thread.join

    def wait(self, timeout=None):
        waited.append(timeout)
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", wait)
    return waited


def test_the_hub_is_given_up_in_seconds(monkeypatch):
    """A server that takes the connection and never answers: the worst case."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(models.huggingface_hub.constants, "ENDPOINT", silent)
        waited = note_waits(monkeypatch)
        assert hub_is_reachable(seconds=0.5) is False
    assert waited == [0.5] and inspect.signature(hub_is_reachable).parameters["seconds"].default <= 5


def test_devices(monkeypatch):
    assert choose_device(False).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="USE_GPU = False"):
        load_model_and_tokenizer("sprout-base", use_gpu=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(True).type == "mps" and choose_device(False).type == "cpu"
    monkeypatch.delenv("COURSE_BF16", raising=False)
    assert not bf16_is_fast("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(True).type == "cuda"


@pytest.mark.parametrize(("tick", "rounds"), [(1e-6, 20), (0.01, 5), (1.0, 3)])
def test_the_bf16_probe_ends_after_a_fifth_of_a_second(tick, rounds, monkeypatch):
    """A clock that goes on by `tick` seconds whenever it is read: up to five times a round."""
    clock = itertools.count(1)
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: tick * next(clock)))
    products = []
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: products.append(a.dtype))
    assert bf16_speedup.__wrapped__() > 0
    assert products == [torch.float32, torch.bfloat16] * rounds


def test_the_bf16_probe_can_be_overruled(monkeypatch):
    monkeypatch.delenv("COURSE_BF16", raising=False)
    bf16_is_fast.cache_clear(), bf16_speedup.cache_clear()
    assert bf16_is_fast(torch.device("cpu")) == (bf16_speedup() > 1.2)
    for value in ("0", "1"):
        monkeypatch.setenv("COURSE_BF16", value)
        bf16_is_fast.cache_clear()
        assert bf16_is_fast("cpu") is (value == "1")
    bf16_is_fast.cache_clear()


@pytest.mark.parametrize("template", [CHATML_TEMPLATE, PLAIN_TEMPLATE])
def test_templates_honour_the_generation_prompt(template):
    tokenizer = make_tokenizer(template=template)
    whole = tokenizer.apply_chat_template(CHAT, tokenize=False)
    asked = tokenizer.apply_chat_template(CHAT[:2], tokenize=False, add_generation_prompt=True)
    not_asked = tokenizer.apply_chat_template(CHAT[:2], tokenize=False)
    assert asked != not_asked and asked.startswith(not_asked)
    assert whole.startswith(asked.rstrip()) and "\n " not in whole and not whole.startswith((" ", "\n"))
    assert end_of_turn_id(tokenizer) == tokenizer.convert_tokens_to_ids(
        "<|im_end|>" if template is CHATML_TEMPLATE else "<|endoftext|>"
    )
    row = tokenizer.apply_chat_template(CHAT, return_dict=True, return_assistant_tokens_mask=True)
    trained = [i for i, m in zip(row["input_ids"], row["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(trained).strip() == ("Hello<|im_end|>" if template is CHATML_TEMPLATE else "Hello<|endoftext|>")


def test_a_tokenizer_without_template_or_pad_is_completed():
    bare = make_tokenizer(special=("<|endoftext|>",), template=None)
    words = prepare_tokenizer(bare)
    assert bare.chat_template == PLAIN_TEMPLATE and bare.pad_token == "<|endoftext|>"
    assert "no chat template" in words and "no pad token" in words and "pad = end token" in words
    spare = make_tokenizer(special=("<|im_end|>", "<|pad|>", "<|im_start|>"), template=None)
    spare.pad_token = None
    prepare_tokenizer(spare)
    assert spare.chat_template == CHATML_TEMPLATE and spare.pad_token == "<|pad|>"
    assert prepare_tokenizer(make_tokenizer()) == ""


def test_the_seed_decides_the_weights(tokenizer):
    set_seed(3)
    first = torch.rand(2)
    set_seed(3)
    assert torch.equal(first, torch.rand(2))
    assert torch.equal(make_model(tokenizer, 1).lm_head.weight, make_model(tokenizer, 1).lm_head.weight)


def test_output_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "here"))
    assert output_folder("02_sft") == tmp_path / "here" / "02_sft" and output_folder("02_sft").is_dir()
    monkeypatch.delenv("COURSE_OUTPUTS")
    assert output_folder() == project_folder() / "outputs"


def test_importing_helper_turns_telemetry_off():
    import helper  # noqa: F401

    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_skip_masked_positions_changes_no_loss_and_no_gradient(tokenizer, tmp_path, monkeypatch):
    rows = [
        {"prompt": "one two three four five six seven", "completion": " eight nine"},
        {"prompt": "what is", "completion": " the capital of a place?"},
    ]
    results, scored = [], []
    fused = trl_utils._ChunkedLogProbFunction.apply
    monkeypatch.setattr(trl_utils, "_use_triton", chunked_logprob._use_triton)  # whatever ran before this test
    monkeypatch.setattr(
        trl_utils._ChunkedLogProbFunction, "apply", lambda hidden, *rest: scored.append(len(hidden)) or fused(hidden, *rest)
    )
    for skip in (nullcontext, skip_masked_positions):
        model = make_model(tokenizer)
        args = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, activation_checkpointing=False)
        trainer = SFTTrainer(model=model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        batch = next(iter(trainer.get_train_dataloader()))
        with skip():
            loss = trainer.compute_loss(model, batch)
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    assert scored[1] == int((batch["labels"][:, 1:] != -100).sum()) < scored[0]
    for before, after in zip(*results, strict=True):
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-7)


def cut_weights(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def more_layers(folder):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["num_hidden_layers"] += 1
    config.pop("layer_types", None)
    path.write_text(json.dumps(config))


def no_tokenizer(folder):
    for path in [*folder.glob("tokenizer*"), *folder.glob("special_tokens*"), *folder.glob("chat_template*")]:
        path.unlink()


def config_of_another_kind(folder):
    (folder / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_weights, "cut off, or only a pointer of Git LFS"),
        (more_layers, "lack .* of the model's weights"),
        (no_tokenizer, "no tokenizer with it|could not be loaded"),
        (config_of_another_kind, "could not be loaded from the folder"),
    ],
)
def test_a_damaged_model_gives_one_clear_error(spoil, words, tiny_folder):
    spoil(tiny_folder)
    with pytest.raises((FileNotFoundError, ValueError), match=words) as error:
        load_model_and_tokenizer(str(tiny_folder))
    assert str(error.value).count("\n") < 10


@pytest.mark.parametrize("name", ["模型", "@", "--", "a b/c", "sprout-base"])
def test_impossible_names_and_revisions_are_refused_at_once(name):
    with pytest.raises(ValueError, match="can be no name|has no revisions"):
        load_model_and_tokenizer(name, revision="v1")
