"""LoRA by hand against peft on Sprout: forward, gradients, merged weights; its file; planted mistakes; a 4-bit base."""

import inspect
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from test_algorithms import assert_close
from torch import nn
from transformers import AutoModelForCausalLM

from helper import load_model_and_tokenizer
from helper.algorithms import lora
from helper.algorithms.lora import (
    LoraLinear,
    add_lora,
    load_lora,
    lora_layers,
    merge,
    save_lora,
    switched_off,
    take_out,
    target_layers,
    trained_parameters,
    unmerge,
)

ATTENTION = ("q_proj", "v_proj")
IDS = torch.tensor([[5, 7, 11, 13, 17, 19, 23, 29], [31, 37, 41, 43, 47, 53, 59, 61]])


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The module, with one piece of its source replaced."""
    text = inspect.getsource(lora)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {"__name__": "changed"}
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


def sprout():
    return load_model_and_tokenizer("sprout-instruct")[0].float().eval()


def learned(shape: torch.Size, seed: int) -> torch.Tensor:
    """A matrix as after some training; B = 0 would hide half of the mistakes."""
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def loss_of(model) -> torch.Tensor:
    return model(input_ids=IDS, labels=IDS).loss


@pytest.fixture(scope="module", params=[(ATTENTION, False), ("all-linear", False), (ATTENTION, True)], ids=str)
def case(request):
    """What peft makes of an adapter: A and B of each layer, logits, gradients, merged weights."""
    targets, stabilised = request.param
    modules = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=4, lora_alpha=10, target_modules=modules, use_rslora=stabilised, task_type="CAUSAL_LM")
    model = get_peft_model(sprout(), config).eval()
    layers = {
        name.removeprefix("base_model.model."): part for name, part in model.named_modules() if hasattr(part, "lora_A")
    }
    layers = {name: part for name, part in layers.items() if "default" in part.lora_A}
    matrices = {}
    for place, (name, part) in enumerate(layers.items()):
        for letter, seed in (("A", place), ("B", 1000 + place)):
            weight = getattr(part, f"lora_{letter}")["default"].weight
            weight.data.copy_(learned(weight.shape, seed))
            matrices[f"{name}.{letter}"] = weight
    loss_of(model).backward()
    with torch.no_grad():
        logits = model(input_ids=IDS).logits
        with model.disable_adapter():
            without = model(input_ids=IDS).logits
    gradients = {name: weight.grad.clone() for name, weight in matrices.items()}
    values = {name: weight.detach().clone() for name, weight in matrices.items()}
    merged = model.merge_and_unload()
    weights = {name: merged.get_submodule(name).weight.detach().clone() for name in layers}
    return SimpleNamespace(
        targets=targets, stabilised=stabilised, values=values, logits=logits, without=without, gradients=gradients,
        weights=weights,
    )  # fmt: skip


def filled(functions, case):
    """Sprout with our layers and peft's A and B in them."""
    model = sprout()
    names = functions.add_lora(model, rank=4, alpha=10, targets=case.targets, rank_stabilised=case.stabilised)
    assert {f"{name}.{letter}" for name in names for letter in "AB"} == set(case.values)
    for name, layer in functions.lora_layers(model).items():
        for letter in "AB":
            getattr(layer, letter).data.copy_(case.values[f"{name}.{letter}"])
    return model


def check_parity(functions, case) -> None:
    """The same logits, gradients and merged weights as peft's; the same model again when it is switched off or unmerged."""
    model = filled(functions, case)
    loss_of(model).backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert set(found) == set(case.gradients)
    for name, gradient in case.gradients.items():
        assert_close(found[name], gradient, name)
    with torch.no_grad():
        assert_close(model(input_ids=IDS).logits, case.logits, "logits")
        with functions.switched_off(model):
            assert_close(model(input_ids=IDS).logits, case.without, "switched off")
        functions.merge(model)
        functions.merge(model)  # the second time it does nothing
        for name, weight in case.weights.items():
            assert_close(functions.lora_layers(model)[name].base.weight, weight, f"{name}, merged")
        assert_close(model(input_ids=IDS).logits, case.logits, "merged")
        functions.unmerge(model)
        functions.unmerge(model)
        assert_close(model(input_ids=IDS).logits, case.logits, "unmerged")


def test_peft_has_the_same(case):
    check_parity(lora, case)


MISTAKES = [
    ("alpha / (math.sqrt(rank) if rank_stabilised else rank)", "alpha"),
    ("math.sqrt(rank) if rank_stabilised else rank)", "rank if rank_stabilised else math.sqrt(rank))"),
    ("y + self.scaling * (x", "y + (x"),
    ("return self.scaling * self.B @ self.A", "return self.B @ self.A"),
    ("return (y + self.scaling", "return (self.scaling"),
    ("if self.merged or not self.scaling:", "if not self.scaling:"),
    ("        if not self.merged:\n            self.base", "        if True:\n            self.base"),
    ("self.base.weight.data -= self.change()", "self.base.weight.data += self.change()"),
    ("            layer.scaling = 0.0\n", "            layer.scaling = 1.0\n"),
    ("            layer.scaling = scaling\n", "            layer.scaling = 1.0\n"),
    ("    model.requires_grad_(False)\n    for name, layer in made", "    for name, layer in made"),
    ("self.A = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device))",
     "self.A = torch.empty(rank, base.in_features)"),
    ("isinstance(part, nn.Linear) and part is not head", "isinstance(part, nn.Linear)"),
]  # fmt: skip


