"""Other formats of training data as the course's, and back: pure functions, list of rows in, list of rows out.

    python -m helper.converters IN OUT --from alpaca       the same for a file of any size (--help)

| from | columns of a row | to |
|---|---|---|
| `from_alpaca` | instruction, input, output, history, system | `messages` |
| `from_sharegpt` | conversations of {"from", "value"}, system | `messages` |
| `from_plain_pairs` | instruction, chosen, rejected: texts | `prompt`, `chosen`, `rejected` |
| `from_output_pairs` | instruction, output: two texts, the better one first | `prompt`, `chosen`, `rejected` |
| `from_ranked_outputs` | instruction, output: texts, the best one first | `prompt`, `chosen`, `rejected` |
| `from_scores` | instruction, output: texts, scores: a number from 1 to 10 for each | `prompt`, `chosen`, `rejected` |
| `from_kto` | prompt, completion: messages or texts, label: true or false | `prompt`, `chosen`, `rejected` |

And from the course's columns: `to_alpaca`, `to_sharegpt` and `to_prompt_completion` (SFT on the answer alone) take rows of
`messages`, `to_kto` takes preference pairs.
Where there is an `instruction` there may also be `input`, `history` (pairs of a question and its answer) and `system`.
A bad row is an error that names it, as in helper.validation; rows that give no pair are counted in a printed line.
The command holds one row at a time, but for labels: which answers belong together is known only at the end of the file, so
their texts are kept, up to LARGEST_GROUPS.
Left out on purpose: tool calls, images and thoughts in a field of their own (refused by name, never dropped), and other
columns of a row, which are not carried over.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import combinations, product
from typing import NamedTuple

from helper.row_files import Row, read_rows, run_command, written_rows
from helper.validation import (
    FORMATS,
    Fault,
    Report,
    check_rows,
    completion_faults,
    faults_of_row,
    first_columns,
    is_blank,
    kto_faults,
    message,
    message_row_faults,
    once_a_kind,
    order_faults,
    quote,
    role_hint,
    row_faults,
    shorten,
    text_faults,
    validate_messages,
    validate_preferences,
)

PROMPT_COLUMNS = ("input", "history", "system")  # may be missing, None or empty
SHAREGPT_ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
SHAREGPT_NAMES = {"user": "human", "assistant": "gpt", "system": "system"}
# Of a message, beside role and content: what says something that the other formats have no place for.
SPOKEN_KEYS = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), "tool calls"),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking", "thoughts"), "thoughts in a field of their own"),
    **dict.fromkeys(("image", "images", "video", "videos", "audio", "audios"), "pictures and sounds"),
}
LARGEST_GROUPS = 80 * 2**20  # bytes of labelled answers that the command keeps until it pairs them
TOOL_ROLES = ("tool", "tools", "function", "function_call", "observation")


def from_alpaca(rows) -> list[dict]:
    """Alpaca's rows as `messages`; instruction and input become one message of two lines.

    Raises one ValueError that lists the bad rows by number.

    >>> from_alpaca([{"instruction": "Add.", "input": "1 + 1", "output": "2"}])[0]["messages"][0]
    {'role': 'user', 'content': 'Add.\\n1 + 1'}
    """
    check_rows(
        rows,
        ["instruction", "output"],
        _alpaca_faults,
        optional=PROMPT_COLUMNS,
    )
    return [_from_alpaca(row) for row in rows]


def to_alpaca(rows) -> list[dict]:
    """Rows of `messages` as Alpaca's: the last question and answer, and what came before as history and system."""
    _check_plain(rows)
    return [_as_alpaca(row["messages"]) for row in rows]


def from_sharegpt(rows) -> list[dict]:
    """ShareGPT's rows as `messages`: human and user are the user, gpt and assistant the assistant.

    A system message at the start that is empty is none. Raises one ValueError that lists the bad rows by number, tool calls
    among them.
    """
    check_rows(rows, ["conversations"], _sharegpt_faults, optional=["system", "tools"])
    return [{"messages": _from_turns(row)} for row in rows]


