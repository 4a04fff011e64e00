"""`saecore verify-release RELEASE [SAE_ID]`."""

from __future__ import annotations

import click


@click.command("verify-release")
@click.argument("release")
@click.argument("sae_id", default="")
@click.option("--model", metavar="NAME", help="The model's name or directory; default: the SAE's.")
@click.option("--dataset", metavar="NAME", help="Another text than the one it was trained on.")
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
    help="Largest difference, as a share of the recorded figure.",
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

    RELEASE and SAE_ID are as for `saecore pull`. Exit code 1 where a figure is off by more than the
    tolerance: a wrong hook, a model with other processing, a missing scale do that.
    """
    from saecore.releases.measure import measure
    from saecore.sae import SAE

    sae = SAE.from_pretrained(release, sae_id, dtype=None).sae
    found = measure(sae, model, dataset, tokens, device, dtype)
    click.echo(
        f"{f'{release} {sae_id}'.rstrip()}: {sae.cfg.architecture}, {sae.cfg.d_in:,} to "
        f"{sae.cfg.d_sae:,}\n"
        f"  reads  {sae.cfg.hook_name} of {found.model}\n"
        f"  text   {found.text}; {found.tokens:,} held-out tokens\n"
    )
    click.echo(f"{'figure':<20}{'recorded':>10}{'measured':>10}{'ratio':>8}")
    for one in found.comparisons:
        recorded = "-" if one.recorded is None else f"{one.recorded:.4g}"
        ratio = "-" if one.ratio is None else f"{one.ratio:.3f}"
        mark = f"  off by more than {tolerance:.0%}" if one.off(tolerance) else ""
        click.echo(f"{one.name:<20}{recorded:>10}{one.measured:>10.4g}{ratio:>8}{mark}")
    if all(one.recorded is None for one in found.comparisons):
        click.echo("nothing is recorded that could be compared")
    if any(one.off(tolerance) for one in found.comparisons):
        ctx.exit(1)
