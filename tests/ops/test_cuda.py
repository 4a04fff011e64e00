"""The Triton kernels of CUDA devices, here through Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from saecore.ops import cuda

ON_DEVICE = torch.cuda.is_available()
KERNELS = Path(__file__).with_name("cuda_kernels.py")


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="there is no Triton here")
def test_kernels_are_their_twins():
    """Every kernel gives what plain torch gives (cuda_kernels.py says what of it), on the device
    where there is one.
    """
    flags = {} if ON_DEVICE else {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", KERNELS]
    done = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert " passed" in done.stdout


def test_without_a_device_nobody_is_served():
    """On a machine without CUDA the kernels are there only for who asks for the interpreter."""
    assert cuda.available() == (ON_DEVICE or cuda.interpreted())
    assert cuda.supports("dot", torch.zeros(2)) == cuda.interpreted()
