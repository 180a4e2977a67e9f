"""4-bit layers of bitsandbytes after an answer: the same gradients as the rounded weights' own, or no longer."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from helper import generate_responses, load_model_and_tokenizer
from helper.algorithms.lora import target_layers
from helper.algorithms.nf4 import dequantise, quantise
from helper.four_bits import REPACKS, keep_trainable

bitsandbytes = pytest.importorskip("bitsandbytes")
IDS = torch.arange(5, 69)[None]


@pytest.fixture(scope="module")
def sprout():
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    return model.float(), tokenizer


def four_bits(model):
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    options = {"quantization_config": config, "dtype": torch.float32, "attn_implementation": "eager"}
    return AutoModelForCausalLM.from_pretrained(model.config.name_or_path, **options)


def gradients(model) -> dict[str, torch.Tensor]:
    """Of an adapter's matrices, all of them other than 0."""
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    generator = torch.Generator().manual_seed(0)
    trained = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
    for weight in trained.values():
        weight.data.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    adapted.train()(input_ids=IDS, labels=IDS).loss.backward()
    return {name: weight.grad for name, weight in trained.items()}


@pytest.fixture(scope="module")
def expected(sprout):
    rounded = copy.deepcopy(sprout[0])
    for name in target_layers(rounded):
        weight = rounded.get_submodule(name).weight.data
        weight.copy_(dequantise(quantise(weight)))
    return gradients(rounded)


def apart(found: dict, expected: dict) -> float:
    """The largest relative distance of a gradient."""
    return max(((found[name] - wanted).norm() / wanted.norm()).item() for name, wanted in expected.items())


def test_after_an_answer_the_gradients_are_those_of_the_rounded_weights(sprout, expected):
    model = four_bits(sprout[0])
    keep_trainable(model)
    generate_responses(model, sprout[1], ["What is a whale?"], max_new_tokens=4)
    assert apart(gradients(model), expected) < 1e-4


@pytest.mark.filterwarnings("ignore:bitsandbytes")
def test_without_it_they_are_lost_where_the_processor_repacks(sprout, expected):
    """When this fails, bitsandbytes has mended it: then `helper.four_bits` may go."""
    model = four_bits(sprout[0])
    if not any(getattr(part, REPACKS, False) for part in model.modules()):
        pytest.skip("this processor has no AVX512-BF16")
    generate_responses(model, sprout[1], ["What is a whale?"], max_new_tokens=4)
    assert apart(gradients(model), expected) > 0.5


def test_it_counts_the_layers_and_does_nothing_twice(sprout):
    model = four_bits(sprout[0])
    layers = sum(getattr(part, REPACKS, False) for part in model.modules())
    assert keep_trainable(model) == layers in (0, len(target_layers(sprout[0]))) and keep_trainable(model) == 0
