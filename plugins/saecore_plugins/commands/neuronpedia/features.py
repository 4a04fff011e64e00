"""Read a feature from Neuronpedia's public API: `GET /api/feature/{model}/{source}/{index}`.

Documented at docs.neuronpedia.org/api-and-data/api; no API key is needed. All keys are treated as
optional, because the documentation does not say which are always present. The complete response is
in `raw`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import attrs

from saecore._version import __version__
from saecore.errors import ReleaseError
from saecore_plugins.commands.neuronpedia.sources import BASE, Source

LARGEST = 2**26
"""Largest response, in bytes."""


@attrs.frozen
class Explanation:
    """An explanation of a feature, by a person or a model."""

    text: str
    model: str | None
    """The model that wrote it; None for a person, or if unknown."""


@attrs.frozen
class Example:
    """Text on which a feature is active."""

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    """The feature's value at each token."""


@attrs.frozen(kw_only=True)
class Feature:
    """A feature on Neuronpedia."""

    source: Source
    index: int
    explanations: tuple[Explanation, ...]
    density: float | None
    """Fraction of tokens on which it is active."""
    maximum: float | None
    """Its largest value in Neuronpedia's examples."""
    promoted: tuple[tuple[str, float], ...]
    """Tokens whose logits its decoder row increases most, with the change."""
    suppressed: tuple[tuple[str, float], ...]
    """Tokens whose logits it decreases most, with the change."""
    examples: tuple[Example, ...]
    raw: Mapping[str, Any] = attrs.field(repr=False)
    """The complete response."""


def read_feature(source: Source, index: int, base: str = BASE, timeout: float = 30.0) -> Feature:
    """Read a feature from Neuronpedia.

    Args:
        source: the SAE.
        index: index of the feature.
        base: Neuronpedia's URL.
        timeout: timeout in seconds.

    Raises:
        ReleaseError: the feature does not exist, or there is no readable response.
    """
    page, url = source.url(index, base), source.api_url(index, base)
    headers = {"Accept": "application/json", "User-Agent": f"saecore/{__version__}"}
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout) as response:
            text = response.read(LARGEST + 1)
    except HTTPError as error:
        raise _refused(error.code, page) from None
    except (URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ReleaseError(f"{url}: cannot be reached: {reason}; check the network") from error
    if len(text) > LARGEST:
        raise ReleaseError(f"{url}: the response has more than {LARGEST:_} bytes; refused")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise ReleaseError(f"{url}: the response is not JSON") from None
    if not isinstance(table, dict):  # null where the SAE or the feature is unknown
        raise ReleaseError(f"{page}: no such feature")
    return parse(table, source, index)


def _refused(status: int, page: str) -> ReleaseError:
    if status == 404:
        return ReleaseError(f"{page}: no such feature")
    advice = "wait, or use the exports for many features" if status == 429 else "try again later"
    return ReleaseError(f"{page}: Neuronpedia returned {status}; {advice}")


def parse(table: Mapping[str, Any], source: Source, index: int) -> Feature:
    """Parse the JSON of a response; values of unexpected types are ignored."""
    return Feature(
        source=source,
        index=index,
        explanations=tuple(
            Explanation(row["description"], _text(row.get("explanationModelName")))
            for row in _tables(table.get("explanations"))
            if _text(row.get("description"))
        ),
        density=_number(table.get("frac_nonzero")),
        maximum=_number(table.get("maxActApprox")),
        promoted=_pairs(table.get("pos_str"), table.get("pos_values")),
        suppressed=_pairs(table.get("neg_str"), table.get("neg_values")),
        examples=tuple(
            Example(tuple(map(str, row["tokens"])), tuple(_number(v) or 0.0 for v in row["values"]))
            for row in _tables(table.get("activations"))
            if isinstance(row.get("tokens"), list)
            and isinstance(row.get("values"), list)
            and len(row["tokens"]) == len(row["values"])
        ),
        raw=dict(table),
    )


def _tables(value: object) -> Sequence[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _pairs(tokens: object, values: object) -> tuple[tuple[str, float], ...]:
    if not isinstance(tokens, list) or not isinstance(values, list):
        return ()
    pairs = ((str(token), _number(value)) for token, value in zip(tokens, values, strict=False))
    return tuple((token, value) for token, value in pairs if value is not None)
