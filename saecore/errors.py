"""Every error that saecore raises on purpose.

Each message is one line: the key or file, what was got, what was expected, what to do.
The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Sequence


class SaecoreError(Exception):
    """Base of all errors that a user can act on."""


class ConfigError(SaecoreError):
    """The experiment is wrong: an unknown key, a wrong type, an impossible combination.

    Args:
        source: the file (or other origin) the configuration came from.
        problems: one line each, starting with the key.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n  ".join([f"{source}: {count}", *self.problems]))


class PluginError(SaecoreError):
    """A plugin is missing, clashes with another one or does not keep its contract."""


class ModelError(SaecoreError):
    """The language model cannot be loaded or has no such hook."""


class DataError(SaecoreError):
    """The text or the tokens are missing, too short or do not fit the model."""


class CheckpointError(SaecoreError):
    """A run directory or checkpoint cannot be written or read."""


class ReleaseError(SaecoreError):
    """A saved SAE cannot be read, or its files contradict each other."""


class ResourceError(SaecoreError):
    """The experiment needs more memory than this machine has."""


class NumericsError(SaecoreError):
    """A loss, gradient or weight is not finite."""


def nearest(name: str, known: Sequence[str], n: int = 1) -> str:
    """Return `; did you mean "x" or "y"?` for up to `n` known names like `name`, or ""."""
    import difflib

    close = [f'"{one}"' for one in difflib.get_close_matches(name, known, n=n, cutoff=0.5)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
