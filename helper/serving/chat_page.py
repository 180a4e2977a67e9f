"""The chat page: one file of HTML with its style and script, and the policy that lets these two run and nothing else."""

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path

PAGE = (Path(__file__).parent / "chat.html").read_bytes()


def _hash(tag: str) -> str:
    """The hash by which a content policy names what stands in the page's one <tag>."""
    inside = re.search(rf"<{tag}>(.*?)</{tag}>", PAGE.decode("utf-8"), re.DOTALL)[1]
    return f"'sha256-{b64encode(sha256(inside.encode()).digest()).decode()}'"


PAGE_POLICY = "; ".join(
    [
        "default-src 'none'", f"script-src {_hash('script')}", f"style-src {_hash('style')}", "connect-src 'self'",
        "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    ]
)  # fmt: skip
