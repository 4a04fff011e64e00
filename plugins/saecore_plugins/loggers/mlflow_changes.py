"""What an MLflow run has otherwise than the run itself: renamed, cut and left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saecore_plugins.loggers.mlflow_names import accepted_key, accepted_text, quoted, reason


class Changes:
    """Turns names and values into those that MLflow accepts, and notes what it changed."""

    def __init__(self) -> None:
        self._renamed: dict[str, str] = {}
        self._cut: dict[str, None] = {}
        self._left_out: dict[str, str] = {}

    def key(self, name: str) -> str:
        """Return the name of a parameter, metric or tag in MLflow."""
        # A table of an array, logger[0], has no spelling with brackets in MLflow.
        plain = name.replace("[", ".").replace("]", "")
        key = accepted_key(plain)
        if key != plain:
            self._renamed[name] = key
        return key

    def text(self, name: str, value: Any, longest: int) -> str:
        """Return the value of a parameter or tag, at most `longest` characters."""
        text = accepted_text(value, longest)
        if text != str(value):
            self._cut[name] = None
        return text

    def leave_out(self, name: str, error: Exception) -> None:
        """Note that something could not be sent."""
        self._left_out[name] = reason(error)

    def phrases(self) -> list[str]:
        """Say what was renamed, changed and left out, in one phrase each."""
        phrases = []
        if self._renamed:
            names = [f"{quoted(name)} is {quoted(key)}" for name, key in self._renamed.items()]
            phrases.append(f"names that MLflow refuses were changed: {_some(names)}")
        if self._cut:
            names = [quoted(name) for name in self._cut]
            phrases.append(f"values that MLflow refuses were changed: {_some(names)}")
        if self._left_out:
            names = [f"{quoted(name)} ({why})" for name, why in self._left_out.items()]
            phrases.append(f"left out: {_some(names)}")
        return phrases


def _some(names: Sequence[str]) -> str:
    """The first three names, and how many there are besides."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
