"""A list of tensors that grows by one number at a time and stays short."""

import torch
from torch import Tensor


def append_point(chunks: list[Tensor], point: Tensor) -> None:
    """Append one number to a list state, in place.

    Args:
        chunks: 1-D tensors whose concatenation is the recorded sequence.
        point: The next number, shape (1,), same dtype and device.

    Example:
        >>> chunks = [torch.tensor([1.0])]
        >>> append_point(chunks, torch.tensor([2.0]))
        >>> chunks
        [tensor([1., 2.])]
    """
    chunks.append(point)
    compact(chunks)


def compact(chunks: list[Tensor]) -> None:
    """Join the last chunks while the last is as long as the one before it, in place.

    Like the carries of a binary counter: after n appended numbers there are at most log2(n) + 1
    chunks, and every number was copied at most log2(n) times. A checkpoint of 100,000 steps then
    holds 17 tensors rather than 100,000, and `forward`, which copies the list, stays cheap. In
    place, because torchmetrics lets the metrics of a collection share one list.

    Args:
        chunks: 1-D tensors of one dtype and device.

    Example:
        >>> chunks = [torch.zeros(2), torch.zeros(1), torch.zeros(1)]
        >>> compact(chunks)
        >>> [len(chunk) for chunk in chunks]
        [4]
    """
    while len(chunks) > 1 and chunks[-1].numel() >= chunks[-2].numel():
        chunks[-2:] = [torch.cat(chunks[-2:])]
