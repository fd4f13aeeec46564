"""Bring a circuit of your own: as a perturbation of AdamW, and as a layer of the network.

python examples/own_circuit.py
"""

from math import pi

import torch
from qiskit.circuit import ParameterVector, QuantumCircuit
from torch import nn

from lightning_qsgd import (
    AllEntries,
    CompiledBackend,
    ParametrizedCircuit,
    Perturbation,
    PerturbedOptimizer,
)
from lightning_qsgd.nn import CircuitLayer


def ansatz(num_qubits: int) -> ParametrizedCircuit:
    """Encode inputs as angles, then entangle the qubits in a ring by learned amounts."""
    x, w = ParameterVector("x", num_qubits), ParameterVector("w", num_qubits)
    circuit = QuantumCircuit(num_qubits)
    for qubit in range(num_qubits):
        circuit.h(qubit)
        circuit.ry(pi * x[qubit], qubit)
    for qubit in range(num_qubits):
        circuit.rxx(w[qubit], qubit, (qubit + 1) % num_qubits)
    return ParametrizedCircuit(circuit, inputs=x, weights=w)


def main(steps: int = 201) -> float:
    """Fit points on a circle, with the circuit in the network and in the optimizer."""
    torch.manual_seed(0)
    circuit = ansatz(3)
    layer = CircuitLayer(circuit)
    print(layer.draw())
    network = nn.Sequential(nn.Linear(2, 3), layer, nn.Linear(8, 1))
    perturbation = Perturbation(CompiledBackend(circuit, weight_seed=0), AllEntries(), strength=0.1)
    optimizer = PerturbedOptimizer(torch.optim.AdamW(network.parameters(), lr=0.02), perturbation)
    points = torch.rand(128, 2) * 2 - 1
    labels = (points.norm(dim=1, keepdim=True) < 0.7).float()
    for step in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(network(points), labels)
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step:3d}: loss {loss.item():.3f}")
    return loss.item()


if __name__ == "__main__":
    main()
