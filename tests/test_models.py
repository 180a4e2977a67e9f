import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import make_model, make_tokenizer
from transformers import AutoModelForCausalLM

from helper import models
from helper.machine.folders import project_folder
from helper.model_files import ModelFault
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
    with pytest.raises(FileNotFoundError, match=r"is an empty folder, but holds no model.*model\.save_pretrained\(folder\)"):
        load_model_and_tokenizer(str(tmp_path / "empty"))
    (tiny_folder / "model.safetensors").unlink()
    torch.save({}, tiny_folder / "training_args.bin")
    with pytest.raises(FileNotFoundError, match=r"no weights: model.safetensors is not there.*model\.save_pretrained"):
        load_model_and_tokenizer(str(tiny_folder))
    torch.save({}, tiny_folder / "pytorch_model.bin")
    words = r"weights as pickles only \(pytorch_model.bin\), which are not read.*model\.save_pretrained\(folder\)"
    with pytest.raises(ModelFault, match=words):
        load_model_and_tokenizer(str(tiny_folder))


def test_the_way_out_of_pickles_works(tiny_folder):
    weights = load_file(tiny_folder / "model.safetensors")
    (tiny_folder / "model.safetensors").unlink()
    torch.save(weights, tiny_folder / "pytorch_model.bin")
    with pytest.raises(ModelFault, match="pickles only"):
        load_model_and_tokenizer(tiny_folder)
    AutoModelForCausalLM.from_pretrained(tiny_folder).save_pretrained(tiny_folder)
    assert load_model_and_tokenizer(tiny_folder)[0].num_parameters() > 0


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


def half_a_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{")


def with_config(**changes):
    def spoil(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def config_of_another_kind(folder):
    (folder / "config.json").write_text("[]")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut_weights, "a file of the model's weights, is cut off"),
        (more_layers, "lack .* of the model's weights"),
        (no_tokenizer, "no tokenizer with it|could not be loaded"),
        (config_of_another_kind, "is no JSON object with a model's settings"),
        (half_a_tokenizer, r"tokenizer\.json is no JSON object: it is cut off"),
        (with_config(model_type="qwen9"), "'qwen9' is unknown to the installed transformers"),
        (with_config(model_type="mine", auto_map={"AutoConfig": "mine.C"}), "comes with code of its own, which is not run"),
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


# What its files may be instead


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata={"format": "pt"})


def put(name, value, dtype=torch.float32):
    def spoil(folder):
        def change(weights):
            weights[name] = weights[name].to(dtype)
            weights[name].view(-1)[3] = value

        change_weights(folder, change)

    return spoil


def another_shape(name, *shape):
    return lambda folder: change_weights(folder, lambda weights: weights.update({name: torch.ones(shape)}))


def larger_tokenizer(folder):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<extra {number}>" for number in range(5)])
    tokenizer.save_pretrained(folder)


def pad_beyond_the_embedding(folder):
    tokenizer = make_tokenizer(special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|x|>"))
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)


