"""A sampler whose shots are a pure function of a key per circuit."""

from collections.abc import Iterable, Sequence

import numpy as np
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

from lightning_qsgd.backends.drawn_counts import DrawnCounts
from lightning_qsgd.backends.evaluation import keys_for


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
        """Sample circuits that end in `measure_all`, row by row of their parameter values."""
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
        counts = DrawnCounts(drawn, pub.shape, pub.circuit.num_clbits)
        return SamplerPubResult(DataBin(**{pub.circuit.cregs[0].name: counts}, shape=pub.shape))

    def _draw(self, circuit: object, shots: int, key: int) -> dict[int, int]:
        """Draw the shots of one bound circuit: outcomes, and how often they occurred."""
        state = Statevector(circuit.remove_final_measurements(inplace=False))  # type: ignore[attr-defined]
        weights = state.probabilities()
        drawn = np.random.default_rng(key).multinomial(shots, weights / weights.sum())
        return {int(outcome): int(drawn[outcome]) for outcome in np.flatnonzero(drawn)}
