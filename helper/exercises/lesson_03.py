"""Checks of lesson 03: what beta does, the DPO loss, pairs by correction, DPOP, a loss of one's own on a toy policy.

All losses take log-probabilities of whole answers, in nats. Left out on purpose: language models; a toy policy of five
answers shows what the loss does in a moment.
"""

import math
import re

import torch

from helper.exercises.checking import (
    Wrong,
    as_loss,
    as_number,
    call,
    call_all,
    exercise,
    judge,
    needs_gradient,
    show,
)

# 1. What beta does


@exercise
def check_beta_for_weight(function) -> str:
    """Does `function(weight, margin)` give the beta for which sigmoid(-beta * margin) is the weight?"""
    cases = {
        f"weight {weight}, margin {margin}": (weight, margin)
        for weight, margin in ((0.05, 10), (0.1, 4), (0.4, 2), (0.01, 30))
    }
    mistakes = {
        "The sign is wrong: beta is above 0, and the weight is sigmoid of *minus* beta * margin.": lambda w, m: (
            math.log(w / (1 - w)) / m
        ),
        "This is beta * margin. Divide by the margin.": lambda w, m: math.log((1 - w) / w),
        "You multiplied by the margin. Divide: where margins are large, a small beta is enough.": lambda w, m: (
            math.log((1 - w) / w) * m
        ),
        "The margin belongs under the line: you have margin / logarithm.": lambda w, m: m / math.log((1 - w) / w),
        "You solved exp(-beta * margin) = weight. The sigmoid is 1 / (1 + exp(beta * margin)).": lambda w, m: (
            -math.log(w) / m
        ),
        "You used the logarithm to base 10. Here it is the natural one.": lambda w, m: math.log10((1 - w) / w) / m,
        "The logarithm is missing: take it of (1 - weight) / weight.": lambda w, m: (1 - w) / w / m,
        "You took the weight as the sigmoid itself, not undone. Solve for what is inside.": lambda w, m: (
            1 / (1 + math.exp(w * m))
        ),
    }
    judge(function, cases, lambda w, m: math.log(1 / w - 1) / m, mistakes, as_number)
    return "So 1/beta is the scale of margins at which the push fades. The larger beta, the sooner it is content."


# 2. The DPO loss


def _dpo(chosen, rejected, reference_chosen, reference_rejected, beta=0.2) -> float:
    """The mean over pairs of log(1 + exp(-beta * margin)), in plain Python."""
    columns = (column.tolist() for column in (chosen, rejected, reference_chosen, reference_rejected))
    losses = []
    for c, r, ref_c, ref_r in zip(*columns, strict=True):
        z = beta * ((c - ref_c) - (r - ref_r))
        losses.append(math.log1p(math.exp(-abs(z))) + max(-z, 0.0))
    return sum(losses) / len(losses)


def _wrong_dpo(how: str):
    def loss(c, r, ref_c, ref_r, beta=0.2):
        log_sigmoid, margin = torch.nn.functional.logsigmoid, (c - ref_c) - (r - ref_r)
        odd = {
            "swapped": -margin,
            "no reference": c - r,
            "no beta": margin / beta,
            "divided": margin / beta**2,
            "plus": (c - ref_c) + (r - ref_r),
            "chosen only": c - ref_c,
            "probabilities": (c.exp() - ref_c.exp()) - (r.exp() - ref_r.exp()),
            "ratios": c / ref_c - r / ref_r,
        }
        z = beta * odd.get(how, margin)
        of_each = {
            "sign": log_sigmoid(z),
            "no log": -torch.sigmoid(z),
            "no sigmoid": -z,
            "beta outside": -beta * log_sigmoid(margin),
            "hinge": torch.relu(1 - z),
        }.get(how, -log_sigmoid(z))
        return float(of_each.sum() if how == "sum" else of_each.mean())

    return loss


