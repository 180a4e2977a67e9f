"""Every explorer is moved by its controls' values; what it shows is compared with numbers computed apart."""

import functools
import json
import math
import re
import threading
import time
from html import unescape

import nbformat
import numpy as np
import pytest
import torch
from datasets import Dataset
from ipywidgets import Button, Text
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from tiny import make_model
from trl import SFTConfig, SFTTrainer

from factory.lessons import WIDGETS, clean
from factory.recordings import lesson_02 as recording
from factory.recordings import lesson_03
from helper import generate_responses, next_token_table, rewards, wilson_interval
from helper.explorers.advantages import explore_group_advantages, read_rewards
from helper.explorers.beta_map import explore_beta_map
from helper.explorers.chat import chat_side_by_side
from helper.explorers.dpo_loss import BETAS, explore_dpo_loss
from helper.explorers.explorer import LONGEST_TEXT, Explorer
from helper.explorers.learning_rates import explore_learning_rates
from helper.explorers.next_tokens import explore_next_token
from helper.explorers.rewards import reward_playground
from helper.explorers.tokens import MASKS, explore_tokens, labelled_tokens
from helper.figures.page import View, in_words
from helper.machine.folders import project_folder
from helper.models import end_of_turn_id
from helper.preference_runs import load_preference_runs

pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from")  # a random model's tokens; as helper.quiet does
HOSTILE = '<img src=x onerror=alert(1)>"><script>alert(1)</script> $x$'
MESSAGES = [{"role": "user", "content": "what is 12 + 34?"}, {"role": "assistant", "content": "12 + 34 = 46"}]
RULES = [rewards.reward_func, rewards.boxed_format_reward, rewards.graded_reward, rewards.hackable_reward]
RECORD = project_folder() / "data" / "recorded" / "learning_rates.json"


@pytest.fixture
def models(model, tokenizer):
    return {"before": (model, tokenizer), "after": (make_model(tokenizer, seed=1), tokenizer)}


@pytest.fixture
def explorers(models, tokenizer):
    return {
        "next token": explore_next_token(models),
        "chat": chat_side_by_side(models, max_new_tokens=5),
        "tokens": explore_tokens(tokenizer, MESSAGES),
        "dpo": explore_dpo_loss(),
        "advantages": explore_group_advantages([1, 0, 2]),
        "rewards": reward_playground(RULES),
        "rates": explore_learning_rates(),
        "beta map": explore_beta_map(),
    }


def move(explorer, **values):
    """Set controls as a hand would; what is shown then, in words."""
    for name, value in values.items():
        explorer.controls[name.replace("_", " ")].value = value
    assert explorer.view.value == explorer.shown.html
    return explorer.shown.words


