"""The server: on this machine only, behind a token, one answer at a time, with limits; whatever is wrong is clear JSON.

    GET  /                       the chat page; it holds nothing secret, and asks for the token where its address has none
    GET  /v1/models              the one model                                    } both want the header
    POST /v1/chat/completions    an answer, or with "stream": true its pieces     } Authorization: Bearer TOKEN

A browser takes part in every visit to this address, so three walls stand beside the token. The Host header must be this
address: a page elsewhere whose name was made to point here (DNS rebinding) sends its own name. An Origin header must be this
address's too, and no header lets another page read an answer (no CORS). A body must say that it is JSON, which a page
elsewhere cannot send unasked.
Left out on purpose: TLS (nothing leaves the machine), keep-alive, chunked bodies.
"""

import hmac
import json
import os
import secrets
import socketserver
import sys
import threading
import time
import traceback
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from helper.serving.chat_page import PAGE, PAGE_POLICY
from helper.serving.chat_requests import Refused, read_request
from helper.serving.replies import chunk_reply, completion_reply, error_reply, models_reply

HERE = "127.0.0.1"
ALWAYS = {  # headers of every reply
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
DRAINED = 2**20  # bytes of a refused body that are still read, so that the client gets to see why


class Limits(NamedTuple):
    """`body`: bytes of a request; `tokens`: of an answer; `wait`: seconds for the answer before; `visits`: at a time;
    `silence`: seconds in which a client has to send something."""

    body: int = 256 * 1024
    tokens: int = 512
    wait: float = 20.0
    visits: int = 16
    silence: float = 20.0


LIMITS = Limits()


class ChatServer(ThreadingHTTPServer):
    """Serves `writer(request, on_text) -> Written` under `name`. `port` 0: any free one; `server_port` says which.

    `token` None: a new one of 256 bits. Raises OSError where the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share the port with another server
    request_queue_size = 16

    def __init__(self, port: int, writer, name: str, token: str | None = None, limits: Limits = LIMITS):
        self.writer, self.name, self.limits = writer, name, limits
        self.token, self.started = token or secrets.token_urlsafe(32), int(time.time())
        self.writing, self.places = threading.Lock(), threading.BoundedSemaphore(limits.visits)
        super().__init__((HERE, port), Handler)

    def server_bind(self) -> None:
        """As HTTPServer's, which asks the network for the machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def hosts(self) -> tuple[str, str]:
        """What the Host header may be."""
        return f"{HERE}:{self.server_port}", f"localhost:{self.server_port}"

    @property
    def address(self) -> str:
        """Where the page is. The token stands behind #: a browser keeps that to itself."""
        return f"http://{self.hosts[0]}/#token={self.token}"

    def process_request(self, request, client_address) -> None:
        """Hand the visit to a thread, or hang up where all places are taken."""
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request, client_address) -> None:
        """Nothing is said of a client that went away; else where the fault is, without what was asked."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """One request: the walls, then its place."""

    server: ChatServer
    server_version, sys_version = "course", ""

    def setup(self) -> None:
        self.timeout = self.server.limits.silence
        self.unread = 0  # bytes of the body that the client still sends
        super().setup()

    def do_GET(self) -> None:
        self._answer({"/": self._page, "/v1/models": self._models}, {"/v1/chat/completions": "POST"})

    def do_POST(self) -> None:
        self._answer({"/v1/chat/completions": self._chat}, {"/": "GET", "/v1/models": "GET"})

    def _answer(self, places: dict, elsewhere: dict) -> None:
        """Do what is asked, or say why not."""
        try:
            self._measure_body()
            self._check_host()
            path = self.path.split("?")[0]
            if path in elsewhere:
                raise Refused(405, f"{path} wants {elsewhere[path]}.", headers={"Allow": elsewhere[path]})
            if path not in places:
                raise Refused(404, "There is nothing here: /v1/chat/completions, /v1/models, or / for the page.")
            if path != "/":
                self._check_token()
            places[path]()
        except Refused as refused:
            self._refuse(refused)
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        except Exception:  # a fault of ours: its words may hold what was asked, so they stay here
            traceback.print_exc()
            self._refuse(Refused(500, "The server failed at this; its terminal says where."))

    def _measure_body(self) -> None:
        if "Transfer-Encoding" in self.headers:
            raise Refused(411, "Send the body whole, with its Content-Length.")
        lengths = self.headers.get_all("Content-Length", [])
        if len(lengths) > 1 or not all(length.isascii() and length.isdigit() and len(length) < 16 for length in lengths):
            raise Refused(400, "Content-Length is no number of bytes.")
        self.unread = int(lengths[0]) if lengths else 0

    def _check_host(self) -> None:
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            raise Refused(403, f"This server answers under {' and '.join(self.server.hosts)} only.")
        if any(origin.lower() not in {f"http://{host}" for host in self.server.hosts} for origin in origins):
            raise Refused(403, "A page from elsewhere may not ask this server.")

    def _check_token(self) -> None:
        given = self.headers.get_all("Authorization", [])
        kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        same = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self.server.token.encode())
        if not same or kind.lower() != "bearer":
            words = "The token is missing or wrong: send the header Authorization: Bearer TOKEN, with the one that the "
            raise Refused(401, words + "server printed when it began.", headers={"WWW-Authenticate": "Bearer"})

    def _body(self) -> bytes:
        kind = self.headers.get_content_type() if "Content-Type" in self.headers else ""
        if kind != "application/json":
            raise Refused(415, "Send JSON, with the header Content-Type: application/json.")
        if self.unread > self.server.limits.body:
            raise Refused(413, f"The body has {self.unread:,} bytes, and {self.server.limits.body:,} are the most.")
        if "Content-Length" not in self.headers:
            raise Refused(411, "Send the body with its Content-Length.")
        length, self.unread = self.unread, 0
        body = self.rfile.read(length)
        if len(body) < length:
            raise ConnectionError("the client went away")
        return body

    # The places

    def _page(self) -> None:
        self._send(200, PAGE, "text/html; charset=utf-8", {"Content-Security-Policy": PAGE_POLICY})

    def _models(self) -> None:
        self._send_json(200, models_reply(self.server.name, self.server.started))

    def _chat(self) -> None:
        request = read_request(self._body(), self.server.limits.tokens)
        if not self.server.writing.acquire(timeout=self.server.limits.wait):
            raise Refused(429, "The model is writing another answer: ask again in a moment.", headers={"Retry-After": "5"})
        try:
            head = (f"chatcmpl-{secrets.token_hex(12)}", self.server.name, int(time.time()))
            if request.stream:
                self._stream(request, head)
            else:
                written = self.server.writer(request, lambda piece: True)
                self._send_json(200, completion_reply(*head, written))
        finally:
            self.server.writing.release()

    def _stream(self, request, head: tuple) -> None:
        """The pieces as server-sent events; the headers go with the first, so that a refusal can still be one."""
        begun = False

        def send(delta: dict, reason: str | None = None) -> None:
            nonlocal begun
            if not begun:
                begun = True
                self._send_head(200, "text/event-stream; charset=utf-8", {})
                self._event(chunk_reply(*head, {"role": "assistant", "content": ""}))
            self._event(chunk_reply(*head, delta, reason))

        def on_text(piece: str) -> bool:
            with suppress(ConnectionError, TimeoutError):
                send({"content": piece})
                return True
            return False  # nobody listens any more

        try:
            written = self.server.writer(request, on_text)
            send({}, written.reason)
            self.wfile.write(b"data: [DONE]\n\n")
        except Exception as error:
            if not begun or isinstance(error, ConnectionError | TimeoutError):
                raise
            traceback.print_exc()  # of a fault in mid-stream the client is told in the stream
            self._event(error_reply(Refused(500, "The server failed at this; its terminal says where.")))

    # Sending

    def _event(self, value: dict) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def _send_json(self, status: int, value: dict, headers: dict | None = None) -> None:
        self._send(status, json.dumps(value).encode(), "application/json", headers or {})

    def _send(self, status: int, content: bytes, kind: str, headers: dict) -> None:
        self._send_head(status, kind, {**headers, "Content-Length": str(len(content))})
        self.wfile.write(content)

    def _send_head(self, status: int, kind: str, headers: dict) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **ALWAYS, **headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, refused: Refused) -> None:
        self.close_connection = True
        with suppress(ConnectionError, TimeoutError):
            self._drain()
            self._send_json(refused.status, error_reply(refused), refused.headers)

    def _drain(self) -> None:
        """Read the rest of a body of moderate size: closing on unread bytes would take the reply away from the client."""
        left = min(self.unread, DRAINED)
        while left and (part := self.rfile.read(min(left, 65536))):
            left -= len(part)

    def send_error(self, code, message=None, explain=None) -> None:
        """What the library finds wrong before it comes to us: a method or a line that it does not know."""
        self._refuse(Refused(code, f"{message or 'This is no request that can be read'}."))

    def log_message(self, *args) -> None:
        """Nothing: what is asked stays between the client and the model."""
