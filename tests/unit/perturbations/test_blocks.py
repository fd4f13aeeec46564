"""Noise keys, and blocks with padding against a loop over blocks."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_qsgd.backends import Backend, SamplerBackend, SineBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.perturbations.blocks import Blocks, modulation
from lightning_qsgd.perturbations.keyed_draws import block_keys, stream_key
from tests.reference import circuit_readout, modulate


@dataclass(frozen=True)
class MixingBackend(Backend):
    """A cheap stand-in whose readout of each qubit depends on the whole block."""

    num_qubits: int
    seen: list[torch.Tensor] = field(default_factory=list)

    def readout(self, inputs: torch.Tensor, keys: np.ndarray | None = None) -> torch.Tensor:
        self.seen.append(inputs)
        return mix(inputs)


def mix(inputs: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, inputs.shape[-1] + 1, dtype=inputs.dtype)
    return torch.sin(inputs + (inputs * weights).sum(-1, keepdim=True))


def mix_block(block: list[float]) -> list[float]:
    return mix(torch.tensor(block, dtype=torch.float64)).tolist()


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    num_qubits=st.integers(1, 5),
    seed=st.integers(0, 100),
)
def test_modulation_agrees_with_a_loop_over_the_blocks_of_each_run(
    sizes: list[int], num_qubits: int, seed: int
) -> None:
    theta = torch.from_numpy(np.random.default_rng(seed).uniform(-1, 1, sum(sizes)))
    names = tuple(map(str, range(len(sizes))))
    backend = MixingBackend(num_qubits)
    actual = modulation(backend, theta, Blocks(names, tuple(sizes), num_qubits), (0, 0))
    expected = []
    for run in torch.split(theta, sizes):
        expected += modulate(run.tolist(), mix_block, num_qubits)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))
    assert len(backend.seen) == 1
    assert backend.seen[0].shape == (sum(-(-size // num_qubits) for size in sizes), num_qubits)


def test_modulation_of_the_paper_circuit_agrees_with_the_matrix_oracle() -> None:
    backend = SamplerBackend(
        SuperpositionCircuit(3, reps=2, entanglement="circular"), weight_seed=1
    )
    theta = torch.linspace(-0.9, 0.8, 7, dtype=torch.float64)
    actual = modulation(backend, theta, Blocks(("0", "1"), (5, 2), 3), (0, 0))
    weights = backend.initial_weights().tolist()
    expected = []
    for run in (theta[:5], theta[5:]):
        expected += modulate(
            run.tolist(), lambda block: circuit_readout(block, 2, "circular", weights), 3
        )
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_separable_backend_sees_the_entries_as_they_are() -> None:
    theta = torch.tensor([0.5, float("nan"), -0.5, 0.0, 1.5])
    actual = modulation(SineBackend(4), theta, Blocks(("0",), (5,), 4), (0, 0))
    assert actual[[0, 2, 4]].tolist() == pytest.approx([1.0, -1.0, -1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("size", [4, 3])
def test_the_circuit_sees_zero_in_place_of_an_entry_that_is_not_finite(
    value: float, size: int
) -> None:
    backend = MixingBackend(2)
    theta = torch.full((size,), 0.3)
    theta[1] = value
    actual = modulation(backend, theta, Blocks(("0",), (size,), 2), (0, 0))
    zeroed = theta.nan_to_num(0.0, 0.0, 0.0)
    assert actual.isfinite().all()
    assert torch.equal(actual, modulation(backend, zeroed, Blocks(("0",), (size,), 2), (0, 0)))


def test_keys_depend_on_seed_step_name_and_block() -> None:
    names = [(seed, step, name) for seed in range(10) for step in range(10) for name in "abcde"]
    streams = [stream_key(*name) for name in names]
    assert len(set(streams)) == len(streams)
    assert streams == [stream_key(*name) for name in names]
    keys = np.concatenate([block_keys(stream, 20) for stream in streams])
    assert keys.dtype == np.uint64
    assert len(np.unique(keys)) == len(keys)


def test_keys_of_the_blocks_do_not_depend_on_the_other_runs() -> None:
    alone = Blocks(("b",), (5,), 2).keys(seed=3, step=4)
    among = Blocks(("a", "b"), (7, 5), 2).keys(seed=3, step=4)
    assert alone.tolist() == among[4:].tolist()


def test_stochastic_backend_gets_one_key_per_block() -> None:
    backend = SamplerBackend(SuperpositionCircuit(2), sampling=20)
    theta = torch.full((7,), 0.1)
    blocks = Blocks(("0", "1"), (4, 3), 2)
    first = modulation(backend, theta, blocks, (0, 0))
    assert torch.equal(first, modulation(backend, theta, blocks, (0, 0)))
    assert not torch.equal(first, modulation(backend, theta, blocks, (0, 1)))
    assert not torch.equal(first, modulation(backend, theta, blocks, (1, 0)))