def text_of(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_every_explorer_has_a_static_page_and_named_controls(explorers):
    for name, explorer in explorers.items():
        bundle = explorer._repr_mimebundle_()
        assert set(bundle) == {WIDGETS, "text/html", "text/plain"}, name
        assert explorer.view.value in bundle["text/html"] and "Run the cell in JupyterLab" in bundle["text/html"]
        assert bundle["text/plain"] == explorer.shown.words
        assert all(control.description for control in explorer.controls.values()), name
        for tag in re.findall(r"<img[^>]*>", bundle["text/html"]):
            alt = unescape(re.search(r' alt="([^"]*)"', tag).group(1))
            assert alt == explorer.shown.words and re.search(r"\d", alt), name
            assert 'src="data:image/png;base64,iVBOR' in tag and "max-width: 100%" in tag
    pictures = [name for name, explorer in explorers.items() if "<img" in explorer.view.value]
    assert pictures == ["next token", "dpo", "advantages", "rates", "beta map"]


def test_every_control_changes_what_is_shown(explorers):
    new = {
        "next token": {"text": "user", "chat": True, "answer": "the"},
        "chat": {"message": "one two three"},
        "tokens": {"message 0": "six", "message 1": "seven", "mask": "no end"},
        "dpo": {"chosen": 3.0, "rejected": -2.0, "beta": 1.0},
        "advantages": {"text": "1, 1, 0"},
        "rewards": {"completion": "72", "expected": "71"},
        "rates": {"rate": 2e-2},
        "beta map": {"loss": "sigmoid", "beta": 0.5, "rate": 4e-3},
    }
    for name, changes in new.items():
        for control, value in changes.items():
            before = explorers[name].view.value
            move(explorers[name], **{control: value})
            assert explorers[name].view.value != before, (name, control)


def test_next_tokens_are_those_of_the_models(models, tokenizer):
    explorer = explore_next_token(models, "the capital")
    asked = [{"role": "user", "content": "one two"}]
    chat = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    for words, text in ((explorer.shown.words, "the capital"), (move(explorer, text="one two", chat=True), chat)):
        for name, pair in models.items():
            table = next_token_table(*pair, text)
            top = [f"{token} {share:.0%}" for token, share in zip(table["token"][:3], table["probability"])]
            assert f"{name}: {', '.join(top)}" in words
    for name, pair in models.items():
        move(explorer, answer="")
        explorer.controls[f"append {name}"].click()
        table = next_token_table(*pair, chat)
        assert explorer.controls["answer"].value.replace(" ", "␣").replace("\n", "\\n") == table["token"][0]
    explorer.controls["clear"].click()
    assert explorer.controls["answer"].value == ""


def test_both_models_answer_and_the_lessons_random_numbers_stay(models):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    explorer = chat_side_by_side(models, "one two", max_new_tokens=6)
    assert torch.equal(torch.rand(1), expected)
    for name, pair in models.items():
        text = generate_responses(*pair, "one two", max_new_tokens=6)
        assert f"{name}: {text or '(nothing)'}" in explorer.shown.words
    with_system = chat_side_by_side({"before": models["before"]}, "one two", 6, system_message="three four")
    text = generate_responses(*models["before"], "one two", "three four", max_new_tokens=6)
    assert f"before: {text or '(nothing)'}" in with_system.shown.words
    shown = {}
    for seed in (1, 2, 1):
        before = explorer.shown.words
        assert move(explorer, temperature=1.5, seed=seed) == before  # a real model is slow: only the button asks it
        explorer.controls["ask"].click()
        shown.setdefault(seed, []).append(explorer.shown.words)
    assert shown[1][0] == shown[1][1] != shown[2][0]


def test_the_labels_are_the_trainers(tokenizer, model, tmp_path):
    system, answer = {"role": "system", "content": "one"}, {"role": "assistant", "content": " two\n\nthree"}
    rows = [MESSAGES, [system, MESSAGES[0], answer]]
    pairs = Dataset.from_list([{"prompt": row[:-1], "completion": row[-1:]} for row in rows])
    model.save_pretrained(tmp_path)
    arguments = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none", save_strategy="no")
    trainer = SFTTrainer(
        model=type(model).from_pretrained(tmp_path), args=arguments, train_dataset=pairs, processing_class=tokenizer
    )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    for number, row in enumerate(rows):
        length = int(batch["attention_mask"][number].sum())
        ids, labels = batch["input_ids"][number][:length].tolist(), batch["labels"][number][:length].tolist()
        assert labelled_tokens(tokenizer, row) == [(i, label != -100) for i, label in zip(ids, labels)]


def test_the_mask_and_the_end_of_turn_are_marked(tokenizer):
    explorer, end = explore_tokens(tokenizer, MESSAGES), end_of_turn_id(tokenizer)
    for mask in MASKS:
        words = move(explorer, mask=mask)
        tokens = labelled_tokens(tokenizer, MESSAGES, mask)
        trained = [token for token, kept in tokens if kept]
        read = len(tokens) - len(trained)
        assert f"{len(tokens)} tokens: {read} only read (label -100), {len(trained)} trained" in words
        assert ("turn: trained" in words) == (end in trained) == (mask != "no end")
        marks = re.search(r"<div[^>]*>(?:(?!<div).)*</div>(?=<ul)", explorer.view.value).group()
        assert marks.count("<u>") == len(trained)  # underlined, not only blue
        assert marks.count("border:2px") == sum(token == end for token, _ in tokens) == 2


def test_the_dpo_numbers_are_those_of_automatic_differentiation():
    explorer = explore_dpo_loss()
    assert f"loss -log σ(β·m) {math.log(2):.4f}" in explorer.shown.words
    for chosen, rejected, beta in ((3.0, -2.0, 0.2), (-15.0, 15.0, 5.0), (15.0, -15.0, 5.0), (-3.0, -13.0, 0.1)):
        ratios = torch.tensor([chosen, rejected], dtype=torch.float64, requires_grad=True)
        loss = -torch.nn.functional.logsigmoid(beta * (ratios[0] - ratios[1]))
        loss.backward()
        words = move(explorer, chosen=chosen, rejected=rejected, beta=beta)
        push = -ratios.grad[0].item()
        assert f"loss -log σ(β·m) {loss.item():.4f}" in words and f"push on each answer, β·σ(-β·m) {push:.4f}" in words
        assert f"gradient weight σ(-β·m) {push / beta:.4f}" in words
        assert f"chosen {beta * chosen:+.3f}, rejected {beta * rejected:+.3f}" in words
    assert explorer.controls["beta"].options[0] == ("0.01", BETAS[0])


@pytest.mark.parametrize("group", [[1, 0, 2], [0, 0, 0, 1], [-0.5, 0.25], [0.1, 0.1, 0.1]])
def test_advantages_with_and_without_std(group):
    explorer = explore_group_advantages()
    words = move(explorer, text="; ".join(map(str, group)))
    values = torch.tensor(group, dtype=torch.float64)
    centred = values - values.mean() if len(set(group)) > 1 else torch.zeros(len(group))
    for name, advantages in (("advantages", centred), ("divided by std", centred / (values.std() + 1e-4))):
        assert f"{name}: {', '.join(f'{a:+.2f}' for a in advantages.tolist())}" in words
    assert ("teaches nothing" in words) == (len(set(group)) == 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1, two", '"two" is not a number'), ("", "2 to 16"), ("1", "2 to 16"), ("1 " * 17, "these are 17"),
        ("nan 1", "nan and inf"), ("inf 1", "nan and inf"), ("1e400 1", "nan and inf"), ("1e9 1", "too large"),
        (HOSTILE, "is not a number"),
    ],
)  # fmt: skip
def test_bad_rewards_are_answered_in_words(text, said):
    explorer = explore_group_advantages()
    assert said in move(explorer, text=text) and said in text_of(explorer.view.value)
    assert "advantages: +0.50, -0.50" in move(explorer, text="1 0")  # and it goes on
    with pytest.raises(ValueError, match=re.escape(said)):
        read_rewards(text)


