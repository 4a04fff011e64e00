"""The plugin host: lazy, strict about contracts, and clear about who provides what."""

import ast
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import saecore
from saecore.errors import PluginError
from saecore.plugins.component import Component
from saecore.plugins.hookspecs import KINDS
from saecore.plugins.host import (
    Host,
    Provider,
    current_host,
    installed_plugins,
    use_host,
    versions,
)

HEAVY = {"torch", "transformers", "datasets", "mlflow", "numpy"}

GOOD = """\
import attrs
from saecore import Component, hookimpl


@attrs.frozen
class Config:
    strength: float = 1.0
    \"\"\"How strong.\"\"\"


def make(config):
    return lambda step, total: config.strength


@hookimpl
def saecore_components():
    yield Component(kind="schedule", name="stranger", config=Config, build=make,
                    summary="a stranger")
"""


@pytest.fixture(autouse=True)
def _default_host():
    """Leave no host of a test behind."""
    yield
    use_host(None)


class Offer:
    """Puts modules on the path; hosts see their entry points beside the installed ones."""

    def __init__(self, directory):
        self.directory, self.entry_points, self.modules = directory, installed_plugins(), []

    def __call__(self, text, kind="schedule", name="stranger", distribution="saecore-stranger"):
        """Write a module and add its entry point."""
        module = f"stranger_{abs(hash(self.directory))}_{len(self.modules)}"
        self.modules.append(module)
        (self.directory / f"{module}.py").write_text(text)
        self.entry_points.append(
            Provider(
                kind=kind, name=name, distribution=distribution, version="0.3.0", module=module
            )
        )
        return module

    def host(self, **options):
        """A host that sees the entry points."""
        return Host(entry_points=self.entry_points, **options)


@pytest.fixture
def offer(monkeypatch, tmp_path):
    """An `Offer` in a directory on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    offer = Offer(tmp_path)
    yield offer
    for module in offer.modules:
        sys.modules.pop(module, None)


def python(code):
    """What a fresh interpreter prints, as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def refusal(host, kind="schedule", name="stranger"):
    """The message with which a host refuses a component."""
    with pytest.raises(PluginError) as caught:
        host.component(kind, name)
    return str(caught.value)


# -- laziness ------------------------------------------------------------------------------


def test_importing_saecore_and_listing_names_imports_no_plugin():
    """Names come from entry points: no plugin module and nothing heavy is imported for them."""
    modules = python(
        "import sys, json, saecore\n"
        "from saecore.plugins.host import Host\n"
        "host = Host(block=['schedule.constant'])\n"
        "assert host.names('architecture') and host.providers\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    assert [one for one in modules if one.startswith("saecore_plugins")] == []
    assert HEAVY & set(modules) == set()


def test_using_one_plugin_imports_only_its_module():
    """A component is loaded alone."""
    modules = python(
        "import sys, json\n"
        "from saecore.plugins.host import Host\n"
        "Host().component('architecture', 'topk')\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    found = {one for one in modules if one.startswith("saecore_plugins.architectures.")}
    assert found == {"saecore_plugins.architectures.topk"}
    assert HEAVY & set(modules) == set()


def test_no_plugin_module_imports_anything_heavy():
    """Describing every installed plugin imports no torch, transformers, datasets or mlflow."""
    found = python(
        "import sys, json\n"
        "from saecore.plugins.host import Host\n"
        f"heavy = {sorted(HEAVY - {'numpy'})!r}\n"
        "host, culprits = Host(), {}\n"
        "for one in host.providers:\n"
        "    host.component(one.kind, one.name)\n"
        "    for name in heavy:\n"
        "        if name in sys.modules:\n"
        "            culprits.setdefault(name, one.full_name)\n"
        "print(json.dumps(culprits))\n"
    )
    assert found == {}


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["plugins", "topk"]])
def test_light_commands_import_nothing_heavy(arguments):
    """Help and the list of plugins answer without torch."""
    modules = python(
        "import sys, json, io, contextlib\n"
        "from saecore.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        f"    main({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)))\n"
    )
    assert HEAVY & set(modules) == set()


