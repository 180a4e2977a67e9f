"""A tiny random Qwen3 with its own tokenizer, made in memory: no file, no network.

Left out on purpose: anything that it could have learned. What needs a model with skills takes one that ships.
"""

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from helper.models import CHATML_TEMPLATE, prepare_model

TEXT = [
    "user assistant system what is the capital of a place? 12 + 34 = 46",
    "one two three four five six seven",
]


def make_tokenizer(special=("<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"), template=CHATML_TEMPLATE):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=320, special_tokens=list(special), initial_alphabet=alphabet)
    )
    names = {"eos_token": special[0], "pad_token": special[1] if len(special) > 1 else None}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{k: v for k, v in names.items() if v})
    fast.chat_template = template
    return fast


def make_model(tokenizer, seed=0):
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, max_position_embeddings=512,
        tie_word_embeddings=True, initializer_range=0.5, attn_implementation="sdpa",
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    prepare_model(model, tokenizer)
    return model
