import copy
import importlib.util
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import make_tokenizer
from tiny_trainers import KINDS, save_tiny_model, tiny_rows, tiny_trainer

from helper.models import CHATML_TEMPLATE, PLAIN_TEMPLATE
from helper.rewards import boxed_format_reward, completion_text, graded_reward, random_reward, reward_func
from helper.trainers.alarms import TrainingAlarms, add_alarms
from helper.trainers.label_checks import check_chat_template, check_trained_end
from helper.trainers.reward_checks import check_reward, guard_reward

SAMPLES = [(r"So \boxed{72}.", "72"), (r"So \boxed{71}.", "72"), ("So 72.", "72")]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


# The check before training


def test_a_good_reward_is_shown_with_its_samples():
    table = check_reward(reward_func, SAMPLES)
    assert table.columns.tolist() == ["completion", "ground_truth", "reward"]
    assert table["reward"].tolist() == [1.0, 0.0, 0.0]
    assert check_reward(graded_reward, SAMPLES)["reward"].tolist() == [1.0, 0.1, 0.0]
    assert check_reward(boxed_format_reward, SAMPLES, as_messages=False)["reward"].tolist() == [1.0, 1.0, 0.0]
    assert set(check_reward(random_reward, SAMPLES * 4)["reward"]) == {0.0, 1.0}


def test_samples_may_be_columns():
    def by_length(completions, prompts, wanted, **kwargs):
        assert prompts == ["Say a.", "Say b."]
        return [-float(abs(len(completion_text(c)) - w)) for c, w in zip(completions, wanted, strict=True)]

    samples = [{"completion": t, "wanted": 3, "prompt": p} for t, p in [("abc", "Say a."), ("a", "Say b.")]]
    assert check_reward(by_length, samples)["reward"].tolist() == [0.0, -2.0]


def without_kwargs(completions, ground_truth):
    return [0.0 for _ in completions]


def wrong_name(texts, **kwargs):
    return [0.0 for _ in texts]


def unknown_column(completions, answer, **kwargs):
    return [0.0 for _ in completions]


def no_return(completions, **kwargs):
    [0.0 for _ in completions]


def tensor(completions, **kwargs):
    return torch.zeros(len(completions))


def array_of_bools(completions, **kwargs):
    return np.array([True, False])


def one_number(completions, **kwargs):
    return 0.5


def texts(completions, **kwargs):
    return ["1.0" for _ in completions]


def list_of_tensors(completions, **kwargs):
    return [torch.tensor(1.0) for _ in completions]


@pytest.mark.parametrize(
    "function, words",
    [
        (without_kwargs, r"without_kwargs: add \*\*kwargs: the trainer also passes prompts, completion ids"),
        (wrong_name, 'wrong_name: its first parameter must be named "completions"'),
        (unknown_column, 'unknown_column asks for "answer".* columns: completion, ground_truth'),
        (no_return, "no_return returned None: does it end with `return`"),
        (tensor, r"tensor returned a Tensor of shape \(3,\): return a list of floats"),
        (array_of_bools, r"array_of_bools returned a ndarray of shape \(2,\)"),
        (one_number, "one_number returned a float: return a list"),
        (texts, r"texts gave '1.0' for sample 0 \('So .*72.*a float is wanted, not a str"),
        (list_of_tensors, "list_of_tensors gave tensor.* for sample 0 .* not a Tensor"),
        ("a name", "A reward function is wanted, not 'a name'"),
        (int, "int: Python cannot say which parameters it takes"),
    ],
)
def test_a_reward_of_the_wrong_kind_is_named(function, words):
    with pytest.raises(TypeError, match=words):
        check_reward(function, SAMPLES)


def one_bad(value):
    def one_bad(completions, **kwargs):
        return [0.0, value, 1.0][: len(completions)]

    return one_bad


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, 1e39, -(10**400)])
def test_a_reward_that_is_no_finite_number_is_named_with_its_sample(value):
    with pytest.raises(ValueError, match=rf"one_bad gave {shown(value)} for sample 1 \('So .*71"):
        check_reward(one_bad(value), SAMPLES)
    with pytest.raises(ValueError, match=rf"one_bad gave {shown(value)} for completion 1 \('71"):
        guard_reward(one_bad(value))(completions=["72", "71", "70"])


def shown(value):
    return "-10+[.]{3}" if isinstance(value, int) else re.escape(repr(value))


def test_none_may_be_meant():
    assert check_reward(one_bad(None), SAMPLES, allow_none=True)["reward"].isna().tolist() == [False, True, False]


