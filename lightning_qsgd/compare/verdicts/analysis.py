"""All statistics of a comparison, arm by arm."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, isfinite, isnan, nan
from statistics import fmean, median, stdev

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.gains import (
    are_identical,
    cost_ratio,
    costs_of,
    diverged_seeds,
    final_values,
    gains_over,
    relative_size,
)
from lightning_qsgd.compare.results.pairing import unpaired
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics import (
    Method,
    PairedGain,
    detectable_effect,
    holm,
    median_cost,
    paired_gain,
    pairs_needed,
    share_reached,
)


@dataclass(frozen=True)
class ArmSummary:
    """What an arm came to, on its own.

    Attributes:
        arm: The arm.
        values: Final metric by seed, finite ones only, in the metric's unit.
        diverged: Seeds whose run ended without a finite metric.
        steps_to_target: Median steps to the target, misses infinite; NaN without a target.
        epochs_to_target: Likewise in epochs.
        seconds_to_target: Likewise in seconds.
        reached: Share of runs that reached the target; NaN without one.
        epoch_seconds: Median seconds of an epoch of training; NaN if unknown.
        step_cost: Seconds per step over the baseline's; NaN if unknown.
        relative_size: Median size of the perturbation relative to the step; NaN if unknown.
    """

    arm: Arm
    values: dict[int, float]
    diverged: tuple[int, ...]
    steps_to_target: float
    epochs_to_target: float
    seconds_to_target: float
    reached: float
    epoch_seconds: float
    step_cost: float
    relative_size: float

    @property
    def mean(self) -> float:
        """Mean of the final metric; NaN without runs."""
        return fmean(self.values.values()) if self.values else nan

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN with fewer than two runs."""
        return stdev(self.values.values()) if len(self.values) > 1 else nan

    @property
    def median(self) -> float:
        """Median of the final metric; NaN without runs."""
        return median(self.values.values()) if self.values else nan


@dataclass(frozen=True)
class Challenge:
    """An arm against the baseline and against its own controls.

    Attributes:
        summary: The arm on its own.
        gain: Gain over the baseline.
        p_holm: p-value of the gain over the baseline, corrected for the number of challengers.
        over_controls: Gain over each of the arm's controls, by name.
        p_over_controls: Their p-values, corrected for the number of such questions.
        identical: Whether every number equals the baseline's to the last bit.
        detectable: Smallest gain that these pairs could have shown, in the metric's unit.
        pairs_for_half: Number of pairs that could show half of it; 0 if the gains have no spread.
    """

    summary: ArmSummary
    gain: PairedGain
    p_holm: float
    over_controls: dict[str, PairedGain]
    p_over_controls: dict[str, float]
    identical: bool
    detectable: float
    pairs_for_half: int

    @property
    def arm(self) -> Arm:
        """The arm."""
        return self.summary.arm


@dataclass(frozen=True)
class Analysis:
    """The statistics of a comparison.

    Attributes:
        method: How sure a claim has to be.
        baseline: The baseline on its own.
        challenges: All other arms, in the order of the comparison.
    """

    method: Method
    baseline: ArmSummary
    challenges: tuple[Challenge, ...]


def analyse(results: Results, method: Method | None = None) -> Analysis:
    """Compute every statistic that a report shows.

    Each challenger is compared with the baseline by three tests, all of which must reject: the
    p-value is the largest of theirs (an intersection-union test). Holm's correction runs over all
    challengers, controls included. The differences between arms and their controls are a second
    family with a correction of its own. An arm has to pass both to be called better, so where
    nothing helps, the chance of any false claim is that of the first family alone.

    Args:
        results: The runs.
        method: Level, power, resamples and seed; the defaults of `Method` if None.

    Returns:
        The same numbers for the same runs, whatever their order.

    References:
        R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24
        (1982), 295-300, for intersection-union tests.
    """
    method = method or Method()
    asked = results.comparison
    baseline = asked.baseline.name
    apart = unpaired(results)

    def gain_of(arm: str, other: str) -> PairedGain:
        return paired_gain(gains_over(results, arm, other, apart), method)

    gains = [gain_of(arm.name, baseline) for arm in asked.challengers]
    controls = [
        {name: gain_of(arm.name, name) for name in arm.controls} for arm in asked.challengers
    ]
    corrected = holm([gain.p for gain in gains])
    of_controls = _holm_of_controls(asked.challengers, controls)
    challenges = [
        Challenge(
            _summary(results, arm),
            gain,
            p_holm,
            own,
            {name: of_controls[arm.name, name] for name in own},
            are_identical(results, arm.name, baseline),
            *_sensitivity(gain, method, len(gains)),
        )
        for arm, gain, p_holm, own in zip(
            asked.challengers, gains, corrected, controls, strict=True
        )
    ]
    return Analysis(method, _summary(results, asked.baseline), tuple(challenges))


def _holm_of_controls(
    arms: tuple[Arm, ...], controls: list[dict[str, PairedGain]]
) -> dict[tuple[str, str], float]:
    p_values = {
        (arm.name, name): gain.p
        for arm, own in zip(arms, controls, strict=True)
        for name, gain in own.items()
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _sensitivity(gain: PairedGain, method: Method, questions: int) -> tuple[float, int]:
    """Return the smallest gain that could have been shown, and the pairs needed for half of it.

    At the level of Holm's first step, which the arm with the smallest p-value has to pass.
    """
    if not gain.enough or gain.sd == 0:
        return nan, 0
    level = method.alpha / questions
    effect = detectable_effect(gain.pairs, level, method.power)
    if effect == inf:
        return inf, 0
    return effect * gain.sd, pairs_needed(effect / 2, level, method.power)


def _summary(results: Results, arm: Arm) -> ArmSummary:
    values = final_values(results, arm.name)
    steps = costs_of(results, arm.name, "steps")
    runs = results.runs_of(arm.name).values()
    return ArmSummary(
        arm,
        {seed: value for seed, value in values.items() if isfinite(value)},
        tuple(diverged_seeds(results, arm.name)),
        median_cost(steps),
        median_cost(costs_of(results, arm.name, "epochs")),
        median_cost(costs_of(results, arm.name, "seconds")),
        share_reached(steps),
        _median_of_known(run.timing.seconds_per_epoch for run in runs),
        cost_ratio(results, arm.name, "step"),
        _median_of_known(relative_size(run) for run in runs),
    )


def _median_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return median(known) if known else nan
