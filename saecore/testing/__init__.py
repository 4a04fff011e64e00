"""The conformance kit: tests for plugin authors that a plugin keeps its contract.

    from saecore.testing import check_architecture

    def test_tied():
        check_architecture("tied", {"l1_coefficient": 0.1})

Plugins are found as in experiments: by entry point, or through `use_host(Host(files=[...]))`.
Settings have the form of the experiment's table. A check returns None or raises
`Nonconformance`, an AssertionError that says what to change. Any test runner works; everything
runs in seconds on tiny sizes.
"""

from __future__ import annotations

from saecore.testing.activation import check_activation
from saecore.testing.architecture import check_architecture
from saecore.testing.component import Nonconformance, check_component
from saecore.testing.data import check_dataset
from saecore.testing.release import check_release
from saecore.testing.reporting import check_evaluator, check_logger
from saecore.testing.strategies import check_dead_latents, check_normalizer
from saecore.testing.training import check_optimizer, check_schedule

__all__ = [
    "CHECKS",
    "Nonconformance",
    "check_activation",
    "check_architecture",
    "check_component",
    "check_dataset",
    "check_dead_latents",
    "check_evaluator",
    "check_logger",
    "check_normalizer",
    "check_optimizer",
    "check_release",
    "check_schedule",
]

CHECKS = {
    "activation": check_activation,
    "architecture": check_architecture,
    "dataset": check_dataset,
    "dead_latents": check_dead_latents,
    "evaluator": check_evaluator,
    "logger": check_logger,
    "normalizer": check_normalizer,
    "optimizer": check_optimizer,
    "release": check_release,
    "schedule": check_schedule,
}
"""The check of each kind; `check_component(kind, name)` is common to all kinds."""