def without_end_token(template):
    def spoil(folder):
        tokenizer = make_tokenizer(special=("<|x|>",), template=template)
        tokenizer.eos_token = None
        no_tokenizer(folder)
        tokenizer.save_pretrained(folder)

    return spoil


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def index_naming(shard):
    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        torch.save(weights, folder / "pytorch_model.bin")
        (folder / "model.safetensors").rename(folder / "shard.safetensors")
        shutil.copy(folder / "shard.safetensors", folder.parent / "outside.safetensors")
        index = {"metadata": {}, "weight_map": dict.fromkeys(weights, shard)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return spoil


def shards_without_one(folder):
    index_naming("shard.safetensors")(folder)
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["model.norm.weight"] = "shard-2.safetensors"
    path.write_text(json.dumps(index))


def shard_cut_off(folder):
    index_naming("shard.safetensors")(folder)
    content = (folder / "shard.safetensors").read_bytes()
    (folder / "shard.safetensors").write_bytes(content[:-1])


def weights_of(content):
    def spoil(folder):
        path = folder / "model.safetensors"
        path.write_bytes(content(path.read_bytes()) if callable(content) else content)

    return spoil


def config_of(content):
    return lambda folder: (folder / "config.json").write_bytes(content)


def index_of(text):
    def spoil(folder):
        (folder / "model.safetensors").unlink()
        (folder / "model.safetensors.index.json").write_text(text)

    return spoil


def another_file_of_weights(name):
    def spoil(folder):
        index_naming("pytorch_model.bin")(folder)
        (folder / "model.safetensors.index.json").rename(folder / "other.safetensors.index.json")
        config = json.loads((folder / "config.json").read_text()) | {"transformers_weights": name}
        (folder / "config.json").write_text(json.dumps(config))

    return spoil


def adapter(with_config):
    def spoil(folder):
        config = (folder / "config.json").read_text()
        model = get_peft_model(make_model(make_tokenizer()), LoraConfig(r=2))
        shutil.rmtree(folder)
        model.save_pretrained(folder)
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "owner/base"}))
        make_tokenizer().save_pretrained(folder)
        if with_config:
            (folder / "config.json").write_text(config)

    return spoil


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 7874880\n"
UNFIT = {
    "weights cut off in the header": (weights_of(lambda content: content[:100]), "weights, is cut off, or holds something"),
    "weights cut off in the middle": (weights_of(lambda content: content[: len(content) // 2]), "weights, is cut off. Copy"),
    "weights without the last byte": (weights_of(lambda content: content[:-1]), "model.safetensors, a .* is cut off. Copy"),
    "empty weights": (weights_of(b""), "model.safetensors, a file of the model's weights, is empty. Copy or download"),
    "weights of four bytes": (weights_of(b"\x08\0\0\0"), "is cut off, or holds something else"),
    "a pointer of Git LFS": (weights_of(POINTER), r"is only a pointer of Git LFS \(run `git lfs pull`\)"),
    "a web page as weights": (weights_of(b"<!DOCTYPE html><html></html>" * 9), "is cut off, or holds something else"),
    "a header that is no JSON": (weights_of((9).to_bytes(8, "little") + b'{"a": [1,' * 9), "A file of weights is cut off"),
    "a shard that is not there": (shards_without_one, "lacks shard-2.safetensors, a part of the weights that .*index.json"),
    "a shard cut off": (shard_cut_off, "shard.safetensors, a file of the model's weights, is cut off"),
    "a config cut off": (config_of(b'{"model_type": "qwen3",'), "config.json is no JSON object .* model.save_pretrained"),
    "an empty config": (config_of(b""), "config.json is no JSON object"),
    "a config that is a pointer": (config_of(POINTER), "config.json is no JSON object"),
    "a config in UTF-16": (config_of('{"model_type": "qwen3"}'.encode("utf-16")), "config.json is no JSON object"),
    "a config without a kind": (config_of(b'{"hidden_size": 32}'), 'config.json has no "model_type".*model.save_pretrained'),
    "nan": (put("model.norm.weight", float("nan")), "model.norm.weight holds nan or inf: the model is damaged"),
    "inf": (put("model.layers.1.mlp.up_proj.weight", float("inf")), "up_proj.weight holds nan or inf"),
    "-inf in bf16": (put("model.embed_tokens.weight", -float("inf"), torch.bfloat16), "holds nan or inf"),
    "a vector of another length": (another_shape("model.norm.weight", 7), r"model.norm.weight: \(7,\) in the file, \(32,\)"),
    "a matrix of another width": (another_shape("model.layers.0.mlp.up_proj.weight", 64, 31), r"\(64, 31\) in the file"),
    "a matrix on its side": (another_shape("model.layers.0.mlp.up_proj.weight", 32, 64), "1 of its weights have another"),
    "a larger tokenizer": (larger_tokenizer, "its tokenizer has 325 tokens, and the model knows 320"),
    "a pad token that was added": (pad_beyond_the_embedding, "tokenizer has 321 tokens, and the model knows 320"),
    "no end, no template": (without_end_token(None), "neither a chat template nor an end token"),
    "no end in the template": (without_end_token("{{ messages[0].content }}"), "the assistant's turn with no special"),
    "a template that fails": (template("{{ 1 // 0 }}"), "fails on a question and an answer: ZeroDivisionError"),
    "a template that is none": (template("{% for x in %}"), "TemplateSyntaxError.*a plain one is then used"),
    "a template that refuses": (template("{{ raise_exception('Never.') }}"), "TemplateError: Never"),
    "a pickle as a shard": (index_naming("pytorch_model.bin"), "names 'pytorch_model.bin', and weights are read only from"),
    "a pickle by another name": (index_naming("shard.safetensors.pt"), "names 'shard.safetensors.pt'"),
    "a shard above": (index_naming("../outside.safetensors"), "names '../outside.safetensors'"),
    "a shard by its full path": (index_naming("/tmp/outside.safetensors"), "names '/tmp/outside.safetensors'"),
    "a shard below": (index_naming("a/shard.safetensors"), "names 'a/shard.safetensors'"),
    "a shard as Windows has it": (index_naming("..\\outside.safetensors"), "names "),
    "a shard that is no name": (index_naming(3), "names 3, and weights"),
    "an index that is a list": (index_of("[]"), 'holds no "weight_map"'),
    "an index cut off": (index_of('{"weight_map": {"a"'), 'holds no "weight_map"'),
    "an index of a text": (index_of('{"weight_map": "model.bin"}'), 'holds no "weight_map"'),
    "weights named by the config": (another_file_of_weights("other.safetensors.index.json"), "another file of weights"),
    "an adapter's weights named by it": (another_file_of_weights("adapter_model.bin"), "names another file of weights"),
    "an adapter": (adapter(False), r"holds an adapter \(LoRA\) and no whole model. Load owner/base first"),
    "an adapter with a config": (adapter(True), r"holds an adapter \(LoRA\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNFIT)
def test_what_makes_no_model_is_one_clear_error_and_nothing_is_unpickled(kind, tiny_folder, monkeypatch):
    spoil, words = UNFIT[kind]
    spoil(tiny_folder)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch.load was called"))
    with pytest.raises(ModelFault, match=words) as caught:
        load_model_and_tokenizer(tiny_folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500 and caught.value.__cause__ is None


def test_shards_beside_their_index_are_loaded(tiny_folder):
    index_naming("shard.safetensors")(tiny_folder)
    assert load_model_and_tokenizer(tiny_folder)[0].num_parameters() > 0


def test_weights_that_are_not_used_are_said(tiny_folder, capsys):
    config = json.loads((tiny_folder / "config.json").read_text())
    config["num_hidden_layers"] -= 1
    config.pop("layer_types", None)
    (tiny_folder / "config.json").write_text(json.dumps(config))
    load_model_and_tokenizer(tiny_folder)
    assert "11 weights in its files are not used, such as model.layers.1." in capsys.readouterr().out


def test_a_tokenizer_without_end_token_takes_its_templates(tiny_folder, capsys):
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tiny_folder)
    model, tokenizer = load_model_and_tokenizer(tiny_folder)
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert "no end token of its own, so <|im_end|> ends a text" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        (["checkpoint-9", "checkpoint-100", "checkpoint-20"], r"a training's checkpoints \(.*name one of them, .*-100\."),
        (["model"], r"folders with models \(model\): name one of them, .*model\."),
        (["model", "checkpoint-5"], "checkpoint-5"),
        ([], "holds no model: there is no config.json"),
    ],
)  # fmt: skip
def test_a_folder_around_models_says_which_are_in_it(inside, words, tiny_folder, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    for name in inside:
        shutil.copytree(tiny_folder, run / name)
    with pytest.raises(FileNotFoundError, match=words):
        load_model_and_tokenizer(run)
    for name in inside:
        assert load_model_and_tokenizer(run / name)[0].num_parameters() > 0


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        (None, TypeError, "a text or a path, not a NoneType"),
        (5, TypeError, "not a int"),
        (b"sprout-base", TypeError, "not a bytes"),
        (["sprout-base"], TypeError, "not a list"),
        ("~nosuch/x", FileNotFoundError, 'There is no folder "~nosuch/x"'),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", ValueError, 'is an address: give the name .*"owner/name"'),
        ("hf://Qwen/Qwen3-0.6B", ValueError, "is an address"),
        ("file:///tmp/model", ValueError, "is an address"),
        (Path("sprout-bse"), ValueError, 'did you mean "sprout-base"'),
        (Path("README.md"), FileNotFoundError, "README.md is a file: name the folder that it is in"),
        ("data/models", FileNotFoundError, "folders with models"),
    ],
)
def test_what_is_no_name_is_one_clear_error(name, error, words, no_network):
    with pytest.raises(error, match=words) as caught:
        load_model_and_tokenizer(name)
    assert "\n" not in str(caught.value) and caught.value.__cause__ is None


def test_a_path_is_a_name(tiny_folder):
    assert resolve_model_name(Path("sprout-base")) == resolve_model_name("sprout-base")
    assert resolve_model_name(tiny_folder) == (str(tiny_folder), True)
