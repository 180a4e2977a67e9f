import copy
import math
import re
from types import SimpleNamespace

import pytest
import torch
from tiny import make_model, make_tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import GPT2Config

from helper import generation
from helper.generation import (
    _decode,
    _pick,
    complete_text,
    generate_responses,
    generate_tokens,
    next_token_table,
    quick_weights,
    stop_token_ids,
    test_model_with_questions,
    text_ids,
)
from helper.machine.sizes import cache_bytes

USER = {"role": "user", "content": "one"}
QUESTIONS = [
    "what?",
    "what is the capital of a place?",
    "one",
    "12 + 34 = 46 " * 8,
    "six seven",
    "is a place the",
]


def test_a_batch_gives_the_texts_of_one_by_one(model, tokenizer):
    together = generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=30)
    alone = [generate_responses(model, tokenizer, question, max_new_tokens=30) for question in QUESTIONS]
    assert together == alone
    assert len(set(alone)) > 3  # or the comparison says nothing
    assert generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=30, batch_size=2) == alone


def test_the_loop_gives_what_the_library_generates(model, tokenizer):
    prompts = [tokenizer(question).input_ids for question in QUESTIONS]
    ours = generate_tokens(model, tokenizer, prompts, 25)
    ends = set(stop_token_ids(model, tokenizer))
    for prompt, tokens in zip(prompts, ours, strict=True):
        theirs = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=25)[0, len(prompt) :].tolist()
        assert tokens == [t for t in theirs if t not in ends]


def test_wrong_positions_would_be_noticed(model, tokenizer, monkeypatch):
    """The two tests above must fail when padding moves the words: planted by padding on the right."""
    alone = [generate_responses(model, tokenizer, question, max_new_tokens=30) for question in QUESTIONS]

    def pad_right(prompts, device):
        longest = max(map(len, prompts))
        ids = torch.tensor([p + [0] * (longest - len(p)) for p in prompts])
        return ids, torch.tensor([[1] * len(p) + [0] * (longest - len(p)) for p in prompts])

    monkeypatch.setattr(generation, "_pad_left", pad_right)
    assert generate_responses(model, tokenizer, QUESTIONS, max_new_tokens=30) != alone


def favour(model, token_id, monkeypatch, after=3):
    """Make the model say `token_id` once `after` tokens have been generated for it."""
    forward, calls = type(model).forward, []

    def planted(*args, **kwargs):
        output = forward(*args, **kwargs)
        calls.append(output.logits.shape[0])
        if len(calls) > after:
            output.logits[0, -1, token_id] = 1e9
        return output

    monkeypatch.setattr(type(model), "forward", planted)
    return calls


@pytest.mark.parametrize("token", ["<|endoftext|>", "<|im_end|>"])
def test_a_row_stops_at_the_end_and_leaves_the_batch(model, tokenizer, monkeypatch, token):
    free = generate_responses(model, tokenizer, QUESTIONS[:3], max_new_tokens=12)
    calls = favour(model, tokenizer.convert_tokens_to_ids(token), monkeypatch)
    texts = generate_responses(model, tokenizer, QUESTIONS[:3], max_new_tokens=12)
    assert calls[:6] == [3, 3, 3, 3, 2, 1] and len(calls) == 6
    for text, whole in zip(texts, free, strict=True):
        assert whole.startswith(text) and "<|" not in text


def test_forms_of_call(model, tokenizer):
    one = generate_responses(model, tokenizer, "one", "two", 8)
    assert isinstance(one, str)
    conversation = [{"role": "system", "content": "two"}, {"role": "user", "content": "one"}]
    assert generate_responses(model, tokenizer, full_message=conversation, max_new_tokens=8) == one
    assert generate_responses(model, tokenizer, full_message=[conversation], max_new_tokens=8) == [one]
    assert generate_responses(model, tokenizer, [], max_new_tokens=8) == []
    for wrong in ({}, {"user_message": "a", "full_message": conversation}):
        with pytest.raises(ValueError, match="either"):
            generate_responses(model, tokenizer, **wrong)


def test_samples_come_in_groups_and_follow_the_seed(model, tokenizer):
    def sample(temperature):
        torch.manual_seed(1)
        return generate_responses(
            model, tokenizer, ["one", "two"], max_new_tokens=10, temperature=temperature, num_samples=4
        )

    groups = sample(2.0)
    assert [len(group) for group in groups] == [4, 4] and len(set(groups[0])) > 1
    assert groups == sample(2.0)
    greedy = generate_responses(model, tokenizer, ["one", "two"], max_new_tokens=10)
    assert sample(1e-4) == [[greedy[0]] * 4, [greedy[1]] * 4]
    with pytest.raises(ValueError, match="temperature"):
        generate_responses(model, tokenizer, ["one"], num_samples=2)


