"""The outcome of a comparison on a terminal."""

from rich.markup import escape
from rich.table import Table

from lightning_qsgd.compare.analysis import analyse
from lightning_qsgd.compare.report.answer import short_answer
from lightning_qsgd.compare.report.numbers import chance, plain, signed, span
from lightning_qsgd.compare.report.palette import TONES
from lightning_qsgd.compare.results import Results
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdict import verdicts

LONGEST_WORD = 10
"""Of a verdict, "detectable"; a narrow terminal must not cut it."""
STYLES = {"good": "bold blue", "bad": "bold red", "warn": "yellow", "quiet": "dim", "plain": ""}


def summary_table(results: Results, method: Method | None = None) -> Table:
    """Lay out one row per arm: its mean, its gain over the baseline, and the verdict.

    Args:
        results: The runs.
        method: How sure a claim has to be; the defaults of `Method` if None.
    """
    analysis = analyse(results, method)
    judged = verdicts(analysis)
    answer = short_answer(results, analysis, judged).replace("**", "").replace("`", "")
    table = Table(
        title=f"{results.comparison.name}, {results.comparison.goal.metric}", caption=escape(answer)
    )
    table.add_column("arm", overflow="fold")
    for name in ("mean", "gain", f"{100 * (1 - analysis.method.alpha):g} % by t", "p (Holm)"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict", min_width=LONGEST_WORD)
    baseline = analysis.baseline
    table.add_row(escape(baseline.arm.name), plain(baseline.mean), "", "", "", "baseline")
    for challenge in analysis.challenges:
        outcome = judged[challenge.arm.name].outcome
        table.add_row(
            escape(challenge.arm.name),
            plain(challenge.summary.mean),
            signed(challenge.gain.mean),
            span(challenge.gain.t),
            chance(challenge.p_holm),
            f"[{STYLES[TONES[outcome]]}]{outcome}[/]",
        )
    return table
