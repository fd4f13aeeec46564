"""The sections of a report behind its first page."""

from typing import Any

import yaml

from lightning_qsgd.compare.planning.job import words_for_unshortened
from lightning_qsgd.compare.report import tables
from lightning_qsgd.compare.report.document import (
    Block,
    Bullets,
    Code,
    Heading,
    Notice,
    Paragraph,
    Picture,
)
from lightning_qsgd.compare.report.origin import other_lengths
from lightning_qsgd.compare.report.tables import count
from lightning_qsgd.compare.results.pairing import (
    PairingCheck,
    check_pairing,
    copied,
    extra_parameters,
    parameters_of,
)
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.verdicts.analysis import Analysis
from lightning_qsgd.compare.verdicts.verdict import Verdict

NO_PICTURES = (
    "**Pictures are missing** because matplotlib was not installed. Run `pip install "
    "'lightning-qsgd[plot]'`, then `lightning-qsgd report FOLDER` with the folder of this report."
)


def verdict_section(analysis: Analysis, judged: dict[str, Verdict]) -> list[Block]:
    """Say arm by arm what is claimed."""
    return [Heading("Verdict for every arm"), tables.verdict_table(analysis, judged)]


def gain_section(analysis: Analysis, drawn: dict[str, Picture]) -> list[Block]:
    """Show the differences that the verdicts rest on."""
    blocks: list[Block] = [
        Heading("Gain over the baseline, seed by seed"),
        tables.gain_table(analysis, analysis.on_trial),
        Paragraph(
            "The intervals hold together: the chance that any of them misses is that of the whole "
            "comparison. `p (Holm)` is the largest p-value of the three tests, corrected for the "
            "number of arms on trial. Cohen's d is the mean gain over the standard deviation of "
            "the gains. Wins is the share of seeds at which the arm was ahead, ties "
            "counting half. The detectable gain would show in "
            f"{analysis.method.power:.0%} of such comparisons by all three tests, if gains are "
            "normal; the last column is the number of seeds that could show half of it."
        ),
    ]
    apart = [one for one in analysis.challenges if one.arm.kind != "arm"]
    if apart:
        blocks += [
            Heading("Controls and references over the baseline", 3),
            tables.gain_table(analysis, apart),
            Paragraph(
                "They are not on trial: they cost the arms above nothing, and their own p-values "
                "are corrected for the number of all rows."
            ),
        ]
    controls = tables.control_table(analysis)
    if controls is not None:
        blocks += [
            Heading("Gain over the arm's own controls", 3),
            *([drawn["twins"]] if "twins" in drawn else []),
            controls,
            Paragraph(
                "Here Holm's correction is for the number of rows. Only an arm with a small p and "
                "a positive gain over each of its controls may be called better."
            ),
        ]
    return blocks


def arm_section(results: Results, analysis: Analysis) -> list[Block]:
    """Show every arm on its own, and what it costs."""
    blocks: list[Block] = [
        Heading("Every arm on its own"),
        Paragraph(f"Final `{results.comparison.goal.metric}` over seeds."),
        tables.arm_table(results, analysis),
        Paragraph(
            "Steps, epochs and seconds to the target are medians in which a run that never "
            'reached it counts as infinite: "never" means that fewer than half did. Seconds per '
            "epoch are the median over seeds, and time per step is the median ratio to the "
            "baseline at the same seed, both without validation, in wall-clock time on a machine "
            "that other runs may have shared. Relative size is that of the perturbation beside "
            "the base optimizer's step, the median over steps and seeds."
        ),
    ]
    trained = tables.trained_by(results)
    if trained:
        lines = tuple(f"`{arm}`: {words}." for arm, words in trained.items())
        blocks += [Heading("What trained each arm", 3), Bullets(lines)]
    others = tables.other_metric_table(results)
    return blocks if others is None else [*blocks, Heading("Other metrics", 3), others]


