"""Where in a model an SAE works, from its metadata."""

from __future__ import annotations

from typing import Any, Self

import attrs
import torch
from torch import Tensor

from saecore.errors import ConfigError
from saecore.sae import SAE


@attrs.frozen
class Site:
    """Hooks, head, positions and tokens left out."""

    hooks: tuple[str, ...]
    """Hooks that are read."""
    targets: tuple[str, ...]
    """Hooks that are reconstructed; the same for an SAE."""
    head: int | None
    """The one head that is read, of activations that have heads."""
    positions: slice
    exclude: tuple[int, ...]
    target_head: int | None = None
    """The one head that is reconstructed; the same for an SAE."""

    @classmethod
    def of(cls, sae: SAE, model: Any) -> Self:
        """The site that the SAE's metadata describes.

        Args:
            sae: the SAE.
            model: has a `tokenizer`, which is asked for only if special tokens are left out.

        Raises:
            ConfigError: the metadata names no hook.
        """
        from saecore.data.tokens import special_tokens

        meta = sae.cfg.metadata
        if not (meta.get("hook_name") or meta.get("hook_names")):
            raise ConfigError(
                "sae", ["its metadata has no hook_name, so it belongs to no place in a model"]
            )
        excluded = meta.get("exclude_special_tokens") or ()
        if excluded is True:
            excluded = tuple(sorted(set(special_tokens(model.tokenizer).values())))
        positions = slice(*(meta.get("seqpos_slice") or (None,)))
        hooks = tuple(meta.get("hook_names") or (meta["hook_name"],))
        target = meta.get("hook_name_out")
        targets = tuple(meta.get("hook_names_out") or ((target,) if target else hooks))
        head = meta.get("hook_head_index")
        target_head = meta.get("hook_head_index_out", head)
        return cls(hooks, targets, head, positions, tuple(excluded), target_head)

    @property
    def everywhere(self) -> bool:
        """Whether every token is read."""
        return not self.exclude and self.positions == slice(None)

    def used(self, tokens: Tensor, past: int = 0) -> Tensor:
        """Which tokens `[B, T]` the SAE reads, bool; `past` tokens of the context came before."""
        used = tokens.new_zeros(tokens.shape[0], past + tokens.shape[1], dtype=torch.bool)
        used[:, self.positions] = True
        used = used[:, past:]
        for token in self.exclude:
            used &= tokens != token
        return used

    def read(self, value: Tensor) -> Tensor:
        """Activations as the SAE takes them `[B, T, d_in]`."""
        if value.dim() == 4:
            return value.flatten(2) if self.head is None else value[:, :, self.head]
        return value

    def target(self, value: Tensor) -> Tensor:
        """What is reconstructed of an activation: all of it, or one head."""
        one_head = value.dim() == 4 and self.target_head is not None
        return value[:, :, self.target_head] if one_head else value

    def write(self, value: Tensor, new: Tensor, used: Tensor | None = None) -> Tensor:
        """`value` with what is reconstructed of it replaced by `new` where `used [B, T]`.

        Args:
            value: the model's activation `[B, T, …]`.
            new: of the size of `target(value)`, or joined `[B, T, d_in]`.
            used: default: everywhere.
        """
        part = self.target(value)
        new = new.to(value.device, value.dtype).reshape(part.shape)
        if used is not None:
            mask = used.to(value.device).reshape(*used.shape, *(1,) * (part.dim() - 2))
            new = torch.where(mask, new, part)
        if part is value:
            return new
        result = value.clone()
        result[:, :, self.target_head] = new
        return result
