"""The recorded runs of lesson 07: LoRA against full fine-tuning.

Left out on purpose: DPO and GRPO with an adapter, and a real model.
"""

from __future__ import annotations

from factory.recordings.lora_sweep import record_lora_sweep

RECORDINGS = {"lora_sweep": (record_lora_sweep, "07_lora_sweep.json")}