def to_sharegpt(rows) -> list[dict]:
    """Rows of `messages` as ShareGPT's `conversations`."""
    _check_plain(rows)
    return [_as_sharegpt(row["messages"]) for row in rows]


def from_plain_pairs(rows) -> list[dict]:
    """Rows of the texts instruction, chosen and rejected as lists of messages.

    Raises one ValueError that lists the bad rows by number, equal answers among them.
    """
    check_rows(rows, ["instruction", "chosen", "rejected"], _plain_pair_faults, optional=PROMPT_COLUMNS)
    return [_pair(row, row["chosen"], row["rejected"]) for row in rows]


def from_output_pairs(rows) -> list[dict]:
    """Rows whose `output` holds two answers, the preferred one first, as preference pairs.

    Raises one ValueError that lists the bad rows by number, equal answers among them.
    """
    check_rows(rows, ["instruction", "output"], _output_pair_faults, optional=PROMPT_COLUMNS)
    return [_pair(row, *row["output"]) for row in rows]


def from_ranked_outputs(rows, all_pairs: bool = False) -> list[dict]:
    """Preference pairs from rows whose `output` lists answers from the best to the worst.

    The best answer against each other one; with `all_pairs` every answer against each worse one. Equal texts give
    no pair; a printed line counts them, and the rows without any pair.
    Raises one ValueError that lists the bad rows by number.
    """
    check_rows(rows, ["instruction", "output"], _ranked_faults, optional=PROMPT_COLUMNS)
    return _make_pairs(rows, partial(_ranked, all_pairs=all_pairs))


def from_scores(rows, margin: float = 1) -> list[dict]:
    """Preference pairs from rows whose `scores` grade each answer in `output` from 1 to 10.

    Every two answers whose scores differ by at least `margin`, more than 0, give a pair. Ties and equal texts give
    none; a printed line counts the equal texts and the rows without any pair.
    Raises one ValueError that lists the bad rows by number.
    """
    least = _least_difference(margin)
    check_rows(rows, ["instruction", "output", "scores"], _score_faults, optional=PROMPT_COLUMNS)
    return _make_pairs(rows, partial(_graded, least=least))


def from_kto(rows) -> list[dict]:
    """Preference pairs from answers that are each labelled good or bad: each good one with each bad one to the same prompt.

    `prompt` and `completion` are lists of messages, or texts (a user's message and the assistant's); `label` is True or
    False. Prompts are the same where all roles and texts are equal, wherever in the list they stand. Rows without a
    partner of the other label give no pair, nor do equal texts; a printed line counts both.
    Raises one ValueError that lists the bad rows by number.

    >>> rows = [{"prompt": "A fruit?", "completion": text, "label": text == "Plum."} for text in ("Plum.", "Car.")]
    >>> from_kto(rows)[0]["rejected"]
    1 pairs from 2 rows.
    [{'role': 'assistant', 'content': 'Car.'}]
    """
    check_rows(rows, KTO_COLUMNS, _kto_faults)
    groups = _Groups()
    for number, row in enumerate(rows):
        groups.add(number, row)
    pairs = list(groups.pairs())
    _tell_pairs(len(pairs), len(rows), sorted(groups.without), groups.equal)
    return pairs


def to_kto(rows) -> list[dict]:
    """Preference pairs as labelled answers: two rows a pair, the chosen answer with True, then the rejected with False.

    Raises one ValueError that lists the bad rows by number.
    """
    validate_preferences(rows)
    check_rows(rows, PAIRS.columns, _pair_tool_faults, optional=PAIRS.optional)
    return [labelled for row in rows for labelled in _as_kto(row)]


