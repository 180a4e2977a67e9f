"""The names that the course uses, loaded by the ordinary client code from a stand-in Hub on this machine.

One process of `hub_client.py` does most of it. Models and rows are stand-ins (`stand_in_repositories.py` says what of
them is as on the Hub), so this shows that names, files, templates and columns fit, not what the real models can do.
"""

import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import stand_in_repositories as stand_ins
from stand_in_hub import StandInHub
from stand_in_repositories import END, GSM8K, MODELS, OTHER, QWEN2, QWEN3, QWEN_SYSTEM, SMOLLM_SYSTEM, TURN_END

ROOT = Path(__file__).resolve().parent.parent
SFT_ROWS, PAIRS, IDENTITY, MATHS = stand_ins.DATASETS
SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
ASKED = "<|im_start|>user\nWhat is 6 * 12?<|im_end|>\n<|im_start|>assistant\n"
NO_THOUGHT = "<think>\n\n</think>\n\n"
FAMILIES = {  # what loading by name has to end in; `chat` and `prompt` as the family's model was trained on them
    "Qwen3": {
        "class": "Qwen3ForCausalLM", "query_norm": True, "end": END, "pad": END, "turn_end": TURN_END,
        "stops": {END, TURN_END}, "prompt": ASKED, "prompt_no_thinking": ASKED + NO_THOUGHT,
        "chat": f"{ASKED}{NO_THOUGHT}72<|im_end|>\n",
    },
    "Qwen2.5": {
        "class": "Qwen2ForCausalLM", "query_norm": False, "end": TURN_END, "pad": END, "turn_end": TURN_END,
        "stops": {END, TURN_END}, "prompt": SYSTEM.format(QWEN_SYSTEM) + ASKED,
        "prompt_no_thinking": SYSTEM.format(QWEN_SYSTEM) + ASKED,
        "chat": f"{SYSTEM.format(QWEN_SYSTEM)}{ASKED}72<|im_end|>\n",
    },
    "SmolLM2 base": {  # its tokenizer has ChatML's tokens and no template: the course's plain ChatML is used
        "class": "LlamaForCausalLM", "query_norm": False, "end": END, "pad": END, "turn_end": TURN_END,
        "stops": {END, TURN_END}, "prompt": ASKED, "prompt_no_thinking": ASKED, "chat": f"{ASKED}72<|im_end|>\n",
    },
    "SmolLM2 instruct": {
        "class": "LlamaForCausalLM", "query_norm": False, "end": TURN_END, "pad": TURN_END, "turn_end": TURN_END,
        "stops": {TURN_END}, "prompt": SYSTEM.format(SMOLLM_SYSTEM) + ASKED,
        "prompt_no_thinking": SYSTEM.format(SMOLLM_SYSTEM) + ASKED,
        "chat": f"{SYSTEM.format(SMOLLM_SYSTEM)}{ASKED}72<|im_end|>\n",
    },
}  # fmt: skip
FAMILY_OF = {
    "Qwen/Qwen3-0.6B-Base": "Qwen3",
    "Qwen/Qwen2.5-0.5B-Instruct": "Qwen2.5",
    "Qwen/Qwen2.5-1.5B-Instruct": "Qwen2.5",
    "HuggingFaceTB/SmolLM2-135M": "SmolLM2 base",
    "HuggingFaceTB/SmolLM2-135M-Instruct": "SmolLM2 instruct",
    "banghua/Qwen3-0.6B-SFT": "Qwen3",
    "banghua/Qwen2.5-0.5B-DPO": "Qwen2.5",
    "banghua/Qwen2.5-0.5B-GRPO": "Qwen2.5",
}
COLUMNS = {SFT_ROWS: ["messages"], PAIRS: ["chosen", "rejected"], IDENTITY: ["conversations"], MATHS: ["question", "answer"]}
NO_END = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\n' }}{% endfor %}"
NO_END += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
PLANTED_MODELS = {  # name: (family, changes of its tokenizer_config.json, what then has to differ)
    "planted/pad-is-end": (QWEN2, {"pad_token": TURN_END}, {"pad"}),
    "planted/another-end": (QWEN2, {"eos_token": END}, {"end"}),
    "planted/no-end-in-template": (
        QWEN2, {"chat_template": NO_END}, {"turn_end", "prompt", "prompt_no_thinking", "chat", "template_fault"},
    ),
    "planted/no-system-message": (
        QWEN2, {"chat_template": QWEN3.template}, {"prompt", "prompt_no_thinking", "chat"},
    ),
}  # fmt: skip
PLANTED_FILES = {  # name: (file, its content, words of the refusal)
    "planted/pickled-shards": (
        "model.safetensors.index.json", {"metadata": {}, "weight_map": {"lm_head.weight": "pytorch_model.bin"}},
        "names 'pytorch_model.bin', and weights are read only from .safetensors",
    ),
    "planted/shards-elsewhere": (
        "model.safetensors.index.json", {"metadata": {}, "weight_map": {"lm_head.weight": "../../o.safetensors"}},
        "names '../../o.safetensors'",
    ),
    "planted/adapter": (
        "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen3-0.6B-Base"},
        "holds an adapter (LoRA) and no whole model. Load Qwen/Qwen3-0.6B-Base first",
    ),
}  # fmt: skip
PLANTED_ROWS = {
    "planted/messages-renamed": (SFT_ROWS, {"messages": "conversation"}),
    "planted/DPO-chosen-renamed": (PAIRS, {"chosen": "accepted"}),
    "planted/gsm8k-answer-renamed": (MATHS, {"answer": "solution"}),
}


