"""Each converter: right rows come out as they should, every planted fault is named with its row and what to do."""

import doctest

import pytest
from datasets import Dataset

from helper import converters
from helper.converters import (
    from_alpaca,
    from_kto,
    from_output_pairs,
    from_plain_pairs,
    from_ranked_outputs,
    from_scores,
    from_sharegpt,
    to_alpaca,
    to_kto,
    to_prompt_completion,
    to_sharegpt,
)
from helper.validation import validate_completions, validate_messages, validate_preferences


def said(role, content):
    return {"role": role, "content": content}


def pair(chosen, rejected, question="q"):
    return {
        "prompt": [said("user", question)],
        "chosen": [said("assistant", chosen)],
        "rejected": [said("assistant", rejected)],
    }


ALPACA = {"instruction": "q", "input": "", "output": "a"}
SHAREGPT = {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}
PLAIN = {"instruction": "q", "chosen": "a", "rejected": "b"}
TWO = {"instruction": "q", "output": ["a", "b"]}
RANKED = {"instruction": "q", "output": ["a", "b", "c"]}
SCORED = {"instruction": "q", "output": ["a", "b", "c"], "scores": [3, 9, 5]}
CONVERTERS = {
    from_alpaca: ALPACA,
    from_sharegpt: SHAREGPT,
    from_plain_pairs: PLAIN,
    from_output_pairs: TWO,
    from_ranked_outputs: RANKED,
    from_scores: SCORED,
}
FULL = [said("system", "s"), said("user", "1"), said("assistant", "2"), said("user", "3"), said("assistant", "4")]


def error_of(convert, rows, **options):
    with pytest.raises(ValueError) as caught:
        convert(rows, **options)
    assert len(str(caught.value).splitlines()) <= 10
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return str(caught.value)


def test_alpaca():
    rows = [
        ALPACA,
        {"instruction": "Add.", "input": "1 + 1", "output": "2", "history": None, "system": " "},
        {"instruction": "3", "input": "", "output": "4", "history": [["1", "2"]], "system": "s"},
    ]
    made = from_alpaca(rows)
    assert made[0] == {"messages": [said("user", "q"), said("assistant", "a")]}
    assert made[1] == {"messages": [said("user", "Add.\n1 + 1"), said("assistant", "2")]}
    assert made[2] == {"messages": FULL}
    assert validate_messages(made) == 3
    assert from_alpaca(Dataset.from_list([rows[2], *rows[:2]])) == [made[2], *made[:2]]
    assert rows[0] == {"instruction": "q", "input": "", "output": "a"}  # what came in is left as it was


def test_sharegpt():
    turns = [("system", "s"), ("human", "1"), ("gpt", "2"), ("user", "3"), ("assistant", "4")]
    row = {"conversations": [{"from": role, "value": text} for role, text in turns], "tools": None}
    outside = {"conversations": row["conversations"][1:], "system": "s", "tools": ""}
    assert from_sharegpt([row, outside]) == [{"messages": FULL}] * 2
    assert from_sharegpt(Dataset.from_list([SHAREGPT])) == [{"messages": [said("user", "q"), said("assistant", "a")]}]


def test_the_course_identity_rows_are_sharegpt():
    from helper import load_course_dataset

    rows = load_course_dataset("sprout-identity")
    assert validate_messages(from_sharegpt(rows)) == len(rows)


def test_round_trips():
    rows = [{"messages": FULL}, {"messages": FULL[1:]}, {"messages": FULL[-2:]}]
    assert from_alpaca(to_alpaca(rows)) == rows and from_sharegpt(to_sharegpt(rows)) == rows
    assert to_sharegpt([{"messages": FULL[-2:]}]) == [
        {"conversations": [{"from": "human", "value": "3"}, {"from": "gpt", "value": "4"}]}
    ]
    assert to_alpaca([{"messages": FULL}]) == [
        {"instruction": "3", "input": "", "output": "4", "history": [["1", "2"]], "system": "s"}
    ]
    tool = [said("user", "1"), said("assistant", "2"), said("tool", "3"), said("assistant", "4")]
    for convert in (to_alpaca, to_sharegpt):
        words = "row 1: message 2 is a tool's: tool calls are not converted"
        assert words in error_of(convert, [*rows[:1], {"messages": tool}])
        assert "row 0: ends with the user" in error_of(convert, [{"messages": FULL[:2]}])


