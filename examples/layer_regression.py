"""A noisy sine fitted by one qubit, as in qiskit-machine-learning's tutorial on TorchConnector."""

import numpy as np
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from qiskit_machine_learning.neural_networks import EstimatorQNN
from torch.nn import functional as F

from lightning_qsgd.nn import CircuitLayer


def main(layer=CircuitLayer, steps=1):
    """Train, the layer being `CircuitLayer` or `TorchConnector`; return the squared error."""
    generator = torch.Generator().manual_seed(42)
    x = (torch.rand(20, 1, generator=generator) * 2 - 1) * torch.pi
    y = x.sin() + 0.2 * (torch.rand(20, 1, generator=generator) * 2 - 1)

    value, weight = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(value, 0)
    circuit.ry(weight, 0)
    network = EstimatorQNN(circuit=circuit, input_params=[value], weight_params=[weight])
    model = layer(network, initial_weights=np.array([0.3]))

    optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y, reduction="sum")
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)
    return {"mean squared error": F.mse_loss(model(x), y).item()}


if __name__ == "__main__":
    print(main())