class Client:
    """A running `hub_client.py`; its functions are called with `ask`."""

    def __init__(self, address: str, home: Path):
        elsewhere = {"http_proxy", "https_proxy", "all_proxy", "hf_hub_offline"}  # it would not ask, or not the stand-in
        kept = {name: value for name, value in os.environ.items() if name.lower() not in elsewhere}
        own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
        own["PYTHONPATH"] = str(ROOT)
        self.home, self.log = home, tempfile.TemporaryFile("w+")
        command = [sys.executable, str(ROOT / "tests" / "tools" / "hub_client.py")]
        self.process = subprocess.Popen(
            command, env=kept | own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True
        )

    def answer(self, do: str, **arguments) -> dict:
        """{"value": ...}, or {"error": ..., "message": ...} of what it raised."""
        print(json.dumps({"do": do, **arguments}), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise AssertionError(f"the client ended: {self.log.read()[-3000:]}")
        return json.loads(line)

    def ask(self, do: str, **arguments):
        answer = self.answer(do, **arguments)
        assert "value" in answer, answer
        return answer["value"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()
        self.log.close()


@contextmanager
def running_client(address: str, home: Path):
    client = Client(address, home)
    try:
        yield client
    finally:
        client.stop()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """The folder with every repository, the planted ones among them."""
    folder = stand_ins.make_all(tmp_path_factory.mktemp("repositories"))
    for name, (family, changes, _) in PLANTED_MODELS.items():
        changes = {key: stand_ins.template_text(value) for key, value in changes.items()}
        stand_ins.make_model(stand_ins.revision_folder(folder, "model", name), family, **changes)
    for name, (file, content, _) in PLANTED_FILES.items():
        repository = stand_ins.revision_folder(folder, "model", name)
        stand_ins.make_model(repository, QWEN2)
        stand_ins.write_json(repository / file, content)
    for name, (like, renamed) in PLANTED_ROWS.items():
        stand_ins.make_dataset(stand_ins.revision_folder(folder, "dataset", name), like, 20, **renamed)
    return folder


@pytest.fixture(scope="module")
def hub(repositories):
    with StandInHub(repositories) as hub:
        yield hub


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    with running_client(hub.address, tmp_path_factory.mktemp("hub") / "home") as client:
        yield client


def differences(found: dict, family: str) -> set[str]:
    """What of a loaded model is not as it has to be in its family."""
    expected = {"tied": True, "sampling": False, "template_fault": "", **FAMILIES[family]}
    found = {**found, "stops": set(found["stops"])}
    return {key for key, value in expected.items() if found[key] != value}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_by_name_and_is_of_its_family(name, client):
    found = client.ask("load", name=name)
    assert differences(found, FAMILY_OF[name]) == set(), found
    assert any(found["texts"])


@pytest.mark.parametrize("name", PLANTED_MODELS)
def test_a_planted_mistake_in_a_model_is_found(name, client):
    _, _, expected = PLANTED_MODELS[name]
    assert differences(client.ask("load", name=name), "Qwen2.5") == expected


@pytest.mark.parametrize("name", PLANTED_FILES)
def test_a_repository_that_is_no_plain_model_is_refused_before_its_weights_are_asked_for(name, client, hub):
    del hub.asked[:]
    answer = client.answer("load", name=name)
    assert answer["error"] == "ModelFault" and PLANTED_FILES[name][2] in answer["message"], answer
    assert not [path for _, path in hub.asked if path.endswith((".safetensors", ".bin")) or path.startswith("/lfs/")]


def test_the_repositories_themselves_have_the_families_settings(client):
    """What `load_model_and_tokenizer` mends is in the files, as on the Hub: no template, no pad token, sampling."""
    base, instruct = client.ask("raw", name="HuggingFaceTB/SmolLM2-135M"), client.ask("raw", name=list(MODELS)[1])
    assert (base["template"], base["pad"], base["end"]) == (False, None, END)
    assert instruct["template"] and instruct["generation"]["do_sample"]
    assert instruct["generation"]["repetition_penalty"] == 1.1 and len(instruct["generation"]["eos_token_id"]) == 2
    assert 1e5 < base["parameters"] < 1e6


@pytest.mark.parametrize("by", ["library", "course"])
@pytest.mark.parametrize("kind", ["sft", "dpo", "grpo"])
@pytest.mark.parametrize("name", MODELS)
def test_five_steps_of_training_change_the_model_and_are_kept(name, kind, by, client):
    trained = client.ask("train", name=name, kind=kind, by=by)
    assert trained["steps"] == 5 and trained["finite"] and trained["kept"], trained
    assert trained["changed"] > 1e-4 and trained["class"] == FAMILIES[FAMILY_OF[name]]["class"]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_data_set_loads_by_name_with_its_columns(name, client):
    found = client.ask("rows", name=name)
    assert found["columns"] == COLUMNS[name] and found["rows"] >= 200
    assert client.ask("prepared", name=name) == found["rows"]
    assert client.ask("rows", name=name, limit=10)["rows"] == 10


@pytest.mark.parametrize("name", PLANTED_ROWS)
def test_a_planted_mistake_in_a_data_set_is_found(name, client):
    (renamed,) = PLANTED_ROWS[name][1]
    answer = client.answer("prepared", name=name)
    assert answer["error"] == "ValueError" and f'"{renamed}"' in answer["message"].replace("'", '"'), answer


def test_the_last_turn_of_a_pair_is_the_assistants(client):
    first = client.ask("rows", name=PAIRS)["first"]
    assert {first[side][-1]["role"] for side in ("chosen", "rejected")} == {"assistant"}
    assert first["chosen"] != first["rejected"] and first["chosen"][:-1] == first["rejected"][:-1]


def test_every_gold_of_gsm8k_is_got_out(client):
    found = client.ask("golds")
    assert all(number == right for number, right in found.values()), found
    if GSM8K.is_dir():
        assert found == {"test": [1319, 1319], "train": [7473, 7473]}


def test_another_revision_is_another_download(client):
    name = "Qwen/Qwen3-0.6B-Base"
    main, other = client.ask("load", name=name), client.ask("load", name=name, revision=OTHER)
    assert main["weights"] != other["weights"] and main["chat"] == other["chat"]
    assert client.ask("rows", name=IDENTITY)["rows"] > client.ask("rows", name=IDENTITY, revision=OTHER)["rows"] == 10


def test_old_paths_lead_to_the_hub_name(client):
    names = ("Qwen/Qwen3-0.6B-Base", "./models/Qwen/Qwen3-0.6B-Base")
    first, second = (client.ask("load", name=name) for name in names)
    assert first["weights"] == second["weights"]


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (("load", "Qwen/Qwen3-0.6B-Bse", None), "FileNotFoundError", "is the name right"),
        (("load", "./models/Qwen/Qwen3-0.6B-Bse", None), "FileNotFoundError", "is the name right"),
        (("load", "Qwen/Qwen3-0.6B-Base", "v9"), "FileNotFoundError", "v9 is not a valid git identifier"),
        (("rows", "openai/gsm9k", None), "ValueError", "doesn't exist on the Hub"),
        (("rows", "openai/gsm8k", "v9"), "ValueError", "Revision 'v9' doesn't exist"),
    ],
)
def test_a_name_or_revision_that_is_not_there_is_one_clear_error(request_, error, words, client):
    do, name, revision = request_
    answer = client.answer(do, name=name, revision=revision)
    assert answer["error"] == error and words in answer["message"] and "\n" not in answer["message"], answer


