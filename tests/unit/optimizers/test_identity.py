"""A wrapper passes for its base: class, name, attributes and methods are the base's."""

import io
import pickle
from abc import ABC, abstractmethod
from copy import copy, deepcopy
from typing import Any

import jsonargparse
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from lightning_qsgd.optimizers import (
    SAM,
    ConfiguredPerturbedOptimizer,
    PerturbedOptimizer,
    SuperpositionalAdam,
)
from lightning_qsgd.perturbations import Perturbation


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.linspace(0.1, 0.4, 4))


class Knobs(SGD):
    """A base with attributes and methods of every sort."""

    kind_of_noise = "none"

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, lr=lr)
        self.calls: list[Any] = []
        self._rho = 0.5

    @property
    def rho(self) -> float:
        return self._rho

    @rho.setter
    def rho(self, value: float) -> None:
        self._rho = 2 * value

    @classmethod
    def named(cls) -> str:
        return cls.__name__

    @staticmethod
    def three() -> int:
        return 3

    def whoami(self) -> "Knobs":
        self.calls.append(self)
        return self

    def __len__(self) -> int:
        return len(self.param_groups)

    def __call__(self) -> "Knobs":
        return self


def wrapped(base: Optimizer) -> Any:
    return PerturbedOptimizer(base, Perturbation(strength=0.5))


@pytest.mark.parametrize("kind", [SGD, AdamW, Knobs, torch.optim.LBFGS, SAM])
def test_wrapper_is_an_instance_of_its_base_class_and_has_its_name(kind: Any) -> None:
    optimizer = wrapped(kind([parameter()]))
    assert isinstance(optimizer, kind)
    assert isinstance(optimizer, PerturbedOptimizer)
    assert type(optimizer).__name__ == kind.__name__
    assert type(optimizer) is type(wrapped(kind([parameter()])))


def test_wrappers_built_from_parameters_are_named_after_what_a_user_chose() -> None:
    configured = ConfiguredPerturbedOptimizer([parameter()], base=AdamW)
    assert type(configured).__name__ == "AdamW"
    assert isinstance(configured, ConfiguredPerturbedOptimizer)
    assert isinstance(configured, AdamW)
    assert type(SuperpositionalAdam([parameter()])).__name__ == "SuperpositionalAdam"


def test_attributes_are_read_and_written_on_the_base() -> None:
    base = Knobs([parameter()])
    optimizer = wrapped(base)
    optimizer.kind_of_noise = "pink"
    optimizer.rho = 1.0
    optimizer.new = "fresh"
    assert (base.kind_of_noise, base.rho, base.new) == ("pink", 2.0, "fresh")  # type: ignore[attr-defined]
    assert (optimizer.kind_of_noise, optimizer.rho, optimizer.new) == ("pink", 2.0, "fresh")
    del optimizer.new
    assert not hasattr(base, "new")
    assert Knobs.kind_of_noise == type(optimizer).kind_of_noise == "none"
    assert set(vars(optimizer)).isdisjoint({"kind_of_noise", "rho", "_rho", "calls"})


def test_inherited_methods_run_on_the_base() -> None:
    base = Knobs([parameter()])
    optimizer = wrapped(base)
    assert optimizer.whoami() is base
    assert base.calls == [base]
    assert optimizer() is base
    assert len(optimizer) == 1
    assert (optimizer.named(), optimizer.three()) == ("Knobs", 3)


def test_what_the_wrapper_defines_itself_stays_on_the_wrapper() -> None:
    base = Knobs([parameter()])
    optimizer = wrapped(base)
    optimizer.measure_every = 3
    optimizer.step = lambda closure=None: "replaced"  # as a program that counts steps does
    assert optimizer.step() == "replaced"
    assert "step" not in vars(base)
    assert "measure_every" not in vars(base)


def test_a_subclass_keeps_what_it_annotates() -> None:
    class Counting(PerturbedOptimizer):
        count: int

        def __init__(self, base: Optimizer) -> None:
            super().__init__(base)
            self.count = 3
            self.other = 4

    base = SGD([parameter()], lr=0.1)
    optimizer = Counting(base)
    assert (optimizer.count, optimizer.other) == (3, 4)
    assert "count" not in vars(base)
    assert base.other == 4  # type: ignore[attr-defined]


def test_methods_that_the_base_class_gets_later_see_the_bases_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    optimizer = wrapped(Knobs([parameter()]))
    monkeypatch.setattr(Knobs, "late", lambda self: self.calls, raising=False)
    assert optimizer.late() is optimizer.base.calls


