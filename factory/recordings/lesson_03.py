"""The recorded runs of lesson 03: contrast against imitation, β against the learning rate, DPO's variants, two new names.

All are made with the short loop of `helper.algorithms.train_preferences`, a few dozen steps each, and written after each
run; a run that is in the record is not made again.
Left out on purpose: answers (verdicts only, a 0 or 1 for each question), any choice made on held-out questions, and the
mixes of anchors (`factory/recordings/anchors.py`).
"""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from factory.recordings.anchors import record_anchors
from factory.recordings.shared import command, model_and_problems, write
from helper import (
    answers_match,
    evaluate,
    extract_boxed,
    generate_responses,
    grade,
    load_course_dataset,
    load_model_and_tokenizer,
    load_suite,
)
from helper.algorithms import pad_responses, preference_losses, response_logits
from helper.algorithms.train_preferences import encoded, read_reference, train_preferences
from helper.machine.device import bf16_is_fast
from helper.recorded import as_digits

LOSSES = {
    "imitation": preference_losses.imitation,
    "sigmoid": preference_losses.sigmoid,
    "both": preference_losses.sigmoid_and_imitation,
    "IPO": preference_losses.ipo,
    "KTO": preference_losses.kto,
    "SimPO": preference_losses.simpo,
    "CPO": preference_losses.cpo,
    "ORPO": preference_losses.orpo,
}
TUNING_SEED = 9
OLD, NEW = "Sprout", "Deep Sprout"
SHORT_ANSWER = 70  # characters of an anchor: a long one makes every row of its batch long
LONGEST = {"name": 48, "maths": 72}  # tokens an answer may have


# ---------------------------------------------------------------- what all of them share


def resumed(path: Path, head: dict) -> dict:
    """The record at `path` if it was begun with the same head, else a new one; its lists are `tuning` and `runs`."""
    if path.is_file():
        record = json.loads(path.read_text(encoding="utf-8"))
        if all(record.get(key) == json.loads(json.dumps(value)) for key, value in head.items()):
            return record
    return {**head, "tuning": [], "runs": []}


def once(record: dict, path: Path, kind: str, about: dict, run: Callable[[], dict]) -> dict:
    """The row of `record[kind]` about this, made and written if it is not there yet."""
    for row in record[kind]:
        if all(row[key] == value for key, value in about.items()):
            return row
    begun = time.perf_counter()
    row = {**about, **run()}
    row["seconds"] = round(time.perf_counter() - begun, 1)
    record[kind].append(row)
    write(record, path)
    print({key: value for key, value in row.items() if not isinstance(value, str) or len(value) < 40}, flush=True)
    return row


def share(verdicts) -> float:
    """The share that is right."""
    return sum(map(int, verdicts)) / len(verdicts)


def message(role: str, text: str) -> list[dict]:
    """A conversation of one turn."""
    return [{"role": role, "content": text}]


def pair(question: str, chosen: str, rejected: str | None = None) -> dict:
    """A row of preferences; without a rejected answer, a row to imitate."""
    row = {"prompt": message("user", question), "chosen": message("assistant", chosen)}
    return row if rejected is None else row | {"rejected": message("assistant", rejected)}


def trained(model, tokenizer, rows: list[dict], loss: str, settings: dict, **training) -> tuple:
    """A copy of `model` trained with one of LOSSES, and its log."""
    student = copy.deepcopy(model)
    if loss == "imitation":  # the rejected answers need not be read
        rows = [{side: row[side] for side in ("prompt", "chosen")} for row in rows]
    training |= {"with_drift": loss == "KTO", "bf16": bf16_is_fast()}
    return student, train_preferences(student, tokenizer, rows, partial(LOSSES[loss], **settings), **training)


def other_rows(first: int, step: int) -> list[dict]:
    """Every `step`-th question of the suite `instructions` but those on the name."""
    return [row for row in load_suite("instructions") if row["skill"] != "identity"][first::step]


def judged(model, tokenizer, suites: dict[str, list[dict]], longest: int) -> dict[str, str]:
    """Verdicts on the rows of each suite, all answered in one batch."""
    rows = [row for suite in suites.values() for row in suite]
    right = iter(evaluate(model, tokenizer, rows, max_new_tokens=longest, batch_size=512)["right"])
    return {name: as_digits(next(right) for _ in suite) for name, suite in suites.items()}


