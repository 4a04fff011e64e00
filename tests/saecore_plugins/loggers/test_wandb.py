"""wandb receives parameters, metrics and artifacts; without the package there is one clear line."""

import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec

import attrs
import pytest

from saecore.core.logger import RunInfo, SweepInfo
from saecore.errors import PluginError
from saecore.plugins.structure import structure_choice


def logger(run_dir, **settings):
    """A wandb logger for a run directory."""
    table = {"type": "wandb", **settings}
    return structure_choice("logger", table).build(run_dir)


@pytest.fixture
def info(tmp_path):
    """A run with a directory that holds a saved SAE."""
    directory = tmp_path / "runs" / "name" / "id-1"
    (directory / "sae").mkdir(parents=True)
    (directory / "sae" / "cfg.json").write_text("{}")
    return RunInfo(
        name="name", id="id-1", directory=directory, parameters={"sae.k": 3}, steps=10, batch_size=4
    )


def used(one, info):
    """Let a logger see a whole run."""
    one.start(info)
    for step in (1, 2):
        one.scalars(step, {"metrics/l0": float(step)})
    one.scalars(2, {"evaluation/mse": 0.5})
    one.artifact(info.directory / "sae")
    (info.directory / "evaluation.json").write_text("{}")
    one.close()


class Fake(types.ModuleType):
    """Stands in for wandb and its run, and notes what they are called with."""

    def __init__(self):
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)  # transformers looks for it
        self.calls = []

    def init(self, **settings):
        """Begin a run, which is this object too."""
        self.calls.append(("init", settings))
        return self

    def log(self, values, step):
        """Note figures."""
        self.calls.append(("log", step, values))

    def log_artifact(self, path, name, type):
        """Note an artifact."""
        self.calls.append(("artifact", name, type))

    def finish(self, exit_code):
        """Note the end."""
        self.calls.append(("finish", exit_code))


def test_points_of_a_sweep(info, monkeypatch):
    """They are runs of one group in the sweep's project, several at a time in one process."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    sweep = SweepInfo("grid", info.directory.parent.parent, {"sae.k": 3})
    logger(info.directory).start(attrs.evolve(info, sweep=sweep))
    ((_, settings),) = fake.calls
    assert (settings["project"], settings["group"], settings["name"]) == ("grid", "grid", "name")
    assert settings["reinit"] == "create_new"


def test_calls(info, monkeypatch):
    """The run's id, project, directory and settings; every figure at its step; the SAE; the end."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    used(logger(info.directory, project="mine"), info)
    (_, settings), *rest = fake.calls
    assert settings["project"] == "mine"
    assert settings["id"] == "id-1"
    assert settings["resume"] == "allow"
    assert settings["dir"] == str(info.directory)
    assert settings["config"] == {"sae.k": 3}
    assert rest == [
        ("log", 1, {"metrics/l0": 1.0}),
        ("log", 2, {"metrics/l0": 2.0}),
        ("log", 2, {"evaluation/mse": 0.5}),
        ("artifact", "id-1-sae", "sae"),
        ("finish", 0),
    ]


def test_a_run_that_was_stopped_is_not_finished(info, monkeypatch):
    """Without evaluation.json the exit code says so; the project is the experiment's name."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    one = logger(info.directory)
    one.start(info)
    one.close()
    assert fake.calls[0][1]["project"] == "name"
    assert fake.calls[-1] == ("finish", 1)


@pytest.mark.parametrize("there", [None, types.ModuleType("wandb")])
def test_without_the_package(info, monkeypatch, there):
    """Neither a missing package nor a directory of its name passes: one line with the remedy."""
    monkeypatch.setitem(sys.modules, "wandb", there)
    with pytest.raises(PluginError, match="pip install wandb") as caught:
        logger(info.directory)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_offline(info):
    """The real package, offline: figures and settings stand in its files below the run."""
    pytest.importorskip("wandb")
    code = (
        "from pathlib import Path\n"
        "from saecore.core.logger import RunInfo\n"
        "from tests.saecore_plugins.loggers.test_wandb import logger, used\n"
        f"directory = Path({str(info.directory)!r})\n"
        "used(logger(directory), RunInfo(name='name', id='id-1', directory=directory, "
        "parameters={'sae.k': 3}, steps=10, batch_size=4))\n"
    )
    environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (run,) = (info.directory / "wandb").glob("offline-run-*-id-1")
    (log,) = run.glob("run-id-1.wandb")
    for known in (b"metrics/l0", b"evaluation/mse", b"sae.k", b"id-1-sae"):
        assert known in log.read_bytes()


def test_an_artifact_that_is_refused(info, monkeypatch, capsys):
    """Names that wandb refuses are changed; a failing artifact is left out, and the run ends."""
    fake = Fake()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    one = logger(info.directory)
    one.start(info)
    one.artifact(info.directory.with_name("it's a run") / "sae")

    def refuse(*args, **kwargs):
        raise ValueError("no")

    monkeypatch.setattr(fake, "log_artifact", refuse)
    one.artifact(info.directory / "sae")
    one.close()
    assert fake.calls[1:] == [("artifact", "it_s_a_run-sae", "sae"), ("finish", 1)]
    assert capsys.readouterr().err.count("sae is left out: ValueError: no") == 1
