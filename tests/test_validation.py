"""Each validator: right rows pass, every planted fault is named with its row and what to do."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict
from tiny import make_tokenizer

from helper.validation import (
    check_rows,
    validate_completions,
    validate_messages,
    validate_preferences,
    validate_problems,
)


def chat(*turns):
    roles = ["user", "assistant"] * 3
    return [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


def said(role, content="text"):
    return {"role": role, "content": content}


GOOD = {"messages": chat("Hi", "Hello")}
COMPLETION = {"prompt": chat("Hi"), "completion": [said("assistant")]}
PAIR = {"prompt": chat("Hi"), "chosen": [said("assistant", "yes")], "rejected": [said("assistant", "no")]}
PROBLEM = {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
FORMATS = {
    validate_messages: GOOD,
    validate_completions: COMPLETION,
    validate_preferences: PAIR,
    validate_problems: PROBLEM,
}


def error_of(validate, dataset, **options):
    with pytest.raises(ValueError) as caught:
        validate(dataset, **options)
    text = str(caught.value)
    assert len(text.splitlines()) <= 10 and max(map(len, text.splitlines())) <= 200
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return text


BAD_MESSAGES = {
    "no list": {"messages": "text"},
    "nothing": {"messages": []},
    "another column": {"text": "x"},
    "a wrong role": {"messages": [{"role": "human", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "None": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]},
    "blank": {"messages": chat("a", "  ")},
    "no content": {"messages": [{"role": "user"}]},
    "ends with the user": {"messages": chat("a", "b", "c")},
    "starts with the assistant": {"messages": chat("a", "b")[1:]},
    "two users": {"messages": [chat("a")[0], *chat("a", "b")]},
    "late system": {"messages": [*chat("a", "b"), {"role": "system", "content": "s"}, *chat("a", "b")]},
}


@pytest.mark.parametrize("kind", BAD_MESSAGES)
def test_bad_conversations_are_found(kind):
    with pytest.raises(ValueError, match=r"1 of 3 rows are wrong.*\n  row 1: "):
        validate_messages([GOOD, BAD_MESSAGES[kind], GOOD])


def test_good_conversations_pass():
    system = {"role": "system", "content": "s"}
    assert validate_messages([GOOD, {"messages": [system, *chat("a", "b", "c", "d")]}]) == 2
    assert validate_messages(Dataset.from_list([GOOD])) == 1
    with pytest.raises(ValueError, match="no rows"):
        validate_messages([])


def test_many_bad_rows_are_cut_at_ten_lines():
    text = error_of(validate_messages, [{"messages": []}] * 25)
    assert text.splitlines()[-1] == "  and 17 more: 17 like row 0"
    assert text.count("  row ") == 8 and text.startswith("25 of 25 rows are wrong")


def test_preferences():
    good = {"chosen": chat("a", "b"), "rejected": chat("a", "c")}
    split = {"prompt": chat("a"), "chosen": chat("a", "b")[1:], "rejected": chat("a", "c")[1:]}
    assert validate_preferences([good, split]) == 2
    for bad, words in (
        ({"chosen": chat("a", "b"), "rejected": chat("a", " b ")}, "same text"),
        ({"chosen": chat("a", "b"), "rejected": chat("x", "c")}, "different prompts"),
        ({"chosen": chat("a", "b")}, 'the row has no column "rejected"'),
        ({"chosen": chat("a", "b"), "rejected": None}, "rejected: no list"),
        ({"chosen": chat("a", "b"), "rejcted": chat("a", "c")}, '"rejcted": did you mean "rejected"?'),
        ({"chosen": "b", "rejected": "c"}, "chosen: no list"),
    ):
        with pytest.raises(ValueError, match=f"row 1: .*{words}"):
            validate_preferences([good, bad])


def test_problems():
    good = {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
    assert validate_problems([good]) == 1
    for bad, words in (
        ({"question": "", "answer": "#### 2"}, "question"),
        ({"question": "q", "answer": None}, "answer"),
        ({"question": "q", "answer": "two"}, "No number"),
    ):
        with pytest.raises(ValueError, match=f"row 0: .*{words}"):
            validate_problems([bad, good])


def test_equal_faults_do_not_hide_a_different_one():
    human = {"messages": [said("human"), said("gpt")]}
    rows = [human] * 3000 + [{"messages": chat("a", "b", "c")}, {"messages": chat("a", None)}]
    text = error_of(validate_messages, rows)
    assert text.startswith("3,002 of 3,002 rows are wrong (counted from 0). Mend them or leave them out:")
    assert 'row 0: message 0 has the role "human": did you mean "user"?' in text
    assert 'row 0: message 1 has the role "gpt": did you mean "assistant"?' in text
    assert "row 3000: ends with the user" in text and "row 3001: message 1 (assistant): None" in text
    assert "and 5,994 more: 2,997 like row 0, 2,997 like row 0" in text


def test_more_kinds_than_lines():
    rows = [{"messages": [said(f"role {n}"), said("assistant")]} for n in range(12)]
    assert "and 4 more: 4 of other kinds" in error_of(validate_messages, rows)


def test_every_fault_of_a_row_is_named():
    row = {"messages": [said("bot", " "), said("system"), said("user", None), said("user", ["x"])]}
    text = error_of(validate_messages, [GOOD, row])
    for words in (
        'message 0 has the role "bot": did you mean "assistant"?',
        "message 0 (assistant): only blanks",
        "message 2 (user): None, not text (and 1 more such)",
        "a system message after the first message",
        "starts with the assistant",
        "ends with the user",
        "two user messages in a row (messages 2 and 3)",
    ):
        assert f"  row 1: {words}" in text


MESSAGE_FAULTS = [
    ([said("Human"), said("assistant")], 'message 0 has the role "Human": did you mean "user"?'),
    ([said("User"), said("assistant")], 'message 0 has the role "User": did you mean "user"?'),
    ([said("user"), said("assisstant")], 'message 1 has the role "assisstant": did you mean "assistant"?'),
    ([said("user"), said("bot")], 'message 1 has the role "bot": did you mean "assistant"?'),
    ([said("zebra"), said("assistant")], 'message 0 has the role "zebra", not one of system, user, assistant, tool'),
    ([said("user"), said("x" * 5000)], "message 1 has the role"),
    ([said(None), said("assistant")], "message 0 has the role None, not one of"),
    ([said(["user"]), said("assistant")], "message 0 has the role list, not one of"),
    ([said("user", ""), said("assistant")], "message 0 (user): empty"),
    ([said("user", "\n \t"), said("assistant")], "message 0 (user): only blanks"),
    ([said("user"), said("assistant", None)], "message 1 (assistant): None, not text"),
    ([said("user"), said("assistant", 5)], "message 1 (assistant): int, not text"),
    ([said("user"), said("assistant", [{"type": "text"}])], "message 1 (assistant): list, not text"),
    ([{"role": "user", "contents": "a"}, said("assistant")], '"contents": did you mean "content"?'),
    ([{"from": "user", "value": "a"}, said("assistant")], '"from": did you mean "role"?'),
    ([said("user"), "text"], "message 1 is str, not a dict with role and content"),
    ([said("assistant"), said("assistant")], "two assistant messages in a row (messages 0 and 1)"),
    ([said("user"), said("assistant"), said("assistant")], "two assistant messages in a row (messages 1 and 2)"),
    ([said("user"), said("user"), said("assistant")], "two user messages in a row (messages 0 and 1)"),
    ([said("assistant")], "starts with the assistant: the user's message must come first"),
    ([said("system"), said("assistant")], "starts with the assistant"),
    ([said("system")], "there is only a system message"),
    ([said("user")], "ends with the user: the assistant's answer must come last"),
    ([said("user"), said("system"), said("assistant")], "a system message after the first message: it must come first"),
    ([said("system"), said("system"), *chat("a", "b")], "a system message after the first message"),
    ([said("user"), said("tool"), said("assistant")], "message 1 is a tool's but follows no message of the"),
    ("Hi", "a string: the chat template would be skipped. Make it [{"),
    (None, "messages: no list of messages but None"),
    ([], "messages: no list of messages but an empty list"),
    ({"role": "user"}, "messages: no list of messages but dict"),
]


@pytest.mark.parametrize(("messages", "words"), MESSAGE_FAULTS)
def test_the_words_for_a_bad_conversation(messages, words):
    text = error_of(validate_messages, [GOOD, GOOD, {"messages": messages}])
    assert "1 of 3 rows are wrong" in text and any(
        line.startswith("  row 2: ") and words in line for line in text.splitlines()
    )


def test_conversations_that_are_right():
    tools = [*chat("a"), said("assistant"), said("tool"), said("tool"), said("assistant")]
    extra = [{**message, "name": None} for message in chat("a", "b")]
    same_question = [{"messages": chat("a", "yes")}, {"messages": chat("a", "no")}]
    rows = [{"messages": tools}, {"messages": extra, "id": 3}, *same_question]
    assert validate_messages(rows) == validate_messages(tuple(rows)) == 4


@pytest.mark.parametrize("validate", FORMATS)
def test_the_data_set_itself(validate):
    good = FORMATS[validate]
    dataset = Dataset.from_list([good, good])
    assert validate([good]) == 1 and validate(dataset) == 2
    assert 'pass one, dataset["train"]' in error_of(validate, DatasetDict({"train": dataset}))
    assert "dictionary of splits" in error_of(validate, DatasetDict())
    streamed = error_of(validate, dataset.to_iterable_dataset())
    assert "streamed" in streamed and "list(dataset.take(1000))" in streamed
    for other in (good, "sprout-sft", None, 3, iter([good])):
        assert "load_course_dataset" in error_of(validate, other)
    assert "no rows" in error_of(validate, []) and "no rows" in error_of(validate, dataset.select([]))
    assert "row 1: the row is list, not a dict" in error_of(validate, [good, []])


@pytest.mark.parametrize("validate", FORMATS)
def test_a_misspelt_column_is_named_once(validate):
    good = FORMATS[validate]
    for column in good:
        wrong = [{name + "s" * (name == column): value for name, value in good.items()}] * 3000
        for dataset in (wrong, Dataset.from_list(wrong[:3])):
            text = error_of(validate, dataset)
            assert text.count(f'"{column}s": did you mean "{column}"? Rename the column.') == 1 and "row 0" not in text
        assert f'row 1: "{column}s": did you mean "{column}"?' in error_of(validate, [good, wrong[0], good])


def test_a_missing_column_names_the_format_it_looks_like():
    for present, words in {
        ("conversations",): "from_sharegpt",
        ("instruction", "output"): "from_alpaca",
        ("prompt", "completion"): "validate_completions",
        ("chosen", "rejected"): "validate_preferences",
        ("question", "answer"): "validate_problems",
        ("x",): "Rename",
        (): "no columns at all",
    }.items():
        text = error_of(validate_messages, [dict.fromkeys(present, "x")] * 2)
        assert 'No row has a column "messages"' in text and words in text
    text = error_of(validate_problems, [GOOD])
    assert 'column "question" or "answer"' in text and "validate_messages" in text
    assert '"Messages": did you mean "messages"?' in error_of(validate_messages, [{"Messages": []}])
    many = {f"column {n} \n\u2028 {'long ' * 50}": 1 for n in range(100)}
    assert error_of(validate_messages, [many]).count('"column') == 5


def test_completions():
    longer = {"prompt": [said("system"), *chat("a", "b", "c")], "completion": [said("assistant")]}
    assert validate_completions([COMPLETION, longer]) == 2
    for bad, words in (
        ({"prompt": "Hi"}, "prompt: no list of messages but a string: the chat template would be skipped"),
        ({"completion": "Hello"}, "completion: no list of messages but a string: the chat template would be skipped"),
        ({"prompt": []}, "prompt: no list of messages but an empty list"),
        ({"completion": None}, "completion: no list of messages but None"),
        ({"completion": chat("Hello")}, "completion starts with the user: only the assistant's answer goes there"),
        ({"completion": chat("Hi", "Hello")}, "completion starts with the user"),
        ({"prompt": chat("a", "b")}, "prompt and completion: two assistant messages in a row (messages 1 and 2)"),
        ({"prompt": [said("system")]}, "prompt and completion: starts with the assistant"),
        ({"completion": [said("bot")]}, 'completion, message 0 has the role "bot": did you mean "assistant"?'),
        ({"completion": [said("assistant", "")]}, "completion, message 0 (assistant): empty"),
        ({"completion": [said("assistant"), said("user")]}, "prompt and completion: ends with the user"),
    ):
        assert f"  row 1: {words}" in error_of(validate_completions, [COMPLETION, {**COMPLETION, **bad}])


def test_preferences_in_words(capsys):
    whole = {"chosen": chat("a", "b"), "rejected": chat("a", "c")}
    noted = {"chosen": [{**m, "id": 1} for m in chat("a", "b")], "rejected": chat("a", "c"), "prompt": None}
    assert validate_preferences([PAIR, whole, noted]) == 3
    for bad, words in (
        ({**PAIR, "rejected": PAIR["chosen"]}, "chosen and rejected are the same text (for anchor rows: allow_equal"),
        ({**PAIR, "prompt": "Hi"}, "prompt: no list of messages but a string: the chat template would be skipped"),
        ({**PAIR, "chosen": "yes"}, "chosen: no list of messages but a string: the chat template would be skipped"),
        ({**PAIR, "prompt": []}, "prompt: no list of messages but an empty list"),
        ({**PAIR, "chosen": chat("Hi", "yes")}, "chosen starts with the user: only the assistant's answer goes there"),
        ({**PAIR, "rejected": [said("gpt")]}, 'rejected, message 0 has the role "gpt": did you mean "assistant"?'),
        ({"chosen": whole["chosen"][1:], "rejected": whole["rejected"]}, "chosen: starts with the assistant"),
        ({"chosen": chat("a", "b"), "rejected": chat("x", "c")}, "chosen and rejected answer different prompts"),
    ):
        assert f"  row 1: {words}" in error_of(validate_preferences, [PAIR, bad])
    assert 'prompt"? Rename' in error_of(validate_preferences, [{"promt": chat("Hi"), **whole}])
    assert capsys.readouterr().out == ""


def test_anchors_are_allowed_when_asked(capsys):
    anchor = {**PAIR, "rejected": PAIR["chosen"]}
    assert validate_preferences([PAIR, anchor], allow_equal=True) == 2
    assert "in 1 of 2 rows chosen and rejected are the same text" in capsys.readouterr().out
    assert validate_preferences([PAIR], allow_equal=True) == 1 and capsys.readouterr().out == ""
    assert "row 1: " in error_of(validate_preferences, [PAIR, {**anchor, "rejected": "yes"}], allow_equal=True)


def test_problems_in_words():
    for bad, words in (
        ({"question": " "}, "no text in question: only blanks"),
        ({"question": 5}, "no text in question: int, not text"),
        ({"answer": ""}, "no text in answer: empty"),
        ({"answer": "It is 2."}, 'the answer must end like "#### 72".'),
        ({"answer": "#### two"}, 'the answer must end like "#### 72".'),
    ):
        assert f"  row 1: {words}" in error_of(validate_problems, [PROBLEM, {**PROBLEM, **bad}])
    other_answer = {**PROBLEM, "answer": "#### 3"}
    assert validate_problems([PROBLEM, other_answer]) == 2
    both = error_of(validate_problems, [PROBLEM, {"question": None, "answer": None}])
    assert "no text in question" in both and "no text in answer" in both


LONG = "two three four " * 20
LONG_ROWS = {
    validate_messages: ({"messages": chat(LONG, "x")}, {"messages": chat("x", LONG)}),
    validate_completions: (
        {**COMPLETION, "prompt": chat(LONG)},
        {**COMPLETION, "completion": [said("assistant", LONG)]},
    ),
    validate_preferences: ({**PAIR, "prompt": chat(LONG)}, {**PAIR, "rejected": [said("assistant", LONG)]}),
    validate_problems: ({**PROBLEM, "question": LONG}, {**PROBLEM, "answer": f"{LONG}#### 2"}),
}


@pytest.mark.parametrize("validate", FORMATS)
def test_lengths(validate, tokenizer, capsys):
    good, (long_prompt, long_answer) = FORMATS[validate], LONG_ROWS[validate]
    assert validate([good, long_prompt, long_answer]) == 3  # no limit, no check
    assert validate([good], tokenizer=tokenizer, max_length=60) == 1 and capsys.readouterr().out == ""
    text = error_of(validate, [good, long_prompt], tokenizer=tokenizer, max_length=60)
    assert "row 1: the prompt alone has" in text and "max_length is 60: nothing of the answer would be trained" in text
    assert validate([good, long_answer, long_answer], tokenizer=tokenizer, max_length=60) == 3
    assert "Note: 2 of 3 rows are longer than max_length=60" in capsys.readouterr().out


def test_the_length_limit_is_exact(tokenizer, capsys):
    prompt = len(tokenizer.apply_chat_template(chat("Hi"), tokenize=True, add_generation_prompt=True)["input_ids"])
    whole = len(tokenizer.apply_chat_template(chat("Hi", "Hello"), tokenize=True)["input_ids"])
    assert validate_messages([GOOD], tokenizer=tokenizer, max_length=whole) == 1 and capsys.readouterr().out == ""
    assert validate_messages([GOOD], tokenizer=tokenizer, max_length=prompt + 1) == 1
    assert f"the longest has {whole} tokens" in capsys.readouterr().out
    assert "row 0: the prompt alone" in error_of(validate_messages, [GOOD], tokenizer=tokenizer, max_length=prompt)


def test_wrong_limits(tokenizer, monkeypatch):
    for options in ({"tokenizer": tokenizer}, {"max_length": 5}):
        assert "give both tokenizer= and max_length=" in error_of(validate_messages, [GOOD], **options)
    for wrong in (0, -1, 2.5, "5", True):
        text = error_of(validate_messages, [GOOD], tokenizer=tokenizer, max_length=wrong)
        assert "max_length is a number of tokens" in text
    assert "load_model_and_tokenizer" in error_of(validate_messages, [GOOD], tokenizer="x", max_length=5)
    monkeypatch.setattr(tokenizer, "chat_template", "{{ raise_exception('roles must alternate') }}")
    text = error_of(validate_messages, [GOOD], tokenizer=tokenizer, max_length=50)
    assert "row 0: the tokenizer's chat template refuses it (TemplateError): roles must alternate" in text


def test_a_check_of_your_own():
    def too_short(row):
        return [] if len(row["text"]) > 2 else [("short", "text is too short")]

    assert check_rows([{"text": "abc"}], ["text"], too_short) == 1
    assert "row 1: text is too short" in error_of(
        check_rows, [{"text": "abc"}, {"text": "a"}], columns=["text"], faults_of=too_short
    )


def test_foreign_text_stays_on_its_line():
    nasty = "\u2028\r\n\x1b[31m\ud800" + "x" * 100
    for row in ({"messages": [said(nasty), said("assistant")]}, {nasty: 1}):
        error_of(validate_messages, [row, row]).encode("utf-8")


@pytest.mark.parametrize("validate", FORMATS)
def test_half_a_character_is_named_with_its_row(validate):
    good = FORMATS[validate]
    column = next(reversed(good))
    broken = [said("assistant", "a\ud800")] if validate is not validate_problems else "a\ud800 #### 2"
    bad = {**good, column: [said("user"), *broken] if column == "messages" else broken}
    for options in ({}, {"tokenizer": make_tokenizer(), "max_length": 200}):
        text = error_of(validate, [good, bad], **options)
        assert "row 1: " in text and r"holds '\ud800', half of a character" in text and text.encode()


def test_names_that_are_no_text_are_no_stumbling_block():
    assert "role NAType, not one of" in error_of(validate_messages, [{"messages": [said(pd.NA), said("assistant")]}])
    assert 'No row has a column "messages"' in error_of(validate_messages, [{pd.NA: 1}])
    assert validate_messages([{pd.NA: 1, **GOOD}]) == 1


def test_a_template_may_fail_in_any_way():
    tokenizer = make_tokenizer(template="{{ 1 // 0 }}")
    text = error_of(validate_messages, [GOOD], tokenizer=tokenizer, max_length=50)
    assert "row 0: the tokenizer's chat template refuses it (ZeroDivisionError)" in text


@pytest.mark.parametrize(
    "validate, row, words",
    [
        (validate_messages, {"messages ": GOOD["messages"]}, "'messages ': did you mean \"messages\"?"),
        (validate_messages, {"conversation": []}, '"conversation": did you mean "messages"?'),
        (validate_messages, {"conversations": []}, 'rename the column "messages" if its turns have role and content'),
        (validate_completions, {"prompt": [], "response": []}, '"response": did you mean "completion"?'),
        (validate_completions, {"prompt": [], "output": []}, '"output": did you mean "completion"?'),
        (validate_problems, {"problem": "a", "answer": "b"}, '"problem": did you mean "question"?'),
        (validate_problems, {"question": "a", "solution": "b"}, '"solution": did you mean "answer"?'),
    ],
)
def test_names_of_other_formats_are_known(validate, row, words):
    assert words in error_of(validate, [row])


def test_a_real_other_column_is_no_misspelt_one():
    row = {"prompt_id": "7", "chosen": chat("q", "a"), "rejected": chat("q", "b")}
    assert validate_preferences([row]) == 1


# What the template makes of a row

TRL = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
THOUGHTS = "<think>one two</think>four"


def templated(name):
    tokenizer = make_tokenizer(template=(TRL / f"{name}.jinja").read_text("utf-8"))
    tokenizer.bos_token = "<|endoftext|>"
    return {"tokenizer": tokenizer, "max_length": 400}


def thinking(*answers):
    return {"messages": [m for number, answer in enumerate(answers) for m in chat(f"q {number}", answer)]}


@pytest.mark.parametrize("thought", [THOUGHTS, "<think>\none\n</think>\n\nfour", "one two</think>four"])
def test_thoughts_that_a_template_drops_are_named(thought):
    """DeepSeek-R1-Distill's template cuts all before </think> off: the labels would hold the answer only."""
    lost = "row 1: the chat template drops a part of the answer (its thoughts?): it is not trained"
    assert lost in error_of(validate_messages, [GOOD, thinking(thought)], **templated("deepseek_r1_distill"))
    split = {"prompt": chat("q"), "completion": [said("assistant", thought)]}
    assert lost in error_of(validate_completions, [COMPLETION, split], **templated("deepseek_r1_distill"))
    pair = {**PAIR, "rejected": [said("assistant", thought)]}
    assert lost in error_of(validate_preferences, [PAIR, pair], **templated("deepseek_r1_distill"))
    problem = {"question": "q", "answer": f"{thought}\n#### 4"}
    assert lost in error_of(validate_problems, [PROBLEM, problem], **templated("deepseek_r1_distill"))