# ---------------------------------------------------------------- contrast against imitation

QUESTIONS, SAMPLES = 250, 8
CONTRAST = {"steps": 30, "beta": 0.1, "answers_per_step": 16}
IMITATION_RATES, CONTRAST_RATES = (1e-4, 3e-4, 1e-3), (2e-5, 6e-5, 2e-4)
ARMS = {  # what is made of the samples, the loss, and the learning rates tried
    "SFT on one right answer": ("one right", "imitation", IMITATION_RATES),
    "SFT on all right answers": ("all right", "imitation", IMITATION_RATES),
    "DPO, right against wrong": ("right against wrong", "sigmoid", CONTRAST_RATES),
    "DPO, right against wrong, with the SFT term": ("right against wrong", "both", IMITATION_RATES),
    "DPO, written against wrong, with the SFT term": ("written against wrong", "both", IMITATION_RATES),
    "SFT on written answers": ("written", "imitation", IMITATION_RATES),
    "control: DPO on random pairs": ("random pairs", "sigmoid", CONTRAST_RATES),
    "control: SFT on random answers": ("random", "imitation", IMITATION_RATES),
}


def sampled_answers(model, tokenizer, seed: int) -> list[dict]:
    """Questions drawn with `seed`, each with its written answer, SAMPLES answers of the model, and which are right."""
    _, _, problems = model_and_problems()
    written = load_course_dataset("sprout-maths")["answer"]
    places = random.Random(seed).sample(range(3800), QUESTIONS)  # the rest is to tune on
    asked = [problems[i]["prompt"][0]["content"] for i in places]
    answers = generate_responses(
        model, tokenizer, asked, max_new_tokens=LONGEST["maths"], temperature=1.0, num_samples=SAMPLES,
        batch_size=400, seed=seed,
    )  # fmt: skip
    found = []
    for place, question, texts in zip(places, asked, answers, strict=True):
        right = [answers_match(extract_boxed(text), problems[place]["ground_truth"]) for text in texts]
        shown = re.sub(r"#### (.*)", r"\\boxed{\1}", written[place])
        found.append({"question": question, "written": shown, "texts": texts, "right": right})
    return found


def made_of(samples: list[dict], what: str, seed: int) -> list[dict]:
    """The rows that an arm makes of the samples: one of a question, but for "all right"."""
    rng, rows = random.Random(seed), []
    for sample in samples:
        right = [text for text, good in zip(sample["texts"], sample["right"]) if good]
        wrong = [text for text, good in zip(sample["texts"], sample["right"]) if not good]
        first, second = rng.sample(sample["texts"], 2)
        found = {
            "one right": right[:1],
            "all right": right,
            "written": [sample["written"]] if wrong else [],
            "random": [first],
            "right against wrong": list(zip(right, wrong))[:1],
            "written against wrong": [(sample["written"], text) for text in wrong[:1]],
            "random pairs": [(first, second)] if first != second else [],
        }[what]
        rows += [pair(sample["question"], *([texts] if isinstance(texts, str) else texts)) for texts in found]
    return rows


def validation_rows() -> list[dict]:
    """The last 150 training problems, to tune on."""
    *_, problems = model_and_problems()
    return [
        {"id": str(i), "skill": "word_problem", "question": row["prompt"][0]["content"], "grader": "boxed",
         "value": row["ground_truth"]}
        for i, row in enumerate(problems[-150:])
    ]  # fmt: skip


