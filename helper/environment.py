"""What this machine has, against what the course needs: `python -m helper.environment`.

Left out on purpose: changing anything. Each line that is not as it should be says what to do.
"""

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from helper.models import bf16_speedup, project_folder


def pinned_versions() -> dict[str, str]:
    """Package -> version, as requirements.txt pins them."""
    text = (project_folder() / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;#]+)", text, re.MULTILINE))


def version_report() -> list[tuple[str, str, str]]:
    """(package, state, fix) for each pin: ("torch", "2.12.0, not 2.13.0", "pip ..."); fix is "" when well."""
    report = []
    for package, pin in pinned_versions().items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "missing"
        good = found.split("+")[0] == pin  # torch's builds are named 2.13.0+cpu and the like
        state = found if good else f"{found}, not {pin}"
        report.append((package, state, "" if good else "pip install -r requirements.txt"))
    return report


def machine_report() -> list[tuple[str, str, str]]:
    """(what, state, fix) for Python, processors, memory, disk, device and precision."""
    import torch

    python = platform.python_version()
    free = shutil.disk_usage(project_folder()).free / 1e9
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA GPU"
    speedup, memory = bf16_speedup(), _memory_gb()
    return [
        ("python", python, "" if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed"),
        ("processors", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}", ""),
        (
            "memory",
            f"{memory:.0f} GB" if memory else "unknown",
            "close other programs" if 0 < memory < 4 else "",
        ),
        ("free disk", f"{free:.0f} GB", "" if free > 2 else "make room: 2 GB at least"),
        ("gpu", gpu, "" if torch.cuda.is_available() else "fine: leave USE_GPU = False"),
        ("bf16 on cpu", f"{speedup:.1f} times float32", "" if speedup > 1.2 else "fine: float32 is used"),
    ]


def _memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return 0.0


def main() -> int:
    """Print both reports; 1 when a version is not the pinned one, else 0."""
    versions = version_report()
    for what, state, fix in [*machine_report(), *versions]:
        print(f"{what:<14} {state:<28} {'-> ' + fix if fix else 'ok'}")
    return int(any(fix for _, _, fix in versions))


if __name__ == "__main__":
    raise SystemExit(main())
