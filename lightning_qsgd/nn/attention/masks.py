"""Masks of attention as one tensor that is added to the scores."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor


def additive_mask(
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    scores: torch.Size,
    dtype: torch.dtype,
) -> Tensor | None:
    """Join both masks of `torch.nn.MultiheadAttention` into one.

    Args:
        key_padding_mask: Shape (B, S): True hides a key, or a number is added to its scores.
        attn_mask: Shape (L, S) or (B * H, L, S), likewise.
        scores: Shape of the scores, (B, H, L, S).
        dtype: That of the scores.

    Returns:
        A floating-point mask that broadcasts to the scores; None if there is nothing to mask.

    Raises:
        ValueError: If a mask has another shape.
        TypeError: If a mask is neither boolean nor floating point.
    """
    batch, heads, length, keys = scores
    joined = None
    if attn_mask is not None:
        shapes = (length, keys), (batch * heads, length, keys)
        _require_shape("attn_mask", attn_mask, *shapes)
        joined = _as_numbers("attn_mask", attn_mask, dtype)
        joined = joined if joined.dim() == 2 else joined.view(scores)
    if key_padding_mask is not None:
        _require_shape("key_padding_mask", key_padding_mask, (batch, keys))
        padding = _as_numbers("key_padding_mask", key_padding_mask, dtype)[:, None, None, :]
        joined = padding if joined is None else joined + padding
    return joined


def fully_masked(mask: Tensor) -> Tensor:
    """Return which queries may attend to no key at all, shape of the mask with 1 key."""
    return (mask == -inf).all(dim=-1, keepdim=True)


def _as_numbers(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, -inf)
    if not mask.is_floating_point():
        raise TypeError(
            f"Expected `{name}` to be boolean or floating point, got {mask.dtype}: integers could "
            "mean either. Use mask.bool(), with True where no attention is paid."
        )
    return mask.to(dtype)


def _require_shape(name: str, mask: Tensor, *shapes: tuple[int, ...]) -> None:
    if mask.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise ValueError(
            f"Expected `{name}` of shape {expected}, got {tuple(mask.shape)}: queries times keys, "
            "for all or for each (batch * heads); padding is batch times keys."
        )
