"""MLflow receives parameters, metrics and artifacts; its failures never cost a run."""

import json
import queue
import socket
import threading
import time
from pathlib import Path

import attrs
import pytest
from filelock import FileLock

from saecore.core.logger import RunInfo, SweepInfo
from saecore.errors import PluginError
from saecore.plugins.structure import structure_choice
from saecore.runs.loggers import Loggers


def logger(run_dir, **settings):
    """An MLflow logger for a run directory."""
    table = {"type": "mlflow", **settings}
    return structure_choice("logger", table).build(run_dir)


@pytest.fixture
def info(tmp_path):
    """A run with a directory."""
    directory = tmp_path / "runs" / "name" / "id"
    directory.mkdir(parents=True)
    return RunInfo(
        name="name",
        id="id",
        directory=directory,
        parameters={"sae.k": 3, "logger[0].type": "mlflow"},
        steps=10,
        batch_size=4,
    )


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
    (info.directory / "evaluation.json").write_text("{}")
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
    infos = [
        info,
        RunInfo(
            name="name",
            id="other",
            directory=tmp_path / "runs" / "name" / "other",
            parameters={},
            steps=10,
            batch_size=4,
        ),
    ]
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


def test_points_are_children_of_their_sweep(tmp_path):
    """One MLflow experiment and one parent run for a sweep, made by whichever point comes first;
    what differs as tags; the report is the parent's; given again, nothing is there twice.
    """
    from mlflow.tracking import MlflowClient

    directory = tmp_path / "runs" / "it's"
    points = []
    for k in (1, 2):
        run_dir = directory / f"k{k}" / "id"
        run_dir.mkdir(parents=True)
        sweep = SweepInfo("grid", directory, {"sae.k": k})
        info = RunInfo(
            name=f"k{k}",
            id=f"id{k}",
            directory=run_dir,
            parameters={"sae.k": k},
            steps=10,
            batch_size=4,
            resumed_at=0,
            sweep=sweep,
        )
        points.append((logger(run_dir), info))
    for one, info in points:
        one.start(info)
        one.scalars(1, {"x": 1.0})
    for one, _ in points:
        one.close()
    (directory / "report.html").write_text("a report")
    for _ in range(2):
        logger(directory).sweep_ended(SweepInfo("grid", directory), directory / "report.html", True)
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("grid").experiment_id])
    by_name = {one.info.run_name: one for one in runs}
    assert set(by_name) == {"grid", "k1", "k2"}
    assert len(runs) == 3
    parent = by_name["grid"].info
    assert parent.status == "FINISHED"
    assert [one.path for one in client.list_artifacts(parent.run_id)] == ["report.html"]
    for k in (1, 2):
        tags = by_name[f"k{k}"].data.tags
        assert (tags["mlflow.parentRunId"], tags["sae.k"]) == (parent.run_id, str(k))


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


def test_a_resumed_run_goes_on_in_its_mlflow_run(info):
    """Killed with figures unsent, resumed from step 4: one MLflow run, each step once; what the
    store lacks comes from metrics.jsonl, what it has is not sent again.
    """
    first = logger(info.directory)
    first.start(info)
    for step in (1, 2, 5, 6):  # 3 and 4 were lost; 5 and 6 came after the checkpoint
        first.scalars(step, {"metrics/l0": float(step)})
    first.close()
    assert tracked(info)[1].info.status == "KILLED"
    records = [{"step": i, "tokens": 4 * i, "metrics/l0": float(i), "x": None} for i in range(1, 5)]
    text = "".join(json.dumps(one) + "\n" for one in records)
    (info.directory / "metrics.jsonl").write_text(text)
    second = logger(info.directory)
    second.start(attrs.evolve(info, resumed_at=4, parameters={**info.parameters, "new": 1}))
    for step in (5, 6, 7):
        second.scalars(step, {"metrics/l0": float(step)})
    (info.directory / "evaluation.json").write_text("{}")
    second.close()
    client, run = tracked(info)
    assert run.info.status == "FINISHED"
    assert run.data.params["new"] == "1"
    history = client.get_metric_history(run.info.run_id, "metrics/l0")
    assert sorted((m.step, m.value) for m in history) == [(i, float(i)) for i in range(1, 8)]


def test_a_store_locked_for_a_moment(info, monkeypatch, capsys):
    """A request that fails is made again; nothing is lost and nothing is said."""
    from mlflow.tracking import MlflowClient

    from saecore_plugins.loggers import mlflow as module

    monkeypatch.setattr(module, "RETRY_SECONDS", (0.0, 0.0))
    real, failures = MlflowClient.log_batch, []

    def locked(self, run_id, metrics=(), **others):
        if metrics and len(failures) < 2:
            failures.append(1)
            raise RuntimeError("database is locked")
        return real(self, run_id, metrics=metrics, **others)

    monkeypatch.setattr(MlflowClient, "log_batch", locked)
    one = logger(info.directory)
    one.start(info)
    one.scalars(1, {"x": 1.0})
    one.close()
    assert tracked(info)[1].data.metrics == {"x": 1.0}
    assert len(failures) == 2
    assert "warning" not in capsys.readouterr().err