def test_rewards_pay_what_their_functions_pay():
    explorer = reward_playground(RULES, "72", "")
    texts = [r"\boxed{72}", r"\boxed{71} 72", "6 * 12 = 72", r"\boxed{72", r"\boxed{72.0}", "", r"\boxed{}", HOSTILE]
    for text in texts:
        words = move(explorer, completion=text)
        for rule in RULES:
            assert f"{rule.__name__} pays {rule([text], ground_truth=['72'])[0]:g}: " in words
    assert 'the last box holds "71", not equal to "72"' in move(explorer, completion=texts[1])
    assert "the number 72 stands somewhere" in explorer.shown.words and "1 × \\boxed" in explorer.shown.words
    assert "no complete \\boxed{}" in move(explorer, completion="72")
    assert "at most 1,000" in move(explorer, completion="7" * (LONGEST_TEXT + 1))


def test_what_is_wrong_with_a_reward_function_is_said():
    def crashes(completions, **kwargs):
        raise KeyError("answer")

    def no_kwargs(completions):
        return [1.0]

    def own_rule(completions, **kwargs):
        """Pays for politeness.

        More words.
        """
        return [0.5]

    broken = {"crashes": crashes, "no kwargs": no_kwargs, "own": own_rule, "alone": lambda completions, **kwargs: 1.0}
    broken |= {"nan": lambda completions, **kwargs: [math.nan], "none": lambda completions, **kwargs: [None]}
    words = reward_playground(broken).shown.words
    assert "crashes pays error: KeyError: 'answer'" in words and "no kwargs pays error: TypeError" in words
    assert "own pays 0.5: Pays for politeness." in words and "alone pays ?: it must return a list" in words
    assert "nan pays nan: no usable reward" in words and "none pays None: no usable reward" in words


