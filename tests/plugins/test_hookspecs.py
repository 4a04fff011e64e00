"""The page of the extension surface is true: its example runs, and its types exist."""

import importlib
import inspect
import re
import textwrap

import click
import pytest

from saecore.plugins import Host, hookspecs, structure_choice, use_host
from saecore.plugins.hookspecs import KINDS

RESULTS = [
    (kind, name)
    for kind, signature in KINDS.items()
    for name in signature.rpartition(" -> ")[2].split(" | ")
]


@pytest.fixture(autouse=True)
def _default_host():
    """Leave no host of a test behind."""
    yield
    use_host(None)


def test_the_example_is_a_plugin(tmp_path):
    """The example of `saecore_components` can be loaded, configured, built and called."""
    text = inspect.getdoc(hookspecs.saecore_components).split("Example:\n")[1]
    file = tmp_path / "example.py"
    file.write_text(textwrap.dedent(text))
    with use_host(Host(files=[file])):
        schedule = structure_choice("schedule", {"type": "linear_decay", "decay_steps": 4}).build()
        constant = structure_choice("schedule", "linear_decay").build()
    assert [schedule(step, 10) for step in (0, 6, 7, 9)] == [1.0, 1.0, 0.75, 0.25]
    assert constant(9, 10) == 1.0


@pytest.mark.parametrize(("kind", "name"), RESULTS)
def test_every_result_can_be_imported(kind, name):
    """Each type that a `build` returns is in saecore.core, or in click."""
    if name.startswith("click."):
        assert inspect.isclass(getattr(click, name.removeprefix("click.")))
        return
    source = inspect.getsource(hookspecs)
    (module,) = re.findall(rf"from (saecore\.core\.\w+) import [^\n]*\b{name}\b", source)
    assert hasattr(importlib.import_module(module), name)


def test_every_kind_has_a_result():
    """No kind is without a type."""
    assert {kind for kind, _ in RESULTS} == set(KINDS)
