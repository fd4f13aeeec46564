"""What a run is judged by, and the TorchMetrics that measure it."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, isnan, nan
from typing import Any, cast

import torch
from torchmetrics import MetricCollection

from lightning_qsgd.metrics import (
    AreaUnderLossCurve,
    BestValue,
    CurveMetric,
    EpochsToTarget,
    FinalValue,
    GapToBaseline,
    SecondsToTarget,
    SpeedupOverBaseline,
    StepsToTarget,
)
from lightning_qsgd.metrics.functional import value_at_step
from lightning_qsgd.tracking import tags
from lightning_qsgd.training.recorded_run import RecordedCurve, RecordedRun


@dataclass(frozen=True)
class Goal:
    """Names the scalars that are compared between runs.

    Args:
        loss: Tag of the training loss, logged at every step.
        metric: Tag of the validation metric, logged at every validation.
        higher_is_better: Whether the metric improves upwards (accuracy) or downwards (loss). None
            takes what the metric's name tells, and stays None if it does not: such a run can be
            logged, and not compared.
        target: Value of the metric to reach, in its unit; fix it before the run. None looks for
            no target.

    Raises:
        ValueError: If `target` is not finite, or the metric is a loss by its name and not said to
            be better lower: the worst arm of a comparison would be called the best.

    Example:
        >>> Goal(metric="val/accuracy", target=0.9).higher_is_better
        True
        >>> Goal(metric="val/energy").higher_is_better
    """

    loss: str = "train/loss"
    metric: str = "val/accuracy"
    higher_is_better: bool | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        if self.target is not None and not isfinite(self.target):
            raise ValueError(
                f"Expected `target` to be finite, got {self.target}: no run could reach it. Leave "
                "it out to look for no target."
            )
        told = tags.direction_of(self.metric)
        if self.higher_is_better is not False and told is False:
            got = "nothing" if self.higher_is_better is None else "true"
            raise ValueError(
                f"Expected `higher_is_better: false` for `{self.metric}`, got {got}: by its name "
                "less is better, and the worst run would count as the best. Say so in the goal, or "
                "log the metric under another name."
            )
        if self.higher_is_better is None:
            object.__setattr__(self, "higher_is_better", told)

    @property
    def is_rising(self) -> bool:
        """Whether the metric improves upwards, for whoever judges by it.

        Raises:
            ValueError: If neither the goal nor the metric's name tells.
        """
        if self.higher_is_better is None:
            raise ValueError(
                f"Expected `goal.higher_is_better` beside `goal.metric: {self.metric}`, got "
                "nothing, and the name does not tell: the worst run could count as the best. "
                "Write true or false."
            )
        return self.higher_is_better

    @property
    def as_logged(self) -> "Goal":
        """This goal, upwards if no direction is known: for what is shown and not judged."""
        return replace(self, higher_is_better=self.higher_is_better is not False)


Summary = dict[str, float]

Instant = tuple[float, float, float]
"""Optimizer steps, epochs and seconds of training so far."""


STORED = ("loss", "metric", "epoch_clock", "second_clock")
"""Collections whose points tell those of the others."""


class ConvergenceMetrics:
    """Collects the loss and the metric of one run, and says how the run converged.

    A `MetricCollection` per scalar and axis holds what is made of the same points; its metrics
    share one list of them. Steps, epochs and seconds tick together, so the two clocks are curves
    too: they tell epoch and seconds at each step. Where training runs on several processes, every
    result is that of all points, and values that share a step are averaged; so every process has to
    ask for it.

    Args:
        goal: Which scalars count, and the target.
        baseline: The recorded baseline run; None leaves gaps and speed-up out.

    Example:
        >>> metrics = ConvergenceMetrics(Goal(target=0.9))
        >>> metrics.add_losses([(1.0, 0.5, 0.1), (2.0, 1.0, 0.2)], [4.0, 2.0])
        >>> metrics.add_metric((2.0, 1.0, 0.2), 0.95)
        >>> metrics.summary()["convergence/steps_to_target"]
        2.0
    """

    def __init__(self, goal: Goal, baseline: RecordedRun | None = None) -> None:
        self.goal, self.baseline = goal, baseline
        self.tags = {
            "area": tags.AREA_UNDER_LOSS_CURVE,
            "best": tags.best_tag(goal.metric),
            "final": tags.final_tag(goal.metric),
            "steps": tags.STEPS_TO_TARGET,
            "epochs": tags.EPOCHS_TO_TARGET,
            "seconds": tags.SECONDS_TO_TARGET,
            "loss_gap": tags.gap_tag(goal.loss),
            "metric_gap": tags.gap_tag(goal.metric),
            "speedup": tags.SPEEDUP,
        }
        self.collections = {
            name: MetricCollection(dict(metrics))
            for name, metrics in _metrics(goal, baseline).items()
        }
        # Asked for one step at a time, on all processes: the whole curve would take ever longer.
        self.live_gap = _gap(baseline, goal.loss, higher_is_better=False, dist_sync_on_step=True)

    def add_losses(self, instants: Sequence[Instant], losses: Sequence[float | None]) -> None:
        """Record training losses.

        Args:
            instants: When each step ended.
            losses: Loss of each step; None where there was none.
        """
        if not instants:
            return
        steps, epochs, seconds = torch.tensor(instants, dtype=torch.float64).unbind(dim=1)
        self._add("epoch_clock", epochs, steps)
        self._add("second_clock", seconds, steps)
        known = [index for index, loss in enumerate(losses) if loss is not None]
        values = [loss for loss in losses if loss is not None]
        self._add("loss", torch.tensor(values, dtype=torch.float64), steps[known])

    def add_metric(self, instant: Instant, value: float) -> None:
        """Record a value of the metric.

        Args:
            instant: When it was measured.
            value: The value, in the metric's unit.
        """
        self.collections["metric"].update(value, instant[0])
        self._add_on_clocks(instant, value)

    def add_run(self, run: RecordedRun) -> None:
        """Record everything that a stored run holds."""
        loss, metric = run.curve(self.goal.loss), run.curve(self.goal.metric)
        self.add_losses(_instants(loss), loss.values)
        self.add_losses(_instants(metric), [None] * len(metric.steps))  # the clocks alone
        for instant, value in zip(_instants(metric), metric.values, strict=True):
            self.add_metric(instant, value)

    def summary(self) -> Summary:
        """Compute how the run converged.

        Returns:
            Values by tag: area under the loss curve, best and last metric, and with a target the
            steps, epochs and seconds to it, ``inf`` if it was not reached. What was not recorded
            has no entry.
        """
        return self._compute({"area", "best", "final", "steps", "epochs", "seconds"})

    def comparison(self) -> Summary:
        """Compute how the run compares with its baseline at the last step that both have.

        Returns:
            Values by tag: the gap (run minus baseline) of the loss and of the metric, and the
            speed-up in steps at the target (NaN while neither has reached it).
        """
        found = self._compute({"loss_gap", "metric_gap", "speedup"})
        return {tag: v for tag, v in found.items() if tag == tags.SPEEDUP or not isnan(v)}

    def gaps_ended(self, step: float) -> set[str]:
        """Return the tags of `comparison` whose baseline has ended before a step.

        The last gap, drawn on, would look like that of the two ends.
        """
        base = self.baseline or RecordedRun()
        compared = (self.goal.loss, self.goal.metric)
        return {tags.gap_tag(tag) for tag in compared if base.curve(tag).steps[-1:] < [step]}

    def gap_of_step(self, loss: float, step: float) -> float:
        """Compute the gap of the loss at one step; NaN outside of the baseline's range."""
        if self.live_gap is None:
            return nan
        gap = float(self.live_gap(loss, step))
        self.live_gap.reset()
        return gap

    def curves(self) -> dict[str, RecordedCurve]:
        """Return what was recorded, by tag of the goal, on this process or on all if synchronised.

        A tag that has no point has no curve.
        """
        found = {self.goal.loss: self._any("loss"), self.goal.metric: self._any("metric")}
        clocks = [self._any("epoch_clock"), self._any("second_clock")]
        return {
            tag: _recorded(metric, clocks) for tag, metric in found.items() if metric.num_points
        }

    def synced_curves(self) -> dict[str, RecordedCurve]:
        """Return `curves` of all processes, each of which has to ask."""
        observed = [self._any(name) for name in STORED]
        for metric in observed:
            metric.sync()
        try:
            return self.curves()
        finally:
            for metric in observed:
                if metric._is_synced:
                    metric.unsync()

    def to(self, device: torch.device) -> None:
        """Move the points to another device, where processes can exchange them."""
        for collection in self.collections.values():
            collection.to(device)
        if self.live_gap is not None:
            self.live_gap.to(device)

    def state_dict(self) -> dict[str, Any]:
        """Return the points as tensors, for a checkpoint: those of a collection once."""
        return {name: dict(self._any(name).state_dict()) for name in STORED}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over saved points, also those of a run with another target or baseline.

        Raises:
            ValueError: If they are no points of curves.
        """
        for name in STORED:
            try:
                for metric in self.collections[name].values(copy_state=False):
                    metric.load_state_dict(state_dict[name])
            except (KeyError, RuntimeError, TypeError, AttributeError) as error:
                raise ValueError(f"the points of {name!r} do not fit: {error!r}") from error
        stored = self.curves().get(self.goal.metric, RecordedCurve())
        for instant, value in zip(_instants(stored), stored.values, strict=True):
            self._add_on_clocks(instant, value)

    @property
    def device(self) -> torch.device:
        """Where the points are kept."""
        return self._any("loss").device

    @property
    def last_instant(self) -> Instant:
        """When the last step was recorded."""
        clocks = [self._any("epoch_clock"), self._any("second_clock")]
        if not clocks[0].num_points:
            return 0.0, 0.0, 0.0
        (steps, epochs), (_, seconds) = (clock.curve() for clock in clocks)
        return float(steps[-1]), float(epochs[-1]), float(seconds[-1])

    def _add_on_clocks(self, instant: Instant, value: float) -> None:
        _, *times = instant
        for name, time in zip(("metric_epochs", "metric_seconds"), times, strict=True):
            if name in self.collections and isfinite(time):
                self.collections[name].update(value, time)

    def _any(self, name: str) -> CurveMetric:
        metric = next(iter(self.collections[name].values(copy_state=False)))
        return cast(CurveMetric, metric)

    def _add(self, name: str, values: torch.Tensor, steps: torch.Tensor) -> None:
        if values.numel():
            self.collections[name].update(values, steps)

    def _compute(self, wanted: set[str]) -> Summary:
        found: Summary = {}
        for name, collection in self.collections.items():
            if not wanted & set(collection.keys()):
                continue
            with warnings.catch_warnings():
                # Other processes may have points where this one has none.
                warnings.filterwarnings("ignore", "The ``compute`` method of metric")
                values = collection.compute()
            seen = self._any(name).num_points > 0
            found |= {self.tags[k]: float(v) for k, v in values.items() if seen or not v.isnan()}
        return {tag: found[tag] for key, tag in self.tags.items() if key in wanted and tag in found}


def summarise(run: RecordedRun, goal: Goal) -> Summary:
    """Summarise how a stored run converged; see `ConvergenceMetrics.summary`.

    Args:
        run: The recorded curves.
        goal: Which of them count, and the target.
    """
    return _of_stored(run, goal).summary()


def compare(run: RecordedRun, baseline: RecordedRun, goal: Goal) -> Summary:
    """Compare a stored run with its baseline; see `ConvergenceMetrics.comparison`.

    Args:
        run: The recorded curves of the arm.
        baseline: Those of the baseline.
        goal: Which curves count, and the target.
    """
    return _of_stored(run, goal, baseline).comparison()


def _of_stored(run: RecordedRun, *judged_by: Any) -> ConvergenceMetrics:
    """Hold a stored run: its points are those of all processes, so no other one is asked again."""
    metrics = ConvergenceMetrics(*judged_by)
    for collection in metrics.collections.values():
        for metric in collection.values(copy_state=False):
            metric.distributed_available_fn = lambda: False
    metrics.add_run(run)
    return metrics


def _metrics(goal: Goal, baseline: RecordedRun | None) -> dict[str, Mapping[str, CurveMetric]]:
    """Lay out which metrics see the same points."""
    up = {"higher_is_better": goal.as_logged.is_rising}
    over_steps: dict[str, CurveMetric | None] = {
        "best": BestValue(**up),
        "final": FinalValue(**up),
        "metric_gap": _gap(baseline, goal.metric, **up),
    }
    layout: dict[str, Mapping[str, CurveMetric | None]] = {
        "loss": {
            "area": AreaUnderLossCurve(),
            "loss_gap": _gap(baseline, goal.loss, higher_is_better=False),
        },
        "metric": over_steps,
        "epoch_clock": {"epoch": FinalValue(higher_is_better=True)},
        "second_clock": {"second": FinalValue()},
    }
    if goal.target is not None:
        over_steps["steps"] = StepsToTarget(goal.target, **up)
        layout["metric_epochs"] = {"epochs": EpochsToTarget(goal.target, **up)}
        layout["metric_seconds"] = {"seconds": SecondsToTarget(goal.target, **up)}
        base = baseline.curve(goal.metric) if baseline is not None else RecordedCurve()
        if base.steps:
            over_steps["speedup"] = SpeedupOverBaseline(base.steps, base.values, goal.target, **up)
    return {
        name: {key: metric for key, metric in metrics.items() if metric is not None}
        for name, metrics in layout.items()
    }


def _gap(
    baseline: RecordedRun | None, tag: str, higher_is_better: bool, dist_sync_on_step: bool = False
) -> GapToBaseline | None:
    curve = baseline.curve(tag) if baseline is not None else RecordedCurve()
    if not curve.steps:
        return None
    return GapToBaseline(
        curve.steps,
        curve.values,
        higher_is_better=higher_is_better,
        dist_sync_on_step=dist_sync_on_step,
    )


def _recorded(metric: CurveMetric, clocks: Iterable[CurveMetric]) -> RecordedCurve:
    steps, values = (points.tolist() for points in metric.curve())
    epochs, seconds = (list(_read(clock, steps)) for clock in clocks)
    return RecordedCurve(steps, epochs, seconds, values)


def _read(clock: CurveMetric, steps: Iterable[float]) -> Iterator[float]:
    """Read a clock at some steps; before the first batch it stands at 0."""
    if not clock.num_points:
        return (0.0 for _ in steps)
    known, shown = (points.tolist() for points in clock.curve())
    return (0.0 if step < known[0] else value_at_step(known, shown, step) for step in steps)


def _instants(curve: RecordedCurve) -> list[Instant]:
    return list(zip(curve.steps, curve.epochs, curve.seconds, strict=True))
