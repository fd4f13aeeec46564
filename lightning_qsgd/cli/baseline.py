"""The baseline of a fit: the same run, unperturbed."""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer

from lightning_qsgd.perturbations import Perturbation
from lightning_qsgd.training import PerturbationCallback, PerturbationMixin
from lightning_qsgd.training.recorded_run import RecordedRun, load_run
from lightning_qsgd.training.wrapping import callbacks_of


def remove_perturbation(model: LightningModule, trainer: Trainer) -> None:
    """Set the strength of every perturbation that the config brought along to 0.

    A wrapped optimizer of strength 0 takes its base's steps bit for bit.

    Args:
        model: The baseline's model; one with the mixin would perturb itself.
        trainer: The baseline's trainer; a callback of the config would perturb it.
    """
    for carrier in (model, *callbacks_of(trainer)):
        if isinstance(carrier, PerturbationMixin | PerturbationCallback):
            carrier.perturbation = replace(carrier.perturbation or Perturbation(), strength=0.0)


ARM = "adamw"
ADAMW = "torch.optim.AdamW"
RECORD = "record.json"


@dataclass(frozen=True)
class Baseline:
    """Asks for a run of plain AdamW from the same seed, weights and data order.

    Args:
        lr: Learning rate; None takes the arm's own, or 1e-3 if it has none.
        weight_decay: Weight decay; None takes the arm's own, or 0.01 if it has none.
        reuse: Whether a stored run with the same configuration may stand in for a new one.

    Raises:
        ValueError: If a number is negative or not finite.

    Example:
        >>> Baseline(lr=1e-3).reuse
        True
    """

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


def baseline_config(config: Namespace) -> Namespace:
    """Turn the configuration of an arm into that of its AdamW baseline.

    Everything stays as it is except the optimizer, the perturbation and the run's place. An arm
    that perturbs AdamW hands on its other arguments too.

    Args:
        config: Parsed configuration of the subcommand `fit`, not instantiated; not changed.
    """
    asked, own = config["baseline"], _optimizer_arguments(config)
    lr = asked["lr"] if asked["lr"] is not None else own.get("lr", 1e-3)
    decay = asked["weight_decay"]
    decay = decay if decay is not None else own.get("weight_decay", 0.01)
    kept = own if (config["optimizer"] or {}).get("class_path") == ADAMW else {}
    arguments = Namespace({**kept, "lr": lr, "weight_decay": decay})
    changed = config.clone()
    changed["optimizer"] = Namespace(class_path=ADAMW, init_args=arguments)
    changed["perturbation"] = changed["baseline"] = changed["ckpt_path"] = None
    changed["run"]["arm"], changed["run"]["name"] = ARM, None
    return changed


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


def _optimizer_arguments(config: Namespace) -> dict[str, Any]:
    optimizer = config.get("optimizer")
    arguments = optimizer.get("init_args") if optimizer else None
    return dict(arguments) if arguments else {}
