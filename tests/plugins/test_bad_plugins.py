"""Plugins that break their contract, installed for real: one line that names them and the way
out, and a command line that goes on working.
"""

import json

import pytest

from tests.helpers import MINIMAL
from tests.strangers import ROOT, Environment

WHO = " (saecore-bad 0.9)"

AT_LOADING = {
    "schedule.no_import": "failed to import: ModuleNotFoundError: No module named 'nonesuch'. "
    "Run with --block schedule.no_import to continue without it.",
    "schedule.exits": "failed to import: SystemExit: no license found. "
    "Run with --block schedule.exits to continue without it.",
    "schedule.raises": ": saecore_components() raised KeyError: 'no components today'",
    "schedule.no_attrs": "must be an attrs class, got <class 'saecore_bad.no_attrs.Settings'>; "
    "decorate it with @attrs.frozen",
    "schedule.no_builder": 'must be a function or "package.module:name", got 1.0',
    "schedule.hints": "the types of Settings's fields cannot be resolved: name 'Path' is not "
    "defined; import what they name outside TYPE_CHECKING",
    "scheduel.constant": 'its entry point must be named kind.name; did you mean "schedule"?',
    "undotted.": "its entry point must be named kind.name",
}
"""What is wrong with plugins that cannot even be described."""

AT_BUILDING = {
    "schedule.no_arguments": "build must be (config: Config) -> Schedule; "
    "saecore_bad.no_arguments: too many positional arguments",
    "architecture.no_sae": "build must be (config: Config, shape: Shape) -> SAE; what "
    "saecore_bad.give_object returned (object) has no select",
    "activation.abstract": "saecore_bad.sae.Abstract must implement select",
    "dataset.list": "what saecore_bad.give_list returned (list) has no fingerprint",
    "evaluator.nothing": "returned (NoneType) has no __call__",
}
"""What is wrong with plugins that can be described, but not used."""

BUILD = """
import json, sys
from saecore import SaecoreError, Shape
from saecore.plugins.structure import structure_choice
shape = Shape(4, 4, 8)
arguments = {"architecture": [shape], "activation": [shape], "dataset": [None]}
for full in sys.argv[1:]:
    kind, _, name = full.partition(".")
    try:
        structure_choice(kind, name).build(*arguments.get(kind, []))
    except SaecoreError as error:
        print(json.dumps([full, str(error)]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with an experiment."""
    directory = tmp_path_factory.mktemp("bad")
    (directory / "x.toml").write_text(MINIMAL)
    return directory


@pytest.fixture(scope="module")
def bad(place):
    """An environment with the package of broken plugins."""
    environment = Environment(place / "env", place / "cache")
    environment.install(ROOT / "tests" / "bad_plugin", place)
    return environment


@pytest.mark.slow
def test_help_and_lists_work(bad, place):
    """Whatever plugins do, help answers, and the list names each broken one with its reason."""
    assert "no_command" in bad.run("saecore --help", place).stdout
    rows = json.loads(bad.run("saecore plugins --json", place).stdout)
    summaries = {f"{one['kind']}.{one['name']}": one["summary"] for one in rows}
    for name, reason in AT_LOADING.items():
        assert summaries[name].startswith(f"(unusable: plugin {name}{WHO}"), summaries[name]
        assert reason in summaries[name]
    table = bad.run("saecore plugins", place).stdout.splitlines()
    assert len(table) == len(rows) + 1
    assert "schedule.constant" in bad.run("saecore plugins schedule.constant", place).stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", [one for one in AT_LOADING if one.startswith("schedule.")])
def test_what_cannot_be_loaded(bad, place, name):
    """An experiment that uses it stops at once, in one line."""
    setting = f"training.lr_schedule={name.partition('.')[2]}"
    done = bad.run(["env", *command("check", "--set", setting)], place, check=False)
    assert done.returncode == 2
    assert done.stdout.startswith(f"error: plugin {name}{WHO}")
    assert AT_LOADING[name] in done.stdout
    assert len(done.stdout.splitlines()) == 1


def command(name, *options):
    """A command over the experiment, as arguments."""
    return ["saecore", name, "x.toml", *options]


@pytest.mark.slow
def test_what_cannot_be_built(bad, place):
    """A builder that does not take its arguments, or returns something else, is named with what
    its kind asks for.
    """
    printed = bad.run([bad.python, "-c", BUILD, *AT_BUILDING], place).stdout
    messages = dict(json.loads(line) for line in printed.splitlines())
    assert list(messages) == list(AT_BUILDING)
    for name, reason in AT_BUILDING.items():
        assert messages[name].startswith(f"plugin {name}{WHO}: ")
        assert reason in messages[name]
        assert "\n" not in messages[name]


@pytest.mark.slow
def test_a_run_that_uses_one(bad, place):
    """A run ends in one line and exit code 2, without a traceback."""
    done = bad.run(["env", *command("run", "--set", "dataset.type=list")], place, check=False)
    assert done.returncode == 2
    assert done.stdout.splitlines()[-1].startswith(f"error: plugin dataset.list{WHO}: build must")
    assert "Traceback" not in done.stdout


@pytest.mark.slow
def test_a_name_that_is_taken(bad, place):
    """Both providers are named; the way out that is named works."""
    options = ["--no-measure", "--set", "sae.dead_latents=auxk"]
    done = bad.run(["env", *command("check", *options)], place, check=False)
    assert done.returncode == 2
    assert (
        "dead_latents.auxk is provided twice, by saecore 0.1.0 and saecore-bad 0.9" in done.stdout
    )
    assert "run with --block saecore-bad" in done.stdout
    bad.run(["env", "saecore", "--block", "saecore-bad", *command("check", *options)[1:]], place)


@pytest.mark.slow
def test_a_command_that_is_none(bad, place):
    """A command plugin that gives something else is named."""
    done = bad.run("saecore no_command", place, check=False)
    assert done.returncode == 2
    assert done.stdout == (
        f"error: plugin command.no_command{WHO}: build must be () -> click.Command, got str\n"
    )