def test_precision_a_trainer_left_behind_is_not_used(model, tokenizer, monkeypatch):
    """Two trainers, one after the other: both the forward pass and its "original" are wrapped."""
    answers, table = (
        generate_responses(model, tokenizer, QUESTIONS),
        next_token_table(model, tokenizer, "one"),
    )
    rough = lambda *args, **kwargs: pytest.fail("generated under the trainer's autocast")  # noqa: E731
    monkeypatch.setattr(model, "forward", rough)
    monkeypatch.setattr(model, "_original_forward", rough, raising=False)
    assert generate_responses(model, tokenizer, QUESTIONS) == answers
    assert next_token_table(model, tokenizer, "one").equals(table)


def test_training_mode_is_put_back(model, tokenizer):
    model.train()
    generate_responses(model, tokenizer, "one", max_new_tokens=2)
    next_token_table(model, tokenizer, "one")
    assert model.training
    model.eval()


def test_complete_text_ends_before_the_stop(model, tokenizer):
    prompts = ["one two", "12 + 34"]
    whole = complete_text(model, tokenizer, prompts, 20, stop=None)
    mark = whole[0][4:6]  # some two characters it says
    cut = complete_text(model, tokenizer, prompts, 20, stop=mark)
    assert cut[0] == whole[0].split(mark)[0]
    assert cut[1] == whole[1].split(mark)[0]
    assert complete_text(model, tokenizer, prompts[0], 20, stop=["\x00", mark]) == cut[0]


def test_next_token_table(model, tokenizer):
    table = next_token_table(model, tokenizer, "what is", k=5)
    assert list(table.columns) == ["token", "probability"] and len(table) == 5
    assert table["probability"].is_monotonic_decreasing and 0 < table["probability"].sum() <= 1
    with torch.no_grad():
        probability = torch.softmax(model(torch.tensor([tokenizer("what is").input_ids])).logits[0, -1], -1)
    assert table["probability"][0] == pytest.approx(probability.max().item(), rel=1e-5)


def test_questions_are_printed_with_answers(model, tokenizer, capsys):
    test_model_with_questions(model, tokenizer, ["what?", "one"], title="Before", max_new_tokens=5)
    printed = capsys.readouterr().out
    answer = generate_responses(model, tokenizer, "what?", max_new_tokens=5)
    assert "Before" in printed and "1. what?" in printed and "2. one" in printed and answer in printed
    assert test_model_with_questions.__test__ is False
    for questions in ("what?", (question for question in ["what?"])):
        test_model_with_questions(model, tokenizer, questions, max_new_tokens=5)
        printed = capsys.readouterr().out
        assert "1. what?" in printed and "2. " not in printed and answer in printed


def counted(function, calls):
    """The function, noting each of its calls."""

    def call(*args, **kwargs):
        calls.append(function)
        return function(*args, **kwargs)

    return call


def test_a_batch_is_several_times_faster(tokenizer, monkeypatch):
    """64 questions at once take as many passes through the model as the longest answer has tokens."""
    model = make_model(tokenizer, seed=1)
    questions, passes = [f"what is {i} + {i}?" for i in range(64)], []
    monkeypatch.setattr(type(model.model), "forward", counted(type(model.model).forward, passes))

    def passes_a_question(batch_size, count):
        passes.clear()
        generate_responses(model, tokenizer, questions[:count], max_new_tokens=32, batch_size=batch_size)
        return len(passes) / count

    assert passes_a_question(64, 64) <= 32 / 64
    assert passes_a_question(1, 8) / passes_a_question(64, 64) > 4


