"""Properties of the validators and converters on generated data: no value crashes them, no planted fault gets past.

The draws are fixed (`derandomize`) and nothing is written to disk.
"""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helper.converters import (
    from_alpaca,
    from_output_pairs,
    from_plain_pairs,
    from_ranked_outputs,
    from_scores,
    from_sharegpt,
    to_alpaca,
    to_sharegpt,
)
from helper.validation import (
    text_faults,
    validate_completions,
    validate_messages,
    validate_preferences,
    validate_problems,
)


def examples(number):
    return settings(
        max_examples=number,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def said(role, content):
    return {"role": role, "content": content}


MESSAGES = [said("system", "s"), said("user", "q"), said("assistant", "a"), said("user", "r"), said("assistant", "b")]
PROMPT = {"instruction": "q", "input": "i", "history": [["1", "2"]], "system": "s"}
GOOD = {
    validate_messages: {"messages": MESSAGES},
    validate_completions: {"prompt": MESSAGES[:-1], "completion": MESSAGES[-1:]},
    validate_preferences: {"prompt": MESSAGES[:-1], "chosen": MESSAGES[-1:], "rejected": [said("assistant", "c")]},
    validate_problems: {"question": "q", "answer": "#### 1"},
    from_alpaca: {**PROMPT, "output": "a"},
    from_sharegpt: {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
    from_plain_pairs: {**PROMPT, "chosen": "a", "rejected": "b"},
    from_output_pairs: {**PROMPT, "output": ["a", "b"]},
    from_ranked_outputs: {**PROMPT, "output": ["a", "b", "c"]},
    from_scores: {**PROMPT, "output": ["a", "b"], "scores": [3, 7.5]},
    to_alpaca: {"messages": MESSAGES},
    to_sharegpt: {"messages": MESSAGES},
}

names = st.sampled_from(
    ["role", "content", "from", "value", "user", "assistant", "system", "tool", "human", "messages", "mesages"]
    + ["prompt", "chosen", "rejected", "question", "answer", "instruction", "output", "input", "scores", "#### 5"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8) | names
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda text: not text_faults(text, ""))
graded_answers = st.lists(st.tuples(texts, st.integers(10, 100)), min_size=1, max_size=5)  # scores in tenths


def places_of(value, path=()):
    """The paths of every value inside `value`, itself included."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] + [place for key, inner in inside for place in places_of(inner, (*path, key))]


def with_value(row, place, value):
    """A copy of `row` with `value` at `place`; `place` () is the row itself."""
    if not place:
        return value
    made = copy.deepcopy(row)
    inner = made
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return made


def check_error(error):
    """The one error of a validator: short, one line a fault, printable on any screen, no library's traceback."""
    lines = str(error).splitlines()
    assert len(lines) <= 10 and max(map(len, lines)) <= 250
    str(error).encode("utf-8")
    assert error.__context__ is None or error.__suppress_context__


def error_of(function, rows):
    """The text of the error, "" without one; what a converter makes must pass its validator."""
    try:
        made = function(rows)
    except ValueError as error:
        check_error(error)
        return str(error)
    if made and function in (from_alpaca, from_sharegpt):
        validate_messages(made)
    elif made and function.__name__.startswith("from_"):
        validate_preferences(made)
    return ""


@pytest.mark.parametrize("function", GOOD)
@examples(250)
@given(data=st.data())
def test_any_value_anywhere_gives_the_one_error_or_none(function, data):
    good = GOOD[function]
    place = data.draw(st.sampled_from(places_of(good)))
    error = error_of(function, [good, with_value(good, place, data.draw(values))])
    # A whole row of other columns may be an error of the columns, which names no row.
    assert not error or "row 1: " in error or (not place and "column" in error.splitlines()[0])


@pytest.mark.parametrize("function", GOOD)
@examples(50)
@given(dataset=values | st.lists(st.dictionaries(names, values, max_size=4), max_size=4))
def test_any_data_set_gives_the_one_error_or_none(function, dataset):
    error_of(function, dataset)


@st.composite
def conversations(draw, tools=False):
    messages = [said("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages += [said("user", draw(texts)), said("assistant", draw(texts))]
        if tools and draw(st.booleans()):
            messages += [said("tool", draw(texts)), said("assistant", draw(texts))]
    return messages


@examples(600)
@given(st.lists(conversations(tools=True), min_size=1, max_size=4))
def test_conversations_pass_in_every_format(made):
    assert validate_messages([{"messages": messages} for messages in made]) == len(made)
    split = [{"prompt": messages[:-1], "completion": messages[-1:]} for messages in made]
    assert validate_completions(split) == len(made)
    other = said("assistant", "another answer, longer than any that is drawn")
    whole = [{"chosen": messages, "rejected": [*messages[:-1], other]} for messages in made]
    assert validate_preferences(whole) == len(made)
    apart = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": [other]} for row in split]
    assert validate_preferences(apart) == len(made)


@examples(300)
@given(st.lists(st.tuples(texts, st.integers(-(10**9), 10**9)), min_size=1, max_size=4))
def test_problems_pass(made):
    assert validate_problems([{"question": text, "answer": f"{text}\n#### {n:,}"} for text, n in made]) == len(made)


def no_text(draw):
    return draw(st.none() | st.integers() | st.just([]) | st.text(" \t\n\u2003", max_size=3))


# A fault is a function of (messages, where, draw) that returns the messages with that fault.
MESSAGE_FAULTS = {
    "role": lambda m, i, draw: [
        *m[:i],
        {**m[i], "role": draw(st.sampled_from(["bot", "human", "User", ""]) | leaves)},
        *m[i + 1 :],
    ],
    "content": lambda m, i, draw: [*m[:i], {**m[i], "content": no_text(draw)}, *m[i + 1 :]],
    "no key": lambda m, i, draw: [
        *m[:i],
        {k: v for k, v in m[i].items() if k != draw(st.sampled_from(list(m[i])))},
        *m[i + 1 :],
    ],
    "key": lambda m, i, draw: [*m[:i], {"from" if k == "role" else k: v for k, v in m[i].items()}, *m[i + 1 :]],
    "message": lambda m, i, draw: [*m[:i], draw(leaves), *m[i + 1 :]],
    "twice": lambda m, i, draw: [*m[:i], m[i], m[i], *m[i + 1 :]],
    "late system": lambda m, i, draw: [*m[: i + 1], said("system", "s"), *m[i + 1 :]],
    "starts": lambda m, i, draw: [said("assistant", "a"), *m],
    "ends": lambda m, i, draw: [*m, said("user", "q")],
    "text": lambda m, i, draw: draw(st.text(max_size=5)),
    "nothing": lambda m, i, draw: [],
}


@pytest.mark.parametrize("kind", MESSAGE_FAULTS)
@examples(150)
@given(data=st.data())
def test_one_fault_in_a_conversation_is_named_with_its_row(kind, data):
    made = data.draw(st.lists(conversations(), min_size=2, max_size=5))
    row = data.draw(st.integers(0, len(made) - 1))
    place = data.draw(st.integers(0, len(made[row]) - 1))
    bad = MESSAGE_FAULTS[kind](made[row], place, data.draw)
    rows = [{"messages": bad if number == row else messages} for number, messages in enumerate(made)]
    if bad[place : place + 1] == made[row][place : place + 1] and len(bad) == len(made[row]):
        return  # drawn by chance: the right role again
    error = error_of(validate_messages, rows)
    assert f"1 of {len(made)} rows are wrong" in error and f"\n  row {row}: " in error
    other = said("assistant", "another answer")
    pairs = [{"chosen": r["messages"], "rejected": [*m[:-1], other]} for r, m in zip(rows, made)]
    assert f"\n  row {row}: " in error_of(validate_preferences, pairs)


# The columns of a row, each with what it must not hold.
COLUMN_FAULTS = {
    validate_completions: {"prompt": ["text", [], MESSAGES], "completion": ["text", [], MESSAGES]},
    validate_preferences: {"prompt": ["q", [], MESSAGES], "chosen": ["a", [said("assistant", "c")]], "rejected": [[]]},
    validate_problems: {"question": [None, " ", 3], "answer": [None, "", "five", "#### five", "####"]},
    from_alpaca: {"instruction": [None, "", 3], "input": [3, ["i"]], "output": [None, " "], "history": [["1"], "1"]},
    from_sharegpt: {"conversations": [None, [], "text", [{"from": "gpt", "value": "a"}]], "system": [3, ["s"]]},
    from_plain_pairs: {"instruction": [None], "chosen": ["b", None, ["a"]], "rejected": [" a\n", ""]},
    from_output_pairs: {"output": [["a"], ["a", "a "], ["a", "b", "c"], "a", [], [None, "a"]]},
    from_ranked_outputs: {"output": ["a", [], ["a", None], ["a", " "]], "system": [5]},
    from_scores: {"scores": [[3], [3, 11], [0.99, 3], ["x", 3], [float("nan"), 3], [None, 3], [True, 3], 3, None]},
}


@pytest.mark.parametrize("function", COLUMN_FAULTS)
@examples(80)
@given(data=st.data())
def test_one_fault_in_a_row_is_named_with_its_row(function, data):
    rows = [dict(GOOD[function]) for _ in range(data.draw(st.integers(2, 6)))]
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(list(COLUMN_FAULTS[function])))
    rows[row][column] = data.draw(st.sampled_from(COLUMN_FAULTS[function][column]))
    error = error_of(function, rows)
    assert f"1 of {len(rows)} rows are wrong" in error and f"\n  row {row}: " in error


@pytest.mark.parametrize("function", GOOD)
@examples(30)
@given(data=st.data())
def test_a_misspelt_column_is_named_with_its_row(function, data):
    rows = [dict(GOOD[function]) for _ in range(data.draw(st.integers(2, 6)))]
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(list(rows[row])))
    place = data.draw(st.integers(1, len(column) - 1))
    wrong = data.draw(st.sampled_from([column[:place] + column[place - 1 :], column.capitalize(), column + "s"]))
    rows[row][wrong] = rows[row].pop(column)
    assert f'"{wrong}": did you mean "{column}"?' in error_of(function, rows)
    assert f"\n  row {row}: " in error_of(function, rows)


@examples(600)
@given(st.lists(conversations(), min_size=1, max_size=4))
def test_round_trips(made):
    rows = [{"messages": messages} for messages in made]
    before = copy.deepcopy(rows)
    assert from_sharegpt(to_sharegpt(rows)) == rows == before
    assert from_alpaca(to_alpaca(rows)) == rows == before
    assert to_sharegpt(from_alpaca(to_alpaca(from_sharegpt(to_sharegpt(rows))))) == to_sharegpt(rows)


@examples(400)
@given(st.lists(graded_answers, min_size=1, max_size=3), st.booleans())
def test_pairs_hold_what_they_were_made_from(made, all_pairs):
    order = {}
    rows = []
    for number, graded in enumerate(made):
        answers = [f"{place} {text}" for place, (text, _) in enumerate(graded)]  # no two alike
        order |= {(number, answer): (place, graded[place][1]) for place, answer in enumerate(answers)}
        rows.append({"instruction": str(number), "output": answers, "scores": [tenths / 10 for _, tenths in graded]})

    def found(pairs):
        assert not pairs or validate_preferences(pairs) == len(pairs)
        keys = [(int(pair["prompt"][0]["content"]), pair["chosen"][0], pair["rejected"][0]) for pair in pairs]
        return [(order[n, chosen["content"]], order[n, rejected["content"]]) for n, chosen, rejected in keys]

    ranked = found(from_ranked_outputs(rows, all_pairs=all_pairs))
    assert all(chosen[0] < rejected[0] for chosen, rejected in ranked)
    sizes = [len(graded) for graded in made]
    assert len(ranked) == sum(n * (n - 1) // 2 if all_pairs else n - 1 for n in sizes)
    scored = found(from_scores(rows, margin=0.5))
    assert all(chosen[1] - rejected[1] >= 5 for chosen, rejected in scored)
    assert len(scored) == sum(one - other >= 5 for graded in made for _, one in graded for _, other in graded)
