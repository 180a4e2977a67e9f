"""The one room for names that are private in the libraries: what each is for, and what upstream would make it needless.

A private name may change with any release. `RELIES_ON` lists all that the project uses with the versions on which they were
checked; `check_library` says in one message what is gone, in which version, and what to do. Everything else in the project
asks the functions below. A patch lasts as long as its `with` block, and is undone when that ends.
Left out on purpose: private names of our own, and whatever the libraries offer in public.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

CHECKED = {"trl": "1.16.0", "transformers": "5.23.0", "accelerate": "1.15.0"}


class LibraryChanged(RuntimeError):
    """A private name of a library is not where it was; the message names file, version and what to do."""


class Private(NamedTuple):
    """A private name: in which package and module, what it does for us, and what upstream would make it needless."""

    package: str
    module: str
    name: str
    use: str
    upstream: str


TRITON = Private(
    "trl", "trl.trainer.utils", "_use_triton", "losses that leave out masked positions on a CPU",
    "a setting of the trainers for it",
)  # fmt: skip
CHUNKED = Private(
    "trl", "trl.trainer.utils", "_ChunkedLogProbFunction", "quick log-probabilities on a CPU",
    "a setting of the trainers that takes a function for them",
)  # fmt: skip
ATTENTION = Private(
    "transformers", "transformers.configuration_utils", "_attn_implementation", "which attention a model uses",
    "a public property beside set_attn_implementation",
)  # fmt: skip
PREPARED = Private(
    "accelerate", "accelerate.accelerator", "_is_accelerate_prepared", "a second trainer on the same model",
    "a public way to unwrap bf16 from a model's forward pass",
)  # fmt: skip
STEP = Private(
    "trl", "trl.trainer.grpo_trainer", "_step", "forgetting an interrupted step's count", "a trainer that does so itself"
)
METRICS = Private(
    "trl",
    "trl.trainer.grpo_trainer",
    "_metrics",
    "forgetting an interrupted step's numbers",
    "a trainer that does so itself",
)
LOADING = Private(
    "transformers", "transformers.trainer", "_load_from_checkpoint", "going back to a checkpoint's weights",
    "a public method of the trainers for it",
)  # fmt: skip
RELIES_ON = (TRITON, CHUNKED, ATTENTION, PREPARED, STEP, METRICS, LOADING)


def check_library(names: tuple[Private, ...] = RELIES_ON) -> None:
    """Raise LibraryChanged, one message for all, for each private name that the installed libraries do not have."""
    lost = [name for name in names if not _is_there(name)]
    if lost:
        raise LibraryChanged("\n".join(map(_changed, lost)))


def _is_there(private: Private) -> bool:
    """Whether its module defines the name, or speaks of it where objects get it."""
    try:
        module = importlib.import_module(private.module)
    except ImportError:
        return False
    return hasattr(module, private.name) or private.name in inspect.getsource(module)


def _changed(private: Private) -> str:
    package, here = private.package, Path(__file__)
    return (
        f"{here.parent.name}/{here.name}: {package} {version(package)} has no {private.module}.{private.name} (checked on "
        f"{CHECKED[package]}), needed for {private.use}. Install the pinned versions (pip install -r requirements.txt), or "
        "find its new name and change it there."
    )


@contextmanager
def replaced(private: Private, value) -> Iterator[None]:
    """Put `value` in the place of a module's private name while the block lasts; LibraryChanged where it has none."""
    module = importlib.import_module(private.module)
    if not hasattr(module, private.name):
        raise LibraryChanged(_changed(private))
    before = getattr(module, private.name)
    setattr(module, private.name, value)
    try:
        yield
    finally:
        setattr(module, private.name, before)


def losses_without_masked_positions():
    """TRL takes the way of a GPU, where its losses leave masked positions out, while the block lasts."""
    return replaced(TRITON, lambda device: True)


def chunked_log_probs(choose: Callable):
    """While the block lasts, TRL's trainers get their log-probabilities from `choose(own)`, in the place of their `own`."""
    own = getattr(importlib.import_module(CHUNKED.module), CHUNKED.name, None)
    return replaced(CHUNKED, SimpleNamespace(apply=choose(getattr(own, "apply", None))))


def attention_of(model_or_config) -> str:
    """The attention that a model or its config uses, such as "eager" or "sdpa"; "sdpa" where none was chosen."""
    config = getattr(model_or_config, "config", model_or_config)
    return getattr(config, ATTENTION.name, None) or "sdpa"


def forget_accelerate(model) -> None:
    """Let accelerate wrap this model again: it does so once, and a second trainer's own forward pass would be float32."""
    setattr(model, PREPARED.name, False)


def forget_unfinished_step(trainer) -> None:
    """Clear what TRL counted in an interrupted step, which would shift the numbers of the next call."""
    if hasattr(trainer, STEP.name):
        setattr(trainer, STEP.name, 0)
    for metrics in getattr(trainer, METRICS.name, {}).values():
        metrics.clear()


def load_weights(trainer, checkpoint: Path) -> None:
    """Put a checkpoint's weights into the trainer's model, whole ones or an adapter's, as the trainer itself does."""
    getattr(trainer, LOADING.name)(str(checkpoint))