class Spoiled(SGD):
    """A base whose class would break a wrapper that ran its special methods."""

    made: list[str] = []  # noqa: RUF012 - shared on purpose

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError("no subclasses, please")

    def __getattribute__(self, name: str) -> Any:
        return super().__getattribute__(name)

    def __del__(self) -> None:
        type(self).made.append("deleted")

    def __copy__(self) -> Any:
        return "a copy of the base alone"

    __deepcopy__ = __copy__

    def __reduce__(self) -> Any:
        return list, ()


def test_special_methods_of_the_base_class_do_not_replace_the_wrappers() -> None:
    optimizer = wrapped(Spoiled([parameter()], lr=0.1))
    assert isinstance(copy(optimizer), Spoiled)
    assert copy(optimizer).base is optimizer.base
    Spoiled.made.clear()
    base = optimizer.base
    del optimizer
    assert Spoiled.made == []
    del base
    assert Spoiled.made == ["deleted"]


def test_bases_with_metaclasses_and_generics_are_wrapped() -> None:
    class Abstract(SGD, ABC):
        @abstractmethod
        def name(self) -> str: ...

    class Concrete(Abstract):
        def name(self) -> str:
            return "concrete"

    optimizer = wrapped(Concrete([parameter()], lr=0.1))
    assert isinstance(optimizer, Abstract)
    assert optimizer.name() == "concrete"


def test_a_base_with_slots_is_wrapped_under_its_name() -> None:
    class Slotted(SGD):
        __slots__ = ("extra",)

    base = Slotted([parameter()], lr=0.1)
    optimizer = wrapped(base)
    optimizer.extra = 3
    assert base.extra == 3
    assert type(optimizer).__name__ == "Slotted"
    assert isinstance(optimizer, PerturbedOptimizer)


@pytest.mark.parametrize("fused", [False, True])
def test_amp_support_of_the_base_is_not_claimed(fused: bool) -> None:
    class Claiming(AdamW):
        _step_supports_amp_scaling = True

    for kind in (AdamW, Claiming):
        optimizer = wrapped(kind([parameter()], fused=fused))
        assert not hasattr(optimizer, "_step_supports_amp_scaling")
        assert getattr(optimizer, "_step_supports_amp_scaling", None) is None


@pytest.mark.parametrize("again", [deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_have_the_same_class(again: Any) -> None:
    for optimizer in (wrapped(Knobs([parameter()])), SuperpositionalAdam([parameter()])):
        twin = again(optimizer)
        assert type(twin) is type(optimizer)
        assert type(twin.base) is type(optimizer.base)
        assert twin.base is not optimizer.base


def test_a_state_holds_no_class_and_loads_with_weights_only() -> None:
    optimizer = wrapped(AdamW([parameter()]))
    optimizer.param_groups[0]["params"][0].grad = torch.ones(4)
    optimizer.step()
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=True)
    fresh = wrapped(AdamW([parameter()]))
    fresh.load_state_dict(loaded)
    assert fresh.own_state.steps == 1


def test_short_names_in_a_config_stay_unambiguous() -> None:
    wrapped(SGD([parameter()], lr=0.1))
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Optimizer, "optimizer", skip={"params"})
    parsed = parser.parse_args(["--optimizer=SGD"])
    assert parsed.optimizer.class_path == "torch.optim.SGD"


def test_representation_names_the_wrapper_and_its_base() -> None:
    assert repr(wrapped(SGD([parameter()], lr=0.1))).startswith("PerturbedOptimizer(Perturbation")


def test_wrappers_of_the_wrapper_keep_their_own_attributes() -> None:
    from lightning.fabric import Fabric
    from lightning.pytorch.core.optimizer import LightningOptimizer

    optimizer = wrapped(Knobs([parameter()]))
    lightning: Any = LightningOptimizer(optimizer)
    assert type(lightning).__name__ == "LightningKnobs"
    assert isinstance(lightning, Knobs)
    assert lightning.optimizer is optimizer
    assert lightning.whoami() is optimizer.base
    lightning._strategy = "kept"
    assert "_strategy" not in vars(optimizer.base)

    fabric: Any = Fabric(accelerator="cpu", devices=1).setup_optimizers(optimizer)
    assert type(fabric).__name__ == "FabricKnobs"
    assert fabric.optimizer is optimizer
    assert fabric.rho == optimizer.base.rho
