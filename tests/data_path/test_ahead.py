"""Fills made ahead: the same stream, each fill once, in even parts."""

import pytest
import torch

from saecore.data.ahead import Ahead
from tests.data_path.test_buffer import served, window


def ahead(monkeypatch, **changes):
    """A window that works ahead on the CPU as it does on a GPU."""
    source = window(**changes)
    monkeypatch.setattr(type(source), "works_ahead", lambda self, device: True)
    return source


@pytest.mark.parametrize("changes", [{}, {"positions": (1, 4)}, {"exclude": (3, 40)}])
def test_same_stream(monkeypatch, changes):
    """Rows come in the same order, and the model runs over every context once."""
    plain = window(**changes)
    total = plain.rows()
    whole = served(plain, total, 1)
    source = ahead(monkeypatch, **changes)
    assert [one for _ in range(total) for one in served(source, 1, 1)] == whole
    assert source.backend.forwards == plain.backend.forwards


@pytest.mark.parametrize("position", [0, 16, 100])
def test_seek_while_ahead(monkeypatch, position):
    """A source sent elsewhere with a fill half made gives what belongs there."""
    whole = served(window(), 222, 1)
    source = ahead(monkeypatch)
    served(source, 50, 1)
    source.seek(position)
    assert served(source, 222 - position, 1) == whole[position:]


def test_parts_follow_the_share():
    """Parts are done as they fall due, the rest when the result is taken."""
    done = []

    def parts():
        for i in range(4):
            done.append(i)
            yield None
        yield "made"

    work = Ahead(torch.device("cpu"))
    work.begin(7, 4, parts())
    assert done == []
    work.advance(0.5)
    assert done == [0, 1]
    assert work.take(6, lambda _: []) is None
    assert work.take(7, lambda _: []) == "made"
    assert work.take(7, lambda _: []) is None
