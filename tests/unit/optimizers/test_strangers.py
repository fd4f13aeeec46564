"""Optimizers, parameters and gradients of other projects: taken, or refused with the remedy."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer
from torch.testing._internal.two_tensor import TwoTensor

from lightning_qsgd.backends import SamplerBackend
from lightning_qsgd.circuits import SuperpositionCircuit
from lightning_qsgd.optimizers import DominantPerturbationWarning, PerturbedOptimizer
from lightning_qsgd.perturbations import (
    AllEntries,
    FirstOfModel,
    GradientInjection,
    Injection,
    Perturbation,
    RelativeInjection,
    UpdateInjection,
)
from tests.cases import dense_problem

OFF = Perturbation(strength=0.0)
INJECTIONS: dict[str, Injection] = {
    "update": UpdateInjection(),
    "gradient": GradientInjection(),
    "relative": RelativeInjection(),
}


class RateLess(Optimizer):
    def __init__(self, params: Any) -> None:
        super().__init__(params, {"alpha": 0.1})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            parameter.data.sub_(parameter.grad, alpha=0.1)


class Incomplete(SGD):
    """Never calls torch's constructor, as some wrappers do not."""

    def __init__(self, params: Any) -> None:
        self.param_groups = [{"params": list(params)}]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            parameter.data.sub_(parameter.grad, alpha=0.1)


class Empty(SGD):
    """Has not even groups."""

    def __init__(self, params: Any) -> None:
        pass