def test_numbers_of_other_kinds_are_taken():
    def kinds(completions, **kwargs):
        return [1, np.float32(0.5), np.bool_(True)]

    assert check_reward(kinds, SAMPLES)["reward"].tolist() == [1, 0.5, True]


def test_length_constant_and_chance():
    with pytest.raises(ValueError, match="<lambda> returned 1 rewards for 3 samples: return one for each"):
        check_reward(lambda completions, **kwargs: [0.0], SAMPLES)
    with pytest.raises(ValueError, match="gives 0.0 for all 3 samples. A constant reward trains nothing"):
        check_reward(lambda completions, **kwargs: [0.0] * len(completions), SAMPLES)
    calls = []

    def counting(completions, **kwargs):
        calls.append(1)
        return [0.0, float(len(calls)), 7.0]

    with pytest.raises(ValueError, match=r"counting gave 1.0, then 2.0 for sample 1 .*deterministic=False"):
        check_reward(counting, SAMPLES)
    assert len(check_reward(counting, SAMPLES, deterministic=False)) == 3
    with pytest.raises(ValueError, match="two samples or more"):
        check_reward(reward_func, SAMPLES[:1])
    with pytest.raises(ValueError, match=r"Sample 1 has \['text'\]"):
        check_reward(reward_func, [{"completion": "a"}, {"text": "b"}])


def test_an_error_inside_names_the_sample():
    def divides(completions, **kwargs):
        return [1 / completion_text(c).count("boxed") for c in completions]

    with pytest.raises(ValueError, match=r"divides fails on sample 2 \('So 72.'\): ZeroDivisionError"):
        check_reward(divides, SAMPLES)

    def takes_text(completions, **kwargs):
        return [float(c.endswith(".")) for c in completions]

    with pytest.raises(ValueError, match=r"sample 0 .*AttributeError.*Completions are message lists: completion_text"):
        check_reward(takes_text, SAMPLES)


def test_long_words_are_cut_to_one_line():
    def fails(completions, **kwargs):
        raise ValueError("first line\n" + "more\n" * 100)

    def long_text(completions, **kwargs):
        return ["word " * 10_000] * len(completions)

    def long_number(completions, **kwargs):
        return [10**5000] * len(completions)

    for function, words in ((fails, "ValueError: first line. Comp"), (long_text, "word w..."), (long_number, "too long")):
        with pytest.raises((TypeError, ValueError)) as caught:
            check_reward(function, SAMPLES)
        assert words in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "change", [lambda c: c.pop(), lambda c: c.clear(), lambda c: c[0].pop(0), lambda c: c[0][0].update(content="x")]
)
def test_a_reward_that_changes_its_inputs_is_named(change):
    def changes(completions, **kwargs):
        change(completions)
        return [0.0, 1.0]

    samples = [("So 72.", "72"), ("So 71.", "72")]
    with pytest.raises(ValueError, match=r"^changes: it changes its inputs \(completions\)"):
        check_reward(changes, samples)
    with pytest.raises(ValueError, match=r"^changes, step 3: it changes its inputs"):
        completions = [[{"role": "assistant", "content": text}] for text, _ in samples]
        guard_reward(changes)(completions=completions, trainer_state=SimpleNamespace(global_step=2))


def test_a_reward_that_changes_another_column_is_named():
    def changes(completions, ground_truth, **kwargs):
        ground_truth.sort()
        return [0.0, 1.0, 0.0]

    samples = [("a", "2"), ("b", "1"), ("c", "0")]
    with pytest.raises(ValueError, match=r"changes its inputs \(ground_truth\)"):
        check_reward(changes, samples)
    kept = check_reward(
        lambda completions, table, **kwargs: [0.0, 1.0], [{"completion": t, "table": np.ones(2)} for t in "ab"]
    )
    assert len(kept) == 2  # arrays are no reason to stumble


