"""Run a sweep: train every point that is not finished, side by side where possible."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import torch

from saecore.config.experiment import Experiment
from saecore.config.sweep import Point, Sweep
from saecore.core.logger import SweepInfo
from saecore.core.model import ModelBackend
from saecore.errors import SaecoreError, labeled_errors
from saecore.runs.inputs import RunInputs, build_inputs, load_model
from saecore.runs.limits import check_limits
from saecore.runs.open_run import OpenRun
from saecore.runs.signals import Interrupted, Signals
from saecore.runs.training_run import TrainingRun
from saecore.storage.lock import locked
from saecore.storage.remote_code import remote_code
from saecore.storage.run_directory import RunDirectory, make_writable
from saecore.sweeps.groups import Group, groups, shareable, shared_settings
from saecore.sweeps.progress import SweepProgress
from saecore.sweeps.record import SweepRecord, earlier
from saecore.sweeps.report import notify_loggers, write_sweep_report
from saecore.sweeps.shared_inputs import SharedInputs, batches_that_fit


@attrs.frozen(kw_only=True)
class SweepResult:
    """The result of a sweep."""

    directory: Path
    """The sweep's directory."""
    finished: Mapping[str, Path]
    """Directories of finished runs by point, including those of earlier processes."""
    failed: Mapping[str, str]
    """Error messages by point."""
    report: Path | None = None
    """The comparison of the finished runs."""


def run_sweep(sweep: Sweep, trust_remote_code: bool = False) -> SweepResult:
    """Train every point that is not finished; share activations as far as memory allows.

    Each point ends with the same bits as if it were trained alone. A point that fails is reported
    and the others continue; interrupted points are resumed.

    Args:
        sweep: the sweep.
        trust_remote_code: whether Python code that comes with the model may run.

    Raises:
        SaecoreError: the sweep's directory cannot be used.
        Interrupted: SIGINT or SIGTERM arrived; everything is saved, and the same call resumes.
    """
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        directory = make_writable(sweep.directory)
        stack.enter_context(locked(directory, "give this sweep another name"))
        training = _Sweep(sweep, trust_remote_code, signals)
        try:
            streams = groups(sweep.points)
            training.check(streams)
            for group in streams:
                training.train(group)
        except Interrupted as stop:
            stop.directory = sweep.directory
            notify_loggers(sweep, None, finished=False)
            raise
        report = write_sweep_report(sweep, training.finished)
        notify_loggers(sweep, report, finished=not training.failed)
        return SweepResult(
            directory=sweep.directory,
            finished=training.finished,
            failed=training.failed,
            report=report,
        )


