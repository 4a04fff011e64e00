"""`SAETrainingRunner`: trains the SAE of a `LanguageModelSAERunnerConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saecore.errors import ConfigError
from saecore.saelens.nested import refusal, values_of
from saecore.saelens.runner_config import LanguageModelSAERunnerConfig
from saecore.saelens.translate import LABEL, experiment_of, renamed

if TYPE_CHECKING:
    from saecore.core.sae import SAE
    from saecore.runs.training_run import RunResult


class SAETrainingRunner:
    """Trains the SAE of a configuration.

    Args:
        cfg: the configuration.

    Raises:
        ConfigError: it is a nested configuration of SAELens 6; the message holds an equivalent
            experiment file.
    """

    def __init__(self, cfg: LanguageModelSAERunnerConfig) -> None:
        if not isinstance(cfg, LanguageModelSAERunnerConfig):
            other: Any = cfg
            values = values_of(other)
            if "sae" in values:
                raise refusal(values)
            raise ConfigError(
                [f"cfg: expected a {LABEL}, got {type(other).__name__}; run an experiment file "
                 "with saecore.run(saecore.load_experiment(file)[0])"], label="SAETrainingRunner",
            )  # fmt: skip
        self.cfg = cfg
        self.result: RunResult | None = None
        """Set by `run`: directory, held-out figures and last metrics."""

    def run(
        self, *, resume: Literal[True] | str | Path | None = None, trust_remote_code: bool = False
    ) -> SAE:
        """Train, evaluate and save; returns the SAE as it was saved.

        Args:
            resume: resume a stopped run; see `saecore.run`.
            trust_remote_code: run Python code that comes with the model.

        Raises:
            SaecoreError: see `saecore.run`; messages use the names of parameters, not TOML keys.
        """
        from saecore.runs.run import run

        try:
            self.result = run(
                experiment_of(self.cfg), trust_remote_code=trust_remote_code, resume=resume
            )
        except ConfigError as error:
            raise ConfigError(renamed(error.problems), label=error.label or LABEL) from error
        return self.result.sae