@pytest.mark.parametrize("right, wrong", MISTAKES)
def test_a_mistake_is_caught(right, wrong, case):
    functions = changed(right, wrong)
    if "is not head" in right and case.targets != "all-linear":
        pytest.skip("this case does not come by there")
    with pytest.raises((AssertionError, AttributeError, KeyError, ValueError)):
        check_parity(functions, case)


def test_the_source_as_it_is_passes_too(case):
    check_parity(changed(), case)


# The layer


def test_nothing_changes_at_the_start_and_only_b_gets_a_gradient():
    torch.manual_seed(0)
    base, x = nn.Linear(6, 4), torch.randn(3, 6)
    before = base(x).detach()
    layer = LoraLinear(base, rank=2, alpha=4)
    assert torch.equal(layer(x), before) and layer.scaling == 2 and not layer.change().any()
    layer(x).sum().backward()
    assert layer.B.grad.abs().sum() > 0 and not layer.A.grad.any()  # as B is 0; after one step both learn
    assert base.weight.grad is None and not base.weight.requires_grad and not base.bias.requires_grad
    assert layer.A.abs().max() <= 1 / 6**0.5 and layer.A.std() > 0.1  # a linear layer's own start


def test_the_change_has_the_rank():
    torch.manual_seed(0)
    layer = LoraLinear(nn.Linear(20, 30, bias=False), rank=3, alpha=3)
    nn.init.normal_(layer.B)
    assert layer.change().shape == (30, 20) and torch.linalg.matrix_rank(layer.change()) == 3


@pytest.mark.parametrize("rank", [0, -1, 1.5, True, "4", None])
def test_a_wrong_rank_is_one_clear_error(rank):
    base = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="a whole number from 1"):
        LoraLinear(base, rank=rank, alpha=1)
    assert base.weight.requires_grad


def test_a_base_in_bfloat16_keeps_its_type():
    layer = LoraLinear(nn.Linear(8, 8).bfloat16(), rank=2, alpha=2)
    nn.init.normal_(layer.B)
    assert layer.A.dtype == torch.float32 and layer(torch.randn(2, 8).bfloat16()).dtype == torch.bfloat16
    layer.merge()
    assert layer.base.weight.dtype == torch.bfloat16


def test_a_base_without_floats_is_not_merged_and_no_other_layer_either():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    add_lora(model, rank=1, alpha=1, targets=("0", "1"))
    first, second = lora_layers(model).values()
    nn.init.ones_(first.B)
    before = first.base.weight.clone()
    second.base.weight = nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="uint8 and cannot take the change"):
        merge(model)
    assert torch.equal(first.base.weight, before) and not first.merged


# A model


@pytest.fixture
def student(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny).eval()


def fill(model, seed: int = 0) -> None:
    for place, layer in enumerate(lora_layers(model).values()):
        layer.B.data.copy_(learned(layer.B.shape, seed + place))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_what_trains_is_a_and_b(student):
    before = sum(weight.numel() for weight in student.parameters())
    names = add_lora(student, rank=2, alpha=4, targets=ATTENTION)
    assert names == [f"model.layers.{layer}.self_attn.{part}" for layer in (0, 1) for part in ATTENTION]
    found = trained_parameters(student)
    assert set(found) == {f"{name}.{letter}" for name in names for letter in "AB"}
    assert sum(found.values()) == 2 * (2 * (32 + 32) + 2 * (32 + 16))  # two layers: r (in + out) each
    assert sum(weight.numel() for weight in student.parameters()) == before + sum(found.values())


def test_a_few_steps_change_a_and_b_alone(student):
    before = {name: weight.clone() for name, weight in student.named_parameters()}
    add_lora(student, rank=2, alpha=4)
    optimizer = torch.optim.SGD([weight for weight in student.parameters() if weight.requires_grad], lr=0.1)
    losses = []
    for _ in range(5):
        loss = loss_of(student)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    take_out(student)
    assert all(torch.equal(weight, before[name]) for name, weight in student.named_parameters())


@pytest.mark.parametrize("targets", [("q_prj",), (), "everything", ("q_proj", "wrong")])
def test_a_target_that_is_not_there_is_named(student, targets):
    with pytest.raises(ValueError, match="there is q_proj, k_proj, v_proj, o_proj, gate_proj"):
        add_lora(student, rank=1, alpha=1, targets=targets)
    assert not lora_layers(student) and all(weight.requires_grad for weight in student.parameters())