def to_prompt_completion(rows) -> list[dict]:
    """Rows of `messages` as `prompt` and `completion`, for SFT on the last answer alone: what came before it is the prompt.

    Earlier answers of a conversation stand in the prompt, where nothing is trained. Raises one ValueError that lists the
    bad rows by number.

    >>> talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    >>> to_prompt_completion([{"messages": talk}])[0]["completion"]
    [{'role': 'assistant', 'content': 'Hello.'}]
    """
    _check_plain(rows)
    return [_as_prompt_completion(row["messages"]) for row in rows]


def _least_difference(margin) -> Decimal:
    """A margin as a number; ValueError for what is none."""
    least = _as_decimal(margin)
    if least is None or least <= 0:
        what = "one of thousands of digits" if isinstance(margin, int) and margin > 10 else f"{margin!r:.40}"
        raise ValueError(f"margin is a number above 0, the least difference of two scores, not {what}.")
    return least


def _ranked(row: dict, all_pairs: bool) -> Iterable[tuple[str, str]]:
    answers = row["output"]
    return combinations(answers, 2) if all_pairs else ((answers[0], worse) for worse in answers[1:])


def _graded(row: dict, least: Decimal) -> Iterable[tuple[str, str]]:
    graded = sorted(zip(map(_as_decimal, row["scores"]), row["output"]), key=lambda pair: -pair[0])
    return ((one, other) for (high, one), (low, other) in combinations(graded, 2) if high - low >= least)


def _make_pairs(rows, better_and_worse: Callable[[dict], Iterable[tuple[str, str]]]) -> list[dict]:
    """The pairs of all rows, and a printed line that says what gave none."""
    pairs, without, equal = [], [], 0
    for number, row in enumerate(rows):
        made, same = _pairs_of(row, better_and_worse)
        pairs += made
        equal += same
        if not made:
            without.append(number)
    _tell_pairs(len(pairs), len(rows), without, equal)
    return pairs


def _tell_pairs(pairs: int, rows: int, without: list[int], equal: int) -> None:
    line = f"{pairs:,} pairs from {rows:,} rows."
    if without:
        numbers = ", ".join(map(str, without[:10])) + (", ..." if len(without) > 10 else "")
        line += f" Rows without a pair: {len(without):,} (number {numbers})."
    print(line + (f" Left out, as both texts are the same: {equal:,}." if equal else ""))


def _pairs_of(row: dict, better_and_worse: Callable[[dict], Iterable[tuple[str, str]]]) -> tuple[list[dict], int]:
    """The pairs of a row, and how many there were whose texts are the same."""
    found = list(better_and_worse(row))
    pairs = [_pair(row, better, worse) for better, worse in found if better.strip() != worse.strip()]
    return pairs, len(found) - len(pairs)


def _pair(row: dict, chosen: str, rejected: str) -> dict:
    return {
        "prompt": _prompt(row),
        "chosen": [message("assistant", chosen)],
        "rejected": [message("assistant", rejected)],
    }


def _from_alpaca(row: dict) -> dict:
    return {"messages": [*_prompt(row), message("assistant", row["output"])]}


def _prompt(row: dict) -> list[dict]:
    """The messages up to the instruction."""
    system = [message("system", row["system"])] if _is_given(row.get("system")) else []
    turns = []
    for question, answer in row.get("history") or []:
        turns += [message("user", question), message("assistant", answer)]
    given = f"\n{row['input']}" if _is_given(row.get("input")) else ""
    return [*system, *turns, message("user", row["instruction"] + given)]


def _is_given(text: str | None) -> bool:
    return not is_blank(text or "")


def _prompt_faults(row: dict) -> list[Fault]:
    faults = text_faults(row.get("instruction"), "instruction")
    faults += _optional_text_faults(row, "input") + _optional_text_faults(row, "system")
    history = row.get("history")
    history = [] if history is None or history == "" else history
    if not isinstance(history, list):
        return [*faults, ("history", f"history: {type(history).__name__}, not a list of [question, answer]")]
    for place, pair in enumerate(history):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            faults.append(("history", f"history {place} is not a pair [question, answer]"))
        else:
            faults += [fault for text in pair for fault in text_faults(text, f"history {place}", "history")]
    return faults


