"""Shared cases as data: problems, base optimizers and injections."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from qiskit.circuit import Parameter
from torch import Tensor
from torch.nn.functional import embedding
from torch.optim import Optimizer

from lightning_qsgd.optimizers import MuonWithAdamW
from lightning_qsgd.perturbations import (
    AllEntries,
    Coordinates,
    FirstOfEachTensor,
    FirstOfModel,
    GradientInjection,
    Injection,
    RelativeInjection,
    UpdateInjection,
)

unreadable_power = pytest.mark.skipif(
    (2 ** Parameter("x")).sympify() is not NotImplemented,
    reason="this qiskit writes 2**x as a formula, so it is compiled",
)
"""For tests whose example of an angle that cannot be compiled is 2**x; qiskit 2.3 can do it."""

INJECTIONS: dict[str, Injection] = {
    "update": UpdateInjection(),
    "gradient": GradientInjection(),
    "relative": RelativeInjection(),
}
COORDINATES: dict[str, Coordinates] = {
    "first_of_each_tensor": FirstOfEachTensor(),
    "first_of_model": FirstOfModel(),
    "all": AllEntries(),
}


@dataclass
class Problem:
    """Parameters and a loss whose gradients have a size of about 1."""

    parameters: list[Tensor]
    loss: Callable[[list[Tensor]], Tensor]

    def backward(self) -> Tensor:
        """Clear the gradients, evaluate the loss and its gradients."""
        for parameter in self.parameters:
            parameter.grad = None
        loss = self.loss(self.parameters)
        loss.backward()
        return loss

    def flat(self) -> Tensor:
        """Copy all parameters into one vector."""
        return torch.cat([p.detach().reshape(-1) for p in self.parameters]).clone()


def dense_problem(
    dtype: torch.dtype = torch.float64,
    shapes: tuple[tuple[int, ...], ...] = ((3, 4), (2,), (3, 3)),
    seed: int = 0,
) -> Problem:
    """A curved loss over tensors of several shapes, parameters in [0.1, 0.9] or the negative."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(shape: tuple[int, ...], low: float, high: float) -> Tensor:
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
        return (drawn * (high - low) + low).to(dtype)

    def signs(shape: tuple[int, ...]) -> Tensor:
        return uniform(shape, -1.0, 1.0).sign()

    parameters = [torch.nn.Parameter(uniform(s, 0.1, 0.9) * signs(s)) for s in shapes]
    targets = [p.detach() + uniform(p.shape, 0.5, 1.5) * signs(p.shape) for p in parameters]

    def loss(values: list[Tensor]) -> Tensor:
        pairs = list(zip(values, targets, strict=True))
        return sum((0.5 * (p - t) ** 2 + 0.05 * (p - t) ** 4).sum() for p, t in pairs)  # type: ignore[return-value]

    return Problem(parameters, loss)


def matrix_problem() -> Problem:
    """Matrices only, for Muon."""
    return dense_problem(shapes=((3, 4), (4, 2)))


def sparse_problem() -> Problem:
    """Two embeddings with sparse gradients; some rows are never looked up."""
    generator = torch.Generator().manual_seed(1)
    tables = [
        torch.nn.Parameter(torch.rand(5, size, generator=generator, dtype=torch.float64))
        for size in (3, 4)
    ]
    tokens = torch.tensor([0, 1, 3, 0])

    def loss(values: list[Tensor]) -> Tensor:
        rows = [embedding(tokens, table, sparse=True) for table in values]
        return sum((0.5 * (row + 0.7) ** 2).sum() for row in rows)  # type: ignore[return-value]

    return Problem(tables, loss)


@dataclass(frozen=True)
class BaseCase:
    """One base optimizer with its settings and the problem that suits it."""

    name: str
    cls: type[Optimizer]
    settings: dict[str, Any] = field(default_factory=dict)
    problem: Callable[[], Problem] = dense_problem
    needs_closure: bool = False
    steps: int = 10
    cancels_gradient_scale: bool = False
    """Whether the step depends on the gradient's sign only."""

    def make(self, parameters: list[Tensor]) -> Optimizer:
        """Build the optimizer."""
        return self.cls(parameters, **{"lr": 1e-2, **self.settings})  # type: ignore[call-arg]


_O = torch.optim

BASE_CASES = [
    BaseCase("Adadelta", _O.Adadelta, {"lr": 1.0}),
    BaseCase("Adafactor", _O.Adafactor),
    BaseCase("Adagrad", _O.Adagrad),
    BaseCase("Adam", _O.Adam),
    BaseCase("Adam amsgrad", _O.Adam, {"amsgrad": True, "weight_decay": 0.1}),
    BaseCase("Adam maximize", _O.Adam, {"maximize": True}),
    BaseCase("Adamax", _O.Adamax),
    BaseCase("AdamW", _O.AdamW),
    BaseCase("AdamW single tensor", _O.AdamW, {"foreach": False}),
    BaseCase("AdamW foreach", _O.AdamW, {"foreach": True}),
    BaseCase("AdamW fused", _O.AdamW, {"fused": True}),
    BaseCase(
        "AdamW tensor lr",
        _O.AdamW,
        {"lr": torch.tensor(1e-2, dtype=torch.float64), "foreach": False},
    ),
    BaseCase("ASGD", _O.ASGD),
    BaseCase("LBFGS", _O.LBFGS, {"lr": 0.1, "max_iter": 4}, needs_closure=True),
    BaseCase(
        "LBFGS line search",
        _O.LBFGS,
        {"lr": 0.1, "max_iter": 2, "line_search_fn": "strong_wolfe"},
        needs_closure=True,
        steps=2,  # it converges, and Q vanishes with the gradient
    ),
    BaseCase("Muon", _O.Muon, problem=matrix_problem),
    BaseCase("MuonWithAdamW", MuonWithAdamW, {"others": [0]}, problem=matrix_problem),
    BaseCase("NAdam", _O.NAdam),
    BaseCase("RAdam", _O.RAdam),
    BaseCase("RMSprop", _O.RMSprop, {"momentum": 0.9, "centered": True}),
    BaseCase("Rprop", _O.Rprop, cancels_gradient_scale=True),
    BaseCase("SGD", _O.SGD),
    BaseCase("SGD momentum", _O.SGD, {"momentum": 0.9, "weight_decay": 0.1}),
    BaseCase("SGD nesterov", _O.SGD, {"momentum": 0.9, "nesterov": True, "foreach": True}),
    BaseCase("SGD maximize", _O.SGD, {"maximize": True, "momentum": 0.9}),
    BaseCase("SparseAdam", _O.SparseAdam, problem=sparse_problem),
]
"""Every optimizer of torch.optim, some in several settings, and Muon with AdamW."""
