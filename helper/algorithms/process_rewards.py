"""Process reward models: a score for each step of an answer, labels of steps by arithmetic, and use as a reward function.

The model is that of `reward_models`, one number of the library's sequence classifier, read at the end of each step
instead of at the end of the answer. A step is a line.
Left out on purpose: steps that are not lines, labels from people or from how often a step leads to a right answer.
"""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from helper.algorithms.reward_models import check_model, conversation_ids

SUM = re.compile(r"(?:.*:)?\s*(\d+(?:\s*[-+*/]\s*\d+)+)\s*=\s*(\d+)\s*")  # a whole line, its label before a colon
NUMBER_WORDS = {  # how a question says a number without a digit
    2: r"half|halves|twice|doubl\w*|two|both|pair\w*|other", 3: r"third|thirds|three|tripl\w*", 4: "quarter|quarters|four",
}  # fmt: skip


def process_reward_loss(scores: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The loss of a process reward model, the scores of N steps and whether each is right (0 or 1), (N,) -> a scalar.

    -log σ(r) of a right step, -log σ(-r) of a wrong one, the mean over the steps, in nats (Lightman et al. 2023, arXiv
    2305.20050, section 2.6: classification of each step). Raises ValueError for two shapes.
    """
    if scores.shape != right.shape:
        raise ValueError(f"Scores {tuple(scores.shape)} and labels {tuple(right.shape)}: give one label for each step.")
    return F.binary_cross_entropy_with_logits(scores, right.to(scores.dtype))


def step_labels(question: str, answer: str) -> list[bool]:
    """For each line of the answer before the one with the box: is it a right step? By arithmetic, without the solution.

    Right is a line that ends in a sum which comes out ("Eggs: 6 * 12 = 72"), where each number on its left stands in
    the question (in digits, or as "half", "three" and the like) or is the result of an earlier line. A line without a
    sum is a wrong step. What arithmetic can not see: a right sum that the problem does not ask for.
    """
    known, labels = {int(number) for number in re.findall(r"\d+", question)}, []
    known |= {n for n, words in NUMBER_WORDS.items() if re.search(rf"\b(?:{words})\b", question, re.IGNORECASE)}
    for line in steps_of(answer):
        found = SUM.fullmatch(line)
        terms = re.findall(r"\d+|[-+*/]", found[1]) if found else []
        labels.append(bool(found) and set(map(int, terms[::2])) <= known and _value(terms) == int(found[2]))
        known |= {int(found[2])} if found else set()
    return labels


def steps_of(answer: str) -> list[str]:
    """The lines of an answer that are steps: those with text, before the first one with a box."""
    return [line for line in answer.split("\\boxed")[0].split("\n") if line.strip()]


def _value(terms: list[str]) -> float:
    """The value of a sum of whole numbers, ["2", "+", "3", "*", "4"], products first; nan for a division by 0."""
    total, product = 0.0, float(terms[0])
    for operation, number in zip(terms[1::2], map(float, terms[2::2])):
        if operation == "*":
            product *= number
        elif operation == "/":
            product = product / number if number else float("nan")
        else:
            total, product = total + product, number if operation == "+" else -number
    return total + product


def step_scores(model, tokenizer, conversations: list[list[dict]]) -> tuple[torch.Tensor, list[int]]:
    """The score of each step of each conversation's last message, (N,), with gradient; and whose step it is.

    The number of a sequence classifier, read off at the last token of each of `steps_of` (a process reward model); the
    steps of a conversation stand together, and the list gives the conversation's place. Without any step (0,).
    Raises ValueError as `check_model` does.
    """
    check_model(model, tokenizer)
    ids, mask = conversation_ids(tokenizer, conversations)
    ends = [step_ends(tokenizer, messages) for messages in conversations]
    rows = [row for row, places in enumerate(ends) for _ in places]
    base = getattr(model, model.base_model_prefix)
    hidden = base(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False).last_hidden_state
    chosen = hidden[rows, [place for places in ends for place in places]]
    return model.score(chosen)[:, 0].float(), rows


def step_ends(tokenizer, messages: list[dict]) -> list[int]:
    """The places, among the conversation's token ids, of the last token of each step of its last message."""
    answer, text = messages[-1]["content"], tokenizer.apply_chat_template(messages, tokenize=False)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    place, ends = text.rindex(answer.strip()), []
    for line in steps_of(answer.strip()):
        place = text.index(line, place) + len(line)
        ends.append(next(i for i, (_, end) in enumerate(offsets) if end >= place))
    return ends


def learned_process_reward(model, tokenizer, batch_size: int = 64) -> Callable:
    """A reward function (the trainers' signature): the mean probability σ(r) that a step is right, 0 without any step.

    The mean, so that neither many nor few steps are paid for themselves. For the errors see `check_model`.
    """

    def process_reward_score(prompts: list[list[dict]], completions: list[list[dict]], **kwargs) -> list[float]:
        conversations = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        sums, counts = torch.zeros(len(conversations)), torch.zeros(len(conversations))
        with torch.inference_mode():
            for start in range(0, len(conversations), batch_size):
                scores, rows = step_scores(model, tokenizer, conversations[start : start + batch_size])
                places = torch.tensor(rows, dtype=torch.long) + start
                sums.index_add_(0, places, scores.sigmoid().cpu())
                counts.index_add_(0, places, torch.ones(len(rows)))
        return (sums / counts.clamp(min=1)).tolist()

    return process_reward_score
