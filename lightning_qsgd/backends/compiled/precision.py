"""Keeps evaluations out of the half precision of autocast."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_NOTHING = nullcontext()


def without_autocast(device_type: str) -> AbstractContextManager[Any]:
    """Return a context in which matrix products of angles and states keep their precision."""
    if torch.is_autocast_enabled(device_type):
        return torch.autocast(device_type, enabled=False)
    return _NOTHING
