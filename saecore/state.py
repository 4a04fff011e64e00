"""The state of a run as JSON and tensors, and back without a lost bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def separate(state: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Nested dicts and lists as plain JSON, and the tensors in them by path.

    Tensors are not copied. Keys keep their types; numbers that are not finite are kept.
    """
    tensors: dict[str, Tensor] = {}
    return _separate(state, "", tensors), tensors


def join(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `separate`."""
    if isinstance(plain, dict):
        if "tensor" in plain:
            return tensors[plain["tensor"]]
        if "number" in plain:
            return float(plain["number"])
        return {key: join(one, tensors) for key, one in plain["items"]}
    if isinstance(plain, list):
        return [join(one, tensors) for one in plain]
    return plain


def _separate(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Mapping):
        # Pairs, not an object: JSON would turn keys that are numbers into strings.
        items = []
        for key, one in value.items():
            here = f"{path}/{key}" if path else str(key)
            items.append([key, _separate(one, here, tensors)])
        return {"items": items}
    if isinstance(value, list | tuple):
        return [_separate(one, f"{path}/{i}", tensors) for i, one in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return value
