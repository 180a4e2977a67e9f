"""`helper.algorithms` against the library, values and gradients; against arithmetic by hand; against planted mistakes.

Each parity case holds what the library's trainer computes for one batch, and how the same is computed here. The
mistakes are changes of the source: each must make a check fail, or the check would prove nothing.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny_trainers import tiny_trainer
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

import helper.algorithms as algorithms
from helper.algorithms import losses, policy_gradient, ppo, responses

CLOSE = 1e-5  # of the largest value; what float32 leaves between two orders of the same sums
LONGEST = 12  # tokens of a response, in the GRPO cases
GROUP = 4


def changed(old: str = "", new: str = "") -> SimpleNamespace:
    """The functions of the package, with one piece of their source replaced everywhere it is used."""
    sources = [inspect.getsource(module) for module in (responses, losses, policy_gradient, ppo)]
    text = "\n".join(line for source in sources for line in source.splitlines() if "from helper.algorithms" not in line)
    assert text.count(old) == 1 or not old, f"{old!r} stands {text.count(old)} times in the source"
    names = {}
    exec(text.replace(old, new) if old else text, names)
    return SimpleNamespace(**names)


@dataclass
class Case:
    """What the library computed for one batch, and how to compute it with the functions of this package."""

    model: torch.nn.Module
    loss: torch.Tensor
    gradients: dict[str, torch.Tensor]
    ours: Callable


def make_case(model, loss: torch.Tensor, ours: Callable) -> Case:
    return Case(model, loss.detach(), gradients(model, loss), ours)


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def check_parity(functions, case: Case) -> None:
    """The same loss, and the same gradient of every weight."""
    loss = case.ours(functions)
    rounding = 4 * torch.finfo(torch.float32).eps  # of terms of about 1, which nearly cancel in some losses
    assert_close(loss.detach(), case.loss, "loss", least=rounding)
    ours = gradients(case.model, loss) if loss.requires_grad else {}
    assert case.gradients and set(ours) == set(case.gradients)
    for name, gradient in case.gradients.items():
        assert_close(ours[name], gradient, name)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, name: str, least: float = 1e-8) -> None:
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    assert difference <= CLOSE * largest + least, f"{name}: {difference:.2e} apart, of {largest:.2e}"


def shake(model, seed: int, size: float = 0.01) -> None:
    """Moves every weight a little, as some training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))


# The library's part of each case


def message(role: str, text: str) -> list[dict]:
    return [{"role": role, "content": text}]


def rows_of_different_lengths(*columns: str) -> list[dict]:
    texts = ["one two", "is the capital", "seven", "12 + 34 = 46", "what place", "four five six three"]
    rows = []
    for i in range(4):
        answers = {name: message("assistant", texts[(i + 2 * place) % 6]) for place, name in enumerate(columns)}
        rows.append({"prompt": message("user", texts[-i] * (1 + i)), **answers})
    return rows


def split_rows(ids: torch.Tensor, prompt: torch.Tensor, response: torch.Tensor) -> tuple[list, list]:
    """The token ids of each row's prompt and response, without padding."""
    prompts = [row[where.bool()].tolist() for row, where in zip(ids, prompt)]
    return prompts, [row[where.bool()].tolist() for row, where in zip(ids, response)]


def logps_of(functions, model, ids: torch.Tensor, prompt: torch.Tensor, response: torch.Tensor, temperature=1.0):
    """Log-probabilities and mask, from the library's batch taken apart and padded anew."""
    padded, attention_mask, mask = functions.pad_responses(*split_rows(ids, prompt, response), pad_id=1)
    return functions.response_log_probabilities(model, padded, attention_mask, mask.shape[1], temperature), mask


@pytest.fixture(scope="module")
def sft_case(tiny, tmp_path_factory):
    rows = rows_of_different_lengths("completion")
    trainer = tiny_trainer("sft", tiny, tmp_path_factory.mktemp("sft"), rows=rows, save_strategy="no")
    batch = next(iter(trainer.get_train_dataloader()))
    ids, response = batch["input_ids"], batch["labels"] != -100
    prompt = batch["attention_mask"].bool() & ~response

    def ours(functions):
        return functions.sft_loss(*logps_of(functions, trainer.model, ids, prompt, response))

    return make_case(trainer.model, trainer.compute_loss(trainer.model, batch), ours)


@pytest.fixture(scope="module")
def dpo_case(tiny, tmp_path_factory):
    rows, folder = rows_of_different_lengths("chosen", "rejected"), tmp_path_factory.mktemp("dpo")
    trainer = tiny_trainer("dpo", tiny, folder, rows=rows, save_strategy="no", beta=0.3)
    shake(trainer.model, 1)
    batch = next(iter(trainer.get_train_dataloader()))
    ids, response = batch["input_ids"], batch["completion_mask"].bool()
    prompt = batch["attention_mask"].bool() & ~response

    def ours(functions):
        with torch.no_grad():
            ref, mask = logps_of(functions, trainer.ref_model, ids, prompt, response)
            ref = functions.sequence_log_probabilities(ref, mask)
        logps = functions.sequence_log_probabilities(*logps_of(functions, trainer.model, ids, prompt, response))
        return functions.dpo_loss(*logps.chunk(2), *ref.chunk(2), beta=0.3)

    return make_case(trainer.model, trainer.compute_loss(trainer.model, batch), ours)


