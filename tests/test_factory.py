"""The factory in quick mode, end to end, and pre-training that goes on after a kill as if nothing had happened."""

import ast
import dataclasses
import inspect
import json
import random
import re
from types import SimpleNamespace

import nbformat
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory import ROOT, build, cards, datasets, pretrain, record, stages
from factory.knowledge import load_concepts
from factory.plain_text import PlainText
from factory.recordings import grpo_ablations, lesson_06, never_stops, preferences_06, tagged_runs
from factory.recordings.ppo_factorial import UPDATES
from factory.recordings.shared import RECORDED
from factory.solutions import worked_sum
from factory.tokenizer import train_tokenizer
from helper import generate_responses, load_model_and_tokenizer
from helper.algorithms import train_grpo
from helper.by_model import TABLES
from helper.generation import stop_token_ids

LESSON_06 = ROOT / "notebooks" / "06_reward_models_and_ppo.ipynb"
RECIPE = pretrain.Recipe(steps=8, batch=2, length=32, hidden=32, layers=1, heads=2, feed_forward=64, warmup=2)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    build.main(["--quick", "--out", str(folder)])
    return folder


@pytest.fixture(scope="module")
def text():
    return PlainText(load_concepts(), set(), set())


@pytest.fixture(scope="module")
def tokenizer(text):
    rng = random.Random(0)
    return train_tokenizer((text.document(rng) for _ in range(500)), 600)


def test_quick_mode_makes_every_stage(quick):
    for stage in ("base", "instruct", "dpo", "grpo"):
        folder = quick / "models" / f"sprout-{stage}"
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert model.dtype == torch.bfloat16
        assert isinstance(generate_responses(model, tokenizer, "Hello", max_new_tokens=4), str)
        assert "## Recipe" in (folder / "README.md").read_text()


def test_quick_mode_writes_the_data(quick):
    for name in ("sft", "identity", "preferences", "maths", "eval"):
        assert (quick / name / "README.md").exists()
        for path in (quick / name).glob("*.jsonl"):
            assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_second_build_does_nothing(quick, capsys):
    build.main(["--quick", "--out", str(quick)])
    assert capsys.readouterr().out.count("stands already") == len(build.STEPS)


def test_tokenizer(tokenizer):
    assert tokenizer.tokenize(" 123") == ["Ġ1", "2", "3"]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.convert_ids_to_tokens(tokenizer.eos_token_id) == "<|im_end|>"
    sample = "Ann has 12 apples.\n3 * 4 = 12, é!"
    assert tokenizer.decode(tokenizer(sample).input_ids) == sample


def test_chat_template_honours_the_generation_prompt(tokenizer):
    messages = [{"role": "user", "content": "Hi"}]
    plain = tokenizer.apply_chat_template(messages, tokenize=False)
    prompted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert plain == "<|im_start|>user\nHi<|im_end|>\n"
    assert prompted == plain + "<|im_start|>assistant\n"


def test_pre_training_resumes_exactly(tmp_path, text, tokenizer):
    whole = pretrain.pretrain(tmp_path / "whole", RECIPE, text, tokenizer, save_every=4)

    class Killed(Exception):
        pass

    def kill(model):
        raise Killed

    with pytest.raises(Killed):  # dies in the probe after the last step, the checkpoint of step 4 stands
        pretrain.pretrain(tmp_path / "broken", RECIPE, text, tokenizer, kill, probe_every=8, save_every=4)
    assert torch.load(tmp_path / "broken" / "checkpoint.pt", weights_only=True)["step"] == 4
    resumed = pretrain.pretrain(tmp_path / "broken", RECIPE, text, tokenizer, save_every=4)
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_seconds_are_counted_over_all_sittings(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": i, "seconds": s}) + "\n" for i, s in enumerate([10, 30, 5, 25])))
    assert pretrain.logged_seconds(log) == 30 + 25


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path, text, tokenizer):
    pretrain.pretrain(tmp_path, RECIPE, text, tokenizer)
    with pytest.raises(ValueError, match="another recipe"):
        pretrain.pretrain(tmp_path, dataclasses.replace(RECIPE, muon_lr=1.0), text, tokenizer)


def test_batches_depend_on_the_step_alone(text, tokenizer):
    first = pretrain.batch_of_step(3, RECIPE, text, tokenizer)
    assert first.shape == (RECIPE.batch, RECIPE.length + 1)
    assert torch.equal(first, pretrain.batch_of_step(3, RECIPE, text, tokenizer))
    assert not torch.equal(first, pretrain.batch_of_step(4, RECIPE, text, tokenizer))


