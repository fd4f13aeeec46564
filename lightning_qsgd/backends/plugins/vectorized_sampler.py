"""A sampler that evaluates a batch of circuits as one tensor, and its table of outcomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.primitives import (
    BaseSamplerV2,
    BitArray,
    DataBin,
    PrimitiveJob,
    PrimitiveResult,
    SamplerPubLike,
    SamplerPubResult,
)
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.result import QuasiDistribution

from lightning_qsgd.backends.compiled.compiled_circuit import MEMORY_LIMIT_GIB, CompiledCircuit
from lightning_qsgd.backends.plugins.gate_angles import CircuitCache
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.circuits.measurements import measured_register

REGISTER = "meas"
"""The one register whose rows `SamplerQNN` 0.9 keeps apart."""

MOST_BITS_IN_FULL = 12
"""Up to so many bits all outcomes have a column; above, only those that occurred."""


def outcome_probabilities(result: SamplerPubResult) -> tuple[list[int], np.ndarray]:
    """Return the probability of each outcome for each row of a PUB.

    Args:
        result: What a sampler returned for a PUB with an array of parameter values of shape (B,).

    Returns:
        The outcomes as integers, and their probabilities, shape (B, outcomes).
    """
    field = measured_data(result)
    if isinstance(field, OutcomeTable):
        return list(range(field.values.shape[-1])), field.probabilities
    outcomes, counts = _of_bits(field) if isinstance(field, BitArray) else _of_dicts(field)
    return outcomes, counts / counts.sum(axis=1, keepdims=True)


def measured_data(result: SamplerPubResult, written: Sequence[str] = ()) -> Any:
    """Choose the register that `SamplerQNN` reads: `REGISTER`, or all others joined.

    The first of several registers holds the least significant bits.

    Args:
        result: What a sampler returned.
        written: Names of the registers that the circuit measures into; all if there is none.
    """
    data = result.data
    if isinstance(data, OutcomeData):
        return data.measured
    if hasattr(data, REGISTER) and (REGISTER in written or not written):
        return getattr(data, REGISTER)
    names = [name for name in data if name in written] or list(data)
    return data[names[0]] if len(names) == 1 else result.join_data(names)


def _of_bits(field: BitArray) -> tuple[list[int], np.ndarray]:
    """Count shots: those of all rows in one pass."""
    places = 256 ** np.arange(field.array.shape[-1] - 1, -1, -1, dtype=object)
    drawn = field.array @ (places if places[0] > 2**55 else places.astype(np.int64))
    if field.num_bits <= MOST_BITS_IN_FULL:
        known, column = np.arange(2**field.num_bits), drawn
    else:
        known, inverse = np.unique(drawn, return_inverse=True)
        column = inverse.reshape(drawn.shape)
    rows = np.arange(len(drawn))[:, None] * len(known)
    counts = np.bincount((rows + column).ravel(), minlength=len(drawn) * len(known))
    return known.tolist(), counts.reshape(len(drawn), len(known)).astype(float)


def _of_dicts(field: Any) -> tuple[list[int], np.ndarray]:
    """Ask for the counts row by row, as any container of a sampler has them."""
    rows = [QuasiDistribution(field.get_counts(row)) for row in range(field.shape[0])]
    outcomes = sorted({int(outcome) for row in rows for outcome in row})
    return outcomes, np.array([[row.get(outcome, 0.0) for outcome in outcomes] for row in rows])


class OutcomeTable:
    """How often each outcome was measured, or its exact probability, for an array of circuits.

    It answers `get_counts` as qiskit's `BitArray` does. Exact counts are the probabilities
    themselves, which serves everyone who divides counts by their sum.

    Args:
        values: Counts or probabilities, shape (*shape, outcomes); what has no column does not
            occur.
        num_shots: Number of shots; None for exact probabilities.
        num_bits: Number of bits; None for as many as the outcomes need.

    Attributes:
        values: Counts or probabilities, shape (*shape, outcomes).
        num_shots: Number of shots; None for exact probabilities.
        shape: Shape of the array of circuits.
        num_bits: Number of measured bits.

    Example:
        >>> OutcomeTable(np.array([[0.5, 0.0, 0.0, 0.5]]), num_shots=None).get_counts(0)
        {'00': 0.5, '11': 0.5}
    """

    def __init__(
        self, values: np.ndarray, num_shots: int | None, num_bits: int | None = None
    ) -> None:
        self.values = values
        self.num_shots = num_shots
        self.shape = values.shape[:-1]
        self.num_bits = values.shape[-1].bit_length() - 1 if num_bits is None else num_bits

    @property
    def probabilities(self) -> np.ndarray:
        """Share of each outcome, shape (*shape, 2^num_bits), summing to 1."""
        return np.asarray(self.values / self.values.sum(axis=-1, keepdims=True))

    def get_int_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, float]:
        """Return the outcomes that occurred as integers, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        if loc is None:
            row = self.values.reshape(-1, self.values.shape[-1]).sum(axis=0).tolist()
        else:
            row = self._rows[self._at(loc)]
        return {outcome: value for outcome, value in enumerate(row) if value}

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[str, float]:
        """Return the outcomes that occurred as bit strings, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        counts = self.get_int_counts(loc)
        return {f"{outcome:0{self.num_bits}b}": value for outcome, value in counts.items()}

    @cached_property
    def _rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.values.reshape(-1, self.values.shape[-1]).tolist()
        return rows

    def _at(self, loc: int | tuple[int, ...]) -> int:
        if isinstance(loc, int) and len(self.shape) < 2:  # `SamplerQNN` asks a lone circuit for 0
            return loc
        index = loc if isinstance(loc, tuple) else (loc,)
        return int(np.ravel_multi_index(index, self.shape)) if self.shape else 0


class OutcomeData(DataBin):  # type: ignore[misc]
    """The data of one PUB: its registers, and a short cut to the measured one for `SamplerQNN`.

    `SamplerQNN` asks the data itself for counts first. Integer keys spare it the reading of bit
    strings, and it gets each circuit's own counts whatever the register's name: with a name other
    than "meas" it would otherwise add up the counts of the whole batch.

    Args:
        register: Name of the register that is measured into.
        tables: What each register holds, by its name.
    """

    def __init__(self, register: str, tables: Mapping[str, OutcomeTable]) -> None:
        super().__init__(shape=tables[register].shape, **tables)
        self._measured = register

    @property
    def measured(self) -> OutcomeTable:
        """What was measured."""
        table: OutcomeTable = self[self._measured]
        return table

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, float]:
        """Return the outcomes of one circuit as integers; see `OutcomeTable.get_int_counts`."""
        return self.measured.get_int_counts(loc)


class VectorizedSampler(BaseSamplerV2):  # type: ignore[misc]
    """Plugs into an unmodified `SamplerQNN` and gives the same numbers, a batch at a time.

    All rows of all PUBs of one circuit are evaluated as one batch by a `CompiledCircuit` in
    float64; compiled circuits are kept for the next call. A circuit measures into one register;
    each other one holds zeros, as for qiskit's own samplers.

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
        self._cache: CircuitCache[tuple[CompiledCircuit, str]] = CircuitCache()

    def run(
        self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None
    ) -> PrimitiveJob[PrimitiveResult[SamplerPubResult]]:
        """Start one job for all PUBs.

        Args:
            pubs: Circuits that end in measurements, each with an array of parameter values.
            shots: Number of shots for PUBs that do not state their own; None for the sampler's.

        Returns:
            A job whose results hold an `OutcomeTable` under the name of each register.

        Raises:
            ValueError: If a circuit cannot be compiled, measures nothing or into several registers,
                or shots are below 1.
        """
        _check_shots(shots)
        coerced = [SamplerPub.coerce(pub, shots or self.shots) for pub in pubs]
        compiled = [self._compiled(pub.circuit) for pub in coerced]
        # Here and not in the job, which runs in another thread: the order of calls decides.
        (seed,) = self._seeds.spawn(1)
        job = PrimitiveJob(_run, coerced, compiled, np.random.default_rng(seed))
        job._submit()
        return job

    def _compiled(self, circuit: QuantumCircuit) -> tuple[CompiledCircuit, str]:
        """Return what evaluates a circuit, and the register that it measures into."""

        def build() -> tuple[CompiledCircuit, str]:
            register = measured_register(circuit).name
            source = ParametrizedCircuit(circuit, inputs=circuit.parameters)
            return CompiledCircuit(source, memory_limit_gib=self.memory_limit_gib), register

        return self._cache.get(circuit, build)


