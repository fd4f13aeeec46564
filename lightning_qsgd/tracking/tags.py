"""Tags of TensorBoard, what they tell of a metric, and the scalars of a step under them.

The two arms of a comparison write the *same* tags into different runs: in one chart, TensorBoard
gives each run its own colour.
"""

from __future__ import annotations

import re
from math import isnan
from typing import TYPE_CHECKING

from lightning_qsgd.tracking import tags

if TYPE_CHECKING:
    from lightning_qsgd.optimizers.report import StepReport

RELATIVE_SIZE = "perturbation/relative_size"
MODEL_RELATIVE_SIZE = "perturbation/model_relative_size"
MODEL_RELATIVE_SIZE_ERROR = "perturbation/model_relative_size_standard_error"
COSINE = "perturbation/cosine"
TOUCHED_SHARE = "perturbation/touched_share"
ZERO_SHARE = "perturbation/zero_share"
CIRCUITS = "perturbation/circuits"
SECONDS = "perturbation/seconds"
SHARE_OF_STEP = "perturbation/share_of_step"
SKIPPED = "perturbation/skipped"
STRENGTH_FACTOR = "perturbation/strength_factor"
WEIGHTS_CHANGE = "perturbation/weights_change"

SPEEDUP = "baseline/speedup"

STEPS_TO_TARGET = "convergence/steps_to_target"
EPOCHS_TO_TARGET = "convergence/epochs_to_target"
SECONDS_TO_TARGET = "convergence/seconds_to_target"
AREA_UNDER_LOSS_CURVE = "convergence/area_under_loss_curve"

CIRCUIT_TEXT = "circuit/text"
CIRCUIT_PICTURE = "circuit/picture"


OWN = ("baseline/", "circuit/", "convergence/", "final/", "perturbation/")


def is_own(tag: str) -> bool:
    """Whether a tag is one of this package's, and not of the module that is trained.

    Example:
        >>> is_own("convergence/best_val/accuracy"), is_own("val/accuracy")
        (True, False)
    """
    return tag.startswith(OWN)


def gap_tag(metric: str) -> str:
    """Name the gap of a metric to the AdamW baseline, in the metric's unit.

    Args:
        metric: Tag of the metric.

    Example:
        >>> gap_tag("val/loss")
        'baseline/gap_val/loss'
    """
    return f"baseline/gap_{metric}"


def mean_tag(metric: str) -> str:
    """Name the mean of a metric over seeds.

    A name of its own, so that a chart of means does not show the single runs as well.

    Example:
        >>> mean_tag("val/loss")
        'mean/val/loss'
    """
    return f"mean/{metric}"


def mean_gap_tag(metric: str) -> str:
    """Name the mean gap of a metric to the baseline over seeds, in the metric's unit.

    TensorBoard sorts groups of charts by name: this one comes behind that of the means.

    Example:
        >>> mean_gap_tag("val/loss")
        'mean_gap/val/loss'
    """
    return f"mean_gap/{metric}"


def best_tag(metric: str) -> str:
    """Name the best value that a metric reached during a run.

    Args:
        metric: Tag of the metric.

    Example:
        >>> best_tag("val/accuracy")
        'convergence/best_val/accuracy'
    """
    return f"convergence/best_{metric}"


def final_tag(metric: str) -> str:
    """Name the last value of a metric, for the table of hyperparameters.

    Lightning's `log_hyperparams(params, metrics)` also writes `metrics` as scalars, at step 0.
    Under the tag of the metric itself, the last value would become the first point of its curve.

    Args:
        metric: Tag of the metric.

    Example:
        >>> final_tag("val/accuracy")
        'final/val/accuracy'
    """
    return f"final/{metric}"


def direction_of(metric: str) -> bool | None:
    """Say whether a metric's name means that higher is better; None if it does not tell.

    The last word counts, names of splits left out.

    Example:
        >>> direction_of("val/loss"), direction_of("val_acc"), direction_of("score")
        (False, True, None)
    """
    words = [word for word in re.split(r"[^a-z0-9]+", metric.lower()) if word not in SPLITS]
    if not words or not NEGATED.isdisjoint(words):
        return None
    return False if words[-1] in LOWER else True if words[-1] in HIGHER else None


def are_splits(one: str, other: str) -> bool:
    """Whether two names say the same of different data, such as training and validation.

    Example:
        >>> are_splits("train/iou", "val/iou"), are_splits("val/acc", "val_acc")
        (True, False)
        >>> are_splits("acc", "val_acc")
        False
    """
    words, others = (re.split(r"[^a-z0-9]+", name.lower()) for name in (one, other))
    data = [[word for word in names if word in DATA] for names in (words, others)]
    rest = [[word for word in names if word not in DATA] for names in (words, others)]
    return bool(data[0] and data[1]) and data[0] != data[1] and rest[0] == rest[1]


LOWER = {"loss", "error", "perplexity", "ppl", "mae", "mse", "rmse", "nll", "wer", "cer"}
HIGHER = {"acc", "accuracy", "f1", "auc", "auroc", "precision", "recall", "reward", "bleu", "iou"}
DATA = {"train", "val", "valid", "validation", "test"}
SPLITS = {*DATA, "", "epoch", "step"}
NEGATED = {"neg", "negative", "minus", "inverse"}


def report_scalars(report: StepReport, step_seconds: float) -> dict[str, float]:
    """Give each measured quantity of a step its tag.

    What was not measured or is not defined has no entry: the size relative to the whole model if
    `report.base_sum` is None, what is not learned, and the cosine (NaN) if nothing was added or the
    base optimizer did not move. A relative size may be infinite: something was added where the
    base did not move.

    Args:
        report: The step's measurements. Reading them waits for the device.
        step_seconds: Host seconds of the whole training step, the perturbation included; above 0.

    Returns:
        Values by tag. Sizes, shares and factors are unitless, `SECONDS` is in seconds,
        `WEIGHTS_CHANGE` in radians, `CIRCUITS` a count.

    Raises:
        ValueError: If `step_seconds` is not above 0.

    Example:
        >>> import torch
        >>> from lightning_qsgd.optimizers.report import StepReport
        >>> report = StepReport(
        ...     touched=2, total=8, circuits=1, seconds=0.5, sums=torch.tensor([1.0, 4.0, 2.0, 0.0])
        ... )
        >>> scalars = report_scalars(report, step_seconds=2.0)
        >>> scalars["perturbation/relative_size"], scalars["perturbation/share_of_step"]
        (0.5, 0.25)
    """
    if not step_seconds > 0:
        raise ValueError(
            f"Expected `step_seconds` to be above 0, got {step_seconds}: a share of no time is "
            "not defined. Measure the whole step with `time.perf_counter`."
        )
    measured = {
        tags.RELATIVE_SIZE: report.relative_size,
        tags.MODEL_RELATIVE_SIZE: report.model_relative_size,
        tags.MODEL_RELATIVE_SIZE_ERROR: report.model_relative_size_error,
        tags.COSINE: report.cosine,
        tags.TOUCHED_SHARE: report.touched_share,
        tags.ZERO_SHARE: report.zero_share,
        tags.CIRCUITS: float(report.circuits),
        tags.SECONDS: report.seconds,
        tags.SHARE_OF_STEP: report.seconds / step_seconds,
        tags.STRENGTH_FACTOR: report.strength_factor,
        tags.WEIGHTS_CHANGE: report.weights_change,
    }
    return {tag: value for tag, value in measured.items() if value is not None and not isnan(value)}
