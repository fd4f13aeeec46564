"""A step of a compiled circuit, and the plane rotation that most steps are made of.

A batch of states is a real tensor of shape (parts, 2^n, B): real parts, and imaginary parts unless
all is real; B is 1 as long as nothing depends on the inputs. The way back un-does each operation
on the state and on its cotangent, which are stacked to shape (2, parts, 2^n, B), and reads the
gradients of the angles off the two: no intermediate state is ever stored.

Ry turns the plane of the amplitudes with qubit 0 and 1 by half its angle; a phase turns the plane
of an amplitude's real and imaginary part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from lightning_qsgd.backends.compiled.tape import GradientTape, Tape


class Step(ABC):
    """One operation on a batch of states."""

    @abstractmethod
    def forward(self, state: Tensor, tape: Tape) -> Tensor:
        """Apply the operation to a state, shape (parts, 2^n, B)."""

    @abstractmethod
    def backward(self, pair: Tensor, tape: GradientTape) -> Tensor:
        """Note the angles' gradients on the tape and un-do the operation.

        Args:
            pair: State and cotangent after the operation, shape (2, parts, 2^n, B).
            tape: Receives the gradients.

        Returns:
            State and cotangent before the operation.
        """


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
