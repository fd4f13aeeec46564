"""The contract of the operations of a program on a batch of states, forwards and backwards.

A batch of states is a real tensor of shape (parts, 2^n, B): real parts, and imaginary parts unless
all is real; B is 1 as long as nothing depends on the inputs. The way back un-does each operation
on the state and on its cotangent, which are stacked to shape (2, parts, 2^n, B), and reads the
gradients of the angles off the two: no intermediate state is ever stored.
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
