"""Gates that lose the state, and readouts that flip a bit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_qsgd.backends.samplers.noise import Noise, check_probability, gates_of

if TYPE_CHECKING:
    from qiskit_aer.noise import NoiseModel


@dataclass(frozen=True)
class DepolarizingNoise(Noise):
    r"""Replaces the state of a gate's qubits by the maximally mixed one, with a probability.

    After each one-qubit gate of the circuit as it is written,
    :math:`\rho \mapsto (1 - p) \rho + p\, \mathbb{1} / 2`, and likewise for pairs of qubits; gates
    on more qubits are decomposed first. So P(1) - P(0) of a qubit on its own shrinks by (1 - p)
    with every gate, and by (1 - 2 r) through the readout.

    Args:
        one_qubit: Probability p after each one-qubit gate, in [0, 1].
        two_qubit: Probability after each two-qubit gate, in [0, 1].
        readout: Probability r that a measured bit is flipped, in [0, 1].

    Raises:
        ValueError: If an argument is no probability.

    Example:
        >>> "h" in DepolarizingNoise(one_qubit=0.01).build().noise_instructions
        True
    """

    one_qubit: float = 0.001
    two_qubit: float = 0.01
    readout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("one_qubit", "two_qubit", "readout"):
            check_probability(name, getattr(self, name))

    def build(self) -> NoiseModel:
        """Build Aer's noise model; see `Noise.build`."""
        from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

        one, two = gates_of(1), gates_of(2)
        model = NoiseModel(basis_gates=[*one, *two])
        if self.one_qubit > 0:
            model.add_all_qubit_quantum_error(depolarizing_error(self.one_qubit, 1), one)
        if self.two_qubit > 0:
            model.add_all_qubit_quantum_error(depolarizing_error(self.two_qubit, 2), two)
        if self.readout > 0:
            right, wrong = 1 - self.readout, self.readout
            flips = ReadoutError([[right, wrong], [wrong, right]])
            model.add_all_qubit_readout_error(flips)
        return model