@pytest.fixture(scope="module")
def reward_case(tiny, tmp_path_factory):
    model = AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=1)
    rows = rows_of_different_lengths("chosen", "rejected")
    config = RewardConfig(
        output_dir=str(tmp_path_factory.mktemp("reward")), use_cpu=True, bf16=False, report_to="none",
        per_device_train_batch_size=4, activation_checkpointing=False, dataloader_pin_memory=False, disable_tqdm=True,
    )  # fmt: skip
    data = Dataset.from_list(rows)
    trainer = RewardTrainer(model, config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(tiny))
    batch = next(iter(trainer.get_train_dataloader()))

    def ours(functions):
        return functions.bradley_terry_loss(*model(**batch).logits.squeeze(-1).chunk(2))

    return make_case(model, trainer.compute_loss(model, dict(batch)), ours)


REWARDS = torch.tensor([1.0, 0.0, 0.0, 0.5, 0.0, 1.0, 1.0, 0.2])
LENGTHS = [12, 2, 7, 1, 4, 10, 3, 12]


@pytest.fixture(scope="module", params=[1.0, 0.7], ids="temperature {}".format)
def grpo(request, tiny, tmp_path_factory):
    """A trainer with a batch of its own making, but for the tokens and the rewards; policy, old and reference differ."""
    folder, settings = tmp_path_factory.mktemp("grpo"), {"temperature": request.param, "beta": 0.1}
    trainer = tiny_trainer("grpo", tiny, folder, save_strategy="no", max_completion_length=LONGEST, **settings)
    rows = [row for row in rows_of_different_lengths()[:2] for _ in range(GROUP)]
    torch.manual_seed(0)
    texts = [torch.randint(4, len(trainer.processing_class), (length,)).tolist() for length in LENGTHS]
    prompts, _, _ = trainer._tokenize_prompts([row["prompt"] for row in rows])
    completions = [message("assistant", "") for _ in rows]
    trainer._generate = lambda _: (prompts, texts, None, completions, None, {}, None, None)
    trainer._calculate_rewards = lambda *_: REWARDS[:, None]
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()  # the library keeps its numbers of training and of evaluation apart
    shake(trainer.ref_model, 2)
    batch = trainer._generate_and_score_completions(rows)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    with torch.no_grad():
        batch["old_per_token_logps"], *_ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, LONGEST)
    shake(trainer.model, 3)
    return trainer, rows, batch


def grpo_case(grpo, loss_type="grpo", beta=0.0, epsilon_high=None, first_update=False) -> Case:
    """`first_update`: the batch comes from the policy as it is, so that all ratios are 1."""
    trainer, _, batch = grpo
    trainer.loss_type, trainer.beta, trainer.epsilon_high = loss_type, beta, epsilon_high or 0.2
    trainer.args.use_bias_correction_kl = False  # see the test of the library's correction
    batch = {**batch, "old_per_token_logps": None if first_update else batch["old_per_token_logps"]}
    ids, prompt, response = whole_rows(batch)

    def ours(functions):
        logps, mask = logps_of(functions, trainer.model, ids, prompt, response, trainer.temperature)
        old, ref = batch["old_per_token_logps"], batch["ref_per_token_logps"]
        return functions.grpo_loss(
            logps, logps.detach() if old is None else old, functions.group_advantages(REWARDS, GROUP), mask,
            epsilon_high=epsilon_high, beta=beta, ref_logps=ref, loss_type=loss_type, max_length=LONGEST,
        )  # fmt: skip

    return make_case(trainer.model, trainer._compute_loss(trainer.model, batch), ours)


