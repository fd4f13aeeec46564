"""The optimizers of a trainer: wrapped in place, and described."""

import re
from dataclasses import replace
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.first_weights import hashed_weights, with_late_weights
from lightning_qsgd.training.recorded_run import FirstWeights


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """Return the trainer's own list; Lightning sets it without declaring it."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return callbacks


def describe_optimizers(trainer: Trainer) -> str:
    """Say in words which optimizers a trainer steps, and which schedules they follow.

    Returns:
        A phrase per optimizer, such as "AdamW (lr 0.001, weight decay 0.01), no schedule"; with
        "2 groups" before the schedule where groups of parameters differ in a setting, and "every
        step", "every 2 epochs" or "by hand" behind one that Lightning does not step once per epoch.
    """
    followed: dict[int, list[str]] = {}
    for config in trainer.lr_scheduler_configs:
        is_automatic = trainer.lightning_module.automatic_optimization
        pace = _pace(config.interval, config.frequency) if is_automatic else BY_HAND
        words = f"{type(config.scheduler).__name__}{pace}"
        followed.setdefault(id(innermost(config.scheduler.optimizer)), []).append(words)
    return "; ".join(
        _described(bare, " + ".join(followed.get(id(bare), [NO_SCHEDULE])))
        for bare in map(innermost, trainer.optimizers)
    )


def _pace(interval: str, frequency: int) -> str:
    """Say how often a schedule steps; nothing where it is Lightning's default."""
    if (interval, frequency) == ("epoch", 1):
        return ""
    return f" {EVERY} {interval}" if frequency == 1 else f" {EVERY} {frequency} {interval}s"


def with_pace(schedule: str) -> str:
    """Say of a schedule of `schedules_of` how often it steps, also where it is once per epoch.

    Example:
        >>> with_pace("StepLR"), with_pace("LinearLR every step + StepLR"), with_pace("no schedule")
        ('StepLR every epoch', 'LinearLR every step + StepLR every epoch', 'no schedule')
    """
    if schedule == NO_SCHEDULE:
        return schedule
    parts = schedule.split(" + ")
    return " + ".join(one if " " in one else f"{one} {EVERY} epoch" for one in parts)


def schedules_of(described: str) -> set[str]:
    """Return the schedules of optimizers that `describe_optimizers` has described.

    Args:
        described: What it returned; descriptions of several runs may be joined by " or ".

    Example:
        >>> sorted(schedules_of("SGD (lr 0.1), no schedule; Adam (lr 0.1, 0.2), StepLR every step"))
        ['StepLR every step', 'no schedule']
    """
    phrases = re.split("; | or ", described) if described else []
    return {phrase.rpartition(", ")[2] for phrase in phrases}


def classes_of(described: str) -> list[str]:
    """Return the classes of optimizers that `describe_optimizers` has described.

    Example:
        >>> classes_of("SGD (lr 0.1), no schedule; Adam (lr 0.1, 0.2), StepLR")
        ['SGD', 'Adam']
    """
    return [phrase.partition(" (")[0] for phrase in described.split("; ") if phrase]


def follows_schedule(described: str) -> bool:
    """Whether an optimizer that `describe_optimizers` has described follows a schedule.

    Example:
        >>> follows_schedule("SGD (lr 0.1), no schedule"), follows_schedule("SGD (lr 0.1), StepLR")
        (False, True)
    """
    return not schedules_of(described) <= {NO_SCHEDULE}


def has_parts(described: str) -> bool:
    """Whether `describe_optimizers` has described several optimizers, or groups that differ.

    Example:
        >>> has_parts("SGD (lr 0.1), no schedule"), has_parts("SGD (lr 0.1, 1), 2 groups, StepLR")
        (False, True)
    """
    return "; " in described or f" {GROUPS}, " in described


NO_SCHEDULE, GROUPS, EVERY, BY_HAND = "no schedule", "groups", "every", " by hand"


def first_weights_of(trainer: Trainer, module: LightningModule) -> FirstWeights:
    """Hash the weights of a module, and count those that its optimizers train.

    Lazy ones have no values before the first forward pass; `complete_weights` adds them.
    """
    first = hashed_weights(module)
    known = 0 if first.has_unknown else count_trained(trainer) or first.parameters
    return replace(first, parameters=known)


def complete_weights(
    first: FirstWeights, trainer: Trainer, module: LightningModule
) -> FirstWeights:
    """Hash lazy weights after the first forward pass, before a step moves them, and count all."""
    late = with_late_weights(first, module)
    return replace(late, parameters=count_trained(trainer) or hashed_weights(module).parameters)


def has_late_hooks(trainer: Trainer, module: LightningModule) -> bool:
    """Whether a module or a callback of the user's may set the weights that a fit starts from.

    It can between the start of the fit and its first batch, unless the fit goes on from a
    checkpoint. Only then weights are hashed again: of a large model it takes seconds.
    """
    begins = trainer.ckpt_path is None and trainer.global_step == trainer.current_epoch == 0
    return begins and any(
        not str(getattr(type(each), hook).__module__).startswith(("lightning.", "lightning_qsgd."))
        for each in (module, *callbacks_of(trainer))
        for hook in ("on_sanity_check_end", "on_train_start", "on_train_epoch_start")
        if hasattr(type(each), hook)
    )


def count_trained(trainer: Trainer) -> int:
    """Count the numbers that a trainer's optimizers move: those that take gradients, each once."""
    held = {
        parameter: parameter.numel()
        for optimizer in trainer.optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.requires_grad and not is_lazy(parameter)
    }
    return sum(held.values())


