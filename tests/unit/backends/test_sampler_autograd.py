"""Gradients through a SamplerQNN against finite differences and against its own Jacobians."""

import copy
import pickle
from typing import Any

import pytest
import torch
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends.sampler_autograd import sampler_forward
from lightning_qsgd.circuits import superposition_circuit


def network(input_gradients: bool = True, **settings: Any) -> SamplerQNN:
    built = superposition_circuit(num_qubits=2, reps=2)
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=input_gradients,
        **settings,
    )


def arguments(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(3, 2, generator=generator, dtype=torch.float64).to(dtype)
    weights = torch.randn(8, generator=generator, dtype=torch.float64).to(dtype)
    return inputs.requires_grad_(), weights.requires_grad_()


def parity(outcome: int) -> int:
    return outcome.bit_count() % 2


def corner(outcome: int) -> tuple[int, int]:
    return outcome % 2, outcome // 2


@pytest.mark.parametrize(
    "settings",
    [{}, {"interpret": parity, "output_shape": 2}, {"interpret": corner, "output_shape": (2, 2)}],
    ids=["probabilities", "parity", "matrix"],
)
def test_gradients_agree_with_finite_differences(settings: dict[str, Any]) -> None:
    qnn = network(**settings)
    inputs, weights = arguments()
    assert torch.autograd.gradcheck(lambda x, w: sampler_forward(qnn, x, w), (inputs, weights))


def test_outputs_are_the_networks_own_in_float64() -> None:
    qnn = network()
    inputs, weights = arguments()
    expected = torch.from_numpy(qnn.forward(inputs.detach().numpy(), weights.detach().numpy()))
    outputs = sampler_forward(qnn, inputs, weights)
    assert outputs.dtype == torch.float64
    assert torch.equal(outputs, expected)


def test_matrix_of_outputs_keeps_its_shape() -> None:
    outputs = sampler_forward(network(interpret=corner, output_shape=(2, 2)), *arguments())
    assert outputs.shape == (3, 2, 2)
    torch.testing.assert_close(outputs.sum((1, 2)), torch.ones(3, dtype=torch.float64))


def test_gradients_have_the_dtype_of_what_they_belong_to() -> None:
    inputs, weights = arguments()
    single = inputs.detach().float().requires_grad_()
    sampler_forward(network(), single, weights)[:, 0].sum().backward()
    sampler_forward(network(), inputs, weights)[:, 0].sum().backward()
    assert single.grad is not None
    assert inputs.grad is not None
    assert (single.grad.dtype, weights.grad.dtype) == (torch.float32, torch.float64)  # type: ignore[union-attr]
    torch.testing.assert_close(single.grad.double(), inputs.grad, rtol=0, atol=1e-5)


def test_weights_get_a_gradient_where_inputs_have_none() -> None:
    inputs, weights = arguments()
    sampler_forward(network(), inputs, weights)[:, 0].sum().backward()
    expected, weights.grad = weights.grad, None
    sampler_forward(network(input_gradients=False), inputs.detach(), weights)[:, 0].sum().backward()
    torch.testing.assert_close(weights.grad, expected, rtol=0, atol=1e-14)


def test_nothing_is_differentiated_where_nothing_asks_for_it() -> None:
    qnn = network(input_gradients=False)
    inputs, weights = arguments()
    assert not sampler_forward(qnn, inputs.detach(), weights.detach()).requires_grad
    with torch.no_grad():
        assert not sampler_forward(qnn, inputs, weights).requires_grad


def test_forward_and_gradient_jobs_go_through_evaluate() -> None:
    jobs = []

    def counted(job: Any) -> Any:
        jobs.append(job)
        return job()

    inputs, weights = arguments()
    outputs = sampler_forward(network(), inputs, weights, counted)
    assert len(jobs) == 1
    outputs.sum().backward()
    assert len(jobs) == 2


def test_circuit_with_one_input_and_no_weights_keeps_its_batch() -> None:
    angles = ParameterVector("x", 1)
    circuit = QuantumCircuit(1)
    circuit.ry(angles[0], 0)
    qnn = SamplerQNN(circuit=circuit, input_params=list(angles), input_gradients=True)
    inputs = torch.tensor([[0.3], [1.2]], dtype=torch.float64, requires_grad=True)
    weights = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    outputs = sampler_forward(qnn, inputs, weights)
    torch.testing.assert_close(outputs[:, 1], torch.sin(inputs[:, 0] / 2) ** 2)
    outputs[:, 1].sum().backward()
    torch.testing.assert_close(inputs.grad, torch.sin(inputs.detach()) / 2)
    assert weights.grad is None or weights.grad.shape == (0,)


def test_no_rows_give_no_outputs_and_zero_gradients() -> None:
    inputs, weights = arguments()
    outputs = sampler_forward(network(), inputs[:0], weights)
    assert outputs.shape == (0, 4)
    outputs.sum().backward()
    assert torch.equal(weights.grad, torch.zeros(8, dtype=torch.float64))  # type: ignore[arg-type]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda qnn: pickle.loads(pickle.dumps(qnn))])
def test_copied_network_gives_the_same_gradients(copied: Any) -> None:
    qnn = network(interpret=parity, output_shape=2)
    inputs, weights = arguments()
    gradients = []
    for each in (qnn, copied(qnn)):
        weights.grad = None
        sampler_forward(each, inputs, weights)[:, 0].sum().backward()
        gradients.append(weights.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)


def test_input_gradients_that_the_network_does_not_compute_are_refused() -> None:
    with pytest.raises(ValueError, match=r"inputs require a gradient.*input_gradients=True"):
        sampler_forward(network(input_gradients=False), *arguments())


def test_sparse_network_is_refused() -> None:
    qnn = network()
    qnn._sparse = True
    with pytest.raises(ValueError, match=r"Cannot evaluate a sparse SamplerQNN.*sparse=False"):
        sampler_forward(qnn, *arguments())


def test_second_derivatives_are_refused_by_torch() -> None:
    inputs, weights = arguments()
    total = (sampler_forward(network(), inputs, weights)[:, 0] ** 2).sum()
    (gradient,) = torch.autograd.grad(total, weights, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