def test_the_core_never_imports_the_plugins():
    """Everything the core knows about plugins comes from their entry points."""
    root = Path(saecore.__file__).parent
    culprits = []
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [one.name for one in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and node.args:
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                first = node.args[0]
                if called in ("import_module", "__import__") and isinstance(first, ast.Constant):
                    names = [str(first.value)]
            culprits += [
                f"{file.relative_to(root)}:{node.lineno}"
                for name in names
                if name.split(".")[0] == "saecore_plugins"
            ]
    assert culprits == []


# -- what is installed ---------------------------------------------------------------------


@pytest.mark.parametrize("provider", Host().providers, ids=lambda one: one.full_name)
def test_every_installed_plugin_keeps_its_contract(provider):
    """Every entry point gives the component it names, and its builder can be imported."""
    component = Host().component(provider.kind, provider.name)
    assert (component.kind, component.name) == (provider.kind, provider.name)
    assert callable(component.builder())


def test_entry_points_of_the_project_are_all_installed():
    """The installed entry points are those of pyproject.toml."""
    import tomllib

    file = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(file.read_text())["project"]["entry-points"]["saecore"]
    installed = {one.full_name: one.module for one in Host().providers}
    assert declared.items() <= installed.items()


def test_every_kind_of_an_entry_point_is_known():
    """Entry points are named kind.name, with a kind that exists."""
    assert {one.kind for one in Host().providers} <= set(KINDS)


def test_providers_and_names_are_sorted():
    """Lists of plugins come in the same order everywhere."""
    host = Host()
    listed = [(one.kind, one.name) for one in host.providers]
    assert listed == sorted(listed)
    assert host.names("architecture") == sorted(host.names("architecture"))


def test_a_distribution_found_twice_counts_once(monkeypatch):
    """One distribution that is on the path twice does not clash with itself."""
    import importlib.metadata

    class Twice:
        name, value = "schedule.x", "some.module"

        class dist:  # noqa: N801
            name, version = "one", "1"

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [Twice(), Twice()])
    assert installed_plugins() == [
        Provider(kind="schedule", name="x", distribution="one", version="1", module="some.module")
    ]


def test_versions_record_who_provides_what():
    """A run's record names the distribution and version behind every component."""
    provider = Provider(kind="schedule", name="x", distribution="dist", version="1.2", module="m")
    assert versions([provider]) == {"schedule.x": "dist 1.2"}


# -- strangers -----------------------------------------------------------------------------


def test_a_strangers_plugin_is_used_like_any_other(offer):
    """An entry point of another distribution gives a component."""
    offer(GOOD)
    component = offer.host().component("schedule", "stranger")
    assert isinstance(component, Component)
    assert component.builder()(component.config(strength=2.0))(0, 1) == 2.0
    assert "stranger" in offer.host().names("schedule")


def test_a_component_is_loaded_once(offer, tmp_path):
    """The second use of a component gives the same record."""
    offer(GOOD)
    host = offer.host()
    assert host.component("schedule", "stranger") is host.component("schedule", "stranger")


def test_unknown_name_lists_what_is_installed():
    """A plugin nobody provides is refused with the nearest name and the installed ones."""
    installed = ", ".join(Host().names("architecture"))
    assert refusal(Host(), "architecture", "tokp") == (
        f'no architecture named "tokp"; did you mean "topk"? (installed: {installed})'
    )


def test_clash_names_both_distributions(offer):
    """Two providers of one name are an error that says which, and how to go on."""
    offer(GOOD, distribution="saecore-one")
    offer(GOOD, distribution="saecore-two")
    message = refusal(offer.host())
    assert "schedule.stranger is provided twice" in message
    assert "saecore-one 0.3.0 and saecore-two 0.3.0" in message
    assert "--block saecore-two" in message
    block = ["saecore-two"]
    assert offer.host(block=block).provider("schedule", "stranger").distribution == "saecore-one"


def test_clash_stops_an_experiment_that_uses_the_name(offer):
    """A clash is no silent choice in an experiment either, but does not disturb other names."""
    from saecore.plugins.structure import structure_choice

    offer(GOOD, name="constant", distribution="saecore-one")
    use_host(offer.host())
    with pytest.raises(PluginError, match="provided twice"):
        structure_choice("schedule", "constant")
    assert structure_choice("schedule", "cosineannealing").name == "cosineannealing"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nonesuch_module", "ModuleNotFoundError: No module named 'nonesuch_module'"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("def (", "SyntaxError: "),
    ],
)
def test_import_failure_names_the_distribution_and_the_way_out(offer, text, reason):
    """A plugin that cannot be imported is named, with the option to continue without it."""
    offer(text)
    message = refusal(offer.host())
    assert message.startswith(
        f"plugin schedule.stranger (saecore-stranger 0.3.0) failed to import: {reason}"
    )
    assert message.endswith(" Run with --block schedule.stranger to continue without it.")