def whole_rows(batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, and where prompts and responses are, each (B, P + R)."""
    before, after = batch["prompt_mask"], batch["completion_mask"]
    prompt, response = torch.cat([before, 0 * after], 1), torch.cat([0 * before, after], 1)
    return torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1), prompt, response


# Parity


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_the_library_has_the_same_loss_and_gradients(kind, request):
    check_parity(algorithms, request.getfixturevalue(f"{kind}_case"))


@pytest.mark.parametrize("first_update", [True, False])
@pytest.mark.parametrize("epsilon_high", [None, 0.28])
@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_the_librarys_grpo_has_the_same_loss_and_gradients(loss_type, beta, epsilon_high, first_update, grpo):
    check_parity(algorithms, grpo_case(grpo, loss_type, beta, epsilon_high, first_update))
    clipped = {side: grpo[0]._metrics["train"][f"clip_ratio/{side}"][-1] for side in ("low_mean", "high_mean")}
    assert all((share == 0) == first_update for share in clipped.values()), clipped  # both sides of the clip are met


def test_the_librarys_correction_is_its_kl_estimate_times_the_ratio(grpo):
    trainer, _, batch = grpo
    grpo_case(grpo, "dapo", beta=0.1)
    trainer.args.use_bias_correction_kl = True  # its default

    def ours(functions):
        ids, prompt, response = whole_rows(batch)
        logps, mask = logps_of(functions, trainer.model, ids, prompt, response, trainer.temperature)
        old, ref = batch["old_per_token_logps"], batch["ref_per_token_logps"]
        kept = functions.grpo_loss(logps, old, functions.group_advantages(REWARDS, GROUP), mask, loss_type="dapo")
        return kept + 0.1 * functions.masked_mean((logps - old).exp() * functions.kl_estimate(logps, ref), mask)

    check_parity(algorithms, make_case(trainer.model, trainer._compute_loss(trainer.model, batch), ours))


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_library_has_the_same_advantages(scale, grpo):
    check_advantages(algorithms, grpo, scale)


def check_advantages(functions, grpo, scale):
    trainer, rows, _ = grpo
    trainer.scale_rewards = scale
    theirs = trainer._generate_and_score_completions(rows)["advantages"]
    assert_close(functions.group_advantages(REWARDS, GROUP, scale), theirs, scale)


def test_the_library_pads_and_counts_alike(grpo):
    """Log-probabilities and entropies too, with the library's own batch of prompts and responses of many lengths."""
    trainer, _, batch = grpo
    ids, prompt, response = whole_rows(batch)
    padded, attention_mask, mask = algorithms.pad_responses(*split_rows(ids, prompt, response), pad_id=1)
    assert torch.equal(padded, ids) and torch.equal(attention_mask, prompt + response)
    assert torch.equal(mask, batch["completion_mask"].float()) and mask.sum(1).tolist() == LENGTHS
    with torch.no_grad():
        theirs = trainer._get_per_token_logps_and_entropies(
            trainer.model, ids, attention_mask, LONGEST, compute_entropy=True
        )
        logits = algorithms.response_logits(trainer.model, padded, attention_mask, LONGEST) / trainer.temperature
    logps = algorithms.token_log_probabilities(logits, padded[:, -LONGEST:])
    for ours, of_theirs in zip((logps, algorithms.token_entropies(logits)), theirs):
        assert_close(ours * mask, of_theirs * mask, "tokens")


# Planted mistakes: what to replace in the source, by what, and in which parity case that must show

LOSS_MISTAKES = [
    ("sft", "return -masked_mean(logps, mask)", "return masked_mean(logps, mask)"),
    ("sft", "return -masked_mean(logps, mask)", "return -((logps * mask).sum(1) / mask.sum(1)).mean()"),
    ("sft", "return -masked_mean(logps, mask)", "return -(logps * mask).sum()"),
    ("sft", "return -masked_mean(logps, mask)", "return -logps.mean()"),
    ("sft", "(values * mask).sum() / mask", "(values * mask.roll(1, 1)).sum() / mask"),
    ("sft", "output.logits[:, -length - 1 : -1]", "output.logits[:, -length:]"),
    ("sft", "attention_mask=attention_mask, position_ids=positions, logits", "attention_mask=None, logits"),
    ("sft", "attention_mask[:, longest_prompt:].float()", "torch.ones_like(attention_mask[:, longest_prompt:]).float()"),
    ("sft", "chosen - logits.logsumexp(-1)", "chosen"),
    ("dpo", "(chosen - ref_chosen) - (rejected - ref_rejected)", "(rejected - ref_rejected) - (chosen - ref_chosen)"),
    ("dpo", "(chosen - ref_chosen) - (rejected - ref_rejected)", "chosen - rejected"),
    ("dpo", "-F.logsigmoid(beta * margin).mean()", "-F.logsigmoid(beta * margin).sum()"),
    ("dpo", "-F.logsigmoid(beta * margin).mean()", "F.logsigmoid(-beta * margin).mean()"),
    ("dpo", "return (logps * mask).sum(-1)", "return (logps * mask).sum(-1) / mask.sum(-1)"),
    ("dpo", "return (logps * mask).sum(-1)", "return logps.sum(-1)"),
    ("reward", "-F.logsigmoid(chosen - rejected).mean()", "-F.logsigmoid(rejected - chosen).mean()"),
    ("reward", "-F.logsigmoid(chosen - rejected).mean()", "-F.logsigmoid((chosen - rejected).mean())"),
]


@pytest.mark.parametrize("kind, right, wrong", LOSS_MISTAKES)
def test_a_mistake_in_a_loss_is_caught(kind, right, wrong, request):
    case = request.getfixturevalue(f"{kind}_case")
    check_parity(changed(), case)
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), case)


GRPO_MISTAKES = [
    ("-average(objective, mask, loss_type, max_length)", "average(objective, mask, loss_type, max_length)"),
    ("objective - beta * kl", "objective + beta * kl"),
    ('kl_estimate(logps, ref_logps, "k3")', 'kl_estimate(ref_logps, logps, "k3")'),
    ('kl_estimate(logps, ref_logps, "k3")', 'kl_estimate(logps, ref_logps, "k1")'),
    ("d = ref_logps - logps", "d = ref_logps - logps.detach()"),
    ("torch.exp(logps - old_logps)", "torch.exp(old_logps - logps)"),
    ("torch.exp(logps - old_logps)", "torch.exp(logps - logps.detach())"),
    ("torch.exp(logps - old_logps)", "torch.exp(logps.detach() - old_logps)"),
    ("torch.min(ratio", "torch.max(ratio"),
    ("torch.min(ratio * advantages, ", "("),
    ("clamp(1 - epsilon, 1 + high)", "clamp(1 - high, 1 + epsilon)"),
    ("clamp(1 - epsilon, 1 + high)", "clamp(max=1 + high)"),
    ("(per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1)", "(per_token * mask).sum(-1)"),
    ("((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()", "masked_mean(per_token, mask)"),
    ("((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()", "(per_token * mask).mean()"),
    ("grouped.std(1, keepdim=True)", "grouped.std(1, keepdim=True, correction=0)"),
    ("grouped.std(1, keepdim=True)", "rewards.std()"),
    ("rewards.view(-1, group_size)", "rewards.view(group_size, -1).T"),
    ("grouped - grouped.mean(1, keepdim=True)", "grouped - grouped.mean()"),
    (
        "response_logits(model, ids, attention_mask, length) / temperature",
        "response_logits(model, ids, attention_mask, length)",
    ),
]


@pytest.mark.parametrize("right, wrong", GRPO_MISTAKES)
@pytest.mark.parametrize("grpo", [0.7], indirect=True)
def test_a_mistake_in_grpo_is_caught(right, wrong, grpo):
    case = grpo_case(grpo, "grpo", beta=0.1, epsilon_high=0.28)
    check_parity(changed(), case)
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), case)