class Scaling(SGD):
    """Unscales in its own step, as the optimizers of trainers do."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        self.scaler = torch.amp.GradScaler("cpu")


def of_fabric(params: Any) -> Optimizer:
    from lightning.fabric import Fabric

    made: Any = Fabric(accelerator="cpu", devices=1).setup_optimizers(SGD(params, lr=0.1))
    return made  # type: ignore[no-any-return]


def of_lightning(params: Any) -> Optimizer:
    from lightning.pytorch.core.optimizer import LightningOptimizer

    made: Any = LightningOptimizer(SGD(params, lr=0.1))
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize("make", [of_fabric, of_lightning, Scaling])
def test_an_optimizer_that_belongs_to_a_trainer_is_refused(make: Any) -> None:
    base = make([nn.Parameter(torch.ones(3))])
    with pytest.raises(
        TypeError, match=r"belongs to a trainer.*Perturb the optimizer inside it fi"
    ):
        PerturbedOptimizer(base)


@pytest.mark.parametrize("make", [Incomplete, Empty])
def test_an_optimizer_that_is_not_complete_is_refused_in_words(make: Any) -> None:
    with pytest.raises(TypeError, match=r"it never calls torch\.optim\.Optimizer\.__init__"):
        PerturbedOptimizer(make([nn.Parameter(torch.ones(3))]))


def calling(function: Any) -> Any:
    return lambda parameter: function(parameter)


class Fused(SGD):
    """Moves parameters while gradients are computed, as LOMO does; `way` says where the hook is."""

    def __init__(self, params: Any, way: str) -> None:
        super().__init__(params, lr=0.1)
        for parameter in self.param_groups[0]["params"]:
            if way == "method":
                parameter.register_post_accumulate_grad_hook(self.move)
            elif way == "closure":
                parameter.register_post_accumulate_grad_hook(lambda p: self.move(p))
            elif way == "partial":
                parameter.register_post_accumulate_grad_hook(partial(Fused.move, self))
            elif way == "keyword":
                hook = partial(lambda p, own: own.move(p), own=self)
                parameter.register_post_accumulate_grad_hook(hook)
            elif way == "default":
                parameter.register_post_accumulate_grad_hook(lambda p, own=self: own.move(p))
            elif way == "referred":
                parameter.register_post_accumulate_grad_hook(calling(self.move))
            elif way == "callable":
                parameter.register_post_accumulate_grad_hook(self)
            elif way == "gradient":
                parameter.register_hook(lambda gradient: self.rounded(gradient))

    def __call__(self, parameter: Tensor) -> None:
        self.move(parameter)

    @torch.no_grad()
    def move(self, parameter: Tensor) -> None:
        parameter.sub_(parameter.grad, alpha=0.1)  # type: ignore[arg-type]
        parameter.grad = None

    def rounded(self, gradient: Tensor) -> Tensor:
        return gradient.round(decimals=3)


class WithFusedBackward(SGD):
    def fused_backward(self, loss: Tensor, lr: float) -> None:
        loss.backward()


def of_zero(params: Any) -> Optimizer:
    made: Any = SGD(params, lr=0.1)
    made._overlap_with_ddp = True  # as ZeroRedundancyOptimizer(overlap_with_ddp=True) has it
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "where"), [(WithFusedBackward, "fused_backward"), (of_zero, "a hook of Distributed")]
)
def test_an_optimizer_that_trains_elsewhere_than_in_its_step_is_refused(
    make: Any, where: str
) -> None:
    parameter = nn.Parameter(torch.ones(3))
    message = rf"it moves parameters in {where}.*no step would be perturbed\. Use an optimizer"
    with pytest.raises(TypeError, match=message):
        PerturbedOptimizer(make([parameter]))
    PerturbedOptimizer(make([parameter]), OFF)


@pytest.mark.parametrize("name", ["lomo", "adalomo"])
def test_the_fused_optimizers_of_pytorch_optimizer_are_refused(name: str) -> None:
    load = pytest.importorskip("pytorch_optimizer").load_optimizer
    base = load(name)(nn.Linear(2, 2), lr=0.1)
    with pytest.raises(TypeError, match="it moves parameters in fused_backward"):
        PerturbedOptimizer(base)


@pytest.mark.parametrize(
    "way",
    ["method", "closure", "partial", "gradient", "keyword", "default", "referred", "callable"],
)
def test_an_optimizer_with_hooks_on_gradients_is_warned_of(way: str) -> None:
    base = Fused([nn.Parameter(torch.ones(3))], way)
    with pytest.warns(UserWarning, match=r"Fused has hooks on the gradients.*not perturbed"):
        PerturbedOptimizer(base)
    PerturbedOptimizer(base, OFF)


def test_hooks_of_others_are_no_reason_to_warn() -> None:
    parameter = nn.Parameter(torch.ones(3))
    seen: list[Tensor] = []
    parameter.register_hook(seen.append)
    parameter.register_post_accumulate_grad_hook(lambda p: seen.append(p))
    PerturbedOptimizer(SGD([parameter], lr=0.1))


@pytest.mark.parametrize("make", [RateLess, Incomplete, Scaling, WithFusedBackward])
def test_nothing_is_refused_at_strength_zero(make: Any) -> None:
    flats = []
    for wrap in (lambda base: base, lambda base: PerturbedOptimizer(base, OFF)):
        problem = dense_problem()
        optimizer = wrap(make(problem.parameters))
        for _ in range(2):
            problem.backward()
            optimizer.step()
        flats.append(problem.flat())
    assert torch.equal(*flats)


def test_a_group_without_rate_may_be_added_at_strength_zero() -> None:
    optimizer = PerturbedOptimizer(RateLess([nn.Parameter(torch.ones(1))]), OFF)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))]})
    assert len(optimizer.param_groups) == 2


@pytest.mark.parametrize("coordinates", [AllEntries(), FirstOfModel()])
@pytest.mark.parametrize("injection", INJECTIONS)
def test_lazy_parameters_are_perturbed_once_they_have_a_shape(
    injection: str, coordinates: Any
) -> None:
    flats = []
    for lazy in (True, False):
        torch.manual_seed(0)
        first = nn.LazyLinear(3) if lazy else nn.Linear(4, 3)
        model = nn.Sequential(first, nn.Linear(3, 2))
        unused = nn.LazyLinear(2) if lazy else nn.Linear(1, 1)
        parameters = [*model.parameters(), *unused.parameters()]
        perturbation = Perturbation(coordinates=coordinates, injection=INJECTIONS[injection])
        optimizer = PerturbedOptimizer(SGD(parameters, lr=0.1), perturbation)
        with torch.no_grad():
            model(torch.ones(1, 4))
            for number, parameter in enumerate(model.parameters()):
                torch.manual_seed(number)
                parameter.copy_(torch.randn(parameter.shape))
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(5, 4)).square().sum().backward()
            optimizer.step()
        assert optimizer.own_state.applied == 2
        flats.append(torch.cat([p.detach().reshape(-1) for p in model.parameters()]))
    assert torch.equal(*flats)


def test_what_lazy_parameters_would_need_is_checked_when_they_have_a_shape() -> None:
    layer = nn.LazyLinear(2**12)
    circuit = SuperpositionCircuit(16, reps=1)
    perturbation = Perturbation(SamplerBackend(circuit), AllEntries())
    optimizer = PerturbedOptimizer(SGD(layer.parameters(), lr=0.1), perturbation)
    layer(torch.ones(1, 64)).sum().backward()
    with pytest.raises(ValueError, match=r"[Mm]emory|GiB|fit"):
        optimizer.step()


@pytest.mark.parametrize("injection", INJECTIONS)
def test_lazily_conjugated_gradients_are_read_as_what_they_are(injection: str) -> None:
    flats = []
    for lazily in (True, False):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.randn(3, 3, dtype=torch.cfloat))
        perturbation = Perturbation(coordinates=AllEntries(), injection=INJECTIONS[injection])
        optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
        gradient = torch.randn(3, 3, dtype=torch.cfloat).conj()
        parameter.grad = gradient if lazily else gradient.resolve_conj()
        assert parameter.grad.is_conj() == lazily
        optimizer.step()
        assert torch.equal(parameter.grad.resolve_conj(), gradient.resolve_conj())
        flats.append(parameter.detach().clone())
    assert torch.equal(*flats)


def test_a_lazily_conjugated_parameter_is_refused() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.cfloat).conj())
    with pytest.raises(TypeError, match=r"lazily conjugated parameter.*tensor.resolve_conj\(\)"):
        PerturbedOptimizer(SGD([parameter], lr=0.1))


@pytest.mark.parametrize("injection", INJECTIONS)
def test_parameters_of_a_tensor_subclass_are_perturbed(injection: str) -> None:
    values = torch.rand(4, 3, generator=torch.Generator().manual_seed(0))
    perturbation = Perturbation(coordinates=AllEntries(), injection=INJECTIONS[injection])

    def trained(parameter: Tensor) -> Tensor:
        optimizer = PerturbedOptimizer(SGD([parameter], lr=0.1), perturbation)
        for _ in range(2):
            optimizer.zero_grad()
            (parameter**2).sum().backward()
            optimizer.step()
        return parameter.detach()

    plain = trained(nn.Parameter(values.clone()))
    both: Any = trained(nn.Parameter(TwoTensor(values.clone(), values.clone())))
    assert torch.equal(both.a, plain)
    assert torch.equal(both.b, plain)


class Quantized(TwoTensor):
    """Tells nothing of single entries, as weights in 8 bits do."""

    @classmethod
    def __torch_dispatch__(cls, function: Any, *rest: Any) -> Any:
        if function is torch.ops.aten.index.Tensor:
            raise NotImplementedError(f"{function} of {cls.__name__}")
        return super().__torch_dispatch__(function, *rest)


def test_parameters_that_hide_their_entries_are_refused() -> None:
    weights = nn.Parameter(Quantized(torch.ones(4, 3), torch.ones(4, 3)))
    with pytest.raises(TypeError, match=r"stored as .*Quantized: single .*Train ordinary param"):
        PerturbedOptimizer(SGD([weights], lr=0.1))
    assert PerturbedOptimizer(SGD([weights], lr=0.1), OFF).perturbation is OFF


class Estimating(SGD):
    """Steps by d * lr, as Prodigy and D-Adaptation do, and tells d in its groups."""

    known_by = "d0"

    def __init__(self, params: Any, d: float = 1e-4) -> None:
        super().__init__(params, lr=1.0)
        for group in self.param_groups:
            group.update({"d": d, self.known_by: d})

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] *= group["d"]
        loss = super().step(closure)
        for group in self.param_groups:
            group["lr"] /= group["d"]
        return loss


class AsDAdaptLion(Estimating):
    known_by = "fixed_decay"


@pytest.mark.parametrize("kind", [Estimating, AsDAdaptLion])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_step_size_of_a_base_that_estimates_it_is_what_it_tells(
    groups: int, kind: type[Estimating]
) -> None:
    def run(make: Any) -> Tensor:
        problem = dense_problem()
        params = [{"params": problem.parameters[:1]}, {"params": problem.parameters[1:]}]
        optimizer = PerturbedOptimizer(make(params if groups == 2 else problem.parameters))
        for _ in range(3):
            problem.backward()
            optimizer.step()
        return problem.flat()

    expected = run(lambda params: SGD(params, lr=1e-4))
    torch.testing.assert_close(run(kind), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["dadaptlion", "dadaptadam", "dadaptsgd", "dadaptadan", "prodigy"])
def test_no_perturbation_dwarfs_the_first_steps_of_an_estimating_optimizer(name: str) -> None:
    load = pytest.importorskip("pytorch_optimizer").load_optimizer
    moved = []
    for strength in (0.0, 0.5):
        problem = dense_problem()
        base = load(name)(problem.parameters, lr=1.0)
        optimizer = PerturbedOptimizer(base, Perturbation(strength=strength))
        start = problem.flat().clone()
        problem.backward()
        optimizer.step()
        moved.append(problem.flat() - start)
    bare, perturbed = moved
    # DAdaptSGD divides by the gradient's norm as well; with lr alone it would be 10^5 times.
    assert 0 < (perturbed - bare).norm() < 100 * bare.norm()


def test_a_perturbation_that_dwarfs_the_bases_step_is_warned_of_once() -> None:
    class Tiny(SGD):
        def step(self, closure: Any = None) -> Any:
            for parameter in self.param_groups[0]["params"]:
                parameter.data.sub_(parameter.grad, alpha=1e-5)

    problem = dense_problem()
    optimizer = PerturbedOptimizer(Tiny(problem.parameters, lr=1.0))
    optimizer.measure_every = 1
    for _ in range(2):
        problem.backward()
        optimizer.step()
    problem.backward()
    with pytest.warns(DominantPerturbationWarning, match=r"times the base.*Give UpdateInjection"):
        optimizer.step()
    for _ in range(30):
        problem.backward()
        optimizer.step()
