"""Generating text: chat answers, plain continuations, and the next-token distribution, always in batches.

`generate_responses` answers chats, `complete_text` continues plain text. Both make token ids of their texts and hand them
to `generate_tokens`, whose loop is `_decode`, greedy or sampled. A row that has ended leaves the batch, so that the others
need not wait for the longest. In float32 a text comes out the same alone and in a batch. Large models generate with weights
in bf16 where the processor is fast at that (`quick_weights`); there rounding may decide between tokens about equally likely.
The model is left as it is. A widget may generate while the same model is trained in another thread: it changes neither the
model's settings (`sharing_copy`) nor the random numbers that the training draws (`drawing_with`).
Left out on purpose: beam search, top-k and top-p, repetition penalties (also those a Hub model ships with),
speculative decoding, vLLM (TRL's GRPOTrainer can use it: lesson 04).
"""

import contextlib
import math
import numbers
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from types import MethodType

import pandas as pd
import torch

from helper.copies import sharing_copy, use_fused_attention
from helper.figures.tokens import show_token
from helper.machine.device import bf16_is_fast
from helper.machine.sizes import cache_bytes
from helper.machine.threads import Pace
from helper.models import end_of_turn_id
from helper.validation import ROLES, lone_surrogate

LARGE = 50_000_000  # parameters: a model from this size on spends most of a token's time on reading its weights
SHORT = 8  # for fewer new tokens than these, copying the weights takes longer than it saves
MUCH = 2000  # for so many tokens or more, it pays to measure how many threads are fastest,
FRESH = 30.0  # unless that was measured in the last so many seconds
CACHE_BYTES = 2e9  # what the keys and values of a batch may take: with a large model and long texts it has fewer rows


def generate_responses(
    model,
    tokenizer,
    user_message: str | list[str] | None = None,
    system_message: str | None = None,
    max_new_tokens: int = 100,
    full_message: list | None = None,
    *,
    batch_size: int = 64,
    temperature: float = 0.0,
    num_samples: int = 1,
    enable_thinking: bool = False,
    seed: int | None = None,
):
    """Answer one message (-> str) or a list of them (-> list of str, same order), through the chat template.

    `full_message`: a whole conversation (a list of {"role", "content"}) or a list of conversations, instead of the two
    messages. `temperature`: 0 always takes the likeliest token; above 0 tokens are drawn. `num_samples` > 1 gives a list of
    that many answers for each question; it needs a temperature. `batch_size`: the most rows generated together.
    `enable_thinking`: for models such as Qwen3, whose thoughts then stand in the answer. `seed`: of the draws; without one
    they follow the lesson's seed (`drawing_with`).
    Only the new text is returned, without spaces around it. Raises TypeError (no text, no messages) or ValueError (a wrong
    role, a wrong number, a prompt too long, a conversation that the chat template refuses).
    """
    if not hasattr(tokenizer, "apply_chat_template"):
        raise TypeError(f"{type(tokenizer).__name__} is no tokenizer: first comes the model, then its tokenizer.")
    _check_count("num_samples", num_samples)
    _check_options(max_new_tokens, batch_size, temperature)
    conversations, single = _conversations(user_message, system_message, full_message)
    if num_samples > 1 and temperature <= 0:
        raise ValueError("num_samples > 1 needs a temperature above 0: greedy answers would all be the same.")
    prompts = [_prompt(tokenizer, messages, number, enable_thinking) for number, messages in enumerate(conversations)]
    rows = [tokenizer(prompt, add_special_tokens=False).input_ids for prompt in prompts for _ in range(num_samples)]
    options = {"batch_size": batch_size, "temperature": temperature, "seed": seed}
    new = generate_tokens(model, tokenizer, rows, max_new_tokens, **options)
    texts = [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)] if new else []
    if num_samples > 1:
        texts = [texts[i : i + num_samples] for i in range(0, len(texts), num_samples)]
    return texts[0] if single else texts