def test_plain_text_begins_with_the_begin_token_where_there_is_one(tokenizer):
    bare = tokenizer("A cat").input_ids
    begun = copy.deepcopy(tokenizer)
    begun.bos_token = "<|endoftext|>"
    assert text_ids(begun, "A cat") == [begun.bos_token_id, *bare]
    assert text_ids(begun, "<|endoftext|>A cat") == [begun.bos_token_id, *bare]
    assert text_ids(begun, "<|im_start|>user") == begun("<|im_start|>user").input_ids
    assert text_ids(begun, "") == [begun.bos_token_id]
    begun.bos_token = None
    assert text_ids(begun, "A cat") == bare


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m, t: generate_responses(m, t, 3), TypeError, "user_message is a int"),
        (lambda m, t: generate_responses(m, t, ["Hi", None]), TypeError, "Question 1 is a NoneType"),
        (lambda m, t: generate_responses(t, m, "Hi"), TypeError, "is no tokenizer: first comes the model"),
        (
            lambda m, t: generate_responses(m, t, full_message=[{"role": "usr", "content": "Hi"}]),
            ValueError,
            "role is 'usr'",
        ),
        (lambda m, t: generate_responses(m, t, full_message=["Hi"]), TypeError, "Conversation 0 is no list of messages"),
        (lambda m, t: generate_responses(m, t, "Hi", max_new_tokens=0), ValueError, "max_new_tokens=0 asks for nothing"),
        (
            lambda m, t: generate_responses(m, t, ["Hi", "word " * 3000]),
            ValueError,
            "Prompt 1 has .* the model reads at most",
        ),
        (lambda m, t: generate_responses(m, t, USER), TypeError, r"Question 0 is a dict.*full_message=\["),
        (lambda m, t: generate_responses(m, t, full_message=USER), TypeError, r"full_message is a dict: give \["),
        (lambda m, t: generate_responses(m, t, full_message="Hi"), TypeError, "full_message is a str"),
        (lambda m, t: generate_responses(m, t, None, "Be kind.", 5, [USER]), ValueError, "system.* first in it"),
        (lambda m, t: generate_responses(m, t, full_message=[[]]), ValueError, "Conversation 0 is empty"),
        (lambda m, t: generate_responses(m, t, ["Hi", "a\ud800"]), ValueError, r"Question 1 holds '\\ud800'"),
        (lambda m, t: generate_responses(m, t, "Hi", num_samples=0), ValueError, "num_samples=0 asks for nothing"),
        (lambda m, t: generate_responses(m, t, "Hi", batch_size=0), ValueError, "batch_size=0 asks"),
        (lambda m, t: generate_responses(m, t, "Hi", batch_size=-1), ValueError, "batch_size=-1 asks"),
        (lambda m, t: generate_responses(m, t, "Hi", temperature=float("nan")), ValueError, "temperature=nan"),
        (lambda m, t: generate_responses(m, t, "Hi", temperature=-1), ValueError, "temperature=-1"),
        (lambda m, t: generate_responses(m, t, "Hi", temperature="1"), TypeError, "temperature='1' is a str"),
        (lambda m, t: generate_responses(m, t, "Hi", max_new_tokens="5"), TypeError, "max_new_tokens='5' is a str"),
        (lambda m, t: generate_responses(m, t, "Hi", max_new_tokens=5.0), TypeError, "max_new_tokens=5.0 is a float"),
        (lambda m, t: complete_text(m, t, ["a", "\udfff"]), ValueError, r"Prompt 1 holds '\\udfff'"),
        (lambda m, t: complete_text(m, t, [None]), TypeError, "Prompt 0 is a NoneType"),
        (lambda m, t: complete_text(m, t, 3), TypeError, "prompts is a int"),
        (lambda m, t: complete_text(m, t, "a", batch_size=0), ValueError, "batch_size=0 asks"),
        (lambda m, t: complete_text(m, t, "a", 5.0), TypeError, "max_new_tokens=5.0"),
        (lambda m, t: test_model_with_questions(m, t, 3), TypeError, "questions is a int"),
    ],
)
def test_wrong_questions_are_named(call, error, words, model, tokenizer):
    with pytest.raises(error, match=words):
        call(model, tokenizer)


def test_an_answer_ends_where_the_model_can_read_no_further(model, tokenizer):
    window = model.config.max_position_embeddings
    new = generate_tokens(model, tokenizer, [[5] * (window - 3)], max_new_tokens=10**9)
    assert len(new[0]) <= 3


def test_a_draw_follows_the_probabilities():
    torch.manual_seed(0)
    logits = torch.tensor([[0.0, -math.inf, 1.0, 2.0, -math.inf], [-math.inf, 0.0, -math.inf, 0.0, 3.0]])
    n, temperature = 20_000, 0.8
    drawn = _pick(logits.repeat(n, 1), temperature).view(n, 2)
    for row in range(2):
        expected = torch.softmax(logits[row] / temperature, -1)
        found = drawn[:, row].bincount(minlength=5) / n
        assert (found[expected == 0] == 0).all()
        assert ((found - expected).abs() <= 4 * (expected * (1 - expected) / n).sqrt()).all()
    assert _pick(torch.tensor([[0.0, -math.inf], [0.0, math.inf]]), 0.0).tolist() == [0, 1]
    for temperature in (0.0, 1.0):
        with pytest.raises(FloatingPointError, match="gives nan"):
            _pick(torch.tensor([[0.0, 1.0], [0.0, math.nan]]), temperature)


