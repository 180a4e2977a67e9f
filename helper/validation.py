"""Checks of training data, one function a format: all bad rows at once, by number, in one ValueError of ten lines.

    python -m helper.validation FILE       the same for a file of any size, as a report (--help)

| format | columns of a row | checked by |
|---|---|---|
| conversations (SFT) | `messages` | `validate_messages` |
| prompts with answers (SFT) | `prompt`, `completion` | `validate_completions` |
| preference pairs (DPO) | `chosen`, `rejected`, perhaps `prompt` | `validate_preferences` |
| problems (online RL) | `question`, `answer` | `validate_problems` |

Conversations, prompts and answers are lists of messages {"role", "content"}, never strings: a trainer takes a string
as it is, without the chat template. Problems are text, from which the lesson makes the messages.
The trainers themselves train on most of these faults without complaint. With a tokenizer it is also seen what its chat
template makes of a row: what it drops, and what would be cut off.
Left out on purpose: repair (a bad row is reported, never mended), images, tool calls, and any judgement of what the
text says: one prompt may have several different answers.
"""

import argparse
import difflib
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice, pairwise, zip_longest
from typing import NamedTuple

import datasets

from helper.answers import extract_gold
from helper.row_files import Repeats, Row, read_rows, run_command
from helper.rules import check_rule

ROLES = ("system", "user", "assistant", "tool")
OTHER_ROLES = {  # what other formats and models call them
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "developer": "system",
    "function": "tool",
}
OTHER_COLUMNS = {
    "from": ("role",),
    "value": ("content",),
    "prompt": ("instruction",),
    "response": ("output", "completion"),
    "output": ("completion",),
    "conversation": ("messages",),
    "problem": ("question",),
    "solution": ("answer",),
    "kto_tag": ("label",),
}
# Written as text they would begin or end a turn. Without a tokenizer only those that are nothing else anywhere.
TURN_MARKS = re.compile(r"<\|[A-Za-z]\w{0,40}\|>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>")
NO_INK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # fillers and an empty Braille cell: letters and signs without any
MEDIA_COLUMNS = ("image", "images", "video", "videos", "audio", "audios")
SHOWN_FAULTS = 8  # with the first line and the last, ten lines
FAULT_WIDTH = 105  # characters

Fault = tuple[str, str]  # its kind, by which faults are counted, and the words for this one
Turns = tuple[list[dict], list[dict]]  # the messages of a prompt, and those of the answer


def validate_messages(dataset, tokenizer=None, max_length: int | None = None) -> int:
    """Check that each row's `messages` is a conversation that ends with the assistant; the number of rows.

    `dataset`: a list of dicts or a `datasets.Dataset`. With `tokenizer` and `max_length` (tokens) also that the
    prompt, all before the last answer, leaves room for the answer, that no text holds a special token, and that the
    template drops nothing of the answer (some drop its thoughts); rows that would be cut, or that lose something before
    the answer, are counted in a note.
    Raises one ValueError that lists the bad rows by number.
    """
    return check_rows(
        dataset,
        ["messages"],
        message_row_faults,
        lambda row: [(row["messages"][:-1], row["messages"][-1:])],
        tokenizer=tokenizer,
        max_length=max_length,
    )


def validate_completions(dataset, tokenizer=None, max_length: int | None = None) -> int:
    """Check that `completion` is the assistant's answer to `prompt`, both lists of messages; the number of rows.

    `tokenizer` and `max_length` as in `validate_messages`. Raises one ValueError that lists the bad rows by number.
    """
    return check_rows(
        dataset,
        ["prompt", "completion"],
        completion_faults,
        lambda row: [(row["prompt"], row["completion"])],
        tokenizer=tokenizer,
        max_length=max_length,
    )


def validate_preferences(dataset, tokenizer=None, max_length: int | None = None, allow_equal: bool = False) -> int:
    """Check that `chosen` and `rejected` are different answers to the same prompt; the number of rows.

    Both are lists of messages: whole conversations, or only the answers when there is a `prompt`, a list of messages
    too. They may differ in their last message only, and not only beyond `max_length`. Equal answers train nothing (a loss
    of ln 2 for ever); `allow_equal` accepts them, for anchor rows, and prints how many there are. `tokenizer` and
    `max_length` as in `validate_messages`.
    Raises one ValueError that lists the bad rows by number.
    """
    rows = check_rows(
        dataset,
        ["chosen", "rejected"],
        lambda row: _preference_faults(row, allow_equal),
        lambda row: [_split_at_answer(row, side) for side in ("chosen", "rejected")],
        optional=["prompt"],
        tokenizer=tokenizer,
        max_length=max_length,
    )
    equal = sum(_are_equal(row) for row in dataset) if allow_equal else 0
    if equal:
        print(f"Note: in {equal:,} of {rows:,} rows chosen and rejected are the same text (anchors).")
    return rows


