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
    help="Where Neuronpedia is, if it is a copy of your own.",
)


@click.group("neuronpedia")
def command() -> None:
    """Links to features on neuronpedia.org, reading them, files for an upload.

    SAE is MODEL/LAYER-SET as Neuronpedia calls it, RELEASE:SAE_ID of the catalogue or the hub, or a
    directory; of the weights nothing is read for a link.
    """


@command.command("url")
@click.argument("sae")
@click.argument("features", type=click.IntRange(0), nargs=-1, required=True)
@click.option("--embed", is_flag=True, help="For an iframe: without the site around it.")
@base_url
def url(sae: str, features: tuple[int, ...], embed: bool, base: str) -> None:
    """Print the page of each of FEATURES."""
    source = source_named(sae)
    for one in features:
        click.echo(source.embed_url(one, base=base) if embed else source.url(one, base))


@command.command("list")
@click.argument("sae")
@click.argument("features", type=click.IntRange(0), nargs=-1, required=True)
@click.option("--name", default="features", show_default=True, help="Title of the list.")
@base_url
def quick(sae: str, features: tuple[int, ...], name: str, base: str) -> None:
    """Print the URL of a list of FEATURES."""
    source = source_named(sae)
    click.echo(quick_list([(source, one) for one in features], name, base))


@command.command("feature")
@click.argument("sae")
@click.argument("feature", type=click.IntRange(0))
@click.option(
    "--examples", type=click.IntRange(0), default=3, show_default=True, help="Texts to show."
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON.")
@base_url
def feature(sae: str, feature: int, examples: int, as_json: bool, base: str) -> None:
    """Ask Neuronpedia what FEATURE stands for."""
    from saecore_plugins.commands.neuronpedia.features import read_feature

    source = source_named(sae)
    found = read_feature(source, feature, base)
    if as_json:
        click.echo(json.dumps(dict(found.raw), indent=1))
        return
    click.echo(source.url(feature, base))
    for one in found.explanations:
        click.echo(f"  says       {_plain(one.text)}" + (f" ({one.model})" if one.model else ""))
    if found.density is not None:
        click.echo(f"  active     on {found.density:.3%} of the tokens")
    if found.maximum is not None:
        click.echo(f"  largest    {found.maximum:.4g}")
    for name, tokens in (("promotes", found.promoted), ("suppresses", found.suppressed)):
        if tokens:
            click.echo(f"  {name:<10} {', '.join(repr(token) for token, _ in tokens[:8])}")
    for shown in found.examples[:examples]:
        click.echo(f"  example    {_around(shown.tokens, shown.values)}")


def _around(tokens: tuple[str, ...], values: tuple[float, ...], width: int = 8) -> str:
    """The text around the strongest token, which stands in brackets."""
    at = max(range(len(values)), key=lambda i: values[i], default=0)
    before, after = tokens[max(0, at - width) : at], tokens[at + 1 : at + 1 + width]
    strongest = f"[{tokens[at]}]" if tokens else ""
    return _plain("".join(before) + strongest + "".join(after))


def _plain(text: str) -> str:
    """One line, without what could move the cursor."""
    return "".join(one for one in " ".join(text.split()) if one.isprintable())


@command.command("export")
@click.argument("sae")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--set", "name", required=True, metavar="SET", help="Its set, such as res-jb.")
@click.option("--creator", required=True, help="Who made it.")
@click.option("--title", required=True, help="One line about it.")
@click.option("--model-id", metavar="NAME", help="Neuronpedia's name of the language model.")
@click.option("--repo", metavar="USER/NAME", help="Where the weights are on the hub.")
@click.option("--id", "path", metavar="PATH", help="Where in the repository.")
@click.option("--features", metavar="A-B", help="Only these features.")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    default=2**18,
    show_default=True,
    help="Tokens of text to look at.",
)
@click.option("--dataset", metavar="NAME", help="Another text than the one it was trained on.")
@click.option("--model", metavar="NAME", help="The model's name or directory; default: the SAE's.")
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
    """Write the files of an upload of SAE to OUT: the SAE, and its dashboards.

    SAE is a directory or RELEASE:SAE_ID. Nothing is uploaded: write to Neuronpedia's authors. The
    layout was read from SAEDashboard's code and has not been tried against their server.
    """
    from saecore.releases.convert import read
    from saecore_plugins.commands.neuronpedia.export import export
    from saecore_plugins.commands.neuronpedia.records import Release

    place = Path(sae)
    loaded = read(str(place / "sae") if (place / "sae").is_dir() else sae)
    model_id = model_id or str(loaded.sae.cfg.metadata.get("model_name")).rpartition("/")[2]
    release = Release(name, creator, title, model_id, repo, path)
    wanted = None if features is None else _range(features)
    source = export(
        loaded,
        release,
        out,
        features=wanted,
        tokens=tokens,
        dataset=dataset,
        model=model,
        device=device,
    )
    click.echo(
        f"{out}/sae: the SAE in SAELens' form\n"
        f"{out}/{source}: dashboards in the layout of Neuronpedia's import"
    )


def _range(text: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if match is None:
        raise click.BadParameter(f"{text!r}: expected A or A-B, such as 0-127")
    return range(int(match[1]), int(match[2] or match[1]) + 1)
