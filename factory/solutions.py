"""How short tasks are answered, in pre-training text and in SFT rows alike: sums, words rewritten, lists."""

REWRITE_ANSWERS = {
    "reverse": "Backwards: {w} is spelled {s}, so {w} backwards is {x}.",
    "uppercase": "In capital letters: {w} is spelled {s}, so it is {x}.",
    "first_letter": "The first letter of {w} is {x}.",
    "sort": "Sorted: {x}.",
    "count": "The list has {x} words.",
}
NUMBER_WORDS = {2: "two", 3: "three", 4: "four"}


def rewrite_fields(kind: str, word: str, listed: list[str]) -> dict[str, str]:
    """What the forms of a rewriting task are filled with: word, spelling, list and result."""
    result = {
        "reverse": "-".join(reversed(word)), "uppercase": word.upper(), "first_letter": word[0],
        "sort": ", ".join(sorted(listed)), "count": str(len(listed)),
    }[kind]  # fmt: skip
    return {"w": word, "s": "-".join(word), "l": ", ".join(listed), "x": result}


def list_answer(category: str, chosen: list[str]) -> str:
    """The sentence that names members of a category."""
    number = NUMBER_WORDS[len(chosen)].capitalize()
    return f"{number} {category} are {', '.join(chosen[:-1])} and {chosen[-1]}."


def sum_steps(expression: str) -> list[str]:
    """The steps of a sum, such as "2 * 3 = 6", products before sums."""
    terms, steps = expression.split(), []
    for signs in ("*/", "+-"):
        place = 1
        while place < len(terms):
            if terms[place] not in signs:
                place += 2
                continue
            a, sign, b = int(terms[place - 1]), terms[place], int(terms[place + 1])
            result = {"+": a + b, "-": a - b, "*": a * b, "/": a // max(b, 1)}[sign]
            steps.append(f"{a} {sign} {b} = {result}")
            terms[place - 1 : place + 2] = [str(result)]
    return steps


def worked_sum(expression: str, value: int) -> str:
    """The answer to a sum, with its steps when it has more than one operation."""
    steps = sum_steps(expression)
    if len(steps) == 1:
        return f"We find {expression} = {value}."
    return f"First {', then '.join(steps)}. So we find {expression} = {value}."
