"""Where a report's numbers come from and how to get them again."""

from lightning_qsgd.compare.analysis import Analysis
from lightning_qsgd.compare.report.document import Block, Bullets, Code, Heading, Paragraph
from lightning_qsgd.compare.results import Results

RECOMPUTE = """\
import csv
import numpy as np
from scipy import stats

metric, arm, baseline, sign = {metric!r}, {arm!r}, {baseline!r}, {sign}
with open("results.csv") as file:
    rows = list(csv.DictReader(file))
value = {{(row["arm"], row["seed"]): float(row[metric]) for row in rows if row["status"] == "done"}}
seeds = [seed for name, seed in value if name == arm and (baseline, seed) in value]
gains = np.array([sign * (value[arm, seed] - value[baseline, seed]) for seed in seeds])
gains = gains[np.isfinite(gains)]
test = stats.ttest_1samp(gains, 0)
bca = stats.bootstrap((gains,), np.mean, n_resamples={resamples}, method="BCa",
                      confidence_level={level}, rng=np.random.default_rng({seed}))
print(gains.mean(), test.confidence_interval({level}), bca.confidence_interval)
print("d", gains.mean() / gains.std(ddof=1), "wins", np.mean((gains > 0) + (gains == 0) / 2))
"""


def recompute_section(results: Results, analysis: Analysis) -> list[Block]:
    """Say how every number follows from the tables beside the report."""
    blocks: list[Block] = [
        Heading("Recompute it"),
        Paragraph(
            "`results.csv` has one row per run with every digit; mean, sd, median, gains, "
            "intervals, p-values, wins and d follow from the column of the metric, the rest from "
            "`steps_to_target`, `epochs_to_target`, `relative_size` (medians over seeds; an even "
            "number of costs takes the lower of the middle two) and `parameters`. Wall-clock "
            "times, which never repeat, are in `timing.csv`, and the curves in `curves.npz` (rows: "
            "steps, epochs, seconds, values). Runs that are no pair with the baseline's are left "
            "out."
        ),
        Bullets(
            (
                "p by t: Student's t of the gains. p by skew: Hall's (1992) transformation of it "
                "with the bias-adjusted skewness. p by BCa: the level at which the interval meets "
                "zero. The largest of the three counts.",
                "Holm: the k-th smallest of m p-values times m - k + 1, none smaller than the one "
                "before it.",
                "Detectable gain: by the noncentral t at the level of Holm's first step, times the "
                "standard deviation of the gains. The two other tests cost a little more.",
            )
        ),
    ]
    known = [challenge for challenge in analysis.challenges if challenge.gain.sd > 0]
    if known:
        blocks.append(
            Code("The first arm again, in Python", _script(results, analysis, known[0].arm.name))
        )
    return blocks


def origin_section(results: Results) -> list[Block]:
    """Name command, versions, machine and configuration."""
    known = results.provenance
    facts = {
        "Command": f"`{known.command}`" if known.command else "",
        "Started": known.date,
        "Git": known.git,
        "Machine": known.machine,
        "Seeds": ", ".join(map(str, results.comparison.seeds)),
        "Versions": ", ".join(f"{name} {version}" for name, version in known.versions.items()),
    }
    blocks: list[Block] = [
        Heading("Where it comes from"),
        Bullets(tuple(f"**{name}:** {fact}" for name, fact in facts.items() if fact)),
    ]
    overlays = [arm for arm in results.comparison.arms if arm.overlay]
    if overlays:
        text = "\n".join(f"# {arm.name}\n{arm.overlay.strip()}\n" for arm in overlays)
        blocks.append(Code("What makes each arm", text))
    if known.config:
        blocks.append(Code("The whole configuration", known.config))
    return blocks


def _script(results: Results, analysis: Analysis, arm: str) -> str:
    goal = results.comparison.goal
    return RECOMPUTE.format(
        metric=goal.metric,
        arm=arm,
        baseline=analysis.baseline.arm.name,
        sign=1 if goal.higher_is_better else -1,
        resamples=analysis.method.resamples,
        level=1 - analysis.method.alpha,
        seed=analysis.method.seed,
    )