def test_pairs(capsys):
    assert from_plain_pairs([PLAIN]) == from_output_pairs([TWO]) == [pair("a", "b")]
    assert capsys.readouterr().out == ""  # every row gives a pair
    row = {"instruction": "3", "history": [["1", "2"]], "system": "s", "chosen": "4", "rejected": "5"}
    full = from_plain_pairs([row])
    assert full[0]["prompt"] == FULL[:-1] and full[0]["chosen"] == FULL[-1:]
    assert validate_preferences(full) == 1


def test_ranked_answers(capsys):
    assert from_ranked_outputs([RANKED]) == [pair("a", "b"), pair("a", "c")]
    assert capsys.readouterr().out == "2 pairs from 1 rows.\n"
    assert from_ranked_outputs([RANKED], all_pairs=True) == [pair("a", "b"), pair("a", "c"), pair("b", "c")]
    capsys.readouterr()
    outputs = (["a", "b", "c"], ["a"], ["a", " a", "b"], ["a", "a"])
    rows = [{"instruction": "q", "output": output} for output in outputs]
    assert from_ranked_outputs(rows) == [pair("a", "b"), pair("a", "c"), pair("a", "b")]
    assert capsys.readouterr().out == (
        "3 pairs from 4 rows. Rows without a pair: 2 (number 1, 3). Left out, as both texts are the same: 2.\n"
    )


def test_scores(capsys):
    assert from_scores([SCORED]) == [pair("b", "c"), pair("b", "a"), pair("c", "a")]
    assert from_scores([SCORED], margin=3) == [pair("b", "c"), pair("b", "a")]
    assert "2 pairs from 1 rows." in capsys.readouterr().out
    close = {**SCORED, "scores": [7.2, "7.3", 7.25]}
    assert from_scores([close], margin=0.1) == [pair("b", "a")]  # in floats 7.3 - 7.2 is under 0.1
    assert from_scores([{**SCORED, "scores": [1, 10, "10.0"]}], margin=9) == [pair("b", "a"), pair("c", "a")]
    capsys.readouterr()
    assert from_scores([{**SCORED, "scores": [5, 5, 5]}] * 12) == []
    assert "0 pairs from 12 rows. Rows without a pair: 12 (number 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...)." in (
        capsys.readouterr().out
    )
    assert from_scores([{**SCORED, "output": ["a", "a ", "b"]}]) == [pair("a", "a", "q")][1:] + [
        pair("a ", "b"),
        pair("b", "a"),
    ]
    assert "Left out, as both texts are the same: 1." in capsys.readouterr().out


