"""Recipes of `recipes/`: a YAML file checked before a run, and run by the library's own program on one or more processes.

A recipe of a trainer is named after its method (sft.yaml, grpo_vllm_server.yaml); files in a folder `accelerate` are for
`accelerate launch`. The libraries' programs pass over a key that they do not know; `check_recipe` does not.
Left out on purpose: several machines, and DeepSpeed's own file (its keys within an accelerate file are checked).
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from trl.scripts.utils import DatasetConfig

from helper.machine.folders import project_folder
from helper.machine.threads import all_threads

GRACE = 20  # seconds that a run has to end after it has written everything
METHODS = ("sft", "dpo", "grpo", "kto", "rloo", "reward", "distillation")
LAST_LINES = 20  # of a failed process's stderr, in the error
OF_TORCHRUN = r"rank +: (\d+) .*\n +exitcode +: (-?\d+)"  # each process that failed, in what it says at the end
SECTIONS = ("fsdp_config", "deepspeed_config")  # of an accelerate file, with keys of their own
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class RecipeError(ValueError):
    """A recipe that would not do what it says; the message names file, line and key."""


class Run(NamedTuple):
    """`log`: a row for each logged step, as the trainer wrote it. `command`: as typed. `output`: what it said."""

    log: list[dict]
    command: str
    output: str

    def column(self, name: str) -> list[float]:
        """One logged number, step by step; KeyError where a step lacks it."""
        return [row[name] for row in self.log if "loss" in row]


# ---------------------------------------------------------------- checking


def check_recipe(path: str | Path) -> dict:
    """What a recipe says, after the library's own parser has read it. Raises RecipeError for a key that nobody reads.

    So it does for a key that stands there twice (YAML takes the last one without a word), and a value that the parser
    refuses. A trainer's file is read as on a CPU, so that files for GPUs can be checked without one.
    """
    path = Path(path)
    entries = _entries(path)
    kind = "accelerate" if path.parent.name == "accelerate" else _method(path)
    known = _accelerate_keys() if kind == "accelerate" else _trainer_keys(kind)
    for section, key, line in entries:
        if section in known and key not in known[section]:
            raise RecipeError(_unknown(path, section, key, line, known[section]))
    read = _read_accelerate if kind == "accelerate" else _read_trainer
    try:
        with redirect_stderr(io.StringIO()) as said:
            read(path, kind)
    except (Exception, SystemExit) as error:
        words = said.getvalue().strip().splitlines() or [str(error)]
        raise RecipeError(f"{path}: {words[-1].split('error: ')[-1]}") from None
    return yaml.safe_load(path.read_text("utf-8"))


def _entries(path: Path) -> list[tuple[str, str, int]]:
    """(section, key, line) of each key at the top ("") and one level below. RecipeError for what is no mapping, or twice."""
    try:
        tree = yaml.compose(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
        raise RecipeError(f"{path}, line {line}: this is no YAML ({getattr(error, 'problem', error)}).") from None
    if not isinstance(tree, yaml.MappingNode):
        raise RecipeError(f"{path}: a recipe has lines of `key: value`, and this has none.")
    found = []
    for section, mapping in [("", tree), *_below(tree)]:
        lines = {}
        for key, _ in mapping.value:
            line = key.start_mark.line + 1
            if key.value in lines:
                raise RecipeError(f"{path}, line {line}: `{key.value}` stands in line {lines[key.value]} too; one must go.")
            lines[key.value] = line
            found.append((section, key.value, line))
    return found


def _below(tree: yaml.MappingNode) -> list[tuple[str, yaml.MappingNode]]:
    """The mappings one level down, also those in a list, each with the key over it."""
    found = []
    for key, value in tree.value:
        inner = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found += [(key.value, node) for node in inner if isinstance(node, yaml.MappingNode)]
    return found


def _method(path: Path) -> str:
    """The method that a trainer's recipe is named after."""
    method = path.stem.split("_")[0]
    if method not in METHODS:
        raise RecipeError(f"{path}: name the file after its method ({', '.join(METHODS)}), such as sft.yaml.")
    return method


