"""Spectral injection around every kind of base, beside an oracle of loops over torch's SVD."""

import gc
import weakref
from copy import deepcopy
from dataclasses import dataclass
from math import pi, sin
from typing import Any

import numpy as np
import pytest
import torch
from qiskit.circuit import Parameter, QuantumCircuit
from torch import Tensor, nn

from lightning_qsgd import (
    AllEntries,
    CompiledBackend,
    ExactMuonWithAdamW,
    HiddenMatrices,
    LinearBackend,
    MuonWithAdamW,
    ParametrizedCircuit,
    PermutedControl,
    Perturbation,
    PerturbedOptimizer,
    SamplerBackend,
    ShotSampling,
    SignalProcessingCircuit,
    SpectralInjection,
)
from lightning_qsgd.backends import Backend
from lightning_qsgd.perturbations import spectral as spectral_module
from tests.reference import spectral_step

SINE = CompiledBackend(SignalProcessingCircuit())
LINEAR = LinearBackend(-1.0)
MINUS_SINE = lambda s: -sin(pi / 2 * s)  # noqa: E731
SHAPES = ((7, 4), (6, 5), (5,), (5, 6), (4, 3, 2, 2), (6, 5), (3, 5))
HIDDEN = [1, 3, 4, 5]
"""Which of them are neither the first nor the last matrix, nor a vector."""


class Constant(Backend):
    """A readout that depends on nothing."""

    num_qubits = 1
    separable = True

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        return torch.full_like(inputs, -0.7)


def parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [nn.Parameter(tensor.to(dtype)) for tensor in drawn]