def horizon_section(results: Results, analysis: Analysis) -> list[Block]:
    """Say how long training has to be for the target; empty unless that was asked."""
    if not results.horizons:
        return []
    asked = results.comparison
    unit = asked.budget.split()[-1]
    failed = [one for part in results.horizons.values() for one in part.failures]
    return [
        Heading("How long training has to be"),
        tables.horizon_table(analysis),
        Paragraph(
            f"The baseline and the arms on trial were also trained for fewer {unit}. Lengths in "
            "`lr_scheduler`, `perturbation` and torch's schedulers were shortened with them where "
            "their names are known. A schedule that a module makes by itself ends there only if it "
            "asks the trainer for its length. An arm needs the shortest length at which the mean of"
            f" `{asked.goal.metric}` over seeds is at the target, read on a straight line between "
            "two lengths. The ratio is that of the two needs. Its interval is by the bootstrap "
            "over seeds and holds together with those of the other arms. Tuned values are those "
            f"of the whole {asked.budget}, for all alike. No verdict rests on this."
        ),
        *(
            Notice(f"**Horizons of `{arm}`:** {words}", "warn")
            for arm, words in words_for_unshortened(_configs_on_horizons(results)).items()
        ),
        tables.horizon_means(results),
        *(
            Code(f"`{one.arm}`, seed {one.seed}, failed in a shorter run", one.traceback)
            for one in failed
        ),
    ]


def _configs_on_horizons(results: Results) -> dict[str, Any]:
    """Return the configuration of each arm that was run for shorter, as far as it is stored."""
    try:
        configs = yaml.safe_load(results.provenance.config)["runs"]
    except (yaml.YAMLError, TypeError, KeyError):
        return {}
    arms = {arm.name for part in results.horizons.values() for arm in part.comparison.arms}
    return {arm: config for arm, config in configs.items() if arm in arms}


def curve_section(drawn: dict[str, Picture]) -> list[Block]:
    """Show the course of training; empty without pictures."""
    titles = {
        "metric": "Learning curves",
        "gap": "Gain over the baseline during training",
        "loss": "Training loss",
        "target": "Time to the target",
        "size": "Size of the perturbation",
    }
    return [
        block
        for name, title in titles.items()
        if name in drawn
        for block in (Heading(title), drawn[name])
    ]


def failure_section(results: Results, analysis: Analysis) -> list[Block]:
    """Name every run that is not part of the numbers, and why."""
    summaries = [analysis.baseline, *(challenge.summary for challenge in analysis.challenges)]
    diverged = tuple(
        f"`{summary.arm.name}` diverged at seeds {', '.join(map(str, summary.diverged))}."
        for summary in summaries
        if summary.diverged
    )
    missing = tuple(f"`{arm}`, seed {seed}, has not ended." for arm, seed in results.missing)
    heading = Heading("Runs that are missing from the numbers")
    if not (diverged or missing or results.failures or results.untuned):
        return [heading, Paragraph("None: every planned run ended with a finite metric.")]
    blocks: list[Block] = [heading]
    if diverged or missing:
        blocks.append(Bullets(diverged + missing))
    blocks += [Code(f"`{arm}` could not be tuned", why) for arm, why in results.untuned.items()]
    blocks += [
        Code(f"`{failure.arm}`, seed {failure.seed}, failed", failure.traceback)
        for failure in results.failures
    ]
    return blocks


def pairing_section(results: Results) -> list[Block]:
    """Say whether the runs of a seed were a pair."""
    found = [_pairing(check) for check in check_pairing(results)]
    blocks: list[Block] = [
        Heading("Pairing"),
        Paragraph(
            "A pair is fair if both runs started from the same weights, saw the same data and were "
            "measured on the same data. So hashes of each run are held against those of the "
            "baseline's run at the same seed:"
        ),
        Bullets((*found, *_copies(results))),
    ]
    return [*blocks, *_other_lengths(results), *_other_sizes(results)]


