"""SIGINT and SIGTERM: the step ends, the state is saved, the run can be resumed exactly."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from saecore.activations import token_cache as token_files
from saecore.config import structure_experiment
from saecore.runs import loop
from saecore.runs.run import run
from saecore.runs.signals import SIGNALS, Interrupted, Signals
from saecore.storage import checkpoint
from saecore.training.trainer import Trainer
from tests.faults.small import differences, interrupted, only_run, tables, whole, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Small text files."""
    return write_text(tmp_path_factory.mktemp("text"))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """Token files in a directory of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAECORE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="module")
def reference(text, tmp_path_factory):
    """An uninterrupted run."""
    return whole(tables(text, tmp_path_factory.mktemp("whole")))


def signaled(monkeypatch, owner, name, numbers, at=1):
    """Make the `at`-th call of a function begin with signals to this process."""
    real, calls = getattr(owner, name), []

    def wrapped(*args, **options):
        calls.append(1)
        if len(calls) == at:
            for number in numbers:
                os.kill(os.getpid(), number)
        return real(*args, **options)

    monkeypatch.setattr(owner, name, wrapped)


PLACES = {
    "step": (Trainer, "step", 6, 6),
    "save": (loop, "save", 1, 4),
    "evaluation": (loop.TrainLoop, "_evaluate_if_due", 6, 5),
    "last step": (Trainer, "step", 12, 12),
}
"""owner, function, index of the call, the step that is saved."""


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_saves_and_the_run_can_be_resumed(
    text, tmp_path, reference, monkeypatch, number, place
):
    """In a step, a save, an evaluation, the last step: saved at most a step later, resumed to the
    same bits, with the handlers that were there before in place again.
    """
    base = tables(text, tmp_path)
    handlers = [signal.getsignal(one) for one in SIGNALS]
    owner, name, at, step = PLACES[place]
    with monkeypatch.context() as patch:
        signaled(patch, owner, name, [number], at)
        with pytest.raises(Interrupted) as stop:
            run(structure_experiment(base))
        assert (stop.value.number, stop.value.step) == (number, step)
    assert [signal.getsignal(one) for one in SIGNALS] == handlers
    saved = checkpoint.checkpoints(only_run(base) / "checkpoints")
    assert checkpoint.load(saved[-1])["completed"] == step
    assert differences(interrupted(base), reference) == []


def test_a_signal_inside_an_evaluation(text, tmp_path, reference, monkeypatch):
    """An evaluation is given up at once, however long it would take; the state is saved."""
    base = tables(text, tmp_path)
    from saecore.runs import training_run

    with monkeypatch.context() as patch:
        signaled(patch, training_run, "run_evaluators", [signal.SIGTERM])
        with pytest.raises(Interrupted) as stop:
            run(structure_experiment(base))
        assert stop.value.step == 5
    assert differences(interrupted(base), reference) == []


@pytest.mark.parametrize("place", ["step", "save"])
def test_a_second_signal_stops_at_once(text, tmp_path, reference, monkeypatch, place):
    """Nothing more is saved, nothing half-saved is left, and what was there is valid."""
    base = tables(text, tmp_path)
    with monkeypatch.context() as patch:
        if place == "step":
            signaled(patch, Trainer, "step", [signal.SIGINT, signal.SIGINT], 7)
        else:
            signaled(patch, checkpoint, "write_json", [signal.SIGINT, signal.SIGINT], 2)
        with pytest.raises(Interrupted) as stop:
            run(structure_experiment(base))
    assert stop.value.step == 4
    saved = only_run(base) / "checkpoints"
    assert [one.name for one in saved.iterdir()] == ["step-00000004"]
    assert differences(interrupted(base), reference) == []


def test_a_signal_while_text_is_prepared(text, tmp_path, reference, monkeypatch):
    """Stopped at once; no run was begun, and the next one is whole."""
    monkeypatch.setenv("SAECORE_CACHE", str(tmp_path / "cache"))
    base = tables(text, tmp_path / "runs")
    with monkeypatch.context() as patch:
        signaled(patch, token_files, "pack", [signal.SIGTERM])
        with pytest.raises(Interrupted) as stop:
            run(structure_experiment(base))
    assert stop.value.directory is None
    assert differences(interrupted(base), reference) == []


def test_handlers_only_in_the_main_thread():
    """A run in another thread leaves the handlers alone."""
    before, seen = signal.getsignal(signal.SIGTERM), []

    def inside():
        with Signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_command_line(text, tmp_path, reference):
    """Exit code 130, the command that resumes on the terminal, and it works as printed."""
    import shlex
    import time

    import tomli_w

    base = tables(text, tmp_path, training={"log_every_steps": 1})
    base["training"]["tokens"] = 10**6
    file = tmp_path / "small.toml"
    file.write_text(tomli_w.dumps(base))
    settings = ["--set", "training.tokens=768", "--set", "dataset.epochs=1"]
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    command = [sys.executable, "-c", MAIN, "--plugin", str(slow), "run", str(file), *settings]
    process = subprocess.Popen(
        [*command, "--set", 'logger=[{ type = "slow" }]'], stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "small"
    while process.poll() is None and not any(
        one.stat().st_size for one in metrics.glob("*/metrics.jsonl")
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by SIGINT; saved at step" in told
    again = shlex.split(told.strip().splitlines()[-1])
    assert again[:1] == ["saecore"]
    done = subprocess.run([sys.executable, "-c", MAIN, *again[1:]], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert differences(only_run(base), reference) == []


MAIN = "from saecore.cli import main; main()"

SLOW = '''
"""A logger that makes every step take a moment."""
import time
import attrs
from saecore import Component, hookimpl

@attrs.frozen
class Config:
    """No settings."""

class Slow:
    def __init__(self, config, run_dir): pass
    def start(self, run): pass
    def scalars(self, step, values): time.sleep(0.3)
    def artifact(self, path): pass
    def close(self): pass

@hookimpl
def saecore_components():
    yield Component(kind="logger", name="slow", config=Config, build=Slow, summary="slow")
'''
