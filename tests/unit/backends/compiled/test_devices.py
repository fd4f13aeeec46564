"""Compiled circuits on every device that this machine has."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Statevector
from torch import Tensor

from lightning_qsgd.backends.compiled import CompiledCircuit
from lightning_qsgd.backends.compiled.memory import in_full_precision, without_tf32
from lightning_qsgd.circuits import ParametrizedCircuit, SuperpositionCircuit
from tests.devices import each_device, each_device_with_float64, only_cuda
from tests.unit.backends.random_circuits import bound, random_circuit

READ = ["outputs", "marginals", "amplitudes"]


def expected(built: ParametrizedCircuit, x: np.ndarray, w: np.ndarray) -> dict[str, np.ndarray]:
    amplitudes = np.stack([Statevector(bound(built, row, w)).data for row in x])
    probabilities = np.abs(amplitudes) ** 2
    basis = np.arange(2**built.num_qubits)
    signs = np.stack([2.0 * ((basis >> qubit) & 1) - 1 for qubit in range(built.num_qubits)])
    return {
        "amplitudes": amplitudes,
        "outputs": probabilities,
        "marginals": probabilities @ signs.T,
    }


def agrees(seed: int, qubits: int, gates: int, dtype: torch.dtype, device: str) -> None:
    built = random_circuit(seed, qubits, gates)
    generator = np.random.default_rng(seed)
    x, w = (generator.uniform(-4, 4, shape) for shape in ((3, 3), 4))
    inputs, weights = (torch.from_numpy(values).to(dtype).to(device) for values in (x, w))
    rounded = [values.cpu().double().numpy() for values in (inputs, weights)]
    compiled = CompiledCircuit(built)
    tolerance = 1e-13 if dtype == torch.float64 else 5e-6
    for read, values in expected(built, *rounded).items():
        found = getattr(compiled, read)(inputs, weights)
        assert found.device.type == device
        width = 2 if read == "marginals" else 1  # the range of a readout is twice a probability's
        np.testing.assert_allclose(found.cpu(), values, rtol=0, atol=width * tolerance)


@each_device_with_float64
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), qubits=st.integers(1, 8), gates=st.integers(0, 25))
def test_random_circuits_agree_with_the_state_vector(
    device: str, seed: int, qubits: int, gates: int
) -> None:
    agrees(seed, qubits, gates, torch.float64, device)


@each_device
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), qubits=st.integers(1, 8), gates=st.integers(0, 25))
def test_random_circuits_in_float32_agree_to_single_precision(
    device: str, seed: int, qubits: int, gates: int
) -> None:
    agrees(seed, qubits, gates, torch.float32, device)


def evaluated(read: str, dtype: torch.dtype, device: str, rows: int = 40) -> list[Tensor]:
    """Return outputs and both gradients of a fixed problem, on the CPU in double precision."""
    built = random_circuit(seed=11, num_qubits=4, num_gates=12)
    generator = torch.Generator().manual_seed(1)
    x, w = (torch.randn(shape, generator=generator) for shape in ((rows, 3), (4,)))
    x, w = (each.to(dtype).to(device).requires_grad_() for each in (x, w))
    found = getattr(CompiledCircuit(built), read)(x, w)
    loss = found.abs().pow(3).mean(0).sum()  # no symmetry makes it flat
    gradients = torch.autograd.grad(loss, (x, w))
    assert [each.device.type for each in (found, *gradients)] == [device] * 3
    kind = torch.complex128 if found.is_complex() else torch.float64
    return [found.detach().cpu().to(kind), *(each.cpu().double() for each in gradients)]


@each_device
@pytest.mark.parametrize("read", READ)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_outputs_and_gradients_are_those_of_the_cpu(
    dtype: torch.dtype, read: str, device: str
) -> None:
    if device == "mps" and (dtype == torch.float64 or read == "amplitudes"):
        pytest.skip("MPS has no float64")
    tolerance = 1e-13 if dtype == torch.float64 else 5e-6
    pairs = zip(evaluated(read, dtype, device), evaluated(read, torch.float64, "cpu"), strict=True)
    for found, exact in pairs:
        torch.testing.assert_close(found, exact, rtol=0, atol=tolerance)


@each_device_with_float64
@pytest.mark.parametrize("read", READ)
def test_gradients_agree_with_finite_differences(device: str, read: str) -> None:
    built = random_circuit(seed=5, num_qubits=3, num_gates=8)
    x, w = torch.randn(2, 3).double().to(device), torch.randn(4).double().to(device)
    evaluate = getattr(CompiledCircuit(built), read)
    arguments = x.requires_grad_(), w.requires_grad_()
    # sums on a GPU may come in another order each time
    assert torch.autograd.gradcheck(evaluate, arguments, atol=1e-6, nondet_tol=1e-12)


@each_device
def test_one_circuit_serves_several_devices_and_precisions(device: str) -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(3))
    x, w = torch.rand(4, 3), torch.rand(12)
    on_cpu = compiled.marginals(x, w)
    moved = compiled.marginals(x.to(device), w)  # weights follow the inputs
    assert moved.device.type == device
    torch.testing.assert_close(moved.cpu(), on_cpu, rtol=0, atol=5e-6)
    frozen = compiled.freeze(w.to(device))(x.to(device))
    torch.testing.assert_close(frozen.cpu(), on_cpu, rtol=0, atol=5e-6)
    torch.testing.assert_close(compiled.marginals(x, w), on_cpu, rtol=0, atol=0)


@each_device
def test_large_and_empty_batches(device: str) -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(4))
    x, w = torch.rand(70_000, 4), torch.rand(16)
    found = compiled.marginals(x.to(device), w.to(device)).cpu()
    expected = compiled.marginals(x[-3:].double(), w.double()).float()
    torch.testing.assert_close(found[-3:], expected, rtol=0, atol=5e-6)
    assert compiled.marginals(x[:0].to(device), w.to(device)).shape == (0, 4)


@each_device_with_float64
def test_vmap_gives_the_gradient_of_each_sample(device: str) -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(2))
    x, w = torch.rand(3, 2).double().to(device), torch.rand(8).double().to(device)
    loss = lambda row, weights: (compiled.outputs(row[None], weights) ** 3).sum()  # noqa: E731
    mapped = torch.func.vmap(torch.func.grad(loss, argnums=1), (0, None))(x, w)
    for row, gradient in zip(x, mapped, strict=True):
        alone = torch.func.grad(loss, argnums=1)(row, w)
        torch.testing.assert_close(gradient, alone, rtol=0, atol=1e-13)


@each_device
def test_autocast_changes_no_number(device: str) -> None:
    plain = evaluated("outputs", torch.float32, device)
    with torch.autocast(device, torch.bfloat16):
        cast = evaluated("outputs", torch.float32, device)
    torch.testing.assert_close(cast, plain, rtol=0, atol=1e-6)


@each_device
def test_memory_is_refused_before_it_is_allocated(device: str) -> None:
    compiled = CompiledCircuit(SuperpositionCircuit(10, reps=1))
    inputs = torch.zeros(1, 10, device=device).expand(10**7, 10)
    with pytest.raises(ValueError, match=r"10000000 circuit\(s\) of 10 qubits .* GiB, over the"):
        compiled.outputs(inputs, torch.zeros(20, device=device))


@pytest.fixture
def precision_settings() -> Iterator[None]:
    """Leave torch's settings as they were."""
    before = torch.get_float32_matmul_precision()
    yield
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.set_float32_matmul_precision(before)


