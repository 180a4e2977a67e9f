"""The distillation losses against both of the library's trainers, a slow reference and planted mistakes."""

import inspect
import math
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from test_algorithms import Case, assert_close, check_parity, make_case, message, rows_of_different_lengths, shake
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DistillationConfig, DistillationTrainer
from trl.experimental.gkd import GKDTrainer

from helper.algorithms import Batch, distillation, pad_responses
from helper.algorithms.distillation import distillation_loss, forward_kl, generalised_jsd, reverse_kl

BETAS = (0.0, 0.1, 0.5, 1.0)


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The module, with one piece of its source replaced."""
    text = inspect.getsource(distillation)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {}
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


def some_logits(seed: int, *shape: int, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(shape or (3, 5, 11), generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([[1, 2, 3, -100, -100], [4, 5, 6, 7, 8], [-100, 9, -100, -100, 10]])


# The library


def gkd_case(beta: float, temperature: float) -> Case:
    """`GKDTrainer.generalized_jsd_loss` on given logits; the student's are the weights that get a gradient."""
    student, teacher = nn.Embedding.from_pretrained(some_logits(0).view(15, 11), freeze=False), some_logits(1)
    logits = student.weight.view(3, 5, 11)
    loss = GKDTrainer.generalized_jsd_loss(logits, teacher, LABELS, beta=beta, temperature=temperature)
    mask = (LABELS != -100).float()
    return make_case(
        student, loss,
        lambda functions: functions.distillation_loss(student.weight.view(3, 5, 11), teacher, mask, beta, temperature),
    )  # fmt: skip


def trainer_case(tiny, folder, beta: float, temperature: float, training: bool = True) -> Case:
    """`DistillationTrainer.compute_loss` of a batch of answers of different lengths, teacher and student apart."""
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    config = DistillationConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, report_to="none", per_device_train_batch_size=4, beta=beta,
        temperature=temperature, activation_checkpointing=False, dataloader_pin_memory=False, disable_tqdm=True,
        max_completion_length=12,
    )  # fmt: skip
    teacher = AutoModelForCausalLM.from_pretrained(tiny)
    shake(teacher, 1, size=0.1)
    trainer = DistillationTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny), teacher_model=teacher, args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list([{"prompt": message("user", "one")}] * 4),
    )  # fmt: skip
    prompts = [
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
        for row in rows_of_different_lengths()
    ]
    torch.manual_seed(0)
    answers = [torch.randint(4, len(tokenizer), (length,)).tolist() for length in (12, 1, 7, 4)]
    ids, attention_mask, mask = pad_responses(prompts, answers, pad_id=1)
    length, where = mask.shape[1], ids.shape[1] - mask.shape[1]
    inputs = {
        "prompt_ids": ids[:, :where], "prompt_mask": attention_mask[:, :where],
        "completion_ids": ids[:, where:], "completion_mask": attention_mask[:, where:],
    }  # fmt: skip
    trainer.model.train(training)
    inputs |= {"num_items_in_batch": mask.sum()} if training else {}
    loss = trainer.compute_loss(trainer.model, inputs)
    batch = Batch(ids, attention_mask, mask, torch.zeros(4), [""] * 4, 0.0)
    assert batch.length == length
    return make_case(
        trainer.model, loss,
        lambda functions: functions.distillation_loss_of_batch(trainer.model, teacher, batch, beta, temperature),
    )  # fmt: skip


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_gkd_has_the_same_loss_and_gradients(beta, temperature):
    check_parity(distillation, gkd_case(beta, temperature))


@pytest.mark.parametrize("beta", BETAS)
def test_the_distillation_trainer_has_the_same_loss_and_gradients(beta, tiny, tmp_path):
    check_parity(distillation, trainer_case(tiny, tmp_path, beta, 0.8, training=beta < 1))


MISTAKES = [
    ("return kl(teacher.log_softmax(-1), student.log_softmax(-1))",
     "return kl(student.log_softmax(-1), teacher.log_softmax(-1))", 0.0),
    ("return kl(student.log_softmax(-1), teacher.log_softmax(-1))",
     "return kl(teacher.log_softmax(-1), student.log_softmax(-1))", 1.0),
    ("p + weight.log(), q + torch.log1p(-weight)", "q + weight.log(), p + torch.log1p(-weight)", 0.1),
    ("beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)", "(1 - beta) * kl(p, mixed) + beta * kl(q, mixed)", 0.1),
    ("beta * kl(p, mixed) + (1 - beta) * kl(q, mixed)", "kl(p, mixed) + kl(q, mixed)", 0.5),
    ("kl(p, mixed)", "kl(mixed, p)", 0.5),
    ("(first.exp() * (first - second)).sum(-1)", "(first.exp() * (first - second)).mean(-1)", 0.5),
    ("(first.exp() * (first - second)).sum(-1)", "(first - second).sum(-1)", 1.0),
    ("student / temperature, teacher / temperature", "student / temperature, teacher", 1.0),
    ("student / temperature, teacher / temperature", "student, teacher", 0.0),
    ("return masked_mean(generalised_jsd(student / temperature, teacher / temperature, beta), mask.to(student.dtype))",
     "return generalised_jsd(student / temperature, teacher / temperature, beta).mean()", 0.5),
    ("return reverse_kl(student, teacher) if beta else", "return forward_kl(student, teacher) if beta else", 1.0),
]  # fmt: skip


