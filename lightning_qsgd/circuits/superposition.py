"""The paper's circuit: Hadamard, Ry and Rz on each qubit, CNOTs between neighbours.

Fed with model parameters it perturbs, fed with an attention score it biases attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, pi
from typing import Literal, get_args

from qiskit.circuit import Parameter, ParameterExpression, ParameterVector, QuantumCircuit
from typing_extensions import override

from lightning_qsgd.circuits.parametrized import CircuitSource, ParametrizedCircuit

Entanglement = Literal["none", "linear", "circular", "full"]
ENTANGLEMENTS: tuple[str, ...] = get_args(Entanglement)


def entangled_pairs(num_qubits: int, entanglement: Entanglement) -> list[tuple[int, int]]:
    """List the (control, target) pairs of one entangling layer, in the order of application.

    ``linear`` is the paper's "CNOT between adjacent qubits"; ``circular`` closes that chain into a
    ring (for two qubits there is no second edge to close it with); ``full`` joins every pair.

    Args:
        num_qubits: Number of qubits, at least 1.
        entanglement: One of ``"none"``, ``"linear"``, ``"circular"``, ``"full"``.

    Raises:
        ValueError: For an unknown entanglement.

    Example:
        >>> entangled_pairs(3, "circular")
        [(0, 1), (1, 2), (2, 0)]
    """
    chain = [(qubit, qubit + 1) for qubit in range(num_qubits - 1)]
    match entanglement:
        case "none":
            return []
        case "linear":
            return chain
        case "circular":
            return [*chain, (num_qubits - 1, 0)] if num_qubits > 2 else chain
        case "full":
            return list(combinations(range(num_qubits), 2))
    raise ValueError(
        f"Unknown entanglement {entanglement!r}: there is no such layout of CNOTs. "
        f"Choose one of {', '.join(ENTANGLEMENTS)}."
    )


def superposition_circuit(
    num_qubits: int = 4, reps: int = 2, entanglement: Entanglement = "linear"
) -> ParametrizedCircuit:
    r"""Build the circuit of Eq. 5, fed with model parameters.

    .. math::
        C(x) = \prod_{r=1}^{reps} \Big[ U_{entangle} \prod_i R_z(\varphi_{ri})
               \, R_y(\pi x_i + \vartheta_{ri}) \Big] \prod_i H_i \, |0\rangle^{\otimes n}

    The factor pi is the bridge to Eq. 2: for one layer without entanglement and zero weights,
    P(1) - P(0) of qubit i is sin(pi x_i). The paper does not say how the layers of its "depth 2"
    see the data: feeding the input again in every layer is a reading. So is applying the Hadamard
    gates once only.

    Args:
        num_qubits: Number of qubits n, at least 1.
        reps: Number of layers (the paper's circuit depth), at least 1.
        entanglement: Layout of the CNOTs of each layer.

    Returns:
        The circuit with n inputs and 2 * reps * n weights, layer by layer: n offsets of the Ry
        angles, then n angles of the Rz rotations. Zero weights leave only the inputs.

    Raises:
        ValueError: If ``num_qubits`` or ``reps`` is outside [1, 1000], or the entanglement is
            unknown.

    Example:
        >>> built = superposition_circuit(num_qubits=2, reps=1, entanglement="none")
        >>> built.circuit.count_ops()["h"], len(built.inputs), len(built.weights)
        (2, 2, 4)

    References:
        arXiv:2511.01918, Eq. 5 and Table II.
    """
    require_buildable("num_qubits", num_qubits)
    inputs = ParameterVector("x", num_qubits)
    angles = [pi * entry for entry in inputs]
    circuit, weights = layered_circuit(angles, reps, entanglement)
    return ParametrizedCircuit(circuit, tuple(inputs), weights)


def layered_circuit(
    angles: Sequence[ParameterExpression], reps: int, entanglement: Entanglement
) -> tuple[QuantumCircuit, tuple[Parameter, ...]]:
    """Build the gates of Eq. 5 around what enters the Ry rotations.

    Args:
        angles: What enters the Ry of each qubit in every layer, in radians, one per qubit.
        reps: Number of layers, at least 1.
        entanglement: Layout of the CNOTs of each layer.

    Returns:
        The circuit and its weights, 2 * reps * n of them, as in `superposition_circuit`.

    Raises:
        ValueError: If there is no qubit or no layer, or the entanglement is unknown.

    Example:
        >>> circuit, weights = layered_circuit([Parameter("s")], reps=1, entanglement="none")
        >>> circuit.depth(), len(weights)
        (3, 2)
    """
    num_qubits = len(angles)
    require_buildable("num_qubits", num_qubits)
    require_buildable("reps", reps)
    pairs = entangled_pairs(num_qubits, entanglement)
    weights = ParameterVector("w", 2 * reps * num_qubits)
    circuit = QuantumCircuit(num_qubits, name="superposition")
    circuit.h(range(num_qubits))
    for layer in range(reps):
        first = 2 * layer * num_qubits
        for qubit, angle in enumerate(angles):
            circuit.ry(angle + weights[first + qubit], qubit)
            circuit.rz(weights[first + num_qubits + qubit], qubit)
        for control, target in pairs:
            circuit.cx(control, target)
    return circuit, tuple(weights)


@dataclass(frozen=True)
class SuperpositionCircuit(CircuitSource):
    """The paper's circuit as a config names it; see `superposition_circuit`.

    Args:
        num_qubits: Number of qubits n, at least 1, which is the number of coordinates in a block.
        reps: Number of layers (the paper's circuit depth), at least 1.
        entanglement: Layout of the CNOTs: ``"none"``, ``"linear"``, ``"circular"`` or ``"full"``.

    Raises:
        ValueError: If ``num_qubits`` or ``reps`` is outside [1, 1000], or the entanglement is
            unknown.

    Example:
        >>> len(SuperpositionCircuit(num_qubits=4, reps=2).build().weights)
        16
    """

    num_qubits: int = 4
    reps: int = 2
    entanglement: Entanglement = "linear"

    def __post_init__(self) -> None:
        require_buildable("num_qubits", self.num_qubits)
        require_buildable("reps", self.reps)
        entangled_pairs(1, self.entanglement)

    def build(self) -> ParametrizedCircuit:
        """Build the circuit; see `superposition_circuit`."""
        return superposition_circuit(self.num_qubits, self.reps, self.entanglement)


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
        ValueError: If ``num_qubits`` or ``reps`` is outside [1, 1000], the entanglement is unknown,
            or the factor is 0 or not finite.

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
        require_buildable("num_qubits", self.num_qubits)
        require_buildable("reps", self.reps)
        entangled_pairs(1, self.entanglement)
        if not isfinite(self.factor) or self.factor == 0:
            raise ValueError(
                f"Expected `factor` to be finite and not 0, got {self.factor}: the circuit would "
                "not see the score. Use 1 for the score itself as the angle."
            )

    @override
    def build(self) -> ParametrizedCircuit:
        score = Parameter("s")
        angles = [self.factor * score] * self.num_qubits
        circuit, weights = layered_circuit(angles, self.reps, self.entanglement)
        return ParametrizedCircuit(circuit, (score,), weights)


MOST = 1000
"""Qubits, and layers: building four qubits with as many layers takes 18 seconds."""


def require_buildable(name: str, value: int) -> None:
    """Refuse a circuit without qubits or layers, or one that would not be built within hours.

    Raises:
        ValueError: If `value` is below 1 or above 1000.
    """
    if value > MOST:
        raise ValueError(
            f"Expected `{name}` to be at most {MOST}, got {value}: a circuit of that size would "
            "take hours to build. The paper uses num_qubits=4 and reps=2."
        )
    if value < 1:
        raise ValueError(
            f"Expected `{name}` to be at least 1, got {value}: the circuit would be empty. "
            f"The paper uses num_qubits=4 and reps=2."
        )