def innermost(optimizer: Any) -> Optimizer:
    """Return the optimizer inside the wrappers of Lightning and of this package."""
    if isinstance(optimizer, LightningOptimizer):
        return innermost(optimizer.optimizer)
    if isinstance(optimizer, PerturbedOptimizer):
        return innermost(optimizer.base)
    bare: Optimizer = optimizer
    return bare


def _described(optimizer: Optimizer, schedule: str) -> str:
    facts = []
    for key, word in (("lr", "lr"), ("weight_decay", "weight decay")):
        values = [
            group.get("initial_lr", group["lr"]) if key == "lr" else group[key]
            for group in optimizer.param_groups
            if key in group
        ]
        if values:
            facts.append(f"{word} " + ", ".join(f"{float(v):g}" for v in dict.fromkeys(values)))
    # As text: settings may be tensors, which compare entry by entry.
    settings = {
        repr([group.get(key) for key in (*optimizer.defaults, "initial_lr")])
        for group in optimizer.param_groups
    }
    parts = f"{len(settings)} {GROUPS}, " if len(settings) > 1 else ""
    return f"{type(optimizer).__name__} ({', '.join(facts)}), {parts}{schedule}"


def perturb(optimizer: Optimizer, perturbation: Perturbation) -> PerturbedOptimizer:
    """Wrap one optimizer; one that carries the same perturbation already is returned as it is.

    Raises:
        ValueError: If the optimizer carries another perturbation.
    """
    bare = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
    if not isinstance(bare, PerturbedOptimizer):
        return PerturbedOptimizer(bare, perturbation)
    refuse_conflict(bare.perturbation, perturbation)
    return bare


def refuse_conflict(present: Perturbation, asked: Perturbation) -> None:
    """Refuse two different perturbations of one run.

    Raises:
        ValueError: If they differ.
    """
    if present != asked:
        raise ValueError(
            f"The optimizer is perturbed already by {present}, and {asked} was asked for as well: "
            "only one can apply. Configure it in one place: the mixin, the callback or the "
            "optimizer."
        )


def install(trainer: Trainer, optimizers: list[Optimizer]) -> None:
    """Give the trainer these optimizers, and its schedulers the same ones."""
    replaced = dict(zip(map(id, trainer.strategy.optimizers), optimizers, strict=False))
    trainer.strategy.optimizers = optimizers
    for config in trainer.strategy.lr_scheduler_configs:
        own = id(config.scheduler.optimizer)
        config.scheduler.optimizer = replaced.get(own, config.scheduler.optimizer)


def check_strategy(trainer: Trainer) -> None:
    """Refuse a strategy that hides the entries of tensors.

    Raises:
        TypeError: If it flattens parameters.
    """
    for name in (strategy.__name__ for strategy in type(trainer.strategy).__mro__):
        if name in {"FSDPStrategy", "DeepSpeedStrategy"}:
            raise TypeError(
                f"Cannot perturb under {name}: it flattens parameters into partitions, so that "
                "the coordinates of a tensor cannot be found. Use DDPStrategy, or "
                "ModelParallelStrategy with FSDP2."
            )


def is_placeholder(optimizer: Optimizer) -> bool:
    """Whether Lightning made this optimizer because `configure_optimizers` returned None."""
    return type(optimizer).__name__ in {"_MockOptimizer", "Lightning_MockOptimizer"}


def perturb_configured(configured: Any, perturbation: Perturbation) -> Any:
    """Wrap every optimizer in what `configure_optimizers` returned.

    Schedulers in the result are pointed to the wrapper, since Lightning requires that a
    scheduler's optimizer is among the returned ones.

    Args:
        configured: An optimizer, a list of them, ``([optimizers], [schedulers])`` (a named tuple,
            too), a dict with ``"optimizer"`` and ``"lr_scheduler"``, a list of such dicts, or None.
        perturbation: What to add to each optimizer's steps.

    Returns:
        The same structure with wrapped optimizers; what is not understood stays as it is, for
        Lightning to judge.
    """
    wrapped: dict[int, PerturbedOptimizer] = {}
    result = _wrap(configured, perturbation, wrapped)
    _repoint(result, wrapped)
    return result


def _wrap(node: Any, perturbation: Perturbation, wrapped: dict[int, PerturbedOptimizer]) -> Any:
    if isinstance(node, Optimizer):
        if id(node) not in wrapped:
            wrapped[id(node)] = perturb(node, perturbation)
        return wrapped[id(node)]
    if isinstance(node, dict):
        return {key: _wrap(value, perturbation, wrapped) for key, value in node.items()}
    if isinstance(node, list | tuple):
        items = [_wrap(item, perturbation, wrapped) for item in node]
        return type(node)(*items) if hasattr(node, "_fields") else type(node)(items)
    return node


def _repoint(node: Any, wrapped: dict[int, PerturbedOptimizer]) -> None:
    if isinstance(node, dict | list | tuple):
        for item in node.values() if isinstance(node, dict) else node:
            _repoint(item, wrapped)
    elif not isinstance(node, Optimizer):
        held = getattr(node, "optimizer", None)
        # A module that keeps its scheduler hands over one that an earlier fit has re-pointed.
        base = held.base if isinstance(held, PerturbedOptimizer) else held
        if id(base) in wrapped:
            node.optimizer = wrapped[id(base)]


def has_modes(optimizer: Any) -> bool:
    """Whether an optimizer can be switched between the weights of training and good ones."""
    return callable(getattr(innermost(optimizer), "eval", None))
