"""Gradients through a SamplerQNN against finite differences and against its own Jacobians."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, ParameterVector, QuantumCircuit
from qiskit_machine_learning.neural_networks import SamplerQNN

from lightning_qsgd.backends import CompiledBackend, ExactSampling, SamplerBackend, ShotSampling
from lightning_qsgd.backends.backend_of import NetworkBackend
from lightning_qsgd.backends.circuit_backend import CircuitBackend
from lightning_qsgd.backends.sampler_autograd import sampler_forward
from lightning_qsgd.circuits import ParametrizedCircuit, superposition_circuit
from tests.cases import unreadable_power


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


EXACT = {
    "network": NetworkBackend(network()),
    "interpreted": NetworkBackend(network(interpret=corner, output_shape=(2, 2))),
    "backend": SamplerBackend(superposition_circuit(num_qubits=2, reps=2)),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_sampling_has_second_derivatives_as_closed_forms_have_them(name: str) -> None:
    backend, given = EXACT[name], arguments()

    def probabilities(inputs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return backend.probabilities(inputs, weights=weights)

    assert torch.autograd.gradgradcheck(probabilities, given)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own
def test_exact_sampling_goes_through_the_transforms_of_torch() -> None:
    inputs, weights = (tensor.detach() for tensor in arguments())
    plain = CompiledBackend(superposition_circuit(num_qubits=2, reps=2))

    def loss(w: torch.Tensor, backend: CircuitBackend) -> torch.Tensor:
        return (backend.probabilities(inputs, weights=w) ** 3).sum()

    for transform in (torch.func.hessian, torch.func.jacfwd, torch.func.jacrev):
        results = [transform(loss)(weights, each) for each in (EXACT["backend"], plain)]
        torch.testing.assert_close(*results, rtol=0, atol=1e-10)


@pytest.mark.parametrize("backend", ["exact", "shots"])
def test_vectorized_jacobian_is_that_of_one_row_after_the_other(backend: str) -> None:
    sampling = ExactSampling() if backend == "exact" else ShotSampling(100)
    sampled = SamplerBackend(superposition_circuit(num_qubits=2, reps=2), sampling=sampling)
    inputs, weights = (tensor.detach() for tensor in arguments())
    keys = np.arange(3, dtype=np.uint64)

    def probabilities(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return sampled.probabilities(x, keys, w)

    expected = torch.autograd.functional.jacobian(probabilities, (inputs, weights))
    found = torch.autograd.functional.jacobian(probabilities, (inputs, weights), vectorize=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def refused() -> Any:
    return pytest.raises(NotImplementedError, match=r"shifted circuits.*CompiledBackend")


@pytest.mark.filterwarnings("ignore:`torch.jit")  # torch's own
def test_shots_have_first_derivatives_alone_and_an_error_for_all_else() -> None:
    sampled = SamplerBackend(superposition_circuit(num_qubits=2, reps=2), sampling=50)
    inputs, weights = arguments()
    keys = np.arange(3, dtype=np.uint64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return (sampled.probabilities(inputs, keys, w)[:, 0] ** 2).sum()

    def kept() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(loss(weights), weights, create_graph=True)
        return gradient

    (first,) = torch.autograd.grad(loss(weights), weights)
    assert torch.equal(kept(), first)
    for ask in (
        lambda: kept().sum().backward(),
        lambda: torch.autograd.grad(kept().square().sum(), weights),
        lambda: torch.autograd.grad(kept().sum(), inputs),
        lambda: torch.autograd.functional.hessian(loss, weights),
        lambda: torch.autograd.functional.hvp(loss, weights, weights),
        lambda: torch.func.grad(loss)(weights),
        lambda: torch.func.hessian(loss)(weights),
        lambda: torch.func.jvp(loss, (weights,), (weights,)),
        lambda: torch.func.vmap(loss)(weights[None]),
    ):
        with refused():
            ask()


@unreadable_power
def test_exact_circuit_that_cannot_be_compiled_has_an_error_and_no_number() -> None:
    x, w = Parameter("x"), Parameter("w")
    circuit = QuantumCircuit(1)
    circuit.ry(2 ** (x + w), 0)
    backend = SamplerBackend(ParametrizedCircuit(circuit, [x], [w]))
    weights = torch.ones(1, dtype=torch.float64, requires_grad=True)
    inputs = torch.ones(2, 1, dtype=torch.float64)
    total = (backend.probabilities(inputs, weights=weights) ** 2)[:, 0].sum()
    with pytest.raises(ValueError, match="Cannot compile gate `ry`"):
        torch.autograd.grad(total, weights, create_graph=True)
