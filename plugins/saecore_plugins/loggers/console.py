"""Progress in the terminal; plain lines where there is none."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from saecore.components import Component
from saecore.config.validators import at_least
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from saecore.tracking import RunInfo


@attrs.frozen
class ConsoleConfig:
    """Settings of the display."""

    every_seconds: float = attrs.field(default=5.0, validator=at_least(0))
    """Seconds between two plain lines, where the output is not a terminal."""


class Console:
    """Shows tokens/s, loss, L0, explained variance, dead latents and the time left."""

    def __init__(self, config: ConsoleConfig, run_dir: Path) -> None:
        self._every = config.every_seconds
        self._last = 0.0
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def start(self, run: RunInfo) -> None:
        """Begin the display."""
        self._run, self._begin = run, time.monotonic()
        if sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(),
            )
            self._progress.start()
            self._task = self._progress.add_task(run.name, total=run.steps, figures="")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show the figures of a log interval; those of an evaluation stand in the summary."""
        if "losses/overall_loss" not in values:
            return
        now = time.monotonic()
        # The mean since the start: single intervals jump, as some of them run the model.
        done = step - self._run.resumed_at
        rate = done * self._run.batch_size / max(1e-9, now - self._begin)
        figures = (
            f"{rate:,.0f} tok/s  "
            f"loss {values['losses/overall_loss']:.4g}  L0 {values['metrics/l0']:.1f}  "
            f"EV {values['metrics/explained_variance']:.3f}  "
            f"dead {values['sparsity/dead_features']:.0f}"
        )
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=step, figures=figures)
            return
        if now - self._last >= self._every or step == self._run.steps:
            self._last = now
            left = (now - self._begin) / max(1, done) * (self._run.steps - step)
            line = f"step {step}/{self._run.steps}  {figures}  {left:.0f} s left"
            print(line, flush=True)

    def artifact(self, path: Path) -> None:
        """Artifacts are named in the summary."""

    def close(self) -> None:
        """End the display."""
        if self._progress is not None:
            self._progress.stop()


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the logger."""
    yield Component(
        kind="logger",
        name="console",
        config=ConsoleConfig,
        build=Console,
        summary="progress in the terminal",
    )
