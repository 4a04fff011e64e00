"""The command line: what it prints, and that a user's mistake is one line and exit code 2."""

import json
import os
import re
import subprocess
import sys
import tomllib

import pytest
from click.testing import CliRunner

from saecore.cli import COMMANDS, cli, main
from saecore.errors import SaecoreError
from saecore.plugins.host import Host, use_host

PLUGIN = """\
import attrs, click
from saecore import Component, hookimpl


@attrs.frozen
class Config:
    pass


def build():
    return click.Command("hello", callback=lambda: click.echo("hello from a plugin"))


@hookimpl
def saecore_components():
    yield Component(kind="command", name="hello", config=Config, build=build, summary="says hello")
"""


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A directory for token files, in place of the user's."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _elsewhere(cache, tmp_path, monkeypatch):
    """Keep every file out of the user's directories, and leave no host behind."""
    monkeypatch.setenv("SAECORE_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    yield
    use_host(None)


@pytest.fixture(scope="session")
def text_directory(tmp_path_factory):
    """Some generated Python, enough for a few thousand tokens."""
    directory = tmp_path_factory.mktemp("text")
    for i in range(8):
        lines = [f"def f{i}_{j}(x, y):\n    return x * {j} + y - {i}\n" for j in range(40)]
        (directory / f"{i}.py").write_text("\n".join(lines))
    return directory


def experiment_text(paths, output):
    """An experiment that trains for two steps."""
    return f"""\
name = "tiny"
output = {json.dumps(str(output))}
[model]
type = "tiny_lm"
hook = "blocks.1.hook_resid_post"
device = "cpu"
[dataset]
type = "text_files"
paths = [{json.dumps(str(paths))}]
context_size = 32
held_out = 0.2
[buffer]
tokens = 512
model_batch_size = 8
[sae]
architecture = "topk"
d_sae = 64
k = 4
[training]
tokens = 512
batch_size = 256
[evaluation]
tokens = 64
"""


@pytest.fixture
def experiment(tmp_path, text_directory):
    """The file of a two-step experiment that writes below the test's own directory."""
    file = tmp_path / "tiny.toml"
    file.write_text(experiment_text(text_directory, tmp_path / "out"))
    return file


@pytest.fixture(scope="session")
def finished(tmp_path_factory, text_directory, cache):
    """The output of a two-step run and its directory."""
    place = tmp_path_factory.mktemp("finished")
    file = place / "tiny.toml"
    file.write_text(experiment_text(text_directory, place / "out"))
    before = os.environ.get("SAECORE_CACHE")
    os.environ["SAECORE_CACHE"] = str(cache)
    try:
        result = CliRunner().invoke(cli, ["run", str(file)])
    finally:
        if before is None:
            del os.environ["SAECORE_CACHE"]
        else:
            os.environ["SAECORE_CACHE"] = before
    assert result.exit_code == 0, result.output + repr(result.exception)
    (directory,) = (place / "out" / "tiny").iterdir()
    return result.output, directory


def output(*arguments):
    """What a successful command prints."""
    result = CliRunner().invoke(cli, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def error(capsys, *arguments):
    """The message of a command that must fail with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main([str(one) for one in arguments])
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message.removeprefix("error: ").rstrip("\n")


def shell(*arguments):
    """Run the command line in a process of its own."""
    code = "from saecore.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# -- the group -----------------------------------------------------------------------------


def test_help_lists_every_command():
    """`saecore --help` shows all commands with what they do."""
    text = output("--help")
    for name in COMMANDS:
        assert f"\n  {name} " in text


def test_help_groups_commands():
    """They are under what they are for, and the texts of all groups start in one column."""
    lines = output("--help").splitlines()
    titles = [line[:-1] for line in lines[lines.index("Train:") :] if re.match(r"\w", line)]
    assert titles == ["Train", "Look", "Compare", "Publish", "Extend", "From plugins"]
    rows = [re.match(r"  (\S+) +", line) for line in lines]
    rows = [row for row in rows if row and row[1] in COMMANDS]
    assert len(rows) == len(COMMANDS)
    assert len({row.end() for row in rows}) == 1


def test_python_m_saecore(tmp_path):
    """The package runs as a module, under the command's name."""
    command = [sys.executable, "-m", "saecore"]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run([*command, "--help"], env=path, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: saecore ")
    assert done.returncode == 0
    done = subprocess.run([*command, "check", "no.toml"], env=path, capture_output=True, text=True)
    assert done.stderr.startswith("error: no.toml: ")
    assert done.returncode == 2


def completions(monkeypatch, capsys, words):
    """What the Tab key offers after these words, in bash."""
    monkeypatch.setenv("_SAECORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", f"saecore {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(f"saecore {words}|".split()) - 1))
    with pytest.raises(SystemExit):
        main([])
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


def test_completion(monkeypatch, capsys):
    """Names of commands, files and options; a plugin that cannot be imported is no obstacle."""
    from saecore.plugins import host

    broken = host.Provider(
        kind="command", name="runaway", distribution="greet", version="1", module="none"
    )
    found = [*host.installed_plugins(), broken]
    monkeypatch.setattr(host, "installed_plugins", lambda: found)
    use_host(None)
    assert completions(monkeypatch, capsys, "ru") == ["plain,run", "plain,runs", "plain,runaway"]
    assert {f"plain,{name}" for name in COMMANDS} < set(completions(monkeypatch, capsys, ""))
    assert completions(monkeypatch, capsys, "run first.t") == ["file,first.t"]
    assert completions(monkeypatch, capsys, "run --res") == ["plain,--resume"]
    assert completions(monkeypatch, capsys, "--blo") == ["plain,--block"]


def test_completion_runs_no_plugin_file(tmp_path, monkeypatch, capsys):
    """Nor does it complain of one that is missing."""
    file = tmp_path / "hello.py"
    file.write_text("raise SystemExit('it ran')")
    for words in (f"--plugin {file} runs --js", "--plugin no.py runs --js", "--block no runs --js"):
        assert completions(monkeypatch, capsys, words) == ["plain,--json"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command):
    """Every command explains itself."""
    assert f"Usage: cli {command}" in output(command, "--help")


def test_version_is_printed():
    """`saecore --version` prints the version of the package."""
    import saecore

    assert saecore.__version__ in output("--version")


def test_unknown_command_is_refused():
    """A command nobody has ends in one line, with the command that was meant."""
    done = shell("trian")
    assert done.returncode == 2
    assert done.stderr == (
        'error: no command "trian"; did you mean "run"? (`saecore --help` lists the commands)\n'
    )


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("evl", "evaluate"), ("Runs", "runs"), ("new_plugin", "new-plugin"), ("upload", "push"),
     ("dashbord", "dashboard"), ("validate", "check"), ("xyz", None)],
)  # fmt: skip
def test_mistyped_commands(capsys, typed, meant):
    """The nearest command, or the one that the word means elsewhere, is suggested."""
    hint = f'; did you mean "{meant}"?' if meant else ""
    assert error(capsys, typed) == (
        f'no command "{typed}"{hint} (`saecore --help` lists the commands)'
    )


def test_command_plugin_runs(tmp_path):
    """A plugin's command is listed and run like the core's."""
    file = tmp_path / "hello.py"
    file.write_text(PLUGIN)
    assert "hello from a plugin" in output("--plugin", file, "hello")
    assert shell("--plugin", file, "hello").stdout.strip() == "hello from a plugin"


def test_help_lists_command_plugins(tmp_path, monkeypatch):
    """Commands of installed plugins are in the help, with their distribution."""
    from saecore.plugins import host

    found = [
        *host.installed_plugins(),
        host.Provider(
            kind="command", name="hello", distribution="greet", version="1", module="none"
        ),
    ]
    monkeypatch.setattr(host, "installed_plugins", lambda: found)
    use_host(None)
    assert "hello" in output("--help")
    assert "(from greet)" in output("--help")


# -- plugins -------------------------------------------------------------------------------


def test_plugins_lists_every_plugin():
    """Every installed plugin has a line with kind, name, distribution and summary."""
    lines = output("plugins").splitlines()
    assert lines[0].split() == ["kind", "name", "distribution", "version", "summary"]
    listed = [tuple(line.split()[:3]) for line in lines[1:]]
    assert listed == [(one.kind, one.name, one.distribution) for one in Host().providers]


def test_plugins_json_lists_every_plugin():
    """The list is there for programs too."""
    rows = json.loads(output("plugins", "--json"))
    assert [(one["kind"], one["name"]) for one in rows] == [
        (one.kind, one.name) for one in Host().providers
    ]
    assert all(one["summary"] and one["version"] for one in rows)


def test_plugins_describes_one():
    """A plugin's settings are described with type, default and docs."""
    text = output("plugins", "architecture.topk")
    assert text.startswith("architecture.topk (saecore ")
    assert "  k: int (required)\n      Active latents per token.\n" in text
    assert "  rescale_acts_by_decoder_norm: bool (default true)\n" in text


def test_plugins_describes_all_of_a_name():
    """A name that several kinds have describes each of them."""
    text = output("plugins", "topk")
    assert "activation.topk (saecore " in text
    assert "architecture.topk (saecore " in text


def test_plugins_describes_one_as_json():
    """The description is there for programs too."""
    (plugin,) = json.loads(output("plugins", "architecture.topk", "--json"))
    assert (plugin["kind"], plugin["name"]) == ("architecture", "topk")
    fields = {one["name"]: one for one in plugin["fields"]}
    assert fields["k"] == {
        "name": "k", "type": "int", "default": None, "required": True,
        "doc": "Active latents per token.",
    }  # fmt: skip
    assert fields["apply_b_dec_to_input"]["default"] == "true"
    assert not fields["apply_b_dec_to_input"]["required"]


def test_plugins_describes_choices_by_kind():
    """A setting that holds a component shows its kind and default name."""
    (plugin,) = json.loads(output("plugins", "standard", "--json"))
    fields = {one["name"]: one for one in plugin["fields"]}
    assert (fields["activation"]["type"], fields["activation"]["default"]) == (
        "activation", '"relu"',
    )  # fmt: skip


@pytest.mark.parametrize("provider", Host().providers, ids=lambda one: one.full_name)
def test_plugins_describes_every_plugin(provider):
    """Every installed plugin can be described, also as JSON."""
    assert output("plugins", provider.full_name).startswith(f"{provider.full_name} (")
    assert len(json.loads(output("plugins", provider.full_name, "--json"))) == 1


def test_plugins_describes_all_of_one_name():
    """A name that several kinds use describes all of them."""
    found = json.loads(output("plugins", "none", "--json"))
    assert {one["kind"] for one in found} >= {"dead_latents", "normalizer"}


def test_plugins_of_an_unknown_name(capsys):
    """An unknown plugin is refused, with the nearest name."""
    assert error(capsys, "plugins", "nonesuch").startswith('no plugin named "nonesuch"')
    assert 'did you mean "topk"?' in error(capsys, "plugins", "tokp")
    assert 'did you mean "architecture.topk"?' in error(capsys, "plugins", "architecture.tokp")


def test_plugins_shows_a_broken_plugin(monkeypatch):
    """A plugin that cannot be imported is listed as unusable; the list does not break."""
    from saecore.plugins import host

    found = [
        *host.installed_plugins(),
        host.Provider(
            kind="schedule", name="x", distribution="bad", version="1", module="nonesuch_m"
        ),
    ]
    monkeypatch.setattr(host, "installed_plugins", lambda: found)
    use_host(None)
    (line,) = [one for one in output("plugins").splitlines() if one.startswith("schedule") and
               " x " in one]  # fmt: skip
    assert "(unusable: plugin schedule.x (bad 1) failed to import" in line


def test_block_and_plugin_options(tmp_path, capsys):
    """`--block` and `--plugin` change what is on offer for one call only."""
    file = tmp_path / "hello.py"
    file.write_text(PLUGIN)
    text = output("--block", "architecture.topk", "--plugin", file, "plugins")
    assert "architecture  topk " not in text
    assert "file hello.py" in text
    assert "architecture  topk " in output("plugins")
    assert error(capsys, "--block", "nonesuch", "plugins").startswith("--block nonesuch: ")
    assert error(capsys, "--plugin", "no.py", "plugins").startswith("--plugin no.py: cannot be")


# -- check ---------------------------------------------------------------------------------


def test_check_prints_values_with_origins(experiment):
    """`saecore check` prints the resolved file as TOML, each value with where it was set."""
    text = output("check", experiment, "--no-measure", "--set", "sae.k=8")
    tables = tomllib.loads(text)
    assert tables["sae"]["k"] == 8
    assert tables["training"]["optimizer"]["type"] == "adam"
    origins = {
        line.split(" = ")[0]: line.rpartition("# ")[2]
        for line in text.partition("[sae]")[2].partition("[")[0].splitlines()
        if " = " in line
    }
    assert origins["k"] == "--set"
    assert origins["d_sae"] == str(experiment)
    assert origins["rescale_acts_by_decoder_norm"] == "default"


def test_check_prints_a_plan(experiment):
    """The plan stands below the file as comments, and as numbers in the JSON."""
    text = output("check", experiment)
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert comments[0] == "# 512 tokens in 2 steps of 256"
    for name in ("model", "window", "SAE", "gradients", "optimizer", "working memory"):
        assert any(line.startswith(f"#   {name}") for line in comments), name
    assert "an estimate" in comments[-1]
    found = json.loads(output("check", experiment, "--json"))
    assert found["experiment"]["sae"]["d_sae"] == 64
    assert found["origins"]["sae.d_sae"] == str(experiment)
    assert found["plan"]["memory"]["SAE"] == 4 * (2 * 64 * 256 + 64 + 256)
    assert found["plan"]["needed"] < found["plan"]["limit"]
    assert found["plan"]["time"]["seconds"] > 0


def test_check_without_measuring_loads_no_model(experiment):
    """With --no-measure the file is checked and the steps are counted, whatever the model is."""
    experiment.write_text(experiment.read_text().replace(
        'type = "tiny_lm"', 'type = "huggingface"\nname = "nonesuch/nonesuch"'))  # fmt: skip
    text = output("check", experiment, "--no-measure")
    assert tomllib.loads(text)["model"]["name"] == "nonesuch/nonesuch"
    assert text.endswith("# 512 tokens in 2 steps of 256\n")
    assert json.loads(output("check", experiment, "--no-measure", "--json"))["plan"] is None


@pytest.mark.parametrize("command", ["check", "run"])
def test_what_does_not_fit_is_refused(capsys, experiment, command):
    """An SAE beyond this machine's memory ends with one line before anything is allocated."""
    message = error(capsys, command, experiment, "--set", "sae.d_sae=1_000_000_000_000")
    assert len(message.splitlines()) == 1
    assert re.match(r"this run needs [\d.]+ GiB on cpu, where [\d.]+ GiB are available; ", message)
    assert "lower sae.d_sae from 1_000_000_000_000 to " in message


def test_check_warns_when_it_is_close(experiment, monkeypatch):
    """More than four fifths of the memory is a warning, not an error."""
    from saecore.runs.planning import memory

    monkeypatch.setattr(memory, "memory_limit", lambda device: memory.held(device) * 27 // 20)
    result = CliRunner().invoke(cli, ["check", str(experiment)])
    assert result.exit_code == 0, result.output
    size = r"[\d.]+ [MG]iB"
    assert re.match(rf"warning: the run takes {size} of the {size} of memory on cpu", result.stderr)


def test_check_writes_nothing(experiment, tmp_path, cache):
    """Checking an experiment leaves no trace."""
    before = sorted(tmp_path.rglob("*"))
    output("check", experiment)
    assert sorted(tmp_path.rglob("*")) == before


def test_check_accepts_the_record_of_a_run(finished):
    """The experiment.json of a finished run is an experiment file."""
    text = output("check", finished[1] / "experiment.json", "--no-measure")
    assert tomllib.loads(text)["sae"]["k"] == 4


def test_check_with_a_blocked_default(capsys, experiment):
    """A default that is blocked is reported like any other problem."""
    message = error(capsys, "--block", "evaluator.loss_recovered", "check", experiment)
    assert 'evaluator[1].type: no evaluator named "loss_recovered"' in message


# -- init ----------------------------------------------------------------------------------


def test_init_writes_valid_experiments(tmp_path):
    """`saecore init` writes experiments that check, and says what to type next."""
    text = output("init", tmp_path)
    files = sorted((tmp_path / "experiments").rglob("*.toml"))
    assert tmp_path / "experiments" / "topk.toml" in files
    for file in files:
        assert f"wrote    {file}" in text
        output("check", file, "--no-measure")
    assert f"saecore run {tmp_path / 'experiments' / 'topk.toml'}" in text


def test_init_keeps_what_is_there(tmp_path):
    """Files that exist are never overwritten."""
    file = tmp_path / "experiments" / "topk.toml"
    file.parent.mkdir()
    file.write_text("# mine\n")
    assert f"kept     {file} (exists)" in output("init", tmp_path)
    assert file.read_text() == "# mine\n"


def test_init_defaults_to_here(tmp_path):
    """Without a directory the examples are written below the current one."""
    output("init")
    assert (tmp_path / "experiments" / "topk.toml").is_file()


def test_init_below_a_file(capsys, tmp_path):
    """A directory that cannot be made is a one-line error."""
    (tmp_path / "file").write_text("")
    assert "cannot be written" in error(capsys, "init", tmp_path / "file")


# -- runs ----------------------------------------------------------------------------------


def test_init_names_its_own_argument(capsys, tmp_path):
    """A directory that cannot be written is that of the argument, not the setting of a run."""
    (tmp_path / "file").write_text("")
    message = error(capsys, "init", tmp_path / "file")
    assert "set DIRECTORY to" in message
    assert "set output" not in message


def fabricate(root, name, run_id, *, l0=None, sae=None, **training):
    """Write the records of a run; without `l0` one that did not finish."""
    directory = root / name / run_id
    directory.mkdir(parents=True)
    sae = sae or {"architecture": "topk", "k": 4, "d_sae": 64}
    (directory / "experiment.json").write_text(
        json.dumps({"experiment": {"name": name, "sae": sae}})
    )
    if l0 is not None:
        figures = {
            "reconstruction": {"l0": {"value": l0}, "explained_variance": {"value": 0.5}},
            "loss_recovered": {"ce_loss_score": {"value": 0.9}},
        }
        record = {"training": {"tokens": 1000, **training}, "figures": figures}
        (directory / "evaluation.json").write_text(json.dumps(record))
    return directory


def test_runs_of_an_empty_directory(tmp_path):
    """A directory without runs is no error."""
    assert output("runs", "--output", tmp_path).strip() == "no runs"
    assert json.loads(output("runs", "--output", tmp_path, "--json")) == []


def test_runs_of_a_missing_directory(capsys, tmp_path):
    """A missing directory is a one-line error that says what to do."""
    message = error(capsys, "runs", "--output", tmp_path / "nonesuch")
    assert message.startswith(f"{tmp_path / 'nonesuch'}: no such directory; ")
    assert error(capsys, "runs").startswith("runs: no such directory")


def test_runs_lists_finished_and_unfinished(tmp_path):
    """Every run has a line; figures it does not have yet are dashes."""
    fabricate(tmp_path, "a", "1", l0=4.0, tokens_per_second=1234.5)
    fabricate(tmp_path, "b", "2")
    header, first, second = output("runs", "--output", tmp_path).splitlines()
    assert header.split()[:3] == ["name", "id", "architecture"]
    assert first.split() == ["a", "1", "topk", "64", "k=4", "1,000", "4", "0.5", "0.9", "1,234"]
    assert second.split() == ["b", "2", "topk", "64", "k=4", "-", "-", "-", "-", "-"]


def test_runs_json_has_plain_values(tmp_path):
    """The list for programs has numbers, and null for what is not there."""
    fabricate(tmp_path, "a", "1", l0=4.0)
    fabricate(tmp_path, "b", "2")
    first, second = json.loads(output("runs", "--output", tmp_path, "--json"))
    assert (first["name"], first["l0"], first["ce_loss_score"]) == ("a", 4.0, 0.9)
    assert (second["name"], second["l0"]) == ("b", None)


def ids(*arguments):
    """The ids in the order in which `saecore runs` lists them."""
    return [one["id"] for one in json.loads(output("runs", "--json", *arguments))]


def test_runs_sort(tmp_path):
    """Runs are sorted by any column, both ways; runs without the figure come last."""
    fabricate(tmp_path, "c", "1", l0=9.0)
    fabricate(tmp_path, "a", "2", l0=3.0)
    fabricate(tmp_path, "b", "3")
    where = ("--output", tmp_path)
    assert ids(*where) == ["1", "2", "3"]
    assert ids(*where, "--sort", "-id") == ["3", "2", "1"]
    assert ids(*where, "--sort", "name") == ["2", "3", "1"]
    assert ids(*where, "--sort", "l0") == ["2", "1", "3"]
    assert ids(*where, "--sort", "-l0") == ["1", "2", "3"]


def test_runs_sort_by_mixed_widths(tmp_path):
    """Runs given by d_sae and by expansion_factor can be sorted together."""
    fabricate(tmp_path, "a", "1")
    fabricate(tmp_path, "b", "2", sae={"architecture": "topk", "k": 4, "expansion_factor": 8.0})
    assert sorted(ids("--output", tmp_path, "--sort", "d_sae")) == ["1", "2"]


def test_runs_sort_by_an_unknown_column(capsys, tmp_path):
    """An unknown column is refused with the known ones."""
    message = error(capsys, "runs", "--output", tmp_path, "--sort", "nonesuch")
    assert message.startswith("--sort nonesuch: expected one of name, id, ")


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"experiment": {}}', '{"experiment": {"sae": {}}}',
     '{"experiment": {"name": "a", "sae": []}}', '{"experiment": {"name": "a", "sae": {"k": 1}}}',
     '{"experiment": []}', "\udcff"],
)  # fmt: skip
def test_runs_leaves_out_damaged_records(tmp_path, text):
    """A file that is no run's record is left out with a warning; the others are listed."""
    fabricate(tmp_path, "a", "1")
    bad = fabricate(tmp_path, "b", "2") / "experiment.json"
    bad.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = CliRunner().invoke(cli, ["runs", "--output", str(tmp_path), "--json"])
    assert result.exit_code == 0, repr(result.exception)
    assert [one["id"] for one in json.loads(result.stdout)] == ["1"]
    assert str(bad) in result.stderr