@pytest.mark.parametrize(
    "loss_type, right, wrong",
    [
        ("dapo", "return masked_mean(per_token, mask)", "return (per_token * mask).sum(-1).mean()"),
        ("dapo", "return masked_mean(per_token, mask)", "return ((per_token * mask).sum(-1) / mask.sum(-1)).mean()"),
        ("dr_grpo", "(len(per_token) * max_length)", "mask.sum()"),
        ("dr_grpo", "(len(per_token) * max_length)", "max_length"),
    ],
)
def test_a_mistake_in_an_average_is_caught(loss_type, right, wrong, grpo):
    case = grpo_case(grpo, loss_type)
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), case)


@pytest.mark.parametrize(
    "right, wrong", [("(rewards.std() + EPS", "(rewards.std(correction=0) + EPS"), ("EPSILON = 1e-4", "EPSILON = 0.1")]
)
def test_a_mistake_in_the_advantages_is_caught(right, wrong, grpo):
    with pytest.raises(AssertionError):
        check_advantages(changed(right, wrong), grpo, "batch")


def variant_case(grpo, kind: str) -> Case:
    """GSPO, CISPO or an entropy bonus as the library computes them, with ratios far from 1, and with the functions here."""
    trainer, _, batch = grpo
    kept = {name: getattr(trainer, name) for name in VARIANTS["gspo"] | VARIANTS["entropy"]}
    ids, prompt, response = whole_rows(batch)
    batch = {**batch, "num_items_in_batch": batch["completion_mask"].sum()}

    def ours(functions):
        logps, mask = logps_of(functions, trainer.model, ids, prompt, response, trainer.temperature)
        given = logps, batch["old_per_token_logps"], functions.group_advantages(REWARDS, GROUP), mask
        if kind != "entropy":
            return functions.gspo_loss(*given) if kind == "gspo" else functions.cispo_loss(*given, largest=0.98)
        padded, attention_mask, _ = functions.pad_responses(*split_rows(ids, prompt, response), pad_id=1)
        logits = functions.response_logits(trainer.model, padded, attention_mask, mask.shape[1]) / trainer.temperature
        return functions.grpo_loss(*given) + functions.entropy_bonus(logits, mask, 0.3)

    try:
        for name, value in VARIANTS[kind].items():
            setattr(trainer, name, value)
        return make_case(trainer.model, trainer._compute_loss(trainer.model, batch), ours)
    finally:
        for name, value in kept.items():
            setattr(trainer, name, value)


