"""Reward models: scores of whole conversations or of each step, their losses beside Bradley-Terry, use as a reward function.

The model is the library's sequence classifier with one output, a transformer with one linear layer on its last token:
`AutoModelForSequenceClassification.from_pretrained(path, num_labels=1, dtype=torch.float32)`.
A process reward model is the same model, read at the end of each line of the answer.
Left out on purpose: ensembles, centring, conversations cut to a length, steps that are not lines.
"""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F

from helper.machine.sizes import PAD_TO

SUM = re.compile(r"(?:.*:)?\s*(\d+(?:\s*[-+*/]\s*\d+)+)\s*=\s*(\d+)\s*")  # a whole line, its label before a colon


def plackett_luce_loss(scores: torch.Tensor) -> torch.Tensor:
    """The Plackett-Luce loss of rankings of K answers, scores (B, K), the best first -> a scalar, in nats a ranking.

    -Σ_i (r_i - log Σ_{j≥i} exp r_j), the mean over the rankings: the best is chosen among all, then the next among the
    rest (Plackett 1975, Applied Statistics 24:193-202; Luce 1959; for K = 2 it is `bradley_terry_loss`). `ranking_loss`
    counts the pairs of a ranking as if they were independent; this one is the likelihood of the order.
    Raises ValueError for K < 2.
    """
    if scores.ndim != 2 or scores.shape[1] < 2:
        raise ValueError(f"Scores of the shape {tuple(scores.shape)}: give (B, K), K answers from 2, the best first.")
    among = scores.flip(1).logcumsumexp(1).flip(1)  # log Σ_{j≥i} exp r_j
    return (among - scores).sum(1).mean()


def squared_error_loss(scores: torch.Tensor, grades: torch.Tensor) -> torch.Tensor:
    """The loss of a reward model on grades (1 to 10, say): the mean of (r - grade)², scores (B,) and (B,) -> a scalar.

    Regression on ratings, in squared points of the grade (as in HelpSteer: Wang et al. 2023, arXiv 2311.09528). Unlike the
    losses of comparisons it fixes the zero and the unit, and takes over each grader's own. Raises ValueError for two shapes.
    """
    if scores.shape != grades.shape:
        raise ValueError(f"Scores {tuple(scores.shape)} and grades {tuple(grades.shape)}: give one grade for each score.")
    return (scores - grades).square().mean()


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
    the question or is the result of an earlier line. A line without a sum is a wrong step. What arithmetic can not see: a
    right sum that the problem does not ask for.
    """
    known, labels = {int(number) for number in re.findall(r"\d+", question)}, []
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


def conversation_ids(tokenizer, conversations: list[list[dict]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask of whole conversations, both (B, T), padded on the right."""
    texts = [tokenizer.apply_chat_template(messages, tokenize=False) for messages in conversations]
    batch = tokenizer(
        texts, add_special_tokens=False, padding=True, padding_side="right", pad_to_multiple_of=PAD_TO, return_tensors="pt"
    )
    return batch.input_ids, batch.attention_mask


def score_conversations(reward_model, tokenizer, conversations: list[list[dict]], batch_size: int = 64) -> torch.Tensor:
    """The score of each conversation, (B,), without gradient; higher is better, and only differences mean anything.

    Raises ValueError for a model that has not one output, or another pad token than the tokenizer.
    """
    check_model(reward_model, tokenizer)
    scores, training = [torch.zeros(0)], reward_model.training
    reward_model.eval()
    try:
        with torch.inference_mode():
            for start in range(0, len(conversations), batch_size):
                scores.append(scores_of(reward_model, tokenizer, conversations[start : start + batch_size]).cpu())
    finally:
        reward_model.train(training)
    return torch.cat(scores)


def learned_reward(reward_model, tokenizer, largest: float | None = None, centre: float = 0.0) -> Callable:
    """A reward function (the trainers' signature) that pays a reward model's score less `centre`, within ± `largest`.

    `centre`: the mean score of answers from before RL, say; the loss of a reward model leaves it free.
    Prompts and completions are message lists. For the errors see `score_conversations`.
    """

    def reward_model_score(prompts: list[list[dict]], completions: list[list[dict]], **kwargs) -> list[float]:
        conversations = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        scores = score_conversations(reward_model, tokenizer, conversations) - centre
        return (scores if largest is None else scores.clamp(-largest, largest)).tolist()

    return reward_model_score


def scores_of(model, tokenizer, conversations: list[list[dict]]) -> torch.Tensor:
    """The scores, (B,), in float32, with their gradient."""
    ids, mask = conversation_ids(tokenizer, conversations)
    output = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device), use_cache=False)
    return output.logits[:, 0].float()


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


def check_model(model, tokenizer) -> None:
    """Raise ValueError where scores would be wrong: the library finds a text's last token by the pad token's id."""
    if model.config.num_labels != 1:
        raise ValueError(f"The model has {model.config.num_labels} outputs, not one: load it with num_labels=1.")
    pad = model.config.get_text_config().pad_token_id
    if pad is None or pad != tokenizer.pad_token_id:
        raise ValueError(
            f"The model's pad token is {pad}, the tokenizer's {tokenizer.pad_token_id}: set "
            "model.config.pad_token_id = tokenizer.pad_token_id."
        )
