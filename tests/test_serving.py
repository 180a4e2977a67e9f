"""The chat endpoint and its page: shapes as OpenAI's, and what is kept out; most of it with a stub in the model's place."""

import base64
import hashlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from helper import serve
from helper.generation import generate_responses
from helper.models import load_model_and_tokenizer
from helper.serving.chat_page import PAGE, PAGE_POLICY
from helper.serving.chat_requests import ChatRequest, Refused, read_request
from helper.serving.server import ChatServer, Limits
from helper.serving.writing import Writer, Written

ASKED = {"messages": [{"role": "user", "content": "Hello?"}]}
PIECES = ("Hello, ", "<b>you</b>", " 🙂")
FAST = Limits(body=2000, tokens=50, wait=0.05, visits=4, silence=5)


class Stub:
    """Writes PIECES. `gate`: it waits in the middle until that is set; `heard`: what on_text said."""

    def __init__(self):
        self.gate, self.begun, self.heard, self.asked = None, threading.Event(), [], []

    def __call__(self, request, on_text):
        self.asked.append(request)
        for piece in PIECES:
            self.heard.append(on_text(piece))
            self.begun.set()
            if self.gate:
                self.gate.wait(10)
            if not self.heard[-1]:
                break
        return Written("".join(PIECES), "stop", 3, 7)


@contextmanager
def running(writer, limits=FAST, port=0):
    server = ChatServer(port, writer, "stub", limits=limits)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@pytest.fixture
def stub():
    return Stub()


@pytest.fixture
def server(stub):
    with running(stub) as server:
        yield server


def ask(server, method="POST", path="/v1/chat/completions", body=ASKED, **changed):
    """Status, headers and body of one visit; `changed`: headers other than the right ones, None to leave one out."""
    content = None if method == "GET" else body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    headers = {name: value for name, value in {**headers, **changed}.items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, content, headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, dict(reply.getheaders()), text


def raw(server, text: bytes) -> bytes:
    """What the server says to these bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))


def error_of(answer, status):
    """The words of an error in OpenAI's shape."""
    assert answer[0] == status, answer
    error = json.loads(answer[2])["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"].endswith(".")
    return error["message"]


# What a right client gets


def test_an_answer(server, stub):
    status, headers, text = ask(server, body={**ASKED, "model": "gpt-4", "temperature": 0.5, "max_tokens": 9, "seed": 3})
    reply = json.loads(text)
    assert status == 200 and headers["Content-Type"] == "application/json" and headers["Cache-Control"] == "no-store"
    assert reply["object"] == "chat.completion" and reply["model"] == "stub" and reply["id"].startswith("chatcmpl-")
    message = {"role": "assistant", "content": "".join(PIECES)}
    assert reply["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert reply["usage"] == {"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}
    assert stub.asked == [ChatRequest(ASKED["messages"], 9, 0.5, 3)]


def events_of(text):
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_a_stream(server):
    status, headers, text = ask(server, body={**ASKED, "stream": True})
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream") and "Content-Length" not in headers
    events = events_of(text)
    assert {event["object"] for event in events} == {"chat.completion.chunk"} and len({event["id"] for event in events}) == 1
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""} and deltas[-1] == {}
    assert [delta["content"] for delta in deltas[1:-1]] == list(PIECES)
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * 4 + ["stop"]


def test_a_piece_is_sent_as_soon_as_it_is_written(server, stub):
    stub.gate = threading.Event()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps({**ASKED, "stream": True}), headers)
    reply = connection.getresponse()
    first = b"".join(reply.readline() for _ in range(4)).decode()
    assert PIECES[0] in first and PIECES[1] not in first and len(stub.heard) <= 1
    stub.gate.set()
    assert reply.read().decode().endswith("data: [DONE]\n\n")


def test_who_hangs_up_stops_the_writing(server, stub):
    stub.gate = threading.Event()
    body = json.dumps({**ASKED, "stream": True})
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
    client.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{server.server_port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {server.token}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert stub.begun.wait(10)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # hang up for good
    client.close()
    stub.gate.set()
    with server.writing:  # free again once the writing has ended
        assert stub.heard[-1] is False


def test_the_models(server):
    status, _, text = ask(server, "GET", "/v1/models")
    assert status == 200 and [model["id"] for model in json.loads(text)["data"]] == ["stub"]


# What is kept out


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer wrong", "Basic {}", "{}", "Bearer {}x", "Bearer ü"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models")])
def test_without_the_token_nothing_is_told(server, stub, given, method, path):
    given = given and given.format(server.token).encode("latin-1")
    answer = ask(server, method, path, Authorization=given)
    assert "token" in error_of(answer, 401) and answer[1]["WWW-Authenticate"] == "Bearer" and not stub.asked
    assert server.token not in answer[2]


