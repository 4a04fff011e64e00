"""Weights & Biases: parameters, metrics and artifacts, where the wandb package is installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.components import Component
from saecore.errors import PluginError
from saecore.hookspecs import hookimpl

if TYPE_CHECKING:
    from saecore.tracking import RunInfo


@attrs.frozen
class WandbConfig:
    """Where to track; WANDB_MODE=offline in the environment keeps everything on this machine."""

    project: str | None = None
    """Project; default: the name of the experiment, or of the sweep."""


class Wandb:
    """Hands everything to wandb, which sends it from a process of its own.

    Files go to <run>/wandb. A resumed run goes on in its wandb run, which has the same id.
    """

    def __init__(self, config: WandbConfig, run_dir: Path, wandb: Any) -> None:
        self._config, self._directory, self._wandb = config, run_dir, wandb
        self._run: Any = None

    def start(self, run: RunInfo) -> None:
        """Begin or continue the wandb run."""
        sweep = run.sweep
        # Points of a sweep are runs of one group, several at a time in one process.
        grouped = {} if sweep is None else {"group": sweep.name, "reinit": "create_new"}
        self._run = self._wandb.init(
            project=self._config.project or (run.name if sweep is None else sweep.name),
            id=run.id,
            name=run.id if sweep is None else run.name,
            resume="allow",
            dir=str(self._directory),
            config=dict(run.parameters),
            **grouped,
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log figures; those of one step are put together."""
        self._run.log(dict(values), step=step)

    def artifact(self, path: Path) -> None:
        """Log a file or directory under <run id>-<its name>."""
        self._run.log_artifact(str(path), name=f"{path.parent.name}-{path.stem}", type=path.stem)

    def close(self) -> None:
        """Send what is left and say how the run ended: only a whole one has an evaluation.json."""
        if self._run is not None:
            ended = (self._directory / "evaluation.json").exists()
            self._run.finish(exit_code=0 if ended else 1)


def build(config: WandbConfig, run_dir: Path) -> Wandb:
    """Make the logger.

    Raises:
        PluginError: wandb is not installed.
    """
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise PluginError(
            f"logger: wandb cannot be imported ({error}); run pip install wandb, or leave the "
            "logger out"
        ) from error
    if not hasattr(wandb, "init"):  # a directory ./wandb, which wandb leaves behind
        raise PluginError(
            "logger: wandb is not installed; run pip install wandb, or leave the logger out"
        )
    return Wandb(config, run_dir, wandb)


@hookimpl
def saecore_components() -> Iterator[Component]:
    """Offer the logger."""
    yield Component(
        kind="logger",
        name="wandb",
        config=WandbConfig,
        build=build,
        summary="Weights & Biases tracking; needs pip install wandb",
    )
