"""`saecore plugins [NAME]`."""

from __future__ import annotations

import json
from typing import Any

import click

from saecore.cli._options import json_option
from saecore.plugins.host import Provider, current_host


@click.command("plugins")
@click.argument("name", required=False)
@json_option()
def command(name: str | None, as_json: bool) -> None:
    """List every plugin, or describe those called NAME (such as topk or architecture.topk)."""
    host = current_host()
    if name is None:
        rows = [_row(provider) for provider in host.providers]
        click.echo(json.dumps(rows, indent=1) if as_json else _table(rows))
        return
    providers = [p for p in host.providers if name in (p.name, p.full_name)]
    if not providers:
        from saecore.errors import PluginError, nearest

        names = [p.full_name if "." in name else p.name for p in host.providers]
        raise PluginError(
            f'no plugin named "{name}"{nearest(name, names)} (`saecore plugins` lists them)'
        )
    described = [_describe(provider) for provider in providers]
    click.echo(json.dumps(described, indent=1) if as_json else "\n\n".join(map(_page, described)))


def _row(provider: Provider) -> dict[str, str]:
    from saecore.errors import PluginError

    try:
        summary = current_host().component(provider.kind, provider.name).summary
    except PluginError as error:
        summary = f"(unusable: {error})"
    return {
        "kind": provider.kind,
        "name": provider.name,
        "distribution": provider.distribution,
        "version": provider.version,
        "summary": " ".join(summary.split()),  # one line in the table, whatever the plugin says
    }


def _table(rows: list[dict[str, str]]) -> str:
    columns = ("kind", "name", "distribution", "version", "summary")
    widths = {c: max(len(c), *(len(row[c]) for row in rows)) if rows else len(c) for c in columns}
    lines = [{c: c for c in columns}, *rows]
    return "\n".join("  ".join(f"{row[c]:<{widths[c]}}" for c in columns).rstrip() for row in lines)


def _describe(provider: Provider) -> dict[str, Any]:
    import attrs

    from saecore.config.messages import field_docs
    from saecore.plugins.problems import show

    component = current_host().component(provider.kind, provider.name)
    docs = field_docs(component.config)
    fields = []
    for field in attrs.fields(component.config):
        kind = field.metadata.get("choice") or field.metadata.get("choices")
        default = field.metadata.get("default", field.default)
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            default = default.factory()
        fields.append(
            {
                "name": field.name,
                "type": kind or str(getattr(field.type, "__name__", None) or field.type),
                "default": None if default is attrs.NOTHING else show(default),
                "required": default is attrs.NOTHING,
                "doc": docs.get(field.name, ""),
            }
        )
    return {**_row(provider), "fields": fields}


def _page(plugin: dict[str, Any]) -> str:
    owner = f"{plugin['distribution']} {plugin['version']}"
    lines = [f"{plugin['kind']}.{plugin['name']} ({owner}): {plugin['summary']}"]
    for field in plugin["fields"]:
        default = "required" if field["required"] else f"default {field['default']}"
        lines += [f"  {field['name']}: {field['type']} ({default})", f"      {field['doc']}"]
    return "\n".join(lines)
