"""The paper's circuit, with an attention score as rotation angle."""

from dataclasses import dataclass
from math import isfinite

from qiskit.circuit import Parameter

from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit
from lightning_qsgd.circuits.superposition import (
    Entanglement,
    entangled_pairs,
    layered_circuit,
    require_positive,
)


@dataclass(frozen=True)
class ScoreCircuit(CircuitSource):
    r"""The circuit that quantum attention evaluates for one score, Eq. 5 inside Eq. 4.

    .. math::
        C(s) = \prod_{r=1}^{reps} \Big[ U_{entangle} \prod_i R_z(\varphi_{ri})
               \, R_y(f s + \vartheta_{ri}) \Big] \prod_i H_i \, |0\rangle^{\otimes n}

    The paper writes :math:`C((QK^T)_{ijh})` and not how the score enters. That it is the angle of
    every Ry in every layer, beside the learned :math:`\vartheta`, is a reading, the one of
    `SuperpositionCircuit`, but for its factor pi: that bridges to Eq. 2, which has no part here.
    To the letter the score is the raw entry of :math:`QK^T`, which a factor of 1 takes; a factor
    of :math:`1/\sqrt{d_k}` is the other reading, the argument of the softmax.

    Args:
        num_qubits: Number of qubits n, at least 1.
        reps: Number of layers (the paper's circuit depth), at least 1.
        entanglement: Layout of the CNOTs: ``"none"``, ``"linear"``, ``"circular"`` or ``"full"``.
        factor: Radians per unit of score, f in the formula; finite and not 0.

    Raises:
        ValueError: If ``num_qubits`` or ``reps`` is below 1, the entanglement is unknown, or the
            factor is 0 or not finite.

    Example:
        >>> built = ScoreCircuit(num_qubits=4, reps=2).build()
        >>> len(built.inputs), len(built.weights)
        (1, 16)

    References:
        arXiv:2511.01918, Eq. 4, Eq. 5 and Table II.
    """

    num_qubits: int = 4
    reps: int = 2
    entanglement: Entanglement = "linear"
    factor: float = 1.0

    def __post_init__(self) -> None:
        require_positive("num_qubits", self.num_qubits)
        require_positive("reps", self.reps)
        entangled_pairs(1, self.entanglement)
        if not isfinite(self.factor) or self.factor == 0:
            raise ValueError(
                f"Expected `factor` to be finite and not 0, got {self.factor}: the circuit would "
                "not see the score. Use 1 for the score itself as the angle."
            )

    def build(self) -> ParametrizedCircuit:
        """Build the circuit; see `CircuitSource.build`."""
        score = Parameter("s")
        angles = [self.factor * score] * self.num_qubits
        circuit, weights = layered_circuit(angles, self.reps, self.entanglement)
        return ParametrizedCircuit(circuit, (score,), weights)
