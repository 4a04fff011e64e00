"""The contract of an activation."""

from __future__ import annotations

import copy
from collections.abc import Collection

import attrs
import torch
from torch import Tensor

from saecore.core.activation import Activation, PreActivations
from saecore.core.sae_config import Shape
from saecore.core.step import Batch
from saecore.ops.codes import Codes
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import D_IN, D_SAE, TOKENS, PlainSAE, context, plain_sae, rows
from saecore.testing.gradients import check_gradients
from saecore.testing.persistence import check_training

INPUTS = ("x", "W_enc", "b_enc", "center")


def check_activation(
    name: str, settings: Settings = None, *, straight_through: Collection[str] = ()
) -> None:
    """Check an activation: what it selects, its gradients in a training step, its state.

    Args:
        name: as in `sae.activation`.
        settings: its table.
        straight_through: parameters of the activation, or `x`, `W_enc`, `b_enc`, `center`, whose
            gradient deliberately differs from the slope.

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("activation", name, settings)
    subject = choice.component
    activation = choice.build(Shape(D_IN, D_IN, D_SAE, dtype=torch.float64))
    if not isinstance(activation, Activation):
        fail(subject, f"build gave a {type(activation).__name__}", "subclass Activation")
    tensors = {
        "x": rows("x", TOKENS, D_IN),
        "W_enc": rows("W_enc", D_SAE, D_IN).t(),
        "b_enc": rows("b_enc", D_SAE),
        "center": rows("center", D_IN),
    }
    _check_selection(subject, copy.deepcopy(activation).eval(), tensors)
    _check_gradients(subject, activation, tensors, straight_through)

    def build() -> PlainSAE:
        sae = plain_sae(torch.float32, uses=Activated)
        sae.activation = choice.build(Shape(D_IN, D_IN, D_SAE))
        return sae

    check_training(subject, build)


class Activated(PlainSAE):
    """An SAE with an activation component."""

    def select(self, x: Tensor) -> Codes:
        """Select by the activation."""
        assert self.activation is not None
        return self.activation.select(self.encoding(x))


def _encoding(tensors: dict[str, Tensor]) -> PreActivations:
    return PreActivations(**tensors, scale=None, decoder_norms=lambda: torch.ones(D_SAE).double())


def _check_selection(subject: object, activation: Activation, tensors: dict[str, Tensor]) -> None:
    encoding = _encoding(tensors)
    codes = activation.select(encoding)
    if not isinstance(codes, Codes):
        fail(
            subject,
            f"select gave a {type(codes).__name__}",
            "return the Codes of a method of the encoding",
        )
    if (codes.n_rows, codes.d_sae) != (TOKENS, D_SAE):
        fail(
            subject,
            f"select gave {codes.n_rows} rows of {codes.d_sae} latents",
            f"give one row a token ({TOKENS}) over all latents ({D_SAE})",
        )
    if len(torch.unique(codes.rows * D_SAE + codes.indices)) != len(codes.indices):
        fail(subject, "a latent appears twice in one row", "give each entry once")
    if not torch.equal(codes.dense(), activation.select(encoding).dense()):
        fail(subject, "two calls give different features", "use no random numbers in select")
    moved = attrs.evolve(encoding, x=tensors["x"] - tensors["center"], center=None)
    if not torch.allclose(codes.dense(), activation.select(moved).dense(), rtol=1e-9, atol=1e-9):
        fail(
            subject,
            "with a center it gives other features than for x - center",
            "use the methods of the encoding, or subtract encoding.center if it is not None",
        )


def _check_gradients(
    subject: object,
    activation: Activation,
    tensors: dict[str, Tensor],
    straight_through: Collection[str],
) -> None:
    weights = rows("weights", TOKENS, D_SAE)
    scheduled: dict[str, float | Tensor] = {
        key: entry.at(5, 10) for key, entry in activation.scheduled().items()
    }

    def value(module: Activation, inputs: dict[str, Tensor]) -> Tensor:
        """A number that depends on every feature and loss of a training step."""
        batch = context(_batch(inputs["x"]), D_SAE, scheduled)
        codes, losses = module.train_select(_encoding(inputs), batch)
        return torch.stack([(codes.dense() * weights).sum(), *losses.values()]).sum()

    def moved(key: str, tensor: Tensor) -> float:
        module = copy.deepcopy(activation)
        with torch.no_grad():
            if key in INPUTS:
                return float(value(module, {**tensors, key: tensor}))
            module.get_parameter(key).copy_(tensor)
            return float(value(module, tensors))

    parameters = dict(activation.named_parameters())
    trained = copy.deepcopy(activation)
    leaves = {key: leaf.clone().requires_grad_() for key, leaf in tensors.items()}
    value(trained, leaves).backward()
    gradients = {
        key: leaf.grad for key, leaf in {**leaves, **dict(trained.named_parameters())}.items()
    }
    check_gradients(subject, {**tensors, **parameters}, gradients, moved, straight_through)


def _batch(x: Tensor) -> Batch:
    return Batch(x.detach(), x.detach())
