"""Reward models and their training loop against the library's model and RewardTrainer, and against planted mistakes.

The mistakes are changes of the source: each must make a check fail, or the check would prove nothing.
"""

import copy
import importlib
import inspect
import os
import random
import signal
from functools import partial
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny import make_model, make_tokenizer
from tiny_trainers import WORDS, tiny_rows
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from helper.algorithms import Run, ValueModel, reward_models, train_grpo, train_ppo, train_reward_model
from helper.machine.sizes import PAD_TO
from helper.models import end_of_turn_id
from helper.trainers.interrupts import TrainingStopped
from helper.trainers.reward_checks import check_reward

CLOSE = 1e-5  # of the largest value; what float32 leaves between two orders of the same sums
STEPS, RATE = 6, 1e-3
LOOP = importlib.import_module("helper.algorithms.train_reward_model")  # the module; the package has the function
FUNCTIONS = SimpleNamespace(**vars(reward_models), train_reward_model=train_reward_model)


def talk(question: str, answer: str) -> list[dict]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


QUESTIONS, ANSWERS = ["one", "what is the capital of a place?", "12 + 34", "a"], ["two", "seven " * 9, "46", ""]
TALKS = [talk(question, answer) for question, answer in zip(QUESTIONS, ANSWERS)]


def make_rankings(size: int) -> list[list[list[dict]]]:
    """Five rankings of `size` answers, of different lengths."""
    words = list(enumerate(WORDS[:5]))
    return [[talk(word * 2, f"{word} " * (1 + (i + j) % 4)) for j in range(size)] for i, word in words]


@pytest.fixture(scope="module")
def loaded(tiny):
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)


@pytest.fixture
def reward_model(loaded):
    """The same tiny model for each test, with weights of its own."""
    return copy.deepcopy(loaded)


def changed(right: str, wrong: str) -> SimpleNamespace:
    """The functions of both modules as if they were one, with one piece of their source replaced."""
    source, names = inspect.getsource(reward_models) + inspect.getsource(LOOP), {"__name__": "changed"}
    source = source.replace("from helper.algorithms.reward_models import check_model, scores_of\n", "")
    assert source.count(right) == 1, f"{right!r} stands {source.count(right)} times in the source"
    exec(source.replace(right, wrong), names)
    return SimpleNamespace(**names)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, name: str) -> None:
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    assert difference <= CLOSE * largest + 1e-9, f"{name}: {difference:.2e} apart, of {largest:.2e}"


# Token ids


def check_ids(functions, model, tokenizer, *_) -> None:
    """What the chat template gives, the padding behind it; whatever the tokenizer adds to a text or where it pads."""
    ids, mask = functions.conversation_ids(tokenizer, TALKS)
    assert ids.shape == mask.shape and mask.shape[1] % PAD_TO == 0 and mask.shape[1] - mask.sum(1).max() < PAD_TO
    for row, conversation in enumerate(TALKS):
        alone = tokenizer.apply_chat_template(conversation, return_dict=False)
        assert end_of_turn_id(tokenizer) in alone[-2:]
        assert ids[row].tolist() == alone + [tokenizer.pad_token_id] * (len(ids[row]) - len(alone))
        assert mask[row].tolist() == [1] * len(alone) + [0] * (len(ids[row]) - len(alone))


