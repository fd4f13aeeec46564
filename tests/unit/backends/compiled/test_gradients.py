"""Gradients of the adjoint against finite differences, and under the transforms of torch."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.circuit import ParameterVector, QuantumCircuit
from torch import Tensor

from lightning_qsgd.backends.compiled import CompiledCircuit, compiled_circuit
from lightning_qsgd.backends.compiled.readouts import (
    FoldedMarginalReadout,
    MarginalReadout,
    Readout,
    in_blocks,
    probabilities_of,
)
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from tests.unit.backends.random_circuits import random_circuit

READ = ["outputs", "marginals", "amplitudes"]
ROUNDING = 1e-14
"""Some 50 units in the last place of 1: a batch runs through other kernels than one row, and which
they are depends on the processor (1e-15 held on one, and was missed by 4e-17 on another)."""


def arguments(built: Any, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, len(built.inputs)), (len(built.weights),)
    x, w = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return x.requires_grad_(), w.requires_grad_()


def superposed(rows: int = 3) -> tuple[CompiledCircuit, Tensor, Tensor]:
    built = SuperpositionCircuit(2, reps=2).build()
    return CompiledCircuit(built), *arguments(built, rows)


def sharpness(compiled: CompiledCircuit) -> Callable[[Tensor, Tensor], Tensor]:
    """A loss of one row, which no symmetry makes flat."""
    return lambda x, w: (compiled.outputs(x.unsqueeze(0), w) ** 3).sum()


@pytest.mark.parametrize("read", READ)
@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), qubits=st.integers(1, 4), gates=st.integers(0, 15))
def test_random_circuits_agree_with_finite_differences(
    read: str, seed: int, qubits: int, gates: int
) -> None:
    built = random_circuit(seed, qubits, gates)
    evaluate = getattr(CompiledCircuit(built), read)
    assert torch.autograd.gradcheck(evaluate, arguments(built, 2, seed), atol=1e-6, fast_mode=False)


@pytest.mark.parametrize("read", READ)
def test_circuits_without_inputs_or_without_weights(read: str) -> None:
    angles = ParameterVector("a", 2)
    circuit = QuantumCircuit(2)
    circuit.ry(angles[0], 0)
    circuit.crx(angles[1], 0, 1)
    circuit.rz(angles[0], 1)
    for roles in ((angles, ()), ((), angles)):
        built = ParametrizedCircuit(circuit, *roles)
        evaluate = getattr(CompiledCircuit(built), read)
        x, w = arguments(built, 3)
        if roles[0]:
            assert torch.autograd.gradcheck(evaluate, (x, w.detach()))
        else:
            assert torch.autograd.gradcheck(evaluate, (x.detach(), w))


@pytest.mark.parametrize("read", READ)
def test_chunks_give_the_numbers_of_the_whole_batch(
    read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, x, w = superposed(rows=7)

    def evaluated() -> list[Tensor]:
        result = getattr(compiled, read)(x, w)
        total = result.abs().pow(3).sum()
        return [result, *torch.autograd.grad(total, (x, w))]

    whole = evaluated()
    monkeypatch.setattr(compiled_circuit, "columns_in_cache", lambda *_: 3)
    for part, expected in zip(evaluated(), whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=0, atol=ROUNDING)
    evaluate = getattr(compiled, read)
    assert torch.autograd.gradcheck(evaluate, (x, w))


@pytest.mark.parametrize("read", READ)
def test_no_rows_give_no_outputs_and_zero_gradients(read: str) -> None:
    compiled, x, w = superposed(rows=0)
    result = getattr(compiled, read)(x, w)
    assert len(result) == 0
    result.abs().sum().backward()
    assert torch.equal(w.grad, torch.zeros_like(w))  # type: ignore[arg-type]


def test_inputs_that_are_not_contiguous() -> None:
    compiled, x, w = superposed(rows=4)
    wide = torch.randn(2, 8, dtype=torch.float64)
    for view in (wide.t()[::2], wide[:, :1].t().expand(3, 2)):
        strided = view.requires_grad_()
        assert not strided.is_contiguous()
        copy = strided.detach().contiguous().requires_grad_()
        for each in (strided, copy):
            (compiled.outputs(each, w) ** 2).sum().backward(inputs=[each])
        torch.testing.assert_close(strided.grad, copy.grad, rtol=0, atol=ROUNDING)
    spread = torch.ones(3, dtype=torch.float64).requires_grad_()
    (compiled.outputs(x[:3], w)[:, 0] * spread).sum().backward()  # an expanded cotangent
    assert spread.grad is not None


def test_only_what_asks_for_a_gradient_gets_one() -> None:
    compiled, x, w = superposed()
    full = torch.autograd.grad(compiled.outputs(x, w)[:, 0].sum(), (x, w))
    (of_x,) = torch.autograd.grad(compiled.outputs(x, w.detach())[:, 0].sum(), x)
    (of_w,) = torch.autograd.grad(compiled.outputs(x.detach(), w)[:, 0].sum(), w)
    torch.testing.assert_close((of_x, of_w), full, rtol=0, atol=0)
    assert not compiled.outputs(x.detach(), w.detach()).requires_grad
    with torch.no_grad():
        assert not compiled.outputs(x, w).requires_grad
    with torch.inference_mode():
        outputs = compiled.outputs(x, w)
    torch.testing.assert_close(outputs.clone(), compiled.outputs(x, w).detach())
    compiled.outputs(x, w).sum().backward()  # the plan was not made of inference tensors


def test_plan_made_in_inference_mode_serves_training() -> None:
    compiled, x, w = superposed()
    with torch.inference_mode():
        compiled.outputs(x, w)
    compiled.outputs(x, w)[:, 0].sum().backward()
    assert w.grad is not None


@pytest.mark.parametrize(
    ("of_inputs", "of_weights", "expected"),
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
        (torch.float16, torch.float16, torch.float16),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16, torch.bfloat16),
        (torch.int64, torch.float32, torch.float32),
        (torch.int64, torch.int64, torch.float32),
        (torch.bool, torch.float64, torch.float64),
    ],
)
def test_outputs_have_the_higher_precision_of_both_arguments(
    of_inputs: torch.dtype, of_weights: torch.dtype, expected: torch.dtype
) -> None:
    compiled, _, _ = superposed()
    x, w = torch.ones(2, 2).to(of_inputs), torch.full((8,), 1.25).to(of_weights)
    exact = compiled.outputs(x.double(), w.double())
    outputs = compiled.outputs(x, w)
    assert outputs.dtype == expected
    tolerance = max(torch.finfo(expected).eps, 5e-7)  # computed in float32, rounded once
    torch.testing.assert_close(outputs.double(), exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_gradients_have_the_dtype_of_what_they_belong_to(dtype: torch.dtype) -> None:
    compiled, x, w = superposed()
    low = x.detach().to(dtype).requires_grad_()
    compiled.outputs(low, w)[:, 0].sum().backward()
    compiled.outputs(low.detach().double().requires_grad_(), w)
    assert low.grad is not None
    assert w.grad is not None
    assert (low.grad.dtype, w.grad.dtype) == (dtype, torch.float64)


def test_autocast_changes_no_number() -> None:
    compiled, x, w = superposed()
    x, w = x.detach().float().requires_grad_(), w.detach().float().requires_grad_()
    plain = compiled.outputs(x, w)
    gradients = torch.autograd.grad(plain[:, 0].sum(), (x, w))
    with torch.autocast("cpu", torch.bfloat16):
        cast = compiled.outputs(x, w)
        cast_gradients = torch.autograd.grad(cast[:, 0].sum(), (x, w))
    assert cast.dtype == torch.float32
    torch.testing.assert_close((cast, *cast_gradients), (plain, *gradients), rtol=0, atol=0)


def test_rows_that_are_not_finite_stay_among_themselves() -> None:
    compiled, x, w = superposed(rows=4)
    bad = x.detach().clone()
    bad[1, 0], bad[2, 1] = float("nan"), float("inf")
    outputs = compiled.outputs(bad, w.detach())
    assert outputs[[1, 2]].isnan().all()
    expected = compiled.outputs(x, w).detach()[[0, 3]]
    torch.testing.assert_close(outputs[[0, 3]], expected, rtol=0, atol=0)


def test_vmap_over_inputs_weights_and_both() -> None:
    compiled, x, _ = superposed(rows=6)
    batches = x.detach().reshape(3, 2, 2)
    many = torch.randn(3, 8, dtype=torch.float64)
    evaluate, vmap = compiled.outputs, torch.func.vmap
    pairs = [
        (vmap(evaluate, (0, None))(batches, many[0]), [evaluate(b, many[0]) for b in batches]),
        (vmap(evaluate, (None, 0))(batches[0], many), [evaluate(batches[0], w) for w in many]),
        (
            vmap(evaluate)(batches, many),
            [evaluate(b, w) for b, w in zip(batches, many, strict=True)],
        ),
        (
            vmap(evaluate, (2, None))(batches.movedim(0, 2), many[1]),
            [evaluate(b, many[1]) for b in batches],
        ),
        (vmap(evaluate, (None, 1))(batches[1], many.t()), [evaluate(batches[1], w) for w in many]),
    ]
    for mapped, one_by_one in pairs:
        torch.testing.assert_close(mapped, torch.stack(one_by_one), rtol=0, atol=ROUNDING)


def test_gradients_of_each_sample_by_vmap() -> None:
    compiled, x, w = superposed(rows=5)
    loss = sharpness(compiled)
    grad = torch.func.grad(loss, argnums=(0, 1))
    of_x, of_w = torch.func.vmap(grad, (0, None))(x.detach(), w.detach())
    for row in range(5):
        alone = torch.autograd.grad(loss(x[row], w), (x, w))
        torch.testing.assert_close(of_x[row], alone[0][row], rtol=0, atol=ROUNDING)
        torch.testing.assert_close(of_w[row], alone[1], rtol=0, atol=ROUNDING)


def test_jacobian_by_jacrev_is_that_of_autograd() -> None:
    compiled, x, w = superposed(rows=2)
    function = lambda v: compiled.outputs(x.detach(), v)  # noqa: E731
    expected = torch.autograd.functional.jacobian(function, w.detach())
    torch.testing.assert_close(
        torch.func.jacrev(function)(w.detach()), expected, rtol=0, atol=ROUNDING
    )


@pytest.mark.filterwarnings("ignore")  # those of torch's compiler
def test_torch_compile_gives_the_numbers_of_eager() -> None:  # about 15 s, most of it compiling
    built = SuperpositionCircuit(1, reps=1).build()
    x, w = arguments(built, 2)
    pairs = []
    for torch_compile in (False, True):
        compiled = CompiledCircuit(built, torch_compile=torch_compile)
        outputs = compiled.outputs(x, w)
        pairs.append((outputs, *torch.autograd.grad((outputs**3).sum(), (x, w))))
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-14)


@pytest.mark.parametrize("qubits", [[0, 1, 2, 3, 4], [3, 0], [4]])
@pytest.mark.parametrize("rows", [1, 3])
def test_folded_marginals_are_those_of_the_signs(qubits: list[int], rows: int) -> None:
    generator = np.random.default_rng(rows)
    torch.manual_seed(rows)
    states = torch.randn(2, 32, rows).double()
    signs: Readout = MarginalReadout.of_qubits(5, qubits)
    folding: Readout = FoldedMarginalReadout(5, qubits)
    for _ in range(3):
        read = [each.to(torch.float64, states.device) for each in (signs, folding)]
        states = states / probabilities_of(states).sum(0).sqrt()
        torch.testing.assert_close(*(each.read(states) for each in read), rtol=0, atol=1e-13)
        cotangent = torch.randn(rows, len(qubits)).double()
        pulled = [each.pull(cotangent, states) for each in read]
        torch.testing.assert_close(*pulled, rtol=0, atol=1e-13)
        source = generator.permutation(32)
        signs, folding = signs.after(source), folding.after(source)


@pytest.mark.parametrize("qubits", [14, 16, 18])
def test_marginals_keep_their_digits_in_float32(qubits: int) -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(qubits, reps=1))
    generator = torch.Generator().manual_seed(qubits)
    x = torch.randn(1, qubits, generator=generator)
    w = torch.randn(2 * qubits, generator=generator)
    exact = compiled.marginals(x.double(), w.double()).float()
    torch.testing.assert_close(compiled.marginals(x, w), exact, rtol=0, atol=2e-6)


@pytest.mark.parametrize("width", [1, 4])
def test_long_sums_are_taken_in_blocks(width: int) -> None:
    generator = torch.Generator().manual_seed(width)
    factors = torch.randn(3, 2**16, generator=generator, dtype=torch.float64)
    columns = torch.rand(2**16, width, generator=generator, dtype=torch.float64)
    columns = columns / columns.sum(0)
    exact = factors @ columns
    torch.testing.assert_close(in_blocks(factors, columns), exact, rtol=0, atol=1e-14)
    rounded = in_blocks(factors.float(), columns.float()).double()
    torch.testing.assert_close(rounded, exact, rtol=0, atol=1e-7)
