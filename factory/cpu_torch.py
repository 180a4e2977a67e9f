"""torch's small build for the CPU, on Linux without an NVIDIA GPU; `make` runs this before it installs the rest.

    python -m factory.cpu_torch

For Linux the usual package indexes have torch with CUDA, several GB. Its CPU build lies in an index of torch's own, whose
address stands on a page of torch's documentation, and is read there; COURSE_TORCH_INDEX names another one, and empty means
none. pip takes torch alone from it, with whatever else it is told by its configuration (a proxy, a certificate, more
indexes); all other packages come afterwards, from the index that pip knows.

Nothing that goes wrong here stops the install: it is one line, the exit status is 0, and pip takes the ordinary torch.
Only Python's own library is used: nothing is installed yet.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from http.client import HTTPException, HTTPResponse
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import Request, urlopen

from factory import ROOT

PAGE = "https://pytorch.org/get-started/previous-versions/"  # commands for pip, in plain text
ADDRESS = re.compile(r"https://(?:[a-z0-9-]+\.)*pytorch\.org/whl/cpu(?![\w/.-])")
SECONDS = 3.0  # for a first answer
OTHERWISE = "pip takes the ordinary torch, which on Linux brings several GB of CUDA."


class NotToBeHad(Exception):
    """Why there is no CPU build, in words that go before `OTHERWISE`."""


def main() -> int:
    """Install the CPU build where it is the right one; a line says what was done. Always 0."""
    try:
        line = nothing_to_do() or install(pinned_torch())
    except NotToBeHad as reason:
        line = f'torch\'s small CPU build is not to be had: {reason}. {OTHERWISE} See the README, "On Linux without a GPU".'
    except Exception as error:  # a check that fails must not be what stops the install
        line = f"torch's small CPU build was not looked for ({type(error).__name__}: {error}). {OTHERWISE}"
    print(line, flush=True)
    return 0


def nothing_to_do() -> str:
    """Why torch is left to the ordinary install; "" where it is not."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return "The ordinary torch is the right one for this system."
    if installed_torch():
        return f"torch {installed_torch()} is installed already."
    if has_nvidia_gpu():
        return "There is an NVIDIA GPU: the ordinary torch, with CUDA, is the right one."
    if os.environ.get("COURSE_TORCH_INDEX") == "":
        return "COURSE_TORCH_INDEX is empty: the ordinary torch is taken."
    if os.environ.get("PIP_NO_INDEX"):
        return "PIP_NO_INDEX is set: torch is taken from where pip looks."
    return ""


def installed_torch() -> str:
    """The version of torch in this Python; "" without one."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return ""


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
    """Whether this machine has an NVIDIA card, with its driver or without, under Windows' Linux (WSL) too."""
    if shutil.which("nvidia-smi") or any((root / "dev").glob("nvidia[0-9]*")):
        return True
    if any((root / place).exists() for place in ("proc/driver/nvidia/version", "usr/lib/wsl/lib/nvidia-smi")):
        return True
    cards = [card for card in (root / "sys/bus/pci/devices").glob("*") if _read(card / "class").startswith("0x03")]
    return any(_read(card / "vendor") == "0x10de" for card in cards)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def pinned_torch() -> str:
    """The version that requirements.txt pins."""
    found = re.search(r"^torch==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise NotToBeHad("requirements.txt pins no version")
    return found[1]


def install(pinned: str) -> str:
    """Let pip install the CPU build of this version; a line that says so. Raises NotToBeHad."""
    index = (os.environ.get("COURSE_TORCH_INDEX") or documented_index()).rstrip("/")
    if not has_wheel(text_of(f"{index}/torch/"), pinned):
        python = "{}.{}".format(*sys.version_info)
        raise NotToBeHad(f"its index has no torch {pinned} for Python {python} on {platform.machine()}")
    print(f"No NVIDIA GPU here: the small CPU build of torch {pinned} comes from torch's own index.", flush=True)
    options = ["--disable-pip-version-check", "--no-deps", "--index-url", index]  # dependencies come with the rest
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, f"torch=={pinned}+cpu"])
    if done.returncode:
        raise NotToBeHad("pip could not install it (it says above why)")
    return f"torch {pinned}+cpu is installed."


def documented_index() -> str:
    """The address of the index of CPU builds, as torch's documentation gives it. Raises NotToBeHad."""
    found = ADDRESS.search(text_of(PAGE))
    if not found:
        raise NotToBeHad(f"{PAGE} names no index of CPU builds (COURSE_TORCH_INDEX can)")
    return found[0]


def has_wheel(page: str, pinned: str) -> bool:
    """Whether an index's page of torch lists the CPU build of this version for this Python and processor."""
    python = "cp{}{}".format(*sys.version_info)
    wheel = rf"torch-{re.escape(pinned)}\+cpu-{python}-{python}-[\w.]*{platform.machine()}\.whl"
    return re.search(wheel, unquote(page)) is not None


def text_of(address: str) -> str:
    """What a page says. Raises NotToBeHad where no answer begins within `SECONDS`, or it is not the page."""
    try:
        with answer_of(address) as answer:
            return answer.read().decode("utf-8", "replace")
    except (OSError, ValueError, HTTPException) as error:  # URLError and time-outs are kinds of OSError
        where = urlsplit(address).hostname or address
        raise NotToBeHad(f"{where} cannot be reached ({getattr(error, 'reason', '') or error})") from None


def answer_of(address: str) -> HTTPResponse:
    """The answer to a request, once it begins; TimeoutError after `SECONDS`, also where a name is looked up for longer."""
    given = []

    def ask() -> None:
        try:
            agent = {"User-Agent": "course-install"}  # some sites refuse Python's own name
            given.append(urlopen(Request(address, headers=agent), timeout=SECONDS))
        except Exception as error:
            given.append(error)

    asking = threading.Thread(target=ask, daemon=True)  # the interpreter does not wait for it
    asking.start()
    asking.join(SECONDS)
    if not given:
        raise TimeoutError(f"no answer within {SECONDS:.0f} s")
    if isinstance(given[0], Exception):
        raise given[0]
    return given[0]


if __name__ == "__main__":
    sys.exit(main())
