import json
import shutil
import warnings

import pytest
import torch
from tiny import make_tokenizer

from helper import models
from helper.machine.folders import project_folder
from helper.models import (
    CHATML_TEMPLATE,
    PLAIN_TEMPLATE,
    SHIPPED_MODELS,
    end_of_turn_id,
    load_model_and_tokenizer,
    prepare_tokenizer,
    resolve_model_name,
)

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
