"""Random parametrised circuits over all gates that qiskit knows, for the tests of the backends."""

from typing import Any

import numpy as np
from qiskit.circuit import ControlledGate, Gate, ParameterVector, QuantumCircuit
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping
from qiskit.quantum_info import random_unitary

from lightning_qsgd.circuits import ParametrizedCircuit

GATES: dict[str, Gate] = {
    name: gate
    for name, gate in sorted(get_standard_gate_name_mapping().items())
    if isinstance(gate, Gate) and gate.num_qubits > 0
}


def random_circuit(
    seed: int, num_qubits: int, num_gates: int, gates: dict[str, Gate] = GATES
) -> ParametrizedCircuit:
    """Draw gates with angles that are affine in 3 inputs and 4 weights, each of which occurs."""
    generator = np.random.default_rng(seed)
    inputs, weights = ParameterVector("x", 3), ParameterVector("w", 4)
    circuit = QuantumCircuit(num_qubits, global_phase=weights[0] * 0.3 + 0.1)
    for parameter in [*inputs, *weights]:
        circuit.ry(parameter, int(generator.integers(num_qubits)))
    names = sorted(name for name, gate in gates.items() if gate.num_qubits <= num_qubits)
    for _ in range(num_gates):
        gate = _drawn(generator, gates[str(generator.choice(names))], [*inputs, *weights])
        gate = _varied(generator, gate, num_qubits)
        qubits = generator.permutation(num_qubits)[: gate.num_qubits]
        circuit.append(gate, [int(qubit) for qubit in qubits])
        if generator.random() < 0.2:
            circuit.barrier()
    return ParametrizedCircuit(circuit, inputs, weights)


def _drawn(generator: np.random.Generator, gate: Gate, parameters: list[Any]) -> Gate:
    """Give a gate random angles: constants, parameters, or sums of scaled parameters."""
    angles = []
    for _ in gate.params:
        first, second = generator.choice(len(parameters), 2, replace=False)
        number = float(generator.uniform(-4, 4))
        angles.append(
            [
                number,
                parameters[first],
                number * parameters[first] - parameters[second] / 3 + 0.7,
            ][generator.integers(3)]
        )
    drawn = gate.to_mutable()
    drawn.params = angles
    return drawn


def _varied(generator: np.random.Generator, gate: Gate, num_qubits: int) -> Gate:
    """Sometimes control a gate, open a control, or take a random unitary instead."""
    draw = generator.random()
    if draw < 0.15:
        size = int(generator.integers(1, min(3, num_qubits) + 1))
        return UnitaryGate(random_unitary(2**size, seed=int(generator.integers(2**31))))
    if draw < 0.35 and gate.num_qubits < num_qubits and not gate.name.startswith(("rccx", "rcccx")):
        state = int(generator.integers(2))
        return gate.control(1, ctrl_state=state, annotated=False)
    if draw < 0.5 and isinstance(gate, ControlledGate):
        gate.ctrl_state = int(generator.integers(2**gate.num_ctrl_qubits))
    return gate


def bound(built: ParametrizedCircuit, inputs: Any, weights: Any) -> QuantumCircuit:
    """Bind one row of inputs and the weights."""
    names = [*built.inputs, *built.weights]
    values = [*map(float, inputs), *map(float, weights)]
    return built.circuit.assign_parameters(dict(zip(names, values, strict=True)))