def set_gradients(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(1000 + step)
    for parameter in params:
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = (drawn + 0.1 * parameter.detach().double()).to(parameter.dtype)


def spectral(backend: Any = SINE, strength: float = 0.9, **settings: Any) -> Perturbation:
    return Perturbation(
        backend=backend,
        coordinates=HiddenMatrices(),
        strength=strength,
        injection=SpectralInjection(**settings),
    )


def train(optimizer: Any, params: list[nn.Parameter], first: int = 0, steps: int = 4) -> None:
    for step in range(first, first + steps):
        set_gradients(params, step)
        optimizer.step()


def momentum_of(base: Any, parameter: nn.Parameter) -> Tensor:
    """What a base averages of the gradients, after its step; Muon looks ahead."""
    state = base.state[parameter]
    matrix: Tensor = state.get("momentum_buffer", state.get("exp_avg"))
    group = next(g for g in base.param_groups if any(p is parameter for p in g["params"]))
    if group.get("nesterov"):
        matrix = (1 - group["momentum"]) * parameter.grad + group["momentum"] * matrix
    return matrix


BASES: dict[str, Any] = {
    "MuonWithAdamW": lambda p: MuonWithAdamW(p, lr=0.1),
    "ExactMuonWithAdamW": lambda p: ExactMuonWithAdamW(p, lr=0.1, weight_decay=0.1),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "AdamW fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
}


@pytest.mark.parametrize("evaluation", ["exact", "polynomial"])
@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
def test_every_step_equals_the_oracle(
    make: Any, evaluation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpectralInjection, "iterations", 200)
    ours, theirs = parameters(), parameters()
    perturbation = spectral(evaluation=evaluation, tolerance=1e-9)
    wrapped, bare = PerturbedOptimizer(make(ours), perturbation), make(theirs)
    for step in range(4):
        before = [p.detach().clone() for p in theirs]
        set_gradients(ours, step)
        set_gradients(theirs, step)
        wrapped.step()
        bare.step()
        for index in HIDDEN:
            parameter, group = theirs[index], bare.param_groups[0]
            decoupled = "Adam" not in type(bare).__name__ or "W" in type(bare).__name__
            rate = group["lr"] * group["weight_decay"] if decoupled else 0.0
            decay = -rate * before[index]
            own = (parameter.detach() - before[index] - decay).flatten(1)
            matrix = momentum_of(bare, parameter).flatten(1)
            new = spectral_step(matrix, own, MINUS_SINE, 0.9).view_as(parameter)
            parameter.data = before[index] + decay + new
        for index, (mine, reference) in enumerate(zip(ours, theirs, strict=True)):
            torch.testing.assert_close(mine, reference, atol=1e-6, rtol=0.0, msg=f"{step} {index}")


def test_a_base_of_torch_muon_equals_muon_with_adamw_on_its_matrices() -> None:
    ours, theirs = parameters(), parameters()
    matrices = [theirs[index] for index in (1, 3, 5)]
    wrapped = PerturbedOptimizer(MuonWithAdamW(ours, lr=0.1, weight_decay=0.1), spectral())
    muon = PerturbedOptimizer(torch.optim.Muon(matrices, lr=0.1), spectral())
    train(wrapped, ours)
    train(muon, theirs)
    for index in (1, 3, 5):
        assert torch.equal(ours[index], theirs[index])


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
def test_vectors_embeddings_and_heads_are_the_bases_own(make: Any) -> None:
    ours, theirs = parameters(), parameters()
    train(PerturbedOptimizer(make(ours), spectral()), ours)
    train(make(theirs), theirs)
    for index, (mine, reference) in enumerate(zip(ours, theirs, strict=True)):
        assert torch.equal(mine, reference) == (index not in HIDDEN)


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
def test_strength_zero_is_the_base_to_the_last_bit(make: Any) -> None:
    ours, theirs = parameters(torch.float32), parameters(torch.float32)
    train(PerturbedOptimizer(make(ours), spectral(strength=0.0)), ours)
    train(make(theirs), theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.equal(mine, reference)


def test_large_matrices_of_muon_are_close_to_the_exact_evaluation_in_bfloat16() -> None:
    moved = []
    for evaluation in ("polynomial", "exact"):
        torch.manual_seed(0)
        params = [nn.Parameter(torch.randn(shape)) for shape in ((130, 140), (150, 128), (9, 8))]
        before = [p.detach().clone() for p in params]
        base = MuonWithAdamW(params, lr=0.1, weight_decay=0.0, others=[])
        wrapped = PerturbedOptimizer(base, spectral(evaluation=evaluation))
        set_gradients(params, 0)
        wrapped.step()
        moved.append([p.detach() - old for p, old in zip(params, before, strict=True)])
    for one, other in zip(*moved, strict=True):
        assert (one - other).norm() < 0.03 * other.norm()


def test_matrices_beyond_a_chunk_are_changed_as_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, cut = parameters(), parameters()
    train(PerturbedOptimizer(BASES["MuonWithAdamW"](whole), spectral()), whole)
    monkeypatch.setattr(spectral_module, "CHUNK", 31)
    train(PerturbedOptimizer(BASES["MuonWithAdamW"](cut), spectral()), cut)
    for mine, reference in zip(cut, whole, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-9, rtol=0.0)


def test_a_constant_readout_changes_nothing() -> None:
    ours, theirs = parameters(), parameters()
    perturbation = spectral(Constant(), evaluation="exact")
    train(PerturbedOptimizer(ExactMuonWithAdamW(ours, weight_decay=0.1), perturbation), ours)
    train(ExactMuonWithAdamW(theirs, weight_decay=0.1), theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-9, rtol=0.0)


@pytest.mark.parametrize(
    ("backend", "matrix"), [(SINE, "momentum"), (LINEAR, "momentum"), (SINE, "step")]
)
def test_the_norm_of_the_step_is_kept(backend: Any, matrix: Any) -> None:
    params = parameters()
    base = MuonWithAdamW(params, lr=0.1, weight_decay=0.0)
    bare, copy = deepcopy((base, params))
    wrapped = PerturbedOptimizer(base, spectral(backend, matrix=matrix))
    before = [p.detach().clone() for p in params]
    train(wrapped, params, steps=1)
    train(bare, copy, steps=1)
    for index in HIDDEN:
        moved, expected = params[index] - before[index], copy[index] - before[index]
        torch.testing.assert_close(moved.norm(), expected.norm())
        assert (moved - expected).norm() > 0.1 * expected.norm()


def test_a_linear_readout_of_the_step_itself_only_rescales_it_and_changes_nothing() -> None:
    ours, theirs = parameters(), parameters()
    perturbation = spectral(LINEAR, strength=0.5, matrix="step")
    train(PerturbedOptimizer(BASES["SGD"](ours), perturbation), ours)
    train(BASES["SGD"](theirs), theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-12, rtol=0.0)


NARROW = [(7, 2), (2, 9), (2, 2), (16, 3), (3, 5), (64, 4), (8, 8), (17, 40), (40, 33)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", NARROW)
def test_a_linear_readout_of_a_step_of_noise_never_turns_it(
    shape: tuple[int, int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours, theirs = nn.Parameter(torch.zeros(shape)), nn.Parameter(torch.zeros(shape))
    perturbation = Perturbation(
        LINEAR, HiddenMatrices([]), strength=0.9, injection=SpectralInjection(matrix="step")
    )
    wrapped = PerturbedOptimizer(torch.optim.Adam([ours], lr=0.1), perturbation)
    bare = torch.optim.Adam([theirs], lr=0.1)
    for _ in range(12):
        ours.data.zero_()
        theirs.data.zero_()
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        wrapped.step()
        bare.step()
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def noise(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def one_entry(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """A direction that is orthogonal to that of most other steps."""
    gradient = torch.zeros(shape, dtype=torch.float64)
    at = int(torch.randint(gradient.numel(), (), generator=generator))
    gradient.view(-1)[at] = 10.0 ** float(torch.rand((), generator=generator))
    return gradient


@pytest.mark.parametrize("draw", [noise, one_entry])
@pytest.mark.parametrize("backend", [SINE, LINEAR])
@pytest.mark.parametrize("shape", NARROW)
def test_unrelated_gradients_leave_the_polynomial_as_exact_as_others(
    shape: tuple[int, int], backend: Any, draw: Any
) -> None:
    moved = []
    for evaluation in ("polynomial", "exact"):
        generator = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
        injection = SpectralInjection(evaluation=evaluation, tolerance=1e-4)  # type: ignore[arg-type]
        perturbation = Perturbation(backend, HiddenMatrices([]), strength=0.9, injection=injection)
        base = torch.optim.SGD([parameter], lr=0.1, momentum=0.5)
        optimizer, steps = PerturbedOptimizer(base, perturbation), []
        for _ in range(15):
            before = parameter.detach().clone()
            parameter.grad = draw(shape, generator)
            optimizer.step()
            steps.append(parameter.detach() - before)
        moved.append(steps)
    for polynomial, exact in zip(*moved, strict=True):
        assert (polynomial - exact).norm() < 0.02 * exact.norm()


def test_the_loss_may_be_rescaled_under_muon() -> None:
    ours, theirs = parameters(), parameters()
    one, other = (
        PerturbedOptimizer(ExactMuonWithAdamW(p, weight_decay=0.0), spectral(evaluation="exact"))
        for p in (ours, theirs)
    )
    for step in range(3):
        set_gradients(ours, step)
        for parameter, twin in zip(ours, theirs, strict=True):
            twin.grad = 1e4 * parameter.grad  # type: ignore[operator]
        one.step()
        other.step()
    for index in HIDDEN:
        torch.testing.assert_close(ours[index], theirs[index], atol=1e-8, rtol=0.0)


def test_a_base_without_momentum_gets_an_average_of_the_gradients() -> None:
    params = parameters()
    wrapped = PerturbedOptimizer(torch.optim.SGD(params, lr=0.1), spectral())
    average = torch.zeros(30, dtype=torch.float64)
    for step in range(3):
        set_gradients(params, step)
        average = 0.95 * average + 0.05 * params[1].grad.flatten()  # type: ignore[union-attr]
        wrapped.step()
        torch.testing.assert_close(wrapped.own_state.memory["average of 1"], average)


def without_momentum(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1)


def with_an_unused_buffer(params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """A base whose buffer is left from a time with momentum, or was never filled."""
    base = torch.optim.SGD(params, lr=0.1)
    for parameter in params:
        base.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return base


def test_a_buffer_of_a_group_without_momentum_is_no_momentum() -> None:
    ours, theirs = parameters(), parameters()
    bare = without_momentum(theirs)
    train(PerturbedOptimizer(with_an_unused_buffer(ours), spectral()), ours)
    train(PerturbedOptimizer(bare, spectral()), theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=0)


def test_sm3_without_momentum_is_changed() -> None:
    sm3 = pytest.importorskip("pytorch_optimizer").SM3
    ours, theirs = parameters(), parameters()
    train(PerturbedOptimizer(sm3(ours, lr=0.1), spectral()), ours, steps=1)
    train(sm3(theirs, lr=0.1), theirs, steps=1)
    for index in HIDDEN:
        assert not torch.allclose(ours[index], theirs[index])


def test_muon_without_momentum_keeps_the_buffer_that_it_orthogonalizes() -> None:
    params = parameters()
    base = MuonWithAdamW(params, lr=0.1, momentum=0.0)
    wrapped = PerturbedOptimizer(base, spectral())
    train(wrapped, params, steps=2)
    assert not [name for name in wrapped.own_state.memory if name.startswith("average")]


@pytest.mark.parametrize("make", [BASES["MuonWithAdamW"], lambda p: torch.optim.SGD(p, lr=0.1)])
@pytest.mark.parametrize("way", ["state dict", "deepcopy"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(make: Any, way: str) -> None:
    whole, cut = parameters(torch.float32), parameters(torch.float32)
    train(PerturbedOptimizer(make(whole), spectral()), whole, steps=6)
    optimizer = PerturbedOptimizer(make(cut), spectral())
    train(optimizer, cut, steps=3)
    if way == "deepcopy":
        optimizer, cut = deepcopy((optimizer, cut))
    else:
        state = optimizer.state_dict()
        optimizer = PerturbedOptimizer(make(cut), spectral())
        optimizer.load_state_dict(deepcopy(state))
    train(optimizer, cut, first=3, steps=3)
    for mine, reference in zip(whole, cut, strict=True):
        assert torch.equal(mine, reference)


def test_a_damaged_memory_is_refused() -> None:
    params = parameters()
    optimizer = PerturbedOptimizer(BASES["SGD"](params), spectral())
    state = optimizer.state_dict()
    state["quantum_perturbation"]["memory"] = {"start of 1": 3.0}
    with pytest.raises(ValueError, match="Cannot load the perturbation's state: `memory` is"):
        optimizer.load_state_dict(state)


def test_shots_are_the_same_in_a_second_run() -> None:
    circuit = SignalProcessingCircuit()
    backend = SamplerBackend(circuit, sampling=ShotSampling(shots=64))
    runs = []
    for _ in range(2):
        params = parameters()
        perturbation = spectral(backend, evaluation="exact")
        train(PerturbedOptimizer(BASES["MuonWithAdamW"](params), perturbation), params, steps=2)
        runs.append(params)
    exact = parameters()
    train(PerturbedOptimizer(BASES["MuonWithAdamW"](exact), spectral()), exact, steps=2)
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))
    assert not torch.equal(runs[0][1], exact[1])


def test_permuted_readouts_act_on_other_directions_with_the_same_sizes() -> None:
    params, bare = parameters(), parameters()
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0}
    perturbation = spectral(LINEAR, evaluation="exact", permuted=True)
    before = params[1].detach().clone()
    train(PerturbedOptimizer(ExactMuonWithAdamW(params, **settings), perturbation), params, steps=1)
    base = ExactMuonWithAdamW(bare, **settings)
    train(base, bare, steps=1)
    u, s, v = torch.linalg.svd(momentum_of(base, bare[1]), full_matrices=False)
    moved = -(u.T @ (params[1].detach() - before) @ v.T)
    assert (moved - moved.diagonal().diag()).abs().max() < 1e-9
    weights = moved.diagonal() / moved.diagonal().norm()
    expected = 1 - 0.9 * s / s[0]
    own = expected / expected.norm()
    torch.testing.assert_close(weights.sort().values, own.sort().values)
    assert (weights - own).abs().min() > 1e-6


def test_a_second_input_sees_the_progress() -> None:
    s, t = Parameter("s"), Parameter("t")
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.ry(-pi / 2 * s, 0)
    circuit.rz(pi * t, 0)
    circuit.ry(0.5 * s, 0)
    circuit.ry(t, 1)
    backend = CompiledBackend(ParametrizedCircuit(circuit, [s, t]))
    injection = SpectralInjection(total_steps=4)

    class Step:
        seed_and_step, rows = (0, 2), ()

    read = injection.evaluate(backend, Step())  # type: ignore[arg-type]
    points = torch.linspace(0, 1, 5, dtype=torch.float64)
    inputs = torch.stack([points, torch.full_like(points, 0.5)], dim=1)
    torch.testing.assert_close(read(points), backend.readout(inputs)[:, 0])
    params = parameters()
    train(PerturbedOptimizer(BASES["SGD"](params), spectral(backend, total_steps=4)), params)


def test_a_matrix_that_is_not_finite_moves_as_the_base_moves_it() -> None:
    ours, theirs = parameters(), parameters()
    wrapped, bare = PerturbedOptimizer(BASES["SGD"](ours), spectral()), BASES["SGD"](theirs)
    for params in (ours, theirs):
        set_gradients(params, 0)
        params[1].grad[0, 0] = float("nan")  # type: ignore[index]
    wrapped.step()
    bare.step()
    torch.testing.assert_close(ours[1], theirs[1], equal_nan=True)
    assert not torch.equal(ours[3], theirs[3])


def test_zero_gradients_change_nothing() -> None:
    ours, theirs = parameters(), parameters()
    wrapped, bare = PerturbedOptimizer(BASES["MuonWithAdamW"](ours), spectral()), None
    bare = BASES["MuonWithAdamW"](theirs)
    for params, optimizer in ((ours, wrapped), (theirs, bare)):
        for parameter in params:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-15, rtol=0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"matrix": "gradient"}, "Unknown `matrix` 'gradient'"),
        ({"evaluation": "svd"}, "Unknown `evaluation` 'svd'"),
        ({"tolerance": 0.0}, r"Expected `tolerance` in \(0, 1\), got 0.0"),
        ({"total_steps": 0}, "Expected `total_steps` to be at least 1, got 0"),
        ({"permuted": True}, "Cannot permute what is evaluated as a polynomial"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpectralInjection(**arguments)


@pytest.mark.parametrize(
    ("backend", "settings", "message"),
    [
        (CompiledBackend(), {}, "Cannot read a spectrum from a circuit of 4 inputs"),
        (SINE, {"total_steps": 5}, "`total_steps` 5 and a circuit without an input"),
        (SINE, {"control": PermutedControl()}, "control SpectralInjection .* no circuit's readout"),
    ],
)
def test_what_does_not_fit_together_is_refused(backend: Any, settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spectral(backend, **settings)


def test_entries_that_are_no_whole_matrix_are_refused_before_the_base_moves() -> None:
    params = parameters()
    perturbation = Perturbation(SINE, AllEntries(), injection=SpectralInjection())
    optimizer = PerturbedOptimizer(BASES["SGD"](params), perturbation)
    set_gradients(params, 0)
    with pytest.raises(ValueError, match=r"of 5 entries of a parameter of shape \(5,\)"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, parameters(), strict=True))


def test_positions_beyond_the_matrices_are_refused_when_wrapping() -> None:
    perturbation = Perturbation(SINE, HiddenMatrices((9,)), injection=SpectralInjection())
    with pytest.raises(ValueError, match="name positions among 6 matrices, got 9"):
        PerturbedOptimizer(BASES["SGD"](parameters()), perturbation)


def test_a_readout_that_is_not_finite_stops_before_the_base_moves() -> None:
    class Broken(Constant):
        def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
            return torch.full_like(inputs, float(np.nan))

    params = parameters()
    optimizer = PerturbedOptimizer(BASES["SGD"](params), spectral(Broken()))
    set_gradients(params, 0)
    with pytest.raises(FloatingPointError, match="Broken returned a readout that is not finite"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, parameters(), strict=True))


def test_a_circuit_with_too_many_bends_is_refused() -> None:
    params = parameters()
    backend = CompiledBackend(SignalProcessingCircuit(factor=200.0))
    optimizer = PerturbedOptimizer(BASES["SGD"](params), spectral(backend, evaluation="exact"))
    set_gradients(params, 0)
    with pytest.raises(ValueError, match="Cannot interpolate the circuit's readout"):
        optimizer.step()


def test_vectors_of_the_power_iteration_are_kept_and_saved() -> None:
    params = parameters()
    optimizer = PerturbedOptimizer(BASES["MuonWithAdamW"](params), spectral())
    train(optimizer, params, steps=1)
    saved = optimizer.state_dict()["quantum_perturbation"]["memory"]
    assert len(saved) == len(HIDDEN)
    assert all(abs(float(vector.norm()) - 1) < 1e-9 for vector in saved.values())


class Plain(Backend):
    """A backend of a user's: a readout with a factor that a script may change."""

    num_qubits = 1
    separable = True
    reads = 0

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def readout(self, inputs: Tensor, keys: Any = None, weights: Any = None) -> Tensor:
        self.reads += 1
        return (self.factor * inputs).sin()


@dataclass
class Unhashable(Plain):
    factor: float


@dataclass
class HashedByIdentity(Plain):
    factor: float
    __hash__ = object.__hash__  # type: ignore[assignment]


@pytest.mark.parametrize("kind", [Plain, Unhashable, HashedByIdentity])
@pytest.mark.parametrize("evaluation", ["exact", "polynomial"])
def test_a_backend_is_read_once_in_a_training_and_anew_in_the_next(
    kind: type[Plain], evaluation: str
) -> None:
    def trained(backend: Plain) -> list[nn.Parameter]:
        params = parameters()
        perturbation = spectral(backend, evaluation=evaluation)
        train(PerturbedOptimizer(BASES["SGD"](params), perturbation), params)
        return params

    backend = kind(-1.5)
    before = trained(backend)
    assert backend.reads == 1
    backend.factor = 1.5
    changed, fresh = trained(backend), trained(kind(1.5))
    for mine, reference, old in zip(changed, fresh, before, strict=True):
        assert torch.equal(mine, reference)
        assert mine.dim() == 1 or mine is changed[0] or mine is changed[-1] or mine.ne(old).any()
    gone = weakref.ref(backend)
    del backend
    gc.collect()
    assert gone() is None


def relative_errors(iterations: int, share: float, tolerance: float) -> list[float]:
    """The polynomial's error of the step, as a share of it, over ten steps.

    Args:
        iterations: Products with a vector per step.
        share: Of the gradient that is drawn anew at each step; the rest stays.
        tolerance: That of the polynomial.
    """

    class Own(SpectralInjection):
        pass

    Own.iterations = iterations
    moved = []
    for evaluation in ("polynomial", "exact"):
        generator = torch.Generator().manual_seed(0)
        still = torch.randn(32, 48, generator=generator, dtype=torch.float64)
        parameter = nn.Parameter(torch.zeros_like(still))
        injection = Own(evaluation=evaluation, tolerance=tolerance)  # type: ignore[arg-type]
        perturbation = Perturbation(SINE, HiddenMatrices([]), strength=0.9, injection=injection)
        base = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
        optimizer = PerturbedOptimizer(base, perturbation)
        steps = []
        for _ in range(12):
            before = parameter.detach().clone()
            fresh = torch.randn(32, 48, generator=generator, dtype=torch.float64)
            parameter.grad = torch.lerp(still, fresh, share)
            optimizer.step()
            steps.append(parameter.detach() - before)
        moved.append(steps[2:])
    return [float((p - e).norm() / e.norm()) for p, e in zip(*moved, strict=True)]


@pytest.mark.parametrize(
    ("iterations", "share", "tolerance", "largest"),
    [
        (2, 0.1, 5e-3, 1.5e-2),  # what most of a training looks like
        (2, 1.0, 5e-3, 5e-2),  # the largest singular value is that of another direction each time
        (40, 1.0, 5e-3, 1.5e-2),  # the polynomial itself
        (400, 1.0, 1e-8, 1e-6),
    ],
)
def test_the_polynomial_is_as_exact_as_its_iterations_and_its_tolerance(
    iterations: int, share: float, tolerance: float, largest: float
) -> None:
    assert max(relative_errors(iterations, share, tolerance)) < largest
    assert SpectralInjection.iterations == 2


@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1e-12, 1e12, 1e25, 1e30])
@pytest.mark.parametrize("evaluation", ["exact", "polynomial"])
def test_a_step_in_another_unit_is_changed_as_in_this_one(evaluation: Any, scale: float) -> None:
    def moved(unit: float) -> list[Tensor]:
        params = [nn.Parameter(torch.zeros_like(each)) for each in parameters(torch.float32)]
        base = torch.optim.SGD(params, lr=0.1, momentum=0.9)
        optimizer = PerturbedOptimizer(base, spectral(evaluation=evaluation))
        for step in range(3):
            for parameter, like in zip(params, parameters(torch.float32), strict=True):
                generator = torch.Generator().manual_seed(step)
                parameter.grad = torch.randn(like.shape, generator=generator) * unit
            optimizer.step()
        return [parameter.detach() / unit for parameter in params]

    for got, expected in zip(moved(scale), moved(1.0), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def moves_beside_exact(make: Any, spoil: Any, steps: int = 12) -> tuple[Tensor, Tensor]:
    """What the polynomial and the exact evaluation add to each step of one base, as norms."""
    added = []
    for evaluation in ("polynomial", "exact"):
        params = parameters()
        optimizer = PerturbedOptimizer(make(params), spectral(evaluation=evaluation))
        optimizer.measure_every = 1
        sizes = []
        for step in range(steps):
            for parameter in params:  # whatever the parameters are: both see the same momentum
                generator = torch.Generator().manual_seed(1000 + step)
                parameter.grad = torch.randn(parameter.shape, generator=generator).double()
            spoil(params, step)
            optimizer.step()
            report = optimizer.report
            assert report is not None
            sizes.append(report.sums[0].sqrt())
        assert optimizer.own_state.applied == steps
        added.append(torch.stack(sizes))
    return added[0], added[1]


def zero_gradient_first(params: list[nn.Parameter], step: int) -> None:
    if step == 0:
        for index in HIDDEN:
            params[index].grad.zero_()  # type: ignore[union-attr]


def nan_gradient_once(params: list[nn.Parameter], step: int) -> None:
    if step == 3:
        for index in HIDDEN:
            params[index].grad[0, 0] = torch.nan  # type: ignore[index]


@pytest.mark.parametrize("name", ["MuonWithAdamW", "AdamW", "SGD"])
def test_a_matrix_whose_first_gradient_is_zero_is_perturbed_as_exactly(name: str) -> None:
    polynomial, exact = moves_beside_exact(BASES[name], zero_gradient_first)
    # Gradients that have nothing in common move a momentum faster than four products follow.
    torch.testing.assert_close(polynomial[1:], exact[1:], rtol=0.15, atol=0.0)


class NaNBlindSGD(torch.optim.SGD):
    """Takes a gradient that is not finite for 0, as guards of users do."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = parameter.grad.nan_to_num(0.0, 0.0, 0.0)
        return super().step(closure)


def test_one_gradient_that_is_not_finite_is_forgotten() -> None:
    polynomial, exact = moves_beside_exact(lambda p: NaNBlindSGD(p, lr=0.1), nan_gradient_once)
    torch.testing.assert_close(polynomial[4:], exact[4:], rtol=0.05, atol=0.0)
    assert polynomial[3] < 1e-12  # it moves as the base moves it
    assert exact[3] < 1e-12
    assert (exact[4:] > 0.1 * exact[:3].mean()).all()
