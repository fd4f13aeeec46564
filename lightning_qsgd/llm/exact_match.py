"""Measure how many generated solutions end in the right number."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_qsgd.llm.answers import is_exact_match


class ExactMatch(Metric):
    """Share of generated solutions whose final answer (`#### n`) is the expected number.

    Example:
        >>> metric = ExactMatch()
        >>> metric.update(["#### 4", "no idea"], ["#### 4.0", "#### 7"])
        >>> metric.compute()
        tensor(0.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, generated: Sequence[str], expected: Sequence[str]) -> None:
        """Count solutions.

        Args:
            generated: What the model wrote, one text per problem.
            expected: Worked solutions of the same problems.

        Raises:
            ValueError: If there are more of one than of the other.
        """
        if len(generated) != len(expected):
            raise ValueError(
                f"Expected as many generated as expected solutions, got {len(generated)} and "
                f"{len(expected)}: they are compared in pairs. Give one of each per problem."
            )
        self.right += sum(map(is_exact_match, generated, expected))
        self.total += len(generated)

    def compute(self) -> Tensor:
        """Return the share of right answers, in [0, 1]; NaN if nothing was counted."""
        return self.right.float() / self.total
