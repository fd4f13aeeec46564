"""Networks of qiskit-machine-learning, which several files hold ours against."""

from typing import Any

from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.circuits import ParametrizedCircuit


def qnn_of(built: ParametrizedCircuit, **extra: Any) -> SamplerQNN:
    """Return a network of a circuit that is differentiated by inputs and weights."""
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
        **extra,
    )
