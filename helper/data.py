"""Data sets by name, a look at their rows, and checks that name the bad rows.

A name is one of ours ("sprout-sft"), a .jsonl file, or a name on the Hugging Face Hub.
Left out on purpose: streaming, caching of processed data, and repair: a bad row is reported, never mended.
"""

import difflib
import json
from pathlib import Path

import datasets
import pandas as pd
from datasets import Dataset
from IPython.display import HTML, display

from helper.answers import extract_gold
from helper.models import hub_is_reachable, project_folder

HUB_CONFIGS = {"openai/gsm8k": "main"}  # Hub data sets that want to be told which part of them
ROLES = ("system", "user", "assistant", "tool")


def load_course_dataset(
    name: str, split: str = "train", limit: int | None = None, seed: int = 0, revision: str | None = None
) -> Dataset:
    """A data set as a `datasets.Dataset`; with `limit`, that many rows drawn with `seed`.

    `name`: "sprout-sft" and its like (data/sft/<split>.jsonl), a .jsonl file, or a Hub name; `revision`: a Hub
    branch, tag or commit (default: main).
    Raises within seconds, with what to do: ValueError (a misspelt name, a broken row), FileNotFoundError
    (no such file), ConnectionError (a Hub name and no network).
    """
    path = _local_file(name, split)
    dataset = Dataset.from_list(read_jsonl(path)) if path else _from_hub(name, split, revision)
    if limit is not None and limit < len(dataset):
        dataset = dataset.shuffle(seed=seed).select(range(limit))
    return dataset


def shipped_datasets() -> list[str]:
    """The names of the data sets that come with the course."""
    folders = sorted((project_folder() / "data").glob("*/*.jsonl"))
    return sorted({f"sprout-{path.parent.name}" for path in folders if path.parent.name != "eval"})


def _local_file(name: str, split: str) -> Path | None:
    """The .jsonl file that `name` stands for, None for a Hub name; raises when it can be neither."""
    if name.endswith((".jsonl", ".json")):
        for path in (Path(name).expanduser(), project_folder() / name):
            if path.is_file():
                return path
        raise FileNotFoundError(f'There is no file "{name}" (looked from {Path.cwd()} and {project_folder()}).')
    if "/" in name:
        return None
    folder = project_folder() / "data" / name.removeprefix("sprout-")
    path = folder / f"{split}.jsonl"
    if name.startswith("sprout-") and path.is_file():
        return path
    if name.startswith("sprout-") and any(folder.glob("*.jsonl")):
        splits = ", ".join(sorted(file.stem for file in folder.glob("*.jsonl")))
        raise ValueError(f'{name} has no split "{split}": it has {splits}.')
    raise ValueError(f'There is no data set "{name}"{_did_you_mean(name, shipped_datasets())}')


def _did_you_mean(name: str, names: list[str]) -> str:
    known = {**{other.removeprefix("sprout-"): other for other in names}, **{other: other for other in names}}
    near = [known[match] for match in difflib.get_close_matches(name, known, n=1, cutoff=0.6)]
    if near:
        return f': did you mean "{near[0]}"?'
    return f": there is {', '.join(names)}." if names else f". Run `make data` in {project_folder()} to build them."


def _from_hub(name: str, split: str, revision: str | None = None) -> Dataset:
    offline, before = not hub_is_reachable(), datasets.config.HF_HUB_OFFLINE
    if offline and revision:  # offline, the library would take the latest download, whatever its revision
        raise ConnectionError(
            f"{name} at revision {revision} needs the Hugging Face Hub, which cannot be reached from here. Leave revision "
            f"out to use an earlier download, or use a data set of the course: {', '.join(shipped_datasets())}."
        )
    options = {"revision": revision} if revision else {}
    datasets.config.HF_HUB_OFFLINE = offline or before  # offline, the library looks at earlier downloads at once
    try:
        return datasets.load_dataset(name, HUB_CONFIGS.get(name), split=split, **options)
    except Exception as error:  # the library raises a dozen kinds
        if not offline:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(f'{name}, split "{split}", could not be loaded from the Hub: {reason}') from None
    finally:
        datasets.config.HF_HUB_OFFLINE = before
    raise ConnectionError(
        f"{name} is a data set on the Hugging Face Hub, which cannot be reached from here, and no earlier "
        "download of it is on this machine. Use one that came with the course: "
        f"{', '.join(shipped_datasets()) or 'run `make data`'}."
    )


def load_suite(name: str) -> list[dict]:
    """The questions in data/eval/<name>.jsonl, one dict a row: id, skill, question and what grades it."""
    folder = project_folder() / "data" / "eval"
    if not (folder / f"{name}.jsonl").is_file():
        names = sorted(path.stem for path in folder.glob("*.jsonl"))
        raise ValueError(f'There is no evaluation suite "{name}"{_did_you_mean(name, names)}')
    return read_jsonl(folder / f"{name}.jsonl")


