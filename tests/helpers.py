"""What several tests share."""

import torch

MINIMAL = """\
[model]
type = "tiny_lm"
hook = "blocks.2.hook_resid_post"
[dataset]
type = "python_corpus"
[sae]
architecture = "topk"
d_sae = 64
k = 4
[training]
tokens = 10_000
"""
"""The shortest experiment that is valid, as TOML."""


def assert_close(ours, recorded, what=""):
    """Compare with a recording: 1e-5 of the norm, and elementwise rtol 1e-4, atol 1e-5."""
    ours = torch.as_tensor(ours).detach().float()
    recorded = torch.as_tensor(recorded).float()
    assert ours.shape == recorded.shape, f"{what}: shape {ours.shape}, recorded {recorded.shape}"
    error = (ours - recorded).norm() / recorded.norm().clamp(min=1e-12)
    if recorded.norm() > 1e-12:
        assert error <= 1e-5, f"{what}: relative error {error:.2e}"
    torch.testing.assert_close(ours, recorded, rtol=1e-4, atol=1e-5, msg=lambda m: f"{what}: {m}")


class ListSource:
    """An activation source over given batches, each taken whole."""

    def __init__(self, batches):
        from saecore.core.step import Batch

        self._batches = [Batch(one, one) for one in batches]
        self._next = 0

    @property
    def position(self):
        """Rows given out."""
        return sum(len(one) for one in self._batches[: self._next])

    def seek(self, position):
        """Go to the batch that begins at `position`."""
        self._next = 0
        while self.position < position:
            self._next += 1

    def next(self, size):
        """The next batch."""
        batch = self._batches[self._next]
        assert len(batch) == size
        self._next += 1
        return batch
