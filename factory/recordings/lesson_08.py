"""The recorded runs of lesson 08: what is done with sampled answers, and with dirty rows; four files, all on word problems.

All begin with `sprout-instruct`. Where answers are sampled, each arm has equally many (`settings["samples"]`, 720: three
rounds of 60 questions × 4, or 15 steps of 12 × 4). The learning rate of an arm is the best of its `tuning`, by the share of
right answers to 100 training problems that no run trains on, with a seed of its own; then the seeds 0, 1, 2.

Verdicts are texts, a "0" or "1" for each question in the suite's order (`helper.recorded.share_right`);
`helper.preference_runs.apart(record, suite, first, second)` compares runs question by question and seed by seed.
What all four files hold:

    command, seeds, threads, settings (plain values), arms (name -> the learning rates tried)
    before     {"word_problems": verdicts (250), "other_skills": verdicts (120)}
    tuning     rows {"arm", "learning_rate", "validation": share right, "seconds"}
    runs       rows {"arm", "seed", "learning_rate", "word_problems", "other_skills": verdicts after,
               "cpu_seconds": the processor's, sampling and training, "seconds": of the clock, with judging}

and each of them besides:

    08_expert_iteration.json   arms "expert iteration", "random choice" (as many rows, chosen blindly), "GRPO", "ReFT" (GRPO's
        loop with the reward 1 / 0.1 / 0). A run also has "stages", a row after each third of the samples: {"round": 1, 2, 3,
        "samples": so far, "cpu_seconds": so far, "word_problems": verdicts, "acceptance": the share of this round's samples
        that was right, "rows": trained on in this round (null for GRPO and ReFT)}
    08_distillation.json       arms "SFT on the teacher's answers", "on-policy distillation" (reverse KL), "SFT on written
        answers", "GRPO" (copied from the file above). "teacher": verdicts of `sprout-grpo`, as in `before`. A run also has
        "samples": {"teacher": ..., "student": ..., "written": ...}
    08_dpo_online.json         arms "online DPO" (pairs from the current model each round), "offline DPO" (pairs of the same
        questions from the first model), "SFT on the chosen answers" (of the offline pairs). A run also has "rounds", rows
        {"round", "pairs", "acceptance"}
    08_filters.json            arms "clean rows only", "no filter", "all filters", and "all but FILTER" for each of FILTERS:
        "exact duplicates", "near duplicates", "length", "wrong answers", "banned style". "rows": {"clean": n, planted kind:
        n}; "removed": filter -> {"clean": n, planted kind: n} of what that filter alone removes. A run also has "rows":
        how many were left, "style": verdicts, whether an answer has the planted style, and "words": an answer's mean number

Left out on purpose: answers (verdicts only), the choice of the rate on more than one seed.
"""

RECORDINGS: dict = {}
