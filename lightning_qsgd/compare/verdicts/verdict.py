"""The rule: what may be said about an arm, in words that claim no more than its runs show.

1. Every number at every planned seed equal to the baseline's: identical; equal but for rounding:
   equal.
2. Fewer than three pairs: no claim possible, or too few seeds to tell if no more were planned and
   none was lost.
3. p > alpha after Holm's correction over the arms on trial, where p is the largest of three tests
   (t, t corrected for skew, BCa bootstrap): no detectable effect, or too few seeds to tell if there
   are not enough pairs to see even an effect of two standard deviations.
4. A mean gain below zero: worse.
5. A gain that is not beyond each of the arm's controls: matched or beaten by its own control.
6. Otherwise: better.

Runs that diverged or failed are no pairs, and those that are left flatter who lost them. So an arm
that lost runs is never better, one whose baseline lost runs is never worse, and neither is without
a detectable effect: no claim is possible. A control that lost runs matches an arm, and beats none.
Pairs that copy an earlier one to the last bit are none, too: their seeds changed nothing.

`analysis.py` computes what the rule reads.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import isinf, isnan

from lightning_qsgd.compare.statistics import FEWEST_PAIRS, Interval, Method, PairedGain
from lightning_qsgd.compare.statistics.power import LARGE
from lightning_qsgd.compare.verdicts.analysis import Analysis, Challenge


class Outcome(StrEnum):
    """The verdicts, in the order in which they are told; each arm gets exactly one."""

    BETTER = "better"
    BEATEN = "beaten by its own control"
    MATCHED = "matched by its own control"
    WORSE = "worse"
    UNDETECTED = "no detectable effect"
    TOO_FEW = "too few seeds to tell"
    EQUAL = "equal to the baseline"
    IDENTICAL = "identical to the baseline"
    NO_CLAIM = "no claim possible"


@dataclass(frozen=True)
class Verdict:
    """What is claimed about an arm, and why.

    Attributes:
        arm: Name of the arm.
        outcome: The claim.
        reason: The evidence in a sentence or two.
    """

    arm: str
    outcome: Outcome
    reason: str

    def __str__(self) -> str:
        return f"{self.arm}: {self.outcome}. {self.reason}"


def verdicts(analysis: Analysis) -> dict[str, Verdict]:
    """Judge every challenger.

    Args:
        analysis: The statistics.

    Returns:
        Verdict by arm, in the order of the comparison.
    """
    baseline = analysis.baseline.arm.name
    return {
        challenge.arm.name: _judge(challenge, baseline, analysis)
        for challenge in analysis.challenges
    }


def describe_gain(gain: PairedGain, interval: Interval, method: Method) -> str:
    """Write a gain with its interval.

    Example:
        >>> from lightning_qsgd.compare.statistics import paired_gain
        >>> gain = paired_gain({0: 0.1, 1: 0.3, 2: 0.2}, Method())
        >>> describe_gain(gain, gain.t, Method())
        '+0.2 (95 % interval -0.0484 to +0.448)'
    """
    ends = f"{interval.low:+.3g} to {interval.high:+.3g}"
    return f"{gain.mean:+.3g} ({method.confidence} interval {ends})"


def _judge(challenge: Challenge, baseline: str, analysis: Analysis) -> Verdict:
    outcome, reason = _outcome(challenge, baseline, analysis)
    return Verdict(challenge.arm.name, outcome, reason)


def _outcome(challenge: Challenge, baseline: str, analysis: Analysis) -> tuple[Outcome, str]:
    gain, method = challenge.gain, analysis.method
    if challenge.identical:
        return Outcome.IDENTICAL, f"Every number equals that of {baseline}, to the last bit."
    if challenge.summary.untuned:
        return Outcome.NO_CLAIM, challenge.summary.untuned
    if not gain.enough:
        planned = analysis.design.seeds >= FEWEST_PAIRS  # and some are missing, or copies
        lost = challenge.summary.lost or analysis.baseline.lost
        no_claim = planned or lost or challenge.copies
        return Outcome.NO_CLAIM if no_claim else Outcome.TOO_FEW, _too_few(challenge, analysis)
    if challenge.equal:
        return Outcome.EQUAL, f"Every number equals that of {baseline} at every seed, to rounding."
    shown = describe_gain(gain, challenge.interval, method)
    found = f"{shown} over {baseline}, p = {challenge.p_holm:.2g}"
    seen = challenge.p_holm <= method.alpha
    # A lost run has no gain, so that what is left flatters its arm: the opposite may still be said.
    flattered = {
        challenge.arm.name: "" if seen and gain.mean < 0 else challenge.summary.lost,
        baseline: "" if seen and gain.mean > 0 else analysis.baseline.lost,
    }
    losses = [f"{name} {lost}" for name, lost in flattered.items() if lost]
    if losses:
        return Outcome.NO_CLAIM, (
            f"{found} where both finished, but {', and '.join(losses)}: the runs that are left "
            "flatter who lost others."
        )
    if not seen:
        return _nothing_seen(challenge, found, analysis)
    if gain.mean < 0:
        return Outcome.WORSE, f"{found}."
    return _against_controls(challenge, found, analysis)


def _nothing_seen(challenge: Challenge, found: str, analysis: Analysis) -> tuple[Outcome, str]:
    needed = analysis.design.seeds_needed
    if challenge.gain.pairs >= needed:
        return Outcome.UNDETECTED, f"{found}. {_sensitivity(challenge, analysis.method)}"
    return Outcome.TOO_FEW, (
        f"{found}. With {challenge.gain.pairs} pairs and {analysis.design.questions} arms on trial "
        f"not even an effect of {LARGE:g} standard deviations would show reliably; {needed} are "
        f"needed. {_sensitivity(challenge, analysis.method)}"
    )


def _too_few(challenge: Challenge, analysis: Analysis) -> str:
    few = f"Only {challenge.gain.pairs} seeds have a final metric of both"
    ends = (challenge.summary, analysis.baseline)
    lost = {one.arm.name: one.lost for one in ends}
    reasons = [f"{name} {words}" for name, words in lost.items() if words]
    if challenge.copies:
        seeds = f"seed{'s' * (len(challenge.copies) > 1)} {', '.join(map(str, challenge.copies))}"
        reasons.append(f"both repeat an earlier seed to the last bit at {seeds}")
    why = f", for {', and '.join(reasons)}" if reasons else ""
    return f"{few}{why}; {FEWEST_PAIRS} are needed."


def _against_controls(challenge: Challenge, found: str, analysis: Analysis) -> tuple[Outcome, str]:
    method = analysis.method
    own, p_values = challenge.over_controls, challenge.p_over_controls
    if not own:
        unmatched = " No control was matched to it." if challenge.arm.kind == "arm" else ""
        return Outcome.BETTER, f"{found}.{unmatched}"
    if any(not gain.enough for gain in own.values()):
        return Outcome.NO_CLAIM, f"{found}, but a control of it has too few finished runs."
    # The control that is hardest to beat: one that is ahead, then the least certain difference.
    doubts = {name: p_values[name] if gain.mean > 0 else 1.0 for name, gain in own.items()}
    name = max(own, key=lambda control: (doubts[control], -own[control].mean))
    if doubts[name] <= method.alpha:
        return Outcome.BETTER, f"{found}. It also beats {_listed(list(own))}."
    shown = describe_gain(own[name], challenge.control_intervals[name], method)
    ahead = own[name].mean < 0 and p_values[name] <= method.alpha
    lost = next((one.summary.lost for one in analysis.challenges if one.arm.name == name), "")
    where = f" where both finished ({name} {lost})" if lost else ""
    return (Outcome.BEATEN if ahead and not lost else Outcome.MATCHED), (
        f"{found}; but over its control {name}: {shown}{where}. "
        "Nothing shows that the gain is owed to what the arm adds."
    )


def _sensitivity(challenge: Challenge, method: Method) -> str:
    if isnan(challenge.detectable):
        return (
            "All gains are equal but for rounding, so how small an effect would have shown is "
            "unknown."
        )
    if isinf(challenge.detectable):
        return "So few pairs show no gain of any size reliably."
    return (
        f"A true gain of {challenge.detectable:.3g} would have shown in {method.power:.0%} of such "
        f"comparisons if gains are normal; half of it needs {challenge.pairs_for_half} seeds."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
