"""The torch device of a setting."""

from __future__ import annotations

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
    device = torch.device(name)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device.type, True):
        raise ConfigError([f'{key}: this machine has no {name}; use "auto" or "cpu"'])
    return device