def test_thoughts_that_a_template_keeps_pass(capsys):
    for name in ("qwen3", "qwen2_5", "llama3"):
        assert validate_messages([thinking(THOUGHTS), thinking("<think>\n\n</think>\n\nfour")], **templated(name)) == 2
    assert validate_messages([thinking("four")], **templated("deepseek_r1_distill")) == 1
    assert capsys.readouterr().out == ""


def test_thoughts_of_earlier_turns_are_counted_in_a_note(capsys):
    rows = [GOOD, thinking(THOUGHTS, "five"), thinking("three", THOUGHTS)]
    assert validate_messages(rows, **templated("qwen3")) == 3
    assert capsys.readouterr().out == (
        "Note: in 1 of 3 rows the chat template drops a part of what stands before the answer.\n"
    )


def test_a_message_that_a_template_passes_over_is_counted_too(capsys):
    template = "{% for m in messages if m.role != 'system' %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
    row = {"messages": [said("system", "Be brief."), *chat("q", "a")]}
    assert validate_messages([row], tokenizer=make_tokenizer(template=template), max_length=99) == 1
    assert "in 1 of 1 rows the chat template drops a part" in capsys.readouterr().out


INJECTED = [
    "Hi.<|im_end|>\n<|im_start|>assistant\nNo.", "<|endoftext|>", "a <|eot_id|> b", "x<end_of_turn>", "[INST] y [/INST]",
    "<<SYS>>z<</SYS>>", "<|START_OF_TURN_TOKEN|>",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTED)
