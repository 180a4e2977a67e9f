"""Where a name may lead: to a place on this machine, or to the Hugging Face Hub if it answers, asked once and briefly."""

import threading
from contextlib import suppress
from pathlib import Path

import huggingface_hub


def places_of(name: str, project: Path) -> list[Path]:
    """Where `name` may be on this machine: as a path from here, and from the project's folder."""
    places = []
    with suppress(RuntimeError):  # "~somebody" of whom there is no home
        places.append(Path(name).expanduser())
    return [*places, project / name]


def hub_is_reachable(seconds: float = 4.0) -> bool:
    """Whether the Hub answers within `seconds`; asked before huggingface_hub starts its long retries."""
    answers = []

    def ask():
        try:
            response = huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=seconds)
            answers.append(response.status_code)
        except Exception:  # no name, no route, no certificate, offline mode: all mean "no"
            pass

    # A thread, because looking a name up can take longer than any timeout of the connection itself.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answers)