def test_a_split_that_is_not_there_is_named(client):
    answer = client.answer("rows", name=MATHS, split="tset")
    assert answer["error"] == "ValueError" and "tset" in answer["message"]


def test_what_was_downloaded_is_used_again_also_when_the_hub_is_gone(hub, client, tmp_path):
    name, other = "Qwen/Qwen2.5-0.5B-Instruct", "planted/never-asked-for"
    weights, count = client.ask("load", name=name)["weights"], client.ask("rows", name=SFT_ROWS)["rows"]
    del hub.asked[:]
    assert client.ask("load", name=name)["weights"] == weights and client.ask("rows", name=SFT_ROWS)["rows"] == count
    assert hub.asked and not [path for _, path in hub.asked if path.startswith("/lfs/")]  # asked for, not fetched again
    with StandInHub(tmp_path) as gone:
        pass
    with running_client(gone.address, client.home) as later:
        assert later.ask("load", name=name)["weights"] == weights
        assert later.ask("rows", name=SFT_ROWS)["rows"] == count
        for do in ("load", "rows"):
            answer = later.answer(do, name=other)
            assert answer["error"] == "ConnectionError" and "cannot be reached" in answer["message"]
        answer = later.answer("rows", name=SFT_ROWS, revision=OTHER)
        assert answer["error"] == "ConnectionError" and "Leave revision out" in answer["message"]


