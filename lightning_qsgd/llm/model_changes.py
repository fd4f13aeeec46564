"""Changes to a model before training: gradient checkpointing, LoRA, a share for each process."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from lightning_qsgd.argument_checks import require_at_least, require_dropout
from lightning_qsgd.llm.hub import load_extra


class ModelChange(ABC):
    """Changes a model in place or wraps it."""

    @abstractmethod
    def apply(self, model: Any) -> Any:
        """Change the model.

        Args:
            model: A `PreTrainedModel`, or what an earlier change made of it.

        Returns:
            The model to train.
        """


@dataclass(frozen=True)
class GradientCheckpointing(ModelChange):
    """Computes activations anew in the backward pass instead of keeping them.

    Numbers stay as they are; a step takes about a third longer.

    Example:
        >>> GradientCheckpointing()
        GradientCheckpointing()
    """

    def apply(self, model: Any) -> Any:
        """Switch it on."""
        # Recent versions of transformers warn about the older name.
        old, new = "gradient_checkpointing_enable", "activation_checkpointing_enable"
        enable = getattr(model, new if hasattr(model, new) else old)
        enable({"use_reentrant": False})
        return model


@dataclass(frozen=True)
class LoRA(ModelChange):
    """Freezes the model and adds trainable matrices of low rank to its linear layers.

    A perturbation on "the first n entries of each tensor" then means those of the added matrices:
    one of the two starts at 0, where sin(πθ) is 0.

    Args:
        rank: Rank of the additions, 1 or more.
        alpha: They are scaled by `alpha / rank`.
        dropout: Share of their inputs dropped in training, in [0, 1).
        targets: Names of the layers that get one; "all-linear" for all but the output.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> LoRA(rank=4).alpha
        16.0

    References:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, arXiv:2106.09685.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str | list[str] = "all-linear"

    def __post_init__(self) -> None:
        require_at_least("rank", self.rank, 1)
        require_dropout(self.dropout)

    def apply(self, model: Any) -> Any:
        """Freeze the model and add the matrices.

        Raises:
            ValueError: If no layer has one of the names.
            ModuleNotFoundError: Without the extra `llm`.
        """
        peft = load_extra("peft")
        config = peft.LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=self.targets,
            task_type=peft.TaskType.CAUSAL_LM,
        )
        try:
            return peft.get_peft_model(model, config)
        except ValueError as error:
            raise ValueError(
                f"Expected `targets` to name layers of the model, got {self.targets}: there are "
                "none of that name to add matrices to. Use 'all-linear', or names such as 'q_proj'."
            ) from error


def shard_layers(model: Any, device_mesh: DeviceMesh) -> None:
    """Shard each decoder layer, then what is left, with FSDP2; a sharded model stays as it is.

    Every process holds a whole copy on its CPU until then: all must have built the same weights,
    from one seed or one file.

    Args:
        model: A `PreTrainedModel`, or one with LoRA; changed in place.
        device_mesh: The mesh of `ModelParallelStrategy`; its dimension "data_parallel" holds the
            processes among which the model is divided.

    Raises:
        ValueError: If the mesh divides tensors too, or the model does not say what its layers are.
    """
    if isinstance(model, FSDPModule):
        return
    mesh, inner = device_mesh["data_parallel"], device_mesh["tensor_parallel"]
    if inner.size() > 1:
        raise ValueError(
            f"Expected `tensor_parallel_size` 1, got {inner.size()}: the layers are not divided "
            "within, so processes of one group would train copies that drift apart. Set the "
            "strategy's `data_parallel_size` to the number of devices (its 'auto' is the number "
            "of nodes), and `tensor_parallel_size` to 1."
        )
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    names = set(base._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ValueError(
            f"Cannot shard {type(base).__name__}: it does not say which of its modules are layers "
            "(`_no_split_modules`), and sharded as one it would be gathered whole at every step. "
            "Train it with DDPStrategy."
        )
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
