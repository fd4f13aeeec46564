"""Writes the report: HTML, Markdown, terminal."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.report.answer import answer, three_sentences
from lightning_qsgd.compare.report.document import Block, Notice, Picture, to_html, to_markdown
from lightning_qsgd.compare.report.origin import (
    origin_section,
    published_section,
    recompute_section,
)
from lightning_qsgd.compare.report.panels import TONES
from lightning_qsgd.compare.report.pictures import can_draw, pictures
from lightning_qsgd.compare.report.sections import (
    NO_PICTURES,
    arm_section,
    curve_section,
    failure_section,
    gain_section,
    horizon_section,
    pairing_section,
    tuning_section,
    verdict_section,
)
from lightning_qsgd.compare.report.tables import chance, plain, signed, span
from lightning_qsgd.compare.results.results import Results
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdicts.analysis import Analysis, analyse
from lightning_qsgd.compare.verdicts.verdict import Verdict, verdicts

LONGEST_WORD = 10
"""Of a verdict, "detectable"; a narrow terminal must not cut it."""
STYLES = {"good": "bold blue", "bad": "bold red", "warn": "yellow", "quiet": "dim", "plain": ""}


def summary_table(results: Results, method: Method | None = None) -> Table:
    """Lay out one row per arm, its mean, gain and verdict, and sum up in three sentences below.

    Args:
        results: The runs.
        method: How sure a claim has to be; the defaults of `Method` if None.
    """
    analysis = analyse(results, method)
    judged = verdicts(analysis)
    table = Table(
        title=f"{results.comparison.name}, {results.comparison.goal.metric}",
        caption=escape(three_sentences(results, analysis, judged)),
        caption_style="",
        caption_justify="left",
    )
    table.add_column("arm", overflow="fold")
    for name in ("mean", "gain", f"{analysis.method.confidence} together", "p (Holm)"):
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
            span(challenge.interval),
            chance(challenge.p_holm),
            f"[{STYLES[TONES[outcome]]}]{outcome}[/]",
        )
    return table


HTML = "report.html"
MARKDOWN = "report.md"


def write_report(results: Results, folder: Path, method: Method | None = None) -> Path:
    """Write `report.html`, `report.md` and the pictures into a folder.

    `report.html` needs nothing besides itself. Without matplotlib (extra `plot`) both are written
    without pictures and say so: the numbers must not hang on a drawing library.

    Args:
        results: The runs; incomplete ones give a report that says what is missing.
        folder: Existing folder; files of these names are replaced.
        method: How sure a claim has to be; the defaults of `Method` if None.

    Returns:
        Path of `report.html`.

    Raises:
        FileNotFoundError: If there is no such folder.
    """
    analysis = analyse(results, method)
    judged = verdicts(analysis)
    drawn = pictures(results, analysis, judged) if can_draw() else {}
    blocks = report_blocks(results, analysis, judged, drawn)
    for picture in drawn.values():
        write_atomically(folder / picture.file, picture.png)
    write_atomically(folder / MARKDOWN, to_markdown(blocks).encode())
    page = to_html(f"{results.comparison.name} - comparison", blocks)
    write_atomically(folder / HTML, page.encode())
    return folder / HTML


def report_blocks(
    results: Results,
    analysis: Analysis,
    judged: dict[str, Verdict],
    drawn: dict[str, Picture],
) -> list[Block]:
    """Put the sections in the order in which a reader asks for them."""
    return [
        *answer(results, analysis, judged, [drawn["gains"]] if "gains" in drawn else []),
        *([] if drawn else [Notice(NO_PICTURES, "warn")]),
        *verdict_section(analysis, judged),
        *gain_section(analysis, drawn),
        *arm_section(results, analysis),
        *horizon_section(results, analysis),
        *published_section(results, analysis),
        *curve_section(drawn),
        *failure_section(results, analysis),
        *pairing_section(results),
        *tuning_section(results),
        *recompute_section(results, analysis),
        *origin_section(results),
    ]
