"""The classical control: what it computes, and how fairly it starts."""

import copy

import pytest
import torch

from lightning_qsgd.nn.attention import CircuitBias, TrigonometricBias


def test_bias_is_a_sum_of_cosines_and_sines() -> None:
    bias = TrigonometricBias(degree=3).double()
    s = torch.randn(2, 3, 4, 5, dtype=torch.float64) * 4
    a, b = bias.weight.detach()
    terms = [a[k - 1] * (k * s).cos() + b[k - 1] * (k * s).sin() for k in (1, 2, 3)]
    torch.testing.assert_close(bias(s).detach(), sum(terms), rtol=0, atol=1e-12)


def test_control_has_as_many_weights_as_the_papers_circuit() -> None:
    assert TrigonometricBias().weight.numel() == CircuitBias().weight.numel() == 16


def test_control_starts_as_large_and_as_steep_as_the_circuit() -> None:
    s = torch.linspace(0, 2 * torch.pi, 65)[:-1].requires_grad_()
    sizes = []
    for kind in (CircuitBias, TrigonometricBias):
        bias, squares = kind(), []
        for stream in range(200):
            bias.reset_parameters(stream)
            phi = bias(s * 1)
            (slope,) = torch.autograd.grad(phi.sum(), s)
            squares.append(torch.stack([phi.detach().var(), slope.square().mean()]))
        sizes.append(torch.stack(squares).mean(0).sqrt())
    torch.testing.assert_close(sizes[1], sizes[0], rtol=0.1, atol=0)


def test_first_weights_come_from_seed_and_stream_and_no_global_generator() -> None:
    before = torch.get_rng_state()
    bias = TrigonometricBias(seed=4)
    copied = copy.deepcopy(bias)
    copied.reset_parameters(stream=1)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(bias.weight, TrigonometricBias(seed=4).weight)
    assert not torch.equal(bias.weight, copied.weight)


def test_wrong_degree_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`degree` to be at least 1, got 0"):
        TrigonometricBias(degree=0)
