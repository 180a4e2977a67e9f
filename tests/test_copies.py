"""Generating beside a training: nothing shared is changed, and what trains ends with the bits of the undisturbed run."""

import threading
from types import MethodType

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import make_model, make_tokenizer
from tiny_trainers import result, tiny_trainer
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from helper import generation
from helper.copies import sharing_copy, use_fused_attention
from helper.explorers.chat import chat_side_by_side
from helper.explorers.next_tokens import explore_next_token, likeliest_token
from helper.generation import complete_text, drawing_with, generate_responses, generate_tokens, next_token_table

QUESTIONS = ["what?", "12 + 34", "six seven"]


def in_a_thread(function, *args, **kwargs):
    """What the function gives when another thread calls it; its error is raised here."""
    found = {}

    def call():
        try:
            found["value"] = function(*args, **kwargs)
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if "error" in found:
        raise found["error"]
    return found["value"]


@pytest.fixture
def training(tokenizer):
    """A model as it is in a training on a CPU: "eager", in train mode, with dropout, its forward pass wrapped."""
    model = make_model(tokenizer, seed=2)
    model.set_attn_implementation("eager")
    model.config.attention_dropout = 0.3
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.3
    model.forward = MethodType(type(model).forward, model)
    return model.train()


def test_a_copy_has_the_same_weights_and_all_else_of_its_own(training):
    twin = sharing_copy(training)
    assert all(a is b for a, b in zip(twin.parameters(), training.parameters(), strict=True))
    assert all(a is b for a, b in zip(twin.buffers(), training.buffers(), strict=True))
    assert not {id(part) for part in twin.modules()} & {id(part) for part in training.modules()}
    assert twin.lm_head.weight is twin.model.embed_tokens.weight
    assert twin.config is twin.model.config is twin.model.layers[1].self_attn.config is not training.config
    assert "forward" in vars(training) and "forward" not in vars(twin)
    assert not any(part.training for part in twin.modules()) and all(part.training for part in training.modules())
    shared = {id(value) for part in training.modules() for value in vars(part).values() if isinstance(value, dict)}
    assert not shared & {id(value) for part in twin.modules() for value in vars(part).values() if isinstance(value, dict)}


def test_a_copy_computes_the_same_and_follows_the_weights(training):
    ids, plain = torch.tensor([[5, 6, 7]]), training.eval()
    before = sharing_copy(training)(input_ids=ids).logits
    assert torch.equal(before, plain(input_ids=ids).logits)
    with torch.no_grad():
        training.lm_head.weight.mul_(2)
    assert torch.equal(sharing_copy(training)(input_ids=ids).logits, plain(input_ids=ids).logits)
    assert not torch.equal(sharing_copy(training)(input_ids=ids).logits, before)


