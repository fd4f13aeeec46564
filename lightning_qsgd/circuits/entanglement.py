"""Which pairs of qubits a layer of CNOTs joins."""

from itertools import combinations
from typing import Literal, get_args

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
