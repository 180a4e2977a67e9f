"""What this machine has, against what the course needs: `check_environment()`, or `python -m helper.environment`.

`python helper/environment.py` works with packages missing or broken too, so whatever is not Python's own is imported
late, and `helper` itself does not import this module.
Left out on purpose: changing anything. Each line that is not as it should be says what to do.
"""

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SHIPPED = Path(__file__).resolve().with_name("shipped")  # in an installed wheel
ROOT = SHIPPED if SHIPPED.is_dir() else SHIPPED.parent.parent
INSTALL = "pip install -r requirements.txt"
FINE = "fine: "  # how a word begins that asks for nothing
SECURITY_FLOORS = {"transformers": "5.5", "jupyter-server": "2.20", "jupyterlab": "4.6.2"}  # why: docs/security.md


def check_environment() -> None:
    """Print a line for the machine's every part, with what to do about it, and at the end whether it is ready.

    Takes a few seconds and raises nothing. Packages are named only where something is wrong with them.
    """
    try:
        print_report(environment_report())
    except Exception as error:  # the check must not be what stops a lesson
        print(f"The check itself failed ({type(error).__name__}: {error}). Go on; the lessons may well run.")


def environment_report() -> list[tuple[str, str, str]]:
    """(what, state, fix) for the machine, the network and the packages; fix is "" or begins "fine: " when well."""
    other = [row for row in version_report() if row[2]]
    packages = [row for row in security_report() if row[2]] + other[:4]
    if other[4:]:
        packages.append(("packages", f"{len(other[4:])} more are not as pinned", INSTALL))
    return [*machine_report(), hub_report(), *(packages or [("packages", "all at the pinned versions", "")])]


def print_report(report: list[tuple[str, str, str]]) -> bool:
    """Print the report and "ready", or how many of its lines ask for something; whether it is ready."""
    for what, state, fix in report:
        print(f"{what:<15} {state:<32} {fix or 'ok'}")
    wrong = sum(bool(fix) and not fix.startswith(FINE) for _, _, fix in report)
    print(f"not ready: {wrong} of the lines above say what to do" if wrong else "ready")
    return not wrong


def pinned_versions() -> dict[str, str]:
    """Package -> version, as requirements.txt pins them; without those that this system does not need."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)(.*)", text, re.MULTILINE)
    return {package: pin for package, pin, marker in pins if f'platform_system != "{platform.system()}"' not in marker}


def version_report() -> list[tuple[str, str, str]]:
    """(package, state, fix) for each pin: ("torch", "2.12.0, not 2.13.0", "pip ..."); fix is "" when well."""
    report = []
    for package, pin in pinned_versions().items():
        found = installed_version(package) or "missing"
        good = found.split("+")[0] == pin  # torch's builds are named 2.13.0+cpu and the like
        report.append((package, found if good else f"{found}, not {pin}", "" if good else INSTALL))
    return report


def security_report() -> list[tuple[str, str, str]]:
    """(package, state, fix) for each installed package that has a lowest safe version; fix is "" when well."""
    report = []
    for package, floor in SECURITY_FLOORS.items():
        found = installed_version(package)
        if found:
            good = _numbers(found) >= _numbers(floor)
            state = found if good else f"{found} has known security faults"
            report.append((package, state, "" if good else f'pip install "{package}>={floor}", see docs/security.md'))
    return report


def installed_version(package: str) -> str | None:
    """The version of an installed package, None where it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(release: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", release)[:3]]


def machine_report() -> list[tuple[str, str, str]]:
    """(what, state, fix) for Python, processors, memory, disk, device and precision."""
    free = shutil.disk_usage(ROOT).free / 1e9
    total, available = memory_gb()
    return [
        ("python", platform.python_version(), "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"),
        (
            "memory",
            f"{total:.0f} GB, {available:.1f} GB available" if total else "unknown",
            "close other programs: a lesson takes 2.5 GB" if total and available < 2.5 else "",
        ),
        ("free disk", f"{free:.0f} GB", "" if free > 2 else "make room: 2 GB at least"),
        *_torch_report(),
    ]


def memory_gb() -> tuple[float, float]:
    """Memory in all and available now, in GB (10^9 bytes); zeros where that cannot be found out."""
    try:
        import psutil

        memory = psutil.virtual_memory()
    except (ImportError, OSError):
        return 0.0, 0.0
    return memory.total / 1e9, memory.available / 1e9


def _torch_report() -> list[tuple[str, str, str]]:
    try:
        import torch

        from helper.machine.device import bf16_speedup
    except Exception as error:  # a package that is missing or broken, in any way
        return [("import", f"{type(error).__name__}: {error}".splitlines()[0], INSTALL)]
    if torch.cuda.is_available():
        bf16 = "with" if torch.cuda.is_bf16_supported(including_emulation=False) else "without"
        gpu = ("gpu", f"{torch.cuda.get_device_name(0)}, {bf16} bf16", "")
    elif torch.backends.mps.is_available():
        gpu = ("gpu", "Apple (MPS), where the course has not been tried", "")
    else:
        gpu = ("gpu", "no CUDA GPU", f"{FINE}leave USE_GPU = False")
    speedup = bf16_speedup()
    return [
        ("processors", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}", ""),
        gpu,
        ("bf16 on cpu", f"{speedup:.1f} times float32", "" if speedup > 1.2 else f"{FINE}float32 is used"),
    ]


def hub_report(seconds: float = 3.0) -> tuple[str, str, str]:
    """(what, state, fix) for the Hugging Face Hub, which has `seconds` to answer; without it the lessons run too."""
    try:
        from helper.machine.hub import hub_is_reachable

        reachable = hub_is_reachable(seconds)
    except Exception:  # a missing package has its own line
        reachable = False
    if reachable:
        return "hub", "reachable", ""
    return "hub", "not reachable", f"{FINE}not needed while USE_GPU = False"


def main() -> int:
    """Print the report; 1 when something has to be done, else 0."""
    try:
        return int(not print_report(environment_report()))
    except Exception as error:  # a damaged installation, in any way
        print(f"The check itself failed ({type(error).__name__}: {error}). To mend the packages: {INSTALL}")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