def validate_problems(dataset, tokenizer=None, max_length: int | None = None) -> int:
    """Check that each row has a `question` and an `answer` that ends "#### number"; the number of rows.

    `tokenizer` and `max_length` as in `validate_messages`, for the question and its answer as two messages.
    Raises one ValueError that lists the bad rows by number.
    """
    return check_rows(
        dataset,
        ["question", "answer"],
        _problem_faults,
        lambda row: [([message("user", row["question"])], [message("assistant", row["answer"])])],
        tokenizer=tokenizer,
        max_length=max_length,
    )


def validate_rules(dataset) -> int:
    """Check that each row has a `question` and, as `ground_truth`, a rule of `helper/rules.py`; the number of rows.

    Raises one ValueError that lists the bad rows by number.
    """
    return check_rows(dataset, ["question", "ground_truth"], _rule_faults)


def message(role: str, content: str) -> dict[str, str]:
    """One message of a conversation."""
    return {"role": role, "content": content}


def check_rows(
    dataset,
    columns: Sequence[str],
    faults_of: Callable[[dict], list[Fault]],
    turns_of: Callable[[dict], list[Turns]] | None = None,
    *,
    optional: Sequence[str] = (),
    tokenizer=None,
    max_length: int | None = None,
) -> int:
    """Check the type of `dataset`, its columns, and each row with `faults_of`; the number of rows.

    `optional`: columns that may be missing, but not misspelt; `turns_of`: what of a row is measured in tokens.
    Raises one ValueError with all that was found.
    """
    _check_type(dataset)
    _check_columns(dataset, columns, optional)
    _check_limit(tokenizer, max_length)
    faults, lengths, losing = [], [], 0
    for number, row in enumerate(dataset):
        found = row_faults(row, columns, optional, faults_of)
        if not found and max_length is not None:
            found, length, loses = _rendered_faults(turns_of(row), tokenizer, max_length)
            lengths.append(length)
            losing += loses
        faults += [(number, *fault) for fault in once_a_kind(found)]
    if faults:
        raise ValueError(_report(faults, len(dataset)))
    cut = sum(length > max_length for length in lengths)
    if cut:
        print(
            f"Note: {cut:,} of {len(dataset):,} rows are longer than max_length={max_length} (the longest has "
            f"{max(lengths)} tokens): the trainer would cut their ends."
        )
    if losing:
        print(
            f"Note: in {losing:,} of {len(dataset):,} rows the chat template drops a part of what stands before the answer."
        )
    return len(dataset)


def _check_type(dataset) -> None:
    if isinstance(dataset, datasets.DatasetDict | datasets.IterableDatasetDict):
        first = next(iter(dataset), "train")
        names = shorten(", ".join(dataset), 80)
        raise ValueError(f'This is a dictionary of splits ({names}), not one data set: pass one, dataset["{first}"].')
    if isinstance(dataset, datasets.IterableDataset):
        raise ValueError(
            "This data set is streamed: its rows have no numbers and no end. Load it without streaming=True, or pass "
            "some of its rows: list(dataset.take(1000))."
        )
    if not isinstance(dataset, list | tuple | datasets.Dataset):
        raise ValueError(
            f"A data set is a list of dicts or a datasets.Dataset, not {_type_of(dataset)}: load a file or a name with "
            "load_course_dataset, put a single row into a list, and turn columns into rows with Dataset.from_dict."
        )
    if not len(dataset):
        raise ValueError("The data set has no rows. Look at the filter, the split or the file it came from.")