def complete_text(
    model,
    tokenizer,
    prompts: str | list[str],
    max_new_tokens: int = 30,
    stop: str | list[str] | None = "\n",
    *,
    batch_size: int = 64,
    temperature: float = 0.0,
    seed: int | None = None,
):
    """Continue plain text without a chat template, as base models do: one prompt (-> str) or a list (-> list of str).

    A continuation ends before the first `stop` text (None: only at the end token or after `max_new_tokens`), and is
    returned as generated, with the space that it begins with. `temperature`, `seed`: as in `generate_responses`.
    """
    single = isinstance(prompts, str)
    stops = [stop] if isinstance(stop, str) else list(stop or [])
    prompts = _as_list(prompts, "prompts")
    for number, prompt in enumerate(prompts):
        _check_text(prompt, f"Prompt {number}")
    rows = [text_ids(tokenizer, prompt) for prompt in prompts]
    window = max((len(text) for text in stops), default=0) + 4  # tokens to look back on: a letter may take several

    def has_stopped(tokens: list[int]) -> bool:
        tail = tokenizer.decode(tokens[-window:])
        return any(text in tail for text in stops)

    new = generate_tokens(
        model, tokenizer, rows, max_new_tokens, batch_size=batch_size, temperature=temperature, seed=seed,
        has_stopped=has_stopped if stops else None,
    )  # fmt: skip
    texts = []
    for text in tokenizer.batch_decode(new, skip_special_tokens=True) if new else []:
        ends = [text.find(end) for end in stops if end in text]
        texts.append(text[: min(ends)] if ends else text)
    return texts[0] if single else texts


def generate_tokens(
    model,
    tokenizer,
    prompts: list[list[int]],
    max_new_tokens: int,
    *,
    batch_size: int = 64,
    temperature: float = 0.0,
    has_stopped: Callable[[list[int]], bool] | None = None,
    keep_end: bool = False,
    seed: int | None = None,
) -> list[list[int]]:
    """Continue each list of token ids; the new ids, in the order of `prompts`, with the end token if `keep_end`.

    A row ends at one of `stop_token_ids`, after `max_new_tokens`, or where `has_stopped` says so, which gets the row's new
    ids after each token. Rows of like length share a batch, so that little is padded: `batch_size` of them at most, fewer
    where their keys and values would take more than CACHE_BYTES. `temperature`, `seed`: as in `generate_responses`.
    """
    _check_options(max_new_tokens, batch_size, temperature)
    max_new_tokens = _fitting(model, prompts, max_new_tokens)
    batch_size = min(batch_size, _most_rows(model, max(map(len, prompts), default=0) + max_new_tokens))
    stop_ids = stop_token_ids(model, tokenizer)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    new: list[list[int]] = [[] for _ in prompts]
    pace = Pace() if _in_main_thread() else None  # elsewhere a training may be running, which has chosen the threads for all
    if pace and len(order) * max_new_tokens >= MUCH:
        pace.start(max_age=FRESH)
    pick = partial(_pick, temperature=temperature, generator=drawing_with(seed, model.device) if temperature else None)
    copied = quick_weights(model) if order and max_new_tokens >= SHORT else contextlib.nullcontext(model)
    with copied as quick:
        quick = sharing_copy(quick)
        use_fused_attention(quick)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [prompts[i] for i in chosen]
            for i, row in zip(chosen, _decode(quick, batch, max_new_tokens, stop_ids, pick, has_stopped, keep_end, pace)):
                new[i] = row
    return new


def drawing_with(seed: int | None, device: torch.device | str = "cpu") -> torch.Generator | None:
    """Where the random numbers of the draws come from: a new generator that begins with `seed`.

    Without a seed it is PyTorch's own generator (None), which `set_seed` sets. A training in the main thread draws from that
    one too, so drawing from it in another thread would give the training other numbers: there, each thread gets a generator
    of its own, which begins with the seed that was set last.
    """
    if seed is not None:
        return torch.Generator(device).manual_seed(seed)
    if _in_main_thread():
        return None
    own, begun = vars(_own_to_each_thread), torch.initial_seed()
    if str(device) not in own or own[str(device)].initial_seed() != begun:
        own[str(device)] = torch.Generator(device).manual_seed(begun)
    return own[str(device)]


