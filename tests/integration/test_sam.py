"""SAM as the optimizer of a LightningModule."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from lightning_qsgd.optimizers import SAM
from lightning_qsgd.training import PerturbationCallback
from tests.integration.modules import VISIBLE, Finished, Probe, fit, loader, sgd, weights

RHO = 0.2


def sam(parameters: Any) -> SAM:
    return SAM(parameters, sgd, RHO)


def written_out(dropout: float = 0.0) -> tuple[Tensor, float]:
    """The same run in a plain loop; both evaluations see the same dropout masks."""
    module = Finished(dropout=dropout)
    parameters = list(module.parameters())
    base = sgd(parameters)
    torch.manual_seed(1)
    for x, y in loader():
        state = torch.get_rng_state()
        start = [p.detach().clone() for p in parameters]
        for evaluation in range(2):
            torch.set_rng_state(state)
            base.zero_grad()
            nn.functional.cross_entropy(module.network(x), y).backward()
            if evaluation == 0:
                norm = sum(float((p.grad**2).sum()) for p in parameters) ** 0.5
                for p in parameters:
                    p.data += RHO * p.grad / norm
        for p, value in zip(parameters, start, strict=True):
            p.data = value
        base.step()
    return weights(module), torch.rand(()).item()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_training_is_that_of_a_plain_loop(dropout: float) -> None:
    expected, drawn = written_out(dropout)
    module = Finished(sam, dropout)
    torch.manual_seed(1)
    trained = fit(module)
    torch.testing.assert_close(trained, expected, rtol=1e-5, atol=1e-6)
    assert torch.rand(()).item() == drawn
    assert (trained - fit(Finished(sgd))).abs().max() > 1e-3


def test_gradients_are_clipped_at_both_evaluations() -> None:
    class Norms(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
            gradients = [p.grad for p in module.parameters() if p.grad is not None]
            self.seen.append(float(nn.utils.get_total_norm(gradients)))

    norms = Norms()
    fit(Finished(sam), norms, gradient_clip_val=1e-3, gradient_clip_algorithm="norm")
    # Lightning asks before each evaluation; SAM has cleared what the first one left.
    assert norms.seen == pytest.approx([0.0] * 2 + [1e-3, 0.0] * 7, rel=1e-2)


def test_accumulating_gradients_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Cannot take a SAM step on accumulated gradients"):
        fit(Finished(sam), accumulate_grad_batches=2)


@pytest.mark.filterwarnings("ignore:.*GradScaler.*CPU")
def test_a_gradient_scaler_is_refused() -> None:
    plugin = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    with pytest.raises(RuntimeError, match=r"without a closure: .*use 'bf16-mixed'"):
        fit(Finished(sam), plugins=[plugin])


def test_bf16_mixed_trains() -> None:
    assert torch.isfinite(fit(Finished(sam), precision="bf16-mixed")).all()


def test_a_perturbation_around_it_is_applied_once_per_step() -> None:
    probe = Probe()
    trained = fit(Finished(sam), PerturbationCallback(VISIBLE), probe)
    assert probe.applied == [8]
    assert (trained - fit(Finished(sam))).abs().max() > 1e-3