VARIANTS = {  # the library's attributes
    "gspo": {
        "loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4, "beta": 0.0,
    },
    "cispo": {"loss_type": "cispo", "importance_sampling_level": "token", "epsilon_high": 0.98, "beta": 0.0},
    "entropy": {
        "loss_type": "grpo", "importance_sampling_level": "token", "epsilon_low": 0.2, "epsilon_high": 0.2, "beta": 0.0,
        "_entropy_bonus_enabled": True, "entropy_coef": 0.3,
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", VARIANTS)
def test_the_library_has_the_same_variants(kind, grpo):
    check_parity(algorithms, variant_case(grpo, kind))


VARIANT_MISTAKES = [
    ("gspo", "/ mask.sum(1, keepdim=True).clamp(min=1)", "/ mask.shape[1]"),
    ("gspo", "((logps - old_logps) * mask).sum(1, keepdim=True)", "(logps - old_logps).sum(1, keepdim=True)"),
    (
        "gspo",
        "advantages, epsilon, epsilon_high)\n    return -objective.mean()",
        "advantages, 9.0)\n    return -objective.mean()",
    ),
    ("gspo", "return -objective.mean()", "return -masked_mean(objective.expand_as(mask), mask)"),
    ("cispo", "clamp(max=largest).detach()", "clamp(max=largest)"),
    ("cispo", "clamp(max=largest).detach()", "detach()"),
    ("cispo", 'logps, mask, "dapo", whole=whole)', 'logps, mask, "grpo", whole=whole)'),
    ("entropy", "-coefficient * masked_mean(token", "coefficient * masked_mean(token"),
    ("entropy", "masked_mean(token_entropies(logits), mask)", "token_entropies(logits).mean()"),
]


@pytest.mark.parametrize("kind, right, wrong", VARIANT_MISTAKES)
@pytest.mark.parametrize("grpo", [0.7], indirect=True)
def test_a_mistake_in_a_variant_is_caught(kind, right, wrong, grpo):
    case = variant_case(grpo, kind)
    with pytest.raises(AssertionError):
        check_parity(changed(right, wrong), case)


@pytest.mark.parametrize("loss", [algorithms.gspo_loss, algorithms.cispo_loss])
def test_the_parts_of_a_batch_add_up_in_the_variants_too(loss):
    torch.manual_seed(0)
    logps, old, advantages = torch.randn(6, 5), torch.randn(6, 5), torch.randn(6)
    mask = (torch.arange(5) < torch.tensor([5, 1, 3, 2, 5, 4])[:, None]).float()
    parts = [slice(0, 4), slice(4, 6)]
    added = sum(loss(logps[p], old[p], advantages[p], mask[p], whole=mask, max_length=9, ref_logps=None) for p in parts)
    assert torch.allclose(added, loss(logps, old, advantages, mask), atol=1e-6)


def test_the_sampled_tokens_own_log_probability_gives_no_entropy_gradient():
    """Minus log π of what is sampled is the entropy on average; its gradient on average is 0. The bonus has the true one."""
    logits = torch.tensor([1.5, 0.0, -1.0], dtype=torch.float64, requires_grad=True)
    logs = logits.log_softmax(0)
    sampled = torch.autograd.grad((logs.exp().detach() * -logs).sum(), logits, retain_graph=True)[0]
    exact = torch.autograd.grad((logs.exp() * -logs).sum(), logits)[0]
    bonus = algorithms.entropy_bonus(logits.view(1, 1, 3), torch.ones(1, 1), 1.0)
    assert sampled.abs().max() < 1e-12 < exact.abs().max()
    assert torch.allclose(torch.autograd.grad(bonus, logits)[0], -exact)


# Responses and rewards


def test_a_padded_batch_says_what_each_row_says_alone(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    prompts, answers = [[9], [5, 6, 7, 8], [11, 12]], [[20, 21, 22, 23, 24], [30], [40, 41]]
    ids, attention_mask, mask = algorithms.pad_responses(prompts, answers, pad_id=1)
    logps = algorithms.response_log_probabilities(model, ids, attention_mask, 5, temperature=0.7)
    for row, (prompt, answer) in enumerate(zip(prompts, answers)):
        logits = model(torch.tensor([prompt + answer])).logits[0] / 0.7
        alone = logits.log_softmax(-1)
        expected = [alone[len(prompt) + t - 1, token] for t, token in enumerate(answer)]  # position before the token
        assert logps[row][mask[row].bool()].tolist() == pytest.approx(torch.stack(expected).tolist(), rel=1e-4)


def test_prompts_are_padded_on_the_left_and_responses_on_the_right():
    ids, attention_mask, mask = algorithms.pad_responses([[5], [6, 7]], [[8, 9, 10], [11]], pad_id=1)
    assert ids.tolist() == [[1, 5, 8, 9, 10], [6, 7, 11, 1, 1]]
    assert attention_mask.tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert mask.tolist() == [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]]


def test_padding_to_a_multiple_changes_shapes_and_nothing_else(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    prompts, answers = [[9], [5, 6, 7, 8], [11, 12]], [[20, 21, 22, 23, 24], [30], [40, 41]]
    plain, wide = (algorithms.pad_responses(prompts, answers, 1, pad_to_multiple_of=size) for size in (1, 4))
    assert [tensor.shape[1] for tensor in plain] == [9, 9, 5] and [tensor.shape[1] for tensor in wide] == [12, 12, 8]
    assert wide[2][:, :5].equal(plain[2]) and not wide[2][:, 5:].any() and not wide[1][:, 9:].any()
    one, other = (algorithms.response_log_probabilities(model, *batch[:2], batch[2].shape[1]) for batch in (plain, wide))
    torch.testing.assert_close(other[:, :5] * plain[2], one * plain[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "prompts, answers, words",
    [
        ([[1]], [], "1 prompts and 0 responses"),
        ([], [], "0 prompts and 0 responses"),
        ([[1], []], [[2], [3]], "Row 1: the prompt has no token"),
        ([[1], [2]], [[], [3]], "Row 0: the response has no token"),
    ],
)
def test_what_cannot_be_padded_is_refused(prompts, answers, words):
    with pytest.raises(ValueError, match=words):
        algorithms.pad_responses(prompts, answers, pad_id=0)


def test_entropies_and_log_probabilities_are_those_of_the_distribution():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0)) * 3
    distribution = torch.distributions.Categorical(logits=logits)
    ids = torch.tensor([[0, 3, 6], [2, 2, 5]])
    assert torch.allclose(algorithms.token_entropies(logits), distribution.entropy(), atol=1e-6)
    assert torch.allclose(algorithms.token_log_probabilities(logits, ids), distribution.log_prob(ids), atol=1e-6)


def dpop_by_hand(chosen, rejected, ref_chosen, ref_rejected, beta, strength):
    """The mean of log(1 + exp(-beta * (margin - strength * fallen))), a pair at a time, in plain Python."""
    each = []
    for c, r, ref_c, ref_r in zip(*(column.tolist() for column in (chosen, rejected, ref_chosen, ref_rejected))):
        fallen = ref_c - c if c < ref_c else 0.0
        each.append(math.log(1 + math.exp(-beta * ((c - ref_c) - (r - ref_r) - strength * fallen))))
    return sum(each) / len(each)


DPOP_PAIRS = [torch.tensor(column) for column in ([-2.0, -9.0], [-8.0, -9.0], [-5.0, -6.0], [-3.0, -2.0])]  # rose, fell


def test_dpop_by_hand():
    for strength in (0.0, 1.0, 5.0):
        loss = algorithms.dpop_loss(*DPOP_PAIRS, beta=0.3, strength=strength)
        assert loss.item() == pytest.approx(dpop_by_hand(*DPOP_PAIRS, 0.3, strength), rel=1e-6)
    risen = [column[:1] for column in DPOP_PAIRS]
    assert algorithms.dpop_loss(*risen, beta=0.3) == algorithms.dpo_loss(*risen, beta=0.3)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(ref_chosen - chosen).clamp(min=0)", "ref_chosen - chosen"),
        ("(ref_chosen - chosen).clamp(min=0)", "(chosen - ref_chosen).clamp(min=0)"),
        ("chosen - strength * fallen", "chosen + strength * fallen"),
        ("chosen - strength * fallen", "chosen - fallen"),
    ],
)
def test_a_mistake_in_dpop_is_caught(right, wrong):
    loss = changed(right, wrong).dpop_loss(*DPOP_PAIRS, beta=0.3, strength=5.0)
    assert loss.item() != pytest.approx(dpop_by_hand(*DPOP_PAIRS, 0.3, 5.0), rel=1e-3)


def test_ranking_is_the_mean_over_all_pairs():
    scores = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(4) for j in range(4) if i < j]
    each = [math.log(1 + math.exp(row[j] - row[i])) for row in scores.tolist() for i, j in pairs]
    assert algorithms.ranking_loss(scores).item() == pytest.approx(sum(each) / len(each), rel=1e-6)
    two = algorithms.ranking_loss(scores[:, :2])
    assert two.item() == pytest.approx(algorithms.bradley_terry_loss(scores[:, 0], scores[:, 1]).item())
    for wrong in (scores[:, :1], scores[0]):
        with pytest.raises(ValueError, match="the best first"):
            algorithms.ranking_loss(wrong)


