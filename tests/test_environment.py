from importlib.metadata import version

from helper import environment


def test_every_dependency_is_pinned_exactly_and_only_once():
    lines = (environment.project_folder() / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line.strip() and not line.startswith("#") and line != "-e ."]
    assert "-e ." in lines and len(environment.pinned_versions()) == len(wanted)
    assert not any("://" in line or "index" in line for line in wanted)


def test_a_wrong_version_is_reported_with_its_fix(monkeypatch, capsys):
    good = version("pandas")
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"pandas": good, "numpy": "0.1", "not-there": "1.0"})
    report = {package: (state, fix) for package, state, fix in environment.version_report()}
    assert report["pandas"] == (good, "")
    assert report["numpy"][0].endswith(", not 0.1") and "pip install" in report["numpy"][1]
    assert report["not-there"][0] == "missing, not 1.0"
    assert environment.main() == 1
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("python", "memory", "free disk", "gpu", "bf16", "numpy", "-> pip install"))


def test_a_local_build_of_the_pinned_version_is_fine(monkeypatch):
    monkeypatch.setattr(environment, "pinned_versions", lambda: {"torch": "2.13.0"})
    monkeypatch.setattr(environment, "version", lambda package: "2.13.0+cpu")
    assert environment.version_report() == [("torch", "2.13.0+cpu", "")]
    monkeypatch.setattr(environment, "version", lambda package: "2.13.1")
    assert environment.version_report()[0][2]