def eager_tokenizer():
    """One that pads on the left and adds a token to each text, as many do."""
    tokenizer = make_tokenizer()
    end = (tokenizer.eos_token, tokenizer.eos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A <|endoftext|>", special_tokens=[end])
    tokenizer.padding_side = "left"
    assert tokenizer("one").input_ids[-1] == end[1]
    return tokenizer


@pytest.mark.parametrize("make", [make_tokenizer, eager_tokenizer])
def test_ids_are_those_of_the_chat_template(make):
    check_ids(reward_models, None, make())


# Scores


def alone(model, tokenizer, conversation: list[dict]) -> float:
    """The library's score of one conversation, without padding."""
    ids = tokenizer.apply_chat_template(conversation, return_dict=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return model(ids).logits.item()


def check_scores(functions, model, tokenizer, *_) -> None:
    """Those of each conversation alone, in their order, whatever stands beside them."""
    expected = torch.tensor([alone(model, tokenizer, conversation) for conversation in TALKS])
    assert (expected[:, None] - expected).abs().fill_diagonal_(1).min() > 0.01  # of different conversations, different
    for batch_size in (1, 3, 64):
        scores = functions.score_conversations(model, tokenizer, TALKS, batch_size)
        assert scores.shape == (4,) and scores.dtype == torch.float32
        assert_close(scores, expected, f"batches of {batch_size}")
    assert_close(functions.score_conversations(model, tokenizer, TALKS[::-1]), expected.flip(0), "the other way round")
    assert functions.score_conversations(model, tokenizer, []).shape == (0,)


def test_scores_are_the_librarys_of_each_conversation_alone(reward_model, tokenizer):
    check_scores(reward_models, reward_model, tokenizer)


def test_scores_can_be_used_in_a_loss(reward_model, tokenizer):
    weight = torch.ones(4, requires_grad=True)
    scores = reward_models.score_conversations(reward_model, tokenizer, TALKS)
    (weight * scores).sum().backward()  # an inference tensor could not be saved for this
    assert torch.equal(weight.grad, scores)


@pytest.mark.parametrize("pad", ["<|endoftext|>", "<|im_start|>"])
def test_scores_do_not_change_with_what_stands_in_the_padding(pad, reward_model, tokenizer):
    expected = reward_models.score_conversations(reward_model, tokenizer, TALKS)
    other = make_tokenizer()
    other.pad_token = pad
    reward_model.config.pad_token_id = other.pad_token_id
    assert other.pad_token_id not in (None, tokenizer.pad_token_id)
    assert_close(reward_models.score_conversations(reward_model, other, TALKS), expected, pad)


def with_dropout(model):
    """The model in the mode of training, which would change its scores."""
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model.train()


def check_mode(functions, model, tokenizer, *_) -> None:
    """Dropout is off while scoring, and the mode is as before, also after an error."""
    expected = functions.score_conversations(model.eval(), tokenizer, TALKS)
    assert not model.training and not model.model.training
    with_dropout(model)
    assert torch.equal(functions.score_conversations(model, tokenizer, TALKS), expected)
    assert model.training and model.model.training
    with pytest.raises(TypeError):
        functions.score_conversations(model, tokenizer, [None])
    assert model.training


def test_scoring_keeps_the_mode_of_the_model(reward_model, tokenizer):
    check_mode(reward_models, reward_model, tokenizer)


def check_refusals(functions, model, tokenizer, folder) -> None:
    """A model whose scores would be of something else is refused: the library's are silent, or of no help."""
    train = partial(functions.train_reward_model, rankings=make_rankings(2), folder=folder, steps=1, learning_rate=RATE)
    for pad, words in [(None, "pad token is None, the tokenizer's 1"), (2, "pad token is 2, the tokenizer's 1")]:
        model.config.pad_token_id = pad
        for run in (partial(functions.score_conversations, conversations=TALKS), train):
            with pytest.raises(ValueError, match=words + ": set model.config.pad_token_id = tokenizer.pad_token_id"):
                run(model, tokenizer=tokenizer)
    language_model = make_model(tokenizer)
    for run in (partial(functions.score_conversations, conversations=TALKS), train):
        with pytest.raises(ValueError, match="2 outputs, not one: load it with num_labels=1"):
            run(language_model, tokenizer=tokenizer)
    assert not list(folder.iterdir())


def test_a_model_with_another_padding_or_other_outputs_is_refused(reward_model, tokenizer, tmp_path):
    check_refusals(FUNCTIONS, reward_model, tokenizer, tmp_path)


def test_the_library_reads_the_wrong_token_where_the_padding_differs(reward_model, tokenizer):
    """Why it is refused."""
    ids, mask = reward_models.conversation_ids(tokenizer, TALKS)
    with torch.no_grad():
        right = reward_model(input_ids=ids, attention_mask=mask).logits[:, 0]
        reward_model.config.pad_token_id = 2
        wrong = reward_model(input_ids=ids, attention_mask=mask).logits[:, 0]
        reward_model.config.pad_token_id = None
        with pytest.raises(ValueError, match="batch sizes > 1"):
            reward_model(input_ids=ids, attention_mask=mask)
    assert (right - wrong).abs().max() > 0.1


# Scores as rewards


def check_reward_function(functions, model, tokenizer, *_) -> None:
    prompts, completions = [conversation[:1] for conversation in TALKS], [conversation[1:] for conversation in TALKS]
    columns = {"prompts": prompts, "completions": completions, "completion_ids": [[0]] * 4, "truth": [""] * 4}
    for sign in (-1, 1):
        model.score.weight.data.mul_(-1)
        scores = functions.score_conversations(model, tokenizer, TALKS).tolist()
        assert functions.learned_reward(model, tokenizer)(**columns) == scores
        low, _, _, high = sorted(scores)
        assert low > 0 if sign < 0 else high < 0  # the bound is met on both sides
        largest = (abs(low) + abs(high)) / 2
        kept = functions.learned_reward(model, tokenizer, largest)(**columns)
        assert kept == pytest.approx([max(-largest, min(largest, score)) for score in scores])
        centred = functions.learned_reward(model, tokenizer, 0.5 * (high - low), centre=high)(**columns)
        assert centred == pytest.approx([max(0.5 * (low - high), score - high) for score in scores])
    with pytest.raises(ValueError):
        functions.learned_reward(model, tokenizer)(prompts[:1], completions)


def test_a_reward_is_the_score_within_its_bounds(reward_model, tokenizer):
    check_reward_function(reward_models, reward_model, tokenizer)


def test_the_trainers_can_call_it(reward_model, tokenizer):
    table = check_reward(reward_models.learned_reward(reward_model, tokenizer), [("one two", "a"), ("seven", "b")])
    talks = [talk("", "one two"), talk("", "seven")]
    expected = reward_models.score_conversations(reward_model, tokenizer, talks)
    assert table["reward"].tolist() == expected.tolist()


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_a_policy_is_trained_with_it(method, reward_model, tokenizer, tmp_path):
    model, before = make_model(tokenizer), copy.deepcopy(reward_model.state_dict())
    settings = {"folder": tmp_path, "steps": 2, "learning_rate": RATE, "max_new_tokens": 6, "charts": False}
    rewards = [reward_models.learned_reward(reward_model, tokenizer, largest=2.0)]
    if method == "grpo":
        live = train_grpo(model, tokenizer, tiny_rows("grpo"), rewards, prompts_per_step=3, **settings)
    else:
        settings |= {"value_learning_rate": RATE, "responses_per_step": 6}
        live = train_ppo(model, ValueModel(model.model), tokenizer, tiny_rows("grpo"), rewards, **settings)
    paid = live.table()["reward"]
    assert len(paid) == 2 and paid.abs().max() <= 2 and paid.nunique() == 2
    assert model.trained_steps == 2
    assert all(torch.equal(values, before[name]) for name, values in reward_model.state_dict().items())


# Training


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """A checkpoint every second step."""
    monkeypatch.setattr(LOOP, "Run", partial(Run, save_every=2))


def train(model, tokenizer, folder, functions=FUNCTIONS, size=2, **changes):
    settings = {"steps": STEPS, "learning_rate": RATE, "rankings_per_step": 3, "charts": False} | changes
    rankings = settings.pop("rankings", None) or make_rankings(size)
    return functions.train_reward_model(model, tokenizer, rankings, folder=folder, **settings)


def check_step(functions, model, tokenizer, folder, size=3) -> None:
    """The loss and its gradient over all pairs of each ranking, each conversation scored alone; what is logged."""
    rankings = make_rankings(size)
    by_hand, drawn = copy.deepcopy(model), random.Random("0-1").sample(rankings, 3)
    scores = []
    for ranking in drawn:
        ids = [tokenizer.apply_chat_template(conversation, return_dict=False) for conversation in ranking]
        scores.append(torch.cat([by_hand(torch.tensor([each])).logits[:, 0] for each in ids]))
    pairs = [(row[i], row[j]) for row in scores for i in range(size) for j in range(i + 1, size)]
    loss = torch.stack([(1 + (worse - better).exp()).log() for better, worse in pairs]).mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1.0)
    row = train(with_dropout(model), tokenizer, folder, functions, rankings=rankings, steps=1).table().iloc[0]
    gaps = torch.cat([row[:-1] - row[1:] for row in scores])
    logged = {"loss": loss.item(), "margin": gaps.mean().item(), "grad_norm": norm.item()}
    assert {name: row[name] for name in logged} == pytest.approx(logged, rel=1e-4)
    assert row["accuracy"] == pytest.approx((gaps > 0).float().mean().item())
    theirs = dict(by_hand.named_parameters())
    for name, weight in model.named_parameters():
        assert_close(weight.grad, theirs[name].grad, name)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_step_is_that_of_the_pairs_of_each_ranking(size, reward_model, tokenizer, tmp_path):
    check_step(FUNCTIONS, reward_model, tokenizer, tmp_path, size)


def test_a_step_in_bfloat16_is_about_the_same(loaded, reward_model, tokenizer, tmp_path):
    exact = train(copy.deepcopy(loaded), tokenizer, tmp_path, steps=1).table().iloc[0]
    rough = train(reward_model, tokenizer, tmp_path, steps=1, bf16=True).table().iloc[0]
    assert exact["loss"] != rough["loss"] == pytest.approx(exact["loss"], rel=0.1)
    assert reward_model.score.weight.dtype == torch.float32


def library_trainer(model, tokenizer, folder, rankings) -> RewardTrainer:
    """The same pairs in one batch, and what has to be set so that its step is ours."""
    pairs = [{"chosen": chosen, "rejected": rejected} for chosen, rejected in rankings]
    config = RewardConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, max_steps=1, per_device_train_batch_size=len(pairs),
        learning_rate=RATE, lr_scheduler_type="constant", activation_checkpointing=False, logging_steps=1,
        save_strategy="no", report_to="none", disable_tqdm=True, dataloader_pin_memory=False, pad_to_multiple_of=PAD_TO,
    )  # fmt: skip
    assert (config.weight_decay, config.max_grad_norm, config.disable_dropout) == (0.0, 1.0, True)
    return RewardTrainer(model, config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)


