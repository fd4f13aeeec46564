"""What may be said about arms over several tasks."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import exp, inf, isfinite, isnan, log, nan
from statistics import stdev

import numpy as np
from numpy.typing import NDArray

from lightning_qsgd.compare.results.gains import (
    cost_to_target,
    costs_of,
    final_values,
    gains_over,
    rounding_of,
)
from lightning_qsgd.compare.results.pairing import unpaired
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics import (
    Interval,
    Method,
    mean_over_tasks,
    median_cost,
    performance_profile,
)
from lightning_qsgd.compare.statistics.paired_gain import FEWEST_PAIRS, UNKNOWN
from lightning_qsgd.compare.verdicts.analysis import Analysis, analyse
from lightning_qsgd.compare.verdicts.verdict import Outcome, Verdict, verdicts


class SuiteOutcome(StrEnum):
    """What is said of an arm over all tasks."""

    BETTER = "better over the suite"
    SOME = "better on some tasks"
    MIXED = "better on some tasks, worse on others"
    WORSE = "worse over the suite"
    WORSE_SOME = "worse on some tasks"
    CONTROLLED = "ahead, but not of its own control"
    NO_CLAIM = "no claim possible"
    NO_CLAIM_SOME = "no claim possible on some tasks, nothing seen on the others"
    TOO_FEW = "too few seeds to tell"
    NOTHING = "nothing to tell it from the baseline"


FEWEST_TASKS = 3

ONE_STEP = 1.0
"""What a run pays at least, also if it is at the target before its first step: a ratio needs it."""

CONTROLLED = (Outcome.MATCHED, Outcome.BEATEN)
"""A gain over the baseline that a control has as well."""


@dataclass(frozen=True)
class SuiteArm:
    """An arm on trial over all tasks.

    Attributes:
        arm: Name of the arm.
        verdicts: Its verdict by task.
        gain: Mean over tasks of its gain, in standard deviations of the baseline's runs on the
            task; NaN if a task has too few pairs, or a baseline whose runs do not spread.
        interval: Interval of it by the hierarchical bootstrap, together with those of other arms.
        over_controls: The same intervals of its gain over each control that every task has.
        step_ratio: Geometric mean over tasks of its steps to the target over the baseline's; a run
            that missed counts with the steps it was given; NaN without targets.
        ratio_interval: Interval of it, likewise.
        factors: By how much it is costlier than the cheapest arm, by task that has a target,
            sorted; see `performance_profile`.
    """

    arm: str
    verdicts: dict[str, Verdict]
    gain: float
    interval: Interval
    over_controls: dict[str, Interval]
    step_ratio: float
    ratio_interval: Interval
    factors: list[float]

    @property
    def outcome(self) -> SuiteOutcome:
        """The claim: over the suite if the interval says so, else task by task."""
        better, worse = self._count(Outcome.BETTER), self._count(Outcome.WORSE)
        if better and worse:
            return SuiteOutcome.MIXED
        silent, doubted = self._count(Outcome.NO_CLAIM), self._count(*CONTROLLED)
        ahead = all(one.low > 0 for one in (self.interval, *self.over_controls.values()))
        if ahead and not doubted and not silent and better >= self._needed:
            return SuiteOutcome.BETTER
        if self.interval.high < 0 and not silent and worse >= self._needed:
            return SuiteOutcome.WORSE
        if better or worse:
            return SuiteOutcome.SOME if better else SuiteOutcome.WORSE_SOME
        if doubted:
            return SuiteOutcome.CONTROLLED
        if silent:
            every = silent == len(self.verdicts)
            return SuiteOutcome.NO_CLAIM if every else SuiteOutcome.NO_CLAIM_SOME
        return SuiteOutcome.TOO_FEW if self._count(Outcome.TOO_FEW) else SuiteOutcome.NOTHING

    @property
    def shown_interval(self) -> Interval:
        """The interval of the gain, which goes to zero where no task bears its side out."""
        above = self._count(Outcome.BETTER, *CONTROLLED) >= self._needed
        below = self._count(Outcome.WORSE) >= self._needed
        low, high = self.interval.low, self.interval.high
        if isnan(low) or (low > 0 and above) or (high < 0 and below):
            return self.interval
        return Interval(min(low, 0.0), max(high, 0.0))

    @property
    def _needed(self) -> int:
        # The bootstrap is too eager with few tasks: one of them has to show it, of one or two each.
        return 1 if len(self.verdicts) >= FEWEST_TASKS else len(self.verdicts)

    def _count(self, *outcomes: Outcome) -> int:
        return sum(verdict.outcome in outcomes for verdict in self.verdicts.values())


@dataclass(frozen=True)
class SuiteAnalysis:
    """The statistics of a suite.

    Attributes:
        method: How sure the claims of the whole suite are.
        tasks: Statistics by task, at the share of the level that a task gets.
        arms: The arms on trial that every task has.
        baseline: Name of the baseline.
        profiles: Factors of every arm that all tasks have, the baseline's among them.
        unanswered: Why a task could not be carried out, by its name.
        partly: Arms on trial that some tasks skip, with their verdict by task that has them. They
            are judged task by task, and not over the suite.
        flat: Tasks whose baseline ends at one value at all seeds: no gain has a size in units of
            its spread, so that nothing can be said over the suite.
        aimless: Tasks without a target, which are left out of steps and profiles: there is nothing
            that an arm could reach or miss.
        left_out: Arms that a task's folder has runs of and its plan no longer has. They stay
            questions, of their task and over the suite.
    """

    method: Method
    tasks: dict[str, Analysis]
    arms: tuple[SuiteArm, ...]
    baseline: str
    profiles: dict[str, list[float]]
    unanswered: dict[str, str] = field(default_factory=dict)
    partly: dict[str, dict[str, Verdict]] = field(default_factory=dict)
    flat: tuple[str, ...] = ()
    aimless: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def share_of(method: Method, tasks: int) -> Method:
    """Return how sure the claims of one task have to be, or those over all of them.

    Args:
        method: How sure the claims of the whole suite have to be.
        tasks: Number of tasks.

    Example:
        >>> share_of(Method(alpha=0.06), tasks=5).alpha
        0.01
    """
    return replace(method, alpha=method.alpha / (tasks + 1))


def analyse_suite(
    tasks: Mapping[str, Results],
    method: Method | None = None,
    unanswered: Mapping[str, str] | None = None,
) -> SuiteAnalysis:
    """Compute what tasks say one by one and together.

    Each task, and the question over all of them, gets the same share of the level: with T tasks
    the chance of any false claim in the suite is that of the method, since each of the T + 1
    families is held below its share by itself.

    Args:
        tasks: Results by name of the task, of the same baseline; at least one.
        method: How sure the claims of the whole suite have to be; the defaults of `Method` if None.
        unanswered: Why a task could not be carried out, by its name. It keeps its share of the
            level and allows no claim about any arm, so that failing cannot make a suite easier.
    """
    method, lost = method or Method(), dict(unanswered or {})
    share = share_of(method, len(tasks) + len(lost))
    analyses = {name: analyse(results, share) for name, results in tasks.items()}
    judged = {name: verdicts(analysis) for name, analysis in analyses.items()}
    baseline = next(iter(tasks.values())).comparison.baseline.name
    everywhere, partly = _by_presence(tasks)
    common = list(everywhere)
    aimless = [name for name, one in tasks.items() if one.comparison.goal.target is None]
    costs = {
        arm: [_median_steps(one, arm) for name, one in tasks.items() if name not in aimless]
        for arm in (baseline, *common)
    }
    profiles = performance_profile(costs)
    left_out = sorted({arm for one in tasks.values() for arm in one.comparison.left_out})
    level = share.alpha / max(1, len({*common, *left_out}))
    arms = tuple(
        SuiteArm(
            arm,
            {name: found[arm] for name, found in judged.items()}
            | {name: Verdict(arm, Outcome.NO_CLAIM, reason) for name, reason in lost.items()},
            *_over_tasks(
                [_scaled_gains(one, arm, baseline) for one in tasks.values()], level, method
            ),
            {name: _over_control(tasks, arm, name, level, method) for name in everywhere[arm]},
            *_ratio([_log_ratios(results, arm) for results in tasks.values()], level, method),
            profiles[arm],
        )
        for arm in common
    )
    return SuiteAnalysis(
        *(method, analyses, arms, baseline, profiles, lost),
        {arm: {name: judged[name][arm] for name in places} for arm, places in partly.items()},
        tuple(name for name, results in tasks.items() if not _spread(results)),
        tuple(aimless),
        tuple(left_out),
    )


def _by_presence(
    tasks: Mapping[str, Results],
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Sort the arms on trial, whatever the order of the tasks.

    Returns:
        The controls that all tasks have, by arm that all tasks have; and the tasks that have it, by
        arm that some tasks skip.
    """
    places: dict[str, list[str]] = {}
    for name, results in tasks.items():
        for arm in results.comparison.on_trial:
            places.setdefault(arm.name, []).append(name)
    own = {
        arm: [tasks[name].comparison.arm(arm).controls for name in found]
        for arm, found in places.items()
    }
    everywhere = {
        arm: [control for control in own[arm][0] if all(control in one for one in own[arm])]
        for arm, found in places.items()
        if len(found) == len(tasks)
    }
    return everywhere, {a: found for a, found in places.items() if a not in everywhere}