@pytest.mark.parametrize(
    "samples, error, words",
    [
        ("So 72.", TypeError, "The samples are a str, not a list"),
        (None, TypeError, "The samples are a NoneType"),
        ({"completion": ["a", "b"]}, TypeError, "The samples are a dict"),
        (["So 72.", "So 71."], TypeError, "Sample 0 is a str"),
        ([None, None], TypeError, "Sample 0 is a NoneType"),
        ([("a", "b", "c")] * 2, TypeError, "Sample 0 is a tuple of length 3"),
        ([("a", "b"), (None, "b")], TypeError, "The completion of sample 1 is a NoneType"),
        ([{"completions": "a"}] * 2, ValueError, "Sample 0 has a column `completions`, which the trainer passes"),
        ([{"completion": "a", "prompts": "b"}] * 2, ValueError, "column `prompts`"),
        ([{"completion": "a", "completion_ids": "b"}] * 2, ValueError, "column `completion_ids`"),
    ],
)
def test_samples_of_the_wrong_kind_are_named(samples, error, words):
    with pytest.raises(error, match=words) as caught:
        check_reward(reward_func, samples)
    assert 'a sample is a pair ("So 72.", "72")' in str(caught.value)


# The guard during training


def test_a_guarded_reward_is_the_same_function():
    guarded = guard_reward(reward_func)
    assert guarded.__name__ == "reward_func" and guarded.__doc__ == reward_func.__doc__
    completions, truths = [text for text, _ in SAMPLES], [truth for _, truth in SAMPLES]
    assert guarded(completions=completions, ground_truth=truths, prompts=[]) == [1.0, 0.0, 0.0]
    with pytest.raises(TypeError, match=r"add \*\*kwargs"):
        guard_reward(without_kwargs)


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_a_guarded_reward_stops_the_run_at_its_step(value, tiny, tmp_path):
    def late(completions, trainer_state, **kwargs):
        bad = trainer_state.global_step == 2
        return [0.0] * (len(completions) - 1) + [value if bad else 1.0]

    trainer = tiny_trainer("grpo", tiny, tmp_path)
    trainer.reward_funcs = [guard_reward(late)]
    with pytest.raises(ValueError, match=f"late, step 3 gave {value} for completion 3 "):
        trainer.train()


# Alarms


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_without_faults_raises_no_alarm(kind, tiny, tmp_path, capsys):
    changes = {"max_completion_length": 64, "generation_kwargs": {"max_new_tokens": 64}} if kind == "grpo" else {}
    trainer = tiny_trainer(kind, tiny, tmp_path, steps=8, learning_rate=1e-4, **changes)
    alarms = add_alarms(trainer)
    trainer.train()
    alarms.given.pop("completions_cut_off", None)  # a random model never ends
    assert not alarms.given and len(alarms._log) == 8


