"""Carries gradients through a SamplerQNN: parameter shift behind torch's autograd."""

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor

from lightning_qsgd.backends.compiled.derivatives import Plain, is_transformed, pull_back

Evaluate = Callable[[Callable[[], Any]], Any]
"""Runs a job and returns its result; where keys, retries and time-outs are added to a network."""


def evaluate_directly(job: Callable[[], Any]) -> Any:
    """Run a job as it is."""
    return job()


def sampler_forward(
    network: SamplerQNN,
    inputs: Tensor,
    weights: Tensor,
    evaluate: Evaluate = evaluate_directly,
    exact: Plain | None = None,
) -> Tensor:
    r"""Evaluate a network so that autograd can differentiate it.

    The vector-Jacobian product contracts what `SamplerQNN.backward` returns, by default the
    parameter-shift rule :math:`\partial_a f = [f(a + \pi/2) - f(a - \pi/2)] / 2` for each angle
    a. Everything is computed in float64, where `TorchConnector` rounds to float32.

    Args:
        network: Any dense `SamplerQNN`.
        inputs: Inputs of the network in its own units, shape (B, num_inputs).
        weights: Weights in radians, shape (num_weights,).
        evaluate: Runs the forward job and, in the backward pass, the gradient job.
        exact: The same as a function of inputs and weights that torch can differentiate, for
            second derivatives, forward mode and `torch.func`; None where shots are drawn.

    Returns:
        The interpreted probabilities, shape (B, \*output_shape), with the dtype and device of
        `inputs`. It carries gradients for whichever of `inputs` and `weights` requires them.

    Raises:
        ValueError: If the network is sparse, or the inputs require a gradient that it does not
            compute.
        NotImplementedError: If it is to be differentiated in a way that only `exact` allows.

    Example:
        >>> from qiskit.circuit import Parameter, QuantumCircuit
        >>> x, w = Parameter("x"), Parameter("w")
        >>> circuit = QuantumCircuit(1)
        >>> _ = circuit.ry(x + w, 0)
        >>> network = SamplerQNN(circuit=circuit, input_params=[x], weight_params=[w])
        >>> weights = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> inputs = torch.tensor([[torch.pi / 2]], dtype=torch.float64)
        >>> sampler_forward(network, inputs, weights)[0, 1].backward()  # P(1) = sin^2(a / 2)
        >>> round(weights.grad.item(), 9)
        0.5

    References:
        Schuld et al. 2019, arXiv:1811.11184.
    """
    if network.sparse:
        raise ValueError(
            "Cannot evaluate a sparse SamplerQNN: torch's autograd needs dense outputs. Build the "
            "network with sparse=False."
        )
    if torch.is_grad_enabled() and inputs.requires_grad and not network.input_gradients:
        raise ValueError(
            "The inputs require a gradient, and the SamplerQNN computes none for inputs. Build the "
            "network with input_gradients=True, or detach the inputs."
        )
    if is_transformed() and exact is not None:
        return exact(inputs, weights)
    refuse_transforms()
    outputs: Tensor = _SamplerFunction.apply(  # type: ignore[no-untyped-call]
        inputs, weights, network, evaluate, exact
    )
    return outputs


class _SamplerFunction(torch.autograd.Function):
    """Evaluates the network forwards, and its Jacobian where gradients are needed."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weights: Tensor,
        network: SamplerQNN,
        evaluate: Evaluate,
        exact: Plain | None,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weights)
        ctx.network, ctx.evaluate, ctx.exact = network, evaluate, exact
        if len(inputs) == 0:
            return inputs.new_zeros((0, *network.output_shape))
        arguments = _double(inputs), _double(weights)
        outputs = np.asarray(evaluate(lambda: network.forward(*arguments)))
        # A circuit without inputs or with a single one comes back without its batch dimension.
        outputs = outputs.reshape(len(inputs), *network.output_shape)
        return torch.from_numpy(outputs).to(inputs.dtype).to(inputs.device)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weights = ctx.saved_tensors
        if torch.is_grad_enabled() and ctx.exact is not None:
            gradients = pull_back(ctx.exact, (inputs, weights), *upstream)
        else:
            known = _Jacobian.apply if torch.is_grad_enabled() else _jacobian
            by_input, by_weight = known(inputs, weights, ctx.network, ctx.evaluate)
            flow = upstream[0].to(by_input.dtype).reshape(by_input.shape[:2])[..., None]
            rows = (flow * by_input).sum(1).to(inputs.dtype)
            total = (flow * by_weight).sum((0, 1)).to(weights.dtype)
            gradients = rows, total.to(weights.device)
        needed = ctx.needs_input_grad
        given = (
            gradient if need else None for gradient, need in zip(gradients, needed, strict=False)
        )
        return *given, None, None, None


def _jacobian(
    inputs: Tensor, weights: Tensor, network: SamplerQNN, evaluate: Evaluate
) -> tuple[Tensor, Tensor]:
    """Return derivatives of the outputs by inputs and weights.

    Returns:
        Shapes (B, outputs, num_inputs) and (B, outputs, num_weights).
    """
    shape = len(inputs), prod(network.output_shape)
    arguments = _double(inputs), _double(weights)
    found = evaluate(lambda: network.backward(*arguments)) if len(inputs) else (None, None)
    by_input, by_weight = (
        _as_tensor(jacobian, (*shape, count), inputs)
        for jacobian, count in zip(found, (inputs.shape[1], len(weights)), strict=True)
    )
    return by_input, by_weight


class _Jacobian(torch.autograd.Function):
    """The same where more derivatives may be asked for, which shifted circuits do not give."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weights: Tensor, network: SamplerQNN, evaluate: Evaluate
    ) -> tuple[Tensor, Tensor]:
        return _jacobian(inputs, weights, network, evaluate)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        raise NotImplementedError(NO_SECOND_DERIVATIVE)


NO_SECOND_DERIVATIVE = (
    "Cannot differentiate sampled circuits in this way: their gradients are estimated from shifted "
    "circuits, by first derivatives in a backward pass. Evaluate the circuit with a "
    "CompiledBackend (engine='compiled' of a layer), which has derivatives of all orders, forward "
    "mode and torch.func."
)


def refuse_transforms() -> None:
    """Refuse to sample circuits under a transform of `torch.func`, or in forward mode.

    Raises:
        NotImplementedError: With the remedy.
    """
    if is_transformed():
        raise NotImplementedError(NO_SECOND_DERIVATIVE)


def _double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()  # in this order: MPS has no float64


def _as_tensor(jacobian: Any, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return a Jacobian in the highest precision of a device; zeros where there is none."""
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    if jacobian is None:
        return torch.zeros(shape, dtype=dtype, device=like.device)
    return torch.from_numpy(np.asarray(jacobian).reshape(shape)).to(dtype).to(like.device)