PROMPT_FAULTS = [
    ({"instruction": None}, "instruction: None, not text"),
    ({"instruction": " "}, "instruction: only blanks"),
    ({"instruction": ["q"]}, "instruction: list, not text"),
    ({"input": 3}, "input: int, not text"),
    ({"system": ["s"]}, "system: list, not text"),
    ({"history": "text"}, "history: str, not a list of [question, answer]"),
    ({"history": ["text"]}, "history 0 is not a pair [question, answer]"),
    ({"history": [["1", "2"], ["3"]]}, "history 1 is not a pair [question, answer]"),
    ({"history": [["1", None]]}, "history 0: None, not text"),
]
ROW_FAULTS = [
    *((convert, *case) for convert in CONVERTERS if convert is not from_sharegpt for case in PROMPT_FAULTS),
    (from_alpaca, {"output": ["a", "b"]}, "output: list, not text"),
    (from_alpaca, {"output": ""}, "output: empty"),
    (from_plain_pairs, {"chosen": None}, "chosen: None, not text"),
    (from_plain_pairs, {"rejected": [said("assistant", "b")]}, "rejected: list, not text"),
    (from_plain_pairs, {"rejected": " a"}, "the two answers are the same text"),
    (from_output_pairs, {"output": ["a", "a"]}, "the two answers are the same text"),
    (from_output_pairs, {"output": ["a", "b", "c"]}, "output has 3 answers, not 2 (from_ranked_outputs takes any"),
    (from_output_pairs, {"output": "a"}, "output is not a list of answers (from_alpaca takes one answer as text)"),
    (from_ranked_outputs, {"output": []}, "output is not a list of answers"),
    (from_ranked_outputs, {"output": ["a", None]}, "output 1: None, not text"),
    (from_scores, {"output": ["a", "", "c"]}, "output 1: empty"),
    (from_scores, {"scores": [1, 2]}, "3 answers but 2 scores"),
    (from_scores, {"scores": 5}, "scores is not a list of numbers"),
    (from_scores, {"scores": [1, 2, 11]}, "score 2 is 11, not a number from 1 to 10"),
    (from_scores, {"scores": [0, 2, 3]}, "score 0 is 0, not a number from 1 to 10"),
    (from_scores, {"scores": [1, 2, 10.01]}, "score 2 is 10.01, not a number from 1 to 10"),
    (from_scores, {"scores": [1, float("nan"), 3]}, 'score 1 is "nan", not a number from 1 to 10'),
    (from_scores, {"scores": [1, float("inf"), 3]}, 'score 1 is "inf", not a number from 1 to 10'),
    (from_scores, {"scores": [1, "nan", 3]}, 'score 1 is "nan", not a number from 1 to 10'),
    (from_scores, {"scores": [1, "good", 3]}, 'score 1 is "good", not a number from 1 to 10'),
    (from_scores, {"scores": [1, True, 3]}, "score 1 is bool, not a number from 1 to 10"),
    (from_scores, {"scores": [1, None, 3]}, "score 1 is NoneType, not a number from 1 to 10"),
    (from_scores, {"scores": [1, 10**5000, 3]}, "score 1 is int, not a number from 1 to 10"),
    (from_scores, {"scores": [1, "1e99999999", 3]}, "score 1 is 1e+99999999, not a number from 1 to 10"),
    (from_sharegpt, {"conversations": "text"}, "conversations is not a list of turns"),
    (from_sharegpt, {"conversations": []}, "conversations is not a list of turns"),
    (from_sharegpt, {"system": 5}, "system: int, not text"),
    (from_sharegpt, {"tools": "[{}]"}, "the row has tools: tool calls are not converted"),
]
TURN_FAULTS = [
    ("text", 'turn 0 has no "from" and "value"'),
    ({"from": "human"}, 'turn 0 has no "from" and "value"'),
    ({"role": "user", "content": "q"}, 'turn 0 has no "from" and "value" but role and content: rename the column'),
    ({"from": "bot", "value": "q"}, 'turn 0 is from "bot": did you mean "assistant"?'),
    ({"from": "Human", "value": "q"}, 'turn 0 is from "Human": did you mean "human"?'),
    ({"from": None, "value": "q"}, "turn 0 is from None, not one of human, user, gpt, assistant, system"),
    ({"from": "observation", "value": "q"}, "turn 0 is from observation: tool calls are not converted"),
    ({"from": "tools", "value": "q"}, "turn 0 is from tools: tool calls are not converted"),
    ({"from": "human", "value": None}, "turn 0: None, not text"),
    ({"from": "human", "value": ""}, "turn 0: empty"),
    ({"from": "gpt", "value": "a"}, "starts with the assistant: the user's message must come first"),
]


@pytest.mark.parametrize(("convert", "bad", "words"), ROW_FAULTS)
def test_a_bad_row_is_named(convert, bad, words):
    good = CONVERTERS[convert]
    assert f"  row 1: {words}" in error_of(convert, [good, {**good, **bad}, good])


@pytest.mark.parametrize("convert", CONVERTERS)
def test_a_column_that_a_row_lacks_is_no_none(convert):
    good = CONVERTERS[convert]
    for column in good:
        row = {name: value for name, value in good.items() if name != column}
        if column in ("input", "history", "system", "tools"):
            assert convert([good, row])
        else:
            error = error_of(convert, [good, row, good])
            assert f'  row 1: the row has no column "{column}"' in error and "None" not in error


@pytest.mark.parametrize(("turn", "words"), TURN_FAULTS)
def test_a_bad_turn_is_named(turn, words):
    row = {"conversations": [turn, *SHAREGPT["conversations"][1:]]}
    assert f"  row 1: {words}" in error_of(from_sharegpt, [SHAREGPT, row])


def test_the_order_of_turns():
    turns = SHAREGPT["conversations"]
    assert "ends with the user" in error_of(from_sharegpt, [{"conversations": turns[:1]}])
    assert "two user messages in a row" in error_of(from_sharegpt, [{"conversations": turns[:1] + turns}])
    system = [{"from": "system", "value": "s"}]
    assert "a system message after the first" in error_of(from_sharegpt, [{"conversations": turns + system}])
    assert "a system message after the first" in error_of(
        from_sharegpt, [{"conversations": system + turns, "system": "another"}]
    )