def test_a_step_is_that_of_the_librarys_trainer(reward_model, tokenizer, tmp_path):
    """The gradient, the weights after it, and what is logged under the library's names."""
    rankings, before = make_rankings(2), copy.deepcopy(reward_model.state_dict())
    trainer = library_trainer(copy.deepcopy(reward_model), tokenizer, tmp_path / "theirs", rankings)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch).backward()
    torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
    gradients = {name: weight.grad.clone() for name, weight in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    trainer.train()
    live = train(reward_model, tokenizer, tmp_path / "ours", rankings=rankings, rankings_per_step=5, steps=1)
    theirs = dict(trainer.model.named_parameters())
    for name, weight in reward_model.named_parameters():
        assert_close(weight.grad, gradients[name], name)
        assert_close(weight, theirs[name], name)
        moved = (theirs[name] - before[name]).abs().max()
        assert moved > 0 and (weight - theirs[name]).abs().max() < 0.01 * moved, name
    ours, theirs = live.table().iloc[0], trainer.state.log_history[0]
    for name in ("loss", "accuracy", "margin", "grad_norm"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name


def test_it_learns_a_preference_that_holds_for_new_questions(reward_model, tokenizer, tmp_path):
    questions = [" ".join(words) for words in product(["one", "two", "three", "six"], repeat=3)]
    random.Random(0).shuffle(questions)
    pairs = [[talk(question, "four five"), talk(question, "seven")] for question in questions]
    settings = {"rankings": pairs[:48], "rankings_per_step": 8, "steps": 20}
    losses = train(reward_model, tokenizer, tmp_path, **settings).table()["loss"]
    assert losses.iloc[-3:].mean() < 0.1 * losses.iloc[0]
    held_out = [conversation for pair in pairs[48:] for conversation in pair]
    scores = reward_models.score_conversations(reward_model, tokenizer, held_out)
    assert (scores[::2] > scores[1::2]).all()


@pytest.mark.parametrize(
    "rankings, wanted, words",
    [
        ([], 3, "draws 3 of 0 rankings"),
        (make_rankings(2), 6, "draws 6 of 5 rankings: it must be from 1 to all of them"),
        (make_rankings(2), 0, "draws 0 of 5 rankings"),
        (make_rankings(2) + make_rankings(3), 3, r"Rankings of \[2, 3\] conversations: all must have the same number"),
        (make_rankings(1), 3, r"Rankings of \[1\] conversations: .* from 2"),
    ],
)
def test_what_cannot_be_ranked_is_refused(rankings, wanted, words, reward_model, tokenizer, tmp_path):
    settings = {"folder": tmp_path / "run", "steps": 1, "learning_rate": RATE, "rankings_per_step": wanted}
    with pytest.raises(ValueError, match=words):
        train_reward_model(reward_model, tokenizer, rankings, **settings)
    assert not (tmp_path / "run").exists()


# Interrupts and kills


def outcome(model, live) -> tuple[dict, list[float]]:
    return {name: values.tolist() for name, values in model.state_dict().items()}, live.table()["loss"].tolist()


def at_step(number: int, what, model):
    """The model, doing something in its forward pass of the given step."""
    steps = []

    def before(*_):
        steps.append(1)
        if len(steps) == number:
            what()

    model.register_forward_pre_hook(before)
    return model


@pytest.fixture(scope="module")
def whole(loaded, tokenizer, tmp_path_factory):
    """What an uninterrupted run ends with."""
    model = copy.deepcopy(loaded)
    return outcome(model, train(model, tokenizer, tmp_path_factory.mktemp("whole"), size=3))


def test_an_interrupted_run_ends_as_a_whole_one(loaded, reward_model, tokenizer, tmp_path, whole, capsys):
    with pytest.raises(TrainingStopped, match="Stopped after step 3 of 6 and saved"):
        model = at_step(3, partial(os.kill, os.getpid(), signal.SIGINT), copy.deepcopy(loaded))
        train(model, tokenizer, tmp_path, size=3)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]
    torch.rand(7)  # other random numbers, as in another process
    assert outcome(reward_model, train(reward_model, tokenizer, tmp_path, size=3)) == whole
    assert "Going on from step 3 of 6." in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_killed_run_ends_as_a_whole_one(loaded, reward_model, tokenizer, tmp_path, whole):
    pid = os.fork()
    if not pid:
        try:
            model = at_step(4, lambda: os.kill(os.getpid(), signal.SIGKILL), copy.deepcopy(loaded))
            train(model, tokenizer, tmp_path, size=3)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert torch.load(tmp_path / "run.pt")["step"] == 2
    assert outcome(reward_model, train(reward_model, tokenizer, tmp_path, size=3)) == whole


@pytest.mark.parametrize("name, value", [("learning_rate", 1e-4), ("rankings_per_step", 2), ("size", 2), ("seed", 1)])
def test_a_checkpoint_of_other_settings_is_refused(name, value, loaded, reward_model, tokenizer, tmp_path):
    with pytest.raises(TrainingStopped):
        model = at_step(1, partial(os.kill, os.getpid(), signal.SIGINT), copy.deepcopy(loaded))
        train(model, tokenizer, tmp_path, size=3)
    with pytest.raises(ValueError, match=rf"other settings \({'rankings, K' if name == 'size' else name}\)"):
        train(reward_model, tokenizer, tmp_path, **{"size": 3} | {name: value})


# Planted mistakes: what to replace in the source, by what, and the check that must fail


MISTAKES = [
    (check_ids, 'padding_side="right", ', ""),
    (check_ids, "add_special_tokens=False, ", ""),
    (check_ids, "tokenize=False)", "tokenize=False, add_generation_prompt=True)"),
    (check_scores, "attention_mask=mask.to(model.device)", "attention_mask=1 - mask.to(model.device)"),
    (check_scores, "return output.logits[:, 0].float()", "return -output.logits[:, 0].float()"),
    (check_scores, "torch.cat(scores)", "torch.cat(scores[::-1])"),
    (check_scores, "range(0, len(conversations), batch_size)", "range(0, len(conversations) - 1, batch_size)"),
    (check_mode, "    reward_model.eval()\n", ""),
    (check_mode, "reward_model.train(training)", "reward_model.train()"),
    (check_mode, "reward_model.train(training)", "reward_model.eval()"),
    (check_refusals, "    check_model(reward_model, tokenizer)\n", ""),
    (check_refusals, "    check_model(model, tokenizer)\n", ""),
    (check_refusals, "pad is None or pad != tokenizer.pad_token_id", "pad is None"),
    (check_reward_function, "[*prompt, *completion]", "completion"),
    (check_reward_function, "[*prompt, *completion]", "[*completion, *prompt]"),
    (check_reward_function, "scores.clamp(-largest, largest)", "scores.clamp(max=largest)"),
    (check_reward_function, "scores.clamp(-largest, largest)", "scores"),
    (check_reward_function, "conversations) - centre", "conversations) + centre"),
    (check_reward_function, "strict=True", "strict=False"),
    (check_step, "loss = ranking_loss(scores)", "loss = ranking_loss(-scores)"),
    (check_step, "loss = ranking_loss(scores)", "loss = ranking_loss(scores.flip(1))"),
    (check_step, "scores.view(rankings_per_step, -1)", "scores.view(-1, rankings_per_step).T"),
    (check_step, "scores.view(rankings_per_step, -1)", "scores.view(rankings_per_step, -1)[:, :2]"),
    (check_step, "for ranking in drawn for", "for ranking in zip(*drawn) for"),
    (check_step, "scores[:, :-1] - scores[:, 1:]", "scores[:, 1:] - scores[:, :-1]"),
    (check_step, "right = (margin > 0)", "right = (margin < 0)"),
    (check_step, "model.parameters(), LARGEST_NORM", 'model.parameters(), float("inf")'),
    (check_step, "    model.eval()\n    optimizer", "    optimizer"),
    (check_step, 'f"{seed}-{step}"', "seed"),
]


@pytest.mark.parametrize("check, right, wrong", MISTAKES)
def test_a_mistake_is_caught(check, right, wrong, reward_model, tokenizer, tmp_path):
    functions = changed(right, wrong)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check(functions, reward_model, eager_tokenizer() if check is check_ids else tokenizer, tmp_path)
