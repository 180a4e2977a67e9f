"""The recorded runs of lesson 07: LoRA against full fine-tuning, for SFT, DPO and GRPO on word problems, `07_lora.json`.

All begin with `sprout-instruct`. Of each method and arm, three learning rates with the first seed (a fourth where the best
is the last of them); the best on problems that are neither trained nor reported also with the other seeds.

The file's keys (verdicts are texts, a "0" or "1" for each question in the suite's order: `helper.recorded.share_right`;
`helper.preference_runs.apart(record, suite, first, second)` compares runs question by question and seed by seed):

    command, seeds, threads
    settings   method -> {"steps": ..., "batch": ...} and others, as plain values
    arms       method -> arm -> the learning rates that were tried first. Methods: "SFT", "DPO", "GRPO". Arms of SFT: "full",
               "upper half", "all-linear, rank 1" (4, 16), "attention, rank 4" (16); of the others: "full",
               "all-linear, rank 8". alpha is twice the rank
    before     {"word_problems": verdicts (250), "other_skills": verdicts (120), "held_out_concepts": verdicts (60)}
    tuning     a row for each (method, arm, learning_rate), all with the first seed: what a run has, and
               "validation": for SFT the loss of an answer's token on 96 problems (lower is better, may be nan), for DPO and
               GRPO the share of 100 problems answered rightly (higher is better). The heat map of rate × rank is here
    runs       a row for each (method, arm, seed), at the best rate: {"method", "arm", "seed", "learning_rate",
               "trained": parameters that training changes, "bytes": of a file with them in float32,
               "cpu_seconds": the processor's, training alone (GRPO: with its sampling), "seconds": of the clock, with judging,
               "word_problems", "other_skills", "held_out_concepts": verdicts after, "validation"}
    peaks      a row for each (method, arm): {"method", "arm", "start_mb": peak of a process of its own with the model and
               the rows loaded, "peak_mb": the same after two steps of training}

Left out on purpose: dropout, other alphas, the choice of the rate on more than one seed.
"""

RECORDINGS: dict = {}
