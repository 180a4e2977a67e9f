"""The recorded runs of lesson 08: what is done with sampled answers, and with dirty rows; four files, all on word problems.

All begin with `sprout-instruct`. Where answers are sampled, each arm has equally many (`settings["samples"]`, 720: three
rounds of 60 questions × 4, or 15 steps of 12 × 4). Where an arm has several learning rates, it runs with the best of its
`tuning`, by the share of right answers to 100 training problems that no run trains on, with a seed of its own, after one
round; in the record of distillation after a whole run. For GRPO one round says little (6e-4 was as good as 3e-4, and fell
apart later), so its rate, as those of DPO and of SFT on chosen answers, is the best of three in an older record of as many
steps.

Verdicts are texts, a "0" or "1" for each question in the suite's order (`helper.recorded.share_right`);
`helper.preference_runs.apart(record, suite, first, second)` compares runs question by question and seed by seed.
What the files hold, all of them:

    command, seeds, threads, settings (plain values), arms (name -> the learning rates tried, or the
               arm whose rate it has)
    before     {"word_problems": verdicts (200), "other_skills": verdicts (90)}
    tuning     rows {"arm", "learning_rate", "validation": share right, "seconds"}
    runs       rows {"arm", "seed", "learning_rate", "word_problems", "other_skills": verdicts after,
               "cpu_seconds": the processor's, sampling and training, "seconds": of the clock, with judging}

08_expert_iteration.json
    arms       "expert iteration", "random choice" (blindly, as many rows as expert iteration keeps with that seed), "GRPO",
               "GRPO, ReFT's reward" (1 / 0.1 / 0)
    runs       also "samples", and "stages", a row after each third of the samples: {"round": 1, 2 or 3, "samples": so far,
               "cpu_seconds": so far, "word_problems": verdicts, "acceptance": the share of this round's samples that was
               right, "rows": trained on in this round (null for GRPO)}
08_distillation.json
    arms       "SFT on the teacher's answers", "SFT on the teacher's right answers", "on-policy distillation" (reverse KL),
               "SFT on written answers"; "GRPO" has runs, copied from the file above, and no tuning
    teacher    verdicts of `sprout-grpo`, as in `before`
    runs       also "samples": {"teacher": n}, {"student": n} or {"written": n}; of the teacher "acceptance" and "rows"; of
               on-policy distillation "reverse_kl", a number for each step
08_dpo_online.json
    arms       "online DPO" (pairs from the current model each round), "offline DPO" (pairs of the same questions from the
               first model), "SFT on the chosen answers" (of the offline pairs)
    runs       also "samples", and "rounds", rows {"round", "pairs", "acceptance"}
08_self_judged.json (recorded by name only)
    arms       who picks the pairs of online DPO: "the answer key", "own vote", "own likelihood", "a coin"; eight answers to
               a question, so 1440 samples
    runs       also "rounds", rows {"round", "acceptance", "pairs", "chosen_right", "rejected_right", "upside_down": the
               share of pairs with a wrong answer chosen and a right one rejected, "words": mean of chosen, of rejected}
08_filters.json
    arms       "clean rows only", "no filter", "all filters", and "all but FILTER" for each filter: "exact duplicates",
               "near duplicates", "length", "wrong answers", "banned style". One learning rate, so `tuning` is empty
    rows       planted kind ("clean" and the names of the filters) -> how many rows the dirty set of the first seed has
    removed    filter -> planted kind -> how many of these rows that filter alone removes
    before, runs  no "other_skills", but "style": verdicts, whether an answer has the planted style; "words": an answer's
               mean number; runs also "rows": how many were left, "kinds": the same by planted kind

Left out on purpose: answers (verdicts only), the choice of the rate on more than one seed.
"""

from factory.recordings.distilled import record_distillation
from factory.recordings.expert_iteration import record_expert_iteration
from factory.recordings.filtered_rows import record_filters
from factory.recordings.online_pairs import record_dpo_online
from factory.recordings.self_judged import record_self_judged

RECORDINGS: dict = {
    "expert_iteration": (record_expert_iteration, "08_expert_iteration.json"),
    "distillation": (record_distillation, "08_distillation.json"),
    "dpo_online": (record_dpo_online, "08_dpo_online.json"),
    "filters": (record_filters, "08_filters.json"),
}
LONG: dict = {"self_judged": (record_self_judged, "08_self_judged.json")}  # recorded by name only
