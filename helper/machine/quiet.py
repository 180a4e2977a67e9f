"""Everything that importing `helper` changes: library chatter is kept out of the lessons' output, and one GPU is seen.

Imported for its effect, before any Hugging Face library and before PyTorch first asks for a GPU.

Left out on purpose: a blanket `warnings.simplefilter("ignore")`. Only warnings that are known, and that a
student can do nothing about, are silenced; the rest still show.
"""

import os
import warnings

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU: TRL refuses more in one process; yours goes first

import logging

import datasets
import pandas
import transformers

datasets.disable_progress_bars()
datasets.logging.set_verbosity_error()
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
for name in ("trl", "accelerate", "peft", "bitsandbytes", "httpx", "httpx2", "huggingface_hub"):
    logging.getLogger(name).setLevel(logging.ERROR)

for message in (
    ".*pin_memory.*no accelerator.*",  # torch's DataLoader on a CPU
    ".*gradient_checkpointing.*deprecated.*",  # set by TRL itself
    ".*activation_checkpointing.*",
    "Glyph .* missing from .*font.*",  # a plot of a token no font on this machine can draw
):
    warnings.filterwarnings("ignore", message=message)

pandas.set_option("display.max_colwidth", 160)
pandas.set_option("display.html.use_mathjax", False)  # "$5 and $6" is money, not a formula
