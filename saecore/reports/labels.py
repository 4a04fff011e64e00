"""Labels of runs and rows: their names, and the settings that tell equal names apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_SETTINGS = 3
"""Settings that a label shows in full; of more, it shows the fewest that tell the runs apart."""
LONGEST_VALUE = 32
"""Most characters of a value in a label; of a longer one, such as a path, it shows the end."""


def labels(
    names: Sequence[str], settings: Sequence[Mapping[str, Any]], ids: Sequence[str]
) -> list[str]:
    """Label each of some runs.

    A unique name is the label. Runs that share a name are told apart by the settings in which they
    differ, as in `topk k=32 seed=1`, and runs with equal settings by their ids.

    Args:
        names: the name of each run.
        settings: the settings of each, by TOML key.
        ids: what tells runs with equal settings apart.
    """
    result = list(names)
    for name in dict.fromkeys(names):
        group = [i for i, other in enumerate(names) if other == name]
        if len(group) > 1:
            parts = _parts([settings[i] for i in group])
            for i, part in zip(group, parts, strict=True):
                result[i] = f"{name} {part}".rstrip()
    return [
        f"{label}/{run_id}" if result.count(label) > 1 else label
        for label, run_id in zip(result, ids, strict=True)
    ]


def _parts(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings that tell some runs apart, formatted for each of them."""
    keys = dict.fromkeys(key for table in settings for key in table)
    differing = [key for key in keys if _kinds(settings, [key]) > 1]
    # A setting that some runs lack, and that has one value in the others, adds little.
    varied = [key for key in differing
              if len({repr(table[key]) for table in settings if table.get(key) is not None}) > 1
              ]  # fmt: skip
    if _kinds(settings, varied) == _kinds(settings, differing):
        differing = varied
    shown = differing if len(differing) <= MOST_SETTINGS else _telling(settings, differing)
    return [
        " ".join(_part(key, table[key], shown) for key in shown if table.get(key) is not None)
        for table in settings
    ]


def _telling(settings: Sequence[Mapping[str, Any]], differing: Sequence[str]) -> list[str]:
    """A few keys that tell as many runs apart as all of them do: the architecture, then greedily
    the key that separates most.
    """
    shown = [key for key in differing if key == "sae.architecture"]
    while _kinds(settings, shown) < _kinds(settings, differing):
        shown.append(max(differing, key=lambda key: _kinds(settings, [*shown, key])))
    return shown


def _kinds(settings: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> int:
    """How many combinations of values some keys have."""
    return len({tuple(repr(table.get(key)) for key in keys) for table in settings})


def _part(key: str, value: Any, shown: Sequence[str]) -> str:
    """One setting of a label: `k=32`, `topk`, `dead_latents=auxk`."""
    *tables, last = key.split(".")
    if last == "architecture":
        return _text(value)
    if last == "type" and tables:
        last = tables.pop()
    if sum(other.split(".")[-1] == last for other in shown) > 1 and tables:
        last = f"{tables[-1]}.{last}"
    return f"{last}={_text(value)}"


def _text(value: Any) -> str:
    """A value as in TOML, the end of a long one."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= LONGEST_VALUE else f"…{text[1 - LONGEST_VALUE :]}"
