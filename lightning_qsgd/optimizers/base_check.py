"""What a base optimizer must be, and which of its steps train nothing."""

import warnings
from functools import partial
from types import CellType
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_qsgd.optimizers.identity import StandIn
from lightning_qsgd.optimizers.motion import nested_optimizers, share_parameters
from lightning_qsgd.optimizers.rows import parameters_of, specs_of
from lightning_qsgd.optimizers.sharding import cuts, held_indices, is_sharded, whole
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.perturbations.step import LOW_PRECISION, ParamGroups

ROUNDED_AWAY = (
    "Some parameters are stored in bfloat16 or float16: updates below about 1/256 (1/2048) of a "
    "value are rounded away, and a perturbation is small. Train with precision='bf16-mixed' or "
    "'16-mixed', which keep float32 parameters."
)
"""What a warning says where parameters have little precision."""

MOST_GATHERED = 2**25
"""Entries of sharded tensors that are touched at one step, at most: each process reads them all."""


def check_base(base: Any, perturbation: Perturbation) -> None:
    """Refuse what is not a complete torch optimizer of its own.

    At strength 0 the wrapper is its base, and any torch optimizer will do.

    Raises:
        TypeError: If `base` is no optimizer, did not initialise `torch.optim.Optimizer`, belongs to
            a trainer, trains elsewhere than in `step`, or steps an optimizer inside it that is
            perturbed already.
    """
    if not isinstance(base, Optimizer):
        raise TypeError(
            f"Expected `base` to be a torch.optim.Optimizer, got {_name(base)}: its parameters "
            "and state cannot be shared. Wrap the torch optimizer inside it instead."
        )
    if perturbation.is_off:
        return
    if _unscales(base):
        raise TypeError(
            f"Cannot perturb {_name(base)}: it belongs to a trainer, whose `step` unscales the "
            "gradients, so that the perturbation would read scaled ones. Perturb the optimizer "
            "inside it first, and hand the perturbed one to the trainer: "
            "fabric.setup(model, PerturbedOptimizer(optimizer))."
        )
    if type(base).__module__.startswith("deepspeed"):
        raise TypeError(
            f"Cannot perturb {_name(base)}: DeepSpeed flattens parameters into partitions that "
            "cannot be mapped to tensors. Use DDP or ModelParallelStrategy."
        )
    if not hasattr(base, "_optimizer_step_pre_hooks"):
        raise TypeError(
            f"Cannot perturb {_name(base)}: it never calls torch.optim.Optimizer.__init__, so its "
            "hooks and state are incomplete. Perturb the optimizer inside it and wrap that."
        )
    _refuse_other_ways(base)
    _refuse_perturbed_inside(base)


def _refuse_other_ways(base: Optimizer) -> None:
    """Refuse what trains in another method than `step`; warn of what may, in hooks of gradients."""
    other = "fused_backward" if callable(getattr(base, "fused_backward", None)) else ""
    if getattr(base, "_overlap_with_ddp", False):
        other = "a hook of DistributedDataParallel (overlap_with_ddp=True)"
    if other:
        raise TypeError(
            f"Cannot perturb {_name(base)}: it moves parameters in {other}, while gradients are "
            "computed, and not in `step`, so that no step would be perturbed. Use an optimizer, or "
            "a setting of it, that moves them in `step`, or set the strength to 0."
        )
    own = set(map(id, nested_optimizers(base)))
    if any(_is_held(hook, own) for p in parameters_of(base.param_groups) for hook in _hooks_of(p)):
        warnings.warn(_MAY_STEP_EARLY.format(type(base).__name__), stacklevel=4)


_MAY_STEP_EARLY = (
    "{0} has hooks on the gradients of its parameters. If it moves parameters there, as optimizers "
    "do that are fused into the backward pass, these moves are not perturbed: only those of `step` "
    "are. Use a setting of {0} that moves them in `step`. If its hooks only read or change "
    "gradients, nothing is wrong."
)


