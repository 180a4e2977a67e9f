"""Explorer: questions on a lesson's ideas, with a word for each choice on why it is right or wrong.

The questions are `data/quizzes/NN.json`, five for each lesson. Where no kernel runs, the same output is a page on which
each choice opens to its word. Left out on purpose: points, and hiding the answers, which may be read in the file.
"""

import json
from html import escape
from pathlib import Path

from helper.explorers.explorer import Explorer, choice
from helper.figures.page import TEXT, View, page
from helper.machine.folders import project_folder

LETTERS = "ABCD"
NOTE = "Choose an answer, and it opens to a word on it. In JupyterLab, run the cell, and buttons appear."


def show_quiz(lesson: str) -> "Quiz":
    """The questions of a lesson, such as "04", one after the other, with buttons.

    Raises FileNotFoundError where this copy of the course has no quiz for it.
    """
    return Quiz(load_quiz(lesson))


def load_quiz(lesson: str) -> list[dict]:
    """The questions of a lesson: each with "question", its "section" and four "choices" ("text", "feedback", "right")."""
    path: Path = project_folder() / "data" / "quizzes" / f"{lesson}.json"
    if not path.is_file():
        raise FileNotFoundError(f"There is no quiz for lesson {lesson}: {path.name} is not in data/quizzes.")
    return json.loads(path.read_text(encoding="utf-8"))


class Quiz(Explorer):
    """One question at a time. `controls`: "question" (from 0) and "answer" ("" for none yet, or a letter)."""

    def __init__(self, questions: list[dict]):
        self.questions, self.given = questions, {}
        answers = {"none yet": ""} | {letter: letter for letter in LETTERS}
        numbers = {str(number + 1): number for number in range(len(questions))}
        controls = {"question": choice("question", numbers), "answer": choice("your answer", answers)}
        super().__init__(controls, self.look, moves=["answer"])
        controls["question"].observe(self.turn, "value")

    def look(self, question: int, answer: str) -> View:
        """What belongs to a question and an answer to it; the answer is kept."""
        self.given[question] = answer
        return question_view(self.questions[question], question + 1, answer)

    def turn(self, _=None) -> None:
        """Another question, with the answer that it was given before."""
        self.controls["answer"].unobserve(self.redraw, "value")
        self.controls["answer"].value = self.given.get(self.controls["question"].value, "")
        self.controls["answer"].observe(self.redraw, "value")
        self.redraw()

    def _repr_mimebundle_(self, **options) -> dict:
        """The widget, and for where there is none all questions, with their choices folded."""
        whole = quiz_page(self.questions)
        return super()._repr_mimebundle_(**options) | {"text/html": whole.html, "text/plain": whole.words}


def question_view(question: dict, number: int, answer: str) -> View:
    """A question with its choices, and the word on the one that was chosen."""
    texts = [f"{letter}. {part['text']}" for letter, part in zip(LETTERS, question["choices"])]
    asked = f"{number}. {question['question']}"
    said = ""
    if answer:
        chosen = question["choices"][LETTERS.index(answer)]
        verdict = "right" if chosen.get("right") else f"not so; section {question['section']}"
        said = f"{answer} ({verdict}): {chosen['feedback']}"
    lines = "".join(f'<li style="{TEXT};list-style:none">{escape(text)}</li>' for text in texts)
    html = page(f"<p><b>{escape(asked)}</b></p><ul>{lines}</ul>", f"<p>{escape(said)}</p>" if said else "")
    return View("\n".join([asked, *texts, said]).strip(), html)


def quiz_page(questions: list[dict]) -> View:
    """All questions; each choice is folded, and opens to its word. In words: the questions and choices alone."""
    parts, words = [], [NOTE]
    for number, question in enumerate(questions, 1):
        parts.append(f"<p><b>{number}. {escape(question['question'])}</b> (section {question['section']})</p>")
        words.append(question_view(question, number, "").words)
        for letter, part in zip(LETTERS, question["choices"]):
            verdict = "Right." if part.get("right") else "Not so."
            summary = f"<summary>{letter}. {escape(part['text'])}</summary>"
            parts.append(f'<details style="{TEXT}">{summary}<p><b>{verdict}</b> {escape(part["feedback"])}</p></details>')
    return View("\n\n".join(words), page(f"<p>{escape(NOTE)}</p>", *parts))