@pytest.mark.parametrize("right, wrong, beta", MISTAKES)
def test_a_mistake_is_caught(right, wrong, beta):
    case = gkd_case(beta, 0.7)
    check_parity(changed(), case)
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), case)


BATCH_LOSS = "distillation_loss(student, wanted, batch.mask, beta, temperature)"
BATCH_MISTAKES = [
    ("wanted = response_logits(teacher, *read)", "wanted = response_logits(model, *read)"),
    (BATCH_LOSS, "distillation_loss(student, wanted, torch.ones_like(batch.mask), beta, temperature)"),
    (BATCH_LOSS, "distillation_loss(wanted, student, batch.mask, beta, temperature)"),
    (BATCH_LOSS, "distillation_loss(student, wanted, batch.mask, beta)"),
]


def test_a_mistake_with_a_batch_is_caught(tiny, tmp_path):
    case = trainer_case(tiny, tmp_path, 0.3, 0.8)
    check_parity(changed(), case)
    for right, wrong in BATCH_MISTAKES:
        with pytest.raises(AssertionError):
            check_parity(changed(right, wrong), case)


# By hand


def slowly(student: list[float], teacher: list[float], beta: float) -> float:
    """The generalised JSD of one position, from its definition."""
    q, p = ([math.exp(x) / sum(map(math.exp, logits)) for x in logits] for logits in (student, teacher))
    divergence = lambda first, second: sum(a * math.log(a / b) for a, b in zip(first, second))  # noqa: E731
    if beta in (0, 1):
        return divergence(q, p) if beta else divergence(p, q)
    mixed = [beta * a + (1 - beta) * b for a, b in zip(p, q)]
    return beta * divergence(p, mixed) + (1 - beta) * divergence(q, mixed)


@pytest.mark.parametrize("beta", BETAS)
def test_a_slow_loop_gives_the_same(beta):
    student, teacher = some_logits(0), some_logits(1)
    wanted = [[slowly(*pair, beta) for pair in zip(*rows)] for rows in zip(student.tolist(), teacher.tolist())]
    assert_close(generalised_jsd(student, teacher, beta), torch.tensor(wanted), "the divergence")


def test_two_coins():
    student, teacher = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert forward_kl(student, teacher).item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5))
    assert reverse_kl(student, teacher).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))


def test_what_each_direction_minds():
    """A teacher with two answers; one student takes one of them, the other spreads over everything."""
    teacher = torch.tensor([5.0, 5.0, -5.0, -5.0])
    one, spread = torch.tensor([5.0, -5.0, -5.0, -5.0]), torch.zeros(4)
    assert reverse_kl(one, teacher) < reverse_kl(spread, teacher)
    assert forward_kl(spread, teacher) < forward_kl(one, teacher)


def test_none_is_below_0_and_equal_logits_cost_nothing():
    student, teacher = some_logits(2), some_logits(3)
    for beta in BETAS:
        assert (generalised_jsd(student, teacher, beta) > 0).all()
        assert generalised_jsd(student, student + 3, beta).abs().max() < 1e-6
    assert generalised_jsd(student, teacher, 0.5).max() <= math.log(2)
    assert torch.allclose(generalised_jsd(student, teacher, 0.5), generalised_jsd(teacher, student, 0.5), atol=1e-6)


def test_the_ends_are_limits_after_division():
    student, teacher = some_logits(4).double(), some_logits(5).double()
    for beta, weight, end in ((1e-6, 1e-6, 0), (1 - 1e-6, 1e-6, 1)):
        near = generalised_jsd(student, teacher, beta) / weight
        assert torch.allclose(near, generalised_jsd(student, teacher, end), rtol=1e-3)


def test_no_token_counts():
    student = some_logits(6).requires_grad_()
    loss = distillation_loss(student, some_logits(7), torch.zeros(3, 5))
    loss.backward()
    assert loss == 0 and not student.grad.any()


@pytest.mark.parametrize("beta", [-0.1, 1.1, float("nan")])
def test_a_beta_outside_is_one_clear_error(beta):
    with pytest.raises(ValueError, match="from 0 .forward KL. to 1"):
        generalised_jsd(some_logits(0), some_logits(1), beta)


def test_shapes_that_do_not_fit():
    for teacher, mask in ((some_logits(0, 3, 5, 12), LABELS), (some_logits(0), LABELS[:, 1:])):
        with pytest.raises(ValueError, match="of one vocabulary"):
            distillation_loss(some_logits(0), teacher, (mask != -100).float())
