"""Arithmetic of sizes: parameters, activations, caches and the last layer of a model, from its config alone.

All sizes are bytes (1 MB = 10^6 bytes). The formulas are for dense decoders with grouped-query attention and a gated MLP
(Llama, Qwen2, Qwen3) as transformers and TRL run them; `tests/test_costs.py` holds them to what autograd keeps, and
`data/recorded/real_sizes.json` to measured peaks of real shapes. Of a mixture of experts only what a token keeps is here,
and that roughly; its weights are counted in the model.
Left out on purpose: several GPUs, offloading, other 4-bit formats than NF4.
"""

from __future__ import annotations

PAD_TO = 16  # training pads to a multiple of it: what is prepared for each new shape of a batch stays in memory
BYTES = {"float32": 4, "bfloat16": 2}
TILE_WORDS = 32_768  # of the vocabulary, that TRL's last layer takes at a time (trl/trainer/utils.py)
TILE_TOKENS = 4096  # the same for tokens (trl/kernels/chunked_logprob.py)
TILE_COPIES = 7.25  # float32 copies of such a tile that TRL's backward pass has at once where there is no GPU
MLP = {"gate_proj", "up_proj", "down_proj"}
NF4_BITS = 4 + 32 / 64  # a weight of NF4 and its block's constant in float32 (Dettmers et al. 2023, arXiv 2305.14314)
LORA_TARGETS = ("q_proj", "v_proj")  # the modules peft takes for these families unless told otherwise


def count_parameters(config) -> int:
    """Parameters of a Llama, Qwen2 or Qwen3 config; a tied vocabulary matrix counts once.

    A layer has the seven matrices of `matrices`, two norms of h, in Qwen2 biases of q, k and v, in Qwen3 two norms of
    a head's width. Outside: the vocabulary's matrix V·h (twice when not tied) and a last norm. Raises ValueError for a
    mixture of experts.
    """
    if number_of_experts(config) > 1:
        raise ValueError(
            f"{type(config).__name__} is of a mixture of {number_of_experts(config)} experts, whose weights are not counted "
            "from a config: give the model itself."
        )
    h, queries, keys, m, layers = shape(config)
    kind = config.model_type
    layer = sum(inputs * outputs for inputs, outputs in matrices(config).values()) + 2 * h
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
    linears = matrices(config)
    unknown = sorted(set(targets) - set(linears))
    if unknown:
        raise ValueError(f"There is no matrix {unknown[0]}: the layers have {', '.join(linears)}.")
    inside = sorted(set(targets) & MLP) if number_of_experts(config) > 1 else []
    if inside:
        raise ValueError(
            f"{inside[0]} is in each of the experts, of which adapters are not counted: adapt q_proj and v_proj."
        )
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
    h, layers, tokens = config.hidden_size, config.num_hidden_layers, rows * length
    layer, once = _layer_bytes(config, dtype, bf16, attention, rows, length)
    mixed = bf16 and dtype == "float32"
    copies = 2 * sum(inputs * outputs for inputs, outputs in matrices(config).values()) if mixed else 0
    if checkpointing:
        kept = layers * h * (4 if dtype == "float32" else 2)
        return tokens * (kept + layer + once) + copies
    return tokens * (layers * layer + once) + layers * copies


def _layer_bytes(config, dtype: str, bf16: bool, attention: str, rows: int, length: int) -> tuple[int, int]:
    """Bytes a token that a layer keeps, and those kept once, outside the layers; the formula of `activation_bytes`."""
    h, queries, keys, m, _ = shape(config)
    heads, qk = config.num_attention_heads, config.model_type == "qwen3"
    plain, mixed = dtype == "float32" and not bf16, bf16 and dtype == "float32"
    alone = attention != "eager" and rows == 1
    attended = 2 * (queries + keys) if alone else 4 * queries
    if plain:
        layer, once = 4 * (6 * h + 2 + attended + 4 * m) + 8 * (queries + keys) * qk, 4 * (2 * h + 1)
    elif mixed:
        layer, once = 4 * (4 * h + 2) + 2 * (5 * h + attended + 4 * m) + 6 * (queries + keys) * qk, 4 * (2 * h + 1)
    else:
        layer, once = 4 * (2 * h + 2) + 2 * (4 * h + attended + 4 * m) + 6 * (queries + keys) * qk, 4 * (h + 1) + 2 * h
    layer += 4 * (heads + keys // (queries // heads)) if qk else 0
    layer += heads * length * (4 if plain else 6) if attention == "eager" else 4 * heads
    layer += 0 if attention == "eager" or alone else length * (4 if plain else 2)
    return layer, once


def cache_bytes(config, rows: int, length: int, dtype: str = "float32") -> int:
    """Keys and values of all layers while generating: 2 × layers × key heads × head width a token.

    Twice, since a step joins the old ones and the new into a fresh tensor (one layer at a time), and sampling's attention
    repeats them for all heads.
    """
    _, queries, keys, _, layers = shape(config)
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


def number_of_experts(config) -> int:
    """How many experts a layer has in its config; 1 for a dense model."""
    names = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
    return max([1, *(getattr(config, name, None) or 1 for name in names)])


def mlp_width(config) -> int:
    """Numbers that a token's MLP has inside it: m; of a mixture those of all the experts that see the token.

    With a mixture each of them also gets a copy of the hidden state and gives one back, which is h/2 more of the four m.
    """
    if number_of_experts(config) == 1:
        return config.intermediate_size
    seen = getattr(config, "num_experts_per_tok", None) or 1
    width = getattr(config, "moe_intermediate_size", None) or config.intermediate_size
    shared = getattr(config, "shared_expert_intermediate_size", None) or 0
    return seen * (width + config.hidden_size // 2) + shared


def shape(config) -> tuple[int, int, int, int, int]:
    """hidden size h, width of all queries a·d, width of all keys k·d, MLP width m, layers."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = (getattr(config, "num_key_value_heads", None) or heads) * width
    return config.hidden_size, heads * width, keys, mlp_width(config), config.num_hidden_layers


def four_bit_bytes(config, dtype: str = "float32", bits: float = NF4_BITS) -> tuple[int, int]:
    """Of a model with its layers' matrices in NF4: the bytes of all weights, and of the largest matrix unpacked.

    `bits` a weight: without double quantisation, as bitsandbytes does unless told otherwise. What is no matrix of a layer
    keeps `dtype`. A matrix is unpacked where it is used, forward and backward, one at a time.
    """
    sizes = [inputs * outputs for inputs, outputs in matrices(config).values()]
    inside = config.num_hidden_layers * sum(sizes)
    outside = count_parameters(config) - inside
    return int(bits / 8 * inside) + BYTES[dtype] * outside, BYTES[dtype] * max(sizes)


def matrices(config) -> dict[str, tuple[int, int]]:
    """Name -> (inputs, outputs) of a layer's matrices."""
    h, queries, keys, m, _ = shape(config)
    return {
        "q_proj": (h, queries), "k_proj": (h, keys), "v_proj": (h, keys), "o_proj": (queries, h),
        "gate_proj": (h, m), "up_proj": (h, m), "down_proj": (m, h),
    }  # fmt: skip
