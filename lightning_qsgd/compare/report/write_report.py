"""Turn results into a report on disk."""

from pathlib import Path

from lightning_qsgd.atomic_file import write_atomically
from lightning_qsgd.compare.analysis import Analysis, analyse
from lightning_qsgd.compare.report.answer import answer
from lightning_qsgd.compare.report.document import Block, Notice, Picture
from lightning_qsgd.compare.report.html import to_html
from lightning_qsgd.compare.report.markdown import to_markdown
from lightning_qsgd.compare.report.origin import origin_section, recompute_section
from lightning_qsgd.compare.report.pictures import can_draw, pictures
from lightning_qsgd.compare.report.published_section import published_section
from lightning_qsgd.compare.report.sections import (
    NO_PICTURES,
    arm_section,
    curve_section,
    failure_section,
    gain_section,
    pairing_section,
    tuning_section,
    verdict_section,
)
from lightning_qsgd.compare.results import Results
from lightning_qsgd.compare.statistics import Method
from lightning_qsgd.compare.verdict import Verdict, verdicts

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
        *answer(results, analysis, judged),
        *([] if drawn else [Notice(NO_PICTURES, "warn")]),
        *verdict_section(analysis, judged),
        *gain_section(analysis, drawn),
        *arm_section(results, analysis),
        *published_section(results, analysis),
        *curve_section(drawn),
        *failure_section(results, analysis),
        *pairing_section(results),
        *tuning_section(results),
        *recompute_section(results, analysis),
        *origin_section(results),
    ]
