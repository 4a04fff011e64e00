"""The training loop: activations in, a trained SAE out. Uses no files, loggers or plugins."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from saecore.core.activation_store import ActivationStore
from saecore.core.dead_latents import DeadLatents
from saecore.core.normalizer import Normalizer
from saecore.core.optimizer import Optimizer
from saecore.core.sae import SAE
from saecore.core.schedule import Schedule
from saecore.core.step import Batch, StepContext
from saecore.randomness import generator
from saecore.training.decoder_norm import make_unit, remove_parallel
from saecore.training.ema import WeightAverage
from saecore.training.end_to_end import ModelLoss
from saecore.training.finite_check import NonFiniteCheck
from saecore.training.initialization import Start
from saecore.training.l0_controller import L0Controller
from saecore.training.metrics import LatentCounters, MetricWindow
from saecore.training.optimizer_steps import clipped_step, gradient_norm, scales_itself


@attrs.frozen(kw_only=True)
class TrainerSettings:
    """The numbers of a training run; `TrainingTable` documents them."""

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

    Everything that changes during a run is in `state_dict`. A trainer built with the same arguments
    that loads it continues with identical bits.
    """

    def __init__(
        self,
        sae: SAE,
        source: ActivationStore,
        optimizer: Optimizer,
        settings: TrainerSettings,
        *,
        lr_schedule: Schedule,
        normalizer: Normalizer,
        dead_latents: DeadLatents,
        l0_control: L0Controller | None = None,
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
        skip = settings.bad_numbers == "skip"
        delayed = device.type == "cuda" and not skip and scales_itself(optimizer)
        self.finite_check = NonFiniteCheck(device, skip, delayed)
        self.completed = 0
        """Number of completed steps, including skipped ones."""
        self.skipped = 0
        """Number of steps skipped because a number was not finite."""
        self.last: tuple[Batch, Tensor, Tensor] | None = None
        """The last batch (or part of it), its targets and their reconstruction, for monitors."""

    def prepare(self) -> None:
        """Estimate the normalizer's scale and data-dependent initial weights, then rewind."""
        if self.normalizer.tokens:
            self.normalizer.estimate(self._first_batches(self.normalizer.tokens))
            self.source.seek(0)
        if self.start is not None:
            raw = self._first_batches(self.start.tokens) if self.start.tokens else ()
            self.start(self.sae, self.normalizer, [self.normalizer.apply(batch) for batch in raw])
            if self.start.tokens:
                self.source.seek(0)

    def step(self) -> None:
        """Take one optimizer step on the next batch, or skip it if a number is not finite.

        Raises:
            NumericsError: an activation, loss or gradient is not finite and `bad_numbers` is
                "stop", or a weight was not finite before the step. Devices other than the CPU
                may report a step one or two steps later.
            DataError: the stream has ended.
        """
        self._set_learning_rate()
        batch = self.source.next(self.settings.batch_size)
        dead = self.latents.dead(self.dead_after)
        fired, loss, norm = self._gradients(batch, dead)
        if self._is_finite(batch, loss, norm):
            self.latents.add(fired, len(batch))
            if self.l0_control is not None:
                self.l0_control.update(fired.sum() / len(batch))
            self._update_weights(norm)
            self._treat_dead_latents(batch, dead)
            if self.average:
                self.average.update()
        else:
            self.skipped += 1
        self.window.add({"details/gradient_norm": norm})
        self.completed += 1

    def _set_learning_rate(self) -> None:
        lr = self.settings.lr * self.lr_schedule(self.completed, self.settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("lr_factor", 1.0)

    def _gradients(self, batch: Batch, dead: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Accumulate gradients over the parts of a batch.

        Returns:
            Firing counts `[d_sae]`, the loss and the norm of the gradients, both scalars.
        """
        self.optimizer.zero_grad()
        fired = torch.zeros_like(self.latents.since_fired)
        loss = torch.zeros((), device=dead.device)
        for part in batch.split(self.settings.accumulate):
            part_fired, part_loss = self._backward(*self._prepared(part, dead))
            fired, loss = fired + part_fired, loss + part_loss
        return fired, loss, gradient_norm(self.sae.parameters())

    def _update_weights(self, norm: Tensor) -> None:
        """Clip gradients of this norm, step, and restore the constraints on the weights."""
        s = self.settings
        if s.unit_decoder:
            remove_parallel(self.sae.W_dec)
        clip = (s.clip_norm / (norm + 1e-6)).clamp(max=1.0) if s.clip_norm else None
        clipped_step(self.optimizer, self.sae.parameters(), clip, self.finite_check.stopped)
        self.sae.after_step()
        if s.unit_decoder:
            make_unit(self.sae.W_dec)

    def _treat_dead_latents(self, raw: Batch, dead: Tensor) -> None:
        """Let the dead-latents strategy change weights, e.g. resample."""
        if self.dead_latents.acts(self.completed):
            batch, context = self._prepared(raw, dead)
            revived = self.dead_latents.after_step(self.sae, self.optimizer, batch, context)
            self.latents.since_fired.masked_fill_(revived, 0)

    @property
    def dead_after(self) -> int:
        """Number of tokens without firing after which a latent is dead."""
        return self.dead_latents.after_tokens(self.settings.batch_size)

    def _prepared(self, raw: Batch, dead: Tensor) -> tuple[Batch, StepContext]:
        """Normalize a batch (or part of it) and gather the context of the step."""
        s = self.settings
        batch, restore = self.normalizer.apply(raw), self.normalizer.restorer(raw)
        return batch, StepContext(
            step=self.completed,
            scheduled=self._scheduled(self.completed),
            dead=dead,
            targets=batch.targets if restore is None else raw.targets,
            generator=lambda stream: generator(s.seed, stream, self.completed, dead.device),
            restore=restore,
            model_loss=self._through_model(raw),
        )

    def _through_model(self, raw: Batch) -> Callable[[Tensor], Tensor] | None:
        loss, tokens = self.model_loss, raw.tokens
        return None if loss is None or tokens is None else lambda x_hat: loss(x_hat, tokens)

    def _scheduled(self, step: int) -> dict[str, float | Tensor]:
        """The scheduled values of a step; the L0 controller scales one of them."""
        values: dict[str, float | Tensor] = {
            name: value.at(step, self.settings.steps)
            for name, value in self.sae.scheduled().items()
        }
        name, control = self.sae.coefficient, self.l0_control
        if control is not None and name is not None:
            values[name] = values[name] * control.multiplier
        return values

    def _backward(self, part: Batch, context: StepContext) -> tuple[Tensor, Tensor]:
        """Add the gradients of (part of) a batch; return firing counts `[d_sae]` and the loss."""
        s, dead = self.settings, context.dead
        with torch.autocast(dead.device.type, dtype=torch.bfloat16, enabled=s.autocast):
            output = self.sae.training_step(part, context)
            if self.model_loss is not None:  # architectures name their reconstruction loss mse_loss
                kind = f"{self.model_loss.kind}_loss"
                output.losses = {k.replace("mse_loss", kind): v for k, v in output.losses.items()}
            for name, loss in self.dead_latents.losses(self.sae, part, output, context).items():
                known = output.losses.get(name)  # a gated SAE also has an auxiliary loss
                output.losses[name] = loss if known is None else known + loss
        (output.total / s.accumulate).backward()
        fired = output.codes.firing_counts()
        restored = context.restored(output.reconstruction)
        self.window.add_output(output, context.targets, restored, fired)
        self.last = part, context.targets.flatten(1), restored.detach()
        return fired, output.total.detach()

    def _is_finite(self, batch: Batch, loss: Tensor, norm: Tensor) -> bool:
        """Check that weights, activations, loss and gradients are finite.

        Inputs and weights are checked directly: a NaN in a latent or input that the selection
        passes over reaches neither loss nor gradients.
        """
        # A sum is not finite if one of its terms is not.
        weights = [weight.detach().sum(dtype=torch.float32) for weight in self.sae.parameters()]
        numbers = {
            "a weight": torch.stack(weights).sum(),
            "an activation": batch.inputs.sum(dtype=torch.float32),
            "a loss": loss,
            "a gradient": norm,
        }
        return self.finite_check.passes(self.completed, numbers)

    def _first_batches(self, tokens: int) -> Iterator[Batch]:
        self.source.seek(0)
        size = min(self.settings.batch_size, tokens)
        for _ in range(-(-tokens // size)):
            yield self.source.next(size)

    @property
    def tokens(self) -> int:
        """Number of tokens trained on so far."""
        return self.completed * self.settings.batch_size

    def read_metrics(self) -> dict[str, float]:
        """Metrics since the last call, in one transfer from the device."""
        self.finite_check.report(wait=True)
        s, step = self.settings, max(0, self.completed - 1)
        self.window.add(self.latents.figures(self.dead_after))
        metrics = self.window.read()
        metrics["details/current_learning_rate"] = s.lr * self.lr_schedule(step, s.steps)
        metrics["details/n_training_samples"] = self.tokens
        for name, value in self._scheduled(step).items():
            metrics[f"details/{name}"] = float(value)
        if s.bad_numbers == "skip":
            metrics["details/skipped_steps"] = self.skipped
        return metrics

    def export(self) -> SAE:
        """A copy of the SAE in inference form, for raw activations. The weights are copied once."""
        result = self._averaged_copy() or copy.deepcopy(self.sae)
        self.normalizer.fold(result)
        return result.to_inference(in_place=True).eval()

    def _averaged_copy(self) -> SAE | None:
        """A copy of the SAE with averaged weights, if there is an average."""
        keeper = self.average or self.optimizer
        if not hasattr(keeper, "averaged"):
            return None
        with keeper.averaged():
            result = copy.deepcopy(self.sae)
        result.after_step()
        if self.settings.unit_decoder:  # an average of unit rows is not a unit row
            make_unit(result.W_dec)
        return result

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes during a run."""
        self.finite_check.report(wait=True)
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
        """Continue from a saved state."""
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
