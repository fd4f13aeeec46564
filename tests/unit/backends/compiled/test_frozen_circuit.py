"""The shortcuts for few circuits with fixed weights give what the general evaluation gives."""

import pickle

import pytest
import torch
from torch import Tensor

from lightning_qsgd.backends import CompiledBackend
from lightning_qsgd.backends.compiled import CompiledCircuit, compiled_circuit, rotation_steps
from lightning_qsgd.circuits import SuperpositionCircuit
from tests.unit.backends.random_circuits import random_circuit

PAPER = SuperpositionCircuit(4, reps=2)


def drawn(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * 4 - 2


@pytest.mark.parametrize("rows", [1, 27, 64, 65, 3000])
def test_frozen_circuit_gives_the_marginals(rows: int) -> None:
    compiled, weights, inputs = CompiledCircuit(PAPER), drawn(0, 16), drawn(1, rows, 4)
    frozen = compiled.freeze(weights)
    for _ in range(2):  # the second call takes the size as checked
        torch.testing.assert_close(
            frozen(inputs), compiled.marginals(inputs, weights), rtol=0, atol=1e-14
        )


@pytest.mark.parametrize("seed", range(12))
def test_matrices_of_small_layers_agree_with_turning_qubit_by_qubit(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = random_circuit(seed, num_qubits=1 + seed % 4, num_gates=12)
    compiled, inputs, weights = CompiledCircuit(built), drawn(1, 5, 3), drawn(2, 4)
    by_matrices = compiled.amplitudes(inputs, weights)
    monkeypatch.setattr(rotation_steps, "DENSE_ENTRIES", 0)
    torch.testing.assert_close(
        compiled.amplitudes(inputs, weights), by_matrices, rtol=0, atol=1e-13
    )


def test_small_batches_of_the_paper_circuit_do_use_matrices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned = []
    rotate = rotation_steps.rotate
    monkeypatch.setattr(rotation_steps, "rotate", lambda *parts: turned.append(1) or rotate(*parts))
    compiled = CompiledCircuit(PAPER)
    compiled.marginals(drawn(1, 64, 4), drawn(0, 16))
    assert not turned
    compiled.marginals(drawn(1, 65, 4), drawn(0, 16))
    assert len(turned) == 4


def test_later_changes_of_the_weights_do_not_reach_a_frozen_circuit() -> None:
    compiled, weights, inputs = CompiledCircuit(PAPER), drawn(0, 16), drawn(1, 3, 4)
    frozen = compiled.freeze(weights)
    before = frozen(inputs)
    weights += 1.0
    assert torch.equal(frozen(inputs), before)


def test_frozen_circuit_still_refuses_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = CompiledCircuit(PAPER, memory_limit_gib=0.01)
    with pytest.raises(ValueError, match=r"Expected `weights` of shape \(16,\), got \(3,\)"):
        compiled.freeze(drawn(0, 3))
    frozen = compiled.freeze(drawn(0, 16))
    frozen(drawn(1, 3, 4))
    with pytest.raises(ValueError, match=r"Expected `inputs` of shape \(B, 4\), got \(3, 5\)"):
        frozen(drawn(1, 3, 5))
    with pytest.raises(ValueError, match=r"Cannot evaluate 100000 circuit\(s\) of 4 qubits"):
        frozen(drawn(1, 100_000, 4))


def test_autocast_does_not_reach_a_frozen_circuit() -> None:
    frozen, inputs = CompiledCircuit(PAPER).freeze(drawn(0, 16).float()), drawn(1, 3, 4).float()
    outside = frozen(inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(frozen(inputs), outside)


def test_backend_freezes_per_precision_and_forgets_it_in_a_pickle() -> None:
    backend, inputs = CompiledBackend(PAPER, weight_seed=1), drawn(1, 3, 4)
    wide, narrow = backend.readout(inputs), backend.readout(inputs.float())
    assert (wide.dtype, narrow.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=5e-6)
    given = backend.readout(inputs, weights=backend.initial_weights())
    torch.testing.assert_close(given, wide, rtol=0, atol=1e-14)
    copy = pickle.loads(pickle.dumps(backend))
    assert copy == backend
    assert torch.equal(copy.readout(inputs), wide)


def test_readout_carries_a_gradient_for_inputs_that_ask_for_it() -> None:
    inputs = drawn(1, 3, 4).requires_grad_()
    assert CompiledBackend(PAPER).readout(inputs).requires_grad
    with torch.no_grad():
        assert not CompiledBackend(PAPER).readout(inputs).requires_grad


def test_chunks_agree_with_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, weights, inputs = CompiledCircuit(PAPER), drawn(0, 16), drawn(1, 50, 4)
    whole = compiled.marginals(inputs, weights)
    monkeypatch.setattr(compiled_circuit, "columns_in_cache", lambda *sizes: 7)
    torch.testing.assert_close(compiled.marginals(inputs, weights), whole, rtol=0, atol=1e-14)
    torch.testing.assert_close(compiled.freeze(weights)(inputs), whole, rtol=0, atol=1e-14)
