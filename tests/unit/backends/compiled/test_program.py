"""Laws of the program: what merges, what vanishes, and that no order of commuting gates matters."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.quantum_info import random_unitary

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.compiled.lowering import lower
from lightning_qsgd.circuits import ENTANGLEMENTS, ParametrizedCircuit, superposition_circuit
from lightning_qsgd.circuits.measurements import unitary_part

W = ParameterVector("w", 6)


def kinds(circuit: QuantumCircuit) -> list[str]:
    bare, _ = unitary_part(circuit)
    index = {parameter: place for place, parameter in enumerate(circuit.parameters)}
    return [type(o).__name__ for o in lower(bare, index, lambda vectors: None).operations]


def amplitudes(circuit: QuantumCircuit) -> torch.Tensor:
    present = list(circuit.parameters)
    weights = torch.linspace(-2, 3, len(present), dtype=torch.float64)
    compiled = CompiledCircuit(ParametrizedCircuit(circuit, [], present))
    return compiled.amplitudes(torch.zeros(1, 0, dtype=torch.float64), weights)


def test_chain_of_cnots_is_one_permutation_and_its_inverse_undoes_it() -> None:
    circuit = QuantumCircuit(4)
    for qubit in range(4):
        circuit.ry(W[qubit], qubit)
    chain = QuantumCircuit(4)
    for qubit in range(3):
        chain.cx(qubit, qubit + 1)
    chain.swap(0, 2)
    chain.ccx(0, 1, 3)
    assert kinds(circuit.compose(chain)) == ["Rotations", "Permutation"]
    assert kinds(circuit.compose(chain).compose(chain.inverse())) == ["Rotations"]


def test_papers_circuit_is_rotations_phases_and_permutation_of_each_layer() -> None:
    built = superposition_circuit(num_qubits=4, reps=2)
    layer = ["Rotations", "Permutation", "Phases"]
    assert kinds(built.circuit) == layer * 2
    assert kinds(superposition_circuit(4, reps=5).circuit) == layer * 5


def test_hadamard_gates_on_fresh_qubits_vanish_into_the_first_rotations() -> None:
    circuit = QuantumCircuit(3)
    for qubit in range(3):
        circuit.ry(W[qubit], qubit)
    with_hadamards = QuantumCircuit(3)
    with_hadamards.h(range(3))
    assert kinds(with_hadamards.compose(circuit)) == kinds(circuit) == ["Rotations"]


def test_diagonal_gates_between_two_layers_are_one_operation() -> None:
    circuit = QuantumCircuit(3)
    circuit.h(range(3))
    for gate, qubits in (("rz", [0]), ("p", [1]), ("rzz", [0, 2]), ("cp", [1, 2]), ("crz", [2, 0])):
        getattr(circuit, gate)(W[0], *qubits)
    circuit.t(0)
    circuit.ccz(0, 1, 2)
    assert kinds(circuit) == ["Rotations", "Phases"]


def test_gates_that_cannot_act_leave_nothing() -> None:
    circuit = QuantumCircuit(3)
    circuit.ry(W[0], 0)
    circuit.cx(1, 0)  # the control is |0>
    circuit.crx(W[1], 2, 0)
    circuit.cz(0, 1)
    circuit.rz(W[2], 2)  # a phase of all amplitudes
    assert kinds(circuit) == ["Rotations", "Phases"]
    assert kinds(circuit.compose(QuantumCircuit(3, global_phase=W[2] / 2))) == ["Rotations"]


def test_last_phases_and_permutation_cost_nothing_where_probabilities_are_read() -> None:
    built = superposition_circuit(num_qubits=3, reps=1)
    compiled = CompiledCircuit(built)
    x, w = torch.rand(2, 3), torch.rand(6)
    for evaluate in (compiled.outputs, compiled.marginals, compiled.amplitudes):
        evaluate(x, w)
    steps = [[type(step).__name__ for step in plan._steps] for plan in compiled._plans.values()]
    assert steps[0] == steps[1] == ["ProductStep"]
    assert len(steps[2]) > 1


def commuting_blocks(seed: int) -> list[list[QuantumCircuit]]:
    """Draw layers of gates that commute: on different qubits, or diagonal."""
    generator = np.random.default_rng(seed)
    layers = []
    for layer in range(4):
        gates = []
        qubits = [int(qubit) for qubit in generator.permutation(5)]
        for place, name in enumerate(generator.choice(["ry", "crx", "cx", "u", "swap"], 2)):
            gate = QuantumCircuit(5)
            first, second = qubits[2 * place : 2 * place + 2]
            match name:
                case "ry":
                    gate.ry(W[layer], first)
                case "crx":
                    gate.crx(W[layer + 1], first, second)
                case "u":
                    gate.unitary(random_unitary(4, seed=seed), [first, second])
                case _:
                    getattr(gate, str(name))(first, second)
            gates.append(gate)
        diagonal = []
        for first, second in ((0, 1), (1, 3), (4, 2)):
            gate = QuantumCircuit(5)
            gate.crz(W[layer] + first, first, second)
            gate.p(W[5], second)
            diagonal.append(gate)
        layers += [gates, diagonal]
    return layers


@given(st.integers(0, 10**6))
def test_reordering_gates_that_commute_changes_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    plain, shuffled = QuantumCircuit(5), QuantumCircuit(5)
    plain.h(range(3))
    shuffled.h(range(3))
    for layer in commuting_blocks(seed):
        for gate in layer:
            plain.compose(gate, inplace=True)
        for place in generator.permutation(len(layer)):
            shuffled.compose(layer[place], inplace=True)
    torch.testing.assert_close(amplitudes(shuffled), amplitudes(plain), rtol=0, atol=1e-13)


@given(st.integers(0, 10**6))
def test_circuit_followed_by_its_inverse_is_the_identity(seed: int) -> None:
    circuit = QuantumCircuit(5)
    for layer in commuting_blocks(seed):
        for gate in layer:
            circuit.compose(gate, inplace=True)
    expected = torch.zeros(1, 32, dtype=torch.complex128)
    expected[0, 0] = 1
    result = amplitudes(circuit.compose(circuit.inverse()))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-13)


def test_every_entanglement_of_the_paper_is_one_permutation() -> None:
    for entanglement in ENTANGLEMENTS:
        found = kinds(superposition_circuit(4, 2, entanglement).circuit)
        assert found.count("Permutation") == (0 if entanglement == "none" else 2)
