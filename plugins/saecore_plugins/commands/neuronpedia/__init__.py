"""`saecore neuronpedia`: link to features on neuronpedia.org, read them, export an upload.

In Python, `saecore_plugins.commands.neuronpedia.sources` has ids and URLs, `.features` reads a
feature, and `.export` writes the files of an upload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from saecore.plugins import Component, hookimpl

if TYPE_CHECKING:
    import click


def build() -> click.Command:
    """Build the command."""
    from saecore_plugins.commands.neuronpedia.command import command

    return command


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="command",
        name="neuronpedia",
        build=build,
        summary="links to features on neuronpedia.org, reading them, files for an upload",
    )