def _hooks_of(parameter: Any) -> list[Any]:
    """Return the functions that run when a parameter's gradient has come."""
    kept = [getattr(parameter, name, None) for name in _HOOKS]
    return [hook for hooks in kept for hook in (hooks or {}).values()]


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def _is_held(hook: Any, own: set[int]) -> bool:
    """Whether a hook is a method of one of these objects, or a function that refers to one.

    What it finds in containers, or in attributes of another object, is not seen.
    """
    if isinstance(hook, partial):
        given = (*hook.args, *hook.keywords.values())
        return _is_held(hook.func, own) or any(id(argument) in own for argument in given)
    cells = getattr(hook, "__closure__", None) or ()
    referred = [cell.cell_contents for cell in cells if cell != CellType()]  # an empty one has none
    referred += [*(getattr(hook, "__defaults__", None) or ())]
    referred += [*(getattr(hook, "__kwdefaults__", None) or {}).values()]
    owners = [hook, *referred]  # a method that is referred to is held, too
    return any(id(x) in own or id(getattr(x, "__self__", None)) in own for x in owners)


def _refuse_perturbed_inside(base: Optimizer) -> None:
    for inner in nested_optimizers(base):
        if not isinstance(inner, StandIn) or inner.perturbation.is_off:
            continue
        if share_parameters(base, inner):
            outer, name = type(base).__name__, type(inner).__name__
            raise TypeError(
                f"Cannot perturb {outer}: the {name} inside it is perturbed already, so each step "
                f"would be perturbed twice. Perturb one of the two: the {name} alone, or the "
                f"{outer} around the bare {name}."
            )


def check_groups(groups: ParamGroups, perturbation: Perturbation) -> None:
    """Refuse parameter groups whose entries or step size cannot be found; none at strength 0.

    What lazy parameters need is known when a forward pass has given them their shapes.

    Raises:
        TypeError: If parameters are flattened, or sharded or stored in a way that hides their
            entries.
        ValueError: If the update needs a learning rate that a group lacks, a group is to be
            differentiated through, or the circuits or the gathered entries of one step do not fit
            into memory.
    """
    if perturbation.is_off:
        return
    for parameter in parameters_of(groups):
        _check_parameter(parameter)
    _check_gathered(groups, perturbation)
    if any(group.get("differentiable") for group in groups):
        raise ValueError(
            "Cannot perturb an optimizer with differentiable=True: the perturbation is added "
            "without a record, so that derivatives through the step would be those of another "
            "step. Leave `differentiable` out, or set the strength to 0."
        )
    if perturbation.injection.needs_learning_rate:
        for index, group in enumerate(groups):
            if group.get("lr") is None:
                raise ValueError(
                    f"Cannot scale the perturbation: parameter group {index} has no `lr`, which "
                    "is Eq. 1's alpha. Give UpdateInjection(step_size=...) or use "
                    "RelativeInjection."
                )
    perturbation.backend.check_capacity(blocks_per_step(groups, perturbation))


