"""The first page: what was asked, what came out, how sure that is."""

from collections.abc import Sequence
from math import isfinite

from lightning_qsgd.compare.report.document import Block, Bullets, Heading, Notice, Paragraph
from lightning_qsgd.compare.report.origin import set_apart
from lightning_qsgd.compare.report.tables import count, known
from lightning_qsgd.compare.results.pairing import check_pairing, extra_parameters
from lightning_qsgd.compare.results.results import Comparison, Results
from lightning_qsgd.compare.statistics import Design, Method
from lightning_qsgd.compare.statistics.power import LARGE
from lightning_qsgd.compare.verdicts.analysis import Analysis, Challenge
from lightning_qsgd.compare.verdicts.verdict import Outcome, Verdict


def answer(
    results: Results,
    analysis: Analysis,
    judged: dict[str, Verdict],
    picture: Sequence[Block] = (),
) -> list[Block]:
    """Tell somebody who has never seen the project what the comparison shows.

    Args:
        results: The runs.
        analysis: Their statistics.
        judged: Verdict by arm.
        picture: The picture of the gains, if there is one.
    """
    by_outcome = _by_outcome(results, judged)
    return [
        Heading(f"{results.comparison.name}: what helps over {analysis.baseline.arm.name}?", 1),
        _short_answer(results, by_outcome, analysis),
        *_warnings(results, analysis, judged),
        *picture,
        Bullets((*_findings(by_outcome, analysis), *_lengths(analysis))),
        Heading("What was compared", 3),
        Paragraph(_question(results)),
        Heading("How sure this is", 3),
        Paragraph(_certainty(results, analysis)),
    ]


def three_sentences(results: Results, analysis: Analysis, judged: dict[str, Verdict]) -> str:
    """Say in plain text what helps, what came of each arm, and how small a gain would have shown.

    Args:
        results: The runs.
        analysis: Their statistics.
        judged: Verdict by arm.
    """
    by_outcome = _by_outcome(results, judged)
    short = _short_answer(results, by_outcome, analysis).text.replace("**", "").replace("`", "")
    arms = "; ".join(f"{', '.join(names)}: {what}" for what, names in by_outcome.items() if names)
    parts = [short, f"Arm by arm: {arms}." if arms else "", _sight(results, analysis)]
    return " ".join(part for part in parts if part)


def _sight(results: Results, analysis: Analysis) -> str:
    """Say how small a gain would have shown; empty if nothing could."""
    known = [
        one
        for one in analysis.testable
        if isfinite(one.detectable) and one.gain.pairs >= analysis.design.seeds_needed
    ]
    if not known or not analysis.design.is_comparison:
        return ""
    sizes = [one.detectable for one in known]
    low, high = f"{min(sizes):.2g}", f"{max(sizes):.2g}"
    size = low if low == high else f"{low} to {high}, depending on the arm,"
    metric, chance = results.comparison.goal.metric, f"{analysis.method.power:.0%}"
    return (
        f"With {_pairs(results, known)}, a true gain of {size} in {metric} would have shown in "
        f"{chance} of cases if gains are normal."
    )


def _pairs(results: Results, challenges: Sequence[Challenge]) -> str:
    """Say how many pairs arms have, and how many were planned where that is another number."""
    planned, found = len(results.comparison.seeds), {one.gain.pairs for one in challenges}
    if found == {planned}:
        return count(planned, "seed")
    several = f"{min(found)} to {max(found)}" if len(found) > 1 else f"{min(found)}"
    return f"{several} of the {count(planned, 'seed')} planned"


def _by_outcome(results: Results, judged: dict[str, Verdict]) -> dict[Outcome, list[str]]:
    """Sort the arms, without controls, by their verdict."""
    found: dict[Outcome, list[str]] = {outcome: [] for outcome in Outcome}
    for arm in results.comparison.challengers:
        if arm.kind == "arm":
            found[judged[arm.name].outcome].append(arm.name)
    return found


def _short_answer(
    results: Results, by_outcome: dict[Outcome, list[str]], analysis: Analysis
) -> Notice:
    baseline, better = f"`{analysis.baseline.arm.name}`", by_outcome[Outcome.BETTER]
    total, design = sum(map(len, by_outcome.values())), analysis.design
    silent = {what: len(by_outcome[what]) for what in (Outcome.NO_CLAIM, Outcome.TOO_FEW)}
    so_far = " So far: the comparison is not finished." if results.missing else ""
    few = "" if design.is_comparison else f" {few_seeds(design)}"
    if not total:
        return Notice("**Only controls were compared**, so there is nothing to recommend.")
    if better:
        text = f"**Yes, {len(better)} of {count(total, 'arm')}** did better than {baseline}."
        return Notice(f"{text}{few}{so_far}", "good")
    if silent[Outcome.NO_CLAIM] == total:
        arms = "the arm" if total == 1 else f"any of the {total} arms"
        why = "the report's table of verdicts says why."
        return Notice(f"**No answer:** no claim is possible for {arms}; {why}{so_far}", "warn")
    if sum(silent.values()) == total:
        lack = _lack(results, analysis, by_outcome[Outcome.TOO_FEW])
        return Notice(f"**Too few seeds to tell.** {lack}", "warn")
    text = f"**No:** of {count(total, 'arm')} none can be said to do better than {baseline}."
    unsaid = silent[Outcome.NO_CLAIM]
    text += f" For {unsaid} of them no claim is possible." if unsaid else ""
    return Notice(f"{text}{few}{so_far}")