def _check_columns(dataset, columns: Sequence[str], optional: Sequence[str]) -> None:
    """Raise for columns that no row has, and for optional ones that were misspelt: once, not once a row."""
    if isinstance(dataset, datasets.Dataset):
        present = list(dataset.column_names)
    else:
        rows = [row for row in dataset if isinstance(row, dict)]
        if not rows:
            return
        present = list(dict.fromkeys(name for row in rows for name in row if isinstance(name, str)))
    missing = [name for name in columns if name not in present]
    misspelt = _misspelt(present, columns, optional)
    if not missing and not misspelt:
        return
    wanted = " or ".join(f'"{name}"' for name in missing)
    names = shorten(", ".join(quote(name) for name in present[:20]), 150)
    lines = [f"No row has a column {wanted}." if missing else "A column is misspelt."]
    lines.append(f"The columns are {names}." if present else "The rows have no columns at all.")
    lines += [f"{hint} Rename the column." for hint in misspelt]
    if not misspelt:
        lines.append(_format_hint(present))
    raise ValueError("\n".join(lines))


def _misspelt(present: list, columns: Sequence[str], optional: Sequence[str]) -> list[str]:
    """A hint for each wanted name that is not present but has a near one; optional ones have to be nearer."""
    present = [name for name in present if isinstance(name, str)]
    others = [name for name in present if name not in columns and name not in optional]
    near = {name: nearest(name, others) for name in columns if name not in present}
    for name in optional:
        alike = [other for other in others if abs(len(other.strip()) - len(name)) <= 1]  # "prompt_id" is no misspelt prompt
        near[name] = None if name in present else nearest(name, alike, 0.75)
    return [f'{quote(other)}: did you mean "{name}"?' for name, other in near.items() if other]


def _format_hint(present: list[str]) -> str:
    """What to do with rows that have these columns."""
    if "conversations" in present:
        return (
            'This looks like ShareGPT\'s format: convert it with from_sharegpt, or rename the column "messages" if its '
            "turns have role and content."
        )
    if "instruction" in present:
        return "This looks like Alpaca's format: see from_alpaca and the other functions of helper.converters."
    for function, columns in {
        "validate_messages": {"messages"},
        "validate_completions": {"prompt", "completion"},
        "validate_preferences": {"chosen", "rejected"},
        "validate_problems": {"question", "answer"},
    }.items():
        if columns <= set(present):
            return f"{function} checks rows of this format."
    return "Rename the columns you have, or make these from them."


def _check_limit(tokenizer, max_length) -> None:
    if tokenizer is None and max_length is None:
        return
    if tokenizer is None or max_length is None:
        raise ValueError("To check lengths, give both tokenizer= and max_length= (the number in the trainer's config).")
    if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"max_length is a number of tokens, 1 or more, not {max_length!r:.40}.")
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError("The tokenizer has no chat template: load it with load_model_and_tokenizer, which gives one.")


def row_faults(row, columns: Sequence[str], optional: Sequence[str], faults_of) -> list[Fault]:
    """What is wrong with a row that should have these columns; `faults_of` says what with their values."""
    if not isinstance(row, dict):
        return [("row", f"the row is {_type_of(row)}, not a dict")]
    misspelt = [("column", hint) for hint in _misspelt(list(row), columns, optional)]
    absent = [name for name in columns if name not in row]
    if absent:  # what stands in it cannot be wrong as well
        return misspelt or [(f"no {name}", f'the row has no column "{name}", as other rows have') for name in absent]
    media = [name for name in MEDIA_COLUMNS if name not in columns and _is_given(row.get(name))]
    lost = [("media", f"the row has {name}, which a model of text cannot see: leave such rows out") for name in media]
    return misspelt + lost + faults_of(row)


def _is_given(value) -> bool:
    """Whether a column holds something: not None, and not empty; arrays are something."""
    return value is not None and not (isinstance(value, str | list | tuple | dict) and not value)


def kto_faults(row: dict) -> list[Fault]:
    """A row that says of itself that its answer is bad, as rows for KTO do; SFT would teach it."""
    bad = [name for name in ("label", "kto_tag") if row.get(name) is False]
    return [("kto", f"{name} is False: an answer that is not to be learned (KTO). Keep the rows with True") for name in bad]


def once_a_kind(faults: list[Fault]) -> list[Fault]:
    """The first fault of each kind, so that a long row does not fill the report."""
    counts = Counter(kind for kind, _ in faults)
    first = dict(reversed(faults))
    return [(kind, first[kind] + (f" (and {n - 1} more such)" if n > 1 else "")) for kind, n in counts.items()]


