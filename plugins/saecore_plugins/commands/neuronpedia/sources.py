"""Neuronpedia's names of SAEs and features, and their URLs.

An SAE is a source, `model/layer-set` (gpt2-small/8-res-jb); a feature is `model/layer-set/index`.
URLs follow Neuronpedia's documentation (features, embedding) and, for quick lists, SAELens 6.54.12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import attrs

from saecore.errors import ReleaseError

if TYPE_CHECKING:
    from saecore.core.sae import SAE
    from saecore.releases.load import Loaded

BASE = "https://neuronpedia.org"
"""The public site; self-hosted copies have other URLs."""

KEY = "neuronpedia_id"
"""The metadata key of an SAE's source."""


@attrs.frozen
class Source:
    """An SAE on Neuronpedia."""

    model: str
    """The language model's name on Neuronpedia, such as gpt2-small."""
    name: str
    """Layer and set, such as 8-res-jb."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parse `model/layer-set`.

        Raises:
            ReleaseError: `text` has another form.
        """
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)/(\w+-[\w.-]+)", text, re.ASCII)
        if match is None:
            raise ReleaseError(
                f"{text}: not a Neuronpedia source; expected MODEL/LAYER-SET, such as "
                "gpt2-small/8-res-jb"
            )
        return cls(match[1], match[2])

    def __str__(self) -> str:
        return f"{self.model}/{self.name}"

    @property
    def layer(self) -> int | None:
        """The layer; None for embeddings."""
        layer = self.name.partition("-")[0]
        return int(layer) if layer.isdigit() else None

    @property
    def set(self) -> str:
        """The set of SAEs it belongs to, such as res-jb."""
        return self.name.partition("-")[2]

    def url(self, feature: int, base: str = BASE) -> str:
        """The URL of a feature's page."""
        return f"{_base(base)}/{self}/{_index(feature)}"

    def api_url(self, feature: int, base: str = BASE) -> str:
        """The URL of a feature in the public API."""
        return f"{_base(base)}/api/feature/{self}/{_index(feature)}"

    def embed_url(
        self,
        feature: int,
        explanation: bool = True,
        plots: bool = True,
        test: bool = True,
        base: str = BASE,
    ) -> str:
        """The URL of a feature's page for an iframe.

        Args:
            feature: its index.
            explanation: whether to show explanations.
            plots: whether to show histograms.
            test: whether to show a field for testing text.
            base: Neuronpedia's URL.
        """
        shown = {"embedexplanation": explanation, "embedplots": plots, "embedtest": test}
        query = {"embed": "true", **{key: str(value).lower() for key, value in shown.items()}}
        return f"{self.url(feature, base)}?{urlencode(query)}"


def source_of(sae: SAE | Loaded) -> Source:
    """The source of an SAE, from its metadata.

    SAEs loaded by a catalogue's name have it there.

    Raises:
        ReleaseError: the metadata do not name a source.
    """
    from saecore.releases.load import Loaded

    loaded = sae.sae if isinstance(sae, Loaded) else sae
    return _recorded(loaded.cfg.metadata.get(KEY), "this SAE")


def source_named(text: str) -> Source:
    """The source of the SAE that a command names; no weights are read.

    Args:
        text: `MODEL/LAYER-SET`, or a name that `resolve` takes: the directory of a run or an SAE, a
            file, or `RELEASE:SAE_ID`.

    Raises:
        ReleaseError: the name is unknown, or no source is recorded for the SAE.
    """
    from saecore.releases.resolve import resolve

    if ":" not in text and not Path(text).expanduser().exists():
        return Source.parse(text)
    location = resolve(text)
    if location.facts.neuronpedia is not None or location.facts.release is not None:
        return _recorded(location.facts.neuronpedia, text)
    config = f"{location.path}/cfg.json"
    table = location.files.json(config) if location.files.has(config) else {}
    metadata = table.get("metadata")
    return _recorded({**table, **(metadata if isinstance(metadata, dict) else {})}.get(KEY), text)


def _recorded(source: object, what: str) -> Source:
    """Parse a recorded source."""
    if not isinstance(source, str):
        raise ReleaseError(
            f"{what}: its Neuronpedia source is not recorded; Neuronpedia may not have it. If it "
            "does, give it as MODEL/LAYER-SET, such as gpt2-small/8-res-jb"
        )
    return Source.parse(source)


def quick_list(
    features: Sequence[tuple[Source, int]], name: str = "features", base: str = BASE
) -> str:
    """The URL of a list of features, which is stored in the URL itself.

    Args:
        features: sources and indices, of one or several SAEs.
        name: the list's title.
        base: Neuronpedia's URL.

    Raises:
        ReleaseError: the list is empty.
    """
    if not features:
        raise ReleaseError("features: expected at least one, got none")
    rows = [{"modelId": source.model, "layer": source.name, "index": str(_index(index))}
            for source, index in features]  # fmt: skip
    return f"{_base(base)}/quick-list/?name={quote(name)}&features={quote(json.dumps(rows))}"


def _base(base: str) -> str:
    if re.match(r"https?://[^/]", base) is None:
        raise ReleaseError(f"{base}: not a URL of Neuronpedia; expected http(s)://…")
    return base.rstrip("/")


def _index(feature: int) -> int:
    if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
        raise ReleaseError(f"feature {feature!r}: expected an index of 0 or more")
    return feature