def _lack(results: Results, analysis: Analysis, arms: Sequence[str]) -> str:
    """Say how many seeds arms lack: in the plan, or of those that it has."""
    design = analysis.design
    most = max(one.gain.pairs for one in analysis.on_trial if one.arm.name in arms)
    if not design.is_comparison:
        return (
            f"{design.words()} With fewer, not even an effect of {LARGE:g} standard deviations "
            "would show reliably."
        )
    why = "The comparison is not finished." if results.missing else "The other runs are no pairs."
    return (
        f"{most} of the {count(design.seeds, 'seed')} planned have runs of both an arm and "
        f"`{analysis.baseline.arm.name}`, and {design.seeds_needed} are needed. {why}"
    )


SENTENCES = {
    Outcome.BETTER: "**Better** than {baseline}, and than their own controls where they have "
    "any: {arms}.",
    Outcome.BEATEN: "**Beaten by a control:** ahead of {baseline}, but a control of the same "
    "size without the ingredient on trial does better still: {arms}.",
    Outcome.MATCHED: "**Matched by a control:** ahead of {baseline}, but not of a control of "
    "the same size without the ingredient on trial: {arms}.",
    Outcome.WORSE: "**Worse** than {baseline}: {arms}.",
    Outcome.UNDETECTED: "**No detectable effect**, which is not the same as no effect (the "
    "table says how small an effect would have shown): {arms}.",
    Outcome.TOO_FEW: "**Too few seeds to tell:** {arms}.",
    Outcome.EQUAL: "**Equal** to {baseline} but for rounding: {arms}.",
    Outcome.IDENTICAL: "**Identical** to {baseline} to the last bit: {arms}.",
    Outcome.NO_CLAIM: "**No claim possible**, for the reason in the table: {arms}.",
}
"""What is said of the arms of a verdict; one for each, so that no arm is left out of the answer."""


def few_seeds(design: Design) -> str:
    """Say what a claim is worth where there are fewer seeds than a comparison needs."""
    return (
        f"With {count(design.seeds, 'seed')}, not the {design.seeds_needed} that are needed, only "
        "very large effects show: what is claimed is as certain as ever, but more may be there."
    )


def _findings(by_outcome: dict[Outcome, list[str]], analysis: Analysis) -> list[str]:
    baseline = f"`{analysis.baseline.arm.name}`"
    return [
        SENTENCES[outcome].format(baseline=baseline, arms=", ".join(f"`{arm}`" for arm in arms))
        for outcome, arms in by_outcome.items()
        if arms
    ]


def _lengths(analysis: Analysis) -> list[str]:
    """Name the arms that need another length of training for the target than the baseline."""
    lengths = {one.arm.name: one.horizon for one in analysis.on_trial if one.horizon is not None}
    return [
        f"**Steps to the target:** `{arm}` needs {known(found.ratio)} times what "
        f"`{analysis.baseline.arm.name}` needs ({known(found.interval, bounds=True)})."
        for arm, found in lengths.items()
        if not found.interval.low <= 1 <= found.interval.high
    ]


def _question(results: Results) -> str:
    asked, goal = results.comparison, results.comparison.goal
    kinds = [arm.kind for arm in asked.challengers]
    sorts = [f"{count(kinds.count('arm'), 'arm')} on trial"]
    sorts += [count(kinds.count(k), k) for k in ("control", "reference") if k in kinds]
    reference = " A reference is shown for orientation." if "reference" in kinds else ""
    direction = "higher" if goal.is_rising else "lower"
    budget = f" for {asked.budget}" if asked.budget else ""
    target = "" if goal.target is None else f" The target is {goal.metric} = {goal.target:g}."
    sizes = (
        "; models of another size are paired by what they share"
        if extra_parameters(results)
        else ""
    )
    return (
        f"The same model was trained{budget} in {count(len(asked.arms), 'way')}: the baseline "
        f"`{asked.baseline.name}`, {' and '.join(', '.join(sorts).rsplit(', ', 1))}, each at "
        f"{count(len(asked.seeds), 'seed')}. An arm is one way to train. A seed fixes the "
        "initial weights and the order of the data, so that at each seed an arm "
        f"and the baseline form a pair{sizes}. They are judged by `{goal.metric}` at the end of "
        f"training ({direction} is better).{target} A control is a change of the same size without "
        "the ingredient on trial: an arm that does not beat its control owes its gain to something "
        f"else.{reference} A **gain** below is always the difference in the metric with the sign "
        "turned so "
        "that positive is better."
    )


