"""Digits 0 and 1 by a convolutional network that ends in a circuit, as in the same tutorial."""

import numpy as np
import torch
from qiskit.circuit import QuantumCircuit
from qiskit.circuit.library import real_amplitudes, zz_feature_map
from qiskit_machine_learning.neural_networks import EstimatorQNN
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from lightning_qsgd.nn import CircuitLayer


def hybrid(layer):
    """Two numbers from an image go through a circuit of two qubits."""
    features, ansatz = zz_feature_map(2), real_amplitudes(2, reps=1)
    circuit = QuantumCircuit(2).compose(features).compose(ansatz)
    roles = {"input_params": list(features.parameters), "weight_params": list(ansatz.parameters)}
    network = EstimatorQNN(circuit=circuit, **roles, input_gradients=True)
    first = np.random.default_rng(3).uniform(-0.5, 0.5, 4)
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d()),
        *(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, 2)),
        *(layer(network, initial_weights=first), nn.Linear(1, 1)),
    )


def main(layer=CircuitLayer, epochs=5):
    """Train on 100 images, one at a time; return the share of 100 others that is right."""
    torch.manual_seed(0)
    digits = load_digits(n_class=2)
    images = torch.tensor(digits.images[:200, None] / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target[:200])
    model = hybrid(layer)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    torch.manual_seed(1)
    for _ in range(epochs):
        for row in torch.randperm(100):
            optimizer.zero_grad()
            value = model(images[row][None])
            F.nll_loss(torch.cat((value, 1 - value), -1), labels[row][None]).backward()
            optimizer.step()
    with torch.no_grad():
        found = model.eval()(images[100:]) < 0.5
    return {"share right": (found[:, 0].long() == labels[100:]).float().mean().item()}


if __name__ == "__main__":
    print(main())