# Advantages, averages, KL estimates


def test_the_others_of_a_group_are_the_baseline():
    groups = REWARDS.view(-1, GROUP).tolist()
    expected = [reward - (sum(group) - reward) / (GROUP - 1) for group in groups for reward in group]
    assert algorithms.leave_one_out_advantages(REWARDS, GROUP).tolist() == pytest.approx(expected, abs=1e-6)


def test_advantages_by_hand():
    # mean 2, deviations -2, 0, 2 and standard deviation sqrt((4 + 0 + 4) / 2) = 2; the second group has no spread
    rewards = torch.tensor([0.0, 2.0, 4.0, 5.0, 5.0, 5.0])
    assert algorithms.group_advantages(rewards, 3).tolist() == pytest.approx([-1, 0, 1, 0, 0, 0], abs=1e-4)
    assert algorithms.group_advantages(rewards, 3, "none").tolist() == [-2, 0, 2, 0, 0, 0]
    for size, scale, words in [(4, "group", "whole groups"), (1, "group", "2 or more"), (3, "std", '"batch" or "none"')]:
        with pytest.raises(ValueError, match=words):
            algorithms.group_advantages(rewards, size, scale)


def test_the_three_averages_by_hand():
    values, mask = torch.tensor([[1.0, 2.0, 3.0], [8.0, 99.0, 99.0]]), torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    assert algorithms.average(values, mask, "grpo").item() == (2 + 8) / 2  # the mean of each response's mean
    assert algorithms.average(values, mask, "dapo").item() == (1 + 2 + 3 + 8) / 4  # of all tokens
    assert algorithms.average(values, mask, "dr_grpo", max_length=5).item() == pytest.approx(14 / (2 * 5))
    for kind, words in [("dr_grpo", "give the longest response"), ("ppo", '"dapo" or "dr_grpo"')]:
        with pytest.raises(ValueError, match=words):
            algorithms.average(values, mask, kind)
    assert algorithms.masked_mean(values, torch.zeros_like(mask)).item() == 0


def test_beta_without_a_reference_is_refused():
    ones = torch.ones(1, 2)
    with pytest.raises(ValueError, match="needs ref_logps"):
        algorithms.grpo_loss(ones, ones, torch.ones(1), ones, beta=0.1)


@pytest.fixture
def small():
    """A policy and a reference over six tokens, each token with its log-probability, in float64."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    logits = scores[0].clone().requires_grad_()
    return logits, logits.log_softmax(-1), scores[1].log_softmax(-1)


def gradient(value: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, logits, retain_graph=True)[0]


def test_k1_and_k3_are_unbiased_and_k2_is_not(small):
    _, logps, ref = small
    kl = (logps.exp() * (logps - ref)).sum().item()
    mean = {kind: (logps.exp() * algorithms.kl_estimate(logps, ref, kind)).sum().item() for kind in ("k1", "k2", "k3")}
    assert mean["k1"] == pytest.approx(kl, rel=1e-12) and mean["k3"] == pytest.approx(kl, rel=1e-12)
    assert abs(mean["k2"] - kl) > 0.02 * kl > 0
    assert all((algorithms.kl_estimate(logps, ref, kind) >= 0).all() for kind in ("k2", "k3"))
    assert (algorithms.kl_estimate(logps, ref, "k1") < 0).any()
    with pytest.raises(ValueError, match='"k1", "k2" or "k3"'):
        algorithms.kl_estimate(logps, ref, "k4")


def test_the_mean_gradient_of_k2_is_that_of_the_kl_and_k3s_is_not(small):
    """The samples, and so their probabilities, are held fixed, as they are in training."""
    logits, logps, ref = small
    sampled = logps.exp().detach()
    of_kl = gradient((logps.exp() * (logps - ref)).sum(), logits)
    of_reverse = gradient((ref.exp() * (ref - logps)).sum(), logits)  # of KL(reference || policy)
    mean = {
        kind: gradient((sampled * algorithms.kl_estimate(logps, ref, kind)).sum(), logits) for kind in ("k1", "k2", "k3")
    }
    assert torch.allclose(mean["k1"], torch.zeros_like(of_kl), atol=1e-12)
    assert torch.allclose(mean["k2"], of_kl, atol=1e-12)
    assert torch.allclose(mean["k3"], of_reverse, atol=1e-12) and not torch.allclose(mean["k3"], of_kl, rtol=0.1)
    ratio = (logps - logps.detach()).exp()  # what the library multiplies by
    corrected = gradient((sampled * ratio * algorithms.kl_estimate(logps, ref, "k3")).sum(), logits)
    assert torch.allclose(corrected, of_kl, atol=1e-12)


# PPO


def random_tokens(seed: int, rows: int = 4, length: int = 6):
    """Rewards, values and a ragged mask; what lies on the padding is large, so that a leak would show."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, length, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, length + 1, (rows, 1), generator=generator)
    mask = (torch.arange(length) < lengths).double()
    return torch.where(mask > 0, rewards, 1e6), torch.where(mask > 0, values, -1e6), mask


def slow_advantages(rewards, values, mask, gamma, lam):
    """The definition: A_t = sum over l of (gamma lam)^l delta_{t+l}, to the response's last token."""
    found = torch.zeros_like(rewards)
    for row in range(len(rewards)):
        last = int(mask[row].sum())
        value = [*values[row, :last].tolist(), 0.0]
        for t in range(last):
            for later in range(t, last):
                delta = rewards[row, later].item() + gamma * value[later + 1] - value[later]
                found[row, t] += (gamma * lam) ** (later - t) * delta
    return found


