"""What the machine is: device, precision, seed, folders, memory, and whether the Hub answers."""

import inspect
import itertools
import os
import socket
import sys
import threading
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from tiny import make_model

from helper.machine import device
from helper.machine.device import bf16_is_fast, bf16_speedup, choose_device, set_seed
from helper.machine.folders import output_folder, project_folder
from helper.machine.hub import hub_is_reachable
from helper.machine.memory import keep_freed_memory, peak_memory_mb
from helper.models import (
    load_model_and_tokenizer,
)


def test_peak_memory_is_in_megabytes():
    assert 50 < peak_memory_mb() < 50_000


def test_the_peak_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda device: 7e6)
    assert peak_memory_mb("cuda:0") == 7.0 and peak_memory_mb("cpu") > 50


def note_waits(monkeypatch):
    """A list that gets the seconds for which any thread is waited for."""
    waited, join = [], threading.Thread.join

    def wait(self, timeout=None):
        waited.append(timeout)
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", wait)
    return waited


def test_the_hub_is_given_up_in_seconds(monkeypatch):
    """A server that takes the connection and never answers: the worst case."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", silent)
        waited = note_waits(monkeypatch)
        assert hub_is_reachable(seconds=0.5) is False
    assert waited == [0.5] and inspect.signature(hub_is_reachable).parameters["seconds"].default <= 5


def test_devices(monkeypatch):
    assert choose_device(False).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="USE_GPU = False"):
        load_model_and_tokenizer("sprout-base", use_gpu=True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device(True).type == "mps" and choose_device(False).type == "cpu"
    monkeypatch.delenv("COURSE_BF16", raising=False)
    assert not bf16_is_fast("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(True).type == "cuda"


@pytest.mark.parametrize(("tick", "rounds"), [(1e-6, 20), (0.01, 5), (1.0, 3)])
def test_the_bf16_probe_ends_after_a_fifth_of_a_second(tick, rounds, monkeypatch):
    """A clock that goes on by `tick` seconds whenever it is read: up to five times a round."""
    clock = itertools.count(1)
    monkeypatch.setattr(device, "time", SimpleNamespace(perf_counter=lambda: tick * next(clock)))
    products = []
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: products.append(a.dtype))
    assert bf16_speedup.__wrapped__() > 0
    assert products == [torch.float32, torch.bfloat16] * rounds


def test_the_bf16_probe_can_be_overruled(monkeypatch):
    monkeypatch.delenv("COURSE_BF16", raising=False)
    bf16_is_fast.cache_clear(), bf16_speedup.cache_clear()
    assert bf16_is_fast(torch.device("cpu")) == (bf16_speedup() > 1.2)
    for value in ("0", "1"):
        monkeypatch.setenv("COURSE_BF16", value)
        bf16_is_fast.cache_clear()
        assert bf16_is_fast("cpu") is (value == "1")
    bf16_is_fast.cache_clear()


def test_the_seed_decides_the_weights(tokenizer):
    set_seed(3)
    first = torch.rand(2)
    set_seed(3)
    assert torch.equal(first, torch.rand(2))
    assert torch.equal(make_model(tokenizer, 1).lm_head.weight, make_model(tokenizer, 1).lm_head.weight)


def test_output_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("COURSE_OUTPUTS", str(tmp_path / "here"))
    assert output_folder("02_sft") == tmp_path / "here" / "02_sft" and output_folder("02_sft").is_dir()
    monkeypatch.delenv("COURSE_OUTPUTS")
    assert output_folder() == project_folder() / "outputs"


def test_importing_helper_turns_telemetry_off():
    import helper  # noqa: F401

    assert os.environ["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_freed_memory_is_kept_only_where_the_system_has_the_call(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert keep_freed_memory() is False
