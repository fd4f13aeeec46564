"""Who takes part in `benchmarks.layer`: the same circuit, evaluated by different libraries.

Every contestant is built for one `Problem` and offers its forward pass and its gradients, in the
fastest eager form of several that were tried; where two forms are close, both take part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.plugins import VectorizedSampler, VectorizedShiftGradient
from lightning_qsgd.circuits import superposition_circuit
from lightning_qsgd.nn import CircuitLayer

REPS = 2
SHOTS = 1024


@dataclass(frozen=True)
class Problem:
    """One batch for the paper's circuit, in float32.

    Attributes:
        inputs: Shape (B, n).
        weights: Shape (2 * REPS * n,), in radians.
        cotangent: Gradient of the outputs that is sent back, shape (B, n).
    """

    inputs: Tensor
    weights: Tensor
    cotangent: Tensor

    @classmethod
    def draw(cls, num_qubits: int, batch: int) -> Problem:
        """Draw a problem; the same one at each call."""
        generator = torch.Generator().manual_seed(1000 * num_qubits + batch)
        shapes = (batch, num_qubits), (2 * REPS * num_qubits,), (batch, num_qubits)
        return cls(*(torch.randn(shape, generator=generator) for shape in shapes))

    @property
    def num_qubits(self) -> int:
        """Number of qubits n."""
        return self.inputs.shape[1]


@dataclass(frozen=True)
class Passes:
    """What is timed.

    Attributes:
        forward: Returns P(1) - P(0) of each qubit, shape (B, n), without a graph.
        both: Runs forward and backward; returns the gradients of inputs and weights.
    """

    forward: Callable[[], Tensor]
    both: Callable[[], tuple[Tensor, Tensor]]


def _by_autograd(problem: Problem, outputs: Callable[[Tensor, Tensor], Tensor]) -> Passes:
    inputs = problem.inputs.clone().requires_grad_()
    weights = problem.weights.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return outputs(inputs, weights)

    def both() -> tuple[Tensor, Tensor]:
        result = outputs(inputs, weights)
        by_inputs, by_weights = torch.autograd.grad(result, (inputs, weights), problem.cotangent)
        return by_inputs, by_weights

    return Passes(forward, both)


def _of_module(problem: Problem, module: Any) -> Passes:
    """Time a module that returns the probabilities of all outcomes, qubit 0 least significant."""
    signs = _signs(problem.num_qubits, range(problem.num_qubits))
    inputs = problem.inputs.clone().requires_grad_()

    def forward() -> Tensor:
        with torch.no_grad():
            return module(inputs) @ signs

    def both() -> tuple[Tensor, Tensor]:
        result = module(inputs) @ signs
        arguments = (inputs, module.weight)
        by_inputs, by_weights = torch.autograd.grad(result, arguments, problem.cotangent)
        return by_inputs, by_weights

    return Passes(forward, both)


def _signs(num_qubits: int, places: range) -> Tensor:
    """Return +1 where a qubit is 1 and -1 where it is 0, shape (2^n, n), by the qubits' places."""
    basis = torch.arange(2**num_qubits)[:, None]
    return (((basis >> torch.tensor(places)) & 1) * 2 - 1).float()


def compiled(problem: Problem) -> Passes:
    """Our `CompiledCircuit`."""
    circuit = CompiledCircuit(superposition_circuit(problem.num_qubits, REPS))
    return _by_autograd(problem, circuit.marginals)


def layer(problem: Problem) -> Passes:
    """Our `CircuitLayer`."""
    circuit = superposition_circuit(problem.num_qubits, REPS)
    return _of_module(problem, CircuitLayer(circuit, initial_weights=problem.weights))


def _network(problem: Problem, **settings: Any) -> Passes:
    from qiskit_machine_learning.connectors import TorchConnector
    from qiskit_machine_learning.neural_networks import SamplerQNN

    built = superposition_circuit(problem.num_qubits, REPS)
    network = SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
        **settings,
    )
    return _of_module(problem, TorchConnector(network, initial_weights=problem.weights.numpy()))


def sampler_qnn(problem: Problem) -> Passes:
    """`SamplerQNN` and `TorchConnector`, exact."""
    return _network(problem)


def sampler_qnn_with_plugins(problem: Problem) -> Passes:
    """The same with our sampler and gradient plugged in."""
    sampler = VectorizedSampler()
    return _network(problem, sampler=sampler, gradient=VectorizedShiftGradient(sampler))


def sampler_qnn_on_aer(problem: Problem) -> Passes:
    """`SamplerQNN` and `TorchConnector` with shots on Aer."""
    from qiskit_aer.primitives import SamplerV2

    options = {"backend_options": {"max_parallel_threads": 1}}
    return _network(problem, sampler=SamplerV2(default_shots=SHOTS, seed=0, options=options))