@pytest.mark.parametrize("convert", CONVERTERS)
def test_the_data_set_itself(convert):
    good = CONVERTERS[convert]
    assert len(convert([good, good])) == 2 * len(convert(Dataset.from_list([good])))
    assert "no rows" in error_of(convert, []) and "not dict" in error_of(convert, good)
    assert "row 1: the row is None, not a dict" in error_of(convert, [good, None])
    for column in good:
        wrong = {name + "z" * (name == column): value for name, value in good.items()}
        assert f'"{column}z": did you mean "{column}"?' in error_of(convert, [wrong] * 20)
        assert f'row 1: "{column}z": did you mean "{column}"?' in error_of(convert, [good, wrong])


def test_columns_with_other_names():
    text = error_of(from_alpaca, [{"prompt": "q", "response": "a"}])
    assert '"prompt": did you mean "instruction"?' in text and '"response": did you mean "output"?' in text
    assert "validate_messages" in error_of(from_alpaca, [{"messages": FULL}])


@pytest.mark.parametrize("margin", [0, -1, "x", None, float("nan"), True])
def test_a_wrong_margin(margin):
    assert "margin is a number above 0" in error_of(from_scores, [SCORED], margin=margin)


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(converters).attempted > 0 and doctest.testmod(converters).failed == 0


@pytest.mark.parametrize("name", ["imput", "inpuz", "inptu"])
def test_a_misspelt_short_column_is_named(name):
    assert f'"{name}": did you mean "input"?' in error_of(from_alpaca, [{"instruction": "q", name: "i", "output": "a"}])
    real = ("input_id", "id", "split", "source", "lang", "text", "score", "topic", "story", "item", "step", "point")
    assert len(from_alpaca([{**dict.fromkeys(real, "x"), "instruction": "q", "output": "a"}])) == 1


def test_an_overlong_margin_is_one_clear_error():
    with pytest.raises(ValueError, match="margin is a number above 0, .*, not one of thousands of digits"):
        from_scores([SCORED], margin=10**5000)


# Nothing is dropped without a word


@pytest.mark.parametrize("column", ["input", "system"])
@pytest.mark.parametrize("value", [0, False, 5, 0.0, [], ["i"]])
def test_what_is_no_text_is_named_and_not_dropped(column, value):
    assert f"row 1: {column}: {type(value).__name__}, not text" in error_of(from_alpaca, [ALPACA, {**ALPACA, column: value}])
    assert f"{column}: {type(value).__name__}, not text" in error_of(from_plain_pairs, [{**PLAIN, column: value}])


@pytest.mark.parametrize("value", [0, False, 3])
def test_a_history_of_another_kind_is_named(value):
    assert "history: " in error_of(from_alpaca, [{**ALPACA, "history": value}])
    for nothing in (None, "", []):
        assert from_alpaca([{**ALPACA, "history": nothing}]) == from_alpaca([ALPACA])


@pytest.mark.parametrize("blank", [None, "", " ", "\u200b\ufeff"])
def test_blanks_stand_for_nothing(blank):
    assert from_alpaca([{**ALPACA, "input": blank, "system": blank}]) == from_alpaca([ALPACA])
    system = {"conversations": [{"from": "system", "value": blank}, *SHAREGPT["conversations"]]}
    assert from_sharegpt([system, {**SHAREGPT, "system": blank}]) == from_sharegpt([SHAREGPT]) * 2


@pytest.mark.parametrize("tools", [None, "", "[]", " [ ] ", "{}", [], {}, "null", "\u200b"])
def test_no_tools_are_no_tools(tools):
    assert from_sharegpt([{**SHAREGPT, "tools": tools}]) == from_sharegpt([SHAREGPT])