def _report(faults: list[tuple[int, str, str]], rows: int) -> str:
    """The text of the error: some faults of every kind, then how many more there are, kind by kind."""
    by_kind: dict[str, list] = {}
    for fault in faults:
        by_kind.setdefault(fault[1], []).append(fault)
    turns = zip_longest(*by_kind.values())
    shown = sorted([fault for turn in turns for fault in turn if fault][:SHOWN_FAULTS], key=lambda fault: fault[0])
    bad = len({number for number, _, _ in faults})
    lines = [f"{bad:,} of {rows:,} rows are wrong (counted from 0). Mend them or leave them out:"]
    lines += [f"  row {number}: {shorten(text, FAULT_WIDTH)}" for number, _, text in shown]
    rest = Counter(kind for _, kind, _ in faults) - Counter(kind for _, kind, _ in shown)
    if rest:
        named = {kind for _, kind, _ in shown}
        parts = [f"{count:,} like row {by_kind[kind][0][0]}" for kind, count in rest.items() if kind in named]
        other = sum(count for kind, count in rest.items() if kind not in named)
        parts += [f"{other:,} of other kinds"] if other else []
        lines.append(f"  and {rest.total():,} more: {', '.join(parts)}")
    return "\n".join(lines)


def message_row_faults(row: dict) -> list[Fault]:
    """What is wrong with a row whose `messages` are a whole conversation."""
    messages = row.get("messages")
    return kto_faults(row) + message_faults(messages, "messages") + order_faults(_roles_of(messages))


def completion_faults(row: dict) -> list[Fault]:
    """What is wrong with a row whose `completion` is the assistant's answer to its `prompt`."""
    return kto_faults(row) + _faults_after_prompt(row, "completion")


def _faults_after_prompt(row: dict, column: str) -> list[Fault]:
    """What is wrong with row["prompt"] and the answer to it in `column`."""
    prompt, answer = row.get("prompt"), row.get(column)
    faults = message_faults(prompt, "prompt") + message_faults(answer, column)
    before, after = _roles_of(prompt), _roles_of(answer)
    if after and after[0] != "assistant":
        words = f"{column} starts with the {after[0]}: only the assistant's answer goes there"
        faults.append((f"{column} start", words))
    elif before and after:
        faults += [(kind, f"prompt and {column}: {text}") for kind, text in order_faults(before + after)]
    return faults


def _preference_faults(row: dict, allow_equal: bool) -> list[Fault]:
    faults = []
    for side in ("chosen", "rejected"):
        if row.get("prompt") is not None:
            faults += _faults_after_prompt(row, side)
        else:
            named = [(kind, f"{side}: {text}") for kind, text in order_faults(_roles_of(row.get(side)))]
            faults += message_faults(row.get(side), side) + named
    faults = list(dict.fromkeys(faults))  # the prompt was looked at twice
    if faults:
        return faults
    before = [[(said["role"], said["content"]) for said in row[side][:-1]] for side in ("chosen", "rejected")]
    if before[0] != before[1]:
        part = next(place for place, (one, other) in enumerate(zip_longest(*before)) if one != other)
        words = f"they part at message {part} of {len(row['chosen'])}, and only the last may differ"
        return [("different", f"chosen and rejected answer different prompts: {words}")]
    if _are_equal(row) and not allow_equal:
        return [("same", "chosen and rejected are the same text (for anchor rows: allow_equal=True)")]
    return []


def _are_equal(row: dict) -> bool:
    return row["chosen"][-1]["content"].strip() == row["rejected"][-1]["content"].strip()


def _split_at_answer(row: dict, side: str) -> Turns:
    return [*(row.get("prompt") or []), *row[side][:-1]], row[side][-1:]


def _problem_faults(row: dict) -> list[Fault]:
    answer_faults = text_faults(row.get("answer"), "no text in answer")
    if not answer_faults:
        try:
            extract_gold(row["answer"])
        except ValueError as error:
            answer_faults = [("gold", f'the answer must end like "#### 72". {error}')]
    return text_faults(row.get("question"), "no text in question") + answer_faults


def _rule_faults(row: dict) -> list[Fault]:
    faults = text_faults(row.get("question"), "no text in question")
    try:
        check_rule(row.get("ground_truth"))
    except ValueError as error:
        faults.append(("rule", str(error)))
    return faults


