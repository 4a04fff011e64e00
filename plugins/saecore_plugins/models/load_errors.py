"""Errors of transformers and the hub while loading a model, as one line with a remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    StrictDataclassError,
)

from saecore.errors import ModelError
from saecore.storage.remote_code import remote_code_allowed


def describe_load_error(name: str, revision: str | None, error: Exception) -> ModelError:
    """The error to raise instead of one from `from_pretrained`.

    Args:
        name: the model's name or directory.
        revision: the requested branch, tag or commit.
        error: what was raised; its causes are examined too.
    """
    causes = list(_chain(error))
    message = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, StrictDataclassError):  # the second line has the value and what is wrong
        message = " ".join(str(error).split())

    def caused_by(*kinds: type[BaseException]) -> bool:
        return any(isinstance(cause, kinds) for cause in causes)

    if not remote_code_allowed() and any("trust_remote_code" in str(cause) for cause in causes):
        return ModelError(
            f"model.name: {name} comes with Python code, which runs only if you allow it: "
            "read it, then add --trust-remote-code to saecore run, cache, evaluate or dashboard "
            "(in Python, trust_remote_code=True)"
        )
    if caused_by(GatedRepoError):
        return ModelError(
            f"model.name: {name} is gated on the hub; accept its terms on its page, then "
            "log in with `hf auth login` or set HF_TOKEN"
        )
    if caused_by(RevisionNotFoundError):
        return ModelError(
            f"model.revision: {name} has no revision {revision!r} on the hub; expected a branch, "
            "tag or commit of it"
        )
    if caused_by(RepositoryNotFoundError):
        return ModelError(
            f"model.name: there is no model {name!r} on the hub, or it is private; check the "
            "spelling, or log in with `hf auth login`"
        )
    if not Path(name).is_dir() and caused_by(
        LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError
    ):
        state = "is disabled (HF_HUB_OFFLINE is set)" if _offline() else "cannot be reached"
        return ModelError(
            f"model.name: {name!r} is neither a local directory nor in the hub's local cache, and "
            f"the hub {state}; give a directory, or run `hf download {name}` with a network"
        )
    if not Path(name).is_dir() and caused_by(HFValidationError):
        return ModelError(
            f"model.name: {name!r} is neither a local directory nor a valid model name on the hub; "
            "check the path"
        )
    if "FlashAttention" in message:
        return ModelError(
            f"model.attention: {name}: {message.rpartition(': ')[2].strip()} Install flash-attn, "
            'or set model.attention = "sdpa"'
        )
    if isinstance(error, ImportError):
        return ModelError(f"model: {name} needs a package that is not installed: {message.strip()}")
    where = "directory" if Path(name).is_dir() else "hub"
    return ModelError(
        f"model.name: {name!r} cannot be loaded from the {where}: {message.strip()} "
        "(expected a causal language model or an encoder in Hugging Face format)"
    )


def missing_weights(name: str, keys: Sequence[str]) -> ModelError:
    """The error for a checkpoint that lacks weights."""
    return ModelError(
        f"model.name: the files of {name} lack {len(keys)} weights such as {keys[0]}; expected "
        "every weight of the model that its config.json describes"
    )


def _offline() -> bool:
    return bool(constants.HF_HUB_OFFLINE)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
