"""Progress in the terminal: a bar, or plain lines outside a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from saecore.core.terminal import sparsity_summary, start_bars
from saecore.plugins import Component, at_least, hookimpl

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from saecore.core.logger import RunInfo


@attrs.frozen
class ConsoleConfig:
    """Settings of the display."""

    every_seconds: float = attrs.field(default=5.0, validator=at_least(0))
    """Seconds between two plain lines, if the output is not a terminal."""


class Console:
    """Shows tokens/s, loss, L0, explained variance, dead latents and the time left."""

    def __init__(self, config: ConsoleConfig, run_dir: Path) -> None:
        self._every = config.every_seconds
        self._last = 0.0
        self._bars: Progress | None = None
        self._task: TaskID | None = None

    def start(self, run: RunInfo) -> None:
        """Start the display."""
        self._run, self._begin = run, time.monotonic()
        self._bars = start_bars()
        if self._bars is not None:
            self._task = self._bars.add_task(run.name, total=run.steps, figures="")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Show the metrics of a log interval; the summary shows those of an evaluation."""
        if "losses/overall_loss" not in values:
            return
        now = time.monotonic()
        # The mean since the start: single intervals jump, because only some run the model.
        done = step - self._run.resumed_at
        rate = done * self._run.batch_size / max(1e-9, now - self._begin)
        figures = (
            f"{rate:,.0f} tok/s  "
            f"loss {values['losses/overall_loss']:.4g}  {sparsity_summary(values)}"
        )
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=step, figures=figures)
            return
        if now - self._last >= self._every or step == self._run.steps:
            self._last = now
            left = (now - self._begin) / max(1, done) * (self._run.steps - step)
            print(f"step {step}/{self._run.steps}  {figures}  {left:.0f} s left", flush=True)

    def artifact(self, path: Path) -> None:
        """Do nothing: the summary names artifacts."""

    def close(self) -> None:
        """End the display."""
        if self._bars is not None:
            self._bars.stop()


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="logger",
        name="console",
        config=ConsoleConfig,
        build=Console,
        summary="progress in the terminal",
    )
