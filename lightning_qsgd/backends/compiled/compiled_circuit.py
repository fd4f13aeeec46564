"""A circuit compiled to torch: batched, exact, differentiable."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.bent_angles import BentAngles
from lightning_qsgd.backends.compiled.derivatives import is_traced, mapped_copies, to_be_kept
from lightning_qsgd.backends.compiled.lowering import lower, vectors_expected
from lightning_qsgd.backends.compiled.memory import (
    bytes_needed,
    bytes_of_program,
    check_limit,
    check_memory,
    check_memory_of_states,
    columns_in_cache,
    eagerly,
    in_full_precision,
)
from lightning_qsgd.backends.compiled.plan import Plan, evaluate
from lightning_qsgd.backends.compiled.readouts import (
    AmplitudeReadout,
    CellReadout,
    MarginalReadout,
    ObservableReadout,
    Readout,
)
from lightning_qsgd.backends.compiled.verification import (
    check_against_qiskit,
    check_others_are_zero,
    random_point,
)
from lightning_qsgd.circuits import CircuitSource
from lightning_qsgd.circuits.measurements import (
    flipped_parts,
    places_of,
    states_as_written,
    unitary_part,
)

Run = Callable[[Tensor], Tensor]


class FrozenCircuit:
    """Evaluates a circuit as a function of its inputs alone, without gradients.

    What depends on the weights is evaluated once, and a batch of a size that was seen before is not
    checked again: for the few circuits of a perturbed step that is half of the time.

    Args:
        plan: How it is evaluated.
        weights: Shape (num_weights,), of the dtype and on the device of the plan.
        checked: Runs an evaluation on inputs, once they are checked, in chunks.
        chunk: Number of circuits that need not be cut into chunks.
    """

    def __init__(
        self, plan: Plan, weights: Tensor, checked: Callable[[Tensor, Run], Tensor], chunk: int
    ) -> None:
        self._checked = checked
        self._chunk = chunk
        self._plan = plan
        self._weights = weights
        self._fixed = plan.fixed_part(weights)
        self._seen = torch.Size((-1, -1))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Evaluate, shape (B, num_inputs) to (B, outputs); see `CompiledCircuit.marginals`."""
        if inputs.shape == self._seen:
            return self._run(inputs)
        outputs = self._checked(inputs, self._run)
        if len(inputs) <= self._chunk:
            self._seen = inputs.shape
        return outputs

    def _run(self, inputs: Tensor) -> Tensor:
        with in_full_precision(inputs.device.type):
            return self._plan.forward(inputs, self._weights, self._fixed)[0]


MEMORY_LIMIT_GIB = 4.0

OUTPUTS, AMPLITUDES = "outputs", "amplitudes"
"""What is read from the final state; a number reads the marginals of so many qubits."""


