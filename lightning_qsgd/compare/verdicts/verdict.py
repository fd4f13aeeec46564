"""What may be said about an arm, in words that claim no more than its runs show."""

from dataclasses import dataclass
from enum import StrEnum

from lightning_qsgd.compare.statistics import FEWEST_PAIRS, Method, PairedGain
from lightning_qsgd.compare.verdicts.analysis import Analysis, Challenge


class Outcome(StrEnum):
    """The verdicts; each arm gets exactly one."""

    BETTER = "better"
    WORSE = "worse"
    UNDETECTED = "no detectable effect"
    MATCHED = "matched by its own control"
    BEATEN = "beaten by its own control"
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


def verdicts(analysis: Analysis) -> dict[str, Verdict]:
    """Judge every challenger.

    Args:
        analysis: The statistics.

    Returns:
        Verdict by arm, in the order of the comparison.
    """
    baseline = analysis.baseline.arm.name
    return {
        challenge.arm.name: _judge(challenge, baseline, analysis.method)
        for challenge in analysis.challenges
    }


def describe_gain(gain: PairedGain, method: Method) -> str:
    """Write a gain with its interval by t.

    Example:
        >>> from lightning_qsgd.compare.statistics import paired_gain
        >>> describe_gain(paired_gain({0: 0.1, 1: 0.3, 2: 0.2}, Method()), Method())
        '+0.2 (95 % interval -0.0484 to +0.448)'
    """
    level = f"{100 * (1 - method.alpha):g} %"
    return f"{gain.mean:+.3g} ({level} interval {gain.t.low:+.3g} to {gain.t.high:+.3g})"


def _judge(challenge: Challenge, baseline: str, method: Method) -> Verdict:
    outcome, reason = _outcome(challenge, baseline, method)
    return Verdict(challenge.arm.name, outcome, reason)


def _outcome(challenge: Challenge, baseline: str, method: Method) -> tuple[Outcome, str]:
    gain = challenge.gain
    if challenge.identical:
        return Outcome.IDENTICAL, f"Every number equals that of {baseline}, to the last bit."
    if not gain.enough:
        return Outcome.NO_CLAIM, _too_few(challenge)
    found = f"{describe_gain(gain, method)} over {baseline}, p = {challenge.p_holm:.2g}"
    if challenge.p_holm > method.alpha:
        return Outcome.UNDETECTED, f"{found}. {_sensitivity(challenge, method)}"
    if gain.mean < 0:
        return Outcome.WORSE, f"{found}."
    if challenge.summary.diverged:
        return Outcome.NO_CLAIM, (
            f"{found} where it finished, but it diverged at {len(challenge.summary.diverged)} "
            "seeds, which no mean can hold."
        )
    return _against_controls(challenge, found, method)


def _too_few(challenge: Challenge) -> str:
    few = f"Only {challenge.gain.pairs} seeds have a final metric of both"
    diverged = len(challenge.summary.diverged)
    why = f", for it diverged at {diverged}" if diverged else ""
    return f"{few}{why}; {FEWEST_PAIRS} are needed."


def _against_controls(challenge: Challenge, found: str, method: Method) -> tuple[Outcome, str]:
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
    ahead = own[name].mean < 0 and p_values[name] <= method.alpha
    return (Outcome.BEATEN if ahead else Outcome.MATCHED), (
        f"{found}; but over its control {name}: {describe_gain(own[name], method)}. "
        "Nothing shows that the gain is owed to what the arm adds."
    )


def _sensitivity(challenge: Challenge, method: Method) -> str:
    if not challenge.pairs_for_half:
        return "All gains are equal, so how small an effect would have shown is unknown."
    return (
        f"A true gain of {challenge.detectable:.3g} would have shown in {method.power:.0%} of such "
        f"comparisons; half of it needs {challenge.pairs_for_half} seeds."
    )


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
