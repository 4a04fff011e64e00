"""Mistakes in TOML: the line, a caret, and how to write it; the file is named once."""

import tomllib

import pytest

from saecore.config import layers
from saecore.config.layers import read_layers
from saecore.errors import ConfigError
from tests.helpers import MINIMAL

MISTAKES = {
    "[sae]\nk = 4\n\nk = 16 # more": (
        "line 4: k is given twice (line 2, line 4)",
        "k = 16 # more",
        "^",
    ),
    "[sae]\nk = [\n 1,\n]\n[sae]": (
        "line 5: [sae] is given twice (line 1, line 5)",
        "[sae]",
        "^",
    ),
    "sae.k = 1\n[sae]\nd_sae = 2": (
        "line 2: [sae] is given twice (line 1, line 2)",
        "[sae]",
        "^",
    ),
    "[sae]\nk = 1\n[sae.k]": (
        "line 3: [sae.k] is given twice (line 2, line 3)",
        "[sae.k]",
        "^",
    ),
    "sae = {k = 1, k = 2}": (
        "line 1: k is given twice in one table",
        "sae = {k = 1, k = 2}",
        "                   ^",
    ),
    "name = small": (
        'line 1: strings need quotes: name = "small"',
        "name = small",
        "       ^",
    ),
    "x = 1\r\nname = my run # note\r\n": (
        'line 2: strings need quotes: name = "my run"',
        "name = my run # note",
        "       ^",
    ),
    "name = 2small": (
        'line 1: strings need quotes: name = "2small"',
        "name = 2small",
        "       ^",
    ),
    "\thooks = [h, g]": ('line 1: strings need quotes: "h"', "hooks = [h, g]", "         ^"),
    "output = C:\\runs": (
        "line 1: strings need quotes: output = 'C:\\runs'",
        "output = C:\\runs",
        "         ^",
    ),
    'output = "C:\\x"': (
        "line 1: a backslash begins an escape; write the string in single quotes",
        'output = "C:\\x"',
        "            ^",
    ),
    "name = \u201csmall\u201d": (
        'line 1: strings need straight quotes: name = "small"',
        "name = \u201csmall\u201d",
        "       ^",
    ),
    'name = "small\nseed = 1': (
        "line 1: the string has no closing quote",
        'name = "small',
        "             ^",
    ),
    "autocast = True": (
        "line 1: true and false are lower-case: autocast = true",
        "autocast = True",
        "           ^",
    ),
    "ema = None": (
        "line 1: TOML has no such value; leave the key out to get its default",
        "ema = None",
        "      ^",
    ),
    "k = 08": ("line 1: a number does not begin with 0: k = 8", "k = 08", "    ^"),
    "lr = .5": (
        "line 1: a number needs digits on both sides of its point: lr = 0.5",
        "lr = .5",
        "     ^",
    ),
    "k =\n": ("line 1: k has no value", "k =", "   ^"),
    "k: 4": ("line 1: write = for the colon: k = 4", "k: 4", " ^"),
    "k 4": ("line 1: expected key = value", "k 4", "  ^"),
    "k = 1 l = 2": ("line 1: expected one key = value on a line", "k = 1 l = 2", "    ^"),
    "seeds = [0, 1\n\n": (
        "line 1: the list has no closing ]",
        "seeds = [0, 1",
        "             ^",
    ),
}


def message(file, *settings):
    """The message of a file that must be refused."""
    with pytest.raises(ConfigError) as caught:
        read_layers(file, settings)
    return str(caught.value)


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_show_the_line_and_the_way_to_write_it(tmp_path, text):
    """One problem: what is wrong, the line as written, a caret under the place."""
    file = tmp_path / "m.toml"
    file.write_bytes(text.encode())
    reason, line, caret = MISTAKES[text]
    assert message(file) == f"{file}: 1 problem\n  {reason}\n    {line}\n    {caret}"


@pytest.mark.parametrize(
    "text", ["x = {\n a = 1}", "x = { # more\n a = 1}", "x = {a = 1,\n b = 2}"]
)
def test_an_inline_table_over_several_lines(tmp_path, monkeypatch, text):
    """A parser of TOML 1.0, such as Python's, refuses it; the message says what it must be."""
    monkeypatch.setattr(layers, "tomli", tomllib)
    file = tmp_path / "m.toml"
    file.write_text(text)
    assert message(file) == (
        f"{file}: 1 problem\n  line 1: an inline table must stand on one line\n"
        f"    {text.splitlines()[0]}\n        ^"
    )


def test_a_mistake_in_a_file_that_is_extended_names_that_file(tmp_path):
    """The label is the file of the command; the problem begins with the other file's name."""
    (tmp_path / "base.toml").write_text("name = small")
    file = tmp_path / "top.toml"
    file.write_text('extends = "base.toml"\n')
    assert message(file).splitlines()[1] == (
        '  base.toml: line 1: strings need quotes: name = "small"'
    )


def test_every_single_character_that_is_removed(tmp_path):
    """Whatever is missing, the message has one line, and the caret stands under that line."""
    file = tmp_path / "m.toml"
    messages = []
    for position in range(len(MINIMAL)):
        file.write_text(MINIMAL[:position] + MINIMAL[position + 1 :])
        try:
            read_layers(file)
        except ConfigError as error:
            messages.append(str(error))
    assert len(messages) > 20
    for text in messages:
        _, reason, line, caret = text.splitlines()
        assert reason.startswith("  line "), text
        assert caret.strip() == "^", text
        assert len(caret) <= len(line) + 1, text
