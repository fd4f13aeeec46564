"""The baseline of a fit: the same run, unperturbed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, Literal, TypeAlias

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lightning_qsgd.optimizers import PerturbedOptimizer
from lightning_qsgd.optimizers.motion import nested_optimizers
from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from lightning_qsgd.training.recorded_run import RecordedRun, load_run
from lightning_qsgd.training.wrapping import callbacks_of

Kind = Literal["adamw", "own"]
ADAMW = "torch.optim.AdamW"
RECORD = "record.json"


@dataclass(frozen=True)
class Baseline:
    """Asks for an unperturbed run from the same seed, weights and data order.

    Args:
        optimizer: "adamw" trains with plain AdamW; "own" with the arm's own optimizer and
            schedule, at strength 0. None takes AdamW where one optimizer can stand in for the
            arm's, and "own" elsewhere: for modules that step their optimizers by hand (GANs, SAM),
            and command lines whose optimizer is fixed.
        lr: Learning rate of AdamW; None takes the arm's own, or 1e-3 if it has none.
        weight_decay: Weight decay of AdamW; None takes the arm's own, or 0.01 if it has none.
        reuse: Whether a stored run with the same configuration may stand in for a new one.

    Raises:
        ValueError: If a number is negative or not finite, or given for an optimizer of the arm's.

    Example:
        >>> Baseline(lr=1e-3).reuse
        True
    """

    optimizer: Kind | None = None
    lr: float | None = None
    weight_decay: float | None = None
    reuse: bool = True

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay"):
            value = getattr(self, name)
            if value is not None and not (isfinite(value) and value >= 0):
                raise ValueError(
                    f"Expected `baseline.{name}` to be non-negative and finite, got {value}: "
                    "AdamW could not train with it. Leave it out to take the arm's own."
                )
            if value is not None and self.optimizer == "own":
                raise ValueError(
                    f"Expected no `baseline.{name}` with `baseline.optimizer: own`, got {value}: "
                    "the arm's own optimizer is taken as it is. Leave it out, or write `adamw`."
                )

    @property
    def arm(self) -> str:
        """Name of the folder of its runs."""
        return self.optimizer or "adamw"

    @property
    def title(self) -> str:
        """Name for people."""
        return "own" if self.optimizer == "own" else "AdamW"


BaselineAsked: TypeAlias = Baseline | Kind | None
"""What `--baseline` takes: a word, or a mapping with more."""


def baseline_of(
    config: Namespace, parser: LightningArgumentParser, model: LightningModule
) -> Baseline:
    """Settle which baseline is asked for, now that the model is there.

    Args:
        config: Parsed configuration of the subcommand `fit`, with a `baseline`.
        parser: Its parser, which knows whether the optimizer can be chosen.
        model: The arm's model.

    Raises:
        ValueError: If AdamW is asked for and cannot stand in for the arm's optimizers.
    """
    given = config["baseline"]
    values = {"optimizer": given} if isinstance(given, str) else dict(given)
    asked = Baseline(**values)
    obstacle = _obstacle(parser, model)
    if asked.optimizer == "adamw" and obstacle:
        raise ValueError(
            f"Cannot train an AdamW baseline: {obstacle}. Write `--baseline own`, which takes the "
            "arm's own optimizer and schedule at strength 0."
        )
    if asked.optimizer is not None:
        return asked
    return replace(asked, optimizer="own" if obstacle else "adamw")


def _obstacle(parser: LightningArgumentParser, model: LightningModule) -> str:
    """Say why one AdamW cannot replace what the arm trains with; empty if it can."""
    if not model.automatic_optimization:
        return f"{type(model).__name__} steps its optimizers by hand (manual optimization)"
    kind, link = parser._optimizers.get("optimizer", (None, ""))
    if not isinstance(kind, tuple) or link != "AUTOMATIC":
        return "this command line has no `--optimizer` that could be exchanged"
    return ""


class Unperturbed(Callback):
    """Switches off optimizers that the module or the config perturbs itself."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give every perturbed optimizer strength 0, at which it takes its base's steps.

        Those inside another optimizer too, such as what SAM steps. They are changed in place: the
        module may hold them, too.
        """
        for optimizer in chain.from_iterable(map(nested_optimizers, trainer.optimizers)):
            if isinstance(optimizer, PerturbedOptimizer):
                optimizer._describe(switched_off(optimizer.perturbation))


def switched_off(perturbation: Perturbation | None) -> Perturbation:
    """Return the same perturbation at strength 0."""
    return replace(perturbation or Perturbation(), strength=0.0, learning=None)


def remove_perturbation(model: LightningModule, trainer: Trainer) -> None:
    """Set the strength of every perturbation that the config brought along to 0.

    A wrapped optimizer of strength 0 takes its base's steps bit for bit.

    Args:
        model: The baseline's model; one with the mixin would perturb itself.
        trainer: The baseline's trainer; a callback of the config would perturb it.
    """
    for carrier in (model, *callbacks_of(trainer)):
        if isinstance(carrier, PerturbationMixin | PerturbationCallback):
            carrier.perturbation = switched_off(carrier.perturbation)


def carried_perturbation(carriers: Iterable[object]) -> Perturbation | None:
    """Find the perturbation that a module or a callback of the config brings along.

    Args:
        carriers: The module, and the callbacks of the config.
    """
    for carrier in carriers:
        if isinstance(carrier, PerturbationMixin | PerturbationCallback):
            own: object = carrier.perturbation
            # Something else under that name is the mixin's to refuse.
            return own if isinstance(own, Perturbation) else Perturbation()
    return None


def baseline_config(config: Mapping[str, Any], asked: Baseline) -> dict[str, Any]:
    """Turn the configuration of an arm into that of its baseline.

    Everything stays as it is except the optimizer, the perturbation and the run's place. An arm
    that perturbs AdamW hands on its other arguments too.

    Args:
        config: Configuration of the subcommand `fit`, plain values; not changed.
        asked: What is asked for, its optimizer settled.
    """
    changed = dict(config)
    if asked.optimizer != "own":
        changed["optimizer"] = _adamw(config.get("optimizer") or {}, asked)
    changed["perturbation"] = changed["baseline"] = changed["ckpt_path"] = None
    changed["run"] = {**config["run"], "arm": asked.arm, "name": None}
    return changed


def _adamw(optimizer: Mapping[str, Any], asked: Baseline) -> dict[str, Any]:
    own = dict(optimizer.get("init_args") or {})
    lr = asked.lr if asked.lr is not None else own.get("lr", 1e-3)
    decay = asked.weight_decay
    decay = decay if decay is not None else own.get("weight_decay", 0.01)
    kept = own if optimizer.get("class_path") == ADAMW else {}
    return {"class_path": ADAMW, "init_args": {**kept, "lr": lr, "weight_decay": decay}}


def find_recorded(folder_of_arm: Path, wanted: str) -> tuple[Path, RecordedRun] | None:
    """Find a stored run with the wanted fingerprint; damaged records are passed over."""
    for file in sorted(folder_of_arm.glob(f"*/{RECORD}")):
        try:
            run = load_run(file)
        except ValueError:
            continue
        if run.fingerprint == wanted:
            return file.parent, run
    return None


def refuse_ignored_scheduler(config: Namespace) -> None:
    """Refuse a schedule that the arm would not follow.

    LightningCLI drops `lr_scheduler` where no `optimizer` is given; a baseline, which has one,
    would follow it.

    Raises:
        ValueError: If there is a scheduler without an optimizer.
    """
    if config.get("lr_scheduler") is not None and config.get("optimizer", True) is None:
        name = config["lr_scheduler"].get("class_path", "lr_scheduler")
        raise ValueError(
            f"Expected an `optimizer` beside `lr_scheduler: {name}`, got none: LightningCLI "
            "ignores the schedule then, and only a baseline would follow it. Name the optimizer, "
            "or let `configure_optimizers` of the module return the schedule."
        )


def words_for_replaced(model: LightningModule) -> str:
    """Say which method the optimizer of a config takes the place of; empty if there is none.

    Lightning's own warning is filtered: of a module of this package, whose method makes one
    optimizer without a schedule, nothing is to be said.

    Args:
        model: The module, with the method that LightningCLI has given it.
    """
    given = getattr(model.configure_optimizers, "__func__", None)
    own = str(type(model).configure_optimizers.__module__)
    if not isinstance(given, partial) or own.startswith(("lightning.", "lightning_qsgd.")):
        return ""
    return (
        f"{type(model).__name__}.configure_optimizers is not called: the config's optimizer takes "
        "its place, and that of any schedule, groups and further optimizers it makes. A schedule "
        "is given by --lr_scheduler."
    )