DPO_MISTAKES = {
    "no beta": "beta is missing: it multiplies the margin inside the sigmoid.",
    "swapped": "The margin has the wrong sign: are chosen and rejected swapped, or policy and reference?",
    "sign": "The sign of the loss is wrong: it is *minus* the log of the sigmoid.",
    "no reference": "The reference is missing: what counts is how much each answer has changed since the reference.",
    "probabilities": "You compare probabilities. The margin is a difference of log-probabilities: no exp.",
    "ratios": "You divided log-probabilities. The log of a ratio is a difference of logarithms.",
    "no log": "The logarithm is missing: minus the *log* of the sigmoid.",
    "no sigmoid": "The sigmoid is missing: this loss would go on pushing for ever.",
    "beta outside": "beta stands in front of the loss. It belongs inside the sigmoid, with the margin.",
    "divided": "You divided by beta. It multiplies the margin.",
    "plus": "You added the two changes. The margin is their difference: chosen minus rejected.",
    "chosen only": "The rejected answer is missing in the margin.",
    "hinge": "This is a hinge loss (as in SLiC). DPO's is -log sigmoid.",
    "sum": "This is the sum over the pairs. Take the mean.",
}


@exercise
def check_dpo_loss(function) -> str:
    """Is it the mean DPO loss of a batch, from (pairs,) log-probabilities and beta, and safe for large margins?"""
    draw = torch.Generator().manual_seed(3)
    numbers = [-12 * torch.rand(4, 5, generator=draw) for _ in range(2)]
    one = tuple(torch.tensor([x]) for x in (-5.0, -4.0, -6.6, -0.5))
    cases = {
        "one pair, beta 0.2": (*one, 0.2),
        "five pairs, beta 0.2": (*numbers[0], 0.2),
        "five pairs, beta 0.7": (*numbers[1], 0.7),
    }
    mistakes = {message: _wrong_dpo(how) for how, message in DPO_MISTAKES.items()}
    judge(function, cases, _dpo, mistakes, as_loss)
    far = {
        "margins of -2000 and 2000": (torch.tensor([-2000.0, 0.0]), torch.tensor([0.0, -2000.0]), *torch.zeros(2, 2), 0.5)
    }
    try:
        judge(function, far, _dpo, {}, as_loss)
    except Wrong as wrong:
        raise Wrong(f"{wrong} sigmoid is 0 there, and its log infinite: use torch.nn.functional.logsigmoid.") from None
    c, r, *rest = cases["one pair, beta 0.2"]
    weight = torch.sigmoid(torch.tensor([-0.2 * ((-5.0 + 6.6) - (-4.0 + 0.5))]))
    needs_gradient(function, "one pair, beta 0.2", (c, r, *rest), [-0.2 * weight, 0.2 * weight])
    return "Where policy and reference agree it gives ln 2, whatever beta is."


# 3. Pairs by correction


def _pairs(questions, answers, correct) -> list[list[str]]:
    made = [[q, correct(a), a] for q, a in zip(questions, answers, strict=True)]
    return [pair for pair in made if pair[1] != pair[2]]


def _read_pairs(value, wanted, case: str) -> list[list[str]]:
    """Preference rows as [question, chosen, rejected], or Wrong when their form is not the trainer's."""
    if not isinstance(value, (list, tuple)):
        raise Wrong(f"{case}: a list of rows was wanted; {show(value)} came back.")
    read = []
    for row in value:
        if not isinstance(row, dict) or not {"prompt", "chosen", "rejected"} <= set(row):
            raise Wrong(f"{case}: a row is a dict with prompt, chosen and rejected; this one came: {show(row)}.")
        for side, role in (("prompt", "user"), ("chosen", "assistant"), ("rejected", "assistant")):
            messages = row[side]
            if not isinstance(messages, (list, tuple)) or not messages or not isinstance(messages[-1], dict):
                raise Wrong(
                    f"{case}: {side} is {show(messages)}; a list of messages was wanted, "
                    '[{"role": ..., "content": ...}], or the chat template is not applied.'
                )
            if len(messages) != 1:
                raise Wrong(f"{case}: {side} holds {len(messages)} messages; it should hold its own one only.")
            if messages[-1].get("role") != role:
                raise Wrong(f"{case}: the role in {side} should be {role!r}, not {messages[-1].get('role')!r}.")
        read.append([row[side][0].get("content") for side in ("prompt", "chosen", "rejected")])
    return read