def message_faults(messages, name: str) -> list[Fault]:
    """What is wrong with a list of messages that stands in the column `name`, apart from their order."""
    if isinstance(messages, str):
        words = 'the chat template would be skipped. Make it [{"role": ...}]'
        return [(f"{name} string", f"{name}: no list of messages but a string: {words}")]
    if not isinstance(messages, list) or not messages:
        what = "an empty list" if isinstance(messages, list) else _type_of(messages)
        what += ", a single message: put it into a list" if isinstance(messages, dict) and "role" in messages else ""
        return [(f"{name} list", f"{name}: no list of messages but {what}")]
    faults = []
    for place, said in enumerate(messages):
        where = f"message {place}" if name == "messages" else f"{name}, message {place}"
        if not isinstance(said, dict):
            faults.append(("message", f"{where} is {_type_of(said)}, not a dict with role and content"))
            continue
        for key in ("role", "content"):
            if key not in said:
                hint = ", ".join(_misspelt(list(said), [key], [other for other in ("role", "content") if other != key]))
                faults.append((f"no {key}", f'{where} has no "{key}"' + (f" ({hint})" if hint else "")))
        if "role" in said and not (isinstance(said["role"], str) and said["role"] in ROLES):
            hint = role_hint(said["role"], ROLES)
            faults.append((f"role {hint}", f"{where} has the role {hint}"))
        if "content" in said:
            role = _right_role(said.get("role")) or "no role"
            faults += text_faults(said["content"], f"{where} ({role})", "content")
    return faults


def role_hint(role, roles: Sequence[str]) -> str:
    """A role that is none of `roles`, in words, with the nearest that is."""
    if not isinstance(role, str):
        return f"{_type_of(role)}, not one of {', '.join(roles)}"
    near = _right_role(role, roles)
    return f'{quote(role)}: did you mean "{near}"?' if near else f"{quote(role)}, not one of {', '.join(roles)}"


def text_faults(text, where: str, kind: str | None = None) -> list[Fault]:
    """What is wrong with `text` when it should be words. Faults of one `kind` (or place) are counted together."""
    kind = kind or where
    if not isinstance(text, str):
        return [(f"{kind} type", f"{where}: {_type_of(text)}, not text")]
    half = lone_surrogate(text)
    if half:
        return [(f"{kind} surrogate", f"{where} holds {half}, half of a character: no tokenizer can read it")]
    if is_blank(text):
        return [(f"{kind} blank", f"{where}: {'only blanks' if text else 'empty'}")]
    mark = TURN_MARKS.search(text)
    return [(f"{kind} mark", _holds_mark(where, mark.group()))] if mark else []


def _holds_mark(where: str, mark: str) -> str:
    return f"{where} holds {mark}, a special token: take it out"


def is_blank(text: str) -> bool:
    """Whether nothing of `text` can be seen: spaces, characters of no width, fillers."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf", "Mn", "Me") or c in NO_INK for c in text)


def order_faults(roles: list[str]) -> list[Fault]:
    """What is wrong with the order of a conversation's roles. No roles, no fault."""
    if not roles:
        return []
    faults = []
    talk = roles[1:] if roles[0] == "system" else roles
    if "system" in talk:
        faults.append(("system", "a system message after the first message: it must come first, and once"))
    if talk[:1] != ["user"]:
        start = f"starts with the {talk[0]}" if talk else "there is only a system message"
        faults.append(("start", f"{start}: the user's message must come first"))
    if roles[-1] != "assistant":
        faults.append(("end", f"ends with the {roles[-1]}: the assistant's answer must come last"))
    for place, (role, after) in enumerate(pairwise(roles)):
        if role == after in ("user", "assistant"):
            faults.append(("twice", f"two {role} messages in a row (messages {place} and {place + 1})"))
        if after == "tool" and role not in ("assistant", "tool"):
            faults.append(("tool", f"message {place + 1} is a tool's but follows no message of the assistant's"))
    return faults


def _roles_of(messages) -> list[str]:
    """The roles of the messages, other names put right; empty when one has no role that can be made out."""
    if not isinstance(messages, list):
        return []
    roles = [_right_role(said.get("role")) if isinstance(said, dict) else None for said in messages]
    return [] if None in roles else roles


def _right_role(role, roles: Sequence[str] = ROLES) -> str | None:
    if not isinstance(role, str) or len(role) > 40:
        return None
    if role in roles:
        return role
    wanted = {other: right for other, right in OTHER_ROLES.items() if right in roles} | dict(zip(roles, roles))
    near = difflib.get_close_matches(role.strip().lower(), wanted, n=1)
    return wanted[near[0]] if near else None