def test_a_broken_plugin_does_not_disturb_the_others(offer):
    """What is not used is not imported, so it cannot break anything."""
    offer("raise RuntimeError('boom')")
    assert offer.host().component("schedule", "constant").name == "constant"
    assert "stranger" not in offer.host(block=["schedule.stranger"]).names("schedule")


def test_missing_promised_component_is_refused(offer):
    """An entry point must name a component that its module returns."""
    module = offer(GOOD, name="other")
    message = refusal(offer.host(), "schedule", "other")
    assert "plugin schedule.other (saecore-stranger 0.3.0)" in message
    assert f"{module}.saecore_components() returned no schedule named 'other'" in message


def test_module_without_the_hook_is_refused(offer):
    """A module that implements no hook keeps no promise."""
    offer("x = 1\n")
    assert "returned no schedule named 'stranger'" in refusal(offer.host())


HOOK = "from saecore import Component, hookimpl\n\n@hookimpl\ndef saecore_components():\n    "


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return ['x']", "must return Component records, got str"),
        ("return [{'kind': 'schedule'}]", "must return Component records, got dict"),
        ("return None", "saecore_components() raised TypeError"),
        ("raise KeyError('boom')", "saecore_components() raised KeyError"),
        ("yield Component(kind='scheduel', name='stranger', config=int, build=int, summary='x')",
         """unknown kind 'scheduel'; did you mean "schedule"? (kinds: activation, """),
        ("yield Component(kind='schedule', name='stranger', config=dict, build=int, summary='x')",
         "config of schedule.stranger must be an attrs class, got <class 'dict'>"),
        ("yield Component(kind='schedule', name='stranger', config=None, build=int, summary='x')",
         "config of schedule.stranger must be an attrs class, got None"),
    ],
)  # fmt: skip
def test_broken_contract_is_refused(offer, body, reason):
    """Wrong records are refused when the plugin is loaded, with its name and what was wrong."""
    offer(HOOK + body + "\n")
    message = refusal(offer.host())
    assert message.startswith("plugin schedule.stranger (saecore-stranger 0.3.0): ")
    assert reason in message


def test_unimportable_builder_is_refused(offer):
    """A builder named by a string that leads nowhere is blamed on its plugin."""
    offer(GOOD.replace("make,", '"nonesuch_module:build",'))
    component = offer.host().component("schedule", "stranger")
    with pytest.raises(
        PluginError, match=r"plugin schedule\.stranger \(saecore-stranger 0\.3\.0\): cannot import"
    ):
        component.builder()


def test_builder_that_is_not_there_is_refused(offer):
    """A builder string must name something in its module."""
    offer(GOOD.replace("make,", '"saecore.errors:nonesuch",'))
    with pytest.raises(PluginError, match=r"cannot import 'saecore\.errors:nonesuch'"):
        offer.host().component("schedule", "stranger").builder()


def test_builder_without_a_name_is_refused(offer):
    """A builder string without a colon is a plugin's error, not a crash."""
    offer(GOOD.replace("make,", '"saecore.errors",'))
    with pytest.raises(PluginError, match="cannot import"):
        offer.host().component("schedule", "stranger").builder()


def test_builder_that_raises_on_import_is_refused(offer, tmp_path):
    """A builder's module that raises anything at import is blamed on its plugin."""
    module = offer("raise RuntimeError('boom')\n", name="unused")
    offer(GOOD.replace("make,", f'"{module}:build",'))
    with pytest.raises(
        PluginError,
        match=r"plugin schedule\.stranger \(saecore-stranger 0\.3\.0\): cannot import.*boom",
    ):
        offer.host().component("schedule", "stranger").builder()


# -- --block -------------------------------------------------------------------------------


def test_block_takes_a_plugin_or_a_distribution(offer):
    """Blocked plugins are not on offer, one by one or by distribution."""
    offer(GOOD)
    assert "stranger" not in offer.host(block=["schedule.stranger"]).names("schedule")
    assert "stranger" not in offer.host(block=["saecore-stranger"]).names("schedule")
    assert "constant" in offer.host(block=["saecore-stranger"]).names("schedule")
    assert offer.host(block=["saecore-stranger", "saecore"]).providers == []


def test_block_of_an_unknown_name_is_refused():
    """A misspelled --block is an error, not a plugin that goes on running."""
    with pytest.raises(PluginError) as caught:
        Host(block=["architecture.tokp"])
    assert str(caught.value) == (
        "--block architecture.tokp: no plugin or distribution has that name; "
        'did you mean "architecture.topk"? (`saecore plugins` lists them)'
    )