@pytest.mark.parametrize("text", ["{", "[]", '{"figures": []}', '{"figures": {"x": {"l0": 1}}}'])
def test_runs_survives_damaged_figures(tmp_path, text):
    """Damaged figures of one run do not hide the others."""
    fabricate(tmp_path, "a", "1")
    (fabricate(tmp_path, "b", "2") / "evaluation.json").write_text(text)
    result = CliRunner().invoke(cli, ["runs", "--output", str(tmp_path), "--json"])
    assert result.exit_code == 0, repr(result.exception)
    assert "1" in [one["id"] for one in json.loads(result.stdout)]


# -- run -----------------------------------------------------------------------------------


def test_run_leaves_its_records_and_says_what_next(finished):
    """A run prints its figures and the next commands, and leaves SAE, settings and figures."""
    text, directory = finished
    assert "explained_variance" in text
    assert f"saecore runs --output {directory.parent.parent}" in text
    assert f"saecore run {directory / 'experiment.json'}" in text
    assert {one.name for one in directory.iterdir()} >= {
        "experiment.json", "evaluation.json", "metrics.jsonl", "sae",
    }  # fmt: skip
    assert {one.name for one in (directory / "sae").iterdir()} >= {
        "cfg.json", "sae_weights.safetensors", "sparsity.safetensors",
    }  # fmt: skip
    record = json.loads((directory / "experiment.json").read_text())
    assert record["plugins"]["architecture.topk"].startswith("saecore ")
    assert json.loads((directory / "evaluation.json").read_text())["training"]["tokens"] == 512


