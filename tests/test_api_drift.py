"""Lessons, helper and factory use only names and keywords that the installed libraries have, and no deprecated setting.

Checked without running the code, so that an update of a library fails here, by file, cell and line, and not an hour
into a lesson. Not seen: methods of objects (`trainer.train()`), `**options`, and functions that take any keyword.
"""

import ast
import difflib
import importlib
import inspect
import warnings
from types import ModuleType

import pytest
from test_security import place, project_code
from transformers import PreTrainedConfig, TrainingArguments

LIBRARIES = ("trl", "transformers", "datasets", "peft", "accelerate", "tokenizers", "huggingface_hub", "torch")

Code = list[tuple[str, int | None, str]]  # file, cell, source


def drift(code: Code) -> list[str]:
    """Every name and keyword in one file's code that the installed libraries do not have."""
    trees = [(file, cell, ast.parse(source)) for file, cell, source in code]
    known, faults = {}, []
    for file, cell, tree in trees:
        for node in ast.walk(tree):
            faults += [f"{place(file, cell, node.lineno)}: {fault}" for fault in _imported(node, known)]
    for file, cell, tree in trees:
        for node in ast.walk(tree):
            faults += [f"{place(file, cell, line)}: {fault}" for line, fault in _used(node, known)]
    return faults


def _imported(node: ast.AST, known: dict) -> list[str]:
    """Put what an import binds into `known`; what of it does not exist."""
    faults = []
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in LIBRARIES:
                whole, first = _module(alias.name), _module(alias.name.split(".")[0])
                known[alias.asname or alias.name.split(".")[0]] = whole if alias.asname else first
                faults += [] if whole else [f"there is no module {alias.name}"]
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module.split(".")[0] in LIBRARIES:
        module = _module(node.module)
        for alias in node.names:
            found = _attribute(module, alias.name)
            found = _module(f"{node.module}.{alias.name}") if found is None else found
            known[alias.asname or alias.name] = found
            if found is None:
                faults.append(f"{node.module} has no {alias.name}{_near(alias.name, dir(module))}")
    return faults


def _used(node: ast.AST, known: dict) -> list[tuple[int, str]]:
    """(line, fault) when the node reads an attribute, or passes a keyword, that does not exist."""
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, known)
        if isinstance(owner, ModuleType | type) and not hasattr(owner, node.attr):
            return [(node.lineno, f"{ast.unparse(node.value)} has no {node.attr}{_near(node.attr, dir(owner))}")]
    if isinstance(node, ast.Call):
        accepted, name = _keywords(_resolve(node.func, known)), ast.unparse(node.func)
        words = [word for word in node.keywords if word.arg and accepted is not None and word.arg not in accepted]
        return [(word.lineno, f"{name} takes no {word.arg}={_near(word.arg, accepted)}") for word in words]
    return []


def _module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def _attribute(owner, name: str):
    try:
        return getattr(owner, name, None)
    except (ImportError, RuntimeError):  # a name imported late, from a module that does not work here
        return None


