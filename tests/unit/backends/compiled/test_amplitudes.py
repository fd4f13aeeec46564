"""Compiled circuits against qiskit's own state vectors."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from qiskit import transpile
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.circuit import library as lib
from qiskit.quantum_info import SparsePauliOp, Statevector, random_unitary
from qiskit.transpiler import CouplingMap

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.nn.attention import CircuitBias
from tests.unit.backends.random_circuits import GATES, bound, random_circuit

X, W = ParameterVector("x", 2), ParameterVector("w", 3)
AFFINE = [X[0], 0.7 * W[0] - X[1] / 3 + 0.4, W[1], W[2] - X[0]]


def draws(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-4, 4, shape)


def expected_amplitudes(built: ParametrizedCircuit, x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.stack([Statevector(bound(built, row, w)).data for row in x])


def check(built: ParametrizedCircuit, seed: int = 0, rows: int = 2) -> None:
    """Amplitudes, probabilities and marginals agree with the state vector to 2e-13.

    Of this, 1.3e-13 is qiskit 2.3's own rounding of a controlled unitary; 2.6 stays below 1e-13.
    """
    x, w = draws(seed, rows, len(built.inputs)), draws(seed + 1, len(built.weights))
    compiled = CompiledCircuit(built)
    arguments = torch.from_numpy(x), torch.from_numpy(w)
    expected = expected_amplitudes(built, x, w)
    probabilities = np.abs(expected) ** 2
    basis = np.arange(2**built.num_qubits)
    signs = np.stack([2.0 * ((basis >> qubit) & 1) - 1 for qubit in range(built.num_qubits)])
    near = {"rtol": 0, "atol": 2e-13}
    np.testing.assert_allclose(compiled.amplitudes(*arguments), expected, **near)
    np.testing.assert_allclose(compiled.outputs(*arguments), probabilities, **near)
    np.testing.assert_allclose(compiled.marginals(*arguments), probabilities @ signs.T, **near)


def with_roles(circuit: QuantumCircuit) -> ParametrizedCircuit:
    present = set(circuit.parameters)
    return ParametrizedCircuit(
        circuit, [x for x in X if x in present], [w for w in W if w in present]
    )


def after_a_layer(gate: Any, num_qubits: int, seed: int = 3) -> ParametrizedCircuit:
    """Put a gate on shuffled qubits between two layers, so that each of its entries matters."""
    circuit = QuantumCircuit(num_qubits)
    shuffled = np.random.default_rng(seed).permutation(num_qubits)
    for layer in range(2):
        for qubit in range(num_qubits):
            circuit.u(*draws(seed + layer * num_qubits + qubit, 3), qubit)
        if layer == 0:
            circuit.append(gate, [int(qubit) for qubit in shuffled[: gate.num_qubits]])
    return with_roles(circuit)


def affine(gate: Any) -> Any:
    drawn = gate.to_mutable()
    drawn.params = AFFINE[: len(gate.params)]
    return drawn


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 25))
def test_random_circuits_agree_with_the_state_vector(seed: int, qubits: int, gates: int) -> None:
    check(random_circuit(seed, qubits, gates), seed)


@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 25))
def test_random_circuits_in_float32_agree_to_single_precision(
    seed: int, qubits: int, gates: int
) -> None:
    built = random_circuit(seed, qubits, gates)
    x, w = draws(seed, 3, 3).astype(np.float32), draws(seed + 1, 4).astype(np.float32)
    outputs = CompiledCircuit(built).outputs(torch.from_numpy(x), torch.from_numpy(w))
    assert outputs.dtype == torch.float32
    expected = np.abs(expected_amplitudes(built, x, w)) ** 2
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("name", GATES)
def test_each_standard_gate_agrees_with_the_state_vector(name: str) -> None:
    gate = affine(GATES[name])
    check(after_a_layer(gate, gate.num_qubits))
    check(after_a_layer(gate, gate.num_qubits + 1))


@pytest.mark.parametrize("state", [1, 2])
@pytest.mark.parametrize("name", [name for name, gate in GATES.items() if gate.num_qubits < 4])
def test_each_standard_gate_under_open_and_closed_controls(name: str, state: int) -> None:
    gate = affine(GATES[name])
    controlled = gate.control(2, ctrl_state=state, annotated=True)
    check(after_a_layer(controlled, controlled.num_qubits))
    if not name.startswith("rccx"):  # qiskit has no plain form of its control
        controlled = gate.control(2, ctrl_state=state, annotated=False)
        check(after_a_layer(controlled, controlled.num_qubits))


@pytest.mark.parametrize("name", [name for name, gate in GATES.items() if gate.num_qubits < 3])
def test_each_standard_gate_on_fresh_qubits(name: str) -> None:
    gate = affine(GATES[name])
    circuit = QuantumCircuit(3)
    circuit.append(gate, [2, 0][: gate.num_qubits])
    circuit.h(1)
    circuit.append(gate, [1, 2][: gate.num_qubits])
    check(with_roles(circuit))


@pytest.mark.parametrize(
    "gate",
    [
        lib.XGate().control(4, ctrl_state=5, annotated=False),
        lib.MCXGate(3),
        lib.MCPhaseGate(X[0], 3),
        lib.RYGate(X[0] + W[0]).control(3, ctrl_state=2, annotated=False),
        lib.RXGate(2 * X[0]).control(3, annotated=False),
        lib.RZGate(W[0]).control(3, ctrl_state=0, annotated=False),
        lib.UGate(X[0], W[0], 0.3).control(3, ctrl_state=6, annotated=False),
        lib.CUGate(X[0], W[0], 0.3, W[1]).control(2, ctrl_state=1, annotated=False),
        lib.U3Gate(X[0], W[0], X[1]).control(2, annotated=False),
        lib.SwapGate().control(2, ctrl_state=1, annotated=False),
        lib.UnitaryGate(random_unitary(4, seed=1)).control(2, ctrl_state=2, annotated=False),
        lib.GlobalPhaseGate(W[0] + X[0]).control(2, ctrl_state=2, annotated=False),
        lib.RYGate(X[0]).control(1, annotated=True).control(1, ctrl_state=0, annotated=True),
        lib.RXXGate(X[0]).control(2, ctrl_state=1, annotated=True).inverse(annotated=True),
        lib.RXGate(0.3).control(1, annotated=True).power(0.5, annotated=True),
        lib.U2Gate(X[0], W[0]).inverse(annotated=True).control(1, annotated=True),
        lib.SXGate().power(1 / 3),
        lib.RYGate(X[0]).power(3),
    ],
    ids=lambda gate: gate.name,
)
def test_multi_controlled_and_annotated_gates(gate: Any) -> None:
    check(after_a_layer(gate, gate.num_qubits))


def composite() -> QuantumCircuit:
    inner = QuantumCircuit(2, name="inner", global_phase=W[0] / 2 + 0.2)
    inner.rxx(X[0], 0, 1)
    inner.ry(W[1] - X[0], 1)
    outer = QuantumCircuit(3, name="outer", global_phase=X[1])
    outer.append(inner.to_gate(), [2, 0])
    outer.cz(0, 1)
    outer.append(inner.inverse().to_gate(), [1, 2])
    return outer


@pytest.mark.parametrize(
    "gate",
    [
        composite().to_gate(),
        composite().to_instruction(),
        composite().to_gate().inverse(),
        composite().to_gate().control(1, ctrl_state=0, annotated=False),
        composite().to_gate().control(2, ctrl_state=1, annotated=False),
        composite().to_gate().control(2, annotated=True),
        composite().to_gate().inverse(annotated=True).control(1, annotated=True),
        composite().repeat(2).to_gate(),
        composite()
        .assign_parameters({W[0]: 0.3, X[1]: W[2]})
        .to_gate()
        .control(1, annotated=False),
        composite()
        .assign_parameters(dict.fromkeys(composite().parameters, 0.4))
        .power(3)
        .to_gate(),
    ],
    ids=lambda gate: gate.name,
)
def test_nested_composite_gates_with_phases_of_their_own(gate: Any) -> None:
    check(after_a_layer(gate, gate.num_qubits))


def test_parameters_bound_after_the_composite_gate_was_made() -> None:
    circuit = QuantumCircuit(4)
    circuit.h(range(4))
    circuit.append(composite().to_gate().control(1, annotated=False), [3, 1, 0, 2])
    circuit.append(composite().to_gate(), [1, 0, 2])
    check(with_roles(circuit.assign_parameters({W[0]: 0.3, X[1]: 2 * W[2] - X[0]})))
    check(with_roles(circuit.assign_parameters({W[0]: 3 * W[0], X[0]: X[1], X[1]: X[0]})))


def library_circuits() -> dict[str, QuantumCircuit]:
    evolution = QuantumCircuit(3)
    evolution.h(range(3))
    commuting, others = SparsePauliOp(["XXI", "ZZI"], [0.3, -0.7]), SparsePauliOp(["XIZ", "ZZI"])
    evolution.append(lib.PauliEvolutionGate(commuting, time=X[0]), [2, 0, 1])
    evolution.append(lib.PauliEvolutionGate(others, time=0.7), [0, 2, 1])
    prepared = QuantumCircuit(3)
    amplitudes = np.random.default_rng(1).normal(size=8)
    prepared.append(lib.StatePreparation(amplitudes / np.linalg.norm(amplitudes)), [1, 2, 0])
    prepared.append(lib.DiagonalGate(np.exp(1j * draws(1, 4)).tolist()), [2, 1])
    prepared.append(lib.PermutationGate([2, 0, 1]), [0, 2, 1])
    prepared.append(lib.PauliGate("XYZ"), [0, 1, 2])
    prepared.ry(X[0], 1)
    encoded = lib.efficient_su2(3, reps=1).compose(lib.QFTGate(3), range(3))
    return {
        "efficient_su2 and QFT": encoded,
        "real_amplitudes": lib.real_amplitudes(4, reps=2, entanglement="full"),
        "pauli evolution": evolution,
        "state preparation, diagonal, permutation, Paulis": prepared,
    }


@pytest.mark.filterwarnings("ignore:splu converted")  # qiskit's own matrix of an evolution
@pytest.mark.filterwarnings("ignore:spsolve")
@pytest.mark.parametrize("name", library_circuits())
def test_circuits_of_the_library(name: str) -> None:
    circuit = library_circuits()[name]
    check(ParametrizedCircuit(circuit, [circuit.parameters[0]], list(circuit.parameters)[1:]))


@pytest.mark.parametrize(
    "circuit",
    [
        lib.z_feature_map(3, reps=2),
        lib.zz_feature_map(3),
        lib.pauli_feature_map(2, paulis=["X", "ZY", "ZZ"], alpha=0.7),
    ],
    ids=["Z", "ZZ", "Pauli"],
)
def test_feature_maps(circuit: QuantumCircuit) -> None:
    check(ParametrizedCircuit(circuit, list(circuit.parameters)))


@pytest.mark.parametrize("rows", [1, 2])
def test_circuits_without_gates_or_with_unused_qubits(rows: int) -> None:
    empty = QuantumCircuit(2)
    check(ParametrizedCircuit(empty, []), rows=rows)
    phase = QuantumCircuit(1, global_phase=X[0])
    check(with_roles(phase), rows=rows)
    unused = QuantumCircuit(4)
    unused.ry(X[0], 2)
    unused.x(3)
    check(with_roles(unused), rows=rows)


def test_one_parameter_in_many_gates_with_different_coefficients() -> None:
    circuit = QuantumCircuit(2)
    for factor in (1, -2.5, 1 / 3):
        circuit.rx(factor * X[0], 0)
        circuit.crz(X[0] * factor + W[0], 0, 1)
        circuit.ry((X[0] - X[0]) + factor, 1)
    circuit.rz((X[0] + 1) * (X[0] - 1) - X[0] * X[0], 0)
    check(with_roles(circuit))


def test_very_large_angles_agree_with_the_state_vector() -> None:
    built = with_roles(lib.efficient_su2(1, reps=1).assign_parameters([X[0], W[0], W[1], W[2]]))
    x, w = np.array([[3e5], [-8e5]]), draws(1, 3) * 1e5
    amplitudes = CompiledCircuit(built).amplitudes(torch.from_numpy(x), torch.from_numpy(w))
    # an angle of 1e6 is rounded to 1e-10
    np.testing.assert_allclose(amplitudes, expected_amplitudes(built, x, w), rtol=0, atol=1e-9)


def _laid_out(line: int) -> tuple[ParametrizedCircuit, ParametrizedCircuit]:
    """Return a circuit as it is written, and transpiled to a line, which moves its qubits."""
    circuit = QuantumCircuit(3)
    circuit.ry(2 * X[0], 0)
    circuit.cx(0, 2)
    circuit.ry(W[0], 1)
    circuit.cx(1, 2)
    circuit.cx(0, 1)
    circuit.rx(0.4, 2)
    moved = transpile(
        circuit,
        coupling_map=CouplingMap.from_line(line),
        basis_gates=["rz", "sx", "x", "cx"],
        seed_transpiler=1,
        optimization_level=2,
    )
    return tuple(ParametrizedCircuit(each, [X[0]], [W[0]]) for each in (circuit, moved))  # type: ignore[return-value]


@pytest.mark.parametrize("line", [3, 5])
def test_amplitudes_of_a_transpiled_circuit_are_those_of_the_circuit_as_written(line: int) -> None:
    written, moved = _laid_out(line)
    assert moved.circuit.layout.final_index_layout() != [0, 1, 2]
    x, w = draws(0, 4, 1), draws(1, 1)
    expected = expected_amplitudes(written, x, w)
    arguments = torch.from_numpy(x).requires_grad_(), torch.from_numpy(w).requires_grad_()
    compiled = CompiledCircuit(moved)
    found = compiled.amplitudes(*arguments)
    np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=1e-12)
    outputs = compiled.outputs(*arguments)
    torch.testing.assert_close(found.abs().square(), outputs, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(compiled.amplitudes, arguments)
    for readout in ("probability", "amplitude")[line > 3 :]:
        biases = [CircuitBias(each, readout=readout).double() for each in (written, moved)]  # type: ignore[arg-type]
        own, other = (bias(torch.tensor([0.2, 0.7, 1.1]).double()) for bias in biases)
        torch.testing.assert_close(own, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("turn", [np.pi, X[1]], ids=["always", "at most values"])
def test_amplitudes_are_refused_where_added_qubits_do_not_end_in_zero(turn: Any) -> None:
    circuit = _laid_out(5)[1].circuit.copy()
    places = circuit.layout.final_index_layout(filter_ancillas=True)
    circuit.ry(turn, next(place for place in range(5) if place not in places))
    built = ParametrizedCircuit(circuit, sorted(set(circuit.parameters) - {W[0]}, key=str), [W[0]])
    inputs, weights = torch.zeros(1, len(built.inputs)), torch.zeros(1)
    compiled = CompiledCircuit(built)
    assert compiled.outputs(inputs, weights).shape == (1, 8)
    with pytest.raises(ValueError, match=r"not in its layout do not end in 0.*as it is written"):
        compiled.amplitudes(inputs, weights)
    with pytest.raises(ValueError, match=r"not in its layout do not end in 0"):
        CircuitBias(built, readout="amplitude")