def _trainer_keys(method: str) -> dict[str, set[str]]:
    """What the program of a method reads: section -> keys."""
    parser = _parser(method)
    top = {field.name for kind in parser.dataclass_types for field in fields(kind)} | {"env"}
    return {"": top, "datasets": {field.name for field in fields(DatasetConfig)}}


def _parser(method: str):
    """The parser of `trl/scripts/METHOD.py`."""
    return import_module(f"trl.scripts.{method}").make_parser()


def _accelerate_keys() -> dict[str, set[str]]:
    """What `accelerate launch` reads of its file: section -> keys."""
    options = set(vars(launch_command_parser().parse_args(["script.py"])))
    sharding = {name for name in options if name.startswith("fsdp_")}
    return {
        "": {field.name for field in fields(ClusterConfig)},
        "fsdp_config": sharding | {name.removeprefix("fsdp_") for name in sharding},
        "deepspeed_config": {name for name in options if name.startswith(("zero", "offload_", "gradient_", "deepspeed_"))},
    }


def _unknown(path: Path, section: str, key: str, line: int, known: set[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    where = f"`{section}` has" if section else "there is"
    hint = f"; did you mean `{near[0]}`?" if near else "; see the library's documentation for the names."
    return f"{path}, line {line}: {where} no key `{key}`{hint}"


def _read_trainer(path: Path, method: str) -> None:
    """The library's own reading, which makes and checks the configurations. It would set what stands under `env`."""
    with tempfile.TemporaryDirectory() as folder:
        given = yaml.safe_load(path.read_text("utf-8"))
        given.pop("env", None)
        copy = Path(folder, path.name)
        copy.write_text(yaml.safe_dump(given), "utf-8")
        _parser(method).parse_args_and_config(["--config", str(copy), "--use_cpu", "true"])


def _read_accelerate(path: Path, _) -> None:
    load_config_from_file(str(path))


# ---------------------------------------------------------------- running


def run_recipe(path: str | Path, processes: int = 1, program: str | Path = "", **settings) -> Run:
    """Run a trainer's recipe with the library's program, and read the trainer's own log.

    `program`: another script that takes the same arguments. `settings`: over those of the file. Results go into a
    temporary folder, unless `output_dir` names another. Without a network; two processes talk over the loopback with
    gloo. Raises RecipeError for a wrong recipe, RuntimeError as `launch` does when the program fails.
    """
    recipe, method = check_recipe(path), _method(Path(path))
    with tempfile.TemporaryDirectory() as folder:
        settings = {"save_strategy": "steps", "save_steps": recipe["max_steps"], "output_dir": folder, **settings}
        words = [str(program)] if program else ["-m", f"trl.scripts.{method}"]
        words += ["--config", str(path), *(word for key, value in settings.items() for word in (f"--{key}", str(value)))]
        results, steps = Path(settings["output_dir"]), int(settings.get("max_steps", recipe["max_steps"]))

        def complete() -> bool:
            return (results / f"checkpoint-{steps}" / "trainer_state.json").exists() and any(results.glob("*.safetensors"))

        several = {"complete": complete} if processes > 1 else {}
        output = launch(words, processes, {"HF_HOME": folder, "HF_DATASETS_CACHE": f"{folder}/data"}, **several)
        states = sorted(results.glob("checkpoint-*/trainer_state.json"))
        if not states:
            raise RuntimeError(f"{path}: the run left no log:\n{output[-2000:]}")
        log = json.loads(states[-1].read_text("utf-8"))["log_history"]
    shown = " ".join(words).replace(str(settings["output_dir"]), "FOLDER").replace(f"{project_folder()}{os.sep}", "")
    return Run(log, f"{'torchrun --nproc-per-node ' + str(processes) if processes > 1 else 'python'} {shown}", output)


def launch(
    words: list[str],
    processes: int = 1,
    environment: dict[str, str] | None = None,
    seconds: int = 900,
    complete: Callable[[], bool] = lambda: False,
) -> str:
    """What `python WORDS` prints, run in the course's folder on one process, or by torchrun on several.

    Each process gets its share of the cores. torchrun chooses a free port. Now and then a process of gloo waits at its exit
    for one that has gone: when `complete` says that everything is written, the run is ended GRACE seconds later. Raises
    RuntimeError when it takes longer than `seconds`, or when it fails: then with the rank of each process that failed by
    itself, and the last lines of its stderr.
    """
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    more = {"OMP_NUM_THREADS": str(max(1, all_threads() // processes)), **_loopback(), **(environment or {})}
    path = os.pathsep.join([str(project_folder()), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    given = {**os.environ, **QUIET, **more, "PYTHONPATH": path}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as warned, tempfile.TemporaryDirectory() as logs:
        apart = ["--redirects", "2", "--log-dir", logs] if several else []  # the stderr of each process in a file of its own
        command = [sys.executable, *several, *apart, *words]
        run = subprocess.Popen(command, cwd=project_folder(), env=given, stdout=said, stderr=warned, text=True)
        ended = _wait(run, seconds, complete)
        texts = []
        for file in (said, warned):
            file.seek(0)
            texts.append(file.read())
        failed = run.returncode and not complete()
        why = _why_it_failed(*texts, run.returncode, Path(logs)) if failed else ""
    if not ended:
        raise RuntimeError(f"{' '.join(words)}: not done after {seconds} s.")
    if failed:
        raise RuntimeError(f"{' '.join(words)} failed.\n{why}")
    return texts[0]


def _why_it_failed(said: str, warned: str, code: int, logs: Path) -> str:
    """Rank, exit code and last lines of stderr of each process that failed by itself (torchrun ends the others)."""
    of_torchrun = [(rank, code) for rank, code in re.findall(OF_TORCHRUN, warned) if int(code) != -signal.SIGTERM]
    found = []
    for rank, ended_with in of_torchrun or [(None, code)]:
        own = "".join(path.read_text("utf-8", errors="replace") for path in logs.rglob(f"{rank}/stderr.log"))
        lines = (own or warned or said).strip().splitlines()[-LAST_LINES:]
        who = "It" if rank is None else f"The process of rank {rank}"
        found.append(f"{who} ended with {ended_with}; the last lines:\n" + "\n".join(lines))
    return "\n".join(found)


def _wait(run: subprocess.Popen, seconds: float, complete: Callable[[], bool]) -> bool:
    """Wait for the end, or for GRACE seconds after `complete`; what still runs then is ended. Whether it came so far."""
    limit, since = time.monotonic() + seconds, None
    while run.poll() is None:
        now = time.monotonic()
        since = since or (now if complete() else None)
        if now > limit or (since and now > since + GRACE):
            for child in (*psutil.Process(run.pid).children(recursive=True), run):
                child.kill()
            run.wait()
            return since is not None
        time.sleep(0.2)
    return True


def _loopback() -> dict[str, str]:
    """The network interface for gloo, where it is known: else it looks up the machine's name, which may have no address."""
    names = [name for name in ("lo", "lo0") if name in psutil.net_if_addrs()]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}


def as_overrides(given: dict, above: str = "") -> list[str]:
    """A nested recipe as `a.b.c=value`, the form in which Hydra's programs take changes (verl's among them).

    >>> as_overrides({"algorithm": {"adv_estimator": "grpo"}, "trainer": {"nnodes": 1}})
    ['algorithm.adv_estimator=grpo', 'trainer.nnodes=1']
    """
    words = []
    for key, value in given.items():
        if isinstance(value, dict):
            words += as_overrides(value, f"{above}{key}.")
        else:
            words.append(f"{above}{key}={str(value).lower() if isinstance(value, bool) else value}")
    return words
