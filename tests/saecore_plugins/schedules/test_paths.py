"""Linear and exponential paths."""

import pytest

from saecore.plugins.structure import structure_choice


def schedule(**table):
    """A schedule as a file would choose it."""
    return structure_choice("schedule", table).build()


def test_linear_goes_from_start_to_end():
    """A linear path passes its middle half-way and stays at its end."""
    line = schedule(type="linear", start=4.0, end=2.0, steps=10)
    assert [line(step, 100) for step in (-1, 0, 5, 10, 99)] == [4.0, 4.0, 3.0, 2.0, 2.0]


def test_exponential_multiplies_by_the_same_factor_in_every_step():
    """The ratio of neighbors on an exponential path is constant."""
    path = schedule(type="exponential", start=8.0, end=1.0, steps=3)
    assert [path(step, 100) for step in (0, 1, 2, 3, 4)] == pytest.approx([8, 4, 2, 1, 1])


@pytest.mark.parametrize("kind", ["linear", "exponential"])
def test_paths_take_the_whole_run_by_default(kind):
    """Without a length the path ends with the run."""
    path = schedule(type=kind, start=2.0)
    assert path(0, 50) == 2.0
    assert 1.0 < path(25, 50) < 2.0
    assert path(50, 50) == 1.0