def _resolve(node: ast.AST, known: dict):
    """The object that a name or a dotted name stands for; None when it is not a library's."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = _resolve(node.value, known)
        return _attribute(owner, node.attr) if isinstance(owner, ModuleType | type) else None
    return None


def _keywords(function) -> set[str] | None:
    """The keywords that a function takes; None when it takes any or does not say."""
    if not callable(function) or (isinstance(function, type) and issubclass(function, PreTrainedConfig)):
        return None  # a model's config keeps whatever it is given
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else {p.name for p in parameters}


def _near(name: str, names) -> str:
    near = difflib.get_close_matches(name, sorted(names or []), n=1)
    return f"; it has {near[0]}" if near else ""


FILES = sorted({file for file, _, _ in project_code()})


@pytest.mark.parametrize("file", FILES)
def test_every_name_and_keyword_is_the_installed_libraries(file):
    assert drift([part for part in project_code() if part[0] == file]) == []


PLANTED = {
    "max_seq_length": "from trl import SFTConfig\nSFTConfig(max_seq_length=1)",
    "max_prompt_length": "from trl import DPOConfig\nDPOConfig(max_prompt_length=1)",
    "evaluation_strategy": "from trl import GRPOConfig as Config\nConfig(evaluation_strategy='no')",
    "no_cuda": "import trl\ntrl.DPOConfig(no_cuda=True)",
    "warmup_ratio": "import transformers\ntransformers.TrainingArguments(warmup_ratio=0.1)",
    "tokenizer": "from trl import SFTTrainer\nSFTTrainer(model=model, tokenizer=tokenizer)",
    "DataCollatorForCompletionOnlyLM": "from trl import DataCollatorForCompletionOnlyLM",
    "setup_chat_format": "import trl\nmodel, tokenizer = trl.setup_chat_format(model, tokenizer)",
    "PPOTrainer": "from trl import PPOTrainer, SFTTrainer",
    "lora_r": "from peft import LoraConfig\nLoraConfig(lora_r=8)",
    "no_such_module": "from torch.utils.no_such_module import DataLoader",
    "pin_all": "import torch.utils.data as data\ndata.DataLoader(rows, pin_all=True)",
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_old_name_is_found(name):
    (fault,) = drift([("planted.py", None, PLANTED[name])])
    line = PLANTED[name].count("\n") + 1
    assert fault.startswith(f"planted.py, line {line}: ") and name in fault


def test_the_fault_names_notebook_cell_and_line():
    cells = [("99_x.ipynb", 2, "from trl import SFTConfig"), ("99_x.ipynb", 7, "\nargs = SFTConfig(\n    max_lenght=9)")]
    assert drift(cells) == ["99_x.ipynb, cell 7, line 3: SFTConfig takes no max_lenght=; it has max_length"]


def test_what_is_right_is_left_alone():
    good = [
        "import torch",
        "from torch.utils.data import DataLoader",
        "from transformers import AutoTokenizer, Qwen3Config",
        "from trl import SFTConfig",
        "AutoTokenizer.from_pretrained(name, any_word=1)",
        "Qwen3Config(any_word=1)",
        "SFTConfig(max_length=9, **options)",
        "DataLoader(rows, batch_size=2)",
        "own(max_seq_length=1)",
        "trainer.train(tokenizer=1)",
        "torch.tensor([1], device='cpu')",
    ]
    assert drift([("good.py", None, "\n".join(good))]) == []


def config_calls(code: Code, use_gpu: bool) -> list[tuple[str, type, dict]]:
    """(place, class, its literal keywords) for each call of a training config; `a if USE_GPU else b` is one of both.

    Keywords given as `**name` are those of the literal dict of that name.
    """
    known, dicts, calls = {}, {}, []
    for _, _, source in code:
        for node in ast.walk(ast.parse(source)):
            _imported(node, known)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
                dicts[ast.unparse(node.targets[0])] = node.value
    for file, cell, source in code:
        for node in ast.walk(ast.parse(source)):
            config = _resolve(node.func, known) if isinstance(node, ast.Call) else None
            if isinstance(config, type) and issubclass(config, TrainingArguments):
                words = {name: _literal(value, use_gpu) for name, value in _spread_keywords(node, dicts)}
                words = {name: value for name, value in words.items() if value is not ...}
                calls.append((place(file, cell, node.lineno), config, words))
    return calls


def _spread_keywords(call: ast.Call, dicts: dict[str, ast.Dict]) -> list[tuple[str, ast.expr]]:
    """(name, value) of a call's keywords, those of `**name` among them where the dict is known."""
    pairs = []
    for word in call.keywords:
        spread = dicts.get(ast.unparse(word.value)) if word.arg is None else None
        pairs += zip(map(ast.literal_eval, spread.keys), spread.values) if spread else [(word.arg, word.value)]
    return [(name, value) for name, value in pairs if name]


def _literal(node: ast.expr, use_gpu: bool):
    """The value of a literal; `...` for what only a run can tell."""
    if isinstance(node, ast.IfExp) and ast.unparse(node.test) == "USE_GPU":
        node = node.body if use_gpu else node.orelse
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ...


def deprecations(config: type, words: dict, folder) -> list[str]:
    """The deprecation warnings of building the config. TRL adds none of its own where activation_checkpointing is set."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config(**{**words, "use_cpu": True, "bf16": False, "output_dir": str(folder)})
    kinds = (FutureWarning, DeprecationWarning, PendingDeprecationWarning)
    return [str(warning.message) for warning in caught if issubclass(warning.category, kinds)]


@pytest.mark.parametrize("use_gpu", [False, True])
def test_the_lessons_configs_use_no_deprecated_setting(use_gpu, tmp_path):
    code = [part for part in project_code() if part[1] is not None]
    calls = [call for file in FILES for call in config_calls([part for part in code if part[0] == file], use_gpu)]
    assert {"SFTConfig", "DPOConfig", "GRPOConfig"} <= {config.__name__ for _, config, _ in calls}
    faults = {where: deprecations(config, words, tmp_path) for where, config, words in calls}
    assert {where: messages for where, messages in faults.items() if messages} == {}


@pytest.mark.parametrize(
    ("planted", "message"),
    [
        ("truncation_mode='keep_end', activation_checkpointing=False", "keep_end"),
        ("pad_token='<pad>', activation_checkpointing=False", "pad_token"),
        ("gradient_checkpointing=True", "gradient_checkpointing"),
        ("**machine", "gradient_checkpointing"),
        ("max_length=9", "gradient_checkpointing"),  # TRL's default for the old name, unless the new one is set
    ],
)
def test_a_planted_deprecated_setting_is_found(planted, message, tmp_path):
    source = "from trl import SFTConfig; machine = {'gradient_checkpointing': True}\n"
    source += f"SFTConfig({planted}, learning_rate=2e-5 if USE_GPU else 1e-3, seed=SEED)"
    ((where, config, words),) = config_calls([("planted.py", None, source)], use_gpu=False)
    assert where == "planted.py, line 2" and words["learning_rate"] == 1e-3 and "seed" not in words
    (warned,) = deprecations(config, words, tmp_path)
    assert message in warned
