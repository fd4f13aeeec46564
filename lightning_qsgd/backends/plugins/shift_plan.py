"""The shifted parameter sets of a circuit, and the gradient from what was measured with them."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression, ParameterVector, QuantumCircuit
from qiskit.transpiler.passes import TranslateParameterizedGates
from qiskit.transpiler.passmanager import BasePassManager
from qiskit_machine_learning.gradients import ParamShiftSamplerGradient

from lightning_qsgd.backends.plugins.gate_angles import GateAngles


class ShiftPlan:
    r"""Holds what the gradients of one circuit need at every call.

    Each gate gets an angle of its own, so that the rule of one rotation holds for it,

    .. math::
        \frac{\partial p}{\partial a} = \frac{p(a + \pi/2) - p(a - \pi/2)}{2},

    and the chain rule brings the derivatives back to the circuit's parameters.

    Args:
        circuit: A circuit that ends in measurements.
        parameters: Parameters whose gradient is wanted.
        pass_manager: Transpiles the circuit for the sampler; None leaves it.

    Attributes:
        circuit: The circuit that is sampled, with one parameter per gate angle.
        num_shifted: Number of parameter sets that one gradient takes.
        wanted: Positions of those parameters among all of the circuit.

    References:
        Schuld et al., Evaluating analytic gradients on quantum hardware, arXiv:1811.11184.
    """

    def __init__(
        self,
        circuit: QuantumCircuit,
        parameters: Sequence[Parameter],
        pass_manager: BasePassManager | None = None,
    ) -> None:
        translated = TranslateParameterizedGates(ParamShiftSamplerGradient.SUPPORTED_GATES)(circuit)
        separate, angles = _with_an_angle_per_gate(translated)
        self.circuit = separate if pass_manager is None else pass_manager.run(separate)
        self._angles = GateAngles(list(circuit.parameters), angles)
        wanted = set(parameters)
        self._shifted = [i for i, angle in enumerate(angles) if wanted & set(angle.parameters)]
        order = {parameter: i for i, parameter in enumerate(circuit.parameters)}
        self.wanted = [order[parameter] for parameter in parameters]
        # A pass manager may drop angles without effect, such as phases before a measurement.
        place = {parameter: i for i, parameter in enumerate(separate.parameters)}
        self._kept = [place[parameter] for parameter in self.circuit.parameters]
        self._width = _width(self.circuit, pass_manager)
        self.num_shifted = 2 * len(self._shifted)

    def shifted(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of the circuit's parameters for all shifts of all rows.

        Args:
            rows: Values of the original parameters, shape (B, parameters).

        Returns:
            Shape (B * num_shifted, angles), in radians: for each row all shifts up, then all down.
        """
        values = self._angles.values(rows)
        shifts = np.eye(values.shape[1])[self._shifted] * pi / 2
        both = values[:, None, :] + np.concatenate([shifts, -shifts])
        return np.asarray(both.reshape(-1, values.shape[1])[:, self._kept])

    def gradients(
        self, rows: np.ndarray, outcomes: Sequence[int], probabilities: np.ndarray
    ) -> list[list[dict[int, float]]]:
        """Return the derivative of each outcome's probability by each parameter, for each row.

        Args:
            rows: Values of the original parameters, shape (B, parameters).
            outcomes: Measured integers.
            probabilities: Their probabilities, shape (B * num_shifted, outcomes).

        Returns:
            For each row and parameter, the outcomes whose derivative is not exactly 0.
        """
        columns = [i for i, outcome in enumerate(outcomes) if outcome >> self._width == 0]
        up, down = self._halves(probabilities[:, columns], len(rows))
        slopes = self._angles.slopes(rows)[:, self._shifted][:, :, self.wanted]
        derivatives = slopes.swapaxes(1, 2) @ ((up - down) / 2)
        keys = [outcomes[i] for i in columns]
        return [[_nonzero(keys, one) for one in row] for row in derivatives.tolist()]

    def _halves(self, probabilities: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        shaped = probabilities.reshape(count, 2, len(self._shifted), probabilities.shape[1])
        return shaped[:, 0], shaped[:, 1]


def _with_an_angle_per_gate(
    circuit: QuantumCircuit,
) -> tuple[QuantumCircuit, list[ParameterExpression]]:
    """Replace each parametrised angle by a parameter of its own; return what it stands for."""
    angles = [value for step in circuit.data for value in step.operation.params if _depends(value)]
    own = iter(ParameterVector("angle", len(angles)))
    separate = circuit.copy_empty_like()
    separate.global_phase = 0.0  # measured probabilities do not depend on it
    for step in circuit.data:
        operation = step.operation
        if any(_depends(value) for value in operation.params):
            operation = operation.to_mutable()
            operation.params = [
                next(own) if _depends(value) else value for value in operation.params
            ]
        separate.append(operation, step.qubits, step.clbits)
    return separate, angles


def _depends(value: Any) -> bool:
    return isinstance(value, ParameterExpression) and bool(value.parameters)


def _width(circuit: QuantumCircuit, pass_manager: BasePassManager | None) -> int:
    """Return the number of qubits before this transpilation: it bounds the outcomes that count."""
    if pass_manager is None or circuit.layout is None:
        return int(circuit.num_qubits)
    return int(circuit.layout._input_qubit_count)


def _nonzero(keys: list[int], values: list[float]) -> dict[int, float]:
    return {key: value for key, value in zip(keys, values, strict=True) if value}