def test_the_command_that_resumes_has_every_option_once(experiment, monkeypatch):
    """What is printed after a signal repeats the options given, each of them once."""
    from saecore.runs import run as module
    from saecore.runs.signals import Interrupted

    def stopped(*args, **options):
        raise Interrupted(2, experiment.parent / "a-run", 7)

    monkeypatch.setattr(module, "run", stopped)
    words = ["run", str(experiment), "--set", "seed=1", "--trust-remote-code"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 130
    assert "saved at step 7" in done.stderr
    again = done.stderr.strip().splitlines()[-1].split()
    assert again == ["saecore", *words, "--resume", str(experiment.parent / "a-run")]


def test_runs_lists_a_real_run(finished):
    """What a run leaves is what `saecore runs` reads."""
    _, directory = finished
    (row,) = json.loads(output("runs", "--output", directory.parent.parent, "--json"))
    assert (row["id"], row["architecture"], row["d_sae"]) == (directory.name, "topk", 64)
    assert row["sparsity"] == "k=4"
    assert row["tokens"] == 512
    assert 0 < row["l0"] <= 4
    assert row["ce_loss_score"] is not None


def test_run_of_a_record_repeats_the_run(finished, tmp_path):
    """`saecore run experiment.json` gives the same weights again."""
    _, directory = finished
    output("run", directory / "experiment.json", "--set", f"output={tmp_path / 'again'}")
    (again,) = (tmp_path / "again" / "tiny").iterdir()
    weights = "sae/sae_weights.safetensors"
    assert (again / weights).read_bytes() == (directory / weights).read_bytes()


def test_run_uses_a_blocked_and_a_file_plugin(experiment, tmp_path):
    """Plugins of other distributions are announced before they run, and recorded."""
    file = tmp_path / "half.py"
    file.write_text(
        "import attrs\nfrom saecore import Component, hookimpl\n\n\n"
        "@attrs.frozen\nclass Config:\n    pass\n\n\n"
        "@hookimpl\ndef saecore_components():\n"
        '    yield Component(kind="schedule", name="half", config=Config,\n'
        '        build=lambda c: lambda s, t: 0.5, summary="half")\n'
    )
    text = output(
        "--plugin", file, "run", experiment, "--set", "training.lr_schedule=half",
        "--set", "evaluation.tokens=0",
    )  # fmt: skip
    assert "plugins from: file half.py sha256:" in text
    (directory,) = (tmp_path / "out" / "tiny").iterdir()
    record = json.loads((directory / "experiment.json").read_text())
    assert record["plugins"]["schedule.half"].startswith("file half.py sha256:")


# -- mistakes ------------------------------------------------------------------------------


def test_unknown_key_in_a_process_of_its_own(experiment):
    """The real command ends with code 2, the problem on stderr, and no traceback."""
    done = shell("run", experiment, "--set", "sae.kk=3")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {experiment}: 1 problem\n  sae.kk: unknown key; did you")
    assert done.stderr.rstrip().endswith("[--set]")
    assert "Traceback" not in done.stderr


def test_missing_file_in_a_process_of_its_own(tmp_path):
    """A missing file ends with code 2 and one problem."""
    done = shell("check", tmp_path / "nonesuch.toml")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'nonesuch.toml'}: 1 problem\n")
    assert "no such file (`saecore init` writes example experiments)" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_hook_in_a_process_of_its_own(experiment):
    """A mistake found after torch is loaded is as short, and noise of libraries stays away."""
    done = shell("run", experiment, "--set", "model.hook=blocks.9.hook_resid_post")
    assert done.returncode == 2
    assert done.stderr.startswith("error: model.hook: tiny_lm has no hook")
    assert len(done.stderr.splitlines()) == 1