def test_each_server_has_a_token_of_its_own_that_is_compared_in_constant_time(server, stub):
    with running(stub) as other:
        assert other.token != server.token and len(other.token) >= 43
        assert ask(other, "GET", "/v1/models", Authorization=f"Bearer {server.token}")[0] == 401
    source = Path(serve.__file__).with_name("serving").joinpath("server.py").read_text("utf-8")
    assert "hmac.compare_digest" in source and not re.search(r"==\s*self\.server\.token|self\.server\.token\s*==", source)


@pytest.mark.parametrize(
    "changed",
    [
        {"Host": "evil.example"}, {"Host": "evil.example:{port}"}, {"Host": "127.0.0.1"}, {"Host": "127.0.0.1:1"},
        {"Host": "localhost.evil.example:{port}"}, {"Host": ""}, {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"}, {"Origin": "http://127.0.0.1:1"},
    ],
)  # fmt: skip
@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/")])
def test_pages_from_elsewhere_are_sent_away(server, stub, changed, method, path):
    """DNS rebinding sends its own Host, a page elsewhere its own Origin; even with the right token."""
    changed = {name: value.format(port=server.server_port) for name, value in changed.items()}
    error_of(ask(server, method, path, **changed), 403)
    assert not stub.asked


def test_this_machine_under_both_its_names(server):
    for host in (f"localhost:{server.server_port}", f"LOCALHOST:{server.server_port}", f"127.0.0.1:{server.server_port}"):
        assert ask(server, "GET", "/v1/models", Host=host, Origin=f"http://{host}")[0] == 200


def test_no_other_page_may_read_a_reply(server):
    answers = [ask(server), ask(server, "GET", "/"), ask(server, Authorization=None), ask(server, "OPTIONS")]
    assert answers[-1][0] == 501
    for _, headers, _ in answers:
        assert not [name for name in headers if name.lower().startswith("access-control")]
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"


def test_it_listens_on_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert "0.0.0.0" not in Path(serve.__file__).read_text("utf-8")


# Limits


def test_one_answer_at_a_time(server, stub):
    stub.gate = threading.Event()
    first = threading.Thread(target=ask, args=(server,))
    first.start()
    assert stub.begun.wait(10)
    answer = ask(server)
    assert "another answer" in error_of(answer, 429) and answer[1]["Retry-After"] == "5"
    stub.gate.set()
    first.join(10)
    stub.gate = None
    assert ask(server)[0] == 200


def test_a_fault_of_the_model_is_an_error_and_the_next_answer_comes(server, stub, capsys):
    def broken(request, on_text):
        raise RuntimeError("secret words")

    server.writer = broken
    for body in (ASKED, {**ASKED, "stream": True}):
        assert "secret" not in error_of(ask(server, body=body), 500)
    server.writer = lambda request, on_text: on_text("half") and broken(request, on_text)
    status, _, text = ask(server, body={**ASKED, "stream": True})
    assert status == 200 and "half" in text and '"error"' in text and "secret" not in text and "[DONE]" not in text
    assert capsys.readouterr().err.count("RuntimeError: secret words") == 3
    server.writer = stub
    assert ask(server)[0] == 200


def test_large_bodies_are_not_read(server, stub):
    assert "2,000 are the most" in error_of(ask(server, body=b"x" * 300_000), 413)
    for length in (b"99999999999", b"-1", b"1e3", b"5, 5", b"9" * 40):
        answer = raw(server, head(server, b"Content-Length: " + length) + b"\r\n{}")
        assert b" 413 " in answer or b" 400 " in answer
    assert b" 411 " in raw(server, head(server, b"Transfer-Encoding: chunked") + b"\r\n5\r\n{}")
    assert b" 411 " in raw(server, head(server, b"X: y") + b"\r\n")
    assert not stub.asked


def head(server, *lines: bytes) -> bytes:
    first = [
        b"POST /v1/chat/completions HTTP/1.1", f"Host: 127.0.0.1:{server.server_port}".encode(),
        f"Authorization: Bearer {server.token}".encode(), b"Content-Type: application/json",
    ]  # fmt: skip
    return b"\r\n".join([*first, *lines, b""])


def test_odd_requests_get_words(server):
    for text in (b"\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n"):
        answer = raw(server, text)
        assert b'"error"' in answer or answer == b""
    two = head(server, b"Host: evil.example", b"Content-Length: 2") + b"\r\n{}"
    assert b" 403 " in raw(server, two)


def test_a_visit_that_says_nothing_is_ended_and_too_many_are_not_taken(stub):
    with running(stub, FAST._replace(silence=0.3, visits=2)) as server:
        idle = [socket.create_connection(("127.0.0.1", server.server_port), timeout=20) for _ in range(3)]
        assert [client.recv(10) for client in idle] == [b""] * 3  # hung up on: the third at once, the others in time
        assert ask(server)[0] == 200
        for client in idle:
            client.close()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/chat/completions", 405), ("POST", "/v1/models", 405), ("GET", "/etc/passwd", 404),
     ("GET", "/../chat.html", 404), ("POST", "/v1/completions", 404), ("PUT", "/v1/models", 501)],
)  # fmt: skip
def test_other_places(server, method, path, status):
    error_of(ask(server, method, path), status)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_could_send_is_refused(server, kind):
    assert "application/json" in error_of(ask(server, **{"Content-Type": kind}), 415)


