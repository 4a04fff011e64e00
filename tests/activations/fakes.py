"""A language model whose activations say which token they belong to."""

import torch

from saecore.activations.mixing_buffer import MixingBufferSettings
from saecore.models.hook_site import HookSite


class CountingBackend:
    """Activation of a token: (token, position, batch size of the forward, 1)."""

    name = "counting"
    identity: dict = {}  # noqa: RUF012
    vocab_size = 1_000_000
    max_context = None
    tokenizer = None

    def __init__(self):
        self.forwards = 0

    def d(self, hook):
        """One size."""
        return (4,)

    def activations(self, tokens, hooks):
        """Deterministic activations `[B, T, 4]`."""
        self.forwards += 1
        positions = torch.arange(tokens.shape[1]).expand_as(tokens)
        sizes = torch.full_like(tokens, len(tokens))
        value = torch.stack([tokens, positions, sizes, torch.ones_like(tokens)], -1).float()
        return dict.fromkeys(hooks, value)


def buffer_settings(hooks=("h",), targets=(), positions=None, exclude=(), **settings):
    """Settings of a mixing buffer; the first four describe the site."""
    site = HookSite(
        hooks=hooks,
        separate_targets=targets,
        positions=slice(*(positions or (None,))),
        exclude=exclude,
    )
    return MixingBufferSettings(site=site, **settings)
