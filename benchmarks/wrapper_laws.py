"""Prints which laws of `lightning_qsgd.testing` hold for wrappers of this and other projects.

    python -m benchmarks.wrapper_laws

Needs ``pip install pytorch_optimizer schedulefree``.
"""

import warnings
from typing import Any

import pytorch_optimizer
import schedulefree
import torch

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.testing import LAWS, broken_laws


def sgd(params: Any) -> torch.optim.Optimizer:
    """Make the bare optimizer."""
    return torch.optim.SGD(params, lr=0.1)


def schedule_free(base: Any) -> Any:
    """Wrap, and switch to training, as its README asks."""
    wrapper = schedulefree.ScheduleFreeWrapper(base)
    wrapper.train()
    return wrapper


def sam(base: Any) -> Any:
    """Make it from the parts of a bare optimizer: it takes a class."""
    return pytorch_optimizer.SAM(base.param_groups, type(base), lr=0.1)


WRAPPERS: dict[str, tuple[Any, Any]] = {
    "lightning_qsgd.PerturbedOptimizer": (
        PerturbedOptimizer,
        lambda base: PerturbedOptimizer(base, Perturbation(strength=0.0)),
    ),
    "pytorch_optimizer.Lookahead": (
        pytorch_optimizer.Lookahead,
        lambda base: pytorch_optimizer.Lookahead(base, k=1000),
    ),
    "schedulefree.ScheduleFreeWrapper": (schedule_free, None),
    "pytorch_optimizer.SAM": (sam, None),
}


def main() -> None:
    """Print a table of wrappers by laws, as Markdown."""
    warnings.simplefilter("ignore")
    broken = {name: broken_laws(wrap, sgd, off) for name, (wrap, off) in WRAPPERS.items()}
    print("| law |", " | ".join(f"`{name}`" for name in WRAPPERS), "|")
    print("|---|", "|".join("---" for _ in WRAPPERS), "|", sep="")
    for law, (_, of_neutral) in LAWS.items():
        cells = []
        for name, (_, neutral) in WRAPPERS.items():
            asked = neutral is not None or not of_neutral
            cells.append(("no" if law in broken[name] else "yes") if asked else "not asked")
        print(f"| {law} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