def test_turns_within_a_text_are_found(text):
    words = "a special token: take it out"
    for place in (0, 1):
        row = {"messages": chat("q", "a")}
        row["messages"][place]["content"] = text
        assert f"row 1: message {place} (" in (error := error_of(validate_messages, [GOOD, row])) and words in error
    assert words in error_of(validate_completions, [{**COMPLETION, "completion": [said("assistant", text)]}])
    assert words in error_of(validate_preferences, [{**PAIR, "chosen": [said("assistant", text)]}])
    assert words in error_of(validate_problems, [{**PROBLEM, "question": text}])


@pytest.mark.parametrize("text", ["a < |b| > c", "x <| y", "|im_end|", "<s>struck</s>", "</end>", "a | b |> c", "List[INT]"])
def test_what_only_looks_like_one_is_text(text):
    assert validate_messages([{"messages": chat(text, text)}]) == 1


def test_a_tokenizers_own_special_tokens_are_found():
    tokenizer = make_tokenizer(special=("</s>", "<pad>", "<|im_start|>", "<|im_end|>", "[END]"))
    rows = [{"messages": chat("q", text)} for text in ("fine", "a</s>b", "[END]", "</ s>")]
    text = error_of(validate_messages, rows, tokenizer=tokenizer, max_length=99)
    assert "row 1: message 1 holds </s>, a special token" in text and "row 2: message 1 holds [END]" in text
    assert text.startswith("2 of 4 rows")