def test_the_attention_of_training_is_back_after_generating(tokenizer):
    model = make_model(tokenizer)
    model.set_attn_implementation("eager")
    used, real = [], _decode
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(generation, "_decode", lambda m, *rest: used.append(m.config._attn_implementation) or real(m, *rest))
        answers = generate_responses(model, tokenizer, ["one", "two"], max_new_tokens=5)
        patched.setattr(generation, "_decode", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            generate_responses(model, tokenizer, "one", max_new_tokens=5)
    assert used == ["sdpa"] and model.config._attn_implementation == "eager"
    model.set_attn_implementation("sdpa")
    assert generate_responses(model, tokenizer, ["one", "two"], max_new_tokens=5) == answers


@pytest.fixture
def large_and_fast(monkeypatch):
    """The tiny model counts as a large one, on a CPU that is fast at bf16."""
    monkeypatch.setattr(generation, "LARGE", 1)
    monkeypatch.setattr(generation, "bf16_is_fast", lambda device: True)


def test_large_weights_are_copied_in_bf16_and_left_as_they_are(tokenizer, large_and_fast):
    model = make_model(tokenizer)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with quick_weights(model) as quick:
        assert {weight.dtype for weight in quick.parameters()} == {torch.bfloat16} and quick.config is not model.config
        assert quick.lm_head.weight is quick.model.embed_tokens.weight  # tied, so copied once
        assert quick.model.rotary_emb.inv_freq.dtype == torch.float32
        copied = sum(weight.numel() for weight in quick.parameters())
        assert copied == sum(weight.numel() for weight in model.parameters())
        ids = torch.tensor([[5, 6, 7, 8]])
        close = quick(input_ids=ids).logits.float() - model(input_ids=ids).logits
        assert 0 < close.abs().max() < 0.1 * model(input_ids=ids).logits.std() * 10
    assert model.config._attn_implementation == "sdpa" and all(w.dtype == torch.float32 for w in model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_large_models_generate_with_the_copy_and_a_trainers_wrapper_is_not_used(tokenizer, large_and_fast, monkeypatch):
    model, types = make_model(tokenizer), []
    forward = type(model).forward

    def spy(self, *args, **kwargs):
        types.append(self.dtype)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", spy)
    model.forward = lambda *args, **kwargs: pytest.fail("the float32 model's wrapper was called")
    generate_tokens(model, tokenizer, [[5, 6], [7]], 12)
    assert types and set(types) == {torch.bfloat16}
    del model.forward
    types.clear()
    generate_tokens(model, tokenizer, [[5, 6], [7]], 4)  # so few that a copy does not pay
    assert set(types) == {torch.float32}


@pytest.mark.parametrize("why", ["slow", "small", "halves"])
def test_elsewhere_the_model_itself_generates(why, tokenizer, large_and_fast, monkeypatch):
    model = make_model(tokenizer)
    if why == "slow":
        monkeypatch.setattr(generation, "bf16_is_fast", lambda device: False)
    elif why == "small":
        monkeypatch.setattr(generation, "LARGE", 10**9)
    else:
        model = model.bfloat16()
    with quick_weights(model) as quick:
        assert quick is model


def test_no_mask_is_passed_where_nothing_is_padded(model, tokenizer, monkeypatch):
    masks, forward = [], type(model).forward

    def spy(self, *args, **kwargs):
        masks.append(kwargs["attention_mask"] is not None)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(type(model), "forward", spy)
    generate_tokens(model, tokenizer, [[5, 6], [7, 8]], 3)
    assert not any(masks)
    masks.clear()
    generate_tokens(model, tokenizer, [[5, 6], [7]], 3)
    assert all(masks)


def test_a_batch_has_no_more_rows_than_its_cache_allows(model, tokenizer, monkeypatch):
    prompts, seen, decode = [[5, 6, 7]] * 7, [], generation._decode
    monkeypatch.setattr(
        generation, "_decode", lambda model, batch, *rest: seen.append(len(batch)) or decode(model, batch, *rest)
    )
    whole = generate_tokens(model, tokenizer, prompts, 4)
    monkeypatch.setattr(generation, "CACHE_BYTES", 3 * cache_bytes(model.config, 1, 7))
    assert generate_tokens(model, tokenizer, prompts, 4) == whole and seen == [7, 3, 3, 1]
    assert generation._most_rows(SimpleNamespace(dtype=torch.float32, config=GPT2Config()), 10) > 10**9


# Tokenizers that add tokens of their own

ADDED = {
    "an end": "$A <|endoftext|>",
    "two ends": "$A <|im_end|> <|endoftext|>",
    "a begin and an end": "<|im_start|> $A <|endoftext|>",
    "a begin": "<|im_start|> $A",
    "nothing": "$A",
}


@pytest.fixture(params=ADDED)
def adding(request):
    """A tokenizer that puts tokens of its own around a text; `.before`: those that stand before it."""
    tokenizer = make_tokenizer()
    names = re.findall(r"<\S+>", ADDED[request.param])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=ADDED[request.param], special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    )
    tokenizer.before = [tokenizer.convert_tokens_to_ids("<|im_start|>")] if "begin" in request.param else []
    return tokenizer


@pytest.mark.parametrize("text", ["one two", "a", " ", "12 + 34 = 46", "one<|endoftext|>", "<|im_start|>user\none", "é 日"])
def test_text_is_continued_before_the_end_that_a_tokenizer_appends(text, adding, model, tokenizer):
    plain = tokenizer(text).input_ids
    assert text_ids(adding, text) == adding.before + plain
    rows = generate_tokens(model, tokenizer, [adding.before + plain], 6)
    expected = tokenizer.batch_decode(rows, skip_special_tokens=True)
    assert complete_text(model, adding, [text], 6, stop=None) == expected
    begun = tokenizer.decode(adding.before) + text
    if not (adding.before and text.startswith("<|")):
        assert next_token_table(model, adding, text).equals(next_token_table(model, tokenizer, begun))


def test_an_empty_text_is_a_begin_token_or_refused(model, tokenizer, adding):
    adding.bos_token = "<|im_start|>"
    assert text_ids(adding, "") == [adding.bos_token_id]
    assert len(next_token_table(model, adding, "")) == 8 and isinstance(complete_text(model, adding, "", 3), str)
    for call in (lambda: next_token_table(model, tokenizer, ""), lambda: complete_text(model, tokenizer, ["one", ""])):
        with pytest.raises(ValueError, match=r"Prompt [01] is empty, and the tokenizer has no token that begins a text"):
            call()


@pytest.mark.parametrize(
    ("text", "k", "error", "words"),
    [
        ("one", -1, ValueError, "k=-1 asks for nothing: give a whole number from 1"),
        ("one", 0, ValueError, "k=0 asks for nothing"),
        ("one", "8", TypeError, "k='8' is a str"),
        ("one", True, TypeError, "k=True is a bool"),
        ("one", 2.0, TypeError, "k=2.0 is a float"),
        ("word " * 3000, 8, ValueError, "Prompt 0 has .* tokens, and the model reads at most 512"),
        (None, 8, TypeError, "The text is a NoneType, and not a text"),
        (["one"], 8, TypeError, "The text is a list"),
        ("a\ud800", 8, ValueError, "The text holds"),
    ],
)
def test_what_no_table_can_be_made_of_is_named(text, k, error, words, model, tokenizer):
    with pytest.raises(error, match=words):
        next_token_table(model, tokenizer, text, k)


def test_a_table_has_no_more_rows_than_there_are_tokens(model, tokenizer):
    assert len(next_token_table(model, tokenizer, "one", k=10**9)) == len(tokenizer)


@pytest.mark.parametrize("place", ["model.norm.weight", "lm_head.weight", "model.layers.0.mlp.up_proj.weight"])
def test_a_model_of_nan_writes_nothing(place, tokenizer):
    """Greedy answers were "", and a score of 0% was made of them."""
    broken = make_model(tokenizer)
    with torch.no_grad():
        broken.get_parameter(place).view(-1)[0] = math.nan
    for call in (
        lambda: generate_responses(broken, tokenizer, QUESTIONS, max_new_tokens=3),
        lambda: generate_responses(broken, tokenizer, "one", max_new_tokens=3, temperature=1.0),
        lambda: complete_text(broken, tokenizer, "!one", 3),
        lambda: next_token_table(broken, tokenizer, "!one"),
    ):
        with pytest.raises(FloatingPointError, match="gives nan for a next token"):
            call()