def test_learning_rates_are_those_recorded():
    record, explorer = json.loads(RECORD.read_text("utf-8")), explore_learning_rates()
    rates = [run["learning_rate"] for run in record["runs"]]
    assert rates == list(recording.RATES) and record["settings"] == recording.SHORT
    assert record["command"] == "python -m factory.record --only learning_rates"
    for run in record["runs"]:
        words = move(explorer, rate=run["learning_rate"])
        right, n = run["right"], record["n"]
        low, high = wilson_interval(right, n)
        assert f"{right} of {n}, {right / n:.0%} (95%: {low:.0%} to {high:.0%})" in words
        assert f"{run['loss'][-1]:.2f} in the last" in words and all(answer in words for answer in run["answers"])
    with pytest.raises(FileNotFoundError, match="make record"):
        explore_learning_rates("nothing.json")


def test_the_beta_map_shows_the_seeds_of_a_setting():
    record, explorer = load_preference_runs("beta_map"), explore_beta_map()
    assert record["betas"] == list(lesson_03.BETAS) and record["rates"] == list(lesson_03.RATES)
    for beta, rate in ((0.02, 1e-4), (0.5, 4e-3)):
        setting = {"loss": "both", "beta": beta, "learning_rate": rate}
        runs = [run for run in record["runs"] if setting.items() <= run.items()]
        words = move(explorer, loss="both", beta=beta, rate=rate)
        assert f"β = {beta:g}, learning rate {rate:g}; {len(runs)} seeds" in words
        assert ", ".join(f"{run['name'].count('1') / 96:.0%}" for run in runs) in words


def test_a_text_that_is_empty_or_too_long_is_answered_in_words(models, tokenizer):
    named = {"text": explore_next_token(models), "message": chat_side_by_side(models, max_new_tokens=3)}
    for name, explorer in named.items():
        assert "no text yet" in move(explorer, **{name: " "})
        assert "at most 1,000" in move(explorer, **{name: "a" * 1001})
        for button in (control for control in explorer.controls.values() if isinstance(control, Button)):
            button.click()
        assert "at most 1,000" in explorer.shown.words
    long = [{"role": "user", "content": "a" * 1001}, MESSAGES[1]]  # a lesson must not stop at such a row
    assert "at most 1,000" in explore_tokens(tokenizer, long).shown.words
    explorer = explore_tokens(tokenizer, MESSAGES)
    assert "at most 1,000" in move(explorer, message_0="a" * 1001)


def test_an_error_of_a_model_becomes_words(models):
    def broken(*args, **kwargs):
        raise RuntimeError("out of memory " + HOSTILE)

    explorer = chat_side_by_side(models, max_new_tokens=3)
    models["after"][0].model.forward = broken  # an instance's own attribute, which the models of other tests do not have
    explorer.controls["ask"].click()
    with pytest.raises(RuntimeError):
        chat_side_by_side(models)  # in a cell an error stays an error
    assert "RuntimeError: out of memory" in explorer.shown.words and "<img" not in explorer.view.value


