"""The layer against `TorchConnector`, and in the places where modules are used."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import ParameterVector, QuantumCircuit
from qiskit.primitives import StatevectorSampler
from qiskit_machine_learning.connectors import TorchConnector
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_qsgd.backends import ExactSampling, SamplerBackend, ShotSampling
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit, superposition_circuit
from lightning_qsgd.nn.circuit_layer import CircuitLayer
from tests.devices import each_device


def corner(outcome: int) -> tuple[int, int]:
    return outcome % 2, outcome // 2


def parity(outcome: int) -> int:
    return outcome.bit_count() % 2


def network(**extra: Any) -> SamplerQNN:
    built = superposition_circuit(num_qubits=2, reps=1)
    return SamplerQNN(
        circuit=built.circuit,
        input_params=built.inputs,
        weight_params=built.weights,
        input_gradients=True,
        **extra,
    )


def weights() -> torch.Tensor:
    return torch.tensor([0.3, -0.8, 1.2, 0.5])


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
@pytest.mark.parametrize("extra", [{}, {"interpret": parity, "output_shape": 2}])
@pytest.mark.parametrize("shape", [(2,), (1, 2), (5, 2)])
def test_outputs_and_gradients_are_those_of_torch_connector(
    shape: tuple[int, ...], extra: dict[str, Any], engine: Any
) -> None:
    qnn = network(**extra)
    connector = TorchConnector(qnn, initial_weights=weights().numpy())
    layer = CircuitLayer(qnn, weights(), engine)
    results = []
    for module in (connector, layer):
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
        outputs = module(x)
        (outputs**3).sum().backward()
        results.append((outputs.detach(), x.grad, module.weight.grad))
    torch.testing.assert_close(*results, rtol=0, atol=2e-6)


def test_any_leading_dimensions_are_rows() -> None:
    layer = CircuitLayer(network(interpret=corner, output_shape=(2, 2)))
    x = torch.rand(3, 4, 2)
    outputs = layer(x)
    assert outputs.shape == (3, 4, 2, 2)
    torch.testing.assert_close(outputs[1, 2], layer(x[1, 2]))
    assert layer(x.transpose(0, 1)).shape == (4, 3, 2, 2)
    assert layer(torch.zeros(0, 2)).shape == (0, 2, 2)


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
@pytest.mark.parametrize(
    ("of_inputs", "of_weights", "expected"),
    [
        (torch.float64, torch.float32, torch.float64),
        (torch.float32, torch.float64, torch.float64),
        (torch.float16, torch.float16, torch.float16),
        (torch.int64, torch.float32, torch.float32),
    ],
)
def test_outputs_have_the_higher_precision_of_inputs_and_weights(
    of_inputs: torch.dtype, of_weights: torch.dtype, expected: torch.dtype, engine: Any
) -> None:
    layer = CircuitLayer(network(), weights(), engine).to(of_weights)
    x = torch.ones(2, 2).to(of_inputs)
    outputs = layer(x)
    assert outputs.dtype == expected
    exact = CircuitLayer(network(), weights(), engine).double()(x.double())
    tolerance = 2e-3 if of_weights == torch.float16 else 1e-6 if expected == torch.float32 else 2e-7
    torch.testing.assert_close(outputs.double(), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
def test_circuit_without_inputs_takes_none(engine: Any) -> None:
    angles = ParameterVector("w", 2)
    circuit = QuantumCircuit(1)
    circuit.ry(angles[0], 0)
    circuit.rx(angles[1], 0)
    layer = CircuitLayer(ParametrizedCircuit(circuit, [], angles), [0.4, 0.1], engine)
    outputs = layer()
    assert outputs.shape == (2,)
    outputs[1].backward()
    assert layer.weight.grad is not None
    assert layer(torch.zeros(3, 0)).shape == (3, 2)


def test_weights_of_a_torch_connector_are_loaded() -> None:
    connector = TorchConnector(network())
    layer = CircuitLayer(network())
    layer.load_state_dict(connector.state_dict())
    assert torch.equal(layer.weight, connector.weight)
    nested = nn.Sequential(CircuitLayer(network()))
    nested.load_state_dict(nn.Sequential(connector).state_dict())
    other = CircuitLayer(network(), seed=9)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.weight, layer.weight)
    assert list(layer.state_dict()) == ["weight"]


def test_weights_come_from_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    layer, again, other = (CircuitLayer(SuperpositionCircuit(), seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(layer.weight, again.weight)
    assert not torch.equal(layer.weight, other.weight)
    assert layer.weight.abs().max() <= 1
    assert CircuitLayer(network(), weights().double()).weight.dtype == torch.float64
    assert CircuitLayer(network(), [1, 2, 3, 4]).weight.dtype == torch.float32


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
@pytest.mark.parametrize("extra", [{}, {"interpret": corner, "output_shape": (2, 2)}])
def test_copies_and_pickles_give_the_same_outputs(extra: dict[str, Any], engine: Any) -> None:
    layer = CircuitLayer(network(**extra), weights(), engine)
    x = torch.rand(3, 2)
    expected = layer(x)
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(copied(x), expected)
        assert copied.weight is not layer.weight


def test_lambda_that_interprets_is_pickled_by_its_numbers_or_refused_by_name() -> None:
    qnn = network(interpret=lambda outcome: outcome % 2, output_shape=2)
    layer = CircuitLayer(qnn)
    x = torch.rand(3, 2)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    sampled = CircuitLayer(qnn, engine="sampler")
    assert copy.deepcopy(sampled)(x).shape == (3, 2)
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(sampled)


def test_network_with_a_layer_learns_a_toy_task() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), CircuitLayer(network()), nn.Linear(4, 2))
    x = torch.randn(64, 3)
    target = (x[:, 0] * x[:, 1] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.filterwarnings("ignore")  # those of torch's compiler
def test_compiled_module_around_a_layer_gives_the_same_numbers() -> None:
    model = nn.Sequential(nn.Linear(2, 2), CircuitLayer(network(), weights()))
    compiled = torch.compile(model, backend="eager")
    x = torch.rand(3, 2)
    gradients = []
    for module in (model, compiled):
        model.zero_grad()
        (module(x) ** 3).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(compiled(x), model(x))
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore")  # those of torch's compiler
def test_compiled_module_takes_other_batches_and_modes_after_the_first() -> None:
    layer = CircuitLayer(network(), weights())
    layer(torch.rand(2, 2))  # plans exist before the compiler looks
    compiled = torch.compile(nn.Sequential(nn.Linear(2, 2), layer), backend="eager")
    for rows in (5, 5, 3):
        compiled(torch.rand(rows, 2)).sum().backward()
    with torch.no_grad():
        assert compiled(torch.rand(4, 2)).shape == (4, 4)


def test_layer_on_a_backend_draws_shots_that_its_seed_and_its_calls_name() -> None:
    backend = SamplerBackend(superposition_circuit(2, reps=1), sampling=64)
    x = torch.rand(3, 2)
    layer, again = (CircuitLayer(backend, weights(), seed=5) for _ in range(2))
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    assert torch.equal(first, again(x))
    again.load_state_dict(layer.state_dict())
    assert torch.equal(layer(x), again(x))
    assert not torch.equal(first, CircuitLayer(backend, weights(), seed=6)(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    assert "backend=SamplerBackend" in repr(layer)


def test_layer_on_a_backend_learns_from_its_shots() -> None:
    backend = SamplerBackend(superposition_circuit(2, reps=1), sampling=20_000)
    exact, sampled = CircuitLayer(backend.circuit, weights()), CircuitLayer(backend, weights())
    for layer in (exact, sampled):
        (layer(torch.full((3, 2), 0.3)) ** 2).sum().backward()
    assert exact.weight.grad is not None
    torch.testing.assert_close(sampled.weight.grad, exact.weight.grad, rtol=0, atol=0.05)


def test_layer_draws_its_its_circuit_and_describes_itself() -> None:
    layer = CircuitLayer(network())
    assert "Ry" in layer.draw()
    assert "2 inputs, 4 weights, output_shape=(4,), backend=CompiledBackend" in repr(layer)
    sampled = CircuitLayer(network(sampler=StatevectorSampler()))
    assert "backend=NetworkBackend" in repr(sampled)


def test_wrong_shapes_are_refused() -> None:
    layer = CircuitLayer(network())
    for x in (torch.zeros(3), torch.zeros(2, 5), torch.tensor(1.0), None):
        with pytest.raises(ValueError, match=r"Expected inputs of shape \(\.\.\., 2\), got"):
            layer(x)
    with pytest.raises(ValueError, match=r"`initial_weights` of shape \(4,\), got \(3,\): .*Pass"):
        CircuitLayer(network(), [0.1, 0.2, 0.3])
    for bad in ([0.1, 0.2, 0.3, float("nan")], torch.ones(4) + 1j, np.full(4, np.inf)):
        with pytest.raises(ValueError, match="Expected finite, real `initial_weights`"):
            CircuitLayer(network(), bad)
    with pytest.raises(
        TypeError, match=r"real floating-point numbers, got torch.complex64: .*real and imag"
    ):
        layer(torch.zeros(1, 2) + 0j)


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
def test_numpy_weights_fit_the_network_around_the_layer(engine: Any) -> None:
    for given in (np.array([0.3, -0.8, 1.2, 0.5]), [0.3, -0.8, 1.2, 0.5], np.float32([1, 2, 3, 4])):
        model = nn.Sequential(nn.Linear(3, 2), CircuitLayer(network(), given, engine))
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        nn.Sequential(model, nn.Linear(4, 1))(torch.rand(5, 3)).sum().backward()


@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3)])
@pytest.mark.parametrize("engine", ["compiled", "sampler"])
def test_empty_batches_give_zero_gradients_to_inputs_and_weights(
    engine: Any, shape: tuple[int, ...]
) -> None:
    model = nn.Sequential(nn.Linear(3, 2), CircuitLayer(network(), weights(), engine))
    x = torch.zeros(shape, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad.shape == shape
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("engine", ["compiled", "sampler"])
def test_jacobians_of_all_kinds_agree(engine: Any) -> None:
    layer = CircuitLayer(network(), weights().double(), engine)
    x = torch.rand(3, 2, dtype=torch.float64)
    expected = torch.autograd.functional.jacobian(layer, x)
    vectorized = torch.autograd.functional.jacobian(layer, x, vectorize=True)
    torch.testing.assert_close(vectorized, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.func.jacrev(layer)(x), expected, rtol=0, atol=1e-10)


@pytest.mark.filterwarnings("ignore")  # torch's own, about tracing
@pytest.mark.parametrize("engine", ["compiled", "sampler"])
def test_traced_network_evaluates_other_batches_and_has_gradients(engine: Any) -> None:
    model = nn.Sequential(nn.Linear(3, 2), CircuitLayer(network(), weights(), engine))
    traced = torch.jit.trace(model, torch.rand(2, 3))
    for rows in (2, 5, 1):
        x = torch.rand(rows, 3)
        torch.testing.assert_close(traced(x), model(x))
    gradients = []
    for module in (model, traced):
        model.zero_grad()
        module(x)[:, 0].sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])  # type: ignore[union-attr]
    torch.testing.assert_close(*gradients)


@pytest.mark.filterwarnings("ignore")  # torch's own, about tracing
def test_sampling_with_keys_and_limits_cannot_be_traced() -> None:
    for sampling in (ExactSampling(), ShotSampling(50)):
        layer = CircuitLayer(SamplerBackend(SuperpositionCircuit(2), sampling=sampling))
        with pytest.raises(RuntimeError, match=r"Cannot trace a SamplerBackend.*CompiledBackend"):
            torch.jit.trace(layer, torch.rand(2, 2))


@each_device
@pytest.mark.parametrize("engine", ["compiled", "sampler"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layer_on_any_device_gives_the_numbers_of_the_cpu(
    dtype: torch.dtype, engine: Any, device: str
) -> None:
    if device == "mps" and dtype == torch.float64:
        pytest.skip("MPS has no float64")
    results = []
    for place in ("cpu", device):
        layer = CircuitLayer(network(), weights(), engine).to(place, dtype)
        x = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)).to(place, dtype)
        outputs = layer(x.requires_grad_())
        (outputs**3).sum().backward()
        found = (outputs.detach(), x.grad, layer.weight.grad)
        assert all(each is not None and each.device.type == place for each in found)
        results.append(tuple(each.cpu() for each in found if each is not None))
    tolerance = 1e-12 if dtype == torch.float64 else 5e-6
    torch.testing.assert_close(*results, rtol=0, atol=tolerance)


@each_device
def test_layer_keeps_working_when_it_moves_between_devices(device: str) -> None:
    layer = CircuitLayer(network(), weights())
    x = torch.rand(3, 2)
    expected = layer(x)
    moved = copy.deepcopy(layer).to(device)
    torch.testing.assert_close(moved(x.to(device)).cpu(), expected, rtol=0, atol=5e-6)
    torch.testing.assert_close(moved.to("cpu")(x), expected, rtol=0, atol=0)
    copied = pickle.loads(pickle.dumps(moved.to(device)))
    torch.testing.assert_close(copied(x.to(device)).cpu(), expected, rtol=0, atol=5e-6)


def test_layer_on_the_meta_device_gives_shapes_without_numbers() -> None:
    layer = CircuitLayer(network(), weights()).to("meta")
    outputs = layer(torch.zeros(3, 2, device="meta"))
    assert (outputs.shape, outputs.device.type) == ((3, 4), "meta")
    outputs.sum().backward()
    assert layer.weight.grad is not None


def test_shots_are_not_drawn_again_within_a_backward_pass() -> None:
    source = superposition_circuit(num_qubits=2, reps=1)
    layer = CircuitLayer(SamplerBackend(source, sampling=ShotSampling(20)))
    inputs = torch.tensor([[0.1, 0.5]], requires_grad=True)

    def loss(checkpointed: bool) -> torch.Tensor:
        outputs = checkpoint(layer, inputs, use_reentrant=False) if checkpointed else layer(inputs)
        return (outputs**2).sum()  # type: ignore[no-any-return]

    drawn = loss(checkpointed=True)
    with pytest.raises(
        RuntimeError, match=r"draw shots within a backward.*Leave this layer out of"
    ):
        drawn.backward()  # type: ignore[no-untyped-call]
    assert int(layer.evaluations) == 1
    loss(checkpointed=False).backward()  # type: ignore[no-untyped-call]
    layer.eval()
    twice = [layer(inputs).detach() for _ in range(2)]
    loss(checkpointed=True).backward()  # type: ignore[no-untyped-call]
    assert torch.equal(*twice), "outside training the shots stay, also within a checkpoint"


def test_an_exact_layer_is_checkpointed_to_the_same_gradient() -> None:
    layer = CircuitLayer(superposition_circuit(num_qubits=2, reps=1))
    gradients = []
    for wrap in (lambda x: checkpoint(layer, x, use_reentrant=False), layer):
        inputs = torch.tensor([[0.1, 0.5]], requires_grad=True)
        (wrap(inputs) ** 2).sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients)