def _optional_text_faults(row: dict, column: str) -> list[Fault]:
    """As text_faults, but None and blanks stand for nothing."""
    text = row.get(column)
    if text is None or (isinstance(text, str) and is_blank(text)):
        return []
    return text_faults(text, column)


def _alpaca_faults(row: dict) -> list[Fault]:
    return kto_faults(row) + _prompt_faults(row) + text_faults(row.get("output"), "output")


def _ranked_faults(row: dict) -> list[Fault]:
    return _prompt_faults(row) + _answers_faults(row)


def _answers_faults(row: dict) -> list[Fault]:
    answers = row.get("output")
    if not isinstance(answers, list) or not answers:
        return [("output", "output is not a list of answers (from_alpaca takes one answer as text)")]
    return [fault for place, text in enumerate(answers) for fault in text_faults(text, f"output {place}", "output")]


def _plain_pair_faults(row: dict) -> list[Fault]:
    answers = [row.get("chosen"), row.get("rejected")]
    found = [fault for text, name in zip(answers, ("chosen", "rejected")) for fault in text_faults(text, name)]
    return _prompt_faults(row) + (found or _equal_fault(*answers))


def _output_pair_faults(row: dict) -> list[Fault]:
    found = _answers_faults(row)
    if not found and len(row["output"]) != 2:
        found = [("two", f"output has {len(row['output'])} answers, not 2 (from_ranked_outputs takes any number)")]
    return _prompt_faults(row) + (found or _equal_fault(*row["output"]))


def _equal_fault(chosen: str, rejected: str) -> list[Fault]:
    return [("same", "the two answers are the same text")] if chosen.strip() == rejected.strip() else []


def _score_faults(row: dict) -> list[Fault]:
    faults = _prompt_faults(row) + _answers_faults(row)
    scores = row.get("scores")
    if not isinstance(scores, list):
        return [*faults, ("scores", "scores is not a list of numbers")]
    if isinstance(row.get("output"), list) and len(scores) != len(row["output"]):
        faults.append(("number", f"{len(row['output'])} answers but {len(scores)} scores"))
    for place, score in enumerate(scores):
        number = _as_decimal(score)
        if number is None:
            what = quote(str(score)) if isinstance(score, float | str) else type(score).__name__
            faults.append(("score", f"score {place} is {what}, not a number from 1 to 10"))
        elif not 1 <= number <= 10:
            faults.append(("score", f"score {place} is {number:.6g}, not a number from 1 to 10"))
    return faults


