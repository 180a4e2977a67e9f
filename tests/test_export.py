"""Exports: safetensors and GGUF, loaded again by readers of others, number by number and answer by answer."""

import json
import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tiny import make_model, make_tokenizer
from tokenizers import Regex, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config
from transformers import Qwen2ForCausalLM as Qwen2

from helper.data import load_suite
from helper.export import gguf_files, gguf_vocabulary
from helper.export.gguf_files import KINDS, apart, compare_gguf, gguf_keys, interleaved, load_gguf, write_gguf
from helper.export.gguf_vocabulary import SPLITS, name_of_split, without_training_marks
from helper.export.model_cards import file_digest, model_card
from helper.export.safe_folders import answers_changed, save_card, save_model
from helper.generation import generate_responses
from helper.machine.folders import project_folder
from helper.models import load_model_and_tokenizer
from helper.scoreboards import scoreboard

SAID = [
    {"role": "system", "content": "Be short."}, {"role": "user", "content": "What is 12 + 3?"},
    {"role": "assistant", "content": "15."}, {"role": "user", "content": "And  don't   you\nknow 007?"},
]  # fmt: skip


@pytest.fixture(scope="module")
def sprout():
    return load_model_and_tokenizer("sprout-instruct")


@pytest.fixture(scope="module")
def file(sprout, tmp_path_factory) -> Path:
    return write_gguf(*sprout, tmp_path_factory.mktemp("gguf") / "sprout.gguf", "Sprout")


@pytest.fixture(scope="module")
def questions():
    return [row["question"] for row in load_suite("instructions")[::13] + load_suite("word_problems")[:20]]


# GGUF


def test_every_tensor_is_the_models_read_by_the_package_gguf(sprout, file):
    """Not through our own `compare_gguf`: Sprout's matrices keep their order, so each is there as it is."""
    weights = {name: weight.numpy() for name, weight in sprout[0].state_dict().items() if name != "lm_head.weight"}
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    assert len(tensors) == len(weights) == 4 * 11 + 2 and "output.weight" not in tensors  # the last layer is tied
    for mine, theirs in [
        ("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"),
        ("model.layers.2.self_attn.q_proj", "blk.2.attn_q"), ("model.layers.2.self_attn.k_norm", "blk.2.attn_k_norm"),
        ("model.layers.3.mlp.down_proj", "blk.3.ffn_down"), ("model.layers.0.post_attention_layernorm", "blk.0.ffn_norm"),
    ]:  # fmt: skip
        found = tensors[f"{theirs}.weight"]
        assert found.tensor_type == gguf.GGMLQuantizationType.F32 and np.array_equal(found.data, weights[f"{mine}.weight"])
    differences = compare_gguf(file, sprout[0])
    assert set(differences) == set(tensors) and max(differences.values()) == 0