def _rendered_faults(turns: list[Turns], tokenizer, max_length: int) -> tuple[list[Fault], int, bool]:
    """What the template makes of a row: (faults, the longest text's tokens, whether something before the answer is dropped).

    `turns`: one answer with its prompt, or both answers of a pair.
    """
    marks, rows, loses = special_marks(tokenizer), [], False
    for prompt, answer in turns:
        said = prompt + answer
        held = next(((place, mark) for place, m in enumerate(said) for mark in marks if mark in m["content"]), None)
        if held:
            return [("mark", _holds_mark(f"message {held[0]}", held[1]))], 0, False
        try:
            before = len(_render(tokenizer, prompt, True)[1])
            text, ids = _render(tokenizer, said, False)
        except Exception as error:  # whatever stands in the template
            return [("template", f"the tokenizer's chat template refuses it ({type(error).__name__}): {error}")], 0, False
        lost = dropped_messages(said, text)
        if lost and lost[-1] >= len(prompt):
            return [("lost", "the chat template drops a part of the answer (its thoughts?): it is not trained")], 0, False
        if before >= max_length:
            words = f"the prompt alone has {before} tokens, and max_length is {max_length}"
            return [("long prompt", f"{words}: nothing of the answer would be trained")], 0, False
        rows, loses = [*rows, ids], loses or bool(lost)
    if len(rows) == 2 and rows[0] != rows[1] and rows[0][:max_length] == rows[1][:max_length]:
        words = f"chosen and rejected differ only beyond max_length={max_length}: cut off there, they are the same"
        return [("cut alike", words)], 0, False
    return [], max(map(len, rows)), loses


def dropped_messages(messages: list[dict], text: str) -> list[int]:
    """The places of messages of which a part is not in `text`, what the chat template made of them; blanks do not count."""
    text = "".join(text.split())
    return [place for place, said in enumerate(messages) if "".join(said["content"].split()) not in text]


def special_marks(tokenizer) -> list[str]:
    """The tokens that stand for no text, such as those that begin and end a turn, as they are written."""
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return sorted({*tokenizer.all_special_tokens, *added})


def _render(tokenizer, messages: list[dict], add_generation_prompt: bool) -> tuple[str, list[int]]:
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def nearest(name: str, names: Iterable, cutoff: float = 0.6) -> str | None:
    """The one of `names` that `name` was meant by: spelt nearly the same, or known under that name elsewhere."""
    plain = {other.strip().lower(): other for other in names if isinstance(other, str) and len(other) <= 40}
    known = [other for key, other in plain.items() if name in OTHER_COLUMNS.get(key, ())]
    if not plain:  # as in most rows
        return None
    close = difflib.get_close_matches(name, plain, n=1, cutoff=cutoff)
    return plain[close[0]] if close else next(iter(known), None)


def quote(text: str) -> str:
    """A foreign text between quotes, short, on one line; spaces at its ends are kept, to be seen."""
    if text != text.strip() and len(text) <= 30:
        return ascii(text)
    text = shorten(text, 30)
    return f'"{text}"' if text.isprintable() else ascii(text)


def shorten(text: str, width: int) -> str:
    """`text` with single spaces on one line, its end cut off at `width` characters."""
    text = " ".join(text[: 2 * width].split())
    return text if len(text) <= width else text[: width - 3] + "..."


def lone_surrogate(text: str) -> str | None:
    """The first half of a character in `text`, as it is written in Python; no UTF-8 has it, and no tokenizer reads it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return ascii(text[error.start])
    return None


def _type_of(value) -> str:
    return "None" if value is None else type(value).__name__


# The command


class Format(NamedTuple):
    """The columns of a format and what is wrong with a row's values."""

    columns: tuple[str, ...]
    faults_of: Callable[[dict], list[Fault]]
    optional: tuple[str, ...] = ()

    def faults(self, row: dict) -> list[Fault]:
        return once_a_kind(row_faults(row, self.columns, self.optional, self.faults_of))


FORMATS = {
    "messages": Format(("messages",), message_row_faults),
    "completions": Format(("prompt", "completion"), completion_faults),
    "preferences": Format(("chosen", "rejected"), partial(_preference_faults, allow_equal=False), ("prompt",)),
    "problems": Format(("question", "answer"), _problem_faults),
    "rules": Format(("question", "ground_truth"), _rule_faults),
}
LOOKED_AT = 100  # rows from whose columns the format is told