def pennylane_expectations(problem: Problem) -> Passes:
    """PennyLane `default.qubit`, backprop, parameter broadcasting, expectation values."""
    import pennylane as qml

    wires = range(problem.num_qubits)
    node = _pennylane(problem, lambda: [qml.expval(qml.PauliZ(wire)) for wire in wires])
    return _by_autograd(problem, lambda x, w: -torch.stack(node(x, w), -1))


def pennylane_probabilities(problem: Problem) -> Passes:
    """The same, reading probabilities: one reduction instead of n."""
    import pennylane as qml

    wires = range(problem.num_qubits)
    signs = _signs(len(wires), wires[::-1])
    node = _pennylane(problem, lambda: qml.probs(wires=wires))
    return _by_autograd(problem, lambda x, w: node(x, w).to(x.dtype) @ signs)


def _pennylane(problem: Problem, measure: Callable[[], Any]) -> Callable[[Tensor, Tensor], Any]:
    import pennylane as qml

    n = problem.num_qubits
    device = qml.device("default.qubit", wires=n)

    @qml.qnode(device, interface="torch", diff_method="backprop")
    def node(x: Tensor, w: Tensor) -> Any:
        _gates(n, x, w)
        return measure()

    return node


def lightning_qubit(problem: Problem) -> Passes:
    """PennyLane's `lightning.qubit` (C++), adjoint gradients, single precision, row by row."""
    import numpy as np
    import pennylane as qml

    n = problem.num_qubits
    device = qml.device("lightning.qubit", wires=n, c_dtype=np.complex64)

    @qml.qnode(device, interface="torch", diff_method="adjoint")
    def node(x: Tensor, w: Tensor) -> Any:
        _gates(n, x, w)
        return [qml.expval(qml.PauliZ(wire)) for wire in range(n)]

    def outputs(inputs: Tensor, weights: Tensor) -> Tensor:
        rows = [torch.stack(node(row, weights)) for row in inputs]
        return -torch.stack(rows).to(inputs.dtype)

    return _by_autograd(problem, outputs)


def _gates(n: int, x: Tensor, w: Tensor) -> None:
    """Queue the paper's circuit for inputs of shape (..., n)."""
    import pennylane as qml

    for qubit in range(n):
        qml.Hadamard(qubit)
    for first in range(0, 2 * REPS * n, 2 * n):
        for qubit in range(n):
            qml.RY(pi * x[..., qubit] + w[first + qubit], qubit)
            qml.RZ(w[first + n + qubit], qubit)
        for qubit in range(n - 1):
            qml.CNOT([qubit, qubit + 1])


def compiled_by_torch(problem: Problem) -> Passes:
    """Our `CompiledCircuit` with `torch_compile=True`."""
    built = superposition_circuit(problem.num_qubits, REPS)
    return _by_autograd(problem, CompiledCircuit(built, torch_compile=True).marginals)


def tensorcircuit_vmap(problem: Problem) -> Passes:
    """tensorcircuit-ng on torch: `K.vmap` over inputs, the probabilities read from the state.

    Reading the state once is faster than n calls of `expectation_ps`.
    """
    state, signs, backend = _tensorcircuit(problem)
    states = backend.vmap(state, vectorized_argnums=0)

    def outputs(inputs: Tensor, weights: Tensor) -> Tensor:
        amplitudes = states(inputs, weights)
        return (amplitudes.real**2 + amplitudes.imag**2) @ signs

    return _by_autograd(problem, outputs)


def tensorcircuit_value_and_grad(problem: Problem) -> Passes:
    """The same with `K.vectorized_value_and_grad` for the gradients."""
    state, signs, backend = _tensorcircuit(problem)

    def loss(inputs: Tensor, cotangent: Tensor, weights: Tensor) -> Tensor:
        amplitudes = state(inputs, weights)
        return (((amplitudes.real**2 + amplitudes.imag**2) @ signs) * cotangent).sum()

    run = backend.vectorized_value_and_grad(loss, argnums=(0, 2), vectorized_argnums=(0, 1))

    def both() -> tuple[Tensor, Tensor]:
        return run(problem.inputs, problem.cotangent, problem.weights)[1]

    return Passes(tensorcircuit_vmap(problem).forward, both)


def _tensorcircuit(problem: Problem) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Any]:
    import tensorcircuit

    backend = tensorcircuit.set_backend("pytorch")
    tensorcircuit.set_dtype("complex64")
    n = problem.num_qubits

    def state(x: Tensor, w: Tensor) -> Tensor:
        circuit = tensorcircuit.Circuit(n)
        for qubit in range(n):
            circuit.h(qubit)
        for first in range(0, 2 * REPS * n, 2 * n):
            for qubit in range(n):
                circuit.ry(qubit, theta=pi * x[qubit] + w[first + qubit])
                circuit.rz(qubit, theta=w[first + n + qubit])
            for qubit in range(n - 1):
                circuit.cnot(qubit, qubit + 1)
        return circuit.state()

    return state, _signs(n, range(n)[::-1]), backend
