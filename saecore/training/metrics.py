"""Metrics of a training run, accumulated on the device and read once per log interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from saecore.core.step import StepOutput


def _double(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64


def explained_variance(squared_error: Any, squares: Any, mean_square: Any) -> Any:
    """1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²), computed from the three expectations."""
    return 1 - squared_error / (squares - mean_square)


class Moments:
    """Running sums for the explained variance.

    Args:
        d_out: size of the activations.
        device: device of the sums.
    """

    def __init__(self, d_out: int, device: torch.device) -> None:
        double = _double(device)
        self.sums = torch.zeros(3, dtype=double, device=device)  # rows, ‖x − x̂‖², ‖x‖²
        self.total = torch.zeros(d_out, dtype=double, device=device)  # Σ x

    def add(self, x: Tensor, x_hat: Tensor) -> None:
        """Add rows `[N, d_out]` and their reconstructions."""
        x, x_hat = x.detach().float(), x_hat.detach().float()
        parts = torch.stack([(x - x_hat).square().sum(), x.square().sum()])
        self.sums[0] += len(x)
        self.sums[1:] += parts
        self.total += x.sum(0)

    def read(self) -> Tensor:
        """The explained variance so far, a scalar on the device."""
        rows = self.sums[0].clamp(min=1)
        error, squares = self.sums[1] / rows, self.sums[2] / rows
        value: Tensor = explained_variance(error, squares, (self.total / rows).square().sum())
        return value


class MetricWindow:
    """Means over the steps since the last `read`.

    Args:
        d_out: size of the activations.
        device: device of the sums.
    """

    def __init__(self, d_out: int, device: torch.device) -> None:
        self.d_out, self.device = d_out, device
        self.reset()

    def reset(self) -> None:
        """Start a new window."""
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.moments = Moments(self.d_out, self.device)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add scalars by name; nothing is read back from the device."""
        for name, value in values.items():
            value = value.detach().to(_double(self.device))
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def add_output(
        self, output: StepOutput, targets: Tensor, reconstruction: Tensor, fired: Tensor
    ) -> None:
        """Add the losses, L0 and explained variance of a step or part of it.

        Args:
            output: the result of the training step.
            targets: the activations to reconstruct `[N, d_out]`.
            reconstruction: their reconstruction, in the same units `[N, d_out]`.
            fired: firing counts of the latents `[d_sae]`.
        """
        losses = {f"losses/{name}": value for name, value in output.losses.items()}
        l0 = fired.sum() / max(1, len(targets))
        self.add({**losses, "losses/overall_loss": output.total, "metrics/l0": l0})
        self.moments.add(targets.flatten(1), reconstruction.flatten(1))

    def read(self) -> dict[str, float]:
        """Return the means, in one transfer from the device, and start a new window."""
        if not self.sums:
            return {}
        names = list(self.sums)
        means = [self.sums[name] / self.counts[name] for name in names]
        numbers = torch.stack([*means, self.moments.read()]).tolist()
        self.reset()
        return dict(zip([*names, "metrics/explained_variance"], numbers, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """The sums, so that a resumed run continues the window."""
        tensors = {f"sum/{name}": total for name, total in self.sums.items()}
        return {
            "counts": dict(self.counts),
            "moments.sums": self.moments.sums,
            "moments.total": self.moments.total,
            **tensors,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the sums."""
        self.reset()
        self.counts = {str(name): int(n) for name, n in state["counts"].items()}
        self.sums = {
            name.removeprefix("sum/"): total.to(self.device)
            for name, total in state.items()
            if name.startswith("sum/")
        }
        self.moments.sums.copy_(state["moments.sums"])
        self.moments.total.copy_(state["moments.total"])


class LatentCounters:
    """Counts how often latents fire, and for how long they have not.

    Args:
        d_sae: number of latents.
        window_steps: steps over which firing frequencies are measured.
        device: device of the counts.
    """

    def __init__(self, d_sae: int, window_steps: int, device: torch.device) -> None:
        self.window_steps = window_steps
        self.since_fired = torch.zeros(d_sae, dtype=torch.int64, device=device)
        """Number of tokens since each latent last fired `[d_sae]`."""
        self.counts = torch.zeros_like(self.since_fired)
        self.last_counts = torch.zeros_like(self.since_fired)
        self.steps = self.tokens = self.last_tokens = 0

    def dead(self, after_tokens: int) -> Tensor:
        """Latents that have not fired for more than `after_tokens` tokens `[d_sae]`, bool."""
        return self.since_fired > after_tokens

    def add(self, fired: Tensor, tokens: int) -> None:
        """Count one step: each latent fired in `fired [d_sae]` of `tokens` rows."""
        if self.steps == self.window_steps:
            self.last_counts, self.last_tokens = self.counts, self.tokens
            self.counts, self.steps, self.tokens = torch.zeros_like(self.counts), 0, 0
        self.since_fired.add_(tokens).masked_fill_(fired > 0, 0)
        self.counts += fired
        self.steps += 1
        self.tokens += tokens

    def frequency(self) -> Tensor:
        """Share of tokens on which each latent fires `[d_sae]`, over this window and the last."""
        tokens = max(1, self.tokens + self.last_tokens)
        return (self.counts + self.last_counts) / tokens

    def sparsity(self) -> Tensor:
        """log10 of the frequency + 1e-10 `[d_sae]`, as sparsity.safetensors holds it."""
        return torch.log10(self.frequency() + 1e-10)

    def figures(self, after_tokens: int) -> dict[str, Tensor]:
        """Scalars to log: dead latents and the distribution of frequencies."""
        sparsity = self.sparsity()
        return {
            "sparsity/dead_features": self.dead(after_tokens).sum(),
            "sparsity/below_1e-5": (sparsity < -5).sum(),
            "sparsity/below_1e-6": (sparsity < -6).sum(),
            "metrics/mean_log10_feature_sparsity": sparsity.mean(),
        }

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        return {
            "since_fired": self.since_fired,
            "counts": self.counts,
            "last_counts": self.last_counts,
            "numbers": [self.steps, self.tokens, self.last_tokens],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load all counts."""
        self.since_fired.copy_(state["since_fired"])
        self.counts = state["counts"].to(self.counts.device, copy=True)
        self.last_counts = state["last_counts"].to(self.counts.device, copy=True)
        self.steps, self.tokens, self.last_tokens = (int(number) for number in state["numbers"])