def _as_decimal(value) -> Decimal | None:
    """The exact number that is written, 7.3 as 73/10; None for text without a number, for nan and for inf."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except (InvalidOperation, ValueError):  # an int of thousands of digits is a ValueError
        return None
    return number if number.is_finite() else None


def _sharegpt_faults(row: dict) -> list[Fault]:
    turns, faults = row.get("conversations"), kto_faults(row)
    if not _is_nothing(row.get("tools")):
        faults.append(("tools", "the row has tools: tool calls are not converted"))
    faults += _optional_text_faults(row, "system")
    if not isinstance(turns, list) or not turns:
        return [*faults, ("turns", "conversations is not a list of turns")]
    for place, turn in enumerate(turns):
        faults += _turn_faults(turn, f"turn {place}") if place or not _is_empty_system(turn) else []
    return faults or order_faults([said["role"] for said in _from_turns(row)])


def _is_nothing(tools) -> bool:
    """None, blanks, and an empty list or object, written as JSON or not."""
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError):
            return is_blank(tools)
    return tools is None or tools in ("", [], {}, ())


def _is_empty_system(turn) -> bool:
    system = isinstance(turn, dict) and turn.get("from") == "system"
    return system and (turn.get("value") is None or (isinstance(turn["value"], str) and is_blank(turn["value"])))


def _spoken_faults(said: dict, where: str) -> list[Fault]:
    """What a message says in other fields than those that are converted."""
    found = [key for key in SPOKEN_KEYS if not _is_nothing(said.get(key))]
    return [(f"{key}", f"{where} has {key}: {SPOKEN_KEYS[key]} are not converted") for key in found]


def _turn_faults(turn, where: str) -> list[Fault]:
    if not isinstance(turn, dict) or not {"from", "value"} <= set(turn):
        own = isinstance(turn, dict) and {"role", "content"} <= set(turn)
        hint = ' but role and content: rename the column "messages"' if own else ""
        return [("turn", f'{where} has no "from" and "value"{hint}')]
    faults = text_faults(turn["value"], where, "turn") + _spoken_faults(turn, where)
    known = turn["from"] if isinstance(turn["from"], str) else None
    if known in TOOL_ROLES:
        faults.append(("tools", f"{where} is from {turn['from']}: tool calls are not converted"))
    elif known not in tuple(SHAREGPT_ROLES):
        hint = role_hint(turn["from"], tuple(SHAREGPT_ROLES))
        faults.append((f"role {hint}", f"{where} is from {hint}"))
    return faults


def _from_turns(row: dict) -> list[dict]:
    system = [message("system", row["system"])] if _is_given(row.get("system")) else []
    turns = row["conversations"][1:] if _is_empty_system(row["conversations"][0]) else row["conversations"]
    return [*system, *(message(SHAREGPT_ROLES[turn["from"]], turn["value"]) for turn in turns)]


def _check_plain(rows) -> None:
    """Raise for conversations that say something in more than roles and texts."""
    validate_messages(rows)
    check_rows(rows, ["messages"], _all_tool_faults)


def _all_tool_faults(row: dict) -> list[Fault]:
    return _talk_tool_faults(row["messages"])


def _tool_faults(said: dict, place: int) -> list[Fault]:
    tool = [("tools", f"message {place} is a tool's: tool calls are not converted")] if said["role"] == "tool" else []
    return tool + _spoken_faults(said, f"message {place}")


# Answers with a label

KTO_COLUMNS = ("prompt", "completion", "label")
PAIRS = FORMATS["preferences"]


class _Groups:
    """Labelled answers by their prompt. `without`: numbers of rows that gave no pair; `equal`: pairs of the same text."""

    def __init__(self):
        self.size = 0  # bytes in memory, about
        self.groups: dict[str, tuple[list, list]] = {}  # a prompt as JSON: its good answers, its bad ones
        self.without, self.equal = [], 0

    def add(self, number: int, row: dict) -> None:
        said = [message(turn["role"], turn["content"]) for turn in _spoken_of(row)]
        prompt, answer = json.dumps(said[:-1], ensure_ascii=False), said[-1]["content"]
        if prompt not in self.groups:
            self.groups[prompt] = ([], [])
            self.size += sys.getsizeof(prompt) + 400
        self.groups[prompt][not row["label"]].append((number, answer))
        self.size += sys.getsizeof(answer) + 150

    def pairs(self) -> Iterator[dict]:
        """Each good answer with each bad one to the same prompt, in the order in which the prompts came."""
        for prompt, (good, bad) in self.groups.items():
            paired, before = set(), json.loads(prompt)
            for (one, better), (other, worse) in product(good, bad):
                if better.strip() == worse.strip():
                    self.equal += 1
                    continue
                paired |= {one, other}
                yield {
                    "prompt": before,
                    "chosen": [message("assistant", better)],
                    "rejected": [message("assistant", worse)],
                }
            self.without += [number for number, _ in good + bad if number not in paired]


def _spoken_of(row: dict) -> list[dict]:
    """The messages of `prompt` and `completion`, of which each may be a text."""
    return _as_turns(row["prompt"], "user") + _as_turns(row["completion"], "assistant")


def _as_turns(said, role: str):
    return [message(role, said)] if isinstance(said, str) else said


def _kto_faults(row: dict) -> list[Fault]:
    turns = {"prompt": _as_turns(row["prompt"], "user"), "completion": _as_turns(row["completion"], "assistant")}
    faults = completion_faults(turns)
    if not faults:
        faults = _talk_tool_faults(turns["prompt"] + turns["completion"])
    if not isinstance(row["label"], bool):
        label = row["label"]
        told = quote(label) if isinstance(label, str) else f"{label!r:.20}"
        faults.append(("label", f"label is {told}, not true or false"))
    return faults


def _pair_tool_faults(row: dict) -> list[Fault]:
    return _talk_tool_faults([*(row.get("prompt") or []), *row["chosen"], *row["rejected"][-1:]])


def _talk_tool_faults(messages: list[dict]) -> list[Fault]:
    return [fault for place, said in enumerate(messages) for fault in _tool_faults(said, place)]


def _as_kto(row: dict) -> list[dict]:
    """A pair as two labelled answers."""
    made = []
    for side, label in (("chosen", True), ("rejected", False)):
        made.append({**_as_prompt_completion([*(row.get("prompt") or []), *row[side]]), "label": label})
    return made


def _as_prompt_completion(messages: list[dict]) -> dict:
    said = [message(turn["role"], turn["content"]) for turn in messages]
    return {"prompt": said[:-1], "completion": said[-1:]}


def _as_sharegpt(messages: list[dict]) -> dict:
    return {"conversations": [{"from": SHAREGPT_NAMES[said["role"]], "value": said["content"]} for said in messages]}


def _as_alpaca(messages: list[dict]) -> dict:
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    texts = [said["content"] for said in messages if said["role"] != "system"]
    history = [list(pair) for pair in zip(texts[:-2:2], texts[1:-2:2])]
    return {"instruction": texts[-2], "input": "", "output": texts[-1], "history": history, "system": system}


# The command


class Conversion(NamedTuple):
    """How a row of a format is checked, and what is made of it: rows, and how many pairs of equal texts were left out.

    Where rows belong together, `groups` takes them instead and gives all pairs at the end.
    """

    columns: tuple[str, ...]
    faults_of: Callable[[dict], list[Fault]]
    made_of: Callable[[dict], tuple[list[dict], int]] | None
    optional: tuple[str, ...] = PROMPT_COLUMNS
    groups: _Groups | None = None

    def faults(self, row: dict) -> list[Fault]:
        return once_a_kind(row_faults(row, self.columns, self.optional, self.faults_of))


class WrongRows(Exception):
    """Some rows cannot be converted: what was written is given up."""


SOURCES = {
    "alpaca": "instruction, output (a text)",
    "sharegpt": "conversations",
    "plain-pairs": "instruction, chosen, rejected (texts)",
    "output-pairs": "instruction, output (two texts, the better one first)",
    "ranked": "instruction, output (texts, the best one first)",
    "scores": "instruction, output (texts), scores (a number from 1 to 10 for each)",
    "kto": "prompt, completion (messages or texts), label (true or false)",
}
TARGETS = {  # of --to: the columns that are read
    "alpaca": "messages",
    "sharegpt": "messages",
    "prompt-completion": "messages",
    "kto": "chosen, rejected, perhaps prompt",
}


def conversion(source: str, all_pairs: bool = False, margin: float = 1) -> Conversion:
    """The conversion of one of SOURCES into the course's rows."""

    def pairs(better_and_worse: Callable) -> Callable[[dict], tuple[list[dict], int]]:
        return partial(_pairs_of, better_and_worse=better_and_worse)

    answers = ("instruction", "output")
    return {
        "alpaca": Conversion(answers, _alpaca_faults, lambda row: ([_from_alpaca(row)], 0)),
        "sharegpt": Conversion(
            ("conversations",), _sharegpt_faults, lambda row: ([{"messages": _from_turns(row)}], 0), ("system", "tools")
        ),
        "plain-pairs": Conversion(
            ("instruction", "chosen", "rejected"), _plain_pair_faults, pairs(lambda row: [(row["chosen"], row["rejected"])])
        ),
        "output-pairs": Conversion(answers, _output_pair_faults, pairs(lambda row: [row["output"]])),
        "ranked": Conversion(answers, _ranked_faults, pairs(partial(_ranked, all_pairs=all_pairs))),
        "scores": Conversion((*answers, "scores"), _score_faults, pairs(partial(_graded, least=_least_difference(margin)))),
        "kto": Conversion(KTO_COLUMNS, _kto_faults, None, (), _Groups()),
    }[source]


