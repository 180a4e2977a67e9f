"""The recorded runs of lesson 09: ways to the same accuracy, the price of a KL penalty, RL in two rounds.

All begin with `sprout-instruct`. A run that its file holds is not made again, so seeds can be added later. Verdicts are
texts, a "0" or "1" for each question in the suite's order (`helper.recorded.share_right`); KL is in nats.

09_razor.json
    what, command, threads
    settings   {"target": share of the validation problems at which a run ends, "validation": how many, ...}
    arms       name -> {"rows", "rate", "first", "every", "most"}: what is trained on, learning rate, checkpoints
    before     what a run has but the training, and "validation": share right
    runs       rows {"arm", "seed", "steps", "reached": whether the target was, "curve": [[step, validation share], ...],
               "cpu_seconds": the processor's, sampling and training;
               "word_problems" (200), "other_skills" (90), "held_out_concepts" (50), "identity" (48): verdicts;
               "kl_forward": KL(start || model) of an answer on 100 fixed problems, on the start's answers,
               "kl_reverse": KL(model || start), on the model's own answers, "kl_others": forward, on the other skills'
               prompts; each also with "_token", a token instead of an answer;
               "plain_loss": of a token of plain text as in pre-training, unread, no numbers;
               "moved": part of the model -> how far its weights are from the start's, as a share of their size}
09_kl_prices.json
    settings   {"steps", "rate", "target_kl": an answer, "gain"}
    arms       name -> the β that it begins with
    before     {"word_problems", "other_skills": verdicts}
    runs       rows {"arm", "seed", "log": [[KL of an answer, share right, β] of each batch], "word_problems",
               "other_skills": verdicts, "kl_forward", ... as above}
09_two_rounds.json
    settings   {"rate", "answers_a_step", "sft_steps", "asked", "rows", "batch", "general", "longest"}
    arms       name -> [steps of GRPO, whether the start is trained on accepted answers then, steps of GRPO after that]
    before     {"word_problems" (500), "other_skills" (180): verdicts}
    runs       rows {"arm", "seed", "samples": answers used, "updates", "cpu_seconds", "acceptance": share of right answers
               among the writer's, "kept": right and different ones, "rows": of them trained on, "problems": to how many
               problems, "stages": {"writer", "SFT": verdicts on every second word problem}, "word_problems",
               "other_skills": verdicts, "kl_forward", ... as above}

Left out on purpose: answers (verdicts only), the choice of a learning rate.
"""

from factory.recordings.kl_prices import record_kl_prices
from factory.recordings.razor import record_razor
from factory.recordings.two_rounds import record_two_rounds

RECORDINGS = {"razor": (record_razor, "09_razor.json")}
LONG = {  # recorded by name only; the file may be missing
    "kl_prices": (record_kl_prices, "09_kl_prices.json"),
    "two_rounds": (record_two_rounds, "09_two_rounds.json"),
}
SHOWN: dict = {}
