"""Plugins whose classes are written wrongly: plugin, line, remedy; from the kit and a run."""

import re

import pytest
from click.testing import CliRunner

from saecore import Shape
from saecore.cli import cli
from saecore.errors import PluginError
from saecore.plugins import Host, structure_choice, use_host
from saecore.testing import Nonconformance, check_architecture
from saecore.testing import component as kit

GOOD = """\
import attrs
import torch
from saecore import SAE, ArchitectureConfig, Component, hookimpl, ops
from saecore.plugins import at_least


@attrs.frozen
class Config(ArchitectureConfig):
    floor: float = attrs.field(default=0.0, validator=at_least(0))
    \"\"\"How much.\"\"\"


class Floor(SAE):
    architecture = "floor"

    def __init__(self, config, shape):
        super().__init__(config, shape)

    def select(self, x):
        return ops.select_above(x, self.W_enc, self.b_enc, 0.0, center=self.center)


@hookimpl
def saecore_components():
    yield Component(kind="architecture", name="floor", config=Config, build=Floor, summary="x")
"""
INIT = "super().__init__(config, shape)"
SET = 'a subclass of SAE sets `architecture`, the name in its Component: architecture = "floor"'
CALL = "its __init__ must first call super().__init__ with the arguments it gets"

FAULTS = {
    "no architecture": ('    architecture = "floor"\n', "", f"Floor (FILE:13): {SET}"),
    "no super().__init__": (INIT, "self.floor = 1.0", f"Floor (FILE:16): {CALL}"),
    "torch's __init__ alone": (INIT, "torch.nn.Module.__init__(self)", f"Floor (FILE:16): {CALL}"),
    "a parameter before __init__": (
        INIT,
        "self.floor = torch.nn.Parameter(torch.ones(2))",
        "MODULE.Floor raised AttributeError: cannot assign parameters before Module.__init__() "
        f"call (FILE:17); {CALL}",
    ),
    "a plain tensor": (
        INIT,
        f"{INIT}; self.floor = torch.ones(2)",
        "Floor (FILE:16): floor is a tensor that is neither a Parameter nor a buffer, so it is "
        'neither moved nor saved; use self.register_buffer("floor", …), or torch.nn.Parameter if '
        "it is trained",
    ),
    "any other error": (
        INIT,
        "1 / 0",
        "MODULE.Floor raised ZeroDivisionError: division by zero (FILE:17)",
    ),
    "a class behind a function": (
        'architecture = "floor"\n',
        "pass\n",
        "MODULE.saecore_components.<locals>.<lambda> raised AttributeError: 'Floor' object has no "
        f"attribute 'architecture' (FILE:17); {SET}",
    ),
}
"""What is wrong: a part of the good plugin, what stands in its place, the message."""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A function that writes the plugin with a part of it replaced; its file."""
    monkeypatch.setattr(kit, "_check_imports", lambda choice: None)  # seconds for each

    def write(old="", new="", build="Floor"):
        assert old in GOOD
        file = tmp_path / "floor.py"
        file.write_text(GOOD.replace(old, new, 1).replace("build=Floor", f"build={build}"))
        return file

    yield write
    use_host(None)


@pytest.mark.parametrize("name", FAULTS)
def test_a_class_with_a_fault(plugin, name):
    """Whoever builds it, the kit included, gets one line: plugin, file, line, what to change."""
    old, new, expected = FAULTS[name]
    lazy = "lambda config, shape: Floor(config, shape)"
    file = plugin(old, new, lazy if "function" in name else "Floor")
    use_host(Host(files=[file]))
    choice = structure_choice("architecture", "floor")
    module = choice.component.build.__module__
    line = (
        f"plugin {choice.component}: "
        f"{expected.replace('FILE', str(file)).replace('MODULE', module)}"
    )
    with pytest.raises(PluginError) as built:
        choice.build(Shape(6, 6, 20))
    with pytest.raises(PluginError) as checked:
        check_architecture("floor")
    assert str(built.value) == str(checked.value) == line


def test_a_default_that_its_own_validator_refuses(plugin):
    """It is found when the plugin is loaded, with plugin, field, value and line."""
    file = plugin("default=0.0", "default=-1.0")
    with pytest.raises(PluginError) as loaded:
        Host(files=[file])
    assert str(loaded.value) == (
        f"plugin file {file}: architecture.floor: Config.floor ({file}:7): its validator refuses "
        "its default: expected at least 0, got -1.0; change one of the two"
    )


def test_random_numbers_in_select(plugin):
    """The kit names select and its line instead of the methods that call it."""
    file = plugin("0.0, center", "float(torch.rand(())), center")
    use_host(Host(files=[file]))
    component = structure_choice("architecture", "floor").component
    with pytest.raises(Nonconformance) as checked:
        check_architecture("floor")
    assert str(checked.value) == (
        f"{component}: select is not deterministic: two calls give different features "
        f"({file}:19)\n  use no random numbers in select; training_step has "
        "context.generator(stream)"
    )


@pytest.mark.parametrize("name", ["no architecture", "no super().__init__", "a plain tensor"])
def test_a_run_ends_in_one_line(plugin, tmp_path, name):
    """`saecore run` raises nothing but the typed error, which the command line prints."""
    experiment = tmp_path / "x.toml"
    experiment.write_text(
        f'output = "{tmp_path}/runs"\n[dataset]\ntype = "synthetic"\nfeatures = 9\nd_in = 4\n'
        '[sae]\narchitecture = "floor"\nd_sae = 8\n[training]\ntokens = 64\nbatch_size = 32\n'
    )
    file = plugin(*FAULTS[name][:2])
    done = CliRunner().invoke(cli, ["--plugin", str(file), "run", str(experiment)])
    assert isinstance(done.exception, PluginError), done.exception
    assert re.match(
        rf"plugin architecture\.floor \(file floor\.py sha256:\w+\): Floor \({file}:\d+\): ",
        str(done.exception),
    )


def test_the_good_one(plugin):
    """The plugin without a fault passes, so that each message is due to its fault."""
    use_host(Host(files=[plugin()]))
    check_architecture("floor")