@pytest.mark.parametrize("tools", ["[{}]", [{"name": "f"}], "f", "[", {"name": "f"}])
def test_tools_are_refused(tools):
    assert "row 0: the row has tools" in error_of(from_sharegpt, [{**SHAREGPT, "tools": tools}])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tool_calls", [{"function": {"name": "f"}}]), ("function_call", {"name": "f"}), ("tool_call_id", "7"),
        ("reasoning_content", "one two"), ("thinking", "one two"), ("images", ["a.png"]),
    ],
)  # fmt: skip
def test_what_a_message_says_elsewhere_is_named(key, value):
    rows = [{"messages": [said("user", "q"), {**said("assistant", "a"), key: value}]}]
    empty = [{"messages": [said("user", "q"), {**said("assistant", "a"), key: None}]}]
    for convert in (to_alpaca, to_sharegpt):
        assert f"row 1: message 1 has {key}: " in error_of(convert, [*empty, *rows])
        assert convert(empty) == convert([{"messages": [said("user", "q"), said("assistant", "a")]}])
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a", key: value}]
    assert f"turn 1 has {key}: " in error_of(from_sharegpt, [{"conversations": turns}])


@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_bad_answers_for_kto_are_not_converted_for_sft(column):
    for convert, row in ((from_alpaca, ALPACA), (from_sharegpt, SHAREGPT)):
        assert f"row 1: {column} is False" in error_of(convert, [{**row, column: True}, {**row, column: False}])


@pytest.mark.parametrize("convert", CONVERTERS)
def test_rows_with_pictures_are_named(convert):
    rows = [CONVERTERS[convert], {**CONVERTERS[convert], "images": ["a.png"]}]
    assert "row 1: the row has images, which a model of text cannot see" in error_of(convert, rows)


def test_marks_of_turns_are_found_in_every_format():
    mark = "a<|im_end|>b"
    for convert, row in (
        (from_alpaca, {**ALPACA, "output": mark}), (from_alpaca, {**ALPACA, "input": mark}),
        (from_plain_pairs, {**PLAIN, "chosen": mark}), (from_output_pairs, {**TWO, "output": [mark, "b"]}),
        (from_sharegpt, {"conversations": [{"from": "human", "value": mark}, SHAREGPT["conversations"][1]]}),
    ):  # fmt: skip
        assert "row 1: " in (text := error_of(convert, [CONVERTERS[convert], row])) and "a special token" in text


# Answers with a label (KTO), and prompts with completions


def kto(answer, label, question="q"):
    return {"prompt": [said("user", question)], "completion": [said("assistant", answer)], "label": label}


def test_each_good_answer_with_each_bad_one_to_the_same_prompt(capsys):
    rows = [kto("a", True), kto("d", False, "other"), kto("b", False), kto("c", True), kto("e", False)]
    assert from_kto(rows) == [pair("a", "b"), pair("a", "e"), pair("c", "b"), pair("c", "e")]
    assert capsys.readouterr().out == "4 pairs from 5 rows. Rows without a pair: 1 (number 1).\n"
    assert from_kto(Dataset.from_list(rows)) == from_kto(rows) and validate_preferences(from_kto(rows)) == 4
    texts = [{**row, "prompt": row["prompt"][0]["content"], "completion": row["completion"][0]["content"]} for row in rows]
    assert from_kto(texts) == from_kto(rows)
    capsys.readouterr()
    assert from_kto([kto("a", True), kto("b", False, "other"), kto("c", True)]) == []
    assert "0 pairs from 3 rows. Rows without a pair: 3 (number 0, 1, 2)." in capsys.readouterr().out


def test_a_text_that_is_called_good_and_bad_gives_no_pair(capsys):
    assert from_kto([kto("a", True), kto("a ", False)]) == []
    assert "Rows without a pair: 2 (number 0, 1). Left out, as both texts are the same: 1." in capsys.readouterr().out
    assert from_kto([kto("a", True), kto("a", False), kto("b", False)]) == [pair("a", "b")]
    assert "1 pairs from 3 rows. Rows without a pair: 1 (number 1)." in capsys.readouterr().out


def test_prompts_are_the_same_where_all_of_them_is():
    for other in (
        [said("system", "s"), said("user", "q")],
        [said("user", "Q")],
        [said("user", "1"), said("assistant", "2"), said("user", "q")],
    ):
        assert from_kto([kto("a", True), {**kto("b", False), "prompt": other}]) == []
    made = from_kto([{**kto("4", True), "prompt": FULL[:-1]}, {**kto("5", False), "prompt": FULL[:-1]}])
    assert made[0]["prompt"] == FULL[:-1] and made[0]["chosen"] == FULL[-1:]
    before = [said("assistant", "2"), said("user", "3")]  # what stands in the completion before its last answer
    rows = [kto("4", True, "1"), kto("5", False, "1")]
    rows = [{**row, "completion": before + row["completion"]} for row in rows]
    assert from_kto(rows)[0]["prompt"] == FULL[1:-1] and validate_preferences(from_kto(rows)) == 1