def read_jsonl(path: str | Path) -> list[dict]:
    """The rows of a file with one JSON object a line; ValueError with the line's number when one is not."""
    rows = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error.msg}).") from None
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number}: not a JSON object.")
        rows.append(row)
    return rows


def display_dataset(dataset, rows: int = 3) -> None:
    """Show the first `rows` rows as a table, one column a role. The text is escaped, never rendered."""
    table = pd.DataFrame([_flat_row(dataset[i]) for i in range(min(rows, len(dataset)))]).fillna("")
    style = table.style.format(escape="html").hide(axis="index").set_uuid("dataset")
    style = style.set_table_attributes('class="tex2jax_ignore mathjax_ignore"')
    display(HTML(style.set_properties(**{"white-space": "pre-wrap", "text-align": "left"}).to_html()))


def _flat_row(row: dict) -> dict[str, str]:
    """One column a role for `messages`; prompt, chosen and rejected for pairs; other columns as they are."""
    flat = {}
    for column, value in row.items():
        messages = isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]
        if messages and column == "messages":
            for message in value:
                seen = flat.get(message["role"])
                flat[message["role"]] = message["content"] if seen is None else f"{seen}\n\n{message['content']}"
        elif messages and column in ("chosen", "rejected", "prompt", "completion"):
            if len(value) > 1 or column == "prompt":
                flat.setdefault("prompt", value[0 if column == "prompt" else -2]["content"])
            if column != "prompt":
                flat[column] = value[-1]["content"]
        else:
            flat[column] = str(value)
    return flat


def validate_messages(dataset) -> int:
    """Check that each row's `messages` is a conversation that ends with the assistant; the number of rows.

    Raises one ValueError that lists the bad rows by number. The trainer would train on them without
    complaint.
    """
    return _validate(dataset, lambda row: _conversation_fault(row.get("messages")))


def validate_preferences(dataset) -> int:
    """Check that `chosen` and `rejected` are different answers to the same prompt; the number of rows.

    Raises one ValueError that lists the bad rows by number. Equal answers would train nothing: a loss of ln
    2 for ever.
    """
    return _validate(dataset, _preference_fault)


def validate_problems(dataset) -> int:
    """Check that each row has a `question` and an `answer` that ends "#### number"; the number of rows.

    Raises one ValueError that lists the bad rows by number.
    """
    return _validate(dataset, _problem_fault)


def _validate(dataset, fault_of) -> int:
    faults = [(number, fault_of(row)) for number, row in enumerate(dataset)]
    faults = [(number, fault) for number, fault in faults if fault]
    if not len(dataset):
        raise ValueError("The data set has no rows.")
    if faults:
        lines = [f"  row {number}: {fault}" for number, fault in faults[:10]]
        more = [f"  and {len(faults) - 10} more"] if len(faults) > 10 else []
        raise ValueError("\n".join([f"{len(faults)} of {len(dataset)} rows are wrong (counted from 0):", *lines, *more]))
    return len(dataset)


def _conversation_fault(messages) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "no list of messages"
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            return f"message {place} has no role and content"
        if message["role"] not in ROLES:
            return f'message {place} has the role "{message["role"]}", which is none of {", ".join(ROLES)}'
        if not isinstance(message["content"], str) or not message["content"].strip():
            return f"message {place} ({message['role']}) has no text"
    roles = [message["role"] for message in messages]
    if "system" in roles[1:]:
        return "a system message after the first message"
    turns = [role for role in roles if role not in ("system", "tool")]
    if turns[:1] != ["user"] or turns[-1] != "assistant":
        return "does not go from a user's message to the assistant's"
    if any(first == second == "user" for first, second in zip(turns, turns[1:], strict=False)):
        return "two user messages in a row"
    return None


def _preference_fault(row: dict) -> str | None:
    prompt = row.get("prompt") or []
    for side in ("chosen", "rejected"):
        answer = row.get(side)
        fault = _conversation_fault([*prompt, *answer] if isinstance(answer, list) and isinstance(prompt, list) else None)
        if fault:
            return f"{side}: {fault}"
    if row["chosen"][:-1] != row["rejected"][:-1]:
        return "chosen and rejected answer different prompts"
    if row["chosen"][-1]["content"].strip() == row["rejected"][-1]["content"].strip():
        return "chosen and rejected are the same text"
    return None


def _problem_fault(row: dict) -> str | None:
    for column in ("question", "answer"):
        if not isinstance(row.get(column), str) or not row[column].strip():
            return f"no text in {column}"
    try:
        extract_gold(row["answer"])
    except ValueError as error:
        return str(error)
    return None
