"""The plan as functions that autograd and `torch.func.vmap` know."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_qsgd.backends.compiled.memory import in_full_precision
from lightning_qsgd.backends.compiled.plan import Plan


def evaluate(plan: Plan, inputs: Tensor, weights: Tensor) -> Tensor:
    """Return the outputs of a plan, differentiable by inputs and weights.

    Args:
        plan: What is evaluated.
        inputs: Shape (B, num_inputs).
        weights: Shape (num_weights,).

    Returns:
        Shape (B, outputs).
    """
    if torch._C._are_functorch_transforms_active():
        outputs: Tensor = Evaluation.apply(plan, inputs, weights)[0]  # type: ignore[no-untyped-call]
    else:
        outputs = DirectEvaluation.apply(plan, inputs, weights)  # type: ignore[no-untyped-call]
    return outputs


class DirectEvaluation(torch.autograd.Function):
    """Outputs of a plan outside of `torch.func`, whose rules make every call slower."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, inputs: Tensor, weights: Tensor) -> Tensor:
        """Evaluate the plan; see `Plan.forward`."""
        with in_full_precision(inputs.device.type):
            outputs, state = plan.forward(inputs, weights)
        ctx.plan = plan
        ctx.save_for_backward(inputs, weights, state)
        return outputs

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> tuple[None, Tensor, Tensor]:
        """Return the gradients of inputs and weights."""
        arguments = (ctx.plan, *ctx.saved_tensors, *cotangent)
        if torch.is_grad_enabled():  # a second derivative is to follow, which `Adjoint` refuses
            return None, *Adjoint.apply(*arguments)  # type: ignore[no-untyped-call]
        return None, *Adjoint.forward(*arguments)


class Evaluation(torch.autograd.Function):
    """Outputs of a plan, shape (B, outputs), and the final state, which carries no gradient."""

    @staticmethod
    def forward(plan: Plan, inputs: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the plan; see `Plan.forward`."""
        with in_full_precision(inputs.device.type):
            return plan.forward(inputs, weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep what the way back needs."""
        ctx.plan, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*tensors, output[1])

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor, _: Tensor) -> tuple[None, Tensor, Tensor]:
        """Return the gradients of inputs and weights."""
        gradients = Adjoint.apply(ctx.plan, *ctx.saved_tensors, cotangent)  # type: ignore[no-untyped-call]
        return None, *gradients

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], plan: Plan, *tensors: Tensor) -> Any:
        """Fold the mapped dimension into the batch."""
        _, of_inputs, of_weights = in_dims
        if of_weights is None:
            stacked = tensors[0].movedim(of_inputs, 0)
            flat = stacked.flatten(0, 1)
            outputs, state = Evaluation.apply(plan, flat, tensors[1])  # type: ignore[no-untyped-call]
            size = stacked.shape[:2]
            return (outputs.unflatten(0, size), state.unflatten(2, size)), (0, 2)
        return _one_by_one(Evaluation, info, in_dims[1:], plan, tensors)


class Adjoint(torch.autograd.Function):
    """Gradients of inputs and weights, given the gradient of the outputs."""

    @staticmethod
    def forward(
        plan: Plan, inputs: Tensor, weights: Tensor, state: Tensor, cotangent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Run the plan backwards; see `Plan.backward`."""
        with in_full_precision(inputs.device.type):
            return plan.backward(inputs, weights, state, cotangent)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        """Keep nothing: there is no second derivative."""

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Any:
        """Refuse.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError(
            "The compiled circuit has first derivatives only: its adjoint keeps no states to "
            "differentiate through. Use finite differences of the gradient for second ones."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], plan: Plan, *tensors: Tensor) -> Any:
        """Go through the mapped dimension: each of its entries has gradients of its own."""
        return _one_by_one(Adjoint, info, in_dims[1:], plan, tensors)


def _one_by_one(
    function: type[torch.autograd.Function],
    info: Any,
    in_dims: tuple[int | None, ...],
    plan: Plan,
    tensors: tuple[Tensor, ...],
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    pairs = list(zip(tensors, in_dims, strict=True))
    results = [
        function.apply(plan, *(t if dim is None else t.select(dim, index) for t, dim in pairs))
        for index in range(info.batch_size)
    ]
    first, second = zip(*results, strict=True)
    return (torch.stack(first), torch.stack(second)), (0, 0)
