"""Sees early that a goal names a metric that nobody logs."""

from collections.abc import Collection
from difflib import get_close_matches

from lightning.pytorch import Callback, LightningModule, Trainer

ALIKE = 0.8
"""Similarity above which another name is taken for a misspelling and not for another metric."""


def never_logged(metric: str, logged: Collection[str]) -> str:
    """Say that the goal's metric was not logged, and what was.

    Args:
        metric: Tag of the goal's metric.
        logged: Tags that were logged.

    Example:
        >>> never_logged("val/acc", ["val_acc"])
        '`val/acc` was never logged; logged were val_acc. Did you mean val_acc? Set ...'
    """
    nearest = get_close_matches(metric, logged, n=1)
    hint = f" Did you mean {nearest[0]}?" if nearest else ""
    known = ", ".join(sorted(logged)) or "no metrics at all"
    return (
        f"`{metric}` was never logged; logged were {known}.{hint} Set `goal.metric` to what runs "
        "are judged by, or log it in `validation_step` or `training_step`."
    )


class GoalWatch(Callback):
    """Stops a fit whose goal is a misspelling of what the validation before training logs.

    Args:
        metric: Tag of the goal's metric.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what the first validation batches logged.

        Raises:
            ValueError: If the metric is not there, and one of nearly that name is.
        """
        logged = [str(tag) for tag in trainer.callback_metrics]
        alike = get_close_matches(self.metric, logged, n=1, cutoff=ALIKE)
        if self.metric not in logged and alike:
            raise ValueError(
                f"{never_logged(self.metric, logged)} If it is logged later only, switch this "
                "check off with `--trainer.num_sanity_val_steps 0`."
            )
