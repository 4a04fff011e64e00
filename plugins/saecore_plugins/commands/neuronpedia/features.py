"""Reading a feature from Neuronpedia's public API: `GET /api/feature/{model}/{source}/{index}`.

Documented at docs.neuronpedia.org/api-and-data/api; no key is needed. Of the answer the keys below
are read, all of them optional, for the API says nothing of which are always there; what else it
holds stays in `raw`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import attrs

from saecore import __version__
from saecore.errors import ReleaseError
from saecore_plugins.commands.neuronpedia.sources import BASE, Source

LARGEST = 2**26
"""Largest answer that is read, in bytes."""


@attrs.frozen
class Explanation:
    """What somebody, or a model, says that a feature stands for."""

    text: str
    model: str | None
    """The model that wrote it; None where a person did, or it is not said."""


@attrs.frozen
class Example:
    """Text on which a feature is active."""

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    """The feature's value at each token."""


@attrs.frozen
class Feature:
    """A feature as Neuronpedia shows it."""

    source: Source
    index: int
    explanations: tuple[Explanation, ...]
    density: float | None
    """Share of the tokens on which it is active."""
    maximum: float | None
    """Its largest value in Neuronpedia's examples."""
    promoted: tuple[tuple[str, float], ...]
    """Tokens whose logits its decoder row raises most, with the change."""
    suppressed: tuple[tuple[str, float], ...]
    """Those that it lowers most."""
    examples: tuple[Example, ...]
    raw: Mapping[str, Any] = attrs.field(repr=False)
    """The whole answer."""


def read_feature(source: Source, index: int, base: str = BASE, timeout: float = 30.0) -> Feature:
    """Ask Neuronpedia for a feature.

    Args:
        source: the SAE.
        index: the feature's.
        base: where Neuronpedia is.
        timeout: seconds to wait for an answer.

    Raises:
        ReleaseError: there is no such feature, or no answer that can be read.
    """
    page, url = source.url(index, base), source.api_url(index, base)
    headers = {"Accept": "application/json", "User-Agent": f"saecore/{__version__}"}
    try:
        with urlopen(Request(url, headers=headers), timeout=timeout) as answer:
            text = answer.read(LARGEST + 1)
    except HTTPError as error:
        raise _refused(error.code, page) from None
    except (URLError, TimeoutError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ReleaseError(f"{url}: cannot be reached: {reason}; check the network") from error
    if len(text) > LARGEST:
        raise ReleaseError(f"{url}: the answer has more than {LARGEST:_} bytes; refused")
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        raise ReleaseError(f"{url}: the answer is not JSON") from None
    if not isinstance(table, dict):  # null where the SAE or the feature is unknown
        raise ReleaseError(f"{page}: there is no such feature")
    return parse(table, source, index)


def _refused(status: int, page: str) -> ReleaseError:
    if status == 404:
        return ReleaseError(f"{page}: there is no such feature")
    again = "wait, or take the exports for many features" if status == 429 else "try again later"
    return ReleaseError(f"{page}: Neuronpedia answers {status}; {again}")


def parse(table: Mapping[str, Any], source: Source, index: int) -> Feature:
    """A feature from the JSON of an answer; values of another type than expected are left out."""
    return Feature(
        source,
        index,
        tuple(
            Explanation(one["description"], _text(one.get("explanationModelName")))
            for one in _tables(table.get("explanations"))
            if _text(one.get("description"))
        ),
        _number(table.get("frac_nonzero")),
        _number(table.get("maxActApprox")),
        _pairs(table.get("pos_str"), table.get("pos_values")),
        _pairs(table.get("neg_str"), table.get("neg_values")),
        tuple(
            Example(tuple(map(str, one["tokens"])), tuple(_number(v) or 0.0 for v in one["values"]))
            for one in _tables(table.get("activations"))
            if isinstance(one.get("tokens"), list)
            and isinstance(one.get("values"), list)
            and len(one["tokens"]) == len(one["values"])
        ),
        dict(table),
    )


def _tables(value: object) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


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