def _over_tasks(
    groups: list[NDArray[np.float64]], level: float, method: Method
) -> tuple[float, Interval]:
    if any(len(group) < FEWEST_PAIRS for group in groups):
        return nan, UNKNOWN
    return mean_over_tasks(groups, level, method.resamples, method.seed)


def _ratio(
    groups: list[NDArray[np.float64]], level: float, method: Method
) -> tuple[float, Interval]:
    mean, found = (
        _over_tasks([group for group in groups if len(group)], level, method)
        if any(len(group) for group in groups)
        else (nan, UNKNOWN)
    )
    return (mean, found) if isnan(mean) else (exp(mean), Interval(exp(found.low), exp(found.high)))


def _over_control(
    tasks: Mapping[str, Results], arm: str, control: str, level: float, method: Method
) -> Interval:
    groups = [_scaled_gains(results, arm, control) for results in tasks.values()]
    return _over_tasks(groups, level, method)[1]


def _scaled_gains(results: Results, arm: str, other: str) -> NDArray[np.float64]:
    """Return gains in standard deviations of the baseline's runs; none if these do not spread."""
    gains = np.array(list(gains_over(results, arm, other, unpaired(results)).values()))
    spread = _spread(results)
    return gains / spread if spread else np.array([])


def _spread(results: Results) -> float:
    """Return the standard deviation of the baseline's runs; 0 if they differ by rounding alone."""
    values = final_values(results, results.comparison.baseline.name).values()
    known = [value for value in values if isfinite(value)]
    if len(known) < 2 or max(known) - min(known) <= rounding_of(known):
        return 0.0
    return float(stdev(known))


def _log_ratios(results: Results, arm: str) -> NDArray[np.float64]:
    goal, theirs = results.comparison.goal, results.runs_of(results.comparison.baseline.name)
    ratios = []
    for seed, run in results.runs_of(arm).items():
        if seed in theirs:
            costs = [cost_to_target(one, goal, "steps") for one in (run, theirs[seed])]
            ends = [
                one.curves[goal.metric].steps[-1]
                for one in (run, theirs[seed])
                if goal.metric in one.curves
            ]
            if not any(map(isnan, costs)) and max(ends) > 0:
                seen = [max(ONE_STEP, min(cost, max(ends))) for cost in costs]
                ratios.append(log(seen[0] / seen[1]))
    return np.array(ratios)


def _median_steps(results: Results, arm: str) -> float:
    """Return the median steps to the target; a run that failed never got there."""
    costs = costs_of(results, arm, "steps")
    costs += [inf for failure in results.failures if failure.arm == arm]
    known = median_cost(costs)
    return inf if isnan(known) else max(ONE_STEP, known)
