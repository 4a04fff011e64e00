"""Split a run's state into JSON and tensors, and put it together again bit for bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def separate(state: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Split nested dicts and lists into plain JSON and the tensors in them, by path.

    Tensors are not copied. Keys keep their types; infinite and NaN values survive.
    """
    tensors: dict[str, Tensor] = {}
    return _separate(state, "", tensors), tensors


def join(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `separate`."""
    if isinstance(plain, dict):
        if "tensor" in plain:
            return tensors[plain["tensor"]]
        if "number" in plain:
            return float(plain["number"])
        return {key: join(value, tensors) for key, value in plain["items"]}
    if isinstance(plain, list):
        return [join(value, tensors) for value in plain]
    return plain


def _separate(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value.detach()
        return {"tensor": path}
    if isinstance(value, Mapping):
        # Pairs, not an object: JSON would turn keys that are numbers into strings.
        items = []
        for key, item in value.items():
            item_path = f"{path}/{key}" if path else str(key)
            items.append([key, _separate(item, item_path, tensors)])
        return {"items": items}
    if isinstance(value, list | tuple):
        return [_separate(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    return value