def run_error(capsys, experiment, *settings):
    """The message of a run that must be refused; it leaves no run directory."""
    options = [part for one in settings for part in ("--set", one)]
    message = error(capsys, "run", experiment, *options)
    parent = experiment.parent / "out" / "tiny"
    assert not parent.exists() or list(parent.iterdir()) == []
    return message


def test_unknown_hook_lists_the_nearest(capsys, experiment):
    """A hook that the model does not have is refused with the nearest one."""
    message = run_error(capsys, experiment, "model.hook=blocks.9.hook_resid_post")
    assert "tiny_lm has no hook 'blocks.9.hook_resid_post'" in message
    assert 'hook_resid_post"?' in message


def test_target_hook_for_topk(capsys, experiment):
    """An architecture that reconstructs what it reads refuses a target."""
    message = run_error(capsys, experiment, "model.target_hook=blocks.2.hook_resid_post")
    assert message.startswith(f"{experiment}: 1 problem\n  model.target_hook: architecture topk")


def test_several_hooks_for_topk(capsys, experiment):
    """An architecture that reads one hook refuses several."""
    text = experiment.read_text().replace(
        'hook = "blocks.1.hook_resid_post"', 'hooks = ["blocks.1.hook_mlp_out"]'
    )
    experiment.write_text(text)
    assert "model.hooks: architecture topk reads one hook" in run_error(capsys, experiment)


