"""Loading a model and its tokenizer by name, and choosing the device, the precision and the seed.

A name is one of ours ("sprout-base"), a folder, or a name on the Hugging Face Hub.
Left out on purpose: pickled weights, code shipped with a model (`trust_remote_code`), quantisation,
several GPUs: of those a machine has, one is used, since TRL's trainers refuse more in one process.
"""

import difflib
import os
import re
import threading
import time
from functools import cache
from pathlib import Path

import huggingface_hub
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # read when PyTorch first asks for a GPU; yours goes before it

SHIPPED_MODELS = ("sprout-base", "sprout-instruct", "sprout-dpo", "sprout-grpo")

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


def load_model_and_tokenizer(model_name: str, use_gpu: bool = False, revision: str | None = None):
    """Return (model, tokenizer), ready to generate, and print one line about them.

    `model_name`: "sprout-base" and its like, a folder, or a Hub name; `revision`: a Hub branch, tag or
    commit. Weights are float32 on a CPU, bfloat16 on a GPU that has it. The model is in eval mode.
    Raises within seconds, with what to do: ValueError (a misspelt name), FileNotFoundError (nothing there),
    ConnectionError (a Hub name and no network), RuntimeError (no GPU).
    """
    device = choose_device(use_gpu)
    source, offline = resolve_model_name(model_name, revision)
    dtype = torch.bfloat16 if device.type == "cuda" and bf16_is_fast(device) else torch.float32
    attention = "eager" if device.type == "cpu" else None  # on short texts faster than the CPU's fused kernel
    options = {"revision": revision or "main", "local_files_only": offline, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        model, loading = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation=attention, output_loading_info=True, **options
        )
    except Exception as error:  # the libraries raise a dozen kinds for a file that is missing, cut off or not what it says
        raise FileNotFoundError(_cannot_load(model_name, source, error)) from None
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ValueError(
            f"{model_name}: its files lack {len(missing)} of the model's weights, such as {missing[0]}. Copy it again."
        )
    if not tokenizer("a b c").input_ids:
        raise ValueError(f"{model_name}: there is no tokenizer with it. Save both: tokenizer.save_pretrained(folder).")
    words = prepare_tokenizer(tokenizer)
    prepare_model(model, tokenizer)
    model.to(device).eval()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    print(f"{model_name}: {size:,.1f}M parameters, {device}, {str(dtype).removeprefix('torch.')}{words}")
    return model, tokenizer


def resolve_model_name(model_name: str, revision: str | None = None) -> tuple[str, bool]:
    """Return (folder or Hub name, whether only local files may be used), or raise saying what is wrong."""
    if model_name in SHIPPED_MODELS:
        if revision:
            raise ValueError(f"{model_name} comes with the course and has no revisions: leave revision={revision!r} out.")
        return _shipped_folder(model_name), True
    for folder in (Path(model_name).expanduser(), project_folder() / model_name):
        if folder.is_dir():
            if not (folder / "config.json").exists():
                raise FileNotFoundError(f"{folder} is a folder, but holds no model: there is no config.json in it.")
            return str(folder), True
    hub_name = _hub_name(model_name)
    if hub_is_reachable():
        return hub_name, False
    found = huggingface_hub.try_to_load_from_cache(hub_name, "config.json", revision=revision)
    if isinstance(found, str):
        return hub_name, True
    raise ConnectionError(
        f"{hub_name} is a model on the Hugging Face Hub, which cannot be reached from here, and no "
        'earlier download of it is on this machine. Use a model of the course: MODEL_NAME = "sprout-base".'
    )


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
    near = difflib.get_close_matches(name, SHIPPED_MODELS, n=1, cutoff=0.7)
    if near and "/" not in name:
        raise ValueError(f'There is no model "{model_name}": did you mean "{near[0]}"?')
    bare = name != model_name and "/" not in name  # "./models/mine": on the Hub it would be "owner/mine"
    if bare or name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1 or not name.strip():
        raise FileNotFoundError(f'There is no folder "{model_name}" (looked from {Path.cwd()} and {project_folder()}).')
    if not re.fullmatch(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?", name, re.ASCII):
        raise ValueError(f'"{model_name}" can be no name of a model: on the Hub they look like "owner/name".')
    if name.startswith("sprout"):
        raise ValueError(f'There is no model "{model_name}": the course ships {", ".join(SHIPPED_MODELS)}.')
    return name


def hub_is_reachable(seconds: float = 4.0) -> bool:
    """Whether the Hub answers within `seconds`; asked before huggingface_hub starts its long retries."""
    answers = []

    def ask():
        try:
            response = huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=seconds)
            answers.append(response.status_code)
        except Exception:  # no name, no route, no certificate, offline mode: all mean "no"
            pass

    # A thread, because looking a name up can take longer than any timeout of the connection itself.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)


