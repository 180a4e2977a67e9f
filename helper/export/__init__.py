"""A model taken out of the course: safetensors that load anywhere, one GGUF file for llama.cpp, a card with its numbers.

`safe_folders`: the folder that transformers, vLLM and others load. `gguf_files`: the file that llama.cpp, Ollama and LM
Studio load; `gguf_vocabulary`: the tokenizer's part of it. `model_cards`: a model's README, written from what was measured.
Left out on purpose: quantising below eight bits (llama.cpp's `llama-quantize` does it), uploading, adapters (merge first).
"""
