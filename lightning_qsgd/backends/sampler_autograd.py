"""Carries gradients through a SamplerQNN: parameter shift behind torch's autograd."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from qiskit_machine_learning.neural_networks import SamplerQNN
from torch import Tensor
from torch.autograd.function import once_differentiable

Evaluate = Callable[[Callable[[], Any]], Any]
"""Runs a job and returns its result; where keys, retries and time-outs are added to a network."""


def evaluate_directly(job: Callable[[], Any]) -> Any:
    """Run a job as it is."""
    return job()


def sampler_forward(
    network: SamplerQNN, inputs: Tensor, weights: Tensor, evaluate: Evaluate = evaluate_directly
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

    Returns:
        The interpreted probabilities, shape (B, \*output_shape), with the dtype and device of
        `inputs`. It carries gradients for whichever of `inputs` and `weights` requires them.

    Raises:
        ValueError: If the network is sparse, or the inputs require a gradient that it does not
            compute.

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
    outputs: Tensor = _SamplerFunction.apply(  # type: ignore[no-untyped-call]
        inputs, weights, network, evaluate
    )
    return outputs


class _SamplerFunction(torch.autograd.Function):
    """Evaluates the network forwards, and its gradients where they are needed."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weights: Tensor, network: SamplerQNN, evaluate: Evaluate
    ) -> Tensor:
        ctx.save_for_backward(inputs, weights)
        ctx.network, ctx.evaluate = network, evaluate
        if len(inputs) == 0:
            return inputs.new_zeros((0, *network.output_shape))
        arguments = _double(inputs), _double(weights)
        outputs = np.asarray(evaluate(lambda: network.forward(*arguments)))
        # A circuit without inputs or with a single one comes back without its batch dimension.
        outputs = outputs.reshape(len(inputs), *network.output_shape)
        return torch.from_numpy(outputs).to(inputs.dtype).to(inputs.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        inputs, weights = ctx.saved_tensors
        network = ctx.network
        if len(inputs) == 0:
            return torch.zeros_like(inputs), torch.zeros_like(weights), None, None
        arguments = _double(inputs), _double(weights)
        by_input, by_weight = ctx.evaluate(lambda: network.backward(*arguments))
        flow = _double(upstream[0]).reshape(len(inputs), -1)
        rows = _contract("bo,boi->bi", flow, by_input, inputs)
        total = _contract("bo,bow->w", flow, by_weight, weights)
        needed = ctx.needs_input_grad
        return rows if needed[0] else None, total if needed[1] else None, None, None


def _double(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()  # in this order: MPS has no float64


def _contract(pattern: str, flow: np.ndarray, jacobian: Any, like: Tensor) -> Tensor:
    """Contract the outputs of a Jacobian with what flows back; zeros where there is none."""
    if jacobian is None:
        return torch.zeros_like(like)
    jacobian = np.asarray(jacobian).reshape(*flow.shape, -1)
    return torch.from_numpy(np.einsum(pattern, flow, jacobian)).to(like.dtype).to(like.device)
