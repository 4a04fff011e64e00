"""A sweep from its first point to its last."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs
import click

from saecore.config.sweep import Point, Sweep
from saecore.errors import SaecoreError
from saecore.feed import Feed, load_model, make_feed
from saecore.lock import locked
from saecore.plugins import Host, current_host
from saecore.session import Session, writable
from saecore.signals import Interrupted, Signals
from saecore.sweep.display import Display
from saecore.sweep.ending import report_of, tell
from saecore.sweep.feeds import Shared, batches_that_fit
from saecore.sweep.groups import Group, groups, shareable
from saecore.sweep.record import Earlier, SweepRecord, earlier
from saecore.tracking import SweepInfo
from saecore.trust import remote_code


@attrs.frozen
class SweepResult:
    """What a sweep leaves."""

    directory: Path
    """The sweep's directory."""
    finished: Mapping[str, Path]
    """The runs' directories, by point; those of earlier processes included."""
    failed: Mapping[str, str]
    """What is wrong, by point."""
    report: Path | None = None
    """The comparison of what is finished."""


def run_sweep(
    sweep: Sweep, host: Host | None = None, trust_remote_code: bool = False
) -> SweepResult:
    """Train every point that is not finished, as many side by side as share a stream and fit.

    Each point ends with the bits that it would have alone. A point that fails is reported, and
    the others go on; what was interrupted is resumed.

    Args:
        sweep: what to do.
        host: the plugins to use; default: all that are installed.
        trust_remote_code: let Python code that comes with the model run.

    Raises:
        SaecoreError: the sweep's directory cannot be used.
        Interrupted: SIGINT or SIGTERM came; everything is saved, the same call goes on.
    """
    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(Signals())
        stack.enter_context(locked(writable(sweep.directory)))
        training = _Sweep(sweep, host or current_host(), trust_remote_code, signals)
        try:
            for group in groups(sweep.points):
                training.train(group)
        except Interrupted as stop:
            stop.directory = sweep.directory
            tell(sweep, None, finished=False)
            raise
        report = report_of(sweep, training.finished)
        tell(sweep, report, finished=not training.failed)
        return SweepResult(sweep.directory, training.finished, training.failed, report)


class _Sweep:
    """The state of a sweep while it is trained."""

    def __init__(self, sweep: Sweep, host: Host, trust: bool, signals: Signals) -> None:
        self._sweep, self._host, self._trust, self._signals = sweep, host, trust, signals
        self._record = SweepRecord(sweep)
        self.finished: dict[str, Path] = {}
        self.failed: dict[str, str] = {}
        self._earlier: dict[str, Earlier] = {}
        for point in sweep.points:
            found = earlier(point, host)
            if found is not None and found.finished:
                self._end(point, found.directory, "finished before")
            elif found is not None:
                self._earlier[point.name] = found

    def train(self, group: Group) -> None:
        """Train the points of a group that are not finished."""
        points = [one for one in group.points if one.name not in self.finished]
        if not points:
            return
        if group.apart:
            click.echo(f"{', '.join(one.name for one in points)}: apart, {group.apart}")
        with remote_code(self._trust), self._failing(points):
            if not shareable(group.points[0].experiment):
                (point,) = points
                self._side_by_side(points, {point.name: make_feed(point.experiment, self._source)})
                return
            shared = Shared(*load_model(points[0].experiment, self._source), self._source)
            batches, refused = batches_that_fit(shared, points)
            for point in points:
                if point.name in refused:
                    self._fail(point, refused[point.name])
            for number, (batch, _) in enumerate(batches):
                if len(batches) > 1:
                    click.echo(
                        f"memory: {len(batch)} of {len(points)} points at a time "
                        f"({number + 1} of {len(batches)})"
                    )
                self._side_by_side(batch, shared.feeds(batch))

    def _side_by_side(
        self, points: Sequence[Point], feeds: Mapping[str, Feed | SaecoreError]
    ) -> None:
        """Train points on one stream, always the one that is furthest behind."""
        click.echo(f"training {len(points)} on one stream: " + ", ".join(p.name for p in points))
        tokens = sum(one.experiment.training.tokens for one in points)
        with contextlib.ExitStack() as stack:
            display = stack.enter_context(Display(len(points), tokens))
            running: dict[str, tuple[Point, Session, Iterator[None]]] = {}
            for point in points:
                with self._failing([point]):
                    session = self._opened(point, feeds[point.name], display, stack)
                    running[point.name] = point, session, session.training.steps()
                if point.name not in running:
                    _leave(feeds[point.name])
            stopped: Interrupted | None = None
            with self._signals.deferred():
                while running:
                    name = min(running, key=lambda one: running[one][1].feed.source.position)
                    point, session, steps = running[name]
                    going = False
                    try:
                        with self._failing([point]):
                            going = self._step(point, session, steps)
                    except Interrupted as stop:
                        stopped = stop
                        self._record.set(name, "interrupted", session.directory)
                        if self._signals.again:
                            raise
                    if not going:
                        del running[name]
                        session.close()
                        _leave(session.feed)
            if stopped is not None:
                raise stopped

    def _opened(
        self,
        point: Point,
        feed: Feed | SaecoreError,
        display: Display,
        stack: contextlib.ExitStack,
    ) -> Session:
        """A point's session, ready for its next step."""
        if isinstance(feed, SaecoreError):
            raise feed
        before = self._earlier.get(point.name)
        if before is not None:
            stack.enter_context(locked(before.directory))
        session = Session(
            point.experiment,
            feed,
            self._host,
            self._source,
            self._signals,
            before.directory if before else None,
            sweep=SweepInfo(self._sweep.name, self._sweep.directory, point.differs),
            shown=display.of(point.name),
        )
        stack.callback(session.close)
        self._record.set(point.name, "training", session.directory)
        session.begin()
        return session

    def _step(self, point: Point, session: Session, steps: Iterator[None]) -> bool:
        """Take a step of a run, or finish it; whether it goes on."""
        for _ in steps:
            return True
        with self._signals.deferred(False):
            session.finish()
        self._end(point, session.directory, "finished")
        return False

    def _end(self, point: Point, directory: Path, how: str) -> None:
        self.finished[point.name] = directory
        self._record.set(point.name, "finished", directory)
        click.echo(f"{how}: {point.name} in {directory}")

    def _fail(self, point: Point, error: Exception) -> None:
        """Report a point that cannot go on; a bug, which is not a SaecoreError, in full."""
        line = str(error) if isinstance(error, SaecoreError) else f"{type(error).__name__}: {error}"
        if not isinstance(error, SaecoreError):
            traceback.print_exception(error)
        self.failed[point.name] = line
        self._record.set(point.name, "failed", error=line)
        click.echo(f"failed: {point.name}: {line}", err=True)

    @contextlib.contextmanager
    def _failing(self, points: Sequence[Point]) -> Iterator[None]:
        """Whatever goes wrong inside is a failure of these points, those that have not ended."""
        try:
            yield
        except Exception as error:
            for point in points:
                if point.name not in self.failed and point.name not in self.finished:
                    self._fail(point, error)

    @property
    def _source(self) -> str:
        return self._sweep.source


def _leave(feed: Feed | SaecoreError) -> None:
    """Let a stream forget what only this run had still to read."""
    if isinstance(feed, Feed) and feed.stream is not None:
        feed.stream.leave()
