"""Divide a model among processes, layer by layer."""

from typing import Any

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


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
