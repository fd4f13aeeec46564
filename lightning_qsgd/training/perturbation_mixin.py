"""Perturbs the optimizers of a LightningModule by inheritance."""

import warnings
from collections.abc import Callable
from functools import wraps
from inspect import currentframe
from typing import Any, ClassVar

from lightning.pytorch import Callback
from torch.optim import Optimizer

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training.perturbation_callback import PerturbationCallback
from lightning_qsgd.training.publishing import described
from lightning_qsgd.training.wrapping import is_placeholder, perturb_configured


class PerturbationMixin:
    """Perturbs whatever `configure_optimizers` returns. Name it before `LightningModule`.

    It overrides `configure_optimizers`, which wraps each optimizer, and `optimizer_step`, which
    refuses to step one that is not wrapped. It also brings a `PerturbationCallback`, which logs
    each step and covers `LightningCLI --optimizer`, where the command line replaces
    `configure_optimizers` on the instance.

    A class that defines its own `configure_optimizers` would hide the mixin's; such methods are
    wrapped when the class is made.

    A checkpoint says in words which perturbation the module has. One that is loaded into a module
    with another, as `load_from_checkpoint` makes it where it is given none, is warned of.

    Args:
        perturbation: What to add to the optimizers' steps; Eq. 1 and 2 with strength 0.5 by
            default.
        args: Passed on to the next class.
        kwargs: Passed on to the next class.

    Raises:
        TypeError: When a class is made that names the mixin after `LightningModule`.

    Example:
        >>> import torch
        >>> from lightning.pytorch import LightningModule
        >>> class Module(PerturbationMixin, LightningModule):
        ...     def __init__(self, perturbation: Perturbation | None = None) -> None:
        ...         super().__init__(perturbation=perturbation)
        ...         self.layer = torch.nn.Linear(2, 1)
        ...
        ...     def configure_optimizers(self):
        ...         return torch.optim.AdamW(self.parameters())
        >>> isinstance(Module().configure_optimizers(), PerturbedOptimizer)
        True
    """

    perturbation: Perturbation | None = None

    __jit_ignored_attributes__: ClassVar[list[str]] = ["perturbation"]
    """TorchScript compiles every attribute that it does not ignore."""

    def __init__(self, *args: Any, perturbation: Perturbation | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.perturbation = Perturbation() if perturbation is None else perturbation

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _refuse_late(cls)
        for name, adapt in _ADAPTED.items():
            method = getattr(cls, name)
            if method is not vars(PerturbationMixin)[name] and not _is_adapted(method):
                setattr(cls, name, _adapted(method, adapt))
        own = vars(cls).get("__jit_ignored_attributes__")
        if own is not None:
            cls.__jit_ignored_attributes__ = [*own, "perturbation"]

    def configure_optimizers(self) -> Any:
        """Wrap the optimizers of the next class; see `LightningModule.configure_optimizers`."""
        return _perturb(self, super().configure_optimizers())  # type: ignore[misc]

    def configure_callbacks(self) -> Any:
        """Add a `PerturbationCallback`; see `LightningModule.configure_callbacks`."""
        return _add_callback(self, super().configure_callbacks())  # type: ignore[misc]

    def save_hyperparameters(
        self, *args: Any, ignore: Any = None, frame: Any = None, **kwargs: Any
    ) -> None:
        """Save all but the perturbation: a checkpoint that held one could not be resumed.

        torch loads plain values only (``weights_only=True``). Give `perturbation` again to
        `load_from_checkpoint`, which warns if it differs; see
        `LightningModule.save_hyperparameters`.
        """
        ignored = [ignore] if isinstance(ignore, str) else list(ignore or ())
        caller = currentframe() if frame is None else None
        super().save_hyperparameters(  # type: ignore[misc]
            *args,
            ignore=[*ignored, "perturbation"],
            frame=frame if caller is None else caller.f_back,
            **kwargs,
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note the perturbation in words; see `LightningModule.on_save_checkpoint`."""
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        _note(self, None, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn of another perturbation; see `LightningModule.on_load_checkpoint`."""
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        _compare(self, None, checkpoint)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take a step of a wrapped optimizer; see `LightningModule.optimizer_step`.

        Raises:
            RuntimeError: If the optimizer is not wrapped; no parameter has moved.
        """
        if not (isinstance(optimizer, PerturbedOptimizer) or is_placeholder(optimizer)):
            raise RuntimeError(
                f"{type(self).__name__} is to be perturbed, but its {type(optimizer).__name__} is "
                "not wrapped: something replaced the optimizers after configure_optimizers. "
                "Remove that, or wrap the new optimizer in a PerturbedOptimizer."
            )
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)  # type: ignore[misc]


def _note(module: PerturbationMixin, returned: Any, checkpoint: dict[str, Any]) -> Any:
    """Note the module's perturbation in a checkpoint that is saved."""
    checkpoint[NOTED] = _in_words(module)
    return returned


def _compare(module: PerturbationMixin, returned: Any, checkpoint: dict[str, Any]) -> Any:
    """Warn if a checkpoint that is to be trained on was saved with another perturbation.

    What the checkpoint notes is taken out, so that it is told of once, even if the method of a
    class calls that of its parent.
    """
    noted = checkpoint.pop(NOTED, None)
    trainer = vars(module).get("_trainer")
    is_trained = trainer is None or trainer.training  # not only measured
    now, name = _in_words(module), type(module).__name__
    if is_trained and isinstance(noted, dict):
        pairs = {key: (noted.get(key, own), own) for key, own in now.items()}
        differing = [f"{key} {was}, not {own}" for key, (was, own) in pairs.items() if was != own]
        if differing:
            warnings.warn(_DIFFERS.format(name, "; ".join(differing)), stacklevel=4)
    return returned


_DIFFERS = (
    "{0} was saved with another perturbation than it has now ({1}): a checkpoint says in words "
    "which one that was, and restores none. Give `perturbation` where the module is made, such as "
    "in {0}.load_from_checkpoint(path, perturbation=...), to train on with the same one. If it is "
    "meant to differ, or is not trained any more, nothing is wrong."
)
NOTED = "lightning_qsgd.perturbation"
"""Key of a checkpoint under which the module's perturbation stands in words."""


def _in_words(module: PerturbationMixin) -> dict[str, str]:
    """Say what a module's perturbation is; as text, since a strength may be a number of numpy's."""
    own: Any = Perturbation() if module.perturbation is None else module.perturbation
    is_own = isinstance(own, Perturbation)  # something else is refused where it is trained
    return {name: str(value) for name, value in described(own).items()} if is_own else {}


def _perturb(module: PerturbationMixin, configured: Any) -> Any:
    return perturb_configured(configured, _own(module) or Perturbation())


def _own(module: PerturbationMixin) -> Perturbation | None:
    """Return the module's perturbation.

    Raises:
        TypeError: If the module keeps something else under that name.
    """
    own: Any = module.perturbation
    if own is not None and not isinstance(own, Perturbation):
        raise TypeError(
            f"Expected the attribute `perturbation` of {type(module).__name__} to be a "
            f"Perturbation, got {own!r}: PerturbationMixin keeps there what it adds to the steps. "
            "Give the module's own value another name."
        )
    return own


def _add_callback(module: PerturbationMixin, configured: Any) -> list[Callback]:
    callbacks = list(configured) if isinstance(configured, list | tuple) else [configured]
    trainer = vars(module).get("_trainer")
    existing = [*callbacks, *(trainer.callbacks if trainer is not None else [])]
    # One that another module's mixin left in the trainer is replaced, as Lightning does.
    if any(isinstance(c, PerturbationCallback) and not c.belongs_to_mixin for c in existing):
        return callbacks
    if any(isinstance(callback, PerturbationCallback) for callback in callbacks):
        return callbacks
    own = PerturbationCallback(_own(module))
    own.belongs_to_mixin = True
    return [*callbacks, own]


def _refuse_late(cls: type) -> None:
    """Refuse a class that names the mixin after LightningModule, whose methods would hide it."""
    names = [kind.__name__ for kind in cls.__mro__[: cls.__mro__.index(PerturbationMixin)]]
    if "LightningModule" in names:
        raise TypeError(
            f"Cannot perturb {cls.__name__}: it names PerturbationMixin after LightningModule, "
            "whose configure_optimizers hides the mixin's, so that nothing would be perturbed. "
            f"Name the mixin first: class {cls.__name__}(PerturbationMixin, ...)."
        )


def _adapted(method: Callable[..., Any], adapt: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a method of a subclass. `wraps` keeps Lightning's own checks of it truthful."""

    @wraps(method)
    def adapted(self: PerturbationMixin, *args: Any, **kwargs: Any) -> Any:
        return adapt(self, method(self, *args, **kwargs), *args, **kwargs)

    vars(adapted)["adapted"] = adapted
    return adapted


def _is_adapted(method: Callable[..., Any]) -> bool:
    # A user's own `wraps` copies attributes, but what it names is another function then.
    return vars(method).get("adapted") is method


_ADAPTED: dict[str, Callable[..., Any]] = {
    "configure_optimizers": _perturb,
    "configure_callbacks": _add_callback,
    "on_save_checkpoint": _note,
    "on_load_checkpoint": _compare,
}
