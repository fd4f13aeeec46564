"""The plan as a function that autograd knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.derivatives import (
    Plain,
    asks_for_more,
    is_transformed,
    pull_back,
)
from lightning_qsgd.backends.compiled.memory import in_full_precision
from lightning_qsgd.backends.compiled.plan import Plan


def evaluate(plan: Plan, plain: Plain, inputs: Tensor, weights: Tensor) -> Tensor:
    """Return the outputs of a plan, differentiable by inputs and weights as often as asked.

    Args:
        plan: What is evaluated.
        plain: The same as a function of inputs and weights in plain operations.
        inputs: Shape (B, num_inputs).
        weights: Shape (num_weights,).

    Returns:
        Shape (B, outputs).
    """
    if is_transformed():
        return plain(inputs, weights)
    outputs: Tensor = _Evaluation.apply(plan, plain, inputs, weights)  # type: ignore[no-untyped-call]
    return outputs


class _Evaluation(torch.autograd.Function):
    """Outputs of a plan, with first gradients by the adjoint method, which keeps no states."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, plain: Plain, inputs: Tensor, weights: Tensor) -> Tensor:
        with in_full_precision(inputs.device.type):
            outputs, state = plan.forward(inputs, weights)
        ctx.plan, ctx.plain = plan, plain
        ctx.save_for_backward(inputs, weights, state)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> tuple[None, None, Tensor, Tensor]:
        inputs, weights, state = ctx.saved_tensors
        if asks_for_more(*cotangent):
            gradients = pull_back(ctx.plain, (inputs, weights), *cotangent)
        else:
            with in_full_precision(inputs.device.type):
                gradients = ctx.plan.backward(inputs, weights, state, *cotangent)
        return None, None, *gradients
