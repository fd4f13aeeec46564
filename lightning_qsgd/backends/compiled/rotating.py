"""Plane rotations of pairs of amplitudes: what both Ry and a phase do.

Ry turns the plane of the amplitudes with qubit 0 and 1 by half its angle; a phase turns the plane
of an amplitude's real and imaginary part.
"""

from torch import Tensor


def rotate(pairs: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    """Turn pairs by an angle, or back.

    Args:
        pairs: Shape (outer, 2, inner, B).
        cos: Cosine of the angle, broadcastable to (inner, B).
        sin: Its sine.
        direction: +1 to turn, -1 to turn back.

    Returns:
        A new tensor; wider than `pairs` if only the angles vary within the batch.
    """
    first, second = pairs.unbind(1)
    turned = pairs * cos
    out_first, out_second = turned.unbind(1)
    out_first.addcmul_(second, sin, value=-direction)
    out_second.addcmul_(first, sin, value=direction)
    return turned


def slope(state: Tensor, cotangent: Tensor) -> Tensor:
    """Return the gradient of each pair's angle, given the turned pairs and their cotangent.

    The derivative of a turned pair (a, b) by its angle is (-b, a).

    Args:
        state: Turned pairs, shape (outer, 2, inner, B).
        cotangent: Gradient of the loss by them, of the same shape.

    Returns:
        Shape (outer, inner, B).
    """
    first, second = state.unbind(1)
    of_first, of_second = cotangent.unbind(1)
    return (of_second * first).addcmul_(of_first, second, value=-1)
