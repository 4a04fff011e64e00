"""Weights & Biases: parameters, metrics and artifacts; needs the wandb package."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from saecore.errors import PluginError, warn
from saecore.plugins import Component, hookimpl
from saecore.storage.run_directory import RunDirectory

if TYPE_CHECKING:
    from saecore.core.logger import RunInfo


@attrs.frozen
class WandbConfig:
    """Where to track; WANDB_MODE=offline in the environment keeps everything on this machine."""

    project: str | None = None
    """Project; default: the name of the experiment, or of the sweep."""


class Wandb:
    """Passes everything to wandb, which sends it from a separate process.

    Files go to <run>/wandb. The wandb run has the run's id, and a resumed run continues it.
    """

    def __init__(self, config: WandbConfig, run_dir: Path, wandb: Any) -> None:
        self._config, self._directory, self._wandb = config, run_dir, wandb
        self._run: Any = None

    def start(self, run: RunInfo) -> None:
        """Start or continue the wandb run."""
        sweep = run.sweep
        # Points of a sweep form a group; several of them run at a time in one process.
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
        """Log metrics; wandb merges those of one step."""
        self._run.log(dict(values), step=step)

    def artifact(self, path: Path) -> None:
        """Log a file or directory under <run id>-<its name>; a failure costs only this artifact."""
        # wandb accepts letters, digits, underscores, dashes and dots, at most 128.
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", f"{path.parent.name}-{path.stem}")[-128:]
        try:
            self._run.log_artifact(str(path), name=name, type=path.stem)
        except Exception as error:
            warn(f"wandb: {path} is left out: {type(error).__name__}: {error}")

    def close(self) -> None:
        """Send the rest and set the exit code: 0 if the run reached its end."""
        if self._run is not None:
            finished = RunDirectory(self._directory).is_finished
            self._run.finish(exit_code=0 if finished else 1)


def build(config: WandbConfig, run_dir: Path) -> Wandb:
    """Build the logger.

    Raises:
        PluginError: wandb is not installed.
    """
    try:
        wandb: Any = importlib.import_module("wandb")
    except ImportError as error:
        raise PluginError(
            f"logger: wandb cannot be imported ({error}); run pip install wandb, or remove the "
            "logger"
        ) from error
    if not hasattr(wandb, "init"):  # a directory ./wandb, which wandb leaves behind
        raise PluginError(
            "logger: wandb is not installed; run pip install wandb, or remove the logger"
        )
    return Wandb(config, run_dir, wandb)


@hookimpl
def saecore_components() -> Iterator[Component]:
    yield Component(
        kind="logger",
        name="wandb",
        config=WandbConfig,
        build=build,
        summary="Weights & Biases tracking; needs pip install wandb",
    )
