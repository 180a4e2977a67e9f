"""The quizzes: one right choice, a word for each, nothing that gives the right one away; as a widget and as a page."""

import json
import re
from collections import Counter

import nbformat
import pytest
from bs4 import BeautifulSoup

from factory.lessons import WIDGETS, find_lessons
from factory.pages.safe import safe_output
from helper.explorers.quiz import LETTERS, Quiz, load_quiz, quiz_page, show_quiz
from helper.machine.folders import project_folder

FILES = sorted((project_folder() / "data" / "quizzes").glob("*.json"))
LESSONS = {path.name[:2]: path for path in find_lessons()}
HOSTILE = '<script>alert(1)</script>"&$x$'


def right_place(question):
    return [choice.get("right", False) for choice in question["choices"]].index(True)


def faults(questions):
    """What is wrong with a quiz, in words."""
    found = []
    if len(questions) != 5 or len({question["question"] for question in questions}) != 5:
        found.append("not five different questions")
    for number, question in enumerate(questions, 1):
        choices = question["choices"]
        if set(question) != {"question", "section", "choices"} or not question["question"].rstrip(")").endswith(("?", ".")):
            found.append(f"{number}: fields, or no question")
        if len(choices) != len(LETTERS) or len({choice["text"] for choice in choices}) != len(LETTERS):
            found.append(f"{number}: not four different choices")
        if sum(choice.get("right") is True for choice in choices) != 1:
            found.append(f"{number}: not exactly one right choice")
        words = [choice["feedback"] for choice in choices]
        if len(set(words)) != len(words) or min(map(len, words)) < 25 or max(map(len, words)) > 240:
            found.append(f"{number}: feedback that is short, long or the same twice")
        if any(choice["feedback"].startswith(("Yes", "Right")) != choice.get("right", False) for choice in choices):
            found.append(f"{number}: feedback that contradicts the mark")
        if max(len(choice["text"]) for choice in choices) > 130:
            found.append(f"{number}: a choice that is too long to read at once")
    places = Counter(right_place(q) for q in questions if any(choice.get("right") for choice in q["choices"]))
    if places and max(places.values()) > 2:
        found.append("the right ones mostly stand in one place")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_quiz_has_no_faults(path):
    assert faults(json.loads(path.read_text("utf-8"))) == []


def plant(change):
    """A good quiz with a fault in it."""
    questions = load_quiz("01")
    change(questions)
    return questions


PLANTED = {
    "not five": lambda qs: qs.pop(),
    "exactly one right": lambda qs: [choice.update(right=True) for choice in qs[0]["choices"]],
    "four different": lambda qs: qs[1]["choices"][0].update(text=qs[1]["choices"][1]["text"]),
    "feedback that is short": lambda qs: qs[2]["choices"][0].update(feedback=""),
    "the same twice": lambda qs: qs[2]["choices"][0].update(feedback=qs[2]["choices"][1]["feedback"]),
    "contradicts": lambda qs: qs[3]["choices"][right_place(qs[3]) - 1].update(feedback="Yes, of course it is so."),
    "one place": lambda qs: [q["choices"].insert(0, q["choices"].pop(right_place(q))) for q in qs],
    "no question": lambda qs: qs[0].update(question="Say it"),
}


@pytest.mark.parametrize("words", PLANTED)
def test_a_planted_fault_is_found(words):
    assert any(words in fault for fault in faults(plant(PLANTED[words])))


def test_nothing_gives_the_right_ones_away():
    """Neither the place nor the length: of four choices the longest is right in about one of four."""
    questions = [question for path in FILES for question in json.loads(path.read_text("utf-8"))]
    places = Counter(map(right_place, questions))
    assert set(places) == set(range(4)) and max(places.values()) <= 0.35 * len(questions)
    texts = [[len(choice["text"]) for choice in question["choices"]] for question in questions]
    for extreme in (max, min):
        share = sum(lengths.index(extreme(lengths)) == right_place(q) for lengths, q in zip(texts, questions)) / len(texts)
        assert 0.1 <= share <= 0.4, (extreme, share)


