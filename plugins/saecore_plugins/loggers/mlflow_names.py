"""Names, values and errors of MLflow: what it accepts, and what it refuses."""

from __future__ import annotations

import hashlib
import json
import re
import time
from urllib.parse import urlsplit

LONGEST_KEY = 250
"""Most characters of the name of a parameter, metric or tag."""
LONGEST_EXPERIMENT = 500
"""Most characters of the name of an experiment."""
LONGEST_DIRECTORY = 200
"""Most bytes of the name of a directory; file systems take 255."""
LONGEST_PARAMETER = 6000
"""Most characters of the value of a parameter."""
LONGEST_TAG = 5000
"""Most characters of the value of a tag that older servers accept."""
REFUSED = (400, 409, 413, 422)
"""HTTP statuses of an item that no retry gets in; others speak of the server."""
PROBE_SECONDS = 30.0
"""Seconds to wait for a server's first answer."""
PROBE_WAITS = (0.0, 1.0, 4.0)
"""Seconds to wait before each try: a server may be starting."""


def accepted_key(name: str) -> str:
    """Return the name of a parameter, metric or tag as MLflow accepts it.

    MLflow accepts letters, digits, spaces and `_-./:` in names that are normalized paths. A name
    that has to change gets a hash of the original, so that two names never become one, and a
    resumed run finds the names of its earlier processes.
    """
    parts = [part for part in re.sub(r"[^/\w.\- :]", "_", name).split("/") if part]
    parts = [part.replace(".", "_") if not part.strip(".") else part for part in parts]
    key = re.sub(r"^\.\.", "__", "/".join(parts)) or "_"
    return key if key == name and len(key) <= LONGEST_KEY else _marked(key, name, LONGEST_KEY)


def accepted_experiment(name: str) -> str:
    """Return the name of an experiment as MLflow accepts it."""
    text = re.sub(r"[\x00-\x1f\x7f]", "_", accepted_text(name, len(name)))
    if text == name and len(text) <= LONGEST_EXPERIMENT and text.strip():
        return text
    return _marked(text.strip() or "_", name, LONGEST_EXPERIMENT)


def artifact_directory(experiment: str) -> str:
    """Return the directory of an experiment's artifacts, below that of all of them."""
    key = accepted_key(experiment)
    if len(key.encode()) <= LONGEST_DIRECTORY:
        return key
    return _marked(key.replace("/", "_"), experiment, LONGEST_DIRECTORY // 4)


def accepted_text(value: object, longest: int = LONGEST_TAG) -> str:
    """Return the value of a parameter or tag as databases accept it; too long a text is cut."""
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _marked(text: str, name: str, longest: int) -> str:
    """Cut a text and append a hash of the name that it stands for."""
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{text[: longest - 7].rstrip()}-{mark}"


def quoted(name: str) -> str:
    """Quote a name for a message: on one line, printable, not too long."""
    text = name if len(name) <= 60 else f"{name[:59]}…"
    return json.dumps(text, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()


def is_refused(error: Exception) -> bool:
    """Whether the store refuses what was sent, rather than being out of order itself."""
    if isinstance(error, UnicodeError):
        return True
    status = getattr(error, "get_http_status_code", None)
    return status is not None and status() in REFUSED


def reason(error: BaseException) -> str:
    """Return one line about an error: that of the operating system if one is behind it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            named = f": {cause.filename}" if cause.filename else ""
            return f"{cause.strerror}{named}"
        # urllib3's errors hold their cause in `reason`.
        inner = getattr(cause, "reason", None)
        if not isinstance(inner, BaseException):
            inner = cause.__cause__ or cause.__context__
        cause = inner
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def address(uri: str) -> str:
    """Return a store's URI without user name and password."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else uri


def is_server(uri: str) -> bool:
    """Whether a store is an MLflow server, which shows its runs itself."""
    return urlsplit(uri).scheme in ("http", "https")


def unreachable(uri: str) -> str | None:
    """Ask a server for any answer; return why there is none, None if it answers or is no server.

    MLflow itself tries for minutes before it says that a server is dead.
    """
    if not is_server(uri):
        return None
    dead = None
    for wait in PROBE_WAITS:
        time.sleep(wait)
        dead = probe(uri, PROBE_SECONDS)
        if dead is None:
            break
    return dead


def probe(uri: str, seconds: float) -> str | None:
    """Ask a server once; return why it does not answer, None if it does."""
    import requests

    try:
        requests.get(uri, timeout=seconds, allow_redirects=False, stream=True).close()
    except requests.exceptions.SSLError:
        return None  # it answers; MLflow knows the settings of certificates
    except requests.exceptions.Timeout:
        return f"no answer within {seconds:.0f} s"
    except requests.exceptions.RequestException as error:
        inner = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
        return reason(inner)
    return None