# -- --plugin FILE -------------------------------------------------------------------------


def test_plugin_file_is_used_and_its_hash_recorded(tmp_path):
    """A local file offers its components, recorded by name and content."""
    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    host = Host(files=[file])
    assert "stranger" in host.names("schedule")
    component = host.component("schedule", "stranger")
    assert component.builder()(component.config())(0, 1) == 1.0
    digest = hashlib.sha256(GOOD.encode()).hexdigest()[:12]
    assert versions([host.provider("schedule", "stranger")]) == {
        "schedule.stranger": f"file mine.py sha256:{digest}"
    }
    assert "stranger" not in Host().names("schedule")


def test_plugin_file_can_be_used_in_an_experiment(tmp_path):
    """A component from a file is chosen by name like any other."""
    from saecore.plugins.structure import structure_choice

    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    with use_host(Host(files=[file])):
        choice = structure_choice("schedule", {"type": "stranger", "strength": 3})
    assert choice.config.strength == 3.0
    assert choice.build()(0, 10) == 3.0


def test_plugin_file_with_postponed_annotations_works(tmp_path):
    """A file that begins with `from __future__ import annotations` has its types resolved."""
    from saecore.plugins.structure import structure_choice

    file = tmp_path / "mine.py"
    text = GOOD.replace("strength: float = 1.0", 'mode: Literal["a", "b"] = "a"')
    file.write_text("from __future__ import annotations\nfrom typing import Literal\n" + text)
    with use_host(Host(files=[file])):
        choice = structure_choice("schedule", {"type": "stranger", "mode": "b"})
    assert choice.config.mode == "b"


def test_plugin_file_field_docs_are_found(tmp_path):
    """The docs of a local file's settings are shown like any plugin's."""
    from saecore.config.messages import field_docs

    file = tmp_path / "mine.py"
    file.write_text(GOOD)
    config = Host(files=[file]).component("schedule", "stranger").config
    assert field_docs(config) == {"strength": "How strong."}


def test_plugin_file_that_clashes_names_both(tmp_path):
    """A local file cannot silently take an installed plugin's name."""
    file = tmp_path / "mine.py"
    file.write_text(GOOD.replace('"stranger"', '"constant"'))
    message = refusal(Host(files=[file]), "schedule", "constant")
    assert "provided twice" in message
    assert "file mine.py sha256:" in message
    assert "saecore " in message


def test_remedy_of_a_clash_with_a_file_works(tmp_path):
    """What the message about a clash tells to type does solve the clash."""
    file = tmp_path / "mine.py"
    file.write_text(GOOD.replace('"stranger"', '"constant"'))
    message = refusal(Host(files=[file]), "schedule", "constant")
    name = message.rpartition("--block ")[2]
    host = Host(block=[name], files=[file])
    assert host.component("schedule", "constant").name == "constant"
    assert "adam" in host.names("optimizer")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.py", "import nonesuch_module", "failed to import: ModuleNotFoundError"),
        ("a.py", "def (", "failed to import: SyntaxError"),
        ("a.py", "x = 1", "it has no saecore_components() hook"),
        ("a.txt", GOOD, "not a Python file (expected a name in .py)"),
    ],
)
def test_unusable_plugin_file_is_refused(tmp_path, name, text, reason):
    """A local file that is no plugin is refused at once, in one line that names it."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(PluginError) as caught:
        Host(files=[file])
    assert str(caught.value).startswith(f"--plugin {file}: {reason}")


def test_missing_plugin_file_is_refused(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(PluginError, match="cannot be read: No such file"):
        Host(files=[tmp_path / "nonesuch.py"])


def test_plugin_file_with_wrong_records_is_refused(tmp_path):
    """A local file keeps the same contract as an installed plugin."""
    file = tmp_path / "a.py"
    file.write_text(HOOK + "return ['x']\n")
    with pytest.raises(PluginError, match=r"must return Component records, got str"):
        Host(files=[file])


# -- the current host ----------------------------------------------------------------------


def test_current_host_is_made_once_and_can_be_set():
    """Python calls without a host share one; the command line puts its own in place."""
    use_host(None)
    default = current_host()
    assert current_host() is default
    own = Host(block=["schedule.constant"])
    use_host(own)
    assert current_host() is own
    use_host(None)
    assert current_host() is not own