_own_to_each_thread = threading.local()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@torch.inference_mode()
def _decode(model, prompts, max_new_tokens, stop_ids, pick, has_stopped, keep_end, pace) -> list[list[int]]:
    """The loop: one forward pass a token for the rows still alive; earlier keys and values are cached."""
    # Prefill: a prompt that is asked several times is read once, and its keys and values are copied after that.
    device, different = model.device, list(dict.fromkeys(map(tuple, prompts)))
    copies = torch.tensor([different.index(tuple(prompt)) for prompt in prompts], device=device)
    ids, mask = _pad_left([list(prompt) for prompt in different], device)
    position = (mask.cumsum(-1) - 1).clamp(min=0)  # a word's position must not depend on the padding before it
    stops = torch.tensor(stop_ids, device=device)
    alive, cache, new = list(range(len(prompts))), None, [[] for _ in prompts]
    forward = plain_forward(model)
    mask = mask if not mask.all() else None  # nothing is padded: attention needs none, and is faster without
    for number in range(max_new_tokens):
        output = forward(
            input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True,
            logits_to_keep=1,
        )  # fmt: skip
        cache, logits = _kept(output, model), output.logits[:, -1]
        if number == 0 and len(different) < len(prompts):
            cache.batch_select_indices(copies)
            logits, position, mask = logits[copies], position[copies], mask if mask is None else mask[copies]
        # Pick the next token of each row.
        token = pick(logits)
        ended = torch.isin(token, stops).tolist()
        for row, (value, end) in enumerate(zip(token.tolist(), ended)):
            if keep_end or not end:
                new[alive[row]].append(value)
            if not end:
                ended[row] = has_stopped is not None and has_stopped(new[alive[row]])
        if pace:
            pace.step()
        # Drop what has ended.
        keep = [row for row, end in enumerate(ended) if not end]
        if not keep:
            break
        if len(keep) < len(alive):
            rows = torch.tensor(keep, device=device)
            cache.batch_select_indices(rows)
            alive, token, position = [alive[r] for r in keep], token[rows], position[rows]
            mask = mask if mask is None else mask[rows]
        # Extend: the picked tokens are read next, each one place further.
        ids, position = token[:, None], position[:, -1:] + 1
        mask = mask if mask is None else torch.cat([mask, mask.new_ones(len(keep), 1)], dim=1)
    return new


def _pick(logits: torch.Tensor, temperature: float, generator: torch.Generator | None = None) -> torch.Tensor:
    """The next token of each row, (rows, vocabulary) -> (rows,): the likeliest, or a draw.

    To draw, each row gets one random number between 0 and 1, and takes the first token at which the sum of the probabilities
    up to it is larger (`torch.multinomial` would take a random number for each token of the vocabulary).
    Raises FloatingPointError where there are no probabilities.
    """
    if temperature <= 0:
        best = logits.argmax(-1)  # nan counts as the largest
        _check_numbers(logits.gather(1, best[:, None]).isnan())
        return best
    sums = torch.softmax(logits.float() / temperature, -1).cumsum(-1)
    _check_numbers(~sums[:, -1].isfinite())
    drawn = torch.rand(len(sums), 1, device=sums.device, generator=generator) * sums[:, -1:]
    return torch.searchsorted(sums, drawn, right=True)[:, 0].clamp(max=sums.shape[1] - 1)


def _check_numbers(damaged: torch.Tensor) -> None:
    if damaged.any():
        raise FloatingPointError("The model gives nan for a next token: its weights are damaged. Load it again.")


def _kept(output, model):
    """The keys and values of a forward pass; NotImplementedError for families that keep something else."""
    cache = getattr(output, "past_key_values", None)
    if cache is not None and all(hasattr(layer, "batch_select_indices") for layer in getattr(cache, "layers", ())):
        return cache
    raise NotImplementedError(
        f"{type(model).__name__} keeps no keys and values as other families do (Mamba, for one, has a state), so rows that "
        "have ended cannot be taken out of its batch. Take another family, or the library's own loop: model.generate(...)."
    )