def test_all_linear_leaves_the_head_alone(student):
    assert len(target_layers(student)) == 14 and "lm_head" not in target_layers(student)
    with pytest.raises(ValueError, match="no linear layer is called lm_head".capitalize()):
        target_layers(student, ("lm_head",))


def test_twice_is_refused(student):
    add_lora(student, rank=1, alpha=1)
    with pytest.raises(ValueError, match="has LoRA layers already"):
        add_lora(student, rank=1, alpha=1)


def test_merged_and_taken_out_it_is_a_plain_model_with_the_same_answers(student, tmp_path):
    names = {name for name, _ in student.named_parameters()}
    add_lora(student, rank=3, alpha=6)
    fill(student)
    wanted = logits(student)
    merge(student)
    take_out(student)
    assert {name for name, _ in student.named_parameters()} == names
    assert_close(logits(student), wanted, "merged")
    student.save_pretrained(tmp_path / "merged")
    assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), wanted, "merged, from its file")


def test_a_merged_model_is_no_reference(student):
    add_lora(student, rank=1, alpha=1)
    merge(student)
    with pytest.raises(ValueError, match="unmerge it first"), switched_off(student):
        pass


def test_nothing_to_merge(student):
    with pytest.raises(ValueError, match="no LoRA layers to merge"):
        merge(student)


def test_it_is_switched_on_again_after_an_error(student):
    add_lora(student, rank=1, alpha=3)
    with pytest.raises(KeyError), switched_off(student):
        raise KeyError
    assert {layer.scaling for layer in lora_layers(student).values()} == {3}


# The file


def test_the_file_holds_the_adapter_in_kilobytes(student, tiny, tmp_path):
    add_lora(student, rank=2, alpha=7, targets=ATTENTION, rank_stabilised=True)
    fill(student)
    size = save_lora(student, tmp_path / "adapter.safetensors")
    numbers = sum(trained_parameters(student).values())
    assert 4 * numbers <= size <= 4 * numbers + 2000 and [path.name for path in tmp_path.iterdir()] == [
        "adapter.safetensors"
    ]
    other = AutoModelForCausalLM.from_pretrained(tiny).eval()
    assert load_lora(other, tmp_path / "adapter.safetensors") == list(lora_layers(student))
    assert torch.equal(logits(other), logits(student))
    assert set(trained_parameters(other)) == set(trained_parameters(student))


def test_adapters_are_switched_by_loading_another(student, tmp_path):
    plain, wanted = logits(student), {}
    for seed, (name, targets) in enumerate({"one": ATTENTION, "two": "all-linear"}.items()):
        add_lora(student, rank=1 + seed, alpha=2, targets=targets)
        fill(student, seed)
        save_lora(student, tmp_path / name)
        wanted[name] = logits(student)
        take_out(student)
    assert torch.equal(logits(student), plain)
    for name in ("one", "two", "one"):
        load_lora(student, tmp_path / name)
        assert torch.equal(logits(student), wanted[name])


def test_what_cannot_be_saved_or_loaded_is_one_clear_error(student, tmp_path):
    path = tmp_path / "adapter"
    with pytest.raises(ValueError, match="no LoRA layers to save"):
        save_lora(student, path)
    path.write_bytes(b"no such file")
    with pytest.raises(ValueError, match="no adapter that can be read"):
        load_lora(student, path)
    with pytest.raises(ValueError, match="no adapter that can be read"):
        load_lora(student, tmp_path / "missing")
    student.save_pretrained(tmp_path / "whole")
    with pytest.raises(ValueError, match="was not written by save_lora"):
        load_lora(student, tmp_path / "whole" / "model.safetensors")
    add_lora(student, rank=1, alpha=1)
    save_lora(student, path)
    merge(student)
    for call in (save_lora, load_lora):
        with pytest.raises(ValueError, match="unmerge it first"):
            call(student, path)
    unmerge(student)
    load_lora(student, path)


def test_another_models_adapter_is_refused_and_changes_nothing(student, tmp_path):
    big = sprout()
    add_lora(big, rank=1, alpha=1, targets=ATTENTION)
    save_lora(big, tmp_path / "adapter")
    before = logits(student)
    with pytest.raises(ValueError, match="another model's|no such linear layer"):
        load_lora(student, tmp_path / "adapter")
    assert torch.equal(logits(student), before) and not lora_layers(student)
    assert all(weight.requires_grad for weight in student.parameters())


# QLoRA, where bitsandbytes is installed


def test_an_adapter_beside_4_bit_weights_trains_and_is_not_merged():
    bnb = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    full = nn.Linear(64, 32, bias=False)
    four = bnb.nn.Linear4bit(64, 32, bias=False, compute_dtype=torch.float32, quant_type="nf4")
    four.load_state_dict(full.state_dict())
    four = four.to("cpu")
    layer = LoraLinear(four, rank=2, alpha=2)
    layer(torch.randn(5, 64)).sum().backward()
    assert layer.B.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="full precision"):
        layer.merge()