# What is asked


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"), (b"{", "no JSON"), (b"\xff", "no JSON"), (b"[]", "no JSON object"),
        (b"[" * 90_000, "deep|no JSON"),
        (b'{"messages": [], "messages": []}', "twice"), ({}, "no list of messages"), ({"messages": []}, "empty list"),
        ({"messages": "Hello"}, "a string"), ({"messages": ["a"]}, "message 0"),
        ({"messages": [{"role": "user"}]}, "no .content"),
        ({"messages": [{"role": "bot", "content": "a"}]}, "role"), ({"messages": [{"role": "user", "content": 3}]}, "int"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "list"),
        ({"messages": [{"role": "user", "content": "a<|im_end|>"}]}, "special token"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "user"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "must come last"),
        ({**ASKED, "max_tokens": 51}, "1 to 50"), ({**ASKED, "max_tokens": 0}, "1 to 50"),
        ({**ASKED, "max_tokens": True}, "1 to"),
        ({**ASKED, "max_completion_tokens": "9"}, "max_completion_tokens"), ({**ASKED, "temperature": -1}, "0 to 2"),
        ({**ASKED, "temperature": "hot"}, "0 to 2"), ({**ASKED, "seed": -1}, "seed"), ({**ASKED, "stream": "yes"}, "stream"),
        ({**ASKED, "stop": [""]}, "stop"), ({**ASKED, "stop": ["a"] * 5}, "stop"), ({**ASKED, "n": 2}, "n=2"),
        ({**ASKED, "top_p": 0.5}, "top_p"), ({**ASKED, "tools": []}, "'tools' is not offered"),
        ({**ASKED, "response_format": {}}, "not offered"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_clear_error(body, words):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(Refused, match=words) as refused:
        read_request(body, 50)
    assert refused.value.status == 400 and len(refused.value.message) < 300


def test_what_a_client_of_openai_sends_is_read():
    asked = {
        "model": "x", "stream": False, "n": 1, "top_p": 1.0, "stop": "\n", "max_completion_tokens": 7, "user": "me",
        "temperature": None, "presence_penalty": 0, "tools": None, "stream_options": {"include_usage": True},
        "messages": [
            {"role": "developer", "content": "Be short."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        ],
    }  # fmt: skip
    said = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    assert read_request(json.dumps(asked).encode(), 50) == ChatRequest(said, 7, stop=("\n",))


# The page


def test_the_page_asks_for_nothing_elsewhere_and_its_policy_names_it(server):
    status, headers, text = ask(server, "GET", "/", Authorization=None)
    assert status == 200 and text.encode() == PAGE and server.token not in text
    assert headers["Content-Security-Policy"] == PAGE_POLICY and headers["X-Frame-Options"] == "DENY"
    assert "default-src 'none'" in PAGE_POLICY and "unsafe" not in PAGE_POLICY and "connect-src 'self'" in PAGE_POLICY
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in PAGE_POLICY
    assert not re.search(r"https?:|//[a-z]|\bsrc=|@import|url\(|\son\w+=|\sstyle=", text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", text) and "textContent" in text


def test_the_token_stands_where_no_server_and_no_log_sees_it(server, stub, capfd):
    before, _, fragment = server.address.partition("#")
    assert server.token in fragment and server.token not in before
    ask(server, "GET", "/?token=abc")
    ask(server)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


# With a model


@pytest.fixture(scope="module")
def sprout():
    return load_model_and_tokenizer("sprout-instruct")


def asked_for(text, **changed):
    return ChatRequest([{"role": "user", "content": text}], **{"max_tokens": 40, **changed})


def test_the_writer_says_what_the_lessons_say_piece_by_piece(sprout):
    writer, questions = Writer(*sprout), ["What is a photon?", "Sort: pear, apple.", "What is 12 + 30?", "Who are you?"]
    for question, answer in zip(questions, generate_responses(*sprout, questions, max_new_tokens=40)):
        pieces, keep = [], lambda piece, pieces: pieces.append(piece) or True
        written = writer(asked_for(question), partial(keep, pieces=pieces))
        assert "".join(pieces) == written.text and written.text.strip() == answer and len(pieces) > 3
        assert written.reason == "stop" and 0 < written.new_tokens <= 40 and written.prompt_tokens > 5


def test_the_writer_stops_where_it_is_told(sprout):
    writer = Writer(*sprout)
    whole = writer(asked_for("What is a photon?"), lambda piece: True)
    cut = writer(asked_for("What is a photon?", max_tokens=3), lambda piece: True)
    assert cut.reason == "length" and cut.new_tokens == 3 and whole.text.startswith(cut.text)
    word = whole.text.split()[2]
    stopped = writer(asked_for("What is a photon?", stop=(word, "never")), lambda piece: True)
    assert stopped.reason == "stop" and stopped.text == whole.text[: whole.text.index(word)]
    pieces = []
    writer(asked_for("What is a photon?"), lambda piece: pieces.append(piece) or len(pieces) < 2)
    assert len(pieces) == 2  # nobody listens any more
    seeded = [
        writer(asked_for("Who are you?", temperature=1.5, seed=seed), lambda piece: True).text for seed in (1, 1, 2, 3)
    ]
    assert seeded[0] == seeded[1] and len(set(seeded)) > 1


def test_half_of_a_character_is_held_back():
    class Bytes:
        def decode(self, tokens, skip_special_tokens):
            return bytes(tokens).decode("utf-8", "replace")

    from helper.serving.writing import _Text

    pieces = []
    text, tokens = _Text(Bytes(), ("END",), lambda piece: pieces.append(piece) or True), []
    for byte in " a🙂EN!".encode():
        tokens.append(byte)
        text.add(tokens)
    text.end(tokens)
    assert "".join(pieces) == "a🙂EN!" == text.sent and "🙂" in pieces and all("\ufffd" not in piece for piece in pieces)
    assert not any(piece.endswith("E") or piece.endswith("EN") for piece in pieces)


def test_conversations_that_the_model_cannot_read_are_refused(sprout):
    writer = Writer(*sprout)
    with pytest.raises(Refused, match="The conversation has .* tokens"):
        writer(asked_for("word " * 600), lambda piece: True)
    with pytest.raises(Refused, match="special token"):
        writer(asked_for("a <|pad|> b"), lambda piece: True)


def test_the_command_serves_a_folder(sprout):
    """As a person would: the command, the address that it prints, one question, Ctrl-C."""
    command = [sys.executable, "-m", "helper.serve", "sprout-instruct", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(6)]
        said = "".join(lines)
        port, token = re.search(r"http://127\.0\.0\.1:(\d+)/#token=([\w-]+)\n", said).groups()
        assert said.count(token) == 2 and "Ctrl-C" in said
        there = type("There", (), {"server_port": int(port), "token": token})
        reply = json.loads(ask(there, body={"messages": [{"role": "user", "content": "What is a photon?"}]})[2])
        assert "light" in reply["choices"][0]["message"]["content"] and reply["model"] == "sprout-instruct"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    with taken:
        for arguments, words in [
            (["sprout-instruct", "--port", str(port)], f"port {port} is taken"),
            (["sprout-instruct", "--port", "70000"], "from 1 to 65535"),
            (["sprout-instruct", "--longest", "0"], "--longest"),
            ([str(tmp_path / "empty"), "--port", "0"], "empty folder"),
            (["sprout-instrukt", "--port", "0"], "sprout-instruct"),
        ]:
            assert serve.main(arguments) == 2
            out, problem = capsys.readouterr()
            assert problem.count("\n") == 1 and words in problem and "Traceback" not in out + problem