def back(to: str) -> tuple[str, Conversion]:
    """What is read for one of TARGETS, and its conversion."""
    if to == "kto":
        return "preferences", Conversion(
            PAIRS.columns, lambda row: PAIRS.faults_of(row) or _pair_tool_faults(row), lambda row: (_as_kto(row), 0),
            PAIRS.optional,
        )  # fmt: skip
    as_other = {"alpaca": _as_alpaca, "sharegpt": _as_sharegpt, "prompt-completion": _as_prompt_completion}[to]
    return "messages", Conversion(
        ("messages",), lambda row: message_row_faults(row) or _all_tool_faults(row),
        lambda row: ([as_other(row["messages"])], 0), (),
    )  # fmt: skip


def source_of(columns: list[str], rows: list[dict]) -> str:
    """The one of SOURCES that these columns and rows are; ValueError where it is none, or not certain."""
    outputs = {type(row["output"]) for row in rows if row.get("output") is not None}
    found = []
    if "conversations" in columns:
        found.append("sharegpt")
    if {"instruction", "chosen", "rejected"} <= set(columns):
        found.append("plain-pairs")
    if {"instruction", "output"} <= set(columns) and outputs <= {str, list}:
        lists = ["scores" if "scores" in columns else "ranked"]
        found += lists * (list in outputs) + ["alpaca"] * (str in outputs)
    if set(KTO_COLUMNS) <= set(columns) and any(isinstance(row.get("label"), bool) for row in rows):
        found.append("kto")
    if len(found) == 1:
        return found[0]
    names = shorten(", ".join(map(quote, columns)), 200)
    if found:
        raise ValueError(f"the columns are {names}: this may be {' or '.join(found)}. Say which, with --from.")
    if {"messages"} <= set(columns) or {"prompt", "chosen"} <= set(columns) or {"prompt", "completion"} <= set(columns):
        raise ValueError(f"the columns are {names}: as the course has them. python -m helper.validation checks them.")
    raise ValueError(f"the columns are {names}, which is no format known here (--help). Rename them, or say --from.")