def check_advantage_estimation(functions, seeds=range(6)):
    for seed in seeds:
        rewards, values, mask = random_tokens(seed)
        for gamma, lam in [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0)]:
            advantages, returns = functions.generalised_advantages(rewards, values, mask, gamma, lam)
            slow = slow_advantages(rewards, values, mask, gamma, lam)
            assert torch.allclose(advantages, slow, atol=1e-12)
            assert torch.allclose(returns, (slow + values) * mask, atol=1e-12)


def test_advantages_are_those_of_the_definition():
    check_advantage_estimation(algorithms)


@pytest.mark.parametrize(
    "gamma, lam, expected",
    [
        # rewards 0, 0, 1 and values 0.5, 0.6, 0.7: delta = 0.6 - 0.5 = 0.1, 0.7 - 0.6 = 0.1, 1 - 0.7 = 0.3
        (1.0, 0.5, [0.1 + 0.5 * (0.1 + 0.5 * 0.3), 0.1 + 0.5 * 0.3, 0.3]),
        (1.0, 0.0, [0.1, 0.1, 0.3]),  # the TD error
        (1.0, 1.0, [1 - 0.5, 1 - 0.6, 1 - 0.7]),  # the return minus the value
        # gamma 0.9: delta = 0.9 · 0.6 - 0.5 = 0.04, 0.9 · 0.7 - 0.6 = 0.03, 0.3; gamma · lam = 0.45
        (0.9, 0.5, [0.04 + 0.45 * (0.03 + 0.45 * 0.3), 0.03 + 0.45 * 0.3, 0.3]),
        (0.9, 1.0, [0.81 - 0.5, 0.9 - 0.6, 1 - 0.7]),
    ],
)
def test_advantages_by_hand_token_by_token(gamma, lam, expected):
    rewards = torch.tensor([[0.0, 0.0, 1.0, 50.0]])
    values, mask = torch.tensor([[0.5, 0.6, 0.7, 80.0]]), torch.tensor([[1.0, 1.0, 1.0, 0.0]])
    advantages, returns = algorithms.generalised_advantages(rewards, values, mask, gamma, lam)
    assert advantages[0].tolist() == pytest.approx([*expected, 0.0], abs=1e-6)
    assert returns[0].tolist() == pytest.approx([a + v for a, v in zip(expected, (0.5, 0.6, 0.7))] + [0.0], abs=1e-6)


def check_token_rewards(functions):
    logps, ref, mask = random_tokens(0)
    logps.requires_grad_()
    scores = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    rewards = functions.token_rewards(scores, logps, ref, mask, beta=0.3)
    penalty = 0.3 * ((logps - ref) * mask).sum(1)
    assert not rewards.requires_grad
    assert torch.allclose(rewards.sum(1), scores - penalty)
    for row, length in enumerate(mask.sum(1).int().tolist()):
        expected = [-0.3 * (logps[row, t] - ref[row, t]).item() * (t < length) for t in range(6)]
        expected[length - 1] += scores[row].item()
        assert rewards[row].tolist() == pytest.approx(expected, abs=1e-12)  # each token pays for itself
    without = functions.token_rewards(scores, logps, ref, mask, beta=0.0)
    for row, length in enumerate(mask.sum(1).int().tolist()):
        expected = [0.0] * 6
        expected[length - 1] = scores[row].item()
        assert without[row].tolist() == expected  # the score, on the last token of the response


def test_token_rewards_sum_to_the_score_less_the_penalty():
    check_token_rewards(algorithms)


def check_clipping(functions):
    """One token each: the ratio, the advantage, the loss and its gradient to the log-probability."""
    table = [
        (1.1, 2.0, -2.2, -2.2),  # inside: -ρ A, and its gradient is -ρ A too
        (0.9, -2.0, 1.8, 1.8),
        (1.5, 2.0, -1.2 * 2, 0.0),  # risen enough, and it should rise: nothing more
        (1.5, -2.0, 3.0, 3.0),  # risen, and it should fall: not clipped
        (0.5, 2.0, -1.0, -1.0),  # fallen, and it should rise: not clipped
        (0.5, -2.0, 0.8 * 2, 0.0),  # fallen enough, and it should fall: nothing more
    ]
    for ratio, advantage, loss, slope in table:
        old = torch.tensor([[-1.5, 0.0]])
        logps = torch.tensor([[-1.5 + math.log(ratio), 9.0]], requires_grad=True)
        mask = torch.tensor([[1.0, 0.0]])
        found = functions.ppo_policy_loss(logps, old, torch.tensor([[advantage, 5.0]]), mask)
        found.backward()
        assert found.item() == pytest.approx(loss, rel=1e-5)
        assert logps.grad[0, 0].item() == pytest.approx(slope, rel=1e-5)
        assert logps.grad[0, 1].item() == 0.0 and (slope or logps.grad[0, 0].item() == 0.0)


def test_the_clip_takes_the_gradient_away_only_where_the_ratio_has_gone_far_enough():
    check_clipping(algorithms)


def check_policy_loop(functions):
    for seed in range(10):
        noise, advantages, mask = random_tokens(seed)
        noise = noise.clamp(-1, 1) * 0.5
        total = 0.0
        for row, column in mask.nonzero().tolist():
            ratio, advantage = math.exp(noise[row, column]), advantages[row, column].item()
            total += min(ratio * advantage, min(max(ratio, 0.7), 1.3) * advantage)
        old = torch.full_like(noise, -2.0)
        found = functions.ppo_policy_loss(old + noise, old, advantages, mask, epsilon=0.3)
        assert found.item() == pytest.approx(-total / mask.sum().item(), rel=1e-9)


