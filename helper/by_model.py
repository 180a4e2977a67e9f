"""What differs by model in the lessons: data, questions, lengths, rates and batches, one table a lesson.

Three columns: Sprout; a real model on a CPU, with rows and questions that come with the course (SmolLM2-135M-Instruct, which
`make real-model` fetches, can do some of them); a real model on a GPU, with the public data sets. A lesson reads its column:
`this = by_model("02_sft", model, USE_GPU)`, then `this.learning_rate`.
Left out on purpose: what does not differ. That stands in the lesson, where it is explained.
"""

from types import SimpleNamespace

OURS = 10e6  # parameters: what is smaller is Sprout
BOX = "Think step by step and put the final number in \\boxed{}."
TAGS = "Think in <reasoning> and </reasoning>, then put the final number between <answer> and </answer>."  # lesson 05
KEPT = ("define", "calculate", "uppercase", "sort")  # Sprout's other skills in lessons 05 and 06

TABLES = {
    #                          Sprout             real model, CPU      real model, GPU
    "02_sft": {
        "dataset":            ("sprout-sft",      "sprout-tools",      "banghua/DL-SFT-Dataset"),
        "rows":               (None,              None,                None),  # of the data set
        "suites":             ({"instructions": None, "held_out_concepts": None, "word_problems": 200},
                               {"tool_calls": None, "everyday": None}, {"gsm8k": 200}),
        "longest":            (112,               64,                  400),  # tokens an answer may have
        "learning_rate":      (1e-3,              1e-4,                8e-5),
        "epochs":             (1.9,               1,                   1),  # 1.9: for the lesson's time
        "batch":              (16,                8,                   1),
        "accumulation":       (1,                 1,                   8),
        "warmup_steps":       (20,                5,                   20),
        "adam_beta2":         (0.95,              0.999,               0.999),  # a short run: averages must settle early
        "max_length":         (256,               256,                 1024),  # tokens; what is longer is cut
        "eval_steps":         (100,               20,                  100),  # between two looks at the rows held back
        "short_steps":        (60,                5,                   20),  # of the trainings of section 8
        "quick":              (False,             True,                False),  # faster ways that only large models need
        "probe":              (5,                 5,                   10),  # steps timed beforehand
    },
    "03_dpo": {
        "dataset":            ("sprout-identity", "sprout-identity",   "mrfakename/identity"),
        "names":              (("Sprout", "Deep Sprout"), ("SmolLM", "Orvelin"), ("Qwen", "Deep Qwen")),  # old, new
        "strict":             (True,              False,               False),  # one sentence, or the name anywhere
        "written":            (False,             True,                False),  # chosen answers: written, or corrected
        "prompts":            (220,               128,                 220),
        "anchors":            ((80, 120, 0),      (16, 48, 64),        (80, 120, 0)),  # refusals, other questions, requests
        "watched":            (32,                8,                   32),  # pairs that the trainer looks at alone
        "problems":           (80,                12,                  40),  # sampled from, for pairs of its own answers
        "held_out_pairs":     (None,              32,                  None),  # whose log-probabilities are read
        "sums":               (96,                24,                  96),  # spoiled ones read, and held-out ones asked
        "suites":             ({"instructions": None, "word_problems": 150, "held_out_concepts": None},
                               {"everyday": None}, {"gsm8k": 500}),
        "longest":            ((48, 128),         (48, 48),            (256, 512)),  # about the name, and other answers
        "learning_rate":      (3.5e-4,            5e-5,                5e-5),
        "epochs":             (2,                 1,                   1),
        "batch":              (16,                8,                   1),
        "accumulation":       (1,                 1,                   8),
        "loss_weights":       ([0.5, 1.0],        [1.0, 0.3],          [0.5, 1.0]),
        "max_length":         (256,               256,                 1024),
        "precompute":         (False,             True,                True),  # the reference once: no second model
        "short_steps":        (0,                 4,                   0),  # of the trainings of section 8; 0: as above
    },
    "04_online_rl": {
        "dataset":            ("sprout-maths",    "sprout-rules",      "openai/gsm8k"),
        "suites":             ({"word_problems": None, "unseen_story_types": 200, "instructions": 520},
                               {"rules": None, "unseen_rules": 60, "everyday": 100},
                               {"gsm8k": 500, "unseen_story_types": 200, "rewrites": None}),
        "system":             (None,              None,                BOX),
        "longest":            (72,                32,                  400),
        "sampled":            (100,               40,                  100),  # problems answered eight times each
        "learning_rate":      (3e-4,              4e-5,                5e-6),
        "steps":              (64,                20,                  200),
        "batch":              (12,                12,                  1),  # responses, not prompts
        "accumulation":       (4,                 4,                   8),
        "group_size":         (4,                 6,                   4),
        "temperature":        (1.2,               1.0,                 1.0),  # above 1: bolder than the model is
        "short_steps":        (8,                 2,                   8),
    },
    "05_grpo_from_scratch": {
        "dataset":            ("sprout-maths",    "sprout-sums",       "openai/gsm8k"),
        "suites":             ({"word_problems": 500, "instructions": KEPT}, {"sums": 100, "everyday": 60},
                               {"gsm8k": 500, "rewrites": None}),
        "system":             (None,              None,                TAGS),  # Sprout has learned no system messages
        "longest":            (110,               48,                  400),
        "tried":              (900,               320,                 0),  # rows that the warm-up's answers are made from
        "written":            (False,             True,                False),  # by the rows' worked answers, or its own
        "warm_up":            (120,               20,                  0),  # steps of SFT on answers in the tags
        "warm_up_rate":       (5e-4,              5e-5,                0.0),
        "learning_rate":      (2e-4,              2e-5,                5e-6),
        "steps":              (56,                5,                   150),
        "prompts_per_step":   (12,                8,                   2),
        "micro_batch":        (12,                8,                   1),  # responses at a time: less memory
    },
    "06_reward_models_and_ppo": {
        "dataset":            ("sprout-maths",    "sprout-sums",       "openai/gsm8k"),
        "suites":             ({"word_problems": 500, "instructions": KEPT}, {"sums": 100, "everyday": 60},
                               {"gsm8k": 500, "rewrites": None}),
        "system":             (None,              None,                BOX),
        "longest":            (72,                32,                  400),
        "warm_up":            (0,                 20,                  0),  # steps of SFT on answers in a box
        "warm_up_rate":       (0.0,               5e-5,                0.0),
        "rows":               (None,              220,                 None),
        "held_out":           (200,               60,                  200),  # of the rows, to judge the reward models
        "reward_rate":        (3e-4,              1e-5,                1e-5),
        "reward_steps":       (48,                12,                  65),
        "reward_batch":       (8,                 8,                   1),
        "reward_accumulation": (2,                1,                   8),
        "ranking_steps":      (30,                5,                   30),
        "rankings_per_step":  (8,                 4,                   2),
        "steps":              (14,                4,                   150),
        "ppo_rate":           (1e-4,              1e-5,                1e-6),
        "value_rate":         (1e-3,              1e-4,                1e-5),
        "responses_per_step": (48,                24,                  8),
        "minibatch":          (16,                8,                   4),
    },
    "07_lora": {
        "dataset":            ("sprout-maths",    "sprout-tools",      "openai/gsm8k"),
        "suites":             ({"word_problems": 200, "instructions": 130, "held_out_concepts": 60},
                               {"tool_calls": 100, "everyday": 60}, {"gsm8k": 200, "rewrites": None}),
        "longest":            (72,                64,                  400),  # tokens an answer may have
        "short":              (64,                32,                  128),  # and one whose text is trained on
        "length":             (144,               96,                  512),  # tokens of the longest row, for the prediction
        "max_length":         (256,               256,                 1024),  # tokens; what is longer is cut
        "rank":               (16,                16,                  16),
        "steps":              (30,                24,                  60),
        "batch":              (16,                8,                   1),
        "accumulation":       (1,                 1,                   8),
        "full_rate":          (1e-3,              1e-4,                1e-5),
        "lora_rate":          (1e-2,              3e-3,                2e-4),
        "names":              (("Sprout", "Deep Sprout"), ("SmolLM", "Orvelin"), ("Qwen", "Deep Qwen")),  # old, new
        "pairs":              (80,                48,                  96),
        "dpo_rate":           (1e-2,              3e-3,                1e-4),
        "dpo_steps":          (20,                12,                  24),
        "thanks_rate":        (1e-2,              3e-3,                2e-4),
        "thanks_steps":       (16,                10,                  16),
        "base":               ("sprout-base",     None,                None),  # one that has never met the end of a turn
        "stop_rate":          (3e-3,              1e-3,                2e-4),
        "stop_steps":         (30,                0,                   0),
    },
    "08_data": {
        "dataset":            ("sprout-maths",    "sprout-sums",       "openai/gsm8k"),
        "suites":             ({"word_problems": 250, "instructions": KEPT}, {"sums": 100, "everyday": 60},
                               {"gsm8k": 250, "rewrites": None}),
        "teacher":            ("sprout-grpo",     None,                "Qwen/Qwen2.5-1.5B-Instruct"),  # None: section 3's
        "system":             (None,              None,                BOX),
        "longest":            (72,                32,                  400),
        "warm_up":            (0,                 20,                  0),  # steps of SFT on answers in a box
        "warm_up_rate":       (0.0,               5e-5,                0.0),
        "swept":              (80,                16,                  40),  # problems answered sixteen times each
        "prompts":            (400,               96,                  400),  # problems to make rows from
        "samples":            (4,                 4,                   4),  # answers to each of them
        "temperature":        (1.2,               1.0,                 1.0),
        "learning_rate":      (3e-4,              2e-5,                1e-5),
        "steps":              (24,                6,                   48),
        "batch":              (16,                8,                   4),
        "on_policy":          (24,                8,                   8),  # student's answers a step
        "flip_rate":          (2e-4,              2e-5,                5e-6),
        "flip_steps":         (16,                4,                   16),
    },
    "09_pipeline": {
        "base":               ("sprout-base",     None,                None),  # the stage before, where it is at hand
        "dataset":            ("sprout-maths",    "sprout-sums",       "openai/gsm8k"),
        "suites":             ({"word_problems": 200, "instructions": 195, "held_out_concepts": 60},
                               {"sums": 60, "everyday": 40}, {"gsm8k": 200, "rewrites": None}),
        "system":             (None,              None,                BOX),
        "longest":            (72,                32,                  400),
        "warm_up":            (0,                 20,                  0),  # steps of SFT on answers in a box
        "warm_up_rate":       (0.0,               5e-5,                0.0),
        "names":              (("Sprout", "Deep Sprout"), ("SmolLM", "Orvelin"), ("Qwen", "Deep Qwen")),  # old, new
        "strict":             (True,              False,               False),  # one sentence, or the name anywhere
        "asked_names":        (48,                16,                  48),  # held-out questions on the name
        "pairs":              (110,               64,                  96),
        "anchors":            (100,               16,                  96),
        "dpo_rate":           (8e-4,              5e-5,                5e-6),
        "dpo_steps":          (30,                16,                  48),
        "dpo_batch":          (12,                8,                   2),
        "grpo_rate":          (2e-4,              2e-5,                5e-6),
        "steps":              (15,                6,                   100),
        "prompts_per_step":   (12,                8,                   4),
        "micro_batch":        (16,                8,                   1),
        "looked_at":          (16,                6,                   24),  # prompts of a suite to read the KL on
        "sampled":            (100,               12,                  40),  # problems answered once more, for the frontier
    },
}  # fmt: skip


def by_model(lesson: str, model, use_gpu: bool) -> SimpleNamespace:
    """The column of `lesson`'s table for this model. Raises ValueError for a lesson without a table."""
    if lesson not in TABLES:
        raise ValueError(f"{lesson!r:.80} has no table in helper/by_model.py: there is {', '.join(TABLES)}.")
    column = 0 if model.num_parameters() < OURS else 2 if use_gpu else 1
    return SimpleNamespace(**{name: values[column] for name, values in TABLES[lesson].items()})
