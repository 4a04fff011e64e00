"""Pages of one HTML file that need nothing else; light and dark, narrow and wide."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from pathlib import Path
from typing import Any

BASE = Path(__file__).with_name("base.css")
"""Colours and type of every page."""


def page(title: str, body: str, style: Path, script: Path, data: Any = None) -> bytes:
    """An HTML file with its style, script and data in it.

    Its content security policy lets it load nothing, and run no script but its own.

    Args:
        title: what the browser calls it.
        body: HTML; text in it is escaped already.
        style: a CSS file, laid over `base.css`.
        script: a JavaScript file.
        data: what the script finds as JSON in the element `data`.
    """
    css = BASE.read_text(encoding="utf-8") + style.read_text(encoding="utf-8")
    code = script.read_text(encoding="utf-8")
    policy = f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(code)}"
    found = "" if data is None else f'<script type="application/json" id="data">{_json(data)}'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>\n<body>{body}\n"
        f"{found}{'</script>' if found else ''}\n<script>{code}</script></body></html>\n"
    ).encode()


def _json(data: Any) -> str:
    """JSON that ends no element: ASCII without <, > and &."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for one in "<>&":
        text = text.replace(one, f"\\u{ord(one):04x}")
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
