"""Every command that saecore prints does what it says, typed as printed."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
from click.testing import CliRunner

import saecore
import saecore_plugins
from saecore.activations.cache.writer import CacheWriter
from saecore.cli import cli, main
from saecore.errors import SaecoreError
from saecore.plugins.host import use_host

PLUGIN = """\
from saecore.plugins import Component, hookimpl

def build(config, directory):
    raise AssertionError("never built")

@hookimpl
def saecore_components():
    yield Component(kind="logger", name="unused", build=build, summary="nothing")
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Work in a directory with a space in its name, away from the user's files."""
    place = tmp_path / "with a space"
    place.mkdir()
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(place)
    text = Path("text")
    text.mkdir()
    for i in range(8):
        lines = [f"def f{i}_{j}(x, y):\n    return x * {j} + y - {i}\n" for j in range(60)]
        (text / f"{i}.py").write_text("\n".join(lines))
    yield
    use_host(None)


def tables(**changes):
    """An experiment of two steps in which no table of the text has its defaults."""
    return {
        "name": "tiny",
        "output": "my runs",
        "model": {"type": "tiny_lm", "hook": "blocks.1.hook_resid_post", "device": "cpu"},
        "dataset": {"type": "text_files", "paths": ["text"], "context_size": 32, "held_out": 0.2,
                    "positions": [1, 32], "prepend_bos": False, "separator": "eos", "seed": 3},
        "buffer": {"tokens": 512, "model_batch_size": 8},
        "sae": {"architecture": "topk", "d_sae": 64, "k": 4},
        "training": {"tokens": 512, "batch_size": 256},
        "evaluation": {"tokens": 64},
        **changes,
    }  # fmt: skip


def write(name="my file.toml", **changes):
    """Write the experiment's file."""
    Path(name).write_text(tomli_w.dumps(tables(**changes)))
    return name


