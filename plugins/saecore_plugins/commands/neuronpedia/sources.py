"""What Neuronpedia calls SAEs and features, and where it shows them.

An SAE is a source, `model/layer-set` (gpt2-small/8-res-jb), a feature is
`model/layer-set/index`. The forms of the URLs are those of its documentation (features, embedding)
and, for quick lists, those that SAELens 6.54.12 makes.
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
    from saecore.releases.load import Loaded
    from saecore.sae import SAE

BASE = "https://neuronpedia.org"
"""Where it is; a copy that somebody hosts is elsewhere."""

KEY = "neuronpedia_id"
"""What metadata call it."""


@attrs.frozen
class Source:
    """An SAE on Neuronpedia."""

    model: str
    """Neuronpedia's name of the language model, such as gpt2-small."""
    name: str
    """Layer and set, such as 8-res-jb."""

    @classmethod
    def parse(cls, text: str) -> Source:
        """From `model/layer-set`.

        Raises:
            ReleaseError: it is something else.
        """
        match = re.fullmatch(r"([A-Za-z0-9][\w.-]*)/(\w+-[\w.-]+)", text, re.ASCII)
        if match is None:
            raise ReleaseError(
                f"{text}: not a source of Neuronpedia; expected MODEL/LAYER-SET, such as "
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
        """The set of SAEs that it belongs to, such as res-jb."""
        return self.name.partition("-")[2]

    def url(self, feature: int, base: str = BASE) -> str:
        """The page of a feature."""
        return f"{_base(base)}/{self}/{_index(feature)}"

    def api_url(self, feature: int, base: str = BASE) -> str:
        """Where its public API answers for a feature."""
        return f"{_base(base)}/api/feature/{self}/{_index(feature)}"

    def embed_url(
        self,
        feature: int,
        explanation: bool = True,
        plots: bool = True,
        test: bool = True,
        base: str = BASE,
    ) -> str:
        """The page of a feature for an iframe.

        Args:
            feature: its index.
            explanation: whether explanations are shown.
            plots: whether histograms are shown.
            test: whether there is a field to try text in.
            base: where Neuronpedia is.
        """
        shown = {"embedexplanation": explanation, "embedplots": plots, "embedtest": test}
        query = {"embed": "true", **{key: str(one).lower() for key, one in shown.items()}}
        return f"{self.url(feature, base)}?{urlencode(query)}"


def source_of(given: SAE | Loaded) -> Source:
    """The source of an SAE, from its metadata; an SAE loaded by a catalogue's name has it there.

    Raises:
        ReleaseError: nobody has recorded one.
    """
    from saecore.releases.load import Loaded

    sae = given.sae if isinstance(given, Loaded) else given
    return _known(sae.cfg.metadata.get(KEY), "this SAE")


def source_named(text: str) -> Source:
    """The source that somebody names on a command line; of weights nothing is read.

    Args:
        text: `MODEL/LAYER-SET`, `RELEASE:SAE_ID` of a catalogue or the hub, or a directory of an
            SAE or a run.

    Raises:
        ReleaseError: nothing is called so, or nobody has recorded a source.
    """
    from saecore.releases.names import find
    from saecore.releases.reading import json_table

    release, colon, sae_id = text.partition(":")
    path = Path(text).expanduser()
    if path.is_dir():
        path = path / "sae" if (path / "sae").is_dir() else path
        table = json_table(path / "cfg.json", f"{path / 'cfg.json'}")
    elif not colon:
        return Source.parse(text)
    else:
        place = find(release, sae_id)
        if place.facts.neuronpedia is not None or place.facts.release is not None:
            return _known(place.facts.neuronpedia, text)
        table = place.files.json(f"{place.path}/cfg.json")
    metadata = table.get("metadata")
    return _known({**table, **(metadata if isinstance(metadata, dict) else {})}.get(KEY), text)


def _known(recorded: object, what: str) -> Source:
    if not isinstance(recorded, str):
        raise ReleaseError(
            f"{what}: its Neuronpedia source is not recorded, perhaps because it is not there; "
            "give it as MODEL/LAYER-SET, such as gpt2-small/8-res-jb"
        )
    return Source.parse(recorded)


def quick_list(
    features: Sequence[tuple[Source, int]], name: str = "features", base: str = BASE
) -> str:
    """The URL of a list of features, which exists only in the URL.

    Args:
        features: sources and indices; a list may hold several SAEs'.
        name: its title.
        base: where Neuronpedia is.

    Raises:
        ReleaseError: there are none.
    """
    if not features:
        raise ReleaseError("features: expected at least one, got none")
    rows = [{"modelId": source.model, "layer": source.name, "index": str(_index(index))}
            for source, index in features]  # fmt: skip
    return f"{_base(base)}/quick-list/?name={quote(name)}&features={quote(json.dumps(rows))}"


def _base(base: str) -> str:
    if re.match(r"https?://[^/]", base) is None:
        raise ReleaseError(f"{base}: not where Neuronpedia is; expected http(s)://…")
    return base.rstrip("/")


def _index(feature: int) -> int:
    if isinstance(feature, bool) or not isinstance(feature, int) or feature < 0:
        raise ReleaseError(f"feature {feature!r}: expected an index of 0 or more")
    return feature