@pytest.mark.parametrize(
    ("hook", "head", "reason"),
    [
        ("blocks.1.hook_resid_post", 0, "blocks.1.hook_resid_post has no heads"),
        ("blocks.1.attn.hook_z", 99, "blocks.1.attn.hook_z has heads 0 to "),
    ],
)
def test_impossible_head(capsys, experiment, hook, head, reason):
    """A head that the hook does not have is refused."""
    message = run_error(capsys, experiment, f"model.hook={hook}", f"model.head={head}")
    assert f"model.head: {reason}" in message


def test_k_above_d_sae(capsys, experiment):
    """More active latents than latents are refused, with the file."""
    message = run_error(capsys, experiment, "sae.k=65")
    assert message == f"{experiment}: 1 problem\n  sae.k: expected at most d_sae = 64, got 65"


def test_missing_text(capsys, experiment, tmp_path):
    """Text that is not there is refused by the path given."""
    message = run_error(capsys, experiment, f'dataset.paths=["{tmp_path}/nonesuch"]')
    assert message.startswith(f"dataset.paths: {tmp_path}/nonesuch: no such file")


def test_no_paths(capsys, experiment):
    """An empty list of paths is refused."""
    assert run_error(capsys, experiment, "dataset.paths=[]").startswith("dataset.paths: expected")