class _Sweep:
    """The state of a sweep in training."""

    def __init__(self, sweep: Sweep, trust_remote_code: bool, signals: Signals) -> None:
        self._sweep, self._trust, self._signals = sweep, trust_remote_code, signals
        self._record = SweepRecord(sweep)
        self.finished: dict[str, Path] = {}
        self.failed: dict[str, str] = {}
        self._unfinished: dict[str, RunDirectory] = {}
        self._loaded: tuple[dict[str, Any], tuple[ModelBackend, torch.device]] | None = None
        for point in sweep.points:
            run = earlier(point)
            if run is not None and run.is_finished:
                self._end(point, run.path, "finished before")
            elif run is not None:
                self._unfinished[point.name] = run

    def check(self, streams: Sequence[Group]) -> None:
        """Report the points that do not fit their model or data, before the first one starts."""
        for group in streams:
            points = self._left(group)
            if not points:
                continue
            with remote_code(self._trust), self._failures(points):
                first = points[0].experiment
                recorded = "recorded" in first.dataset.loader.component.provides
                read = first.model is not None and not recorded
                backend = self._model(first)[0] if read else None
                for point in points:
                    with self._failures([point]):
                        check_limits(point.experiment, backend)

    def _left(self, group: Group) -> list[Point]:
        """The points of a group that have neither finished nor failed."""
        ended = {*self.finished, *self.failed}
        return [point for point in group.points if point.name not in ended]

    def _model(self, experiment: Experiment) -> tuple[ModelBackend, torch.device]:
        """Load the model of an experiment, or return it if it is the one loaded last."""
        settings = shared_settings(experiment)
        key = {name: value for name, value in settings.items() if name.startswith("model.")}
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # free the other model first
            self._loaded = key, load_model(experiment)
        return self._loaded[1]

    def train(self, group: Group) -> None:
        """Train the points of a group that are left."""
        points = self._left(group)
        if not points:
            return
        if group.apart:
            click.echo(f"{', '.join(point.name for point in points)}: apart, {group.apart}")
        with remote_code(self._trust), self._failures(points):
            if not shareable(group.points[0].experiment):
                (point,), self._loaded = points, None
                self._side_by_side(points, {point.name: build_inputs(point.experiment)})
                return
            shared = SharedInputs(*self._model(points[0].experiment))
            batches, refused = batches_that_fit(shared, points)
            for point in points:
                if point.name in refused:
                    self._fail(point, refused[point.name])
            for number, (batch, _) in enumerate(batches, 1):
                if len(batches) > 1:
                    click.echo(
                        f"memory: {len(batch)} of {len(points)} points at a time "
                        f"({number} of {len(batches)})"
                    )
                self._side_by_side(batch, shared.inputs(batch))

    def _side_by_side(
        self, points: Sequence[Point], inputs: Mapping[str, RunInputs | SaecoreError]
    ) -> None:
        """Train points on shared activations; always step the one furthest behind."""
        names = ", ".join(point.name for point in points)
        click.echo(f"training {len(points)} on one stream: {names}")
        tokens = sum(point.experiment.training.tokens for point in points)
        with contextlib.ExitStack() as stack:
            progress = stack.enter_context(SweepProgress(len(points), tokens))
            running: dict[str, tuple[Point, TrainingRun, Iterator[None]]] = {}
            for point in points:
                with self._failures([point]):
                    run = self._begin(point, inputs[point.name], progress, stack)
                    running[point.name] = point, run, run.steps()
                if point.name not in running:
                    _leave(inputs[point.name])
            stopped: Interrupted | None = None
            with self._signals.deferred():
                while running:
                    name = min(running, key=lambda name: running[name][1].inputs.store.position)
                    point, run, steps = running[name]
                    unfinished = False
                    try:
                        with self._failures([point]):
                            unfinished = self._step(point, run, steps)
                    except Interrupted as stop:
                        stopped = stop
                        self._record.set(name, "interrupted", run.directory.path)
                        if self._signals.again:
                            raise
                    if not unfinished:
                        del running[name]
                        run.close()
                        _leave(run.inputs)
            if stopped is not None:
                raise stopped

    def _begin(
        self,
        point: Point,
        inputs: RunInputs | SaecoreError,
        progress: SweepProgress,
        stack: contextlib.ExitStack,
    ) -> TrainingRun:
        """Start or resume a point's run, up to its next step."""
        if isinstance(inputs, SaecoreError):
            raise inputs
        run = TrainingRun(
            point.experiment,
            inputs,
            self._signals,
            OpenRun(point.experiment, self._unfinished.get(point.name)),
            sweep=SweepInfo(self._sweep.name, self._sweep.directory, point.differs),
            display=progress.logger(point.name),
        )
        stack.callback(run.close)
        self._record.set(point.name, "training", run.directory.path)
        run.begin()
        return run

    def _step(self, point: Point, run: TrainingRun, steps: Iterator[None]) -> bool:
        """Take a step of a run, or finish it; returns whether steps are left."""
        for _ in steps:
            return True
        with self._signals.deferred(False):
            run.finish()
        self._end(point, run.directory.path, "finished")
        return False

    def _end(self, point: Point, directory: Path, status: str) -> None:
        self.finished[point.name] = directory
        self._record.set(point.name, "finished", directory)
        click.echo(f"{status}: {point.name} in {directory}")

    def _fail(self, point: Point, error: Exception) -> None:
        """Report the failure of a point; print the traceback of what is not a SaecoreError."""
        line = str(error) if isinstance(error, SaecoreError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, SaecoreError):
            traceback.print_exception(error)
        self.failed[point.name] = line
        self._record.set(point.name, "failed", error=line)
        click.echo(f"failed: {point.name}: {line}", err=True)

    @contextlib.contextmanager
    def _failures(self, points: Sequence[Point]) -> Iterator[None]:
        """Turn an exception into a failure of those points that have not ended."""
        try:
            with labeled_errors(self._sweep.label):
                yield
        except Exception as error:
            for point in points:
                if point.name not in self.failed and point.name not in self.finished:
                    self._fail(point, error)


def _leave(inputs: RunInputs | SaecoreError) -> None:
    """Let a shared store drop the activations that only this run had yet to read."""
    if isinstance(inputs, RunInputs) and inputs.shared is not None:
        inputs.shared.leave()