def _pad_left(prompts: list[list[int]], device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (rows, longest), each row's text at the right end."""
    longest = max(max(len(prompt) for prompt in prompts), 1)
    ids = [[0] * (longest - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def plain_forward(model) -> Callable:
    """The model's forward pass in the precision of its weights.

    A trainer with bf16=True leaves its autocast wrapped around `model.forward`, once more each time it runs;
    before and after training would then be measured in different precisions.
    """
    return MethodType(type(model).forward, model) if "forward" in model.__dict__ else model


def text_ids(tokenizer, text: str) -> list[int]:
    """Token ids of plain text, after the tokenizer's begin-of-text token where it has one.

    In pre-training a text stands after that token; without it the first word is in a place the model never met.
    An end token that the tokenizer appends is left out. A text that begins with a special token (a chat) is left as it is.
    """
    ids, bare = tokenizer(text).input_ids, tokenizer(text, add_special_tokens=False).input_ids
    ends = [end for end in range(len(ids), len(bare) - 1, -1) if ids[end - len(bare) : end] == bare]
    ids, special = ids[: ends[0]] if bare and ends else [], {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    if tokenizer.bos_token_id is None or (ids and ids[0] in special):
        return ids
    return [tokenizer.bos_token_id, *ids]


def stop_token_ids(model, tokenizer) -> list[int]:
    """The ids that end a text: the tokenizer's end, the template's end of turn, the model's own, and the begin
    token, after which another text would follow."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    own = own if isinstance(own, list) else [own]
    ids = [tokenizer.eos_token_id, end_of_turn_id(tokenizer), *own, tokenizer.bos_token_id]
    return sorted({i for i in ids if i is not None})


def test_model_with_questions(
    model,
    tokenizer,
    questions: str | list[str],
    system_message: str | None = None,
    title: str = "Model Output",
    max_new_tokens: int = 100,
) -> None:
    """Print each question, or a single one, with the model's greedy answer to it."""
    questions = _as_list(questions, "questions")
    answers = generate_responses(model, tokenizer, questions, system_message, max_new_tokens)
    print(f"=== {title} ===")
    for number, (question, answer) in enumerate(zip(questions, answers), start=1):
        print(f"\n{number}. {question}\n   {answer or '(nothing)'}")


test_model_with_questions.__test__ = False  # pytest: the name is the reference course's, it is no test


def next_token_table(model, tokenizer, text: str, k: int = 8) -> pd.DataFrame:
    """The `k` likeliest next tokens after `text`: columns `token` (a space shown as ␣) and `probability`."""
    _check_count("k", k)
    logits = next_logits(model, tokenizer, text)
    top = torch.softmax(logits.float(), -1).topk(min(k, len(logits)))
    tokens = [show_token(tokenizer.decode([i])) for i in top.indices.tolist()]
    return pd.DataFrame({"token": tokens, "probability": top.values.tolist()})


@torch.inference_mode()
def next_logits(model, tokenizer, text: str) -> torch.Tensor:
    """What the model says about the token after `text`, (vocabulary,). TypeError and ValueError as in `complete_text`."""
    _check_text(text, "The text")
    ids = text_ids(tokenizer, text)
    _fitting(model, [ids], 1)
    logits = plain_forward(sharing_copy(model))(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1]
    _check_numbers(logits.isnan())
    return logits


@contextlib.contextmanager
def quick_weights(model) -> Iterator:
    """The model to generate with: where it pays, a copy in bf16, freed on leaving; else the model itself.

    It pays on a CPU that is fast at bf16 (`bf16_is_fast`: AVX512-bf16 or AMX) for float32 weights of at least LARGE
    parameters: half the bytes are read for each token. The copy takes 2 bytes a parameter (135M: 269 MB) while it lives;
    the float32 weights are not touched. Buffers keep their precision.
    """
    weights = dict.fromkeys(model.parameters())
    large = sum(weight.numel() for weight in weights) >= LARGE
    plain = model.device.type == "cpu" and all(weight.dtype == torch.float32 for weight in weights)
    if not (large and plain and bf16_is_fast("cpu")):
        yield model
        return
    # Not requires_grad=False: torch.matmul would then repeat the last layer's matrix for each row of a prompt batch.
    halves = {id(weight): torch.nn.Parameter(weight.detach().bfloat16()) for weight in weights}
    quick = sharing_copy(model, halves)  # tied weights stay tied
    try:
        yield quick
    finally:
        del quick, halves


def _most_rows(model, length: int) -> int:
    """The most rows of `length` tokens whose keys and values take CACHE_BYTES together; one at least."""
    dtype = "float32" if model.dtype == torch.float32 else "bfloat16"
    try:
        row = cache_bytes(model.config.get_text_config(), 1, max(1, length), dtype)
    except AttributeError:  # another family, whose config has other names
        return sys.maxsize
    return max(1, int(CACHE_BYTES // row))


def _fitting(model, prompts: list[list[int]], max_new_tokens: int) -> int:
    """`max_new_tokens`, or as many as fit behind the longest prompt; ValueError where that leaves none."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if [] in prompts:
        number = prompts.index([])
        raise ValueError(f"Prompt {number} is empty, and the tokenizer has no token that begins a text: write something.")
    if not prompts or window is None:
        return max_new_tokens
    longest = max(range(len(prompts)), key=lambda i: len(prompts[i]))
    tokens = len(prompts[longest])
    if tokens >= window:
        raise ValueError(
            f"Prompt {longest} has {tokens:,} tokens, and the model reads at most {window:,}, its answer included. "
            "Shorten it, or split it."
        )
    return min(max_new_tokens, window - tokens)


def _prompt(tokenizer, messages: list[dict], number: int, enable_thinking: bool) -> str:
    """A conversation as text, up to the opening of the answer; ValueError where the template refuses it."""
    options = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": enable_thinking}
    try:
        return tokenizer.apply_chat_template(messages, **options)
    except Exception as error:  # whatever stands in the template
        roles = [said["role"] for said in messages]
        hint = " Perhaps it knows no system message: write its text above the question." if "system" in roles else ""
        hint = " Perhaps user and assistant must take turns." if ("user", "user") in zip(roles, roles[1:]) else hint
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"Conversation {number}: the tokenizer's chat template refuses it: {reason[:200]}.{hint}") from None


def _conversations(user_message, system_message, full_message) -> tuple[list[list[dict]], bool]:
    """The conversations to answer, and whether the caller gave a single one."""
    if (user_message is None) == (full_message is None):
        raise ValueError("Give either user_message or full_message.")
    if full_message is not None and system_message:
        raise ValueError('full_message holds all messages: put {"role": "system", "content": ...} first in it.')
    if full_message is not None:
        if isinstance(full_message, str | dict) or not isinstance(full_message, Iterable):
            raise TypeError(f'full_message is a {type(full_message).__name__}: give [{{"role": ..., "content": ...}}].')
        conversations = list(full_message)
        single = bool(conversations) and isinstance(conversations[0], dict)
        conversations = [conversations] if single else conversations
    else:
        single = isinstance(user_message, str)
        system = [{"role": "system", "content": system_message}] if system_message else []
        users = _as_list(user_message, "user_message")
        conversations = [[*system, {"role": "user", "content": user}] for user in users]
    for number, conversation in enumerate(conversations):
        _check_conversation(conversation, number)
    return conversations, single


def _as_list(texts, name: str) -> list:
    """The texts as a list, a single one too. A dict (a message) is kept whole, so that the error can say what it is."""
    if isinstance(texts, str | dict):
        return [texts]
    if not isinstance(texts, Iterable):
        raise TypeError(f"{name} is a {type(texts).__name__}: give a text or a list of texts.")
    return list(texts)


def _check_conversation(conversation: list[dict], number: int) -> None:
    if not isinstance(conversation, list) or not all(isinstance(message, dict) for message in conversation):
        raise TypeError(f'Conversation {number} is no list of messages {{"role": ..., "content": ...}}.')
    if not conversation:
        raise ValueError(f"Conversation {number} is empty: there is nothing to answer.")
    for message in conversation:
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise ValueError(f"Conversation {number}: the role is {role!r:.40}, and not one of {', '.join(ROLES)}.")
        _check_text(message.get("content"), f"Question {number}")


def _check_text(text, what: str) -> None:
    if not isinstance(text, str):
        hint = ' Messages go into full_message=[{"role": ..., "content": ...}].' if isinstance(text, dict) else ""
        raise TypeError(f"{what} is a {type(text).__name__}, and not a text.{hint}")
    half = lone_surrogate(text)
    if half:
        raise ValueError(f"{what} holds {half}, half of a character, which no tokenizer can read: leave it out.")


def _check_options(max_new_tokens, batch_size, temperature) -> None:
    _check_count("max_new_tokens", max_new_tokens)
    _check_count("batch_size", batch_size)
    if isinstance(temperature, bool) or not isinstance(temperature, numbers.Real):
        raise TypeError(f"temperature={temperature!r:.40} is a {type(temperature).__name__}: give a number from 0.")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise ValueError(f"temperature={temperature}: give 0 (greedy) or a number above it, such as 1.0.")


def _check_count(name: str, value) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r:.40} is a {type(value).__name__}: give a whole number from 1.")
    if value < 1:
        raise ValueError(f"{name}={value} asks for nothing: give a whole number from 1.")
