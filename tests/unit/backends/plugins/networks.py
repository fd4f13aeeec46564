"""Networks for the tests of the plug-ins: unmodified ones, and the same with plug-ins."""

from typing import Any

import numpy as np
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit


def plain(built: ParametrizedCircuit, **settings: Any) -> SamplerQNN:
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        **({"input_gradients": True} | settings),
    )


def plugged(built: ParametrizedCircuit, **settings: Any) -> SamplerQNN:
    sampler = VectorizedSampler()
    manager = settings.get("pass_manager")
    gradient = VectorizedShiftGradient(sampler, pass_manager=manager)
    return plain(built, sampler=sampler, gradient=gradient, **settings)


def data(
    built: ParametrizedCircuit, batch: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(batch, len(built.inputs)))
    return inputs, generator.normal(size=len(built.weights))


def small() -> ParametrizedCircuit:
    return superposition_circuit(num_qubits=2, reps=1)


def parity(outcome: int) -> int:
    return outcome.bit_count() % 2


def corner(outcome: int) -> tuple[int, int]:
    return outcome % 2, outcome // 2


INTERPRETATIONS = {
    "probabilities": {},
    "parity": {"interpret": parity, "output_shape": 2},
    "matrix": {"interpret": corner, "output_shape": (2, 2)},
}