class Report:
    """Prints the bad rows of a file as they come: the first `limit`, then only the first of each new kind of fault."""

    def __init__(self, limit: int):
        self.limit, self.rows, self.bad, self.shown, self.kinds = limit, 0, 0, 0, set()

    def add(self, row: Row, faults: list[Fault]) -> None:
        """Count a row, and print what is wrong with it."""
        self.rows, self.bad = self.rows + 1, self.bad + bool(faults)
        new = [fault for fault in faults if fault[0] not in self.kinds]
        if faults and (self.shown < self.limit or (new and len(self.kinds) < 50)):
            self.shown += 1
            self.kinds |= {kind for kind, _ in faults}
            print(f"{row.where}: {shorten('; '.join(text for _, text in faults), 4 * FAULT_WIDTH)}")

    def end(self) -> None:
        if self.bad > self.shown:
            print(f"... and {self.bad - self.shown:,} more bad rows, with such faults (--show {self.bad} shows all).")


def faults_of_row(row: Row, faults: Callable[[dict], list[Fault]]) -> list[Fault]:
    """What is wrong with a row of a file: that it cannot be read, or its values."""
    return [(f"read {row.fault[:12]}", row.fault)] if row.values is None else faults(row.values)


def first_columns(rows: Iterator[Row]) -> tuple[list[str], list[dict], Iterator[Row]]:
    """The columns of the first rows that can be read, these rows' values, and all rows again."""
    first = list(islice(rows, LOOKED_AT))
    values = [row.values for row in first if row.values is not None]
    if not values:
        raise ValueError(f"none of the first {len(first)} rows can be read; the first, {first[0].where}: {first[0].fault}")
    return list(dict.fromkeys(name for row in values for name in row)), values, chain(first, rows)


def format_of(columns: list[str]) -> str:
    """The one format that has these columns; ValueError where it is none, or more than one."""
    found = [name for name, kind in FORMATS.items() if set(kind.columns) <= set(columns)]
    raw = {"instruction", "conversations"} & set(columns)
    if len(found) == 1 and not raw:
        return found[0]
    names = shorten(", ".join(map(quote, columns)), 200)
    if raw:
        raise ValueError(f"the columns are {names}: convert the file first, with python -m helper.converters (--help).")
    if found:
        raise ValueError(f"the columns are {names}: this may be {' or '.join(found)}. Say which, with --format.")
    known = "; ".join(f"{name}: {', '.join(kind.columns)}" for name, kind in FORMATS.items())
    raise ValueError(f"the columns are {names}, which is no known format ({known}). Rename them, or say --format.")


def check_file(options: argparse.Namespace) -> int:
    """Check a file row by row and print what is found; 0 where all rows are right, 1 where some are not."""
    columns, _, rows = first_columns(read_rows(options.file))
    name = format_of(columns) if options.format == "auto" else options.format
    kind, report, repeats, unit = FORMATS[name], Report(options.show), Repeats(), "row"
    for row in rows:
        report.add(row, faults_of_row(row, kind.faults))
        if row.values is not None:
            repeats.add(row)
        unit = row.unit
    report.end()
    again, first = repeats.found()
    if again:
        print(f"Note: {again:,} rows stand there a second time; the first is {unit} {first[0]}, as {unit} {first[1]}.")
    wrong = f"{report.bad:,} are wrong: mend them or leave them out" if report.bad else "all of them are right"
    counted = " (rows counted from 0)" if report.bad and unit == "row" else ""
    print(f"{options.file}: {report.rows:,} rows, checked as {name}; {wrong}{counted}.")
    return 1 if report.bad else 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit status."""
    formats = "\n".join(f"  {name:<12} columns {', '.join(kind.columns)}" for name, kind in FORMATS.items())
    parser = argparse.ArgumentParser(
        prog="python -m helper.validation",
        description="Check the rows of a file before training: JSONL, a JSON list, CSV or parquet, of any size.",
        epilog=f"formats:\n{formats}\n\nexit status: 0 all rows are right, 1 some are wrong, 2 the file could not be checked"
        "\n\nexample:\n  python -m helper.validation data/sft/train.jsonl",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("file")
    parser.add_argument("--format", choices=["auto", *FORMATS], default="auto", help="auto: told from the columns")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="print N bad rows, then the first of each kind")
    return run_command(check_file, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
