"""All statistics of a comparison, arm by arm."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, isfinite, isnan, nan
from statistics import fmean, median, stdev

from lightning_qsgd.compare.results.arm import Arm
from lightning_qsgd.compare.results.gains import (
    are_equal,
    are_identical,
    cost_ratio,
    costs_of,
    diverged_seeds,
    final_values,
    gains_over,
    relative_size,
    rounding_of,
    surpluses,
)
from lightning_qsgd.compare.results.pairing import copied, unpaired
from lightning_qsgd.compare.results.results import Comparison, Results
from lightning_qsgd.compare.statistics import (
    Design,
    HorizonRatio,
    Interval,
    Method,
    PairedGain,
    holm,
    horizon_ratio,
    median_cost,
    paired_gain,
    seeds_for,
    share_reached,
    visible_effect,
)
from lightning_qsgd.compare.statistics.paired_gain import FEWEST_PAIRS, UNKNOWN


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
        untuned: Why the arm has no settings, in a sentence; empty if it has.
        failed: Seeds whose run raised or died.
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
    untuned: str = ""
    failed: tuple[int, ...] = ()

    @property
    def lost(self) -> str:
        """How many runs diverged or failed, in words; empty if none did.

        They are no accident of the draw as a run that is still missing is: the seeds that are left
        may be just those at which the arm does well.
        """
        counts = {"diverged": len(self.diverged), "failed": len(self.failed)}
        parts = [
            f"{what} at {n} {'seed' if n == 1 else 'seeds'}" for what, n in counts.items() if n
        ]
        return " and ".join(parts)

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
        p_holm: p-value of the gain over the baseline, corrected for the number of arms on trial.
        interval: Interval of that gain that holds together with those of all other questions.
        over_controls: Gain over each of the arm's controls, by name.
        p_over_controls: Their p-values, corrected for the number of such questions.
        control_intervals: Their intervals, which hold together too.
        identical: Whether every number equals the baseline's to the last bit.
        equal: Whether every number equals the baseline's but for rounding.
        detectable: Smallest gain that these pairs could have shown, in the metric's unit, if gains
            are normal; NaN if they have no spread, infinite if there is none.
        pairs_for_half: Number of pairs that could show half of it; 0 without a finite one.
        horizon: How long training has to be for the target, over the baseline's, with an interval
            that holds together with those of the other arms on trial; None if nobody asked.
        copies: Seeds that are left out: arm and baseline repeat an earlier seed to the last bit.
    """

    summary: ArmSummary
    gain: PairedGain
    p_holm: float
    interval: Interval
    over_controls: dict[str, PairedGain]
    p_over_controls: dict[str, float]
    control_intervals: dict[str, Interval]
    identical: bool
    equal: bool
    detectable: float
    pairs_for_half: int
    horizon: HorizonRatio | None = None
    copies: tuple[int, ...] = ()

    @property
    def arm(self) -> Arm:
        """The arm."""
        return self.summary.arm


@dataclass(frozen=True)
class Analysis:
    """The statistics of a comparison.

    Attributes:
        method: How sure a claim has to be.
        design: What so many seeds and questions can see.
        baseline: The baseline on its own.
        challenges: All other arms, in the order of the comparison.
    """

    method: Method
    design: Design
    baseline: ArmSummary
    challenges: tuple[Challenge, ...]

    @property
    def on_trial(self) -> tuple[Challenge, ...]:
        """Those of the arms that the comparison asks about."""
        return tuple(one for one in self.challenges if one.arm.kind == "arm")

    @property
    def testable(self) -> tuple[Challenge, ...]:
        """Arms on trial of which any verdict could come out: tested, and without a lost run."""
        whole = [] if self.baseline.lost else self.on_trial
        return tuple(one for one in whole if one.gain.enough and not one.summary.lost)

    @property
    def seen(self) -> Design:
        """What can be seen with the pairs that there are, which may be fewer than planned.

        They are those of the arm on trial that has the fewest, of all that could be better.
        """
        pairs = [one.gain.pairs for one in self.testable]
        return replace(self.design, seeds=min(pairs, default=0))