INVISIBLE = ["\u200b", "\ufeff \u2060", "\u00ad\u200d", "\u3164", "\u2800\u2800", "\ufe0f", "\u180e\t", "\x00"]


@pytest.mark.parametrize("text", INVISIBLE)
def test_text_that_cannot_be_seen_is_blank(text):
    assert "row 1: message 1 (assistant): only blanks" in error_of(validate_messages, [GOOD, {"messages": chat("q", text)}])
    assert "no text in question: only blanks" in error_of(validate_problems, [{**PROBLEM, "question": text}])


@pytest.mark.parametrize("text", ["a\u200b", "\u200b.", "👍\ufe0f", "é", "日", "\u0644\u200d", "1", "—"])
def test_text_with_something_to_see_is_text(text):
    assert validate_messages([{"messages": chat(text, text)}]) == 1


# Rows of other kinds


@pytest.mark.parametrize("column", ["label", "kto_tag"])
def test_bad_answers_for_kto_are_no_sft_rows(column):
    for validate, row in ((validate_messages, GOOD), (validate_completions, COMPLETION)):
        rows = [{**row, column: True}, {**row, column: False}, {**row, column: None}, {**row, column: 0}]
        text = error_of(validate, rows)
        assert text.startswith("1 of 4 rows") and f"row 1: {column} is False: an answer that is not to be learned" in text
        assert validate(Dataset.from_list(rows[:1])) == 1


