"""Model families beside the course's own: tiny random models of each class load, and generate what the library would.

Or one line says why not. Templates with rules of their own are the families' real ones, from TRL or written out below.
"""

import importlib.util
from pathlib import Path

import pytest
import torch
from tiny import make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from helper.generation import complete_text, generate_responses, generate_tokens, next_token_table, stop_token_ids
from helper.models import end_of_turn_id, load_model_and_tokenizer
from helper.trainers.label_checks import check_chat_template

SHAPE = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "initializer_range": 0.5, "tie_word_embeddings": True, "pad_token_id": 1,
    "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
SLIDING = {"head_dim": 8, "sliding_window": 8}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
FAMILIES = {
    "llama": {}, "mistral": SLIDING, "gemma": {"head_dim": 8}, "gemma2": {**SLIDING, "query_pre_attn_scalar": 8},
    "gemma3_text": {**SLIDING, "query_pre_attn_scalar": 8}, "phi3": {"sliding_window": 8},
    "gpt_oss": {**SLIDING, "num_local_experts": 4}, "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 32},
    "qwen3_moe": EXPERTS, "mixtral": {"num_local_experts": 4}, "gpt2": {"n_positions": 256}, "bloom": {},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32}, "smollm3": {},
}  # fmt: skip
STATES = {
    "mamba": {"state_size": 4}, "mamba2": {"state_size": 4, "num_heads": 8, "head_dim": 8},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}  # fmt: skip
PROMPTS = [list(range(5, 18)), [20, 21], [30, 31, 32, 33, 34], [20, 21]]


@pytest.fixture
def family(tmp_path):
    """A function that makes a model of a family, saves it with a tokenizer, and loads it by its folder."""

    def load(name, settings, **options):
        tokenizer = make_tokenizer(**options)
        config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **SHAPE | settings)
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return load_model_and_tokenizer(tmp_path / name)

    return load


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_generates_what_the_library_does(name, family):
    model, tokenizer = family(name, FAMILIES[name])
    ours, ends = generate_tokens(model, tokenizer, PROMPTS, 20), set(stop_token_ids(model, tokenizer))
    assert len(set(map(tuple, ours))) > 2  # or the comparison says nothing
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        theirs = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=20)[0, len(prompt) :].tolist()
        assert tokens == [token for token in theirs if token not in ends]
    questions = ["what is the capital of a place?", "one"]
    together = generate_responses(model, tokenizer, questions, max_new_tokens=8)
    assert together == [generate_responses(model, tokenizer, question, max_new_tokens=8) for question in questions]
    assert complete_text(model, tokenizer, "one two", 5) is not None
    assert len(next_token_table(model, tokenizer, "one two")) == 8


@pytest.mark.parametrize("name", STATES)
def test_a_family_with_a_state_says_in_one_line_why_not(name, family):
    model, tokenizer = family(name, STATES[name])
    with pytest.raises(
        NotImplementedError, match=rf"^{type(model).__name__} keeps no keys and values .*model.generate"
    ) as caught:
        generate_responses(model, tokenizer, "one", max_new_tokens=3)
    assert "\n" not in str(caught.value)
    assert len(next_token_table(model, tokenizer, "one two")) == 8  # which needs none


# Templates

TRL = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
MISTRAL = (  # mistralai/Mistral-7B-Instruct-v0.1
    "{{ bos_token }}{% for message in messages %}" + ALTERNATE + "{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ message['content'] + eos_token + ' ' }}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
LLAMA_2 = (  # meta-llama/Llama-2-7b-chat-hf
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ALTERNATE +
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)  # fmt: skip
MARKS = {
    "mistral": ("</s>", "<pad>", "<s>"), "llama 2": ("</s>", "<pad>", "<s>"),
    "gemma": ("<eos>", "<pad>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    "gemma3": ("<eos>", "<pad>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    "phi3": ("<|endoftext|>", "<pad>", "<s>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
    "gptoss": ("<|return|>", "<pad>", "<|startoftext|>", "<|start|>", "<|message|>", "<|end|>", "<|channel|>"),
    "llama3": ("<|eot_id|>", "<pad>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
}  # fmt: skip
TEMPLATES = {name: (TRL / f"{name}.jinja") for name in MARKS if (TRL / f"{name}.jinja").is_file()}
ENDS = {"mistral": "</s>", "llama 2": "</s>", "phi3": "<|end|>", "gptoss": "<|return|>", "llama3": "<|eot_id|>"}
SYSTEM = [{"role": "system", "content": "one"}, {"role": "user", "content": "two"}]
TWICE = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]


def tokenizer_of(name):
    text = {"mistral": MISTRAL, "llama 2": LLAMA_2}.get(name) or TEMPLATES[name].read_text("utf-8")
    tokenizer = make_tokenizer(special=MARKS[name], template=text)
    tokenizer.bos_token = MARKS[name][2]
    return tokenizer


@pytest.mark.parametrize("name", MARKS)
def test_a_familys_own_template_is_understood(name, model, capsys):
    tokenizer = tokenizer_of(name)
    check_chat_template(tokenizer, own=True)
    assert not capsys.readouterr().out
    assert tokenizer.decode([end_of_turn_id(tokenizer)]) == ENDS.get(name, "<end_of_turn>")
    assert isinstance(generate_responses(model, tokenizer, "one", max_new_tokens=3), str)


@pytest.mark.parametrize(
    ("name", "conversation", "words"),
    [
        ("gemma", SYSTEM, "Conversation 1: .*refuses it: .*Perhaps it knows no system message"),
        ("mistral", SYSTEM, "refuses it: .*must alternate.*Perhaps it knows no system message"),
        ("gemma", TWICE, "refuses it: .*Perhaps user and assistant must take turns"),
        ("mistral", TWICE, "refuses it: .*Perhaps user and assistant must take turns"),
        ("llama 2", TWICE, "refuses it: .*Perhaps user and assistant must take turns"),
        (
            "mistral",
            [*TWICE[:1], {"role": "tool", "content": "x"}],
            "refuses it: Only user and assistant roles are supported",
        ),
    ],
)
def test_what_a_template_refuses_is_said_in_one_line(name, conversation, words, model):
    with pytest.raises(ValueError, match=words) as caught:
        generate_responses(model, tokenizer_of(name), full_message=[TWICE[:1], conversation], max_new_tokens=2)
    assert "\n" not in str(caught.value) and caught.value.__suppress_context__


def test_a_template_may_fail_in_any_way(model):
    for text, words in (("{{ 1 // 0 }}", "integer division"), ("{% for x in %}", "Expected an expression")):
        with pytest.raises(ValueError, match=f"Conversation 0: the tokenizer's chat template refuses it: {words}"):
            generate_responses(model, make_tokenizer(template=text), "one")
