"""The training loop: activations in, a trained SAE out. Knows no files, loggers or plugins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from saecore.constraints import make_unit, remove_parallel
from saecore.data.source import ActivationSource
from saecore.ema import WeightAverage
from saecore.end_to_end import ModelLoss
from saecore.initialization import Start
from saecore.l0_control import L0Control
from saecore.metrics import LatentCounters, MetricWindow
from saecore.optimizer import scales_itself, take_step
from saecore.randomness import generator
from saecore.sae import SAE
from saecore.step import Batch, DeadLatents, Normalizer, Optimizer, Schedule, StepContext
from saecore.watch import NumberWatch


@attrs.frozen
class TrainerSettings:
    """The numbers of a training run; see `TrainingTable` for what each means."""

    steps: int
    batch_size: int
    lr: float
    clip_norm: float = 1.0
    accumulate: int = 1
    autocast: bool = False
    feature_sampling_window: int = 2000
    bad_numbers: Literal["stop", "skip"] = "stop"
    seed: int = 0
    unit_decoder: bool = False
    ema: float | None = None


class Trainer:
    """Trains one SAE on one stream of activations, step by step.

    Everything that changes during a run is in `state_dict`: loaded into a trainer made in the
    same way, training goes on with the same bits.
    """

    def __init__(
        self,
        sae: SAE,
        source: ActivationSource,
        optimizer: Optimizer,
        settings: TrainerSettings,
        *,
        lr_schedule: Schedule,
        normalizer: Normalizer,
        dead_latents: DeadLatents,
        l0_control: L0Control | None = None,
        model_loss: ModelLoss | None = None,
        start: Start | None = None,
    ) -> None:
        self.sae, self.source, self.optimizer, self.settings = sae, source, optimizer, settings
        self.lr_schedule, self.normalizer, self.dead_latents = lr_schedule, normalizer, dead_latents
        self.l0_control, self.model_loss, self.start = l0_control, model_loss, start
        normalizer.check(sae)
        device = sae.W_dec.device
        self.window = MetricWindow(sae.cfg.d_out, device)
        self.latents = LatentCounters(sae.cfg.d_sae, settings.feature_sampling_window, device)
        self.average = WeightAverage(sae, settings.ema) if settings.ema is not None else None
        delayed = device.type == "cuda" and settings.bad_numbers == "stop"
        self.watch = NumberWatch(
            device, settings.bad_numbers == "skip", delayed and scales_itself(optimizer)
        )
        self.completed = 0
        """Completed steps."""
        self.skipped = 0
        """Steps skipped for numbers that were not finite."""
        self.last: tuple[Batch, Tensor, Tensor] | None = None
        """The last (part of a) batch, its targets and their reconstruction, for monitors."""

    def prepare(self) -> None:
        """Estimate the normalizer's scale, and first weights that depend on activations, from the
        beginning of the stream, then rewind.
        """
        if self.normalizer.tokens:
            self.normalizer.estimate(self._first_batches(self.normalizer.tokens))
            self.source.seek(0)
        if self.start is not None:
            raw = self._first_batches(self.start.tokens) if self.start.tokens else ()
            self.start(self.sae, self.normalizer, [self.normalizer.apply(one) for one in raw])
            if self.start.tokens:
                self.source.seek(0)

    def step(self) -> None:
        """One optimizer step on the next batch.

        Raises:
            NumericsError: an activation, loss or gradient is not finite and `bad_numbers` is
                "stop", or a weight was not finite before the step; on other devices than the CPU
                a step or two after the one it names.
            DataError: the stream has ended.
        """
        s = self.settings
        lr = s.lr * self.lr_schedule(self.completed, s.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)
        batch = self.source.next(s.batch_size)
        self.optimizer.zero_grad()
        dead = self.latents.dead(self.dead_after)
        fired = torch.zeros_like(self.latents.since_fired)
        loss = torch.zeros((), device=dead.device)
        for part in batch.split(s.accumulate):
            counts, total = self._backward(*self._prepared(part, dead))
            fired, loss = fired + counts, loss + total
        norm = self._gradient_norm()
        if self._good(batch, loss, norm):
            self.latents.add(fired, len(batch))
            if self.l0_control is not None:
                self.l0_control.update(fired.sum() / len(batch))
            if s.unit_decoder:
                remove_parallel(self.sae.W_dec)
            clip = (s.clip_norm / (norm + 1e-6)).clamp(max=1.0) if s.clip_norm else None
            take_step(self.optimizer, self.sae.parameters(), clip, self.watch.stopped)
            self.sae.after_step()
            if s.unit_decoder:
                make_unit(self.sae.W_dec)
            if self.dead_latents.acts(self.completed):
                scaled, context = self._prepared(batch, dead)
                revived = self.dead_latents.after_step(self.sae, self.optimizer, scaled, context)
                self.latents.since_fired.masked_fill_(revived, 0)
            if self.average:
                self.average.update()
        else:
            self.skipped += 1
        self.window.add({"details/gradient_norm": norm})
        self.completed += 1

    @property
    def dead_after(self) -> int:
        """A latent is dead when it has not fired for more than this many tokens."""
        return self.dead_latents.after_tokens(self.settings.batch_size)

    def _prepared(self, raw: Batch, dead: Tensor) -> tuple[Batch, StepContext]:
        """(A part of) the batch as the SAE takes it, and what else an architecture may know."""
        s = self.settings
        batch, restore = self.normalizer.apply(raw), self.normalizer.restorer(raw)
        return batch, StepContext(
            self.completed,
            self._scheduled(self.completed),
            dead,
            batch.targets if restore is None else raw.targets,
            lambda stream: generator(s.seed, stream, self.completed, dead.device),
            restore,
            self._through_model(raw),
        )

    def _through_model(self, raw: Batch) -> Callable[[Tensor], Tensor] | None:
        loss, tokens = self.model_loss, raw.tokens
        return None if loss is None or tokens is None else lambda x_hat: loss(x_hat, tokens)

    def _scheduled(self, step: int) -> dict[str, float | Tensor]:
        """The scheduled values of a step; the controller's hand is on one of them."""
        values: dict[str, float | Tensor] = {
            name: one.at(step, self.settings.steps) for name, one in self.sae.scheduled().items()
        }
        name = self.sae.coefficient
        if self.l0_control is not None and name is not None:
            values[name] = values[name] * self.l0_control.multiplier
        return values

    def _backward(self, part: Batch, context: StepContext) -> tuple[Tensor, Tensor]:
        """Losses and gradients of (a part of) the batch; returns firing counts `[d_sae]`, loss."""
        s, dead = self.settings, context.dead
        with torch.autocast(dead.device.type, dtype=torch.bfloat16, enabled=s.autocast):
            output = self.sae.training_step(part, context)
            if self.model_loss is not None:  # architectures call their reconstruction loss mse
                kind = f"{self.model_loss.kind}_loss"
                output.losses = {k.replace("mse_loss", kind): v for k, v in output.losses.items()}
            for name, loss in self.dead_latents.losses(self.sae, part, output, context).items():
                known = output.losses.get(name)  # a gated SAE has an auxiliary loss of its own
                output.losses[name] = loss if known is None else known + loss
        (output.total / s.accumulate).backward()
        fired = output.codes.firing_counts()
        restored = context.restored(output.reconstruction)
        self.window.add_output(output, context.targets, restored, fired)
        self.last = part, context.targets.flatten(1), restored.detach()
        return fired, output.total.detach()

    def _gradient_norm(self) -> Tensor:
        """The norm of all gradients together, a scalar in float64."""
        squares = []
        for parameter in self.sae.parameters():
            if parameter.grad is not None:
                # Fused optimizers compute wrong updates from strided gradients, silently.
                parameter.grad = parameter.grad.contiguous()
                # Norms of rows first: one float32 norm over millions of elements loses 3 digits.
                squares.append(parameter.grad.norm(dim=-1).double().square().sum())
        return torch.stack(squares).sum().sqrt()

    def _good(self, batch: Batch, loss: Tensor, norm: Tensor) -> bool:
        """Whether the step may be taken.

        Inputs and weights are looked at themselves: a NaN in a latent that is not selected, or in
        an input that a selection passes over, reaches neither loss nor gradient.
        """
        # A sum is not finite when one of its terms is not.
        weights = [one.detach().sum(dtype=torch.float32) for one in self.sae.parameters()]
        numbers = {
            "a weight": torch.stack(weights).sum(),
            "an activation": batch.inputs.sum(dtype=torch.float32),
            "a loss": loss,
            "a gradient": norm,
        }
        return self.watch.good(self.completed, numbers)

    def _first_batches(self, tokens: int) -> Iterator[Batch]:
        self.source.seek(0)
        size = min(self.settings.batch_size, tokens)
        for _ in range(-(-tokens // size)):
            yield self.source.next(size)

    @property
    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.completed * self.settings.batch_size

    def read_metrics(self) -> dict[str, float]:
        """Everything worth logging since the last reading, in one transfer from the device."""
        self.watch.look(wait=True)
        s, step = self.settings, max(0, self.completed - 1)
        self.window.add(self.latents.figures(self.dead_after))
        figures = self.window.read()
        figures["details/current_learning_rate"] = s.lr * self.lr_schedule(step, s.steps)
        figures["details/n_training_samples"] = self.tokens
        for name, one in self._scheduled(step).items():
            figures[f"details/{name}"] = float(one)
        if s.bad_numbers == "skip":
            figures["details/skipped_steps"] = self.skipped
        return figures

    def export(self) -> SAE:
        """A copy of the SAE as it would be published now: takes raw activations."""
        result = self._averaged() or copy.deepcopy(self.sae)
        self.normalizer.fold(result)
        return result.to_inference().eval()

    def _averaged(self) -> SAE | None:
        """A copy of the SAE with averaged weights, if an average is kept."""
        keeper = self.average or self.optimizer
        if not hasattr(keeper, "averaged"):
            return None
        with keeper.averaged():
            result = copy.deepcopy(self.sae)
        result.after_step()
        if self.settings.unit_decoder:  # an average of unit rows has none
            make_unit(result.W_dec)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a run."""
        self.watch.look(wait=True)
        return {
            "sae": self.sae.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "normalizer": self.normalizer.state_dict(),
            "window": self.window.state_dict(),
            "latents": self.latents.state_dict(),
            "l0_control": {} if self.l0_control is None else self.l0_control.state_dict(),
            "completed": self.completed,
            "skipped": self.skipped,
            "position": self.source.position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state."""
        self.sae.load_state_dict(state["sae"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.normalizer.load_state_dict(state["normalizer"])
        self.window.load_state_dict(state["window"])
        self.latents.load_state_dict(state["latents"])
        if self.l0_control is not None:
            self.l0_control.load_state_dict(state["l0_control"])
        self.completed, self.skipped = int(state["completed"]), int(state["skipped"])
        self.source.seek(int(state["position"]))
