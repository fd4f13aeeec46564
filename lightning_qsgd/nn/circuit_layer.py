"""A quantum circuit as a layer of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lightning_qsgd.backends.compiled.compiled_circuit import MEMORY_LIMIT_GIB
from lightning_qsgd.backends.engines import EngineName, LayerSource, circuit_of, engine_of
from lightning_qsgd.circuits.drawing import draw_text


class CircuitLayer(nn.Module):
    """Stands where qiskit-machine-learning's ``TorchConnector(network)`` stands.

    Same inputs, same outputs, same `weight`; but the circuit is compiled to torch where that
    changes no number, runs on the device of its inputs, keeps float64, and draws its first weights
    from a seed of its own, so that adding the layer shifts no other random number.

    Args:
        source: A `SamplerQNN`, or a circuit with roles: a `CircuitSource`.
        initial_weights: First weights in radians, shape (num_weights,); None draws them uniformly
            from [-1, 1), as TorchConnector does.
        engine: ``"auto"`` compiles where the network samples exactly and all gates are known, and
            runs the network itself otherwise; ``"compiled"`` compiles whatever the sampler;
            ``"sampler"`` never compiles.
        seed: Names the stream of the drawn weights.
        memory_limit_gib: Compiled evaluations that would take more memory are refused, in GiB.
        torch_compile: Compile the evaluation with `torch.compile`, for small batches.

    Attributes:
        weight: The circuit's weights in radians, shape (num_weights,), trainable.

    Raises:
        TypeError: If the source is neither network nor circuit.
        ValueError: If the initial weights do not fit, or the circuit cannot be compiled and must.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> layer = CircuitLayer(SuperpositionCircuit(num_qubits=2, reps=1))
        >>> layer(torch.zeros(3, 2)).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        source: LayerSource,
        initial_weights: Sequence[float] | Tensor | None = None,
        engine: EngineName = "auto",
        seed: int = 0,
        memory_limit_gib: float = MEMORY_LIMIT_GIB,
        torch_compile: bool = False,
    ) -> None:
        super().__init__()
        limits = {"memory_limit_gib": memory_limit_gib, "torch_compile": torch_compile}
        self._engine = engine_of(source, engine, **limits)
        self.circuit = circuit_of(source)
        self.weight = nn.Parameter(_first_weights(initial_weights, self._engine.num_weights, seed))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one row of inputs."""
        return self._engine.output_shape

    def forward(self, input_data: Tensor | None = None) -> Tensor:
        """Evaluate the circuit for each row of inputs.

        Args:
            input_data: Shape (..., num_inputs); None for a circuit without inputs.

        Returns:
            Probabilities of the outputs, shape (..., *output_shape), in the precision of the
            inputs, or of the weights if that is higher.

        Raises:
            ValueError: If the last dimension is not the number of inputs.
        """
        inputs = self.weight.new_zeros(0) if input_data is None else input_data
        count = self._engine.num_inputs
        if inputs.dim() == 0 or inputs.shape[-1] != count:
            raise ValueError(
                f"Expected inputs of shape (..., {count}), got {tuple(inputs.shape)}: each row "
                "holds the inputs of one circuit. Reshape the data."
            )
        rows = inputs.reshape(inputs.shape[:-1].numel(), count)
        rows = rows.to(torch.promote_types(rows.dtype, self.weight.dtype))
        outputs = self._engine.outputs(rows, self.weight)
        return outputs.reshape(*inputs.shape[:-1], *self.output_shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}_weights", None)  # TorchConnector's second name of `weight`
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def draw(self) -> str:
        """Draw the circuit with characters, for a monospaced font."""
        return draw_text(self.circuit)

    def extra_repr(self) -> str:
        """Describe the layer in the printout of a network."""
        engine = self._engine
        return (
            f"{engine.num_inputs} inputs, {engine.num_weights} weights, "
            f"output_shape={self.output_shape}, engine={type(engine).__name__}"
        )


def _first_weights(given: Sequence[float] | Tensor | None, count: int, seed: int) -> Tensor:
    if given is None:
        drawn = torch.rand(count, generator=torch.Generator().manual_seed(seed))
        return drawn.mul_(2).sub_(1).to(torch.get_default_dtype())
    weights = torch.as_tensor(given).detach().clone()
    weights = weights if weights.is_floating_point() else weights.to(torch.get_default_dtype())
    if weights.shape != (count,):
        raise ValueError(
            f"Expected `initial_weights` of shape ({count},), got {tuple(weights.shape)}: the "
            f"circuit has {count} weights. Pass one value for each."
        )
    return weights
