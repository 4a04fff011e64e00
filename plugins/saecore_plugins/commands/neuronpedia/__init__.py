"""`saecore neuronpedia`: links to features on neuronpedia.org, reading them, files for an upload.

In Python: `saecore_plugins.commands.neuronpedia.sources` has ids and URLs, `.features` reads a
feature, `.export` writes the files of an upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    import click


@attrs.frozen
class NeuronpediaConfig:
    """The command has options, no settings."""


def build() -> click.Command:
    """The command."""
    from saecore_plugins.commands.neuronpedia.command import command

    return command


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the command."""
    yield Component(
        kind="command",
        name="neuronpedia",
        config=NeuronpediaConfig,
        build=build,
        summary="links to features on neuronpedia.org, reading them, files for an upload",
    )