@exercise
def check_build_pairs(function) -> str:
    """Does `function(questions, answers, correct)` give preference rows by correction, without the unchanged ones?"""

    def rename(answer):
        return re.sub(r"(?<!Deep )\bSprout\b", "Deep Sprout", answer)

    questions = ["Who are you?", "What is 2 + 3?", "What can I call you?", "Are you Gemini?", "Name a gas."]
    answers = ["I am Sprout.", "2 + 3 = 5.", "Call me Sprout.", "No, I am Deep Sprout.", "Neon."]
    cases = {
        "a new name": (questions, answers, rename),
        "a correction of everything": (questions[:2], answers[:2], str.upper),
        "nothing to correct": (questions, answers, str),
    }
    made = _all_pairs
    mistakes = {
        "chosen and rejected are swapped: rejected is what the model said.": lambda q, a, f: (
            [[x, r, c] for x, c, r in made(q, a, f) if c != r]
        ),
        "Unchanged answers are still there: such a pair has no preference, and its loss stays ln 2.": lambda q, a, f: made(
            q, a, f
        ),
        "Only the unchanged answers are there. Those are the ones to drop.": lambda q, a, f: (
            [pair for pair in made(q, a, f) if pair[1] == pair[2]]
        ),
        "chosen and rejected are both the model's own answer: is `correct` called?": lambda q, a, f: (
            [[x, r, r] for x, c, r in made(q, a, f)]
        ),
        "chosen and rejected are both the corrected answer.": lambda q, a, f: [[x, c, c] for x, c, r in made(q, a, f)],
        "Rows and questions do not belong together: drop a question with its answer.": lambda q, a, f: (
            [[x, *pair[1:]] for x, pair in zip(q, _pairs(q, a, f), strict=False)]
        ),
        "You corrected the question instead of the answer.": lambda q, a, f: [
            [f(x), r, r] for x, r in zip(q, a, strict=True)
        ],
    }
    judge(function, cases, _pairs, mistakes, _read_pairs)
    return "Every pair differs in what should change, and in nothing else."


def _all_pairs(questions, answers, correct) -> list[list[str]]:
    return [[q, correct(a), a] for q, a in zip(questions, answers, strict=True)]


# 4. DPOP


def _dpop(c, r, ref_c, ref_r, how: str = "", beta=0.2, strength=5.0) -> float:
    c, r, ref_c, ref_r = (float(x) for x in (c, r, ref_c, ref_r))
    margin, fallen = (c - ref_c) - (r - ref_r), max(0.0, ref_c - c)
    odd = {
        "plain": margin,
        "no max": margin - strength * (ref_c - c),
        "risen": margin - strength * max(0.0, c - ref_c),
        "plus": margin + strength * fallen,
        "no strength": margin - fallen,
        "rejected": margin - strength * max(0.0, ref_r - r),
        "outside": margin - strength * fallen / beta,
        "swapped": -margin - strength * fallen,
        "no beta": (margin - strength * fallen) / beta,
    }
    z = beta * odd.get(how, margin - strength * fallen)
    loss = math.log1p(math.exp(-abs(z))) + max(-z, 0.0)
    return -loss if how == "sign" else loss


DPOP_MISTAKES = {
    "plain": "This is the plain DPO loss: where the chosen answer has fallen, the penalty is missing.",
    "no max": "The penalty also acts where the chosen answer has *risen*: keep it at 0 there, with torch.relu.",
    "risen": "The penalty acts where the chosen answer has risen. It is fallen when the reference finds it likelier.",
    "plus": "The penalty is added to the margin, so falling is rewarded. Subtract it.",
    "no strength": "`strength` is missing: it multiplies how far the chosen answer has fallen.",
    "rejected": "You punish the fall of the rejected answer. It is the chosen one that must not fall.",
    "outside": "The penalty stands outside beta. It is part of the margin that beta multiplies.",
    "swapped": "The margin has the wrong sign: chosen minus rejected, each since the reference.",
    "no beta": "beta is missing: it multiplies margin and penalty together.",
    "sign": "The sign of the loss is wrong: it is minus the log of the sigmoid.",
}