def call(*words, code=0):
    """Run the command line in this process; what it printed."""
    result = CliRunner().invoke(cli, [*map(str, words)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result.output


def printed(output):
    """The commands in an output: at the end of a line, on a line alone, or in backticks."""
    alone = re.findall(r"^(?:[a-z :]*: +| +)(saecore .*)$", output, re.MULTILINE)
    return [*alone, *re.findall(r"`(saecore [^`]*)`", output)]


def type_in(command):
    """Run a printed command as a shell splits it."""
    words = shlex.split(command)
    assert words[0] == "saecore"
    return call(*words[1:])


def weights():
    """The weights of the newest run."""
    runs = Path("my runs").rglob("sae_weights.safetensors")
    return max(runs, key=lambda file: file.stat().st_mtime_ns).read_bytes()


@pytest.mark.parametrize("before", [(), ("--block", "logger.wandb", "--plugin", "own one.py")])
@pytest.mark.parametrize("command", ["cache", "tokenize"])
def test_train_on_what_was_written(command, before):
    """Both commands at the end work, and train the SAE that the file alone trains."""
    Path("own one.py").write_text(PLUGIN)
    file, settings = write(), ("--set", "sae.k=8", "--set", "buffer.tokens=768")
    call("run", file, *settings)
    expected = weights()
    output = call(*before, command, file, *settings, "--to", f"the {command}")
    commands = printed(output)
    assert len(commands) == (2 if command == "cache" else 1)
    results = [type_in(line) for line in commands]
    assert weights() == expected
    assert "trained in" in results[0]
    if command == "cache":
        assert results[1].startswith("ok")


@pytest.mark.parametrize("command", ["cache", "tokenize"])
def test_train_on_what_was_published(hub, command, monkeypatch):
    """`push` and the card name the settings with which any file trains on a published cache."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    file, repository = write(), "me/it"
    call(command, file, "--to", "written")
    (command,) = printed(call("push", "written", "--repo", repository))
    assert "trained in" in type_in(command.replace("FILE", shlex.quote(file)))
    head = hub.repositories[repository].branches["main"]
    card = hub.repositories[repository].commits[head]["README.md"].decode()
    (table,) = re.findall(r"```toml\n(.*?)```", card, re.DOTALL)
    whole = tables()
    del whole["dataset"], whole["buffer"]
    Path("card.toml").write_text(f"{tomli_w.dumps(whole)}\n{table}")
    assert "trained in" in call("run", "card.toml")


def test_resume_a_cache(monkeypatch):
    """The command that is printed after an interruption finishes the cache."""
    file = write()
    with monkeypatch.context() as patch:

        def stop(self, progress):
            raise KeyboardInterrupt

        patch.setattr(CacheWriter, "write", stop)
        output = call("cache", file, "--set", "sae.k=8", "--to", "it", "--hook",
                      "blocks.2.hook_resid_post", code=130)  # fmt: skip
    (command,) = printed(output)
    assert "complete" in type_in(command)


def test_after_a_run():
    """The summary of a run: compare, repeat, load, and the tracker's pages."""
    output = call("run", write(logger=[{"type": "mlflow"}]))
    dashboard, compare, repeat = printed(output)
    assert "tiny" in type_in(compare)
    assert "wrote" in type_in(dashboard)
    expected = weights()
    assert "trained in" in type_in(repeat)
    assert weights() == expected
    (load,) = re.findall(r"load it: +python (-c .*)$", output, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, *shlex.split(load)], capture_output=True, text=True, check=True
    )
    assert "topk" in done.stdout
    (look,) = re.findall(r"figures: +mlflow (.*)$", output, re.MULTILINE)
    from mlflow.cli import cli as mlflow

    name, *options = shlex.split(look)
    with mlflow.make_context("mlflow", [], resilient_parsing=True) as ctx:
        ui = mlflow.get_command(ctx, name)
    store = ui.make_context(name, options).params["backend_store_uri"]
    assert Path(store.removeprefix("sqlite:///")).is_file()


def test_after_a_sweep():
    """The summary of a sweep: compare; and the commands for a file that is a sweep."""
    file = write(sweep={"sae": {"k": [4, 8]}})
    (compare,) = printed(call("run", file))
    assert "k4" in type_in(compare)
    for command in ("cache", "tokenize"):
        with pytest.raises(SaecoreError) as error:
            cli.main([command, file], standalone_mode=False)
        show, run = printed(str(error.value))
        assert "2 points" in type_in(show)
        assert "2 of 2 points are finished" in type_in(run)
    with pytest.raises(SaecoreError) as error:
        cli.main(["show", file, "k5"], standalone_mode=False)
    assert "2 points" in type_in(printed(str(error.value))[0])


def test_after_an_interruption():
    """The run that has not ended is named with the command that resumes it."""
    call("run", write())
    (directory,) = Path("my runs/tiny").iterdir()
    expected = weights()
    for name in ("evaluation.json", "sae/cfg.json", "sae/sae_weights.safetensors"):
        (directory / name).unlink()
    with pytest.raises(SaecoreError) as error:
        saecore.SAE.load_from_disk(directory)
    (command,) = printed(str(error.value))
    assert "trained in" in type_in(command)
    assert weights() == expected


def test_damaged_runs():
    """`saecore verify` shows what is damaged, wherever a message says so."""
    file = write()
    call("run", file)
    (directory,) = Path("my runs/tiny").iterdir()
    (directory / "evaluation.json").write_text('{"figures": 1}')
    for words in (("run", file, "--resume", directory), ("compare", directory)):
        with pytest.raises(SaecoreError) as error:
            cli.main([*map(str, words)], standalone_mode=False)
        (command,) = printed(str(error.value))
        assert "DAMAGED" in call(*shlex.split(command)[1:], code=1)


def test_the_first_steps(capsys):
    """`saecore init`, a file that does not exist, an unknown plugin, release and directory."""
    (command,) = printed(call("init", "a place"))
    assert Path(shlex.split(command)[-1]).is_file()
    assert "[sae]" in call("check", "--no-measure", shlex.split(command)[-1])
    for words in (("run", "none.toml"), ("plugins", "nonesuch"), ("evaluate", "nonesuch"),
                  ("compare", "nonesuch"), ("pull", "gpt2-small-res-jb", "nonesuch")):  # fmt: skip
        with pytest.raises(SystemExit):
            main([*words])
        commands = printed(capsys.readouterr().err)
        assert commands, words
        for line in commands:
            if line != "saecore runs":  # there are none
                type_in(line)


SOURCES = [
    file
    for package in (saecore, saecore_plugins)
    for file in sorted(Path(package.__file__).parent.rglob("*.py"))
]


def texts(file):
    """Every string of a module; {} stands for a value."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "{}" for p in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def options_of(command):
    """The names of a command's options, and those of its subcommands."""
    names = {name for parameter in command.params for name in parameter.opts}
    for inner in getattr(command, "commands", {}).values():
        names |= options_of(inner)
    return names


def test_every_option_in_a_message_exists():
    """No text of either package names an option or a command that there is not."""
    with cli.make_context("saecore", [], resilient_parsing=True) as ctx:
        commands = {name: cli.get_command(ctx, name) for name in cli.list_commands(ctx)}
    known = options_of(cli) | {"--help", "--version"}
    known = known.union(*map(options_of, commands.values()))
    # Of mlflow and train.py.
    foreign = {"--host", "--workers", "--backend-store-uri", "--experiment-id", "--minutes"}
    seen = set()
    for file in SOURCES:
        for text in texts(file):
            options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - foreign
            assert options <= known, f"{file}: {options - known}"
            for name, rest in re.findall(r"`saecore ([a-z-]+)([^`]*)`", text):
                if name == "--help":
                    continue
                assert name in commands, f"{file}: saecore {name}"
                options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest))
                assert options <= options_of(commands[name]), f"{file}: saecore {name} {rest}"
                seen.add(name)
    assert {"run", "show", "verify", "releases", "plugins", "init", "check"} <= seen
