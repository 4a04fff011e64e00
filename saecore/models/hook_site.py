"""Where an SAE reads and writes in a model: hooks, head, positions, excluded tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs
import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.errors import ConfigError
from saecore.models.tokenizer import special_token_ids


@attrs.frozen(kw_only=True)
class HookSite:
    """The hooks and tokens whose activations an SAE reads and reconstructs."""

    hooks: tuple[str, ...]
    """Hooks that are read."""
    separate_targets: tuple[str, ...] = ()
    """Hooks that are reconstructed; default: those that are read."""
    head: int | None = None
    """Attention head that is read; default: all heads, concatenated."""
    target_head: int | None = None
    """Attention head that is reconstructed; default: all heads."""
    positions: slice = slice(None)
    """Positions of each context that are used."""
    exclude: tuple[int, ...] = ()
    """Token ids whose activations are left out."""

    @classmethod
    def of(cls, sae: SAE, model: Any) -> Self:
        """The site described by an SAE's metadata.

        Args:
            sae: the SAE.
            model: has a `tokenizer`, used only if the metadata excludes special tokens.

        Raises:
            ConfigError: the metadata has no hook name.
        """
        meta = sae.cfg.metadata
        if not (meta.get("hook_name") or meta.get("hook_names")):
            raise ConfigError(
                ["its metadata has no hook_name, so it cannot be attached to a model"], label="sae"
            )
        excluded = meta.get("exclude_special_tokens") or ()
        target = meta.get("hook_name_out")
        head = meta.get("hook_head_index")
        return cls(
            hooks=tuple(meta.get("hook_names") or (meta["hook_name"],)),
            separate_targets=tuple(meta.get("hook_names_out") or ((target,) if target else ())),
            head=head,
            target_head=meta.get("hook_head_index_out", head),
            positions=slice(*(meta.get("seqpos_slice") or (None,))),
            exclude=special_token_ids(model.tokenizer) if excluded is True else tuple(excluded),
        )

    @property
    def targets(self) -> tuple[str, ...]:
        """Hooks that are reconstructed."""
        return self.separate_targets or self.hooks

    @property
    def all_hooks(self) -> tuple[str, ...]:
        """Every hook that is read or reconstructed, once."""
        return tuple(dict.fromkeys((*self.hooks, *self.targets)))

    @property
    def everywhere(self) -> bool:
        """Whether every token is used."""
        return not self.exclude and self.positions == slice(None)

    def used(self, tokens: Tensor, past: int = 0) -> Tensor:
        """Mask `[B, T]` of the tokens whose activations are used.

        Args:
            tokens: token ids `[B, T]`.
            past: number of tokens of the context before these.
        """
        used = tokens.new_zeros(tokens.shape[0], past + tokens.shape[1], dtype=torch.bool)
        used[:, self.positions] = True
        used = used[:, past:]
        for token in self.exclude:
            used &= tokens != token
        return used

    def read(self, value: Tensor) -> Tensor:
        """The vectors `[B, T, d]` that the SAE reads from a model's activation `[B, T, …]`."""
        return merge_heads(value, self.head) if value.dim() == 4 else value

    def stack(self, vectors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Inputs and targets of the SAE.

        Args:
            vectors: `[…, d]` of every hook of the site.

        Returns:
            Inputs and targets, `[…, d]` from one hook and `[…, hooks, d]` from several. They are
            one tensor unless the site has separate targets.
        """
        inputs = stack_hooks([vectors[hook] for hook in self.hooks])
        if not self.separate_targets:
            return inputs, inputs
        return inputs, stack_hooks([vectors[hook] for hook in self.separate_targets])

    def target(self, value: Tensor) -> Tensor:
        """The part of a model's activation that is reconstructed: all of it, or one head."""
        one_head = value.dim() == 4 and self.target_head is not None
        return value[:, :, self.target_head] if one_head else value

    def write(self, value: Tensor, new: Tensor, used: Tensor | None = None) -> Tensor:
        """A model's activation with `target(value)` replaced.

        Args:
            value: the activation `[B, T, …]`.
            new: the replacement, shaped like `target(value)` or `[B, T, d]` with heads
                concatenated.
            used: mask `[B, T]` of the tokens to replace; default: all.
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


def merge_heads(value: Tensor, head: int | None) -> Tensor:
    """One head `[…, d_head]` of `[…, heads, d_head]`, or all concatenated `[…, heads * d_head]`."""
    return value.flatten(-2) if head is None else value[..., head, :]


def stack_hooks(vectors: Sequence[Tensor]) -> Tensor:
    """The vectors `[…, d]` of one hook unchanged; of several, stacked to `[…, hooks, d]`."""
    return vectors[0] if len(vectors) == 1 else torch.stack(list(vectors), dim=-2)
