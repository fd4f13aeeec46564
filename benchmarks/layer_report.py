"""The tables of `benchmarks.layer`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

Times = Mapping[str, Mapping[str, Sequence[float]]]
"""Milliseconds per call, round by round, for each case and contestant."""


def times_table(times: Times, guessed: Sequence[str], guessed_case: str) -> Table:
    """Return medians and ranges in milliseconds; "~" marks what was extrapolated."""
    table = Table(title="process time per call in ms: median (least to most)")
    for column in ("case", "contestant", "ms", "range", "over the fastest"):
        table.add_column(column, justify="left" if column in {"case", "contestant"} else "right")
    for case, rows in times.items():
        best = min(map(statistics.median, rows.values()))
        for place, (name, each) in enumerate(rows.items()):
            middle = statistics.median(each)
            mark = "~" if name in guessed and case == guessed_case else ""
            table.add_row(
                "" if place else case,
                name,
                mark + _number(middle),
                f"{_number(min(each))} to {_number(max(each))}",
                f"{mark}{middle / best:,.1f}",
            )
        table.add_section()
    return table


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Return what was required and what was reached."""
    table = Table(title="required ratios")
    for column in ("case", "ratio of", "peer", "required", "reached", "holds"):
        table.add_column(column, justify="right" if column in {"required", "reached"} else "left")
    for each in verdicts:
        table.add_row(
            each["case"],
            each["title"],
            each["peer"],
            f"{each['least']:,}",
            ("~" if each["extrapolated"] else "") + f"{each['ratio']:,.1f}",
            "yes" if each["holds"] else "NO",
        )
    return table


def summary(times: Times) -> dict[str, dict[str, dict[str, float]]]:
    """Return medians and ranges for the JSON."""
    return {
        case: {
            name: {"median_ms": statistics.median(each), "least": min(each), "most": max(each)}
            for name, each in rows.items()
        }
        for case, rows in times.items()
    }


def _number(milliseconds: float) -> str:
    return f"{milliseconds:,.0f}" if milliseconds >= 100 else f"{milliseconds:.3g}"