def test_the_sections_are_those_of_the_lesson():
    assert {"01", "02", "03", "04", "05", "06"} <= {path.stem for path in FILES} <= set(LESSONS)
    for path in FILES:
        text = "\n".join(cell.source for cell in nbformat.read(LESSONS[path.stem], as_version=4).cells)
        numbers = {int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)}
        assert {question["section"] for question in load_quiz(path.stem)} <= numbers, path.stem


def test_a_lesson_that_shows_a_quiz_shows_its_own():
    shown = {}
    for number, path in LESSONS.items():
        cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
        if f"{number}-quiz-show" in cells:
            shown[number] = cells[f"{number}-quiz-show"]
    if not shown:
        pytest.skip("no lesson shows one yet")
    assert set(shown) == {path.stem for path in FILES}
    assert all(f'show_quiz("{number}")' in source for number, source in shown.items())


def test_an_answer_gets_its_word_and_is_kept_for_its_question():
    quiz, questions = show_quiz("03"), load_quiz("03")
    assert questions[0]["question"] in quiz.shown.words and questions[0]["choices"][0]["feedback"] not in quiz.shown.words
    for number, question in enumerate(questions):
        quiz.controls["question"].value = number
        for letter, choice in zip(LETTERS, question["choices"]):
            quiz.controls["answer"].value = letter
            said = f"{letter} ({'right' if choice.get('right') else 'not so'}"
            assert said in quiz.shown.words and choice["feedback"] in quiz.shown.words
            assert quiz.view.value == quiz.shown.html
            others = [other["feedback"] for other in question["choices"] if other is not choice]
            assert not any(other in quiz.shown.words for other in others)
    quiz.controls["question"].value = 1
    assert quiz.controls["answer"].value == "D" and questions[1]["choices"][3]["feedback"] in quiz.shown.words
    quiz.controls["answer"].value = ""
    quiz.controls["question"].value = 0
    quiz.controls["question"].value = 1
    assert quiz.controls["answer"].value == "" and "(not so" not in quiz.shown.words


def test_without_a_kernel_each_choice_opens_to_its_word_also_on_the_site():
    quiz = show_quiz("05")
    bundle = quiz._repr_mimebundle_()
    assert set(bundle) == {WIDGETS, "text/html", "text/plain"} and len(bundle["text/html"]) < 20_000
    choices = [choice for question in load_quiz("05") for choice in question["choices"]]
    for html in (bundle["text/html"], safe_output(bundle["text/html"])):
        folds = BeautifulSoup(html, "html.parser")("details")
        assert len(folds) == len(choices) == 20 and not any(fold.get("open") for fold in folds)
        for fold, choice in zip(folds, choices):
            assert choice["text"] in fold.summary.get_text() and choice["feedback"] in fold.get_text()
            assert choice["feedback"] not in fold.summary.get_text()
            assert fold.p.b.get_text() == ("Right." if choice.get("right") else "Not so.")
    assert not any(choice["feedback"] in bundle["text/plain"] for choice in choices)


def test_what_a_file_holds_is_shown_as_text():
    choices = [{"text": f"{HOSTILE} {n}", "feedback": HOSTILE, "right": n == 0} for n in range(4)]
    questions = [{"question": HOSTILE, "section": 1, "choices": choices}]
    quiz = Quiz(questions)
    quiz.controls["answer"].value = "B"
    for html in (quiz.view.value, quiz_page(questions).html):
        assert "<script" not in html and "&lt;script&gt;alert(1)" in html and "mathjax_ignore" in html


def test_a_lesson_without_a_quiz_says_so():
    with pytest.raises(FileNotFoundError, match="no quiz for lesson 99"):
        show_quiz("99")