def test_more_tokens_than_text(capsys, experiment):
    """A run longer than its text says how much there is and how many epochs it would take."""
    message = run_error(capsys, experiment, "training.tokens=10_000_000")
    assert message.startswith("training.tokens: the text has ")
    assert "expected 9_999_872" in message
    epochs = int(message.rpartition("dataset.epochs = ")[2])
    available = int(message.partition("the text has ")[2].split()[0])
    assert (epochs - 1) * available < 9_999_872 <= epochs * available


def test_context_larger_than_the_model(capsys, experiment):
    """A context that the model cannot read is refused before any text is read."""
    message = run_error(
        capsys, experiment, "dataset.context_size=257", 'dataset.paths=["/nonesuch"]'
    )
    assert "dataset.context_size: tiny_lm takes at most 256 tokens, got 257" in message


def test_tokenizer_without_the_separator(capsys, experiment):
    """A special token that the tokenizer lacks, or an id beyond it, is refused."""
    message = run_error(capsys, experiment, "dataset.separator=9_999_999")
    assert "dataset.separator: expected a token id below " in message


def test_nothing_held_out(capsys, experiment):
    """Figures on held-out text need held-out text."""
    message = run_error(capsys, experiment, "dataset.held_out=0")
    assert message.startswith("dataset.held_out: no context of held-out text")


