"""Plugins made to measure: a good one of each kind, and ways to break it."""

import sys

import pytest

from saecore.plugins.host import Host, use_host

HEAD = """\
import attrs
from saecore import ArchitectureConfig, Component, hookimpl


@attrs.frozen
class Config(BASE):
    weight: float = 1.0
    \"\"\"How much.\"\"\"


@hookimpl
def saecore_components():
    yield Component(kind="KIND", name="mine", config=Config, build="MODULE:Mine",
                    summary="made to measure")
"""
"""The half that declares the plugin."""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that makes a plugin of two files and the host that offers it."""
    monkeypatch.syspath_prepend(tmp_path)
    made = []

    def make(kind, body, head=HEAD):
        module = f"kit_{abs(hash(tmp_path))}_{len(made)}"
        made.append(module)
        (tmp_path / f"{module}.py").write_text(body)
        base = "ArchitectureConfig" if kind == "architecture" else ""
        text = head.replace("(BASE)", f"({base})" if base else "")
        file = tmp_path / f"plugin_{module}.py"
        file.write_text(text.replace("KIND", kind).replace("MODULE", module))
        use_host(Host(files=[file]))

    yield make
    use_host(None)
    for module in made:
        sys.modules.pop(module, None)
