"""How near a held-out question is to the training rows: "not in the rows" is a matter of degree.

Left out on purpose: embeddings of sentences. Shared words can be checked by eye.
"""

import numpy as np

from helper.graders import words_of


def nearest(questions: list[str], trained: list[str]) -> tuple[list[float], list[str]]:
    """For each question the largest overlap of words with a trained one (Jaccard: shared / all, 0 to 1), and that one.

    Raises ValueError when nothing was trained.

    >>> nearest(["What is a cat?"], ["What is a dog?", "Sort: cat, dog."])
    ([0.6], ['What is a dog?'])
    """
    if not trained:
        raise ValueError("No training questions to compare with.")
    trained = list(dict.fromkeys(trained))
    places: dict[str, int] = {}
    sets = [{places.setdefault(word, len(places)) for word in words_of(text)} for text in [*questions, *trained]]
    holds = np.zeros((len(sets), max(len(places), 1)), dtype=np.float32)
    for row, words in enumerate(sets):
        holds[row, list(words)] = 1
    asked, seen = holds[: len(questions)], holds[len(questions) :]
    shared = asked @ seen.T
    overlap = shared / np.maximum(asked.sum(1)[:, None] + seen.sum(1)[None] - shared, 1)
    best = overlap.argmax(1)
    return [round(float(overlap[i, j]), 4) for i, j in enumerate(best)], [trained[j] for j in best]
