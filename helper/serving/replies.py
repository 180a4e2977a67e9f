"""What goes back to a client, in OpenAI's shapes: completions, chunks of a stream, the list of models, errors.

Pure functions: plain values in, dicts out.
"""

from helper.serving.chat_requests import Refused
from helper.serving.writing import Written

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


def error_reply(refused: Refused) -> dict:
    kind = KINDS.get(refused.status, "server_error" if refused.status >= 500 else "invalid_request_error")
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": None}}


def models_reply(name: str, created: int) -> dict:
    return {"object": "list", "data": [{"id": name, "object": "model", "created": created, "owned_by": "this machine"}]}


def completion_reply(number: str, name: str, created: int, written: Written) -> dict:
    choice = {"index": 0, "message": {"role": "assistant", "content": written.text}, "finish_reason": written.reason}
    usage = {
        "prompt_tokens": written.prompt_tokens,
        "completion_tokens": written.new_tokens,
        "total_tokens": written.prompt_tokens + written.new_tokens,
    }
    head = {"id": number, "object": "chat.completion", "created": created, "model": name}
    return {**head, "choices": [choice], "usage": usage}


def chunk_reply(number: str, name: str, created: int, delta: dict, reason: str | None = None) -> dict:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {"id": number, "object": "chat.completion.chunk", "created": created, "model": name, "choices": [choice]}
