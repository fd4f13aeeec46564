"""Shots drawn from streams that are named by keys, never from a global generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any

import numpy as np
from qiskit.circuit import QuantumCircuit
from qiskit.primitives import (
    BaseSamplerV2,
    DataBin,
    PrimitiveJob,
    PrimitiveResult,
    SamplerPubLike,
    SamplerPubResult,
)
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Statevector
from qiskit_machine_learning.neural_networks import SamplerQNN
from typing_extensions import override

from lightning_qsgd.backends.evaluation import Evaluation, keys_for, serving
from lightning_qsgd.backends.plugins.vectorized_sampler import REGISTER, measured_data
from lightning_qsgd.circuits.measurements import (
    measured_bits,
    outcomes_of,
    without_measurements,
    written_registers,
)


class DrawnCounts:
    """How often each outcome was measured, for an array of circuits.

    It answers as qiskit's `BitArray` does, whose memory grows with the number of shots: a million
    of them would take megabytes for each circuit of a step.

    Args:
        rows: Outcomes as integers and how often they occurred, for each circuit of the array.
        shape: Shape of the array.
        num_bits: Number of measured bits.

    Example:
        >>> DrawnCounts([{0: 3, 2: 1}], shape=(1,), num_bits=2).get_counts(0)
        {'00': 3, '10': 1}
    """

    def __init__(
        self, rows: Sequence[dict[int, int]], shape: tuple[int, ...], num_bits: int
    ) -> None:
        self._rows = list(rows)
        self.shape = shape
        self.num_bits = num_bits

    def get_int_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[int, int]:
        """Return the outcomes that occurred as integers, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        if loc is not None:
            index = loc if isinstance(loc, tuple) else (loc,)
            # `SamplerQNN` asks a lone circuit, whose array has no dimension, for row 0.
            return self._rows[int(np.ravel_multi_index(index, self.shape)) if self.shape else 0]
        total: Counter[int] = Counter()
        for row in self._rows:
            total.update(row)
        return dict(total)

    def get_counts(self, loc: int | tuple[int, ...] | None = None) -> dict[str, int]:
        """Return the outcomes that occurred as bit strings, and how often they did.

        Args:
            loc: Index of a circuit; None adds up all of them.
        """
        counts = self.get_int_counts(loc)
        return {f"{outcome:0{self.num_bits}b}": count for outcome, count in counts.items()}


class BoundSampler(BaseSamplerV2):  # type: ignore[misc]
    """Serves one evaluation with a sampler that knows nothing of it.

    Gradients run their circuits in a thread of their own, so what they belong to has to come with
    the sampler and not from the thread.

    Args:
        sampler: Runs the circuits.
        evaluation: Counts them, keeps their jobs and holds their keys.
    """

    def __init__(self, sampler: BaseSamplerV2, evaluation: Evaluation) -> None:
        self.sampler = sampler
        self.evaluation = evaluation

    @override
    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        pubs = list(pubs)
        self.evaluation.charge(sum(SamplerPub.coerce(pub).size for pub in pubs))
        with serving(self.evaluation):
            job = self.sampler.run(pubs, shots=shots)
        self.evaluation.jobs.append(job)
        return job


def bind(network: SamplerQNN, evaluation: Evaluation) -> SamplerQNN:
    """Return the network for one evaluation, sharing everything but its sampler.

    The circuits that a gradient has prepared stay with the original for the next evaluation.
    """
    return _sampled_by(network, lambda sampler: BoundSampler(RowSampler(sampler), evaluation))


def in_rows(network: SamplerQNN, prepared: Prepare) -> SamplerQNN:
    """Return the network with samplers whose rows it keeps apart; see `RowSampler`.

    Args:
        network: What runs them.
        prepared: What is made of each sampler first.
    """
    return _sampled_by(network, lambda sampler: RowSampler(prepared(sampler)))


Prepare = Callable[[BaseSamplerV2], BaseSamplerV2]


def _sampled_by(network: SamplerQNN, wrap: Prepare) -> SamplerQNN:
    changed = copy(network)
    changed.sampler = wrap(network.sampler)
    changed.gradient = copy(network.gradient)
    changed.gradient._sampler = wrap(getattr(network.gradient, "_sampler", network.sampler))
    return changed


class RowSampler(BaseSamplerV2):  # type: ignore[misc]
    """Returns what was measured as a register whose rows `SamplerQNN` keeps apart.

    Of a register of another name than `REGISTER`, `SamplerQNN` 0.9 adds up the counts of the whole
    batch, and gives the sum to each of its rows. Its gradient reads the register "c", or fails.

    Args:
        sampler: Runs the circuits.
    """

    def __init__(self, sampler: BaseSamplerV2) -> None:
        self.sampler = sampler

    @override
    def run(self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None) -> Any:
        asked, pubs = {} if shots is None else {"shots": shots}, list(pubs)
        return _JobInRows(self.sampler.run(pubs, **asked), pubs)

    def __getattr__(self, name: str) -> Any:  # what a network of the user's asks its own sampler
        return getattr(self.__dict__["sampler"], name)


