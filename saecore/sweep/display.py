"""Progress of a sweep in the terminal: a bar for each point, or plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saecore.tracking import RunInfo

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY_SECONDS = 5.0
"""Between two plain lines."""


class Display:
    """Shows several runs at once; use it as a context manager around their training.

    Args:
        runs: how many there are.
        tokens: what they train on in all.
    """

    def __init__(self, runs: int, tokens: int) -> None:
        self._runs, self._tokens = runs, tokens
        self._done: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._begin = self._last = time.monotonic()
        self.progress: Progress | None = None

    def __enter__(self) -> Display:
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self.progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.progress is not None:
            self.progress.stop()

    def of(self, name: str) -> Shown:
        """What a point's figures go to."""
        return Shown(self, name)

    def began(self, name: str, tokens: int) -> None:
        """Count a run that has been trained on some tokens before."""
        self._before[name] = self._done[name] = tokens

    def moved(self, name: str, tokens: int) -> None:
        """Count what a run has been trained on so far; print a line from time to time."""
        self._done[name] = tokens
        now, done = time.monotonic(), sum(self._done.values())
        if self.progress is not None or now - self._last < EVERY_SECONDS:
            return
        self._last = now
        rate = (done - sum(self._before.values())) / max(1e-9, now - self._begin)
        left = (self._tokens - done) / max(rate, 1e-9)
        click.echo(
            f"  {done / self._tokens:4.0%} of {self._runs} runs  {rate:,.0f} tokens/s "
            f"in all  {left:.0f} s left"
        )


class Shown:
    """The logger of one point."""

    def __init__(self, display: Display, name: str) -> None:
        self._display, self._name = display, name
        self._task: TaskID | None = None
        self._batch = 0

    def start(self, run: RunInfo) -> None:
        """Begin the point's bar."""
        self._batch = run.batch_size
        self._display.began(self._name, run.resumed_at * run.batch_size)
        if self._display.progress is not None:
            self._task = self._display.progress.add_task(
                self._name, total=run.steps, completed=run.resumed_at, figures=""
            )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show the figures of a log interval."""
        if "metrics/l0" not in values:
            return
        self._display.moved(self._name, step * self._batch)
        if self._display.progress is not None and self._task is not None:
            figures = (
                f"L0 {values['metrics/l0']:.1f}  EV {values['metrics/explained_variance']:.3f}  "
                f"dead {values['sparsity/dead_features']:.0f}"
            )
            self._display.progress.update(self._task, completed=step, figures=figures)

    def artifact(self, path: Path) -> None:
        """Artifacts are named in the summary."""

    def close(self) -> None:
        """The bar stays as it is."""
