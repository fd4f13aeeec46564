"""Writes the report: HTML, Markdown, terminal."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
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
from lightning_qsgd.compare.verdicts.analysis import Analysis, Challenge, analyse
from lightning_qsgd.compare.verdicts.verdict import Verdict, verdicts

LONGEST_WORD = 10
"""Of a verdict, "detectable"; a narrow terminal must not cut it."""
SHORTEST_NUMBER = 8
"""Letters of a number, "+0.00123": a terminal that would fold them drops columns instead."""
DROPPED = ("mean", "p (Holm)", "together", "gain")
"""What a narrow terminal leaves out, in this order; the report has it all."""
STYLES = {"good": "bold blue", "bad": "bold red", "warn": "yellow", "quiet": "dim", "plain": ""}


@dataclass(frozen=True)
class Summary:
    """A table for the terminal, with as many columns as its width has room for.

    Attributes:
        results: The runs.
        analysis: Their statistics.
        judged: Verdict by arm.
    """

    results: Results
    analysis: Analysis
    judged: dict[str, Verdict]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number in range(len(DROPPED) + 1):
            table = self._table(DROPPED[:number])
            # Borders and padding take three letters a column, and one more.
            needed = sum((column.min_width or 0) + 3 for column in table.columns) + 1
            if needed <= options.max_width:
                break
        yield table

    def _table(self, dropped: Collection[str]) -> Table:
        table = Table(
            title=escape(f"{self.results.comparison.name}, {self.results.comparison.goal.metric}"),
            caption=escape(three_sentences(self.results, self.analysis, self.judged)),
            caption_style="",
            caption_justify="left",
        )
        kept = {
            name: self._column(name)
            for name in ("mean", "gain", "together", "p (Holm)")
            if name not in dropped
        }
        arms = [self.analysis.baseline, *(one.summary for one in self.analysis.challenges)]
        longest = max(len(one.arm.name) for one in arms)
        table.add_column("arm", overflow="fold", min_width=min(LONGEST_WORD, longest))
        for name in kept:
            title = f"{self.analysis.method.confidence} {name}" if name == "together" else name
            table.add_column(title, justify="right", overflow="fold", min_width=SHORTEST_NUMBER)
        table.add_column("verdict", min_width=LONGEST_WORD)
        words = ["baseline", *map(self._verdict, self.analysis.challenges)]
        for row, (one, verdict) in enumerate(zip(arms, words, strict=True)):
            table.add_row(escape(one.arm.name), *(kept[name][row] for name in kept), verdict)
        return table

    def _column(self, name: str) -> list[str]:
        others = self.analysis.challenges
        means = [one.summary.mean for one in others]
        return {
            "mean": [plain(mean) for mean in (self.analysis.baseline.mean, *means)],
            "gain": ["", *(signed(one.gain.mean) for one in others)],
            "together": ["", *(span(one.interval) for one in others)],
            "p (Holm)": ["", *(chance(one.p_holm) for one in others)],
        }[name]

    def _verdict(self, challenge: Challenge) -> str:
        outcome = self.judged[challenge.arm.name].outcome
        style = STYLES[TONES[outcome]]
        return f"[{style}]{outcome}[/]" if style else str(outcome)


def summary_table(results: Results, method: Method | None = None) -> Summary:
    """Lay out one row per arm, its mean, gain and verdict, and sum up in three sentences below.

    Args:
        results: The runs.
        method: How sure a claim has to be; the defaults of `Method` if None.
    """
    analysis = analyse(results, method)
    return Summary(results, analysis, verdicts(analysis))


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