def test_what_others_wrote_is_escaped(models, tokenizer, monkeypatch, tmp_path):
    monkeypatch.setattr("helper.explorers.chat.generate_responses", lambda *args, **options: HOSTILE)
    named = {HOSTILE: models["before"]}
    messages = [{"role": "user", "content": HOSTILE}, {"role": "assistant", "content": HOSTILE}]
    record = json.loads(RECORD.read_text("utf-8"))
    for run in record["runs"]:
        run["answers"] = [HOSTILE, HOSTILE]

    def rule(completions, **kwargs):
        raise ValueError(HOSTILE)

    explorers = [
        explore_next_token(named, HOSTILE), chat_side_by_side(named, HOSTILE), explore_tokens(tokenizer, messages),
        reward_playground({HOSTILE: rule}, HOSTILE, HOSTILE),
    ]  # fmt: skip
    (tmp_path / "record.json").write_text(json.dumps(record))
    explorers.append(explore_learning_rates(tmp_path / "record.json"))
    for explorer in explorers:
        html = explorer._repr_mimebundle_()["text/html"]
        pictures = re.findall(
            r'<img alt="[^"]*" width="\d+" height="\d+" style="[^"]*" src="data:image/png;base64,[A-Za-z0-9+/=]+">', html
        )
        assert html.count("<img") == len(pictures) and "<script" not in html
        assert "alert(1)" in re.sub(r"\s|␣", "", text_of(html)) and '<div class="tex2jax_ignore mathjax_ignore"' in html


def test_in_a_saved_notebook_the_page_stays_and_the_widget_goes(tmp_path):
    codes = [
        "from helper.explorers.dpo_loss import explore_dpo_loss\nexplore_dpo_loss()",
        "from helper.explorers.advantages import explore_group_advantages\nexplore_group_advantages([1, 0, 2])",
    ]
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    notebook = nbformat.v4.new_notebook(cells=cells)
    options = {"resources": {"metadata": {"path": str(tmp_path)}}, "store_widget_state": False}
    NotebookClient(notebook, timeout=120, kernel_name="python3", **options).execute()
    assert [list(output.data) for cell in notebook.cells for output in cell.outputs].count([]) == 0
    assert all(WIDGETS in cell.outputs[0].data for cell in notebook.cells)
    notebook = clean(notebook)
    assert "widgets" not in notebook.metadata
    for cell in notebook.cells:
        assert [set(output.data) for output in cell.outputs] == [{"text/html", "text/plain"}]
        assert '<img alt="' in cell.outputs[0].data["text/html"]
    rendered = HTMLExporter(template_name="basic").from_notebook_node(notebook)[0]
    assert rendered.count('alt="The DPO loss') == rendered.count('alt="Rewards 1, 0, 2.') == 1


def test_the_last_of_two_moves_is_shown_although_they_come_in_two_threads():
    begun = threading.Event()

    def show(text: str) -> View:
        if text == "slow":
            begun.set()
            time.sleep(0.3)
        return in_words(text)

    box = Text("first")
    explorer = Explorer({"text": box}, show)
    slow = threading.Thread(target=setattr, args=(box, "value", "slow"))
    slow.start()
    assert begun.wait(10)
    box.value = "last"
    slow.join()
    assert explorer.shown.words == "last" and "last" in explorer.view.value


def weighted(completions, weight, **kwargs):
    """What a completion weighs."""
    return [weight for _ in completions]


@pytest.mark.parametrize(
    ("value", "paid"),
    [
        (np.float32(0.5), "0.5"), (True, "1"), (np.bool_(False), "0"), (torch.tensor(0.25), "pays 0.25: "),
        (np.array(0.25), "pays 0.25: "), (torch.ones(1), "no usable reward"),
        (10**400, "no usable reward"), ([1.0], "no usable reward"), (1j, "no usable"),
        ("1", "no usable reward"), (math.inf, "no usable reward"), (None, "no usable reward"),
    ],
)  # fmt: skip
def test_partial_functions_and_odd_rewards_are_shown_in_words(value, paid):
    explorer = reward_playground([functools.partial(weighted, weight=value)])
    assert explorer.shown.words.startswith("weighted(weight=") and paid in explorer.shown.words
    assert ("What a completion weighs" in explorer.shown.words) == ("no usable" not in paid)


def test_a_result_of_no_dimension_is_shown_in_words():
    explorer = reward_playground({"tensor": lambda completions, **kwargs: torch.tensor(1.0)})
    assert (
        "tensor pays ?: it must return a list with one number per completion; it returned tensor(1.)" in explorer.shown.words
    )
