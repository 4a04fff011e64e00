"""`saecore neuronpedia url|list|feature|export`."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from saecore_plugins.commands.neuronpedia.sources import BASE, quick_list, source_named

base_url = click.option(
    "--base-url",
    "base",
    default=BASE,
    show_default=True,
    metavar="URL",
    help="URL of Neuronpedia, for a self-hosted copy.",
)


@click.group("neuronpedia")
def command() -> None:
    """Link to features on neuronpedia.org, read them, or export an upload.

    SAE is MODEL/LAYER-SET as on Neuronpedia, the directory of a run or an SAE, or RELEASE:SAE_ID of
    the catalogue or the hub. Links do not need the weights.
    """


@command.command("url")
@click.argument("sae")
@click.argument("features", type=click.IntRange(0), nargs=-1, required=True)
@click.option("--embed", is_flag=True, help="Print URLs for an iframe.")
@base_url
def url(sae: str, features: tuple[int, ...], embed: bool, base: str) -> None:
    """Print the URL of each of FEATURES."""
    source = source_named(sae)
    for index in features:
        click.echo(source.embed_url(index, base=base) if embed else source.url(index, base))


@command.command("list")
@click.argument("sae")
@click.argument("features", type=click.IntRange(0), nargs=-1, required=True)
@click.option("--name", default="features", show_default=True, help="Title of the list.")
@base_url
def quick(sae: str, features: tuple[int, ...], name: str, base: str) -> None:
    """Print the URL of a list of FEATURES."""
    source = source_named(sae)
    click.echo(quick_list([(source, index) for index in features], name, base))


@command.command("feature")
@click.argument("sae")
@click.argument("feature", type=click.IntRange(0))
@click.option(
    "--examples",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="Number of example texts to print.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the complete response as JSON.")
@base_url
def feature(sae: str, feature: int, examples: int, as_json: bool, base: str) -> None:
    """Print Neuronpedia's explanations and examples of FEATURE."""
    from saecore_plugins.commands.neuronpedia.features import read_feature

    source = source_named(sae)
    shown = read_feature(source, feature, base)
    if as_json:
        click.echo(json.dumps(dict(shown.raw), indent=1))
        return
    click.echo(source.url(feature, base))
    for explanation in shown.explanations:
        author = f" ({explanation.model})" if explanation.model else ""
        click.echo(f"  says       {_printable(explanation.text)}{author}")
    if shown.density is not None:
        click.echo(f"  active     on {shown.density:.3%} of the tokens")
    if shown.maximum is not None:
        click.echo(f"  largest    {shown.maximum:.4g}")
    for name, tokens in (("promotes", shown.promoted), ("suppresses", shown.suppressed)):
        if tokens:
            click.echo(f"  {name:<10} {', '.join(repr(token) for token, _ in tokens[:8])}")
    for example in shown.examples[:examples]:
        click.echo(f"  example    {_context(example.tokens, example.values)}")


def _context(tokens: tuple[str, ...], values: tuple[float, ...], width: int = 8) -> str:
    """The text around the strongest token, which is in brackets."""
    at = max(range(len(values)), key=lambda i: values[i], default=0)
    before, after = tokens[max(0, at - width) : at], tokens[at + 1 : at + 1 + width]
    strongest = f"[{tokens[at]}]" if tokens else ""
    return _printable("".join(before) + strongest + "".join(after))


def _printable(text: str) -> str:
    """The text on one line, without control characters."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


@command.command("export")
@click.argument("sae")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--set",
    "name",
    required=True,
    metavar="SET",
    help="The set of SAEs it belongs to, such as res-jb.",
)
@click.option("--creator", required=True, help="The SAE's authors.")
@click.option("--title", required=True, help="One-line description.")
@click.option("--model-id", metavar="NAME", help="The language model's name on Neuronpedia.")
@click.option("--repo", metavar="USER/NAME", help="The hub repository of the weights.")
@click.option("--id", "path", metavar="PATH", help="The SAE's path in that repository.")
@click.option("--features", metavar="A-B", help="Features to export; default: all.")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=2**18,
    show_default=True,
    help="Tokens of text to read.",
)
@click.option("--dataset", metavar="NAME", help="Name or path of the text; default: the SAE's.")
@click.option(
    "--model", metavar="NAME", help="Name or path of the language model; default: the SAE's."
)
@click.option("--device", default="auto", show_default=True, help="Device of model and SAE.")
def export(
    sae: str,
    out: Path,
    name: str,
    creator: str,
    title: str,
    model_id: str | None,
    repo: str | None,
    path: str | None,
    features: str | None,
    tokens: int,
    dataset: str | None,
    model: str | None,
    device: str,
) -> None:
    """Write the files for an upload of SAE to OUT: the SAE and its dashboards.

    SAE is the directory of a run or an SAE, the file of an SAE, or RELEASE:SAE_ID. Nothing is
    uploaded: contact Neuronpedia's authors. The layout follows SAEDashboard's code and has not been
    tested against their server.
    """
    from saecore.releases.resolve import resolve
    from saecore_plugins.commands.neuronpedia.export import export
    from saecore_plugins.commands.neuronpedia.records import Release

    loaded = resolve(sae).load()
    model_id = model_id or str(loaded.sae.cfg.metadata.get("model_name")).rpartition("/")[2]
    release = Release(
        set=name, creator=creator, title=title, model=model_id, repository=repo, path=path
    )
    source = export(
        loaded,
        release,
        out,
        features=None if features is None else _range(features),
        tokens=tokens,
        dataset=dataset,
        model=model,
        device=device,
    )
    click.echo(
        f"{out}/sae: the SAE in SAELens' format\n"
        f"{out}/{source}: dashboards in the layout of Neuronpedia's import"
    )


def _range(text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r}: expected A or A-B, such as 0-127")
    return range(int(match[1]), int(match[2] or match[1]) + 1)
