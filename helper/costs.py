"""What a training run will cost, before it is started: memory by part, what fits on this machine, and the time.

All sizes are bytes until they are shown (1 MB = 10^6 bytes). The formulas are for dense decoders with grouped-query
attention and a gated MLP (Llama, Qwen2, Qwen3) as transformers and TRL run them; `tests/test_costs.py` holds them to
what autograd keeps, and `data/recorded/real_sizes.json` to measured peaks of real shapes.
Left out on purpose: mixtures of experts, quantised weights, several GPUs, offloading.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from html import escape
from typing import NamedTuple

import torch
from IPython.display import HTML, display

METHODS = ("sft", "dpo", "grpo")
BYTES = {"float32": 4, "bfloat16": 2}
TILE_WORDS = 32_768  # of the vocabulary, that TRL's last layer takes at a time (trl/trainer/utils.py)
TILE_TOKENS = 4096  # the same for tokens (trl/kernels/chunked_logprob.py)
TILE_COPIES = 7.25  # float32 copies of such a tile that TRL's backward pass has at once where there is no GPU
LORA_TARGETS = ("q_proj", "v_proj")  # the modules peft takes for these families unless told otherwise


class Cost(NamedTuple):
    """`settings`: what `training_cost` was given. `parts`: name -> bytes. `moments`: what is there together -> bytes.
    `peak`: the largest of these. `trained`, `parameters`: counts."""

    settings: dict
    parts: dict[str, int]
    moments: dict[str, int]
    peak: int
    trained: int
    parameters: int


def training_cost(
    model,
    method: str = "sft",
    batch_size: int = 1,
    length: int = 200,
    *,
    accumulation: int = 8,
    completion: int | None = None,
    steps: int = 100,
    dtype: str = "float32",
    bf16: bool = False,
    beta: float | None = None,
    precompute_reference: bool = False,
    checkpointing: bool = False,
    attention: str | None = None,
    lora_rank: int = 0,
    lora_targets: tuple[str, ...] = LORA_TARGETS,
    libraries: int | None = None,
    device: str | torch.device | None = None,
) -> Cost:
    """Predict the most memory that a run of TRL's trainer with AdamW takes, and when.

    `model`: a model, or its config (then nothing is loaded). `batch_size`: per device, as the trainer has it; a row of
    DPO is a pair, two texts. `length`: tokens of the longest text, prompt and answer together. `completion`: for GRPO,
    how many of them are generated (None: half). `dtype`: the weights'; `bf16`: autocast over float32 weights. `beta`:
    above 0 a reference model is kept (None: TRL's defaults, 0.1 for DPO and 0 for GRPO), unless
    `precompute_reference` (DPO) or LoRA does without one. `steps` 1: the moments come after the activations are gone.
    `libraries`: bytes taken by all else, Python and its packages (None: what is taken now, without the model's weights:
    on a CPU by this process, on a GPU by PyTorch's other tensors there). `device`: where it will run (None: where the
    model is; for a config, the GPU where PyTorch sees one).

    With P parameters of which T are trained, and s bytes a weight:
    weights s·P; gradients s·T; AdamW's two moments 2·s·T (arXiv 1711.05101: as many numbers as weights, each; of the
    weights' own type in PyTorch, float32 for float32); reference s·P; activations, cache and last layer: see
    `activation_bytes`, `cache_bytes`, `last_layer_bytes`.
    The peak is the largest of three moments: when the backward pass begins, when it has ended (tied weights get two
    gradients, which are added), and while GRPO generates. Raises ValueError for settings that do not go together.
    """
    device = _device(model, device)
    settings = {name: value for name, value in locals().items() if name != "model"} | {"model": model}
    config = _config(model)
    _check(settings, config)
    parameters = count_parameters(config)
    trained = lora_parameters(config, lora_rank, lora_targets) if lora_rank else parameters
    size, matrix = BYTES[dtype], config.vocab_size * config.hidden_size
    beta = {"dpo": 0.1}.get(method, 0.0) if beta is None else beta
    rows = 2 * batch_size if method == "dpo" else batch_size
    attention = attention or getattr(config, "_attn_implementation", None) or "sdpa"
    kept = method != "sft" and beta > 0 and not precompute_reference and not lora_rank
    generated = (completion or length // 2) if method == "grpo" else 0
    together = batch_size * accumulation  # the rows GRPO generates at once: those of a whole step
    parts = {
        "weights": size * parameters + 4 * (trained if lora_rank else 0),
        "gradients": (4 if lora_rank else size) * trained,
        "optimiser": 2 * (4 if lora_rank else size) * trained,
        "reference model": size * parameters if kept else 0,
        "activations": activation_bytes(config, rows, length, dtype, bf16, attention, checkpointing),
        "last layer": last_layer_bytes(config, rows, length, "bfloat16" if bf16 else dtype, not lora_rank),
        "key-value cache": cache_bytes(config, together, length, dtype) if method == "grpo" else 0,
        "sampling": 3 * 4 * together * config.vocab_size if generated else 0,  # logits, probabilities and a draw's copy
        "libraries": libraries if libraries is not None else _libraries(model, device),
    }
    always = parts["weights"] + parts["reference model"] + parts["libraries"]
    later = parts["optimiser"] if steps > 1 else 0
    second = 3 * 4 * matrix if config.tie_word_embeddings and not lora_rank else 0
    tied = parts["gradients"] - size * matrix + second if second else parts["gradients"]
    moments = {
        "the backward pass begins": always + later + parts["activations"] + parts["last layer"]
        + (parts["gradients"] if accumulation > 1 else 0),
        "the gradients are whole": always + later + max(tied, parts["gradients"] + (second if accumulation > 1 else 0)),
        "the optimiser's step": always + parts["gradients"] + parts["optimiser"],
        "generation": always + later + parts["key-value cache"] + parts["sampling"] if generated else 0,
    }  # fmt: skip
    return Cost(settings, parts, moments, max(moments.values()), trained, parameters)


def _config(model):
    config = getattr(model, "config", model)
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _check(settings: dict, config) -> None:
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size"):
        if not hasattr(config, name):
            raise ValueError(f"{type(config).__name__} has no {name}: give a model, or its config (model.config).")
    if settings["method"] not in METHODS:
        raise ValueError(f"method={settings['method']!r}: give one of {', '.join(METHODS)}.")
    if settings["dtype"] not in BYTES:
        raise ValueError(f'dtype={settings["dtype"]!r}: give "float32" or "bfloat16".')
    for name in ("batch_size", "length", "accumulation", "steps"):
        if isinstance(settings[name], bool) or not isinstance(settings[name], int) or settings[name] < 1:
            raise ValueError(f"{name}={settings[name]!r:.40}: give a whole number from 1.")
    if settings["completion"] is not None and not 0 < settings["completion"] < settings["length"]:
        raise ValueError(f"completion={settings['completion']}: it is a part of length={settings['length']} tokens.")
    if settings["precompute_reference"] and settings["method"] == "grpo":
        raise ValueError("GRPO writes new answers in each step: their reference log-probabilities cannot be precomputed.")


def _device(model, device=None) -> torch.device:
    if device is None and hasattr(model, "parameters"):
        device = next(model.parameters()).device
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _libraries(model, device: torch.device) -> int:
    """Bytes held on `device` now, without the weights of the model given."""
    loaded = model.parameters() if hasattr(model, "parameters") else ()
    return max(0, _held(device) - sum(p.numel() * p.element_size() for p in loaded if p.device.type == device.type))


def _held(device: torch.device) -> int:
    """Bytes held now: on CUDA by PyTorch's tensors, on a CPU by this process (0: unknown, and on Apple's GPU)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return 0
    try:
        import psutil

        return psutil.Process().memory_info().rss
    except (ImportError, OSError):
        return 0