def _run(
    pubs: Sequence[SamplerPub],
    compiled: Sequence[tuple[CompiledCircuit, str]],
    generator: np.random.Generator,
) -> PrimitiveResult[SamplerPubResult]:
    probabilities = _evaluate(pubs, [circuit for circuit, _ in compiled])
    results = []
    for pub, rows, (_, register) in zip(pubs, probabilities, compiled, strict=True):
        values = rows if pub.shots is None else generator.multinomial(pub.shots, rows)
        table = OutcomeTable(values.reshape(*pub.shape, -1), pub.shots)
        tables = {other.name: _zeros(pub, len(other)) for other in pub.circuit.cregs}
        data = OutcomeData(register, tables | {register: table})
        results.append(SamplerPubResult(data, metadata={"shots": pub.shots}))
    return PrimitiveResult(results)


def _zeros(pub: SamplerPub, num_bits: int) -> OutcomeTable:
    """Return what a register holds that nothing is measured into."""
    of_all = np.full((*pub.shape, 1), 1.0 if pub.shots is None else pub.shots)
    return OutcomeTable(of_all, pub.shots, num_bits)


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


def _check_shots(shots: int | None) -> None:
    if shots is not None and shots < 1:
        raise ValueError(
            f"Expected `shots` to be at least 1, got {shots}: there would be no counts. Give a "
            "positive number, or None for exact probabilities."
        )
