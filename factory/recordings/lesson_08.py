"""The recorded runs of lesson 08: what is done with sampled answers, with dirty rows, and with rows of other kinds.

All begin with `sprout-instruct`. The first five files are on word problems. Where answers are sampled there, each arm has
equally many (`settings["samples"]`, 720: three rounds of 60 questions × 4, or 15 steps of 12 × 4). Where an arm has several
learning rates, it runs with the best of its `tuning`, by the share of right answers to 100 training problems that no run
trains on, with a seed of its own, after one round; in the record of distillation after a whole run. For GRPO one round says
little (6e-4 was as good as 3e-4, and fell apart later), so its rate, as those of DPO and of SFT on chosen answers, is the
best of three in an older record of as many steps.

Verdicts are texts, a "0" or "1" for each question in the suite's order (`helper.recorded.share_right`);
`helper.preference_runs.apart(record, suite, first, second)` compares runs question by question and seed by seed.
What the files hold, all of them (`before` of the last four: see there):

    command, seeds, threads, settings (plain values), arms (name -> the learning rates tried, or the
               arm whose rate it has)
    before     {"word_problems": verdicts (200), "other_skills": verdicts (90)}
    tuning     rows {"arm", "learning_rate", "validation": share right, "seconds"}
    runs       rows {"arm", "seed", "learning_rate", "word_problems", "other_skills": verdicts after,
               "cpu_seconds": the processor's, sampling and training, "seconds": of the clock, with judging}

08_expert_iteration.json
    arms       "expert iteration", "random choice" (blindly, as many rows as expert iteration keeps with that seed), "GRPO",
               "GRPO, ReFT's reward" (1 / 0.1 / 0), "GRPO, a third of the rate"
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
               "near duplicates", "length", "wrong answers", "banned style"; "as many rows, blindly" (as "all filters"
               keeps). One learning rate, so `tuning` is empty
    rows       planted kind ("clean" and the names of the filters) -> how many rows the dirty set of the first seed has
    removed    filter -> planted kind -> how many of these rows that filter alone removes; `removed_by_seed`: seed -> that
    before, runs  no "other_skills", but "style": verdicts, whether an answer has the planted style; "words": an answer's
               mean number; runs also "rows": how many were left, "kinds": the same by planted kind
08_filters_more.json (recorded by name only)
    the same with two other kinds of dirt, "language" and "diversity" (many problems of one opening); no `removed`, and in
    the place of "style" it has "foreign": verdicts, whether an answer has a label in another language
08_volume.json, 08_habits.json, 08_turns.json, 08_flips.json
    arms       one learning rate, the lesson's, so `tuning` is empty
    settings   also "questions": suite -> how many; "other_skills": skill -> how many
    before, runs  "other_skills": verdicts (240); "by_skill": how many of these are right, skill by skill; word problems 250
    runs       also "steps" and "rows"
08_volume.json
    arms       "20 rows", "72 rows", "180 rows", "720 rows" of the teacher's answers, one to a problem, unchecked; the
               smaller sets are parts of the largest, whose rows are all seen once
    teacher    as `before`
    runs       also "acceptance": the share of the rows that is right, "seen": how often a row was
08_habits.json
    arms       "plain answers", "with the habit": a sentence at the end of each of the teacher's 400 answers
    before, runs  also "style", "style_elsewhere": verdicts, whether an answer to a word problem, to a question of other
               skills, shows the habit; runs also "acceptance"
08_turns.json
    arms       "turns": `data/turns`, the last answer of each row; "one turn": the same facts asked and answered in one turn
    before, runs  also "system_name", "system_thanks", "system_nothing", "follow_up": verdicts (60 each) on `data/turns`'
               tests; "alone": the follow-ups asked in one question
08_flips.json
    arms       "only refusals", "only refusals, half the steps", "with harmless rows"; steps are equal but for the second
    settings   also "things": test -> what it asks about, each in the three "wordings", side by side
    before, runs  verdicts, whether an answer is a refusal: "same_things", "other_body" (meant), "near", "far" (not meant),
               "harmful_asked", "harmless_asked" (the suite of requests); each of the first four with "_by_thing": whether
               two of the three wordings are refused. "harmless_right": whether a harmless request is answered rightly

Left out on purpose: answers (verdicts only), the choice of the rate on more than one seed.
"""

from factory.recordings.data_recipes import record_habits, record_turns, record_volume
from factory.recordings.distilled import record_distillation
from factory.recordings.expert_iteration import record_expert_iteration
from factory.recordings.filtered_rows import record_filters, record_filters_more
from factory.recordings.new_refusals import record_flips
from factory.recordings.online_pairs import record_dpo_online
from factory.recordings.self_judged import record_self_judged

RECORDINGS: dict = {
    "expert_iteration": (record_expert_iteration, "08_expert_iteration.json"),
    "distillation": (record_distillation, "08_distillation.json"),
    "dpo_online": (record_dpo_online, "08_dpo_online.json"),
    "filters": (record_filters, "08_filters.json"),
    "volume": (record_volume, "08_volume.json"),
    "flips": (record_flips, "08_flips.json"),
    "habits": (record_habits, "08_habits.json"),
    "turns": (record_turns, "08_turns.json"),
}
LONG: dict = {  # recorded by name only
    "self_judged": (record_self_judged, "08_self_judged.json"),
    "filters_more": (record_filters_more, "08_filters_more.json"),
}
