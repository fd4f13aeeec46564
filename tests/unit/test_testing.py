"""The battery of laws: torch's optimizers keep it wrapped, and what breaks a law is found."""

from typing import Any

import pytest
import torch

from lightning_qsgd.optimizers import SAM, PerturbedOptimizer
from lightning_qsgd.perturbations import AllEntries, Perturbation
from lightning_qsgd.testing import LAWS, broken_laws, check_law
from tests.cases import BASE_CASES

OFF = Perturbation(strength=0.0)
VISIBLE = Perturbation(coordinates=AllEntries(), strength=0.5)


def perturbed(base: Any) -> PerturbedOptimizer:
    return PerturbedOptimizer(base, VISIBLE)


def off(base: Any) -> PerturbedOptimizer:
    return PerturbedOptimizer(base, OFF)


KINDS = sorted({case.cls for case in BASE_CASES} | {SAM}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrapped_optimizer_keeps_every_law_that_the_bare_one_keeps(kind: Any) -> None:
    assert broken_laws(perturbed, kind, off) == {}


def sgd(params: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(params, lr=0.1, momentum=0.9)


class Proxy(torch.optim.Optimizer):
    """A wrapper as they are often written: it hands on what its author thought of."""

    def __init__(self, base: Any) -> None:
        self.base = base
        super().__init__(base.param_groups, base.defaults)

    def step(self, closure: Any = None) -> Any:
        if closure is not None:
            closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(1.001)
        self.base.step()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def test_a_careless_wrapper_breaks_the_laws_that_it_breaks() -> None:
    found = broken_laws(Proxy, sgd, Proxy)
    assert "neutral settings give the base, bit for bit" in found
    assert "a resumed run equals an uninterrupted one" in found
    assert "a closure's loss is returned" in found
    assert "it is an instance of the base's class, with its name" in found
    assert found["a closure's loss is returned"] == "AssertionError: step(closure) returned None"
    assert "a failing closure moves nothing" not in found


class Deaf(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step()


def test_a_law_that_the_bare_optimizer_breaks_is_not_asked_of_its_wrapper() -> None:
    assert broken_laws(perturbed, Deaf, off) == {}


def test_laws_of_equality_are_left_out_without_neutral_settings() -> None:
    for name, (_, of_neutral) in LAWS.items():
        if of_neutral:
            check_law(name, Proxy, sgd)
            with pytest.raises((AssertionError, KeyError)):
                check_law(name, Proxy, sgd, Proxy)


@pytest.mark.parametrize("law", LAWS)
def test_each_law_can_be_asked_by_name(law: str) -> None:
    check_law(law, perturbed, sgd, off)


def test_optimizers_of_pytorch_optimizer_keep_the_laws() -> None:
    optimizers = pytest.importorskip("pytorch_optimizer")
    for name in ("Lion", "Tiger", "AdaBelief", "Lamb", "Prodigy", "Adan", "ScheduleFreeSGD"):
        assert broken_laws(perturbed, getattr(optimizers, name), off) == {}, name
