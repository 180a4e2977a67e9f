"""What a client asks for, checked: the body of `POST /v1/chat/completions` as a `ChatRequest`, or one clear refusal.

The names are those of OpenAI's chat completions. What would change the answer and is not offered here is refused by name,
never ignored. Left out on purpose: `n` above 1, `top_p`, penalties, tools, log-probabilities, pictures and sounds.
"""

import json
import math
from typing import NamedTuple

from helper.data import DECODER
from helper.validation import message_faults, order_faults

LESS_KNOWN_ROLES = {"developer": "system"}
ALIKE = {"top_p": 1, "n": 1, "frequency_penalty": 0, "presence_penalty": 0, "logprobs": False}  # only this value, or null
NO_MATTER = {"model", "user", "metadata", "store", "stream_options", "safety_identifier"}  # they change no answer here
READ = {"messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "stop", "stream"}
MOST_STOPS, LONGEST_STOP = 4, 64


class Refused(Exception):
    """A request that is not done: an HTTP status, words for the client, and the parameter that is wrong, if one is."""

    def __init__(self, status: int, message: str, param: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers or {}


class ChatRequest(NamedTuple):
    """`messages`: {"role", "content"} with texts, the user's last. `temperature` 0: greedy. `stop`: texts that end it."""

    messages: list[dict]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False


def read_request(body: bytes, most_tokens: int) -> ChatRequest:
    """The request in a body of JSON. Raises Refused (400) with what is wrong; `most_tokens` bounds what may be written."""
    try:
        asked = DECODER.decode(body.decode("utf-8"))
    except RecursionError:
        raise Refused(400, "The body is nested too deep.") from None
    except ValueError as error:  # no UTF-8, no JSON, a key that stands twice
        words = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise Refused(400, f"The body is no JSON that can be read: {words:.100}.") from None
    if not isinstance(asked, dict):
        raise Refused(400, 'The body is no JSON object: send {"messages": [{"role": "user", "content": "..."}]}.')
    _check_names(asked)
    stream = asked.get("stream")
    if not isinstance(stream, bool | None):
        raise Refused(400, "stream is true or false.", "stream")
    return ChatRequest(
        _messages(asked.get("messages")),
        _tokens(asked, most_tokens),
        _number(asked, "temperature", 0.0, 0.0, 2.0),
        _seed(asked.get("seed")),
        _stops(asked.get("stop")),
        bool(stream),
    )


def _check_names(asked: dict) -> None:
    for name, value in asked.items():
        if name in ALIKE:
            if value is not None and value != ALIKE[name]:
                raise Refused(400, f"{name}={value!r:.40} is not offered here, only {ALIKE[name]!r}.", name)
        elif name not in READ | NO_MATTER and value is not None:
            raise Refused(400, f"{name!r:.60} is not offered here: {', '.join(sorted(READ))} are.", f"{name:.60}")


def _messages(given) -> list[dict]:
    """The messages as lists of plain texts. Roles are put right where another name means the same."""
    said = given if isinstance(given, list) else []
    messages = [dict(each) if isinstance(each, dict) else each for each in said]
    for each in (each for each in messages if isinstance(each, dict)):
        if "content" in each:
            each["content"] = _plain(each["content"])
        if isinstance(each.get("role"), str):
            each["role"] = LESS_KNOWN_ROLES.get(each["role"], each["role"])
    faults = message_faults(messages if isinstance(given, list) else given, "messages")
    if not faults:
        roles = [each["role"] for each in messages]
        faults = [fault for fault in order_faults(roles) if fault[0] != "end"]
        if roles[-1] != "user":
            faults = [("end", f"the last message is the {roles[-1]}'s: a question of the user's must come last")]
    if faults:
        raise Refused(400, f"{faults[0][1]}.", "messages")
    return [{"role": each["role"], "content": each["content"]} for each in messages]


def _plain(content):
    """The text of a content that is a list of parts, all of them texts; any other content as it is."""
    parts = content if isinstance(content, list) else []
    if parts and all(isinstance(part, dict) and part.get("type") == "text" for part in parts):
        texts = [part.get("text") for part in parts]
        return "\n".join(texts) if all(isinstance(text, str) for text in texts) else content
    return content


def _tokens(asked: dict, most: int) -> int:
    name = "max_completion_tokens" if asked.get("max_completion_tokens") is not None else "max_tokens"
    value = asked.get(name)
    if value is None:
        return most
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise Refused(400, f"{name}={value!r:.40}: give a whole number from 1 to {most}.", name)
    return value


def _number(asked: dict, name: str, otherwise: float, low: float, high: float) -> float:
    value = asked.get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or math.isnan(value):
        raise Refused(400, f"{name}={value!r:.40}: give a number from {low:g} to {high:g}.", name)
    return float(value)


def _seed(value) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63):
        raise Refused(400, "seed is a whole number from 0, below 2**63.", "seed")
    return value


def _stops(value) -> tuple[str, ...]:
    stops = [] if value is None else [value] if isinstance(value, str) else value
    plain = isinstance(stops, list) and len(stops) <= MOST_STOPS
    if not plain or not all(isinstance(stop, str) and 0 < len(stop) <= LONGEST_STOP for stop in stops):
        words = f"stop is a text, or a list of at most {MOST_STOPS}, each of 1 to {LONGEST_STOP} characters."
        raise Refused(400, words, "stop")
    return tuple(stops)
