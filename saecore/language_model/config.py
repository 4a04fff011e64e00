"""`LanguageModelSAERunnerConfig`: the parameters, checked when they are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import tomli_w

from saecore.config.experiment import Experiment
from saecore.config.structure import Problems, structure
from saecore.errors import ConfigError
from saecore.language_model.names import absent
from saecore.language_model.nested import refusal
from saecore.language_model.parameters import Parameters
from saecore.language_model.translate import SOURCE, experiment_of, tables_of
from saecore.plugins import current_host


class LanguageModelSAERunnerConfig(Parameters):
    """What to train, in the flat form of SAELens 3 to 5; `Parameters` describes each parameter.

    Every parameter has a default; all are checked at once, as an experiment file is.

    Raises:
        ConfigError: with every problem found: names that are no parameters, wrong types, values
            that contradict each other. For the nested form of SAELens 6 the message has the
            experiment file that says the same.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # to type checkers the parameters are those of the base

        def __init__(self, **settings: Any) -> None:
            super().__init__(**_checked(settings))
            self.experiment()

    def experiment(self) -> Experiment:
        """The experiment that it describes."""
        return experiment_of(self)

    def toml(self) -> str:
        """The experiment file that says the same."""
        return str(tomli_w.dumps(tables_of(self, current_host())))


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, after a check of their names and types."""
    if "sae" in settings or "logger" in settings:
        raise refusal(settings)
    problems = [f"{name}: {why}" for name in settings if (why := absent(name)) is not None]
    known = {name: one for name, one in settings.items() if absent(name) is None}
    try:
        parameters: Parameters = structure(known, Parameters, current_host())
    except Problems as error:
        problems += [f"{name}: {message}" for name, message in error.items]
    if problems:
        raise ConfigError(SOURCE, problems)
    return {one.name: getattr(parameters, one.name) for one in attrs.fields(Parameters)}
