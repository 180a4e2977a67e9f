"""Explorer: what a run takes on real GPUs, before it is started: memory of each, hours, and money at a price you type.

Left out on purpose: what a GPU costs today. You type it.
"""

from ipywidgets import FloatLogSlider, FloatText
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import COLOURS, HATCHES, INK, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page
from helper.machine.scale import GPUS, METHODS, Plan, plan_run


def shapes() -> dict[str, PreTrainedConfig]:
    """Shapes of published models, as their own config.json on the Hub have them.

    Qwen/Qwen2.5-0.5B, meta-llama/Llama-2-7b-hf, meta-llama/Llama-3.1-8B and -70B.
    """
    return {
        "0.5B": Qwen2Config(
            hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2, intermediate_size=4864,
            vocab_size=151936, tie_word_embeddings=True,
        ),
        "7B": LlamaConfig(
            hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
            intermediate_size=11008, vocab_size=32000, tie_word_embeddings=False,
        ),
        "8B": LlamaConfig(
            hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
            intermediate_size=14336, vocab_size=128256, tie_word_embeddings=False,
        ),
        "70B": LlamaConfig(
            hidden_size=8192, num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8,
            intermediate_size=28672, vocab_size=128256, tie_word_embeddings=False,
        ),
    }  # fmt: skip


def explore_scale(model: str = "8B", price: float = 2.0) -> Explorer:
    """Choose model, method and GPUs, type a price an hour; see memory by part, hours and money."""
    controls = {
        "model": choice("model", {name: name for name in shapes()}),
        "method": choice("method", {name.upper(): name for name in METHODS}),
        "trained": choice("trained", {"all weights": "full", "LoRA": "lora", "QLoRA": "qlora"}),
        "gpus": choice("GPUs", {str(number): number for number in (1, 2, 4, 8, 16, 64)}),
        "gpu": choice("kind of GPU", {name: name for name in GPUS}),
        "sharding": choice("sharding", {"none": "copied", "ZeRO-1": "zero1", "ZeRO-2": "zero2", "ZeRO-3, FSDP2": "zero3"}),
        "sampler": choice("GRPO's sampler", {f"a copy on {number}": number for number in (1, 2, 4, 8)}),
        "checkpointing": choice("checkpointing", {"on": True, "off": False}),
        "tokens": FloatLogSlider(1e8, min=5, max=11, step=0.5, readout_format=".0e", **look("tokens")),
        "price": FloatText(price, **look("price of a GPU hour")),
    }
    controls["model"].value, controls["gpus"].value, controls["gpu"].value = model, 8, "A100, 80 GB"
    controls["sharding"].value = "zero3"
    return Explorer(controls, scale_view)


@drawing()
def scale_view(
    model: str,
    method: str,
    trained: str,
    gpus: int,
    gpu: str,
    sharding: str,
    sampler: int,
    checkpointing: bool,
    tokens: float,
    price: float,
) -> View:
    """One bar of memory parts beside the GPU's memory, and the facts."""
    if not 0 <= price < 1e6:
        raise ValueError("Type the price of a GPU hour as a number from 0 on.")
    device, config = GPUS[gpu], shapes()[model]
    options = {"gpu": device, "tokens": tokens, "checkpointing": checkpointing}
    plan = plan_run(config, method, trained, gpus, sharding, tensor_parallel=sampler if method == "grpo" else 1, **options)
    figure, (axis,) = make_panels(1, 7.5, 2.9)
    left = 0.0
    for number, (name, size) in enumerate(sorted(plan.parts.items(), key=lambda part: -part[1])):
        colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
        axis.barh(
            [0], [size / 1e9], left=left, color=colour, hatch=hatch, edgecolor="white", label=f"{name}: {gigabytes(size)}"
        )
        left += size / 1e9
    axis.axvline(device.memory / 1e9, color=INK, linestyle="--", label=f"the GPU has {gigabytes(device.memory)}")
    axis.set(title="memory of each GPU", xlabel="GB", yticks=[], ylim=(-0.6, 0.6))
    figure.legend(frameon=False, loc="outside lower center", ncols=3)
    facts = scale_facts(plan, device.memory, gpus, price)
    words = "; ".join(f"{name}: {text}" for name, text in facts.items())
    words = f"{method.upper()} of {model}, {trained}, on {gpus} × {gpu}, sharding {sharding}. {words}."
    return View(words, page(image_html(figure, words), fact_list(facts)))


def scale_facts(plan: Plan, memory: float, gpus: int, price: float) -> dict[str, str]:
    """The numbers under the picture."""
    fits = plan.memory <= memory
    largest = max(plan.parts, key=plan.parts.get)
    return {
        "weights trained": f"{plan.trained / 1e6:,.1f} of {plan.parameters / 1e6:,.0f} million",
        "memory of each GPU": gigabytes(plan.memory),
        "does it fit": "yes" if fits else f"no; the largest part is {largest}",
        "operations": f"{plan.flops:.1e}",
        "hours": f"{plan.hours:,.2f} on {gpus} at once",
        "money": f"{plan.hours * gpus * price:,.2f} at {price:g} a GPU hour",
    }


def gigabytes(size: float) -> str:
    """Bytes as GB."""
    return f"{size / 1e9:,.1f} GB"
