"""Options that several commands share look alike in all of them."""

import subprocess
import sys

import click
import pytest

from saecore.cli import COMMANDS, cli


def options(name):
    """The options of each command that has one of this name, by command."""
    context = click.Context(cli)
    commands = {command: cli.get_command(context, command) for command in COMMANDS}
    return {
        command: option
        for command, loaded in commands.items()
        for option in loaded.params
        if isinstance(option, click.Option) and name in option.opts
    }


@pytest.mark.parametrize("name", ["--model", "--dataset", "--trust-remote-code"])
def test_one_help(name):
    """The same words in every command; `releases --model` is a filter."""
    shared = options(name)
    shared.pop("releases", None)
    assert len(shared) >= 2
    assert len({(option.name, option.metavar, option.help) for option in shared.values()}) == 1


def test_help_with_a_part_that_differs():
    """--set says which keys it takes, --json whose format it prints, --out which formats it writes;
    the rest is the same, and so are the names of the parameters.
    """
    for command, option in options("--set").items():
        assert (option.name, option.metavar, option.multiple) == ("settings", "KEY=VALUE", True)
        assert option.help.startswith("Override a setting; KEY is "), command
    printed = options("--json")
    printed.pop("compare")  # one of three forms of its table
    assert {option.name for option in printed.values()} == {"as_json"}
    assert {option.help for option in printed.values()} == {
        "Print JSON.",
        "Print JSON in SAEBench's format.",
    }
    assert all(option.help.endswith(" file to write.") for option in options("--out").values())


def test_shared_options_import_only_click():
    """They are imported for the help of every command, which has to be quick."""
    code = (
        "import sys, saecore.cli\nbefore = set(sys.modules)\nimport saecore.cli._options\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["saecore.cli._options"]