class _JobInRows:
    """A job as it is, but for its results.

    Args:
        job: What a sampler has started.
        pubs: What it runs.
    """

    def __init__(self, job: Any, pubs: Sequence[SamplerPubLike]) -> None:
        self._job = job
        self._pubs = pubs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def result(self) -> PrimitiveResult[SamplerPubResult]:
        """Wait for the job, and name its registers."""
        found = self._job.result()
        read = [_read(*pair) for pair in zip(found, self._pubs, strict=True)]
        pairs = list(zip(found, read, strict=True))
        if all(field is getattr(each.data, REGISTER, None) for each, field in pairs):
            return found
        return PrimitiveResult([_named(*pair) for pair in pairs])


def _read(result: SamplerPubResult, pub: SamplerPubLike) -> Any:
    """Return what the circuit of a PUB measured; only where there is a choice it is looked at."""
    if isinstance(result.data, DataBin) and len(result.data) > 1:
        return measured_data(result, written_registers(SamplerPub.coerce(pub).circuit))
    return measured_data(result)


def _named(result: SamplerPubResult, register: Any) -> SamplerPubResult:
    data = DataBin(**{REGISTER: register}, shape=result.data.shape)
    return SamplerPubResult(data, metadata=result.metadata)


class KeyedSampler(BaseSamplerV2):  # type: ignore[misc]
    """Draws shots from exact probabilities with one generator per circuit.

    The samplers of qiskit take one integer seed and then return *the same* shots at every call,
    which turns shot noise into a frozen bias. Here each run reads the keys of its evaluation.

    Args:
        shots: Number of shots per circuit, at least 1.
    """

    def __init__(self, shots: int) -> None:
        self.shots = shots

    def run(
        self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None
    ) -> PrimitiveJob[PrimitiveResult[SamplerPubResult]]:
        """Sample circuits that end in measurements, row by row of their parameter values."""
        coerced = [SamplerPub.coerce(pub, shots or self.shots) for pub in pubs]
        keys = keys_for(sum(pub.size for pub in coerced))  # here: the job runs in another thread
        ends = np.cumsum([pub.size for pub in coerced])
        parts = [keys[end - pub.size : end] for pub, end in zip(coerced, ends, strict=True)]
        job = PrimitiveJob(
            lambda: PrimitiveResult(
                [self._run_pub(pub, part) for pub, part in zip(coerced, parts, strict=True)]
            )
        )
        job._submit()
        return job

    def _run_pub(self, pub: SamplerPub, keys: Sequence[int]) -> SamplerPubResult:
        rows = pub.parameter_values.bind_all(pub.circuit).ravel()
        drawn = [self._draw(row, pub.shots, key) for row, key in zip(rows, keys, strict=True)]
        counts = _by_register(pub.circuit, drawn, pub.shape)
        return SamplerPubResult(DataBin(**counts, shape=pub.shape))

    def _draw(self, circuit: QuantumCircuit, shots: int, key: int) -> dict[int, int]:
        """Draw the shots of one bound circuit: integers of all bits, and their counts."""
        state = Statevector(without_measurements(circuit))
        weights = state.probabilities()
        drawn = np.random.default_rng(key).multinomial(shots, weights / weights.sum())
        outcomes = outcomes_of(circuit.num_qubits, measured_bits(circuit))
        total: Counter[int] = Counter()
        for state_drawn in np.flatnonzero(drawn):
            total[int(outcomes[state_drawn])] += int(drawn[state_drawn])
        return dict(total)


def _by_register(
    circuit: QuantumCircuit, drawn: Sequence[dict[int, int]], shape: tuple[int, ...]
) -> dict[str, DrawnCounts]:
    """Sort counts of all classical bits by the circuit's registers."""
    counts = {}
    for register in circuit.cregs:
        places = [circuit.find_bit(bit).index for bit in register]
        rows = drawn if places == list(range(circuit.num_clbits)) else _only(places, drawn)
        counts[register.name] = DrawnCounts(rows, shape, len(places))
    return counts


def _only(places: Sequence[int], drawn: Sequence[dict[int, int]]) -> list[dict[int, int]]:
    """Add up the counts of outcomes that are alike in some of their bits."""
    rows: list[dict[int, int]] = []
    for row in drawn:
        total: Counter[int] = Counter()
        for outcome, count in row.items():
            total[sum((outcome >> bit & 1) << place for place, bit in enumerate(places))] += count
        rows.append(dict(total))
    return rows
