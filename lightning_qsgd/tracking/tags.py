"""Names of everything that is written to TensorBoard.

The two arms of a comparison write the *same* tags into different runs: in one chart, TensorBoard
gives each run its own colour.
"""

RELATIVE_SIZE = "perturbation/relative_size"
MODEL_RELATIVE_SIZE = "perturbation/model_relative_size"
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


def gap_tag(metric: str) -> str:
    """Name the gap of a metric to the AdamW baseline, in the metric's unit.

    Args:
        metric: Tag of the metric.

    Example:
        >>> gap_tag("val/loss")
        'baseline/gap_val/loss'
    """
    return f"baseline/gap_{metric}"


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
