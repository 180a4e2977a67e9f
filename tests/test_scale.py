"""Plans on many GPUs: bytes by hand and as published, operations, hours, and the explorer that shows them."""

import re
from html import unescape

import pytest
from test_explorers_rl import move

from factory.lessons import WIDGETS
from helper.explorers.scale import explore_scale, shapes
from helper.machine.scale import DOUBLE_BITS, GPUS, SHARDING, operations, plan_run, states, weight_bytes
from helper.machine.sizes import count_parameters

SHAPES = shapes()


def test_the_shapes_have_the_published_sizes():
    published = {"0.5B": 494_032_768, "7B": 6_738_415_616, "8B": 8_030_261_248, "70B": 70_553_706_496}
    assert {name: count_parameters(config) for name, config in SHAPES.items()} == published


def test_the_stages_are_those_of_the_paper():
    """Figure 1 of arXiv 1910.02054: 7.5 billion weights on 64 GPUs, in GB."""
    for stage, wanted in zip(SHARDING, (120, 31.4, 16.6, 1.9)):
        held = states(7.5e9, 7.5e9, "full", 64, stage, 2 * 7.5e9)
        assert sum(held.values()) / 1e9 == pytest.approx(wanted, abs=0.05)
    with_lora = states(1e9, 1e7, "lora", 1, "copied", 2e9)
    assert with_lora == {"weights": 2e9 + 2e7, "gradients": 2e7, "optimiser": 1.2e8}


def test_four_bits_are_smaller_but_not_for_words():
    small, whole = weight_bytes(SHAPES["8B"], "qlora"), weight_bytes(SHAPES["8B"], "lora")
    words = 2 * 128256 * 4096
    assert 4 < DOUBLE_BITS < 4.2 and whole == 2 * 8_030_261_248
    assert small == pytest.approx(2 * words + DOUBLE_BITS / 8 * (8_030_261_248 - words), rel=2e-3)


def test_operations_and_hours():
    assert operations(7e9, 1e9, "sft", "full", False, False) == 6 * 7e18
    assert operations(7e9, 1e9, "sft", "lora", True, False) == 6 * 7e18
    assert operations(7e9, 1e9, "dpo", "full", False, True) == 8 * 7e18
    gpu = GPUS["A100, 80 GB"]
    plan = plan_run(SHAPES["7B"], tokens=2e12, gpus=64, gpu=gpu, checkpointing=False, utilisation=0.4)
    assert plan.hours * 64 == pytest.approx(6 * 6_738_415_616 * 2e12 / (312e12 * 0.4) / 3600)
    longer = plan_run(SHAPES["7B"], "grpo", tokens=2e12, gpus=64, gpu=gpu, checkpointing=False)
    assert longer.hours > 1.3 * plan.hours and {"sampler's weights", "key-value cache"} <= set(longer.parts)


def test_parts_come_and_go_with_the_method():
    full, lora = (plan_run(SHAPES["8B"], "dpo", trained) for trained in ("full", "lora"))
    assert full.parts["reference model"] == 2 * full.parameters and "reference model" not in lora.parts
    assert plan_run(SHAPES["8B"], "grpo", beta=0.1).parts["reference model"] == 2 * full.parameters
    assert lora.trained < 0.01 * lora.parameters and full.memory > 128e9 > 80e9 > lora.memory
    assert plan_run(SHAPES["8B"], trained="qlora").memory < 13e9
    sharded = [plan_run(SHAPES["70B"], gpus=64, sharding=stage).memory for stage in SHARDING]
    assert sharded == sorted(sharded, reverse=True)


def test_the_sampler_is_whole_on_each_gpu_unless_it_is_cut():
    """A copy for each group of `tensor_parallel` GPUs, whatever the trainer shards; nothing else depends on it."""
    whole, quarter = (plan_run(SHAPES["8B"], "grpo", gpus=8, tensor_parallel=n) for n in (1, 4))
    assert whole == plan_run(SHAPES["8B"], "grpo", gpus=8)
    assert whole.parts["sampler's weights"] == 2 * whole.parameters == 4 * quarter.parts["sampler's weights"]
    assert whole.memory - quarter.memory == pytest.approx(1.5 * whole.parameters) and quarter.flops == whole.flops
    assert plan_run(SHAPES["8B"], "grpo", gpus=64).parts["sampler's weights"] == 2 * whole.parameters
    fast = {"gpus": 8, "gpu": GPUS["H100, 80 GB"]}  # which reads the weights for longer than it multiplies by them
    assert plan_run(SHAPES["8B"], "grpo", tensor_parallel=4, **fast).hours < plan_run(SHAPES["8B"], "grpo", **fast).hours
    assert plan_run(SHAPES["8B"], gpus=8, tensor_parallel=4) == plan_run(SHAPES["8B"], gpus=8)  # SFT has no sampler


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "ppo"}, {"trained": "half"}, {"gpus": 0}, {"gpus": True}, {"sharding": "zero4"}, {"utilisation": 0},
        {"tensor_parallel": 0}, {"tensor_parallel": 2}, {"gpus": 8, "tensor_parallel": 3},
        {"gpus": 8, "tensor_parallel": 16},
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        plan_run(SHAPES["0.5B"], **wrong)


# ---------------------------------------------------------------- the explorer


@pytest.fixture(scope="module")
def explorer():
    return explore_scale()


def test_what_it_says(explorer):
    bundle = explorer._repr_mimebundle_()
    assert set(bundle) == {WIDGETS, "text/html", "text/plain"} and bundle["text/plain"] == explorer.shown.words
    (tag,) = re.findall(r"<img alt[^>]*>", bundle["text/html"])
    assert unescape(re.search(r' alt="([^"]*)"', tag).group(1)) == explorer.shown.words
    plan = plan_run(SHAPES["8B"], gpus=8, tokens=1e8)
    assert f"memory of each GPU: {plan.memory / 1e9:.1f} GB; does it fit: yes" in explorer.shown.words
    assert f"money: {plan.hours * 8 * 2:,.2f} at 2 a GPU hour" in explorer.shown.words


def test_every_control_changes_what_is_shown(explorer):
    new = {
        "model": "0.5B", "method": "grpo", "trained": "lora", "gpus": 4, "gpu": "H100, 80 GB", "sharding": "copied",
        "sampler": 2, "checkpointing": False, "tokens": 1e7, "price": 3.5,
    }  # fmt: skip
    assert set(new) == set(explorer.controls) and all(control.description for control in explorer.controls.values())
    for control, value in new.items():
        before = explorer.view.value
        move(explorer, **{control: value})
        assert explorer.view.value != before, control


def test_a_sampler_on_several_gpus_needs_them(explorer):
    alone = move(explorer, model="70B", method="grpo", trained="full", sharding="zero3", gpus=8, sampler=1)
    shared = move(explorer, sampler=8)
    assert "does it fit: no; the largest part is sampler's weights" in alone and "is optimiser" in shared
    assert "tensor_parallel" in move(explorer, gpus=4)  # an error in words
    move(explorer, method="sft", gpus=8, sampler=1, model="8B")


def test_what_does_not_fit_says_what_is_largest(explorer):
    words = move(explorer, model="70B", trained="full", gpus=1, gpu="RTX 4090, 24 GB", method="sft", sharding="zero3")
    assert "does it fit: no; the largest part is optimiser" in words
    assert "Type the price" in move(explorer, price=-1.0)
    move(explorer, price=2.0)