def test_the_policy_loss_is_that_of_a_loop_over_the_tokens():
    check_policy_loop(algorithms)


def check_value_loss(functions):
    """One token each: the value and the return, both less the old value of 3, the loss and its gradient."""
    table = [
        (0.1, 2.0, 1.9**2 / 2, 0.1 - 2.0),  # inside the clip
        (1.0, 2.0, 1.8**2 / 2, 0.0),  # moved towards the return by more than 0.2: no more to gain
        (1.0, -1.0, 2.0**2 / 2, 1.0 + 1.0),  # moved away: pulled back
    ]
    for value, target, loss, slope in table:
        values = torch.tensor([[3 + value, 7.0]], requires_grad=True)
        mask = torch.tensor([[1.0, 0.0]])
        found = functions.value_loss(values, torch.full((1, 2), 3.0), torch.tensor([[3 + target, -7.0]]), mask)
        found.backward()
        assert found.item() == pytest.approx(loss, rel=1e-5)
        assert values.grad[0].tolist() == pytest.approx([slope, 0.0], rel=1e-5)
    for seed in range(5):
        values, returns, mask = random_tokens(seed)
        total = sum((values[i, j] - returns[i, j]).item() ** 2 for i, j in mask.nonzero().tolist())
        found = functions.value_loss(values, 0 * values, returns, mask, clip=None)
        assert found.item() == pytest.approx(total / mask.sum().item() / 2, rel=1e-9)


def test_the_value_loss_by_hand():
    check_value_loss(algorithms)


def check_whitening(functions):
    values, _, mask = random_tokens(3)
    white = functions.whiten(values, mask)
    kept = white[mask.bool()]
    assert kept.mean().item() == pytest.approx(0, abs=1e-9) and (white * (1 - mask)).abs().max() == 0
    assert kept.std(correction=0).item() == pytest.approx(1, rel=1e-6)
    assert torch.equal(kept.argsort(), values[mask.bool()].argsort())
    assert functions.whiten(torch.ones(2, 2), torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]


def test_whitened_is_mean_0_and_deviation_1():
    check_whitening(algorithms)


PPO_MISTAKES = [
    (check_advantage_estimation, "rewards[:, t] + gamma * next_value", "rewards[:, t] + next_value"),
    (check_advantage_estimation, "gamma * next_value - values[:, t]", "gamma * next_value + values[:, t]"),
    (check_advantage_estimation, "gamma * lam * after", "lam * after"),
    (check_advantage_estimation, "(delta + gamma * lam * after) * mask[:, t]", "delta + gamma * lam * after"),
    (check_advantage_estimation, "next_value = values[:, t] * mask[:, t]", "next_value = values[:, t]"),
    (check_advantage_estimation, "reversed(range(rewards.shape[1]))", "range(rewards.shape[1])"),
    (check_advantage_estimation, "(advantages + values) * mask", "advantages * mask"),
    (check_token_rewards, "-beta * (logps - ref_logps)", "beta * (logps - ref_logps)"),
    (check_token_rewards, "(logps - ref_logps).detach()", "(logps - ref_logps)"),
    (check_token_rewards, "mask.sum(1).long() - 1", "mask.sum(1).long() - 2"),
    (check_token_rewards, "mask.sum(1).long() - 1", "-1"),
    (check_clipping, "torch.min(ratio", "torch.max(ratio"),
    (check_clipping, "-masked_mean(clipped_surrogate", "masked_mean(clipped_surrogate"),
    (
        check_policy_loop,
        "masked_mean(clipped_surrogate(logps, old_logps, advantages, epsilon), mask)",
        "clipped_surrogate(logps, old_logps, advantages, epsilon).mean()",
    ),
    (check_policy_loop, "old_logps, advantages, epsilon), mask)", "old_logps, advantages), mask)"),
    (check_value_loss, "torch.max(error", "torch.min(error"),
    (check_value_loss, "masked_mean(error, mask) / 2", "masked_mean(error, mask)"),
    (check_value_loss, "old_values + (values - old_values)", "(values - old_values)"),
    (check_whitening, "values - masked_mean(values, mask)", "values - values.mean()"),
    (check_whitening, "+ 1e-8).sqrt() * mask", "+ 1e-8).sqrt()"),
]


@pytest.mark.parametrize("check, right, wrong", PPO_MISTAKES)
def test_a_mistake_in_ppo_is_caught(check, right, wrong):
    check(changed())
    with pytest.raises(AssertionError):
        check(changed(right, wrong))


# The value model


def test_a_value_is_about_the_text_before_its_token(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    critic = algorithms.ValueModel(model.model)
    prompts, answers = [[9], [5, 6, 7, 8]], [[20, 21, 22], [30]]
    ids, attention_mask, mask = algorithms.pad_responses(prompts, answers, pad_id=1)
    assert critic(ids, attention_mask, 3).tolist() == [[0.0] * 3] * 2  # the layer begins at zero
    torch.nn.init.normal_(critic.head.weight)
    values = critic(ids, attention_mask, 3)
    for row, (prompt, answer) in enumerate(zip(prompts, answers)):
        hidden = model.model(torch.tensor([prompt + answer])).last_hidden_state[0]
        alone = critic.head(hidden[len(prompt) - 1 : -1]).squeeze(-1)  # from the prompt's last token on
        assert values[row][mask[row].bool()].tolist() == pytest.approx(alone.tolist(), rel=1e-4, abs=1e-4)
    ids[0, -1] = 99
    assert torch.equal(critic(ids, attention_mask, 3)[0], values[0])  # the last token comes after all of them