def analyse(results: Results, method: Method | None = None) -> Analysis:
    """Compute every statistic that a report shows.

    Each challenger is compared with the baseline by three tests, all of which must reject: the
    p-value is the largest of theirs (an intersection-union test). Holm's correction runs over the
    arms on trial. Controls and references are no questions: theirs runs over all challengers, so
    that they cost the arms nothing. The differences between arms and their controls are a family
    with a correction of its own. An arm has to pass both to be called better, so where nothing
    helps, the chance of any false claim about an arm is that of the first family alone. Arms that
    were left out after they had runs stay questions of both families over the baseline.

    Intervals hold together at the level of the comparison: each is taken at that level over the
    number of questions of its family, and cut at zero where Holm's later steps decide the sign.

    Args:
        results: The runs.
        method: Level, power, resamples and seed; None takes the comparison's level, and else the
            defaults of `Method`.

    Returns:
        The same numbers for the same runs, whatever their order.

    References:
        R. L. Berger, "Multiparameter Hypothesis Testing and Acceptance Sampling", Technometrics 24
        (1982), 295-300, for intersection-union tests. O. Guilbaud, "Simultaneous Confidence
        Regions Corresponding to Holm's Step-Down Procedure", Biometrical Journal 50 (2008),
        678-692.
    """
    asked = results.comparison
    method = method or Method(asked.alpha)
    baseline = asked.baseline.name
    apart = unpaired(results)

    def gain_of(arm: str, other: str) -> PairedGain:
        found = gains_over(results, arm, other, apart)
        ours, theirs = (final_values(results, name) for name in (arm, other))
        rounding = {seed: rounding_of([ours[seed], theirs[seed]]) for seed in found}
        return paired_gain(found, method, rounding)

    gains = {arm.name: gain_of(arm.name, baseline) for arm in asked.challengers}
    corrected = _corrected(asked, gains)
    controls = {
        (arm.name, name): gain_of(arm.name, name) for arm in asked.on_trial for name in arm.controls
    }
    p_controls = dict(zip(controls, holm([gain.p for gain in controls.values()]), strict=True))
    design = Design(len(asked.seeds), asked.num_questions, method)
    challenges = []
    for arm in asked.challengers:
        own = {name: controls[arm.name, name] for name in arm.controls}
        p_own = {name: p_controls[arm.name, name] for name in own}
        count = asked.num_questions if arm.kind == "arm" else len({*gains, *asked.left_out})
        gain, p_holm = gains[arm.name], corrected[arm.name]
        challenges.append(
            Challenge(
                summary=_summary(results, arm),
                gain=gain,
                p_holm=p_holm,
                interval=_together(gain, p_holm, count, method),
                over_controls=own,
                p_over_controls=p_own,
                control_intervals={
                    name: _together(other, p_own[name], len(controls), method)
                    for name, other in own.items()
                },
                identical=are_identical(results, arm.name, baseline),
                equal=are_equal(results, arm.name, baseline),
                detectable=_sensitivity(gain, method, count)[0],
                pairs_for_half=_sensitivity(gain, method, count)[1],
                horizon=_horizon(results, arm, method),
                copies=tuple(copied(results, arm.name, baseline)),
            )
        )
    return Analysis(method, design, _summary(results, asked.baseline), tuple(challenges))


def _corrected(asked: Comparison, gains: dict[str, PairedGain]) -> dict[str, float]:
    """Correct the arms on trial for their number, and all others for that of all."""
    on_trial = [arm.name for arm in asked.on_trial]
    before, gone = len(asked.left_out), len({*asked.left_out} - gains.keys())
    of_all = dict(zip(gains, holm([gain.p for gain in gains.values()], gone), strict=True))
    of_arms = dict(zip(on_trial, holm([gains[name].p for name in on_trial], before), strict=True))
    return {**of_all, **of_arms}


def _together(gain: PairedGain, p_holm: float, questions: int, method: Method) -> Interval:
    """Return the interval that holds together with the others, and never contradicts the claim."""
    if not gain.enough:
        return UNKNOWN
    found = gain.interval(method.alpha / questions)
    if p_holm > method.alpha:  # ends of the bootstrap are interpolated, its p-value is not
        return Interval(min(found.low, 0.0), max(found.high, 0.0))
    return (
        Interval(max(found.low, 0.0), found.high)
        if gain.mean > 0
        else Interval(found.low, min(found.high, 0.0))
    )


def _horizon(results: Results, arm: Arm, method: Method) -> HorizonRatio | None:
    asked = results.comparison
    if not results.horizons or arm.kind != "arm":
        return None
    ours, theirs = surpluses(results, arm.name, asked.baseline.name)
    if len(ours) < FEWEST_PAIRS:
        return None
    level = method.alpha / asked.num_questions
    lengths = [*results.horizons, asked.length]
    return horizon_ratio(ours, theirs, lengths, level, method.resamples, method.seed)


def _sensitivity(gain: PairedGain, method: Method, questions: int) -> tuple[float, int]:
    """Return the smallest gain that could have been shown, and the pairs needed for half of it.

    At the level of Holm's first step, which the arm with the smallest p-value has to pass, and by
    the rule that `Design.visible` follows.
    """
    if not gain.enough or gain.sd == 0:
        return nan, 0
    level = method.alpha / questions
    effect = visible_effect(gain.pairs, level, method.power)
    if effect == inf:
        return inf, 0
    return effect * gain.sd, seeds_for(effect / 2, level, method.power)


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
        results.untuned.get(arm.name, "").partition("\n")[0],
        tuple(failure.seed for failure in results.failures if failure.arm == arm.name),
    )


def _median_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not isnan(value)]
    return median(known) if known else nan
