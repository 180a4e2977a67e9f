"""Chat with a model of yours in the browser, or ask it as programs ask OpenAI's; on this machine only, behind a token.

    python -m helper.serve MODEL [--port 8765]

MODEL is a folder that `model.save_pretrained` has written, or a model of the course ("sprout-instruct").
Left out on purpose: any other address than 127.0.0.1. What the walls are: `helper.serving.server`, `docs/security.md`.
"""

import argparse
import errno
import sys

from helper.models import load_model_and_tokenizer
from helper.row_files import run_command
from helper.serving.server import LIMITS, ChatServer, Limits
from helper.serving.writing import Writer

PORT = 8765


def serve(options: argparse.Namespace) -> int:
    """Load the model, and answer until Ctrl-C."""
    if not 0 <= options.port <= 65535:
        raise ValueError(f"--port {options.port}: give a number from 1 to 65535, or 0 for any free port.")
    if options.longest < 1:
        raise ValueError(f"--longest {options.longest}: give a number of tokens from 1.")
    server = open_server(options.port, None, str(options.name or options.model), Limits(tokens=options.longest))
    with server:  # the port first: it is known in no time whether it is free
        server.writer = Writer(*load_model_and_tokenizer(options.model, options.gpu))
        print(words_about(server), flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("\nStopped.")
    return 0


def open_server(port: int, writer, name: str, limits: Limits = LIMITS) -> ChatServer:
    """The server, which listens and does not answer yet. OSError with what to do where the port cannot be had."""
    try:
        return ChatServer(port, writer, name, limits=limits)
    except OSError as error:
        taken = error.errno in (errno.EADDRINUSE, errno.EACCES)
        words = "is taken by another program, or not allowed: name another one, or --port 0 for any free one"
        raise OSError(f"port {port} {words}." if taken else f"port {port}: {error}") from None


def words_about(server: ChatServer) -> str:
    """What is printed when the server begins; the only place where the token is written."""
    return (
        f"{server.name}, on this machine only. The chat page:\n  {server.address}\n"
        f"For programs: POST http://{server.hosts[0]}/v1/chat/completions, as OpenAI's, with the header\n"
        f"  Authorization: Bearer {server.token}\n"
        "Ctrl-C stops it."
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m helper.serve", description=__doc__.splitlines()[0])
    parser.add_argument("model", help='a folder with a model, or a model of the course such as "sprout-instruct"')
    parser.add_argument("--port", type=int, default=PORT, help=f"{PORT} unless another is given; 0: any free one")
    parser.add_argument("--name", help="what the model is called in replies; else as it is named here")
    parser.add_argument("--longest", type=int, default=512, metavar="TOKENS", help="the most that an answer may have")
    parser.add_argument("--gpu", action="store_true", help="run it on the GPU")
    return run_command(serve, parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
