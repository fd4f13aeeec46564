"""The parameter-shift gradient of a whole batch from one run of a sampler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit.primitives import BaseSamplerV2
from qiskit.providers import Options
from qiskit.transpiler.passmanager import BasePassManager
from qiskit_machine_learning.gradients import BaseSamplerGradient, SamplerGradientResult

from lightning_qsgd.backends.plugins.circuit_cache import CircuitCache
from lightning_qsgd.backends.plugins.outcome_probabilities import outcome_probabilities
from lightning_qsgd.backends.plugins.shift_plan import ShiftPlan

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
