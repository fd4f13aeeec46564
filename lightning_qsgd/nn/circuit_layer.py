"""A quantum circuit as a layer of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_qsgd.backends.backend_of import BackendSource, EngineName, layer_backend_of
from lightning_qsgd.backends.compiled.compiled_circuit import MEMORY_LIMIT_GIB
from lightning_qsgd.backends.evaluation import keys_named
from lightning_qsgd.backends.sampler_autograd import refuse_transforms
from lightning_qsgd.circuits.drawing import draw_text


class CircuitLayer(nn.Module):
    """Stands where qiskit-machine-learning's ``TorchConnector(network)`` stands.

    Same inputs, same outputs, same `weight`; but the circuit is compiled to torch where that
    changes no number, runs on the device of its inputs, keeps float64, and draws its first weights
    from a seed of its own, so that adding the layer shifts no other random number.

    Args:
        source: A `SamplerQNN` or an `EstimatorQNN`, whose outputs are expectation values; a
            circuit with roles, which is a `CircuitSource`; or a backend such
            as `SamplerBackend`, which says how the circuit is sampled.
        initial_weights: First weights in radians, shape (num_weights,); None draws them uniformly
            from [-1, 1), as TorchConnector does. A tensor keeps its precision; numpy arrays and
            lists take torch's default one.
        engine: ``"auto"`` compiles where the network samples exactly and all gates are known, and
            runs the network itself otherwise; ``"compiled"`` compiles whatever the sampler;
            ``"sampler"`` never compiles.
        seed: Names the stream of the drawn weights, and that of a backend's shots.
        memory_limit_gib: Compiled evaluations that would take more memory are refused, in GiB.
        torch_compile: Compile the evaluation with `torch.compile`, for small batches.

    Attributes:
        weight: The circuit's weights in radians, shape (num_weights,), trainable.

    Raises:
        TypeError: If the source is neither network nor circuit, nor a backend of one.
        ValueError: If the initial weights do not fit, the circuit cannot be compiled and must, or a
            backend may leave an evaluation out.

    Example:
        >>> from lightning_qsgd.circuits import SuperpositionCircuit
        >>> layer = CircuitLayer(SuperpositionCircuit(num_qubits=2, reps=1))
        >>> layer(torch.zeros(3, 2)).shape
        torch.Size([3, 4])
    """

    evaluations: Tensor

    def __init__(
        self,
        source: BackendSource,
        initial_weights: Sequence[float] | np.ndarray | Tensor | None = None,
        engine: EngineName = "auto",
        seed: int = 0,
        memory_limit_gib: float = MEMORY_LIMIT_GIB,
        torch_compile: bool = False,
    ) -> None:
        super().__init__()
        limits = {"memory_limit_gib": memory_limit_gib, "torch_compile": torch_compile}
        self.backend = layer_backend_of(source, engine, **limits)
        self.seed = seed
        self.circuit = self.backend.describe()
        self.weight = nn.Parameter(_first_weights(initial_weights, len(self.circuit.weights), seed))
        if self.backend.stochastic:  # elsewhere the state is that of a TorchConnector
            self.register_buffer("evaluations", torch.zeros((), dtype=torch.int64))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one row of inputs."""
        return self.backend.output_shape

    def forward(self, input_data: Tensor | None = None) -> Tensor:
        """Evaluate the circuit for each row of inputs.

        Args:
            input_data: Shape (..., num_inputs); None for a circuit without inputs.

        Returns:
            Probabilities of the outputs, shape (..., *output_shape), in the precision of the
            inputs, or of the weights if that is higher.

        Raises:
            ValueError: If the last dimension is not the number of inputs.
            RuntimeError: If shots would be drawn again within a backward pass.
        """
        inputs = self.weight.new_zeros(0) if input_data is None else input_data
        count = len(self.circuit.inputs)
        if inputs.dim() == 0 or inputs.shape[-1] != count:
            raise ValueError(
                f"Expected inputs of shape (..., {count}), got {tuple(inputs.shape)}: each row "
                "holds the inputs of one circuit. Reshape the data."
            )
        rows = inputs.flatten(0, -2) if inputs.dim() > 1 else inputs.unsqueeze(0)
        rows = rows.to(torch.promote_types(rows.dtype, self.weight.dtype))
        outputs = self.backend.probabilities(rows, self._keys(len(rows)), self.weight)
        return outputs.reshape(*inputs.shape[:-1], *self.output_shape)

    def _keys(self, circuits: int) -> np.ndarray | None:
        """Name the shots of this call by the seed and the number of training calls so far.

        Outside training the number stays, so that validation does not shift what training draws.
        """
        if not self.backend.stochastic:
            return None
        refuse_transforms()
        if self.training and torch._C._current_graph_task_id() != -1:  # as torch's checkpoint asks
            raise RuntimeError(
                "Cannot draw shots within a backward pass, as activation checkpointing does to "
                "compute outputs again: they would differ from those of the loss. Leave this "
                "layer out of `torch.utils.checkpoint`, or use a CompiledBackend."
            )
        self.evaluations += self.training
        return keys_named((self.seed, int(self.training), int(self.evaluations)), circuits)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        state_dict.pop(f"{prefix}_weights", None)  # TorchConnector's second name of `weight`
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def draw(self) -> str:
        """Draw the circuit with characters, for a monospaced font."""
        return draw_text(self.circuit)

    def extra_repr(self) -> str:
        """Describe the layer in the printout of a network."""
        return (
            f"{len(self.circuit.inputs)} inputs, {self.weight.numel()} weights, "
            f"output_shape={self.output_shape}, backend={type(self.backend).__name__}"
        )


def _first_weights(
    given: Sequence[float] | np.ndarray | Tensor | None, count: int, seed: int
) -> Tensor:
    if given is None:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(count, generator=generator, device="cpu").mul_(2).sub_(1)
        return drawn.to(torch.get_default_device(), torch.get_default_dtype())
    weights = torch.as_tensor(given).detach().clone()
    if not (weights.is_complex() or (isinstance(given, Tensor) and weights.is_floating_point())):
        weights = weights.to(torch.get_default_dtype())  # numpy's numbers are float64 unasked
    if weights.shape != (count,):
        raise ValueError(
            f"Expected `initial_weights` of shape ({count},), got {tuple(weights.shape)}: the "
            f"circuit has {count} weights. Pass one value for each."
        )
    if weights.is_complex() or not (weights.is_meta or bool(weights.isfinite().all())):
        raise ValueError(
            f"Expected finite, real `initial_weights`, got {weights}: they are angles in radians. "
            "Pass real numbers."
        )
    return weights
