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


def shingles(text: str, words: int = 3) -> set[tuple[str, ...]]:
    """All runs of `words` neighbouring words of a text; of a shorter text the one run that it is.

    >>> sorted(shingles("Sort the red cards.", words=3))
    [('sort', 'the', 'red'), ('the', 'red', 'cards')]
    """
    said = words_of(text)
    return {tuple(said[i : i + words]) for i in range(max(1, len(said) - words + 1))}


def jaccard(one: set, other: set) -> float:
    """Shared / all of two sets, 0 to 1; 1 for two empty ones."""
    return len(one & other) / len(one | other) if one or other else 1.0


def earlier_likeness(texts: list[str], words: int = 3) -> np.ndarray:
    """(N, N): the Jaccard overlap of text i's shingles with those of each text j before it, else 0."""
    places: dict[tuple, int] = {}
    sets = [{places.setdefault(run, len(places)) for run in shingles(text, words)} for text in texts]
    holds = np.zeros((len(sets), max(len(places), 1)), dtype=np.float32)
    for row, runs in enumerate(sets):
        holds[row, list(runs)] = 1
    shared, sizes = holds @ holds.T, holds.sum(1)
    return np.tril(shared / (sizes[:, None] + sizes[None] - shared), -1)


def near_copies(likeness: np.ndarray, threshold: float) -> list[int]:
    """For each text the first one kept before it that is at least so like it, -1 where it is kept itself.

    `likeness`: of `earlier_likeness`. What was dropped drops nothing else.
    """
    found: list[int] = []
    for i, row in enumerate(likeness):
        like = [j for j in range(i) if found[j] == -1 and row[j] >= threshold]
        found.append(like[0] if like else -1)
    return found
