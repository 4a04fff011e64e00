"""Every error that saecore raises on purpose, and the one way to warn.

    SaecoreError
    ├── ConfigError            the experiment
    ├── PluginError            a plugin
    ├── ModelError             the language model
    ├── DataError              text, tokens, recorded activations
    ├── StorageError           a file or directory
    │   └── CheckpointError    a run directory or a checkpoint
    ├── ReleaseError           a saved or published SAE
    │   └── ConflictError      publishing would replace files
    ├── ResourceError          memory
    └── NumericsError          values that are not finite

Each message is one line: the key or file, what was got, what was expected, what to do.
The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence


class SaecoreError(Exception):
    """Base of all errors that a user can act on."""


class ConfigError(SaecoreError):
    """The experiment is invalid: an unknown key, a wrong type, an impossible combination.

    Args:
        problems: one line each, starting with the key.
        label: the file (or call) that the configuration came from, if the raiser knows it;
            otherwise `labeled_errors` fills it in.
    """

    def __init__(self, problems: Sequence[str], label: str | None = None) -> None:
        super().__init__(problems, label)
        self.problems = list(problems)
        self.label = label

    def __str__(self) -> str:
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        return "\n  ".join([f"{self.label or 'experiment'}: {count}", *self.problems])


@contextlib.contextmanager
def labeled_errors(label: str) -> Iterator[None]:
    """Put the name of the file or call into every `ConfigError` that does not have one yet."""
    try:
        yield
    except ConfigError as error:
        if error.label is None:
            error.label = label
        raise


class PluginError(SaecoreError):
    """A plugin is missing, clashes with another one or breaks its contract."""


class ModelError(SaecoreError):
    """The language model cannot be loaded or has no such hook."""


class DataError(SaecoreError):
    """Text, tokens or activations are missing, too short or do not fit the model."""


class StorageError(SaecoreError):
    """A file or directory cannot be written, or another process is using it."""


class CheckpointError(StorageError):
    """A run directory or checkpoint cannot be written or read."""


class ReleaseError(SaecoreError):
    """A saved SAE cannot be read, or its files contradict each other."""


class ConflictError(ReleaseError):
    """Publishing would replace files in the repository, and overwriting was not allowed.

    Args:
        repository: `username/repo-name`.
        names: the files.
    """

    def __init__(self, repository: str, names: Sequence[str]) -> None:
        self.names = list(names)
        some = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        super().__init__(
            f"{repository}: has other content under {len(names)} of these names ({some}); publish "
            "to another repository, or an SAE under another name (--id), or allow replacing it "
            "(--overwrite, overwrite=True)"
        )


class ResourceError(SaecoreError):
    """The experiment needs more memory than this machine has."""


class NumericsError(SaecoreError):
    """A loss, gradient or weight is not finite."""


def warn(message: str) -> None:
    """Print a warning to stderr: one line, for people who run a command."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def nearest(name: str, known: Sequence[str], n: int = 1) -> str:
    """Return `; did you mean "x" or "y"?` for up to `n` known names like `name`, or ""."""
    import difflib

    close = [f'"{match}"' for match in difflib.get_close_matches(name, known, n=n, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
