"""The hints at the end of a run: where its figures are, and commands that work as printed."""

import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

from click.testing import CliRunner

from saecore.cli import cli
from saecore.cli.run import _figures
from saecore.core.logger import RunInfo
from saecore.plugins.structure import structure_choice
from tests.reports.fabricate import fabricate

HINT = re.compile(r"^  ([a-z ]+): +(.*)$", re.MULTILINE)


def hints(printed):
    """The hints of a run's summary, by name."""
    return dict(HINT.findall(printed[printed.index("the SAE:") :]))


def test_hints_of_a_run(tmp_path, monkeypatch):
    """Without a tracker the figures are in metrics.jsonl; the dashboard comes first; every command
    works as it is printed, in a directory with spaces and quotes.
    """
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    for i in range(4):
        (tmp_path / "text" / f"{i}.py").write_text(
            "\n".join(f"def f{i}_{j}(x):\n    return x * {j}" for j in range(200))
        )
    (tmp_path / "tiny.toml").write_text("""
name = "tiny"
output = "out it's $HOME"
model = {type = "tiny_lm", hook = "blocks.1.hook_resid_post", device = "cpu"}
buffer = {tokens = 512, model_batch_size = 8}
sae = {architecture = "topk", d_sae = 64, k = 4}
training = {tokens = 512, batch_size = 256}
evaluation = {tokens = 64}
[dataset]
type = "text_files"
paths = ["text"]
context_size = 32
held_out = 0.2
""")
    done = CliRunner().invoke(cli, ["run", "tiny.toml"], catch_exceptions=False)
    assert done.exit_code == 0
    found = hints(done.output)
    assert list(found) == ["look at it", "figures", "load it", "compare", "repeat"]
    assert found["figures"].endswith("/metrics.jsonl")
    for name in ("look at it", "compare", "repeat"):
        program, *words = shlex.split(found[name])
        assert program == "saecore"
        again = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert again.exit_code == 0, again.output
    python = found["load it"].replace("python", shlex.quote(sys.executable), 1)
    loaded = subprocess.run(["sh", "-c", python], capture_output=True, text=True, check=True)
    assert "d_sae=64" in loaded.stdout


def figures(output, *tables):
    """The places that the loggers of an experiment point to."""
    loggers = [structure_choice("logger", table) for table in tables]
    return _figures([SimpleNamespace(logger=loggers)] * 2, output)


def test_figures_are_where_they_went(tmp_path, monkeypatch, capsys):
    """The store that was written, once for many points; a server that answers; nothing for one that
    does not, for a store without a tracker, and for a logger that fails.
    """
    run = fabricate(tmp_path / "a b", "name")
    assert figures(tmp_path / "a b", {"type": "mlflow"}) == []
    logger = structure_choice("logger", {"type": "mlflow"}).build(run)
    logger.start(RunInfo(name="n", id="i", directory=run, parameters={}, steps=1, batch_size=1))
    logger.close()
    (place,) = figures(tmp_path / "a b", {"type": "mlflow"}, {"type": "console"})
    store = f"sqlite:///{tmp_path / 'a b' / 'mlflow.db'}"
    assert shlex.split(place)[:4] == ["mlflow", "ui", "--backend-store-uri", store]
    assert figures(tmp_path / "a b", {"type": "console"}) == []
    server = {"type": "mlflow", "tracking_uri": "http://me:secret@127.0.0.1:9"}
    assert figures(tmp_path, server) == []
    monkeypatch.setattr("saecore_plugins.loggers.mlflow.probe", lambda uri, seconds: None)
    assert figures(tmp_path, server) == ["http://127.0.0.1:9"]

    def broken(uri, seconds):
        raise RuntimeError("broken")

    monkeypatch.setattr("saecore_plugins.loggers.mlflow.probe", broken)
    assert figures(tmp_path, server) == []
    assert "warning: logger mlflow: RuntimeError: broken" in capsys.readouterr().err