def test_parts_that_are_shared_bound_or_adapted_are_found():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.again = self.first
            self.none = None
            self.act = self.twice
            self.register_module("nothing", None)

        def twice(self, x):
            return 2 * self.again(x) if not self.training else x * 0

        def forward(self, x):
            return self.act(self.first(x))

    odd = Odd().train()
    twin = sharing_copy(odd)
    assert twin.first is twin.again is not odd.first and twin.act.__self__ is twin
    x = torch.ones(1, 3)
    assert not odd(x).any() and torch.equal(twin(x), odd.eval()(x))
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    model.set_attn_implementation("eager")
    adapted = get_peft_model(model, LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"])).train()
    answers = generate_responses(adapted, tokenizer, QUESTIONS, max_new_tokens=6)
    assert adapted.training and adapted.config._attn_implementation == "eager"
    assert answers == generate_responses(adapted.merge_and_unload(), tokenizer, QUESTIONS, max_new_tokens=6)


# Nothing shared is changed

CALLS = {
    "responses": lambda m, t: generate_responses(m, t, QUESTIONS, max_new_tokens=4),
    "samples": lambda m, t: generate_responses(m, t, QUESTIONS, max_new_tokens=4, temperature=1.0, num_samples=2, seed=3),
    "text": lambda m, t: complete_text(m, t, QUESTIONS, 4),
    "tokens": lambda m, t: generate_tokens(m, t, [[5, 6], [7]], 9, temperature=1.0, seed=0),
    "table": lambda m, t: next_token_table(m, t, "what is"),
    "likeliest": lambda m, t: likeliest_token(m, t, "what is"),
    "questions": lambda m, t: generation.test_model_with_questions(m, t, QUESTIONS, max_new_tokens=3),
    "chat": lambda m, t: chat_side_by_side({"a": (m, t), "b": (m, t)}, "one", max_new_tokens=3).controls["ask"].click(),
    "next token": lambda m, t: explore_next_token({"a": (m, t)}, "one").controls["append a"].click(),
}


def state_of(model):
    """All that generating could leave behind: each part's attributes, the configs, the random numbers."""
    parts = [(id(part), {name: id(value) for name, value in vars(part).items()}) for part in model.modules()]
    dicts = [list(value) for part in model.modules() for value in vars(part).values() if isinstance(value, dict)]
    randomness = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    return parts, dicts, model.config.to_dict(), model.config._attn_implementation, randomness, torch.is_grad_enabled()


@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("copied", [False, True])
def test_the_model_is_left_alone_all_the_while(name, copied, training, tokenizer, monkeypatch):
    """Not for a moment: whatever sets a mode, an attention or an attribute of a config is watched."""
    monkeypatch.setattr(generation, "LARGE", 1 if copied else 10**12)
    monkeypatch.setattr(generation, "bf16_is_fast", lambda device: True)
    own = {id(part) for part in training.modules()} | {id(training.config)}

    def watched(owner, method):
        real = getattr(owner, method)

        def call(self, *args, **kwargs):
            assert id(self) not in own, f"{method} of the model itself"
            return real(self, *args, **kwargs)

        monkeypatch.setattr(owner, method, call)

    before = state_of(training)
    for owner, method in (
        (nn.Module, "train"), (nn.Module, "__setattr__"), (nn.Module, "register_forward_hook"),
        (PreTrainedModel, "set_attn_implementation"), (PretrainedConfig, "__setattr__"),
    ):  # fmt: skip
        watched(owner, method)
    CALLS[name](training, tokenizer)
    assert state_of(training) == before


# A training beside it


def disturbed(trainer, tokenizer, act):
    """Train while another thread acts in the middle of each of the training's forward passes."""
    main, model = threading.current_thread(), trainer.model

    def meanwhile(part, inputs):
        if threading.current_thread() is main and part.training:  # also the hook of the copy's part
            in_a_thread(act, model, tokenizer)

    model.model.layers[1].register_forward_pre_hook(meanwhile)
    trainer.train()
    return result(trainer)


def trainer_of(kind, tiny, folder):
    trainer = tiny_trainer(kind, tiny, folder, steps=3, save_strategy="no")
    trainer.model.set_attn_implementation("eager")
    for layer in trainer.model.model.layers:
        layer.self_attn.attention_dropout = 0.2
    return trainer


ACTS = ["samples", "text", "tokens", "table", "chat", "next token"]


@pytest.mark.filterwarnings("ignore:Glyph .* missing from")
@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo"])
def test_a_training_ends_with_the_same_bits(kind, tiny, tmp_path, tokenizer):
    alone = trainer_of(kind, tiny, tmp_path / "alone")
    alone.train()
    names = iter(ACTS * 99)

    def act(model, tokenizer):
        CALLS[next(names)](model, tokenizer)
        generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=3, temperature=1.0)  # without a seed

    assert disturbed(trainer_of(kind, tiny, tmp_path / "beside"), tokenizer, act) == result(alone)