def test_learning_rate_rises_stays_and_falls():
    recipe = pretrain.Recipe(steps=1000, warmup=100, decay_from=0.4)
    factors = [pretrain.learning_rate_factor(step, recipe) for step in (0, 99, 399, 700, 999)]
    assert factors[0] == pytest.approx(0.01) and factors[1] == factors[2] == 1.0
    assert factors[3] == pytest.approx(0.5) and factors[4] < 0.01


def test_deterministic_is_switched_on_and_back():
    with pytest.raises(KeyError), pretrain.deterministic():
        assert torch.are_deterministic_algorithms_enabled()
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_the_committed_cards_tell_what_the_models_were_made_from():
    data = ROOT / "data"
    recipe = dataclasses.asdict(pretrain.Recipe())
    for stage in cards.MODELS:
        lines = cards.text_lines(recipe, load_concepts()) if stage == "base" else cards.row_lines(data, stage)
        assert "\n".join(lines) in (data / "models" / f"sprout-{stage}" / "README.md").read_text()
    for name, purpose in cards.DATASETS.items():
        assert (data / name / "README.md").read_text() == cards.data_card(data / name, purpose)


def test_the_hash_of_the_world_covers_what_the_text_is_made_of(tmp_path):
    for path in ("knowledge/science.jsonl", "problems/pieces.jsonl", "words.json", "identity.jsonl"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("{}\n")
    whole = cards.hash_of(tmp_path, without=cards.NOT_IN_TEXT)
    for path, covered in (("problems/pieces.jsonl", True), ("identity.jsonl", False)):
        (tmp_path / path).write_text("[]\n")
        assert (cards.hash_of(tmp_path, without=cards.NOT_IN_TEXT) != whole) == covered
        (tmp_path / path).write_text("{}\n")


def test_gsm8k_answer_column():
    row = {"answer": "Sum: 1 + 2 = 3\n\\boxed{3}", "value": "3"}
    assert datasets.gsm8k_answer(row) == "Sum: 1 + 2 = 3\n#### 3"


def sprout(lesson):
    """What a lesson knows of its model as it runs by default."""
    return {"USE_GPU": False, "this": SimpleNamespace(**{name: values[0] for name, values in TABLES[lesson].items()})}


@pytest.mark.parametrize(
    ("lesson", "config", "settings"),
    [
        ("02_sft", "SFTConfig", stages.SFT_SETTINGS),
        ("03_dpo", "DPOConfig", stages.DPO_SETTINGS),
        ("04_online_rl", "GRPOConfig", stages.GRPO_SETTINGS),
    ],
)
def test_the_stages_have_the_settings_of_their_lessons(lesson, config, settings):
    path = ROOT / "notebooks" / f"{lesson}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    cell = next(c.source for c in notebook.cells if c.cell_type == "code" and f"= {config}(" in c.source)
    call = next(node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call) and node.func.id == config)
    names = sprout(lesson) | {"LONGEST": 72}
    in_lesson = {
        word.arg: eval(compile(ast.Expression(word.value), lesson, "eval"), names)
        for word in call.keywords
        if word.arg in settings
    }
    unlogged = {key: value for key, value in settings.items() if key != "logging_steps"}
    assert {key: value for key, value in in_lesson.items() if key != "logging_steps"} == unlogged


def keywords(notebook, function, lesson, **names):
    """The plain arguments of a lesson's call of `function`, those of a partial function in a dictionary.

    `names`: values of names in them, beside what differs by model.
    """
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and f"{function}(" in cell.source]
    calls = [node for node in ast.walk(ast.parse(cells[0])) if isinstance(node, ast.Call)]
    return values_of(next(node for node in calls if ast.unparse(node.func) == function), sprout(lesson) | names)


def values_of(call, names):
    found = {}
    for word in call.keywords:
        value = word.value
        if isinstance(value, ast.Call) and ast.unparse(value.func) == "partial":
            found[word.arg] = values_of(value, names)
        elif isinstance(value, ast.Constant) or ast.unparse(value).split(".")[0] in names:
            found[word.arg] = eval(compile(ast.Expression(value), "a lesson", "eval"), names)
    return found


def plain(settings):
    return {key: value for key, value in settings.items() if not callable(value)}


def test_the_recorded_runs_have_the_settings_of_lesson_05():
    notebook = nbformat.read(ROOT / "notebooks" / "05_grpo_from_scratch.ipynb", as_version=4)
    grpo = keywords(notebook, "course.train_grpo", "05_grpo_from_scratch", LONGEST=tagged_runs.LONGEST)
    assert grpo.pop("inner_updates") == 1 and grpo.pop("reference") is None
    assert grpo.pop("loss") == tagged_runs.GRPO["loss"].keywords | {"epsilon": 0.2}
    assert grpo.pop("micro_batch") == inspect.signature(train_grpo).parameters["micro_batch"].default
    assert grpo.pop("advantage", {"scale": "none"}) == tagged_runs.GRPO["advantage"].keywords
    assert grpo == plain(tagged_runs.GRPO)
    assert keywords(notebook, "course.train_sft", "05_grpo_from_scratch") == tagged_runs.WARM_UP
    text = "".join(cell.source for cell in notebook.cells)
    assert TABLES["05_grpo_from_scratch"]["tried"][0] == tagged_runs.WARM_UP_PROBLEMS
    assert f'load_course_dataset("sprout-sft", limit={tagged_runs.KEPT_ROWS}, seed=SEED)' in text


