"""The recipes: each read by its library's own parser, wrong keys named, one process and two with the same losses.

Left out on purpose: DeepSpeed and vLLM, which are not installed. Their recipes' keys are checked against accelerate's and
TRL's own names; nothing of them is run.
"""

import difflib
import json

import pytest
import yaml

from factory import recipe_rows
from helper.machine.folders import project_folder
from helper.recipes import RecipeError, as_overrides, check_recipe, launch, run_recipe

RECIPES = project_folder() / "recipes"
CHECKED = sorted(path for path in RECIPES.rglob("*.yaml") if not path.stem.startswith("verl"))


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: path.relative_to(RECIPES).as_posix())
def test_each_recipe_is_read_by_its_own_parser(path):
    assert check_recipe(path) == yaml.safe_load(path.read_text("utf-8"))


def test_all_of_them_are_found():
    names = {path.relative_to(RECIPES).as_posix() for path in CHECKED}
    trained = {f"{method}.yaml" for method in ("sft", "dpo", "grpo")} | {"grpo_vllm_colocate.yaml", "grpo_vllm_server.yaml"}
    assert names == trained | {f"accelerate/{name}.yaml" for name in ("ddp", "fsdp2", "zero2", "zero3")}


def test_no_folder_beside_the_scripts_is_taken_for_a_package():
    """A script's own folder comes first on Python's path: a folder `vllm` there would look like the package."""
    folders = [path.name for path in RECIPES.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert folders == ["accelerate"]  # installed, and a package with an __init__.py goes before a plain folder


WRONG = {
    "a misspelt key": ("sft.yaml", "learning_rate:", "lerning_rate:", "line 17: there is no key `lerning_rate`; did you"),
    "one that is gone": ("sft.yaml", "max_length:", "max_seq_length:", "no key `max_seq_length`; did you mean `max_length`"),
    "below a list": ("sft.yaml", "    split:", "    splitt:", "`datasets` has no key `splitt`; did you mean `split`"),
    "one twice": ("sft.yaml", "seed: 0", "seed: 0\nseed: 1", "line 19: `seed` stands in line 18 too"),
    "no number": ("sft.yaml", "max_steps: 8", "max_steps: many", "max_steps.*: invalid int value: 'many'"),
    "of another method": ("sft.yaml", "seed: 0", "seed: 0\nnum_generations: 4", "no key `num_generations`"),
    "no YAML": ("sft.yaml", "seed: 0", "seed: [0", "this is no YAML"),
    "a sharding key": (
        "accelerate/fsdp2.yaml", "reshard_after_forward", "reshard_after_foward",
        "`fsdp_config` has no key `fsdp_reshard_after_foward`; did you mean `fsdp_reshard_after_forward`",
    ),
    "a stage": ("accelerate/zero3.yaml", "zero_stage", "zero_stag", "`deepspeed_config` has no key `zero_stag`; did you"),
    "a kind": ("accelerate/ddp.yaml", "MULTI_GPU", "MANY_GPU", "MANY_GPU"),
    "at the top": ("accelerate/ddp.yaml", "num_processes", "num_proceses", "`num_proceses`; did you mean `num_processes`"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_gets_one_clear_error(case, tmp_path):
    name, old, new, words = WRONG[case]
    copy = tmp_path / name
    copy.parent.mkdir(exist_ok=True)
    copy.write_text((RECIPES / name).read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(RecipeError, match=words) as raised:
        check_recipe(copy)
    assert str(copy) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_without_a_method_or_keys_is_refused(tmp_path):
    for name, text, words in (("mine.yaml", "a: 1", "after its method"), ("sft.yaml", "- a", "`key: value`")):
        (tmp_path / name).write_text(text)
        with pytest.raises(RecipeError, match=words):
            check_recipe(tmp_path / name)


def test_the_libraries_pass_over_what_we_name(tmp_path):
    """Why the check is there: when this fails, a library has begun to check by itself."""
    from accelerate.commands.config.config_args import load_config_from_file
    from trl.scripts import sft

    wrong = tmp_path / "sft.yaml"
    wrong.write_text((RECIPES / "sft.yaml").read_text("utf-8").replace("learning_rate:", "lerning_rate:"))
    _, args, *_ = sft.make_parser().parse_args_and_config(["--config", str(wrong)], fail_with_unknown_args=False)
    assert args.learning_rate != 1e-3
    sharded = tmp_path / "fsdp2.yaml"
    sharded.write_text((RECIPES / "accelerate" / "fsdp2.yaml").read_text("utf-8").replace("after_forward", "after_foward"))
    assert "fsdp_reshard_after_foward" in load_config_from_file(str(sharded)).fsdp_config


def test_the_rows_for_grpo_come_from_the_problems(tmp_path):
    recipe_rows.main(tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text("utf-8") == recipe_rows.TARGET.read_text("utf-8")


VERL = RECIPES / "verl_grpo.yaml"
# The keys that the recipe uses, as verl's published configuration has them: volcengine/verl, commit
# 035682ed7d98f4e5e7633141b4e7add1ef7d2430, verl/trainer/config/_generated_ppo_trainer.yaml.
VERL_KEYS = {
    "algorithm": "adv_estimator use_kl_in_reward norm_adv_by_std_in_grpo",
    "data": "train_files val_files train_batch_size max_prompt_length max_response_length",
    "actor_rollout_ref.model": "path",
    "actor_rollout_ref.actor": "strategy ppo_mini_batch_size ppo_micro_batch_size_per_gpu use_kl_loss loss_agg_mode",
    "actor_rollout_ref.actor.optim": "lr",
    "actor_rollout_ref.rollout": "name n temperature tensor_model_parallel_size gpu_memory_utilization "
    "log_prob_micro_batch_size_per_gpu",
    "trainer": "nnodes n_gpus_per_node total_training_steps critic_warmup project_name experiment_name",
}


def for_verl(text: str) -> dict[str, str]:
    """A recipe for verl as overrides: key -> value. RecipeError for a key that is none of VERL_KEYS."""
    given = dict(word.split("=", 1) for word in as_overrides(yaml.safe_load(text)))
    known = [f"{section}.{key}" for section, keys in VERL_KEYS.items() for key in keys.split()]
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise RecipeError(f"verl has no key `{key}`" + (f"; did you mean `{near[0]}`?" if near else "."))
    return given


def test_the_recipe_for_verl_is_that_for_vllm():
    """Each under its own names: model, rate, group, lengths, answers a step. Data and reward differ, as its head says."""
    given = for_verl(VERL.read_text("utf-8"))
    ours = check_recipe(RECIPES / "grpo_vllm_colocate.yaml")
    rollout, actor = "actor_rollout_ref.rollout.", "actor_rollout_ref.actor."
    assert given["algorithm.adv_estimator"] == "grpo" and given[f"{rollout}name"] == "vllm"
    assert int(given[f"{rollout}n"]) == ours["num_generations"]
    assert int(given["data.max_response_length"]) == ours["max_completion_length"]
    assert given["actor_rollout_ref.model.path"] == ours["model_name_or_path"]
    assert float(given[f"{actor}optim.lr"]) == ours["learning_rate"]
    assert given[f"{actor}use_kl_loss"] == "false"
    gpus = check_recipe(RECIPES / "accelerate" / "ddp.yaml")["num_processes"]
    on_each = ours["per_device_train_batch_size"] * ours["gradient_accumulation_steps"]
    assert int(given["trainer.nnodes"]) * int(given["trainer.n_gpus_per_node"]) == gpus
    assert int(given["data.train_batch_size"]) * int(given[f"{rollout}n"]) == on_each * gpus
    assert given[f"{actor}ppo_mini_batch_size"] == given["data.train_batch_size"]
    assert int(given[f"{actor}ppo_micro_batch_size_per_gpu"]) == ours["per_device_train_batch_size"]


def test_a_misspelt_key_for_verl_gets_one_clear_error():
    text = VERL.read_text("utf-8").replace("ppo_mini_batch_size", "ppo_minibatch_size")
    with pytest.raises(RecipeError) as raised:
        for_verl(text)
    actor = "actor_rollout_ref.actor."
    assert str(raised.value) == f"verl has no key `{actor}ppo_minibatch_size`; did you mean `{actor}ppo_mini_batch_size`?"
    with pytest.raises(RecipeError, match="no key `quite.another`.$"):
        for_verl("quite: {another: 1}")


# ---------------------------------------------------------------- processes


def test_two_processes_have_the_losses_of_one():
    """The library's own program, 8 rows on one process and 4 on each of two, and then with tokens weighed by process."""
    one, two = run_recipe(RECIPES / "sft.yaml", max_steps=3), sft_on_two()
    assert len(one.column("loss")) == 3 and one.column("loss")[-1] < one.column("loss")[0]
    assert one.column("loss") == pytest.approx(two.column("loss"), abs=1e-4)
    assert one.column("grad_norm") == pytest.approx(two.column("grad_norm"), abs=1e-3)
    assert one.column("num_tokens") == two.column("num_tokens") and "torchrun --nproc-per-node 2" in two.command
    apart = sft_on_two(average_tokens_across_devices=False)
    assert max(abs(a - b) for a, b in zip(one.column("loss"), apart.column("loss"))) > 1e-3


def sft_on_two(**settings):
    return run_recipe(RECIPES / "sft.yaml", processes=2, per_device_train_batch_size=4, max_steps=3, **settings)


def test_a_program_that_fails_says_why(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("print('as planned', flush=True)\nraise ValueError('nothing works')")
    with pytest.raises(RuntimeError, match=r"It ended with 1; the last lines:\nTraceback[^$]*nothing works$") as raised:
        launch([str(script)])
    assert "as planned" not in str(raised.value)
    script.write_text("print('the reason')\nraise SystemExit(3)")
    with pytest.raises(RuntimeError, match=r"It ended with 3; the last lines:\nthe reason$"):
        launch([str(script)])


def test_of_several_processes_the_one_that_failed_is_named(tmp_path):
    script = tmp_path / "broken.py"
    script.write_text(
        "import os, sys, time\nrank = os.environ['RANK']\nprint('rank', rank, 'begins', file=sys.stderr, flush=True)\n"
        "if rank == '1':\n    raise ValueError('no rows left')\ntime.sleep(600)\n"
    )
    with pytest.raises(RuntimeError, match=r"rank 1 ended with 1; the last lines:\nrank 1 begins") as raised:
        launch([str(script)], processes=2)
    told = str(raised.value)
    assert told.endswith("ValueError: no rows left") and "rank 0" not in told and "ChildFailedError" not in told


def test_sharding_leaves_each_process_half(tmp_path):
    launch(["recipes/shard.py", "data/models/sprout-instruct", str(tmp_path / "held.json")], processes=2)
    found = json.loads((tmp_path / "held.json").read_text("utf-8"))
    assert len(found["processes"]) == 2 and 0 <= found["gradients apart"] < 1e-5 < found["gradient norm"]
    for part in ("weights", "gradients", "moments"):
        copied, sharded = ([row[way][part] for row in found["processes"]] for way in ("copied", "sharded"))
        assert copied[0] == copied[1] == sum(sharded) and abs(sharded[0] / copied[0] - 0.5) < 0.01
    assert found["processes"][0]["copied"]["loss"] == pytest.approx(found["processes"][0]["sharded"]["loss"], abs=1e-5)


def test_a_run_that_has_written_everything_and_does_not_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("helper.recipes.GRACE", 0.5)
    script = tmp_path / "hangs.py"
    script.write_text(
        "import pathlib, sys, time\nprint('written', flush=True)\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(600)\n"
    )
    said = launch([str(script), str(tmp_path / "result")], complete=(tmp_path / "result").exists)
    assert said == "written\n"
    with pytest.raises(RuntimeError, match="not done after 1 s"):
        launch([str(script), str(tmp_path / "other")], seconds=1)
