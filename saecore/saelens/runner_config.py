"""`LanguageModelSAERunnerConfig`: parameters that are validated at construction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import tomli_w

from saecore.config.experiment import Experiment
from saecore.errors import ConfigError
from saecore.plugins.problems import Problems
from saecore.plugins.structure import structure
from saecore.saelens.names import absent
from saecore.saelens.nested import refusal
from saecore.saelens.parameters import Parameters
from saecore.saelens.translate import LABEL, experiment_of, tables_of


class LanguageModelSAERunnerConfig(Parameters):
    """What to train, in the flat form of SAELens 3 to 5; see `Parameters` for each parameter.

    Every parameter has a default. All are validated together, like an experiment file.

    Raises:
        ConfigError: lists every problem: unknown names, wrong types, contradictory values. For the
            nested form of SAELens 6 the message holds an equivalent experiment file.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers see the parameters of the base class

        def __init__(self, **settings: Any) -> None:
            super().__init__(**_checked(settings))
            self.experiment()

    def experiment(self) -> Experiment:
        """The equivalent experiment."""
        return experiment_of(self)

    def toml(self) -> str:
        """The equivalent experiment file."""
        return str(tomli_w.dumps(tables_of(self)))


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check names and types of the parameters, and add defaults."""
    if "sae" in settings or "logger" in settings:
        raise refusal(settings)
    problems = [f"{name}: {why}" for name in settings if (why := absent(name)) is not None]
    known = {name: value for name, value in settings.items() if absent(name) is None}
    try:
        parameters: Parameters = structure(known, Parameters)
    except Problems as error:
        problems += [f"{name}: {message}" for name, message in error.items]
    if problems:
        raise ConfigError(problems, label=LABEL)
    return {name: getattr(parameters, name) for name in attrs.fields_dict(Parameters)}