class CompiledCircuit:
    """Evaluates a parametrised circuit for a batch of inputs, exactly and with gradients.

    The circuit's gates are merged into few tensor operations (see `program`); gradients come from
    the adjoint method, which un-does the operations one by one on the final state (Jones and
    Gacon 2020). All standard gates, controlled gates and fixed unitaries are understood, with
    angles that are any function of the parameters. What was built is compared with qiskit's own
    state vector before it is used (see `verification`).

    Args:
        circuit: The circuit, the roles of its parameters, and what its outcomes stand for.
        memory_limit_gib: Evaluations that would take more are refused, in GiB.
        torch_compile: Compile the evaluation with `torch.compile`: faster for small batches, after
            a compilation of seconds to minutes for each new shape of inputs.

    Attributes:
        num_qubits: Number of qubits.
        num_inputs: Number of inputs.
        num_weights: Number of weights.
        output_shape: Shape of the output of one circuit.

    Raises:
        ValueError: If a gate cannot be compiled, `interpret` leaves the output, or one circuit
            alone exceeds the memory limit.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> compiled = CompiledCircuit(SuperpositionCircuit(2, reps=1, entanglement="none"))
        >>> compiled.marginals(torch.tensor([[0.5, 0.25]]), torch.zeros(4))
        tensor([[1.0000, 0.7071]])

    References:
        Jones and Gacon, Efficient calculation of gradients in classical simulations of variational
        quantum algorithms, arXiv:2009.02823.
    """

    def __init__(
        self,
        circuit: CircuitSource,
        memory_limit_gib: float = MEMORY_LIMIT_GIB,
        torch_compile: bool = False,
    ) -> None:
        check_limit(memory_limit_gib)
        built = circuit.build()
        self.num_qubits = built.num_qubits
        self.num_inputs = len(built.inputs)
        self.num_weights = len(built.weights)
        self.memory_limit_gib = memory_limit_gib
        self.torch_compile = torch_compile
        self._vectors = vectors_expected(built.circuit)  # nothing is allocated before it fits
        self.check_memory(1)
        bare, _ = unitary_part(built.circuit)
        self._places = places_of(built.circuit)
        self.output_shape = built.output_shape
        self._cells = None if built.observables else built.output_cells()
        self._parts = flipped_parts(built.observables or (), self.num_qubits)
        self._read_vectors = sum(4 * len(part) for part in self._parts.values())
        parameters = [*built.inputs, *built.weights]
        index = {parameter: position for position, parameter in enumerate(parameters)}
        self._bent = BentAngles(self.num_inputs, self.num_weights)
        self._program = lower(bare, index, self._grown, self._bent)
        if self._bent:
            self._program.replace_angles(self._bent.arranged)
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._keeps_others_at_zero = False
        self._written = states_as_written(built.circuit)
        self._point = random_point(built, self._bent.expressions)
        check_against_qiskit(built, self._all_amplitudes, CompiledCircuit, self._point)
        self._plans.clear()  # that of the check: all amplitudes, in float64

    def outputs(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return what `SamplerQNN.forward` returns: the probability of each output.

        Of a circuit with observables, their expectation values, as `EstimatorQNN.forward` does.

        Args:
            inputs: Shape (B, num_inputs), unit of the circuit's inputs.
            weights: Shape (num_weights,), in radians.

        Returns:
            Shape (B, *output_shape), differentiable by both arguments.

        Raises:
            ValueError: If a shape does not fit, or the evaluation exceeds the memory limit.
        """
        return self._evaluate(inputs, weights, OUTPUTS).reshape(-1, *self.output_shape)

    def marginals(self, inputs: Tensor, weights: Tensor, read: int | None = None) -> Tensor:
        """Return P(1) - P(0) of the first `read` qubits, all by default.

        Measurements play no part in it. Of a transpiled circuit the original qubits are read.

        Args:
            inputs: Shape (B, num_inputs).
            weights: Shape (num_weights,), in radians.
            read: Number of qubits to read.

        Returns:
            Shape (B, read), in [-1, 1], differentiable by both arguments.

        Raises:
            ValueError: As for `outputs`.
        """
        return self._evaluate(inputs, weights, len(self._places) if read is None else read)

    def amplitudes(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return the complex amplitudes before measurement, global phase included.

        Of a transpiled circuit those of the original qubits, in their order.

        Args:
            inputs: Shape (B, num_inputs).
            weights: Shape (num_weights,), in radians.

        Returns:
            Shape (B, 2^n) for n original qubits, complex, differentiable by both arguments.

        Raises:
            ValueError: As for `outputs`, and if qubits that are not in a layout do not end in 0.
        """
        found = self._all_amplitudes(inputs, weights)
        if self._written is None:
            return found
        self._check_written(self._written)
        return found.index_select(1, torch.from_numpy(self._written).to(found.device))

    def check_memory(self, batch: int, dtype: torch.dtype = torch.float32) -> None:
        """Refuse a batch whose evaluation, gradients included, would exceed the memory limit.

        Raises:
            ValueError: With the forecast in its message.
        """
        self._check_memory(batch, dtype, self.num_qubits, torch.device("cpu"))

    def freeze(self, weights: Tensor, read: int | None = None) -> FrozenCircuit:
        """Return `marginals` as a function of the inputs alone, without gradients.

        Args:
            weights: Shape (num_weights,); their dtype and device are those of the evaluation.
            read: Number of qubits to read, all by default.

        Raises:
            ValueError: If the weights do not fit.
        """
        self._check_weights(weights)
        own = self._bent.extend_weights(weights.detach().clone())
        plan = self._plan(len(self._places) if read is None else read, own.dtype, own.device)

        def checked(inputs: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
            return self._in_chunks(inputs, plan, own, run)

        # What is new for each batch cannot be skipped: no batch then counts as seen.
        varies = self._bent.counts[0] > self.num_inputs
        chunk = -1 if varies else self._chunk(own.dtype, own.device)
        return FrozenCircuit(plan, own, checked, chunk)

    def _all_amplitudes(self, inputs: Tensor, weights: Tensor) -> Tensor:
        """Return those of all basis states of the circuit that is simulated."""
        return self._evaluate(inputs, weights, AMPLITUDES)

    @eagerly
    def _check_written(self, states: np.ndarray) -> None:
        """Check once that a transpiled circuit has no amplitudes but those of the original qubits.

        Raises:
            ValueError: If it has.
        """
        if len(states) < 2**self.num_qubits and not self._keeps_others_at_zero:
            check_others_are_zero(self._all_amplitudes, states, self._point)
            self._keeps_others_at_zero = True

    @eagerly
    def _evaluate(self, inputs: Tensor, weights: Tensor, read: int | str) -> Tensor:
        self._check_weights(weights)
        if len(inputs) == 0:
            one_row = torch.cat((inputs, inputs.new_zeros(1, self.num_inputs)))  # keeps the graph
            return self._evaluate(one_row, weights, read)[:0]
        asked = _dtype_of(inputs, weights)
        dtype = torch.promote_types(asked, torch.float32)  # 16 bits are too few for amplitudes
        plan = self._plan(read, dtype, inputs.device)
        parameters = self._bent.extend_weights(weights.to(inputs.device, dtype))
        plain = partial(self._plain, plan, len(inputs))
        outputs = self._in_chunks(
            inputs, plan, parameters, lambda rows: evaluate(plan, plain, rows, parameters)
        )
        return outputs if outputs.is_complex() else outputs.to(asked)

    def _plain(self, plan: Plan, batch: int, inputs: Tensor, weights: Tensor) -> Tensor:
        """Evaluate a chunk of a batch in operations that torch can differentiate."""
        rows, limit = batch * mapped_copies(), self.memory_limit_gib
        check_memory_of_states(rows, self.num_qubits, inputs.dtype, plan.num_turns, limit)
        with in_full_precision(inputs.device.type):
            return plan.plain(inputs, weights)

    def _in_chunks(
        self, inputs: Tensor, plan: Plan, weights: Tensor, run: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Check inputs and memory, and run as many circuits at once as are best."""
        self._check_inputs(inputs)
        dtype = weights.dtype
        self._check_memory(len(inputs), dtype, plan.num_outputs, inputs.device)
        angles, chunk = inputs.to(dtype), self._chunk(dtype, inputs.device)
        angles = self._bent.extend_inputs(angles, weights)
        if is_traced() or len(angles) <= chunk:
            return run(angles)
        return torch.cat([run(rows) for rows in angles.split(chunk)])

    def _plan(self, read: int | str, dtype: torch.dtype, device: torch.device) -> Plan:
        key = (read, dtype, device)
        if key not in self._plans:
            with to_be_kept():
                like = torch.empty(0, dtype=dtype, device=device)
                plan = Plan(self._program, self._bent.counts, self._readout(read), like)
            if self.torch_compile:
                plan.compile()
            self._plans[key] = plan
        return self._plans[key]

    def _readout(self, read: int | str) -> Readout:
        if read == OUTPUTS:
            if self._cells is None:
                return ObservableReadout.of_parts(self._parts)
            outputs = prod(self.output_shape)  # more than basis states, for a long register
            self._check_memory(1, torch.float32, outputs, torch.device("cpu"))
            return CellReadout(self._cells, outputs)
        if read == AMPLITUDES:
            return AmplitudeReadout(self.num_qubits)
        return MarginalReadout.of_qubits(self.num_qubits, self._places[: int(read)])

    def _chunk(self, dtype: torch.dtype, device: torch.device) -> int:
        """Return how many circuits run at once: few enough for the cache of a CPU."""
        if device.type != "cpu":
            return 2**31
        return columns_in_cache(self.num_qubits, dtype.itemsize)

    def _check_memory(
        self, batch: int, dtype: torch.dtype, outputs: int, device: torch.device
    ) -> None:
        chunk = self._chunk(dtype, device)
        needed = bytes_needed(self.num_qubits, batch, chunk, dtype, outputs)
        needed += bytes_of_program(self.num_qubits, self._vectors)
        check_memory(needed, self.memory_limit_gib, self.num_qubits, batch)

    def _grown(self, vectors: int) -> None:
        """Refuse a program, while it is built, that is too large for a single evaluation."""
        self._vectors = vectors + self._read_vectors  # those of observables
        self.check_memory(1)

    def _check_inputs(self, inputs: Tensor) -> None:
        if inputs.dim() != 2 or inputs.shape[1] != self.num_inputs:
            raise ValueError(
                f"Expected `inputs` of shape (B, {self.num_inputs}), got {tuple(inputs.shape)}: "
                "each row holds the inputs of one circuit. Reshape the data."
            )

    def _check_weights(self, weights: Tensor) -> None:
        if weights.shape != (self.num_weights,):
            raise ValueError(
                f"Expected `weights` of shape ({self.num_weights},), got {tuple(weights.shape)}: "
                "all circuits of a batch share them. Pass one value per weight of the circuit."
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_plans": {}}  # tensors of a device are made anew


def _dtype_of(inputs: Tensor, weights: Tensor) -> torch.dtype:
    """Return the precision of the outputs: the higher one of both; float32 if both are integers."""
    promoted = torch.promote_types(inputs.dtype, weights.dtype)
    if promoted.is_complex:
        raise TypeError(
            f"Expected real inputs and weights, got {inputs.dtype} and {weights.dtype}: angles of "
            "gates are real. Pass real and imaginary parts as inputs of their own."
        )
    return promoted if promoted.is_floating_point else torch.float32