def tuning_section(results: Results) -> list[Block]:
    """Say what was tuned, how, and whether the space was wide enough."""
    if not results.tuning:
        return [Heading("Tuning"), Paragraph("No arm was tuned for this comparison.")]
    blocks: list[Block] = [Heading("Tuning"), tables.tuning_table(results)]
    if len({tuned.trials - tuned.extra for tuned in results.tuning}) > 1:
        blocks.append(
            Notice("**Unfair:** arms were tuned with different numbers of trials.", "warn")
        )
    used = {s for tuned in results.tuning for s in (*tuned.seeds, *tuned.final_seeds)}
    shared = used & set(results.comparison.seeds)
    if shared:
        blocks.append(
            Notice(
                f"**Unfair:** the tuning seeds {sorted(shared)} are reported as well, which "
                "flatters what was tuned.",
                "warn",
            )
        )
    lacking = [arm for arm in results.comparison.arms if arm.lacks]
    if lacking:
        names = tuple(f"`{arm.name}`: {' and '.join(arm.lacks)}." for arm in lacking)
        words = "Tuned for the baseline, but not for these arms. They lack it, or a range for it:"
        blocks += [Paragraph(words), Bullets(names)]
    blocks += [
        Notice(
            f"`{tuned.arm}` **did not react** to {' and '.join(f'`{n}`' for n in tuned.inert)}: "
            "trials that differ in nothing else end with the same weights to the last bit. So this "
            "was not tuned; look at the `path` of the range.",
            "warn",
        )
        for tuned in results.tuning
        if tuned.inert
    ]
    if any(tuned.extra for tuned in results.tuning):
        blocks.append(
            Paragraph(
                "A best value at the edge of its range widened the range, with a third of the "
                "trials more for that arm. The ranges in the table are those searched in the end."
            )
        )
    finals = {(one.finalists, one.final_seeds) for one in results.tuning if one.final_seeds}
    for finalists, seeds in sorted(finals):
        arms = [f"`{one.arm}`" for one in results.tuning if not one.final_seeds]
        but = f" It was not done for {', '.join(arms)}, whose best failed there." if arms else ""
        blocks.append(
            Paragraph(
                f"The best {finalists} settings of each arm were tried again at the seeds "
                f"{', '.join(map(str, seeds))}, and what was best there was chosen: the best of "
                f"many trials at few seeds is often a lucky one.{but}"
            )
        )
    edges = [
        f"`{tuned.arm}` might do better with a `{value.name}` beyond its range: the best value "
        f"{value.best:g} lies at the edge of {value.low:g} to {value.high:g}."
        for tuned in results.tuning
        for value in tuned.values
        if value.at_edge
    ]
    return [*blocks, *(Notice(text, "warn") for text in edges)]


def _other_lengths(results: Results) -> list[Block]:
    """Name the arms whose runs ended at other steps than the baseline's, or than their others."""
    return [Notice(f"**{title}** {text}", "warn") for title, text in other_lengths(results).items()]


def _other_sizes(results: Results) -> list[Block]:
    """Name the arms that have more parameters than the baseline, or fewer."""
    baseline = results.comparison.baseline.name
    arms = tuple(
        f"`{arm}` trains {parameters_of(results, arm):,} parameters, {abs(extra):,} "
        f"{'more' if extra > 0 else 'fewer'} than `{baseline}`."
        for arm, extra in extra_parameters(results).items()
    )
    if not arms:
        return []
    text = (
        "Models that differ in size are paired by what they have in common: every tensor of the "
        "smaller one is in the larger one, with the same first values. What an arm has beyond that "
        "may help by itself, whatever it is: look for a control with as many parameters."
    )
    return [Paragraph(text), Bullets(arms)]


def _copies(results: Results) -> list[str]:
    """Name the pairs that repeat an earlier seed."""
    baseline = results.comparison.baseline.name
    found = {
        arm.name: copied(results, arm.name, baseline) for arm in results.comparison.challengers
    }
    return [
        f"Seeds that change nothing, **left out**: `{arm}` and `{baseline}` repeat, to the last "
        f"bit, {', '.join(f'seed {first} at seed {seed}' for seed, first in seeds.items())}. Does "
        "model or data set a seed of its own?"
        for arm, seeds in found.items()
        if seeds
    ]


def _pairing(check: PairingCheck) -> str:
    name = f"`{check.check}`"
    if check.different:
        runs = ", ".join(f"{arm} (seed {seed})" for arm, seed in check.different)
        return f"{name}: **different in {count(len(check.different), 'run')}**, left out: {runs}."
    if check.equal == 0:
        return f"{name}: not recorded, so pairing is assumed and not checked."
    unknown = f"; unknown in {count(check.unknown, 'run')}" if check.unknown else ""
    return f"{name}: equal in {count(check.equal, 'run')}, different in none{unknown}."
