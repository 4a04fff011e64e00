"""Turn exceptions of the hub's client into one-line errors."""

from __future__ import annotations

from collections.abc import Iterable

from saecore.errors import ReleaseError, nearest

BUSY = (429, 500, 502, 503, 504)
"""HTTP status codes that are worth a retry."""

REFUSED_TOKEN = "Invalid credentials in Authorization header"
"""The hub's message about an unknown token."""


def describe_hub_error(
    error: Exception, what: str, revision: str | None, known: Iterable[str] = ()
) -> ReleaseError:
    """Describe a failed download; the request, and with it the token, is left out.

    Args:
        error: the client's exception.
        what: `username/repo-name`, or a file in it.
        revision: the requested branch, tag or commit.
        known: names of repositories to suggest if this one does not exist.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    name = "/".join(what.split("/")[:2])
    page = f"{constants.ENDPOINT}/{name}"
    status = _status(error) or _status(error.__cause__)
    if isinstance(error, hub.GatedRepoError):
        return ReleaseError(
            f"{what}: its authors grant access on request; request it at {page}, then log in here "
            "with `hf auth login` (or set HF_TOKEN)"
        )
    if isinstance(error, hub.RevisionNotFoundError):
        return ReleaseError(
            f"{name}: no revision {revision!r}; expected a branch, a tag or a commit ({page})"
        )
    if _message(error) == REFUSED_TOKEN:
        return ReleaseError(
            f"{what}: the hub does not accept this machine's token; log in again with "
            "`hf auth login`, or correct HF_TOKEN"
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return ReleaseError(
            f"{name}: the hub has no such repository{nearest(name, sorted(known))}; if it is "
            "private, log in with `hf auth login` (or set HF_TOKEN)"
        )
    if isinstance(error, hub.HFValidationError):
        return ReleaseError(f"{name}: not a valid repository name; expected username/repo-name")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return ReleaseError(f"{what}: the download ended early; try again")
    if isinstance(error, OSError) and error.errno is not None:
        return ReleaseError(
            f"{what}: cannot be written to the cache {constants.HF_HUB_CACHE}: {error.strerror}; "
            "free some space, or set HF_HUB_CACHE"
        )
    if is_unreachable(error):
        return ReleaseError(
            f"{what}: {constants.ENDPOINT} cannot be reached; check the network, and HF_ENDPOINT "
            "if it is set"
        )
    if status == 403:
        return ReleaseError(f"{what}: this machine's token has no access (403); see {page}")
    if status is not None:
        advice = "try again later" if status in BUSY else f"see {page}"
        return ReleaseError(f"{what}: the hub returned {status}; {advice}")
    return ReleaseError(f"{what}: cannot be read from the hub: {type(error).__name__}")


def not_written(error: Exception, name: str, revision: str | None) -> ReleaseError:
    """Describe a failed upload; the token is left out.

    Args:
        error: the client's exception.
        name: `username/repo-name`.
        revision: the branch.
    """
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    status, owner = _status(error) or _status(error.__cause__), name.partition("/")[0]
    if isinstance(error, hub.OfflineModeIsEnabled):
        return ReleaseError(f"{name}: HF_HUB_OFFLINE is set, so nothing is published; unset it")
    if _message(error) == REFUSED_TOKEN:
        return ReleaseError(
            f"{name}: the hub does not accept this token; create one with write access at "
            f"{constants.ENDPOINT}/settings/tokens, and log in with `hf auth login`"
        )
    if status == 401:
        return ReleaseError(
            f"{name}: publishing needs a login; run `hf auth login` (or set HF_TOKEN) with a token "
            "that has write access"
        )
    if status == 403 and not isinstance(error, hub.GatedRepoError):
        return ReleaseError(
            f"{name}: this token has no write access; use one with write permission for {owner} "
            f"({constants.ENDPOINT}/settings/tokens)"
        )
    if status in (409, 412):
        return ReleaseError(
            f"{name}: another commit was made at the same time; nothing was published, try again"
        )
    return describe_hub_error(error, name, revision)


def is_transient(error: Exception) -> bool:
    """Whether a retry may help: the hub was busy.

    After retries of its own, the client raises another error with this one as its cause; that one
    is not transient.
    """
    return _status(error) in BUSY


def is_unreachable(error: Exception) -> bool:
    """Whether the hub did not respond: no network, no such host, or a timeout."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    cause: BaseException | None = error
    while cause is not None:
        # By name: the client has changed its HTTP library before.
        names = {cls.__name__ for cls in type(cause).__mro__}
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
