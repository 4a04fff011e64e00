"""Prefetched fills: the same stream, each fill once, in even parts."""

import pytest
import torch

from saecore.activations.fills import FillMixer
from saecore.activations.prefetch import Prefetcher
from tests.activations.test_mixing_buffer import served, window


def ahead(monkeypatch, **changes):
    """A buffer that prefetches on the CPU as it does on a GPU."""
    source = window(**changes)
    monkeypatch.setattr(FillMixer, "prefetches", lambda self, device: True)
    return source


@pytest.mark.parametrize("changes", [{}, {"positions": (1, 4)}, {"exclude": (3, 40)}])
def test_same_stream(monkeypatch, changes):
    """Rows come in the same order, and the model runs over every context once."""
    plain = window(**changes)
    total = plain.rows()
    whole = served(plain, total, 1)
    source = ahead(monkeypatch, **changes)
    assert [token for _ in range(total) for token in served(source, 1, 1)] == whole
    assert source.backend.forwards == plain.backend.forwards


@pytest.mark.parametrize("position", [0, 16, 100])
def test_seek_while_ahead(monkeypatch, position):
    """A buffer that seeks with a fill half made gives the rows of the new position."""
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

    work = Prefetcher(torch.device("cpu"))
    work.begin(7, 4, parts())
    assert done == []
    work.advance(0.5)
    assert done == [0, 1]
    assert work.take(6, lambda _: []) is None
    assert work.take(7, lambda _: []) == "made"
    assert work.take(7, lambda _: []) is None
