"""Without a network: what ships loads and asks nobody, and a Hub name fails in seconds with one clear message.

`no_network` comes in two kinds: every connection is refused at once, or none is ever answered. The seconds are not
waited for: `waited` says for how many the code would have.
"""

import inspect
import socket
import threading

import huggingface_hub
import pytest
from datasets import Dataset
from transformers import AutoTokenizer

from helper import data, load_course_dataset, load_model_and_tokenizer, load_suite, models
from helper.machine.folders import project_folder
from helper.machine.hub import hub_is_reachable
from helper.models import SHIPPED_MODELS

built = pytest.mark.skipif(not (project_folder() / "data" / "models").exists(), reason="the models are not built yet")


class Waits(list):
    """For how many seconds threads were waited for; no longer, though, than until `hanging` is set."""

    hanging = threading.Event()


@pytest.fixture
def waited(monkeypatch):
    waits, join = Waits(), threading.Thread.join

    def wait(self, timeout=None):
        if timeout is None:
            return join(self)
        waits.append(timeout)
        for _ in range(int(timeout * 100)):
            if not waits.hanging.is_set():
                join(self, 0.01)

    monkeypatch.setattr(threading.Thread, "join", wait)
    return waits


@pytest.fixture(params=["refused", "hanging"])
def no_network(request, monkeypatch, waited):
    """The list of what was asked for, while looking a name up and connecting fail or wait for the test's end."""
    asked, end, waited.hanging = [], threading.Event(), threading.Event()

    def fail(*args, **kwargs):
        asked.append(args)
        if request.param == "hanging":
            waited.hanging.set()
            end.wait(60)
        raise OSError("no network")

    huggingface_hub.close_session()
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(socket.socket, "connect", fail)
    monkeypatch.setattr(socket.socket, "connect_ex", fail)
    yield asked
    end.set()
    huggingface_hub.close_session()


@built
@pytest.mark.parametrize("name", SHIPPED_MODELS[:1])
def test_what_ships_loads_and_asks_nobody(name, no_network):
    model, tokenizer = load_model_and_tokenizer(name)
    assert model.num_parameters() > 0 and tokenizer("What is a photon?").input_ids
    assert load_suite("reference") and len(load_course_dataset("sprout-sft")) > 0
    assert no_network == []


@pytest.mark.parametrize(
    ("load", "instead"), [(load_model_and_tokenizer, '"sprout-base"'), (load_course_dataset, "sprout-sft")]
)
def test_a_hub_name_fails_in_seconds_and_names_what_ships(load, instead, no_network, waited):
    with pytest.raises(ConnectionError, match=instead) as caught:
        load("nobody/nothing-of-this-name")
    assert waited == [inspect.signature(hub_is_reachable).parameters["seconds"].default] and waited[0] <= 5
    assert len(no_network) == 1  # the one question whether the Hub is there; nothing is tried again
    assert "nobody/nothing-of-this-name" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_offline_mode_asks_nobody(no_network, monkeypatch):
    """HF_HUB_OFFLINE=1, which the library reads when it is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert hub_is_reachable() is False
    for load in (load_model_and_tokenizer, load_course_dataset):
        with pytest.raises(ConnectionError, match="sprout"):
            load("nobody/nothing-of-this-name")
    assert no_network == []


def test_a_proxy_that_hangs_is_given_up(monkeypatch, waited):
    with socket.create_server(("127.0.0.1", 0)) as server:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{server.getsockname()[1]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        huggingface_hub.close_session()
        assert hub_is_reachable(seconds=0.5) is False and waited == [0.5]
        server.settimeout(5)
        server.accept()[0].close()  # it was the proxy that was asked
    huggingface_hub.close_session()


def test_a_model_is_asked_for_at_its_revision_and_without_its_code(monkeypatch):
    asked = []

    def refuse(source, **options):
        asked.append((source, options["revision"], options["trust_remote_code"]))
        raise OSError("stop here")

    monkeypatch.setattr(models, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", refuse)
    for revision in (None, "v1.0"):
        with pytest.raises(FileNotFoundError, match="stop here"):
            load_model_and_tokenizer("someone/model", revision=revision)
    assert asked == [("someone/model", "main", False), ("someone/model", "v1.0", False)]


def test_a_data_set_is_asked_for_at_its_revision(monkeypatch):
    asked = []
    rows = Dataset.from_list([{"question": "q"}])
    monkeypatch.setattr(data, "hub_is_reachable", lambda: True)
    monkeypatch.setattr(data.datasets, "load_dataset", lambda *args, **options: asked.append(options) or rows)
    load_course_dataset("someone/data")
    load_course_dataset("someone/data", revision="v1.0")
    assert asked == [{"split": "train"}, {"split": "train", "revision": "v1.0"}]
    monkeypatch.setattr(data, "hub_is_reachable", lambda: False)
    with pytest.raises(ConnectionError, match="at revision v1.0.*Leave revision out"):
        load_course_dataset("someone/data", revision="v1.0")
    assert len(asked) == 2  # another revision's download is not taken for it
