import subprocess
import sys
from importlib.metadata import version

import pytest

from helper import environment
from helper.machine import hub

GOOD = [("python", "3.11.9", ""), ("gpu", "no CUDA GPU", "fine: leave USE_GPU = False")]


@pytest.fixture
def good_machine(monkeypatch):
    """A machine on which all is well, without a network."""
    monkeypatch.setattr(environment, "machine_report", lambda: GOOD)
    monkeypatch.setattr(environment, "version_report", lambda: [("torch", "2.13.0", "")])
    monkeypatch.setattr(environment, "security_report", lambda: [])
    monkeypatch.setattr(hub, "hub_is_reachable", lambda seconds: False)


def test_every_dependency_is_pinned_exactly_and_only_once():
    lines = (environment.ROOT / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#") and line != "-e ."]
    assert "-e ." in lines and len(environment.pinned_versions()) == len(wanted)
    assert not any("://" in line or "index" in line for line in wanted)


def test_a_package_that_a_system_does_not_need_is_not_missed_there(monkeypatch):
    assert "bitsandbytes" in environment.pinned_versions() or environment.platform.system() == "Darwin"
    monkeypatch.setattr(environment.platform, "system", lambda: "Darwin")
    assert "bitsandbytes" not in environment.pinned_versions() and "torch" in environment.pinned_versions()


def test_a_wrong_version_is_reported_with_its_fix(monkeypatch, capsys):
    good = version("pandas")
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"pandas": good, "numpy": "0.1", "not-there": "1.0"})
    asked = []
    monkeypatch.setattr(hub, "hub_is_reachable", lambda seconds: bool(asked.append(seconds)))
    report = {package: (state, fix) for package, state, fix in environment.version_report()}
    assert report["pandas"] == (good, "")
    assert report["numpy"][0].endswith(", not 0.1") and "pip install" in report["numpy"][1]
    assert report["not-there"][0] == "missing, not 1.0"
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", None)  # it starts no process
        assert environment.main() == 1
    assert asked == [3.0]  # the Hub, once: nothing else is waited for
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("python", "available", "free disk", "gpu", "bf16", "numpy", "pip install"))
    assert "pandas" not in printed and "not ready: 2 of the lines" in printed


def test_a_local_build_of_the_pinned_version_is_fine(monkeypatch):
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"torch": "2.13.0"})
    monkeypatch.setattr(environment, "version", lambda package: "2.13.0+cpu")
    assert environment.version_report() == [("torch", "2.13.0+cpu", "")]
    monkeypatch.setattr(environment, "version", lambda package: "2.13.1")
    assert environment.version_report()[0][2]


@pytest.mark.parametrize(
    ("found", "good"), [("4.6.2", True), ("4.6.10", True), ("5", True), ("4.10.0rc1", True), ("4.6.1", False), ("4", False)]
)
def test_versions_below_the_security_floor_are_reported(monkeypatch, found, good):
    monkeypatch.setattr(environment, "SECURITY_FLOORS", {"jupyterlab": "4.6.2", "not-there": "1.0"})
    monkeypatch.setattr(environment, "installed_version", {"jupyterlab": found}.get)
    ((package, state, fix),) = environment.security_report()
    assert package == "jupyterlab" and (state == found and fix == "") == good
    assert good or ("security" in state and 'pip install "jupyterlab>=4.6.2"' in fix)


def test_a_good_machine_without_a_network_is_ready(good_machine, capsys):
    assert environment.check_environment() is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].endswith(" ok") and lines[-1] == "ready"
    assert "hub" in lines[2] and "not needed" in lines[2] and "all at the pinned versions" in lines[3]
    assert environment.main() == 0


def test_little_memory_is_reported(monkeypatch):
    monkeypatch.setattr(environment, "_torch_report", lambda: [])
    monkeypatch.setattr(environment, "memory_gb", lambda: (8.0, 0.7))
    rows = {what: (state, fix) for what, state, fix in environment.machine_report()}
    assert rows["memory"] == ("8 GB, 0.7 GB available", "close other programs: a lesson takes 2.5 GB")
    monkeypatch.setattr(environment, "memory_gb", lambda: (0.0, 0.0))
    assert ("memory", "unknown", "") in environment.machine_report()


def test_the_hub_has_three_seconds(monkeypatch):
    asked = []
    monkeypatch.setattr(hub, "hub_is_reachable", lambda seconds: asked.append(seconds) or True)
    assert environment.hub_report() == ("hub", "reachable", "") and asked == [3.0]


def test_a_check_that_fails_raises_nothing(good_machine, monkeypatch, capsys):
    monkeypatch.setattr(environment, "machine_report", lambda: 1 / 0)
    environment.check_environment()
    assert "The check itself failed (ZeroDivisionError" in capsys.readouterr().out


def test_the_file_runs_where_no_package_is_installed():
    """`-I -S`: Python with its own library only."""
    command = [sys.executable, "-I", "-S", environment.__file__]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and result.stderr == ""
    assert "ModuleNotFoundError: No module named 'torch'" in result.stdout
    assert "missing, not " in result.stdout and "more are not as pinned" in result.stdout
    assert "not ready: 6 of the lines" in result.stdout and result.stdout.count("\n") < 15