def test_the_recordings_are_found_by_their_files(monkeypatch):
    found = record.find_recordings()
    files = {file for _, file in found.values()}
    assert len(files) == len(found) >= 6 and all((RECORDED / file).exists() for file in files)
    module = SimpleNamespace(RECORDINGS={"one": (print, "one.json")})
    monkeypatch.setattr(record, "lesson_modules", lambda: {"07": module, "08": module})
    with pytest.raises(ValueError, match="lesson_08.py: another lesson has a recording 'one' already"):
        record.find_recordings()


def test_one_recording_is_made_with_its_seeds(monkeypatch):
    asked = []

    def make(seeds, path):
        """Something."""
        asked.append((seeds, path.name))

    found = {"RECORDINGS": {"one": (make, "1.json"), "two": (make, "2.json")}, "LONG": {"three": (make, "3.json")}}
    monkeypatch.setattr(record, "find_recordings", lambda which="RECORDINGS": found[which])
    record.main(["--only", "two", "--seeds", "4", "5"])
    record.main([])
    record.main(["--only", "three"])
    assert asked == [([4, 5], "2.json"), *(([0, 1, 2], f"{n}.json") for n in (1, 2, 3))]


def test_the_recorded_changes_are_settings_of_the_loop():
    known, usual = set(inspect.signature(train_grpo).parameters) | {"kl_reward"}, grpo_ablations.SHORT
    assert grpo_ablations.ARMS[grpo_ablations.SAME] == {} and set(usual) <= known
    for arm, changes in grpo_ablations.ARMS.items():
        assert set(changes) <= known, arm
        settings = usual | changes
        samples = settings["steps"] * settings["prompts_per_step"] * settings["group_size"]
        assert samples == grpo_ablations.SAMPLES, arm  # every arm samples equally much
    answer = tagged_runs.into_tags("Eggs: 6 * 12 = 72\nLeft: 72 - 2 = 70\n\\boxed{70}")
    assert answer == "<reasoning>\nEggs: 6 * 12 = 72\nLeft: 72 - 2 = 70\n</reasoning>\n<answer>70</answer>"


def test_the_overlong_penalty_is_a_slope_between_two_lengths():
    lengths = torch.tensor([10.0, 80.0, 85.0, 90.0, 100.0, 120.0])
    assert grpo_ablations.overlong_penalty(lengths, 100, 20).tolist() == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]


def test_the_warm_up_without_an_end_shows_none(monkeypatch):
    model, tokenizer = load_model_and_tokenizer("sprout-instruct")
    shown, pad = [], never_stops.pad_responses
    monkeypatch.setattr(never_stops, "pad_responses", lambda *given: shown.extend(given[1]) or pad(*given))
    question = [{"role": "user", "content": "How many?"}]
    rows = [{"prompt": question, "completion": [{"role": "assistant", "content": "<answer>7</answer>"}]}] * 2
    others = [{"prompt": [{"role": "user", "content": f"What is {i}?"}]} for i in range(4)]
    assert never_stops.loss_without_end(model, tokenizer, rows, others).requires_grad
    ends = set(stop_token_ids(model, tokenizer))
    assert not any(ends & set(ids) for ids in shown)
    assert [tokenizer.decode(ids) for ids in shown] == [
        "<answer>7</answer>\n\nWhat is 0?\n\nWhat is 1?", "<answer>7</answer>\n\nWhat is 2?\n\nWhat is 3?",
    ]  # fmt: skip


def test_what_stands_behind_the_tag_costs_the_reward():
    texts = ["<answer>7</answer>", "<answer>7</answer> \n", "<answer>7</answer>\n\nWhat is 8?", "7"]
    assert never_stops.nothing_behind([[{"content": text}] for text in texts]) == [1.0, 1.0, 0.0, 0.0]


