"""Every precision that the Trainer offers on a CPU."""

from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision

from lightning_qsgd.training import PerturbationCallback
from tests.integration.modules import (
    BATCHES,
    VISIBLE,
    Finished,
    Perturbed,
    Probe,
    fit,
    weights,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*GradScaler.*CPU")
INF_BATCH = 3
BASES = {
    "SGD": lambda ps: torch.optim.SGD(ps, lr=0.1),
    "SGD fused": lambda ps: torch.optim.SGD(ps, lr=0.1, fused=True),
    "AdamW": lambda ps: torch.optim.AdamW(ps, lr=1e-2),
    "AdamW fused": lambda ps: torch.optim.AdamW(ps, lr=1e-2, fused=True),
}
FRONT_ENDS = {
    "mixin": lambda cls, **kwargs: (
        type("Mixed", (Perturbed, cls), {})(perturbation=VISIBLE, **kwargs),
        [],
    ),
    "callback": lambda cls, **kwargs: (cls(**kwargs), [PerturbationCallback(VISIBLE)]),
}
front_ends = pytest.mark.parametrize("front_end", FRONT_ENDS.values(), ids=FRONT_ENDS)


@front_ends
@pytest.mark.parametrize(
    ("precision", "dtype"), [("64-true", torch.float64), ("bf16-mixed", torch.float32)]
)
def test_every_step_is_perturbed_in_the_parameters_dtype(
    precision: str, dtype: torch.dtype, front_end: Any
) -> None:
    class Casting(Finished):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return super().training_step((x.to(self.network[0].weight.dtype), y), batch_idx)

    probe = Probe()
    module, callbacks = front_end(Casting)
    trained = fit(module, *callbacks, probe, precision=precision)
    assert trained.dtype == dtype
    assert probe.applied == [BATCHES]
    assert (trained - fit(Casting(), precision=precision)).abs().max() > 1e-3


@front_ends
def test_true_half_precision_warns_that_the_perturbation_is_rounded_away(front_end: Any) -> None:
    probe = Probe()
    module, callbacks = front_end(Finished)
    with pytest.warns(UserWarning, match=r"rounded away.*Train with precision='bf16-mixed'"):
        fit(module, *callbacks, probe, precision="bf16-true")
    assert probe.applied == [BATCHES]


class Overflowing(Finished):
    """The loss of one batch overflows; the weights around it are kept."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == INF_BATCH:
            self.before = weights(self)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == INF_BATCH:
            self.after = weights(self)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        return loss * float("inf") if batch_idx == INF_BATCH else loss


def scaled(**settings: Any) -> dict[str, Any]:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler)], **settings}


@pytest.mark.parametrize("settings", [{}, {"gradient_clip_val": 0.5}], ids=["plain", "clipped"])
@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
@front_ends
def test_a_step_that_the_scaler_skips_moves_nothing(
    front_end: Any, make: Any, settings: dict[str, Any]
) -> None:
    fused = make([torch.nn.Parameter(torch.ones(1))]).defaults["fused"]
    if fused and settings:
        pytest.skip("Lightning refuses to clip under a fused optimizer")
    probe = Probe()
    module, callbacks = front_end(Overflowing, make=make)
    trained = fit(module, *callbacks, probe, **scaled(**settings))
    assert torch.equal(module.before, module.after)
    assert torch.isfinite(trained).all()
    assert probe.applied == [BATCHES - 1]


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
def test_scaled_gradients_are_unscaled_before_they_are_read(make: Any) -> None:
    callback = PerturbationCallback(VISIBLE)
    scaled_run = fit(Finished(make), callback, **scaled())
    unscaled = fit(Finished(make), PerturbationCallback(VISIBLE), precision="32-true")
    torch.testing.assert_close(scaled_run, unscaled, rtol=0, atol=2e-3)  # float16 products
