"""What cannot be perturbed is refused before any training starts."""

from collections import defaultdict
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer, SuperpositionalAdam
from lightning_qsgd.perturbations import (
    GradientInjection,
    Perturbation,
    RelativeInjection,
    UpdateInjection,
)


class Lookahead(Optimizer):
    """Like some third-party lookaheads: an Optimizer that never calls Optimizer.__init__."""

    def __init__(self, inner: Optimizer) -> None:
        self.inner = inner
        self.param_groups = inner.param_groups
        self.defaults = inner.defaults
        self.state = defaultdict(dict)


class RatelessSGD(Optimizer):
    """An optimizer whose groups have no learning rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"pace": 0.1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["pace"] * parameter.grad)


def parameter(**marks: Any) -> Tensor:
    made = torch.nn.Parameter(torch.full((3,), 0.5))
    made.grad = torch.ones(3)
    for name, value in marks.items():
        setattr(made, name, value)
    return made


def sgd(*parameters: Tensor) -> Optimizer:
    return torch.optim.SGD(parameters or [parameter()], lr=0.1)


def zero_three() -> Optimizer:
    made = sgd()
    type_name = type("DeepSpeedZeroOptimizer", (torch.optim.SGD,), {})
    type_name.__module__ = "deepspeed.runtime.zero.stage3"
    made.__class__ = type_name
    return made


REFUSED_BASES: dict[str, tuple[Any, str]] = {
    "not an optimizer": (
        lambda: torch.nn.Linear(2, 2),
        r"Expected `base` to be a torch.optim.Optimizer, got torch.nn.*Linear: .*Wrap the torch",
    ),
    "a class": (lambda: torch.optim.SGD, r"Expected `base` to be .* got builtins.type"),
    "none": (lambda: None, r"Expected `base` to be .* got builtins.NoneType"),
    "never initialised": (
        lambda: Lookahead(sgd()),
        r"Cannot perturb .*Lookahead: it never calls .*__init__.*wrap that",
    ),
    "deepspeed": (zero_three, r"Cannot perturb deepspeed.*ZeroOptimizer: .*partitions.*Use DDP"),
    "wrapped twice": (
        lambda: PerturbedOptimizer(sgd()),
        r"Cannot perturb an optimizer that is perturbed already: .*twice per step.*`base`",
    ),
    "wrapped twice, subclass": (
        lambda: SuperpositionalAdam([parameter()]),
        r"Cannot perturb an optimizer that is perturbed already",
    ),
    "FSDP1": (
        lambda: sgd(parameter(), parameter(_is_flat_param=True)),
        r"Cannot perturb FSDP1 flat parameters: .*Use DDP",
    ),
    "FSDP1, original parameters": (
        lambda: sgd(parameter(_fsdp_flattened=True)),
        r"Cannot perturb FSDP1 flat parameters",
    ),
    "ZeRO-3": (
        lambda: sgd(parameter(ds_id=7)),
        r"Cannot perturb DeepSpeed ZeRO-3 parameters: .*Use DDP",
    ),
    "DTensor of other processes": (
        lambda: sgd(parameter(placements=(), device_mesh=Mock(get_coordinate=lambda: None))),
        r"Cannot perturb a DTensor on a device mesh that this process does not belong to: .*Give",
    ),
}


@pytest.mark.parametrize("name", REFUSED_BASES)
def test_bases_that_cannot_be_perturbed_are_refused(name: str) -> None:
    make, message = REFUSED_BASES[name]
    with pytest.raises(TypeError, match=message):
        PerturbedOptimizer(make())


def test_update_injection_needs_a_learning_rate() -> None:
    base = RatelessSGD([{"params": [parameter()], "lr": 0.1}, {"params": [parameter()]}])
    message = r"parameter group 1 has no `lr`, which is Eq. 1's alpha. .*step_size.*Relative"
    with pytest.raises(ValueError, match=message):
        PerturbedOptimizer(base)


def test_a_learning_rate_of_none_is_refused_like_a_missing_one() -> None:
    base = RatelessSGD([{"params": [parameter()], "lr": None}])
    with pytest.raises(ValueError, match=r"Cannot scale the perturbation: parameter group 0"):
        PerturbedOptimizer(base)


@pytest.mark.parametrize(
    ("injection", "expected"),
    [
        (UpdateInjection(step_size=0.2), 0.5 - 0.1 - 0.2 * 0.5),
        (GradientInjection(), 0.5 - 0.1 * 1.5),
        (RelativeInjection(), 0.5 - 0.1 * 1.5),
    ],
    ids=str,
)
def test_optimizers_without_a_learning_rate_are_perturbed_in_the_other_ways(
    injection: UpdateInjection, expected: float
) -> None:
    theta = parameter()
    PerturbedOptimizer(RatelessSGD([theta]), Perturbation(injection=injection)).step()
    assert theta.tolist() == pytest.approx([expected] * 3)


def test_the_base_is_left_alone_when_it_is_refused() -> None:
    base = sgd(parameter(ds_id=1))
    with pytest.raises(TypeError, match="ZeRO-3"):
        PerturbedOptimizer(base)
    assert "step" not in vars(base)
    base.step()