def test_the_keys_are_what_llama_cpp_looks_for(sprout, file):
    keys, config = gguf_keys(file), sprout[0].config
    assert keys["general.architecture"] == "qwen3" and keys["general.name"] == "Sprout" and keys["general.file_type"] == 0
    wanted = {
        "block_count": 4, "context_length": 512, "embedding_length": 256, "feed_forward_length": 768,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 64, "attention.value_length": 64,
        "rope.freq_base": 10000.0, "vocab_size": config.vocab_size,
    }  # fmt: skip
    assert {name: keys[f"qwen3.{name}"] for name in wanted} == wanted
    assert keys["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(config.rms_norm_eps)
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    assert keys["tokenizer.ggml.model"] == "gpt2" and keys["tokenizer.ggml.pre"] == "gpt-2"
    assert len(tokens) == len(types) == 3072 and tokens[:4] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert types[:5] == [3, 3, 3, 3, 1] and set(types) == {1, 3} and not keys["tokenizer.ggml.add_bos_token"]
    ids = [keys[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")]
    assert ids == [sprout[1].bos_token_id, sprout[1].eos_token_id, sprout[1].pad_token_id]
    assert len(keys["tokenizer.ggml.merges"]) == len(json.loads(sprout[1].backend_tokenizer.to_str())["model"]["merges"])


def test_transformers_reads_the_same_model_from_the_file(sprout, file, questions):
    """An independent reader: its names, its order of rows, its tokenizer. Greedy answers of 80 questions are equal."""
    model, tokenizer = load_gguf(file)
    weights = model.state_dict()
    assert all(torch.equal(weights[name], weight) for name, weight in sprout[0].state_dict().items())
    assert model.config.head_dim == 64 and model.config.rope_parameters["rope_theta"] == 10000.0
    assert len(questions) >= 80
    assert answers_changed(*sprout, model, tokenizer, questions) == []


def test_the_files_tokenizer_reads_every_text_of_the_course_alike(sprout, file):
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    rows = [line for path in (project_folder() / "data").glob("*/*.jsonl") for line in path.read_text("utf-8").splitlines()]
    texts = [text for line in rows[::7] for text in texts_of(json.loads(line))]
    assert len(texts) > 4000
    pairs = zip(texts, sprout[1](texts).input_ids, tokenizer(texts).input_ids)
    assert [text for text, mine, theirs in pairs if mine != theirs] == []


def texts_of(value) -> list[str]:
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for inner in values for text in texts_of(inner)]


def test_the_files_chat_template_makes_the_same_text(sprout, file):
    template = gguf_keys(file)["tokenizer.chat_template"]
    assert "generation %}" not in template and "generation %}" in sprout[1].chat_template
    for messages in (SAID[:2], SAID, SAID[1:3]):
        for begin in (True, False):
            options = {"tokenize": False, "add_generation_prompt": begin}
            mine = sprout[1].apply_chat_template(messages, **options)
            assert sprout[1].apply_chat_template(messages, chat_template=template, **options) == mine
    assert without_training_marks("a{%- generation -%}b{% endgeneration%}c{% if x %}") == "abc{% if x %}"


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 2**-8), ("float16", 2**-11), ("q8_0", 1 / 127)])
def test_rounded_files_are_as_near_as_their_kind_allows(sprout, tmp_path, dtype, most):
    """The error of a weight against the largest of its tensor: half a step of the kind."""
    path = write_gguf(*sprout, tmp_path / "a.gguf", dtype=dtype)
    weights = gguf_files.gguf_weights(sprout[0], sprout[0].config)
    for name, difference in compare_gguf(path, sprout[0]).items():
        assert difference <= most * np.abs(weights[name]).max() and (weights[name].ndim == 2 or difference == 0)
    assert gguf_keys(path)["general.file_type"] == KINDS[dtype][1]
    model, tokenizer = load_gguf(path)
    answer = generate_responses(model, tokenizer, "What is a photon?", max_new_tokens=40)
    assert "light" in answer and path.stat().st_size < 0.6 * 4 * sum(w.numel() for w in sprout[0].parameters())


def llama(tokenizer, **changed):
    torch.manual_seed(0)
    options = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    options |= {"num_key_value_heads": 2, "max_position_embeddings": 128, "vocab_size": len(tokenizer) + 3}
    return LlamaForCausalLM(LlamaConfig(**options, initializer_range=0.3, **changed)).eval()


def qwen2(tokenizer):
    torch.manual_seed(0)
    options = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = Qwen2(
        Qwen2Config(**options, num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=128)
    ).eval()
    for name, weight in model.named_parameters():  # else the biases are 0
        torch.nn.init.normal_(weight, std=0.3) if name.endswith("bias") else None
    return model


@pytest.mark.parametrize(
    "make",
    [llama, lambda t: llama(t, tie_word_embeddings=True), lambda t: llama(t, rope_theta=50000.0), qwen2, make_model],
    ids=["llama", "llama, tied", "llama, another base", "qwen2, with biases", "qwen3"],
)
def test_other_families_come_back_with_the_same_logits(make, tokenizer, tmp_path):
    """In a Llama file the rows of queries and keys stand in another order; transformers puts them back."""
    model = make(tokenizer)
    path = write_gguf(model, tokenizer, tmp_path / "a.gguf")
    assert max(compare_gguf(path, model).values()) == 0
    again, _ = load_gguf(path)
    ids = torch.arange(40)[None] + 5
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, again(ids).logits, atol=1e-5)


def test_the_order_of_rows_matters_and_turns_back():
    weight = np.arange(64 * 3).reshape(64, 3)
    assert not np.array_equal(interleaved(weight, 4), weight)
    assert np.array_equal(apart(interleaved(weight, 4), 4), weight) and np.array_equal(
        interleaved(apart(weight, 2), 2), weight
    )


@pytest.mark.parametrize("fault", ["changed", "swapped", "missing", "other"])
def test_a_planted_fault_in_a_file_is_found(sprout, tmp_path, monkeypatch, fault):
    weights = {name: weight.copy() for name, weight in gguf_files.gguf_weights(sprout[0], sprout[0].config).items()}
    if fault == "changed":
        weights["blk.1.attn_q.weight"][3, 4] += 0.5
    elif fault == "swapped":
        weights["blk.1.attn_q.weight"] = interleaved(weights["blk.1.attn_q.weight"], 4)
    elif fault == "missing":
        del weights["blk.3.ffn_up.weight"]
    else:
        weights["blk.4.ffn_up.weight"] = weights["blk.3.ffn_up.weight"]
    with monkeypatch.context() as patched:
        patched.setattr(gguf_files, "gguf_weights", lambda model, config: weights)
        path = write_gguf(*sprout, tmp_path / "a.gguf")
    if fault in ("changed", "swapped"):
        differences = compare_gguf(path, sprout[0])
        assert [name for name, value in differences.items() if value] == ["blk.1.attn_q.weight"]
    else:
        with pytest.raises(ValueError, match="lacks 1|is not the model's"):
            compare_gguf(path, sprout[0])


