"""`SAETrainingRunner`: a run of the experiment that a configuration describes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from saecore.errors import ConfigError
from saecore.language_model.config import LanguageModelSAERunnerConfig
from saecore.language_model.nested import refusal, values_of
from saecore.language_model.translate import SOURCE, experiment_of, renamed

if TYPE_CHECKING:
    from saecore.sae import SAE
    from saecore.session import RunResult


class SAETrainingRunner:
    """Trains the SAE that a configuration describes.

    Args:
        cfg: the configuration.

    Raises:
        ConfigError: it is a nested configuration of SAELens 6; the message has the experiment
            file that says the same.
    """

    def __init__(self, cfg: LanguageModelSAERunnerConfig) -> None:
        if not isinstance(cfg, LanguageModelSAERunnerConfig):
            given: Any = cfg
            values = values_of(given)
            if "sae" in values:
                raise refusal(values)
            raise ConfigError(
                "SAETrainingRunner",
                [f"cfg: expected a {SOURCE}, got {type(given).__name__}; an experiment file runs "
                 "with saecore.run(saecore.load_experiment(file)[0])"],
            )  # fmt: skip
        self.cfg = cfg
        self.result: RunResult | None = None
        """After `run`: its directory, held-out figures and last metrics."""

    def run(
        self, *, resume: Literal[True] | str | Path | None = None, trust_remote_code: bool = False
    ) -> SAE:
        """Train, evaluate, save; returns the SAE in the form in which it was saved.

        Args:
            resume: go on with a run that was stopped; see `saecore.run`.
            trust_remote_code: let Python code that comes with the model run.

        Raises:
            SaecoreError: see `saecore.run`; settings bear the names of parameters.
        """
        from saecore.runner import run

        try:
            self.result = run(
                experiment_of(self.cfg),
                source=SOURCE,
                trust_remote_code=trust_remote_code,
                resume=resume,
            )
        except ConfigError as error:
            raise ConfigError(error.source, renamed(error.problems)) from error
        return self.result.sae