@pytest.mark.parametrize("fault", ["attention", "mode", "numbers"])
def test_a_planted_fault_changes_the_training(fault, tiny, tmp_path, tokenizer, monkeypatch):
    """What generation did before, one at a time: the test above can fail."""
    alone = trainer_of("sft", tiny, tmp_path / "alone")
    alone.train()
    acts = {
        "attention": lambda model, tokenizer: model.set_attn_implementation("sdpa"),
        "mode": lambda model, tokenizer: model.eval(),
        "numbers": lambda model, tokenizer: generate_tokens(model, tokenizer, [[5]], 2, temperature=1.0),
    }
    if fault == "numbers":
        monkeypatch.setattr(generation, "drawing_with", lambda seed, device: None)
    assert disturbed(trainer_of("sft", tiny, tmp_path / "beside"), tokenizer, acts[fault]) != result(alone)


def test_threads_that_generate_at_once_get_what_each_gets_alone(training, tokenizer):
    def sample(seed):
        return [
            generate_responses(training, tokenizer, QUESTIONS, max_new_tokens=8, temperature=1.0, seed=seed),
            generate_responses(training, tokenizer, QUESTIONS, max_new_tokens=8),
        ]

    alone, found = {seed: sample(seed) for seed in range(4)}, {}
    start = threading.Barrier(4)

    def run(seed):
        start.wait()
        found[seed] = [sample(seed) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: [alone[seed]] * 3 for seed in range(4)}
    assert len({str(texts[0]) for texts in alone.values()}) > 1


def test_only_the_main_thread_chooses_the_number_of_threads(model, tokenizer, monkeypatch):
    asked = []
    monkeypatch.setattr(generation, "MUCH", 1)
    monkeypatch.setattr(generation.Pace, "start", lambda pace, max_age=0.0: asked.append("start"))
    monkeypatch.setattr(generation.Pace, "step", lambda pace: asked.append("step"))
    in_a_thread(generate_tokens, model, tokenizer, [[5]], 3)
    assert asked == []
    generate_tokens(model, tokenizer, [[5]], 3)
    assert asked == ["start", "step", "step", "step"]


# Random numbers


def test_in_the_main_thread_the_draws_are_the_lessons(model, tokenizer):
    """One number a row and token, from PyTorch's own generator, as it always was: trained weights depend on it."""
    torch.manual_seed(7)
    first = generate_tokens(model, tokenizer, [[5, 6], [7]], 5, temperature=1.0, keep_end=True)
    after = torch.get_rng_state()
    torch.manual_seed(7)
    for place in range(max(map(len, first))):
        torch.rand(sum(len(row) > place for row in first), 1)
    assert torch.equal(torch.get_rng_state(), after)
    assert drawing_with(None) is None


def test_a_seed_draws_what_the_lessons_numbers_would_have_drawn(model, tokenizer):
    torch.manual_seed(7)
    expected = generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=6, temperature=1.5)
    before = torch.get_rng_state()
    for _ in range(2):
        assert generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=6, temperature=1.5, seed=7) == expected
    assert torch.equal(torch.get_rng_state(), before)
    assert generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=6, temperature=1.5, seed=8) != expected


def test_another_thread_draws_from_a_generator_of_its_own(model, tokenizer):
    def two():
        return [generate_responses(model, tokenizer, "one", max_new_tokens=9, temperature=2.0) for _ in range(2)]

    torch.manual_seed(3)
    state = torch.get_rng_state()
    first, again = in_a_thread(two), in_a_thread(two)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == again == two() and first[0] != first[1]  # begun with the seed set last, and going on
    torch.manual_seed(4)
    assert in_a_thread(two) != first


def test_families_without_the_fused_attention_keep_theirs():
    class NoFused(nn.Module):
        config = type("Config", (), {"_attn_implementation": "eager"})()

        def set_attn_implementation(self, name):
            raise ValueError("does not support scaled_dot_product_attention yet")

    use_fused_attention(NoFused())
