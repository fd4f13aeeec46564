"""A program as steps on tensors, on one device and in one precision, and as autograd sees it."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.angles import Affine, AngleTable, Row
from lightning_qsgd.backends.compiled.derivatives import (
    Plain,
    asks_for_more,
    is_transformed,
    pull_back,
)
from lightning_qsgd.backends.compiled.memory import in_full_precision
from lightning_qsgd.backends.compiled.program import (
    ControlledRotation,
    Matrix,
    Operation,
    Permutation,
    Phases,
    Program,
    Rotations,
)
from lightning_qsgd.backends.compiled.readouts import Readout
from lightning_qsgd.backends.compiled.rotation_steps import (
    ControlledRotationStep,
    ProductStep,
    RotationStep,
)
from lightning_qsgd.backends.compiled.step import FixedPart, GradientTape, PlainTape, Step, Tape
from lightning_qsgd.backends.compiled.steps import (
    FirstPhaseStep,
    MatrixStep,
    PermutationStep,
    PhaseStep,
    SignStep,
    run_backward,
    run_forward,
)


class Plan:
    """Evaluates a program and its gradient for a batch of inputs.

    Args:
        program: The operations.
        counts: Numbers of inputs and weights.
        readout: What is read from the final state.
        like: An empty tensor of the dtype and on the device of the evaluation.

    Attributes:
        num_outputs: Number of outputs of one circuit.
        num_turns: Number of states on the way from the first to the final one.
    """

    def __init__(
        self, program: Program, counts: tuple[int, int], readout: Readout, like: Tensor
    ) -> None:
        self.num_outputs = readout.count
        operations, readout = _without_unread_tail(program, readout)
        builder = _StepBuilder(program.num_qubits, counts, like)
        self._steps = builder.steps(operations)
        self.num_turns = sum(step.turns for step in self._steps)
        self._half_angles = builder.half_angles.map(like.dtype, like.device)
        self._quarters = self._half_angles.quarters()
        self._phases = builder.phases.map(like.dtype, like.device)
        self._readout = readout.to(like.dtype, like.device)
        self._start = like.new_zeros(1, 2**program.num_qubits, 1)
        self._start[0, 0, 0] = 1.0

    def fixed_part(self, weights: Tensor) -> FixedPart:
        """Evaluate what depends on the weights alone, shape (num_weights,)."""
        return FixedPart(
            self._quarters.without_inputs(weights), self._phases.without_inputs(weights)
        )

    def forward(
        self, inputs: Tensor, weights: Tensor, fixed: FixedPart | None = None
    ) -> tuple[Tensor, Tensor]:
        """Evaluate.

        Args:
            inputs: Shape (B, num_inputs).
            weights: Shape (num_weights,).
            fixed: What depends on the weights alone, if it is known already.

        Returns:
            Outputs, shape (B, outputs), and the final state, shape (parts, 2^n, B).
        """
        fixed = self.fixed_part(weights) if fixed is None else fixed
        state = self._state(Tape(fixed, self._quarters, self._phases, inputs), len(inputs))
        return self._readout.read(state), state

    def plain(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the outputs in plain operations, which torch can differentiate: slower, larger."""
        fixed = self.fixed_part(weights)
        tape = PlainTape(fixed, self._quarters, self._phases, inputs)
        return self._readout.read(self._state(tape, len(inputs)))

    def _state(self, tape: Tape, rows: int) -> Tensor:
        """Return the final state, shape (parts, 2^n, B)."""
        state = run_forward(self._steps, self._start, tape)
        return state if state.shape[2] == rows else state.expand(-1, -1, rows).contiguous()

    def backward(
        self, inputs: Tensor, weights: Tensor, state: Tensor, cotangent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the gradients of inputs and weights, of their shapes.

        Args:
            inputs: As in `forward`.
            weights: As in `forward`.
            state: The final state that `forward` returned.
            cotangent: Gradient of the loss by the outputs, shape (B, outputs).
        """
        fixed = self.fixed_part(weights)
        tape = GradientTape(fixed, self._quarters, self._phases, inputs)
        pair = torch.stack((state, self._readout.pull(cotangent, state)))
        run_backward(self._steps, pair, tape)
        of_inputs, of_weights = self._half_angles.pull(tape.of_half_angles)
        more_of_inputs, more_of_weights = self._phases.pull(tape.of_phases)
        found = (of_inputs + more_of_inputs).t()  # of one row where nothing depends on the inputs
        return found.expand(inputs.shape), of_weights + more_of_weights

    def compile(self) -> None:
        """Compile both directions with `torch.compile`."""
        self.forward = torch.compile(self.forward)  # type: ignore[method-assign]
        self.backward = torch.compile(self.backward)  # type: ignore[method-assign]


def _without_unread_tail(program: Program, readout: Readout) -> tuple[list[Operation], Readout]:
    """Move a last permutation into the readout, and drop last phases that it cannot see."""
    operations = list(program.operations)
    # Probabilities have no phases, and a permutation only says which of them belongs to what.
    while operations:
        last = operations[-1]
        if isinstance(last, Phases) and not readout.needs_phases:
            operations.pop()
        elif isinstance(last, Permutation):
            readout = readout.after(last.source)
            operations.pop()
        else:
            break
    return operations, readout


class _StepBuilder:
    """Turns operations into steps, collecting their angles."""

    def __init__(self, num_qubits: int, counts: tuple[int, int], like: Tensor) -> None:
        self.half_angles = AngleTable(*counts)
        self.phases = AngleTable(*counts)
        self._num_qubits = num_qubits
        self._like = like
        self._basis = np.arange(2**num_qubits)
        self._is_real = True

    def steps(self, operations: list[Operation]) -> list[Step]:
        """Build all steps."""
        steps: list[Step] = []
        for operation in operations:
            steps.append(_BUILDERS[type(operation)](self, operation, not steps))
        return steps

    def rotations(self, operation: Rotations, is_first: bool) -> Step:
        rows = {qubit: self._half(angle) for qubit, angle in operation.angles.items()}
        kind = ProductStep if is_first else RotationStep
        return kind(self._num_qubits, rows, self._like.device)

    def controlled(self, operation: ControlledRotation, is_first: bool) -> Step:
        active = np.ones(len(self._basis), dtype=bool)
        for control, value in operation.controls:
            active &= (self._basis >> control) & 1 == value
        zeros = self._basis[active & ((self._basis >> operation.qubit) & 1 == 0)]
        rows = np.stack([zeros, zeros | (1 << operation.qubit)])
        return ControlledRotationStep(self._indices(rows), self._half(operation.angle))

    def diagonal(self, operation: Phases, is_first: bool) -> Step:
        # Phases of 0 and pi (Z, CZ) are signs: the state stays real, at half the cost.
        halves = operation.constant / pi
        if self._is_real and not operation.columns and np.array_equal(halves, np.round(halves)):
            return SignStep(self._values(np.where(halves % 2, -1.0, 1.0)[:, None]))
        kind = FirstPhaseStep if self._is_real else PhaseStep
        self._is_real = False
        placed = [(self.phases.add(angle), vector) for angle, vector in operation.columns]
        return kind(
            self._values(operation.constant[:, None]),
            self._vectors([pair for pair in placed if pair[0].varies]),
            self._vectors([pair for pair in placed if not pair[0].varies]),
        )

    def permutation(self, operation: Permutation, is_first: bool) -> Step:
        return PermutationStep(self._indices(operation.source))

    def matrix(self, operation: Matrix, is_first: bool) -> Step:
        value = sum(
            ((self._basis >> qubit) & 1) << place for place, qubit in enumerate(operation.qubits)
        )
        order = self._indices(np.argsort(value, kind="stable"))
        real, imaginary = operation.unitary.real, operation.unitary.imag
        if self._is_real and not imaginary.any():
            return MatrixStep(order, self._values(real))
        # On stacked real and imaginary parts; a real state has no imaginary part for `right`.
        left, right = np.vstack([real, imaginary]), np.vstack([-imaginary, real])
        whole = left if self._is_real else np.hstack([left, right])
        self._is_real = False
        return MatrixStep(order, self._values(whole))

    def _half(self, angle: Affine) -> Row:
        return self.half_angles.add(angle * 0.5)

    def _vectors(self, placed: list[tuple[Row, np.ndarray]]) -> tuple[Tensor, slice]:
        if not placed:
            return self._like.new_zeros(len(self._basis), 0), slice(0, 0)
        vectors = self._values(np.stack([vector for _, vector in placed], axis=1))
        # One step's angles were added one after the other, so that their rows are neighbours.
        return vectors, slice(placed[0][0].place, placed[-1][0].place + 1)

    def _values(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array).to(self._like.device, self._like.dtype)

    def _indices(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array).to(self._like.device)


_BUILDERS: dict[type, Callable[..., Step]] = {
    Rotations: _StepBuilder.rotations,
    ControlledRotation: _StepBuilder.controlled,
    Phases: _StepBuilder.diagonal,
    Permutation: _StepBuilder.permutation,
    Matrix: _StepBuilder.matrix,
}


def evaluate(plan: Plan, plain: Plain, inputs: Tensor, weights: Tensor) -> Tensor:
    """Return the outputs of a plan, differentiable by inputs and weights as often as asked.

    Args:
        plan: What is evaluated.
        plain: The same as a function of inputs and weights in plain operations.
        inputs: Shape (B, num_inputs).
        weights: Shape (num_weights,).

    Returns:
        Shape (B, outputs).
    """
    if is_transformed():
        return plain(inputs, weights)
    outputs: Tensor = _Evaluation.apply(plan, plain, inputs, weights)  # type: ignore[no-untyped-call]
    return outputs


class _Evaluation(torch.autograd.Function):
    """Outputs of a plan, with first gradients by the adjoint method, which keeps no states."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, plain: Plain, inputs: Tensor, weights: Tensor) -> Tensor:
        with in_full_precision(inputs.device.type):
            outputs, state = plan.forward(inputs, weights)
        ctx.plan, ctx.plain = plan, plain
        ctx.save_for_backward(inputs, weights, state)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> tuple[None, None, Tensor, Tensor]:
        inputs, weights, state = ctx.saved_tensors
        if asks_for_more(*cotangent):
            gradients = pull_back(ctx.plain, (inputs, weights), *cotangent)
        else:
            with in_full_precision(inputs.device.type):
                gradients = ctx.plan.backward(inputs, weights, state, *cotangent)
        return None, None, *gradients
