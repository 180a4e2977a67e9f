"""GRPO by the library's own program, with random numbers that belong to the rows and not to the process.

    python recipes/grpo_by_row.py --config recipes/grpo.yaml

`trl.scripts.grpo` draws from one generator a process, so that two processes draw other answers than one. Here each answer
has a generator of its own, seeded by the run's seed, the step, the prompt and the answer's place in its group. A token is
the largest of logits + Gumbel noise, which is a draw from their softmax (Gumbel 1954; Maddison et al. 2014,
arXiv 1411.0030, section 2). Each process must hold whole groups.
Left out on purpose: temperatures other than 1, top-k and top-p, vLLM (which takes a seed with each request).
"""

import copy
import hashlib
from functools import partial

import torch
import trl
from transformers import LogitsProcessor, LogitsProcessorList
from trl.scripts import grpo


class NoiseOfRows(LogitsProcessor):
    """Adds Gumbel noise to logits (B, V): a generator for each of B rows."""

    def __init__(self, seeds: list[int]):
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        draws = [torch.rand(scores.shape[1], generator=each, dtype=torch.float64) for each in self.generators]
        uniform = torch.stack(draws).clamp(1e-300, 1 - 1e-16)
        return scores.double() - (-uniform.log()).log()


def seeds_of(prompts: list[list[int]], seed: int, step: int) -> list[int]:
    """A seed for each prompt; the places of equal prompts within a group are counted."""
    seen, seeds = {}, []
    for prompt in map(tuple, prompts):
        place = seen[prompt] = seen.get(prompt, -1) + 1
        digest = hashlib.sha256(f"{seed} {step} {place} {prompt}".encode()).digest()
        seeds.append(int.from_bytes(digest[:8], "big") >> 1)
    return seeds


def generate_by_row(generate, trainer, input_ids, attention_mask, generation_config, **options):
    """What the model's own `generate` gives, greedily on noisy logits."""
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask)]
    noise = NoiseOfRows(seeds_of(prompts, trainer.args.seed, trainer.state.global_step))
    greedy = copy.deepcopy(generation_config)
    greedy.do_sample, greedy.temperature, greedy.top_p, greedy.top_k = False, None, None, None
    options |= {"generation_config": greedy, "logits_processor": LogitsProcessorList([noise])}
    return generate(input_ids=input_ids, attention_mask=attention_mask, **options)


class GRPOByRow(trl.GRPOTrainer):
    """The library's trainer with such a `generate`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.temperature != 1.0:
            raise ValueError(f"temperature={self.args.temperature}: the noise here is for temperature 1.0.")
        self.model.generate = partial(generate_by_row, self.model.generate, self)


if __name__ == "__main__":
    trl.GRPOTrainer = GRPOByRow  # the program looks it up when it starts
    parser = grpo.make_parser()
    grpo.main(*parser.parse_args_and_config())
