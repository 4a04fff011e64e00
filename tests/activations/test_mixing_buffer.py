"""The mixing buffer serves every row once, mixed, and resumes exactly."""

import numpy as np
import pytest
import torch

from saecore.activations.mixing_buffer import MixingBuffer
from saecore.errors import DataError
from tests.activations.fakes import CountingBackend, buffer_settings

CONTEXTS, LENGTH = 37, 6


def window(**changes):
    """A window over tokens 0, 1, 2, … in 37 contexts of 6, with fills of 5 contexts."""
    settings = {"fill_tokens": 30, "model_batch_size": 2, "seed": 3, **changes}
    tokens = np.arange(CONTEXTS * LENGTH, dtype=np.int32).reshape(CONTEXTS, LENGTH)
    return MixingBuffer(CountingBackend(), tokens, buffer_settings(**settings))


def served(source, size, count):
    """The tokens of some batches, concatenated."""
    return torch.cat([source.next(size).inputs[:, 0] for _ in range(count)]).long().tolist()


def test_every_row_once():
    """All rows are served, each exactly once, with its own token and position."""
    source = window()
    total = CONTEXTS * LENGTH
    batch = source.next(total)
    assert sorted(batch.inputs[:, 0].long().tolist()) == list(range(total))
    assert torch.equal(batch.inputs[:, 0].long(), batch.tokens)
    assert torch.equal(batch.inputs[:, 1].long(), batch.positions)
    with pytest.raises(DataError, match="ends after 222 tokens"):
        source.next(1)


def test_stream_does_not_depend_on_batches():
    """Batches are consecutive slices of one stream, whatever their size."""
    whole = served(window(), 222, 1)
    assert served(window(), 37, 6) == whole
    assert served(window(), 1, 222) == whole


def test_rows_are_mixed_over_two_fills():
    """A serve holds rows of two fills, and not in their order."""
    tokens = served(window(), 30, 2)[15:45]
    contexts = {token // LENGTH for token in tokens}
    assert len(contexts) > 5
    assert tokens != sorted(tokens)


@pytest.mark.parametrize("position", [0, 1, 14, 15, 16, 45, 100, 221])
def test_resume_at_any_position(position):
    """A source set to a position gives what an uninterrupted one gives from there on."""
    whole = served(window(), 222, 1)
    source = window()
    source.seek(position)
    assert source.position == position
    assert served(source, 222 - position, 1) == whole[position:]


def test_resume_runs_two_fills_only():
    """Resuming costs the two fills that the position needs."""
    source = window()
    source.seek(130)
    source.next(1)
    assert source.backend.forwards == 2 * 3  # 5 contexts in batches of 2


def test_fixed_batch_shape():
    """The model always sees the same batch shape; the last batch is padded and cut."""
    assert set(window().next(222).inputs[:, 2].tolist()) == {2.0}


def test_epochs_repeat_in_another_order():
    """A second epoch serves every row again, in another order."""
    source = window(epochs=2)
    both = served(source, 444, 1)
    assert sorted(both) == sorted(list(range(222)) * 2)
    assert source.rows() == 444


def test_positions_and_excluded_tokens():
    """Only the positions asked for, and no excluded token; resuming still works."""
    changes = {"positions": (1, -1), "exclude": (8, 9)}
    source = window(**changes)
    total = source.rows()
    whole = served(source, total, 1)
    assert sorted(whole) == [t for t in range(222) if 1 <= t % 6 < 5 and t not in (8, 9)]
    resumed = window(**changes)
    resumed.seek(50)
    assert served(resumed, total - 50, 1) == whole[50:]


def test_seeds_give_other_orders():
    """Another seed, another order."""
    assert served(window(seed=4), 50, 1) != served(window(), 50, 1)


def test_several_hooks_and_targets():
    """Several hooks are stacked; a target hook gives the targets; all stay aligned by token."""
    source = window(hooks=("a", "b"), targets=("c",))
    batch = source.next(10)
    assert batch.inputs.shape == (10, 2, 4)
    assert torch.equal(batch.inputs[:, 0], batch.targets)


def test_several_targets():
    """A target for each hook, of the same rows in the same order; a hook may be both."""

    class Named(CountingBackend):
        def activations(self, tokens, hooks):
            assert sorted(hooks) == ["a", "b", "c"]  # each is asked for once
            activations = super().activations(tokens, hooks)
            return {name: value + 1000 * "abc".index(name) for name, value in activations.items()}

    array = np.arange(CONTEXTS * LENGTH, dtype=np.int32).reshape(CONTEXTS, LENGTH)
    settings = buffer_settings(
        hooks=("a", "b"), targets=("b", "c"), fill_tokens=30, model_batch_size=2
    )
    batch = MixingBuffer(Named(), array, settings).next(50)
    assert batch.inputs.shape == batch.targets.shape == (50, 2, 4)
    assert torch.equal(batch.targets, batch.inputs + 1000)
    assert torch.equal(batch.targets[:, 0, 0].long() - 1000, batch.tokens)
