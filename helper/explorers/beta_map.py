"""Explorer: recorded short runs of the change of name, over β, the learning rate, and with or without the SFT term."""

from ipywidgets import SelectionSlider

from helper.explorers.explorer import Explorer, choice, look
from helper.figures.figure import BLUE, GREY, RED, drawing, image_html, make_panels
from helper.figures.page import View, fact_list, page
from helper.preference_runs import load_preference_runs, runs_table

LOSSES = {"with the SFT term": "both", "contrast only": "sigmoid"}


def explore_beta_map(record: dict | None = None) -> Explorer:
    """Move through the recorded runs by loss, β and learning rate. `record`: None takes the course's own."""
    record = record or load_preference_runs("beta_map")
    runs = runs_table(record)
    betas, rates = (sorted(runs[column].unique()) for column in ("beta", "learning_rate"))
    controls = {
        "loss": choice("loss", LOSSES),
        "beta": SelectionSlider(options=[(f"{beta:g}", beta) for beta in betas], **look("β")),
        "rate": SelectionSlider(options=[(f"{rate:g}", rate) for rate in rates], **look("learning rate")),
    }
    before = {key: value.count("1") / len(value) for key, value in record["before"].items() if isinstance(value, str)}
    questions = len(record["before"]["name"])
    return Explorer(controls, lambda loss, beta, rate: map_view(runs, before, questions, loss, beta, rate))


@drawing()
def map_view(runs, before: dict[str, float], questions: int, loss: str, beta: float, rate: float) -> View:
    """The seeds of one setting among all runs: the new name against KL, and against other skills."""
    here = runs[(runs["loss"] == loss) & (runs["beta"] == beta) & (runs["learning_rate"] == rate)]
    figure, (left, right) = make_panels(2, 7.5, 3)
    for axis, column in ((left, "kl_name"), (right, "other_skills")):
        for name, marker in zip(LOSSES.values(), ("o", "x")):
            rest = runs[runs["loss"] == name]
            axis.plot(rest[column], rest["name"], marker, color=GREY, markersize=5, alpha=0.6)
        axis.plot(here[column], here["name"], "D", color=RED, markersize=8)
        axis.set(ylim=(-0.05, 1.05))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    left.set(title="new name", xlabel="KL, answers about the name (nats)", xscale="log")
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    left.minorticks_off()
    right.axvline(before["other_skills"], color=BLUE, linestyle="--", linewidth=1)
    right.set(title="new name", xlabel="other skills (dashed: before)")
    right.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    words_of = {value: name for name, value in LOSSES.items()}
    facts = {
        "setting": f"{words_of[loss]}, β = {beta:g}, learning rate {rate:g}; {len(here)} seeds (red)",
        f"new name (of {questions} held-out questions)": ", ".join(f"{value:.0%}" for value in here["name"]),
        "other skills": f"{here['other_skills'].mean():.0%} on average, {before['other_skills']:.0%} before",
        "KL, answers about the name": f"{here['kl_name'].mean():.1f} nats per answer",
        "KL, other answers": f"{here['kl_other'].mean():.2f} nats per answer",
        "the other marks": "circles: with the SFT term; crosses: contrast only",
    }
    words = "Recorded runs of the change of name: " + "; ".join(f"{name}: {text}" for name, text in facts.items())
    return View(words, page(image_html(figure, words), fact_list(facts)))