def test_the_server_sends_ranges_and_refuses_what_is_not_there(hub):
    address = f"{hub.address}/openai/gsm8k/resolve"  # as a model: there is none
    with pytest.raises(urllib.error.HTTPError) as missing:
        urllib.request.urlopen(f"{address}/main/config.json")
    assert missing.value.headers["X-Error-Code"] == "RepoNotFound"
    model = f"{hub.address}/Qwen/Qwen3-0.6B-Base/resolve"
    for path, code in (("v9/config.json", "RevisionNotFound"), ("main/nothing.json", "EntryNotFound")):
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{model}/{path}")
        assert missing.value.code == 404 and missing.value.headers["X-Error-Code"] == code
    for path in ("main/config.json", "main/model.safetensors"):
        with urllib.request.urlopen(f"{model}/{path}") as whole:
            content = whole.read()
        request = urllib.request.Request(f"{model}/{path}", headers={"Range": "bytes=10-19"})
        with urllib.request.urlopen(request) as part:
            assert part.status == 206 and part.read() == content[10:20]
            assert part.headers["Content-Range"] == f"bytes 10-19/{len(content)}"
    with urllib.request.urlopen(f"{hub.address}/api/models/Qwen/Qwen3-0.6B-Base/tree/main?recursive=True") as answer:
        tree = {entry["path"]: entry for entry in json.load(answer)}
    assert tree["model.safetensors"]["lfs"]["size"] == tree["model.safetensors"]["size"] == len(content)
