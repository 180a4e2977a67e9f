"""helper as a wheel: installed without the repository it finds its data, its models and its pins from any folder."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from factory import ROOT

# Found, not imported: setuptools replaces distutils in the process that imports it, and warns.
pytestmark = pytest.mark.skipif(find_spec("setuptools") is None, reason="setuptools is missing")
SOURCES = ("helper", "data", "pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE")
PROGRAM = """
from helper import load_course_dataset, load_suite
from helper.environment import pinned_versions
from helper.machine.folders import output_folder, project_folder
from helper.models import SHIPPED_MODELS, resolve_model_name
from helper.recorded import load_recorded

print(project_folder())
print(len(load_course_dataset("sprout-sft")), len(load_suite("reference")), len(load_recorded("lessons")))
print(*[resolve_model_name(name)[0] for name in SHIPPED_MODELS], sep="\\n")
print(output_folder("02_sft"))
print(pinned_versions()["torch"])
"""


def pip(*words: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of what it is built of, with something half made in data/."""
    source, folder = tmp_path_factory.mktemp("copy") / "course", tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "build"))
        else:
            shutil.copyfile(ROOT / name, source / name)
    for unfinished in (
        "data/build/quick/x.jsonl",
        "data/models/sprout-base.unfinished/config.json",
        "data/sft/.hidden.jsonl",
    ):
        (source / unfinished).parent.mkdir(parents=True, exist_ok=True)
        (source / unfinished).write_text("{}")
    pip("wheel", source, "--no-deps", "--no-build-isolation", "--no-index", "-w", folder)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_helper_and_all_that_it_reads(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    listed = subprocess.run(["git", "ls-files", "helper", "data"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("the files that belong to the project are known to git only")
    files = listed.stdout.split()
    wanted = {name if name.startswith("helper/") else f"helper/shipped/{name}" for name in files}
    assert names == wanted | {"helper/shipped/requirements.txt"}
    assert wheel.stat().st_size < 40_000_000


def test_installed_it_works_from_another_folder(wheel, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    (site / "data").mkdir()  # another package's, which is not to be taken for ours
    environment = {name: value for name, value in os.environ.items() if name != "COURSE_OUTPUTS"}
    environment |= {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    project, counts, *models, outputs, torch = done.stdout.splitlines()
    shipped = site / "helper" / "shipped"
    assert project == str(shipped) and min(map(int, counts.split())) > 0
    assert models == [str(shipped / "data" / "models" / f"sprout-{stage}") for stage in ("base", "instruct", "dpo", "grpo")]
    assert outputs == str(elsewhere / "outputs" / "02_sft")  # not among the packages
    assert f"\ntorch=={torch}\n" in (ROOT / "requirements.txt").read_text("utf-8")


def test_in_the_repository_nothing_is_shipped_twice():
    assert not (ROOT / "helper" / "shipped").exists()