def ask_for_tf32(setting: str) -> None:
    if setting == "older":
        torch.set_float32_matmul_precision("medium")
    elif hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    else:
        pytest.skip("this torch has the older setting only")


@only_cuda
@pytest.mark.usefixtures("precision_settings")
@pytest.mark.parametrize("setting", ["older", "newer"])
def test_tf32_changes_no_number(setting: str, device: str) -> None:
    plain = evaluated("marginals", torch.float32, device)
    ask_for_tf32(setting)
    rounded = evaluated("marginals", torch.float32, device)
    torch.testing.assert_close(rounded, plain, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("precision_settings")
@pytest.mark.parametrize("setting", ["older", "newer"])
def test_tf32_is_off_within_an_evaluation_only(setting: str) -> None:
    ask_for_tf32(setting)
    matmul = torch.backends.cuda.matmul
    read = (
        torch.get_float32_matmul_precision
        if setting == "older"
        else lambda: str(matmul.fp32_precision)
    )
    before = read()
    with in_full_precision("cpu"):
        assert read() == before  # other devices know no TF32
    within = []

    def fail() -> None:
        with without_tf32():
            within.append(read())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert within == ["highest" if setting == "older" else "ieee"]
    assert read() == before


@only_cuda
@pytest.mark.filterwarnings("ignore")  # those of torch's compiler
def test_torch_compile_gives_the_numbers_of_eager(device: str) -> None:
    results = []
    for torch_compile in (False, True):
        compiled = CompiledCircuit(SuperpositionCircuit(1, reps=1), torch_compile=torch_compile)
        x, w = torch.rand(2, 1, generator=torch.Generator().manual_seed(0)), torch.ones(2)
        x, w = x.to(device).requires_grad_(), w.to(device).requires_grad_()
        outputs = compiled.outputs(x, w)
        results.append((outputs, *torch.autograd.grad((outputs**3).sum(), (x, w))))
    torch.testing.assert_close(*results, rtol=0, atol=5e-6)