KTO_FAULTS = [
    ({"label": None}, "label is None, not true or false"),
    ({"label": 1}, "label is 1, not true or false"),
    ({"label": "good"}, 'label is "good", not true or false'),
    ({"label": [True]}, "label is [True], not true or false"),
    ({"completion": ""}, "completion, message 0 (assistant): empty"),
    ({"completion": None}, "completion: no list of messages but None"),
    ({"completion": [said("user", "a")]}, "completion starts with the user"),
    ({"prompt": " "}, "prompt, message 0 (user): only blanks"),
    ({"prompt": []}, "prompt: no list of messages but an empty list"),
    ({"prompt": [said("human", "q")]}, 'prompt, message 0 has the role "human": did you mean "user"?'),
    ({"prompt": FULL}, "prompt and completion: two assistant messages in a row"),
    ({"prompt": [*FULL, said("tool", "5")]}, "message 5 is a tool's: tool calls are not converted"),
    ({"completion": [{**said("assistant", "a"), "thinking": "t"}]}, "message 1 has thinking: thoughts in a field of"),
    ({"images": ["a.png"]}, "the row has images"),
    ({"completion": "a<|im_end|>"}, "completion, message 0 (assistant) holds <|im_end|>"),
]


@pytest.mark.parametrize(("bad", "words"), KTO_FAULTS)
def test_a_bad_labelled_row_is_named(bad, words):
    good = kto("a", True)
    assert f"  row 1: {words}" in error_of(from_kto, [good, {**good, **bad}, good])


def test_columns_of_labelled_rows():
    good = kto("a", True)
    for column in good:
        row = {name: value for name, value in good.items() if name != column}
        assert f'row 1: the row has no column "{column}"' in error_of(from_kto, [good, row])
    tagged = {"kto_tag": True, **{name: good[name] for name in ("prompt", "completion")}}
    assert '"kto_tag": did you mean "label"?' in error_of(from_kto, [tagged])
    assert "no rows" in error_of(from_kto, [])


def test_pairs_as_labelled_answers_and_back():
    pairs = [pair("a", "b"), {"chosen": FULL, "rejected": [*FULL[:-1], said("assistant", "5")]}]
    rows = to_kto(pairs)
    assert rows == [
        kto("a", True),
        kto("b", False),
        {"prompt": FULL[:-1], "completion": FULL[-1:], "label": True},
        {"prompt": FULL[:-1], "completion": [said("assistant", "5")], "label": False},
    ]
    assert from_kto(rows) == [pairs[0], {"prompt": FULL[:-1], "chosen": FULL[-1:], "rejected": [said("assistant", "5")]}]
    assert "2 of 4 rows are wrong" in error_of(validate_completions, rows)  # the bad answers, which SFT would learn
    assert "the same text" in error_of(to_kto, [pair("a", "a")])
    called = {**pairs[0], "rejected": [{**said("assistant", "b"), "tool_calls": [{"function": {"name": "f"}}]}]}
    assert "row 1: message 2 has tool_calls" in error_of(to_kto, [pairs[0], called])


def test_conversations_as_prompts_and_completions():
    rows = [{"messages": FULL}, {"messages": FULL[-2:]}]
    made = to_prompt_completion(rows)
    assert made == [{"prompt": FULL[:-1], "completion": FULL[-1:]}, {"prompt": FULL[-2:-1], "completion": FULL[-1:]}]
    assert validate_completions(made) == 2
    assert to_prompt_completion(Dataset.from_list(rows)) == made
    for bad, words in (
        ({"messages": FULL[:2]}, "ends with the user"),
        ({"messages": FULL[-1:]}, "starts with the assistant"),
        ({"messages": FULL, "label": False}, "label is False"),
        ({"messages": [FULL[1], {**FULL[2], "reasoning": "t"}]}, "message 1 has reasoning"),
        ({"messages": [*FULL[:3], said("tool", "t"), FULL[-1]]}, "message 3 is a tool's"),
    ):
        assert f"row 1: {words}" in error_of(to_prompt_completion, [*rows[:1], bad])
