"""Two classes by a circuit alone, as in qiskit-machine-learning's tutorial on TorchConnector."""

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit_machine_learning.neural_networks import EstimatorQNN, SamplerQNN
from torch.nn import functional as F

from lightning_qsgd.nn import CircuitLayer


def parity(outcome):
    """Interpret an outcome as a class."""
    return outcome.bit_count() % 2


def two_qubits():
    """A feature map for two numbers, and an ansatz with four weights."""
    features, ansatz = zz_feature_map(2), real_amplitudes(2, reps=1)
    circuit = QuantumCircuit(2).compose(features).compose(ansatz)
    roles = {"input_params": list(features.parameters), "weight_params": list(ansatz.parameters)}
    return {"circuit": circuit, **roles}


def learn(network, loss, steps=1):
    """Take steps of LBFGS, whose line search keeps it from running off."""
    optimizer = torch.optim.LBFGS(network.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for _ in range(steps):
        optimizer.step(closure)


def main(layer=CircuitLayer):
    """Train both networks, the layer being `CircuitLayer` or `TorchConnector`."""
    x = torch.rand(20, 2, generator=torch.Generator().manual_seed(42)) * 2 - 1
    label = (x.sum(1) >= 0).long()
    sign = label[:, None] * 2.0 - 1.0
    first = np.random.default_rng(0).uniform(-1, 1, 4)

    value = layer(EstimatorQNN(**two_qubits()), initial_weights=first)
    learn(value, lambda: F.mse_loss(value(x), sign, reduction="sum"))
    by_sign = (value(x).sign() == sign).float().mean().item()

    odds = layer(
        SamplerQNN(**two_qubits(), interpret=parity, output_shape=2), initial_weights=first
    )
    learn(odds, lambda: F.cross_entropy(odds(x), label))
    by_parity = (odds(x).argmax(1) == label).float().mean().item()
    return {"EstimatorQNN, share right": by_sign, "SamplerQNN, share right": by_parity}


if __name__ == "__main__":
    print(main())
