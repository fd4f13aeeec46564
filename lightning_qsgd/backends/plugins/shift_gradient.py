"""SamplerQNN's gradient by the parameter-shift rule, all shifts in one call."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, ParameterExpression, ParameterVector, QuantumCircuit
from qiskit.primitives import BaseSamplerV2
from qiskit.providers import Options
from qiskit.transpiler.passes import TranslateParameterizedGates
from qiskit.transpiler.passmanager import BasePassManager
from qiskit_machine_learning.gradients import (
    BaseSamplerGradient,
    ParamShiftSamplerGradient,
    SamplerGradientResult,
)

from lightning_qsgd.backends.plugins.gate_angles import CircuitCache, GateAngles
from lightning_qsgd.backends.plugins.vectorized_sampler import outcome_probabilities
from lightning_qsgd.circuits.expansion import expanded


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
        known_by_name = TranslateParameterizedGates(ParamShiftSamplerGradient.SUPPORTED_GATES)
        translated = known_by_name(expanded(circuit)[0])
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


Gradients = list[list[dict[int, float]]]
"""Derivatives of the outcomes' probabilities, for each sample and parameter."""


class VectorizedShiftGradient(BaseSamplerGradient):  # type: ignore[misc]
    """Plugs into an unmodified `SamplerQNN` and gives the numbers of `ParamShiftSamplerGradient`.

    The shifted parameter sets of all samples go to the sampler as the rows of one PUB, in one run,
    and the chain rule is one matrix product. Works with any sampler; fastest with
    `VectorizedSampler`. Angles may be any differentiable expression of the parameters.

    Args:
        sampler: Runs the shifted circuits.
        options: Kept for the signature of the base class; samplers of version 2 take none.
        pass_manager: Transpiles the shifted circuit, once; None leaves it.

    Example:
        >>> from qiskit_machine_learning.neural_networks import SamplerQNN
        >>> from lightning_qsgd.backends.plugins import VectorizedSampler
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> built = superposition_circuit(num_qubits=1, reps=1)
        >>> sampler = VectorizedSampler()
        >>> network = SamplerQNN(
        ...     circuit=built.circuit,
        ...     input_params=built.inputs,
        ...     weight_params=built.weights,
        ...     sampler=sampler,
        ...     gradient=VectorizedShiftGradient(sampler),
        ...     input_gradients=True,
        ... )
        >>> by_inputs, by_weights = network.backward([[0.0]], [0.0, 0.0])
        >>> by_inputs.round(4)  # of (1 + sin(pi x)) / 2
        array([[[-1.5708],
                [ 1.5708]]])
    """

    def __init__(
        self,
        sampler: BaseSamplerV2,
        options: Options | None = None,
        pass_manager: BasePassManager | None = None,
    ) -> None:
        super().__init__(sampler, options, pass_manager)
        self._plans: CircuitCache[ShiftPlan] = CircuitCache()

    def _run(
        self,
        circuits: Sequence[QuantumCircuit],
        parameter_values: Sequence[Sequence[float]],
        parameters: Sequence[Sequence[Parameter]],
        **options: Any,
    ) -> SamplerGradientResult:
        for circuit in circuits:
            _refuse_ancillas(circuit)
        groups = _groups(circuits, parameters)
        plans = [self._plan(circuits[first], parameters[first]) for first, *_ in groups]
        rows = [np.array([parameter_values[i] for i in group], dtype=float) for group in groups]
        found = self._sample(plans, rows)
        gradients: Gradients = [[] for _ in circuits]
        for group, each in zip(groups, found, strict=True):
            for sample, gradient in zip(group, each, strict=True):
                gradients[sample] = gradient
        metadata = [[{"parameters": wanted}] for wanted in parameters]
        return SamplerGradientResult(gradients=gradients, metadata=metadata, options=options)

    def _plan(self, circuit: QuantumCircuit, parameters: Sequence[Parameter]) -> ShiftPlan:
        return self._plans.get(
            circuit,
            lambda: ShiftPlan(circuit, parameters, self._pass_manager),
            variant=tuple(parameters),
        )

    def _sample(self, plans: Sequence[ShiftPlan], rows: Sequence[np.ndarray]) -> list[Gradients]:
        """Run all shifted circuits at once; parameters without effect need none."""
        pubs = [
            (plan.circuit, plan.shifted(values))
            for plan, values in zip(plans, rows, strict=True)
            if plan.num_shifted
        ]
        results = iter(self._sampler.run(pubs).result() if pubs else ())
        return [
            plan.gradients(values, *outcome_probabilities(next(results)))
            if plan.num_shifted
            else [[{} for _ in plan.wanted] for _ in values]
            for plan, values in zip(plans, rows, strict=True)
        ]


def _refuse_ancillas(circuit: QuantumCircuit) -> None:
    """Refuse a circuit that was laid out on more qubits than it has: SamplerQNN 0.9 ignores it.

    Raises:
        ValueError: If the circuit has ancillas.
    """
    layout = circuit.layout
    if layout is None:
        return
    own = len(layout.final_index_layout(filter_ancillas=True))
    if own < circuit.num_qubits:
        raise ValueError(
            f"Cannot differentiate a circuit of {own} qubits laid out on {circuit.num_qubits}: "
            "SamplerQNN takes the outcomes of all of them for its own. Build the network without "
            "`pass_manager`, and transpile inside the sampler: SamplerBackend with GivenSampling "
            "does."
        )


def _groups(
    circuits: Sequence[QuantumCircuit], parameters: Sequence[Sequence[Parameter]]
) -> list[list[int]]:
    """Gather the samples that share circuit and parameters."""
    groups: dict[Any, list[int]] = {}
    for sample, (circuit, wanted) in enumerate(zip(circuits, parameters, strict=True)):
        groups.setdefault((id(circuit), tuple(wanted)), []).append(sample)
    return list(groups.values())
