"""MLflow receives parameters, metrics and artifacts; its failures never cost a run."""

import threading
from pathlib import Path

import pytest

from saecore.config.structure import structure_choice
from saecore.plugins import current_host
from saecore.tracking import Loggers, RunInfo


def logger(run_dir, **settings):
    """An MLflow logger for a run directory."""
    table = {"type": "mlflow", **settings}
    return structure_choice("logger", table, current_host()).build(run_dir)


@pytest.fixture
def info(tmp_path):
    """A run with a directory."""
    directory = tmp_path / "runs" / "name" / "id"
    directory.mkdir(parents=True)
    return RunInfo("name", "id", directory, {"sae.k": 3, "logger[0].type": "mlflow"}, 10, 4)


def tracked(info):
    """The MLflow run of a run directory, and a client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{info.directory.parent.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("name")
    (run,) = client.search_runs([experiment.experiment_id], f"tags.`saecore.run` = '{info.id}'")
    return client, run


def test_everything_arrives(info):
    """Parameters under their TOML keys, every metric at every step, artifacts, a finished run."""
    one = logger(info.directory)
    one.start(info)
    for step in range(1, 6):
        one.scalars(step, {"metrics/l0": float(step), "bad": float("nan")})
    (info.directory / "sae").mkdir()
    (info.directory / "sae" / "cfg.json").write_text("{}")
    one.artifact(info.directory / "sae")
    one.close()
    client, run = tracked(info)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"sae.k": "3", "logger.0.type": "mlflow"}
    history = client.get_metric_history(run.info.run_id, "metrics/l0")
    assert [(m.step, m.value) for m in history] == [(i, float(i)) for i in range(1, 6)]
    assert [f.path for f in client.list_artifacts(run.info.run_id, "sae")] == ["sae/cfg.json"]
    artifacts = info.directory.parent.parent / "mlartifacts"
    assert artifacts.is_dir()
    assert not Path("mlruns").exists()


def test_a_store_that_fails_is_reported_once(info, capsys):
    """A store that cannot be opened gives one warning; calls and the end of the run go on."""
    (info.directory / "file").write_text("")
    uri = f"sqlite:///{info.directory / 'file' / 'mlflow.db'}"
    one = logger(info.directory, tracking_uri=uri)
    one.start(info)
    one.scalars(1, {"a": 1.0})
    one.close()
    assert capsys.readouterr().err.count("warning: mlflow tracking stopped") == 1


def test_two_runs_on_one_new_store(info, tmp_path):
    """Two runs that begin at once on a store that does not exist yet both get in."""
    infos = [info, RunInfo("name", "other", tmp_path / "runs" / "name" / "other", {}, 10, 4)]
    loggers = [logger(one.directory) for one in infos]
    threads = [
        threading.Thread(target=lambda a=a, b=b: (a.start(b), a.scalars(1, {"x": 1.0}), a.close()))
        for a, b in zip(loggers, infos, strict=True)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    for one in infos:
        assert tracked(one)[1].data.metrics == {"x": 1.0}


def test_a_logger_that_raises_is_left_out(capsys):
    """The first error of a logger is reported; it is not called again, others are."""

    class Bad:
        def scalars(self, step, values):
            raise RuntimeError("down")

    class Good:
        seen = 0

        def scalars(self, step, values):
            self.seen += 1

    good = Good()
    both = Loggers([("bad", Bad()), ("good", good)])
    both.call("scalars", 1, {})
    both.call("scalars", 2, {})
    assert good.seen == 2
    assert capsys.readouterr().err.count("logger bad failed") == 1
