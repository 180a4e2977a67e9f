"""torch's small CPU build: fetched by the real pip from a stand-in index on this machine, or left alone with one line.

pip installs into a folder of the test's own (PIP_TARGET), without a network; the stand-in tells what it was asked for.
"""

import os
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import quote, unquote

import pytest

from factory import ROOT, cpu_torch
from factory.cpu_torch import ADDRESS, NotToBeHad, has_nvidia_gpu, has_wheel, main, pinned_torch

TAGS = "cp{0}{1}-cp{0}{1}-linux_{2}".format(*sys.version_info[:2], cpu_torch.platform.machine())
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it does nothing elsewhere")


def wheel(version: str) -> tuple[str, bytes]:
    """The name and the bytes of a package `torch` that needs another one."""
    about, file = f"torch-{version}.dist-info", BytesIO()
    files = {
        "torch/__init__.py": f"__version__ = '{version}'\n", f"{about}/RECORD": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\nRequires-Dist: sympy\n",
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {TAGS}\n",
    }  # fmt: skip
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return f"torch-{version}-{TAGS}.whl", file.getvalue()


@contextmanager
def served(pages: dict[str, bytes]):
    """A server on this machine with these pages; gives its address and the paths that it is asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(unquote(self.path))
            body = pages.get(unquote(self.path))
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def index(*versions: str) -> dict[str, bytes]:
    """The pages of an index (PEP 503) with these versions of torch."""
    files = dict(map(wheel, versions))
    links = "".join(f'<a href="/files/{quote(name)}">{name}</a>\n' for name in files)
    return {"/whl/cpu/torch/": f"<html><body>{links}</body></html>".encode()} | {
        f"/files/{name}": content for name, content in files.items()
    }


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Linux without a GPU and without torch, and a pip that installs into a folder and knows no index; that folder."""
    for name in [
        name for name in os.environ if name.startswith(("PIP_", "COURSE_TORCH")) or name.lower().endswith("_proxy")
    ]:
        monkeypatch.delenv(name)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_TARGET": str(tmp_path / "site"), "PIP_NO_CACHE_DIR": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setattr(cpu_torch, "installed_torch", lambda: "")
    monkeypatch.setattr(cpu_torch, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(cpu_torch, "PAGE", "http://127.0.0.1:9/")
    return tmp_path / "site"


@pytest.fixture
def no_request(monkeypatch):
    monkeypatch.setattr(cpu_torch, "urlopen", lambda *words, **options: pytest.fail("something is asked for"))
    monkeypatch.setattr(cpu_torch.subprocess, "run", lambda *words, **options: pytest.fail("pip is called"))


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_cpu_build_is_installed_alone_and_other_indexes_are_asked_too(machine, monkeypatch, capsys):
    pinned = pinned_torch()
    with served(index(f"{pinned}+cpu", pinned, "9.0+cpu")) as (address, asked), served(index("9.9")) as (more, asked_more):
        monkeypatch.setenv("COURSE_TORCH_INDEX", f"{address}/whl/cpu/")
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{more}/whl/cpu")
        assert main() == 0
    assert last_line(capsys) == f"torch {pinned}+cpu is installed."
    assert [path.name for path in machine.glob("*.dist-info")] == [f"torch-{pinned}+cpu.dist-info"]  # no dependency
    assert asked[-1] == f"/files/torch-{pinned}+cpu-{TAGS}.whl" and asked_more == ["/whl/cpu/torch/"]


def test_the_address_is_read_from_the_documentation(machine, monkeypatch, capsys):
    pinned = pinned_torch()
    with served(index(f"{pinned}+cpu")) as (address, asked):
        monkeypatch.setattr(cpu_torch, "ADDRESS", cpu_torch.re.compile(rf"{address}/whl/cpu\b"))
        lines = [f"pip install torch --index-url {address}/whl/{build}" for build in ("cu128", "cpu")]
        page = "\n".join(["<pre># CUDA 12.8", lines[0], "# CPU only", lines[1], "</pre>"])
        with served({"/docs/": page.encode()}) as (documentation, _):
            monkeypatch.setattr(cpu_torch, "PAGE", f"{documentation}/docs/")
            assert main() == 0
    assert "is installed." in last_line(capsys) and asked[0] == "/whl/cpu/torch/"


def test_only_an_address_of_torch_s_own_is_taken_from_there():
    good = "https://files.pytorch.org/whl/cpu"
    for text in (f"--index-url {good}\n", f"&#8211;index-url {good}</code>", f"torch {good} #", good):
        assert ADDRESS.search(text)[0] == good
    for text in (
        "http://files.pytorch.org/whl/cpu", "https://pytorch.org.evil.example/whl/cpu", "https://evilpytorch.org/whl/cpu",
        f"{good}/torch_stable.html", "https://files.pytorch.org/whl/cu128", f"{good}-other",
    ):  # fmt: skip
        assert not ADDRESS.search(text), text


def test_a_page_without_the_address(machine, monkeypatch, capsys):
    with served({"/": b"<p>Moved.</p>"}) as (address, _):
        monkeypatch.setattr(cpu_torch, "PAGE", f"{address}/")
        assert main() == 0
    assert "names no index of CPU builds (COURSE_TORCH_INDEX can)" in last_line(capsys)


@pytest.mark.parametrize("setting", [None, "http://127.0.0.1:9/whl/cpu", "nonsense", "file:///nowhere/at/all"])
def test_an_index_that_cannot_be_reached_is_one_line(setting, machine, monkeypatch, capsys):
    if setting:
        monkeypatch.setenv("COURSE_TORCH_INDEX", setting)
    monkeypatch.setattr(cpu_torch.subprocess, "run", lambda *words, **options: pytest.fail("pip is called"))
    assert main() == 0
    out, problem = capsys.readouterr()
    assert out.count("\n") == 1 and problem == "" and "cannot be reached" in out and "pip takes the ordinary torch" in out


def test_who_does_not_answer_is_not_waited_for(machine, monkeypatch, capsys):
    """Neither where a server accepts and is silent, nor where a name is looked up for ever."""
    monkeypatch.setattr(cpu_torch, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("COURSE_TORCH_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}/whl/cpu")
        assert main() == 0
    assert "127.0.0.1 cannot be reached" in last_line(capsys)
    end = threading.Event()
    monkeypatch.setattr(cpu_torch, "urlopen", lambda *words, **options: end.wait(60))
    assert main() == 0
    end.set()
    assert "(no answer within 0 s)" in last_line(capsys)


@pytest.mark.parametrize("versions", [(), ("1.0+cpu",), (None,)])
def test_an_index_without_that_version(versions, machine, monkeypatch, capsys):
    """None: the version, but not as a CPU build."""
    with served(index(*(version or pinned_torch() for version in versions))) as (address, _):
        monkeypatch.setenv("COURSE_TORCH_INDEX", f"{address}/whl/cpu")
        assert main() == 0
    assert f"its index has no torch {pinned_torch()} for Python" in last_line(capsys) and not machine.exists()


def test_the_wheel_has_to_fit_python_and_processor(monkeypatch):
    monkeypatch.setattr(cpu_torch.sys, "version_info", (3, 13, 1))
    monkeypatch.setattr(cpu_torch.platform, "machine", lambda: "aarch64")
    right = "torch-2.13.0%2Bcpu-cp313-cp313-manylinux_2_28_aarch64.whl"
    assert has_wheel(f'<a href="/whl/{right}#sha256=0">', "2.13.0")
    for old, new in (("aarch64", "x86_64"), ("cp313-cp313", "cp313-cp313t"), ("cp313", "cp314"), ("2.13.0", "2.13.00")):
        assert not has_wheel(right.replace(old, new), "2.13.0")


def test_a_failure_of_pip_stops_nothing(machine, monkeypatch, capfd):
    pages = index(f"{pinned_torch()}+cpu")
    pages = {path: b"no zip file" if path.startswith("/files/") else page for path, page in pages.items()}
    with served(pages) as (address, _):
        monkeypatch.setenv("COURSE_TORCH_INDEX", f"{address}/whl/cpu")
        assert main() == 0
    out, problem = capfd.readouterr()
    assert "ERROR" in problem and "pip could not install it (it says above why)" in out.splitlines()[-1]


def test_a_fault_of_our_own_stops_nothing(machine, monkeypatch, capsys):
    monkeypatch.setattr(cpu_torch, "has_nvidia_gpu", lambda: 1 / 0)
    assert main() == 0
    assert "was not looked for (ZeroDivisionError: division by zero)" in last_line(capsys)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("installed_torch", lambda: "2.0", "torch 2.0 is installed already."),
        ("has_nvidia_gpu", lambda: True, "There is an NVIDIA GPU"),
        ("COURSE_TORCH_INDEX", "", "COURSE_TORCH_INDEX is empty"),
        ("PIP_NO_INDEX", "1", "PIP_NO_INDEX is set"),
    ],
)
def test_nothing_is_done_where_there_is_nothing_to_do(place, value, words, machine, no_request, monkeypatch, capsys):
    monkeypatch.setenv(place, value) if isinstance(value, str) else monkeypatch.setattr(cpu_torch, place, value)
    assert main() == 0 and capsys.readouterr().out.startswith(words)