def test_add_alarms_twice_leaves_one(tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    add_alarms(trainer)
    alarms = add_alarms(trainer)
    assert [c for c in trainer.callback_handler.callbacks if isinstance(c, TrainingAlarms)] == [alarms]


def test_an_alarm_is_given_once(capsys):
    alarms = TrainingAlarms()
    log_all(alarms, [{"loss": 0.0, "reward": 0.0, "frac_reward_zero_std": 1.0}] * 20)
    assert capsys.readouterr().out.count("\n") == 1 and list(alarms.given) == ["no_spread"]
    alarms.on_train_begin(None, SimpleNamespace(global_step=0), None)
    assert not alarms.given


def log_all(alarms, logs, beta=0.1):
    args = SimpleNamespace(beta=beta, max_completion_length=32)
    for step, row in enumerate(logs, start=1):
        alarms.on_log(args, SimpleNamespace(global_step=step), None, logs={"learning_rate": 1e-4, **row})


def grpo(reward=0.5, spread=0.5, entropy=1.0, cut=0.0):
    return {
        "loss": 0.0, "reward": reward, "frac_reward_zero_std": spread, "entropy": entropy,
        "completions/clipped_ratio": cut,
    }  # fmt: skip


def dpo(margin=0.1, chosen=0.1, logp=-20.0):
    return {
        "loss": 0.69, "rewards/margins": margin, "rewards/chosen": chosen, "logps/chosen": logp, "entropy": 1.0,
        "mean_token_accuracy": 0.5,
    }  # fmt: skip


def sft(loss=1.0, accuracy=0.5, entropy=1.0):
    return {"loss": loss, "mean_token_accuracy": accuracy, "entropy": entropy}


@pytest.mark.parametrize(
    "logs, name, words",
    [
        ([grpo(spread=1.0, reward=0.0)] * 3, "no_spread", "equal rewards (mean 0.00)"),
        ([grpo(reward=math.inf)], "reward_not_finite", "the mean reward is inf"),
        ([grpo(reward=None)], "reward_not_finite", "the mean reward is nan"),
        ([grpo()] + [grpo(entropy=0.01)] * 3, "entropy_collapsed", "0.0100 nats"),
        ([grpo(cut=0.9)] * 3, "completions_cut_off", "90% of the completions are cut off at max_completion_length=32"),
        ([grpo(0.6)] * 5 + [grpo(0.1)] * 5, "reward_fell", "from 0.60 at its best"),
        ([dpo(0.0, 0.0)] * 3, "pairs_alike", "0.693"),
        ([dpo(2.0, -2.0, -60.0)] * 3, "chosen_unlearned", "log-probability -60, -40 under the first model"),
        ([sft(0.0, 0.0, 0.0)] * 3, "nothing_trained", "every label is masked"),
    ],
)
def test_each_alarm(logs, name, words, capsys):
    alarms = TrainingAlarms()
    log_all(alarms, logs)
    assert list(alarms.given) == [name] and words in alarms.given[name]
    assert capsys.readouterr().out.startswith("Alarm at step ")


@pytest.mark.parametrize(
    "logs",
    [
        [grpo(spread=1.0)] * 2 + [grpo(spread=0.9)] + [grpo(spread=1.0)] * 2,
        [grpo(entropy=e) for e in (0.06, 0.05, 0.047, 0.05, 0.04, 0.026, 0.03)],  # a good run of the lesson
        [grpo(reward=r) for r in (0.36, 0.47, 0.45, 0.48, 0.46, 0.53, 0.54, 0.76, 0.62, 0.79, 0.72)],
        [grpo(reward=r) for r in (0.02, 0.06, 0.0, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0)],  # too little to fall
        [grpo(cut=c) for c in (0.9, 0.8, 0.5, 0.4, 0.9)],
        [dpo(0.0, 0.0), dpo(), dpo()],  # the first step is always 0
        [dpo(0.0, 0.0) | {"learning_rate": 0.0}] * 4,  # and so is a warm-up from 0
        [dpo(2.0, -0.5, -25.0)] * 5,  # 5 nats less
        [sft(0.01, 1.0, 0.02), sft(8.0, 0.0, 3.0), sft(8.0, 0.0, 3.0), sft(8.0, 0.0, 3.0)],
    ],
)
def test_no_false_alarm(logs):
    alarms = TrainingAlarms()
    log_all(alarms, logs)
    assert not alarms.given


def test_logs_of_evaluation_and_of_the_end_are_passed_over():
    alarms = TrainingAlarms()
    log_all(alarms, [{"eval_loss": math.nan}, {"train_loss": math.nan, "train_runtime": 1.0}])
    assert not alarms.given and not alarms._log


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights(value, tiny, tmp_path):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    add_alarms(trainer)
    plain, steps = trainer.compute_loss, []

    def spoiled(*args, **kwargs):
        steps.append(1)
        return plain(*args, **kwargs) * (value if len(steps) == 3 else 1.0)

    trainer.compute_loss = spoiled
    with pytest.raises(FloatingPointError, match="stopped in step 3: the gradient is nan.*smaller learning_rate"):
        trainer.train()
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(FloatingPointError, match="stopped in step 2: the loss is nan"):
        log_all(TrainingAlarms(), [sft(), sft(math.nan)])


def test_every_alarm_reads_names_that_the_trainers_log(tiny, tmp_path):
    logged = {"learning_rate"}
    for kind in KINDS:
        trainer = tiny_trainer(kind, tiny, tmp_path / kind, steps=1)
        trainer.train()
        logged |= set(trainer.state.log_history[0])
    assert set(grpo()) | set(dpo()) | set(sft()) <= logged


# The chat template and the end token


def test_our_templates_pass(tokenizer, capsys):
    check_chat_template(tokenizer, own=True)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "template, words",
    [
        (None, "no chat template"),
        (CHATML_TEMPLATE.replace("{% if add_generation_prompt %}", "{% if false %}"), "add_generation_prompt"),
        (CHATML_TEMPLATE.replace("<|im_end|>", "\n"), "closes the assistant's turn with no special token"),
        (CHATML_TEMPLATE.replace("<|im_end|>", "<|end|>"), r"<\|end\|>, in the chat template, is not one token"),
        ("{% for message in messages %}", "The chat template fails on .* TemplateSyntaxError: "),
        ("{{ nothing.there }}", "The chat template fails on .* UndefinedError: 'nothing' is undefined"),
        ("{{ raise_exception('No.') }}", "The chat template fails on .* TemplateError: No"),
        ("{{ 1 // 0 }}", "The chat template fails on .* ZeroDivisionError"),
        (CHATML_TEMPLATE.replace("{% else %}{{ message['content']", "{% else %}{{ ''"), "drops the user's message"),
        (CHATML_TEMPLATE.replace("{{ message['content'] + '<|im_end|>' }}", "{{ '<|im_end|>' }}"), "drops the assistant's"),
        (
            CHATML_TEMPLATE.replace("'<|im_start|>assistant\n' }}", "'BOT:' }}"),
            r"turn with 'BOT:' for generating, but with '<",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_on(template, words):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=words):
        check_chat_template(tokenizer)


@pytest.mark.parametrize("name", ["qwen2_5", "qwen2_5_training", "qwen3", "qwen3_training", "qwen3_instruct_2507"])
def test_the_templates_of_the_library_pass(name):
    tokenizer = make_tokenizer()
    folder = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    tokenizer.chat_template = (folder / f"{name}.jinja").read_text("utf-8")
    check_chat_template(tokenizer)


@pytest.mark.parametrize("template, pad", [(PLAIN_TEMPLATE, "<|endoftext|>"), (CHATML_TEMPLATE, "<|im_end|>")])
def test_pad_as_end_token(template, pad, capsys):
    tokenizer = make_tokenizer(template=template)
    tokenizer.pad_token = pad
    check_chat_template(tokenizer)
    assert capsys.readouterr().out.startswith("Warning: pad token = end token")
    with pytest.raises(ValueError, match="Give padding a token of its own"):
        check_chat_template(tokenizer, own=True)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no pad token"):
        check_chat_template(tokenizer)


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_the_end_of_the_turn_is_trained(kind, tiny, tmp_path):
    trainer = tiny_trainer(kind, tiny, tmp_path)
    state = torch.get_rng_state()
    assert check_trained_end(trainer, trainer.processing_class) == 1.0
    assert torch.equal(torch.get_rng_state(), state)  # looking changes no run


def test_an_end_that_is_not_trained(tiny, tmp_path, tokenizer):
    trainer = tiny_trainer("sft", tiny, tmp_path)
    rows = [trainer.train_dataset[i] for i in range(4)]
    batch, end = trainer.data_collator(rows), tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert check_trained_end(batch, tokenizer) == 1.0
    masked = copy.deepcopy(batch)
    masked["labels"][masked["input_ids"] == end] = -100
    with pytest.raises(ValueError, match="which ends a turn, is in no row's labels"):
        check_trained_end(masked, tokenizer)
    masked["labels"][:] = -100
    with pytest.raises(ValueError, match="No token is trained"):
        check_trained_end(masked, tokenizer)
    padded = copy.deepcopy(batch)
    row = int((padded["attention_mask"] == 0).any(1).nonzero()[-1])
    padded["labels"][row] = padded["input_ids"][row]
    with pytest.raises(ValueError, match=f"Row {row} is trained on its padding"):
        check_trained_end(padded, tokenizer)
    batch["labels"][0][batch["input_ids"][0] == end] = -100
    assert check_trained_end(batch, tokenizer) == 0.75


def test_rows_that_are_cut_off_are_counted(tiny, tmp_path):
    rows = tiny_rows("sft")[:3]
    rows += [{**rows[0], "completion": [{"role": "assistant", "content": "one two three " * 20}]}]
    trainer = tiny_trainer("sft", tiny, tmp_path, rows=rows, max_length=48)
    assert check_trained_end(trainer, trainer.processing_class) == 0.75


def test_the_end_must_be_a_label(tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with pytest.raises(ValueError, match="is in no row's labels"):
        check_trained_end({"input_ids": [[5, 6, end]], "labels": [[-100, -100, 9]]}, tokenizer)
    for kind in (list, np.array, torch.tensor):
        assert check_trained_end({"labels": kind([[-100, 7, end]])}, tokenizer) == 1.0
        assert check_trained_end({"input_ids": kind([5, end]), "completion_mask": kind([0, 1])}, tokenizer) == 1.0


@pytest.mark.parametrize(
    "batch, error, words",
    [
        ({"input_ids": [[1]]}, ValueError, "The batch has input_ids: it needs `labels`, or `input_ids` and `comp"),
        ({}, ValueError, "The batch has nothing: it needs `labels`"),
        ({"labels": [[1, 2], [3]]}, ValueError, "`labels` is no table of numbers: its rows must be of one length"),
        ([[1, 2]], TypeError, "A trainer or a batch is wanted, not a list"),
    ],
)
def test_what_is_no_batch_is_named(batch, error, words, tokenizer):
    with pytest.raises(error, match=words):
        check_trained_end(batch, tokenizer)
