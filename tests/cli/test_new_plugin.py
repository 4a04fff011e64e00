"""`saecore new-plugin`: what it writes works as it is written; what cannot work is refused."""

import json
import tomllib

import pytest
from click.testing import CliRunner

from saecore.cli import cli, main
from saecore.cli.new_plugin import OFFERED
from saecore.errors import PluginError
from saecore.plugins.host import use_host
from tests.strangers import Environment


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Write into a directory of the test's own, and leave no host behind."""
    monkeypatch.chdir(tmp_path)
    yield
    use_host(None)


def new_plugin(*arguments):
    """Run the command in this process."""
    return CliRunner().invoke(cli, ["new-plugin", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Mine", "--kind", "logger"], "'Mine': expected a name of up to 40 lower-case letters"),
        (["2nd", "--kind", "logger"], "'2nd': expected a name"),
        (["my-own", "--kind", "logger"], "'my-own': expected a name"),
        (["class", "--kind", "logger"], "'class': expected a name"),
        (["../x", "--kind", "logger"], "'../x': expected a name"),
        (["topk", "--kind", "architecture"], "architecture.topk already exists, in saecore 0"),
        (["here", "--kind", "logger"], "saecore-here: already exists"),
        (["mine", "--kind", "loger"], '--kind loger: no such kind; did you mean "logger"?'),
        (["mine", "--kind", "schedule"], "--kind schedule: there is no template for this kind"),
        (["topk", "--kind", "model"], "--kind model: there is no template for this kind"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, arguments, message):
    """Names that are no names or are taken, kinds without a template: one line, nothing written."""
    (tmp_path / "saecore-here").mkdir()
    result = new_plugin(*arguments)
    assert isinstance(result.exception, PluginError)
    assert str(result.exception).startswith(message)
    assert "\n" not in str(result.exception)
    assert [one.name for one in tmp_path.iterdir()] == ["saecore-here"]


def test_a_package_that_is_installed_is_not_shadowed(tmp_path, monkeypatch):
    """A package of the name is refused, whichever kind it offers."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "saecore_mine.py").write_text("")
    with pytest.raises(PluginError, match="a package saecore_mine is already installed"):
        cli.main(["new-plugin", "mine", "--kind", "logger"], standalone_mode=False)


def test_a_refusal_on_the_command_line(capsys):
    """Exit code 2 and one line, as everywhere."""
    with pytest.raises(SystemExit) as caught:
        main(["new-plugin", "mine", "--kind", "monitor"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: --kind monitor: ")


def test_help_names_the_kinds():
    """The help lists what there are templates for, and nothing else."""
    text = " ".join(new_plugin("--help").output.split())
    assert "One of architecture, activation, dataset, logger, evaluator, release." in text


@pytest.mark.parametrize("kind", OFFERED)
def test_nothing_is_left_unfilled(tmp_path, kind):
    """Every file is valid as what it is, without a placeholder left; the five commands are
    printed.
    """
    result = new_plugin("two_words", "--kind", kind)
    assert result.exit_code == 0
    root = tmp_path / "saecore-two-words"
    files = [one for one in root.rglob("*") if one.is_file()]
    assert len(files) == len([one for one in result.output.splitlines() if "wrote " in one])
    for file in files:
        text = file.read_text()
        assert "$" not in text
        assert "tmpl" not in text
        if file.suffix == ".py":
            compile(text, file, "exec")
        elif file.suffix == ".toml":
            tomllib.loads(text)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project["name"] == "saecore-two-words"
    assert project["entry-points"]["saecore"] == {f"{kind}.two_words": "saecore_two_words"}
    last = "saecore run experiment.toml"
    if kind == "release":
        last = (
            "python -m saecore_two_words.sample sample\n  saecore convert sample out --to saelens"
        )
    assert result.output.endswith(
        f"  cd saecore-two-words\n  pip install -e '.[test]'\n  pytest\n  {last}\n"
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment for all of them, with one cache of tokens."""
    place = tmp_path_factory.mktemp("strangers")
    return Environment(place / "env", place / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [one for one in OFFERED if one != "release"])
def test_from_nothing_to_a_trained_sae(environment, tmp_path, kind):
    """The commands that are printed work: installed, its own test passes, an SAE is trained with
    it, here on fewer tokens than the file says.
    """
    name = f"my_{kind}"
    less = "--set training.tokens=4096 --set evaluation.tokens=1024 --set sae.d_sae=64"
    printed = environment.run(f"saecore new-plugin {name} --kind {kind}", tmp_path).stdout
    lines = [one.strip() for one in printed.partition("next, up to a trained SAE:")[2].split("\n")]
    commands = [one for one in lines if one]
    assert len(commands) == 4  # and new-plugin itself
    commands[-1] += f" {less}"
    printed = environment.run(" && ".join(commands), tmp_path).stdout
    assert "1 passed" in printed
    assert f"plugins from: saecore-my-{kind} 0.1.0" in printed
    (run,) = (tmp_path / f"saecore-my-{kind}" / "runs" / name).iterdir()
    record = json.loads((run / "experiment.json").read_text())
    assert record["plugins"][f"{kind}.{name}"] == f"saecore-my-{kind} 0.1.0"
    assert (run / "sae" / "cfg.json").exists()
    if kind == "logger":
        assert "metrics/l0" in (run / f"{name}.txt").read_text()
    if kind == "evaluator":
        figures = json.loads((run / "evaluation.json").read_text())["figures"]
        assert 0 < figures[name]["largest_feature_share"]["value"] <= 1


@pytest.mark.slow
def test_from_nothing_to_a_format(environment, tmp_path):
    """The commands that are printed for a format work: its own test passes, its sample converts to
    another format, and back.
    """
    printed = environment.run("saecore new-plugin my_format --kind release", tmp_path).stdout
    lines = [one.strip() for one in printed.partition("up to a converted SAE:")[2].split("\n")]
    printed = environment.run(" && ".join(one for one in lines if one), tmp_path).stdout
    assert "1 passed" in printed
    root = tmp_path / "saecore-my-format"
    assert json.loads((root / "out" / "cfg.json").read_text())["architecture"] == "standard"
    environment.run("saecore convert out back --to my_format", root)
    assert sorted(one.name for one in (root / "back").iterdir()) == [
        "my_format.json", "my_format.safetensors"
    ]  # fmt: skip
