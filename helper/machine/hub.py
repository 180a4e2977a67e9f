"""Whether the Hugging Face Hub answers, asked once and briefly."""

import threading

import huggingface_hub


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