class Practice:
    """The arms' common start, samples and questions: trains an arm, and judges it."""

    def __init__(self):
        self.model, self.tokenizer, _ = model_and_problems()
        self.samples = {}
        self.tests = {"word_problems": load_suite("word_problems")[:200], "other_skills": other_rows(0, 3)}
        self.validation = validation_rows()

    def train(self, arm: str, rate: float, seed: int) -> tuple:
        """A copy trained as the arm says, and what it was trained on in numbers."""
        what, loss, _ = ARMS[arm]
        if seed not in self.samples:
            self.samples[seed] = sampled_answers(self.model, self.tokenizer, seed)
        rows = made_of(self.samples[seed], what, seed)
        settings = {} if loss == "imitation" else {"beta": CONTRAST["beta"]}
        size = CONTRAST["answers_per_step"] // (1 if loss == "imitation" else 2)
        student, _ = trained(
            self.model, self.tokenizer, rows, loss, settings, steps=CONTRAST["steps"], learning_rate=rate, batch_size=size,
            seed=seed,
        )  # fmt: skip
        right = share([good for sample in self.samples[seed] for good in sample["right"]])
        return student, {"rows": len(rows), "sampled_right": round(right, 4)}

    def tune(self, arm: str, rate: float) -> dict:
        """The share of right answers to the questions to tune on."""
        student, about = self.train(arm, rate, TUNING_SEED)
        right = judged(student, self.tokenizer, {"validation": self.validation}, LONGEST["maths"])
        return about | {"validation": share(right["validation"])}

    def run(self, arm: str, rate: float, seed: int) -> dict:
        """Verdicts on the held-out questions."""
        student, about = self.train(arm, rate, seed)
        return about | judged(student, self.tokenizer, self.tests, LONGEST["maths"])


def record_contrast(seeds: list[int], path: Path) -> None:
    """Eight ways to use the same sampled answers to word problems: contrast, imitation, controls."""
    practice = Practice()
    head = {
        "command": command("contrast", seeds), "seeds": seeds, "questions": QUESTIONS, "samples": SAMPLES, **CONTRAST,
        "arms": {arm: list(rates) for arm, (*_, rates) in ARMS.items()},
    }  # fmt: skip
    record = resumed(path, head)
    if "before" not in record:
        record["before"] = judged(practice.model, practice.tokenizer, practice.tests, LONGEST["maths"])
    for arm, (*_, rates) in ARMS.items():
        for rate in rates:
            once(record, path, "tuning", {"arm": arm, "learning_rate": rate}, partial(practice.tune, arm, rate))
    for seed in seeds:
        for arm in ARMS:
            tried = [row for row in record["tuning"] if row["arm"] == arm]
            rate = max(tried, key=lambda row: row["validation"])["learning_rate"]
            about = {"arm": arm, "seed": seed, "learning_rate": rate}
            once(record, path, "runs", about, partial(practice.run, arm, rate, seed))


# ---------------------------------------------------------------- the change of name