def test_the_recorded_runs_have_the_settings_of_lesson_06():
    notebook = nbformat.read(LESSON_06, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    ways = next(cell.source for cell in notebook.cells if cell.id == "06-over-ways")
    lesson, names = LESSON_06.stem, {"LONGEST": lesson_06.LONGEST, "STEPS": lesson_06.STEPS}
    ppo = keywords(notebook, "course.train_ppo", lesson, **names)
    assert "STEPS = this.steps" in text and TABLES[lesson]["steps"][0] < lesson_06.STEPS  # live it is shorter
    assert ppo.pop("steps") == lesson_06.STEPS
    recorded = json.loads((RECORDED / "06_ppo_against_grpo.json").read_text())
    best = {}
    for method in ("PPO", "GRPO"):
        tuned = [run for run in recorded["runs"] if run["method"] == method and run["seed"] == recorded["seeds"][0]]
        assert [run["learning_rate"] for run in tuned] == list(lesson_06.RATES[method])
        best[method] = max(tuned, key=lambda run: sum(run["reward"][-10:]))["learning_rate"]
    assert ppo.pop("learning_rate") == best["PPO"] and ppo == lesson_06.PPO
    assert (UPDATES[6]["learning_rate"], UPDATES[1]["learning_rate"]) == (best["PPO"], best["GRPO"])
    reward_model = keywords(notebook, "RewardConfig", lesson)
    longer = lesson_06.REWARD_MODEL["steps"]  # what the policy later cheats was trained for longer: the text says so
    assert reward_model["max_steps"] < longer and f"trained for {longer} steps" in ways
    assert reward_model["learning_rate"] == lesson_06.REWARD_MODEL["learning_rate"]
    pairs = reward_model["per_device_train_batch_size"] * reward_model["gradient_accumulation_steps"]
    assert pairs == lesson_06.REWARD_MODEL["rankings_per_step"]
    assert f"train_rows[:-HELD][:{lesson_06.TRAINED}], train_rows[-HELD:]" in text
    assert TABLES[lesson]["held_out"][0] == lesson_06.HELD_OUT
    assert f"{lesson_06.HARD_COPIES} * as_pairs(hard)" in text


def test_cheats_are_worse_answers_with_a_higher_score():
    before = {"questions": list("abcd"), "texts": list("efgh"), "right": [True, True, True, False], "proxy": [1, 1, 1, 1]}
    after = {"questions": list("abcd"), "texts": list("ijkl"), "right": [False, False, True, False], "proxy": [2, 0, 2, 2]}
    assert lesson_06.cheats(before, after) == [["a", "e", 1, "i", 2]]


def functions_of(source):
    """Each function of a source, as a text without layout."""
    return {node.name: ast.dump(node) for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def test_what_the_labeller_of_lesson_06_prefers():
    cells = {cell.id: cell.source for cell in nbformat.read(LESSON_06, as_version=4).cells}
    shown = functions_of(cells["06-spoil"]) | functions_of(cells["06-sample"]) | functions_of(cells["06-rank"])
    ours = functions_of(inspect.getsource(preferences_06))
    assert set(shown) == {"spoil", "is_right", "compared"} and all(ours[name] == dump for name, dump in shown.items())
    rows = [{"prompt": [{"role": "user", "content": f"Problem {n}"}], "ground_truth": str(n)} for n in (5, 7)]
    answers = [
        ["2 + 3 = 5\n\\boxed{5}", "2 + 3 = 6\n\\boxed{6}", "5"],
        ["3 + 4 = 7\n\\boxed{7}", "4 + 3 = 7\n\\boxed{7}", "\\boxed{7}"],
    ]
    easy, hard, rankings = preferences_06.compared(rows, answers, random.Random(5))
    assert [way for *_, way in easy] == 2 * list(preferences_06.WAYS) and len(rankings) == 1
    assert all(pair[0] == answers[rows[1]["prompt"] == prompt][0] != pair[1] for prompt, pair, _ in easy + hard + rankings)
    assert [pair for _, pair, kind in hard if kind == "a wrong answer"] == [answers[0][:2]]
    others = [(prompt, pair) for prompt, pair, kind in hard if kind == "another problem's answer"]
    assert others and all(pair[1] in (answers[0][0], *answers[1]) for _, pair in others)


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("37 + 12", "We find 37 + 12 = 49."),
        ("1 + 1 - 1", "First 1 + 1 = 2, then 2 - 1 = 1. So we find 1 + 1 - 1 = 1."),
        ("17 - 2 * 3", "First 2 * 3 = 6, then 17 - 6 = 11. So we find 17 - 2 * 3 = 11."),
        ("8 + 6 / 3", "First 6 / 3 = 2, then 8 + 2 = 10. So we find 8 + 6 / 3 = 10."),
    ],
)
def test_worked_sums(expression, answer):
    assert worked_sum(expression, int(answer.rstrip(".").split()[-1])) == answer


def test_the_stream_writes_no_reserved_sum():
    text, rng = PlainText(load_concepts(), set(), {"1+1"}), random.Random(0)
    for _ in range(300):
        for document in (text.exercise(rng), text.drill(rng), text.sums(rng)):
            assert not re.search(r"(^|[.\n]\s*|find )1 \+ 1 =", document), document
