"""A server on this machine that answers as the Hub does, from the folders of `stand_in_repositories.py`.

    python tests/tools/stand_in_hub.py FOLDER      serves FOLDER and prints the address; set HF_ENDPOINT to it

It answers what huggingface_hub, transformers and datasets ask when they load by name: information, trees and paths of a
repository at a revision, files with ETag, commit and ranges, the large ones behind a redirect, and 404 with the Hub's
error code. Read in the pinned libraries' source (huggingface_hub/hf_api.py, file_download.py, utils/_http.py).
Left out on purpose: tokens, uploads, Xet, search, gated repositories; what is not known is a 404 without a code.
"""

import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet")  # kept in LFS on the Hub: an ETag of SHA-256, and a redirect
DATE = "2025-01-01T00:00:00.000Z"
API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info|refs)(?:/([^/]+))?(?:/(.*))?)?")
RESOLVE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class StandInHub:
    """A running server: `address` to set as HF_ENDPOINT, `asked` with what was asked for, `stop()`.

    `with StandInHub(folder) as hub: ...` starts and stops it.
    """

    def __init__(self, folder: Path):
        self.folder, self.asked = folder, []
        handler = type("Handler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.large_address = f"http://localhost:{self.server.server_port}"  # another host, as large files have on the Hub
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "StandInHub":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop answering: whoever asks from now on is refused. May be called twice."""
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join()
        self.server.server_close()

    def revisions(self, kind: str, name: str) -> dict[str, Path]:
        """{branch or commit: folder} of a repository, empty where there is none."""
        root = self.folder / kind / name
        folders = sorted(path for path in root.glob("*") if path.is_dir()) if re.fullmatch(r"[\w./-]+", name) else []
        named = {path.name: path for path in folders}
        return named | {commit_of(path): path for path in folders}


def commit_of(revision: Path) -> str:
    """The 40 hexadecimal digits that name the state of a revision."""
    return hashlib.sha1(str(Path(*revision.parts[-4:])).encode()).hexdigest()


def described(path: Path, root: Path) -> dict:
    """A file or folder as the tree and paths-info give it."""
    name = path.relative_to(root).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0, "path": name}
    content = path.read_bytes()
    entry = {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


class Handler(BaseHTTPRequestHandler):
    """One request; `hub` is the server's StandInHub."""

    hub: StandInHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each small answer waits 40 ms for a word about its headers

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Find what is asked for, and send it."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        if path == "/":
            self.send(200)
        elif match := API.fullmatch(path):
            self.answer_api(*match.groups(), body)
        elif match := RESOLVE.fullmatch(path):
            self.answer_file(*match.groups())
        elif path.startswith("/lfs/") and ".." not in path:
            self.send_content((self.hub.folder / path.removeprefix("/lfs/")).read_bytes())
        else:
            self.send(404)

    def answer_api(self, kind: str, name: str, what: str | None, revision: str | None, inside: str | None, body) -> None:
        root = self.find(kind, name, revision or "main")
        if root is None:
            return
        files = sorted(path for path in root.rglob("*") if path.is_file())
        if what in (None, "revision"):
            siblings = [{"rfilename": path.relative_to(root).as_posix()} for path in files]
            common = {"private": False, "disabled": False, "gated": False, "tags": [], "downloads": 0, "likes": 0}
            dates = {"lastModified": DATE, "createdAt": DATE}
            self.send_json({"id": name, "sha": commit_of(root), "siblings": siblings, **dates, **common})
        elif what == "refs":
            branches = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit_of(folder)}
                for branch, folder in self.hub.revisions(kind, name).items()
                if branch == folder.name
            ]
            self.send_json({"branches": branches, "tags": [], "converts": []})
        elif what == "tree":
            folder = root / (inside or "")
            if not folder.is_dir():
                return self.send_error_code(404, "EntryNotFound", f"{inside} does not exist on {revision!r}")
            recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("true", "1")
            self.send_json([described(path, root) for path in sorted(folder.rglob("*") if recursive else folder.glob("*"))])
        else:  # paths-info: a list of names, missing ones are left out
            form = self.headers.get("Content-Type", "").startswith("application/json")
            wanted = json.loads(body)["paths"] if form else parse_qs(body.decode()).get("paths", [])
            found = [root / path for path in wanted if (root / path).exists()]
            self.send_json([described(path, root) for path in found])

    def answer_file(self, datasets: str | None, name: str, revision: str, inside: str) -> None:
        kind = "datasets" if datasets else "models"
        root = self.find(kind, name, revision)
        if root is None:
            return
        path = root / inside
        headers = {"X-Repo-Commit": commit_of(root)}
        if not path.is_file() or ".." in inside:
            return self.send_error_code(404, "EntryNotFound", "Entry not found", headers)
        content = path.read_bytes()
        if path.suffix not in LARGE:
            return self.send_content(content, headers | {"ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        headers["X-Linked-ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(content))
        headers["Location"] = f"{self.hub.large_address}/lfs/{path.relative_to(self.hub.folder).as_posix()}"
        self.send(302, headers=headers)

    def find(self, kind: str, name: str, revision: str) -> Path | None:
        """The folder of a repository at a revision; where there is none, the Hub's error is sent."""
        known = self.hub.revisions(kind, name)
        if not known:
            self.send_error_code(401, "RepoNotFound", "Repository not found")  # also for a name that nobody took
        elif revision not in known:
            self.send_error_code(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return known.get(revision)

    def send_content(self, content: bytes, headers: dict | None = None) -> None:
        """A file, or the range of it that is asked for."""
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **(headers or {})}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return self.send(200, content, headers)
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return self.send(416, headers={"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self.send(206, content[first : last + 1], headers)

    def send_json(self, content) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def send_error_code(self, status: int, code: str, message: str, headers: dict | None = None) -> None:
        body = json.dumps({"error": message}).encode()
        self.send(status, body, {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})})

    def send(self, status: int, content: bytes = b"", headers: dict | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def main() -> None:
    with StandInHub(Path(sys.argv[1]).resolve()) as hub:
        print(hub.address, flush=True)
        hub.thread.join()


if __name__ == "__main__":
    main()