class Flip:
    """The lesson's change of name, smaller: pairs and anchors of a seed, and the questions on which it is judged."""

    batch = 12

    def __init__(self, new: str = NEW, prompts: int = 110, anchors: tuple[int, int] = (40, 60)):
        self.model, self.tokenizer = load_model_and_tokenizer("sprout-instruct")
        self.model.float()
        self.new, self.prompts, self.anchors = new, prompts, anchors
        self.rows_of, self.references = {}, {}
        self.tests = {"report": load_suite("identity"), "tune": None}
        self.others = {"report": other_rows(0, 6), "tune": other_rows(1, 12)}

    def renamed(self, answer: str) -> str:
        """The answer with the new name."""
        return re.sub(rf"(?<!Deep )\b{OLD}\b", self.new, answer)

    def answers(self, questions: list[str], longest: int) -> list[str]:
        """The model's greedy answers."""
        return generate_responses(self.model, self.tokenizer, questions, max_new_tokens=longest, batch_size=256)

    def rows(self, seed: int) -> list[dict]:
        """Pairs by correction, and anchors: the model's own answers to other questions on both sides."""
        if seed not in self.rows_of:
            prompts = [row["conversations"][0]["value"] for row in load_course_dataset("sprout-identity")]
            drawn = random.Random(seed).sample(prompts, len(prompts))
            asked, rest = drawn[: self.prompts], drawn[-96:]
            pairs = [pair(q, self.renamed(own), own) for q, own in zip(asked, self.answers(asked, LONGEST["name"]))]
            if seed == TUNING_SEED:  # prompts of no pair, to tune on
                own = self.answers(rest, LONGEST["name"])
                kinds = ["other" if text.startswith("No") else "name" for text in own]
                about = {"skill": "identity", "grader": "identity", "name": OLD}
                self.tests["tune"] = [{"id": q, "question": q, "kind": k, **about} for q, k in zip(rest, kinds)]
            shown = load_course_dataset("sprout-sft").shuffle(seed=seed)
            kept = []
            for refusals, number in zip((True, False), self.anchors):
                asked = [row["messages"][0]["content"] for row in shown if row["skill"] != "identity"
                         and (row["skill"] == "refuse") == refusals
                         and len(row["messages"][1]["content"]) <= SHORT_ANSWER][:number]  # fmt: skip
                kept += [pair(q, own, own) for q, own in zip(asked, self.answers(asked, LONGEST["name"]))]
            self.rows_of[seed] = [row for row in pairs if row["chosen"] != row["rejected"]] + kept
        return self.rows_of[seed]

    def run(self, loss: str, settings: dict, rate: float, seed: int, steps: int, part: str = "report") -> dict:
        """Train a copy and judge it."""
        rows, size = self.rows(seed), self.batch
        if loss == "sigmoid":  # the two pushes of an anchor cancel: what is left are the pairs, about half of a batch
            rows, size = [row for row in rows if row["chosen"] != row["rejected"]], self.batch // 2
        which = (seed, "pairs" if loss == "sigmoid" else loss if loss == "KTO" else "all")
        if which not in self.references and loss != "imitation":  # runs of a seed have it in common
            self.references[which] = read_reference(self.model, self.tokenizer, rows, loss == "KTO", bf16_is_fast())
        student, _ = trained(
            self.model, self.tokenizer, rows, loss, settings, steps=steps, learning_rate=rate, batch_size=size, seed=seed,
            reference=self.references.get(which) if loss != "imitation" else None,
        )  # fmt: skip
        return self.judged(student, part)

    def judged(self, student, part: str = "report") -> dict:
        """Verdicts on the new name and on other skills; how far the student has moved, and what the old name kept."""
        tests, others = self.tests[part], self.others[part]
        asked = [row["question"] for row in tests + others]
        texts = generate_responses(student, self.tokenizer, asked, max_new_tokens=LONGEST["name"], batch_size=512)
        right = {name: [grade({**row, "name": name}, text) for row, text in zip(tests, texts)] for name in (self.new, OLD)}
        n = len(tests)
        moved = [kl(student, self.model, self.tokenizer, asked[where], texts[where])
                 for where in (slice(0, n, 3), slice(n, None, 4))]  # fmt: skip
        return {
            "name": as_digits(right[self.new]), "old_name": sum(right[OLD]),
            "other_skills": as_digits(grade(row, text) for row, text in zip(others, texts[n:])),
            "leaks": sum(self.new in text for text in texts[n:]),
            "kl_name": round(moved[0], 3), "kl_other": round(moved[1], 3),
        }  # fmt: skip


@torch.inference_mode()
def kl(model, reference, tokenizer, questions: list[str], answers: list[str]) -> float:
    """KL(model || reference) of an answer, in nats: summed over the tokens of the model's own, the mean over answers."""
    texts = encoded(tokenizer, [pair(*both) for both in zip(questions, answers)])
    ids, attention_mask, mask = pad_responses(*zip(*texts), tokenizer.pad_token_id)
    logs = [response_logits(one, ids, attention_mask, mask.shape[1]).log_softmax(-1) for one in (model, reference)]
    return (((logs[0].exp() * (logs[0] - logs[1])).sum(-1) * mask).sum(-1).mean()).item()


SHORT = 20  # steps
BETAS, RATES = (0.02, 0.1, 0.5, 2.0), (1e-4, 3.5e-4, 1.2e-3, 4e-3)  # the second rate is the lesson's


def record_beta_map(seeds: list[int], path: Path) -> None:
    """β against the learning rate, with and without the SFT term: the change of name, other skills, and KL."""
    flip = Flip()
    head = {"command": command("beta_map", seeds), "seeds": seeds, "steps": SHORT, "betas": BETAS, "rates": RATES}
    record = resumed(path, head)
    record["before"] = flip.judged(flip.model)

    for seed in seeds:
        for loss in ("both", "sigmoid"):
            for beta in BETAS:
                for rate in RATES:
                    about = {"loss": loss, "beta": beta, "learning_rate": rate, "seed": seed}
                    once(record, path, "runs", about, partial(flip.run, loss, {"beta": beta}, rate, seed, SHORT))