def _cannot_load(model_name: str, source: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    where = "the folder" if Path(source).is_dir() else "the Hub: is the name right, the model public and in safetensors?"
    damaged = type(error).__name__ == "SafetensorError"
    hint = " A file of weights is cut off, or only a pointer of Git LFS: copy or download it again." if damaged else ""
    return f"{model_name} could not be loaded from {where} ({source}).{hint} The library says: {reason[:300]}"


def prepare_tokenizer(tokenizer) -> str:
    """Give the tokenizer a chat template and a pad token if it lacks them; return words about it."""
    words = ""
    if not tokenizer.chat_template:
        chatml = {"<|im_start|>", "<|im_end|>"} <= set(tokenizer.get_vocab())
        tokenizer.chat_template = CHATML_TEMPLATE if chatml else PLAIN_TEMPLATE
        words += "; no chat template of its own, so a plain one is used"
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
    after = tokenizer.apply_chat_template(messages, tokenize=False).rsplit(mark, 1)[-1]
    ids = tokenizer(after, add_special_tokens=False).input_ids
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return next((i for i in ids if i in special), None)


def choose_device(use_gpu: bool = False) -> torch.device:
    """The CPU, or when asked for the GPU: CUDA, else Apple's (MPS); RuntimeError when there is none."""
    if not use_gpu:
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    raise RuntimeError(
        "USE_GPU = True, but PyTorch sees no CUDA GPU and no Apple GPU. Set USE_GPU = False in the settings cell, "
        "or install a CUDA build of torch (`python -m helper.environment` says what is there)."
    )


@cache
def bf16_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 training pays on `device`: pass it to the trainer as `bf16=`.

    On a CPU it is measured (0.2 s): with AVX512-bf16 or AMX it is about twice as fast, without it is slower.
    On Apple's GPU (MPS) it is left off. COURSE_BF16=0 or 1 in the environment decides instead.
    """
    if os.environ.get("COURSE_BF16") in ("0", "1"):
        return os.environ["COURSE_BF16"] == "1"
    if torch.device(device).type == "mps":
        return False
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bf16_speedup() > 1.2


@cache
def bf16_speedup() -> float:
    """How many times faster than float32 this CPU multiplies (2048, 256) by (256, 1024) in bfloat16."""
    operands = [(torch.ones(2048, 256, dtype=d), torch.ones(256, 1024, dtype=d)) for d in (torch.float32, torch.bfloat16)]
    times, begun = ([], []), time.perf_counter()
    with torch.inference_mode():
        # In turns: whatever else the machine does slows both. The first round also sets the kernels up.
        while len(times[0]) < 3 or (len(times[0]) < 20 and time.perf_counter() - begun < 0.2):
            for (a, b), measured in zip(operands, times):
                start = time.perf_counter()
                a @ b
                measured.append(time.perf_counter() - start)
    return min(times[0][1:]) / min(times[1][1:])


def skip_masked_positions() -> None:
    """Let TRL's losses leave out, on a CPU as on a GPU, the positions that do not count.

    TRL multiplies the hidden states by the vocabulary's matrix to get log-probabilities. On a GPU it does so for the
    completion's tokens, elsewhere for the prompt's and the padding's too, and masks those afterwards
    (`add_fused_lm_head` in trl/trainer/utils.py, which asks `_use_triton`). The loss is the same; a step of Sprout
    takes about 30% less time and less memory. Nothing happens with a TRL that does not ask.
    """
    from trl.trainer import utils

    if hasattr(utils, "_use_triton"):
        utils._use_triton = lambda device: True


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's generators. Same machine, same seed: same result."""
    transformers.set_seed(seed)


def project_folder() -> Path:
    """The repository's root: the folder that holds `helper/` and `data/`."""
    return Path(__file__).resolve().parent.parent


def output_folder(lesson: str = "") -> Path:
    """The folder for a lesson's results, made if need be: outputs/<lesson>, or under COURSE_OUTPUTS."""
    folder = Path(os.environ.get("COURSE_OUTPUTS") or project_folder() / "outputs") / lesson
    folder.mkdir(parents=True, exist_ok=True)
    return folder
