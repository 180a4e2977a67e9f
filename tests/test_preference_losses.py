"""The preference losses against the library, values and gradients, and planted mistakes; the loop that trains with them.

Each case holds what the library's own trainer makes of one batch, and the `Pairs` of the same texts.
"""

import inspect
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from test_algorithms import check_parity, make_case, message, rows_of_different_lengths, shake
from tiny_trainers import tiny_trainer
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from helper.algorithms import pad_responses, preference_losses, response_log_probabilities, sequence_log_probabilities
from helper.algorithms.preference_losses import Pairs
from helper.algorithms.train_preferences import encoded, read_pairs, train_preferences

SILENT = {
    "use_cpu": True, "bf16": False, "report_to": "none", "per_device_train_batch_size": 4, "dataloader_pin_memory": False,
    "disable_tqdm": True, "max_length": 512,
}  # fmt: skip


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The losses, with one piece of their source replaced."""
    text = inspect.getsource(preference_losses)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {"__name__": preference_losses.__name__}  # where its dataclass looks for its module
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


def pairs_of(model, reference, ids: torch.Tensor, prompt: torch.Tensor, response: torch.Tensor, functions) -> Pairs:
    """`Pairs` of a batch of the library: its rows, chosen above rejected, taken apart and padded anew."""
    texts = [[row[where.bool()].tolist() for row, where in zip(ids, mask)] for mask in (prompt, response)]
    padded, attention_mask, mask = pad_responses(*texts, pad_id=1)
    logps = [
        sequence_log_probabilities(response_log_probabilities(one, padded, attention_mask, mask.shape[1]), mask)
        for one in (model, reference)
    ]
    (chosen, rejected), (ref_chosen, ref_rejected) = logps[0].chunk(2), logps[1].detach().chunk(2)
    return functions.Pairs(chosen, rejected, ref_chosen, ref_rejected, *mask.sum(-1).chunk(2))


def dpo_case(tiny, folder, types: list[str], weights: list[float] | None, ours):
    trainer = tiny_trainer(
        "dpo", tiny, folder, rows=rows_of_different_lengths("chosen", "rejected"), save_strategy="no", beta=0.3,
        loss_type=types, loss_weights=weights,
    )  # fmt: skip
    shake(trainer.model, 1)
    batch = next(iter(trainer.get_train_dataloader()))
    ids, response = batch["input_ids"], batch["completion_mask"].bool()
    prompt = batch["attention_mask"].bool() & ~response
    loss = trainer.compute_loss(trainer.model, batch)
    read = partial(pairs_of, trainer.model, trainer.ref_model, ids, prompt, response)
    return make_case(trainer.model, loss, lambda functions: ours(functions, read(functions)))


def cpo_case(tiny, folder, trainer_class, config, ours):
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(tiny), args=config(output_dir=str(folder)),
        train_dataset=Dataset.from_list(rows_of_different_lengths("chosen", "rejected")),
        processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    batch = next(iter(trainer.get_train_dataloader()))
    sides = ("chosen", "rejected")
    length = max(batch[f"{side}_input_ids"].shape[1] for side in sides)

    def whole(key, fill):
        parts = [batch[f"{side}_{key}"] for side in sides]
        return torch.cat([torch.nn.functional.pad(part, (0, length - part.shape[1]), value=fill) for part in parts])

    ids, response = whole("input_ids", 1), whole("labels", -100) != -100
    prompt = whole("attention_mask", 0).bool() & ~response
    if trainer_class is ORPOTrainer:  # its SFT term is over the prompt too; ours, as the paper's, over the answer
        logps = trainer.concatenated_forward(trainer.model, batch)[:2]
        loss = -trainer.odds_ratio_loss(*logps)[0].mean()
    else:
        loss = trainer.get_batch_loss_metrics(trainer.model, batch)[0]
    read = partial(pairs_of, trainer.model, trainer.model, ids, prompt, response)
    return make_case(trainer.model, loss, lambda functions: ours(functions, read(functions)))


def kto_case(tiny, folder):
    """Two good answers and two bad ones, each to a prompt of its own."""
    rows = [
        {"prompt": row["prompt"], "completion": row["completion"], "label": place < 2}
        for place, row in enumerate(rows_of_different_lengths("completion"))
    ]
    trainer = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny),
        args=KTOConfig(
            output_dir=str(folder), beta=0.3, train_sampling_strategy="sequential", gradient_checkpointing=False, **SILENT
        ),
        train_dataset=Dataset.from_list(rows), processing_class=AutoTokenizer.from_pretrained(tiny),
    )  # fmt: skip
    shake(trainer.ref_model, 1, size=0.1)  # so that the drift is above 0
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["label"].tolist() == [True, True, False, False]
    loss = trainer.compute_loss(trainer.model, batch)

    def ours(functions):
        def read(prefix):
            ids, response = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"].bool()
            prompt = batch[f"{prefix}attention_mask"].bool() & ~response
            return pairs_of(trainer.model, trainer.ref_model, ids, prompt, response, functions)

        pairs, others = read(""), read("KL_")
        drift = torch.cat(others.ratios).mean().detach().clamp(min=0)
        assert drift > 0
        return functions.kto(replace(pairs, drift=drift), beta=0.3)

    return make_case(trainer.model, loss, ours)


CASES = {
    "imitation": partial(dpo_case, types=["sft"], weights=None, ours=lambda f, p: f.imitation(p)),
    "sigmoid": partial(dpo_case, types=["sigmoid"], weights=None, ours=lambda f, p: f.sigmoid(p, 0.3)),
    "both": partial(dpo_case, types=["sigmoid", "sft"], weights=[0.5, 1.0],
                    ours=lambda f, p: f.sigmoid_and_imitation(p, 0.3)),
    "ipo": partial(dpo_case, types=["ipo"], weights=None, ours=lambda f, p: f.ipo(p, 0.3)),
    "kto": kto_case,
    "cpo": partial(cpo_case, trainer_class=CPOTrainer, config=partial(CPOConfig, beta=0.3, **SILENT),
                   ours=lambda f, p: f.cpo(p, 0.3)),
    "simpo": partial(cpo_case, trainer_class=CPOTrainer,
                     config=partial(CPOConfig, beta=2.0, loss_type="simpo", simpo_gamma=0.7, cpo_alpha=0.0, **SILENT),
                     ours=lambda f, p: f.simpo(p, 2.0, 0.7)),
    "orpo": partial(cpo_case, trainer_class=ORPOTrainer, config=partial(ORPOConfig, beta=0.3, **SILENT),
                    ours=lambda f, p: f.orpo(p, 0.3) - f.imitation(p)),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases(tiny, tmp_path_factory):
    made = {}

    def case(name):
        if name not in made:
            made[name] = CASES[name](tiny, tmp_path_factory.mktemp(name))
        return made[name]

    return case


@pytest.mark.parametrize("name", CASES)
def test_the_library_has_the_same_loss_and_gradients(name, cases):
    check_parity(preference_losses, cases(name))


MISTAKES = [
    ("imitation", "-pairs.chosen.sum() / pairs.chosen_tokens.sum()", "-pairs.means[0].mean()"),
    ("imitation", "-pairs.chosen.sum() / pairs.chosen_tokens.sum()", "-pairs.chosen.sum() / len(pairs.chosen)"),
    ("sigmoid", "self.rejected - self.ref_rejected", "self.rejected"),
    ("sigmoid", "beta * (gained - lost)", "beta * (lost - gained)"),
    ("both", "contrast * sigmoid(pairs, beta) + imitation(pairs)", "contrast * (sigmoid(pairs, beta) + imitation(pairs))"),
    ("ipo", "gained / pairs.chosen_tokens - lost / pairs.rejected_tokens", "gained - lost"),
    ("ipo", "1 / (2 * tau)", "1 / tau"),
    ("kto", "beta * (gained - pairs.drift)", "beta * gained"),
    ("kto", "torch.sigmoid(beta * (pairs.drift - lost))", "torch.sigmoid(beta * (lost - pairs.drift))"),
    ("simpo", "beta * (good - bad) - gamma", "beta * (good - bad - gamma)"),
    ("simpo", "good, bad = pairs.means\n", "good, bad = pairs.chosen, pairs.rejected\n"),
    ("cpo", "beta * (pairs.chosen - pairs.rejected)", "beta * (pairs.means[0] - pairs.means[1])"),
    ("orpo", "mean - torch.log1p(-mean.exp()", "mean + torch.log1p(-mean.exp()"),
]


@pytest.mark.parametrize("name, right, wrong", MISTAKES)
def test_a_mistake_in_a_loss_is_caught(name, right, wrong, cases):
    check_parity(changed(), cases(name))
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), cases(name))


def test_kto_counts_an_answer_that_stands_on_both_sides_as_good_only():
    reference, tokens = torch.tensor([-3.0, -4.0]), torch.tensor([5.0, 6.0])
    pairs = Pairs(reference + 1, reference - 2, reference, torch.tensor([-3.5, -4.0]), tokens, tokens)
    counted = torch.sigmoid(0.2 * torch.tensor([1.0, 1.0, 1.5]))  # of the second row the good side only
    assert torch.allclose(preference_losses.kto(pairs, 0.2), 1 - counted.mean())


# The loop

LOSS = partial(preference_losses.cpo, beta=0.3)


@pytest.fixture
def student(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny), AutoTokenizer.from_pretrained(tiny)


def test_the_loop_lowers_the_loss_and_widens_the_margin(student):
    rows = rows_of_different_lengths("chosen", "rejected")
    loss = partial(preference_losses.sigmoid, beta=0.3)
    log = train_preferences(*student, rows, loss, steps=12, learning_rate=3e-3, batch_size=4)
    assert log[0]["loss"] == pytest.approx(0.6931, abs=1e-3) and log[0]["chosen"] == pytest.approx(0, abs=1e-4)
    assert log[-1]["loss"] < 0.5 and log[-1]["chosen"] - log[-1]["rejected"] > 1


def test_the_same_seed_gives_the_same_run(tiny):
    rows, ends = rows_of_different_lengths("chosen", "rejected"), []
    for seed in (1, 1, 2):
        model = AutoModelForCausalLM.from_pretrained(tiny)
        settings = {"steps": 3, "learning_rate": 1e-3, "batch_size": 3, "seed": seed}
        ends.append(train_preferences(model, AutoTokenizer.from_pretrained(tiny), rows, LOSS, **settings))
    assert ends[0] == ends[1] != ends[2]


def test_rows_without_a_rejected_answer_are_imitated(student):
    rows = rows_of_different_lengths("chosen")
    log = train_preferences(*student, rows, preference_losses.imitation, steps=8, learning_rate=3e-3, batch_size=4)
    assert log[-1]["loss"] < log[0]["loss"]


def test_drift_is_read_with_another_rows_answer(student):
    model, tokenizer = student
    rows = rows_of_different_lengths("chosen", "rejected")
    texts = encoded(tokenizer, rows, with_drift=True)
    assert [row[3] for row in texts] == [row[1] for row in texts[1:] + texts[:1]]
    reference = torch.zeros(3, len(rows))
    assert read_pairs(model, tokenizer, texts, reference).drift == 0  # all log-probabilities are below 0: kept at 0
    assert read_pairs(model, tokenizer, texts, reference - 1000).drift > 0


def test_no_rows_is_an_error(student):
    with pytest.raises(ValueError, match="No rows"):
        train_preferences(*student, [], preference_losses.imitation, steps=1, learning_rate=1e-3)


def test_an_answer_ends_with_the_end_of_the_turn(student):
    _, tokenizer = student
    (row,) = encoded(tokenizer, [{"prompt": message("user", "one"), "chosen": message("assistant", "two")}])
    whole = tokenizer.apply_chat_template([*message("user", "one"), *message("assistant", "two")], return_dict=False)
    assert row[0] + row[1] == whole
