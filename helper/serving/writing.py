"""Writing an answer with the model, and handing its text on while it is written.

Left out on purpose: keeping the keys and values of earlier turns (each request reads its whole conversation anew).
"""

from collections.abc import Callable
from typing import NamedTuple

from helper.generation import generate_tokens
from helper.serving.chat_requests import ChatRequest, Refused
from helper.validation import special_marks

HALF = "\ufffd"  # what decoding makes of the first bytes of a character whose rest is not there yet


class Written(NamedTuple):
    """An answer; `reason`: "stop" (its end, or a stop text) or "length"; how many tokens were read and written."""

    text: str
    reason: str
    prompt_tokens: int
    new_tokens: int


class Writer:
    """Answers `ChatRequest`s with a model: `writer(request, on_text)`; nothing else may write with it at the time."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer, self.marks = model, tokenizer, special_marks(tokenizer)

    def __call__(self, request: ChatRequest, on_text: Callable[[str], bool]) -> Written:
        """The answer. `on_text` gets each new piece of its text, and returns whether to go on.

        Raises Refused (400) for a conversation that the model cannot read: too long, or with special tokens in its texts.
        """
        prompt = self._prompt(request.messages)
        text, seen = _Text(self.tokenizer, request.stop, on_text), []

        def has_stopped(tokens: list[int]) -> bool:
            seen[:] = tokens
            return text.add(tokens)

        options = {"temperature": request.temperature, "seed": request.seed, "has_stopped": has_stopped}
        try:
            new = generate_tokens(self.model, self.tokenizer, [prompt], request.max_tokens, keep_end=True, **options)[0]
        except ValueError as error:  # longer than the model's window
            raise Refused(400, str(error).replace("Prompt 0", "The conversation"), "messages") from None
        whole = len(new) == len(seen) and not text.stopped  # it came to no end of its own
        text.end(new[: len(seen)])
        return Written(text.sent, "length" if whole else "stop", len(prompt), len(new))

    def _prompt(self, messages: list[dict]) -> list[int]:
        for place, said in enumerate(messages):
            mark = next((mark for mark in self.marks if mark in said["content"]), None)
            if mark:
                words = f"message {place} holds {mark}, which is a special token of the model: take it out."
                raise Refused(400, words, "messages")
        try:
            text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever stands in the template
            raise Refused(400, f"The model's chat template refuses this conversation: {error!s:.200}.", "messages") from None
        return self.tokenizer(text, add_special_tokens=False).input_ids


class _Text:
    """The text of tokens as they come: sent on piece by piece, up to a stop text, never half of a character."""

    def __init__(self, tokenizer, stops: tuple[str, ...], on_text: Callable[[str], bool]):
        self.tokenizer, self.stops, self.on_text = tokenizer, stops, on_text
        self.sent, self.stopped = "", False

    def add(self, tokens: list[int]) -> bool:
        """Send what is certain by now; whether to stop."""
        text = self._decoded(tokens)
        found = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._send(text[: min(found)])
            return True
        text = text.rstrip(HALF)
        going_on = self._send(text[: len(text) - self._held_back(text)])
        self.stopped = not going_on
        return not going_on

    def end(self, tokens: list[int]) -> None:
        """Send what was held back, now that nothing more comes."""
        if not self.stopped:
            self._send(self._decoded(tokens))

    def _decoded(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).lstrip()

    def _held_back(self, text: str) -> int:
        """How many characters at the end may be the beginning of a stop text."""
        lengths = [length for stop in self.stops for length in range(1, len(stop)) if text.endswith(stop[:length])]
        return max(lengths, default=0)

    def _send(self, text: str) -> bool:
        piece, self.sent = text[len(self.sent) :], max(text, self.sent, key=len)
        return self.on_text(piece) if piece else True