def _shape(config) -> tuple[int, int, int, int, int]:
    """hidden size h, width of all queries a·d, width of all keys k·d, MLP width m, layers."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * width
    return config.hidden_size, heads * width, keys, config.intermediate_size, config.num_hidden_layers


def _linears(config) -> dict[str, tuple[int, int]]:
    """Name -> (inputs, outputs) of a layer's matrices."""
    h, queries, keys, m, _ = _shape(config)
    return {
        "q_proj": (h, queries), "k_proj": (h, keys), "v_proj": (h, keys), "o_proj": (queries, h),
        "gate_proj": (h, m), "up_proj": (h, m), "down_proj": (m, h),
    }  # fmt: skip


def count_parameters(config) -> int:
    """Parameters of a Llama, Qwen2 or Qwen3 config; a tied vocabulary matrix counts once.

    A layer has the seven matrices of `_linears`, two norms of h, in Qwen2 biases of q, k and v, in Qwen3 two norms of
    a head's width. Outside: the vocabulary's matrix V·h (twice when not tied) and a last norm.
    """
    h, queries, keys, m, layers = _shape(config)
    kind = config.model_type
    layer = sum(inputs * outputs for inputs, outputs in _linears(config).values()) + 2 * h
    if kind == "qwen2" or getattr(config, "attention_bias", False):
        layer += queries + 2 * keys
    if getattr(config, "attention_bias", False) and kind != "qwen2":
        layer += h  # o_proj has one too
    if getattr(config, "mlp_bias", False):
        layer += 2 * m + h
    layer += 2 * (queries // config.num_attention_heads) if kind == "qwen3" else 0
    return layers * layer + config.vocab_size * h * (1 if config.tie_word_embeddings else 2) + h


def lora_parameters(config, rank: int, targets: tuple[str, ...] = LORA_TARGETS) -> int:
    """Trained parameters of LoRA: rank × (inputs + outputs) for each matrix adapted (arXiv 2106.09685, section 4.1)."""
    linears = _linears(config)
    unknown = sorted(set(targets) - set(linears))
    if unknown:
        raise ValueError(f"There is no matrix {unknown[0]}: the layers have {', '.join(linears)}.")
    return config.num_hidden_layers * rank * sum(sum(linears[name]) for name in targets)


def activation_bytes(
    config, rows: int, length: int, dtype: str = "float32", bf16: bool = False, attention: str = "sdpa",
    checkpointing: bool = False,
) -> int:  # fmt: skip
    """Bytes that autograd keeps of a forward pass over rows × length tokens, without the last layer's.

    In numbers a token and layer, all in float32, with the letters of arXiv 2205.05198 (h hidden size, a heads, s tokens)
    and d a head's width, k heads of keys, m the MLP's width:

        6h + 2    two norms: input, input divided by its length, result; and that length
        4ad       queries, keys and values (repeated for all heads), what attention gives; with the fused kernel and a
                  single row, which needs no mask, 2(a+k)d
        4m        gate, its SiLU, up, their product
        a·s       the weights of attention, when "eager"; the fused kernel keeps `a` numbers and the mask, s, instead
        2(a+k)d + a + k    Qwen3's norms of queries and keys

    That paper counts 34h + 5as bytes for a layer of GPT: 16-bit numbers, four h wide in the MLP, LayerNorm, dropout
    masks (none here), keys as many as queries. In autocast matrices see bf16 copies, one for each matrix that reads a
    norm's result, while norms and what is passed on stay float32, and attention's weights are there in both.
    `checkpointing` keeps a layer's input only, and one layer whole while it is computed again.
    """
    h, queries, keys, m, layers = _shape(config)
    heads, tokens = config.num_attention_heads, rows * length
    weights = heads * length
    qk = config.model_type == "qwen3"
    qk_means = heads + keys // (queries // heads) if qk else 0
    mixed = bf16 and dtype == "float32"
    size = 4 if dtype == "float32" and not bf16 else 2
    alone = attention != "eager" and rows == 1
    attended = 2 * (queries + keys) if alone else 4 * queries
    if dtype == "float32" and not bf16:
        layer = 4 * (6 * h + 2 + attended + 4 * m) + 8 * (queries + keys) * qk
        once = 4 * (2 * h + 1)
    elif mixed:
        layer = 4 * (4 * h + 2) + 2 * (5 * h + attended + 4 * m) + 6 * (queries + keys) * qk
        once = 4 * (2 * h + 1)
    else:
        layer = 4 * (2 * h + 2) + 2 * (4 * h + attended + 4 * m) + 6 * (queries + keys) * qk
        once = 4 * (h + 1) + 2 * h
    layer += 4 * qk_means
    layer += (weights * (4 if size == 4 else 6)) if attention == "eager" else 4 * heads
    layer += 0 if attention == "eager" or alone else length * size
    copies = 2 * sum(inputs * outputs for inputs, outputs in _linears(config).values()) if mixed else 0
    if checkpointing:
        kept = layers * h * (4 if dtype == "float32" else 2)
        return tokens * (kept + layer + once) + copies
    return tokens * (layers * layer + once) + layers * copies


def cache_bytes(config, rows: int, length: int, dtype: str = "float32") -> int:
    """Keys and values of all layers while generating: 2 × layers × key heads × head width a token.

    Twice, since a step joins the old ones and the new into a fresh tensor (one layer at a time), and sampling's attention
    repeats them for all heads.
    """
    _, queries, keys, _, layers = _shape(config)
    return rows * length * BYTES[dtype] * (2 * layers * keys + 2 * queries)


def last_layer_bytes(config, rows: int, length: int, compute: str = "float32", trained: bool = True) -> int:
    """What TRL's loss holds at most of its last layer, besides the vocabulary's matrix itself.

    TRL never has all logits (rows × length × vocabulary), but tiles of at most 4,096 tokens × 32,768 words, several
    float32 copies of one at a time (`_backward_tile` in trl/kernels/chunked_logprob.py, counted by reading it), and a
    float32 gradient of the vocabulary's matrix.
    """
    tokens = rows * max(1, length - 1)
    tile = min(tokens, TILE_TOKENS) * min(config.vocab_size, TILE_WORDS)
    hidden = 3 * 4 * tokens * config.hidden_size
    return int(tile * (BYTES[compute] + 4 * TILE_COPIES)) + hidden + (4 * config.vocab_size * config.hidden_size * trained)


def available_memory(device: str | torch.device = "cpu") -> int:
    """Bytes of `device` that this process has or can get: what is free now, and what it holds already (0: unknown).

    On CUDA that is the free memory and all that PyTorch has reserved, of which much may be empty.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    from helper.environment import memory_gb  # late: that module has to run by itself, too

    free = int(memory_gb()[1] * 1e9)
    return free + _held(device) if free else 0


def what_fits(cost: Cost, available: int | None = None) -> list[dict]:
    """Whether the run fits into `available` bytes, and what changes would make of it.

    A row each, in the order in which to try them: {"change", "peak", "fits", "price"}. First the run as it is. Each
    change is added to those before it, and predicted anew; one that saves nothing is left out. `available` None: all that
    this process can get on the cost's device (`available_memory`), with what it already holds, since the peak counts
    that too.
    """
    if available is None:
        available = available_memory(cost.settings["device"])
    elif isinstance(available, bool) or not available > 0:
        raise ValueError(f"available={available}: give the free memory in bytes.")
    settings, rows = dict(cost.settings), [_fit("as it is", cost.peak, available, "")]
    batch = settings["batch_size"]
    changes = [
        (f"batch of 1, accumulation × {batch}", "about the same time, the same loss", batch > 1,
         {"batch_size": 1, "accumulation": settings["accumulation"] * batch}),
        ("gradient checkpointing", "a second forward pass: about a third more time", not settings["checkpointing"],
         {"checkpointing": True}),
        ("reference log-probabilities computed once", "a pass over the data before training",
         bool(cost.parts["reference model"]) and settings["method"] == "dpo", {"precompute_reference": True}),
        ("weights in bf16", "small updates are rounded away: take a larger learning rate or LoRA, and compare",
         settings["dtype"] == "float32", {"dtype": "bfloat16", "bf16": False}),
        ("LoRA of rank 16", "fewer weights are trained, with a learning rate about ten times as large",
         not settings["lora_rank"], {"lora_rank": 16}),
    ]  # fmt: skip
    settings["libraries"] = cost.parts["libraries"]
    for change, price, possible, new in changes:
        if not possible:
            continue
        better = training_cost(**settings | new)
        if better.peak < rows[-1]["peak"]:
            settings |= new
            rows.append(_fit(("" if len(rows) == 1 else "and ") + change, better.peak, available, price))
    return rows


def _fit(change: str, peak: int, available: int, price: str) -> dict:
    return {"change": change, "peak": peak, "fits": peak <= available, "price": price}


class Time(NamedTuple):
    """Seconds for a whole run: a guess and an interval around it; `step`: the median step; `steps`: how many were timed."""

    seconds: float
    low: float
    high: float
    step: float
    steps: int


def estimate_time(
    trainer, steps: int | None = None, probe: int = 10, clock: Callable[[], float] = time.perf_counter
) -> Time:
    """Train `probe` steps of a real trainer and estimate the time of `steps` (None: the whole run that it is set to).

    The first two steps are left out: they allocate, and set kernels up. The guess is the median of the others times
    `steps`; the interval goes from the second fastest to the second slowest of them, which for eight steps alike in
    distribution holds the true median in 93% of cases (order statistics: 1 - 2·9/2^8). The model is trained by it: give
    a trainer of its own, with a copy of the model. Raises ValueError for a probe below 5 steps.
    """
    from transformers import PrinterCallback, TrainerCallback

    if isinstance(probe, bool) or not isinstance(probe, int) or probe < 5:
        raise ValueError(f"probe={probe!r:.40}: two steps to warm up and three to measure are the least, so give 5 or more.")
    ends: list[float] = []

    class Ticks(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if not ends:
                ends.append(clock())

        def on_step_end(self, args, state, control, **kwargs):
            ends.append(clock())
            control.should_training_stop = control.should_training_stop or len(ends) > probe

    ticks = Ticks()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ticks)
    try:
        trainer.train()
    finally:
        trainer.remove_callback(ticks)
    return time_of_steps([after - before for before, after in zip(ends, ends[1:])], steps or trainer.state.max_steps)


def time_of_steps(seconds: list[float], steps: int) -> Time:
    """The estimate for `steps` from the seconds of single ones, in order; the first two are left out."""
    measured = sorted(seconds[2:])
    if len(measured) < 3:
        raise ValueError(f"{len(seconds)} steps were timed, and 5 are the least: is the data set too small for a probe?")
    inner = measured[1:-1] if len(measured) >= 5 else measured
    step = statistics.median(measured)
    return Time(step * steps, inner[0] * steps, inner[-1] * steps, step, len(measured))


def cost_words(cost: Cost, fits: list[dict], duration: Time | None = None) -> str:
    """What `show_cost` shows, in a sentence or two of plain text."""
    first = fits[0]
    words = f"Predicted peak {_size(cost.peak)}, which {'fits' if first['fits'] else 'does not fit'} here"
    good = next((row for row in fits if row["fits"]), None)
    if not first["fits"]:
        words += (
            f"; {good['change'].removeprefix('and ')} brings it to {_size(good['peak'])}"
            if good
            else "; nor does any change"
        )
    words += f". {cost.parameters / 1e6:,.1f}M parameters, {cost.trained / 1e6:,.1f}M of them trained."
    if duration:
        words += f" About {_span(duration.seconds)} ({_span(duration.low)} to {_span(duration.high)})."
    return words


def cost_page(cost: Cost, fits: list[dict], duration: Time | None = None) -> str:
    """The cost as a static page: one sentence, the parts with bars, and the changes."""
    from helper.views import page

    largest = max(cost.parts.values())
    parts = [
        (name, _size(value), f'<div role="img" aria-label="{_size(value)}" style="background:#0072B2;height:10px;'
         f'width:{max(1, round(180 * value / largest))}px"></div>')
        for name, value in cost.parts.items() if value
    ]  # fmt: skip
    peaks = [
        (escape(row["change"]), _size(row["peak"]), "yes" if row["fits"] else "no", escape(row["price"])) for row in fits
    ]
    when = max(cost.moments, key=cost.moments.get)
    return page(
        f"<p>{escape(cost_words(cost, fits, duration))}</p>",
        _table(("part", "memory", ""), parts),
        f"<p>Not all are there at once; the most when {escape(when) if when[:3] == 'the' else escape(when) + ' runs'}.</p>",
        _table(("what to change", "predicted peak", "fits here", "its price"), peaks),
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table of cells that are HTML already."""
    from helper.views import CELL

    def line(kind: str, cells: tuple[str, ...]) -> str:
        others = "".join(f'<{kind} style="{CELL}">{cell}</{kind}>' for cell in cells[1:])
        return f'<tr><th style="{CELL}">{cells[0]}</th>{others}</tr>'

    body = "".join(line("td", row) for row in rows)
    head = f"<thead>{line('th', head)}</thead>"
    return f'<table style="border-collapse:collapse;margin:6px 0">{head}<tbody>{body}</tbody></table>'


def show_cost(cost: Cost, available: int | None = None, duration: Time | None = None) -> None:
    """Show, before a run, its memory by part, what fits here and what to change, and the time if it was estimated."""
    fits = what_fits(cost, available)
    display(HTML(cost_page(cost, fits, duration)))


def _size(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
