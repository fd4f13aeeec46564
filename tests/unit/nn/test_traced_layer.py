"""Layers that torch traces, exports, or builds on a default device."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.quantum_info import SparsePauliOp

from lightning_qsgd.circuits import ParametrizedCircuit
from lightning_qsgd.nn import CircuitLayer

X, W = ParameterVector("x", 2), ParameterVector("w", 2)
OBSERVABLES = [SparsePauliOp("ZZX"), SparsePauliOp("IYZ")]


def rotations(circuit: QuantumCircuit) -> None:
    circuit.cx(0, 2)
    circuit.ry(W[0], 2)
    circuit.rx(W[1], 1)


def controlled(circuit: QuantumCircuit) -> None:
    circuit.cry(W[0], 0, 2)
    circuit.crx(W[1], 1, 2)


def products(circuit: QuantumCircuit) -> None:
    circuit.rzz(X[0] * X[1], 0, 1)
    circuit.ry(W[0] * X[0], 2)
    circuit.rx(W[1] ** 2, 0)


def matrices(circuit: QuantumCircuit) -> None:
    circuit.sx(1)
    circuit.ccx(0, 1, 2)
    circuit.rz(W[0], 2)
    circuit.rx(W[1], 2)


KINDS = [rotations, controlled, products, matrices]


def layer(kind: Callable[[QuantumCircuit], None], observables: Any = None) -> CircuitLayer:
    circuit = QuantumCircuit(3)
    circuit.ry(X[0], 0)
    circuit.h(2)
    circuit.ry(X[1], 1)
    kind(circuit)
    return CircuitLayer(ParametrizedCircuit(circuit, X, W, observables=observables))


def without_use_of_inputs() -> CircuitLayer:
    """Phases that come last change no probability."""
    circuit = QuantumCircuit(2)
    circuit.ry(W[0], 0)
    circuit.ry(W[1], 1)
    circuit.p(X[0], 0)
    circuit.rz(X[1], 1)
    return CircuitLayer(ParametrizedCircuit(circuit, X, W))


LAYERS: dict[str, Callable[[], CircuitLayer]] = {
    **{kind.__name__: lambda kind=kind: layer(kind) for kind in KINDS},
    **{f"{k.__name__}, observed": lambda k=k: layer(k, OBSERVABLES) for k in KINDS},
    "without inputs": without_use_of_inputs,
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def rows(count: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(count))


@pytest.mark.filterwarnings("ignore")  # torch's own, about tracing
@pytest.mark.parametrize("traced_with", [4, 1, 20_000])  # the last one is cut into chunks
@each_layer
def test_a_traced_layer_evaluates_batches_of_other_sizes_and_has_gradients(
    make: Callable[[], CircuitLayer], traced_with: int
) -> None:
    whole = make()
    traced = torch.jit.trace(whole, rows(traced_with))
    for count in (4, 2, 1):
        found = []
        for module in (traced, whole):
            x = rows(count).requires_grad_()
            outputs = module(x)
            of_x, of_w = torch.autograd.grad(outputs.square().sum(), (x, whole.weight))
            found.append((outputs, of_x, of_w))
        torch.testing.assert_close(*found, rtol=0, atol=1e-5)


@each_layer
def test_a_layer_that_was_never_called_is_exported_and_still_works(
    make: Callable[[], CircuitLayer],
) -> None:
    fresh, x = make(), rows(4)
    expected = copy.deepcopy(fresh)(x)
    exported = torch.export.export(fresh, (x,)).module()
    torch.testing.assert_close(exported(x), expected, rtol=0, atol=1e-6)
    assert torch.equal(fresh(x), expected)


@each_layer
def test_a_default_device_concerns_the_weights_alone(make: Callable[[], CircuitLayer]) -> None:
    usual, x = make(), rows(3)
    with torch.device("meta"):
        built = make()
        assert built.weight.is_meta
        built.to_empty(device="cpu")
        built.load_state_dict(usual.state_dict())
        outputs = built(x)
    assert torch.equal(outputs, usual(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@each_layer
def test_a_default_precision_is_that_of_weights_and_outputs(
    make: Callable[[], CircuitLayer], dtype: torch.dtype
) -> None:
    x = rows(3)
    usual = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        built = make()
        outputs = built(x.to(dtype))
    finally:
        torch.set_default_dtype(usual)
    assert built.weight.dtype == outputs.dtype == dtype
    expected = make().double()
    expected.load_state_dict(built.state_dict())
    tolerance = {torch.float64: 1e-12}.get(dtype, 1e-2)
    exact = expected(x.to(dtype).double())
    torch.testing.assert_close(outputs.double(), exact, rtol=0, atol=tolerance)