def test_a_slow_store_drops_the_oldest(info, monkeypatch, capsys):
    """A queue that is full loses its oldest figures, counted, and never blocks."""
    one = logger(info.directory)
    monkeypatch.setattr(one, "_queue", queue.Queue(maxsize=3))
    for step in range(5):
        one.scalars(step, {"x": 1.0})
    assert one._dropped == 2
    one.start(info)
    one.close()
    assert "too slow for 3 lines" in capsys.readouterr().err


def warnings(capsys):
    """The warnings that were printed; a slow machine also gets a line about waiting."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning:")]


ODD = [
    "a@b",
    "a#b",
    "",
    "..",
    "../up",
    "/root",
    "a//b",
    "end/",
    "x" * 300,
    "line\nend",
    "caf\u00e9",
]
"""Names, most of which MLflow refuses."""


def test_names_that_mlflow_refuses(info, capsys):
    """Metrics, parameters, tags of a sweep and artifacts under every odd name arrive, two names
    never as one; a warning says so once, and the run is finished.
    """
    from mlflow.tracking import MlflowClient

    point = info.directory.parent / "point" / 'it\'s "id"'
    point.mkdir(parents=True)
    differs = {"logger[0].type": "x", "\ud800@": "\0", **dict.fromkeys(ODD, 1)}
    differs.update({f"key{i}": 2 for i in range(120)})
    sweep = SweepInfo("name", info.directory.parent, differs)
    values = {name: float(i) for i, name in enumerate(ODD)}
    parameters = {**values, "long": "v" * 7000, "surrogate": "\ud800"}
    run = attrs.evolve(
        info, id=point.name, directory=point, sweep=sweep, name="point", parameters=parameters
    )
    (point / "odd#%?name").mkdir()
    (point / "odd#%?name" / "a b&c.json").write_text("{}")
    (point / "evaluation.json").write_text("{}")
    for resumed in (0, 2):
        one = logger(point)
        one.start(attrs.evolve(run, resumed_at=resumed))
        (point / "metrics.jsonl").write_text("")
        one.scalars(1 + resumed, values)
        one.artifact(point / "odd#%?name")
        one.artifact(point / "missing")
        one.scalars(2 + resumed, values)
        one.close()
        (warning,) = warnings(capsys)
        assert "names that MLflow refuses were changed" in warning
        assert 'left out: "missing" (No such file or directory' in warning
    client = MlflowClient(f"sqlite:///{info.directory.parents[1] / 'mlflow.db'}")
    found = client.search_runs([client.get_experiment_by_name("name").experiment_id])
    (tracked_run,) = [one for one in found if "saecore.run" in one.data.tags]
    assert tracked_run.info.status == "FINISHED"
    assert sorted(tracked_run.data.metrics.values()) == sorted(values.values())
    assert {"caf\u00e9", "long", "surrogate"} < set(tracked_run.data.params)
    assert len(tracked_run.data.params) == len(parameters)
    assert tracked_run.data.tags["logger.0.type"] == "x"
    assert sum(value == "1" for value in tracked_run.data.tags.values()) == len(ODD)
    for key in tracked_run.data.metrics:
        history = client.get_metric_history(tracked_run.info.run_id, key)
        assert [metric.step for metric in history] == [1, 2, 3, 4]
    listed = client.list_artifacts(tracked_run.info.run_id, "odd#%?name")
    assert [file.path for file in listed] == ["odd#%?name/a b&c.json"]


def test_experiments_that_mlflow_refuses(info, capsys):
    """An experiment under any name takes runs and artifacts, each in its own directory inside the
    output.
    """
    names = [*ODD, "a?b", "50%", "a/b", "a%2Fb", " ", "\ud800", "y" * 600]
    output = info.directory.parents[1]
    for number, name in enumerate(names):
        directory = info.directory.with_name(f"id{number}")
        directory.mkdir()
        (directory / f"file{number}").write_text("")
        one = logger(directory, experiment=name or "x")
        one.start(attrs.evolve(info, id=directory.name, directory=directory))
        one.artifact(directory / f"file{number}")
        one.close()
        assert warnings(capsys) == []
        (file,) = output.glob(f"mlartifacts/**/artifacts/file{number}")
        assert file.is_file()
    assert len({file.parents[2] for file in output.glob("mlartifacts/**/file*")}) == len(names)


def test_what_a_server_refuses_is_left_out(info, monkeypatch, capsys):
    """A metric and a parameter that only this store refuses cost nothing else."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    real = MlflowClient.log_batch

    def picky(self, run_id, metrics=(), params=(), tags=()):
        if any(item.key in ("bad", "sae.k") for item in [*metrics, *params]):
            raise MlflowException.invalid_parameter_value("not that")
        return real(self, run_id, metrics=metrics, params=params, tags=tags)

    monkeypatch.setattr(MlflowClient, "log_batch", picky)
    monkeypatch.setattr("saecore_plugins.loggers.mlflow.RETRY_SECONDS", (0.0,))
    one = logger(info.directory)
    one.start(info)
    for step in range(5):
        one.scalars(step, {"good": 1.0, "bad": 2.0, "better": 3.0})
    (info.directory / "evaluation.json").write_text("{}")
    one.close()
    client, run = tracked(info)
    assert run.data.metrics == {"good": 1.0, "better": 3.0}
    assert len(client.get_metric_history(run.info.run_id, "better")) == 5
    assert run.data.params == {"logger.0.type": "mlflow"}
    assert run.info.status == "FINISHED"
    (warning,) = warnings(capsys)
    assert 'left out: "sae.k" (MlflowException: not that), "bad" (' in warning