@pytest.mark.parametrize(("system", "processor"), [("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "ppc64le")])
def test_nothing_is_done_on_other_systems(system, processor, machine, no_request, monkeypatch, capsys):
    monkeypatch.setattr(cpu_torch.platform, "system", lambda: system)
    monkeypatch.setattr(cpu_torch.platform, "machine", lambda: processor)
    assert main() == 0 and "right one for this system" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, False), ({"dev/nvidia0": ""}, True), ({"dev/nvidiactl": ""}, False), ({"dev/dxg": ""}, False),
        ({"proc/driver/nvidia/version": "1"}, True), ({"usr/lib/wsl/lib/nvidia-smi": ""}, True),
        ({"sys/bus/pci/devices/a/class": "0x030200\n", "sys/bus/pci/devices/a/vendor": "0x10de\n"}, True),
        ({"sys/bus/pci/devices/a/class": "0x040300\n", "sys/bus/pci/devices/a/vendor": "0x10de\n"}, False),  # its sound
        ({"sys/bus/pci/devices/a/class": "0x030000\n", "sys/bus/pci/devices/a/vendor": "0x1002\n"}, False),
        ({"sys/bus/pci/devices/a/class": "0x030000\n"}, False),
    ],
)  # fmt: skip
def test_a_card_is_found_by_driver_or_by_maker(files, found, tmp_path, monkeypatch):
    monkeypatch.setattr(cpu_torch.shutil, "which", lambda name: None)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert has_nvidia_gpu(tmp_path) == found
    monkeypatch.setattr(cpu_torch.shutil, "which", lambda name: f"/somewhere/{name}")
    assert has_nvidia_gpu(tmp_path)


def test_what_is_pinned_is_read(tmp_path, monkeypatch):
    assert f"\ntorch=={pinned_torch()}\n" in (ROOT / "requirements.txt").read_text()
    monkeypatch.setattr(cpu_torch, "ROOT", tmp_path)
    (tmp_path / "requirements.txt").write_text("torch>=2\n")
    with pytest.raises(NotToBeHad, match="pins no version"):
        pinned_torch()


def test_it_runs_where_no_package_is_installed():
    """`-I -S`: Python with its own library only, as in a new environment."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from factory import cpu_torch; print(cpu_torch.installed_torch())"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("fails", [False, True])
def test_make_goes_on_whatever_becomes_of_it(fails, tmp_path):
    """A stand-in for the environment's Python writes down what it is asked to run."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >> asked\ncase "$*" in *cpu_torch) exit {int(fails)};; esac\n')
    python.chmod(0o755)
    command = ["make", "install", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-m factory.cpu_torch", "-m pip install -r requirements.txt",
    ]  # fmt: skip
    assert (tmp_path / ".venv" / "installed").exists()
