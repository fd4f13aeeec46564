"""A sampler of qiskit's kind that evaluates all rows of a batch at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from qiskit.circuit import Measure, QuantumCircuit
from qiskit.primitives import (
    BaseSamplerV2,
    PrimitiveJob,
    PrimitiveResult,
    SamplerPubLike,
    SamplerPubResult,
)
from qiskit.primitives.containers.sampler_pub import SamplerPub

from lightning_qsgd.backends.compiled.compiled_circuit import MEMORY_LIMIT_GIB, CompiledCircuit
from lightning_qsgd.backends.plugins.circuit_cache import CircuitCache
from lightning_qsgd.backends.plugins.outcome_table import OutcomeData, OutcomeTable
from lightning_qsgd.circuits import ParametrizedCircuit


class VectorizedSampler(BaseSamplerV2):  # type: ignore[misc]
    """Plugs into an unmodified `SamplerQNN` and gives the same numbers, a batch at a time.

    All rows of all PUBs of one circuit are evaluated as one batch by a `CompiledCircuit` in
    float64; compiled circuits are kept for the next call.

    Shots are drawn from a stream that moves on from call to call: they differ each time, and a run
    is reproducible. Qiskit's own samplers with a seed draw the same shots at every call, which
    turns shot noise into a frozen bias.

    Args:
        shots: Number of shots per circuit; None for exact probabilities.
        seed: Names the stream of shots.
        memory_limit_gib: Evaluations that would take more memory are refused, in GiB.

    Raises:
        ValueError: If the number of shots is below 1.

    Example:
        >>> from qiskit_machine_learning.neural_networks import SamplerQNN
        >>> from lightning_qsgd.circuits import superposition_circuit
        >>> built = superposition_circuit(num_qubits=1, reps=1)
        >>> network = SamplerQNN(
        ...     circuit=built.circuit,
        ...     input_params=built.inputs,
        ...     weight_params=built.weights,
        ...     sampler=VectorizedSampler(),
        ... )
        >>> network.forward([[0.0], [0.5]], [0.0, 0.0]).round(6) + 0.0
        array([[0.5, 0.5],
               [0. , 1. ]])
    """

    def __init__(
        self,
        *,
        shots: int | None = None,
        seed: int = 0,
        memory_limit_gib: float = MEMORY_LIMIT_GIB,
    ) -> None:
        _check_shots(shots)
        self.shots = shots
        self.memory_limit_gib = memory_limit_gib
        self._seeds = np.random.SeedSequence(seed)
        self._cache: CircuitCache[CompiledCircuit] = CircuitCache()

    def run(
        self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None
    ) -> PrimitiveJob[PrimitiveResult[SamplerPubResult]]:
        """Start one job for all PUBs.

        Args:
            pubs: Circuits that end in measurements, each with an array of parameter values.
            shots: Number of shots for PUBs that do not state their own; None for the sampler's.

        Returns:
            A job whose results hold an `OutcomeTable` under the name of the circuit's register.

        Raises:
            ValueError: If a circuit cannot be compiled or measures nothing, or shots are below 1.
        """
        _check_shots(shots)
        coerced = [SamplerPub.coerce(pub, shots or self.shots) for pub in pubs]
        compiled = [self._compiled(pub.circuit) for pub in coerced]
        # Here and not in the job, which runs in another thread: the order of calls decides.
        (seed,) = self._seeds.spawn(1)
        job = PrimitiveJob(_run, coerced, compiled, np.random.default_rng(seed))
        job._submit()
        return job

    def _compiled(self, circuit: QuantumCircuit) -> CompiledCircuit:
        def build() -> CompiledCircuit:
            _check_measures(circuit)
            source = ParametrizedCircuit(circuit, inputs=circuit.parameters)
            return CompiledCircuit(source, memory_limit_gib=self.memory_limit_gib)

        return self._cache.get(circuit, build)


def _run(
    pubs: Sequence[SamplerPub], compiled: Sequence[CompiledCircuit], generator: np.random.Generator
) -> PrimitiveResult[SamplerPubResult]:
    probabilities = _evaluate(pubs, compiled)
    results = []
    for pub, rows in zip(pubs, probabilities, strict=True):
        values = rows if pub.shots is None else generator.multinomial(pub.shots, rows)
        table = OutcomeTable(values.reshape(*pub.shape, -1), pub.shots)
        data = OutcomeData(pub.circuit.cregs[0].name, table)
        results.append(SamplerPubResult(data, metadata={"shots": pub.shots}))
    return PrimitiveResult(results)


def _evaluate(pubs: Sequence[SamplerPub], compiled: Sequence[CompiledCircuit]) -> list[np.ndarray]:
    """Return the probabilities of each PUB, shape (rows, outcomes), one batch per circuit."""
    groups: dict[int, list[int]] = {}
    for position, circuit in enumerate(compiled):
        groups.setdefault(id(circuit), []).append(position)
    found: dict[int, np.ndarray] = {}
    for positions in groups.values():
        rows = [_values(pubs[position]) for position in positions]
        outputs = _probabilities(compiled[positions[0]], np.concatenate(rows))
        ends = np.cumsum([len(part) for part in rows])
        found.update(zip(positions, np.split(outputs, ends[:-1]), strict=True))
    return [found[position] for position in range(len(pubs))]


def _values(pub: SamplerPub) -> np.ndarray:
    """Return the parameter values of a PUB in the circuit's order, shape (rows, parameters)."""
    names = [parameter.name for parameter in pub.circuit.parameters]
    return np.asarray(pub.parameter_values.as_array(names)).reshape(pub.size, len(names))


def _probabilities(circuit: CompiledCircuit, values: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))
    outputs = circuit.outputs(inputs, inputs.new_zeros(0)).numpy()
    return np.asarray(outputs / outputs.sum(axis=1, keepdims=True))


def _check_measures(circuit: QuantumCircuit) -> None:
    if not any(isinstance(step.operation, Measure) for step in circuit.data):
        raise ValueError(
            "Cannot sample a circuit that measures nothing: it has no outcomes. Add "
            "`circuit.measure_all()`."
        )


def _check_shots(shots: int | None) -> None:
    if shots is not None and shots < 1:
        raise ValueError(
            f"Expected `shots` to be at least 1, got {shots}: there would be no counts. Give a "
            "positive number, or None for exact probabilities."
        )