def convert_file(options: argparse.Namespace) -> int:
    """Convert a file row by row; 0 where the new file is there, 1 where rows were wrong and it is not."""
    if os.path.exists(options.output) and os.path.samefile(options.input, options.output):
        raise ValueError(f"{options.output} is the file that is read: name another one to be written.")
    columns, first, rows = first_columns(read_rows(options.input))
    if options.to:
        name, how = back(options.to)
    else:
        name = source_of(columns, first) if options.source == "auto" else options.source
        how = conversion(name, options.all_pairs, options.margin)
    report, counts = Report(options.show), {"made": 0, "without": 0, "equal": 0}
    try:
        with written_rows(options.output, options.overwrite) as write:
            for row in rows:
                faults = faults_of_row(row, how.faults)
                report.add(row, faults)
                if not faults and (options.skip_bad or not report.bad):
                    _write_row(how, row, write, counts)
            if how.groups and (options.skip_bad or not report.bad):
                _write_groups(how.groups, write, counts)
            if report.bad and not options.skip_bad or not counts["made"]:
                raise WrongRows
    except WrongRows:
        pass
    return _told(options, name, report, counts)


def _write_row(how: Conversion, row: Row, write: Callable[[dict], None], counts: dict[str, int]) -> None:
    if how.groups:
        how.groups.add(row.number, row.values)
        if how.groups.size > LARGEST_GROUPS:
            raise ValueError(
                f"{row.where}: labelled answers are kept until all are there to be paired, and these are more than "
                f"{LARGEST_GROUPS >> 20} MB. Divide the file, the rows of a prompt together, and convert the parts."
            )
        return
    made, equal = how.made_of(row.values)
    for row in made:
        write(row)
    counts["made"] += len(made)
    counts["without"] += not made
    counts["equal"] += equal


