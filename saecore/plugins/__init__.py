"""What plugin authors import; `hookspecs.py` is the whole extension surface on one page.

    from saecore.plugins import Component, at_least, choice, hookimpl

Free of torch, as plugin modules must be. A name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from saecore.plugins.component import Choice, Component, NoSettings
    from saecore.plugins.fields import above, at_least, between, choice, choices, device, inline
    from saecore.plugins.hookspecs import hookimpl
    from saecore.plugins.host import Host, current_host, use_host
    from saecore.plugins.problems import Problems, exactly_one
    from saecore.plugins.structure import structure_choice

__all__ = [
    "Choice",
    "Component",
    "Host",
    "NoSettings",
    "Problems",
    "above",
    "at_least",
    "between",
    "choice",
    "choices",
    "current_host",
    "device",
    "exactly_one",
    "hookimpl",
    "inline",
    "structure_choice",
    "use_host",
]

_MODULES = ("component", "fields", "hookspecs", "host", "problems", "structure")
"""The modules that define these names, the cheapest first."""


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            namespace = vars(importlib.import_module(f"saecore.plugins.{module}"))
            if name in namespace:
                return namespace[name]
    raise AttributeError(f"module 'saecore.plugins' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
