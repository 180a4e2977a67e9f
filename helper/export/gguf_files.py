"""A model as one GGUF file, written as llama.cpp's converter writes it, checked number by number, and loaded again.

Three families whose layout is known here: Qwen3 (Sprout's), Qwen2 and Llama. The format: github.com/ggml-org/ggml,
docs/gguf.md. Names of keys and tensors come from the package `gguf`, which llama.cpp's own converter uses.
llama.cpp turns pairs of neighbouring numbers of a Llama's queries and keys by RoPE, transformers numbers half a head apart:
for that family the rows of both matrices are put in another order (`interleaved`). Qwen2 and Qwen3 keep theirs.
Left out on purpose: mixtures of experts, RoPE with a scaling, files in several parts.
"""

import os
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import LlamaFileType
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from helper.export.gguf_vocabulary import add_vocabulary
from helper.machine.folders import free_name, remove

FAMILIES = {"qwen3": gguf.MODEL_ARCH.QWEN3, "qwen2": gguf.MODEL_ARCH.QWEN2, "llama": gguf.MODEL_ARCH.LLAMA}
KINDS = {  # name -> how the matrices are stored; vectors (norms, biases) stay float32, as in llama.cpp's files
    "float32": (Kind.F32, LlamaFileType.ALL_F32),
    "float16": (Kind.F16, LlamaFileType.MOSTLY_F16),
    "bfloat16": (Kind.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),  # 8 bits a weight, and a scale for each 32
}


def write_gguf(model, tokenizer, path: str | Path, name: str = "model", dtype: str = "float32") -> Path:
    """Write the model, its tokenizer and its chat template to `path`, whole or not at all; the path.

    `dtype`: one of KINDS. Raises ValueError for a family, a tokenizer or a setting that is not known here, before anything
    is written; an older file at `path` is replaced only when the new one is whole.
    """
    path = Path(path)
    if path.suffix != ".gguf":
        raise ValueError(f'"{path.name}" is no name for it: let it end in .gguf.')
    if dtype not in KINDS:
        raise ValueError(f"dtype={dtype!r:.40}: give one of {', '.join(KINDS)}.")
    config = checked_config(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = free_name(path.with_name(f"{path.name}.unfinished"))
    writer = gguf.GGUFWriter(unfinished, gguf.MODEL_ARCH_NAMES[FAMILIES[config.model_type]])
    try:
        _add_settings(writer, config, name, dtype)
        add_vocabulary(writer, tokenizer, config.vocab_size)
        _add_weights(writer, model, config, KINDS[dtype][0])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(unfinished, path)
    finally:
        writer.close()
        remove(unfinished)
    return path


def checked_config(model):
    """The model's config. Raises ValueError for what llama.cpp would read otherwise than it is meant."""
    config = model.config
    if config.model_type not in FAMILIES:
        raise ValueError(
            f"A {config.model_type} model is not written here, only {', '.join(FAMILIES)}: take llama.cpp's own "
            "convert_hf_to_gguf.py on the folder of safetensors."
        )
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(f"RoPE of the type {rope['rope_type']!r} is not written here: take convert_hf_to_gguf.py.")
    if getattr(config, "use_sliding_window", False):
        raise ValueError("A sliding window is not written here: take convert_hf_to_gguf.py.")
    return config


def _add_settings(writer, config, name: str, dtype: str) -> None:
    """The keys that say what model it is; those of `convert_hf_to_gguf.py` for these families."""
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(KINDS[dtype][1])
    if KINDS[dtype][0] == Kind.Q8_0:
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_rope_dimension_count(head_size(config))
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def head_size(config) -> int:
    """Numbers in a query of one head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def _add_weights(writer, model, config, kind: Kind) -> None:
    for name, weight in gguf_weights(model, config).items():
        stored = kind if weight.ndim > 1 else Kind.F32
        try:
            writer.add_tensor(name, gguf.quants.quantize(weight, stored), raw_dtype=stored)
        except ValueError as error:  # rows that are no multiple of 32
            raise ValueError(f"{name} cannot be stored in {stored.name}: {error}. Take another dtype.") from None


def gguf_weights(model, config) -> dict[str, np.ndarray]:
    """llama.cpp's name -> the weight, float32, in llama.cpp's order of rows. A tied last layer is left out, as there.

    Raises ValueError for a weight that has no name there.
    """
    names, weights = gguf.get_tensor_name_map(FAMILIES[config.model_type], config.num_hidden_layers), {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        to = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if to is None:
            raise ValueError(f"{name}: llama.cpp has no such weight in a {config.model_type} model (an adapter? merge it).")
        weights[to] = _in_its_order(name, weight.detach().float().cpu().numpy(), config)
    return weights


def _in_its_order(name: str, weight: np.ndarray, config) -> np.ndarray:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    part = next((part for part in heads if f".{part}." in name), None)
    return interleaved(weight, heads[part]) if part and config.model_type == "llama" else weight


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of a Llama's queries or keys as llama.cpp has them, (heads * size, ...) -> the same shape.

    Of each head row i of the first half comes to 2i, row i of the second half to 2i + 1.

    >>> interleaved(np.arange(8), heads=2).tolist()
    [0, 2, 1, 3, 4, 6, 5, 7]
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def apart(weight: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `interleaved`."""
    pairs = weight.reshape(heads, weight.shape[0] // heads // 2, 2, *weight.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))


def compare_gguf(path: str | Path, model) -> dict[str, float]:
    """Each tensor in the file, read by the package `gguf`, against the model's: name -> the largest difference.

    Rows are put back in transformers' order first. Raises ValueError where names or shapes differ.
    """
    config = checked_config(model)
    mine = gguf_weights(model, config)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    differences = {}
    for tensor in gguf.GGUFReader(path).tensors:
        found = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        wanted = mine.pop(tensor.name, None)
        if wanted is None or wanted.shape != found.shape:
            raise ValueError(f"{path}: {tensor.name} {found.shape} is not the model's {getattr(wanted, 'shape', None)}.")
        part = tensor.name.split(".")[-2]
        if config.model_type == "llama" and part in heads:
            found, wanted = apart(found, heads[part]), apart(wanted, heads[part])
        differences[tensor.name] = float(np.abs(found - wanted).max())
    if mine:
        raise ValueError(f"{path} lacks {len(mine)} of the model's weights, such as {next(iter(mine))}.")
    return differences


def load_gguf(path: str | Path):
    """(model, tokenizer) rebuilt from the file alone, by transformers' own reader; float32, in eval mode.

    That reader does not take over the size of a head of Qwen3 (as of 5.23): it is read from the file here.
    Raises ValueError for a file that is no GGUF file, or is cut off.
    """
    path, keys = Path(path), gguf_keys(path)
    source = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    config = AutoConfig.from_pretrained(**source)
    config.head_dim = keys.get(f"{config.model_type}.attention.key_length", head_size(config))
    model = AutoModelForCausalLM.from_pretrained(**source, config=config, dtype=torch.float32)
    return model.eval(), AutoTokenizer.from_pretrained(**source)


def gguf_keys(path: str | Path) -> dict:
    """The file's keys and their values, read by the package `gguf`; ValueError for a file that is none."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f'There is no file "{path}".')
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path} is no GGUF file: it does not begin as one. Write it again.")
    try:
        return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    except (ValueError, IndexError, OSError, KeyError) as error:
        raise ValueError(f"{path} cannot be read: it looks cut off ({error!s:.80}). Write or copy it again.") from None