@exercise
def check_dpop_loss(function) -> str:
    """Is it DPO's loss, with `strength` times the fall of the chosen answer taken off the margin?"""
    reference = torch.tensor([-6.6, -0.5])  # of the chosen, of the rejected
    moves = {
        "at the start": (0.0, 0.0),
        "the chosen has risen": (3.0, 0.0),
        "both fall": (-3.0, -13.0),
        "the chosen falls a little": (-0.5, 0.25),
        "both rise": (1.0, 0.5),
    }
    cases = {case: (*(reference + torch.tensor(move)), *reference) for case, move in moves.items()}
    mistakes = {
        message: lambda c, r, ref_c, ref_r, how=how: _dpop(c, r, ref_c, ref_r, how) for how, message in DPOP_MISTAKES.items()
    }
    judge(function, cases, _dpop, mistakes, as_number)
    return "Where both fall it is larger than DPO's: a margin cannot be won that way any more."


# 5. Open: a loss of your own

FEATURES = torch.tensor([[1.0, 0.7, 0.0], [1.6, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, -1.0], [-0.5, 0.0, 0.0]])
START = torch.tensor([0.04, 0.90, 0.02, 0.02, 0.02]).log()  # chosen, rejected, three answers in no pair


def train_toy(loss_function, steps: int = 300, rate: float = 1.0) -> dict[str, float]:
    """Train a toy policy of five answers with `loss_function(chosen, rejected, reference_chosen, reference_rejected)`.

    Like a model's answers, these share weights: chosen and rejected are nearly the same text. Returns the changes of
    the log-probabilities of the two (nats), and the probability that is left for the three answers in no pair.
    """
    weights = torch.zeros(3, requires_grad=True)
    for _ in range(steps):
        log_p = torch.log_softmax(START + FEATURES @ weights, -1)
        loss = loss_function(log_p[0], log_p[1], START[0], START[1])
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - rate * gradient).detach().requires_grad_()
    log_p = torch.log_softmax(START + FEATURES @ weights, -1).detach()
    change = (log_p - START).tolist()
    return {"chosen": change[0], "rejected": change[1], "other answers": log_p[2:].exp().sum().item()}


@exercise
def check_own_loss(function) -> str:
    """Trained with it: has the chosen answer gained 2 nats, the rejected one lost 6, and have the others at most 10%?"""
    start = (START[0], START[1], START[0], START[1])
    value = call_all(function, {"at the start": start})["at the start"]
    as_loss(value, None, "at the start")
    inputs = [START[0].clone().requires_grad_(), START[1].clone().requires_grad_()]
    if not call(lambda: function(*inputs, START[0], START[1]), "at the start", ()).requires_grad:
        raise Wrong("The loss has no gradient: is there a `detach`, `no_grad` or `item` in it?")
    got = call(lambda: train_toy(function), "training the toy", ())
    said = f"chosen {got['chosen']:+.1f} nats, rejected {got['rejected']:+.1f}, other answers {got['other answers']:.0%}."
    if not all(math.isfinite(x) for x in got.values()):
        raise Wrong(f"{said} The training broke down: the loss or its gradient is not a finite number.")
    if max(abs(got["chosen"]), abs(got["rejected"])) < 0.01:
        raise Wrong(f"{said} Nothing moved: the gradient is 0 at the start.")
    if got["rejected"] > 0:
        raise Wrong(f"{said} The rejected answer has risen: is a sign wrong?")
    if got["chosen"] < 0:
        raise Wrong(f"{said} The margin was won by pushing down: the chosen answer fell, too. What would hold it up?")
    if got["chosen"] < 2:
        raise Wrong(f"{said} The chosen answer hardly rose. Who got the probability that the rejected one lost?")
    if got["rejected"] > -6:
        raise Wrong(f"{said} The rejected answer is left too likely: imitation alone does not ask for its fall.")
    if got["other answers"] > 0.1:
        raise Wrong(f"{said} Too much went to answers in no pair.")
    return f"{said} Would it do so on Sprout? Try it in place of the lesson's recipe."