def _write_groups(groups: _Groups, write: Callable[[dict], None], counts: dict[str, int]) -> None:
    for pair in groups.pairs():
        write(pair)
        counts["made"] += 1
    counts["without"], counts["equal"] = len(groups.without), groups.equal


def _told(options: argparse.Namespace, name: str, report: Report, counts: dict[str, int]) -> int:
    """Print what came of it; the exit status."""
    report.end()
    read = f"{options.input}: {report.rows:,} rows, read as {name}"
    if report.bad and not options.skip_bad:
        print(f"{read}; {report.bad:,} are wrong, so nothing was written. Mend them, or leave them out with --skip-bad.")
        return 1
    if not counts["made"]:
        print(f"{read}; none of them gives a row, so nothing was written.")
        return 1
    lost = [f"{report.bad:,} wrong ones left out"] if report.bad else []
    lost += [f"{counts['without']:,} give no pair"] if counts["without"] else []
    lost += [f"{counts['equal']:,} pairs of the same text left out"] if counts["equal"] else []
    print(f"{'; '.join([read, *lost])}. Written to {options.output}: {counts['made']:,} rows.")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit status."""
    sources = "\n".join(f"  {name:<13} columns {columns}" for name, columns in SOURCES.items())
    targets = "\n".join(f"  {name:<18} columns {columns}" for name, columns in TARGETS.items())
    parser = argparse.ArgumentParser(
        prog="python -m helper.converters",
        description="Convert the rows of a file into the course's columns: JSONL, a JSON list, CSV or parquet, of any size.",
        epilog=f"formats (--from):\n{sources}\n  (beside instruction: input, history, system;\n  kto: all answers "
        f"are kept until they are paired, up to {LARGEST_GROUPS >> 20} MB)\n\nthe other way (--to), from "
        f"the course's columns:\n{targets}\n\nexit status: 0 written, 1 some "
        "rows are wrong and nothing was written, 2 it could not be done\n\nexample:\n  python -m helper.converters "
        "data/identity/train.jsonl identity.jsonl --from sharegpt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("input", metavar="IN")
    parser.add_argument("output", metavar="OUT", help="ends in .jsonl, .json (one list) or .parquet")
    way = parser.add_mutually_exclusive_group()
    way.add_argument(
        "--from", dest="source", choices=["auto", *SOURCES], default="auto", help="auto: told from the columns; of lists of "
        "answers it takes the first for the best"
    )  # fmt: skip
    way.add_argument("--to", choices=list(TARGETS), help="the other way: the course's rows as one of these")
    parser.add_argument("--all-pairs", action="store_true", help="ranked: each answer against each worse one")
    parser.add_argument("--margin", type=float, default=1, help="scores: the least difference that makes a pair")
    parser.add_argument("--skip-bad", action="store_true", help="leave wrong rows out instead of writing nothing")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT if it is there")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="print N bad rows, then the first of each kind")
    return run_command(convert_file, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