def test_a_store_that_breaks_ends_the_run(info, monkeypatch, capsys):
    """Where sending fails for good, one warning says where and why, and the status is set as soon
    as the store takes it.
    """
    from mlflow.tracking import MlflowClient

    def broken(self, *args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MlflowClient, "log_batch", broken)
    monkeypatch.setattr("saecore_plugins.loggers.mlflow.RETRY_SECONDS", (0.0,))
    one = logger(info.directory)
    one.start(info)
    one.scalars(1, {"x": 1.0})
    one.close()
    assert tracked(info)[1].info.status == "KILLED"
    (warning,) = warnings(capsys)
    store = info.directory.parents[1] / "mlflow.db"
    assert f"mlflow tracking stopped: sqlite:///{store}: No space left on device" in warning


def test_a_dead_server_is_named(info, monkeypatch, capsys):
    """Its address, without the password, and the reason, within seconds; for a sweep as well."""
    monkeypatch.setattr("saecore_plugins.loggers.mlflow_names.PROBE_WAITS", (0.0, 0.0))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = logger(info.directory, tracking_uri=f"http://user:secret@127.0.0.1:{port}")
    one.start(info)
    one.scalars(1, {"x": 1.0})
    one.close()
    (warning,) = warnings(capsys)
    expected = f"no answer from http://127.0.0.1:{port}: Connection refused; start the server"
    assert expected in warning
    assert "secret" not in warning
    with pytest.raises(PluginError, match=expected):
        one.sweep_ended(SweepInfo("name", info.directory.parent), None, True)


def test_the_end_waits_for_the_lock(info, monkeypatch, capsys):
    """A run that ends while another process opens the store waits as long as its thread does, and
    says so; nothing is lost.
    """
    from saecore_plugins.loggers import mlflow as module

    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.2)
    one = logger(info.directory)
    with FileLock(info.directory.parents[1] / ".mlflow.lock"):
        one.start(info)
        one.scalars(1, {"x": 1.0})
        closing = threading.Thread(target=one.close)
        closing.start()
        closing.join(2)
        assert closing.is_alive()
    monkeypatch.setattr(module, "CLOSE_SECONDS", 60.0)
    closing.join()
    assert tracked(info)[1].data.metrics == {"x": 1.0}
    (line,) = capsys.readouterr().err.splitlines()
    assert "another process may hold" in line


def test_the_end_waits_while_the_store_answers(info, monkeypatch, capsys):
    """A slow store gets everything, however long all of it takes; one that hangs is named."""
    from saecore_plugins.loggers import mlflow as module
    from saecore_plugins.loggers import mlflow_store

    class Slow:
        log_seconds = 0.0
        sent = 0

        def __init__(self, *args):
            pass

        def describe(self):
            pass

        def missing(self):
            return []

        def metrics(self, step, values):
            return [step]

        def log(self, metrics):
            time.sleep(self.log_seconds)
            Slow.sent += len(metrics)

        def end(self):
            pass

        def losses(self):
            return []

    monkeypatch.setattr(mlflow_store, "Store", Slow)
    monkeypatch.setattr(module, "CLOSE_SECONDS", 2.0)
    monkeypatch.setattr(module, "BATCH", 1)
    for seconds in (0.5, 30.0):
        Slow.log_seconds = seconds
        one = logger(info.directory)
        one.start(info)
        for step in range(6):
            one.scalars(step, {"x": 1.0})
        one.close()
        if seconds < 1:
            assert Slow.sent == 6
            assert warnings(capsys) == []
    assert "mlflow.db: no answer within 2 s; the rest was not sent" in capsys.readouterr().err
