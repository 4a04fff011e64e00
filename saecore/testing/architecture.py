"""The contract of an architecture."""

from __future__ import annotations

import copy
from collections.abc import Collection

import torch
from torch import Tensor

from saecore.core.sae import SAE
from saecore.core.sae_config import Shape
from saecore.core.step import Batch, StepContext, StepOutput
from saecore.ops.codes import Codes
from saecore.plugins.component import Choice
from saecore.plugins.faults import place
from saecore.randomness import generator
from saecore.testing.component import Settings, check_component, fail
from saecore.testing.fakes import D_IN, D_SAE, TOKENS, context, rows, shift_biases
from saecore.testing.gradients import check_gradients
from saecore.testing.persistence import check_folding, check_published, check_training

SKIPPABLE = ("forward", "inference", "folding")


def check_architecture(
    name: str,
    settings: Settings = None,
    *,
    straight_through: Collection[str] = (),
    skip: Collection[str] = (),
) -> None:
    """Check an architecture at d_in 6, d_sae 20 and 24 tokens, in seconds.

    Shapes, leading dimensions and slices of latents; encode, decode and forward against
    encode_sparse; gradients of the training step against finite differences in float64; the
    inference form: features, folding of a normalizer, saving and loading; training: the same bits
    from the same seed and from a saved state; the same numbers on a GPU, if there is one.

    Args:
        name: as in `sae.architecture`.
        settings: its keys in `[sae]`.
        straight_through: parameters whose gradient deliberately differs from the loss's slope.
        skip: checks that do not apply to this architecture: "forward" (it adds something to
            decode(encode(x)), such as a skip connection), "inference" (the inference form has
            different features, such as a threshold instead of a batch-wide selection),
            "folding" (a factor of the activations cannot be folded into the weights).

    Raises:
        Nonconformance: with what to change.
    """
    choice = check_component("architecture", name, settings)
    subject = choice.component
    for promise in skip:
        if promise not in SKIPPABLE:
            fail(subject, f"skip={promise!r} is no promise", f"known: {', '.join(SKIPPABLE)}")
    sae = build(choice, torch.float64)
    x = rows("x", TOKENS, D_IN)
    _check_shapes(subject, sae, x)
    _check_consistency(subject, sae, x, "forward" not in skip)
    batch = Batch(x, x if sae.cfg.d_out == D_IN else rows("y", TOKENS, sae.cfg.d_out))
    _check_step(subject, sae, batch)
    _check_gradients(subject, sae, batch, straight_through)
    check_published(subject, sae, x, "inference" not in skip)
    if "folding" not in skip:
        check_folding(subject, sae, x)
    check_training(subject, lambda: build(choice, torch.float32))
    if torch.cuda.is_available():
        _check_devices(subject, choice, batch)


def build(choice: Choice, dtype: torch.dtype, device: str = "cpu") -> SAE:
    """Build the SAE as a run does, with nonzero biases."""
    cls = choice.component.builder()
    d_out = D_IN + 2 if getattr(cls, "separate_target", False) else D_IN
    hooks = 2 if getattr(cls, "several_hooks", False) else 1
    sae = choice.build(
        Shape(D_IN, d_out, D_SAE, dtype=dtype, device=torch.device(device), hooks=hooks)
    )
    if not isinstance(sae, SAE):
        fail(choice.component, f"build gave a {type(sae).__name__}", "return a saecore.SAE")
    if sae.cfg.architecture != choice.name:
        fail(
            choice.component,
            f"its SAEs call themselves {sae.cfg.architecture!r}, so they could not be loaded",
            f'set the class attribute architecture = "{choice.name}"',
        )
    if sae.activation is None and type(sae).select is SAE.select:
        fail(
            choice.component,
            "it does not say which latents are active",
            "implement select, or set self.activation in __init__",
        )
    sae.initialize(generator(0, "kit"), 0.5)
    shift_biases(sae)
    return sae


def step(sae: SAE, batch: Batch) -> tuple[StepOutput, StepContext]:
    """Take one training step as the trainer does."""
    scheduled: dict[str, float | Tensor] = {
        name: value.at(5, 10) for name, value in sae.scheduled().items()
    }
    step_context = context(batch, sae.cfg.d_sae, scheduled)
    return sae.training_step(batch, step_context), step_context


