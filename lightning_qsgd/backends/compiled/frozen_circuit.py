"""A compiled circuit whose weights do not change."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.plan import Plan
from lightning_qsgd.backends.compiled.precision import in_full_precision

Run = Callable[[Tensor], Tensor]


class FrozenCircuit:
    """Evaluates a circuit as a function of its inputs alone, without gradients.

    What depends on the weights is evaluated once, and a batch of a size that was seen before is not
    checked again: for the few circuits of a perturbed step that is half of the time.

    Args:
        plan: How it is evaluated.
        weights: Shape (num_weights,), of the dtype and on the device of the plan.
        checked: Runs an evaluation on inputs, once they are checked, in chunks.
        chunk: Number of circuits that need not be cut into chunks.
    """

    def __init__(
        self, plan: Plan, weights: Tensor, checked: Callable[[Tensor, Run], Tensor], chunk: int
    ) -> None:
        self._checked = checked
        self._chunk = chunk
        self._plan = plan
        self._weights = weights
        self._fixed = plan.fixed_part(weights)
        self._seen = torch.Size((-1, -1))

    def __call__(self, inputs: Tensor) -> Tensor:
        """Evaluate, shape (B, num_inputs) to (B, outputs); see `CompiledCircuit.marginals`."""
        if inputs.shape == self._seen:
            return self._run(inputs)
        outputs = self._checked(inputs, self._run)
        if len(inputs) <= self._chunk:
            self._seen = inputs.shape
        return outputs

    def _run(self, inputs: Tensor) -> Tensor:
        with in_full_precision(inputs.device.type):
            return self._plan.forward(inputs, self._weights, self._fixed)[0]