@pytest.mark.parametrize("column", ["image", "images", "video", "audios"])
@pytest.mark.parametrize("validate", FORMATS)
def test_rows_with_pictures_are_named(validate, column):
    rows = [FORMATS[validate], {**FORMATS[validate], column: ["a.png"]}, {**FORMATS[validate], column: []}]
    text = error_of(validate, rows)
    assert text.startswith("1 of 3 rows") and f"row 1: the row has {column}, which a model of text cannot see" in text


# Pairs


def test_a_pair_that_is_equal_when_cut_is_found(capsys):
    tokenizer, long = make_tokenizer(), "one two three four " * 10
    pair = {"prompt": chat("q"), "chosen": [said("assistant", long + "yes")], "rejected": [said("assistant", long + "no")]}
    words = "row 1: chosen and rejected differ only beyond max_length=40: cut off there, they are the same"
    assert words in error_of(validate_preferences, [PAIR, pair], tokenizer=tokenizer, max_length=40)
    whole = {side: pair["prompt"] + pair[side] for side in ("chosen", "rejected")}
    assert "differ only beyond" in error_of(validate_preferences, [whole], tokenizer=tokenizer, max_length=40)
    assert validate_preferences([pair], tokenizer=tokenizer, max_length=400) == 1
    early = {**pair, "rejected": [said("assistant", "no " + long)]}
    assert validate_preferences([early], tokenizer=tokenizer, max_length=40) == 1
    anchor = {**pair, "rejected": pair["chosen"]}
    assert validate_preferences([anchor], tokenizer=tokenizer, max_length=40, allow_equal=True) == 1
    capsys.readouterr()


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": said("assistant", "a"), "rejected": said("assistant", "b")}, "chosen: no list of messages but dict, a"),
        ({**PAIR, "chosen": said("assistant", "a")}, "a single message: put it into a list"),
        ({**PAIR, "prompt": said("user", "a")}, "prompt: no list of messages but dict, a single message"),
        ({"chosen": chat("q", "a", "r", "b"), "rejected": chat("q", "x", "r", "c")}, "they part at message 1 of 4, and"),
        ({"chosen": chat("q", "a", "r", "b"), "rejected": chat("q", "a", "s", "b")}, "they part at message 2 of 4, and"),
        ({"chosen": chat("q", "a", "r", "b"), "rejected": chat("q", "c")}, "they part at message 1 of 4, and only the last"),
        (
            {"prompt": chat("q"), "chosen": chat("q", "a", "r", "b")[1:], "rejected": chat("q", "c", "r", "b")[1:]},
            "they part at message 0 of 3, and only the last may differ",
        ),
    ],
)  # fmt: skip
def test_pairs_of_other_shapes_are_named(row, words):
    assert words in error_of(validate_preferences, [PAIR, row])