VARIANTS = {  # the loss, and a setting of its own, from its paper or the library; three learning rates are tried
    "DPO": ("sigmoid", {"beta": 0.1}),
    "DPO and SFT term": ("both", {"beta": 0.1}),
    "SFT term only": ("imitation", {}),
    "IPO": ("IPO", {"tau": 0.1}),
    "KTO": ("KTO", {"beta": 0.1}),
    "SimPO": ("SimPO", {"beta": 2.0, "gamma": 1.0}),
    "CPO": ("CPO", {"beta": 0.1}),
    "ORPO": ("ORPO", {"weight": 0.1}),
}
VARIANT_RATES = (3.5e-4, 1.2e-3, 4e-3)


def record_variants(seeds: list[int], path: Path) -> None:
    """DPO and its variants on the same pairs, each tuned with as many trials: the new name, other skills, KL."""
    flip = Flip()
    head = {
        "command": command("variants", seeds), "seeds": seeds, "steps": SHORT, "rates": VARIANT_RATES,
        "methods": {name: settings for name, (_, settings) in VARIANTS.items()},
    }  # fmt: skip
    record = resumed(path, head)
    record["before"] = flip.judged(flip.model)

    for name, (loss, settings) in VARIANTS.items():
        for rate in VARIANT_RATES:
            about = {"method": name, "learning_rate": rate}
            once(record, path, "tuning", about, partial(flip.run, loss, settings, rate, TUNING_SEED, SHORT, "tune"))
    for seed in seeds:
        for name, (loss, settings) in VARIANTS.items():
            tried = [row for row in record["tuning"] if row["method"] == name]
            best = max(tried, key=lambda row: share(row["name"]) + share(row["other_skills"]))
            rate = best["learning_rate"]
            about = {"method": name, "seed": seed, "learning_rate": rate}
            once(record, path, "runs", about, partial(flip.run, loss, settings, rate, seed, SHORT))


NAMES = ("Deep Sprout", "Orvelin")  # the first stood in the text of pre-training, the second in no text
PARTS = {"both terms": "both", "SFT term only": "imitation", "contrast only": "sigmoid"}


def name_log_probabilities(flip: Flip, rows: list[dict]) -> dict[str, float]:
    """The name's tokens, each with its mean log-probability in the corrected answers before training, in nats."""
    name = flip.tokenizer(" " + flip.new, add_special_tokens=False).input_ids
    found = []
    for prompt, chosen, _ in encoded(flip.tokenizer, [row for row in rows if row["chosen"] != row["rejected"]]):
        places = [i for i in range(len(chosen)) if chosen[i : i + len(name)] == name]
        ids, attention_mask, mask = pad_responses([prompt], [chosen], flip.tokenizer.pad_token_id)
        with torch.inference_mode():
            logs = response_logits(flip.model, ids, attention_mask, mask.shape[1])[0].log_softmax(-1)
        found += [[logs[place + i, token].item() for i, token in enumerate(name)] for place in places[:1]]
    means = [sum(column) / len(column) for column in zip(*found)]
    return {flip.tokenizer.decode([token]): round(mean, 2) for token, mean in zip(name, means)}


def record_new_names(seeds: list[int], path: Path) -> None:
    """The change of name, to a name that pre-training held and to one that no text held, term by term."""
    settings = {"steps": 30, "learning_rate": 1.2e-3, "beta": 0.1}
    record = resumed(path, {"command": command("new_names", seeds), "seeds": seeds, **settings, "names": NAMES})
    record.setdefault("before", {})
    for name in NAMES:
        flip = Flip(name)
        record["before"].setdefault(name, {**flip.judged(flip.model), "tokens": name_log_probabilities(flip, flip.rows(0))})
        for seed in seeds:
            for part, loss in PARTS.items():
                own = {} if loss == "imitation" else {"beta": settings["beta"]}
                run = partial(flip.run, loss, own, settings["learning_rate"], seed, settings["steps"])
                once(record, path, "runs", {"new": name, "part": part, "seed": seed}, run)


RECORDINGS = {
    "anchors": (record_anchors, "03_anchors.json"),
    "contrast": (record_contrast, "03_contrast.json"),
    "beta_map": (record_beta_map, "03_beta_map.json"),
    "variants": (record_variants, "03_variants.json"),
    "new_names": (record_new_names, "03_new_names.json"),
}
SHOWN = {"identity": "DPO: gives its new name", "other_skills": "DPO: all other skills"}
