"""The devices that a test runs on; those that the machine lacks are skipped.

``pytest -k cuda`` runs what needs an NVIDIA GPU, and nothing else.
"""

import pytest
import torch

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
)
MPS = pytest.param(
    "mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
)
each_device = pytest.mark.parametrize("device", [pytest.param("cpu"), CUDA, MPS])
each_device_with_float64 = pytest.mark.parametrize("device", [pytest.param("cpu"), CUDA])
only_cuda = pytest.mark.parametrize("device", [CUDA])
