"""The circuit of quantum signal processing, beside the polynomial that its phases decide."""

from math import pi
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_qsgd import CompiledBackend, SamplerBackend, SignalProcessingCircuit
from lightning_qsgd.circuits import signal_polynomial
from lightning_qsgd.perturbations.spectrum import (
    exact_part,
    odd_coefficients,
    polynomial_part,
)

SIGNALS = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]


def polynomial(phases: Any, factor: float) -> Tensor:
    angles = factor * SIGNALS
    return sum(b * torch.sin((k + 1) * angles) for k, b in enumerate(signal_polynomial(phases)))  # type: ignore[return-value]


@pytest.mark.parametrize("degree", [1, 2, 3, 6])
@pytest.mark.parametrize("factor", [-pi / 2, 1.3])
def test_given_phases_read_their_polynomial_on_sampler_qnn(degree: int, factor: float) -> None:
    phases = tuple(np.random.default_rng(degree).uniform(-pi, pi, degree - 1).tolist())
    circuit = SignalProcessingCircuit(degree, phases, factor)
    read = SamplerBackend(circuit=circuit).readout(SIGNALS)
    torch.testing.assert_close(read, polynomial(phases, factor), atol=1e-10, rtol=0.0)


def test_phases_that_are_weights_read_their_polynomial_on_sampler_qnn() -> None:
    backend = SamplerBackend(circuit=SignalProcessingCircuit(degree=4), weight_seed=7)
    expected = polynomial(backend.initial_weights().tolist(), -pi / 2)
    torch.testing.assert_close(backend.readout(SIGNALS), expected, atol=1e-10, rtol=0.0)


def test_one_rotation_falls_from_zero_to_minus_one() -> None:
    read = CompiledBackend(circuit=SignalProcessingCircuit()).readout(SIGNALS)
    torch.testing.assert_close(read, -torch.sin(pi / 2 * SIGNALS))


def test_zero_phases_multiply_the_angle() -> None:
    read = CompiledBackend(circuit=SignalProcessingCircuit(degree=3)).readout(SIGNALS)
    torch.testing.assert_close(read, torch.sin(-3 * pi / 2 * SIGNALS))


@pytest.mark.parametrize("seed", range(5))
def test_the_readout_is_odd_whatever_the_phases(seed: int) -> None:
    backend = CompiledBackend(circuit=SignalProcessingCircuit(degree=5), weight_seed=seed)
    read = backend.readout(SIGNALS)
    torch.testing.assert_close(read, -read.flip(0))
    assert read[len(read) // 2].abs() < 1e-12


def test_its_readout_of_singular_values_needs_matrix_products_only() -> None:
    backend = CompiledBackend(circuit=SignalProcessingCircuit(degree=4), weight_seed=3)

    def read(s: Tensor) -> Tensor:
        return backend.readout(s.reshape(-1, 1)).view(s.shape)

    matrix = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(0)).double()
    part, _ = polynomial_part(matrix, odd_coefficients(read), iterations=100)
    torch.testing.assert_close(part, exact_part(matrix, read), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degree": 0}, "Expected `degree` to be at least 1, got 0"),
        ({"factor": 0.0}, "Expected `factor` to be finite and not 0, got 0.0"),
        ({"degree": 3, "phases": (1.0,)}, "Expected 2 finite `phases` for degree 3"),
        ({"degree": 2, "phases": (float("nan"),)}, "Expected 1 finite `phases` for degree 2"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SignalProcessingCircuit(**arguments)
