"""Schedules equal the recorded tables."""

import json

import pytest

from saecore.core.schedule import Scheduled
from saecore.plugins.structure import structure_choice


@pytest.mark.oracle
def test_recorded_tables(oracle):
    """Every recorded learning rate, for all three schedules with and without warm-up, decay."""
    tables = json.loads((oracle / "model" / "schedules.json").read_text())
    assert len(tables) >= 15
    for table in tables:
        settings = {
            "type": table["lr_scheduler_name"],
            "warm_up_steps": table["lr_warm_up_steps"],
            "decay_steps": table["lr_decay_steps"],
        }
        if settings["type"] != "constant":
            settings["end"] = table["lr_end"] / table["lr"]
        if settings["type"] == "cosineannealingwarmrestarts":
            settings["cycles"] = table["n_restart_cycles"]
        schedule = structure_choice("schedule", settings).build()
        total = table["training_steps"]
        ours = [table["lr"] * schedule(step, total) for step in range(total)]
        assert ours == pytest.approx(table["lr_per_step"], rel=1e-9), settings


def test_scheduled_values_lag_one_step():
    """A coefficient's warm-up begins at 0 and reaches its value after as many steps."""
    settings = {"type": "constant", "warm_up_steps": 4}
    schedule = structure_choice("schedule", settings).build()
    values = [Scheduled(2.0, schedule).at(step, 10) for step in range(6)]
    assert values == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