def _certainty(results: Results, analysis: Analysis) -> str:
    alpha, usual = analysis.method.alpha, Method().alpha
    visible = analysis.seen.visible
    seen = (
        f"an effect of {visible:.2g} standard deviations of the paired "
        f"differences is seen in {analysis.method.power:.0%} of cases if they are normal"
        if isfinite(visible)
        else "no effect of any size is sure to be seen"
    )
    pairs = _pairs(results, analysis.testable) if analysis.testable else "so few pairs"
    left_out = ", and each that was" if results.comparison.left_out else ""
    shared = (
        f" The plan asks for that instead of {100 * usual:g} %, as each task of a suite does: they "
        "share the chance of a false claim."
    )
    return (
        "An arm is called better or worse only if three tests of the differences at equal seeds "
        "agree (Student's t, the same corrected for skew, and the BCa bootstrap), after Holm's "
        f"correction for having asked {count(analysis.design.questions, 'question')} at once, one "
        f"for each arm on trial{left_out}. Controls and references are no questions. If nothing "
        "had any effect, the chance of even one such claim about an arm would be about "
        f"{100 * alpha:.3g} % or less.{shared if alpha != usual else ''} "
        f"With {pairs}, {seen}. "
        "The verdicts hold for this model, data, budget and tuning, not beyond."
    )


def _warnings(results: Results, analysis: Analysis, judged: dict[str, Verdict]) -> list[Block]:
    notices = []
    same = [
        arm.name for arm in results.comparison.arms if arm.kind == "control" and not arm.overlay
    ]
    missed = ", ".join(f"`{arm}`" for arm in same if judged[arm].outcome is Outcome.BETTER)
    if missed:
        baseline = results.comparison.baseline.name
        notices.append(
            f"**The search of `{baseline}` missed better values:** {missed} differs from it in "
            "nothing but its values, and is better. Search longer, or in other ranges."
        )
    if results.comparison.left_out:
        notices.append(words_for_left_out(results.comparison))
    if results.missing:
        number = count(len(results.missing), "run")
        notices.append(f"**Not complete:** {number} of {len(results.planned)} missing.")
    if results.untuned:
        names = ", ".join(f"`{name}`" for name in results.untuned)
        notices.append(f"**Could not be tuned:** {names}. It has no runs; the others are compared.")
    if results.failures:
        number = count(len(results.failures), "run")
        notices.append(f"**{number} failed.** Where a run is missing, its pair is left out.")
    lost = [
        f"`{one.arm.name}` {one.lost}"
        for one in (analysis.baseline, *(other.summary for other in analysis.challenges))
        if one.lost
    ]
    if lost:
        notices.append(
            f"**Runs have no result:** {', '.join(lost)}, of {len(results.comparison.seeds)}. What "
            "is left flatters the arm that lost them, so less can be claimed: see All verdicts in "
            "the documentation."
        )
    apart = {key for found in check_pairing(results) for key in found.different}
    if apart:
        number = count(len(apart), "run")
        notices.append(
            f"**{number} left out** for another start or other data than the baseline's: see "
            "Pairing."
        )
    copies = {seed for challenge in analysis.challenges for seed in challenge.copies}
    if copies:
        number = count(len(copies), "seed")
        notices.append(
            f"**{number} left out as copies** of others: the seed changed nothing. See Pairing."
        )
    notices += _apart(results)
    notices += [f"**{title}** {text}" for title, text in set_apart(results).items()]
    edges = [tuned.arm for tuned in results.tuning if any(v.at_edge for v in tuned.values)]
    if edges:
        names = ", ".join(f"`{name}`" for name in edges)
        notices.append(f"**Tuning ended at the edge** of its space for {names}: see Tuning.")
    return [Notice(text, "warn") for text in notices]


def words_for_left_out(asked: Comparison) -> str:
    """Name the arms that the folder has runs of from when they were on trial."""
    names = ", ".join(f"`{name}`" for name in asked.left_out)
    return (
        f"**No longer on trial:** {names}. The folder has runs of them from when they were. Claims "
        f"are corrected for {count(asked.num_questions, 'arm')} on trial, these counted: no claim "
        "gets easier where arms that disappoint are taken off."
    )


def _apart(results: Results) -> list[str]:
    """Name what sets arms apart besides the lines of their overlays."""
    notices = [
        f"**`{arm.name}` differs in more than its lines say.** {' '.join(arm.remarks)}"
        for arm in results.comparison.arms
        if arm.remarks
    ]
    idle = {one.arm: one.inert for one in results.tuning if one.inert}
    if idle:
        names = ", ".join(f"`{arm}`: {' and '.join(values)}" for arm, values in idle.items())
        notices.append(f"**Tuned values had no effect:** {names}. See Tuning.")
    return notices