# What cannot be written


def mistral(tokenizer):
    return MistralForCausalLM(MistralConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, vocab_size=400))


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (mistral, {}, "mistral model is not written here"), (make_model, {"dtype": "int4"}, "dtype='int4'"),
        (make_model, {"path": "a.bin"}, "let it end in .gguf"),
        (lambda t: llama(t, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}), {}, "'linear'"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_and_nothing_is_written(make, options, words, tokenizer, tmp_path):
    path = tmp_path / options.pop("path", "a.gguf")
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=words):
        write_gguf(make(tokenizer), tokenizer, path, **options)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_tokenizer_that_llama_cpp_would_read_otherwise_is_refused(model, tmp_path):
    tokenizer = make_tokenizer()
    odd = pre_tokenizers.Split(Regex("[aeiou]"), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([odd, byte])
    with pytest.raises(ValueError, match="none of gpt-2, smollm"):
        write_gguf(model, tokenizer, tmp_path / "a.gguf")
    tokenizer.backend_tokenizer.decoder = None
    with pytest.raises(ValueError, match="no byte-level BPE tokenizer"):
        write_gguf(model, tokenizer, tmp_path / "a.gguf")
    assert not list(tmp_path.iterdir())


def test_the_name_of_a_split_is_found_by_what_it_does():
    for name, split in SPLITS.items():
        assert name_of_split(trained_on_probes(split)) == name


def trained_on_probes(split):
    """A tokenizer whose merges were learned with this split, so that another one shows."""
    from tokenizers import trainers

    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = split
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet)
    tokenizer.backend_tokenizer.train_from_iterator([*gguf_vocabulary.PROBES, " 12 345 1,000 don't It's"] * 9, trainer)
    return tokenizer


def test_an_error_in_the_middle_leaves_the_old_file(sprout, tmp_path, monkeypatch):
    path = write_gguf(*sprout, tmp_path / "a.gguf")
    before = path.read_bytes()

    def full(self, *args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="No space"):
        write_gguf(*sprout, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "There is no file"), (b"", "no GGUF file"), (b"PK\3\4zip", "no GGUF file"), (400, "cut off")],
)
def test_what_is_no_gguf_file_is_said(file, tmp_path, content, words):
    path = tmp_path / "a.gguf"
    if content is not None:
        path.write_bytes(file.read_bytes()[:content] if isinstance(content, int) else content)
    with pytest.raises(ValueError, match=words):
        load_gguf(path)


# Folders and cards


def test_a_saved_model_answers_the_same_and_takes_the_old_ones_place(sprout, tmp_path, questions):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").write_text("old")
    assert save_model(*sprout, folder) == folder and not (folder / "old").exists()
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".jinja"}
    assert answers_changed(*sprout, *load_model_and_tokenizer(folder), questions[:50]) == []
    save_card(folder, "# a card")
    assert (folder / "README.md").read_text() == "# a card" and not list(folder.glob("*.unfinished"))
    with pytest.raises(ValueError, match="holds no model"):
        save_card(tmp_path, "# a card")


def test_a_damaged_model_is_not_saved(tokenizer, tmp_path):
    damaged = make_model(tokenizer)
    damaged.model.norm.weight.data[0] = float("nan")
    with pytest.raises(ValueError, match="norm.weight holds nan"):
        save_model(damaged, tokenizer, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_card_says_what_was_measured_and_no_text_escapes_from_it(tmp_path):
    (tmp_path / "rows.csv").write_text("a")
    board = scoreboard({"mine": ([0] * 50, [1] * 40 + [0] * 10), "nats": ([-2.0, -3.0, -1.0], [-1.0, -1.5, -0.2])})
    hostile = "```\n# Heading\n<img src=x> | [a](http://b)"
    card = model_card(
        "my|model", "sprout", "sft", {"rows": hostile}, {"steps": 3}, board, ["a `finding` <b>"], [(hostile, hostile)],
        {"a.gguf": file_digest(tmp_path / "rows.csv")[:16]},
    )  # fmt: skip
    assert (
        "80.0% (67.0 to 88.8)" in card and "+80.0 points" in card and "| steps | 3 |" in card and "ca978112ca1bbdca" in card
    )
    plain = card.split("````text")[0].splitlines()
    assert card.count("to be filled in") == 3 and "# Heading" not in plain and not re.search(r"(?<!\\)[<`]", "".join(plain))
    assert "````text\nQuestion: ```\n# Heading" in card
    table = [line for line in plain if line.startswith("| rows |")]
    assert len(table) == 1 and table[0].replace("\\|", "").count("|") == 3
