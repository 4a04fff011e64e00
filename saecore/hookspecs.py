"""The extension surface: every hook that a plugin may implement, on one page.

A plugin is a module named by an entry point of the group `saecore`, whose name is
`kind.name`:

    [project.entry-points.saecore]
    "architecture.tied" = "saecore_tied"

The module is imported when the plugin is used or described, never before, and must not
import torch, transformers, datasets or mlflow itself: `Component.build` does that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from saecore.components import Component

hookspec = pluggy.HookspecMarker("saecore")
hookimpl = pluggy.HookimplMarker("saecore")


@hookspec
def saecore_components() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return the components that this module provides.

    Contract: called once, when the module is loaded. It must return the component that the
    module's entry point names (same kind, same name).

    Example:
        @hookimpl
        def saecore_components():
            yield Component(
                kind="activation",
                name="relu",
                config=ReLUConfig,
                build="saecore_plugins.activations.relu_activation:ReLU",
                summary="max(0, pre-activation)",
            )
    """