def _check_shapes(subject: object, sae: SAE, x: Tensor) -> None:
    d_sae, d_out = sae.cfg.d_sae, sae.cfg.d_out
    grouped = x.reshape(4, -1, D_IN)
    codes = sae.encode_sparse(x)
    if not isinstance(codes, Codes):
        fail(subject, f"encode_sparse gave a {type(codes).__name__}", "return saecore.Codes")
    expected = {
        "encode_sparse(x[24, 6]) has rows, d_sae": ((codes.n_rows, codes.d_sae), (TOKENS, d_sae)),
        "encode(x[24, 6])": (sae.encode(x).shape, (TOKENS, d_sae)),
        "encode(x[4, 6, 6])": (sae.encode(grouped).shape, (*grouped.shape[:2], d_sae)),
        "decode(features[24, 20])": (sae.decode(sae.encode(x)).shape, (TOKENS, d_out)),
        "forward(x[4, 6, 6])": (sae(grouped).shape, (*grouped.shape[:2], d_out)),
    }
    for what, (got, shape) in expected.items():
        if tuple(got) != tuple(shape):
            fail(
                subject,
                f"{what}: expected {list(shape)}, got {list(got)}",
                "flatten leading dimensions to rows and restore them; only the last one changes",
            )


def _check_consistency(subject: object, sae: SAE, x: Tensor, forward: bool) -> None:
    codes = sae.encode_sparse(x)
    if not torch.equal(codes.dense(), sae.encode_sparse(x).dense()):
        fail(
            subject,
            f"select is not deterministic: two calls give different features"
            f"{place(type(sae).select)}",
            "use no random numbers in select; training_step has context.generator(stream)",
        )
    features = sae.encode(x)
    latents = torch.tensor([3, 0, sae.cfg.d_sae - 1])
    grouped = x.reshape(4, -1, D_IN)
    pairs = {
        "encode(x) and encode_sparse(x).dense()": (features, codes.dense()),
        "encode of [4, 6, 6] and of its 24 rows": (sae.encode(grouped).flatten(0, 1), features),
        "encode(x, latents) and encode(x)[:, latents]": (
            sae.encode(x, latents),
            features[:, latents],
        ),
        "decode of Codes and of dense features": (sae.decode(codes), sae.decode(features)),
    }
    if forward:
        pairs["forward(x) and decode(encode(x))"] = (sae(x), sae.decode(features))
    for what, (pair, other) in pairs.items():
        if pair.shape != other.shape or not torch.allclose(pair, other, rtol=1e-9, atol=1e-9):
            fail(
                subject,
                f"{what} differ",
                "override the parts that all of them are made of (select, latent_scale, center) "
                'and not one of them alone; a skip connection says skip=["forward"]',
            )


def _check_step(subject: object, sae: SAE, batch: Batch) -> None:
    output, _ = step(copy.deepcopy(sae), batch)
    if not isinstance(output, StepOutput):
        fail(subject, f"training_step gave a {type(output).__name__}", "return a StepOutput")
    if not output.losses:
        fail(subject, "training_step gave no losses", 'name at least one: {"mse_loss": …}')
    for name, loss in output.losses.items():
        if not isinstance(loss, Tensor) or loss.dim() or not bool(loss.isfinite()):
            got = list(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            fail(
                subject,
                f"loss {name!r} is no finite scalar tensor (got {got})",
                "average it over tokens and keep it a tensor",
            )
    got = list(output.reconstruction.shape)
    if got != [len(batch), sae.cfg.d_out]:
        fail(
            subject,
            f"StepOutput.reconstruction: expected {[len(batch), sae.cfg.d_out]}, got {got}",
            "return one reconstruction a token",
        )
    if output.codes.n_rows != len(batch) or output.codes.d_sae != sae.cfg.d_sae:
        fail(
            subject,
            f"StepOutput.codes: {output.codes.n_rows} rows of {output.codes.d_sae} latents",
            f"give the features of {len(batch)} rows and {sae.cfg.d_sae} latents, from which "
            "firing and dead latents are counted",
        )


def _check_gradients(
    subject: object, sae: SAE, batch: Batch, straight_through: Collection[str]
) -> None:
    trained = copy.deepcopy(sae)
    step(trained, batch)[0].total.backward()
    gradients = {name: parameter.grad for name, parameter in trained.named_parameters()}

    def loss(name: str, tensor: Tensor) -> float:
        moved = copy.deepcopy(sae)  # a step may change buffers
        with torch.no_grad():
            moved.get_parameter(name).copy_(tensor)
        return float(step(moved, batch)[0].total.detach())

    check_gradients(subject, dict(sae.named_parameters()), gradients, loss, straight_through)


def _check_devices(subject: object, choice: Choice, batch: Batch) -> None:
    """Compare losses and gradients in float64 between CPU and GPU."""
    results = []
    for device in ("cpu", "cuda"):
        sae = build(choice, torch.float64, device)
        output, _ = step(sae, batch.map(lambda x, to=device: x.to(to)))  # type: ignore[misc]
        output.total.backward()
        grads = {
            name: parameter.grad
            for name, parameter in sae.named_parameters()
            if parameter.grad is not None
        }
        results.append({"loss": output.total.detach(), **grads})
    for name, ours in results[0].items():
        if not torch.allclose(ours, results[1][name].cpu(), rtol=1e-8, atol=1e-10):
            fail(
                subject,
                f"{name} in a training step differs between cuda and the CPU",
                "make every tensor on the device of its inputs, and rank ties by index",
            )
