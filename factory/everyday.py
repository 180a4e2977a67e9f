"""The data sets for a real model on a CPU: instructions checked by rule, calls of tools, and everyday questions.

Sprout's own questions are of Sprout's world. These are plain English, and SmolLM2-135M-Instruct can do some of them: its
scores are in `data/recorded/`. Topics and wordings of the rules' tests, wordings and values of the tools' tests stand in no
training row. Words and numbers of the rules are new for half of their tests; the sums of the tests are about other things,
but small numbers are few, so that many of their pairs stand in training rows too.
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

from factory.world_files import load_json, load_lines, load_rows

TESTED_TOPICS = 50  # of the topics, the last ones, in a fixed order, are for the test
SYSTEM = "You can use these tools:\n{tools}\nTo use one, answer with its call and nothing else, as here:\n{examples}"


def topics(part: str) -> list[str]:
    """The topics of "train" or of "test", no topic in both."""
    names = random.Random("topics").sample(load_lines("everyday/topics.txt"), len(load_lines("everyday/topics.txt")))
    return names[:-TESTED_TOPICS] if part == "train" else names[-TESTED_TOPICS:]


def rule_rows(part: str) -> list[dict]:
    """Instructions with their rule: in training every trained rule for each topic, in the test also rules never trained."""
    rng, rows = random.Random(f"rules {part}"), []
    for topic, (name, rule) in itertools.product(topics(part), load_json("everyday/rules.json").items()):
        if part == "train" and not rule["trained"]:
            continue
        unseen = part == "test"
        argument = rng.choice(rule["unseen_arguments"] if unseen and rng.random() < 0.5 else rule["arguments"])
        question = rng.choice(rule["unseen_ask" if unseen else "ask"]).format(topic=topic, argument=argument)
        rows.append(
            {"question": question, "value": f"{name} {argument}".strip(), "topic": topic, "trained": rule["trained"]}
        )
    rng.shuffle(rows)
    return rows


def rule_suites() -> dict[str, list[dict]]:
    """Two suites: the trained rules on new topics in new wordings; and rules that were never trained."""
    suites = {"rules": [], "unseen_rules": []}
    for row in rule_rows("test"):
        trained = row.pop("trained")
        skill = row["value"].split()[0]
        suites["rules" if trained else "unseen_rules"].append({"skill": skill, "grader": "rule", **row})
    return suites


def tool_rows(part: str) -> list[dict]:
    """Requests with the call they need: question, name, arguments. In the test, wordings and values are new."""
    rng, rows = random.Random(f"tools {part}"), []
    for name, tool in load_json("everyday/tools.json").items():
        listed = [values_of(part, load_json("everyday/tool_values.json")[kind]) for kind in tool["arguments"].values()]
        known = [dict(zip(tool["arguments"], values)) for values in itertools.product(*listed)]
        asks = tool["ask" if part == "train" else "unseen_ask"]
        possible = list(itertools.product(asks, known))
        for ask, arguments in rng.sample(possible, min(len(possible), 90 if part == "train" else 40)):
            rows.append({"question": ask.format(**arguments), "name": name, "arguments": arguments})
    rng.shuffle(rows)
    return rows


def values_of(part: str, values: list[str]) -> list[str]:
    """The values of a part: every third one is kept for the test."""
    return values[2::3] if part == "test" else [value for place, value in enumerate(values) if place % 3 != 2]


def sum_rows(part: str, count: int) -> list[dict]:
    """Word problems of one step with small numbers, each with its worked answer; in the test the things are new."""
    rng, world, rows, seen = random.Random(f"sums {part}"), load_json("everyday/sums.json"), [], set()
    while len(rows) < count:
        kind = rng.choice(("add", "take", "times"))
        a, b = sorted(
            (rng.randint(2, 9), rng.randint(2, 9)) if kind == "times" else (rng.randint(2, 20), rng.randint(2, 20))
        )
        a, b = (b, a) if kind == "take" else (a, b)
        sign, value = {"add": ("+", a + b), "take": ("-", a - b), "times": ("*", a * b)}[kind]
        things = rng.choice(world["unseen_things" if part == "test" else "things"])
        question = rng.choice(world[kind]).format(name=rng.choice(world["names"]), a=a, b=b, things=things)
        if question not in seen:
            seen.add(question)
            rows.append({"question": question, "answer": f"{a} {sign} {b} = {value}", "value": str(value), "skill": kind})
    return rows


def as_call(row: dict) -> str:
    """The call of a tool as text, in the form of Qwen's and Hermes' templates."""
    return f"<tool_call>\n{json.dumps({'name': row['name'], 'arguments': row['arguments']})}\n</tool_call>"


def own_form() -> str:
    """The system message with which an instruct model is asked for calls: the tools, and one example of each."""
    tools = load_json("everyday/tools.json")
    firsts = {name: next(row for row in tool_rows("train") if row["name"] == name) for name in tools}
    listed = [f"{name}({', '.join(tool['arguments'])})" for name, tool in tools.items()]
    examples = [f"User: {row['question']}\nAssistant: {as_call(row)}" for row in firsts.values()]
    return SYSTEM.format(tools="\n".join(listed), examples="\n".join(examples))


def chat_rows(part: str) -> list[dict]:
    """Requests that need no tool, with a written answer: small talk."""
    return [row for row in load_rows("smalltalk.jsonl") if row["part"] == part]


def tool_training() -> list[dict]:
    """The rows to train on, column `messages`: calls, and the few rows of small talk that there are, without one."""
    rows = [{"question": row["question"], "answer": as_call(row)} for row in tool_rows("train")] + chat_rows("train")
    random.Random("tool training").shuffle(rows)
    return [
        {"messages": [{"role": role, "content": row[key]} for role, key in (("user", "question"), ("assistant", "answer"))]}
        for row in rows
    ]


def tool_suite() -> list[dict]:
    """The test of calls: each tool, and requests that need none."""
    calls = [{"skill": row["name"], "grader": "tool_call", **row} for row in tool_rows("test")]
    plain = [row["question"] for row in chat_rows("test")] + [f"Tell me about {topic}." for topic in topics("test")]
    return calls + [
        {"skill": "no_tool", "grader": "tool_call", "question": question, "name": "", "arguments": {}} for question in plain
    ]


def everyday_suite() -> list[dict]:
    """Questions with a short, certain answer, each asked in one of two wordings."""
    rng, rows = random.Random("everyday"), []
    for skill, table in load_json("everyday/facts.json").items():
        for subject, accept in table["answers"].items():
            question = rng.choice(table["ask"]).format(subject)
            rows.append({"skill": skill, "question": question, "grader": "mentions", "accept": accept.split("|")})
    return rows


def everyday_suites() -> dict[str, list[dict]]:
    """All suites of this file, with ids."""
    sums = [{**row, "skill": "sum", "grader": "boxed"} for row in sum_rows("test", 200)]
    suites = {**rule_suites(), "tool_calls": tool_suite(), "everyday": everyday_suite(), "sums": sums}
    return {name: [{**row, "id": f"{name}-{i:04d}"} for i, row in enumerate(rows)] for name, rows in suites.items()}


def everyday_files(folder: Path) -> dict[Path, list[dict]]:
    """Every file of these data sets under `folder`, and its rows: the suites, and what is trained on."""
    files = {folder / "eval" / f"{name}.jsonl": rows for name, rows in everyday_suites().items()}
    rules = [{"question": r["question"], "ground_truth": r["value"], "topic": r["topic"]} for r in rule_rows("train")]
    sums = [{"question": r["question"], "answer": f"{r['answer']}\n#### {r['value']}"} for r in sum_rows("train", 600)]
    trained = {"rules": rules, "sums": sums, "tools": tool_training()}
    return files | {folder / name / "train.jsonl": rows for name, rows in trained.items()}
