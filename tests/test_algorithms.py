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
import torch.nn.functional as F
from datasets import Dataset
from kill_runs import save_tiny_model, tiny_rows, tiny_trainer
from transformers import AutoModelForSequenceClassification, AutoTokenizer
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
    assert_close(loss.detach(), case.loss, "loss")
    ours = gradients(case.model, loss) if loss.requires_grad else {}
    assert case.gradients and set(ours) == set(case.gradients)
    for name, gradient in case.gradients.items():
        assert_close(ours[name], gradient, name)


def assert_close(ours: torch.Tensor, theirs: torch.Tensor, name: str) -> None:
    difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
    assert difference <= CLOSE * largest + 1e-8, f"{name}: {difference:.2e} apart, of {largest:.2e}"


def shake(model, seed: int, size: float = 0.01) -> None:
    """Moves every weight a little, as some training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(size * torch.randn(weight.shape, generator=generator))


# The library's part of each case


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"))


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
