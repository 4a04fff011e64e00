"""What the configs of dead-latent strategies have in common; free of torch, as every config."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from saecore.config.validators import at_least


@attrs.frozen
class DeadLatentsConfig:
    """When a latent counts as dead."""

    after_tokens: int | None = attrs.field(default=None, validator=at_least(1), kw_only=True)
    """A latent counts as dead when it has not fired for more than this many tokens; default:
    10,000,000."""
    after_steps: int | None = attrs.field(default=None, validator=at_least(1), kw_only=True)
    """The same as a number of steps, in place of after_tokens."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Report two definitions of dead."""
        if self.after_tokens is not None and self.after_steps is not None:
            yield "after_steps", "expected only one of after_tokens and after_steps"

    def dead_after(self, batch_size: int) -> int:
        """Tokens without firing after which a latent is dead."""
        if self.after_steps is not None:
            return self.after_steps * batch_size
        return 10_000_000 if self.after_tokens is None else self.after_tokens