def blocks_per_step(groups: ParamGroups, perturbation: Perturbation) -> int:
    """Count the blocks of a step at which every parameter has a gradient."""
    backend, coordinates = perturbation.backend, perturbation.coordinates
    sizes = [coordinates.num_chosen(spec, backend.num_qubits) for *_, spec in specs_of(groups)]
    if not perturbation.injection.modulated:
        return 0
    sizes = [sum(sizes)] if coordinates.spans_tensors else sizes
    return perturbation.seen.circuits(
        backend, sum(-(-size // backend.num_qubits) for size in sizes)
    )


def has_low_precision(groups: ParamGroups) -> bool:
    """Whether some parameters are stored in bfloat16 or float16."""
    return any(parameter.dtype in LOW_PRECISION for parameter in parameters_of(groups))


def has_lazy(groups: ParamGroups) -> bool:
    """Whether some parameters get their shape at the first forward pass."""
    return any(map(is_lazy, parameters_of(groups)))


_OF_TRAINERS = {"LightningOptimizer", "_FabricOptimizer", "AcceleratedOptimizer"}


def _unscales(base: Any) -> bool:
    """Whether an optimizer is a trainer's own wrapper, or holds a gradient scaler."""
    names = {kind.__name__ for kind in type(base).__mro__}
    return bool(names & _OF_TRAINERS) or any(hasattr(v, "unscale_") for v in vars(base).values())


def _check_parameter(parameter: Any) -> None:
    if parameter.is_complex() and parameter.is_conj():
        raise TypeError(
            "Cannot perturb a lazily conjugated parameter: its real and imaginary parts cannot be "
            "written. Make the parameter from tensor.resolve_conj()."
        )
    if getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False):
        raise TypeError(
            "Cannot perturb FSDP1 flat parameters: their entries belong to several tensors and "
            "lie on several processes. Use DDP, or FSDP2 (fully_shard)."
        )
    if hasattr(parameter, "ds_id"):
        raise TypeError(
            "Cannot perturb DeepSpeed ZeRO-3 parameters: their entries lie on several processes. "
            "Use DDP, or FSDP2 (fully_shard)."
        )
    if is_sharded(parameter):
        _check_sharded(parameter)
    elif not is_lazy(parameter):
        _check_readable(parameter.detach())


def _check_readable(values: Any) -> None:
    """Refuse a tensor subclass that hides its entries, such as weights stored in 8 bits."""
    if type(values) is Tensor or not values.numel():
        return
    first = torch.zeros(1, dtype=torch.long, device=values.device)
    try:
        values[(first,) * values.dim()]
    except (NotImplementedError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"Cannot perturb a parameter that is stored as {_name(values)}: single entries of it "
            "cannot be read. Train ordinary parameters, and quantize them afterwards; a base "
            "optimizer with 8-bit or 4-bit moments may stay."
        ) from error


def _check_sharded(parameter: Any) -> None:
    if parameter.device_mesh.get_coordinate() is None:
        raise TypeError(
            "Cannot perturb a DTensor on a device mesh that this process does not belong to: its "
            "entries cannot be read here. Give each process an optimizer of its own parameters."
        )
    odd = [p for _, p in cuts(parameter) if not (p.is_shard() or hasattr(p, "split_factor"))]
    if odd:
        raise TypeError(
            f"Cannot perturb a DTensor parameter placed as {odd[0]}: its entries do not lie on one "
            "process each. Use Shard or Replicate, as fully_shard and parallelize_module do."
        )
    held = held_indices(parameter)
    expected = [len(held[dim]) if dim in held else n for dim, n in enumerate(parameter.shape)]
    actual = list(parameter.to_local().shape)
    if expected != actual:
        raise TypeError(
            f"Cannot perturb a DTensor parameter placed as {parameter.placements}: this process "
            f"holds {actual} of it instead of {expected}, so its entries cannot be found. Shard it "
            "with fully_shard or distribute_tensor."
        )


def _check_gathered(groups: ParamGroups, perturbation: Perturbation) -> None:
    coordinates, num_qubits = perturbation.coordinates, perturbation.backend.num_qubits
    gathered = sum(
        coordinates.num_chosen(spec, num_qubits)
        for parameter, _, spec in specs_of(groups)
        if is_sharded(parameter)
    )
    if gathered > MOST_GATHERED:
        raise ValueError(
            f"Cannot perturb {gathered:,} entries of sharded tensors: every process gathers them "
            f"all, and the limit is {MOST_GATHERED:,}, about 1 GiB in all. Choose fewer "
            "coordinates, such as FirstOfEachTensor, RandomEntries or CyclicEntries with a `count`."
        )


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def refuse_scaled_gradients(base: Optimizer) -> None:
    """Refuse a step whose gradients the base itself would unscale, as those of torch can.

    Args:
        base: One that has a true `_step_supports_amp_scaling`.

    Raises:
        RuntimeError: If the base was told a gradient scale, or whether to skip the step.
    """
    if getattr(base, "grad_scale", None) is not None:
        told = "grad_scale"
    elif getattr(base, "found_inf", None) is not None:
        told = "found_inf"
    else:
        return
    raise RuntimeError(
        f"Cannot perturb a step of scaled gradients: `{told}` is set on {_name(base)}, which then "
        "unscales them itself. Unscale them before the step, as torch.amp.GradScaler does for a "
        "perturbed optimizer, and leave the attribute unset."
    )


def is_dry_run(base: Optimizer) -> bool:
    """Whether a step without closure is no step of training: rates and gradients are all 0.

    torch's distributed checkpoints initialise an optimizer without state by such a step.

    Args:
        base: One that has no state.
    """
    if any(bool(group.get("lr", 1.0) != 0) for group in base.param_groups):
        return False
    gradients = [parameter.grad for parameter in parameters_of(base.param_groups)]
    return not any(gradient is not None and _is_nonzero(gradient) for gradient in gradients)


def _is_nonzero(gradient: Any) -> bool:
    """Whether any entry is not 0, on whatever process it lies."""
    if is_sharded(gradient):
        return bool(whole(gradient.abs().sum()) != 0)
    return bool(gradient.any())
