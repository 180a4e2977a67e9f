"""The tokenizer's part of a GGUF file: the vocabulary, the merges, the special tokens, the chat template.

llama.cpp has no regular expressions in its files. How a text is split into words before the merges is a *name*
(`tokenizer.ggml.pre`), and the program knows a list of them. Which name fits is found here by trying: the splits of SPLITS
are put into a copy of the tokenizer, one after another, and the first one under which the texts of PROBES have the same
tokens is taken. (llama.cpp's converter does it by a hash of the tokens of one such text.)
Left out on purpose: any tokenizer but byte-level BPE (GPT-2's kind: Qwen, Llama 3, SmolLM, Sprout); SentencePiece.
"""

import json
import re

from gguf import TokenType
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence, Split

QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
PLAIN = ByteLevel(add_prefix_space=False, use_regex=True)  # GPT-2's own split
SPLITS = {  # llama.cpp's name (llama-vocab.cpp) -> the same split in the library of tokenizers
    "gpt-2": PLAIN,
    "smollm": Sequence([Digits(individual_digits=True), PLAIN]),
    "qwen2": Sequence([Split(Regex(QWEN2), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]),
    "llama-bpe": Sequence([Split(Regex(LLAMA3), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]),
}
PROBES = (
    "Hello, world! What is 12 + 345 = 357?", "I don't know; she'll say it's 7, we've 1,000.",
    "Two  spaces,\ttab,\n\nlines \n x", "a  1   22\n  3",
    "3.14 and 2024-11-30; 007, x1y22z333", "für Größe, naïve, 東京, 🙂 ok", "def f(x):\n    return {'a': [x, 1]}\n",
    "\\boxed{72}\n#### 72", "YES, DON'T! (no) [yes] <b>", " leading", "trailing ", "HTTP/1.1 200 OK\r\n\r\nbody",
)  # fmt: skip
TRAINING_MARK = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")


def add_vocabulary(writer, tokenizer, rows: int) -> None:
    """Add the keys of the tokenizer; `rows` of the model's matrix of words, which may have more than the tokenizer.

    Raises ValueError for a tokenizer that is not byte-level BPE, or whose split llama.cpp has no name for.
    """
    described = json.loads(checked_backend(tokenizer).to_str())
    tokens, types = tokens_and_types(described, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name_of_split(tokenizer))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in described["model"]["merges"]])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    writer.add_add_bos_token(bool(_is_begun(tokenizer)))
    if tokenizer.chat_template:
        writer.add_chat_template(without_training_marks(tokenizer.chat_template))


def checked_backend(tokenizer) -> Tokenizer:
    """The tokenizer of the library `tokenizers`; ValueError where it is not byte-level BPE."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    described = json.loads(backend.to_str()) if isinstance(backend, Tokenizer) else {}
    if described.get("model", {}).get("type") != "BPE" or "ByteLevel" not in json.dumps(described.get("decoder")):
        raise ValueError(
            f"{type(tokenizer).__name__} is no byte-level BPE tokenizer, and no other is written here: take llama.cpp's "
            "convert_hf_to_gguf.py on the folder of safetensors."
        )
    if described.get("normalizer"):
        raise ValueError(
            f"The tokenizer changes texts first ({described['normalizer'].get('type')}), for which a GGUF file of this kind "
            "has no place: take llama.cpp's convert_hf_to_gguf.py."
        )
    return backend


def tokens_and_types(described: dict, rows: int) -> tuple[list[str], list[int]]:
    """Each row's token and its type: special tokens CONTROL, other added ones USER_DEFINED, rows without a token UNUSED."""
    added = {token["id"]: token for token in described["added_tokens"]}
    by_id = {number: token for token, number in described["model"]["vocab"].items()}
    by_id |= {number: token["content"] for number, token in added.items()}
    if max(by_id) >= rows:
        raise ValueError(f"The tokenizer has {max(by_id) + 1:,} tokens, and the model knows {rows:,}.")
    types = []
    for number in range(rows):
        if number not in by_id:
            types.append(TokenType.UNUSED)
        elif number in added:
            types.append(TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED)
        else:
            types.append(TokenType.NORMAL)
    return [by_id.get(number, f"[PAD{number}]") for number in range(rows)], types


def name_of_split(tokenizer) -> str:
    """llama.cpp's name for how the tokenizer splits texts into words; ValueError where no name in SPLITS fits."""
    backend = checked_backend(tokenizer)
    wanted = _ids(backend)
    for name, split in SPLITS.items():
        copy = Tokenizer.from_str(backend.to_str())
        copy.pre_tokenizer = split
        if _ids(copy) == wanted:
            return name
    raise ValueError(
        f"The tokenizer splits texts in a way that is none of {', '.join(SPLITS)}: llama.cpp would read other tokens than "
        "the model was trained on. Its convert_hf_to_gguf.py knows more of them."
    )


def _ids(tokenizer: Tokenizer) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in PROBES]


def _is_begun(tokenizer) -> bool:
    """Whether the tokenizer puts its begin token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]


def without_training_marks(template: str) -> str:
    """A chat template without `{% generation %}`, which marks what is trained and which not every program knows.

    >>> without_training_marks("{% generation %}{{ message }}{% endgeneration %}")
    '{{ message }}'
    """
    return TRAINING_MARK.sub("", template)
