"""A sampler whose shots are a pure function of a key per circuit."""

from collections.abc import Iterable

import numpy as np
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
from qiskit.quantum_info import Statevector


class KeyedSampler(BaseSamplerV2):  # type: ignore[misc]
    """Draws shots from exact probabilities with one generator per circuit.

    The samplers of qiskit take one integer seed and then return *the same* shots at every call,
    which turns shot noise into a frozen bias. Here the caller sets `keys` before each run.

    Args:
        shots: Number of shots per circuit, at least 1.
    """

    def __init__(self, shots: int) -> None:
        self.shots = shots
        self.keys: np.ndarray = np.zeros(0, dtype=np.uint64)

    def run(
        self, pubs: Iterable[SamplerPubLike], *, shots: int | None = None
    ) -> PrimitiveJob[PrimitiveResult[SamplerPubResult]]:
        """Sample circuits that end in `measure_all`, row by row of their parameter values."""
        coerced = [SamplerPub.coerce(pub, shots or self.shots) for pub in pubs]
        job = PrimitiveJob(lambda: PrimitiveResult([self._run_pub(pub) for pub in coerced]))
        job._submit()
        return job

    def _run_pub(self, pub: SamplerPub) -> SamplerPubResult:
        circuit = pub.circuit.remove_final_measurements(inplace=False)
        rows = pub.parameter_values.bind_all(circuit).ravel()
        if len(rows) != len(self.keys):
            raise ValueError(
                f"Got {len(rows)} circuits and {len(self.keys)} keys: each circuit draws its shots "
                "from a key of its own. Set `keys` to one uint64 per circuit before the run."
            )
        counts = [_draw(row, pub.shots, key) for row, key in zip(rows, self.keys, strict=True)]
        register = pub.circuit.cregs[0].name
        bits = BitArray.from_counts(counts, num_bits=circuit.num_qubits)
        return SamplerPubResult(DataBin(**{register: bits}, shape=(len(rows),)))


def _draw(circuit: object, shots: int, key: np.uint64) -> dict[int, int]:
    probabilities = Statevector(circuit).probabilities()
    drawn = np.random.default_rng(int(key)).multinomial(shots, probabilities / probabilities.sum())
    return {int(outcome): int(drawn[outcome]) for outcome in np.flatnonzero(drawn)}
