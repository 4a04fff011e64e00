"""`saecore verify-release RELEASE [SAE_ID]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import click

from saecore.cli._options import dataset_option, model_option, release_arguments

if TYPE_CHECKING:
    from saecore.core.sae import SAE

RECORDED = {
    "L0": ("l0", "l0"),
    "explained variance": ("variance_explained", "explained_variance"),
}
"""Compared metrics: their keys in metadata, and their names in the evaluator `reconstruction`."""


@attrs.frozen
class Comparison:
    """One metric, as published and as measured."""

    name: str
    recorded: float | None
    """None if it was not published."""
    measured: float

    @property
    def ratio(self) -> float | None:
        """Measured over recorded."""
        return self.measured / self.recorded if self.recorded else None

    def off(self, tolerance: float) -> bool:
        """Whether they differ by more than `tolerance`, a share of the recorded value."""
        if self.recorded is None:
            return False
        return abs(self.measured - self.recorded) > tolerance * abs(self.recorded)


@attrs.frozen(kw_only=True)
class Verification:
    """Recorded and measured metrics, with the model and text."""

    comparisons: tuple[Comparison, ...]
    model: str
    """The language model, its component and convention."""
    text: str
    """Name of the text, and size of the contexts."""
    tokens: int
    """Number of tokens measured."""


def verify(
    sae: SAE,
    model: str | None = None,
    dataset: str | None = None,
    tokens: int = 32_768,
    device: str = "auto",
    dtype: str = "float32",
) -> Verification:
    """Measure an SAE on held-out text and compare with the metrics in its metadata.

    Model, hook, text and contexts are those of the metadata. L0 is the mean number of active
    latents, explained variance 1 − E‖x−x̂‖² / (E‖x‖² − ‖E x‖²); publishers may have used other
    definitions or other text.

    Args:
        sae: the SAE; it is moved to the device.
        model: another name of the model, or its directory.
        dataset: name or path of another text, as `datasets.load_dataset` takes it.
        tokens: held-out tokens to measure on.
        device: device of model and SAE.
        dtype: precision of the model.

    Raises:
        ConfigError: the metadata do not name model and text, or the model does not fit the SAE.
        DataError: the text cannot be read, or is too short.
        ReleaseError: the SAE names no hook, or reads none of the text's tokens.
    """
    from saecore.config.from_metadata import model_of, text_of
    from saecore.config.messages import to_tables
    from saecore.core.sae_config import DTYPES
    from saecore.errors import ReleaseError
    from saecore.evaluation.evaluate import evaluate
    from saecore.models.device import pick_device

    metadata = sae.cfg.metadata
    if not metadata.get("hook_name"):
        raise ReleaseError("its metadata name no hook, so there is nothing to measure it on")
    choice, text = model_of(sae, model), text_of(sae, dataset)
    target = pick_device(device, "device")
    backend = choice.build(target, DTYPES[dtype])
    evaluation = evaluate(
        sae.to(target),
        model=backend,
        dataset=to_tables(text),
        evaluators=["reconstruction"],
        settings={"evaluation.tokens": tokens},
    )
    measured = evaluation.measured.figures["reconstruction"]
    if not measured:
        raise ReleaseError("no token of the text is one that the SAE reads")
    return Verification(
        comparisons=tuple(
            Comparison(name, metadata.get(key), measured[metric].value)
            for name, (key, metric) in RECORDED.items()
        ),
        model=f"{backend.name} ({choice.name}, {backend.convention})",
        text=f"{dataset or metadata['dataset_path']}, contexts of {text.context_size}",
        tokens=measured["l0"].tokens,
    )


@click.command("verify-release")
@release_arguments
@model_option
@dataset_option
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=32_768,
    show_default=True,
    help="Held-out tokens to measure on.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of the model.",
)
@click.option("--device", default="auto", show_default=True, help="Device of model and SAE.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="Largest difference allowed, as a share of the recorded value.",
)
@click.pass_context
def command(
    ctx: click.Context,
    release: str,
    sae_id: str,
    model: str | None,
    dataset: str | None,
    tokens: int,
    dtype: str,
    device: str,
    tolerance: float,
) -> None:
    """Measure L0 and explained variance of a published SAE and compare them with what is recorded.

    RELEASE and SAE_ID are as for `saecore pull`. The exit code is 1 if a metric is off by more
    than the tolerance; a wrong hook, a model processed in another way or a missing scale cause
    that.
    """
    from saecore.core.sae import SAE

    sae = SAE.from_pretrained(release, sae_id, dtype=None).sae
    result = verify(sae, model, dataset, tokens, device, dtype)
    click.echo(
        f"{f'{release} {sae_id}'.rstrip()}: {sae.cfg.architecture}, {sae.cfg.d_in:,} to "
        f"{sae.cfg.d_sae:,}\n"
        f"  reads  {sae.cfg.hook_name} of {result.model}\n"
        f"  text   {result.text}; {result.tokens:,} held-out tokens\n"
    )
    click.echo(f"{'figure':<20}{'recorded':>10}{'measured':>10}{'ratio':>8}")
    for metric in result.comparisons:
        recorded = "-" if metric.recorded is None else f"{metric.recorded:.4g}"
        ratio = "-" if metric.ratio is None else f"{metric.ratio:.3f}"
        mark = f"  off by more than {tolerance:.0%}" if metric.off(tolerance) else ""
        click.echo(f"{metric.name:<20}{recorded:>10}{metric.measured:>10.4g}{ratio:>8}{mark}")
    if all(metric.recorded is None for metric in result.comparisons):
        click.echo("nothing is recorded that could be compared")
    if any(metric.off(tolerance) for metric in result.comparisons):
        ctx.exit(1)
