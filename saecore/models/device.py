"""The torch device of a setting."""

from __future__ import annotations

import math

import torch

from saecore.errors import ConfigError


def pick_device(name: str, key: str = "model.device") -> torch.device:
    """The named torch device; "auto" is the first available of cuda, mps and cpu.

    Args:
        name: the device, or "auto".
        key: the setting, for errors.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    return check_device(name, key, '"auto" or "cpu"')


def check_device(name: str | torch.device, key: str, use: str = '"cpu"') -> torch.device:
    """The named torch device, if this machine has it.

    Args:
        name: the device.
        key: the setting or argument, for errors.
        use: what to use instead, for errors.

    Raises:
        ConfigError: there is no such device, or this machine has none.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError([f"{key}: expected a torch device, got {name!r}; use {use}"]) from None
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= count.get(device.type, math.inf):
        raise ConfigError([f"{key}: this machine has no {name}; use {use}"])
    return device
