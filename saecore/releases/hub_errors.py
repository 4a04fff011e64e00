"""What the hub's client raises, as one line for people."""

from __future__ import annotations

from saecore.errors import ReleaseError, nearest
from saecore.releases import catalogue

BUSY = (429, 500, 502, 503, 504)
"""Answers after which it is worth asking again."""

REFUSED_TOKEN = "Invalid credentials in Authorization header"
"""What the hub says of a token that it does not know."""


def explained(error: Exception, what: str, revision: str | None) -> ReleaseError:
    """The error to raise instead; nothing of the request is in it, so no token is.

    Args:
        error: what the client raised.
        what: `username/repo-name`, or a file in it.
        revision: the branch, tag or commit that was asked for.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    name = "/".join(what.split("/")[:2])
    page = f"{constants.ENDPOINT}/{name}"
    status = _status(error) or _status(error.__cause__)
    if isinstance(error, hub.GatedRepoError):
        return ReleaseError(
            f"{what}: its authors give access on request; ask for it at {page}, then log in here "
            "with `hf auth login` (or set HF_TOKEN)"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return ReleaseError(
            f"{name}: no revision {revision!r}; expected a branch, a tag or a commit ({page})"
        )
    if _message(error) == REFUSED_TOKEN:
        return ReleaseError(
            f"{what}: the hub does not accept the token of this machine; log in again with "
            "`hf auth login`, or correct HF_TOKEN"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        known = sorted({one.repository for one in catalogue.everything()})
        return ReleaseError(
            f"{name}: the hub has no such repository{nearest(name, known)}; if it is a private "
            "one, log in with `hf auth login` (or set HF_TOKEN)"
        )
    if isinstance(error, hub.HFValidationError):
        return ReleaseError(f"{name}: not the name of a repository; expected username/repo-name")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return ReleaseError(f"{what}: the download ended early; try again")
    if isinstance(error, OSError) and error.errno is not None:
        return ReleaseError(
            f"{what}: cannot be written to the cache {constants.HF_HUB_CACHE}: {error.strerror}; "
            "make room there, or set HF_HUB_CACHE"
        )
    if is_unreachable(error):
        return ReleaseError(
            f"{what}: {constants.ENDPOINT} cannot be reached; check the network, and HF_ENDPOINT "
            "if it is set"
        )
    if status == 403:
        return ReleaseError(f"{what}: the hub forbids it to this machine's token (403); see {page}")
    if status is not None:
        again = "try again later" if status in BUSY else f"see {page}"
        return ReleaseError(f"{what}: the hub answers {status}; {again}")
    return ReleaseError(f"{what}: cannot be read from the hub: {type(error).__name__}")


def not_written(error: Exception, name: str, revision: str | None) -> ReleaseError:
    """The error to raise instead where something is published; no token is in it either.

    Args:
        error: what the client raised.
        name: `username/repo-name`.
        revision: the branch that is written to.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    status, owner = _status(error) or _status(error.__cause__), name.partition("/")[0]
    if isinstance(error, hub.OfflineModeIsEnabled):
        return ReleaseError(f"{name}: HF_HUB_OFFLINE is set, so nothing is published; unset it")
    if _message(error) == REFUSED_TOKEN:
        return ReleaseError(
            f"{name}: the hub does not accept this token; make a new one that may write at "
            f"{constants.ENDPOINT}/settings/tokens, and log in with `hf auth login`"
        )
    if status == 401:
        return ReleaseError(
            f"{name}: only known users publish; log in with `hf auth login` (or set HF_TOKEN) with "
            "a token that may write"
        )
    if status == 403 and not isinstance(error, hub.GatedRepoError):
        return ReleaseError(
            f"{name}: this token may not write there; use one with write permission for {owner} "
            f"({constants.ENDPOINT}/settings/tokens)"
        )
    if status in (409, 412):
        return ReleaseError(
            f"{name}: somebody else has written to it meanwhile; nothing was published, try again"
        )
    return explained(error, name, revision)


def is_transient(error: Exception) -> bool:
    """Whether the hub was busy; where the client has asked several times already, it says so by
    another error, whose cause this is.
    """
    return _status(error) in BUSY


def is_unreachable(error: Exception) -> bool:
    """Whether no answer came: no network, no such host, or none in time."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    cause: BaseException | None = error
    while cause is not None:
        # By name: the client has changed its HTTP library before.
        names = {one.__name__ for one in type(cause).__mro__}
        if "TransportError" in names or isinstance(cause, ConnectionError | TimeoutError):
            return not isinstance(cause, OfflineModeIsEnabled)
        cause = cause.__cause__
    return False


def _status(error: BaseException | None) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _message(error: Exception) -> str | None:
    headers = getattr(getattr(error, "response", None), "headers", {})
    message = headers.get("X-Error-Message")
    return message if isinstance(message, str) else None