def test_output_below_a_file(capsys, experiment, tmp_path):
    """An output that cannot be written is refused before anything slow happens."""
    (tmp_path / "file").write_text("")
    message = run_error(capsys, experiment, f"output={tmp_path / 'file' / 'runs'}")
    assert message.startswith(f"{tmp_path / 'file' / 'runs' / 'tiny'}: cannot be written: ")
    assert message.endswith("set output to another directory")


def test_missing_init_from(capsys, experiment, tmp_path):
    """An SAE to start from that is not there is refused."""
    message = run_error(capsys, experiment, f"sae.init_from={tmp_path / 'nonesuch'}")
    assert "nonesuch: no such" in message


def test_init_from_of_another_width(capsys, experiment, finished):
    """An SAE to start from must have the shape of the new one."""
    sae = finished[1] / "sae"
    message = run_error(capsys, experiment, f"sae.init_from={sae}", "sae.d_sae=32")
    assert f"sae.init_from: {sae}: " in message
    assert "expected [" in message


@pytest.mark.parametrize("value", ["2024-01-01", "nan", "inf"])
def test_metadata_that_cannot_be_saved(capsys, experiment, value):
    """Metadata that JSON cannot hold is refused at the start, not after training."""
    assert "sae.metadata" in run_error(capsys, experiment, f"sae.metadata.x={value}")


def test_missing_cuda_names_the_file(capsys, experiment):
    """A device that this machine lacks is refused, with the file."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    message = run_error(capsys, experiment, "model.device=cuda")
    assert message.startswith(f"{experiment}: 1 problem\n  model.device: this machine has no cuda")


def test_errors_are_saecore_errors_for_python(experiment):
    """Under another click program the same mistakes are exceptions of one family."""
    result = CliRunner().invoke(cli, ["check", str(experiment), "--set", "sae.kk=3"])
    assert isinstance(result.exception, SaecoreError)
